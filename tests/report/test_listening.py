"""The page to listen to, from a small experiment made by hand: files, rules, and a real browser."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from browser import browser
from html_pages import Parsed, check_document
from PIL import Image
from tiny_models import write

import frontend.report.listening as listening
from frontend.data.kaldi import write_scp, write_set
from frontend.data.writers import AudioWriter
from frontend.evaluation.measured import Scores
from frontend.evaluation.without_references import spectrogram_db
from frontend.recognition.text import utterance_errors
from frontend.report.listening import choose_utterances, main_system, write_listening_page
from frontend.report.plots import write_spectrogram
from frontend.separation.systems import System
from frontend.utils.errors import UserError
from frontend.utils.rng import generator

FS, SECONDS = 8000, 0.5
IDS = [f"u{k}" for k in range(6)]
ALONE, LOUD = "u2", "u4"  # one talker; a stream beyond full scale
TEXTS = [
    ["ONE TWO", "THREE"],
    ['A<B> & "Q"', "FOUR"],
    ["FIVE SIX", ""],
    ["SEVEN", "EIGHT"],
    ["TEN", "ONE"],
    ["TWO", "ZERO"],
]
RECOGNISED = {  # of u0 and of all others, per stream
    "student": (["THREE", "ONE NOT TWO"], ["FIVE", ""]),
    "teacher_energy": (["ONE", "SIX"], ["", ""]),
    "mixture": (["ONE THREE", "ONE THREE"], ["FIVE", "FIVE"]),
    "oracle": (["ONE TWO", "THREE"], ["FIVE SIX", ""]),
    "dry": (["ONE TWO", "THREE"], ["FIVE SIX", "EIGHT"]),
}
GAINS = [9.0, -1.0, 10.5, 4.0, 4.0, 2.0]
SYSTEMS = [
    System("mixture"),
    System("teacher_energy", model="teacher", rule="energy"),
    System("student", model="student"),
    System("oracle"),
]


def signal(*name):
    return 0.1 * generator(0, "/".join(name), "signal").standard_normal(round(FS * SECONDS))


def make_experiment(root: Path, words: bool = True) -> Path:
    """Write a test set, streams, scores and, if wanted, word errors below ``root``."""
    data, exp = root / "data/x/test", root / "exp/mini"
    tables = {name: {} for name in ("wav", "spk1", "spk2")}
    streams = {(name, k): {} for name in ("student", "teacher_energy") for k in (1, 2)}
    for key in IDS:
        images = np.stack([signal(key, "talker", str(k)) for k in (1, 2)])
        images[1] *= key != ALONE
        for k, image in enumerate(images, 1):
            tables[f"spk{k}"][key] = AudioWriter(data / f"image{k}", "wav", FS).write(key, image)
        both = np.stack([images.sum(0), images.sum(0)[::-1]])
        tables["wav"][key] = AudioWriter(data / "mix", "wav", FS).write(key, both)
        for (name, k), table in streams.items():
            stream = signal(key, name, str(k)) * (15 if (key, name, k) == (LOUD, "student", 1) else 1)
            table[key] = write(exp / f"separated/test/{name}/wav{k}/{key}.wav", stream[None], FS, "FLOAT")
    tables = {f"{name}.scp": table for name, table in tables.items()}
    for k in (0, 1):
        tables[f"text_spk{k + 1}"] = {key: texts[k] for key, texts in zip(IDS, TEXTS, strict=True)}
    write_set(data, tables, records=map(scene, IDS))
    for (name, k), table in streams.items():
        write_scp(exp / f"separated/test/{name}/spk{k}.scp", table)
    for system in SYSTEMS:
        write_rows(exp / "scores", system.name, [score(key, system.name) for key in IDS], {"data": str(data)})
    for name, (first, other) in RECOGNISED.items() if words else ():
        rows = []
        for key, texts in zip(IDS, TEXTS, strict=True):
            rows.append(
                {"id": key, **utterance_errors([t for t in texts if t], first if key == "u0" else other)}
            )
        write_rows(exp / "wer", name, rows, {})
    return exp


def scene(key):
    talkers = [{"level_db": 0.0}, {"level_db": -1.25}]
    noise = {"kind": "babble", "snr_db": 18.2}
    return {"id": key, "t60": 0.3, "measured": {"t60": 0.352}, "talkers": talkers, "noise": noise}


def score(key, name):
    count = 1 if key == ALONE else 2
    gain = GAINS[IDS.index(key)] + {"student": 0, "teacher_energy": -3}.get(name, -9)
    values = [None if name == "oracle" else gain + k for k in (-0.5, 0.5)[:count]]
    return {"id": key, "permutation": [1, 0][:count], "silent": [], "si_snri": values}


def write_rows(directory, name, rows, about):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.json").write_text(json.dumps({"system": name, **about}))
    (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_results(words=True, **changes):
    names = ["mixture", "teacher_energy", "student", "student_ft", "oracle", "dry"]
    rows = []
    for name, gain, errors in zip(
        names, [0.0, -1.25, 10.2, 9.1, None, None], [90.5, 100.0, 9.2, None, 4.0, 1.0], strict=True
    ):
        row = {"system": name, "channels": 4, "si_snri": gain, "si_snri_ci": None, "sdr": gain, "stoi": None}
        row |= {"pesq": None, "cpwer": errors if words else None, "cpwer_ci": None, "rtf": None, "n": 6}
        if gain is not None:
            row["si_snri_ci"] = [gain - 1, gain + 1]
        rows.append(row | ({"label_share": 0.04} if name == "student_ft" else {}))
    results = {"experiments": ["mini"], "quick": False, "command": './run.sh --corpus "<x>"', "commit": None}
    results |= {
        "date": "2026-01-01 00:00 UTC",
        "versions": {"python": "3.11"},
        "machine": "a, 2 cores",
        "seed": 0,
    }
    results |= {"stages": {"data": 1.0}, "rows": rows, "pictures": {}}
    results["test_sets"] = [
        {"experiment": "mini", "data": "d", "n": 6, "talkers": 2, "channels": 4, "fs": FS}
    ]
    return results | changes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page of the experiment, made once."""
    root = tmp_path_factory.mktemp("listen")
    exp = make_experiment(root)
    Image.new("RGB", (640, 300), "white").save(root / "curves.png")
    write_listening_page(exp / "report", make_results(pictures={"curves": "curves.png"}), exp, SYSTEMS, root)
    return exp / "report"


def test_document_is_sound_and_complete(folder):
    page = check_document(folder)
    assert page.all("title")[0][2].endswith("mini")


def test_text_is_escaped(folder):
    texts = [e[2] for e in Parsed(folder / "report.html").all("dd")]
    assert 'A<B> & "Q"' in texts  # a talker's words
    assert './run.sh --corpus "<x>"' in texts


def test_every_clip_is_the_stream_at_the_stated_gain(folder):
    page = Parsed(folder / "report.html")
    assert len(page.all("details", "example")) == len(IDS)
    for number in range(1, len(IDS) + 1):
        files = folder / f"report_files/{number:02d}"
        key = next(k for k in IDS if same(files / "mixture.wav", signal_of(k, "mixture")))
        played = {p.stem: soundfile.read(p, dtype="int16") for p in files.glob("*.wav")}
        assert len(played) == (6 if key == ALONE else 7)
        gain = min(1, 32767 / 32768 / max(np.abs(signal_of(key, stem)).max() for stem in played))
        assert (gain < 1) == (key == LOUD)
        for stem, (samples, rate) in played.items():
            assert rate == FS
            np.testing.assert_allclose(samples / 32768, gain * signal_of(key, stem), atol=0.51 / 32768)
    stated = [float(e[1]["data-gain"]) for e in page.elements if "data-gain" in e[1]]
    loud = np.abs(signal_of(LOUD, "student-1")).max()
    assert sorted(stated)[1:] == [1.0] * 5 and min(stated) == pytest.approx(32767 / 32768 / loud, rel=1e-6)
    assert f"turned down by {-20 * np.log10(min(stated)):.1f} dB" in (folder / "report.html").read_text()


def signal_of(key, stem):
    """What a clip has to be, from how the experiment was made."""
    name, _, k = stem.rpartition("-")
    images = [
        np.rint(32768 * signal(key, "talker", str(j)) * (key != ALONE or j == 1)) / 32768 for j in (1, 2)
    ]
    if stem == "mixture":
        return (
            np.rint(32768 * (signal(key, "talker", "1") + signal(key, "talker", "2") * (key != ALONE)))
            / 32768
        )
    if name == "reference":
        return images[int(k) - 1]
    return signal(key, name, k).astype(np.float32) * (15 if (key, stem) == (LOUD, "student-1") else 1)


def same(path, wanted):
    samples = soundfile.read(path, dtype="int16")[0] / 32768
    return np.corrcoef(samples, wanted)[0, 1] > 0.999


def test_words_and_errors_are_those_counted(folder):
    """Each block marks as many insertions, deletions and substitutions as its system was charged with."""
    text = (folder / "report.html").read_text()
    examples = re.split(r'<details class="example"', text)[1:]
    assert len(examples) == len(IDS)
    seen = 0
    for example in examples:
        key = re.search(r"<h3>(.*?)</h3>", example)[1]
        for block in re.split(r'<section class="system">', example)[1:]:
            title = re.search(r"<h4>(.*?)</h4>", block)[1]
            name = {"references": "oracle", "clean dry speech": "dry"}.get(title, title)
            row = next(r for r in rows_of(folder.parent / "wer", name) if r["id"] == key)
            marks = [len(re.findall(f"<{tag}>", block)) for tag in ("ins", "del", "mark")]
            assert marks == [row["insertions"], row["deletions"], row["substitutions"]], (key, name)
            assert f"word errors {row['errors']} of {row['words']}" in block
            seen += 1
    assert seen == len(IDS) * len(RECOGNISED)


def rows_of(directory, name):
    return [json.loads(line) for line in (directory / f"{name}.jsonl").read_text().splitlines()]


def captions(folder, key, system):
    """``{caption: [words as shown]}`` of one block."""
    page = (folder / "report.html").read_text()
    example = next(part for part in page.split("<details ") if f"<h3>{key}</h3>" in part)
    block = next(part for part in example.split("<section ") if f"<h4>{system}</h4>" in part)
    found = {}
    for figure in block.split("<figure>")[1:]:
        lines = re.findall(r'<p class="words">(.*?)</p>', figure, re.S)
        caption = re.search("<figcaption>(.*?)</figcaption>", figure)[1]
        found[caption] = [" ".join(re.sub("<.*?>", "", line).split()) for line in lines]
    return found


def test_streams_stand_with_their_talkers_and_words(folder):
    assert captions(folder, "u0", "student") == {
        "talker 1, stream 2: SI-SNRi 8.5 dB": ["recognised: ONE ins NOT TWO"],
        "talker 2, stream 1: SI-SNRi 9.5 dB": ["recognised: THREE"],
    }
    # The best SI-SNR and the fewest word errors disagree about who is who.
    assert captions(folder, "u0", "teacher_energy") == {
        "talker 1, stream 2: SI-SNRi 5.5 dB": ["recognised, counted as talker 2: sub SIX for THREE"],
        "talker 2, stream 1: SI-SNRi 6.5 dB": ["recognised, counted as talker 1: ONE del TWO"],
    }
    assert captions(folder, "u2", "student") == {
        "talker 1, stream 2: SI-SNRi 10.0 dB": ["recognised, of no talker: (nothing recognised)"],
        "no talker, stream 1": ["recognised, counted as talker 1: FIVE del SIX"],
    }
    assert captions(folder, "u0", "mixture") == {
        "reference channel": ["as talker 1: ONE sub THREE for TWO", "as talker 2: ins ONE THREE"]
    }


def slow_choice(gains, errors, most):
    """The rule of the page, implemented again and slowly."""
    ids = sorted(k for k in gains if gains[k] == gains[k])

    def place(values, key):
        less = sum(values[k] < values[key] for k in ids)
        return less + (1 + sum(values[k] == values[key] for k in ids)) / 2

    rising = [k for _, k in sorted((gains[k], k) for k in ids)]
    kinds = {
        "best": [k for _, k in sorted((-gains[k], k) for k in ids)],
        "median": sorted(ids, key=lambda k: (abs(rising.index(k) - (len(ids) - 1) / 2), rising.index(k))),
        "worst": rising,
    }
    if errors:
        minus = {k: -gains[k] for k in ids}
        kinds["disagree"] = sorted(ids, key=lambda k: (-abs(place(minus, k) - place(errors, k)), k))
    chosen = {}
    turn = 0
    while len(chosen) < most and len(chosen) < len(ids):
        kind = list(kinds)[turn % len(kinds)]
        chosen[next(k for k in kinds[kind] if k not in chosen)] = kind
        turn += 1
    return chosen


@pytest.mark.parametrize("case", range(8))
def test_utterances_are_chosen_by_the_stated_rule(case):
    rng = generator(case, "choice", "case")
    ids = [f"k{n:03d}" for n in rng.permutation(int(rng.integers(1, 40)))]
    gains = {k: float(np.round(rng.normal(), 0 if case % 2 else 3)) for k in ids}  # with and without ties
    errors = {k: int(rng.integers(0, 4)) / 5 for k in ids} if case % 3 else {}
    if case > 4:
        gains[ids[0]] = float("nan")
    chosen = choose_utterances(gains, errors)
    assert list(chosen.items()) == list(slow_choice(gains, errors, 8).items())
    if len(ids) > 9:
        counts = [list(chosen.values()).count(kind) for kind in ("best", "median", "worst", "disagree")]
        assert counts == ([2, 2, 2, 2] if errors else [3, 3, 2, 0])


def test_systems_are_chosen_by_the_stated_rule():
    def scored(**gains):
        rows = {name: [{"id": "a", "si_snri": [gain]}] for name, gain in gains.items()}
        return {name: Scores({}, value) for name, value in rows.items()}

    systems = [System("mixture"), System("ilrma", blind="ilrma"), System("other", model="other")]
    systems += [
        System("selected", model="t", rule="oracle"),
        System("full", model="f", labels="full"),
        System("oracle"),
    ]
    assert (
        main_system(scored(mixture=0.0, ilrma=2.0, other=3.0, selected=8.0, full=9.0, oracle=None), systems)
        == "other"
    )
    assert main_system(scored(mixture=0.0, ilrma=2.0, other=None), systems) == "ilrma"
    assert main_system(scored(mixture=0.0, full=9.0, oracle=None), systems) == "full"
    assert main_system(scored(student=1.0, other=9.0), systems) == "student"


def test_spectrogram_shows_a_tone_and_its_level(tmp_path):
    time = np.arange(FS) / FS
    levels = spectrogram_db(0.5 * np.sin(2 * np.pi * 1000 * time), FS)
    assert levels.shape == (129, 126)  # 31.25 Hz and 8 ms a bin
    assert (levels.argmax(0)[2:-2] == 32).all()
    # A sine of amplitude a has a line of a / 2 on either side.
    np.testing.assert_allclose(levels[32, 2:-2], 20 * np.log10(0.25), atol=0.01)
    write_spectrogram(tmp_path / "tone.png", levels, levels.max())
    image = Image.open(tmp_path / "tone.png")
    assert image.size == (126, 129)
    indices = np.array(image)
    assert indices[128 - 32, 60] == 63 and indices[0, 60] == 0
    colours = np.array(image.convert("RGB")).astype(int)[[128 - 32, 0], 60]
    assert colours[0].sum() > 3 * 200 > 3 * 20 > colours[1].sum() and colours[0, 0] > colours[0, 2]


def test_spectrogram_of_silence_and_of_long_and_short_signals(tmp_path):
    for length in (1, 100, FS * 60):
        levels = spectrogram_db(np.zeros(length), FS)
        assert levels.shape[0] == 129 and 1 <= levels.shape[1] <= 480
        write_spectrogram(tmp_path / "silence.png", levels, levels.max())
        assert not np.array(Image.open(tmp_path / "silence.png")).any()
    noise = signal("noise")
    power = [np.mean(10 ** (spectrogram_db(np.tile(noise, k), FS) / 10)) for k in (2, 40)]
    assert power[0] == pytest.approx(power[1], rel=0.05)  # averaging columns keeps the power


def test_same_inputs_same_bytes_and_old_pages_go(folder, tmp_path):
    exp = folder.parent
    out = tmp_path / "page"
    (out / "report_files").mkdir(parents=True)
    (out / "report_files/old.wav").write_text("of a run before")
    results = make_results(pictures={"curves": "curves.png"})
    assert write_listening_page(out, results, exp, SYSTEMS, exp.parents[1]) == out / "report.html"
    assert contents(out) == contents(folder)
    assert [p.name for p in tmp_path.iterdir()] == ["page"]


def contents(directory):
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_runs_without_words_show_none(tmp_path):
    exp = make_experiment(tmp_path, words=False)
    results = make_results(words=False, quick=True)
    text = write_listening_page(exp / "report", results, exp, SYSTEMS, tmp_path).read_text()
    body = text[text.index("</style>") : text.index("<script>")]
    assert not re.search("WER|word errors|recognised|<ins>|<del>|<mark>|disagree|clean dry", body)
    assert "numbers mean nothing" in body and body.count("<audio") == 6 * 7 - 1


def test_talkers_and_words_are_counted_as_scores_are(tmp_path):
    """A constant is silence; an utterance without words, such as UM, has no word error rate."""
    exp = make_experiment(tmp_path)
    constant = np.full(round(FS * SECONDS), 0.01)
    AudioWriter(tmp_path / "data/x/test/image2", "wav", FS).write(ALONE, constant)
    rows = [
        row | ({"errors": 1, "words": 0} if row["id"] == "u5" else {})
        for row in rows_of(exp / "wer", "student")
    ]
    write_rows(exp / "wer", "student", rows, {})
    text = write_listening_page(exp / "report", make_results(), exp, SYSTEMS, tmp_path).read_text()
    assert text.count("<audio") == 6 * 7 - 1 and "word errors 1 of 0" in text
    assert text.count("student has rank") == 5


def test_long_recordings_mean_fewer_utterances(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(listening, "MOST_BYTES", 3 * 7 * 2 * round(FS * SECONDS))
    text = write_listening_page(
        tmp_path / "page", make_results(), folder.parent, SYSTEMS, tmp_path
    ).read_text()
    assert text.count('class="example"') == 3 and "3 test utterances of" in text
    monkeypatch.setattr(listening, "MOST_BYTES", 1)
    text = write_listening_page(
        tmp_path / "page", make_results(), folder.parent, SYSTEMS, tmp_path
    ).read_text()
    assert text.count('class="example"') == 1


def _drop_line(path):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


MISTAKES = {
    "scores miss an utterance": (
        lambda exp: _drop_line(exp / "scores/student.jsonl"),
        "stage 'score' has nothing of u5",
    ),
    "words miss an utterance": (
        lambda exp: _drop_line(exp / "wer/dry.jsonl"),
        "stage 'wer' has nothing of u5 for dry",
    ),
    "streams miss an utterance": (
        lambda exp: _drop_line(exp / "separated/test/student/spk2.scp"),
        "no stream of utterance u5",
    ),
    "a stream is gone": (lambda exp: (exp / "separated/test/student/wav1/u0.wav").unlink(), "wav1/u0.wav"),
    "a stream is cut": (
        lambda exp: AudioWriter(exp / "separated/test/student/wav1", "wav", FS).write("u0", np.ones(9) / 9),
        "expected 1 channel of 4000 samples at 8000 Hz, as the mixture, found",
    ),
    "words are of other talkers": (
        lambda exp: write_scp(exp.parents[1] / "data/x/test/text_spk2", {key: "ONE" for key in IDS}),
        "word errors of u2 are of 1 talkers",
    ),
    "no scores": (
        lambda exp: [p.unlink() for p in (exp / "scores").iterdir()],
        "no score of any listed system",
    ),
    "something else lies there": (
        lambda exp: write_rows(exp / "report", "x", [], {}),
        "holds x.json, which would be lost",
    ),
    "a file lies there": (lambda exp: (exp / "report").write_text(""), "expected a directory to make"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, mistake):
    spoil, message = MISTAKES[mistake]
    exp = make_experiment(tmp_path)
    spoil(exp)
    before = {p for p in exp.rglob("*")}
    with pytest.raises(UserError, match=re.escape(message)) as raised:
        write_listening_page(exp / "report", make_results(), exp, SYSTEMS, tmp_path)
    assert "\n" not in str(raised.value)
    assert {p for p in exp.rglob("*")} == before


def luminance(colour):
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return np.dot(linear, [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_have_contrast(scheme):
    """WCAG 2.1, 1.4.3: text has a contrast of at least 4.5 with what is behind it."""
    css = (Path(listening.__file__).parent / "templates/style.css").read_text()
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", css.split("prefers-color-scheme: dark")[scheme]))
    pairs = [(a, b) for a in ("text", "muted", "accent") for b in ("ground", "card", "shade")]
    pairs += [(f"{name}-text", name) for name in ("ins", "del", "sub", "warning")]
    for pair in pairs:
        low, high = sorted(luminance(colours[name]) for name in pair)
        assert (high + 0.05) / (low + 0.05) >= 4.5, pair


def test_browser_plays_everything(folder):
    """Sound and pictures load without an error or another request; one player at a time; the page fits."""
    with browser() as page:
        page.open(folder / "report.html")
        count = page.run("document.querySelectorAll('audio').length")
        assert count == 6 * 7 - 1
        page.run("document.querySelectorAll('audio').forEach(a => { a.preload = 'auto'; a.load(); })")
        page.until("[...document.querySelectorAll('audio')].every(a => a.readyState >= 2 || a.error)")
        lengths = "[...document.querySelectorAll('audio')].map(a => a.error ? a.error.message : a.duration)"
        assert page.run(lengths) == [SECONDS] * count
        page.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        page.run("document.querySelectorAll('img').forEach(i => { i.loading = 'eager'; })")
        page.until("[...document.images].every(i => i.complete)")
        assert page.run("[...document.images].every(i => i.naturalWidth > 0)")

        page.run("window.a = document.querySelectorAll('audio'); a[0].loop = true; a[0].play()")
        page.until("a[0].currentTime > 0")
        page.run("document.querySelectorAll('.picture')[1].id = 'second'")
        page.click("#second")
        page.until("a[0].paused && (a[1].currentTime > 0 || a[1].ended)")

        page.resize(360, 740)
        assert (
            page.run("document.documentElement.scrollWidth") <= 360
        )  # a phone: the table scrolls in its box
        home = folder.resolve().as_uri()
        # The browser draws the buttons of its players from data: addresses of its own.
        assert all(url.startswith((home, "data:image/svg")) for url in page.requests)
        assert page.errors == []
