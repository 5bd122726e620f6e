"""A user's recordings in, who said what and when out: separated, cut where there is speech, recognised."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator, Sequence

from frontend.data.segments import in_seglst, in_stm
from frontend.recognition.model import Recogniser, Search
from frontend.recognition.pieces import Cache, Cutting, cut, recognise, segments_of
from frontend.separation.files import How, Job, Separating, Source


def recognise_files(
    jobs: Sequence[Job],
    source: Source,
    search: Search,
    how: How,
    cutting: Cutting | None = None,
    keep: bool = False,
) -> Iterator[list[dict]]:
    """Separate and recognise recordings of any length, one after the other, in bounded memory.

    The words are those of the files that ``mixit separate`` would write, cut as ``mixit decode`` cuts the
    streams of whole recordings.

    Args:
        jobs: of :func:`frontend.separation.files.plan`.
        source: what makes the streams.
        search: the recogniser; audio of other rates is resampled for it.
        how: how to separate.
        cutting: how streams are cut.
        keep: keep the streams.

    Yields:
        SegLST of each recording; the speakers are the streams, spk1 ...

    Raises:
        UserError: a recording is truncated or has NaN.
    """
    separate = Separating(jobs, source, how, sys.stderr)
    recogniser = Recogniser(search.files, search.options, how.device)
    for job in jobs:
        with contextlib.ExitStack() as stack:
            for path in () if keep else job.outputs:
                stack.callback(path.unlink, missing_ok=True)
            separate(job)
            entries, cache = [str(path) for path in job.outputs], Cache()
            streams = cut(entries, cutting or Cutting(), recogniser.fs)
            group = [piece for row in streams for piece in row]
            made = recognise([group], search, cache, lambda: recogniser, nj=1, threads=None)
            texts = {piece: cache[key] for piece, key in made.keys.items()}
            yield segments_of(job.name, streams, texts, entries[0])
    separate.shown.close()


def in_format(rows: list[dict], form: str, named: bool = False) -> str:
    """Return SegLST in the form ``text`` (START-END SPEAKER: WORDS), ``json`` or ``stm``.

    Args:
        rows: the segments.
        form: see above.
        named: as ``text``, put the recording before each line.

    >>> rows = [{"session_id": "a b", "speaker": "spk1", "words": "GO ON"}]
    >>> rows[0] |= {"start_time": 0.0, "end_time": 1.5}
    >>> print(in_format(rows, "stm"))
    a_b 1 spk1 0.0000 1.5000 GO ON
    >>> print(in_format(rows, "text", named=True))
    a b: 0.00-1.50 spk1: GO ON
    """
    if form == "text":
        line = "{start_time:.2f}-{end_time:.2f} {speaker}: {words}"
        line = "{session_id}: " * named + line
        return "\n".join(re.sub(r"[\r\n]+", " ", line.format(**row).rstrip()) for row in rows)
    return (in_seglst if form == "json" else in_stm)(rows).rstrip("\n")
