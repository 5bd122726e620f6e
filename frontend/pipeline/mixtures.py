"""A run on simulated mixtures: its options, and where everything lies."""

import re
from pathlib import Path
from typing import Any

from frontend.pipeline.config import TEMPLATE, Configuration, flat
from frontend.pipeline.options import EXTRAS, Given, Options, existing, refuse, shown_command
from frontend.utils.files import read_lines

# Students with one part of the method changed: the first in every table, all by --with controls.
CONTROLS = ("student_masknet", "student_masknet_remix", "student_labels", "student_blind")


class MixtureOptions(Options):
    """A run on simulated mixtures of a corpus.

    Attributes:
        speech: sets of dry speech.
        labels: sets with pseudo-targets and sets of labels; those of another training seed have others.
        first: the experiment whose data and recogniser a run of another training seed takes; else ``exp``.
        again: the end of the names of such a run.
        family: the experiments of this name, with any number of microphones, stand in one table.
        results: where the page goes.
        pool: the set that labels are taken of.
        shares: of the labels, of ``--with curve``.
        drawing: what scenes depend on beside their configuration.
        sets: of mixtures: name, speech set, number of mixtures, further options of their scenes.
        prepared: what local/data.sh is given of the recipe's own options.
        folders: what the speech is made of.
        fetch: the command that fetches what the corpus lacks, before anything looks at it.
    """

    def __init__(self, given: Given, place: Path, recipe: dict, listing: bool = False) -> None:
        super().__init__(given, place, recipe)
        self._check_sizes()
        self._check_values()
        self._set_paths()
        self._set_work()
        self._set_speech()
        self._set_facts()
        # What was once asked for stays in the table and is kept up to date; removing it ends that.
        kept = {"joint": "joint", "retrain": "asr_separated", "curve": "curve", "mismatch": "mismatch"}
        kept["controls"] = CONTROLS[-1]
        found = [name for name, made in kept.items() if (place / self.exp / made).is_dir()]
        self.extras = tuple(name for name in EXTRAS if name in given.extras or name in found)
        if not listing:
            self._check_together()
        command = shown_command(given, recipe, self.extras)
        self.notes = {"command": command, "seed": str(self.seed), "train_seed": str(self.train_seed)}
        self.notes["label_share"] = str(self.size["shares"]["small"])

    def _check_sizes(self) -> None:
        size = self.size
        for key in ("semi", "more"):
            found = size["shares"][key]
            refuse((type(found) is not list, f"size.shares.{key}: expected a list of shares, found {found}"))
        for share in (size["shares"]["small"], *size["shares"]["semi"], *size["shares"]["more"]):
            is_wrong = type(share) not in (int, float) or not 0 < share <= 1
            refuse((is_wrong, f"size.shares: expected numbers above 0 and at most 1, found {share}"))
        for key in ("mixtures", "bank", "asr_rooms", "generations"):
            for name, number in flat(f"size.{key}", size[key]).items():
                is_wrong = type(number) is not int or number < 1
                is_wrong = is_wrong and (name, number) != ("size.mixtures.labelled", None)
                refuse((is_wrong, f"{name}: expected a whole number of at least 1, found {number}"))

    def _check_values(self) -> None:
        given, recipe, place = self.given, self.recipe, self.place
        range_ = re.fullmatch("[234]|2-[34]|3-4", given.talkers or "2")
        self.most = int((given.talkers or "2")[-1]) if range_ else 0
        name, fs, rates = recipe["asr_config"], given.fs, ", ".join(map(str, recipe["rates"]))
        files = [folder / f"conf/{name}.yaml" for folder in (place, TEMPLATE)]
        aloud = self.size["read_aloud"]
        from_data = given.stage in ("1", "data")
        corpus = given.corpus or ""
        refuse(
            (
                corpus and not re.fullmatch(r"[A-Za-z0-9_.-]+", corpus),
                f"--corpus '{corpus}': expected letters, digits, dots, dashes and underscores",
            ),
            (not range_, f"--talkers {given.talkers}: expected 2, 3 or 4 talkers, or a range of these: 2-3"),
            (
                self.most > recipe["most_talkers"],
                f"--talkers {given.talkers}: {place.name} mixes {recipe['most_talkers']} at most "
                "(egs/mini and egs/speechocean762_2mix mix more)",
            ),
            (
                fs and fs not in recipe["rates"] and from_data,
                f"--fs {fs}: the corpora of {place.name} are made at {rates} Hz; leave it out, or bring "
                "speech of that rate and give --stage scenes",
            ),
            (fs not in (None, 8000, 16000), f"--fs {fs}: expected 8000 or 16000"),
            (not any(map(Path.is_file, files)), f"unknown --asr_config '{name}': expected {files[0]}"),
            (
                aloud is not None and (not isinstance(aloud, int) or aloud < 2),
                f"{place}/conf/sizes.yaml: read_aloud: expected 2 or more utterances, found {aloud}",
            ),
        )
        self.corpus_dir = existing("corpus_dir", given.corpus_dir) if given.corpus_dir else None

    def _set_paths(self) -> None:
        given, own = self.given, self.own
        self.corpus = given.corpus or self.recipe["corpus"]
        base = self.corpus + ("" if self.size_name == "full" else f"_{self.size_name}")
        base += f"_{given.fs // 1000}k" if given.fs else ""
        base += "_noise" if own.get("noise_dir") else ""
        base += f"_seed{self.seed}" if self.seed else ""
        name = f"{base}_{given.talkers}spk" if given.talkers else base
        name += "_otf" if "on_the_fly" in given.extras else ""
        # Rows of a run with labels are not to stand in the table of one without: it is an experiment of its
        # own.
        name += "_unsup" if "unsupervised" in given.extras else ""
        network = self.recipe["network"] or ""
        name += f"_{network}" if network else ""
        self.family = name  # speech and results are shared by all numbers of microphones
        name += f"_{given.channels}ch" if given.channels else ""
        # Of the seed of the data it is the first run itself.
        self.again = "" if given.train_seed in (None, self.seed) else f"_train{given.train_seed}"
        self.speech, self.data, self.first = (
            Path("data", base, "speech"),
            Path("data", name),
            Path("exp", name),
        )
        self.labels, self.exp = Path("data", name + self.again), Path("exp", name + self.again)
        # Only runs of seed 0 in a size that says so, with its recogniser and all rows, write the page that is
        # kept; the real corpora have one each.
        differs = [self.seed, self.again, given.talkers, given.fs, own.get("noise_dir"), given.asr_exp]
        whisper = given.more.get("asr_whisper")
        differs += [network, self.recipe["asr_model"], self.settings]
        differs += [bool(whisper) != (self.size["kept_page"] == "asr_whisper")]
        differs += [{"on_the_fly", "unsupervised"} & {*given.extras}]
        self.results = Path("exp", self.family + self.again)
        if self.size["kept_page"] and not any(differs) and self.recipe["asr_config"] == "asr":
            self.results = Path("." if self.corpus == self.recipe["corpus"] else self.corpus)

    def _set_work(self) -> None:
        """Set what is trained, with which recogniser the streams are decoded, and which sets there are."""
        given, number = self.given, self.size["mixtures"]
        self.train_seed = self.seed if given.train_seed is None else given.train_seed
        self.pool = "labelled" if number["labelled"] else "train"
        if not self.given_asr:
            self.recogniser["asr"] = str(self.first / "asr")
        chosen = self.recipe["allow_unknown"]
        self.allow_unknown = self.size["allow_unknown"] if chosen is None else chosen
        self.unknown = str(self.allow_unknown).lower()
        self.shares = [*self.size["shares"]["semi"], *self.size["shares"]["more"]]
        first = [self.exp / f"student_gen{n}" for n in range(1, self.size["generations"])]
        self.generations = [*first, self.exp / "student"]
        bank = self.size["bank"] if "on_the_fly" in given.extras else None
        self.drawing = {"seed": self.seed, "channels": given.channels, "talkers": self.talkers, "bank": bank}
        train = {"talkers": self.talkers, "bank": bank}
        self.sets: list[tuple[str, str, int, dict]] = [
            ("train", "train", number["train"], train),
            *([(self.pool, self.pool, number[self.pool], train)] if self.pool != "train" else []),
            ("dev", "dev", number["dev"], {"talkers": self.talkers}),
            ("test", "test", number["test"], {"n_talkers": self.talkers or 2}),
            ("test_1spk", "test", number["single"], {"n_talkers": 1}),
        ]

    def _set_speech(self) -> None:
        """Set what stage ``data`` makes the speech of."""
        own = self.own
        known = {k: v for k, v in own.items() if v is not None and not k.startswith("download")}
        self.prepared = {name: "true" if value is True else value for name, value in known.items()}
        places = [self.corpus_dir, *(own[name] for name in self.recipe["paths"])]
        self.folders = [Path(place) for place in places if place is not None]
        self.fetch: list[list[str]] = []
        if own.get("download") and own["librispeech"]:
            mirror = [own["download_url"]] if own.get("download_url") else []
            self.fetch = [["local/download.sh", own["librispeech"], *mirror]]

    def _set_facts(self) -> None:
        """Set what the configurations depend on: the array, the numbers of talkers, and the overlays."""
        noise = ["noise"] if self.own.get("noise_dir") else []
        mics, symmetry = self._array(noise)
        more: list[str] = []
        if mics == 1:
            more = ["mask_net", "one_channel"]
        elif "-" in (self.talkers or ""):
            more = ["mixed_talkers"]
        self.variants = [*noise, *more]
        fewest = max(2, int((self.talkers or "2")[0]))
        self.facts = {"fs": self.fs, "mics": mics, "symmetry": symmetry}
        self.facts |= {"talkers": self.most, "fewest": fewest, "outputs": 2 * self.most}
        controls = CONTROLS if "controls" in self.given.extras else CONTROLS[:1]
        self.controls = controls if self.one_array and mics > 1 and not self.recipe["network"] else ()

    def _array(self, variants: list[str]) -> tuple[int, str]:
        """Return the number of microphones, the most where it is drawn, and the symmetry of the array.

        ``one_array`` becomes whether all mixtures have the same: a mask network is for one.
        """
        facts = {"fs": self.fs, "talkers": self.most}
        merged = Configuration(self.place, self.size, facts, variants, self.settings)
        array = merged.get("scenes")["array"]
        kinds = array["kind"] if isinstance(array["kind"], list) else [array["kind"]]
        symmetry = kinds[0] if kinds in (["circular"], ["linear"]) else "none"
        number: Any = 0
        self.one_array = self.listed_places = kinds == ["coordinates"]
        if not self.listed_places:
            given = self.given.channels or array.get("n")
            self.one_array = len(kinds) == 1 and not isinstance(given, list)
            number = given[-1] if isinstance(given, list) and given else given
            is_number = isinstance(number, int)
            refuse((not is_number, f"scenes.array.n: expected a number of microphones, found {number}"))
        if "coordinates" not in kinds:
            return number, symmetry
        refuse(("file" not in array, "scenes.array.file: expected a file of coordinates, found none"))
        lines = read_lines(self.place / array["file"])
        known = sum(bool(line.split("#")[0].strip()) for _, line in lines)
        return max(number, min(self.given.channels or known, known)), symmetry

    def _check_together(self) -> None:
        """Refuse what does not go together, with each other or with an earlier run."""
        extras, folder, own, mics = {*self.extras}, self.place / self.exp, self.own, self.facts["mics"]
        trained, whisper = {"joint", "retrain"} & extras, self.recogniser["asr_whisper"]
        asr = (self.given_asr and not whisper) or self.recipe["asr_config"] != "asr"
        lacks = self.recipe["corpus"] == "librispeech" and not (own["librispeech"] or self.corpus_dir)
        lacks = lacks and not self.again
        refuse(
            (
                trained and self.given_asr,
                "--with joint and retrain need the ESPnet recogniser of stage asr: leave --asr_exp, "
                f"--asr_model and --asr_whisper out (or remove {folder}/joint and asr_separated of an "
                "earlier run)",
            ),
            (
                "unsupervised" in extras and (trained or "curve" in extras),
                "--with unsupervised: curve, joint and retrain need labels; leave them out (or remove "
                f"{folder}/curve, joint and asr_separated of an earlier run)",
            ),
            (
                mics == 1 and "mismatch" in extras,
                "--with mismatch compares with AuxIVA, which needs two or more microphones: leave it out",
            ),
            (
                self.recipe["network"] and (mics == 1 or not self.one_array),
                f"--network {self.recipe['network']} is for one array, of two microphones or more",
            ),
            (
                self.most > 2 and trained,
                f"--with joint and retrain are made for two talkers: leave them out with --talkers "
                f"{self.talkers}",
            ),
            (
                lacks and self.given.stage in ("1", "data"),
                "--librispeech DIR is missing: the folder that holds train-clean-360 ..., or into which "
                "--download true puts them",
            ),
            (
                1 < mics < self.most,
                f"--talkers: expected at least {self.most} microphones for {self.most} talkers, or one, "
                f"found {mics} (AuxIVA makes no more streams than that)",
            ),
            (
                self.again and asr,
                f"--train_seed takes the recogniser of {self.first} as it is: leave --asr_exp, --asr_model "
                "and --asr_config out",
            ),
            (self.again and trained, "--train_seed goes without --with joint and retrain"),
            (
                mics > 8 and self.recipe["audio_format"] != "wav",
                f"--audio_format {self.recipe['audio_format']}: flac holds at most 8 channels, the array has "
                f"{mics} (take wav)",
            ),
        )
        first = [self.data / "train/wav.scp", self.data / "test/wav.scp"]
        first += [] if whisper else [self.first / "asr/config.yaml"]
        for path in first if self.again else ():
            seed = f"--train_seed {self.given.train_seed}: {self.place / path} is not there"
            refuse(
                (not (self.place / path).exists(), f"{seed}; run the same command without --train_seed first")
            )
        if "curve" in extras:
            self._check_shares()

    def _check_shares(self) -> None:
        """A share without rows would be trained on, and stand nowhere."""
        rows = self.content("systems").get("curve", {}).get("shares", {})
        for share in self.shares:
            more = ("student_ft", "distilled_ft") if share in self.size["shares"]["semi"] else ()
            for name in ("supervised", *more):
                row = f"{name}_{percent(share)} in conf/systems.yaml (curve: shares)"
                lacks = f"the share {share} needs a row {row}, found none; add it or leave the share out"
                refuse((name not in rows.get(share, ()), f"{self.place}/conf/sizes.yaml: {lacks}"))

    @property
    def other_arrays(self) -> dict[str, str]:
        """The conditions with another number of microphones, and what they set it to."""
        listed = self.content("conditions").items()  # whoever draws them checks the overrides
        found = [(name, str(o)) for name, row in listed if isinstance(row, list) for o in row]
        return {name: o.removeprefix("array.n=") for name, o in found if o.startswith("array.n=")}

    @property
    def conditions(self) -> list[str]:
        """The conditions of --with mismatch.

        A student of one number of microphones has those with that number alone, and so has an array whose
        places are listed; AuxIVA makes no streams of more talkers than there are microphones.
        """
        fixed = self.recipe["network"] or self.given.channels or self.listed_places
        others = self.other_arrays
        too_few = [*map(str, range(1, self.most))]
        left_out = [name for name, number in others.items() if fixed or number in too_few]
        return [name for name in self.content("conditions") if name not in left_out]

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
