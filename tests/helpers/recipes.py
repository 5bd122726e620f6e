"""Recipes of the repository, and their configurations as a run has them."""

import shutil
from pathlib import Path

import yaml

from frontend.pipeline.config import Configuration

ROOT = Path(__file__).resolve().parents[2]
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
