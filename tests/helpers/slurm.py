"""A Slurm that belongs to the tests: own key, ports and folder; all its nodes are here."""

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
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={at}/munge.socket,cred_expire=5
StateSaveLocation={at}
SlurmdSpoolDir={at}/%n
SlurmctldPidFile={at}/slurmctld.pid
SlurmdPidFile={at}/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=3
MpiDefault=none
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
_NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=20000\n"


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
        nodes: number of nodes.
    """

    def __init__(self, folder: Path, nodes: int = 1) -> None:
        self.folder, host = folder, socket.gethostname().partition(".")[0]
        self.nodes = [f"n{k}" for k in range(1, nodes + 1)]
        self.running: dict[str, subprocess.Popen] = {}
        with contextlib.ExitStack() as stack:
            each = [stack.enter_context(socket.socket()) for _ in range(nodes + 1)]
            for one in each:
                one.bind(("127.0.0.1", 0))
            ports = [one.getsockname()[1] for one in each]
        user = subprocess.check_output(["id", "-un"], text=True).strip()
        text = _CONF.format(at=folder, host=host, user=user, port=ports[0])
        lines = [_NODE.format(name=n, host=host, port=p) for n, p in zip(self.nodes, ports[1:], strict=True)]
        (folder / "slurm.conf").write_text("".join([text, *lines]))
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o600)

    def start(self) -> None:
        """Start all of it."""
        files = [f"--{name}-file={self.folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
        self._start("munged", "--foreground", f"--socket={self.folder}/munge.socket", *files)
        until((self.folder / "munge.socket").exists, "munged", 30)
        self._start("slurmctld", "-D")
        for name in self.nodes:
            self.start_node(name)

    def start_node(self, name: str = "n1") -> None:
        """Start slurmd, and wait until the node takes jobs."""
        (self.folder / name).mkdir(exist_ok=True)
        self._start("slurmd", "-D", "-N", name, called=name)
        state = ("sinfo", "-h", "-o%t", "-n", name)
        until(lambda: self.tell(*state) in ("idle", "mix", "alloc"), self._logs(), 60)

    def crash_node(self, name: str = "n1") -> None:
        """Kill slurmd and all that its node runs, and let Slurm notice it."""
        node = self.running.pop(name)
        node.kill()
        node.wait()
        found = self._of_jobs(f"SLURMD_NODENAME={name}")
        watchers = {*found.values()} - {*found}  # killed first: they would report the end of the others
        for number in [*(one for one in watchers if _name_of(one) == "slurmstepd"), *found]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.tell("scontrol", "update", f"nodename={name}", "state=down", "reason=crash")

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

    def _of_jobs(self, setting: str = "SLURM_JOB_ID=") -> dict[int, int]:
        """Return the processes of jobs with a setting in their environment, and the parent of each."""
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                known = (place / "environ").read_bytes()
                if setting.encode() in known and str(self.folder).encode() in known:
                    found[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
        return found

    def _start(self, name: str, *options: str, called: str = "") -> None:
        with open(self.folder / f"{called or name}.out", "ab") as out:
            line = [shutil.which(name, path=_PATH), *options]
            process = subprocess.Popen(line, stdout=out, stderr=out, start_new_session=True)
        self.running[called or name] = process

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
def a_slurm(nodes: int = 1) -> Iterator[Cluster]:
    """Yield a Slurm of so many nodes that runs; skip the test, with the reason, where it is not installed."""
    lacks = [name for name in _PROGRAMS if shutil.which(name, path=_PATH) is None]
    if lacks:
        pytest.skip(f"no Slurm on this machine, {lacks[0]} is missing: apt-get install slurm-wlm munge")
    with tempfile.TemporaryDirectory(prefix="slurm") as folder:
        os.chmod(folder, 0o755)  # munged refuses a folder that others may not enter
        cluster, before = Cluster(Path(folder), nodes), os.environ.get("SLURM_CONF")
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
