"""Make meeting-like long recordings: the same talkers in one room, who take turns, overlap and pause.

    python local/meetings.py --config conf/meetings.yaml --speech data/espeak/speech/test --out data/meetings

OUT becomes a mixture set whose utterances are the recordings: wav.scp (C channels), spk1.scp ... (each
talker's image at the reference channel, over the whole length), text_spk1 ...; beside these meetings.jsonl,
ref.rttm, ref.stm and ref.seglst.json. Talker k is spkK in all of them. The recordings are the same bit for
bit whatever --nj. A run that was interrupted is continued by the same command.

A meeting is a scene (frontend/simulation/scenes.py) whose talkers have {speaker, position, level_db}, with
"turns [{talker, utterance, samples, offset}, ...]". It is made of stretches of talk with silences between
them; a stretch is a conversation, or belongs to one talker alone. In a conversation the next turn overlaps
the last one as long as less than ``overlap`` of the speech so far was overlapped; else it follows after a
pause. No more than two talk at once. Each talker's utterances come in random order, each once before one is
repeated.
"""

import argparse
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from frontend.data.audio import read_audio, stamp_of_entries
from frontend.data.kaldi import read_scp, read_utterances, write_set
from frontend.data.segments import write_references
from frontend.data.speech import read_speech
from frontend.data.writers import BlockWriter, check_format
from frontend.simulation import render, rirs
from frontend.simulation.config import SceneConfig, load_config
from frontend.simulation.ranges import Range, Section
from frontend.simulation.scenes import sample_scene
from frontend.utils.errors import Parser, UserError, run
from frontend.utils.files import write_json_lines
from frontend.utils.parallel import number_of_processes, parallel_map
from frontend.utils.rng import generator
from frontend.utils.stamps import Stamp

_DEPTH = (0.4, 1.0)  # of an overlap, as a share of the shorter of the two turns
_BEHIND = 2.0  # seconds of overlap missing, beyond which the overlaps are as deep as can be
_REST = 0.1  # seconds between two turns of the same talker, at least
_END = 1.0  # seconds of silence at the end, at least: no echo is cut
_BLOCK_S = 20.0
_PIECE_S, _FADE_S = 10.0, 0.5  # of the noise


@dataclass
class TurnsConfig(Section):
    """Who talks when; seconds, and shares of 1.

    ``overlap`` is the share of the time with speech in which two talk, ``solo`` the share of stretches
    that belong to one talker.
    """

    overlap: float = 0.4
    pause: Range = (0.2, 1.0)
    stretch: Range = (10.0, 30.0)
    silence: Range = (2.0, 6.0)
    solo: float = 0.2


@dataclass
class MeetingConfig(SceneConfig):
    """Everything that :func:`sample_meeting` draws from: the keys of conf/scenes.yaml, and ``turns``."""

    turns: TurnsConfig = field(default_factory=TurnsConfig)


def load_meeting_config(path: str | Path) -> MeetingConfig:
    """Read ``conf/meetings.yaml``.

    Raises:
        UserError: as :func:`frontend.simulation.config.load_config`; a share or time of turns that cannot be.
    """
    config = load_config(path, kind=MeetingConfig)
    turns, talkers = config.turns, config.talkers
    shortest = min(turns.pause[0], turns.stretch[0], turns.silence[0])
    for met, problem in (
        (0 <= turns.overlap <= 0.5, f"turns: overlap: expected 0 to 0.5, found {turns.overlap:g}"),
        (0 <= turns.solo <= 1, f"turns: solo: expected 0 to 1, found {turns.solo:g}"),
        (shortest >= 0, f"turns: expected no negative time, found {shortest:g}"),
        (
            talkers.number[0] >= 2 and not talkers.one_talker_share,
            f"talkers: expected two or more in every meeting, found number {talkers.number} and "
            f"one_talker_share {talkers.one_talker_share:g} (leave one_talker_share out)",
        ),
        ("recorded" not in config.noise.kind, "noise: expected none, white or babble, found recorded"),
    ):
        if not met:
            raise UserError(f"{path}: {problem}")
    return config


def sample_meeting(name: str, minutes: float, config: MeetingConfig, speech: dict, seed: int) -> dict:
    """Draw the meeting that belongs to ``(seed, name)``; ``speech``: utterance -> (speaker, seconds).

    Raises:
        UserError: too few speakers, no place in the room, or too short a meeting for a turn of each talker.
    """
    drawn = sample_scene(name, config, speech, seed)
    places = [{key: t[key] for key in ("speaker", "position", "level_db")} for t in drawn["talkers"]]
    usable = {u: s for u, (_, s) in sorted(speech.items()) if 0 < s <= config.max_seconds}
    own = [{u: s for u, s in usable.items() if speech[u][0] == place["speaker"]} for place in places]
    turns = _Turns(name, seed, config, own, minutes * 60).draw()
    for k, place in enumerate(places):
        if not any(turn["talker"] == k for turn in turns):
            raise UserError(
                f"meeting {name}: {minutes:g} minutes leave no turn for {place['speaker']} (make it "
                "longer, or lower turns: stretch)"
            )
    return {**drawn, "samples": round(minutes * 60 * config.fs), "talkers": places, "turns": turns}


class _Turns:
    """The loop described above, with its state: who talked last, until when, and how much overlapped."""

    def __init__(self, name: str, seed: int, config: MeetingConfig, own: list[dict[str, float]], end: float):
        self.config, self.own, self.end, self.fs = config.turns, own, end - _END, config.fs
        self.rng = generator(seed, name, "turns")
        self.queues: list[list[str]] = [[] for _ in own]
        self.turns: list[dict] = []
        self.latest, self.before = 0.0, 0.0  # the two latest ends of a turn
        self.since, self.last = 0.0, -1  # when the turn began that ends at `latest`, and whose it is
        self.overlapped = self.spoken = 0.0

    def draw(self) -> list[dict]:
        """Return the turns, sorted by their start."""
        begin = self._between(self.config.pause)
        while begin is not None:
            until = begin + self._between(self.config.stretch)
            solo = int(self.rng.integers(len(self.own))) if self.rng.random() < self.config.solo else None
            begin = self._stretch(begin, until, solo)
        return sorted(self.turns, key=lambda turn: (turn["offset"], turn["talker"]))

    def _stretch(self, begin: float, until: float, solo: int | None) -> float | None:
        """Add turns until a time is reached; return when the next stretch begins, None at the end."""
        start: float | None = begin
        while True:
            others = [k for k in range(len(self.own)) if k != self.last]
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
        turn = {"talker": talker, "utterance": utterance, "samples": round(seconds * self.fs)}
        self.turns.append({**turn, "offset": start})
        common = max(0.0, min(self.latest, end) - start)
        self.overlapped, self.spoken = self.overlapped + common, self.spoken + seconds - common
        if end > self.latest:
            self.before, self.latest, self.since, self.last = self.latest, end, start, talker
        else:
            self.before = max(self.before, end)

    def _next(self, talker: int) -> tuple[str, float]:
        if not self.queues[talker]:
            names = list(self.own[talker])
            self.queues[talker] = [names[int(k)] for k in self.rng.permutation(len(names))]
        utterance = self.queues[talker].pop()
        return utterance, self.own[talker][utterance]

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


def render_meeting(
    meeting: dict, load_speech: render.LoadSpeech, room: rirs.Rirs, block_s: float = _BLOCK_S
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield a meeting block by block, so that memory does not grow with its length.

    Levels: each turn has its talker's ``level_db`` (that of talker 1 is 0 dB), by the power of the active
    frames of its image at the reference channel; the noise is ``snr_db`` below 0 dB there; and where somebody
    talks the mixture has ``level_dbfs`` there. One scale for everything is lowered where a sample would
    exceed 0.9. The samples do not depend on ``block_s`` (seconds).

    Returns:
        pairs of mixture ``(C, n)`` and images ``(S, n)`` at the reference channel, float32 on the grid of
        16-bit audio. There the mixture is exactly the sum of the images and the noise.
    """
    energy, count, peak = 0.0, 0, 0.0
    for images, at_mics, noise, spoken in _blocks(meeting, load_speech, room, block_s):
        mixture = at_mics + noise
        energy += float(np.sum(mixture[0, spoken] ** 2))
        count += int(spoken.sum())
        peak = max(peak, float(np.abs(mixture).max()), float(np.abs(images).max()))
    wanted = 10 ** (meeting["level_dbfs"] / 20) / np.sqrt(energy / count)
    scale = min(wanted, render.PEAK / peak) * render.GRID
    for images, at_mics, noise, _ in _blocks(meeting, load_speech, room, block_s):
        images = np.rint(images * scale)
        mixture = np.rint((at_mics + noise) * scale)
        mixture[0] = images.sum(0) + np.rint(noise[0] * scale)
        yield tuple((x / render.GRID).astype(np.float32) for x in (mixture, images))


def _blocks(meeting: dict, load_speech: render.LoadSpeech, room: rirs.Rirs, block_s: float) -> Iterator:
    """Yield a meeting at its nominal levels; each turn is convolved as a whole and added at its offset.

    Returns:
        images ``(S, n)`` at channel 0, their sum and the noise ``(C, n)``, where somebody talks ``(n,)``.
    """
    fs, samples, filters = meeting["fs"], meeting["samples"], room.filters
    noise = _Noise(meeting, load_speech)
    waiting = sorted(meeting["turns"], key=lambda turn: (turn["offset"], turn["talker"]))
    sounding: list[tuple[dict, int, np.ndarray]] = []  # turns, where they begin, their images (C, L)
    size = max(1, round(block_s * fs))
    for start in range(0, samples, size):
        stop = min(start + size, samples)
        while waiting and round(waiting[0]["offset"] * fs) < stop:
            turn = waiting.pop(0)
            image = _turn_image(meeting, turn, load_speech, filters[turn["talker"]])
            sounding.append((turn, round(turn["offset"] * fs), image))
        images, spoken = np.zeros((len(filters), stop - start)), np.zeros(stop - start, bool)
        at_mics = np.zeros((filters.shape[1], stop - start))
        for turn, begin, image in sounding:
            low, high = max(begin, start), min(begin + image.shape[1], stop)
            piece = image[:, low - begin : high - begin]
            at_mics[:, low - start : high - start] += piece
            images[turn["talker"], low - start : high - start] += piece[0]
            spoken[low - start : max(low, min(high, begin + turn["samples"])) - start] = True
        yield images, at_mics, noise(start, stop), spoken
        sounding = [(t, begin, image) for t, begin, image in sounding if begin + image.shape[1] > stop]


def _turn_image(meeting: dict, turn: dict, load_speech: render.LoadSpeech, filters: np.ndarray) -> np.ndarray:
    """Return ``(C, L)``: a turn at the microphones, at its talker's level."""
    image = render.utterance_image(meeting, turn, load_speech, filters)
    power = render.active_power(image[0], meeting["fs"])
    if not power > 0:
        raise UserError(
            f"meeting {meeting['id']}: {turn['utterance']} is silent; take it out of the speech set"
        )
    return image * np.sqrt(10 ** (meeting["talkers"][turn["talker"]]["level_db"] / 10) / power)


class _Noise:
    """The noise of a meeting, any stretch of it: ``snr_db`` below 0 dB.

    Independent pieces overlap by a fade whose squared weights sum to one, so that the level is constant.
    """

    def __init__(self, meeting: dict, load_speech: render.LoadSpeech):
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
        needed = range(max(0, (start - self.fade) // self.hop), (stop - 1) // self.hop + 1)
        self.known = {k: self.known[k] if k in self.known else self._piece(k) for k in needed}
        for k, piece in self.known.items():
            begin = k * self.hop
            low, high = max(begin, start), min(begin + piece.shape[1], stop)
            if low < high:
                out[:, low - start : high - start] += piece[:, low - begin : high - begin]
        return out

    def _piece(self, number: int) -> np.ndarray:
        samples = self.hop + self.fade
        part = {**self.meeting, "id": f"{self.meeting['id']} noise {number}", "samples": samples}
        piece = self.gain * render.scene_noise(part, self.load)
        rise = np.sin(0.5 * np.pi * (np.arange(self.fade) + 0.5) / self.fade)
        if number:  # nothing precedes the first
            piece[:, : self.fade] *= rise
        piece[:, self.hop :] *= rise[::-1]  # the falling cosine
        return piece


@dataclass(frozen=True)
class _Job:
    """What a worker needs beside its meeting."""

    speech: dict[str, str] = field(repr=False)  # dry utterances, id -> entry
    audio: Path
    n_talkers: int

    def path(self, stream: str, meeting: dict) -> Path:
        return self.audio / stream / f"{meeting['id']}.{self.audio.name}"

    @property
    def streams(self) -> list[str]:
        return ["mix", *(f"spk{k}" for k in range(1, self.n_talkers + 1))]

    def stamp(self, meeting: dict) -> tuple[Stamp, Path]:
        used = {turn["utterance"] for turn in meeting["turns"]} | {*meeting["noise"].get("utterances", [])}
        speech = stamp_of_entries(self.speech[name] for name in sorted(used))
        settings = {"meeting": meeting, "talkers": self.n_talkers}
        stamp = Stamp.of(settings, {"speech": speech}, [render, rirs])
        return stamp, self.audio / "done" / f"{meeting['id']}.json"

    def is_done(self, meeting: dict) -> bool:
        stamp, path = self.stamp(meeting)
        return not stamp.why_stale(path) and all(self.path(s, meeting).is_file() for s in self.streams)


def make_meetings(args: argparse.Namespace, config: MeetingConfig) -> list[dict]:
    """Draw and render meetings; return them. With a larger ``num`` the first stay as they were.

    Raises:
        UserError: speech that does not fit the configuration, a talker without speech, ...
    """
    speech, directory = read_speech(args.speech, config.fs), Path(args.speech)
    texts = read_scp(directory / "text", allow_empty=True) if (directory / "text").exists() else None
    for name in sorted(speech.keys() - texts.keys()) if texts is not None else ():
        raise UserError(f"{directory}/text: utterance '{name}' is missing; add what is said in it")
    names = [f"{args.prefix}_{number:04d}" for number in range(args.num)]
    meetings = [sample_meeting(name, args.minutes, config, speech, args.seed) for name in names]
    most = max(len(meeting["talkers"]) for meeting in meetings)
    check_format(args.audio_format, len(meetings[0]["mics"]), "--audio_format")
    job = _Job(read_utterances(directory), Path(args.out) / args.audio_format, most)
    left = [meeting for meeting in meetings if not job.is_done(meeting)]
    if left:
        (Path(args.out) / "wav.scp").unlink(missing_ok=True)  # no set until it is complete again
    for _ in parallel_map(functools.partial(_render, job=job), left, args.nj, "meetings"):
        pass
    _write_tables(Path(args.out), meetings, job, texts)
    return meetings


def _render(meeting: dict, job: _Job) -> None:
    stamp, done = job.stamp(meeting)
    done.unlink(missing_ok=True)
    load = functools.lru_cache(64)(lambda name: read_audio(job.speech[name], finite=True)[0][0])
    paths, fs = [job.path(stream, meeting) for stream in job.streams], meeting["fs"]
    wholes = {"fs": fs, "encoding": "pcm16", "fits": True}  # whole numbers of 16 bits
    with BlockWriter(paths[0], **wholes) as mix, BlockWriter(paths[1:], **wholes) as spk:
        for mixture, images in render_meeting(meeting, load, rirs.rirs_of(meeting)):
            mix.write(mixture)
            silent = np.zeros((job.n_talkers - len(images), images.shape[1]), np.float32)
            spk.write(np.concatenate([images, silent]))
    stamp.write(done)


def _segments(meeting: dict, texts: dict[str, str] | None) -> list[dict]:
    """Return SegLST: one segment a turn; no words without ``texts``."""
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


def _write_tables(out: Path, meetings: list[dict], job: _Job, texts: dict[str, str] | None) -> None:
    rows = {meeting["id"]: _segments(meeting, texts) for meeting in meetings}
    tables: dict[str, dict] = {"utt2num_samples": {m["id"]: m["samples"] for m in meetings}}
    for stream in job.streams:
        name = "wav.scp" if stream == "mix" else f"{stream}.scp"
        tables[name] = {m["id"]: job.path(stream, m) for m in meetings}
        if stream != "mix" and texts is not None:
            tables[f"text_{stream}"] = {
                name: " ".join(row["words"] for row in own if row["speaker"] == stream)
                for name, own in rows.items()
            }
    write_references(out, [row for own in rows.values() for row in own], texts is not None)
    write_json_lines(out / "meetings.jsonl", meetings)
    write_set(out, tables)


def _parse() -> argparse.Namespace:
    parser = Parser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="YAML file, such as conf/meetings.yaml")
    parser.add_argument("--speech", required=True, help="speech set to draw talkers from: wav.scp, utt2spk")
    parser.add_argument("--num", type=int, default=1, help="number of recordings (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=20.0, help="of each (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=0, help="of all draws (default: %(default)s)")
    parser.add_argument("--out", required=True, help="mixture set to write")
    parser.add_argument("--prefix", default="meeting", help="of the ids PREFIX_0000 ... (default: meeting)")
    parser.add_argument("--audio_format", choices=("flac", "wav"), default="flac", help="default: flac")
    parser.add_argument("--nj", type=number_of_processes, default=1, help="processes (default: %(default)s)")
    args = parser.parse_args()
    if args.num < 1:
        raise UserError(f"--num: expected at least 1, found {args.num}")
    if not 0.1 <= args.minutes <= 24 * 60:
        raise UserError(f"--minutes: expected 0.1 to 1440, found {args.minutes:g}")
    if not args.prefix or set(args.prefix) & set(" \t/"):
        raise UserError(f"--prefix: expected a name without blanks or slashes, found '{args.prefix}'")
    return args


def main() -> None:
    """Check, draw, render."""
    args = _parse()
    config = load_meeting_config(args.config)
    meetings = make_meetings(args, config)
    hours = sum(m["samples"] / m["fs"] for m in meetings) / 3600
    weights = [sum(t["samples"] for t in m["turns"]) for m in meetings]
    share = float(np.average([overlap_share(m) for m in meetings], weights=weights))
    turns = sum(len(meeting["turns"]) for meeting in meetings)
    print(
        f"{args.out}: {len(meetings)} recording(s), {hours:.2f} h, {turns} turns; "
        f"{100 * share:.1f} % of the time with speech overlapped ({100 * config.turns.overlap:.1f} % asked)"
    )


if __name__ == "__main__":
    run(main)
