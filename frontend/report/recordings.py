"""Separated recordings without references: what is measured and recognised, in two pages.

``REPORT.md`` has the figures and the words, ``report.html`` is to listen to (:mod:`frontend.report.clips`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frontend.data.audio import audio_info, read_audio
from frontend.data.kaldi import read_entries
from frontend.data.mixtures import find_streams
from frontend.data.segments import read_segments
from frontend.dsp.activity import sounds
from frontend.evaluation.intervals import rounded
from frontend.evaluation.without_references import (
    BLOCK_S,
    LEAST_S,
    LEAST_SPEECH_S,
    measure,
    pooled,
    validate_teacher,
)
from frontend.recognition.text import HYPOTHESES, INFO
from frontend.report.clips import MOST, MOST_BYTES, clip, new_page, write_clips, write_html
from frontend.report.collect import write_results
from frontend.report.pages import number, percent
from frontend.separation.systems import load_systems
from frontend.utils.errors import UserError
from frontend.utils.files import read_json
from frontend.utils.parallel import parallel_map
from frontend.utils.provenance import provenance, stage_commits

# What is played, of what there is; all streams are in exp/NAME/separated.
PLAYED = ("mixture", "auxiva+mask", "student", "student+gate", "student+iva+mask")
EXCERPT_S = 20  # of a recording that is longer, so much is played
_UNPROCESSED = "mixture"
_MOST_WORDS = 150  # of a stream, shown in the report
# system -> recording -> stream (spk1 ...) -> segments of SegLST
Words = dict[str, dict[str, dict[str, list[dict]]]]


def write_recordings_report(
    data: str,
    separated: str,
    systems: str,
    out: str,
    talkers: int = 2,
    dev: str | None = None,
    teachers: Mapping[str, str] | None = None,
    wer: str | None = None,
    words: str | None = None,
    listen: Path | None = None,
    seed: int = 0,
    nj: int = 1,
) -> dict:
    """Measure all systems on all recordings; write ``report.json`` and ``REPORT.md``.

    Args:
        data: the whole recordings.
        separated: one directory of streams per system (:mod:`frontend.separation.sets`).
        systems: the table of systems, whose order the report keeps.
        out: directory for the report.
        talkers: streams a recording.
        dev: held-out chunks.
        teachers: name -> model, whose MixIT loss on ``dev`` is computed.
        wer: directory with the word errors of each system, ``SYSTEM.json``.
        words: directory with the words of each system, ``SYSTEM/hyp.seglst.json``.
        listen: a page to listen to is made there, ``report.html`` and ``report_files/``.
        seed: of the random assignment, and of the mixtures of chunks.
        nj: number of processes.

    Returns:
        what ``report.json`` holds.

    Raises:
        UserError: no streams, streams or words of other recordings; ``listen`` holds something else.
    """
    there = _Separated.read(data, separated, systems, words)
    measured, overlaps = there.measured(seed, nj)
    channels, _, fs = audio_info(next(iter(there.wav.values())))
    run = read_json(Path(out) / "stages.json") if (Path(out) / "stages.json").is_file() else {}
    report = {
        "recordings": {name: round(audio_info(entry)[1] / fs, 3) for name, entry in there.wav.items()},
        "channels": channels,
        "fs": fs,
        "talkers": talkers,
        "seed": seed,
        "made": {key: run.get(key, default) for key, default in (("command", None), ("stages", {}))}
        | provenance()
        | stage_commits(run),
        "systems": {
            name: {
                "rtf": read_json(Path(separated) / name / "info.json")["rtf"],
                "all": pooled(list(rows.values())),
                "recordings": rows,
            }
            for name, rows in measured.items()
        },
        "short": _short(next(iter(measured.values())), channels),
        "wer": _word_errors(wer, list(measured), len(there.wav)),
        "words": there.shown_words(),
        "teacher": {
            name: validate_teacher(model, str(dev), talkers, seed) for name, model in (teachers or {}).items()
        },
    }
    report = rounded(report, 5)
    write_results(Path(out), "report", report)
    if listen is not None:
        _write_page(listen, Path(out).resolve().name, report, there, overlaps)
    return report


@dataclass(frozen=True)
class _Separated:
    """Recordings, and what systems made of them.

    Attributes:
        wav: recording -> its entry.
        streams: system -> recording -> entries of its streams.
        words: what was recognised in them; empty where nothing was.
        asr: the recogniser.
    """

    wav: Mapping[str, str]
    streams: Mapping[str, Mapping[str, Sequence[str]]]
    words: Words
    asr: str

    @classmethod
    def read(cls, data: str, separated: str, systems: str, words: str | None) -> "_Separated":
        """Find what there is, in the order of the table of systems."""
        wav = read_entries(Path(data) / "wav.scp")
        names = [s.name for s in load_systems(systems) if (Path(separated) / s.name / "info.json").is_file()]
        if not names:
            raise UserError(
                f"{separated}: expected the streams of systems of {systems}, found none (separate first)"
            )
        streams = {}
        for name in names:
            tables = find_streams(Path(separated) / name, wav)
            streams[name] = {recording: [table[recording] for table in tables] for recording in wav}
        return cls(wav, streams, *_read_words(words, names, list(wav)))

    def played(self, system: str, recording: str) -> Sequence[str]:
        """Return the streams that differ: all of an unprocessed recording are its reference channel."""
        return self.streams[system][recording][: 1 if system == _UNPROCESSED else None]

    def measured(self, seed: int, nj: int) -> tuple[dict[str, dict], dict[str, dict]]:
        """Return system -> recording -> what was measured, and likewise the overlap, second by second."""
        jobs = [
            (recording, entry, list(self.streams[name][recording]), seed)
            for name in self.streams
            for recording, entry in self.wav.items()
        ]
        rows = iter(list(parallel_map(_measure, jobs, nj, "report")))
        found = {name: {recording: next(rows) for recording in self.wav} for name in self.streams}
        overlaps = {name: {r: row.pop("overlap") for r, row in of.items()} for name, of in found.items()}
        return found, overlaps

    def shown_words(self) -> dict | None:
        """Return the words as the report has them, by recording, system and stream; of many the first."""
        if not self.words:
            return None
        table: dict[str, dict[str, list[dict]]] = {recording: {} for recording in self.wav}
        for system, of in self.words.items():
            for recording, rows in of.items():
                texts = [
                    " ".join(row["words"] for row in rows.get(f"spk{k}", ())).split()
                    for k, _ in enumerate(self.played(system, recording), 1)
                ]
                table[recording][system] = [
                    {"words": len(text), "text": " ".join(text[:_MOST_WORDS])} for text in texts
                ]
        return {"asr": self.asr, "recordings": table}


def _measure(job: tuple[str, str, list[str], int]) -> dict:
    return measure(*job)


def _short(rows: Mapping[str, Mapping], channels: int) -> dict:
    """Return which recordings are too short for what, which is the same for all systems."""
    spatial = {name: row["spatial"] for name, row in rows.items()} if channels > 1 else {}
    speech = {name: row["activity"]["speech_s"] for name, row in rows.items()}
    return {
        "blocks": {n: one["block_s"] for n, one in spatial.items() if one and one["block_s"] < 0.9 * BLOCK_S},
        "directions": {"least_s": LEAST_S, "recordings": [n for n, one in spatial.items() if not one]},
        "activity": {
            "least_s": LEAST_SPEECH_S,
            "recordings": [n for n, speech_s in speech.items() if speech_s < LEAST_SPEECH_S],
        },
    }


def _word_errors(wer: str | None, names: Sequence[str], recordings: int) -> dict[str, dict]:
    """Return rate and interval of each system; ``n`` where words were counted of some recordings only."""
    counts = {name: Path(wer) / f"{name}.json" for name in names} if wer else {}
    found = {}
    for name, one in ((name, read_json(path)) for name, path in counts.items() if path.is_file()):
        found[name] = {"rate": one["cpwer"], "ci": one["cpwer_ci"]}
        found[name] |= {"n": one["n"]} if one.get("n", recordings) != recordings else {}
    return found


def _read_words(folder: str | None, names: Sequence[str], recordings: Sequence[str]) -> tuple[Words, str]:
    """Return the words of each system, and the recogniser that they are of.

    Raises:
        UserError: no words of these systems, or none of a recording.
    """
    found: Words = {}
    used = []
    for path in (Path(folder, name, HYPOTHESES) for name in names) if folder else ():
        if not path.is_file():
            continue
        of: dict[str, dict[str, list[dict]]] = found.setdefault(path.parent.name, {})
        for row in read_segments(path):
            of.setdefault(row["session_id"], {}).setdefault(row["speaker"], []).append(row)
        if lost := next((name for name in recordings if name not in of), None):
            raise UserError(f"{path}: expected words of '{lost}', found none (decode again)")
        used.append(str(read_json(path.with_name(INFO))["asr"]))
    if folder and not found:
        raise UserError(f"{folder}: expected words of {', '.join(names)}, found none (decode first)")
    return found, ", ".join(dict.fromkeys(used))


# --- a page to listen to


def choose_recordings(sizes: Mapping[str, int], most: int = MOST, most_bytes: int = MOST_BYTES) -> list[str]:
    """Return which recordings are played: as many as there may be, evenly spaced, one at least.

    Args:
        sizes: recording -> bytes that its audio takes on the page, in the order of the recordings.
        most: number of recordings.
        most_bytes: of all together.
    """
    names = list(sizes)
    for count in range(min(most, len(names)), 0, -1):
        chosen = [names[k] for k in np.linspace(0, len(names) - 1, count).round().astype(int)]
        if count == 1 or sum(sizes[name] for name in chosen) <= most_bytes:
            return chosen
    return []


def busiest(overlaps: Sequence[Sequence[int]], seconds: int) -> int:
    """Return the second at which to begin an excerpt: the one with most overlap, the first of equal ones.

    Args:
        overlaps: of each system, for each second the number of frames in which two streams are active.
        seconds: length of the excerpt.
    """
    total = np.sum([list(one) for one in overlaps], axis=0) if len(overlaps) else np.zeros(1)
    sums = np.convolve(total, np.ones(seconds), "valid") if len(total) >= seconds else np.zeros(1)
    return int(sums.argmax())


def _write_page(
    out: Path, name: str, report: Mapping, there: _Separated, overlaps: Mapping[str, Mapping]
) -> None:
    """Write ``report.html`` and ``report_files/`` to ``out``, which is replaced as a whole."""
    played = [system for system in PLAYED if system in there.streams]
    if set(played) <= {_UNPROCESSED}:  # a table of other systems
        played = list(there.streams)[: len(PLAYED)]
    examples, sizes = [], {}
    for recording, seconds in report["recordings"].items():
        clips = sum(len(there.played(system, recording)) for system in played)
        sizes[recording] = round(2 * report["fs"] * min(seconds, EXCERPT_S)) * clips
    with new_page(out) as part:
        for number_of, recording in enumerate(choose_recordings(sizes), 1):
            busy = [overlaps[system][recording] for system in played if system != _UNPROCESSED]
            example, signals = _example(recording, report, there, played, busiest(busy, EXCERPT_S))
            examples.append(example | write_clips(part, number_of, signals, report["fs"]))
        page = {"name": name, "results": report, "examples": examples, "played": played}
        write_html(part, "recordings.html.j2", longest=EXCERPT_S, **page)


def _example(
    recording: str, report: Mapping, there: _Separated, played: Sequence[str], start: int
) -> tuple[dict, dict[str, np.ndarray]]:
    """Return what the page shows of a recording, and its signals; of a long one from second ``start`` on."""
    fs, frames = report["fs"], audio_info(there.wav[recording])[1]
    excerpt = None
    if frames > EXCERPT_S * fs:
        start = min(start, frames // fs - EXCERPT_S)
        excerpt, frames = (start, start + EXCERPT_S), EXCERPT_S * fs
    else:
        start = 0
    signals, blocks = {}, []
    for system in played:
        clips = []
        for k, entry in enumerate(there.played(system, recording), 1):
            signal = read_audio(entry, start * fs, frames)[0][0]
            signals[f"{system}-{k}"] = signal
            title = "reference channel" if system == _UNPROCESSED else f"stream {k}"
            said = _words_of_clip(there.words.get(system, {}).get(recording), f"spk{k}", excerpt)
            clips.append(clip(f"{system}-{k}", title, said, silent=not sounds(signal)))
        facts = _facts(report["systems"][system]["recordings"][recording])
        blocks.append({"system": system, "clips": clips, "facts": facts})
    return {"id": recording, "seconds": frames / fs, "excerpt": excerpt, "blocks": blocks}, signals


def _words_of_clip(
    streams: Mapping[str, Sequence[dict]] | None, stream: str, excerpt: tuple[int, int] | None
) -> list[dict]:
    """Return the words below a clip; none where nothing was recognised at all."""
    if streams is None:
        return []
    low, high = excerpt or (-np.inf, np.inf)
    rows = [row for row in streams.get(stream, ()) if low <= (row["start_time"] + row["end_time"]) / 2 < high]
    text = " ".join(row["words"] for row in rows if row["words"])
    return [{"title": "recognised", "pairs": [("", text, text)] if text else []}]


def _facts(row: Mapping) -> list[str]:
    """Return what was measured of a whole recording, as far as it was."""
    spatial, shares = row["spatial"] or {}, row["activity"]["number"]
    facts = [f"leakage {number(row['leakage'], 2)}"] if row["leakage"] is not None else []
    if len(shares) > 2 and shares[2] is not None:
        facts.append(f"two or more streams active {percent(sum(shares[2:]), 0)} of the speech")
    if spatial.get("own") is not None:
        facts.append(
            f"direction: own {number(spatial['own'], 2)}, other {number(spatial['other'], 2)}, random "
            f"{number(spatial['random'], 2)}"
        )
    return facts
