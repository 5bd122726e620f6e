"""The recipe end to end through run.sh, on a tiny set: undisturbed, killed, repeated, misused."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SYSTEMS = (
    "mixture auxiva ilrma teacher_energy teacher_energy_residual teacher_spatial_merge teacher_oracle "
    "student student_ft distilled distilled_ft supervised_small supervised_full oracle"
).split()
STAGES = (
    "data scenes simulate teacher pseudo student finetune distill baselines separate score report".split()
)
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
    assert [n for n in names if "+mvdr" not in n] == SYSTEMS
    assert set(STAGES) - {"report"} <= set(results["stages"])
    for row in results["rows"]:
        assert row["n"] == 4 and row["channels"] == 4
        assert row["si_snr"] is not None or row["system"] == "oracle"
    page = (_exp(undisturbed) / "RESULTS.md").read_text()
    assert all(name in page for name in names)
    assert "mean nothing" in page
    assert str(undisturbed) not in page and str(ROOT) not in page


def test_the_asr_stages_find_their_place(undisturbed):
    data = undisturbed / "data/espeak_tiny/test"
    for talker in (1, 2):
        texts = (data / f"text_spk{talker}").read_text().splitlines()
        assert len(texts) == 4 and all(len(line.split()) > 1 for line in texts)
        assert len((data / f"spk{talker}.scp").read_text().splitlines()) == 4


def test_a_second_run_does_nothing(undisturbed):
    before = _times(undisturbed)
    again = _run(undisturbed)
    assert again.returncode == 0
    assert again.stdout.count("complete, nothing to do") == len(STAGES)
    assert _times(undisturbed) == before
    assert "student" in again.stdout and "mean nothing" in again.stdout, "the table is shown all the same"


def _times(recipe: Path) -> dict:
    """When each file was written, but for the bookkeeping of the runs."""
    files = [p for p in recipe.rglob("*") if p.is_file() and "stages" not in str(p) and p.name != ".lock"]
    return {p: p.stat().st_mtime_ns for p in files}


def test_one_channel_joins_the_table(undisturbed, tmp_path):
    recipe = tmp_path / "mini"
    shutil.copytree(undisturbed, recipe)
    done = _run(recipe, "--channels", "1")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rows = json.loads((_exp(recipe) / "results.json").read_text())["rows"]
    one = [row["system"] for row in rows if row["channels"] == 1]
    assert one == [n for n in SYSTEMS if n not in ("auxiva", "ilrma", "teacher_spatial_merge")]
    assert [row for row in rows if row["channels"] == 4]


def _kill_when(recipe: Path, stage: str, sign) -> None:
    """Start the chain; once ``stage`` has begun and ``sign()`` is true, kill all of it."""
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
    _kill_when(recipe, "separate", lambda: any(exp.glob("separated/test/*/info.json")))
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
