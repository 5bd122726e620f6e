"""A file of scenes made into a mixture set, in processes, resumable at any moment.

Under ``OUT/AUDIO_FORMAT/`` stand ``mix``, ``spk1``, ``spk2`` ... and ``done``, where one small file
a piece of work says that its audio is complete, and of which scene and dry speech it was made. The
tables that make ``OUT`` a data directory come last.

Mixtures that no file holds: rendered from their scene whenever they are read.

In a virtual set (:mod:`frontend.simulation.mixture_sets`) the entries of the ``.scp`` files are
``scene:SET/scenes.jsonl:ID:STREAM``, the stream being ``mix``, ``spk1`` ..., ``image1`` ... or ``noise``.
The line of that file says all that the audio depends on: the scene, and under ``virtual`` the dry
utterances (entry, fingerprint), the file of impulse responses and a digest of it all.

What is read is, bit for bit, what :mod:`frontend.simulation.mixture_sets` writes for the same scene and a reader gets
back: :func:`frontend.simulation.render.render` makes whole numbers of 16 bits, so that no file format rounds them.
A part is a slice of the whole, for levels and noise are those of the whole mixture, and a transform of
another length would round differently. A process keeps the last mixtures it rendered: images are read right
after their mixture.

A file of scenes made into a virtual mixture set: text, and the impulse responses of its rooms.

No mixture is written. The set is a data directory like any other, its entries are rendered when they are
read (:mod:`frontend.simulation.mixture_sets`). What can be wrong with the dry speech is found here, not during a training.
"""

import dataclasses
import functools
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from frontend.data.audio import AudioWriter, Reader, audio_file, read_audio
from frontend.data.audio import audio_file as _file_of
from frontend.data.kaldi import read_scp, write_set
from frontend.data.speech import check_speech, digest, fingerprint
from frontend.simulation.render import Rendered, render
from frontend.simulation.rirs import Rirs, load_rirs, rirs_of, rirs_path
from frontend.simulation.scenes import read_scenes
from frontend.utils.errors import UserError
from frontend.utils.files import write_text
from frontend.utils.parallel import parallel_map, progress

_SHARD = 50  # mixtures an archive: of flac.ark, the piece of work that is done or not


@dataclass(frozen=True)
class Job:
    """What a worker needs to know beside its scenes.

    Attributes:
        speech: dry utterances, id -> entry.
        prints: their fingerprints, id -> :func:`frontend.data.speech.fingerprint`.
        out: the mixture set's directory.
        n_talkers: number of ``spkN.scp``; silence where a scene has fewer talkers.
        audio_format: ``wav``, ``flac`` or ``flac.ark``.
        rir_cache: directory, or None.
        parts: write the images of all channels and the noise as well.
    """

    speech: dict[str, str] = dataclasses.field(repr=False)
    prints: dict[str, str] = dataclasses.field(repr=False)
    out: str
    n_talkers: int
    audio_format: str = "wav"
    rir_cache: str | None = None
    parts: bool = False

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

    def made_of(self, scene: dict) -> dict:
        """Return what the audio of a scene depends on."""
        return {"scene": scene, "speech": {name: self.prints[name] for name in spoken(scene)}}


def simulate_set(
    scenes: str | Path,
    speech: str | Path,
    out: str | Path,
    nj: int = 1,
    audio_format: str = "wav",
    rir_cache: str | Path | None = None,
    parts: bool = False,
    n_talkers: int | None = None,
) -> dict[str, int]:
    """Render all scenes of a file into the mixture set ``out``.

    The audio is the same bit for bit whatever ``nj``, the order of the file, and how often the
    work was cut off and started again.

    Args:
        scenes: JSON lines made by ``mixit simulate scenes``; may be ``out/scenes.jsonl`` itself.
        speech: the speech set they were made from.
        out: directory.
        nj: processes.
        audio_format: ``wav``, ``flac`` or ``flac.ark``.
        rir_cache: where impulse responses are kept; None: ``out/rirs``.
        parts: also write ``image1.scp ...`` (all channels of each talker) and ``noise.scp``.
        n_talkers: number of ``spkN.scp``; None: as many as talk in the fullest mixture.

    The set has texts (``text_spk1`` ...) if the speech set has a ``text``.

    Returns:
        counts: ``total``, ``rendered``, ``channels``, ``talkers``.

    Raises:
        UserError: scenes that do not fit the speech set, unreadable speech, ...
    """
    todo = sorted(read_scenes(scenes), key=lambda scene: scene["id"])
    for scene in todo:
        scene.pop("measured", None)
        scene.pop("virtual", None)
    entries = check_scenes(todo, scenes, Path(speech))
    n_talkers = number_of_talkers(todo, scenes, n_talkers)
    cache = str(Path(out) / "rirs" if rir_cache is None else rir_cache)
    prints = {name: fingerprint(entry) for name, entry in progress(entries.items(), len(entries), "speech")}
    job = Job(entries, prints, str(out), n_talkers, audio_format, cache, parts)
    job.audio.mkdir(parents=True, exist_ok=True)  # now, not after minutes, if it cannot be
    size = _SHARD if audio_format == "flac.ark" else 1
    shards = [todo[k : k + size] for k in range(0, len(todo), size)]
    left = [shard for shard in shards if _read_done(shard, job) is None]
    if left:
        (Path(out) / "wav.scp").unlink(missing_ok=True)  # no set until it is complete again
    for _ in parallel_map(functools.partial(_render_shard, job=job), left, nj, "simulate"):
        pass
    records = [record for shard in shards for record in _read_done(shard, job)]
    write_tables(records, job, Path(speech))
    rendered = sum(map(len, left))
    return {
        "total": len(todo),
        "rendered": rendered,
        "channels": len(todo[0]["mics"]),
        "talkers": n_talkers,
    }


def number_of_talkers(scenes: list[dict], where: str | Path, wanted: int | None) -> int:
    """Return the number of talkers of the set; a small set may lack a mixture of as many as others have."""
    fullest = max(scenes, key=lambda scene: len(scene["talkers"]))
    most = len(fullest["talkers"])
    if wanted is not None and wanted < most:
        raise UserError(
            f"{where}: scene {fullest['id']} has {most} talkers, expected at most {wanted} (--n_talkers)"
        )
    return most if wanted is None else wanted


def check_scenes(scenes: list[dict], where: str | Path, speech: Path) -> dict[str, str]:
    """Check scenes against each other and the speech set before hours of work; return the entries needed."""
    wav, speakers = read_scp(speech / "wav.scp"), read_scp(speech / "utt2spk")
    noises = read_scp(speech / "noise.scp") if any(map(_is_recorded, scenes)) else {}
    texts = read_scp(speech / "text", allow_empty=True) if (speech / "text").exists() else wav
    fs, channels = scenes[0]["fs"], len(scenes[0]["mics"])
    samples: dict[str, int | None] = {}
    for scene in scenes:
        if (scene["fs"], len(scene["mics"])) != (fs, channels):
            raise UserError(
                f"{where}: scene {scene['id']} has {scene['fs']} Hz and {len(scene['mics'])} microphones, "
                f"{scenes[0]['id']} has {fs} Hz and {channels}; one set has one of each"
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
    for name, expected in samples.items():
        if name in noises:
            check_speech(name, noises[name], fs)
            continue
        if name not in wav:
            raise UserError(
                f"{speech}/wav.scp: utterance '{name}' is missing, {where} asks for it; "
                "give the speech set the scenes were made from"
            )
        if name not in texts:
            raise UserError(f"{speech}/text: utterance '{name}' is missing; add what is said in it")
        check_speech(name, wav[name], fs, expected)
    return {name: {**wav, **noises}[name] for name in samples}


def _is_recorded(scene: dict) -> bool:
    return scene["noise"]["kind"] == "recorded"


def spoken(scene: dict) -> list[str]:
    """Return the utterances that a scene is made of."""
    return [t["utterance"] for t in scene["talkers"]] + scene["noise"].get("utterances", [])


def _load(name: str, job: Job) -> np.ndarray:
    return read_audio(job.speech[name], finite=True)[0][0]


def _done_path(shard: list[dict], job: Job) -> Path:
    return job.audio / "done" / f"{shard[0]['id']}.json"


def _read_done(shard: list[dict], job: Job) -> list[dict] | None:
    """Return the records of finished work, or None if it is not finished or was of other scenes or speech."""
    path = _done_path(shard, job)
    if not path.exists():
        return None
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        raise UserError(f"{path}: not JSON; delete it, its audio is then rendered again") from None
    made_of = [{key: record.get(key) for key in ("scene", "speech")} for record in records]
    if made_of != [job.made_of(scene) for scene in shard] or any(
        set(record["entries"]) != set(job.streams) for record in records
    ):
        return None
    files = {audio_file(entry) for record in records for entry in record["entries"].values()}
    return records if all(file.exists() for file in files) else None


def _render_shard(shard: list[dict], job: Job) -> None:
    """Render the scenes of one piece of work, then say that it is done."""
    done = _done_path(shard, job)
    done.unlink(missing_ok=True)
    load = functools.partial(_load, job=job)
    records = []
    writers = {name: _writer(name, shard, job) for name in job.streams}
    for scene in shard:
        result = render(scene, load, rirs_of(scene, job.rir_cache))
        signals = {"mix": result.mixture, "noise": result.noise}
        for k in range(job.n_talkers):
            there = k < len(result.images)
            image = result.images[k] if there else np.zeros_like(result.noise)
            signals[f"spk{k + 1}"], signals[f"image{k + 1}"] = image[:1], image
        drr = [value if np.isfinite(value) else None for value in result.drr_db]  # None: anechoic
        records.append(
            {
                **job.made_of(scene),
                "measured": {"t60": result.t60, "drr_db": drr},
                "entries": {name: writers[name].write(scene["id"], signals[name]) for name in job.streams},
            }
        )
    for writer in writers.values():
        writer.close()
    write_text(done, json.dumps(records))


def _writer(stream: str, shard: list[dict], job: Job) -> AudioWriter:
    name = shard[0]["id"]
    directory = job.audio / stream
    # What a killed run appended to the archive is not to be continued but made again.
    (directory / f"{name}.ark").unlink(missing_ok=True)
    return AudioWriter(directory, job.audio_format, shard[0]["fs"], name=name)


def _facts(record: dict) -> dict:
    """Return what the set's ``scenes.jsonl`` says beside the scene."""
    return {key: record[key] for key in ("measured", "virtual") if key in record}


def write_tables(records: list[dict], job: Job, speech: Path) -> None:
    """Make ``OUT`` a data directory; wav.scp, which makes it one, last.

    Args:
        records: ``scene``, ``measured``, ``entries`` (stream -> entry); of a virtual set, ``virtual``.
        job: what was done.
        speech: the speech set.
    """
    out, scenes = Path(job.out), {r["scene"]["id"]: r["scene"] for r in records}
    tables: dict[str, dict] = {}
    for stream in job.streams:
        name = "wav.scp" if stream == "mix" else f"{stream}.scp"
        tables[name] = {r["scene"]["id"]: r["entries"][stream] for r in records}
    texts = read_scp(speech / "text", allow_empty=True) if (speech / "text").exists() else None
    for k in range(job.n_talkers if texts is not None else 0):
        said = {i: [t["utterance"] for t in s["talkers"][k : k + 1]] for i, s in scenes.items()}
        tables[f"text_spk{k + 1}"] = {i: "".join(texts[u] for u in us) for i, us in said.items()}
    tables["utt2num_samples"] = {name: scene["samples"] for name, scene in scenes.items()}
    write_set(out, tables, records=[{**r["scene"], **_facts(r)} for r in records])


_ENTRY = re.compile(r"scene:(.+?\.jsonl):(.+):(?:(mix|noise)|(spk|image)([1-9][0-9]*))")
_ID = re.compile(rb'\{"id": ("(?:[^"\\]|\\.)*")')
_AGAIN = "make the set again (mixit simulate render --on_the_fly)"
# One is enough for a mixture and its images; a mixture of 15 s, 16 kHz, 4 channels takes 15 MB.
_KEPT_MIXTURES = 2
_KEPT_UTTERANCES = 64
_KEPT_ROOMS = 64

# Where the last line that was found starts, by file: readers go through a set in order.
_cursor: dict[str, int] = {}


def make_entry(scenes: str | Path, name: str, stream: str) -> str:
    """Return the entry of a stream of the mixture ``name``."""
    return f"scene:{scenes}:{name}:{stream}"


class _Entry(NamedTuple):
    path: str
    name: str
    kind: str  # mix, noise, spk or image
    talker: int  # from 0, of the last two


def _parse(entry: str) -> _Entry:
    match = _ENTRY.fullmatch(entry)
    if not match:
        raise UserError(
            f"{entry}: expected scene:SET/scenes.jsonl:ID:STREAM, STREAM mix, spkK, imageK, noise"
        )
    path, name, whole, kind, number = match.groups()
    return _Entry(path, name, whole or kind, int(number or 1) - 1)


def rendered_file(entry: str) -> Path:
    """Return the file of scenes that an entry names."""
    return Path(_parse(entry).path)


def rendered_stamp(entry: str) -> tuple[str]:
    """Return what changes if and only if the audio does.

    Raises:
        UserError: as :func:`audio_info`.
    """
    return (_rendered_record(entry)["virtual"]["digest"],)


def rendered_info(entry: str) -> tuple[int, int, int]:
    """Return (channels, samples, fs in Hz) of what would be rendered, from the text alone.

    Raises:
        UserError: no such scene, one that was edited, or a file that it is made of is missing.
    """
    record = _rendered_record(entry)
    needed = [_file_of(dry) for dry, _ in record["virtual"]["speech"].values()]
    for path in (Path(record["virtual"]["rirs"]), *needed):
        if not path.exists():
            raise UserError(f"{path}: missing, {entry} is rendered from it; put it back, or {_AGAIN}")
    channels = 1 if _parse(entry).kind == "spk" else len(record["mics"])
    return channels, record["samples"], record["fs"]


def read_rendered(entry: str) -> tuple[np.ndarray, int]:
    """Return ``(C, T)`` float32, not to be written to, and the rate in Hz.

    Raises:
        UserError: as :func:`audio_info`; other dry speech than when the set was made.
    """
    path, name, kind, talker = _parse(entry)
    line = _find(path, name)
    fs, made = _checked(line, path, name)["fs"], _rendered(line)
    if kind in ("mix", "noise"):
        return (made.mixture if kind == "mix" else made.noise), fs
    # A set has as many tables as talkers at most: in a mixture of fewer, the others are silent.
    image = made.images[talker] if talker < len(made.images) else np.zeros_like(made.noise)
    return (image[:1] if kind == "spk" else image), fs


READER = Reader(rendered_file, rendered_info, read_rendered, rendered_stamp)


def made_from(scene: dict, speech: dict[str, tuple[str, str]], rirs: str) -> dict:
    """Return the key ``virtual`` of a scene's line.

    Args:
        scene: without the keys ``measured`` and ``virtual``.
        speech: the dry utterances in it, id -> (entry, fingerprint).
        rirs: file of its impulse responses.
    """
    sources = {"speech": {name: list(dry) for name, dry in sorted(speech.items())}, "rirs": str(rirs)}
    text = json.dumps([scene, sources], sort_keys=True)
    return {**sources, "digest": hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}


def _scene_of(record: dict) -> dict:
    return {key: value for key, value in record.items() if key not in ("measured", "virtual")}


def _rendered_record(entry: str) -> dict:
    """Return the checked line of ``scenes.jsonl`` that an entry names."""
    path, name = _parse(entry)[:2]
    return _checked(_find(path, name), path, name)


@functools.lru_cache(maxsize=8)
def _checked(line: bytes, path: str, name: str) -> dict:
    try:
        record = json.loads(line)
    except ValueError:
        raise UserError(f"{path}: scene {name}: not JSON; {_AGAIN}") from None
    sources = record.get("virtual")
    if sources is None:
        raise UserError(f"{path}: scene {name}: not of a virtual set; {_AGAIN}")
    if made_from(_scene_of(record), sources["speech"], sources["rirs"]) != sources:
        raise UserError(f"{path}: scene {name} was edited after the set was made; {_AGAIN}")
    return record


@functools.lru_cache(maxsize=_KEPT_MIXTURES)
def _rendered(line: bytes) -> Rendered:
    record = json.loads(line)
    sources = record["virtual"]
    speech = sources["speech"]
    return render(_scene_of(record), lambda name: _dry(*speech[name]), _room(sources["rirs"]))


@functools.lru_cache(maxsize=_KEPT_UTTERANCES)
def _dry(entry: str, fingerprint: str) -> np.ndarray:
    """Return the dry utterance ``(T,)``."""
    samples = read_audio(entry, finite=True)[0]
    if digest(samples) != fingerprint:
        raise UserError(f"{entry}: other samples than when the mixtures of it were drawn; {_AGAIN}")
    return samples[0]


@functools.lru_cache(maxsize=_KEPT_ROOMS)
def _room(path: str) -> Rirs:
    if not Path(path).exists():
        raise UserError(f"{path}: no such impulse responses; {_AGAIN}")
    return load_rirs(path)


def _find(path: str, name: str) -> bytes:
    """Return the line of a scene, from a file that is sorted by id, in a few reads and no memory.

    Nothing of the file is kept: it may be exchanged at any moment, and a worker starts at no cost.
    """
    try:
        with open(path, "rb") as file:
            file.seek(_cursor.get(path, 0))
            for _ in range(2):  # the one that was found last, or that after it
                start, line = file.tell(), file.readline()
                if _id(line) == name:
                    break
            else:
                start, line = _bisect(file, path, name)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"{path}: no such file of scenes, {name} is rendered from it; {_AGAIN}") from None
    _cursor[path] = start
    return line


def _bisect(file: BinaryIO, path: str, name: str) -> tuple[int, bytes]:
    # Invariant: if the line is there, it starts at low or later, and before high; low starts a line.
    low, high = 0, file.seek(0, 2)
    while low < high:
        middle = (low + high) // 2
        file.seek(low if middle == low else middle - 1)
        if middle > low:
            file.readline()  # to the first line that starts at middle or later
        start = file.tell()
        if start >= high:
            high = middle
            continue
        line = file.readline()
        found = _id(line)
        if found is None:
            raise UserError(f"{path}: byte {start}: expected a scene, found something else; {_AGAIN}")
        if found == name:
            return start, line
        low, high = (start + len(line), high) if found < name else (low, middle)
    raise UserError(f"{path}: no scene '{name}' (or the file is not sorted by id); {_AGAIN}")


def _id(line: bytes) -> str | None:
    match = _ID.match(line)
    return json.loads(match[1]) if match else None


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
        scenes: JSON lines made by ``mixit simulate scenes``; with ``--bank``, few rooms for many mixtures.
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
    write_tables([_set_record(s, paths[s["id"]], measured, job) for s in todo], job, Path(speech))
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


def _set_record(scene: dict, rirs: str, measured: dict[str, dict], job: Job) -> dict:
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
    write_text(path, json.dumps({"of": of, "prints": prints}))
    return prints


def _print(name: str, entry: str) -> str:
    samples = read_audio(entry, finite=True)[0]
    if not samples.any():
        raise UserError(
            f"{entry}: utterance {name} is silent; take it out of the speech set and make scenes again"
        )
    return digest(samples)
