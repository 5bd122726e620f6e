"""A file of scenes made into a mixture set, in processes, resumable at any moment.

Under ``OUT/AUDIO_FORMAT/`` stand ``mix``, ``spk1``, ``spk2`` ... and ``done``, where one small file
a piece of work says that its audio is complete, and of which scene and dry speech it was made. The
tables that make ``OUT`` a data directory come last.
"""

import dataclasses
import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frontend import atomic
from frontend.datadir import AudioWriter, audio_file, read_audio, read_scp, write_scp, write_spk2utt
from frontend.dry_speech import check_speech, fingerprint
from frontend.errors import UserError
from frontend.parallel import parallel_map, progress
from frontend.rirs import rirs_of
from frontend.scenes import read_scenes, write_scenes
from frontend.simulate import render

_SHARD = 50  # mixtures an archive: of flac.ark, the piece of work that is done or not


@dataclass(frozen=True)
class Job:
    """What a worker needs to know beside its scenes.

    Attributes:
        speech: dry utterances, id -> entry.
        prints: their fingerprints, id -> :func:`frontend.dry_speech.fingerprint`.
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
        scenes: JSON lines made by ``frontend.bin.scenes``; may be ``out/scenes.jsonl`` itself.
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
    atomic.write_text(done, json.dumps(records))


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
    tables = {"wav.scp" if stream == "mix" else f"{stream}.scp": stream for stream in job.streams}
    texts = read_scp(speech / "text", allow_empty=True) if (speech / "text").exists() else None
    spoken = [f"text_spk{k + 1}" for k in range(job.n_talkers)] if texts is not None else []
    for pattern in ("spk[1-9]*.scp", "text_spk[1-9]*", "image[1-9]*.scp", "noise.scp"):
        for old in out.glob(pattern):
            if old.name not in {*tables, *spoken}:
                old.unlink()  # of an earlier run with more talkers or parts
    for k, name in enumerate(spoken):
        said = {i: [t["utterance"] for t in s["talkers"][k : k + 1]] for i, s in scenes.items()}
        write_scp(out / name, {i: "".join(texts[u] for u in us) for i, us in said.items()})
    write_spk2utt(out, {name: name for name in scenes})
    write_scp(out / "utt2num_samples", {name: scene["samples"] for name, scene in scenes.items()})
    write_scenes(out / "scenes.jsonl", [{**r["scene"], **_facts(r)} for r in records])
    for name, stream in reversed(tables.items()):
        write_scp(out / name, {r["scene"]["id"]: r["entries"][stream] for r in records})
