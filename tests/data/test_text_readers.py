"""Text files: what is written is read back, however it was saved; all else is a result or one line."""

import json
import math
import string
from pathlib import Path

import pytest
import yaml
from examples import many
from hypothesis import given
from hypothesis import strategies as st

from frontend.data.kaldi import in_scp, read_records, read_scp, scan_table
from frontend.data.segments import (
    Unused,
    in_rttm,
    in_seglst,
    in_stm,
    read_any,
    read_scored,
    read_segments,
    read_turns,
)
from frontend.dsp.arrays import read_coordinates
from frontend.recognition.text import normalise
from frontend.simulation.pairs import read_pairs
from frontend.simulation.scenes import read_scenes
from frontend.utils.errors import UserError
from frontend.utils.files import read_json, read_lines, read_settings, read_text

# What no file of lines can hold: line ends, NUL, halves of surrogate pairs; a mark is no letter of a name.
LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0\ufeff")
NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], exclude_characters="\ufeff"),
    min_size=1,
    max_size=8,
)
SAFE = NAMES.filter(lambda name: name[0] not in ";<" and name.split() == [name])
WORDS = st.text(LETTERS, max_size=20).map(lambda text: text.strip(" \t"))
TIMES = st.integers(0, 10**7).map(lambda n: n / 10000)


@st.composite
def rows(draw) -> dict:
    start, length = draw(TIMES), draw(TIMES)
    words = draw(WORDS.filter(lambda text: not set("{(") & set(text)))
    if words.lower() == "ignore_time_segment_in_scoring":
        words = ""
    end = round(start + length, 4)
    found = {"session_id": draw(SAFE), "speaker": draw(SAFE), "start_time": start, "end_time": end}
    return {**found, "words": words}


def in_order(found: list[dict]) -> list[dict]:
    return sorted(found, key=lambda row: (row["session_id"], row["start_time"], row["speaker"], row["words"]))


# How people save a text.
SAVED = {
    "as it is": lambda text: text.encode(),
    "mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "CR LF": lambda text: text.replace("\n", "\r\n").encode(),
    "CR": lambda text: text.replace("\n", "\r").encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16, the other way": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "UTF-32": lambda text: text.encode("utf-32"),
    "blank lines": lambda text: ("\n \n" + text.replace("\n", "\n\t\n\f\n\n")).encode(),
    "trailing blanks": lambda text: text.replace("\n", " \t\n").encode(),
    "no last line end": lambda text: text.removesuffix("\n").encode(),
    "two joined, each with a mark": lambda text: (
        b"\xef\xbb\xbf" + text.encode().replace(b"\n", b"\n\xef\xbb\xbf", 1)
    ),
}
saved = st.sampled_from(sorted(SAVED))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("texts")


def save(path: Path, text: str, how: str) -> Path:
    path.write_bytes(SAVED[how](text))
    return path


@many
@given(st.dictionaries(NAMES, WORDS.filter(bool), min_size=1, max_size=5), saved)
def test_tables_come_back(place, table, how):
    assert read_scp(save(place / "t", in_scp(table), how)) == table


@many
@given(st.dictionaries(NAMES, WORDS, min_size=1, max_size=5), saved)
def test_tables_with_empty_values_come_back(place, table, how):
    assert read_scp(save(place / "t", in_scp(table).replace(" ", "\t", 1), how), allow_empty=True) == table


@many
@given(st.lists(rows(), min_size=1, max_size=5), saved)
def test_segments_with_words_come_back(place, segments, how):
    stm = read_segments(save(place / "x.stm", in_stm(segments), how))
    assert in_order(stm) == in_order(segments)
    if how not in ("blank lines", "trailing blanks"):  # within a text of JSON these are of the format
        assert in_order(read_segments(save(place / "x.json", in_seglst(segments), how))) == in_order(segments)


@many
@given(st.lists(rows(), min_size=1, max_size=5), saved)
def test_segments_without_words_come_back(place, segments, how):
    found = in_order(read_segments(save(place / "x.RTTM", in_rttm(segments), how)))
    for row, expected in zip(found, in_order([{**row, "words": ""} for row in segments]), strict=True):
        assert row == {**expected, "end_time": pytest.approx(expected["end_time"], abs=2e-4)}


@many
@given(st.lists(st.tuples(SAFE, SAFE, TIMES, TIMES.filter(bool)), min_size=1, max_size=5), saved)
def test_kaldis_segments_come_back(place, cuts, how):
    text = "".join(f"{u} {r} {a!r} {a + d!r}\n" for u, r, a, d in cuts)
    found = read_turns(save(place / "segments", text, how), {r: 1e5 for _, r, _, _ in cuts}, kind="segments")
    expected = sorted((r, a, u, a + d) for u, r, a, d in cuts)
    assert sorted((x["session_id"], x["start_time"], x["speaker"], x["end_time"]) for x in found) == expected


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(LETTERS, max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(LETTERS, max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
PLAIN = ("as it is", "mark", "CR LF", "UTF-16", "UTF-16, the other way", "UTF-32")


@many
@given(st.dictionaries(st.text(LETTERS, max_size=5), VALUES, max_size=4), st.sampled_from(PLAIN))
def test_settings_come_back(place, content, how):
    # PyYAML writes control characters as escapes, which is where a line would be divided otherwise.
    text = yaml.safe_dump(content, allow_unicode=False)
    assert read_settings(save(place / "x.yaml", text, how), "configuration") == content
    assert read_json(save(place / "x.json", json.dumps(content, indent=1), how)) == content
    assert read_json(save(place / "x.json", json.dumps(content, ensure_ascii=False), how)) == content


VALID = {
    "x.stm": ";; r\nr1 1 a 0.5 1.25 <o,f0,male> one { two / to } (uh)\n"
    "r1 1 inter_segment_gap 2 3 ignore_time_segment_in_scoring\n",
    "x.rttm": "SPKR-INFO r1 1 <NA> <NA> <NA> unknown a <NA>\nSPEAKER r1 1 0.5 1.0 <NA> <NA> a <NA> <NA>\n",
    "x.json": in_seglst([dict(session_id="r1", speaker="a", start_time=0.5, end_time=1.0, words="é 😀")]),
    "segments": "u1 r1 0.5 -1\nu2 r1 1 2.5\n",
    "t": "a 1.wav\nb two words\nc\n",
    "x.yaml": "a: {b: [1, 2.5, 2024-01-02]}\nc: &x |\n  text\nd: *x\n",
    "x.jsonl": '{"id": "a", "t60": 0.3}\n{"id": "b"}\n',
    "pairs": "m1 u1 u2 -3.5\nm2 u3 u4 0\n",
    "array": "0 0 0 # first\n0.05, 0, 0\n",
    "text": "one\r\ntwo\n",
}
READ = {
    "x.stm": read_scored,
    "x.rttm": lambda path: read_turns(path, {"r1": 1.2}),
    "x.json": read_segments,
    "segments": lambda path: list(read_any(Unused(path), "segments")),
    "t": lambda path: (scan_table(path), read_scp(path, allow_empty=True)),
    "x.yaml": lambda path: read_settings(path, "configuration"),
    "x.jsonl": lambda path: (read_records(path), read_scenes(path)),
    "pairs": read_pairs,
    "array": read_coordinates,
    "text": lambda path: (read_text(path), read_lines(path)),
}
edits = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.integers(0, 6),
        st.binary(max_size=4) | st.sampled_from([b"\n", b"-", b"{", b"1e999", b"\xff"]),
    ),
    max_size=4,
)


@pytest.mark.parametrize("name", VALID)
@many
@given(data=st.data())
def test_anything_else_is_a_result_or_one_line(place, name, data):
    kind = data.draw(st.sampled_from(["bytes", "text", "cut", "edited"]))
    content = VALID[name].encode()
    if kind == "bytes":
        content = data.draw(st.binary(max_size=60))
    elif kind == "text":
        content = data.draw(
            st.text(st.sampled_from(string.printable + "é\u2028\ufeff😀"), max_size=60)
        ).encode()
    elif kind == "cut":
        content = content[: data.draw(st.integers(0, len(content)))]
    else:
        for where, length, new in data.draw(edits):
            at = math.floor(where * len(content))
            content = content[:at] + new + content[at + length :]
    (place / name).write_bytes(content)
    try:
        READ[name](place / name)
    except UserError as error:
        assert str(place / name) in str(error)


def test_seglst_without_words_or_with_odd_values(tmp_path, capsys):
    row = dict(session_id="r1", speaker=3, start_time="0.5", end_time=1)
    odd = [{**row, "speaker": None}, {**row, "start_time": math.nan}, {**row, "words": 5}, {}, "x"]
    (tmp_path / "x.json").write_text(json.dumps([row, {**row, "words": None}, *odd]))
    expected = {**row, "speaker": "3", "start_time": 0.5, "end_time": 1.0, "words": ""}
    assert read_segments(tmp_path / "x.json") == [expected, expected]
    said = capsys.readouterr().err
    assert "3 that cannot be read" in said and "x.json: segment 3: expected a name of the speaker" in said
    assert "2 of another form" in said and said.count("\n") == 1
    with pytest.raises(UserError, match="segment 3: expected a name"):
        read_segments(tmp_path / "x.json", strict=True)


@many
@given(st.text(max_size=40))
def test_normalising_again_changes_nothing(text):
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a \xff\n", "not UTF-8 text at byte 2"),
        ("a é\n".encode("latin-1"), "not UTF-8 text at byte 2"),
        ("a 1\n".encode("utf-16-le"), "UTF-16 without a byte-order mark: NUL at byte 1"),
        (b"\xff\xfea", "not UTF-16 text at byte 2"),
        (b"RIFF\x24\x00\x00\x00WAVE", "not text but binary"),
    ],
)
def test_what_is_no_text_is_named(tmp_path, content, message):
    (tmp_path / "t").write_bytes(content)
    for read in (read_text, read_scp, lambda path: read_settings(path, "configuration")):
        with pytest.raises(UserError, match=message) as stop:
            read(tmp_path / "t")
        assert "\n" not in str(stop.value) and str(tmp_path / "t") in str(stop.value)


@pytest.mark.parametrize(
    "text", ['{"a": "\\ud800"}', '{"a": ' + "1" * 5000 + "}", '{"a": ' + "[" * 100_000, '{"a": 1', "[1]"]
)
def test_json_that_python_cannot_take_is_one_line(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match="x.json"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("words", "forms"),
    [
        ("{a / {b / c} d} x", [["a", "b d", "c d"], ["x"]]),
        ("{ a / {b / c} {d / e} }", [["a", "b d", "b e", "c d", "c e"]]),
        ("{ {a / b} / c / {BREATH} }", [["a", "b", "c", ""]]),
        ("and/or { a / b }", [["and/or"], ["a", "b"]]),
    ],
)
def test_alternatives_in_alternatives(tmp_path, words, forms):
    (tmp_path / "ref.stm").write_text(f"m 1 A 0 2 {words}\n")
    (row,) = read_segments(tmp_path / "ref.stm")
    assert row["choices"] == forms


@pytest.mark.parametrize("time", ["1e999", "true", "Infinity", '"inf"'])
def test_times_that_are_none_are_refused(tmp_path, time):
    row = f'"session_id": "m", "speaker": "A", "start_time": 0, "end_time": {time}, "words": "x"'
    (tmp_path / "ref.json").write_text(f"[{{{row}}}]")
    with pytest.raises(UserError, match="expected a time in seconds"):
        read_segments(tmp_path / "ref.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {x: 1}\nb: 2\na: {x: 2}\n", "the key 'a' stands twice, in lines 1 and 3"),
        ("a: {x: 1, x: 2}\n", "the key 'x' stands twice, in line 1"),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path, text, message):
    """One of two systems of a name would be lost."""
    (tmp_path / "systems.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_settings(tmp_path / "systems.yaml", "systems file")


def test_merged_keys_may_be_changed(tmp_path):
    (tmp_path / "conf.yaml").write_text("a: &a {x: 1, y: 3}\nb: {<<: *a, x: 2}\n")
    assert read_settings(tmp_path / "conf.yaml", "configuration")["b"] == {"x": 2, "y": 3}
