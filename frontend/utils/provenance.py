"""Where numbers come from: date, commit, versions, machine, and what a run noted in ``stages.json``."""

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from frontend.utils.device import computes_in_bfloat16
from frontend.utils.errors import UserError
from frontend.utils.files import read_json

_PACKAGES = ("espnet", "torch", "numpy", "pyroomacoustics", "fast_bss_eval", "pystoi", "pesq", "meeteval")
# What numbers depend on, anywhere in the checkout: ``:(top)``, or git would look below -C alone. Results are
# written while they are made; they do not make the code another one.
_CODE = [f":(top)*.{suffix}" for suffix in ("py", "sh", "yaml", "txt", "toml", "cfg")]


def provenance() -> dict:
    """Return ``date`` (UTC), ``commit`` (None outside a git checkout), ``versions`` and ``machine``."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        # A table can be made where nothing was trained or scored.
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": commit_of(),
        "versions": versions,
        "machine": _machine(),
    }


def commit_of(directory: Path | None = None) -> str | None:
    """Return the commit of the checkout that ``directory`` (this package) lies in, None outside of one.

    ``+changes`` marks changed code.
    """
    here = ["git", "-C", str(directory or Path(__file__).parents[1])]
    try:
        commit = subprocess.run([*here, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        status = [*here, "status", "--porcelain", "--untracked-files=no", "--", *_CODE]
        changed = subprocess.run(status, capture_output=True, text=True, check=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+changes" if changed else "")


def run_facts(path: Path) -> dict:
    """Return the facts of the experiment in ``path``; ``seed`` is a number.

    Raises:
        UserError: no such directory, no ``stages.json`` in it, or one that lacks a fact.
    """
    if not path.is_dir():
        raise UserError(f"{path}: expected the directory of an experiment, found none (check the path)")
    facts = read_json(path / "stages.json")
    for key in ("command", "seed", "stages"):
        if key not in facts:
            found = ", ".join(facts) or "nothing"
            raise UserError(f"{path / 'stages.json'}: expected '{key}', found {found}")
    return {**facts, "seed": int(facts["seed"])}


def stage_commits(run: dict) -> dict[str, str]:
    """Return the commit that the stages ran at, not the page's own; several with their stages."""
    stages: dict[str, list[str]] = {}
    for stage, commit in run.get("commits", {}).items():
        stages.setdefault(commit, []).append(stage)
    if not any(stages):
        return {}
    if len(stages) == 1:
        return {"commit": next(iter(stages))}
    return {"commit": ", ".join(f"{commit} ({' '.join(names)})" for commit, names in stages.items())}


def _machine() -> str:
    cpu = _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = _field("/proc/meminfo", "MemTotal")
    facts = [cpu, f"{cores} cores"]
    if memory:
        facts.append(f"{int(memory.split()[0]) / 2**20:.0f} GiB")
    if "torch" in sys.modules:  # too slow to load only to ask this
        facts.append("bfloat16" if computes_in_bfloat16("cpu") else "no bfloat16")
    return ", ".join(facts)


def _field(path: str, name: str) -> str | None:
    """Return the value of the first line ``name : value`` of a file of the kernel, None without one."""
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8", errors="replace") as lines:
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), None)
