"""A Slurm of one node that belongs to the tests: own key, ports and folder, run by whoever runs the tests."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_CONF = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={at}/munge.socket,cred_expire=5
StateSaveLocation={at}
SlurmdSpoolDir={at}/spool
SlurmctldPidFile={at}/slurmctld.pid
SlurmdPidFile={at}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=3
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=20000
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def until(condition: Callable, what: str, seconds: float = 1200) -> object:
    """Wait for a condition and return its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.01)
    return value


class Cluster:
    """The daemons of a Slurm; ``SLURM_CONF`` of the environment leads to them.

    Args:
        folder: of its own, that everybody may enter.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.host = folder, socket.gethostname().partition(".")[0]
        self.running: dict[str, subprocess.Popen] = {}
        with socket.socket() as one, socket.socket() as two:
            for each in (one, two):
                each.bind(("127.0.0.1", 0))
            ports = [each.getsockname()[1] for each in (one, two)]
        user = subprocess.check_output(["id", "-un"], text=True).strip()
        text = _CONF.format(at=folder, host=self.host, user=user, ports=ports)
        (folder / "slurm.conf").write_text(text)
        (folder / "spool").mkdir()
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o600)

    def start(self) -> None:
        """Start all of it."""
        files = [f"--{name}-file={self.folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
        self._start("munged", "--foreground", f"--socket={self.folder}/munge.socket", *files)
        until((self.folder / "munge.socket").exists, "munged", 30)
        self._start("slurmctld", "-D")
        self.start_node()

    def start_node(self) -> None:
        """Start slurmd, and wait until the node takes jobs."""
        self._start("slurmd", "-D", "-N", self.host)
        until(lambda: self.tell("sinfo", "-h", "-o%t") in ("idle", "mix", "alloc"), self._logs(), 60)

    def crash_node(self) -> None:
        """Kill slurmd and all that its node runs, and let Slurm notice it."""
        node = self.running.pop("slurmd")
        node.kill()
        node.wait()
        found = self._of_jobs()
        watchers = {*found.values()} - {*found}  # killed first: they would report the end of the others
        for number in [*(one for one in watchers if _name_of(one) == "slurmstepd"), *found]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.tell("scontrol", "update", f"nodename={self.host}", "state=down", "reason=crash")

    def tell(self, *line: str) -> str:
        """Return what one of Slurm's programs prints."""
        return subprocess.run(line, capture_output=True, text=True).stdout.strip()

    def jobs(self) -> list[list[str]]:
        """Return number, state and name of all jobs that are queued or running."""
        return [line.split() for line in self.tell("squeue", "-h", "-r", "-o%i %T %j").splitlines()]

    def stop(self) -> None:
        """End all jobs, and all of it."""
        self.tell("scancel", "--signal=KILL", "--full", f"--user={os.getuid()}")
        self.tell("scancel", f"--user={os.getuid()}")
        with contextlib.suppress(AssertionError):
            until(lambda: not self.jobs(), "the end of the jobs", 20)
        for process in reversed(self.running.values()):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def signal_jobs(self, which: signal.Signals) -> list[int]:
        """Send a signal to all processes of jobs, at once, not by way of Slurm; return their numbers."""
        found = [one for one in self._of_jobs() if _name_of(one) != "slurmstepd"]
        for number in found:
            os.kill(number, which)
        return found

    def _of_jobs(self) -> dict[int, int]:
        """Return the processes of jobs, and the parent of each."""
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                known = (place / "environ").read_bytes()
                if b"SLURM_JOB_ID=" in known and str(self.folder).encode() in known:
                    found[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
        return found

    def _start(self, name: str, *options: str) -> None:
        with open(self.folder / f"{name}.out", "ab") as out:
            program = [shutil.which(name, path=_PATH), *options]
            self.running[name] = subprocess.Popen(program, stdout=out, stderr=out, start_new_session=True)

    def _logs(self) -> str:
        return "\n".join(path.read_text()[-800:] for path in sorted(self.folder.glob("*.out")))


def _name_of(number: int) -> str:
    try:
        return Path(f"/proc/{number}/comm").read_text().strip()
    except OSError:
        return ""


def has_pending(number: int, which: signal.Signals) -> bool:
    """Return whether a signal waits for a process that is stopped."""
    lines = Path(f"/proc/{number}/status").read_text().splitlines()
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask >> (which - 1) & 1 for mask in masks)


@contextlib.contextmanager
def a_slurm() -> Iterator[Cluster]:
    """Yield a Slurm that runs; skip the test, with the reason, where it is not installed."""
    lacks = [name for name in _PROGRAMS if shutil.which(name, path=_PATH) is None]
    if lacks:
        pytest.skip(f"no Slurm on this machine, {lacks[0]} is missing: apt-get install slurm-wlm munge")
    with tempfile.TemporaryDirectory(prefix="slurm") as folder:
        os.chmod(folder, 0o755)  # munged refuses a folder that others may not enter
        cluster, before = Cluster(Path(folder)), os.environ.get("SLURM_CONF")
        os.environ["SLURM_CONF"] = f"{folder}/slurm.conf"
        try:
            try:
                cluster.start()
            except AssertionError as error:  # nothing of ours is at work yet
                pytest.skip(f"Slurm's own daemons do not start on this machine: {str(error)[-300:]}")
            yield cluster
        finally:
            cluster.stop()
            os.environ.pop("SLURM_CONF")
            os.environ |= {"SLURM_CONF": before} if before else {}
