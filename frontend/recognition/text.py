"""What was said and what was recognised, as text: its normal form, on disk, aligned, its errors counted.

Reference and hypothesis go through :func:`normalise` and nothing else; :func:`rules` says in words what it
does, and stands beside every figure that was counted so. Which of its forms a set of hypotheses needs was
recorded when it was decoded (:func:`recorded_normaliser`).

A system's hypotheses on a test set are a directory with ``text_spk1 .. text_spkS`` (id and hypothesis; the
id alone where nothing was recognised), ``hyp.seglst.json`` with one segment a stream, and ``info.json``.
Words are as the model puts them: normalising belongs to the scoring.

cpWER [1] gives each talker one stream, so that the errors are fewest; talkers without a stream are deletions,
streams without a talker insertions. cpCER is the same of characters: a recogniser that gets no word right,
for want of training data, still distinguishes streams by their letters. ORC-WER [2] lets each talker choose
any stream: it is the measure where more streams than talkers come out and several talkers may share one.

[1] Watanabe et al., CHiME-6 Challenge, 2020. [2] Sklyar et al., Multi-turn RNN-T for streaming recognition
of multi-party speech, 2022. Both counted by von Neumann et al., MeetEval, 2023.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import kaldialign
import meeteval.wer

from frontend.data.audio import read_audio
from frontend.data.kaldi import read_scp, write_scp
from frontend.data.mixtures import MixtureSet
from frontend.data.segments import in_seglst
from frontend.dsp.activity import sounds
from frontend.recognition import whisper
from frontend.recognition.model import Files
from frontend.utils.errors import UserError, few
from frontend.utils.files import atomic_directory, read_json, read_text, write_json, write_text

# Raised with every change after which the same texts have other errors.
VERSION = 1
UNKNOWN = "<UNK>"
RULES = (
    "Unicode NFKC; typographic apostrophes become '",
    "upper case",
    "tags without blanks in angle or square brackets (<noise>, [LAUGHTER]) are removed: no words",
    "<unk> and [unk] stay, as the word <UNK>: in a hypothesis it counts as a word, and as a wrong one",
    "apostrophes inside a word stay, all other punctuation (hyphens too) becomes a blank",
    "symbols such as + stay, invisible format marks go",
    "white space of any kind and number becomes one blank, none at the ends",
    "numbers, spellings and contractions stay as they are written",
)

# As typed or set: grave and acute accents standing alone, quotation marks, the modifier letter, primes.
_APOSTROPHES = str.maketrans(dict.fromkeys("`\u00b4\u2018\u2019\u02bc\u2032\uff07", "'"))
_UNKNOWN = re.compile(r"<UNK>|\[UNK\]")
_TAG = re.compile(r"<[^<>\[\]\s]+>|\[[^<>\[\]\s]+\]")
_NORMAL = re.compile(r"[A-Z0-9]+(?:['][A-Z0-9]+)*(?: [A-Z0-9]+(?:['][A-Z0-9]+)*)*")
_NOT_INSIDE_WORD = re.compile(r"(?<!\w)'|'(?!\w)")


def normalise(text: str, how: str | None = None) -> str:
    """Return ``text`` in its normal form; empty where no word is left.

    Args:
        text: as it was written or recognised.
        how: None: by :data:`RULES`; ``whisper_en``: as Whisper's words are compared.

    >>> normalise("Don\u2019t turn-on  the\u00a0'kitchen' light!")
    "DON'T TURN ON THE KITCHEN LIGHT"
    >>> normalise("um <noise> seven, <unk> [laughter]")
    'UM SEVEN <UNK>'
    """
    if how == whisper.ENGLISH:
        return whisper.normalise_english(text)
    if _NORMAL.fullmatch(text):  # most texts; the rest takes a hundred times as long
        return text
    text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).upper()
    parts = (_plain(_TAG.sub(" ", part)) for part in _UNKNOWN.split(text))
    return " ".join(f" {UNKNOWN} ".join(parts).split())


def rules(how: str | None = None) -> list[str]:
    """Return in words what :func:`normalise` does."""
    return list(whisper.english_rules() if how == whisper.ENGLISH else RULES)


def recorded_normaliser(systems: Iterable[Path]) -> str | None:
    """Return what ``how`` of :func:`normalise` the ``info.json`` of directories of hypotheses names.

    Raises:
        UserError: not the same in all, or none that is known.
    """
    infos = {path: read_json(path / INFO) if (path / INFO).is_file() else {} for path in systems}
    found = {info.get("normaliser"): path for path, info in infos.items()}
    for how, path in found.items():
        if how not in (None, whisper.ENGLISH):
            raise UserError(f"{path / INFO}: normaliser: expected null or {whisper.ENGLISH}, found {how!r}")
    if len(found) > 1:
        raise UserError(
            f"{found[whisper.ENGLISH]} has words of Whisper, {found[None]} those of another recogniser: "
            "expected words that are normalised alike (decode them into directories of their own)"
        )
    return next(iter(found), None)


def _plain(text: str) -> str:
    text = "".join(character if character == "'" else _spoken(character) for character in text)
    return _NOT_INSIDE_WORD.sub(" ", text)


def _spoken(character: str) -> str:
    """Return what stays of a character: a blank for punctuation and separators, nothing for format marks."""
    category = unicodedata.category(character)
    return "" if category == "Cf" else " " if category[0] in "PZC" else character


def as_trained(texts: Mapping[str, str], tokens: Iterable[str] = (), words: bool = False) -> dict[str, str]:
    """Return transcripts as a recogniser is trained on them: normalised, so that scoring changes no token.

    ``<unk>`` stays the model's token. With the tokens of a model that is there, ``words`` or parts of words,
    the transcripts stay as they are where that leaves fewer of them unknown: a model of small letters.
    """
    spelt = {key: normalise(text).replace(UNKNOWN, UNKNOWN.lower()) for key, text in texts.items()}
    known = set(tokens) - {"<blank>", "<sos/eos>"}
    if not known:
        return spelt
    known = known if words else set("".join(known - {"<unk>"}))

    def strange(table: Mapping[str, str]) -> int:
        units = (text.split() if words else text.replace(UNKNOWN.lower(), "") for text in table.values())
        return sum(unit not in known and unit != " " for row in units for unit in row)

    return dict(texts) if strange(texts) < strange(spelt) else spelt


def what_changed(texts: Mapping[str, str], spelt: Mapping[str, str]) -> str:
    """Say in a line what :func:`as_trained` made of transcripts: numbers and examples; "" if nothing.

    >>> what_changed({"a": "Please, <noise> GO"}, {"a": "PLEASE GO"})
    '1 of 1 transcripts normalised as for scoring: 1 word (Please, -> PLEASE), 1 tag left out (<noise>)'
    """
    changed = [text for key, text in texts.items() if text != spelt[key]]
    if not changed:
        return ""
    tags = Counter(tag for text in changed for tag in _TAG.findall(text) if not _UNKNOWN.match(tag.upper()))
    words = Counter(f"{w} -> {n or 'nothing'}" for text in changed for w, n in _changed_words(text))
    parts = []
    for found, unit, more in ((words, "word", ""), (tags, "tag", " left out")):
        named = ", ".join(example for example, _ in found.most_common(3))
        parts += [f"{found.total()} {unit}{'s' * (found.total() > 1)}{more} ({named})"] if found else []
    what = ", ".join(parts) or "white space"
    return f"{len(changed)} of {len(texts)} transcripts normalised as for scoring: {what}"


def _changed_words(text: str) -> list[tuple[str, str]]:
    words = _TAG.sub(" ", text).split()
    return [(word, spelt) for word in words if (spelt := normalise(word)) != word]


_KINDS = {"word": "word", "char": "character", "bpe": "piece"}
_NAMED = 10  # unknown tokens in a message


def unknown(counts: Counter, tokens: Iterable[str], token_type: str) -> str:
    """Count and name the tokens of a text that are not in a list; "" if all are.

    >>> unknown(Counter({"FOO": 2, "ONE": 7, "BAR": 1}), ["ONE"], "word")
    "3 words unknown to the model's tokens: FOO (2), BAR (1)"
    """
    known = set(tokens)
    strange = {token: n for token, n in counts.items() if token not in known}
    if not strange:
        return ""
    total, kind = sum(strange.values()), _KINDS[token_type]
    order = sorted(strange, key=lambda token: (-strange[token], token))
    named = few((f"{token} ({strange[token]})" for token in order), _NAMED)
    return f"{total} {kind}{'s' if total > 1 else ''} unknown to the model's tokens: {named}"


def unknown_words(texts: Iterable[str], files: Files) -> str:
    """List reference words the recogniser cannot produce.

    Texts and tokens are normalised as for scoring.

    Returns:
        counted and named: words, where its tokens are words, else characters that none of its tokens has.
        "" where there are none, and where its tokens are of another kind, such as bytes.
    """
    if files.token_type == "word":
        known = {word for token in files.tokens for word in normalise(token).split()}
        return unknown(Counter(w for text in texts for w in normalise(text).split()), known, "word")
    if files.token_type not in ("char", "bpe"):
        return ""
    # An apostrophe is dropped from a token that is nothing else, though it makes words.
    known = {character for token in files.tokens for character in normalise(token) + token.upper()}
    return unknown(Counter(c for text in texts for c in normalise(text) if c != " "), known, "char")


def reference_texts(mixtures: MixtureSet) -> dict[str, list[str]]:
    """Return ``{id: [what each talker says]}`` of a test set; ``""`` where a mixture has fewer talkers.

    Raises:
        UserError: no ``text_spkK`` of a talker, no words where somebody talks, or nobody who talks.
    """
    texts = {key: mixtures.texts(key) for key in mixtures.ids}
    number, has_scenes = len(texts[mixtures.ids[0]]), (mixtures.path / "scenes.jsonl").is_file()
    talkers = {key: len(mixtures.talkers(key)) for key in mixtures.ids} if has_scenes else {}
    if number < max(1, mixtures.n_talkers, *talkers.values()):
        raise UserError(
            f"{mixtures.path}/text_spk{number + 1}: expected what talker {number + 1} says, found no such "
            "file (word errors need the texts of all talkers)"
        )
    for key, row in texts.items():
        for k, text in enumerate(row):
            if not normalise(text) and (there := _sign_of_talker(mixtures, key, k, talkers.get(key), text)):
                where = f"{mixtures.path}/text_spk{k + 1}"
                raise UserError(f"{where}: {key} has no words, but {there} (add what is said there)")
        if not any(map(normalise, row)):
            raise UserError(f"{mixtures.path}/text_spk1: nobody says anything in {key} (leave it out)")
    return texts


def _sign_of_talker(mixtures: MixtureSet, key: str, k: int, talkers: int | None, text: str) -> str:
    """Return what shows that a mixture has a k-th talker (from 0), "" where nothing does.

    That is a text, or the scene with its number of ``talkers``, or without scenes an image that is not
    silent.
    """
    if text:
        return f"the text '{text}'"
    if talkers is not None:
        return "its scene has a talker" if k < talkers else ""
    if k < mixtures.n_talkers and sounds(read_audio(mixtures.speakers[k][key], finite=True)[0]).any():
        return f"{mixtures.speakers[k][key]} is not silent"
    return ""


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
        keep_empty: keep a stream without words: a hypothesis may have none, a talker without was not there.
    """
    rows = []
    for key in sorted(texts):
        for k, (words, length) in enumerate(zip(texts[key], seconds[key], strict=True), 1):
            if words or keep_empty:
                row = {"session_id": key, "speaker": f"spk{k}", "words": words}
                rows.append({**row, "start_time": 0.0, "end_time": round(length, 4)})
    return rows


def write_hypotheses(directory: str | Path, texts: Texts, seconds: Seconds, info: dict) -> None:
    """Write one system's hypotheses: the whole directory, or nothing; ``info`` is for ``info.json``."""
    with atomic_directory(directory) as part:
        for k in range(max(map(len, texts.values()))):
            write_scp(part / f"text_spk{k + 1}", {key: streams[k] for key, streams in texts.items()})
        write_segments(part / HYPOTHESES, segments(texts, seconds))
        write_json(part / INFO, info)


def write_segments(path: str | Path, rows: list[dict]) -> None:
    """Write SegLST JSON, one segment a line."""
    write_text(path, in_seglst(rows))


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


# No word of a text has a blank in it.
_GAP = " "


def align(reference: str, hypothesis: str) -> list[tuple[str | None, str | None]]:
    """Return pairs of words (reference, hypothesis) of least Levenshtein distance, in order.

    None is in the first place of an insertion, in the second of a deletion. The library is the one that
    counts for meeteval, so that the errors are the counted ones.

    >>> align("A B C", "A X C D")
    [('A', 'A'), ('B', 'X'), ('C', 'C'), (None, 'D')]
    """
    pairs = kaldialign.align(reference.split(), hypothesis.split(), _GAP)
    return [(None if a == _GAP else a, None if b == _GAP else b) for a, b in pairs]


def mark(pair: tuple[str | None, str | None]) -> str:
    """Return what a pair is: ``I``, ``D``, ``S``, or nothing where the words are the same."""
    reference, hypothesis = pair
    if reference is None:
        return "I"
    if hypothesis is None:
        return "D"
    return "" if reference == hypothesis else "S"


def readable(row: dict) -> str:
    """Return the alignments of a row of :func:`utterance_errors` with ``id``: a block a talker or stream."""
    counts = f"{row['errors']} errors, {row['words']} words"
    kinds = " ".join(f"{row[kind]} {kind}" for kind in ("insertions", "deletions", "substitutions"))
    blocks = [f"{row['id']}: {counts} ({kinds})\n"]
    for talker, (reference, stream) in enumerate(zip(row["references"], row["assignment"], strict=True), 1):
        where = "no stream" if stream is None else f"stream {stream + 1}"
        hypothesis = "" if stream is None else row["hypotheses"][stream]
        blocks.append(_block(f"talker {talker} = {where}", align(reference, hypothesis)))
    for stream in row["surplus"]:
        blocks.append(_block(f"surplus stream {stream + 1}", align("", row["hypotheses"][stream])))
    return "".join(blocks)


def _block(title: str, pairs: Sequence[tuple[str | None, str | None]]) -> str:
    """Three lines with the words below each other; what is missing is a row of asterisks."""
    if not pairs:
        return f"  {title}, silent\n"
    lines: dict[str, list[str]] = {"REF": [], "HYP": [], "": []}
    for pair in pairs:
        width = max(len(word) for word in pair if word)
        for name, word in zip(lines, (*(word or "*" * width for word in pair), mark(pair)), strict=True):
            lines[name].append(word.ljust(width))
    shown = (f"    {name:4}{' '.join(words)}".rstrip() + "\n" for name, words in lines.items())
    return f"  {title}\n" + "".join(line for line in shown if line.strip())


KINDS = ("insertions", "deletions", "substitutions")
COUNTS = ("errors", *KINDS)
# Of what has no time stamps, the order given is the order said; meeteval would log a line a call to say so.
_AS_GIVEN = {"reference_sort": False, "hypothesis_sort": False}


def utterance_errors(
    references: Sequence[str], hypotheses: Sequence[str], orc: bool | None = None, how: str | None = None
) -> dict:
    """Count the word errors of one recording.

    Args:
        references: what each talker said, in any spelling; at least one word in all.
        hypotheses: what was recognised in each stream; none, or empty ones, are deletions.
        orc: whether ORC-WER is wanted too; None: where streams and talkers differ in number.
        how: the texts are normalised, see :func:`normalise`.

    Returns:
        ``errors, words, insertions, deletions, substitutions``; ``assignment``, the stream of each talker
        (an index, or None); ``surplus``, the streams of none; both texts normalised; ``characters``, the
        counts of cpCER and the ``characters`` said; ``orc``, those of ORC-WER and its assignment, or None.
    """
    references, hypotheses = ([normalise(t, how) for t in row] for row in (references, hypotheses))
    found = meeteval.wer.cp_word_error_rate(references, hypotheses, **_AS_GIVEN)
    stream_of = dict(found.assignment)
    taken = {stream for talker, stream in found.assignment if talker is not None}
    if orc is None:
        orc = len(hypotheses) != len(references)
    return {
        **_counts(found),
        "words": found.length,
        "assignment": [stream_of[talker] for talker in range(len(references))],
        "surplus": [stream for stream in range(len(hypotheses)) if stream not in taken],
        "references": references,
        "hypotheses": hypotheses,
        "characters": _characters(references, hypotheses),
        "orc": _orc(references, hypotheses) if orc and hypotheses else None,
    }


def _counts(found: Any) -> dict[str, int]:
    return {key: getattr(found, key) for key in COUNTS}


def _characters(references: list[str], hypotheses: list[str]) -> dict:
    """Count the errors as if each character were a word, with an assignment of its own."""
    spelt = [[_spelt(text) for text in texts] for texts in (references, hypotheses)]
    found = meeteval.wer.cp_word_error_rate(*spelt, **_AS_GIVEN)
    return {**_counts(found), "characters": found.length}


def _spelt(text: str) -> str:
    """Return the characters with blanks between them; those between words do not count, and <UNK> is one.

    >>> _spelt("NO ONE <UNK>")
    'N O O N E <UNK>'
    """
    return " ".join(word if word == UNKNOWN else " ".join(word) for word in text.split())


def _orc(references: list[str], hypotheses: list[str]) -> dict:
    """Try all assignments: a talker's words are one utterance here, so that there are few.

    meeteval's own search goes through the product of all streams' lengths: gigabytes for six streams.
    """
    talkers, streams = range(len(references)), range(len(hypotheses))

    @cache
    def alone(stream: int, chosen: tuple[int, ...]) -> Any:
        reference = " ".join(references[k] for k in chosen)
        return meeteval.wer.siso_word_error_rate(reference, hypotheses[stream])

    def counted(assignment: tuple[int, ...]) -> list:
        return [alone(s, tuple(k for k in talkers if assignment[k] == s)) for s in streams]

    best = min(product(streams, repeat=len(references)), key=lambda a: sum(one.errors for one in counted(a)))
    counts = {key: sum(getattr(one, key) for one in counted(best)) for key in COUNTS}
    return {**counts, "assignment": list(best)}
