"""The report on recordings without references, from streams made by hand."""

import json
import re

import numpy as np
import pytest
import soundfile
from browser import browser
from html_pages import check_document
from tiny_models import FS, recording, write

from frontend.data.kaldi import write_scp
from frontend.report import recordings as reporting
from frontend.report.pages import limits, recordings_table, render
from frontend.report.recordings import busiest, choose_recordings
from frontend.utils.rng import generator

TEACHER = {"loss": -4.5, "active_outputs": 2.25, "surplus": 0.125, "n": 3}


@pytest.mark.parametrize(("talkers", "streams"), [(2, 2), (2, 6), (6, 6), (7, 5)])
def test_the_page_shows_the_activity_of_any_number_of_streams(talkers, streams):
    shares = {n: [round(1 / (n + 1), 5)] * (n + 1) for n in (2, streams)}
    rows = {
        name: {
            "residual_db": -10.0,
            "leakage": 0.1,
            "seconds": 60.0,
            "activity": {"speech_s": 50.0, "streams": [0.5] * n, "number": shares[n]},
            "spatial": None,
        }
        for name, n in (("auxiva", 2), ("student", streams))
    }
    made = dict.fromkeys(("command", "commit", "date", "machine"), "x") | {"stages": {}, "versions": {}}
    about = {"recordings": {"a": 60.0}, "channels": 4, "fs": FS, "talkers": talkers, "seed": 0, "made": made}
    systems = {name: {"rtf": 0.1, "all": row, "recordings": {"a": row}} for name, row in rows.items()}
    report = {**about, "systems": systems, "wer": {}, "teacher": {}}
    text = render("report.md.j2", results=report)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    header = next(line for line in lines if line[0] == "system")
    active = [column for column in header if column.endswith("active, %")]
    assert len(active) == max(talkers, streams) + 1 == len(set(active))
    assert active[:3] == ["no active, %", "one active, %", "two active, %"]
    for name, n in (("auxiva", 2), ("student", streams)):
        row = dict(zip(header, next(line for line in lines if line[0] == f"`{name}`"), strict=True))
        shown = [row[column] for column in active]
        assert shown == [f"{100 / (n + 1):.0f}"] * (n + 1) + ["—"] * (len(active) - n - 1)
    table = [line.split() for line in recordings_table(report).splitlines()]
    assert table[1] == "auxiva - - - - - 0.10 0.100".split()


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """Two recordings of two channels, two streams a system, and a teacher whose loss is known."""
    monkeypatch.setattr("frontend.report.recordings.validate_teacher", lambda *given: TEACHER)
    wav = {}
    for k, name in enumerate("ab"):
        wav[name] = write(tmp_path / f"{name}.wav", recording((20 + k) * FS, seed=k))
    write_scp(tmp_path / "wav.scp", wav)
    for system, share in (("mixture", 1.0), ("student+mask", 0.5)):
        folder = tmp_path / "out" / system
        for stream in (1, 2):
            entries = {}
            for k, name in enumerate("ab"):
                signal = share * recording((20 + k) * FS, seed=k)[:1]
                entries[name] = write(folder / f"wav/{name}_spk{stream}.wav", signal, subtype="FLOAT")
            write_scp(folder / f"spk{stream}.scp", entries)
        (folder / "info.json").write_text('{"rtf": 0.0125}')
    (tmp_path / "systems.yaml").write_text(
        "mixture: {}\nauxiva: {blind: auxiva}\nstudent+mask: {model: student, refine: mask}\n"
    )
    return tmp_path


def make(command, whole, *more, teacher=("--teacher", "teacher")):
    dev = ["--dev", whole, *teacher] if teacher else []
    return command(
        "report --recordings", "--data", whole, "--separated", whole / "out", "--systems",
        whole / "systems.yaml", *dev, "--out", whole / "report", *more,
    )  # fmt: skip


def test_from_streams_to_the_report(command, whole):
    (whole / "wer").mkdir()
    (whole / "wer/mixture.json").write_text('{"cpwer": 43.2, "cpwer_ci": [40.0, 46.0]}')
    code, out, err = make(command, whole, "--wer", whole / "wer", "--start", "old")
    assert code == 0, err
    report = json.loads((whole / "report/report.json").read_text())
    assert list(report["systems"]) == ["mixture", "student+mask"]
    for row in report["systems"].values():
        assert row["all"]["leakage"] == pytest.approx(1, abs=1e-3) and row["rtf"] == 0.0125
        assert set(row["recordings"]) == {"a", "b"}
    assert report["systems"]["mixture"]["all"]["residual_db"] == pytest.approx(0, abs=1e-3)
    assert report["systems"]["student+mask"]["all"]["residual_db"] < -40
    page = (whole / "report/REPORT.md").read_text()
    assert page == render("report.md.j2", results=report) and str(whole) not in page
    assert "| `mixture` | 43.2 [40.0, 46.0] | 0.0 | 1.00 |" in page
    for teacher in ("start", "teacher"):
        assert f"| {teacher} | -4.50 | 2.25 | 12 | 3 |" in page
    assert "2 recordings, 0.7 min, 2 channels at 8000 Hz; streams for 2 talkers; seed 0." in page
    assert "| a | 20.0 s |" in page and "student+mask" in out


def test_transcripts_of_some_recordings_are_said(command, whole):
    (whole / "wer").mkdir()
    (whole / "wer/mixture.json").write_text('{"cpwer": 43.2, "cpwer_ci": null, "n": 1}')
    code, _, err = make(command, whole, "--wer", whole / "wer")
    assert code == 0, err
    assert "| `mixture` | 43.2 of 1 recordings |" in (whole / "report/REPORT.md").read_text()


def test_no_streams_no_report(command, whole):
    (whole / "systems.yaml").write_text("ilrma: {blind: ilrma}\n")
    code, _, err = make(command, whole)
    assert code == 2 and "expected the streams of systems of" in err
    assert not (whole / "report").exists()


# --- words


def segment(recording, stream, start, words):
    times = {"start_time": start, "end_time": start + 2.0}
    return {"session_id": recording, "speaker": f"spk{stream}", "words": words} | times


@pytest.fixture
def words(whole):
    """What a recogniser wrote: all of the reference channel, and of one stream 200 words."""
    rows = {
        "mixture": [segment(r, k, 1.0, f"<all> | {r}") for r in "ab" for k in (1, 2)],
        "student+mask": [
            segment("a", 1, 1.0, "early"),
            segment("a", 1, 16.0, "late *"),
            segment("a", 2, 3.0, "word " * 200),
            segment("b", 1, 0.0, ""),
        ],
    }
    for system, of in rows.items():
        (whole / "words" / system).mkdir(parents=True)
        (whole / f"words/{system}/hyp.seglst.json").write_text(json.dumps(of))
        (whole / f"words/{system}/info.json").write_text('{"asr": "Whisper tiny"}')
    return whole / "words"


def test_words_stand_system_by_system(command, whole, words):
    code, _, err = make(command, whole, "--words", words, teacher=())
    assert code == 0, err
    page = (whole / "report/REPORT.md").read_text()
    section = page[page.index("## Words") : page.index("## How")]
    assert (
        "What Whisper tiny recognises" in section and page.count("Held-out") == page.count("MixIT loss") == 0
    )
    a, b = section.split("### ")[1:]
    assert re.findall(r"^\| (.*) \|$", a, re.M)[2:] == [
        "mixture | reference channel | <all> \\| a",
        "student+mask | 1 | early late *",
        f"student+mask | 2 | {'word ' * 150}... (the first of 200 words)",
    ]
    assert re.findall(r"^\| (student.*) \|$", b, re.M) == ["student+mask | 1 | —", "student+mask | 2 | —"]


def test_words_of_other_recordings_and_lonely_options_are_refused(command, whole, words):
    for arguments, message in (
        (["--start", "old"], "expected --teacher, found none"),
        (["--dev", whole], "--dev and --teacher belong together"),
        (["--words", whole], "expected words of mixture, student+mask, found none"),
    ):
        code, _, err = make(command, whole, *arguments, teacher=())
        assert code == 2 and message in err, err
    (words / "mixture/hyp.seglst.json").write_text(json.dumps([segment("a", 1, 0.0, "x")]))
    code, _, err = make(command, whole, "--words", words, teacher=())
    assert code == 2 and "mixture/hyp.seglst.json: expected words of 'b', found none" in err
    assert not (whole / "report").exists()


def test_what_is_too_short_is_said():
    short = {"blocks": {"a": 1.41, "b": 2.0}, "directions": {"least_s": 4.0, "recordings": ["c"]}}
    short["activity"] = {"least_s": 2.0, "recordings": ["a", "b", "c"]}
    found = limits({"recordings": dict.fromkeys("abc", 5.0), "short": short})
    assert [line.partition(".")[0] for line in found] == [
        "Too short for blocks of 8 s: a, b",
        "Too short for directions (4 s): c",
        "Too short for activity (2 s of speech): all recordings",
    ]
    assert "of blocks of 1.4 to 2.0 s" in found[0] and limits({"recordings": {}}) == []


# --- the page to listen to


def clips_of(page: str, recording: str) -> dict[str, str]:
    """``{system and title: words}`` of a recording."""
    example = next(part for part in page.split("<details ") if f"<h3>{recording}</h3>" in part)
    found = {}
    for block in example.split('<section class="system">')[1:]:
        system = re.search("<h4>(.*?)</h4>", block)[1]
        for figure in block.split("<figure>")[1:]:
            lines = re.findall(r'<p class="words">(.*?)</p>', figure, re.S)
            caption = re.search("<figcaption>(.*?)</figcaption>", figure)[1]
            found[f"{system}, {caption}"] = " ".join(re.sub("<.*?>", "", " ".join(lines)).split())
    return found


def test_a_page_to_listen_to(command, whole, words):
    """Of b, 21 s long, 20 s are played, of a all; system by system, with the words."""
    code, out, err = make(command, whole, "--words", words, "--listen", whole / "report/report", teacher=())
    assert code == 0 and "To listen to:" in out, err
    folder = whole / "report/report"
    page, text = check_document(folder), (folder / "report.html").read_text()
    assert page.all("title")[0][2] == "Separated recordings: report" and str(whole) not in text
    assert clips_of(text, "a") == {
        "mixture, reference channel": "recognised: &lt;all&gt; | a",
        "student+mask, stream 1": "recognised: early late *",
        "student+mask, stream 2": f"recognised: {'word ' * 200}".strip(),
    }
    assert clips_of(text, "b")["student+mask, stream 2"] == "recognised: (nothing recognised)"
    assert [e[2] for e in page.all("span", "kind")] == ["whole", "0.0 to 20.0 s"]
    for number, name in enumerate("ab", 1):
        samples, rate = soundfile.read(folder / f"report_files/{number:02d}/student+mask-2.wav")
        stream = soundfile.read(whole / f"out/student+mask/wav/{name}_spk2.wav")[0][: 20 * FS]
        assert rate == FS and np.abs(samples - stream).max() < 1e-4
    with browser() as page:
        page.open(folder / "report.html")
        assert page.run("document.querySelectorAll('audio').length") == 6
        page.run("document.querySelectorAll('audio').forEach(a => { a.preload = 'auto'; a.load(); })")
        page.until("[...document.querySelectorAll('audio')].every(a => a.readyState >= 2 || a.error)")
        assert page.run("[...document.querySelectorAll('audio')].map(a => a.duration)") == [20] * 6
        page.resize(360, 740)
        assert page.run("document.documentElement.scrollWidth") <= 360 and page.errors == []


def test_the_page_without_words_and_of_other_systems(command, whole):
    (whole / "systems.yaml").write_text("student+mask: {model: student, refine: mask}\n")
    code, _, err = make(command, whole, "--listen", whole / "page", teacher=())
    assert code == 0, err
    text = (whole / "page/report.html").read_text()
    assert "recognised" not in text[text.index("</style>") :] and text.count("<audio") == 4
    (whole / "page/other").write_text("")
    code, _, err = make(command, whole, "--listen", whole / "page", teacher=())
    assert code == 2 and "holds other, which would be lost" in err


def test_a_constant_stream_is_silent(command, whole):
    write(whole / "out/student+mask/wav/b_spk2.wav", np.full((1, 21 * FS), 0.1), subtype="FLOAT")
    assert make(command, whole, "--listen", whole / "page", teacher=())[0] == 0
    text = (whole / "page/report.html").read_text()
    assert "student+mask, stream 2, silent" in clips_of(text, "b") and "student+mask, stream 2" in clips_of(
        text, "a"
    )


def test_recordings_are_evenly_spaced_and_fit():
    names = [f"r{k}" for k in range(9)]
    assert choose_recordings(dict.fromkeys(names, 1)) == [n for n in names if n != "r4"]
    assert choose_recordings(dict.fromkeys(names, 10), most_bytes=30) == ["r0", "r4", "r8"]
    assert choose_recordings({"a": 50, "b": 5}, most_bytes=30) == ["a"]
    assert choose_recordings({"a": 1, "b": 1}) == ["a", "b"]


def test_an_excerpt_has_the_most_overlap():
    rng = generator(0, "overlap", "test")
    overlaps = rng.integers(0, 6, (3, 60))
    slow = [overlaps[:, k : k + 20].sum() for k in range(41)]
    assert busiest(overlaps.tolist(), 20) == slow.index(max(slow))
    assert busiest([[0] * 60], 20) == busiest([[5] * 7], 20) == busiest([], 20) == 0


def test_the_excerpt_is_where_the_systems_have_two_streams(command, whole, monkeypatch):
    """Of 20 and 21 s, 4 s are played: those in which both streams of the system are active."""
    monkeypatch.setattr(reporting, "EXCERPT_S", 4)
    for k, name in enumerate("ab"):
        signal = recording((20 + k) * FS, seed=k)
        t = np.arange(signal.shape[1]) / FS
        mixture = np.where(t % 10 < 8, signal, 1e-3 * signal)  # with pauses: else nothing is speech
        write(whole / f"{name}.wav", mixture, subtype="FLOAT")
        both = (t >= 11) & (t < 15)
        for stream in (1, 2):
            one = 0.5 * mixture[:1] * (both | (stream == 1))
            write(whole / f"out/student+mask/wav/{name}_spk{stream}.wav", one, subtype="FLOAT")
    assert make(command, whole, "--listen", whole / "page", teacher=())[0] == 0
    text = (whole / "page/report.html").read_text()
    assert re.findall('class="kind">(.*?)<', text) == ["11.0 to 15.0 s"] * 2
