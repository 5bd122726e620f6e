"""Recipes of the repository: configurations as a run has them, scripts, and where the corpora are."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from frontend.pipeline.config import Configuration

ROOT = Path(__file__).resolve().parents[2]
CORPORA = Path(os.environ.get("FRONTEND_CORPORA", ROOT.parent / "shared" / "corpora"))
FACTS = {"fs": 8000, "mics": 4, "symmetry": "circular", "talkers": 2, "fewest": 2, "outputs": 4}


def resolved(recipe: str | Path, name: str, variants: tuple[str, ...] = (), **facts) -> dict:
    """Return a configuration of a recipe, of no size."""
    place = Path(recipe) if isinstance(recipe, Path) else ROOT / "egs" / recipe
    return Configuration(place, {}, FACTS | facts, list(variants)).get(name)


def write_resolved(path: Path, recipe: str, name: str, variants: tuple[str, ...] = (), **facts) -> Path:
    """Write it to a file and return the path."""
    path.write_text(yaml.safe_dump(resolved(recipe, name, variants, **facts), sort_keys=False))
    return path


def copy_recipe(name: str, folder: Path) -> Path:
    """Return a copy of a recipe in which nothing was run, so that all it makes lies in the test's folder."""
    ignore = shutil.ignore_patterns("data", "exp", "__pycache__", "fsdd", "*.json", "*.png", "RESULTS.md")
    return shutil.copytree(ROOT / "egs" / name, folder, ignore=ignore)


def run_script(monkeypatch: pytest.MonkeyPatch, main: Callable[[], None], *words: object) -> None:
    """Call a script's ``main`` in this process: each start of Python costs a second."""
    monkeypatch.setattr(sys, "argv", ["script", *map(str, words)])
    main()


def run_data_sh(recipe: str, folder: Path, *words: object) -> subprocess.CompletedProcess:
    """Run ``local/data.sh`` of a recipe in ``folder``."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    line = [ROOT / "egs" / recipe / "local/data.sh", *map(str, words)]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True)
