"""A file of scenes made into a mixture set, as audio files or rendered when it is read ("on the fly").

As files: under ``OUT/AUDIO_FORMAT/`` lie ``mix``, ``spk1``, ``spk2`` ... and ``done``, where one small file a
piece of work says that its audio is complete, with a stamp of the scenes and the dry speech it was made of.

On the fly: the entries of the ``.scp`` files are ``scene:SET/scenes.jsonl:ID:STREAM``, the stream being
``mix``, ``spk1`` ..., ``image1`` ... or ``noise``. The line of that file says all that the audio depends on:
the scene, and under ``rendered_from`` the dry utterances (entry, fingerprint), the file of impulse responses
and a digest of it all. What is read equals to the bit what the files of the same scene hold: rendering makes
whole numbers of 16 bits, so that no file format rounds them. A process keeps the last mixtures it rendered:
images are read right after their mixture.
"""

import functools
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from frontend.data.audio import Reader, audio_file, entry_stamp, read_audio
from frontend.data.kaldi import absolute, read_entries, read_scp, read_utterances, write_set
from frontend.data.speech import check_new_set, check_speech, digest
from frontend.data.writers import AudioWriter, check_format
from frontend.dsp.activity import sounds
from frontend.simulation import render, rirs
from frontend.simulation.scenes import MADE_KEYS, read_scenes
from frontend.utils.errors import UserError
from frontend.utils.files import write_text
from frontend.utils.parallel import Shard, parallel_map, part_of
from frontend.utils.stamps import Stamp

_ARCHIVE = 50  # mixtures an archive: of flac.ark, the piece of work that is done or not
_PIECE = 200  # utterances whose fingerprints are kept in one file


@dataclass(frozen=True)
class _Job:
    """What a worker needs beside its scenes: the options of :func:`make_set`, and the dry speech."""

    out: str
    n_talkers: int
    audio_format: str
    rir_cache: str
    parts: bool
    speech: dict[str, str] = field(repr=False)  # id -> entry
    digests: dict[str, str] = field(repr=False)  # id -> digest of the samples

    @property
    def audio(self) -> Path:
        """Where the audio goes."""
        return Path(self.out) / self.audio_format

    @property
    def streams(self) -> list[str]:
        """Names of the audio tables: ``NAME.scp`` in OUT, and a directory under :attr:`audio`."""
        numbers = range(1, self.n_talkers + 1)
        names = ["mix", *(f"spk{k}" for k in numbers)]
        return names + [*(f"image{k}" for k in numbers), "noise"] * self.parts

    def load(self, name: str) -> np.ndarray:
        """Return a dry utterance, ``(T,)``."""
        return read_audio(self.speech[name], finite=True)[0][0]

    def done(self, piece: list[dict]) -> tuple[Path, Stamp]:
        """Return the file that says that a piece of work is done, and the stamp it must have."""
        settings = {"scenes": piece, "streams": self.streams}
        inputs = {name: self.digests[name] for scene in piece for name in spoken(scene)}
        return self.audio / "done" / f"{piece[0]['id']}.json", Stamp.of(settings, inputs, [render, rirs])


def make_set(
    scenes: str | Path,
    speech: str | Path,
    out: str | Path,
    nj: int = 1,
    audio_format: str = "wav",
    on_the_fly: bool = False,
    rir_cache: str | Path | None = None,
    parts: bool = False,
    n_talkers: int | None = None,
    shard: Shard = None,
) -> dict[str, int]:
    """Make the mixture set ``out`` of a file of scenes.

    The audio is the same bit for bit whatever ``nj``, the order of the file, on the fly or not, and how often
    the work was cut off and started again. The set has texts (``text_spk1`` ...) if the speech set has them.

    Args:
        scenes: JSON lines (``simulate scenes``); may be ``out/scenes.jsonl`` itself.
        speech: the speech set they were made from; a set on the fly reads it ever after.
        out: directory.
        nj: processes.
        audio_format: ``wav``, ``flac`` or ``flac.ark``, of files.
        on_the_fly: write no audio.
        rir_cache: where impulse responses are kept (and read ever after on the fly); None: ``out/rirs``.
        parts: also with ``image1.scp ...`` (all channels of each talker) and ``noise.scp``.
        n_talkers: number of ``spkN.scp``; None: as many as talk in the fullest mixture.
        shard: part I of N of the work alone, and no tables.

    Returns:
        counts: ``total``, ``channels`` (the most) and ``fewest``, ``talkers``; ``rendered``; on the fly
        ``rooms``, ``computed`` (now).

    Raises:
        UserError: scenes that do not fit the speech set, more channels than the format holds, unreadable or
            silent speech, ...
    """
    check_new_set(out, speech)
    todo = sorted(map(_scene_of, read_scenes(scenes)), key=lambda scene: scene["id"])
    entries = check_scenes(todo, scenes, Path(speech))
    channels = [len(scene["mics"]) for scene in todo]
    fullest = max(todo, key=lambda scene: len(scene["talkers"]))
    most = len(fullest["talkers"])
    talkers = most if n_talkers is None else n_talkers
    if talkers < most:
        raise UserError(
            f"{scenes}: scene {fullest['id']} has {most} talkers, expected at most {talkers} (--n_talkers)"
        )
    if not on_the_fly:
        check_format(audio_format, max(channels), "--audio_format")
    cache = str(Path(out) / "rirs" if rir_cache is None else rir_cache)
    Path(out).mkdir(parents=True, exist_ok=True)  # now, not after minutes, if it cannot be
    digests = _speech_digests(entries, Path(out) / "fingerprints", nj)
    job = _Job(str(out), talkers, audio_format, cache, parts, entries, digests)
    records, counts = (_name_scenes if on_the_fly else _render_files)(todo, job, nj, shard)
    if shard is None:
        _write_tables(todo, records, job, Path(speech))
    number = {"fewest": min(channels), "channels": max(channels)}
    return counts | number | {"total": len(todo), "talkers": talkers}


def _scene_of(record: dict) -> dict:
    return {key: value for key, value in record.items() if key not in MADE_KEYS}


def spoken(scene: dict) -> list[str]:
    """Return the utterances, and the recordings of noise, that a scene is made of."""
    return [t["utterance"] for t in scene["talkers"]] + scene["noise"].get("utterances", [])


def check_scenes(scenes: list[dict], where: str | Path, speech: Path) -> dict[str, str]:
    """Check scenes against each other and the speech set before hours of work; return the entries needed.

    Raises:
        UserError: scenes of different rates, an utterance that is missing, has no text, is by another
            speaker, or has another rate or length than when the scenes were made.
    """
    wav, speakers = read_utterances(speech), read_scp(speech / "utt2spk")
    recorded = any(scene["noise"]["kind"] == "recorded" for scene in scenes)
    noises = read_entries(speech / "noise.scp") if recorded else {}
    texts = read_scp(speech / "text", allow_empty=True) if (speech / "text").exists() else wav
    fs = scenes[0]["fs"]
    samples: dict[str, int | None] = {}
    for scene in scenes:
        if scene["fs"] != fs:
            raise UserError(
                f"{where}: scene {scene['id']} has {scene['fs']} Hz, {scenes[0]['id']} has {fs} Hz; "
                "expected one rate in a set (draw the scenes again)"
            )
        for talker in scene["talkers"]:
            samples[talker["utterance"]] = talker["samples"]
            if speakers.get(talker["utterance"], talker["speaker"]) != talker["speaker"]:
                raise UserError(
                    f"{where}: scene {scene['id']}: utterance {talker['utterance']} is by "
                    f"{speakers[talker['utterance']]} in {speech}/utt2spk, not by {talker['speaker']}"
                )
        for name in scene["noise"].get("utterances", []):
            samples.setdefault(name, None)
    known = {**wav, **noises}
    for name, expected in samples.items():
        if name not in known:
            raise UserError(
                f"{speech}/wav.scp: utterance '{name}' is missing, {where} asks for it; "
                "give the speech set the scenes were made from"
            )
        if name not in noises and name not in texts:
            raise UserError(f"{speech}/text: utterance '{name}' is missing; add what is said in it")
        check_speech(name, known[name], fs, expected)
    return {name: known[name] for name in samples}


def _read_kept(path: Path, stamp: Stamp) -> Any | None:
    """Return what was kept in ``path`` with this stamp; None if nothing was, or of other inputs."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return None if stamp.changed_since(Stamp(**kept["stamp"])) else kept["content"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: not what this program writes (delete it, it is then made again)") from None


def _keep(path: Path, stamp: Stamp, content: Any) -> None:
    write_text(path, json.dumps({"stamp": vars(stamp), "content": content}))


def _speech_digests(entries: dict[str, str], keep: Path, nj: int) -> dict[str, str]:
    """Return digests of the samples of all utterances; ``keep`` holds those of an earlier run."""
    names = sorted(entries)
    pieces = [[(name, entries[name]) for name in names[k : k + _PIECE]] for k in range(0, len(names), _PIECE)]
    numbered = list(enumerate(pieces))
    found = parallel_map(functools.partial(_digests, keep=str(keep)), numbered, nj, "speech")
    return dict(zip(names, (one for piece in found for one in piece), strict=True))


def _digests(numbered: tuple[int, list[tuple[str, str]]], keep: str) -> list[str]:
    number, piece = numbered
    inputs = {entry: str(entry_stamp(entry)) for _, entry in piece}
    path, stamp = Path(keep) / f"{number}.json", Stamp.of({"utterances": piece}, inputs)
    found = _read_kept(path, stamp)
    if found is None:
        found = []
        for name, entry in piece:
            samples = read_audio(entry, finite=True)[0]
            if not sounds(samples).any():
                raise UserError(f"{entry}: utterance {name} is silent; take it out and make the scenes again")
            found.append(digest(samples))
        _keep(path, stamp, found)
    return found


def _render_files(scenes: list[dict], job: _Job, nj: int, shard: Shard) -> tuple[list[dict], dict[str, int]]:
    """Render what is not done yet; return a record a scene (``measured``, ``entries``) and counts."""
    job.audio.mkdir(parents=True, exist_ok=True)
    size = _ARCHIVE if job.audio_format == "flac.ark" else 1
    pieces = [scenes[k : k + size] for k in range(0, len(scenes), size)]
    left = [piece for piece in part_of(pieces, shard) if _read_done(piece, job) is None]
    if left:
        (Path(job.out) / "wav.scp").unlink(missing_ok=True)  # no set until it is complete again
    list(parallel_map(functools.partial(_render_piece, job=job), left, nj, "simulate"))
    records = [record for piece in pieces for record in _read_done(piece, job) or []]
    return records, {"rendered": sum(map(len, left))}


def _read_done(piece: list[dict], job: _Job) -> list[dict] | None:
    records = _read_kept(*job.done(piece))
    files = {audio_file(entry) for record in records or [] for entry in record["entries"].values()}
    return records if all(file.exists() for file in files) else None


def _render_piece(piece: list[dict], job: _Job) -> None:
    """Render the scenes of one piece of work, then say that it is done."""
    done, stamp = job.done(piece)
    done.unlink(missing_ok=True)
    records, writers, name = [], {}, piece[0]["id"]
    for stream in job.streams:
        # What a killed run appended to the archive is not to be continued but made again.
        (job.audio / stream / f"{name}.ark").unlink(missing_ok=True)
        writers[stream] = AudioWriter(job.audio / stream, job.audio_format, piece[0]["fs"], name=name)
    for scene in piece:
        result = render.render(scene, job.load, rirs.rirs_of(scene, job.rir_cache))
        entries = {s: writer.write(scene["id"], _stream(result, s)) for s, writer in writers.items()}
        records.append({"measured": _measured(result.t60, result.drr_db), "entries": entries})
    for writer in writers.values():
        writer.close()
    _keep(done, stamp, records)


def _stream(made: render.Rendered, stream: str) -> np.ndarray:
    """Return ``(C, T)``; ``spkK`` and ``imageK`` are silent in a mixture of fewer talkers."""
    if stream in ("mix", "noise"):
        return made.mixture if stream == "mix" else made.noise
    number = int(stream.lstrip("spkimage"))
    image = made.images[number - 1] if number <= len(made.images) else np.zeros_like(made.noise)
    return image[:1] if stream.startswith("spk") else image


def _measured(t60: float, drr_db: Sequence[float] | np.ndarray) -> dict:
    drr = [round(float(value), 1) if np.isfinite(value) else None for value in drr_db]  # None: anechoic
    return {"t60": round(t60, 3), "drr_db": drr}


def _name_scenes(scenes: list[dict], job: _Job, nj: int, shard: Shard) -> tuple[list[dict], dict[str, int]]:
    """Compute the rooms of a set on the fly; return a record a scene (with ``rendered_from``) and counts."""
    paths = {scene["id"]: os.path.abspath(rirs.rirs_path(scene, job.rir_cache)) for scene in scenes}
    rooms = dict(part_of([*{paths[scene["id"]]: scene for scene in scenes}.items()], shard))
    computed = sum(not Path(path).exists() for path in rooms)
    found = parallel_map(functools.partial(_measure, cache=job.rir_cache), list(rooms.values()), nj, "rooms")
    measured = dict(zip(rooms, found, strict=True))
    where, records = Path(job.out) / "scenes.jsonl", []
    for scene in scenes if shard is None else ():
        room = paths[scene["id"]]
        dry = {name: (absolute(job.speech[name]), job.digests[name]) for name in spoken(scene)}
        entries = {stream: make_entry(where, scene["id"], stream) for stream in job.streams}
        made_from = _rendered_from(scene, dry, room)
        records.append({"measured": measured[room], "rendered_from": made_from, "entries": entries})
    return records, {"rooms": len(rooms), "computed": computed}


def _measure(scene: dict, cache: str) -> dict:
    """Compute the impulse responses of a scene if they are not there; return what they measure."""
    found = rirs.rirs_of(scene, cache)
    return _measured(found.t60, found.drr_db)


def _write_tables(scenes: list[dict], records: list[dict], job: _Job, speech: Path) -> None:
    """Make ``OUT`` a data directory; ``records`` are those of the scenes, in their order."""
    made = dict(zip((scene["id"] for scene in scenes), records, strict=True))
    tables: dict[str, dict] = {}
    for stream in job.streams:
        entries = {name: record["entries"][stream] for name, record in made.items()}
        tables["wav.scp" if stream == "mix" else f"{stream}.scp"] = entries
    texts = read_scp(speech / "text", allow_empty=True) if (speech / "text").exists() else {}
    for k in range(job.n_talkers if texts else 0):
        spoken_by = {s["id"]: [t["utterance"] for t in s["talkers"][k : k + 1]] for s in scenes}
        tables[f"text_spk{k + 1}"] = {name: "".join(texts[u] for u in us) for name, us in spoken_by.items()}
    tables["utt2num_samples"] = {scene["id"]: scene["samples"] for scene in scenes}
    beside = [{key: made[s["id"]][key] for key in MADE_KEYS if key in made[s["id"]]} for s in scenes]
    write_set(job.out, tables, records=[{**s, **b} for s, b in zip(scenes, beside, strict=True)])


_ENTRY = re.compile(r"scene:(.+?\.jsonl):(.+):((?:mix|noise)|(?:spk|image)[1-9][0-9]*)")
_ID = re.compile(rb'\{"id": ("(?:[^"\\]|\\.)*")')
_AGAIN = "make the set again (mixit simulate render --on_the_fly)"

# Of each file of scenes that was read: its version, and where the line of each id is.
_lines: dict[str, tuple] = {}


def make_entry(scenes: str | Path, name: str, stream: str) -> str:
    """Return the entry of a stream of the mixture ``name``."""
    return f"scene:{scenes}:{name}:{stream}"


def _parse(entry: str) -> tuple[str, str, str]:
    """Return the file of scenes, the id and the stream that an entry names."""
    match = _ENTRY.fullmatch(entry)
    if not match:
        raise UserError(f"{entry}: expected scene:SET/scenes.jsonl:ID:STREAM, such as spk1 for STREAM")
    return match[1], match[2], match[3]


def _rendered_stamp(entry: str) -> tuple[str]:
    path, name, _ = _parse(entry)
    return (_checked(_find(path, name), path, name)["rendered_from"]["digest"],)


def _rendered_info(entry: str) -> tuple[int, int, int]:
    """Return (channels, samples, fs in Hz), from the text alone.

    Raises:
        UserError: no such scene, one that was edited, or a file that it is made of is missing.
    """
    path, name, stream = _parse(entry)
    record = _checked(_find(path, name), path, name)
    needed = [audio_file(dry) for dry, _ in record["rendered_from"]["speech"].values()]
    for file in (Path(record["rendered_from"]["rirs"]), *needed):
        if not file.exists():
            raise UserError(f"{file}: missing, {entry} is rendered from it; put it back, or {_AGAIN}")
    channels = 1 if stream.startswith("spk") else len(record["mics"])
    return channels, record["samples"], record["fs"]


def _read_rendered(entry: str) -> tuple[np.ndarray, int]:
    """Return ``(C, T)`` float32, not to be written to, and the rate in Hz.

    Raises:
        UserError: as :func:`_rendered_info`; other dry speech than when the set was made.
    """
    path, name, stream = _parse(entry)
    line = _find(path, name)
    fs = _checked(line, path, name)["fs"]
    return _stream(_rendered(line), stream), fs


READER = Reader(lambda entry: Path(_parse(entry)[0]), _rendered_info, _read_rendered, _rendered_stamp)


def _rendered_from(scene: dict, speech: dict[str, tuple[str, str]], room: str) -> dict:
    """Return the key of that name: dry utterances (entry, fingerprint), the room's file, a digest."""
    sources = {"speech": {name: list(dry) for name, dry in sorted(speech.items())}, "rirs": str(room)}
    return {**sources, "digest": Stamp.of({"scene": scene, **sources}, {}, [render, rirs]).digest[:16]}


@functools.lru_cache(maxsize=8)
def _checked(line: bytes, path: str, name: str) -> dict:
    try:
        record = json.loads(line)
    except ValueError:
        raise UserError(f"{path}: scene {name}: not JSON; {_AGAIN}") from None
    sources = record.get("rendered_from")
    if sources is None:
        raise UserError(f"{path}: scene {name}: not of a set on the fly; {_AGAIN}")
    if _rendered_from(_scene_of(record), sources["speech"], sources["rirs"]) != sources:
        raise UserError(f"{path}: scene {name} was edited after the set was made; {_AGAIN}")
    return record


# Two are enough for a mixture and its images; a mixture of 15 s, 16 kHz, 4 channels takes 15 MB.
@functools.lru_cache(maxsize=2)
def _rendered(line: bytes) -> render.Rendered:
    record = json.loads(line)
    sources = record["rendered_from"]
    speech = sources["speech"]
    return render.render(_scene_of(record), lambda name: _dry(*speech[name]), _room(sources["rirs"]))


@functools.lru_cache(maxsize=64)
def _dry(entry: str, fingerprint: str) -> np.ndarray:
    """Return the dry utterance ``(T,)``."""
    samples = read_audio(entry, finite=True)[0]
    if digest(samples) != fingerprint:
        raise UserError(f"{entry}: other samples than when the mixtures of it were drawn; {_AGAIN}")
    return samples[0]


@functools.lru_cache(maxsize=64)
def _room(path: str) -> rirs.Rirs:
    if not Path(path).exists():
        raise UserError(f"{path}: no such impulse responses; {_AGAIN}")
    return rirs.load_rirs(path)


def _find(path: str, name: str) -> bytes:
    """Return the line of a scene.

    The file may be exchanged at any moment: where the lines start is looked up again when it was.
    """
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            version = found.st_ino, found.st_mtime_ns, found.st_size
            if _lines.get(path, (None,))[0] != version:
                _lines[path] = version, _index(file, path)
            start, length = _lines[path][1].get(name, (0, 0))
            file.seek(start)
            line = file.read(length)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"{path}: no such file of scenes, {name} is rendered from it; {_AGAIN}") from None
    if not line:
        raise UserError(f"{path}: no scene '{name}'; {_AGAIN}")
    return line


def _index(file: BinaryIO, path: str) -> dict[str, tuple[int, int]]:
    """Return where the line of each scene starts, and its length, in bytes."""
    found, start = {}, 0
    for number, line in enumerate(file, 1):
        match = _ID.match(line)
        if not match:
            raise UserError(f"{path}:{number}: expected a scene, found something else; {_AGAIN}")
        found[json.loads(match[1])] = start, len(line)
        start += len(line)
    return found
