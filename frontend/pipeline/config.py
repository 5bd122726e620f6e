"""The configuration of a run: a recipe's YAML files merged over ``egs/TEMPLATE``.

A recipe's ``conf/NAME.yaml`` starts with ``defaults: [TEMPLATE]`` and holds only what differs; what it gives
as null is removed. Over that come the variants of ``egs/TEMPLATE/conf/variants`` that the options ask for,
what the size changes in a training, and ``--set``. ``${samples:SECONDS}`` is a length at the run's rate,
``${run.KEY}`` a fact of the run: ``fs``, ``mics``, ``symmetry``, ``talkers`` at most and ``fewest`` where two
or more talk, ``outputs`` of the teacher.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.files import read_settings

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "egs/TEMPLATE"
# Trainings that start from the configuration of another one: the size says what differs.
BASES = dict.fromkeys(("finetune", "full", "small", "student_adapt"), "student") | {
    "teacher_adapt": "teacher",
    "cotrained": "student",
    "student_labels": "student",
    "student_masknet": "student",
    "student_masknet_remix": "student",
}
# Variants that belong to a training, whatever the options.
_OWN_VARIANTS = dict.fromkeys(("student_masknet", "student_masknet_remix"), ("mask_net",))
_SIZES = "sizes"
# Kinds of commands, of which each may ask Slurm for something else.
JOB_KINDS = ("simulate", "label", "separate", "score", "decode", "train", "other")
_ABSENT = object()


def _samples(seconds: float, *, _root_) -> int:
    return round(float(seconds) * _root_.run.fs)


OmegaConf.register_new_resolver("samples", _samples, replace=True)


def merge(*layers: Mapping) -> dict:
    """Return mappings merged, key by key; a later one wins, and its lists replace lists."""
    return _plain(OmegaConf.merge(*(OmegaConf.create(dict(layer)) for layer in layers)))


def _plain(tree: Any, resolve: bool = False) -> dict:
    """Return a tree of OmegaConf's as mappings and lists, without the facts of the run."""
    found = cast(dict, OmegaConf.to_container(tree, resolve=resolve))
    found.pop("run", None)
    return found


def read_merged(recipe: Path, file: str) -> dict:
    """Return a recipe's file over the template's, as they are written.

    Args:
        recipe: the recipe's directory.
        file: in it and in the template's: ``recipe.yaml`` or ``conf/NAME.yaml``.

    Raises:
        UserError: neither has it, or ``defaults`` are not ``[TEMPLATE]``.
    """
    own, shared = recipe / file, TEMPLATE / file
    if not own.is_file():
        return read_settings(shared if shared.is_file() else own, "configuration")
    content = read_settings(own, "configuration")
    defaults = content.pop("defaults", [])
    if defaults not in ([], ["TEMPLATE"]):
        raise UserError(f"{own}: defaults: expected [TEMPLATE], or no such line, found {defaults}")
    return merge(read_settings(shared, "configuration"), content) if defaults else content


def sizes_of(recipe: Path) -> list[str]:
    """Return the sizes that a recipe has: those that its own file names."""
    own = read_settings(recipe / "conf" / f"{_SIZES}.yaml", "file of sizes")
    return [name for name in own if name not in ("defaults", "common")]


def read_size(recipe: Path, name: str) -> dict:
    """Return what a size says, over what all sizes have in common.

    Raises:
        UserError: no such size, or a key that sizes do not have.
    """
    path = recipe / "conf" / f"{_SIZES}.yaml"
    if name not in sizes_of(recipe):
        raise UserError(f"unknown size '{name}': expected one of {', '.join(sizes_of(recipe))} ({path})")
    merged = read_merged(recipe, f"conf/{_SIZES}.yaml")
    common, own = merged["common"], merged[name] or {}
    for key in own:
        if key not in common:
            raise UserError(f"{path}: {name}: unknown key '{key}'{did_you_mean(key, common)}")
    return merge(common, own)


@dataclass
class Setting:
    """One ``--set KEY=VALUE``; its key in parts: the configuration, and the way inside it."""

    where: str
    key: str
    value: object

    @classmethod
    def read(cls, text: str) -> "Setting":
        """Read it; the value is YAML.

        Raises:
            UserError: no ``=``, or a value that is not YAML.
        """
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise UserError(f"--set {text}: expected KEY=VALUE, such as teacher.max_epoch=3")
        try:
            # Not yaml.safe_load, which takes 5e-4 for a text.
            content = _plain(OmegaConf.from_dotlist([f"value={value}"]))["value"]
        except (yaml.YAMLError, OmegaConfBaseException):
            raise UserError(f"--set {text}: expected a value in YAML, such as 3, true or [1, 2]") from None
        where, _, inside = key.partition(".")
        return cls(where, inside, content)

    def check_key(self) -> None:
        """Raise UserError for one that is to replace a whole configuration."""
        if not self.key:
            raise UserError(f"--set {self.where}: expected {self.where}.KEY=VALUE, found no KEY")


def change(content: Mapping, settings: Iterable[Setting], where: str) -> dict:
    """Return ``content`` with those of the ``settings`` that are of ``where``.

    Raises:
        UserError: a key that the content does not have.
    """
    tree = OmegaConf.create(dict(content))
    for one in settings:
        if one.where != where:
            continue
        one.check_key()
        known = _plain(tree)
        parent, _, last = one.key.rpartition(".")
        around = known if not parent else _inside(known, parent)
        if _inside(known, one.key) is _ABSENT:
            near = did_you_mean(last, map(str, around)) if isinstance(around, dict) else ""
            raise UserError(f"--set {where}.{one.key}: no such key in the configuration{near}")
        _check_kind(_inside(known, one.key), one, where in ("size", "data", "launcher"))
        OmegaConf.update(tree, one.key, one.value, merge=isinstance(one.value, dict))
    return _plain(tree)


def read_launcher(recipe: Path, settings: Iterable[Setting]) -> dict[str, dict]:
    """Return what ``--launcher slurm`` asks for: for each kind of command all keys of its file.

    Raises:
        UserError: a key that the template does not have, or a value that Slurm cannot be asked for.
    """
    file = "conf/launcher/slurm.yaml"
    template, content = read_merged(TEMPLATE, file), read_merged(recipe, file)
    shared = [key for key in template if key not in JOB_KINDS]
    of_kind = [key for key in shared if key != "cpus"]
    for known, found in ((template, content), *((of_kind, content[kind]) for kind in JOB_KINDS)):
        for key in found:
            if key not in known:
                raise UserError(f"{recipe / file}: unknown key '{key}'{did_you_mean(key, known)}")
    content |= {kind: {**dict.fromkeys(of_kind), **content[kind]} for kind in JOB_KINDS}
    content = change(content, settings, "launcher")
    above = {key: content[key] for key in shared}
    found = {kind: merge(above, cast(dict, without_null(content[kind]))) for kind in JOB_KINDS}
    for kind, values in found.items():
        for key, kinds, expected in (
            ("time", int, "a number of minutes, 1 or more"),
            ("cpus", int, "a number, 1 or more"),
            ("array", int, "a number, 1 or more"),
            ("memory", (int, float, type(None)), "a number of GB"),
            ("options", dict, "keys with values"),
        ):
            value = values[key]
            is_wrong = not isinstance(value, kinds) or (isinstance(value, (int, float)) and value < 0.001)
            if is_wrong or (kinds is int and value < 1):
                where = f"launcher.{key}" if value == above[key] else f"launcher.{kind}.{key}"
                raise UserError(f"{where}: expected {expected}, found {value}")
    return found


def _check_kind(before: object, one: Setting, strict: bool) -> None:
    """Refuse a value that whoever reads it would trip over.

    Args:
        before: what it replaces.
        one: the setting.
        strict: any other kind of value is wrong, null too; else only what takes the place of a mapping, and
            a text in the place of a number.
    """
    kinds: dict[str, tuple[type, ...]] = {
        "keys with values": (dict,),
        "a list": (list,),
        "true or false": (bool,),
        "a number": (int, float),
    }
    kind = next(
        (name for name in kinds if isinstance(before, kinds[name])), "" if before is None else "a text"
    )
    if strict:
        is_wrong = bool(kind) and (one.value is None or not isinstance(one.value, kinds.get(kind, (object,))))
    else:
        is_wrong = isinstance(before, dict) and not isinstance(one.value, (dict, type(None)))
        is_wrong |= kind == "a number" and isinstance(one.value, str) and "${" not in one.value
    if is_wrong:
        shown = "null" if one.value is None else one.value
        raise UserError(f"--set {one.where}.{one.key}: expected {kind}, found {shown}")


def _inside(node: Any, key: str) -> object:
    """Return what lies under a dotted key; ``_ABSENT`` if nothing does."""
    for part in key.replace("[", ".").replace("]", "").split("."):
        if isinstance(node, list) and part.isdecimal() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, dict) and part in node:
            node = node[part]
        else:
            return _ABSENT
    return node


@dataclass
class Configuration:
    """All configurations of one run.

    Attributes:
        recipe: the recipe's directory.
        size: what the size says, of :func:`read_size`.
        facts: what ``${run.KEY}`` stands for.
        variants: names of the overlays, in their order: files of ``conf/variants`` of the recipe, or of the
            template.
        settings: of ``--set``.
    """

    recipe: Path
    size: dict
    facts: dict
    variants: Sequence[str] = ()
    settings: list[Setting] = field(default_factory=list)

    def get(self, name: str, file: str | None = None) -> dict:
        """Return a configuration with all values in place.

        Args:
            name: such as ``teacher``, or a training of ``BASES``.
            file: its file in ``conf``, where that has another name.

        Raises:
            UserError: no such file, or a value that stands for nothing.
        """
        base = BASES.get(name, name)
        content = read_merged(self.recipe, f"conf/{file or base}.yaml")
        for variant in dict.fromkeys((*_OWN_VARIANTS.get(name, ()), *self.variants)):
            overlay = read_merged(self.recipe, f"conf/variants/{variant}.yaml")
            content = merge(content, overlay.get(base) or {})
        if base != name:
            content = change(content, self.settings, base)
        content = merge(content, self.size.get(name) or {})
        content = change(content, self.settings, name)
        try:
            found = _plain(OmegaConf.create({**content, "run": self.facts}), resolve=True)
        except OmegaConfBaseException as error:
            raise UserError(f"{self.recipe}/conf/{file or base}.yaml: {error}") from None
        return cast(dict, without_null(found))


def without_null(value: object) -> object:
    """Return ``value`` without the keys that are null."""
    if isinstance(value, dict):
        return {k: without_null(v) for k, v in value.items() if v is not None}
    return [without_null(v) for v in value] if isinstance(value, list) else value


def flat(name: str, content: object) -> dict[str, object]:
    """Return ``content`` with dotted names: the settings of a stamp, so that it can say which one changed."""
    if not isinstance(content, dict) or not content:
        return {name: content}
    return {k: v for key, value in content.items() for k, v in flat(f"{name}.{key}", value).items()}
