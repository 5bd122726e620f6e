"""The recipe end to end through run.sh, on a tiny set: undisturbed, killed, repeated, misused."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote

import pytest
from speech_sets import make_speech

ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = (
    "mixture auxiva ilrma teacher_outputs teacher_energy teacher_energy_residual teacher_spatial_merge "
    "teacher_oracle student student_ft distilled distilled_ft supervised_small supervised_full oracle dry"
).split()
STAGES = (
    "data scenes simulate teacher pseudo student finetune distill baselines curve "
    "asr retrain joint separate score decode wer conditions mismatch report"
).split()
OFF = ["curve", "retrain", "joint", "conditions", "mismatch"]  # unless asked for
pytestmark = pytest.mark.chain


def _recipe(folder: Path) -> Path:
    """A copy of the recipe, so that its data and experiments lie in the test's own place."""
    shutil.copytree(ROOT / "egs/mini", folder, ignore=shutil.ignore_patterns("data", "exp", "__pycache__"))
    return folder


def _command(recipe: Path, *options: str) -> list[str]:
    return [str(ROOT / "run.sh"), "--recipe_dir", str(recipe), "--size", "tiny", *options]


def _run(recipe: Path, *options: str) -> subprocess.CompletedProcess:
    return subprocess.run(_command(recipe, *options), capture_output=True, text=True, timeout=1200)


def _exp(recipe: Path) -> Path:
    return recipe / "exp/espeak_tiny"


def _rows(recipe: Path) -> list[dict]:
    """What was scored, without what the clock and the machine say."""
    rows = json.loads((_exp(recipe) / "results.json").read_text())["rows"]
    return [{k: v for k, v in row.items() if k not in ("rtf", "peak_memory_mib")} for row in rows]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    recipe = _recipe(tmp_path_factory.mktemp("undisturbed") / "mini")
    done = _run(recipe)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return recipe


def test_the_table_has_every_system(undisturbed):
    results = json.loads((_exp(undisturbed) / "results.json").read_text())
    names = [row["system"] for row in results["rows"]]
    assert [n for n in names if "+" not in n] == SYSTEMS
    assert set(STAGES) - {"report", *OFF} <= set(results["stages"])
    for row in results["rows"]:
        assert row["n"] == 4 and row["channels"] == 4
        assert row["si_snr"] is not None or row["system"] in ("oracle", "dry")
        assert row["cpwer"] is not None and row["words"] > 0
        assert (row["orcwer"] is not None) == (row["system"] == "teacher_outputs")
    page = (_exp(undisturbed) / "RESULTS.md").read_text()
    assert all(name in page for name in names)
    assert "mean nothing" in page
    assert str(undisturbed) not in page and str(ROOT) not in page


def test_the_words_are_meeteval_s(undisturbed):
    """The table's cpWER is what meeteval's own command line counts in the texts that lie beside it."""
    wer = _exp(undisturbed) / "wer"
    row = next(row for row in _rows(undisturbed) if row["system"] == "student")
    about = json.loads((wer / "student.json").read_text())
    command = [sys.executable, "-m", "meeteval.wer", "cpwer", "-r", str(wer / "ref.seglst.json")]
    command += ["-h", str(wer / "student.hyp.seglst.json")]
    command += ["--average-out", "-", "--per-reco-out", os.devnull]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-2000:]
    average = json.loads(found.stdout)
    assert (average["errors"], average["length"]) == (about["errors"], about["words"])
    assert round(100 * average["error_rate"], 4) == round(row["cpwer"], 4)


def test_the_page_to_listen_to(undisturbed):
    folder = _exp(undisturbed) / "report"
    page = (folder / "report.html").read_text()
    assert len(re.findall("<audio", page)) >= 4 and "student" in page
    assert all((folder / unquote(path)).is_file() for path in re.findall(r'src="([^"]+)"', page))
    assert str(undisturbed) not in page and str(ROOT) not in page


def test_a_second_run_does_nothing(undisturbed):
    before = _times(undisturbed)
    again = _run(undisturbed)
    assert again.returncode == 0
    assert again.stdout.count("complete, nothing to do") == len(STAGES) - len(OFF)
    assert [f" {name}: off, " in again.stdout for name in OFF] == [True] * len(OFF)
    assert _times(undisturbed) == before
    assert "student" in again.stdout and "mean nothing" in again.stdout, "the table is shown all the same"


def _times(recipe: Path) -> dict:
    """When each file was written, but for the bookkeeping of the runs."""
    files = [p for p in recipe.rglob("*") if p.is_file() and "stages" not in str(p) and p.name != ".lock"]
    return {p: p.stat().st_mtime_ns for p in files}


def test_one_channel_joins_the_table(undisturbed, tmp_path):
    """With the recogniser that is there, and what can be had beside: a second one, and a row `joint`."""
    recipe = tmp_path / "mini"
    shutil.copytree(undisturbed, recipe, symlinks=True)
    done = _run(recipe, "--channels", "1", "--asr_exp", str(_exp(recipe) / "asr"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "asr: off, another recogniser was given" in done.stdout
    rows = json.loads((_exp(recipe) / "results.json").read_text())["rows"]
    one = [row["system"] for row in rows if row["channels"] == 1]
    assert one == [n for n in SYSTEMS if n not in ("auxiva", "ilrma", "teacher_spatial_merge")]
    assert [row for row in rows if row["channels"] == 4]
    assert all(row["cpwer"] is not None for row in rows)


def test_two_or_three_talkers_without_labels_and_elsewhere(undisturbed, tmp_path):
    """Three options at once: a mixed pool, no supervised row, and test sets of other conditions."""
    recipe = tmp_path / "mini"
    shutil.copytree(undisturbed, recipe, symlinks=True)
    (recipe / "conf/conditions.yaml").write_text("radius_10cm: {array: {radius: 0.1}}\n")
    asr = str(_exp(recipe) / "asr")
    options = ["--talkers", "2-3", "--unsupervised", "true", "--mismatch", "true", "--asr_exp", asr]
    done = _run(recipe, *options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for stage in ("finetune", "distill", "baselines"):
        assert f" {stage}: off, --unsupervised true uses no labels" in done.stdout
    exp = recipe / "exp/espeak_tiny_2-3spk_unsup"
    results = json.loads((exp / "results.json").read_text())
    rows = [row["system"] for row in results["rows"]]
    assert [n for n in rows if "+" not in n] == [
        n for n in SYSTEMS if not re.match("(student_ft|dist|sup)", n)
    ]
    counted = {entry["talkers"] for entry in results["talkers_counted"]}
    assert counted == {1, 2, 3}, "the test set of single talkers is counted too"
    assert "## Talkers counted" in (exp / "RESULTS.md").read_text()
    assert {path.name for path in (exp / "student").glob("valid.loss.ave.pth")}
    page = (exp / "MISMATCH.md").read_text()
    assert "radius_10cm" in page and "matched" in page and str(recipe) not in page
    (exp / "MISMATCH.md").unlink()  # made again, but for the date
    done = _run(recipe, *options, "--stage", "conditions", "--stop_stage", "mismatch")
    assert done.returncode == 0 and "conditions: complete, nothing to do" in done.stdout
    again = (exp / "MISMATCH.md").read_text()
    assert re.sub(r"\| date \|.*", "", again) == re.sub(r"\| date \|.*", "", page)
    done = _run(recipe, *options[:4], "--curve", "true")
    assert done.returncode == 2 and "--asr_train_on separated need labels" in done.stderr


def test_another_training_seed_on_the_same_data(undisturbed, tmp_path):
    """Its own networks and labels, the first run's data, test set and recogniser; with the label curve."""
    recipe = tmp_path / "mini"
    shutil.copytree(undisturbed, recipe, symlinks=True)
    first = _times(recipe)
    done = _run(recipe, "--train_seed", "1", "--curve", "true")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for stage in ("data", "scenes", "simulate"):
        assert f" {stage}: off, those of exp/espeak_tiny are used" in done.stdout
    other = recipe / "exp/espeak_tiny_train1"
    results = json.loads((other / "results.json").read_text())
    rows = {row["system"]: row for row in results["rows"]}
    mine = {row["system"]: row for row in _rows(recipe)}
    assert results["command"].endswith("--train_seed 1 --allow_unknown true --curve true")
    for name in ("mixture", "auxiva", "oracle", "dry"):  # the same test set, the same recogniser
        assert rows[name]["si_snri"] == mine[name]["si_snri"] and rows[name]["cpwer"] == mine[name]["cpwer"]
    assert rows["student"]["si_snri"] != mine["student"]["si_snri"]
    shares = {"student_ft_5": 0.05, "distilled_ft_5": 0.05, "supervised_5": 0.05, "supervised_25": 0.25}
    assert {n: rows[n]["label_share"] for n in shares} == shares and not shares.keys() & mine.keys()
    small = [(recipe / f"data/espeak_tiny{end}/train_small/wav.scp").read_text() for end in ("", "_train1")]
    assert small[0] != small[1], "another choice of labels"
    assert {p: t for p, t in _times(recipe).items() if p in first} == first, "the first run is left alone"


def test_joint_joins_the_table_and_stays(undisturbed, tmp_path):
    recipe = tmp_path / "mini"
    shutil.copytree(undisturbed, recipe, symlinks=True)
    done = _run(recipe, "--joint", "true")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rows = _rows(recipe)
    joint = [row for row in rows if row["system"] == "joint"]
    assert len(joint) == 1 and joint[0]["si_snri"] is not None and joint[0]["cpwer"] is not None
    assert [row for row in rows if row["system"] != "joint"] == _rows(undisturbed)
    again = _run(recipe)
    assert again.returncode == 0 and "joint: complete, nothing to do" in again.stdout
    results = json.loads((_exp(recipe) / "results.json").read_text())
    assert results["command"].endswith("--joint true")
    shutil.rmtree(_exp(recipe) / "joint")
    without = _run(recipe)
    assert without.returncode == 0, without.stdout[-3000:] + without.stderr[-3000:]
    assert _rows(recipe) == _rows(undisturbed)


def test_a_recogniser_that_hears_nothing_labels_nothing(undisturbed, tmp_path):
    """The tiny one cannot say which stream has which text: that is said, and nothing is trained on it."""
    recipe = tmp_path / "mini"
    shutil.copytree(undisturbed, recipe, symlinks=True)
    done = _run(recipe, "--asr_train_on", "separated")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "can be told from the others" in done.stderr
    assert not (_exp(recipe) / "asr_separated").exists()


def _kill_when(recipe: Path, stage: str, sign) -> None:
    """Start the chain; once ``stage`` has begun and ``sign()`` is true, kill all of it."""
    assert not sign(), f"{stage} has begun already"
    process = subprocess.Popen(
        _command(recipe, "--stop_stage", stage),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=(recipe / "stderr").open("w"),
    )
    try:
        deadline = time.monotonic() + 600
        while not sign():
            assert process.poll() is None, (
                f"{stage} ended too soon: {(recipe / 'stderr').read_text()[-2000:]}"
            )
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_killed_anywhere_the_table_is_the_same(undisturbed, tmp_path):
    recipe = _recipe(tmp_path / "mini")
    data, exp = recipe / "data/espeak_tiny", _exp(recipe)
    _kill_when(recipe, "simulate", lambda: len(list(data.glob("train/**/*.wav"))) >= 4)
    _kill_when(recipe, "teacher", (exp / "teacher/1epoch.pth").exists)
    _kill_when(recipe, "pseudo", lambda: any(data.glob("train_pseudo/**/*.wav")))
    _kill_when(recipe, "asr", (exp / "asr/1epoch.pth").exists)
    _kill_when(recipe, "separate", lambda: any(exp.glob("separated/test/*/info.json")))
    _kill_when(recipe, "decode", lambda: (exp / "decoded/cache.jsonl").exists())
    done = _run(recipe)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "was cut off; going on" in done.stdout
    assert _rows(recipe) == _rows(undisturbed)


def test_a_changed_config_is_noticed(undisturbed, tmp_path):
    recipe = tmp_path / "mini"
    shutil.copytree(undisturbed, recipe, symlinks=True)
    config = recipe / "conf/student.yaml"
    config.write_text(config.read_text().replace("crop: 2.5", "crop: 2.0"))
    done = _run(recipe, "--stop_stage", "student")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("nothing to do") == STAGES.index("student")
    assert "stage student: conf/student.yaml changed" in done.stdout
    assert (_exp(recipe) / "student.old").is_dir()


def test_a_corrected_text_reaches_the_mixtures(tmp_path):
    """Speech that somebody brought, one text put right: nothing is rendered again."""
    recipe = _recipe(tmp_path / "mini")
    data = recipe / "data/own_tiny"
    for name in ("train", "dev", "test"):
        make_speech(data / "speech" / name, speakers=3, each=2, seconds=0.6)
    options = ["--corpus", "own", "--stage", "scenes", "--stop_stage", "simulate"]
    done = _run(recipe, *options)
    assert done.returncode == 0, done.stderr[-3000:]
    said = (data / "test/text_spk1").read_text()
    before = {p: p.stat().st_mtime_ns for p in data.rglob("*.wav")}
    text = data / "speech/test/text"
    text.write_text(text.read_text().replace("words of", "other words of"))
    done = _run(recipe, *options)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "stage simulate: data/own_tiny/speech changed" in done.stdout
    assert (data / "test/text_spk1").read_text() == said.replace("words of", "other words of") != said
    assert {p: p.stat().st_mtime_ns for p in data.rglob("*.wav")} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sage", "data"], "unknown option --sage (did you mean stage?)"),
        (["--stage", "techer"], "unknown stage 'techer' (did you mean teacher?)"),
        (["--stage", "0"], "unknown stage '0'"),
        (["--stage"], "option --stage needs a value"),
        (["teacher"], "unexpected argument 'teacher'"),
        (["--size", "huge"], "unknown size 'huge'"),
        (["--channels", "many"], "expected a number of microphones"),
        (["--nj", "0"], "expected a number of processes"),
        (["--audio_format", "mp3"], "expected wav, flac or flac.ark"),
        (["--train_seed", "1"], "run the same command without --train_seed first"),
        (["--curve", "maybe"], "--curve maybe: expected true or false"),
        (["--joint", "yes"], "--joint yes: expected true or false"),
        (["--asr_train_on", "noise"], "--asr_train_on noise: expected speech or separated"),
        (["--asr_exp", "nowhere"], "--asr_exp nowhere: no such directory"),
        (["--asr_exp", ".", "--asr_model", "tag"], "give one of them"),
        (["--asr_model", "tag", "--joint", "true"], "leave --asr_exp and --asr_model out"),
        (["--asr_config", "asr_gpuu"], "unknown --asr_config 'asr_gpuu'"),
        (["--asr_exp", "."], "expected a trained recogniser with config.yaml"),
        (["--stage", "score", "--stop_stage", "data"], "--stage score comes after --stop_stage data"),
        (["--corpus", "fsdd", "--corpus_dir", "nowhere"], "nowhere"),
        (["--stage", "teacher", "--corpus", "fsdd"], "run the stages before this one first"),
    ],
)
def test_misuse_is_one_line(tmp_path, options, message):
    done = _run(_recipe(tmp_path / "mini"), *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) <= 2


def test_broken_conditions_are_found_before_the_first_stage(tmp_path):
    recipe = _recipe(tmp_path / "mini")
    (recipe / "conf/conditions.yaml").write_text("wide: {array: {radios: 0.1}}\n")
    done = _run(recipe, "--mismatch", "true", "--stop_stage", "data")
    assert done.returncode == 2 and "wide: conf/scenes.yaml: array: unknown key 'radios'" in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not (recipe / "data").exists()


def test_list_and_help():
    listed = subprocess.run([ROOT / "run.sh", "--list"], capture_output=True, text=True)
    assert listed.returncode == 0
    assert [line.split()[1] for line in listed.stdout.splitlines()] == STAGES
    assert [line.split()[0] for line in listed.stdout.splitlines()] == [
        str(i + 1) for i in range(len(STAGES))
    ]
    text = subprocess.run([ROOT / "run.sh", "--help"], capture_output=True, text=True).stdout
    assert "--corpus_dir" in text and "--stop_stage" in text and "the embedded default" in text


def test_wrong_recipe():
    done = subprocess.run([ROOT / "run.sh", "--recipe", "egs/none"], capture_output=True, text=True)
    assert done.returncode == 2 and "no recipe 'egs/none'" in done.stderr
