"""What run.sh noted of a run in ``stages.json``: command, seed, share of labels, seconds and commits."""

from pathlib import Path

from frontend.errors import UserError
from frontend.text_file import read_json


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
            raise UserError(
                f"{path / 'stages.json'}: expected '{key}', found {', '.join(facts) or 'nothing'}"
            )
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
