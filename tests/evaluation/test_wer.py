"""Word errors: the normaliser; cpWER and ORC-WER against brute force and meeteval's command line."""

import itertools
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import exit_code

from frontend.data.kaldi import write_scp
from frontend.evaluation.results import load_words
from frontend.evaluation.wer import rates, word_error_rate
from frontend.recognition.text import (
    COUNTS,
    KINDS,
    RULES,
    align,
    mark,
    normalise,
    read_hypotheses,
    readable,
    segments,
    utterance_errors,
    write_hypotheses,
    write_segments,
)

WORDS = "ONE TWO THREE FOUR".split()


def sentence(rng, most, least=0):
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(least, most)))


def distance(a, b):
    """Levenshtein distance, one cell after the other."""
    table = {(i, 0): i for i in range(len(a) + 1)} | {(0, j): j for j in range(len(b) + 1)}
    for i, j in itertools.product(range(1, len(a) + 1), range(1, len(b) + 1)):
        change = table[i - 1, j - 1] + (a[i - 1] != b[j - 1])
        table[i, j] = min(change, table[i - 1, j] + 1, table[i, j - 1] + 1)
    return table[len(a), len(b)]


# --- the normaliser


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one two", "ONE TWO"),
        ("one,two - three-four.", "ONE TWO THREE FOUR"),
        ("don\u2019t DON'T don`t", "DON'T DON'T DON'T"),
        ("rock 'n' roll, '90s' ''a''b''", "ROCK N ROLL 90S A B"),
        ("<noise> one [LAUGHTER] two<sp>", "ONE TWO"),
        ("one<unk> [unk] <UNK>", "ONE <UNK> <UNK> <UNK>"),
        ("[background noise]", "BACKGROUND NOISE"),
        ("cafe\u0301 \uff21\uff22 \u00bd", "CAF\u00c9 AB 1\u20442"),
        ("one\u00a0two\u3000three\tfour\n", "ONE TWO THREE FOUR"),
        ("zero\u200bwidth so\u00adft", "ZEROWIDTH SOFT"),
        ("1 + 1 50%", "1 + 1 50"),
        (" ... ", ""),
        ("", ""),
    ],
)
def test_one_form_of_a_text(text, expected):
    assert normalise(text) == expected == normalise(expected)


def test_rules_are_sentences():
    assert len(RULES) >= 5 and all(isinstance(rule, str) and rule for rule in RULES)


# --- one recording


def brute_cp(references, hypotheses):
    """Errors of the best of all permutations, the shorter side filled with silence."""
    n = max(len(references), len(hypotheses))
    references = [t.split() for t in references] + [[]] * (n - len(references))
    hypotheses = [t.split() for t in hypotheses] + [[]] * (n - len(hypotheses))
    costs = [[distance(r, h) for h in hypotheses] for r in references]
    return min(sum(costs[i][k] for i, k in enumerate(order)) for order in itertools.permutations(range(n)))


def brute_orc(references, hypotheses):
    """Errors of the best way to give each talker any stream; those of one stream speak in turn."""
    best = None
    for choice in itertools.product(range(len(hypotheses)), repeat=len(references)):
        total = 0
        for k, hypothesis in enumerate(hypotheses):
            words = [w for r, c in zip(references, choice, strict=True) if c == k for w in r.split()]
            total += distance(words, hypothesis.split())
        best = total if best is None else min(best, total)
    return best


@pytest.mark.parametrize("talkers", [1, 2, 3])
@pytest.mark.parametrize("streams", [0, 1, 2, 3, 4])
def test_errors_are_the_fewest_of_all_permutations(talkers, streams):
    rng = random.Random(10 * talkers + streams)
    for _ in range(40):
        references = [sentence(rng, 5, least=1) for _ in range(talkers)]
        hypotheses = [sentence(rng, 5) for _ in range(streams)]
        row = utterance_errors(references, hypotheses)
        assert row["errors"] == brute_cp(references, hypotheses) == sum(row[kind] for kind in KINDS)
        assert row["words"] == sum(len(r.split()) for r in references)
        # the assignment it names has just these errors
        given = [
            (r, "" if k is None else hypotheses[k])
            for r, k in zip(references, row["assignment"], strict=True)
        ]
        given += [("", hypotheses[k]) for k in row["surplus"]]
        assert sum(distance(r.split(), h.split()) for r, h in given) == row["errors"]
        used = [k for k in row["assignment"] if k is not None]
        assert sorted(used + row["surplus"]) == list(range(streams))
        assert (row["orc"] is None) == (streams in (0, talkers))


@pytest.mark.parametrize(("talkers", "streams"), [(1, 1), (2, 2), (2, 1), (2, 3), (3, 3)])
def test_errors_of_characters_are_those_of_words_of_one_letter(talkers, streams):
    rng = random.Random(talkers + 7 * streams)
    for _ in range(40):
        references = [sentence(rng, 4, least=1) for _ in range(talkers)]
        hypotheses = [sentence(rng, 4) for _ in range(streams)]
        spelt = [[" ".join(text.replace(" ", "")) for text in texts] for texts in (references, hypotheses)]
        found = utterance_errors(references, hypotheses)["characters"]
        assert found["errors"] == brute_cp(*spelt) == sum(found[kind] for kind in KINDS)
        assert found["characters"] == sum(len(text.split()) for text in spelt[0])


def test_characters_do_not_mind_blanks_and_an_unknown_word_is_one():
    row = utterance_errors(["no one", "ten"], ["noone", "te n"])
    assert row["errors"] == 3 and row["characters"]["errors"] == 0
    assert utterance_errors(["ten"], ["<unk>"])["characters"]["errors"] == 3
    # the streams of fewest word errors need not be those of fewest wrong characters
    row = utterance_errors(["a abcdef", "b"], ["a b", "abcdeg"])
    assert (row["assignment"], row["errors"], row["characters"]["errors"]) == ([0, 1], 2, 3)


@pytest.mark.parametrize(("talkers", "streams"), [(2, 4), (2, 3), (1, 4), (3, 2), (2, 5)])
def test_orc_errors_are_the_fewest_of_all_choices(talkers, streams):
    """Silent streams included, with which meeteval alone misses the optimum."""
    rng = random.Random(streams)
    for k in range(60):
        references = [sentence(rng, 4, least=1) for _ in range(talkers)]
        hypotheses = [sentence(rng, 4) for _ in range(streams)]
        if k == 0:
            hypotheses = [""] * streams
        orc = utterance_errors(references, hypotheses)["orc"]
        assert orc["errors"] == brute_orc(references, hypotheses) == sum(orc[kind] for kind in KINDS)
        by_stream = [[] for _ in hypotheses]
        for reference, stream in zip(references, orc["assignment"], strict=True):
            by_stream[stream] += reference.split()
        assert orc["errors"] == sum(map(distance, by_stream, [h.split() for h in hypotheses]))


def test_orc_errors_of_many_long_streams():
    """A recogniser babbles on the six outputs of a hard mixture: a search over all lengths would be 40^6."""
    rng = random.Random(0)
    references = [sentence(rng, 12, least=12) for _ in range(3)]
    hypotheses = [" ".join(sentence(rng, 8, least=8) for _ in range(5)) for _ in range(3)] + references
    orc = utterance_errors(references, hypotheses)["orc"]
    assert orc["errors"] == 120 == sum(orc[kind] for kind in KINDS), "each of the babbled words is one"


def test_silence_and_absence_are_deletions_surplus_is_inserted():
    assert utterance_errors(["A B", "C D"], ["", ""])["deletions"] == 4
    assert utterance_errors(["A B", "C D"], [])["deletions"] == 4
    row = utterance_errors(["A B", "C D"], ["C D"])
    assert (row["deletions"], row["assignment"]) == (2, [None, 0])
    row = utterance_errors(["A B"], ["X Y Z", "A B"])
    assert (row["insertions"], row["assignment"], row["surplus"]) == (3, [1], [0])
    assert row["orc"]["errors"] == 3
    assert utterance_errors(["a, b!"], ["A-B"])["errors"] == 0


def test_order_of_the_streams_does_not_matter():
    rng = random.Random(1)
    for _ in range(50):
        references = [sentence(rng, 6, least=1) for _ in range(2)]
        first, second = sentence(rng, 6), sentence(rng, 6)
        both = [utterance_errors(references, h)["errors"] for h in ([first, second], [second, first])]
        assert both[0] == both[1]


def test_meeteval_says_nothing(caplog, capfd):
    utterance_errors(["A B", "C"], ["A", "C", "D"])
    assert not caplog.records and capfd.readouterr() == ("", "")


# --- alignments


def test_alignments_show_what_was_counted():
    rng = random.Random(2)
    for _ in range(100):
        reference, hypothesis = sentence(rng, 6, least=1), sentence(rng, 6)
        pairs = align(reference, hypothesis)
        assert " ".join(a for a, _ in pairs if a) == reference
        assert " ".join(b for _, b in pairs if b) == hypothesis
        marks = [mark(pair) for pair in pairs]
        row = utterance_errors([reference], [hypothesis])
        assert [marks.count(m) for m in "IDS"] == [row[kind] for kind in KINDS]
    assert align("", "") == [] and align("* A", "A") == [("*", None), ("A", "A")]


def test_alignments_are_readable():
    row = {"id": "u1", **utterance_errors(["one two", "six seven eight"], ["six eleven", "", "one oh two"])}
    assert readable(row) == (
        "u1: 3 errors, 5 words (1 insertions 1 deletions 1 substitutions)\n"
        "  talker 1 = stream 3\n"
        "    REF ONE ** TWO\n"
        "    HYP ONE OH TWO\n"
        "            I\n"
        "  talker 2 = stream 1\n"
        "    REF SIX SEVEN  EIGHT\n"
        "    HYP SIX ELEVEN *****\n"
        "            S      D\n"
        "  surplus stream 2, silent\n"
    )


# --- rates


def test_intervals_in_closed_form():
    rng = np.random.default_rng(0)
    errors, words = rng.integers(0, 5, 200), np.full(200, 8)
    rate, (low, high) = word_error_rate(errors, words, 0)
    assert rate == pytest.approx(100 * errors.sum() / words.sum())
    assert high - low == pytest.approx(2 * 1.96 * 100 * (errors / 8).std() / 200**0.5, rel=0.05)
    # one word in ten wrong everywhere: however long the utterances are, nothing is uncertain
    words = 10 * rng.integers(1, 5, 200)
    assert word_error_rate(words // 10, words, 0) == (10, pytest.approx((10, 10)))
    # the difference of two systems whose errors differ alike
    difference, bounds = word_error_rate((errors + 2) - errors, np.full(200, 8), 0)
    assert difference == 25 and bounds == pytest.approx((25, 25))


def test_rates_are_of_all_words():
    rows = [utterance_errors(["A B C"], ["A B C"]), utterance_errors(["A"], ["B C"])]
    found = rates(rows, 0)
    assert (found["words"], found["errors"], found["cpwer"]) == (4, 2, 50)
    assert found["cpwer_ci"] == [0, 200] and found["orcwer"] is None is found["orcwer_ci"]


# --- a test set


N = 30


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A test set of 30 mixtures, the last with one talker, and what was recognised of it."""
    monkeypatch.chdir(tmp_path)
    rng = random.Random(3)
    said = {f"u{k:02d}": [sentence(rng, 6, least=1) for _ in range(2)] for k in range(N)}
    said["u29"][1] = ""
    data = tmp_path / "data/test"
    for name in ("wav.scp", "spk1.scp", "spk2.scp"):
        write_scp(data / name, {key: f"{key}.wav" for key in said})
    for k in (0, 1):
        write_scp(data / f"text_spk{k + 1}", {key: texts[k] for key, texts in said.items()})
    scenes = ({"id": key, "talkers": [{}] * sum(map(bool, texts))} for key, texts in said.items())
    (data / "scenes.jsonl").write_text("".join(json.dumps(scene) + "\n" for scene in scenes))
    decode("oracle", {key: [worse(rng, text) for text in texts] for key, texts in said.items()})
    decode("mixture", {key: [worse(rng, " ".join(texts))] * 2 for key, texts in said.items()})
    # none of them silent: meeteval's command line fails on that, see frontend/wer.py
    outputs = {
        key: [*(text or "ONE" for text in texts), *(sentence(rng, 2, least=1) for _ in range(2))]
        for key, texts in said.items()
    }
    decode("teacher_outputs", outputs)
    write_segments(Path("decoded/ref.seglst.json"), segments(said, seconds(said)))
    return tmp_path


def worse(rng, text):
    """A text with about every fourth word deleted, replaced or doubled."""
    changed = [
        rng.choice(["", rng.choice(WORDS), f"{w} {w}"]) if rng.random() < 0.25 else w for w in text.split()
    ]
    return " ".join(" ".join(changed).split())


def seconds(texts):
    return {key: [2.5] * len(streams) for key, streams in texts.items()}


def decode(system, texts):
    info = {"system": system, "asr": "exp/x/asr", "asr_fingerprint": "abc"}
    write_hypotheses(Path("decoded") / system, texts, seconds(texts), info)


def count(monkeypatch, *options, expect=0):
    call(monkeypatch, "--data", "data/test", "--decoded", "decoded", "--out", "wer", *options, expect=expect)


def call(monkeypatch, *options, expect=0):
    assert exit_code("wer", *options) == expect


def counted(system):
    about = json.loads(Path(f"wer/{system}.json").read_text())
    return about, [json.loads(line) for line in Path(f"wer/{system}.jsonl").read_text().splitlines()]


def cli(measure, system):
    """Average and rows of meeteval's own command line on the files that lie beside our counts."""
    files = ["-r", "wer/ref.seglst.json", "-h", f"wer/{system}.hyp.seglst.json"]
    outs = ["--average-out", "average.json", "--per-reco-out", "rows.json"]
    command_line = [sys.executable, "-m", "meeteval.wer", measure, *files, *outs]
    subprocess.run(command_line, check=True, capture_output=True)
    return json.loads(Path("average.json").read_text()), json.loads(Path("rows.json").read_text())


def scrawled(rng, text):
    """The same words as somebody else may write them; silence as noise."""
    if not text:
        return rng.choice(["", "<noise>", "..."])
    spellings = [str, str.lower, "<noise> {}".format, "'{}',".format, "{}\u00a0-".format]
    return " ".join(rng.choice(spellings)(word) for word in text.split())


def scrawl(rng):
    """Rewrite references and hypotheses of the recipe so, with silent streams among more than talkers."""
    for k in (1, 2):
        path = Path(f"data/test/text_spk{k}")
        texts = {x.split()[0]: " ".join(x.split()[1:]) for x in path.read_text().splitlines()}
        texts["u05"] = ["ONE", "FOUR"][k - 1]
        write_scp(path, {key: text and scrawled(rng, text) for key, text in texts.items()})
    for system in ("oracle", "mixture", "teacher_outputs"):
        texts = read_hypotheses(f"decoded/{system}")
        if system == "teacher_outputs":
            texts = {key: [rng.choice([text, ""]) for text in row] for key, row in texts.items()}
            texts["u03"] = [""] * 4
            texts["u05"] = ["THREE FOUR TWO", "", "ONE TWO", "TWO TWO"]  # meeteval finds 6 errors, not 5
        decode(system, {key: [scrawled(rng, text) for text in row] for key, row in texts.items()})


@pytest.mark.parametrize(
    ("measure", "system"),
    [("cpwer", "oracle"), ("cpwer", "mixture"), ("cpwer", "teacher_outputs"), ("orcwer", "teacher_outputs")],
)
def test_counts_are_those_of_meetevals_command_line(recipe, monkeypatch, measure, system):
    """Whatever spelling the recogniser and the corpus have."""
    pytest.importorskip("simplejson", reason="meeteval's command line reads SegLST with simplejson")
    scrawl(random.Random(5))
    raw = Path("data/test/text_spk1").read_text() + Path(f"decoded/{system}/text_spk1").read_text()
    assert "one" in raw and "<noise>" in raw and "'," in raw
    count(monkeypatch)
    about, rows = counted(system)
    average, by_id = cli(measure, system)
    assert about[measure] == pytest.approx(100 * average["error_rate"], abs=1e-3) and about["errors"] > 0
    assert about["words"] == average["length"]
    assert {row["id"] for row in rows} == by_id.keys()
    for row in rows:
        found = row["orc"] if measure == "orcwer" else row
        theirs = by_id[row["id"]]
        assert [found[key] for key in COUNTS] == [theirs[key] for key in COUNTS], row["id"]
        assert row["words"] == theirs["length"]


def test_a_perfect_separator_is_the_oracle_and_no_separator_the_mixture(recipe, monkeypatch):
    """The oracle's streams in swapped order; the mixture's on both streams."""
    oracle, mixture = read_hypotheses("decoded/oracle"), read_hypotheses("decoded/mixture")
    rng = random.Random(4)
    decode("perfect", {key: rng.sample(texts, 2) for key, texts in oracle.items()})
    decode("lazy", {key: [texts[0]] * 2 for key, texts in mixture.items()})
    assert read_hypotheses("decoded/perfect") != oracle
    count(monkeypatch)
    for same, row in (("perfect", "oracle"), ("lazy", "mixture")):
        a, b = counted(same)[0], counted(row)[0]
        assert (a["errors"], a["cpwer"], a["cpwer_ci"]) == (b["errors"], b["cpwer"], b["cpwer_ci"])
    assert counted("mixture")[0]["cpwer"] > 2 * counted("oracle")[0]["cpwer"] > 0


def test_what_is_written(recipe, monkeypatch, capsys):
    count(monkeypatch, "--nj", "2")
    about, rows = counted("teacher_outputs")
    assert (about["system"], about["data"], about["asr"]) == ("teacher_outputs", "data/test", "exp/x/asr")
    assert (about["streams"], about["n"], about["normaliser"]) == (4, N, list(RULES))
    assert (
        about["orcwer"] <= about["cpwer"]
        and about["orcwer_ci"][0] <= about["orcwer"] <= about["orcwer_ci"][1]
    )
    assert [row["id"] for row in rows] == [f"u{k:02d}" for k in range(N)]
    assert rows[29]["references"] == [open("data/test/text_spk1").read().splitlines()[29][4:]]
    assert len(rows[0]["hypotheses"]) == 4 and len(rows[0]["surplus"]) == 2
    text = Path("wer/teacher_outputs.txt").read_text()
    assert text.count("surplus stream") == 2 * N + 1 and text.count("talker 1 = ") == N
    assert counted("oracle")[0]["orcwer"] is None and counted("oracle")[1][0]["orc"] is None
    assert f"oracle: cpWER {counted('oracle')[0]['cpwer']:.1f} % of" in capsys.readouterr().out


def test_only_what_changed_is_counted_again(recipe, monkeypatch, capsys):
    count(monkeypatch)
    before = {p.name: p.stat().st_mtime_ns for p in Path("wer").iterdir()}
    count(monkeypatch)
    assert "3 systems, 3 of them counted before" in capsys.readouterr().out
    decode("oracle", {f"u{k:02d}": ["ONE", ""] for k in range(N)})
    Path("wer/mixture.txt").unlink()
    count(monkeypatch)
    changed = {
        p.name.split(".")[0] for p in Path("wer").iterdir() if before.get(p.name) != p.stat().st_mtime_ns
    }
    assert changed == {"oracle", "mixture"}
    Path("data/test/text_spk1").write_text(Path("data/test/text_spk1").read_text().replace("ONE", "TWO"))
    count(monkeypatch)
    assert "3 systems, 0 of them counted before" in capsys.readouterr().out


def test_the_texts_that_were_compared_are_kept(recipe, monkeypatch, capsys):
    scrawl(random.Random(5))
    count(monkeypatch)
    references, heard = Path("wer/ref.seglst.json"), Path("wer/teacher_outputs.hyp.seglst.json")
    rows = counted("teacher_outputs")[1]
    listed = json.loads(references.read_text())
    assert [s["words"] for s in listed] == [text for row in rows for text in row["references"]]
    assert {(s["start_time"], s["end_time"]) for s in listed} == {(0.0, 2.5)}
    found = {(s["session_id"], s["speaker"]): s["words"] for s in json.loads(heard.read_text())}
    streams = {(r["id"], f"spk{k}"): t for r in rows for k, t in enumerate(r["hypotheses"], 1)}
    spoken = {key for key, text in streams.items() if text}
    unheard = {row["id"] for row in rows} - {key for key, _ in spoken}
    assert "u03" in unheard and len(spoken) < 3 * N
    assert found == {key: streams[key] for key in spoken | {(key, "spk1") for key in unheard}}
    # what is gone is made again, and nothing else
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in Path("wer").iterdir()}
    references.unlink()
    count(monkeypatch)
    assert "3 systems, 3 of them counted before" in capsys.readouterr().out
    heard.unlink()
    count(monkeypatch)
    assert "3 systems, 2 of them counted before" in capsys.readouterr().out
    after = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in Path("wer").iterdir()}
    assert {name: data for name, (data, _) in after.items()} == {k: data for k, (data, _) in before.items()}
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {references.name} | {name for name in after if name.startswith("teacher_outputs.")}
    assert load_words(Path("wer")).keys() == {"oracle", "mixture", "teacher_outputs"}


def edit(path, change):
    path = Path(path)
    path.write_text(change(path.read_text()))


DAMAGES = {
    "text_spk2: expected what talker 2 says, found no such file": lambda: os.remove("data/test/text_spk2"),
    "text_spk2: u03: expected what talker 2 of the scene says, found nothing": lambda: edit(
        "data/test/text_spk2",
        lambda t: "".join(f"{x.split()[0]}\n" if x[:3] == "u03" else x for x in t.splitlines(True)),
    ),
    "text_spk1: u03: expected words, found '...'": lambda: edit(
        "data/test/text_spk1",
        lambda t: "".join("u03 ...\n" if x[:3] == "u03" else x for x in t.splitlines(True)),
    ),
    "u29: expected a talker with a text, found none": lambda: (
        os.remove("data/test/scenes.jsonl"),
        edit(
            "data/test/text_spk1",
            lambda t: "".join("u29\n" if x[:3] == "u29" else x for x in t.splitlines(True)),
        ),
    ),
    "text_spk1: id u00 of wav.scp is missing": lambda: edit(
        "data/test/text_spk1", lambda t: t.split("\n", 1)[1]
    ),
    "decoded/mixture: has no hypothesis of utterance u00 of data/test": lambda: [
        edit(f"decoded/mixture/text_spk{k}", lambda t: t.split("\n", 1)[1]) for k in (1, 2)
    ],
    "decoded/mixture: has a hypothesis of unknown utterance u99": lambda: [
        edit(f"decoded/mixture/text_spk{k}", lambda t: t + "u99 ONE\n") for k in (1, 2)
    ],
    "text_spk2: utterance u00 is not in it and in text_spk1 alike": lambda: edit(
        "decoded/mixture/text_spk2", lambda t: t.split("\n", 1)[1]
    ),
    "decoded/oracle/info.json: expected a file": lambda: os.remove("decoded/oracle/info.json"),
    "decoded/oracle/hyp.seglst.json: expected a file": lambda: os.remove("decoded/oracle/hyp.seglst.json"),
    "decoded/oracle/hyp.seglst.json: not of the streams of text_spk1": lambda: os.remove(
        "decoded/oracle/text_spk2"
    ),
    "decoded/ref.seglst.json: expected SegLST with times": lambda: edit(
        "decoded/ref.seglst.json", lambda t: t.replace("end_time", "end")
    ),
    "decoded/ref.seglst.json: nothing said in utterance u29": lambda: edit(
        "decoded/ref.seglst.json", lambda t: t.replace("u29", "u30")
    ),
    "expected a directory with a directory per system": lambda: os.rename("decoded", "elsewhere"),
}


@pytest.mark.parametrize("expected", DAMAGES)
def test_bad_input_is_one_line_and_counts_nothing(recipe, monkeypatch, capsys, expected):
    DAMAGES[expected]()
    count(monkeypatch, expect=2)
    error = capsys.readouterr().err
    assert error.startswith("mixit wer: error: ") and error.count("\n") == 1 and expected in error
    assert not Path("wer").exists()


# --- two systems


NUMBER = r"([+-]?[\d.]+)"


def test_two_systems_compared(recipe, monkeypatch, capsys):
    count(monkeypatch)
    capsys.readouterr()
    call(monkeypatch, "--compare", "oracle", "mixture", "--out", "wer")
    (line,) = capsys.readouterr().out.splitlines()
    pattern = rf"oracle - mixture: cpWER {NUMBER} - {NUMBER} = {NUMBER} points "
    pattern += rf"\(95 % interval {NUMBER} to {NUMBER}\), n = 30 utterances, {NUMBER} % relative"
    a, b, difference, low, high, relative = map(float, re.fullmatch(pattern, line).groups())
    (oracle, ours), (mixture, theirs) = counted("oracle"), counted("mixture")
    assert (a, b) == (round(oracle["cpwer"], 1), round(mixture["cpwer"], 1))
    less = np.array([x["errors"] - y["errors"] for x, y in zip(ours, theirs, strict=True)])
    words = np.array([row["words"] for row in ours])
    assert difference == pytest.approx(100 * less.sum() / words.sum(), abs=0.051) and difference < -20
    assert relative == pytest.approx(100 * (oracle["errors"] / mixture["errors"] - 1), abs=0.051)
    # the deviation of a ratio of means, to first order
    spread = 100 * np.sqrt(((less - words * less.sum() / words.sum()) ** 2).sum()) / words.sum()
    assert (low, high) == pytest.approx((difference - 1.96 * spread, difference + 1.96 * spread), abs=3)
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.15)
    call(monkeypatch, "--compare", "mixture", "oracle", "--out", "wer")
    turned = f"= {-difference:+.1f} points (95 % interval {-high:+.1f} to {-low:+.1f})"
    assert turned in capsys.readouterr().out


def test_compared_with_no_errors_and_by_others(recipe, monkeypatch, capsys):
    lines = [Path(f"data/test/text_spk{k}").read_text().splitlines() for k in (1, 2)]
    decode("right", {x[:3]: [x[4:], y[4:]] for x, y in zip(*lines, strict=True)})
    edit("decoded/right/info.json", lambda t: t.replace("abc", "def"))
    count(monkeypatch)
    capsys.readouterr()
    call(monkeypatch, "--compare", "oracle", "right", "--out", "wer")
    out = capsys.readouterr().out
    assert "- 0.0 = +" in out and out.endswith("no errors to compare with; heard by different recognisers\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--compare", "oracle", "mixtur"],
            "wer: no word errors of a system 'mixtur' (did you mean 'mixture'?)",
        ),
        (["--compare", "x", "mixture"], "of a system 'x'; there are mixture, oracle, teacher_outputs"),
        (["--compare", "oracle", "mixture", "--out", "no"], "'oracle' (run the stage 'wer' first)"),
        (["--compare", "oracle", "mixture", "--data", "d"], "--compare counts nothing: leave --data out"),
        (["--decoded", "decoded"], "--data: expected a directory to count from, found none"),
        ([], "--data and --decoded: expected"),
    ],
)
def test_mistakes_in_comparing(recipe, monkeypatch, capsys, options, message):
    count(monkeypatch)
    before = {p: p.stat().st_mtime_ns for p in Path(".").rglob("*")}
    capsys.readouterr()
    call(monkeypatch, "--out", "wer", *options, expect=2)
    out, err = capsys.readouterr()
    assert not out and err.startswith("mixit wer: error: ") and err.count("\n") == 1 and message in err
    assert {p: p.stat().st_mtime_ns for p in Path(".").rglob("*")} == before


def test_help_tells_of_both_uses(monkeypatch, capsys):
    call(monkeypatch, "--help")
    text = capsys.readouterr().out
    assert "--data DIR --decoded DIR --out DIR" in text and "--compare A B --out DIR" in text
