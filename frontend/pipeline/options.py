"""What a run is: its options checked, its recipe read, and where everything lies.

Everything that can be wrong with the options is said here, in one line, before anything is written. Paths are
seen from the recipe's directory, where all commands run.
"""

import os
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from frontend import AUDIO_FORMATS
from frontend.pipeline.config import (
    BASES,
    ROOT,
    TEMPLATE,
    Configuration,
    Setting,
    change,
    flat,
    merge,
    read_launcher,
    read_size,
)
from frontend.pipeline.stage import is_below
from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.files import read_settings, write_text

# --with: what is added to a run, and what it gives.
EXTRAS = {
    "joint": "separator and recogniser are also fine-tuned together: a row of its own",
    "controls": "students with one part of the method changed are rows too",
    "curve": "further shares of the labels are rows too",
    "mismatch": "test sets of other arrays and rooms, and what is lost there",
    "retrain": "a second recogniser, trained on the student's streams, has columns too",
    "unsupervised": "no true label trains anything but the recogniser; no row needs one",
    "on_the_fly": "training mixtures are rendered when they are read, from a bank of rooms; none is written",
}
# Keys of recipe.yaml that an option of the same name, or --set, may change; their values where these are few.
FREE = {
    "network": ("spatialnet",),
    "asr_config": None,
    "asr_model": None,
    "asr_whisper": None,
    "audio_format": AUDIO_FORMATS,
    "allow_unknown": (True, False),
}
_NOT_SHOWN = ("recipe", "nj", "at_once", "ngpu", "nodes", "stage", "launcher", "extras", "settings", "more")


@dataclass
class Given:
    """The options as they were typed; None: not given.

    Attributes:
        nj: None: as many as there are processors; those of a job with ``--launcher slurm``.
        at_once: stages that may run at the same time; None: see :attr:`Options.at_once`.
        more: options that only the recipe knows, name -> text.
        settings: the texts of ``--set``.
    """

    recipe: str = "egs/mini"
    corpus: str | None = None
    corpus_dir: str | None = None
    size: str | None = None
    seed: int = 0
    train_seed: int | None = None
    nj: int | None = 1
    at_once: int | None = None
    ngpu: int = 0
    nodes: int = 1
    channels: int | None = None
    talkers: str | None = None
    fs: int | None = None
    extras: tuple[str, ...] = ()
    asr_exp: str | None = None
    stage: str = "1"
    launcher: str = "local"
    settings: tuple[str, ...] = ()
    more: dict[str, str] = field(default_factory=dict)


def find_recipe(name: str) -> Path:
    """Return the directory of a recipe, seen from here or from the repository.

    Raises:
        UserError: there is none.
    """
    for folder in (Path(name), ROOT / name):
        if (folder / "recipe.yaml").is_file() and not folder.samefile(TEMPLATE):
            return folder.resolve()
    raise UserError(f"no recipe '{name}': expected a folder with recipe.yaml, such as egs/mini")


def read_recipe(place: Path, given: Given) -> dict:
    """Return the recipe's own settings, with those of the options.

    Raises:
        UserError: an option that the recipe does not have, a value that it cannot take, no such path.
    """
    template = read_settings(TEMPLATE / "recipe.yaml", "recipe")
    own = read_settings(place / "recipe.yaml", "recipe")
    for key in own:
        if key not in template:
            raise UserError(f"{place}/recipe.yaml: unknown key '{key}'{did_you_mean(key, template)}")
    recipe = merge(template, own)
    known = [*FREE, *recipe["data"]]
    for name, text in given.more.items():
        if name not in known:
            shown = place.relative_to(ROOT) if place.is_relative_to(ROOT) else place
            more = ["with", "stop_stage", "quick", "list", "dry_run", "show", "set", "adopt", *known]
            raise UserError(f"no option --{name} for {shown}{did_you_mean(name, [*vars(given), *more])}")
        where = recipe if name in FREE else recipe["data"]
        where[name] = text if name in recipe["paths"] else _read(name, text, where[name])
    recipe["launcher"] = read_launcher(place, map(Setting.read, given.settings))
    for one in map(Setting.read, given.settings):
        if one.where == "data":
            recipe["data"] = change(recipe["data"], [one], "data")
        elif one.where in FREE and not one.key:
            is_name = FREE[one.where] is None and one.value is not None
            recipe[one.where] = str(one.value) if is_name else one.value
    for name, choices in FREE.items():
        if choices and recipe[name] is not None and recipe[name] not in choices:
            raise UserError(
                f"--{name} {recipe[name]}: expected one of {', '.join(map(str, choices)).lower()}"
            )
    for name in recipe["paths"]:
        if recipe["data"][name] is not None:
            allowed = recipe["data"].get("download") is True
            recipe["data"][name] = existing(name, str(recipe["data"][name]), allowed)
    return recipe


def _read(name: str, text: str, before: object) -> object:
    """Return the value of an option of the recipe: names and folders may look like numbers or dates, 007.

    Raises:
        UserError: not YAML, or something else than true or false where that is asked for.
    """
    if isinstance(before, str):
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--{name} {text}: expected a value in YAML, such as true or a name") from None
    lost = isinstance(before, bool) and not isinstance(value, bool)
    refuse((lost, f"--{name} {text}: expected true or false"))
    return value if value is None or isinstance(value, bool) or isinstance(before, (int, float)) else text


def refuse(*wrong: tuple[object, str]) -> None:
    """Say the first thing that is wrong.

    Args:
        wrong: pairs of whether it is wrong, and what is said then.

    Raises:
        UserError: something is.
    """
    for is_wrong, message in wrong:
        if is_wrong:
            raise UserError(message)


def existing(name: str, path: str, missing: bool = False) -> str:
    """Return the absolute path that an option gives.

    Raises:
        UserError: nothing is there, unless that is allowed.
    """
    lost = not missing and not Path(path).exists()
    refuse((lost, f"--{name} {path}: no such file or directory; expected a path that is there"))
    return str(Path(path).resolve())


def shown_command(given: Given, recipe: dict, extras: tuple[str, ...]) -> str:
    """Return the command line of a run as the page shows it: what differs from the defaults.

    Of an absolute path it shows the last part alone: no names of somebody's home.
    """
    words = []
    plain = {name: value for name, value in vars(given).items() if name not in _NOT_SHOWN}
    for name, value in (plain | given.more).items():
        default = {"seed": 0, "size": recipe["size"], "corpus": recipe["corpus"]}.get(name)
        if value not in (None, default) and name != "out_dir":
            words += [f"--{name}", str(value)]
    words += ["--with", ",".join(extras)] if extras else []
    for text in given.settings:
        words += [] if text.startswith("launcher.") else ["--set", text]
    name = Path(given.recipe).name
    program = "./run.sh" if name == "mini" else f"egs/{name}/run.sh"
    return " ".join([program, *(re.sub(r"^/.*/(?=.)", ".../", word) for word in words)])


class Options:
    """What all runs have: recipe, size, configuration, directories of data and experiment.

    Args:
        given: the options.
        place: the recipe's directory.
        recipe: of :func:`read_recipe`.

    Attributes:
        data, exp: where sets, and where everything else of the run goes, seen from ``place``.
        most: talkers at once.
        facts: what ``${run.KEY}`` stands for in the configurations.
        variants: overlays that the options ask for.
        at_once: stages that may run at the same time: with Slurm 4; here as many as ``nj``, 4 at most, and
            one with a GPU. Those of recordings follow from each other.
        threads: of a training. Two trainings of one thread take less time than one of two, twice
            (docs/pipeline.md).
        recogniser: that of all systems, as options of ``decode``; one has a value.
        given_asr: the recogniser that was given, if any: its directory, tag or size.
        planned: what the stages before would have made: a dry run takes it to be there.
        notes: facts of the run for the report.
    """

    data: Path
    exp: Path
    most: int
    facts: dict
    notes: dict
    variants: Sequence[str] = ()

    def __init__(self, given: Given, place: Path, recipe: dict) -> None:
        self.given, self.place, self.recipe, self.own = given, place, recipe, recipe["data"]
        cpus = os.cpu_count() or 1 if given.launcher == "local" else recipe["launcher"]["other"]["cpus"]
        self.nj, self.ngpu, self.seed, self.talkers = given.nj or cpus, given.ngpu, given.seed, given.talkers
        is_local = given.launcher == "local"
        most = given.at_once or (4 if not is_local else 1 if given.ngpu else min(self.nj, 4))
        self.at_once = 1 if recipe["stages"] == "recordings" else most
        self.threads = max(1, self.nj // self.at_once) if is_local else self.nj
        for name in given.extras:
            near = f"expected some of {', '.join(EXTRAS)}, found '{name}'{did_you_mean(name, EXTRAS)}"
            refuse((name not in EXTRAS, f"--with {name}: {near}"))
        unknown = given.launcher not in ("local", "slurm")
        refuse((unknown, f"--launcher {given.launcher}: expected local or slurm"))
        alone = given.nodes > 1 and given.launcher == "local"
        refuse((alone, f"--nodes {given.nodes}: several machines need --launcher slurm (or --nodes 1)"))
        self.size_name = given.size or recipe["size"]
        read = [Setting.read(text) for text in given.settings]
        self.settings = [one for one in read if one.where != "launcher"]  # which changes no result
        self.size = change(read_size(place, self.size_name), self.settings, "size")
        self.fs = given.fs or recipe["fs"]
        self.planned: set[Path] = set()
        expected = "no such directory; expected that of an ESPnet recogniser's training"
        refuse((given.asr_exp and not Path(given.asr_exp).is_dir(), f"--asr_exp {given.asr_exp}: {expected}"))
        # Seen from the recipe: the page shows it.
        self.asr_exp = os.path.relpath(given.asr_exp, place) if given.asr_exp else None
        for name, is_there in (("asr_model", Path.is_file), ("asr_whisper", Path.is_dir)):
            if recipe[name] and is_there(Path(recipe[name])):
                recipe[name] = os.path.relpath(recipe[name], place)
        self.recogniser = {"asr": self.asr_exp, **{k: recipe[k] for k in ("asr_model", "asr_whisper")}}
        found = {name: value for name, value in self.recogniser.items() if value}
        names = " and ".join({"asr": "--asr_exp"}.get(name, f"--{name}") for name in found)
        refuse((len(found) > 1, f"{names}: give one of them"))
        self.given_asr = next(iter(found.values()), None)
        self._contents: dict[str, dict] = {}
        files = [path.stem for folder in (place, TEMPLATE) for path in (folder / "conf").glob("*.yaml")]
        known = [*filter(lambda name: name != "sizes", files), *BASES, "size", "data", *FREE]
        for one in self.settings:
            name = f"{one.where}.{one.key}".rstrip(".")
            lost = f"--set {name}: no such key{did_you_mean(one.where, known)}"
            refuse((one.where not in known, lost))
            if one.where not in FREE:
                one.check_key()

    def content(self, name: str) -> dict:
        """Return a configuration, resolved; ``asr`` is that of ``--asr_config``."""
        if name not in self._contents:
            # Another network is described by what differs from the mask network.
            network = ["mask_net", self.recipe["network"]] if self.recipe["network"] else []
            variants = [*self.variants, *network]
            merged = Configuration(self.place, self.size, self.facts, variants, self.settings)
            self._contents[name] = merged.get(name, self.recipe["asr_config"] if name == "asr" else None)
        return self._contents[name]

    def check_settings(self) -> None:
        """Refuse a ``--set`` of a configuration that no stage of this run reads; called when all are made."""
        names = {*self._contents, *(BASES.get(name) for name in self._contents)}
        for one in self.settings:
            unread = one.key and one.where not in (*names, "size", "data")
            refuse((unread, f"--set {one.where}.{one.key}: no stage of this run reads that configuration"))

    def conf(self, name: str) -> Path:
        """Return where a configuration lies in the experiment; :meth:`write` puts it there."""
        self.content(name)
        return self.exp / "conf" / f"{name}.yaml"

    def settings_of(self, *names: str) -> dict:
        """Return configurations as settings of a stamp, ``teacher.optim_conf.lr`` -> value."""
        return {key: value for name in names for key, value in flat(name, self.content(name)).items()}

    def write(self) -> None:
        """Write the configurations that were asked for into the experiment."""
        for name, content in self._contents.items():
            path = self.exp / "conf" / f"{name}.yaml"
            text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                write_text(path, text)

    def words(self, template: str, **options: object) -> list[str]:
        """Return a command line.

        Args:
            template: words, divided by blanks and line breaks, in which ``{data}`` stands for an attribute of
                the run, ``{conf_teacher}`` for the path of a configuration and any other name for one of
                ``options``.
            options: what the template does not name is appended as ``--NAME VALUE``; as ``--NAME`` where it
                is True, not at all where it is None or False, several times where it is a list.
        """
        names = [name for _, name, _, _ in string.Formatter().parse(template) if name]
        conf = {name: self.conf(name.removeprefix("conf_")) for name in names if name.startswith("conf_")}
        found = [word.format(**{**vars(self), **conf, **options}) for word in template.split()]
        for name, value in options.items():
            if name in names or value is None or value is False:
                continue
            for one in value if isinstance(value, list) else [value]:
                found += [f"--{name}"] if one is True else [f"--{name}", str(one)]
        return found

    def training(self, kind: str, conf: str, name: str, sets: list[Path], seed: int, **more) -> list[str]:
        """Return the command of a training: of a ``separator`` or a ``recogniser``, on a pair of sets."""
        line = """train {kind} --config {config} --train_set {train} --valid_set {dev}
            --output_dir {exp}/{name} --seed {seed} --ngpu {ngpu} --num_threads {threads}"""
        own = {"kind": kind, "config": self.conf(conf), "train": sets[0], "dev": sets[1], "name": name}
        return self.words(line, **own, seed=seed, **more)

    def there(self, path: Path) -> bool:
        """Whether a path is there, or will be when the stages before have run."""
        return path.exists() or is_below(path, self.planned)

    def recogniser_files(self) -> list[Path]:
        """Return the files of the recogniser that was given: what decoding depends on."""
        if self.asr_exp is None:
            return [path for path in map(Path, filter(None, [self.given_asr])) if path.exists()]
        files = (path for path in sorted(Path(self.asr_exp).iterdir()) if path.suffix in (".yaml", ".pth"))
        return [path for path in files if not re.fullmatch(r"\d+epoch|checkpoint", path.stem)]
