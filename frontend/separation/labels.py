"""A trained network's streams of an unlabelled set as its labels: pseudo-targets.

``OUT`` becomes a mixture set like any other (the mixtures are named, not copied) whose
``spk1.scp ..`` name the targets, float32 wav in ``OUT/wav``. ``made_from.json`` tells
whether what lies there belongs to the same model, settings and data; a run that was cut
off goes on at the next utterance.
"""

import functools
import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import torch

from frontend.data.audio import audio_info, entry_stamp, read_audio
from frontend.data.kaldi import write_set
from frontend.data.mixtures import MixtureSet, all_there
from frontend.data.writers import AudioWriter
from frontend.dsp.metrics import match_streams, si_snr
from frontend.dsp.refine import check_refinement, check_size, refine
from frontend.separation.pseudo_targets import check_rule, select
from frontend.training.checkpoints import open_trained
from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.files import atomic_directory, read_settings, write_json
from frontend.utils.parallel import parallel_map, progress


@dataclass(frozen=True)
class Labelling:
    """How targets are made of a network's outputs.

    Attributes:
        rule: a name in :data:`frontend.separation.pseudo_targets.RULES` that needs no reference.
        n_talkers: targets per mixture.
        refine: steps of :mod:`frontend.dsp.refine`, joined by a plus, or None.
        settings: of the rule.
    """

    rule: str
    n_talkers: int = 2
    refine: str | None = None
    settings: dict = field(default_factory=dict)

    def __post_init__(self):
        if not isinstance(self.n_talkers, int) or self.n_talkers < 1:
            raise UserError(f"n_talkers: expected a number of talkers, found {self.n_talkers!r}")
        if self.refine is not None:
            check_refinement(self.refine, "refine: ")
        check_rule(self.rule, self.settings)
        if self.rule == "oracle":
            raise UserError(
                "rule 'oracle' is told the truth: it can be a control, but not make pseudo-targets"
            )

    def targets(self, outputs: torch.Tensor, mixture: torch.Tensor, fs: int) -> torch.Tensor:
        """(M, T), (C, T) at ``fs`` Hz to (S, T)."""
        streams = select(outputs, self.n_talkers, self.rule, mixture, fs=fs, **self.settings)
        return refine(streams, mixture, fs, self.refine) if self.refine else streams


def load_labelling(path: str | Path | None, **given) -> Labelling:
    """Read a labelling from YAML (``rule``, ``n_talkers``, ``refine`` and the rule's settings).

    Args:
        path: the file, or None.
        given: values that replace those of the file, unless None.

    Raises:
        UserError: no such file, not YAML, no rule, an unknown key.
    """
    values = {} if path is None else read_settings(path, "configuration of pseudo-targets")
    values |= {k: v for k, v in given.items() if v is not None}
    own = [f.name for f in fields(Labelling) if f.name != "settings"]
    if "rule" not in values:
        missing = next((k for k in values if did_you_mean(str(k), ["rule"])), None)
        found = f", found '{missing}'" if missing else ""
        raise UserError(f"{path or 'command line'}: expected a rule (--rule or 'rule: NAME'){found}")
    settings = {k: v for k, v in values.items() if k not in own}
    check_rule(values["rule"], settings, f"{path}: " if path else "")
    return Labelling(**{k: v for k, v in values.items() if k in own}, settings=settings)


def label_set(
    model: str,
    data: str,
    out: str,
    labelling: Labelling,
    nj: int = 1,
    device: str = "cpu",
    reference: str | None = None,
) -> None:
    """Make ``out`` the set ``data`` with the model's streams as its talkers.

    Args:
        model: a trained system, as :func:`frontend.training.checkpoints.opened` takes it.
        data: a mixture set; labels it may have are not looked at.
        out: the set to make; one made before with other inputs is replaced.
        labelling: how outputs become targets.
        nj: number of processes, each with one thread; the targets do not depend on it.
        device: a GPU works in this process alone.
        reference: a labelled set with the same utterances. How good the targets are is
            written to ``out/quality.json`` for the reader; nothing is chosen by it.

    Raises:
        UserError: found before the first separation where it can be.
    """
    mixtures, truth = MixtureSet(data), _reference(reference, data)
    made_from = _made_from(model, mixtures, labelling)
    out = Path(out)
    if _is_complete(out, made_from, labelling.n_talkers, truth):
        print(f"{out}: complete, nothing to do", flush=True)
        return
    _prepare(out, made_from)
    from frontend.separation.model import Separator  # ESPnet: 8 s

    torch.set_num_threads(1)
    run = Separator.from_pretrained(model, device).outputs
    work = functools.partial(_label, run=run, labelling=labelling, mixtures=mixtures, truth=truth, out=out)
    ids = mixtures.ids
    if torch.device(device).type == "cpu":
        shards = [ids[k::nj] for k in range(min(nj, len(ids)))]
        rows = list(parallel_map(work, shards, nj, f"targets {out.name}", steps=len(ids)))
    else:
        rows = [work(progress(ids, len(ids), f"targets {out.name}"), lambda: None)]
    if truth:
        _write_quality(out, model, labelling, [row for shard in rows for row in shard])
    _write_tables(out, mixtures, labelling.n_talkers)


def _label(ids, tick, run, labelling, mixtures, truth, out) -> list[dict]:
    """Make the targets of ``ids`` that are not there yet; return the quality of all if there is a truth."""
    rows = []
    for utterance in ids:
        entries = _entries(out, utterance, labelling.n_talkers)
        mixture, fs = mixtures.mixture(utterance)
        if not all(Path(entry).exists() for entry in entries):
            x = torch.from_numpy(mixture)
            targets = labelling.targets(run(x).cpu(), x, fs)
            for entry, target in zip(entries, targets.numpy(), strict=True):
                AudioWriter(Path(entry).parent, "wav", fs, encoding="float32").write(utterance, target)
        if truth:
            targets = np.concatenate([read_audio(entry)[0] for entry in entries])
            rows.append(_quality(truth.references(utterance), targets, mixture[0]))
        tick()
    return rows


def _entries(out: Path, utterance: str, n_talkers: int) -> list[str]:
    return [str(out / "wav" / f"spk{k}" / f"{utterance}.wav") for k in range(1, n_talkers + 1)]


def _quality(references: np.ndarray, targets: np.ndarray, mixture: np.ndarray) -> dict:
    references = references[np.any(references != 0, axis=-1)][: len(targets)]
    chosen = targets[list(match_streams(references, targets))]
    values = si_snr(references, chosen)
    row = {"talkers": len(references), "sounding": int(np.any(targets != 0, axis=-1).sum()), "si_snr": values}
    with np.errstate(invalid="ignore"):  # a talker alone and no noise: infinity less infinity
        return row | {"si_snri": values - si_snr(references, mixture)}


def _write_quality(out: Path, model: str, labelling: Labelling, rows: list[dict]) -> None:
    """Means over talkers, all and by the number of talkers in the mixture; silent targets are left out.

    ``sounding`` is the mean number of targets that are not silent.
    """

    def means(rows: list[dict]) -> dict:
        found = {"n": len(rows), "sounding": round(float(np.mean([row["sounding"] for row in rows])), 3)}
        for key in ("si_snr", "si_snri"):
            values = np.concatenate([np.atleast_1d(row[key]) for row in rows])
            values = values[np.isfinite(values)]
            found[key] = round(float(values.mean()), 3) if len(values) else None
        return found

    counts = sorted({row["talkers"] for row in rows})
    by_talkers = {str(n): means([row for row in rows if row["talkers"] == n]) for n in counts}
    quality = {"model": model, **asdict(labelling), **means(rows), "by_talkers": by_talkers}
    write_json(out / "quality.json", quality)
    for n, row in by_talkers.items():
        print(
            f"{out}: {row['n']} mixtures of {n} talker(s), {row['sounding']} targets at {row['si_snr']} dB "
            f"SI-SNR, improvement {row['si_snri']} dB (for information; nothing is chosen by it)",
            flush=True,
        )


def _reference(path: str | None, data: str) -> MixtureSet | None:
    if path is None:
        return None
    truth = MixtureSet(path)
    for utterance in MixtureSet(data).ids:
        if utterance not in truth.wav:
            raise UserError(f"{path}: no utterance '{utterance}' of {data} to compare targets with")
    if not truth.n_talkers:
        raise UserError(f"{path}: expected spk1.scp ... to compare targets with, found none (unlabelled set)")
    return truth


def _made_from(model: str, mixtures: MixtureSet, labelling: Labelling) -> str:
    """Return a fingerprint of all that the targets depend on; check that these fit together."""
    stamps = [(entry, *entry_stamp(entry)) for entry in mixtures.wav.values()]
    with open_trained(model) as trained:
        for entry in mixtures.wav.values():
            channels, _, fs = audio_info(entry)
            trained.check(entry, channels, fs)
        if trained.n_outputs < labelling.n_talkers:
            raise UserError(f"{model}: {trained.n_outputs} outputs cannot make {labelling.n_talkers} targets")
        hashes = [hashlib.sha256(p.read_bytes()).hexdigest() for p in (trained.config, trained.checkpoint)]
    if trained.n_mics < 2 and labelling.rule == "spatial_merge":
        raise UserError(f"rule 'spatial_merge' needs two or more microphones, {model} has {trained.n_mics}")
    if labelling.refine:
        check_size(labelling.refine, trained.n_mics, labelling.n_talkers, f"{model}: ")
    return hashlib.sha256(json.dumps([stamps, hashes, asdict(labelling)]).encode()).hexdigest()


def _is_current(out: Path, made_from: str) -> bool:
    stamp = out / "made_from.json"
    return stamp.is_file() and json.loads(stamp.read_text(encoding="utf-8")) == made_from


def _is_complete(out: Path, made_from: str, n_talkers: int, truth: MixtureSet | None) -> bool:
    others = ["utt2num_samples", "utt2spk", "spk2utt", *(["quality.json"] if truth else [])]
    return (
        _is_current(out, made_from)
        and all((out / name).is_file() for name in others)
        and all_there(out / name for name in ["wav.scp", *(f"spk{k + 1}.scp" for k in range(n_talkers))])
    )


def _prepare(out: Path, made_from: str) -> None:
    """Leave in ``out`` what belongs to this run, if anything."""
    if _is_current(out, made_from):
        (out / "wav.scp").unlink(missing_ok=True)  # no set until it is complete again
        return
    if (out / "made_from.json").is_file():
        print(f"{out}: model, settings or data have changed, labelling again", flush=True)
    elif out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: expected a new directory or one made by this command (choose another)")
    with atomic_directory(out) as part:  # never seen without its stamp
        (part / "made_from.json").write_text(json.dumps(made_from) + "\n", encoding="utf-8")


def _write_tables(out: Path, mixtures: MixtureSet, n_talkers: int) -> None:
    entries = {u: _entries(out, u, n_talkers) for u in mixtures.ids}
    tables = {f"spk{k + 1}.scp": {u: names[k] for u, names in entries.items()} for k in range(n_talkers)}
    samples = {u: audio_info(e)[1] for u, e in mixtures.wav.items()}
    write_set(out, {**tables, "utt2num_samples": samples, "wav.scp": mixtures.wav})
