"""``mixit label``, ``separate``, ``recognise`` and ``pack``: what trained networks are used for."""

import contextlib
import errno
import os
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import click

from frontend import MAX_SECONDS
from frontend.cli import (
    COUNT,
    RULE,
    Command,
    activity,
    alone_in,
    device,
    flag,
    given,
    needed,
    nj,
    one_of,
    option,
    recogniser,
    refine,
    shard,
    split,
    stack,
    way,
)
from frontend.utils.device import check_device
from frontend.utils.errors import UserError, warn

blind = option("blind", "instead of a trained model: AuxIVA or ILRMA", type=click.Choice(["auxiva", "ilrma"]))
n_talkers = option(
    "n_talkers",
    "streams (default: 2; of --model, those of its training, which most networks always make)",
    "--talkers",
    type=COUNT,
)
windows = stack(
    option("join", "the inputs are channels of one recording, a file each; by their numbers", metavar="NAME"),
    option(
        "max_seconds", "longer recordings are separated in windows", type=float, above=0, default=MAX_SECONDS
    ),
    option(
        "window", "of separation, in seconds: all that is longer is separated in windows", type=float, above=0
    ),
    option("hop", "between windows (default: half a window)", type=float, above=0),
)


@click.command(cls=Command)
@option("model", "trained system: exp/..., a packed directory or zip; none with 'blind' in --config")
@needed("data", "mixture set to label, such as data/train_unlabelled")
@needed("out", "mixture set to make, such as data/train_pseudo")
@option("config", "YAML with rule (or blind: auxiva), n_talkers, refine and the settings of rule or method")
@option("rule", "how outputs become targets: all, energy, energy+residual, spatial_merge (over --config)")
@option("n_talkers", "targets per mixture (over --config; default: 2)", type=int, least=1)
@option(
    "refine",
    "refine the targets: mvdr, iva, mask or gate, several joined by a plus (over --config)",
    metavar="STEPS",
)
@option("reference", "labelled set to compare with, for information")
@nj
@device
@shard
@alone_in("out")
def label(model, data, out, config, rule, n_talkers, refine, reference, nj, device, shard) -> None:
    """Label a set of mixtures with a trained network's or blind streams: targets for the next network.

    OUT becomes a mixture set whose spk1.scp, spk2.scp ... are the targets. A run that was cut off goes on at
    the next utterance; a set that is complete is left as it is.
    """
    from frontend.separation.labels import label_set, load_labelling

    labelling = load_labelling(config, rule=rule, n_talkers=n_talkers, refine=refine)
    label_set(model, data, out, labelling, nj, device, reference, shard)


@click.command(cls=Command)
@click.argument("inputs", nargs=-1, metavar="[INPUT.wav]...")
@option("scp", "table 'ID FILE' of recordings, or a data directory, instead of files or --data")
@option("model", "trained system: exp/..., a packed directory or zip")
@blind
@n_talkers
@needed("out", "where the streams go", "-o", metavar="DIR")
@flag("resample", "allow other sample rates than the model's")
@refine
@device
@windows
@option("systems", "instead of --model: systems file, such as conf/systems.yaml")
@option("exp", "with --systems: directory with the trained models the file names")
@option("data", "with --systems: mixture set, or whole recordings (mixit data recordings)", metavar="DIR")
@option("only", "with --systems: some of the systems, by commas; or all that are 'blind', or 'models'")
@option("nj", "with --systems: number of processes", type=COUNT, default=1)
@shard
@alone_in("out", wait=True, depth=1)
def separate(inputs, scp, systems, **options) -> None:
    """Separate recordings with a trained system or a blind method, or a set with every system of a table.

    \b
        mixit separate --model exp/espeak/student meeting.wav -o out
        mixit separate --blind auxiva --n_talkers 2 meeting.wav -o out
        mixit separate --systems conf/systems.yaml --exp exp/espeak --data data/espeak/test -o exp/separated

    One file a talker, same rate, length and level: INPUT.wav becomes DIR/INPUT_spk1.wav, DIR/INPUT_spk2.wav
    ...; with --scp, ID becomes DIR/ID_spk1.wav. Samples are written as 16-bit integers where the input is
    16-bit and no stream would clip, else as 32-bit floats. Recordings above --max_seconds are separated
    continuously, in bounded memory: window by window, the talkers followed from one window to the next;
    shorter ones as a whole, in about 10 MiB of memory per second at 8 kHz. With --join NAME the streams are
    NAME_spk1.wav ...

    Networks of any array (docs/method.md) take --talkers N; they and blind methods need a microphone for each
    talker. Without --model it is the model that comes with the package, for 2 to 8 microphones.

    With --systems: DIR/SYSTEM/{spk1.scp,spk2.scp,...,info.json}. A system that is complete is skipped; one
    whose model, settings or data have changed is made again; what was cut off goes on. --window (12) and
    --hop (6) are of whole recordings, where a row has no 'block'.
    """
    one_of("model", "blind", "systems")
    if systems is not None:
        _separate_systems()
        return
    o = _source_options("out", "")
    from frontend.separation.files import How, Source, plan, separate_files

    check_device(o.device, o.blind)
    source = Source(o.model, o.blind, o.n_talkers)
    how = How(o.resample, o.refine, o.device, o.max_seconds, o.window, o.hop)
    separate_files(plan(o.inputs, o.scp, source, o.out, o.resample, o.refine, o.join), source, how)


def _source_options(must: str, may: str) -> SimpleNamespace:
    """Return the options of a command that separates the recordings of a user, checked."""
    may += " inputs scp resample refine device join max_seconds window hop"
    model = "separator" if "separator" in click.get_current_context().params else "model"
    kind = next((kind for kind in ("blind", model) if kind in given()), None)
    o = way(f"with --{kind}" if kind else f"without --{model}", f"{must} {kind or ''}", f"{may} n_talkers")
    o.model, o.blind = getattr(o, model, None), getattr(o, "blind", None)
    o.resample = o.resample or kind is None  # the model that comes with the package takes all rates
    if bool(o.inputs) == (o.scp is not None):
        raise UserError("expected recordings either as files or as --scp wav.scp (see --help)")
    if o.join is not None and not o.inputs:
        raise UserError("--join NAME: expected the channels of one recording as files (see --help)")
    return o


def _separate_systems() -> None:
    o = way("with --systems", "systems exp out", "data scp n_talkers only window hop nj shard")
    one_of("data", "scp", required=True)
    from frontend.separation.continuous import HOP_S, WINDOW_S
    from frontend.separation.sets import separate
    from frontend.separation.systems import choose, load_systems, trained

    listed = load_systems(o.systems)
    chosen = trained(listed, o.exp)
    for system in listed:
        if system not in chosen:
            print(f"{system.name}: optional, and not trained; left out", flush=True)
    if o.only in ("blind", "models") and o.only not in [system.name for system in listed]:
        chosen = [system for system in chosen if bool(system.model) == (o.only == "models")]
    else:
        names = choose([system.name for system in chosen], split(o.only), o.systems)
        chosen = [system for system in chosen if system.name in names]
    window, hop = (WINDOW_S if o.window is None else o.window), (HOP_S if o.hop is None else o.hop)
    separate(chosen, o.exp, o.scp or o.data, o.out, o.n_talkers or 2, o.nj, window, hop, o.shard)


@click.command(cls=Command)
@click.argument("inputs", nargs=-1, metavar="[INPUT.wav]...")
@option("scp", "table 'ID FILE' of recordings, or a data directory, instead of files")
@option("separator", "trained separator: exp/..., a packed directory or zip", metavar="DIR")
@blind
@n_talkers
@recogniser
@option("config", "options of the search, such as conf/decode.yaml (default: ESPnet's)")
@option(
    "format",
    "of the transcript (default: by the ending of -o, else text)",
    type=click.Choice(["text", "json", "stm"]),
)
@option("out", "write there instead of to standard output", "-o", metavar="FILE")
@option("save_streams", "keep the streams: DIR/INPUT_spk1.wav, ...", metavar="DIR")
@flag("resample", "allow other sample rates than the models'")
@refine
@device
@windows
@activity
@alone_in(lambda params: list(filter(None, [params["save_streams"]])), wait=True, depth=1)
def recognise(out: str | None, **_) -> None:
    """Say who said what and when in recordings of several talkers: separate them, then recognise each stream.

    \b
        mixit recognise --separator exp/espeak/student --asr exp/espeak/asr meeting.wav

    Recordings may be of any length; they are separated as `mixit separate` does. Each stream is cut into
    segments of speech, by energy, and each segment is recognised. Prints the segments with words in order of
    time: as text `START-END spk1: WORDS`, in seconds, with several recordings behind `INPUT: `; as SegLST
    JSON; or as STM lines `INPUT 1 spk1 START END WORDS`. The talkers' order is the separator's. While it
    works the streams lie in --save_streams, or in the directory for temporary files (TMPDIR).
    """
    one_of("separator", "blind")
    one_of("asr", "asr_model", "asr_whisper", required=True)
    o = _source_options(
        "", f"asr asr_model asr_whisper config format out save_streams leak_db {' '.join(RULE)}"
    )
    from frontend.data.audio import audio_file
    from frontend.data.segments import check_stm_names
    from frontend.dsp.activity import Rule
    from frontend.recognition.files import recognise_files
    from frontend.recognition.model import Search
    from frontend.recognition.pieces import Cutting
    from frontend.separation.files import How, Source, plan
    from frontend.utils.files import check_place, make_directory, scratch

    format = _format(out, o.format)
    cutting = Cutting(Rule(**{name: getattr(o, name) for name in RULE}), o.leak_db)
    source, search = (
        Source(o.model, o.blind, o.n_talkers),
        Search.find(o.asr, o.asr_model, o.asr_whisper, o.config),
    )
    how = How(o.resample, o.refine, o.device, o.max_seconds, o.window, o.hop)

    def check(recording) -> None:
        if not o.resample:
            search.files.check_rate(recording.name, recording.fs, ", or allow resampling: --resample")

    if out and Path(out).is_dir():
        raise UserError(f"{out}: expected a file for the transcript, found a directory (choose another name)")
    with contextlib.ExitStack() as context:
        folder = o.save_streams or context.enter_context(scratch())
        jobs = plan(o.inputs, o.scp, source, folder, o.resample, o.refine, o.join, check)
        if format == "stm":
            check_stm_names([job.name for job in jobs])
        if out:
            check_place(out, *(audio_file(entry) for job in jobs for entry in job.recording.entries))
            make_directory(Path(out).parent)
            _check_writable(out)
        made = recognise_files(jobs, source, search, how, cutting, keep=bool(o.save_streams))
        _write_transcript(made, out, format, len(jobs) > 1)


def _check_writable(out: str) -> None:
    """Raise OSError where a transcript could not be written: before the work, not after it."""
    path = Path(out).resolve()
    place = path.parent if path.is_file() or not path.exists() else path
    if not os.access(place, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), out)


def _write_transcript(made: Iterable[list[dict]], out: str | None, format: str, named: bool) -> None:
    """Write what is recognised: a file or JSON in the end, all else recording by recording.

    Where the work ends before its end, the words of the recordings that were complete are written.
    """
    from frontend.recognition.files import in_format
    from frontend.utils.files import write_named

    found: list[dict] = []
    at_once = not out and format != "json"

    def write(rows: list[dict]) -> None:
        text = in_format(rows, format, named)
        if out:
            write_named(out, text + "\n")
        else:
            print(text, flush=True)

    try:
        for rows in made:
            found += rows
            if at_once:
                write(rows)
    except (UserError, OSError, KeyboardInterrupt) as error:
        if not found or at_once:
            raise
        write(found)
        where = f"the words of the recordings before it are in {out or 'the output'}"
        if isinstance(error, UserError):
            raise UserError(f"{error}; {where}") from None
        warn(where)
        raise
    if not at_once:
        write(found)


def _format(out: str | None, format: str | None) -> str:
    """Return the form of a transcript: what is asked for, or what the ending of its file says."""
    ending = Path(out or "").suffix.lower().lstrip(".")
    if ending in ("json", "stm"):
        if format not in (None, ending):
            wanted = f"--format {ending}, as the name ends, or another name"
            raise UserError(f"{out}: expected {wanted}, found --format {format}")
        return ending
    return format or "text"


@click.command(cls=Command)
@needed("model", "training directory, such as exp/espeak/student")
@needed("out", "directory to make, or a file to make that ends in .zip")
def pack(model: str, out: str) -> None:
    """Pack a trained system into one directory, or one zip, that loads on another machine."""
    from frontend.training.checkpoints import pack

    packed = pack(model, out)
    print(f"{out}: {packed.n_mics} channel(s) at {packed.fs} Hz to {packed.n_outputs} streams")
