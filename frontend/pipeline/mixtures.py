"""A run on simulated mixtures of a corpus: what its options may be together, and where everything lies."""

import functools
import re
from pathlib import Path

from frontend.pipeline.config import TEMPLATE, Configuration
from frontend.pipeline.options import EXTRAS, Given, Options, existing, shown_command
from frontend.utils.errors import UserError


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
            raise UserError(
                f"--talkers {given.talkers}: expected 2, 3 or 4 talkers, or a range of these: 2-3"
            )
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
        self.speech, self.data, self.first = (
            Path("data", base, "speech"),
            Path("data", name),
            Path("exp", name),
        )
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
            raise UserError(
                "--with mismatch compares with AuxIVA, which needs two or more microphones: leave it out"
            )
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
        rows, own = self.content("systems").get("curve", {}).get("shares", {}), self.size["shares"]
        for share in self.shares:
            for name in ("supervised", *(("student_ft", "distilled_ft") if share in own["semi"] else ())):
                if name not in rows.get(share, ()):
                    raise UserError(
                        f"{self.place}/conf/sizes.yaml: the share {share} needs a row {name}_{percent(share)} in "
                        "conf/systems.yaml (curve: shares), found none; add it or leave the share out"
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

    @property
    def unknown(self) -> str:
        """The same as ESPnet's options have it."""
        return str(self.allow_unknown).lower()

    @property
    def train_seed(self) -> int:
        """Of trainings and of the choice of labels."""
        return self.seed if self.given.train_seed is None else self.given.train_seed

    @property
    def given_asr(self) -> str | None:
        """The recogniser that was given, instead of stage asr."""
        return self.asr_exp or self.recipe["asr_model"]

    @property
    def asr(self) -> Path | None:
        """The recogniser of all systems; None where it is one of the zoo."""
        if self.recipe["asr_model"]:
            return None
        return Path(self.asr_exp) if self.asr_exp else self.first / "asr"

    @property
    def own(self) -> dict:
        """What local/data.sh needs of the recipe's own options."""
        left = {"download", "download_url"}
        given = {k: v for k, v in self.recipe["data"].items() if v not in (None, False) and k not in left}
        return {k: str(v).lower() if v is True else v for k, v in given.items()}

    @property
    def fetch(self) -> list[list[str]]:
        """The command that fetches what the corpus lacks, before anything looks at it."""
        own = self.recipe["data"]
        if not own.get("download"):
            return []
        return [
            ["local/download.sh", own["librispeech"], *([own["download_url"]] if own["download_url"] else [])]
        ]

    @property
    def folders(self) -> list[Path]:
        """What the speech is made of."""
        paths = [self.corpus_dir, *(self.recipe["data"][name] for name in self.recipe["paths"])]
        return [Path(path) for path in paths if path is not None]

    @property
    def shares(self) -> list[float]:
        """Shares of the labels of ``--with curve``."""
        return [*self.size["shares"]["semi"], *self.size["shares"]["more"]]

    @property
    def drawing(self) -> dict:
        """What scenes depend on beside their configuration."""
        bank = self.size["bank"] if "on_the_fly" in self.extras else None
        return {"seed": self.seed, "channels": self.given.channels, "talkers": self.talkers, "bank": bank}

    @property
    def sets(self) -> list[tuple[str, str, int, dict]]:
        """The sets of mixtures: name, speech set, number of mixtures, further options of their scenes."""
        number, train = self.size["mixtures"], {name: self.drawing[name] for name in ("talkers", "bank")}
        pool = [] if self.pool == "train" else [(self.pool, self.pool, number[self.pool], train)]
        return [
            ("train", "train", number["train"], train),
            *pool,
            ("dev", "dev", number["dev"], {"talkers": self.talkers}),
            ("test", "test", number["test"], {"n_talkers": self.talkers or 2}),
            ("test_1spk", "test", number["single"], {"n_talkers": 1}),
        ]

    def note(self) -> dict:
        """See :class:`Options`."""
        command = shown_command(self.given, self.recipe, self.extras)
        return {
            "command": command,
            "seed": str(self.seed),
            "train_seed": str(self.train_seed),
            "label_share": str(self.size["shares"]["small"]),
        }

    def before_work(self, stage: str) -> None:
        """See :class:`Options`."""
        super().before_work(stage)
        if "mismatch" in self.extras:
            from frontend.simulation.config import load_condition

            scenes, conditions = self.conf("scenes"), self.conf("conditions")
            self.write()
            channels = [f"array.channels={self.given.channels}"] if self.given.channels else []
            for name in self.content("conditions"):
                load_condition(scenes, conditions, name, channels)
        if self.given_asr:
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
