"""Where somebody talks in whole recordings: by energy, or as an RTTM or a Kaldi segments file says."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from frontend.activity import frame_samples, levels_db, segments_of_levels
from frontend.audio import audio_info, read_audio
from frontend.errors import UserError
from frontend.segment_files import read_segments
from frontend.text_file import read_text

Span = tuple[float, float]
_BLOCK_S = 60.0


def spans_by_energy(entry: str) -> list[Span]:
    """Return ``[(start, end)]`` in seconds of a recording of any length.

    The levels of all channels together decide (:mod:`frontend.activity`); they are computed block by block.
    """
    _, frames, fs = audio_info(entry)
    block = frame_samples(fs) * round(_BLOCK_S * fs / frame_samples(fs))
    levels = [levels_db(read_audio(entry, start, block)[0], fs) for start in range(0, frames, block)]
    return segments_of_levels(np.concatenate(levels), fs, frames / fs)


def read_spans(path: str, kind: str, seconds: Mapping[str, float]) -> dict[str, list[Span]]:
    """Read who talks when, whoever it is: ``{recording: [(start, end)]}``, sorted and without overlap.

    Args:
        path: the file.
        kind: ``rttm`` (or any other form of :mod:`frontend.segment_files`), or ``segments`` (Kaldi's:
            utterance recording start end).
        seconds: length of each recording.

    Raises:
        UserError: no such file, a line of another form, a recording that is not there or shorter.
    """
    if kind == "segments":
        turns = _kaldi_segments(path)
    else:
        turns = [(row["session_id"], row["start_time"], row["end_time"]) for row in read_segments(path)]
    found: dict[str, list[Span]] = {name: [] for name in seconds}
    for recording, start, end in turns:
        if recording not in found:
            some = ", ".join(sorted(found)[:3])
            raise UserError(f"{path}: no recording '{recording}'; expected ids of wav.scp, such as {some}")
        # Annotators round, and a file may have been cut by a few samples.
        if end > seconds[recording] + 0.1:
            raise UserError(
                f"{path}: a segment of '{recording}' ends at {end:.2f} s, expected at most its "
                f"{seconds[recording]:.2f} s "
                "(seconds, of this recording?)"
            )
        if end > start:
            found[recording].append((start, min(end, seconds[recording])))
    return {name: union(spans) for name, spans in found.items()}


def _kaldi_segments(path: str) -> list[tuple[str, float, float]]:
    turns = []
    for number, line in enumerate(read_text(Path(path)).splitlines(), 1):
        words = line.split()
        try:
            _, recording, start, end = words[0], words[1], float(words[2]), float(words[3])
            good = len(words) == 4 and 0 <= start < end
        except (IndexError, ValueError):
            good = False
        if not good:
            raise UserError(f"{path}:{number}: expected 'utterance recording start end', found '{line}'")
        turns.append((recording, start, end))
    if not turns:
        raise UserError(
            f"{path}: expected segments 'utterance recording start end', found none (empty file?)"
        )
    return turns


def union(spans: list[Span], gap: float = 0.0) -> list[Span]:
    """Return the union of spans, sorted; those no further apart than ``gap`` seconds become one.

    >>> union([(4.0, 5.0), (0.0, 2.0), (1.0, 3.0)])
    [(0.0, 3.0), (4.0, 5.0)]
    """
    joined: list[list[float]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1] + gap:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    return [(start, end) for start, end in joined]
