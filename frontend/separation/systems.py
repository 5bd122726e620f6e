"""The systems that are compared: the rows of the results, generated from ``conf/systems.yaml``.

The file says of what the rows are made::

    reference: {mixture: {}, oracle: {}}          # first the unprocessed recording, last the true images
    blind:                                        # blind methods and their settings
      auxiva: {iterations: 30, refine: [none, mask]}
      auxiva_starts: {method: auxiva, starts: 4}  # the method, where the row has another name
    teacher:                                      # outputs of exp/NAME/teacher, one stream a talker by a rule
      rules: [outputs, energy, spatial_merge]     # outputs: as they are
      refine: {spatial_merge: [none, iva+mask]}
    models:                                       # networks of one output a talker, in exp/NAME/student ...
      student: {refine: [none, mvdr]}             # the rows student and student+mvdr
      supervised_full: {labels: full}             # what was trained on labels is left out where it is missing
      joint: {labels: small, asr: joint/asr}      # recognised by its own recogniser
    curve:                                        # networks of a share of the labels: student_ft_5 ...
      shares: {0.05: [student_ft, supervised]}
      refine: [none, iva+mask]
    further: {steps: gate+iva+mask, rows: [student+iva+mask]}   # rows refined once more, at the end
    microphones: 1                                # leaves out all rows that cannot separate what one records

A file may as well list its rows one by one, ``NAME: {model: teacher, rule: energy, refine: mvdr}``, by the
attributes of :class:`System`; what is no attribute is a setting of the rule or the blind method. For whole
recordings a row may have windows of its own: ``block`` and ``block_hop`` in seconds; a hop that is not given
is half a block (``window`` is that of a blind method's or a rule's STFT).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frontend import MOST_MICS, PRETRAINED
from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.files import read_settings

_MOST_BYTES = 200  # of a name: 255 without the endings of files, and what is added while they are written
UNPROCESSED = ("mixture", "oracle")
LABELS = ("small", "full")
_OWN_KEYS = ("model", "blind", "rule", "refine", "labels", "asr", "optional", "block", "block_hop")
# Sections of the file -> the keys of each; none where they are names of rows.
_SECTIONS: dict[str, tuple[str, ...]] = {
    "reference": UNPROCESSED,
    "blind": (),
    "teacher": ("rules", "refine"),
    "models": (),
    "curve": ("shares", "refine"),
    "further": ("steps", "rows"),
}


def streams_asked(rule: str | None, any_array: bool, n_talkers: int) -> int | None:
    """Return how many streams a network is asked for; None: as many as in its training.

    A network of any array makes one a talker, unless a rule is to choose among its outputs.
    """
    return n_talkers if any_array and rule in (None, "all") else None


@dataclass(frozen=True)
class System:
    """One row of the results table.

    Attributes:
        name: of the row.
        model: directory of the trained network below the experiment, ``any_array`` for the network of the
            package, or None.
        blind: name of the blind method, or None.
        rule: how outputs become streams; None takes them as they are.
        refine: steps of :mod:`frontend.dsp.refine` that the streams go through, joined by a plus, or None.
        labels: ``small``, ``full``, a share of the labels, or None.
        asr: directory of its own recogniser below the experiment; None for the one that all rows share.
        optional: left out, rather than an error, where its model was not trained.
        settings: of the rule or the blind method.
        block, block_hop: of the windows in which whole recordings are separated, in seconds; None: those of
            all systems.
    """

    name: str
    model: str | None = None
    blind: str | None = None
    rule: str | None = None
    refine: str | None = None
    labels: str | float | None = None
    settings: dict = field(default_factory=dict)
    asr: str | None = None
    optional: bool = False
    block: float | None = None
    block_hop: float | None = None

    def windows(self, window_s: float, hop_s: float) -> tuple[float, float]:
        """Return window and hop for whole recordings in seconds: its own, or else those given."""
        if self.block is None:
            return float(window_s), float(hop_s)
        return float(self.block), self.block / 2 if self.block_hop is None else float(self.block_hop)

    def network(self, exp: str | Path) -> Path:
        """Return where its network lies: below an experiment, or in the package."""
        return PRETRAINED if self.model == PRETRAINED.name else Path(exp) / str(self.model)

    @property
    def source(self) -> str:
        """What makes the outputs: rows of the same source share one pass over the data."""
        return f"model {self.model}" if self.model else f"blind {self.blind} {sorted(self.settings.items())}"

    @property
    def processing(self) -> dict:
        """What the streams depend on beside the model's weights and the recordings; for a stamp."""
        return {name: getattr(self, name) for name in ("blind", "rule", "refine", "settings")}


def load_systems(path: str | Path, every: bool = False) -> list[System]:
    """Read a systems file.

    Args:
        path: the file.
        every: also rows that do not fit its number of microphones: a report may be of several numbers.

    Raises:
        UserError: whatever is unknown in it, or does not fit together.
    """
    return systems_of(read_settings(path, "table of systems"), path, every)


def systems_of(content: dict, path: str | Path, every: bool = False) -> list[System]:
    """Return the rows of what a systems file holds, as :func:`load_systems`; ``path`` is for messages."""
    if not content:
        raise UserError(f"{path}: expected 'NAME: {{...}}' per system, found none")
    entries = dict(content)
    microphones = entries.pop("microphones", None)
    if not isinstance(microphones, int | None):
        raise UserError(f"{path}: microphones: expected a number, found {microphones!r}")
    if any(name in _SECTIONS and not _is_row(entry) for name, entry in entries.items()):
        entries = _generate(entries, str(path))
    systems = [_system(str(name), entry, f"{path}: {name}: ") for name, entry in entries.items()]
    return [s for s in systems if every or microphones is None or fits(s, microphones)]


def fits(system: System, microphones: int) -> bool:
    """Return whether a system separates what so many microphones recorded."""
    if system.model == PRETRAINED.name:
        return 1 < microphones <= MOST_MICS
    return microphones > 1 or not needs_array(system)


def _is_row(entry: object) -> bool:
    """A row may have the name of a section: ``teacher: {model: teacher}``."""
    return isinstance(entry, dict) and bool({"model", "blind"} & entry.keys())


def needs_array(system: System) -> bool:
    """Return whether a system needs more than one microphone."""
    return bool(system.blind or system.refine or system.rule == "spatial_merge")


def choose(known: Sequence[str], wanted: Sequence[str], where: str | Path) -> list[str]:
    """Return those of the systems ``known`` that are wanted, all of them if none is named.

    Raises:
        UserError: one is not known; ``where`` is the file or directory that they are of.
    """
    for name in wanted:
        if name not in known:
            raise UserError(f"{where}: no system '{name}'{did_you_mean(name, known)}")
    return [name for name in known if name in wanted or not wanted]


def trained(systems: list[System], exp: str | Path) -> list[System]:
    """Return ``systems`` without the optional ones that have no model below ``exp``."""
    return [s for s in systems if not s.optional or s.network(exp).exists()]


# --- rows from sections


def _generate(sections: dict, where: str) -> dict[str, dict]:
    """Return the rows that the sections of a file stand for, in the order of the table."""
    for name, section in sections.items():
        if name not in _SECTIONS:
            raise UserError(f"{where}: unknown section '{name}'{did_you_mean(name, _SECTIONS)}")
        known = _SECTIONS[name] or _mapping(section, f"{where}: {name}: ")
        for key in _mapping(section, f"{where}: {name}: "):
            if key not in known:
                raise UserError(f"{where}: {name}: unknown key '{key}'{did_you_mean(key, known)}")
    of = {name: sections.get(name) or {} for name in _SECTIONS}
    rows: dict[str, dict] = {"mixture": {}} if "mixture" in of["reference"] else {}
    for name, settings in of["blind"].items():
        entry = {"method": name} | _mapping(settings, f"{where}: {name}: ")
        rows |= _refined(name, {"blind": entry.pop("method")} | entry)
    refinements = _mapping(of["teacher"].get("refine"), f"{where}: teacher: refine: ")
    for rule in _names(of["teacher"].get("rules"), f"{where}: teacher: rules: "):
        entry = {"model": "teacher", "refine": refinements.get(rule)}
        entry |= {} if rule == "outputs" else {"rule": rule}
        rows |= _refined(f"teacher_{rule.replace('+', '_')}", entry)
    for name, settings in of["models"].items():
        rows |= _refined(name, {"model": name} | _mapping(settings, f"{where}: {name}: "))
    for share, names in _mapping(of["curve"].get("shares"), f"{where}: curve: shares: ").items():
        if not isinstance(share, int | float):
            raise UserError(f"{where}: curve: shares: expected a number for each share, found {share!r}")
        for name in (f"{n}_{100 * share:g}" for n in _names(names, f"{where}: curve: {share}: ")):
            entry = {"model": f"curve/{name}", "labels": share, "refine": of["curve"].get("refine")}
            rows |= _refined(name, entry)
    rows |= {"oracle": {}} if "oracle" in of["reference"] else {}
    for name in _names(of["further"].get("rows"), f"{where}: further: rows: "):
        steps = of["further"].get("steps")
        if name not in rows or not steps:
            raise UserError(f"{where}: further: expected steps, and rows of this table, found '{name}'")
        before = rows[name].get("refine")
        rows[f"{name}+{steps}"] = rows[name] | {"refine": f"{before}+{steps}" if before else steps}
    return rows


def _mapping(settings: object, where: str) -> dict:
    if settings is not None and not isinstance(settings, dict):
        raise UserError(f"{where}expected settings such as {{refine: [none, mvdr]}}, found {settings!r}")
    return settings or {}


def _names(names: Any, where: str) -> list[str]:
    """Return a name, or names; none where there is nothing."""
    found = [] if names is None else names if isinstance(names, list) else [names]
    if not all(isinstance(name, str) for name in found):
        raise UserError(f"{where}expected a name, or a list of names, found {names!r}")
    return found


def _refined(name: str, entry: dict) -> dict[str, dict]:
    """Return a row for each of the entry's refinements; ``none`` is the row without any."""
    steps = entry.get("refine") or "none"
    plain = {k: v for k, v in entry.items() if k != "refine"}
    if "labels" in plain:  # a run with fewer labels trains fewer networks: these are left out of the table
        plain = {"optional": True} | plain
    rows: dict[str, dict] = {}
    for step in _names(steps, f"{name}: refine: "):
        rows |= {name: plain} if step == "none" else {f"{name}+{step}": plain | {"refine": step}}
    return rows


# --- one row


def _system(name: str, entry: object, where: str) -> System:
    if not isinstance(entry, dict):
        raise UserError(f"{where}expected a mapping such as {{model: student}}, found {entry!r}")
    own = {k: v for k, v in entry.items() if k in _OWN_KEYS}
    if not name.strip() or "/" in name or name[0] == "." or not name.isprintable():
        wrong = f"found {name!r} (no '/', no '.' at its start, no line breaks)"
        raise UserError(f"{where}expected a name for files and folders, {wrong}")
    if (length := len(name.encode())) > _MOST_BYTES:
        wanted = f"expected a name of at most {_MOST_BYTES} bytes, as files are named after it"
        raise UserError(f"{where}{wanted}, found {length} (choose a shorter name)")
    system = System(name, **own, settings={k: v for k, v in entry.items() if k not in _OWN_KEYS})
    _check_source(system, where)
    if system.name not in UNPROCESSED:
        _check_name(system, where)
        _check_block(system, where)
    return system


def _check_source(system: System, where: str) -> None:
    made = [key for key in ("model", "blind") if getattr(system, key)]
    if system.name in UNPROCESSED:
        if made or system.rule or system.refine or system.settings or system.asr or system.block:
            raise UserError(f"{where}expected {{}}, this row is not processed")
        return
    if len(made) != 1:
        raise UserError(f"{where}expected one of 'model' and 'blind', found {' and '.join(made) or 'none'}")
    if not isinstance(getattr(system, made[0]), str):
        raise UserError(f"{where}expected a name for '{made[0]}', found {getattr(system, made[0])!r}")
    if system.blind:
        from frontend.dsp.blind import check_blind  # torch, pyroomacoustics: so are the imports below

        check_blind(system.blind, system.settings, where)
        if system.rule:
            raise UserError(f"{where}'rule' selects outputs of a model, '{system.blind}' has none to select")
    elif system.rule:
        from frontend.separation.pseudo_targets import check_rule

        check_rule(system.rule, system.settings, where)
    elif system.settings:
        key = next(iter(system.settings))
        raise UserError(f"{where}unknown key '{key}'{did_you_mean(key, _OWN_KEYS)}")


def _check_name(system: System, where: str) -> None:
    steps = system.name.partition("+")[2]
    if steps != (system.refine or ""):
        raise UserError(
            f"{where}expected the name to end in what refines it: 'refine: {system.refine or steps}' and "
            f"a name that ends in '+{system.refine or steps}' belong together"
        )
    if system.refine is not None:
        from frontend.dsp.refine import check_refinement

        check_refinement(system.refine, where)
    if not isinstance(system.optional, bool) or (system.optional and not system.model):
        raise UserError(f"{where}expected optional: true beside a 'model', found {system.optional!r}")
    if system.asr is not None and not (system.model and isinstance(system.asr, str) and system.asr):
        raise UserError(f"{where}expected asr: DIRECTORY beside a 'model', found {system.asr!r}")
    share = isinstance(system.labels, float) and 0 < system.labels < 1
    if system.labels not in (None, *LABELS) and not share:
        raise UserError(f"{where}expected labels: {' or '.join(LABELS)} or a share, found {system.labels!r}")


def _check_block(system: System, where: str) -> None:
    for key in ("block", "block_hop"):
        value = getattr(system, key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise UserError(f"{where}{key}: expected seconds, found {value!r}")
    if system.block is None:
        if system.block_hop is not None:
            raise UserError(f"{where}expected block_hop beside a 'block', found none")
        return
    from frontend.separation.continuous import check_window

    try:
        check_window(*system.windows(2.0, 1.0))
    except UserError as error:
        raise UserError(f"{where}{error}") from None
