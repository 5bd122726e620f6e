"""Meetings: long scenes in which the same talkers take turns from fixed places; text, no audio.

A meeting is a dictionary (one JSON line) with the keys of a scene (:mod:`frontend.scenes`) but for the
talkers, who have ``{speaker, position, level_db}``, and with

``turns [{talker, utterance, samples, offset}, ...]``
    who (from 0) says which dry utterance from when on (seconds, of the emission), sorted by offset.

Turn-taking is a loop. A meeting is made of stretches of talk with silences between them; a stretch is a
conversation, or belongs to one talker alone. In a conversation the next turn overlaps the last one as long
as less than ``overlap`` of the speech so far was overlapped, so that the share comes out as asked, give or
take a few turns; else it follows after a pause. No more than two talk at once. Each talker says his
utterances in random order, each once before any comes again.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from frontend import atomic
from frontend.errors import UserError
from frontend.rng import generator
from frontend.scene_config import Range, SceneConfig
from frontend.scene_yaml import load_config
from frontend.scenes import sample_scene

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
        UserError: as :func:`frontend.scene_yaml.load_config`; a share or time of turns that cannot be.
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
    atomic.write_text(path, "".join(lines))


def used_utterances(meetings: Sequence[dict]) -> set[str]:
    """Return the dry utterances that meetings are made of, those of their babble too."""
    spoken = {turn["utterance"] for meeting in meetings for turn in meeting["turns"]}
    return spoken | {u for meeting in meetings for u in meeting["noise"].get("utterances", [])}
