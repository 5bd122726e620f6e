"""The systems that are compared: one entry of ``conf/systems.yaml`` per row of the results.

An entry says where its streams come from::

    mixture: {}                                       # the unprocessed reference channel
    ilrma: {blind: ilrma, iterations: 30}             # a blind method and its settings
    teacher_energy: {model: teacher, rule: energy}    # outputs of exp/NAME/teacher, selected
    student: {model: student}                         # outputs as they are
    student+mvdr: {model: student, refine: mvdr}      # the same, refined by a beamformer
    student+iva+mask: {model: student, refine: iva+mask}
    supervised_full: {model: supervised_full, labels: full}
    joint: {model: joint, asr: joint/asr}             # recognised by exp/NAME/joint/asr
    oracle: {}                                        # the true images

    auxiva_120s: {blind: auxiva, block: 120, block_hop: 60}    # in windows of its own, whole recordings alone

``labels`` says which labelled set a system was trained on (``small``, ``full``, or a share such as 0.05);
``optional: true`` that it may be missing. ``block`` and ``block_hop`` are seconds; a hop that is not given is
half a block (``window`` is that of a blind method's or a rule's STFT).
"""

from dataclasses import dataclass, field
from pathlib import Path

from frontend.dsp.blind import check_blind
from frontend.dsp.refine import check_refinement
from frontend.separation.continuous import check_window
from frontend.separation.pseudo_targets import check_rule
from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.files import read_settings

UNPROCESSED = ("mixture", "oracle")
LABELS = ("small", "full")
_OWN_KEYS = ("model", "blind", "rule", "refine", "labels", "asr", "optional", "block", "block_hop")


@dataclass(frozen=True)
class System:
    """One row of the results table.

    Attributes:
        name: of the row.
        model: directory of the trained network below the experiment, or None.
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
    # Not in the repr, which stands for all that the streams depend on.
    asr: str | None = field(default=None, repr=False)
    optional: bool = field(default=False, repr=False)
    # Nor these: they are nothing to short mixtures, and separate_long counts the windows that it uses.
    block: float | None = field(default=None, repr=False)
    block_hop: float | None = field(default=None, repr=False)

    def windows(self, window_s: float, hop_s: float) -> tuple[float, float]:
        """Return window and hop for whole recordings in seconds: its own, or else those given."""
        if self.block is None:
            return float(window_s), float(hop_s)
        return float(self.block), self.block / 2 if self.block_hop is None else float(self.block_hop)

    @property
    def source(self) -> str:
        """What makes the outputs: rows of the same source share one pass over the data."""
        return f"model {self.model}" if self.model else f"blind {self.blind} {sorted(self.settings.items())}"


def load_systems(path: str | Path) -> list[System]:
    """Read a systems file.

    Raises:
        UserError: no such file, not YAML, an unknown key, method, rule or setting, or
            a name that does not fit its entry.
    """
    entries = read_settings(path, "table of systems")
    if not entries:
        raise UserError(f"{path}: expected 'NAME: {{...}}' per system, found none")
    return [_system(str(name), entry, f"{path}: {name}: ") for name, entry in entries.items()]


def choose(systems: list[System], names: list[str], path: str | Path) -> list[System]:
    """Return the systems called ``names``, in the order of the file ``path`` they came from.

    Raises:
        UserError: a name that is not there.
    """
    known = [s.name for s in systems]
    for name in names:
        if name not in known:
            raise UserError(f"{path}: no system '{name}'{did_you_mean(name, known)}")
    return [s for s in systems if s.name in names]


def trained(systems: list[System], exp: str | Path) -> list[System]:
    """Return ``systems`` without the optional ones that have no model below ``exp``."""
    return [s for s in systems if not s.optional or (Path(exp) / s.model).exists()]


def _system(name: str, entry: object, where: str) -> System:
    if not isinstance(entry, dict):
        raise UserError(f"{where}expected a mapping such as {{model: student}}, found {entry!r}")
    own = {k: v for k, v in entry.items() if k in _OWN_KEYS}
    system = System(name, **own, settings={k: v for k, v in entry.items() if k not in _OWN_KEYS})
    _check(system, where)
    return system


def _check(system: System, where: str) -> None:
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
        check_blind(system.blind, system.settings, where)
        if system.rule:
            raise UserError(f"{where}'rule' selects outputs of a model, '{system.blind}' has none to select")
    elif system.rule:
        check_rule(system.rule, system.settings, where)
    elif system.settings:
        key = next(iter(system.settings))
        raise UserError(f"{where}unknown key '{key}'{did_you_mean(key, _OWN_KEYS)}")
    steps = system.name.partition("+")[2]
    if steps != (system.refine or ""):
        raise UserError(
            f"{where}expected the name to end in what refines it: 'refine: {system.refine or steps}' and "
            f"a name that ends in '+{system.refine or steps}' belong together"
        )
    if system.refine is not None:
        check_refinement(system.refine, where)
    if not isinstance(system.optional, bool) or (system.optional and not system.model):
        raise UserError(f"{where}expected optional: true beside a 'model', found {system.optional!r}")
    if system.asr is not None and not (system.model and isinstance(system.asr, str) and system.asr):
        raise UserError(f"{where}expected asr: DIRECTORY beside a 'model', found {system.asr!r}")
    _check_block(system, where)
    share = isinstance(system.labels, float) and 0 < system.labels < 1
    if system.labels not in (None, *LABELS) and not share:
        raise UserError(f"{where}expected labels: {' or '.join(LABELS)} or a share, found {system.labels!r}")


def _check_block(system: System, where: str) -> None:
    for key in ("block", "block_hop"):
        value = getattr(system, key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise UserError(f"{where}{key}: expected seconds, found {value!r}")
    if system.block is None and system.block_hop is not None:
        raise UserError(f"{where}expected block_hop beside a 'block', found none")
    try:
        check_window(*system.windows(2.0, 1.0))
    except UserError as error:
        raise UserError(f"{where}{error}") from None
