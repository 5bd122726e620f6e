"""Which rows of the results the two claims are about, and which of them an experiment lacks."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from frontend.claims_data import Runs
from frontend.errors import UserError

MIXTURE, OUTPUTS, STUDENT, FULL = "mixture", "teacher_outputs", "student", "supervised_full"
# The paper's own rule first; the control that is told the truth, and the floor, where they were scored.
RULES = ("teacher_energy", "teacher_energy_residual", "teacher_spatial_merge")
OPTIONAL = ("teacher_oracle", "oracle")
BLIND = re.compile(r"(auxiva|ilrma)\w*")
KINDS = ("supervised", "fine-tuned", "distilled")
_SMALL = "small"
_CURVE = {
    STUDENT: ("fine-tuned", 0.0),
    "student_ft_1": ("fine-tuned", 0.01),
    "student_ft_5": ("fine-tuned", 0.05),
    "student_ft": ("fine-tuned", _SMALL),
    "distilled_ft_1": ("distilled", 0.01),
    "distilled_ft_5": ("distilled", 0.05),
    "distilled_ft": ("distilled", _SMALL),
    "supervised_1": ("supervised", 0.01),
    "supervised_5": ("supervised", 0.05),
    "supervised_small": ("supervised", _SMALL),
    "supervised_25": ("supervised", 0.25),
    FULL: ("supervised", 1.0),
}
# With the small share: what the goal is stated for.
SEMI_SUPERVISED = ("student_ft", "distilled_ft")
_REFINED = (STUDENT, *SEMI_SUPERVISED, FULL)


@dataclass(frozen=True)
class Point:
    """One point of the label curve: its row's name without refinement, how it was trained, on what share."""

    name: str
    kind: str
    share: float


def refined(name: str, refinement: str | None) -> str:
    """Return the name of a row's refined one.

    >>> refined("student", "iva"), refined("student", None)
    ('student+iva', 'student')
    """
    return f"{name}+{refinement}" if refinement else name


def curve_points(runs: Runs) -> list[Point]:
    """Return the points of the curve, with the small share that the runs noted.

    Raises:
        UserError: no ``label_share`` was noted, or they differ.
    """
    small = []
    for name, facts in zip(runs.names, runs.facts, strict=True):
        if "label_share" not in facts:
            raise UserError(f"{name}/stages.json: expected 'label_share', found {', '.join(facts)}")
        small.append(float(facts["label_share"]))
        if small[-1] != small[0]:
            raise UserError(
                f"{name}/stages.json: label_share is {small[-1]:g}, that of {runs.names[0]} is {small[0]:g}; "
                "expected the same share of labels in all experiments"
            )
    return [
        Point(name, kind, small[0] if share == _SMALL else share) for name, (kind, share) in _CURVE.items()
    ]


def blind_rows(runs: Runs, refinement: str | None) -> list[str]:
    """Return the blind rows: as they are, or those refined by steps that ``refinement`` has too."""
    wanted = set(refinement.split("+")) if refinement else set()
    found = []
    for name in runs.systems:
        base, *steps = name.split("+")
        if BLIND.fullmatch(base) and bool(steps) == bool(wanted) and set(steps) <= wanted:
            found.append(name)
    return found


def missing(runs: Runs, refinement: str | None) -> list[str]:
    """Return a line per experiment and kind of measurement that lacks rows the page needs.

    A refined row is needed where the goal is stated for it, any other only if some experiment has it.
    """
    curve = list(_CURVE)
    some = {name for scores in runs.two for name in scores}
    if refinement:
        names = [refined(name, refinement) for name in _CURVE]
        curve += [n for n in names if n in some or n.split("+")[0] in _REFINED]
    blind = blind_rows(runs, None) + (blind_rows(runs, refinement) if refinement else [])
    blind = blind or ["auxiva", "ilrma"]
    heard = [MIXTURE, *blind, *curve]
    lines = []
    for k, experiment in enumerate(runs.names):
        lacking = {
            "scores": _absent([MIXTURE, *blind, OUTPUTS, *RULES, *curve], runs.two[k]),
            "one-talker scores": _absent([OUTPUTS, STUDENT], runs.one[k]),
            "word errors": _absent(heard, runs.words[k]),
        }
        lines += [
            f"{experiment} has no {what} of {', '.join(rows)}" for what, rows in lacking.items() if rows
        ]
    return lines


def check_refinement_is_there(runs: Runs, refinement: str) -> None:
    """Raise a UserError if no experiment has a row of that refinement."""
    there = sorted({"+".join(name.split("+")[1:]) for name in runs.systems if "+" in name})
    if refinement not in there:
        raise UserError(
            f"--refinement {refinement}: expected one that some row was refined by, "
            f"found {', '.join(there) or 'none'} in the scores of {', '.join(runs.names)}"
        )


def _absent(names: Sequence[str], measured: dict) -> list[str]:
    return [name for name in names if name not in measured]
