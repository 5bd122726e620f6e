"""Every system of a table over a test set, or over whole recordings: streams, tables, and what they cost.

``OUT/SYSTEM`` holds ``spk1.scp .. spkS.scp``, the streams they name, ``info.json`` (real-time factor on one
core, peak memory of the process, number of outputs) and the stamp. Streams of a test set are float32 wav, so
that no level is lost and nothing clips; those of recordings are flac of 24 bits, or such wav files where a
stream is beyond full scale. Where a system selects or merges the outputs of a network over a test set,
``raw1.scp .. rawM.scp`` name them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from frontend import MAX_SECONDS
from frontend.data.audio import Recording
from frontend.data.kaldi import RATE, read_entries
from frontend.data.mixtures import MixtureSet
from frontend.dsp.refine import check_size
from frontend.separation.continuous import HOP_S, WINDOW_S, check_window
from frontend.separation.loop import Layout, Result, inputs_of, run, stamp_of
from frontend.separation.systems import UNPROCESSED, System, streams_asked
from frontend.training.checkpoints import open_trained
from frontend.utils import stamps
from frontend.utils.errors import UserError
from frontend.utils.parallel import Shard

_OF_SET = Layout("wav{k}/{id}.wav", "float32")
_OF_RECORDINGS = Layout("wav/{id}_spk{k}.flac", "pcm24")


def open_items(data: str | Path, labels: bool = True) -> tuple[dict[str, Recording], MixtureSet | None]:
    """Return what lies in ``data``: the mixtures of a set, or whole recordings.

    Args:
        data: a mixture set; or a directory of recordings, with the file ``array`` that `data recordings`
            writes, or a table ``ID FILE`` of recordings.
        labels: those of a set, if there are any, are checked, too.

    Returns:
        the items by id, and the set; None for whole recordings.

    Raises:
        UserError: unreadable audio, or recordings that differ in rate.
    """
    path = Path(data)
    mixtures = None if path.is_file() or (path / "array").is_file() else MixtureSet(path)
    if mixtures:
        mixtures.check(labels, alike=[RATE])
    table = mixtures.wav if mixtures else read_entries(path if path.is_file() else path / "wav.scp")
    items = table.recordings()
    first = next(iter(items.values()))
    for item in items.values():
        if item.fs != first.fs:
            raise UserError(
                f"{item.name}: expected {first.fs} Hz as in the rest of {data}, found {item.fs} Hz"
            )
    return items, mixtures


def separate(
    systems: Sequence[System],
    exp: str | Path,
    data: str | Path,
    out: str | Path,
    n_talkers: int = 2,
    nj: int = 1,
    window_s: float = WINDOW_S,
    hop_s: float = HOP_S,
    shard: Shard = None,
) -> None:
    """Write the streams of every system that has none yet, or whose model, settings or data have changed.

    One run at a time works in ``out``.

    Args:
        systems: rows of the table.
        exp: directory with a trained model per ``system.model``.
        data: a mixture set or whole recordings, see :func:`open_items`.
        out: one directory per system is made there.
        n_talkers: number of streams a rule or a blind method makes.
        nj: processes at a time, each with one thread.
        window_s: length of the windows of whole recordings in seconds, see
            :mod:`frontend.separation.continuous`; a system's own ``block`` takes its place.
        hop_s: from one window to the next; a system's own ``block_hop`` takes its place.
        shard: part I of N of the items alone is separated, and no table written; None: all, and the tables.

    Raises:
        UserError: a model is missing or does not fit the data; found before the first separation.
    """
    check_window(window_s, hop_s)
    items, mixtures = open_items(data)
    inputs, with_images = inputs_of(items), inputs_of(items, mixtures)
    results = []
    if not mixtures and any(system.model for system in systems):
        for item in items.values():
            item.check_reference()
    for system in systems:
        window = None if mixtures else system.windows(window_s, hop_s)
        model = check_system(system, exp, items, n_talkers, f"{data}: '{system.name}'", window, mixtures)
        used = with_images if "oracle" in (system.name, system.rule) else inputs
        stamp = stamp_of(system, used, {"n_talkers": n_talkers, "window": window}, model)
        layout = _OF_SET if mixtures else _OF_RECORDINGS
        results.append(Result(system, Path(out) / system.name, stamp, items, layout, window))
        if system.name in UNPROCESSED:
            files = {name: str(results[-1].path(name, 1)) for name in items}  # of whole recordings
            results[-1].named = [mixtures.wav if mixtures else files] * n_talkers
            if mixtures and system.name == "oracle":
                results[-1].named = mixtures.speakers
    hidden = _keep_outputs(results, inputs, Path(exp)) if mixtures else []
    for result in [*results, *hidden]:
        result.prepare(shard)
    complete = sum(not result.why for result in results)
    print(f"{out}: {len(results)} systems, {complete} of them complete", flush=True)
    references = mixtures.references if mixtures else None
    # Last what needs ESPnet: the memory of the blind methods is measured without it.
    for kind, what in (("named", ""), ("blind", "blind separation"), ("model", "separation")):
        part = [r for r in [*results, *hidden] if getattr(r if kind == "named" else r.system, kind)]
        run(part, exp, n_talkers, nj, what, references)
        for result in part:
            if result.why and shard is None:
                if result.named and not mixtures:
                    _write_reference_channel(result)
                    files = {name: str(result.path(name, 1)) for name in items}
                    result.named = [files] * n_talkers
                result.finish()


def _write_reference_channel(result: Result) -> None:
    """Write the reference channel of whole recordings: that of a mixture set is read where it lies."""
    for name, item in result.items.items():
        channel = item.live_channels()[0]
        with result.write(name) as writer:
            for block in item.blocks(60 * item.fs):
                writer.write(block[channel : channel + 1])


def _keep_outputs(results: list[Result], inputs: dict[str, str], exp: Path) -> list[Result]:
    """Let results with a rule have a further, hidden one that keeps the outputs they select from.

    A network that makes as many streams as it is asked for has none to keep.
    """
    kept: dict[str, Result] = {}
    for result in results:
        model = result.system.model
        if model and result.system.rule:
            with open_trained(result.system.network(exp)) as trained:
                if trained.any_array:
                    continue
            system, folder = System(model, model=model), result.folder.parent / ".outputs" / model
            stamp = stamp_of(system, inputs, {}, result.stamp.inputs["model"])
            keeper = Result(system, folder, stamp, result.items, result.layout)
            result.outputs = kept.setdefault(model, keeper)
    return list(kept.values())


def _check_channels(items: Mapping[str, Recording], mixtures: MixtureSet | None) -> None:
    """Raise UserError unless all items have as many channels, which a network of one array takes."""
    if mixtures:
        mixtures.check(labels=False)
        return
    first = next(iter(items.values()))
    for item in items.values():
        if item.channels != first.channels:
            raise UserError(
                f"{item.name}: expected {first.channels} channel(s) as in {first.name}, found "
                f"{item.channels} (separate the others apart, or take a model of any array)"
            )


def check_system(
    system: System,
    exp: str | Path,
    items: Mapping[str, Recording],
    n_talkers: int,
    where: str,
    window: tuple[float, float] | None = None,
    mixtures: MixtureSet | None = None,
) -> str:
    """Check that a system can separate the items, before anything is separated.

    Args:
        system: the row.
        exp: where its model lies.
        items: what is separated; all of one rate.
        n_talkers: streams of a rule or a blind method.
        where: what starts the message.
        window: of whole recordings, in seconds.
        mixtures: the set; None for whole recordings.

    Returns:
        a digest of the model's files, "" if there is no model.

    Raises:
        UserError: whatever would stop it.
    """
    longest, channels = (max(item.seconds for item in items.values()), {i.channels for i in items.values()})
    fewest, fs, streams, model = min(channels), next(iter(items.values())).fs, n_talkers, ""
    if mixtures and system.block is not None:
        raise UserError(f"{where}: 'block' is for whole recordings (remove it here)")
    if "oracle" in (system.name, system.rule) and not (mixtures and mixtures.speakers):
        raise UserError(f"{where} needs the talkers' images spk1.scp ..., found none (remove the row)")
    if system.model:
        with open_trained(system.network(exp)) as trained:
            trained = trained.of_talkers(streams_asked(system.rule, trained.any_array, n_talkers))
            if not trained.any_array:
                _check_channels(items, mixtures)
            trained.check(where, fewest, fs)
            model = stamps.of_text("".join(map(stamps.of_file, (trained.config, trained.checkpoint))))
        if trained.n_outputs < n_talkers and not (window and not system.rule):
            raise UserError(
                f"{where} expects {n_talkers} outputs or more, {trained.path} has {trained.n_outputs}"
            )
        streams = n_talkers if system.rule else trained.n_outputs
    if system.blind and fewest < n_talkers:
        raise UserError(f"{where} needs {n_talkers} microphones, one per talker, found {fewest}")
    if system.rule == "spatial_merge" and fewest < 2:
        raise UserError(f"{where} needs two or more microphones, found {fewest} (leave this system out)")
    if system.refine:
        check_size(system.refine, fewest, streams, f"{where}: ")
    if system.model and window and min(window[0], longest) > MAX_SECONDS:
        raise UserError(
            f"{where}: expected windows of at most {MAX_SECONDS:g} s, which is what a network takes, found "
            f"{window[0]:g} s (shorten --window, or the row's 'block')"
        )
    return model
