"""Meetings: long scenes in which the same talkers take turns from fixed places; text, no audio.

A meeting is a dictionary (one JSON line) with the keys of a scene (:mod:`frontend.simulation.scenes`) but for the
talkers, who have ``{speaker, position, level_db}``, and with

``turns [{talker, utterance, samples, offset}, ...]``
    who (from 0) says which dry utterance from when on (seconds, of the emission), sorted by offset.

Turn-taking is a loop. A meeting is made of stretches of talk with silences between them; a stretch is a
conversation, or belongs to one talker alone. In a conversation the next turn overlaps the last one as long
as less than ``overlap`` of the speech so far was overlapped, so that the share comes out as asked, give or
take a few turns; else it follows after a pause. No more than two talk at once. Each talker says his
utterances in random order, each once before any comes again.

A meeting made audible, block by block: memory does not grow with its length.

Each turn is convolved as a whole and added where it falls; whatever the size of the blocks, the samples are
the same. The noise is made in pieces of 10 s that are faded into each other with constant power.

A set of meetings: drawn, rendered in processes, written as a mixture set with its references.

``OUT`` is a mixture set whose utterances are the recordings: ``wav.scp`` (C channels), ``spk1.scp ...`` (each
talker's image at the reference channel, over the whole length), ``text_spk1 ...``, ``utt2spk`` ...; beside
these ``meetings.jsonl`` (who stands where and talks when), ``ref.rttm``, ``ref.stm`` and ``ref.seglst.json``.
Talker k is ``spkK`` in all of them. A recording that is complete is not rendered again.
"""

import contextlib
import functools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from scipy import fft

from frontend.data.audio import read_audio
from frontend.data.kaldi import read_scp, write_set
from frontend.data.segments import write_references
from frontend.data.speech import fingerprint, read_speech
from frontend.simulation.config import Range, SceneConfig, load_config
from frontend.simulation.render import active_power, scene_noise
from frontend.simulation.rirs import Rirs, rirs_of
from frontend.simulation.scenes import sample_scene
from frontend.utils.errors import UserError
from frontend.utils.files import atomic_file, write_text
from frontend.utils.parallel import parallel_map, progress
from frontend.utils.rng import generator

_DEPTH = (0.4, 1.0)  # of an overlap, as a share of the shorter of the two turns
_BEHIND = 2.0  # seconds of overlap missing, beyond which the overlaps are as deep as can be
_REST = 0.1  # seconds between two turns of the same talker, at least
_END = 1.0  # seconds of silence at the end, at least: nobody's echo is cut


@dataclass(frozen=True)
class TurnsConfig:
    """Who talks when; seconds, and shares of 1.

    ``overlap`` is the share of the time with speech in which two talk, ``solo`` the share of stretches
    that belong to one talker.
    """

    overlap: float = 0.4
    pause: Range = (0.2, 1.0)
    stretch: Range = (10.0, 30.0)
    silence: Range = (2.0, 6.0)
    solo: float = 0.2


@dataclass(frozen=True)
class MeetingConfig(SceneConfig):
    """Everything that :func:`sample_meeting` draws from."""

    turns: TurnsConfig = field(default_factory=TurnsConfig)


def load_meeting_config(path: str | Path) -> MeetingConfig:
    """Read ``conf/meetings.yaml``: the keys of ``conf/scenes.yaml``, and ``turns``.

    Raises:
        UserError: as :func:`frontend.simulation.config.load_config`; a share or time of turns that cannot be.
    """
    config = load_config(path, kind=MeetingConfig)
    turns, talkers = config.turns, config.talkers
    if not 0 <= turns.overlap <= 0.5:
        raise UserError(f"{path}: turns: overlap: expected 0 to 0.5, found {turns.overlap:g}")
    if not 0 <= turns.solo <= 1:
        raise UserError(f"{path}: turns: solo: expected 0 to 1, found {turns.solo:g}")
    for key in ("pause", "stretch", "silence"):
        if getattr(turns, key)[0] < 0:
            raise UserError(f"{path}: turns: {key}: expected no negative time, found {getattr(turns, key)}")
    if talkers.one_talker_share or talkers.numbers[0] < 2:
        raise UserError(
            f"{path}: talkers: expected two or more in every meeting, found number {talkers.number} and "
            f"one_talker_share {talkers.one_talker_share:g} (leave one_talker_share out)"
        )
    if config.noise.kind == "recorded":
        raise UserError(f"{path}: noise: expected none, white or babble in meetings, found recorded")
    return config


def sample_meeting(
    name: str, minutes: float, config: MeetingConfig, speech: dict[str, tuple[str, float]], seed: int
) -> dict:
    """Draw the meeting that belongs to ``(seed, name)``.

    Args:
        name: id of the recording.
        minutes: its length.
        config: ranges to draw from.
        speech: dry utterances, id -> (speaker, seconds); those longer than ``max_seconds`` are left out.
        seed: of the set.

    Raises:
        UserError: too few speakers, no place in the room, or too short a meeting for a turn of each talker.
    """
    drawn = sample_scene(name, config, speech, seed)
    places = [{key: t[key] for key in ("speaker", "position", "level_db")} for t in drawn["talkers"]]
    said = [
        {u: seconds for u, (who, seconds) in sorted(speech.items()) if who == place["speaker"]}
        for place in places
    ]
    usable = [{u: s for u, s in utterances.items() if 0 < s <= config.max_seconds} for utterances in said]
    turns = _Turns(name, seed, config, usable, minutes * 60).draw()
    for k, place in enumerate(places):
        if not any(turn["talker"] == k for turn in turns):
            raise UserError(
                f"meeting {name}: {minutes:g} minutes leave no turn for {place['speaker']} (make it "
                "longer, or lower turns: stretch)"
            )
    samples = round(minutes * 60 * config.fs)
    return {**drawn, "samples": samples, "talkers": places, "turns": turns}


class _Turns:
    """The loop described above, with its state: who talked last, until when, and how much overlapped."""

    def __init__(self, name: str, seed: int, config: MeetingConfig, said: list[dict[str, float]], end: float):
        self.config, self.said, self.end = config.turns, said, end - _END
        self.fs = config.fs
        self.rng = generator(seed, name, "turns")
        self.queues: list[list[str]] = [[] for _ in said]
        self.turns: list[dict] = []
        self.latest, self.before = 0.0, 0.0  # the two latest ends of a turn
        self.since, self.last = 0.0, -1  # when the turn began that ends at `latest`, and whose it is
        self.overlapped = self.spoken = 0.0

    def draw(self) -> list[dict]:
        """Return the turns, sorted by their start."""
        begin = self._between(self.config.pause)
        while begin is not None:
            until = begin + self._between(self.config.stretch)
            solo = int(self.rng.integers(len(self.said))) if self.rng.random() < self.config.solo else None
            begin = self._stretch(begin, until, solo)
        return sorted(self.turns, key=lambda turn: (turn["offset"], turn["talker"]))

    def _stretch(self, begin: float, until: float, solo: int | None) -> float | None:
        """Add turns until a time is reached; return when the next stretch begins, None at the end."""
        start: float | None = begin
        while True:
            others = [k for k in range(len(self.said)) if k != self.last]
            talker = others[int(self.rng.integers(len(others)))] if solo is None else solo
            utterance, seconds = self._next(talker)
            if start is None:
                start = self._start(talker, seconds)
            if start + seconds > self.end:
                return None
            self._add(talker, utterance, start, seconds)
            start = None
            if self.latest > until:
                return self.latest + self._between(self.config.silence)

    def _start(self, talker: int, seconds: float) -> float:
        """Return when the next turn of a stretch starts: within the last one, or after a pause."""
        pause, depth = self._between(self.config.pause), self.rng.uniform(*_DEPTH)
        free = max(self.before + _REST, self.since)  # from then on one talks alone
        missing = self.config.overlap * self.spoken - self.overlapped
        if missing <= 0 or talker == self.last or free >= self.latest:
            return self.latest + max(pause, _REST)
        if missing > _BEHIND:
            depth = 1.0
        return max(free, self.latest - depth * min(seconds, self.latest - free))

    def _add(self, talker: int, utterance: str, start: float, seconds: float) -> None:
        start = round(start, 3)
        end = start + seconds
        samples = round(seconds * self.fs)
        self.turns.append({"talker": talker, "utterance": utterance, "samples": samples, "offset": start})
        common = max(0.0, min(self.latest, end) - start)
        self.overlapped, self.spoken = self.overlapped + common, self.spoken + seconds - common
        if end > self.latest:
            self.before, self.latest, self.since, self.last = self.latest, end, start, talker
        else:
            self.before = max(self.before, end)

    def _next(self, talker: int) -> tuple[str, float]:
        if not self.queues[talker]:
            names = list(self.said[talker])
            self.queues[talker] = [names[int(k)] for k in self.rng.permutation(len(names))]
        utterance = self.queues[talker].pop()
        return utterance, self.said[talker][utterance]

    def _between(self, limits: Range) -> float:
        return float(self.rng.uniform(*limits))


def overlap_share(meeting: dict) -> float:
    """Return the share of the time with speech in which two or more talk, by the turns alone."""
    fs = meeting["fs"]
    edges = [(round(t["offset"] * fs), 1) for t in meeting["turns"]]
    edges += [(round(t["offset"] * fs) + t["samples"], -1) for t in meeting["turns"]]
    talking, since, some, several = 0, 0, 0, 0
    for at, change in sorted(edges):
        some += (at - since) * (talking > 0)
        several += (at - since) * (talking > 1)
        talking, since = talking + change, at
    return several / some if some else 0.0


def reference_segments(meeting: dict, texts: dict[str, str] | None) -> list[dict]:
    """Return SegLST: one segment a turn; talker k is called ``spkK``, as the table of his images.

    Args:
        meeting: as above.
        texts: what is said in each utterance; None: no words.
    """
    return [
        {
            "session_id": meeting["id"],
            "speaker": f"spk{turn['talker'] + 1}",
            "start_time": turn["offset"],
            "end_time": round(turn["offset"] + turn["samples"] / meeting["fs"], 4),
            "words": texts[turn["utterance"]] if texts else "",
        }
        for turn in meeting["turns"]
    ]


def spoken_words(meeting: dict, texts: dict[str, str]) -> list[str]:
    """Return all that each talker says, in the order of time."""
    rows = reference_segments(meeting, texts)
    numbers = range(1, len(meeting["talkers"]) + 1)
    return [" ".join(row["words"] for row in rows if row["speaker"] == f"spk{k}") for k in numbers]


def write_meetings(path: str | Path, meetings: Iterable[dict]) -> None:
    """Write meetings as JSON lines, sorted by id, whole or not at all."""
    lines = (json.dumps(meeting) + "\n" for meeting in sorted(meetings, key=lambda m: m["id"]))
    write_text(path, "".join(lines))


def used_utterances(meetings: Sequence[dict]) -> set[str]:
    """Return the dry utterances that meetings are made of, those of their babble too."""
    spoken = {turn["utterance"] for meeting in meetings for turn in meeting["turns"]}
    return spoken | {u for meeting in meetings for u in meeting["noise"].get("utterances", [])}


_PEAK = 0.9  # of full scale: nothing goes beyond
_GRID = 32768  # steps of 16-bit audio to full scale
_BLOCK_S = 20.0
_PIECE_S, _FADE_S = 10.0, 0.5  # of the noise

LoadSpeech = Callable[[str], np.ndarray]


class Block(NamedTuple):
    """A stretch of a meeting, float64.

    Attributes:
        images: ``(S, n)``, the talkers at the reference channel.
        heard: ``(C, n)``, the sum of their images at all channels.
        noise: ``(C, n)``.
        spoken: ``(n,)`` of bool, where somebody talks.
    """

    images: np.ndarray
    heard: np.ndarray
    noise: np.ndarray
    spoken: np.ndarray


def render_meeting(
    meeting: dict, load_speech: LoadSpeech, rirs: Rirs, block_s: float = _BLOCK_S
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield a meeting from its start to its end, in int16 on the grid of 16-bit audio.

    Levels: each turn has its talker's ``level_db`` (that of talker 1 is 0 dB), by the power of the active
    frames of its image at the reference channel; the noise is ``snr_db`` below 0 dB there; and where somebody
    talks the mixture has ``level_dbfs`` there. One scale for everything is lowered where a sample would
    exceed 0.9.

    Args:
        meeting: as in :mod:`frontend.simulation.meetings`.
        load_speech: utterance id -> ``(T',)`` at the meeting's rate.
        rirs: of this meeting (:func:`frontend.simulation.rirs.rirs_of`).
        block_s: length of the arrays, in seconds.

    Returns:
        pairs of mixture ``(C, n)`` and images ``(S, n)`` at the reference channel. There the mixture is
        exactly the sum of the images and the noise.

    Raises:
        UserError: an utterance of another length than the meeting says, or silent.
    """
    scale = _scale(meeting, blocks(meeting, load_speech, rirs, block_s)) * _GRID
    for block in blocks(meeting, load_speech, rirs, block_s):
        images = np.rint(block.images * scale)
        mixture = np.rint((block.heard + block.noise) * scale)
        mixture[0] = images.sum(0) + np.rint(block.noise[0] * scale)
        yield mixture.astype(np.int16), images.astype(np.int16)


def blocks(meeting: dict, load_speech: LoadSpeech, rirs: Rirs, block_s: float) -> Iterator[Block]:
    """Yield a meeting at its nominal levels, see :func:`render_meeting`."""
    fs, samples = meeting["fs"], meeting["samples"]
    noise = _Noise(meeting, load_speech)
    waiting = sorted(meeting["turns"], key=lambda turn: (turn["offset"], turn["talker"]))
    sounding: list[tuple[dict, int, np.ndarray]] = []  # turns, where they begin, their images (C, L)
    size = max(1, round(block_s * fs))
    for start in range(0, samples, size):
        stop = min(start + size, samples)
        while waiting and round(waiting[0]["offset"] * fs) < stop:
            turn = waiting.pop(0)
            filters = rirs.filters[turn["talker"]]
            sounding.append((turn, round(turn["offset"] * fs), _image(meeting, turn, load_speech, filters)))
        images, spoken = np.zeros((len(rirs.filters), stop - start)), np.zeros(stop - start, bool)
        heard = np.zeros((rirs.filters.shape[1], stop - start))
        for turn, begin, image in sounding:
            low, high = max(begin, start), min(begin + image.shape[1], stop)
            piece = image[:, low - begin : high - begin]
            heard[:, low - start : high - start] += piece
            images[turn["talker"], low - start : high - start] += piece[0]
            spoken[low - start : max(low, min(high, begin + turn["samples"])) - start] = True
        yield Block(images, heard, noise(start, stop), spoken)
        sounding = [(t, begin, image) for t, begin, image in sounding if begin + image.shape[1] > stop]


def _scale(meeting: dict, rendered: Iterator[Block]) -> float:
    """Return what the nominal levels are multiplied by, after a look at all of them."""
    energy, count, peak = 0.0, 0, 0.0
    for block in rendered:
        mixture = block.heard + block.noise
        energy += float(np.sum(mixture[0, block.spoken] ** 2))
        count += int(block.spoken.sum())
        peak = max(peak, float(np.abs(mixture).max()), float(np.abs(block.images).max()))
    return min(10 ** (meeting["level_dbfs"] / 20) / np.sqrt(energy / count), _PEAK / peak)


def _image(meeting: dict, turn: dict, load_speech: LoadSpeech, filters: np.ndarray) -> np.ndarray:
    """Return ``(C, L)``: a turn as the microphones hear it, from its emission to the end of its echo."""
    speech = np.asarray(load_speech(turn["utterance"]), np.float64)
    if len(speech) != turn["samples"]:
        raise UserError(
            f"meeting {meeting['id']}: utterance {turn['utterance']}: expected {turn['samples']} samples, "
            f"found {len(speech)}; make the meetings again from this speech set (mixit simulate meetings)"
        )
    length = len(speech) + filters.shape[-1] - 1
    size = fft.next_fast_len(length, real=True)
    image = fft.irfft(fft.rfft(speech, size) * fft.rfft(filters.astype(np.float64), size), size)[:, :length]
    power = active_power(image[0], meeting["fs"])
    if not power > 0:
        raise UserError(
            f"meeting {meeting['id']}: {turn['utterance']} is silent; take it out of the speech set and make "
            "the meetings again"
        )
    level_db = meeting["talkers"][turn["talker"]]["level_db"]
    return image * np.sqrt(10 ** (level_db / 10) / power)


class _Noise:
    """The noise of a meeting, any stretch of it: ``snr_db`` below 0 dB.

    Independent pieces overlap by a fade whose squared weights sum to one, so that the level is constant.
    """

    def __init__(self, meeting: dict, load_speech: LoadSpeech):
        self.meeting, self.load = meeting, load_speech
        self.hop, self.fade = (max(1, round(s * meeting["fs"])) for s in (_PIECE_S, _FADE_S))
        self.channels, self.known = len(meeting["mics"]), {}
        # Voices of unit power, which are independent, sum to as many times that power.
        voices = len(meeting["noise"].get("utterances", [])) or 1
        self.gain = 10 ** (-meeting["noise"].get("snr_db", 0.0) / 20) / np.sqrt(voices)

    def __call__(self, start: int, stop: int) -> np.ndarray:
        """Return samples ``[start, stop)``, ``(C, n)``."""
        out = np.zeros((self.channels, stop - start))
        if self.meeting["noise"]["kind"] == "none":
            return out
        first = max(0, (start - self.fade) // self.hop)
        needed = range(first, (stop - 1) // self.hop + 1)
        self.known = {k: self.known.get(k) for k in needed}
        for k in needed:
            if self.known[k] is None:
                self.known[k] = self._piece(k)
            begin, piece = k * self.hop, self.known[k]
            low, high = max(begin, start), min(begin + piece.shape[1], stop)
            if low < high:
                out[:, low - start : high - start] += piece[:, low - begin : high - begin]
        return out

    def _piece(self, number: int) -> np.ndarray:
        samples = self.hop + self.fade
        part = {**self.meeting, "id": f"{self.meeting['id']} noise {number}", "samples": samples}
        piece = self.gain * scene_noise(part, self.load)
        rise = np.sin(0.5 * np.pi * (np.arange(self.fade) + 0.5) / self.fade)
        if number:  # nothing precedes the first
            piece[:, : self.fade] *= rise
        piece[:, self.hop :] *= rise[::-1]  # the falling cosine
        return piece


# RF64: wav whose size may pass 4 GB; below that it is written as plain wav would be read.
FORMATS = {"flac": "FLAC", "wav": "RF64"}


@dataclass(frozen=True)
class Request:
    """What to make: number and length of the recordings, and where they go."""

    config: MeetingConfig
    speech: str
    out: str
    num: int
    minutes: float
    prefix: str = "meeting"
    seed: int = 0
    nj: int = 1
    audio_format: str = "flac"


@dataclass(frozen=True)
class _Job:
    """What a worker needs to know beside its meeting."""

    speech: dict[str, str] = field(repr=False)
    prints: dict[str, str] = field(repr=False)
    out: str
    n_talkers: int
    audio_format: str

    def path(self, stream: str, name: str) -> Path:
        return Path(self.out) / self.audio_format / stream / f"{name}.{self.audio_format}"

    @property
    def streams(self) -> list[str]:
        return ["mix", *(f"spk{k}" for k in range(1, self.n_talkers + 1))]

    def done(self, meeting: dict) -> Path:
        return Path(self.out) / self.audio_format / "done" / f"{meeting['id']}.json"

    def made_of(self, meeting: dict) -> str:
        prints = {name: self.prints[name] for name in sorted(used_utterances([meeting]))}
        return json.dumps({"meeting": meeting, "speech": prints})


def make_meetings(request: Request) -> list[dict]:
    """Draw and render meetings; return them.

    They are the same bit for bit whatever ``nj``, and with a larger ``num`` the first stay as they were.

    Raises:
        UserError: speech that does not fit the configuration, a talker without speech, ...
    """
    speech = read_speech(request.speech, request.config.fs)
    texts = _texts(Path(request.speech), speech)
    names = [f"{request.prefix}_{number:04d}" for number in range(request.num)]
    meetings = [sample_meeting(n, request.minutes, request.config, speech, request.seed) for n in names]
    wav, used = read_scp(Path(request.speech) / "wav.scp"), sorted(used_utterances(meetings))
    entries = {name: wav[name] for name in used}
    prints = {name: fingerprint(entry) for name, entry in progress(entries.items(), len(used), "speech")}
    n_talkers = max(len(meeting["talkers"]) for meeting in meetings)
    job = _Job(entries, prints, request.out, n_talkers, request.audio_format)
    left = [meeting for meeting in meetings if not _is_done(meeting, job)]
    Path(request.out).mkdir(parents=True, exist_ok=True)
    if left:
        (Path(request.out) / "wav.scp").unlink(missing_ok=True)  # no set until it is complete again
    for _ in parallel_map(functools.partial(_render, job=job), left, request.nj, "meetings"):
        pass
    _write_tables(meetings, job, texts)
    return meetings


def _texts(directory: Path, speech: dict) -> dict[str, str] | None:
    if not (directory / "text").exists():
        return None
    texts = read_scp(directory / "text", allow_empty=True)
    for name in sorted(speech.keys() - texts.keys()):
        raise UserError(f"{directory}/text: utterance '{name}' is missing; add what is said in it")
    return texts


def _is_done(meeting: dict, job: _Job) -> bool:
    path = job.done(meeting)
    if not path.is_file() or path.read_text(encoding="utf-8") != job.made_of(meeting):
        return False
    return all(job.path(stream, meeting["id"]).is_file() for stream in job.streams)


def _render(meeting: dict, job: _Job) -> None:
    job.done(meeting).unlink(missing_ok=True)
    load = functools.lru_cache(64)(functools.partial(_load, job=job))
    pieces = render_meeting(meeting, load, rirs_of(meeting))
    with contextlib.ExitStack() as stack:
        files = []
        for stream in job.streams:
            part = stack.enter_context(atomic_file(job.path(stream, meeting["id"])))
            channels = len(meeting["mics"]) if stream == "mix" else 1
            layout = {"format": FORMATS[job.audio_format], "subtype": "PCM_16"}
            sound = soundfile.SoundFile(part, "w", meeting["fs"], channels, **layout)
            files.append(stack.enter_context(sound))
        for mixture, images in pieces:
            files[0].write(mixture.T)
            silent = np.zeros_like(images[0])
            for k, file in enumerate(files[1:]):
                file.write(images[k] if k < len(images) else silent)
    write_text(job.done(meeting), job.made_of(meeting))


def _load(name: str, job: _Job) -> np.ndarray:
    return read_audio(job.speech[name], finite=True)[0][0]


def _write_tables(meetings: list[dict], job: _Job, texts: dict[str, str] | None) -> None:
    """Make ``OUT`` a data directory; wav.scp, which makes it one, last."""
    out = Path(job.out)
    rows = [row for meeting in meetings for row in reference_segments(meeting, texts)]
    words = {m["id"]: spoken_words(m, texts) for m in meetings} if texts is not None else {}
    tables: dict[str, dict] = {"utt2num_samples": {m["id"]: m["samples"] for m in meetings}}
    for k in range(job.n_talkers if words else 0):
        said = {name: spoken[k] if k < len(spoken) else "" for name, spoken in words.items()}
        tables[f"text_spk{k + 1}"] = said
    write_references(out, rows, texts is not None)
    write_meetings(out / "meetings.jsonl", meetings)
    for stream in job.streams:
        name = "wav.scp" if stream == "mix" else f"{stream}.scp"
        tables[name] = {m["id"]: job.path(stream, m["id"]) for m in meetings}
    write_set(out, tables)


def summary(meetings: list[dict], asked: float) -> str:
    """Return what was made, in one line: hours, turns, and how much of the speech is overlapped."""
    hours = sum(m["samples"] / m["fs"] for m in meetings) / 3600
    turns = sum(len(m["turns"]) for m in meetings)
    weights = [sum(t["samples"] for t in m["turns"]) for m in meetings]
    share = float(np.average([overlap_share(m) for m in meetings], weights=weights))
    return (
        f"{len(meetings)} recording(s), {hours:.2f} h, {turns} turns; {100 * share:.1f} % of the time with "
        f"speech overlapped ({100 * asked:.1f} % asked)"
    )
