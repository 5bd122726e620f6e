"""A stage, and what is known of it: its output, what is done with files, its jobs of Slurm, its seconds."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from frontend.utils.errors import UserError, did_you_mean, few, warn
from frontend.utils.files import LOCK, remove, write_json
from frontend.utils.stamps import Stamp, of_text, of_tree

_PACKAGE = Path(__file__).parents[1]
_PORTS = range(20000, 40000, 2)  # of jobs of several nodes; each takes the next one, too
_SEPARATION = (
    "dsp/array_streams",
    "dsp/blind",
    "dsp/refine",
    "separation/pseudo_targets",
    "separation/continuous",
)
# Modules whose VERSION the output of a command depends on. They are read, not imported: that would take
# seconds.
CODE = {
    "data": ("data/recordings",),
    "simulate": ("simulation/render", "simulation/rirs"),
    "train": ("training/run",),
    "label": _SEPARATION,
    "separate": _SEPARATION,
    "score": ("dsp/metrics", "evaluation/score"),
    "decode": ("recognition/model", "recognition/whisper", "recognition/pieces"),
    "wer": ("evaluation/wer", "evaluation/wer_recordings", "evaluation/intervals", "recognition/text"),
}


@dataclass
class Stage:
    """A named step of a recipe.

    Attributes:
        name, about: for messages.
        reads: files and directories, compared by content.
        makes: files and directories.
        commands: words of ``python -m frontend ...``, or of a script of the recipe: ``local/data.sh ...``.
        settings: what the output depends on beside the content of ``reads``.
        skip: why the stage is off; empty where it is not.
        keeps: stale output stays in place, since its tool knows which items are stale, or writes it anew.
        first: commands that run before the inputs are looked at, here in any case; each does nothing where
            nothing is to do.
        shared: directory of the record where several experiments share the output; none of them make it at a
            time.
        beside: it may run while stages before it do that make nothing it reads: all that it reads is in
            ``reads``, or made by what these wait for, whatever is there when it starts.
    """

    name: str
    about: str
    reads: list[Path]
    makes: list[Path]
    commands: list[list[str]]
    settings: dict = field(default_factory=dict)
    skip: str = ""
    keeps: bool = False
    first: list[list[str]] = field(default_factory=list)
    shared: Path | None = None
    beside: bool = False

    def follows(self, other: "Stage") -> bool:
        """Whether it has to wait for a stage before it."""
        return not self.beside or any(is_below(path, other.makes) for path in self.reads)

    def consequence(self, record: "Record", stale: bool) -> str:
        """Say what becomes of the output that there is."""
        if stale:
            kept = "its output stays in place; what is stale in it is made again"
            return f"; {kept if self.keeps else 'its output is stale, moved to *.old'}"
        return "; going on from what is there" if record.seconds is None else "; running it again"


def is_below(path: Path, made: Iterable[Path]) -> bool:
    """Whether a path is one of those that are made, or lies in one."""
    return any(path == one or one in path.parents for one in made)


def number_of(name: str, stages: list[Stage]) -> int:
    """Return the place, from 1 on, of the stage that a name or number stands for.

    Raises:
        UserError: there is none.
    """
    names = [stage.name for stage in stages]
    if name.isdecimal() and 1 <= int(name) <= len(names):
        return int(name)
    if name in names:
        return names.index(name) + 1
    raise UserError(f"unknown stage '{name}'{did_you_mean(name, names)}; --list shows them")


@dataclass
class Record:
    """What is known of a stage's output; ``seconds`` is None until it is complete.

    Attributes:
        began: when the last attempt began, as ``time.time`` has it.
        spent: seconds of the attempts before.
        least: seconds that it took before it was mended: it counts for no less.
        outputs: path -> digest of names and sizes.
    """

    stamp: Stamp
    began: float
    attempts: int = 1
    spent: float = 0.0
    least: float = 0.0
    seconds: float | None = None
    outputs: dict[str, str] = field(default_factory=dict)
    commit: str = ""

    @classmethod
    def read(cls, path: Path) -> "Record | None":
        """Return the record that lies in ``path``, None if there is none.

        Raises:
            UserError: the file is no record.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{**content, "stamp": Stamp(**content["stamp"])})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):
            raise UserError(f"{path}: expected the record of a stage (delete the file)") from None

    def close_attempt(self, makes: list[Path]) -> None:
        """Count the seconds of a cut-off attempt, as far as known: until it last wrote something."""
        files = [p for path in makes if path.exists() for p in (path, *path.rglob("*"))]
        last = max([self.began, *(p.lstat().st_mtime for p in files)])
        self.spent += last - self.began

    def write(self, path: Path) -> None:
        """Write it, whole or not at all."""
        write_json(path, asdict(self))


def versions(commands: list[list[str]]) -> dict[str, int]:
    """Return the versions of the modules that the output of some commands depends on."""
    modules = sorted({module for command in commands for module in CODE.get(command[0], ())})
    texts = {module: (_PACKAGE / f"{module}.py").read_text(encoding="utf-8") for module in modules}
    return {module: int(re.findall(r"^VERSION = (\d+)", texts[module], re.M)[0]) for module in modules}


def sizes(paths: list[Path]) -> dict[str, str]:
    """Return a digest of names and sizes for each path."""
    return {str(path): of_tree(path, by_size=True) for path in paths}


def put_aside(paths: list[Path], complete: bool) -> dict[Path, Path]:
    """Move stale output to PATH.old; what was cut off never takes the place of what is complete.

    Returns:
        what was moved -> where it is now.
    """
    moved = {}
    for path in paths:
        old = path.with_name(f"{path.name}.old")
        if complete or not old.exists():
            if path.exists():
                remove(old)
                os.replace(path, old)
                moved[path] = old
        else:
            remove(path)
    return moved


def _holds(path: Path) -> bool:
    """Whether there is anything in a directory but the lock of a command that was ended."""
    return path.is_dir() and any(one.name != LOCK for one in path.iterdir())


def put_back(moved: dict[Path, Path]) -> bool:
    """Undo :func:`put_aside` if nothing has taken the place of what was moved; tell whether it was undone."""
    if not moved or any(path.is_file() or _holds(path) for path in moved):
        return False
    for path, old in moved.items():
        remove(path)  # an empty directory
        os.replace(old, path)
    return True


# Jobs of Slurm, which may outlive the run that submitted them.


def jobs_in_queue(exp: Path) -> dict[str, tuple[str, str]]:
    """Return the jobs of an experiment that are queued or run: number -> name, and why it waits if it does.

    Raises:
        UserError: Slurm does not answer.
    """
    if shutil.which("squeue") is None:
        return {}
    line = ["squeue", "--me", "--noheader", "--array", "--format=%i|%j|%T|%r"]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=300)
        said = done.stderr.strip().rpartition("\n")[2]
    except subprocess.TimeoutExpired as error:
        done, said = None, str(error)
    if done is None or done.returncode:
        raise UserError(f"Slurm does not answer: {said} (ask sinfo)")
    found = {}
    for number, name, state, reason in (line.split("|", 3) for line in done.stdout.splitlines()):
        if f".{short_digest(exp)}." in name:
            found[number] = name, reason if state == "PENDING" else ""
    return found


def at_work(exp: Path) -> dict[str, str]:
    """Return the stages of an experiment that have jobs, and how many are queued, running and done."""
    try:
        jobs = jobs_in_queue(exp) if place_of_jobs(exp).is_dir() else {}
    except UserError as error:
        warn(str(error))
        return {}
    found = {}
    for stage in {name.partition(".")[0] for name, _ in jobs.values()}:
        own = {number: why for number, (name, why) in jobs.items() if name.startswith(f"{stage}.")}
        first = {number.partition("_")[0] for number in own}
        results = [x for one in first for x in place_of_jobs(exp, stage).glob(f"{one}_*_result.pkl")]
        queued = [why for why in own.values() if why]
        counts = {"queued": len(queued), "running": len(own) - len(queued), "done": len(results)}
        found[stage] = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
        found[stage] += f" (job {few([*sorted(first), *sorted({*queued} - {'None'})])})"
    return found


def known_to_job() -> dict[str, str]:
    """Return what the processes of a job know of each other, one on each of several nodes."""
    import submitit

    job = submitit.JobEnvironment()
    port = _PORTS[int(os.environ["SLURM_JOB_ID"]) % len(_PORTS)]
    found: dict = {"RANK": job.global_rank, "WORLD_SIZE": job.num_tasks, "MASTER_PORT": port}
    found["MASTER_ADDR"] = os.environ["SLURM_LAUNCH_NODE_IPADDR"]
    return {name: str(value) for name, value in found.items()} if job.num_tasks > 1 else {}


def place_of_jobs(exp: Path, stage: str = "") -> Path:
    """Return where scripts, results and logs of jobs lie; what is done is removed."""
    return exp / "log/jobs" / stage


def short_digest(what: object) -> str:
    """Return a digest for the name of a job: of a place, or of what ``str`` makes of all else."""
    return of_text(str(what.resolve() if isinstance(what, Path) else what))[:8]


def refuse_jobs(exp: Path, others: dict[str, tuple[str, str]], instead: str) -> None:
    """Raise UserError if there are jobs of others."""
    if others:
        stages = few(sorted({name.partition(".")[0] for name, _ in others.values()}))
        numbers = sorted({number.partition("_")[0] for number in others})
        raise UserError(
            f"{exp}: an earlier run's jobs of Slurm are still at work there, for stage {stages}; {instead}, "
            f"wait for their end, or end them: scancel {' '.join(numbers)}"
        )


# Seconds of the stages of a run of egs/mini on 2 cores, divided among those at the same time, of its own size
# and of --quick. They are the guess of a run of which nothing is known yet.
GUESS = {"data": 4, "scenes": 1, "chunks": 20, "simulate": 57, "teacher": 50, "pseudo": 33, "student": 74}
GUESS |= {"controls": 37, "labels": 1, "baselines": 129, "finetune": 27, "distill": 182, "curve": 900}
GUESS |= {"asr": 200, "retrain": 300, "joint": 60, "separate": 67, "score": 72, "recognise": 300}
GUESS |= {"decode": 48, "wer": 3, "report": 8}
QUICK = {"data": 2, "scenes": 2, "simulate": 32, "teacher": 29, "pseudo": 37, "student": 29, "finetune": 19}
QUICK |= {"distill": 78, "baselines": 59, "asr": 59, "separate": 38, "score": 24, "decode": 24}
QUICK = GUESS | QUICK
_TRUST = 0.3  # in the guess: how much of the time left must be known before what is known counts more


def earlier_seconds(exp: Path) -> dict[str, float]:
    """Return the seconds that stages took in this experiment, else in others beside it of the same size."""
    mine, found = _facts(exp), dict[str, float]()
    for path in sorted(exp.parent.glob("*/stages.json")):
        facts = _facts(path.parent)
        if path.parent != exp and _size(facts) == _size(mine):
            found |= facts.get("stages", {})
    return found | mine.get("stages", {})


def _facts(exp: Path) -> dict:
    try:
        return json.loads((exp / "stages.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _size(facts: dict) -> str:
    found = re.search(r"--size (\S+)", str(facts.get("command", "")))
    return found[1] if found else ""


def expected_seconds(
    names: list[str], known: dict[str, float], size: str = ""
) -> tuple[dict[str, float], bool]:
    """Return how long stages will take, and whether a part of that is a guess.

    The guess is scaled by what is known of this machine, the less so the less is known.

    Args:
        names: of the stages.
        known: seconds of this run or of earlier ones.
        size: of the run.
    """
    guess = QUICK if size == "quick" else GUESS
    both = [name for name in known if name in guess]
    trust = _TRUST * sum(guess.get(name, 60) for name in names if name not in known)
    total = trust + sum(guess[name] for name in both)
    scale = (trust + sum(known[name] for name in both)) / total if total else 1.0
    found = {name: known[name] if name in known else scale * guess.get(name, 60) for name in names}
    return found, any(name not in known for name in names)
