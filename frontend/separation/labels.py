"""The streams of a trained network, or of a blind method, as labels of an unlabelled set: pseudo-targets.

``OUT`` becomes a mixture set like any other (the mixtures are named, not copied) whose ``spk1.scp ..`` name
the targets, float32 wav in ``OUT/wav``. It is made by the loop of :mod:`frontend.separation.loop`: a run that
was cut off goes on at the next utterance.
"""

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np

from frontend.data.audio import audio_info, check_alike, read_audio
from frontend.data.kaldi import RATE, write_set
from frontend.data.mixtures import MixtureSet
from frontend.dsp.activity import sounds
from frontend.dsp.blind import check_blind
from frontend.dsp.metrics import match_streams, si_snr
from frontend.dsp.refine import check_refinement
from frontend.separation.loop import Layout, Result, inputs_of, run, stamp_of
from frontend.separation.pseudo_targets import check_rule
from frontend.separation.sets import check_system, open_items
from frontend.separation.systems import System
from frontend.utils.device import check_device
from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.files import read_settings, write_json
from frontend.utils.parallel import Shard, parallel_map

QUALITY = "quality.json"
_LAYOUT = Layout("wav/spk{k}/{id}.wav", "float32")


@dataclass(frozen=True)
class Labelling:
    """How targets are made: of a network's outputs by a rule, or by a blind method.

    Attributes:
        rule: a name in :data:`frontend.separation.pseudo_targets.RULES` that needs no reference, or None.
        blind: a name in :data:`frontend.dsp.blind.METHODS`, or None.
        n_talkers: targets per mixture.
        refine: steps of :mod:`frontend.dsp.refine`, joined by a plus, or None.
        settings: of the rule or the method.
    """

    rule: str | None = None
    blind: str | None = None
    n_talkers: int = 2
    refine: str | None = None
    settings: dict = field(default_factory=dict)

    def __post_init__(self):
        if not isinstance(self.n_talkers, int) or self.n_talkers < 1:
            raise UserError(f"n_talkers: expected a number of talkers, found {self.n_talkers!r}")
        if self.refine is not None:
            check_refinement(self.refine, "refine: ")
        if (self.rule is None) == (self.blind is None):
            raise UserError(f"expected either a rule or a blind method, found {self.rule} and {self.blind}")
        if self.blind is not None:
            check_blind(self.blind, self.settings)
        else:
            check_rule(str(self.rule), self.settings)
        if self.rule == "oracle":
            raise UserError(
                "rule 'oracle' needs the true images: it can be a control, but not make pseudo-targets"
            )


def load_labelling(path: str | Path | None, **given) -> Labelling:
    """Read a labelling from YAML (``rule`` or ``blind``, ``n_talkers``, ``refine`` and the settings).

    Args:
        path: the file, or None.
        given: values that replace those of the file, unless None.

    Raises:
        UserError: no such file, not YAML, no rule, an unknown key.
    """
    values = {} if path is None else read_settings(path, "configuration of pseudo-targets")
    values |= {k: v for k, v in given.items() if v is not None}
    own = [f.name for f in fields(Labelling) if f.name != "settings"]
    if "rule" not in values and "blind" not in values:
        missing = next((k for k in values if did_you_mean(k, ["rule"])), None)
        found = f"'{missing}'" if missing else "none"
        where, wanted = f"{path}:" if path else "--rule:", "(--rule NAME, or 'rule: NAME' in --config)"
        raise UserError(f"{where} expected a rule {wanted}, found {found}")
    settings = {k: v for k, v in values.items() if k not in own}
    if "rule" in values:
        check_rule(values["rule"], settings, f"{path}: " if path else "")
    else:
        check_blind(values["blind"], settings, f"{path}: " if path else "")
    return Labelling(**{k: v for k, v in values.items() if k in own}, settings=settings)


def label_set(
    model: str | None,
    data: str,
    out: str,
    labelling: Labelling,
    nj: int = 1,
    device: str = "cpu",
    reference: str | None = None,
    shard: Shard = None,
) -> None:
    """Make ``out`` the set ``data`` with the streams as its talkers.

    Args:
        model: a trained system, as :func:`frontend.training.checkpoints.open_trained` takes it; None where
            the labelling is by a blind method.
        data: a mixture set; labels it may have are not looked at.
        out: the set to make; one made before of other inputs is replaced.
        labelling: how outputs become targets.
        nj: number of processes, each with one thread; the targets do not depend on it.
        device: a GPU works in this process alone.
        reference: a labelled set with the same utterances. How good the targets are is
            written to ``out/quality.json`` for the reader; nothing is chosen by it.
        shard: part I of N of the utterances alone is labelled, and no set made; None: all, and the set.

    Raises:
        UserError: found before the first separation where it can be.
    """
    check_device(device, labelling.blind)
    if (model is None) != (labelling.blind is not None):
        raise UserError(
            f"expected a model for a rule, none for a blind method, found {model or 'no model'} and "
            f"{labelling.rule or labelling.blind} (give --model DIR, or a --config with 'blind: auxiva')"
        )
    items, mixtures = open_items(data, labels=False)
    if mixtures is None:
        raise UserError(f"{data}: expected a mixture set, found whole recordings (cut them: `data chunks`)")
    truth = _reference(reference, mixtures)
    talkers, made_by = labelling.n_talkers, (labelling.blind, labelling.rule, labelling.refine)
    system = System("targets", model, *made_by, settings=labelling.settings)
    digest = check_system(system, "", items, talkers, str(model or labelling.blind), mixtures=mixtures)
    stamp = stamp_of(system, inputs_of(items), {"n_talkers": talkers}, digest)
    result = Result(
        system, Path(out), stamp, items, _LAYOUT, files=("wav.scp", "utt2num_samples", "utt2spk", "spk2utt")
    )
    result.prepare(shard)
    if not result.why and not (truth and shard is None and not (result.folder / QUALITY).is_file()):
        print(f"{out}: targets are complete; nothing to do", flush=True)
        return
    if result.why:
        (result.folder / QUALITY).unlink(missing_ok=True)  # of other targets
        run([result], "", talkers, nj, f"targets {result.folder.name}", device=device)
        if shard is not None:
            return
        samples = {name: item.frames for name, item in items.items()}
        write_set(result.folder, result.tables() | {"utt2num_samples": samples, "wav.scp": mixtures.wav})
    if truth:
        shards = [mixtures.ids[k::nj] for k in range(min(nj, len(items)))]
        work = functools.partial(_qualities, result=result, truth=truth)
        rows = parallel_map(work, shards, nj, f"quality {result.folder.name}", steps=len(items))
        _write_quality(result.folder, model, labelling, [row for shard in rows for row in shard])
    result.close()


def _qualities(ids: list[str], tick: Callable[[], None], result: Result, truth: MixtureSet) -> list[dict]:
    rows, tables = [], result.tables().values()
    for name in ids:
        targets = np.concatenate([read_audio(table[name])[0] for table in tables])
        rows.append(_quality(truth.references(name), targets, result.items[name].read()[0]))
        tick()
    return rows


def _quality(references: np.ndarray, targets: np.ndarray, mixture: np.ndarray) -> dict:
    references = references[sounds(references)][: len(targets)]
    chosen = targets[list(match_streams(references, targets))]
    values = si_snr(references, chosen)
    row = {"talkers": len(references), "sounding": int(sounds(targets).sum()), "si_snr": values}
    with np.errstate(invalid="ignore"):  # a talker alone and no noise: infinity less infinity
        return row | {"si_snri": values - si_snr(references, mixture)}


def _write_quality(out: Path, model: str | None, labelling: Labelling, rows: list[dict]) -> None:
    """Means over talkers, all and by the number of talkers in the mixture; silent targets are left out.

    ``sounding`` is the mean number of targets that are not silent.
    """

    def means(rows: list[dict]) -> dict:
        found: dict = {
            "n": len(rows),
            "sounding": round(float(np.mean([row["sounding"] for row in rows])), 3),
        }
        for key in ("si_snr", "si_snri"):
            values = np.concatenate([np.atleast_1d(row[key]) for row in rows])
            values = values[np.isfinite(values)]
            found[key] = round(float(values.mean()), 3) if len(values) else None
        return found

    counts = sorted({row["talkers"] for row in rows})
    by_talkers = {str(n): means([row for row in rows if row["talkers"] == n]) for n in counts}
    quality = {"model": model, **asdict(labelling), **means(rows), "by_talkers": by_talkers}
    write_json(out / QUALITY, quality)
    for n, row in by_talkers.items():
        gain = f" at {row['si_snr']} dB SI-SNR, improvement {row['si_snri']} dB" if n != "0" else ""
        print(
            f"{out}: {row['n']} mixtures of {n} talker(s), {row['sounding']} targets{gain} "
            "(for information; nothing is chosen by it)",
            flush=True,
        )


def _reference(path: str | None, mixtures: MixtureSet) -> MixtureSet | None:
    if path is None:
        return None
    truth = MixtureSet(path)
    for utterance in mixtures.ids:
        if utterance not in truth.wav:
            raise UserError(f"{path}: no utterance '{utterance}' of {mixtures.path} to compare targets with")
    if not truth.n_talkers:
        raise UserError(f"{path}: expected spk1.scp ... to compare targets with, found none (unlabelled set)")
    truth.check(alike=[RATE])
    for utterance, entry in mixtures.wav.items():
        _, frames, fs = audio_info(truth.wav[utterance])
        check_alike(entry, frames, fs, f"in {path}", "compare with labels of the same mixtures")
    return truth
