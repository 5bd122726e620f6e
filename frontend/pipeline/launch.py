"""Where the commands of a stage run: here, one after the other, or as jobs of Slurm, through submitit.

Each command is a child process, so that its memory is freed and a crash stays in its stage; its output goes
to the stage's log, below the command as one can paste it, and to the terminal. Of stages that run at the same
time, each in a thread of its own, the terminal shows the output of one, and the warnings and errors of all.

A job of Slurm outlives the run that submitted it. Its name, ``STAGE.EXPERIMENT.INPUTS.COMMANDS`` with digests
of the last three, is all that the next run needs to find it again and to wait for it.
"""

import contextlib
import io
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from frontend.pipeline.commands import Command, Job, environment, shown, with_python, works_of
from frontend.pipeline.stage import jobs_in_queue, place_of_jobs, refuse_jobs, short_digest
from frontend.utils import errors
from frontend.utils.errors import UserError, is_complaint, warn
from frontend.utils.locks import held
from frontend.utils.parallel import LEFT_AFTER, Progress
from frontend.utils.stamps import Stamp

_LOST = -999  # instead of an exit code: the job ended without one
_LATE_S = 5.0  # for the result of a job that has ended to be seen through a file server
_LOOK_S = (1.0, 15.0)  # between two looks at the queue: at first, and at most
_NOT_OURS = ("submitit ", "srun: ", "slurmstepd-")  # lines of a job's output


def _of_run(stage: str, left_s: float) -> dict[str, str]:
    """Return what a command knows of its run: it works in what the run holds, and signs as the run does."""
    signature = f"{errors.signature('mixit run')}: stage {stage}"
    return {**held(), errors.TYPED: signature, LEFT_AFTER: f"{left_s:.0f}"}


class Local:
    """Commands run here, those of a stage one after the other.

    Args:
        exp: the experiment.

    Attributes:
        shown: the stage whose output is printed; "": that of each.
    """

    def __init__(self, exp: Path) -> None:
        self.exp, self.shown = exp, ""
        self._at_work, self._stopped = set[subprocess.Popen](), threading.Event()

    def claim(self, made_from: dict[str, Stamp]) -> None:
        """See that nothing else works on the stages that run now, before their output is touched.

        Args:
            made_from: what the output of each is made from, those at work among them.

        Raises:
            UserError: jobs of an earlier run are still queued or running.
        """
        if place_of_jobs(self.exp).is_dir():
            refuse_jobs(self.exp, jobs_in_queue(self.exp), "go on with --launcher slurm")

    def run(self, stage: str, commands: list[Command], log: Path, left_s: float = 0.0) -> None:
        """Run the commands of a stage in their order; return when all are done.

        Args:
            stage: its name.
            commands: words of each.
            log: the stage's log.
            left_s: seconds that the run expects for the other stages.

        Raises:
            SystemExit: a command failed, with its exit code.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        for command in commands:
            if self._stopped.is_set():
                raise KeyboardInterrupt
            with open(log, "a", encoding="utf-8") as file:
                print(f"$ {shown(command)}", file=file, flush=True)
                about = _of_run(stage, left_s)
                code = self._run(stage, with_python(sys.executable, command), about, file)
            if code < 0:
                why = f"a command was killed by signal {-code}; out of memory? (see {log})"
                raise UserError(f"stage {stage}: {why}")
            # One that ended with 2 or 130 has said in one line why; which stage that was is not seen of all.
            if code not in (0, 2, errors.INTERRUPTED) or (code == 2 and not self._shows(stage)):
                print(f"stage {stage}: failed; its output is in {log}", file=sys.stderr)
            if code:
                raise SystemExit(code)

    def stop(self, interrupted: bool) -> None:
        """End what is at work after a failure; of an interrupt the commands know, too."""
        self._stopped.set()
        for process in () if interrupted else tuple(self._at_work):
            process.terminate()

    def _shows(self, stage: str) -> bool:
        return self.shown in ("", stage)

    def _run(self, stage: str, command: list[str], about: dict[str, str], log: TextIO) -> int:
        """Run a command, copy its output to ours and to the log, and return its exit code."""
        # It holds the locks of this run until it ends, whatever happens to this process.
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**environment(), **about},
            close_fds=False,
        )
        lost: list[OSError] = []

        def copy(source: TextIO, target: TextIO) -> None:
            for line in source:
                try:
                    for out in (log, target) if self._shows(stage) or is_complaint(line) else (log,):
                        out.write(line)
                        out.flush()
                except OSError as error:  # nobody reads it any more
                    lost.append(error)
                    process.terminate()
                    return

        pairs = ((process.stdout, sys.stdout), (process.stderr, sys.stderr))
        threads = [threading.Thread(target=copy, args=pair, daemon=True) for pair in pairs]
        self._at_work.add(process)
        if self._stopped.is_set():  # meanwhile
            process.terminate()
        for thread in threads:
            thread.start()
        try:
            code = process.wait()
        except KeyboardInterrupt:
            if (code := process.wait()) != errors.INTERRUPTED:  # else the command has it too, and has said so
                raise
        for thread in threads:
            thread.join()
        self._at_work.discard(process)
        if lost:
            raise lost[0]
        return code


# Jobs of Slurm.


@dataclass
class _Work:
    """What one job does: commands, one after the other.

    Attributes:
        own: what they know of their run.
        number: of the job, ``12`` or ``12_3``.
        paths: of submitit: where the job's files lie.
        tries: how often it was submitted.
        gone: when the job was found to have ended without a result.
        read: bytes of its output that were printed.
    """

    commands: list[Command]
    own: dict[str, str]
    number: str = ""
    paths: Any = None
    tries: int = 0
    gone: float | None = None
    read: int = 0

    def code(self, jobs: dict, files: set[str]) -> int | None:
        """Return how the job ended, by the queue and the files beside its result; None: it has not."""
        code, result = None, self.paths.result_pickle
        if result.name in files:
            kind, value = pickle.loads(result.read_bytes())
            code = value if kind == "success" else 1
        if code is None or code < 0:
            is_queued = self.number in jobs  # what was killed may have been killed to be queued again
            self.gone = None if is_queued else self.gone or time.monotonic()
            code = None if is_queued else code
        is_lost = code is None and self.gone and time.monotonic() > self.gone + _LATE_S
        return _LOST if is_lost else code

    def about(self) -> str:
        """Return a few words that name it."""
        words = self.commands[0]
        part = f" {' '.join(words[-2:])}" if "--shard" in words else ""
        kinds = ", ".join(dict.fromkeys(command[0] for command in self.commands))
        return f"job {self.number} ({kinds}{part})"


class Slurm:
    """Commands run as jobs of Slurm, those of a stage one after the other; what can be divided as an array.

    Args:
        exp: the experiment.
        settings: what each kind of command asks for, of :func:`frontend.pipeline.config.read_launcher`.
        nj: processors of a job, on each of its nodes.
        nodes: machines that share a training.

    Raises:
        UserError: no submitit, or no Slurm.
    """

    def __init__(self, exp: Path, settings: dict[str, dict], nj: int, nodes: int = 1) -> None:
        try:
            import submitit
        except ImportError:
            advice = "pip install 'mixit-frontend[slurm]'"
            raise UserError(f"--launcher slurm: expected submitit, found none ({advice})") from None
        if lacks := [name for name in ("sbatch", "squeue", "srun") if shutil.which(name) is None]:
            raise UserError(f"--launcher slurm: expected Slurm on this machine, found no {lacks[0]}")
        self.exp, self.settings, self.nj, self.nodes, self.submitit = exp, settings, nj, nodes, submitit
        self.shown, self.prefixes, self.done = "", dict[str, str](), set[str]()
        self._stopped, self._lock = threading.Event(), threading.RLock()
        jobs_in_queue(exp)

    def claim(self, made_from: dict[str, Stamp]) -> None:
        """See :meth:`Local.claim`; jobs of these very stages, made from the same, are found again."""
        ours = short_digest(self.exp)
        self.prefixes = {name: f"{name}.{ours}.{short_digest(made_from[name])}." for name in made_from}
        with self._lock:
            jobs = {k: v for k, v in jobs_in_queue(self.exp).items() if k not in self.done}
        others = {k: v for k, v in jobs.items() if not v[0].startswith((*self.prefixes.values(),))}
        refuse_jobs(self.exp, others, "run the same command as then")

    def stop(self, interrupted: bool) -> None:
        """Wait for no job any more: they go on."""
        self._stopped.set()

    def run(self, stage: str, commands: list[Command], log: Path, left_s: float = 0.0) -> None:
        """See :meth:`Local.run`.

        Raises:
            UserError: a job failed twice.
        """
        for array in works_of(commands, self.settings):
            works = [_Work(commands, _of_run(stage, left_s)) for commands in array]
            try:
                self._finish(stage, works, log)
            except KeyboardInterrupt:
                print(f"stage {stage}: its jobs go on; to end them: scancel {_numbers(works)}", flush=True)
                raise
        with self._lock, contextlib.suppress(OSError):  # the logs are in the stage's
            shutil.rmtree(place_of_jobs(self.exp, stage), ignore_errors=True)
            place_of_jobs(self.exp).rmdir()

    def _finish(self, stage: str, works: list[_Work], log: Path) -> None:
        """Bring works to their end; what fails is submitted once more."""
        self._begin(stage, works)
        bar = Progress(len(works), f"{stage}: {works[0].commands[0][0]}", unit="job") if works[1:] else None
        left, failed, begun = [*works], list[tuple[_Work, int]](), time.monotonic()
        jobs, looked = self._queue(), time.monotonic()
        while left:
            # All names, since of a single one a file server may know for a while that it was not there.
            files = {*os.listdir(place_of_jobs(self.exp, stage))}
            for work in [*left]:
                code = work.code(jobs, files)
                if bar is None:
                    self._print(stage, _output(work, work.read))
                if code is None:
                    continue
                _append_to_log(work, log)
                if code and work.tries == 1 and (code != 2 or bar is not None):
                    print(f"stage {stage}: {work.about()} {_reason(code)}; once more", flush=True)
                    self._submit(stage, [work])
                    looked = 0.0
                    continue
                left.remove(work)
                self.done.add(work.number)  # it may stand in the queue for a moment
                failed += [(work, code)] if code else []
                if bar is not None:
                    bar.step()
            now = time.monotonic()
            if now - looked > min(max((now - begun) / 20, _LOOK_S[0]), _LOOK_S[1]):
                jobs, looked = self._queue(), now
            if left and self._stopped.wait(0.5):
                raise KeyboardInterrupt
        if bar is not None:
            bar.close()
        self._raise_failures(stage, failed)

    def _raise_failures(self, stage: str, failed: list[tuple[_Work, int]]) -> None:
        """Raise the error of the first work that failed, if any did."""
        for work, code in failed[:1]:
            if work.tries == 1:
                raise SystemExit(code)  # the command has said in one line why
            more = f"; {len(failed) - 1} more failed, too" if failed[1:] else ""
            lines = [x for x in _output(work) if not x.startswith("$ ")]
            said = f": {lines[-1].rpartition(': error: ')[2]}" if lines else ""
            where = os.path.relpath(work.paths.stdout)
            raise UserError(f"stage {stage}: {work.about()} {_reason(code)}, twice{said} (see {where}){more}")

    def _begin(self, stage: str, works: list[_Work]) -> None:
        """Find the jobs of works that an earlier run submitted; submit the others."""
        names = {name: number for number, (name, _) in self._queue().items()}
        array = names.get(self._name(stage, works), "").partition("_")[0]
        for k, work in enumerate(works):
            if number := names.get(self._name(stage, [work]), f"{array}_{k}" if array else ""):
                self._assign(stage, work, number)
        new = [work for work in works if not work.number]
        if new == works:  # what failed before is not looked at any more
            shutil.rmtree(place_of_jobs(self.exp, stage), ignore_errors=True)
        else:
            print(f"stage {stage}: found at work: job {_numbers(works)}", flush=True)
        with self._lock:
            place_of_jobs(self.exp, stage).mkdir(parents=True, exist_ok=True)
        for some in [works] if new == works else [[work] for work in new]:
            self._submit(stage, some)

    def _name(self, stage: str, works: list[_Work]) -> str:
        return self.prefixes[stage] + short_digest([work.commands for work in works])

    def _assign(self, stage: str, work: _Work, number: str) -> None:
        """Note that the job ``number`` does a work."""
        folder = place_of_jobs(self.exp, stage).absolute()
        work.number, work.gone, work.read = number, None, 0
        work.paths = self.submitit.core.utils.JobPaths(folder, number, 0)
        work.tries += 1

    def _print(self, stage: str, lines: list[str]) -> None:
        """Print output of a command as it would have been printed here."""
        for line in lines:
            if not line.startswith("$ ") and (self.shown in ("", stage) or is_complaint(line)):
                with self._lock:  # see _submit
                    print(line, file=sys.stderr if is_complaint(line) else sys.stdout, flush=True)

    def _queue(self) -> dict[str, tuple[str, str]]:
        """Return :func:`frontend.pipeline.stage.jobs_in_queue`, as soon as Slurm answers."""
        while not self._stopped.is_set():
            try:
                with self._lock:
                    return jobs_in_queue(self.exp)
            except UserError as error:
                if not self._stopped.wait(_LOOK_S[0]):
                    warn(f"{error}; waiting for it")
        raise KeyboardInterrupt

    def _submit(self, stage: str, works: list[_Work]) -> None:
        """Submit works: several as an array."""
        self._queue()
        kind = works[0].commands[0][0]
        asked = self.settings[kind if kind in self.settings else "other"]
        gpus = max(int(c[c.index("--ngpu") + 1]) if "--ngpu" in c else 0 for c in works[0].commands)
        more = {"requeue": True, **asked["options"]}
        if gpus:
            more["gpus_per_node"] = f"{asked['gpu_type']}:{gpus}" if asked["gpu_type"] else gpus
        names = {"slurm_partition": "partition", "slurm_account": "account", "mem_gb": "memory"}
        executor = self.submitit.AutoExecutor(
            place_of_jobs(self.exp, stage), cluster="slurm", slurm_max_num_timeout=1000
        )
        executor.update_parameters(
            name=self._name(stage, works),
            timeout_min=asked["time"],
            cpus_per_task=self.nj,
            nodes=self.nodes if kind == "train" else 1,
            tasks_per_node=1,
            stderr_to_stdout=True,
            slurm_array_parallelism=asked["array"],
            # Of itself srun gives a step one processor, and lets the other nodes wait for one that failed.
            slurm_srun_args=[f"--cpus-per-task={self.nj}", "--kill-on-bad-exit=1"],
            slurm_additional_parameters=more,
            **{name: asked[key] for name, key in names.items() if asked[key] is not None},
        )
        try:
            quiet = contextlib.redirect_stderr(io.StringIO())
            with self._lock, _for_sbatch(), quiet, executor.batch():  # what other threads share is changed
                jobs = [executor.submit(Job(work.commands, os.getcwd(), work.own)) for work in works]
        except self.submitit.core.utils.FailedJobError as error:
            said = f"{error}".partition("\n")[0]
            raise UserError(f"stage {stage}: {said} (see conf/launcher/slurm.yaml)") from None
        for work, job in zip(works, jobs, strict=True):
            self._assign(stage, work, job.job_id)
        what = f"job {_numbers(works)} ({kind}, {len(works)} parts)" if works[1:] else works[0].about()
        print(f"stage {stage}: {what} submitted", flush=True)


def _numbers(works: list[_Work]) -> str:
    """Return the numbers of jobs as scancel takes them."""
    return " ".join(dict.fromkeys(work.number.partition("_")[0] for work in works if work.number))


def _output(work: _Work, since: int = 0) -> list[str]:
    """Return the lines that a job's commands have written after so many bytes."""
    if not work.paths.stdout.exists():
        return []
    with open(work.paths.stdout, "rb") as file:
        file.seek(since)
        new = file.read()
    new = new[: new.rfind(b"\n") + 1]
    work.read = since + len(new)
    return [x for x in new.decode(errors="replace").splitlines() if not x.startswith(_NOT_OURS)]


def _append_to_log(work: _Work, log: Path) -> None:
    """Put a job's output into the stage's log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    lines = _output(work)
    with open(log, "a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    for line in lines if "--shard" in work.commands[0] else ():
        if line.startswith("warning: "):
            warn(line.removeprefix("warning: "))


def _reason(code: int) -> str:
    """Return how a job that failed ended, for a message."""
    if code >= 0:
        return f"failed with exit code {code}"
    if code == _LOST:
        return "ended before its command did (out of memory, or cancelled?)"
    return f"was killed by signal {-code} ({'cancelled' if code == -signal.SIGTERM else 'out of memory'}?)"


@contextlib.contextmanager
def _for_sbatch() -> Iterator[None]:
    """Hide the job that this process may itself run in from sbatch, which takes settings from it."""
    before = {**os.environ}
    for name in before:
        if name.startswith(("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_")) and name != "SLURM_CONF":
            del os.environ[name]
    os.environ["PYTHONPATH"] = environment()["PYTHONPATH"]  # the job imports this module
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
