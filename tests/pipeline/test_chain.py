"""The recipe end to end on a tiny set: through run.sh, killed in every long stage, repeated."""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote

import pytest
from recipes import ROOT, copy_recipe
from speech_sets import make_speech

SYSTEMS = (
    "mixture auxiva ilrma teacher_outputs teacher_energy teacher_energy_residual teacher_spatial_merge "
    "teacher_oracle student_gen1 student any_array student_masknet student_ft distilled distilled_ft "
    "supervised_small supervised_full oracle dry"
).split()
STAGES = (
    "data scenes simulate teacher pseudo student controls labels baselines finetune distill curve "
    "asr retrain joint separate score decode wer conditions mismatch report"
).split()
OFF = ["curve", "retrain", "joint", "conditions", "mismatch"]  # unless asked for
OPTIONS = ["--size", "tiny", "--nj", "2"]  # two stages at once, whose trainings have one thread each
ONE_AT_A_TIME = ["--size", "tiny", "--nj", "1"]
# Fewer rows than the template's: what is refined is refined alike.
SYSTEMS_FILE = """\
defaults: [TEMPLATE]
blind: {auxiva: {iterations: 5, refine: null}, auxiva_starts: null, ilrma: {iterations: 5}}
teacher: {refine: null}
models:
  student: {refine: [none, mvdr, iva+mask]}
  student_masknet: {refine: null}
  supervised_full: {refine: null}
"""
chain = pytest.mark.chain


def _exp(recipe: Path) -> Path:
    return recipe / "exp/espeak_tiny"


def _rows(recipe: Path) -> list[dict]:
    """What was scored, without what the clock and the machine say."""
    rows = json.loads((_exp(recipe) / "results.json").read_text())["rows"]
    return [{k: v for k, v in row.items() if k not in ("rtf", "peak_memory_mib")} for row in rows]


def _recipe(folder: Path) -> Path:
    recipe = copy_recipe("mini", folder)
    (recipe / "conf/systems.yaml").write_text(SYSTEMS_FILE)
    return recipe


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The recipe has run, through run.sh."""
    recipe = _recipe(tmp_path_factory.mktemp("undisturbed") / "mini")
    command = [ROOT / "run.sh", "--recipe", recipe, *OPTIONS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return recipe


@chain
def test_the_table_has_every_system(undisturbed):
    results = json.loads((_exp(undisturbed) / "results.json").read_text())
    names = [row["system"] for row in results["rows"]]
    assert [n for n in names if "+" not in n] == SYSTEMS
    assert set(STAGES) - {"report", *OFF} <= set(results["stages"])
    assert results["command"] == "./run.sh --size tiny"
    for row in results["rows"]:
        assert row["n"] == 4 and row["channels"] == 4
        assert row["si_snr"] is not None or row["system"] in ("oracle", "dry")
        assert row["cpwer"] is not None and row["words"] > 0
        assert (row["orcwer"] is not None) == (row["system"] == "teacher_outputs")
    page = (_exp(undisturbed) / "RESULTS.md").read_text()
    assert all(name in page for name in names)
    assert "mean nothing" in page
    assert str(undisturbed) not in page and str(ROOT) not in page


@chain
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


@chain
def test_the_page_to_listen_to(undisturbed):
    folder = _exp(undisturbed) / "report"
    page = (folder / "report.html").read_text()
    assert len(re.findall("<audio", page)) >= 4 and "student" in page
    assert all((folder / unquote(path)).is_file() for path in re.findall(r'src="([^"]+)"', page))
    assert str(undisturbed) not in page and str(ROOT) not in page


def _times(recipe: Path) -> dict:
    """When each file was written, but for the locks."""
    files = [p for p in recipe.rglob("*") if p.is_file() and p.name != ".mixit.lock"]
    return {p: p.stat().st_mtime_ns for p in files}


@chain
def test_a_second_run_does_nothing(undisturbed):
    """In less than 5 s of a processor, and without torch; what was asked for once is kept up to date."""
    before, used = _times(undisturbed), resource.getrusage(resource.RUSAGE_CHILDREN)
    code = "import sys; from frontend.cli import main\ntry: main(sys.argv[1:])\n"
    code += "except SystemExit as end: sys.exit(end.code or 3 * ('torch' in sys.modules))"
    command = [sys.executable, "-c", code, "run", "--recipe", undisturbed, "--size", "tiny"]
    again = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("complete, nothing to do") == len(STAGES) - len(OFF)
    assert [f" {name}: off, " in again.stdout for name in OFF] == [True] * len(OFF)
    assert _times(undisturbed) == before
    assert now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime < 5


@chain
def test_a_changed_value_is_noticed(undisturbed, command):
    """In all that follows from it, and in nothing else."""
    options = ["--recipe", undisturbed, *OPTIONS, "--set", "student.preprocessor_conf.crop=2.0"]
    code, out, _ = command("run", *options, "--dry_run")
    stages = [line[2:].partition(":")[0] for line in out.splitlines() if line.startswith("# ")]
    assert code == 0
    assert stages == "student controls baselines finetune distill separate score decode wer report".split()
    code, out, _ = command("run", *options, "--list")
    assert "[setting student.preprocessor_conf.crop changed since it was made" in out and code == 0


@chain
def test_other_runs_take_what_is_there(undisturbed, command):
    """One channel, two or three talkers without labels, another training seed: what they would run."""

    def planned(*options):
        code, out, err = command("run", "--recipe", undisturbed, "--size", "tiny", "--dry_run", *options)
        assert code == 0, err
        names = [line[2:].partition(":")[0] for line in out.splitlines() if line.startswith("# ")]
        return names, out

    asr = _exp(undisturbed) / "asr"
    names, out = planned("--channels", 1, "--asr_exp", asr)
    assert {"data", "asr"}.isdisjoint(names) and "--channels 1" in out and "exp/espeak_tiny/asr" in out
    # All numbers of microphones stand in one table.
    assert "--exp exp/espeak_tiny --config" in out
    names, out = planned("--talkers", "2-3", "--with", "unsupervised", "--asr_exp", asr)
    assert {"finetune", "distill", "baselines", "curve"}.isdisjoint(names) and "--n_talkers 2-3" in out
    names, out = planned("--with", "unsupervised,mismatch", "--asr_exp", asr)
    assert {"conditions", "mismatch"} < {*names} and "mismatch/far/scores" in out
    assert "--only student,any_array,auxiva,student_masknet\n" in out, "the rows that there are"
    names, out = planned("--train_seed", 1, "--with", "curve")
    assert {"data", "scenes", "simulate", "asr"}.isdisjoint(names) and "curve/distilled_ft_5" in out
    assert "--seed 1" in out and "--measures ''" in out and "--asr exp/espeak_tiny/asr" in out
    names, out = planned("--with", "retrain,joint")
    assert (
        "train joint" in out
        and "asr_separated" in out
        and "--only student" in out
        and "decoded_separated" in out
    )


@chain
def test_what_can_be_added(undisturbed, tmp_path):
    """Controls, other shares of the labels, other conditions, the joint training."""
    recipe = shutil.copytree(undisturbed, tmp_path / "mini", symlinks=True)
    two = "defaults: []\nmics_3: [array.n=3]\nnoisy: ['noise.snr_db=[10,20]']\n"
    (recipe / "conf/conditions.yaml").write_text(two)
    command = [ROOT / "run.sh", "--recipe", recipe, *OPTIONS]
    command += ["--with", "controls,curve,mismatch,joint"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "stage 4 teacher: complete" in done.stdout
    rows = {row["system"]: row for row in _rows(recipe)}
    added = "student_masknet_remix student_labels student_blind cotrained student_ft_5 cotrained_5 "
    added += "distilled_ft_5 supervised_5 supervised_25 joint"
    assert {*added.split()} <= rows.keys()
    assert all(rows[name]["si_snr"] is not None and rows[name]["cpwer"] is not None for name in added.split())
    lost = json.loads((_exp(recipe) / "mismatch.json").read_text())
    systems = {
        one["condition"]: [row["system"] for row in one["rows"] if row["si_snri"] is not None]
        for one in lost["conditions"]
    }
    assert systems.keys() == {"matched", "mics_3", "noisy"}
    assert all({"auxiva", "student", "any_array"} <= {*names} for names in systems.values())
    assert "student_masknet" in systems["noisy"] and "student_masknet" not in systems["mics_3"]


KILLS = {
    "simulate": lambda data, exp: len([*data.glob("train/**/*.wav")]) >= 4,
    "teacher": lambda data, exp: (exp / "teacher/1epoch.pth").exists(),
    "pseudo": lambda data, exp: any(data.glob("train_pseudo/**/*.wav")),
    "student": lambda data, exp: (exp / "student/1epoch.pth").exists(),
    "controls": lambda data, exp: (exp / "student_masknet/1epoch.pth").exists(),
    "baselines": lambda data, exp: (exp / "supervised_full/1epoch.pth").exists(),
    "finetune": lambda data, exp: (exp / "student_ft/1epoch.pth").exists(),
    "distill": lambda data, exp: (exp / "distilled/1epoch.pth").exists(),
    "asr": lambda data, exp: (exp / "asr/1epoch.pth").exists(),
    "separate": lambda data, exp: any(exp.glob("separated/test/*/info.json")),
    "decode": lambda data, exp: (exp / "decoded/cache.jsonl").exists(),
}


def _kill_in(recipe: Path, stage: str) -> None:
    """Start the chain; once ``stage`` is at work, kill all of it."""
    sign, folders = KILLS[stage], (recipe / "data/espeak_tiny", _exp(recipe))
    assert not sign(*folders), f"{stage} has begun already"
    command = [
        sys.executable,
        "-m",
        "frontend",
        "run",
        "--recipe",
        str(recipe),
        *ONE_AT_A_TIME,
        "--stop_stage",
        stage,
    ]
    with open(recipe / "stderr", "w") as errors:
        process = subprocess.Popen(
            command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=errors, cwd=ROOT
        )
        try:
            end = time.monotonic() + 600
            while not sign(*folders):
                assert process.poll() is None, (
                    f"{stage} ended too soon: {(recipe / 'stderr').read_text()[-2000:]}"
                )
                assert time.monotonic() < end
                time.sleep(0.002)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@chain
def test_killed_anywhere_the_table_is_the_same(undisturbed, tmp_path):
    recipe = _recipe(tmp_path / "mini")
    for stage in KILLS:
        _kill_in(recipe, stage)
    command = [sys.executable, "-m", "frontend", "run", "--recipe", recipe, *ONE_AT_A_TIME]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "was cut off; going on" in done.stdout
    assert _rows(recipe) == _rows(undisturbed)
    attempts = json.loads((_exp(recipe) / "stages.json").read_text())["attempts"]
    assert {name: attempts[name] for name in KILLS} == dict.fromkeys(KILLS, 2)


def test_a_corrected_text_reaches_the_mixtures(tmp_path, command):
    """Speech that somebody brought, one text put right: nothing is rendered again."""
    recipe = copy_recipe("mini", tmp_path / "mini")
    data = recipe / "data/own_tiny"
    for name in ("train", "dev", "test"):
        make_speech(data / "speech" / name, speakers=3, each=2, seconds=0.6)
    options = [
        "--recipe",
        recipe,
        "--size",
        "tiny",
        "--corpus",
        "own",
        "--stage",
        "scenes",
        "--stop_stage",
        "simulate",
    ]
    options += ["--set", "size.mixtures={train: 2, dev: 1, test: 2, single: 1}"]
    code, _, err = command("run", *options)
    assert code == 0, err
    words_before = (data / "test/text_spk1").read_text()
    before = {p: p.stat().st_mtime_ns for p in data.rglob("*.wav")}
    text = data / "speech/test/text"
    text.write_text(text.read_text().replace("words of", "other words of"))
    code, out, err = command("run", *options)
    assert code == 0, err
    assert "stage simulate: input data/own_tiny/speech changed since it was made" in out
    assert (
        (data / "test/text_spk1").read_text()
        == words_before.replace("words of", "other words of")
        != words_before
    )
    assert {p: p.stat().st_mtime_ns for p in data.rglob("*.wav")} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sage", "data"], "no option --sage for"),
        (["--stage", "techer"], "unknown stage 'techer' (did you mean 'teacher'?)"),
        (["--stage", "0"], "unknown stage '0'"),
        (["--sage"], "option --sage needs a value"),
        (["--asr_config", "--mismatch", "x"], "option --asr_config needs a value"),
        (["teacher"], "unexpected argument 'teacher'"),
        (["--nj", "0"], "--nj: expected at least 1, found 0"),
        (["--seed", "-1"], "-1 is not in the range"),
        (["--stage", "score", "--stop_stage", "data"], "--stage score comes after --stop_stage data"),
        (["--set", "teacher.max_epoch"], "expected KEY=VALUE"),
        (["--show", "techer"], "unknown stage 'techer'"),
        (["--mismatch"], "option --mismatch needs a value"),
    ],
)
def test_misuse_is_one_line_and_writes_nothing(tmp_path, command, options, message):
    recipe = copy_recipe("mini", tmp_path / "mini")
    before = sorted(recipe.rglob("*"))
    code, _, err = command("run", "--recipe", recipe, *options)
    assert code == 2 and message in err and sorted(recipe.rglob("*")) == before


def test_a_stage_without_the_ones_before_it(tmp_path, command):
    recipe = copy_recipe("mini", tmp_path / "mini")
    code, _, err = command("run", "--recipe", recipe, "--stage", "teacher", "--corpus", "fsdd")
    assert code == 2 and "run the stages before this one first" in err


def test_broken_conditions_are_found_before_the_first_stage(tmp_path, command):
    recipe = copy_recipe("mini", tmp_path / "mini")
    (recipe / "conf/conditions.yaml").write_text("wide: {array: {radios: 0.1}}\n")
    code, _, err = command("run", "--recipe", recipe, "--with", "mismatch", "--stop_stage", "data")
    assert code == 2 and "radios" in err and "wide" in err
    assert not (recipe / "data/espeak/speech").exists()


def test_list_help_and_show(command, tmp_path):
    recipe = copy_recipe("mini", tmp_path / "mini")
    code, out, _ = command("run", "--recipe", recipe, "--list")
    lines = [line.split() for line in out.splitlines()]
    assert code == 0 and [line[1] for line in lines[:-1]] == STAGES
    assert [int(line[0]) for line in lines[:-1]] == [*range(1, len(STAGES) + 1)] and not (
        recipe / "exp"
    ).exists()
    code, out, _ = command("run", "--recipe", recipe, "--show", "student")
    assert code == 0 and "python -m frontend train separator --config exp/espeak/conf/student.yaml" in out
    code, out, _ = command("run", "--recipe", "egs/recordings", "--help")
    assert "--stop_stage" in out and "init_model: null" in out and "the embedded default" in out
    assert "  asr_whisper: null" in out
