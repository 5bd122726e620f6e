"""Word errors of test sets and whole recordings: against meeteval's command line; what is counted again."""

import itertools
import json
import os
import random
import re
from pathlib import Path

import meeteval.wer.__main__ as meeteval_commands
import numpy as np
import pytest
from commands import exit_code
from words import WORDS, distance, sentence

from frontend.data.kaldi import write_scp
from frontend.data.segments import in_rttm, in_seglst, in_stm
from frontend.evaluation.measured import load_words
from frontend.evaluation.wer import rates, word_error_rate
from frontend.recognition.text import (
    COUNTS,
    RULES,
    read_hypotheses,
    segments,
    utterance_errors,
    write_hypotheses,
    write_segments,
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
    reference_texts = {f"u{k:02d}": [sentence(rng, 6, least=1) for _ in range(2)] for k in range(N)}
    reference_texts["u29"][1] = ""
    data = tmp_path / "data/test"
    for name in ("wav.scp", "spk1.scp", "spk2.scp"):
        write_scp(data / name, {key: f"{key}.wav" for key in reference_texts})
    for k in (0, 1):
        write_scp(data / f"text_spk{k + 1}", {key: texts[k] for key, texts in reference_texts.items()})
    scenes = ({"id": key, "talkers": [{}] * sum(map(bool, texts))} for key, texts in reference_texts.items())
    (data / "scenes.jsonl").write_text("".join(json.dumps(scene) + "\n" for scene in scenes))
    decode("oracle", {key: [worse(rng, text) for text in texts] for key, texts in reference_texts.items()})
    decode("mixture", {key: [worse(rng, " ".join(texts))] * 2 for key, texts in reference_texts.items()})
    # none of them silent: meeteval's command line fails on that, see evaluation/wer.py
    outputs = {
        key: [*(text or "ONE" for text in texts), *(sentence(rng, 2, least=1) for _ in range(2))]
        for key, texts in reference_texts.items()
    }
    decode("teacher_outputs", outputs)
    write_segments(Path("decoded/ref.seglst.json"), segments(reference_texts, seconds(reference_texts)))
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


def count(*options, expect=0):
    call("--data", "data/test", "--decoded", "decoded", "--out", "wer", *options, expect=expect)


def call(*options, expect=0):
    assert exit_code("wer", *options) == expect


def counted(system):
    about = json.loads(Path(f"wer/{system}.json").read_text())
    return about, [json.loads(line) for line in Path(f"wer/{system}.jsonl").read_text().splitlines()]


def by_meeteval(measure, reference, hypothesis, **options):
    """Average and rows of what meeteval's command of that name writes."""
    outs = {"average_out": "average.json", "per_reco_out": "rows.json"}
    getattr(meeteval_commands, measure)(reference, hypothesis, **outs, **options)
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


def test_counts_are_those_of_meetevals_command_line(recipe):
    """Whatever spelling the recogniser and the corpus have, of the texts that lie beside the counts."""
    pytest.importorskip("simplejson", reason="meeteval's command line reads SegLST with simplejson")
    scrawl(random.Random(5))
    raw = Path("data/test/text_spk1").read_text() + Path("decoded/oracle/text_spk1").read_text()
    assert "one" in raw and "<noise>" in raw and "'," in raw
    count()
    names = ("oracle", "mixture", "teacher_outputs")
    for measure, system in [*(("cpwer", name) for name in names), ("orcwer", "teacher_outputs")]:
        about, rows = counted(system)
        average, by_id = by_meeteval(measure, "wer/ref.seglst.json", f"wer/{system}.hyp.seglst.json")
        assert about[measure] == pytest.approx(100 * average["error_rate"], abs=1e-3) and about["errors"] > 0
        assert about["words"] == average["length"]
        assert {row["id"] for row in rows} == by_id.keys()
        for row in rows:
            found = row["orc"] if measure == "orcwer" else row
            theirs = by_id[row["id"]]
            assert [found[key] for key in COUNTS] == [theirs[key] for key in COUNTS], row["id"]
            assert row["words"] == theirs["length"]


def test_a_perfect_separator_is_the_oracle_and_no_separator_the_mixture(recipe):
    """The oracle's streams in swapped order; the mixture's on both streams."""
    oracle, mixture = read_hypotheses("decoded/oracle"), read_hypotheses("decoded/mixture")
    rng = random.Random(4)
    decode("perfect", {key: rng.sample(texts, 2) for key, texts in oracle.items()})
    decode("lazy", {key: [texts[0]] * 2 for key, texts in mixture.items()})
    assert read_hypotheses("decoded/perfect") != oracle
    count()
    for same, row in (("perfect", "oracle"), ("lazy", "mixture")):
        a, b = counted(same)[0], counted(row)[0]
        assert (a["errors"], a["cpwer"], a["cpwer_ci"]) == (b["errors"], b["cpwer"], b["cpwer_ci"])
    assert counted("mixture")[0]["cpwer"] > 2 * counted("oracle")[0]["cpwer"] > 0


def test_what_is_written(recipe, capsys):
    count()
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
    assert f"oracle: cpWER {counted('oracle')[0]['cpwer']:.1f} % [" in capsys.readouterr().out


def test_only_what_changed_is_counted_again(recipe, capsys):
    count()
    before = {p.name: p.stat().st_mtime_ns for p in Path("wer").iterdir()}
    count()
    assert "3 systems, 3 of them current" in capsys.readouterr().out
    decode("oracle", {f"u{k:02d}": ["ONE", ""] for k in range(N)})
    Path("wer/mixture.txt").unlink()
    count()
    changed = {
        p.name.split(".")[0] for p in Path("wer").iterdir() if before.get(p.name) != p.stat().st_mtime_ns
    }
    assert changed == {"oracle", "mixture"}
    Path("data/test/text_spk1").write_text(Path("data/test/text_spk1").read_text().replace("ONE", "TWO"))
    count()
    assert "3 systems, 0 of them current" in capsys.readouterr().out


def test_the_texts_that_were_compared_are_kept(recipe, capsys):
    scrawl(random.Random(5))
    count()
    references, hypotheses = Path("wer/ref.seglst.json"), Path("wer/teacher_outputs.hyp.seglst.json")
    rows = counted("teacher_outputs")[1]
    listed = json.loads(references.read_text())
    assert [s["words"] for s in listed] == [text for row in rows for text in row["references"]]
    assert {(s["start_time"], s["end_time"]) for s in listed} == {(0.0, 2.5)}
    found = {(s["session_id"], s["speaker"]): s["words"] for s in json.loads(hypotheses.read_text())}
    streams = {(r["id"], f"spk{k}"): t for r in rows for k, t in enumerate(r["hypotheses"], 1)}
    spoken = {key for key, text in streams.items() if text}
    empty = {row["id"] for row in rows} - {key for key, _ in spoken}
    assert "u03" in empty and len(spoken) < 3 * N
    assert found == {key: streams[key] for key in spoken | {(key, "spk1") for key in empty}}
    # what is gone is made again, and nothing else
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in Path("wer").iterdir()}
    references.unlink()
    count()
    assert "3 systems, 3 of them current" in capsys.readouterr().out
    hypotheses.unlink()
    count()
    assert "3 systems, 2 of them current" in capsys.readouterr().out
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
    "text_spk2: u03 has no words, but its scene has a talker": lambda: edit(
        "data/test/text_spk2",
        lambda t: "".join(f"{x.split()[0]}\n" if x[:3] == "u03" else x for x in t.splitlines(True)),
    ),
    "text_spk1: u03 has no words, but the text '...'": lambda: edit(
        "data/test/text_spk1",
        lambda t: "".join("u03 ...\n" if x[:3] == "u03" else x for x in t.splitlines(True)),
    ),
    "data/test/scenes.jsonl: u00: expected talkers, found none": lambda: edit(
        "data/test/scenes.jsonl", lambda t: t.replace('"u00", "talkers"', '"u00", "speakers"')
    ),
    "text_spk1: nobody says anything in u29": lambda: (
        edit("data/test/scenes.jsonl", lambda t: t.replace('"u29", "talkers": [{}]', '"u29", "talkers": []')),
        edit(
            "data/test/text_spk1",
            lambda t: "".join("u29\n" if x[:3] == "u29" else x for x in t.splitlines(True)),
        ),
    ),
    "text_spk1: id u00 of wav.scp:1 is missing": lambda: edit(
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
def test_bad_input_is_one_line_and_counts_nothing(recipe, capsys, expected):
    DAMAGES[expected]()
    count(expect=2)
    error = capsys.readouterr().err
    assert error.startswith("mixit wer: error: ") and error.count("\n") == 1 and expected in error
    assert not Path("wer").exists()


# --- two systems


NUMBER = r"([+-]?[\d.]+)"


def test_two_systems_compared(recipe, capsys):
    count()
    capsys.readouterr()
    call("--compare", "oracle", "mixture", "--out", "wer")
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
    call("--compare", "mixture", "oracle", "--out", "wer")
    turned = f"= {-difference:+.1f} points (95 % interval {-high:+.1f} to {-low:+.1f})"
    assert turned in capsys.readouterr().out


def test_compared_with_no_errors_and_by_others(recipe, capsys):
    lines = [Path(f"data/test/text_spk{k}").read_text().splitlines() for k in (1, 2)]
    decode("right", {x[:3]: [x[4:], y[4:]] for x, y in zip(*lines, strict=True)})
    edit("decoded/right/info.json", lambda t: t.replace("abc", "def"))
    count()
    capsys.readouterr()
    call("--compare", "oracle", "right", "--out", "wer")
    out = capsys.readouterr().out
    assert "- 0.0 = +" in out and out.endswith(
        "no errors to compare with; recognised by different recognisers\n"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--compare", "oracle", "mixtur"],
            "wer: no word errors of a system 'mixtur' (did you mean 'mixture'?)",
        ),
        (["--compare", "x", "mixture"], "of a system 'x'; there are mixture, oracle, teacher_outputs"),
        (["--compare", "oracle", "mixture", "--out", "no"], "'oracle' (run the stage 'wer' first)"),
        (["--compare", "oracle", "mixture", "--data", "d"], "--data is not expected with --compare"),
        (["--decoded", "decoded"], "--data: expected a value, found none (without --compare A B)"),
        ([], "--data: expected a value, found none"),
    ],
)
def test_mistakes_in_comparing(recipe, capsys, options, message):
    count()
    before = {p: p.stat().st_mtime_ns for p in Path(".").rglob("*") if p.is_file()}
    capsys.readouterr()
    call("--out", "wer", *options, expect=2)
    out, err = capsys.readouterr()
    assert not out and err.startswith("mixit wer: error: ") and err.count("\n") == 1 and message in err
    assert {p: p.stat().st_mtime_ns for p in Path(".").rglob("*") if p.is_file()} == before


def test_help_tells_of_both_uses(capsys):
    call("--help")
    text = capsys.readouterr().out
    assert "--data DIR --decoded DIR --out DIR" in text and "--compare A B --out DIR" in text


# --- whole recordings

ROWS = [
    {"session_id": "r1", "speaker": "a", "start_time": 0.5, "end_time": 1.25, "words": "ONE TWO"},
    {"session_id": "r1", "speaker": "b", "start_time": 1.0, "end_time": 2.0, "words": "THREE"},
    {"session_id": "r2", "speaker": "a", "start_time": 0.0, "end_time": 3.0, "words": ""},
]


def random_rows(session: str, seed: int, speakers: int, turns: int) -> list[dict]:
    rng, rows = np.random.default_rng(seed), []
    for k in range(turns):
        words = " ".join(rng.choice(["one", "TWO", "three!"], rng.integers(1, 4)))
        who = {"session_id": session, "speaker": f"s{rng.integers(speakers)}"}
        rows.append({**who, "start_time": 2.0 * k, "end_time": 2.0 * k + 1, "words": words})
    return rows


def count_long(command, tmp_path, ref, hyp, *more) -> tuple[dict, list[dict], str]:
    """Count a file of one system; return sums, rows and what was printed."""
    (tmp_path / "ref.json").write_text(in_seglst(ref))
    (tmp_path / "hyp.stm").write_text(in_stm(hyp))
    files = ["--ref", tmp_path / "ref.json", "--decoded", tmp_path / "hyp.stm", "--out", tmp_path / "wer"]
    code, out, err = command("wer", *files, *more)
    assert code == 0, err
    rows = [json.loads(line) for line in (tmp_path / "wer/hyp.jsonl").read_text().splitlines()]
    return json.loads((tmp_path / "wer/hyp.json").read_text()), rows, out


def test_errors_of_recordings_are_those_of_the_best_permutation(command, tmp_path, monkeypatch):
    ref = random_rows("r1", 0, 2, 12) + random_rows("r2", 1, 2, 12)
    hyp = random_rows("r1", 2, 3, 10) + random_rows("r2", 3, 2, 14)
    found, rows, out = count_long(command, tmp_path, ref, hyp)
    texts = [{}, {}]
    for side, segs in zip(texts, (ref, hyp), strict=True):
        for row in segs:
            words = row["words"].upper().replace("!", "").split()
            side.setdefault(row["session_id"], {}).setdefault(row["speaker"], []).extend(words)
    for row in rows:
        a, b = (list(side[row["id"]].values()) for side in texts)
        a += [[]] * (len(b) - len(a))
        orders = itertools.permutations(b + [[]] * (len(a) - len(b)))
        best = min(sum(map(distance, a, order)) for order in orders)
        assert row["errors"] == best
        assert row["orc"]["errors"] <= best <= row["tcp"]["errors"]
    total, words = (sum(row[key] for row in rows) for key in ("errors", "words"))
    assert found["cpwer"] == pytest.approx(100 * total / words, abs=1e-3)
    low, high = found["cpwer_ci"]
    assert low <= found["cpwer"] <= high and low < high
    assert f"hyp: cpWER {100 * total / words:.1f} % [" in out
    # meeteval's own command counts the same of the same texts
    monkeypatch.chdir(tmp_path)
    for name, segs in (("r", ref), ("h", hyp)):
        plain = [{**row, "words": row["words"].upper().replace("!", "")} for row in segs]
        Path(f"{name}.stm").write_text(in_stm(plain))
    for measure, place, options in (
        ("cpwer", None, {}),
        ("tcpwer", "tcp", {"collar": 5}),
        ("orcwer", "orc", {}),
    ):
        theirs = by_meeteval(measure, "r.stm", "h.stm", **options)[0]
        assert theirs["errors"] == sum((row[place] if place else row)["errors"] for row in rows), measure


def test_late_words_are_wrong_by_tcpwer_alone(command, tmp_path):
    late = [{**row, **{k: row[k] + 60 for k in ("start_time", "end_time")}} for row in ROWS[:2]]
    found, _, out = count_long(command, tmp_path, ROWS[:2], late)
    assert (found["cpwer"], found["tcpwer"], found["orcwer"]) == (0, 200, 0) and "tcpWER 200.0 %" in out
    assert found["cpwer_ci"] is None, "one recording has no interval"
    assert "hyp: 1 systems" not in count_long(command, tmp_path, ROWS[:2], late)[2], "nothing changed"
    assert count_long(command, tmp_path, ROWS[:2], late, "--collar", 70)[0]["tcpwer"] == 0


def test_orcwer_is_left_out_where_it_would_take_for_ever(command, tmp_path):
    rows = random_rows("r1", 0, 2, 12)
    found, _, out = count_long(command, tmp_path, rows, rows, "--orc_cells", 100)
    assert found["orcwer"] is None and "ORC-WER left out" in out and found["errors"] == 0


def test_nothing_recognised_is_all_deleted(command, tmp_path):
    _, (row,), _ = count_long(command, tmp_path, ROWS[:2], [{**ROWS[0], "words": ""}])
    for counts in (row, row["orc"], row["tcp"]):
        assert counts["deletions"] == 3 == counts["errors"]


def test_a_directory_per_system(command, tmp_path):
    (tmp_path / "ref.stm").write_text(in_stm(ROWS[:2]))
    for name, rows in (("good", ROWS[:2]), ("bad", ROWS[:1])):
        (tmp_path / "words" / name).mkdir(parents=True)
        (tmp_path / "words" / name / "hyp.seglst.json").write_text(in_seglst(rows))
    options = ["--ref", tmp_path / "ref.stm", "--out", tmp_path / "wer", "--decoded"]
    assert command("wer", *options, tmp_path / "words")[0] == 0
    rates_of = [json.loads((tmp_path / f"wer/{name}.json").read_text())["cpwer"] for name in ("good", "bad")]
    assert rates_of == [0, pytest.approx(100 / 3, abs=1e-3)]
    assert "2 systems, 2 of them current" in command("wer", *options, tmp_path / "words")[1]
    assert "1 systems, 1 of them current" in command("wer", *options, tmp_path / "words/good")[1]


def test_recordings_of_one_file_alone_are_one_line(command, tmp_path):
    (tmp_path / "a.json").write_text(in_seglst(ROWS[:2]))
    (tmp_path / "b.json").write_text(in_seglst([{**ROWS[0], "session_id": "r9"}]))
    (tmp_path / "c.json").write_text(in_seglst(ROWS))
    (tmp_path / "d.rttm").write_text(in_rttm(ROWS))
    (tmp_path / "e.json").write_text(in_seglst(ROWS[2:]))
    for ref, hyp, message in (
        ("a.json", "b.json", "has no session 'r1'"),
        ("e.json", "c.json", "session 'r2': expected words, found none"),
        ("d.rttm", "a.json", "found RTTM, which has no words"),
        ("none.json", "a.json", "expected a SegLST file, found no such file"),
    ):
        files = ["--ref", tmp_path / ref, "--decoded", tmp_path / hyp, "--out", tmp_path / "wer"]
        code, _, err = command("wer", *files)
        assert code == 2 and message in err, err


@pytest.mark.parametrize(
    ("ref", "recordings", "message"),
    [
        (ROWS[:2], ["r1"], None),
        (ROWS[:2], ["r1_"], "wav.scp: has no recording 'r1', which {tmp}/ref.json has (did you mean 'r1_'?)"),
        (ROWS[2:], ["r1", "r2"], "ref.json: session 'r2': expected words, found none"),
        ([], ["r1"], "found none (empty file?)"),
        ("r1 1 a zero 1 WORD", ["r1"], "not JSON"),
    ],
)
def test_transcripts_are_checked_before_the_work(command, tmp_path, ref, recordings, message):
    (tmp_path / "ref.json").write_text(ref if isinstance(ref, str) else in_seglst(ref))
    (tmp_path / "wav.scp").write_text("".join(f"{name} {name}.wav\n" for name in recordings))
    files = ["--transcripts", tmp_path / "ref.json", "--scp", tmp_path / "wav.scp"]
    code, out, err = command("wer --check", *files)
    if message is None:
        assert code == 0 and "3 words" in out
    else:
        assert code == 2 and message.format(tmp=tmp_path) in err and len(err.splitlines()) == 1, err


# --- files as corpora and people make them

GAP = "ignore_time_segment_in_scoring"
SAID = "m1 1 A 0.5 2 <o,f0,male> hello world\nm1 1 B 1 3 <o,f0,female> good morning\n"
FOUND = "m1 1 s1 0.5 2 hello world\nm1 1 s2 1 3 good morning\n"


def count_stm(command, tmp_path, ref, hyp, *more) -> tuple[int, dict, list[dict], str]:
    for name, text in (("ref", ref), ("hyp", hyp)):
        content = text if isinstance(text, bytes) else text.encode()
        (tmp_path / f"{name}.stm").write_bytes(content)
    files = ["--ref", tmp_path / "ref.stm", "--decoded", tmp_path / "hyp.stm", "--out", tmp_path / "wer"]
    code, _, err = command("wer", *files, *more)
    if code:
        return code, {}, [], err
    rows = [json.loads(line) for line in (tmp_path / "wer/hyp.jsonl").read_text().splitlines()]
    return code, json.loads((tmp_path / "wer/hyp.json").read_text()), rows, err


@pytest.mark.parametrize(
    ("ref", "hyp", "words", "errors"),
    [
        (b"\xef\xbb\xbf" + SAID.encode(), FOUND, 4, 0),
        (SAID.replace("\n", "\r\n").encode("utf-16"), FOUND, 4, 0),
        # NIST's stretches that do not count, whatever the speaker; what is recognised in them counts neither
        (f"m1 1 inter_segment_gap 0 0.5 <o,,unknown> {GAP}\n{SAID}", FOUND, 4, 0),
        (f"m1 1 C 3 3.5 <o,,> {GAP.upper()}\n{SAID}", f"{FOUND}m1 1 s1 3.1 3.4 noise noise\n", 4, 0),
        (f"m1 1 C 3 3.2 {GAP}\nm1 1 C 3.2 3.5 {GAP}\n{SAID}", f"{FOUND}m1 1 s1 3.1 3.4 noise\n", 4, 0),
        (f"m1 1 C 3 3.5 {GAP}\n{SAID}", f"{FOUND}m1 1 s1 3.1 3.8 noise\n", 4, 1),
        # ... but where somebody says a word it counts
        (f"m1 1 C 0 9 {GAP}\n{SAID}", FOUND.replace("world", "word"), 4, 1),
        # either, and words that may be left out
        (SAID.replace("hello", "{ hi / hello }"), FOUND, 4, 0),
        (SAID.replace("hello", "{ hello / hi }"), FOUND.replace("hello", "hi"), 4, 0),
        (SAID.replace("hello", "{ hi / good {day / evening} }"), FOUND, 4, 1),
        (SAID.replace("hello", "{ @ / um } hello"), FOUND, 4, 0),
        (SAID.replace("hello", "(uh) hello"), FOUND, 4, 0),
        (SAID.replace("hello", "(uh) hello"), FOUND.replace("hello", "uh hello"), 5, 0),
        (SAID.replace("hello", "{BREATH} hello"), FOUND, 4, 0),
        (SAID.replace("hello", "<unk>"), FOUND, 4, 1),
    ],
)
def test_conventions_of_stm(command, tmp_path, ref, hyp, words, errors):
    code, found, (row,), err = count_stm(command, tmp_path, ref, hyp)
    assert code == 0 and (found["words"], found["errors"]) == (words, errors), row
    assert row["tcp"]["errors"] == row["orc"]["errors"] == errors and row["talkers"] == 2 and not err


def test_recordings_of_one_side_alone_are_named_and_not_counted(command, tmp_path):
    more = SAID.replace("m1", "m2") + SAID.replace("m1", "m3")
    _, found, rows, err = count_stm(command, tmp_path, SAID + more, FOUND + FOUND.replace("m1", "x9"))
    assert [row["id"] for row in rows] == ["m1"] and found["errors"] == 0 and found["n"] == 1
    first, second = err.splitlines()
    assert first.startswith("warning: ") and "hyp.stm: has no session 'm2'" in first and "1 more" in first
    assert "ref.stm: has no session 'x9'" in second
    code, _, _, err = count_stm(command, tmp_path, SAID + more, FOUND, "--strict")
    assert code == 2 and "hyp.stm: has no session 'm2'" in err


def test_a_recording_without_words_counts_what_is_recognised_there(command, tmp_path):
    ref = SAID + "m2 1 A 0 3\n"
    _, found, rows, err = count_stm(command, tmp_path, ref, FOUND + "m2 1 s1 1 2 oh no\n")
    assert [(row["words"], row["insertions"], row["errors"]) for row in rows] == [(4, 0, 0), (0, 2, 2)]
    assert (found["cpwer"], found["orcwer"], found["tcpwer"], found["cpwer_ci"]) == (50, 50, 50, None)
    assert "session 'm2': expected words, found none" in err and len(err.splitlines()) == 1
    assert count_stm(command, tmp_path, ref, FOUND, "--strict")[0] == 2
    code, _, _, err = count_stm(command, tmp_path, "m2 1 A 0 3\n", FOUND.replace("m1", "m2"))
    assert code == 2 and "expected words, found none" in err


def test_lines_that_are_none_are_counted_and_named(command, tmp_path):
    ref = f"nothing\n{SAID}\n   \nm1 1 A 5 4 late\nm1 1 A five 6 late\n"
    code, found, _, err = count_stm(command, tmp_path, ref, FOUND)
    assert code == 0 and found["errors"] == 0 and len(err.splitlines()) == 1
    for part in ("2 segments used", "1 of another form", "ref.stm:1: expected 'session", "2 that cannot be"):
        assert part in err, err
    assert "ref.stm:6: expected 0 <= start <= end" in err
    code, _, _, err = count_stm(command, tmp_path, ref, FOUND, "--strict")
    assert code == 2 and "ref.stm:1: expected 'session" in err


def test_systems_with_other_forms_of_an_alternative_are_compared(command, tmp_path):
    (tmp_path / "ref.stm").write_text(SAID.replace("hello", "{ hello / hi there }"))
    for name, said in (("a", "hello"), ("b", "hi there")):
        rows = [{**row, "words": row["words"].replace("hello", said)} for row in read_segments_of(FOUND)]
        (tmp_path / "words" / name).mkdir(parents=True)
        (tmp_path / "words" / name / "hyp.seglst.json").write_text(in_seglst(rows))
    files = ["--ref", tmp_path / "ref.stm", "--decoded", tmp_path / "words", "--out", tmp_path / "wer"]
    assert command("wer", *files)[0] == 0
    code, out, err = command("wer", "--compare", "a", "b", "--out", tmp_path / "wer")
    assert code == 0, err


def read_segments_of(stm: str) -> list[dict]:
    fields = [line.split(maxsplit=5) for line in stm.splitlines()]
    keys = ("session_id", "speaker", "start_time", "end_time", "words")
    return [dict(zip(keys, (f[0], f[2], float(f[3]), float(f[4]), f[5]), strict=True)) for f in fields]
