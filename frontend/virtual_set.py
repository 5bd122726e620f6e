"""A file of scenes made into a virtual mixture set: text, and the impulse responses of its rooms.

No mixture is written. The set is a data directory like any other, its entries are rendered when they are
read (:mod:`frontend.virtual`). What can be wrong with the dry speech is found here, not during a training.
"""

import functools
import json
from pathlib import Path

import numpy as np

from frontend import atomic
from frontend.datadir import audio_file, read_audio
from frontend.dry_speech import digest
from frontend.errors import UserError
from frontend.parallel import parallel_map
from frontend.rirs import rirs_of, rirs_path
from frontend.scenes import read_scenes
from frontend.simulate_set import Job, check_scenes, number_of_talkers, spoken, write_tables
from frontend.virtual import made_from, make_entry

_PIECE = 200  # utterances, the piece of work that is done or not


def virtual_set(
    scenes: str | Path,
    speech: str | Path,
    out: str | Path,
    nj: int = 1,
    rir_cache: str | Path | None = None,
    parts: bool = False,
    n_talkers: int | None = None,
) -> dict[str, int]:
    """Make ``out`` a virtual mixture set.

    Cut off and started again, it goes on: impulse responses and the fingerprints of the speech are kept.

    Args:
        scenes: JSON lines made by ``frontend.bin.scenes``; with ``--bank``, few rooms for many mixtures.
        speech: the speech set they were made from; the set reads it ever after.
        out: directory.
        nj: processes.
        rir_cache: where impulse responses are kept, and read ever after; None: ``out/rirs``.
        parts: also name ``image1.scp ...`` (all channels of each talker) and ``noise.scp``.
        n_talkers: number of ``spkN.scp``; None: as many as talk in the fullest mixture.

    Returns:
        counts: ``total``, ``rooms``, ``computed`` (of them, now), ``channels``, ``talkers``; ``bytes`` of the
        set with its rooms, ``rendered_bytes`` that its audio would have as 16-bit wav.

    Raises:
        UserError: scenes that do not fit the speech set, unreadable or silent speech, ...
    """
    todo = sorted(read_scenes(scenes), key=lambda scene: scene["id"])
    for scene in todo:
        scene.pop("measured", None)
        scene.pop("virtual", None)
    entries = check_scenes(todo, scenes, Path(speech))
    out, n_talkers = Path(out), number_of_talkers(todo, scenes, n_talkers)
    cache = out / "rirs" if rir_cache is None else Path(rir_cache)
    out.mkdir(parents=True, exist_ok=True)  # now, not after minutes, if it cannot be
    prints = _prints(entries, out / "fingerprints", nj)
    paths = {scene["id"]: str(rirs_path(scene, cache)) for scene in todo}
    rooms = {paths[scene["id"]]: scene for scene in todo}
    computed = sum(not Path(path).exists() for path in rooms)
    results = parallel_map(functools.partial(_measure, cache=str(cache)), list(rooms.values()), nj, "rooms")
    measured = dict(zip(rooms, results, strict=True))
    job = Job(entries, prints, str(out), n_talkers, rir_cache=str(cache), parts=parts)
    (out / "wav.scp").unlink(missing_ok=True)  # no set until it is complete again
    write_tables([_record(s, paths[s["id"]], measured, job) for s in todo], job, Path(speech))
    samples = sum(scene["samples"] for scene in todo)
    text = sum(path.stat().st_size for path in out.iterdir() if path.is_file())
    return {
        "total": len(todo),
        "rooms": len(rooms),
        "computed": computed,
        "channels": len(todo[0]["mics"]),
        "talkers": n_talkers,
        "bytes": text + sum(Path(path).stat().st_size for path in rooms),
        "rendered_bytes": 2 * samples * (len(todo[0]["mics"]) + n_talkers),
    }


def _record(scene: dict, rirs: str, measured: dict[str, dict], job: Job) -> dict:
    dry = {name: (job.speech[name], job.prints[name]) for name in spoken(scene)}
    where = Path(job.out) / "scenes.jsonl"
    return {
        "scene": scene,
        "measured": measured[rirs],
        "virtual": made_from(scene, dry, rirs),
        "entries": {stream: make_entry(where, scene["id"], stream) for stream in job.streams},
    }


def _measure(scene: dict, cache: str) -> dict:
    """Compute the impulse responses of a scene if they are not there; return what they measure."""
    rirs = rirs_of(scene, cache)
    drr = [round(float(value), 1) if np.isfinite(value) else None for value in rirs.drr_db]  # None: anechoic
    return {"t60": round(rirs.t60, 3), "drr_db": drr}


def _prints(entries: dict[str, str], keep: Path, nj: int) -> dict[str, str]:
    """Return the fingerprints of all utterances; ``keep`` holds those of an earlier run."""
    names = sorted(entries)
    pieces = [[(name, entries[name]) for name in names[k : k + _PIECE]] for k in range(0, len(names), _PIECE)]
    numbered = list(enumerate(pieces))
    found = parallel_map(functools.partial(_print_piece, keep=str(keep)), numbered, nj, "speech")
    return {
        name: mark
        for piece, marks in zip(pieces, found, strict=True)
        for (name, _), mark in zip(piece, marks, strict=True)
    }


def _print_piece(piece: tuple[int, list[tuple[str, str]]], keep: str) -> list[str]:
    number, entries = piece
    path = Path(keep) / f"{number}.json"
    stats = [audio_file(entry).stat() for _, entry in entries]
    of = [[*pair, stat.st_size, stat.st_mtime_ns] for pair, stat in zip(entries, stats, strict=True)]
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["of"] == of:
            return kept["prints"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass  # not there, or of no use
    prints = [_print(*pair) for pair in entries]
    atomic.write_text(path, json.dumps({"of": of, "prints": prints}))
    return prints


def _print(name: str, entry: str) -> str:
    samples = read_audio(entry, finite=True)[0]
    if not samples.any():
        raise UserError(
            f"{entry}: utterance {name} is silent; take it out of the speech set and make scenes again"
        )
    return digest(samples)
