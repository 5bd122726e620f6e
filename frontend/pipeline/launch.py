"""Where the commands of a stage run: here, one after the other, or as jobs of submitit.

Each command is a child process, so that its memory is freed and a crash stays in its stage; its output goes
to the terminal and to the stage's log, below the command as one can paste it.
"""

import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from typing import TextIO

from frontend.utils import errors
from frontend.utils.errors import UserError
from frontend.utils.locks import held

# Commands that take --shard i/n: their items are written whole, one by one, and a last call without it writes
# the tables.
SHARDED = ("simulate render", "label", "separate", "score", "decode")


def shown(command: list[str]) -> str:
    """Return a command as one can paste it."""
    return shlex.join(_with_python("python", command))


def _with_python(python: str, command: list[str]) -> list[str]:
    if command[0].endswith(".py"):
        return [python, *command]
    return command if "/" in command[0] else [python, "-m", "frontend", *command]


def _environment() -> dict[str, str]:
    """Return the environment of a command: this interpreter, and this repository's package."""
    package = str(Path(__file__).parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PATH": programs, "PYTHONUNBUFFERED": "1"}


def _of_run(stage: str) -> dict[str, str]:
    """Return what a command knows of its run: it works in what the run holds, and signs as the run does."""
    return {**held(), errors.TYPED: f"{errors.signature('mixit run')}: stage {stage}"}


class Local:
    """Commands run here, one after the other."""

    def run(self, stage: str, commands: list[list[str]], log: Path, shards: int = 1) -> None:
        """Run the commands of a stage in their order; return when all are done.

        Args:
            stage: its name.
            commands: words of each.
            log: the stage's log.
            shards: into how many parts commands may be divided.

        Raises:
            SystemExit: a command failed, with its exit code.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        for command in commands:
            with open(log, "a", encoding="utf-8") as file:
                print(f"$ {shown(command)}", file=file, flush=True)
                code = _run(_with_python(sys.executable, command), file, {**_environment(), **_of_run(stage)})
                check(stage, code, log)


def check(stage: str, code: int, log: Path) -> None:
    """End the run where a command failed; one that ended with 2 has said in one line why."""
    if code < 0:
        raise UserError(f"stage {stage}: a command was killed by signal {-code}; out of memory? (see {log})")
    if code:
        if code not in (2, 130):
            print(f"stage {stage}: failed; its output is in {log}", file=sys.stderr)
        raise SystemExit(code)


def _run(command: list[str], log: TextIO, its_environment: dict[str, str]) -> int:
    """Run a command, copy its output to ours and to the log, and return its exit code."""
    # It holds the locks of this run until it ends, whatever happens to this process.
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=its_environment,
        close_fds=False,
    )
    lost: list[OSError] = []

    def copy(source: TextIO, target: TextIO) -> None:
        for line in source:
            try:
                for out in (log, target):
                    out.write(line)
                    out.flush()
            except OSError as error:  # nobody reads it any more
                lost.append(error)
                process.terminate()
                return

    pairs = ((process.stdout, sys.stdout), (process.stderr, sys.stderr))
    threads = [threading.Thread(target=copy, args=pair, daemon=True) for pair in pairs]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
        code = process.wait()
    except KeyboardInterrupt:
        if process.wait() == errors.INTERRUPTED:  # the command has it too, and has said so
            for thread in threads:
                thread.join()
            raise SystemExit(errors.INTERRUPTED) from None
        raise
    if lost:
        raise lost[0]
    return code


class Submitit:
    """Commands run as jobs, one after the other; what can be divided as an array of them.

    Args:
        settings: ``cluster``, ``shards``, ``timeout_min``, ``cpus`` and ``partition``, of the recipe's
            ``launcher``.
        folder: for the scripts and logs of the jobs.
        ngpu: GPUs of a training, and one of them for decoding.

    Raises:
        UserError: submitit is not installed.
    """

    def __init__(self, settings: dict, folder: Path, ngpu: int) -> None:
        try:
            import submitit
        except ImportError:
            raise UserError(
                "--launcher slurm: expected the package submitit, found none (pip install "
                "'mixit-frontend[slurm]')"
            ) from None
        self.settings, self.ngpu = settings, ngpu
        try:
            self.executor = submitit.AutoExecutor(
                folder, cluster=settings["cluster"], slurm_max_num_timeout=100
            )
        except (RuntimeError, ValueError) as error:
            raise UserError(f"launcher.cluster={settings['cluster']}: {error}") from None

    def run(self, stage: str, commands: list[list[str]], log: Path, shards: int = 1) -> None:
        """See :class:`Local`."""
        for command in commands:
            divided = shards > 1 and any(" ".join(command).startswith(name) for name in SHARDED)
            if divided:
                parts = [[*command, "--shard", f"{k}/{shards}"] for k in range(1, shards + 1)]
                self._submit(stage, parts, log)
            self._submit(stage, [command], log)

    def _submit(self, stage: str, commands: list[list[str]], log: Path) -> None:
        gpus = {"train": self.ngpu, "decode": min(self.ngpu, 1)}.get(commands[0][0], 0)
        partition = {"slurm_partition": self.settings["partition"]} if self.settings["partition"] else {}
        self.executor.update_parameters(
            name=stage,
            timeout_min=self.settings["timeout_min"],
            cpus_per_task=self.settings["cpus"],
            gpus_per_node=gpus,
            **partition,
        )
        with self.executor.batch():
            jobs = [
                self.executor.submit(Job(_with_python(sys.executable, command), os.getcwd(), _of_run(stage)))
                for command in commands
            ]
        try:
            self._wait(stage, commands, jobs, log)
        except BaseException:  # they would go on working in what the next run takes for its own
            for job in jobs:
                if not job.done():
                    job.cancel(check=False)
            raise

    def _wait(self, stage: str, commands: list[list[str]], jobs: list, log: Path) -> None:
        """Wait for jobs, copy their output to ours and to the log, and end the run where one failed."""
        from submitit.core.utils import FailedJobError, UncompletedJobError

        log.parent.mkdir(parents=True, exist_ok=True)
        for command, job in zip(commands, jobs, strict=True):
            try:
                code = job.result()
            except (FailedJobError, UncompletedJobError):
                raise UserError(
                    f"stage {stage}: job {job.job_id} ended before its command did; out of memory or time? "
                    f"(see {job.paths.stderr})"
                ) from None
            with open(log, "a", encoding="utf-8") as file:
                print(f"$ {shown(command)}", file=file)
                for text, target in ((job.stdout(), sys.stdout), (job.stderr(), sys.stderr)):
                    own = [line for line in (text or "").splitlines(True) if not line.startswith("submitit ")]
                    for out in (target, file):
                        out.writelines(own)
            check(stage, code, log)


class Job:
    """A command as a job: queued again when its time is over, it runs again, and so goes on."""

    def __init__(self, command: list[str], place: str, own: dict[str, str]) -> None:
        self.command, self.place, self.own = command, place, own

    def __call__(self) -> int:
        """Run the command and return its exit code."""
        all_of_it = {**_environment(), **self.own}  # of the machine that it runs on
        return subprocess.run(self.command, cwd=self.place, env=all_of_it, check=False).returncode

    def checkpoint(self, *arguments) -> object:
        """Return what is queued again."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, *arguments)
