"""Jobs of Slurm: of a real one, all here, that the tests start; skipped where it is not installed."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import kills
import pytest
from golden import compare, digest
from recipes import ROOT, copy_recipe
from slurm import a_slurm, has_pending, until
from test_engine import Toy

from frontend.pipeline.commands import works_of
from frontend.pipeline.config import Setting, read_launcher
from frontend.pipeline.engine import Engine
from frontend.pipeline.launch import Local, Slurm
from frontend.pipeline.stage import Stage, at_work
from frontend.utils.errors import UserError
from frontend.utils.stamps import Stamp

MADE_FROM = Stamp.of({"lr": 1}, {})
# What a run does for one stage. It is killed in tests, hence a process of its own.
DRIVER = """
import sys
sys.path[:0] = sys.argv[1:]
from test_slurm import *
launcher(2).run("first", [["./train.py"]], Path("exp/log/first.log"))
"""


@pytest.fixture(scope="module")
def slurm():
    with a_slurm() as cluster:
        yield cluster


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("frontend.pipeline.commands.SHARDED", ("./part.py",))
    return tmp_path


def launcher(parts: int, *settings: str, made_from: Stamp = MADE_FROM) -> Slurm:
    """A launcher that has claimed a stage ``first``, whose script part.py can be divided."""
    asked = read_launcher(ROOT / "egs/mini", map(Setting.read, ["launcher.memory=0.5", *settings]))
    asked["./part.py"] = {**asked["other"], "array": parts}
    made = Slurm(Path("exp"), asked, 1)
    made.claim({"first": made_from})
    return made


def run_parts(parts: int) -> None:
    launcher(parts).run("first", [["./part.py"], ["./last.py"]], Path("exp/log/first.log"))


def write_part(body: str) -> None:
    """A script that does a part ``k``, whether for the first time or ``again``; last.py comes after it."""
    text = "import os, pathlib, sys, time\nfrom frontend.utils.errors import run\n"
    text += "k = sys.argv[-1].split('/')[0] if '--shard' in sys.argv else ''\n"
    text += "tried = pathlib.Path(f'tried{k}'); again = tried.exists(); tried.touch()\n"
    Path("part.py").write_text(f"{text}{body}print('made', k)\nopen('made' + k, 'w')\n")
    count = "import glob\nopen('last', 'w').write(str(len(glob.glob('made*'))))"
    Path("last.py").write_text(count)


def test_works():
    """Parts of what can be divided at once, then what they leave and what follows; a training is alone."""
    asked = read_launcher(
        ROOT / "egs/mini", map(Setting.read, ["launcher.array=2", "launcher.score.array=1"])
    )
    render, label, score = ["simulate", "render", "--out", "x"], ["label", "--out", "y"], ["score"]
    check, train = ["data", "check", "x"], ["train", "separator"]

    def parts(command):
        return [[[*command, "--shard", f"{k}/2"]] for k in (1, 2)]

    other = [*render[:-1], "z"]
    assert works_of([render, other, check], asked) == [
        [*parts(render), *parts(other)],
        [[render, other, check]],
    ]
    assert works_of([check, label, train], asked) == [[[check]], parts(label), [[label]], [[train]]]
    assert works_of([train, train, score, check], asked) == [[[train]], [[train]], [[score, check]]]
    assert works_of([render, label], asked) == [parts(render), [[render]], parts(label), [[label]]]


def test_what_fails_is_tried_once_more(slurm, here, capfd):
    """A part that is killed, as for memory; another that somebody cancels."""
    cancel = "os.system('scancel ${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID'); time.sleep(60)"
    write_part(f"if k == '2' and not again: os.kill(os.getpid(), 9)\nif k == '3' and not again: {cancel}\n")
    run_parts(3)
    out = capfd.readouterr().out
    number = re.search(r"job (\d+) \(./part.py, 3 parts\) submitted", out)[1]
    assert f"job {number}_1 (./part.py --shard 2/3) was killed by signal 9 (out of memory?); once more" in out
    assert f"job {number}_2 (./part.py --shard 3/3) was killed by signal 15 (cancelled?); once" in out
    assert out.count("once more") == 2 and Path("last").read_text() == "4"
    log = Path("exp/log/first.log").read_text()
    assert log.count("made") == 4 and "$ python ./part.py --shard 3/3\n" in log and "submitit" not in log
    assert not Path("exp/log/jobs").exists()


def test_what_fails_twice_is_named_with_its_log(slurm, here):
    """A full disk on one part; the others come to their end, and the next run needs that part alone."""
    full = "if k == '2' and not os.path.exists('room'):\n"
    full += "    run(lambda: print('x', file=open('/dev/full', 'w'), flush=True), 'me')\n"
    write_part(full)
    with pytest.raises(UserError) as failed:
        run_parts(2)
    what = r"stage first: job \d+ \(./part.py --shard 2/2\) failed with exit code 2, twice: No space left "
    where = re.fullmatch(what + r"on device .* \(see (exp/log/jobs/first/.*)\)", str(failed.value))[1]
    assert (
        "error: No space" in Path(where).read_text() and Path("made1").exists() and not Path("last").exists()
    )
    Path("room").touch()
    run_parts(2)
    assert Path("last").exists() and not Path("exp/log/jobs").exists()


def test_a_mistake_is_said_once_and_not_tried_again(slurm, here, capfd):
    Path("wrong.py").write_text("import sys; sys.exit(print('me: error: no such set', file=sys.stderr) or 2)")
    with pytest.raises(SystemExit) as end:
        launcher(2).run("first", [["./wrong.py"]], Path("exp/log/first.log"))
    out, err = capfd.readouterr()
    assert end.value.code == 2 and err == "me: error: no such set\n" and out.count("submitted") == 1
    with pytest.raises(UserError, match="invalid partition specified: nowhere .see conf/launcher/slurm.yaml"):
        launcher(2, "launcher.partition=nowhere").run("first", [["./x.py"]], Path("exp/log/first.log"))
    assert capfd.readouterr().err == ""


def test_a_training_outlives_its_run_and_its_time(slurm, here, capfd, monkeypatch):
    """The run is killed, and its job is found again; the signal of a time-out queues the job again."""
    text = "import os, pathlib, time\nopen('begun', 'a').write(os.environ['SLURM_JOB_ID'] + ' ')\n"
    Path("train.py").write_text(text + "while not os.path.exists('go'): time.sleep(0.05)\nprint('trained')")
    run = subprocess.Popen([sys.executable, "-c", DRIVER, str(Path(__file__).parent), *sys.path])
    until(Path("begun").exists, "the job")
    run.kill()
    run.wait()
    [[number, _, _]] = slurm.jobs()
    assert at_work(Path("exp")) == {"first": f"1 running (job {number})"}
    with pytest.raises(
        UserError, match=f"still at work there, for stage first; go on with .* scancel {number}"
    ):
        Local(Path("exp")).claim({"first": MADE_FROM})
    with pytest.raises(UserError, match=f"for stage first; run the same command .* scancel {number}"):
        launcher(2, made_from=Stamp.of({"lr": 2}, {}))
    slurm.tell("scancel", "--signal=USR2", number)
    until(lambda: Path("begun").read_text().split() == [number] * 2, "the same job again")
    begin = Slurm._begin
    monkeypatch.setattr(Slurm, "_begin", lambda *arguments: begin(*arguments) or Path("go").touch())
    capfd.readouterr()
    launcher(2).run("first", [["./train.py"]], Path("exp/log/first.log"))
    out, err = capfd.readouterr()
    assert (out, err) == (f"stage first: found at work: job {number}\ntrained\n", "")
    assert Path("begun").read_text().split() == [number] * 2


DRIVER_OF_TWO = """
import sys
sys.path[:0] = sys.argv[1:]
from test_slurm import *
run_two()
"""


def run_two() -> None:
    """A run of two stages that need nothing of each other, whose trainings wait for a file."""
    text = (
        "import os, pathlib, sys, time\nopen(f'begun{sys.argv[-1]}', 'a').write(os.environ['SLURM_JOB_ID'])\n"
    )
    Path("train.py").write_text(text + "while not os.path.exists('go'): time.sleep(0.05)\n")

    def stage(name: str) -> Stage:
        return Stage(name, name, [Path("conf")], [Path(f"begun{name}")], [["./train.py", name]], beside=True)

    toy = Toy()
    toy.at_once = 2
    asked = read_launcher(ROOT / "egs/mini", map(Setting.read, ["launcher.memory=0.5"]))
    Engine(toy, lambda _: [stage("a"), stage("b")], Slurm(Path("exp"), asked, 1), toy.check).run("a", "b")


def test_stages_at_once_are_jobs_at_once_and_both_are_found_again(slurm, here, capfd):
    """The run of both is killed; one that wants another stage is refused; the same goes on with the jobs."""
    Path("conf").touch()
    run = subprocess.Popen([sys.executable, "-c", DRIVER_OF_TWO, str(Path(__file__).parent), *sys.path])
    begun = [Path("beguna"), Path("begunb")]
    until(lambda: all(path.exists() for path in begun), "both jobs")
    numbers = [path.read_text() for path in begun]
    run.kill()
    run.wait()
    assert {*at_work(Path("exp"))} == {"a", "b"}
    with pytest.raises(UserError, match="for stage a, b; run the same command as then"):
        launcher(2)
    said, again = [], threading.Thread(target=run_two)
    again.start()

    def both_found():
        said.append(capfd.readouterr().out)
        return "".join(said).count("found at work") == 2 or not again.is_alive()

    until(both_found, "the jobs found")
    Path("go").touch()
    again.join()
    records = [json.loads(Path(f"exp/stages/{name}.json").read_text()) for name in "ab"]
    assert all(record["seconds"] is not None for record in records)
    assert [path.read_text() for path in begun] == numbers and not slurm.jobs()


def test_a_node_that_is_drained_is_waited_for(slurm, here):
    write_part("")
    slurm.tell("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
    run = threading.Thread(target=run_parts, args=[2])
    run.start()
    until(lambda: "2 queued" in at_work(Path("exp")).get("first", ""), "the queue")
    slurm.tell("scontrol", "update", "nodename=n1", "state=resume")
    run.join()
    assert Path("last").read_text() == "3"


def test_no_slurm_is_one_line(tmp_path, command, monkeypatch):
    recipe = copy_recipe("mini", tmp_path / "mini")
    before = sorted(recipe.rglob("*"))
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, err = command("run", "--recipe", recipe, "--launcher", "slurm")
    assert code == 2 and "--launcher slurm: expected Slurm on this machine, found no sbatch" in err
    assert sorted(recipe.rglob("*")) == before


def test_a_slurm_that_does_not_answer_is_one_line(slurm, tmp_path, command, monkeypatch):
    recipe = copy_recipe("mini", tmp_path / "mini")
    (tmp_path / "slurm.conf").touch()
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    code, _, err = command("run", "--recipe", recipe, "--launcher", "slurm")
    assert code == 2 and err.count("\n") == 1 and "Slurm does not answer: " in err and "(ask sinfo)" in err


SYSTEMS = "defaults: [TEMPLATE]\nteacher: {rules: [energy], refine: null}\n"


def _table(recipe: Path) -> list[dict]:
    [path] = recipe.glob("exp/*/results.json")
    rows = json.loads(path.read_text())["rows"]
    return [{k: v for k, v in row.items() if k not in ("rtf", "peak_memory_mib")} for row in rows]


def _files(recipe: Path) -> dict[str, str]:
    """Digests of audio, words and scores; what else there is holds paths or times, or is of an order."""
    found = {name: value for part in ("data", "exp") for name, value in digest(recipe / part).items()}
    others = r"stamp.json|info.json|cache.jsonl|stages.json|stages/.*|fingerprints/.*|[^/]*scp"
    return {k: v for k, v in found.items() if not re.search(rf"({others})$", k)}


@pytest.fixture
def started():
    """Start runs of the recipe; what still runs in the end is killed."""
    runs: list[subprocess.Popen] = []

    def start(recipe: Path, *options: object) -> subprocess.Popen:
        command = [sys.executable, "-m", "frontend", "run", "--recipe", recipe, "--size", "tiny", "--nj", "1"]
        command += ["--channels", "1", "--with", "unsupervised", "--set", "size.generations=1"]
        command += ["--set", "size.mixtures={train: 4, dev: 2, test: 2, single: 1}", *options]
        with open(recipe / "out", "a") as out:
            how = {"stdout": out, "stderr": out, "cwd": ROOT, "start_new_session": True}
            runs.append(subprocess.Popen([*map(str, command)], **how))
        return runs[-1]

    yield start
    for run in runs:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()


@pytest.mark.chain
def test_the_recipe_through_slurm_with_everything_killed(slurm, tmp_path, recognisers, command, started):
    """The node in the middle of an array, the run in the middle of a training: the table of a local run."""
    recipes, given = {}, ["--asr_exp", recognisers / "asr"]
    for name in ("here", "jobs"):
        recipes[name] = copy_recipe("mini", tmp_path / name / "mini")
        (recipes[name] / "conf/systems.yaml").write_text(SYSTEMS)
    recipe, jobs = recipes["jobs"], ["--launcher", "slurm", "--set", "launcher.array=2"]
    jobs += ["--set", "launcher.memory=2", "--set", "launcher.train.memory=4"]
    local, run = started(recipes["here"], *given), started(recipe, *given, *jobs)

    def out() -> str:
        return (recipe / "out").read_text()

    def alive(condition):
        return lambda: condition() or (run.poll() is not None and pytest.fail(out()[-3000:]))

    until(alive(lambda: [*recipe.glob("data/*/train/**/*.wav")]), "the first mixture")
    slurm.crash_node()
    slurm.start_node()
    until(alive(lambda: [*recipe.glob("exp/*/teacher/1epoch.pth")]), "the first epoch")
    stopped = slurm.signal_jobs(signal.SIGSTOP)  # not by scontrol, which takes longer than the training
    [[number, _, name]] = slurm.jobs()
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    listed = command("run", "--recipe", recipe, *run.args[6:], "--list")[1]
    assert name.startswith("teacher.") and f"[1 running (job {number})]" in listed
    run = started(recipe, *given, *jobs)
    until(alive(lambda: f"stage teacher: found at work: job {number}" in out()), "the job found again")
    slurm.tell("scancel", "--signal=USR2", number)
    until(lambda: any(has_pending(each, signal.SIGUSR2) for each in stopped), "the signal")
    slurm.signal_jobs(signal.SIGCONT)
    assert run.wait() == 0, out()[-3000:]
    assert local.wait() == 0, (recipes["here"] / "out").read_text()[-3000:]
    assert f"job {number} (train) submitted" in out() and out().count("(train) submitted") == 2
    assert out().count("once more") == 0
    [log] = recipe.glob("exp/*/log/teacher.log")
    assert log.read_text().count("$ python -m frontend train separator") == 2  # one job, queued again
    assert _table(recipe) == _table(recipes["here"])
    assert compare(*map(_files, recipes.values())) == 0


@pytest.fixture
def two_nodes():
    with a_slurm(nodes=2) as cluster:
        yield cluster


@pytest.mark.chain
def test_nodes_share_a_training(two_nodes, tmp_path, started):
    """One of the nodes crashes in the middle. The losses are those of one process, to 1e-3."""
    alone, recipe = (copy_recipe("mini", tmp_path / name / "mini") for name in ("alone", "shared"))
    given = ["--stop_stage", "teacher", "--set", "teacher.max_epoch=3"]
    run = started(alone, *given)
    assert run.wait() == 0, (alone / "out").read_text()[-3000:]
    for name in ("data", "exp"):
        shutil.copytree(alone / name, recipe / name, symlinks=True)
    [teacher] = recipe.glob("exp/*/teacher")
    for path in (teacher, teacher.parent / "log"):
        shutil.rmtree(path)
    given += ["--launcher", "slurm", "--nodes", "2", "--set", "launcher.memory=2"]
    run = started(recipe, *given)
    until(lambda: (teacher / "1epoch.pth").exists() or run.poll() is not None, "the first epoch")
    two_nodes.signal_jobs(signal.SIGSTOP)
    two_nodes.crash_node("n2")
    two_nodes.start_node("n2")
    assert run.wait() == 0, (recipe / "out").read_text()[-3000:]
    log = (teacher.parent / "log/teacher.log").read_text()
    assert log.count("$ python -m frontend train separator") == 2  # one job, queued again
    [first] = alone.glob("exp/*/teacher")
    assert len(kills.losses(first)) == 6
    assert kills.losses(teacher) == pytest.approx(kills.losses(first), rel=1e-3)
