"""What a run is: its options checked, its recipe read, and where everything lies.

Everything that can be wrong with the options is said here, in one line, before anything is written. Paths are seen from
the recipe's directory, where all commands run.
"""

import functools
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from frontend.pipeline.config import (
    ROOT,
    TEMPLATE,
    Configuration,
    Setting,
    change,
    flat,
    merge,
    read_merged,
    read_size,
    sizes_of,
)
from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.files import read_settings, write_text

# --with: what is added to a run, and what it gives.
EXTRAS = {
    "joint": "separator and recogniser are also fine-tuned together: a row of its own",
    "curve": "further shares of the labels are rows too",
    "mismatch": "test sets of other arrays and rooms, and what is lost there",
    "retrain": "a second recogniser, trained on the student's streams, has columns too",
    "unsupervised": "no true label trains anything but the recogniser; no row needs one",
    "on_the_fly": "training mixtures are rendered when they are read, from a bank of rooms; none is written",
}
# Keys of recipe.yaml that an option of the same name, or --set, may change; their values where these are few.
_FREE = {
    "asr_config": None,
    "asr_model": None,
    "audio_format": ("wav", "flac", "flac.ark"),
    "allow_unknown": (True, False),
}
_NOT_SHOWN = ("recipe", "nj", "ngpu", "stage", "launcher", "extras", "settings", "more")


@dataclass
class Given:
    """The options as they were typed; None: not given.

    Attributes:
        more: options that only the recipe knows, name -> text.
        settings: the texts of ``--set``.
    """

    recipe: str = "egs/mini"
    corpus: str | None = None
    corpus_dir: str | None = None
    size: str | None = None
    seed: int = 0
    train_seed: int | None = None
    nj: int = 1
    ngpu: int = 0
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
    known = [*_FREE, *recipe["data"]]
    for name, text in given.more.items():
        if name not in known:
            shown = place.relative_to(ROOT) if place.is_relative_to(ROOT) else place
            more = ["with", "stop_stage", "quick", "list", "dry_run", "show", "set", "adopt", *known]
            raise UserError(f"no option --{name} for {shown}{did_you_mean(name, [*vars(given), *more])}")
        where = recipe if name in _FREE else recipe["data"]
        where[name] = text if name in recipe["paths"] else yaml.safe_load(text)
    for one in map(Setting.read, given.settings):
        if one.where in ("data", "launcher"):
            recipe[one.where] = change(recipe[one.where], [one], one.where)
        elif one.where in _FREE and not one.key:
            recipe[one.where] = one.value
    for name, choices in _FREE.items():
        if choices and recipe[name] is not None and recipe[name] not in choices:
            raise UserError(f"--{name} {recipe[name]}: expected one of {', '.join(map(str, choices)).lower()}")
    for name in recipe["paths"]:
        if recipe["data"][name] is not None:
            allowed = recipe["data"].get("download") is True
            recipe["data"][name] = existing(name, str(recipe["data"][name]), allowed)
    return recipe


def existing(name: str, path: str, missing: bool = False) -> str:
    """Return the absolute path that an option gives.

    Raises:
        UserError: nothing is there, unless that is allowed.
    """
    if not missing and not Path(path).exists():
        raise UserError(f"--{name} {path}: no such file or directory; expected a path that is there")
    return str(Path(path).resolve())


def shown_command(given: Given, recipe: dict, extras: tuple[str, ...]) -> str:
    """Return the command line of a run as the page shows it: what differs from the defaults and changes results.

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
        words += ["--set", text]
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
        planned: what the stages before would have made: a dry run takes it to be there.
    """

    data: Path
    exp: Path
    variants: list[str]

    def __init__(self, given: Given, place: Path, recipe: dict) -> None:
        self.given, self.place, self.recipe = given, place, recipe
        self.nj, self.ngpu, self.seed, self.talkers = given.nj, given.ngpu, given.seed, given.talkers
        for name in given.extras:
            if name not in EXTRAS:
                near = did_you_mean(name, EXTRAS)
                raise UserError(f"--with {name}: expected some of {', '.join(EXTRAS)}, found '{name}'{near}")
        self.size_name = given.size or recipe["size"]
        self.settings = [Setting.read(text) for text in given.settings]
        self.size = change(read_size(place, self.size_name), self.settings, "size")
        self.fs = given.fs or recipe["fs"]
        self.planned: set[Path] = set()
        self._contents: dict[str, dict] = {}
        files = [path.stem for folder in (place, TEMPLATE) for path in (folder / "conf").glob("*.yaml")]
        known = [*files, *self.size, "size", "data", "launcher", *_FREE]
        for one in self.settings:
            if one.where not in known or (not one.key and one.where not in _FREE):
                name = f"{one.where}.{one.key}" if one.key else one.where
                raise UserError(f"--set {name}: no such key{did_you_mean(one.where, known)}")

    @property
    def facts(self) -> dict:
        """What ``${run.KEY}`` stands for in the configurations."""
        raise NotImplementedError

    def content(self, name: str) -> dict:
        """Return a configuration, resolved; ``asr`` is that of ``--asr_config``."""
        if name not in self._contents:
            merged = Configuration(self.place, self.size, self.facts, self.variants, self.settings)
            self._contents[name] = merged.get(name, self.recipe["asr_config"] if name == "asr" else None)
        return self._contents[name]

    def conf(self, name: str) -> Path:
        """Return where a configuration lies in the experiment; :meth:`write` puts it there."""
        self.content(name)
        return self.exp / "conf" / f"{name}.yaml"

    def settings_of(self, *names: str) -> dict:
        """Return configurations as settings of a stamp, ``teacher.optim_conf.lr`` -> value."""
        return {key: value for name in names for key, value in flat(name, self.content(name)).items()}

    def write(self) -> None:
        """Write the configurations that were asked for into the experiment, where they are not there already."""
        for name, content in self._contents.items():
            path = self.exp / "conf" / f"{name}.yaml"
            text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                write_text(path, text)

    def there(self, path: Path) -> bool:
        """Whether a path is there, or will be when the stages before have run."""
        return path.exists() or any(path == made or made in path.parents for made in self.planned)

    @property
    def shards(self) -> int:
        """Parts into which an array of jobs divides the work of a stage that can be divided."""
        return int(self.recipe["launcher"]["shards"]) if self.given.launcher != "local" else 1

    def note(self) -> dict:
        """Return facts of the run for the report."""
        raise NotImplementedError

    def before_work(self, stage: str) -> None:
        """Check what takes long to check, before a stage that has something to do."""
        if self.ngpu:
            import torch

            if torch.cuda.device_count() < self.ngpu:
                raise UserError(
                    f"--ngpu {self.ngpu}: expected so many CUDA devices, torch finds {torch.cuda.device_count()} "
                    "(give --ngpu 0 to compute on the CPU)"
                )

    def _check_recogniser(self, search: Path) -> None:
        """Check a recogniser that was given: that it is one, and of the run's rate."""
        from frontend.recognition import model

        name = self.recipe["asr_model"]
        files = model.find_in_zoo(name) if name else model.find_recogniser(self.asr_exp)
        files.check_rate(str(self.exp / "conf"), self.fs)
        model.search_files(model.complete_options(model.read_options(search), files, str(search)))

    @functools.cached_property
    def asr_exp(self) -> str | None:
        """The recogniser that was given, seen from the recipe: the page shows it."""
        path = self.given.asr_exp
        if path is None:
            return None
        if not Path(path).is_dir():
            raise UserError(
                f"--asr_exp {path}: no such directory; expected that of an ESPnet recogniser's training"
            )
        return os.path.relpath(path, self.place)

    def recogniser_files(self) -> list[Path]:
        """Return the files of the recogniser that was given: what decoding depends on."""
        if self.asr_exp is None:
            model = self.recipe["asr_model"]
            return [Path(model)] if model and Path(model).is_file() else []
        files = (path for path in sorted(Path(self.asr_exp).iterdir()) if path.suffix in (".yaml", ".pth"))
        return [path for path in files if not re.fullmatch(r"\d+epoch|checkpoint", path.stem)]


class RecordingOptions(Options):
    """A run of ``egs/recordings``: the user's own recordings."""

    variants: list[str] = []

    def __init__(self, given: Given, place: Path, recipe: dict, listing: bool = False) -> None:
        super().__init__(given, place, recipe)
        own = self.own = recipe["data"]
        if given.train_seed is not None or given.channels or given.corpus or given.corpus_dir or given.extras:
            raise UserError(
                "--train_seed, --channels, --corpus, --corpus_dir and --with: recordings have no such choice"
            )
        if not re.fullmatch("[234]?", given.talkers or ""):
            raise UserError(f"--talkers {given.talkers}: expected 2 to 4")
        if own["recordings"] is None and not listing:
            raise UserError(
                "--recordings is missing: the folder with your recordings; --help lists the options"
            )
        if own["rttm"] and own["segments"]:
            raise UserError("--rttm and --segments: give one of them")
        if (own["transcripts"] is None) != (self.asr_exp is None):
            raise UserError("--transcripts and --asr_exp belong together: give both or none")
        if Path(own["geometry"]).exists():
            own["geometry"] = str(Path(own["geometry"]).resolve())
        for part in ("teacher", "student") if own["init_model"] else ():
            if not Path(own["init_model"], part, "config.yaml").is_file():
                raise UserError(
                    f"--init_model {own['init_model']}: expected a trained {part} in it, "
                    f"found no {part}/config.yaml"
                )
        tag = own["tag"] or self._tag_of(Path(own["recordings"] or "recordings"))
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", str(tag)):
            raise UserError(f"--tag '{tag}': expected letters, digits, dots, dashes and underscores")
        tag = tag if self.size_name == recipe["size"] else f"{tag}_{self.size_name}"
        out = Path(own["out_dir"])
        self.data, self.exp = out / "data" / tag, out / "exp" / tag
        self.most = int(given.talkers or 2)

    @staticmethod
    def _tag_of(path: Path) -> str:
        """Return the name of a folder, or of a table without its ending; folders have none: v1.0."""
        return re.sub(r"[^A-Za-z0-9]", "_", path.stem if path.is_file() else path.name)

    @property
    def array(self) -> Path:
        """What stage ``data`` found out of the array."""
        return self.data / "whole/array"

    @property
    def facts(self) -> dict:
        """See :class:`Options`; microphones and symmetry are known once stage ``data`` has run."""
        mics, symmetry = self.array.read_text().split()[:2] if self.array.is_file() else (0, "none")
        return {
            "fs": self.fs,
            "mics": int(mics),
            "symmetry": symmetry,
            "talkers": self.most,
            "outputs": 2 * self.most,
        }

    def note(self) -> dict:
        """See :class:`Options`."""
        command = shown_command(self.given, self.recipe, ())
        return {
            "command": command,
            "seed": str(self.seed),
            "size": self.size_name,
            "talkers": str(self.most),
        }

    def before_work(self, stage: str) -> None:
        """See :class:`Options`; what the recordings are is known after stage ``data``."""
        super().before_work(stage)
        if self.asr_exp:
            self._check_recogniser(self.conf("decode"))


class MixtureOptions(Options):
    """A run on simulated mixtures of a corpus.

    Attributes:
        speech: sets of dry speech.
        labels: sets with pseudo-targets and sets of labels; those of another training seed have others.
        first: the experiment whose data and recogniser a run of another training seed takes; else ``exp``.
        pool: the set that labels are taken of.
        most: talkers at once.
    """

    def __init__(self, given: Given, place: Path, recipe: dict, listing: bool = False) -> None:
        super().__init__(given, place, recipe)
        self.listing = listing
        self._check_values()
        self._set_paths()
        # What was once asked for stays in the table and is kept up to date; removing it ends that.
        kept = {"joint": "joint", "retrain": "asr_separated", "curve": "curve", "mismatch": "mismatch"}
        found = [name for name, made in kept.items() if (place / self.exp / made).is_dir()]
        self.extras = tuple(name for name in EXTRAS if name in given.extras or name in found)
        if not listing:
            self._check_extras()

    def _check_values(self) -> None:
        given, recipe = self.given, self.recipe
        if not re.fullmatch("([234]|2-[34]|3-4)?", given.talkers or ""):
            raise UserError(f"--talkers {given.talkers}: expected 2, 3 or 4 talkers, or a range of these: 2-3")
        self.most = int((given.talkers or "2")[-1])
        if self.most > recipe["most_talkers"]:
            raise UserError(
                f"--talkers {given.talkers}: {self.place.name} mixes {recipe['most_talkers']} at most "
                "(egs/mini and egs/speechocean762_2mix mix more)"
            )
        if given.fs is not None and given.fs not in recipe["rates"] and given.stage in ("1", "data"):
            rates = ", ".join(map(str, recipe["rates"]))
            raise UserError(
                f"--fs {given.fs}: the corpora of {self.place.name} are made at {rates} Hz; leave it out, or "
                "bring speech of that rate and give --stage scenes"
            )
        if given.fs not in (None, 8000, 16000):
            raise UserError(f"--fs {given.fs}: expected 8000 or 16000")
        name = recipe["asr_config"]
        if not any((folder / f"conf/{name}.yaml").is_file() for folder in (self.place, TEMPLATE)):
            raise UserError(f"unknown --asr_config '{name}': expected {self.place}/conf/{name}.yaml")
        if given.asr_exp and recipe["asr_model"]:
            raise UserError("--asr_exp and --asr_model: give one of them")
        read_aloud = self.size["read_aloud"]
        if read_aloud is not None and (not isinstance(read_aloud, int) or read_aloud < 2):
            raise UserError(
                f"{self.place}/conf/sizes.yaml: read_aloud: expected a number of utterances, 2 or more, "
                f"found {read_aloud}"
            )
        self.corpus_dir = None if given.corpus_dir is None else existing("corpus_dir", given.corpus_dir)

    def _set_paths(self) -> None:
        given, own = self.given, self.recipe["data"]
        self.corpus = given.corpus or self.recipe["corpus"]
        parts = [self.corpus, "" if self.size_name == "full" else f"_{self.size_name}"]
        parts += [f"_{given.fs // 1000}k" if given.fs else "", "_noise" if own.get("noise_dir") else ""]
        parts += [f"_seed{self.seed}" if self.seed else ""]
        base = "".join(parts)
        name = f"{base}_{given.talkers}spk" if given.talkers else base
        name += "_otf" if "on_the_fly" in given.extras else ""
        # Rows of a run with labels are not to stand in the table of one without: it is an experiment of its own.
        name += "_unsup" if "unsupervised" in given.extras else ""
        self.family = name  # speech and results are shared by all numbers of microphones
        name += f"_{given.channels}ch" if given.channels else ""
        self.again = "" if given.train_seed is None else f"_train{given.train_seed}"
        self.speech, self.data, self.first = Path("data", base, "speech"), Path("data", name), Path("exp", name)
        self.labels, self.exp = Path("data", name + self.again), Path("exp", name + self.again)
        self.pool = "labelled" if self.size["mixtures"]["labelled"] else "train"
        # Only runs of seed 0 in a size that says so, with the recipe's own recogniser and all rows, write the page
        # that is kept; the real corpora have one each.
        differs = [self.seed, self.again, given.talkers, given.fs, own.get("noise_dir"), given.asr_exp]
        differs += [self.recipe["asr_model"], self.settings, {"on_the_fly", "unsupervised"} & {*given.extras}]
        self.results = Path("exp", self.family + self.again)
        if self.size["kept_page"] and not any(differs) and self.recipe["asr_config"] == "asr":
            self.results = Path("." if self.corpus == self.recipe["corpus"] else self.corpus)

    def _check_extras(self) -> None:
        """Refuse what does not go together, with each other or with an earlier run."""
        extras, other_asr = {*self.extras}, self.given.asr_exp or self.recipe["asr_model"]
        trained = sorted({"joint", "retrain"} & extras)
        folder = self.place / self.exp
        if trained and other_asr:
            raise UserError(
                "--with joint and retrain start from the recogniser of stage asr: leave --asr_exp and --asr_model "
                f"out (or remove {folder}/joint and asr_separated of an earlier run)"
            )
        if "unsupervised" in extras and (trained or "curve" in extras):
            raise UserError(
                "--with unsupervised: curve, joint and retrain need labels; leave them out (or remove "
                f"{folder}/curve, joint and asr_separated of an earlier run)"
            )
        if "curve" in extras:
            self._check_shares()
        if self.given.channels == 1 and "mismatch" in extras:
            raise UserError("--with mismatch compares with AuxIVA, which needs two or more microphones: leave it out")
        if self.most > 2 and trained:
            raise UserError(
                f"--with joint and retrain are made for two talkers: leave them out with --talkers {self.talkers}"
            )
        own = self.recipe["data"]
        if "librispeech" in own and not (own["librispeech"] or self.corpus_dir or self.again):
            if self.given.stage in ("1", "data"):
                raise UserError(
                    "--librispeech DIR is missing: the folder that holds train-clean-360 ..., or into which "
                    "--download true puts them"
                )
        mics = self.facts["mics"]
        if 1 < mics < self.most:
            raise UserError(
                f"--talkers: expected at least {self.most} microphones for {self.most} talkers, or one, found {mics} "
                "(AuxIVA makes no more streams than that)"
            )
        if self.again:
            self._check_first()

    def _check_first(self) -> None:
        """Another training seed takes data and recogniser of a run that is there."""
        if self.given.asr_exp or self.recipe["asr_model"] or self.recipe["asr_config"] != "asr":
            raise UserError(
                f"--train_seed takes the recogniser of {self.first} as it is: leave --asr_exp, --asr_model and "
                "--asr_config out"
            )
        if {"joint", "retrain"} & {*self.extras}:
            raise UserError("--train_seed goes without --with joint and retrain")
        for path in (self.data / "train/wav.scp", self.data / "test/wav.scp", self.first / "asr/config.yaml"):
            if not (self.place / path).exists():
                raise UserError(
                    f"--train_seed {self.given.train_seed}: {self.place / path} is not there; run the same "
                    "command without --train_seed first"
                )

    def _check_shares(self) -> None:
        """A share without rows would be trained on, and stand nowhere."""
        rows = self.content("systems")
        for share in (*self.size["shares"]["semi"], *self.size["shares"]["more"]):
            names = ["supervised"]
            names += ["student_ft", "distilled_ft"] if share in self.size["shares"]["semi"] else []
            for row in (f"{name}_{percent(share)}" for name in names):
                if row not in rows:
                    raise UserError(
                        f"{self.place}/conf/sizes.yaml: the share {share} needs a row {row} in conf/systems.yaml, "
                        "found none; add it or leave the share out"
                    )

    @functools.cached_property
    def variants(self) -> list[str]:
        """Overlays that the options ask for."""
        noise = ["noise"] if self.recipe["data"].get("noise_dir") else []
        if self._array(noise)[0] == 1:
            return [*noise, "one_channel"]
        return [*noise, "mixed_talkers"] if "-" in (self.talkers or "") else noise

    def _array(self, variants: list[str]) -> tuple[int, str]:
        """Return the number of microphones, and the symmetry that training may use."""
        merged = Configuration(self.place, {}, {"fs": self.fs}, variants, self.settings)
        array = merged.get("scenes")["array"]
        if array["kind"] == "coordinates":
            lines = (self.place / array["file"]).read_text(encoding="utf-8").splitlines()
            known = sum(bool(line.split("#")[0].strip()) for line in lines)
            return min(self.given.channels or known, known), "none"
        return self.given.channels or array["n"], array["kind"]

    @functools.cached_property
    def facts(self) -> dict:
        """See :class:`Options`."""
        mics, symmetry = self._array(self.variants)
        facts = {"fs": self.fs, "mics": mics, "symmetry": symmetry}
        return facts | {"talkers": self.most, "outputs": 2 * self.most}

    @property
    def allow_unknown(self) -> bool:
        """Whether words that the recogniser has no token for are errors, rather than the end of the run."""
        chosen = self.recipe["allow_unknown"]
        return self.size["allow_unknown"] if chosen is None else chosen

    def note(self) -> dict:
        """See :class:`Options`."""
        train_seed = self.seed if self.given.train_seed is None else self.given.train_seed
        command = shown_command(self.given, self.recipe, self.extras)
        return {
            "command": command,
            "seed": str(self.seed),
            "train_seed": str(train_seed),
            "label_share": str(self.size["shares"]["small"]),
        }

    def before_work(self, stage: str) -> None:
        """See :class:`Options`."""
        super().before_work(stage)
        if self.given.asr_exp or self.recipe["asr_model"]:
            self._check_recogniser(self.conf("decode"))

    def experiments(self) -> list[Path]:
        """Return the experiments with scores that stand in one table: of any number of microphones."""
        # espeak_3spk_2ch is of the family espeak_3spk, not of espeak.
        found = sorted(Path("exp").glob(f"{self.family}*"))
        own = [path for path in found if re.fullmatch(rf"{re.escape(self.family)}(_[0-9]+ch)?", path.name)]
        scored = [path for path in own if (path / "scores").is_dir()]
        return [self.exp] if self.again or not scored else scored


def percent(share: float) -> str:
    """Return a share of the labels as it stands in names: 0.05 -> 5."""
    return f"{100 * share:g}"


def read_options(given: Given, listing: bool = False) -> Options:
    """Return the run that the options ask for.

    Args:
        given: the options.
        listing: stages are listed only: what a run needs may be missing.

    Raises:
        UserError: something is wrong with the options, or with the recipe.
    """
    place = find_recipe(given.recipe)
    recipe = read_recipe(place, given)
    if given.launcher not in ("local", "slurm"):
        raise UserError(f"--launcher {given.launcher}: expected local or slurm")
    size = given.size or recipe["size"]
    if size not in sizes_of(place):
        raise UserError(
            f"unknown size '{size}': expected one of {', '.join(sizes_of(place))} ({place}/conf/sizes.yaml)"
        )
    kinds = {"mixtures": MixtureOptions, "recordings": RecordingOptions}
    if recipe["stages"] not in kinds:
        raise UserError(f"{place}/recipe.yaml: stages: expected mixtures or recordings, found {recipe['stages']}")
    return kinds[recipe["stages"]](given, place, recipe, listing)
