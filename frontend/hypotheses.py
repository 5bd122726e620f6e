"""What was recognised, on disk: Kaldi text for each stream, and SegLST for meeteval.

A system's directory holds ``text_spk1 .. text_spkS`` (id and hypothesis; the id alone where nothing
was recognised), ``hyp.seglst.json`` with one segment a stream, and ``info.json``. Words are as the
model puts them: normalising belongs to the scoring.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from frontend import atomic
from frontend.errors import UserError
from frontend.tables import read_scp, write_scp
from frontend.text_file import read_json, read_text

HYPOTHESES = "hyp.seglst.json"
REFERENCES = "ref.seglst.json"
INFO = "info.json"

Seconds = Mapping[str, Sequence[float]]
Texts = Mapping[str, Sequence[str]]


def segments(texts: Texts, seconds: Seconds, keep_empty: bool = True) -> list[dict]:
    """Return SegLST: one segment a stream (or talker), from its start to its end.

    Args:
        texts: ``{id: [words of each stream]}``.
        seconds: ``{id: [length of each stream]}``.
        keep_empty: keep a stream that says nothing. A hypothesis without a word is one; a talker
            without a word was not there.
    """
    return [
        {
            "session_id": key,
            "speaker": f"spk{k}",
            "words": words,
            "start_time": 0.0,
            "end_time": round(length, 4),
        }
        for key in sorted(texts)
        for k, (words, length) in enumerate(zip(texts[key], seconds[key], strict=True), 1)
        if words or keep_empty
    ]


def write_hypotheses(directory: str | Path, texts: Texts, seconds: Seconds, info: dict) -> None:
    """Write one system's hypotheses: the whole directory, or nothing.

    Args:
        directory: replaced if it is there.
        texts: ``{id: [hypothesis of each stream]}``, as many streams for every id.
        seconds: ``{id: [length of each stream]}``.
        info: for ``info.json``.
    """
    with atomic.directory(directory) as part:
        for k in range(max(map(len, texts.values()))):
            write_scp(part / f"text_spk{k + 1}", {key: streams[k] for key, streams in texts.items()})
        write_segments(part / HYPOTHESES, segments(texts, seconds))
        (part / INFO).write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")


def write_segments(path: str | Path, rows: list[dict]) -> None:
    """Write SegLST JSON, one segment a line; a file that holds just that is left alone."""
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    text, path = f"[\n{lines}\n]\n", Path(path)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        atomic.write_text(path, text)


def read_seconds(path: str | Path) -> dict[str, list[float]]:
    """Return ``{id: [where each of its segments ends]}`` of SegLST JSON.

    Raises:
        UserError: there is none, or it is no SegLST with times.
    """
    found: dict[str, list[float]] = {}
    try:
        for row in json.loads(read_text(Path(path))):
            found.setdefault(row["session_id"], []).append(row["end_time"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path}: expected SegLST with times, found {error!r} (decode again)") from None
    return found


def read_hypotheses(directory: str | Path) -> dict[str, list[str]]:
    """Return ``{id: [hypothesis of each stream]}`` of one system, sorted by id.

    Raises:
        UserError: no ``text_spk1``, or streams of different utterances.
    """
    tables: list[dict[str, str]] = []
    while (path := Path(directory) / f"text_spk{len(tables) + 1}").is_file():
        tables.append(read_scp(path, allow_empty=True))
        for key in sorted(tables[0].keys() ^ tables[-1].keys()):
            raise UserError(f"{path}: utterance {key} is not in it and in text_spk1 alike (decode again)")
    if not tables:
        raise UserError(f"{directory}: expected hypotheses text_spk1 ..., found none (decode first)")
    return {key: [table[key] for table in tables] for key in tables[0]}


def read_info(directory: str | Path) -> dict:
    """Return ``info.json`` of one system's hypotheses.

    Raises:
        UserError: there is none, or it is no JSON.
    """
    return read_json(Path(directory) / INFO)
