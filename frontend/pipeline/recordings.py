"""A run on the user's own recordings: its options, and the 8 stages to separated streams and a report.

With ``--model`` nothing is trained: a model that is there takes the place of the student.
"""

import re
from pathlib import Path

from frontend import MODEL, PRETRAINED
from frontend.pipeline.options import Given, Options, existing, refuse, shown_command
from frontend.pipeline.stage import Record, Stage

_RECOGNISERS = "--asr_whisper MODEL, --asr_exp DIR or --asr_model TAG"
# The stages that learn, and what they do.
_LEARNING = {
    "chunks": "training and validation chunks where somebody talks",
    "teacher": "MixIT on mixtures of chunks",
    "pseudo": "the teacher labels the chunks",
    "student": "PIT on the teacher's labels",
}


class RecordingOptions(Options):
    """A run of ``egs/recordings``; the array is known once stage ``data`` has run.

    Attributes:
        model: path of the trained system that is the student; None: teacher and student are trained.
    """

    def __init__(self, given: Given, place: Path, recipe: dict, listing: bool = False) -> None:
        super().__init__(given, place, recipe)
        own, size = self.own, "" if self.size_name == recipe["size"] else f"_{self.size_name}"
        other = (
            given.train_seed is not None or given.channels or given.corpus or given.corpus_dir or given.extras
        )
        source = Path(own["recordings"] or "recordings")
        # Folders have no ending: v1.0.
        tag = own["tag"] or re.sub("[^A-Za-z0-9]", "_", source.stem if source.is_file() else source.name)
        refuse(
            (
                other,
                "--train_seed, --channels, --corpus, --corpus_dir, --with: recordings have no such choice",
            ),
            (not re.fullmatch("[234]", given.talkers or "2"), f"--talkers {given.talkers}: expected 2 to 4"),
            (
                own["recordings"] is None and not listing,
                "--recordings is missing: the folder with your recordings; --help lists the options",
            ),
            (
                given.fs is not None and given.fs < 1000,
                f"--fs {given.fs}: expected a rate in Hz, such as 8000",
            ),
            (own["rttm"] and own["segments"], "--rttm and --segments: give one of them"),
            (
                own["transcripts"] and self.given_asr is None,
                f"--transcripts: expected a recogniser beside them, found none ({_RECOGNISERS})",
            ),
            (
                not re.fullmatch(r"[A-Za-z0-9_.-]+", str(tag)),
                f"--tag '{tag}': expected letters, digits, dots, dashes and underscores",
            ),
        )
        self.most = int(given.talkers or "2")
        self.model = self._find_model() if own["model"] else None
        for part in ("teacher", "student") if own["init_model"] else ():
            lost = not Path(own["init_model"], part, "config.yaml").is_file()
            expected = f"expected a trained {part} in it, found no {part}/config.yaml"
            refuse((lost, f"--init_model {own['init_model']}: {expected}"))
        if Path(own["geometry"]).exists():
            own["geometry"] = str(Path(own["geometry"]).resolve())
        # What the command line names is seen from where it was typed.
        out = Path(own["out_dir"]).absolute() if "out_dir" in given.more else Path(own["out_dir"])
        self.data, self.exp = out / "data" / f"{tag}{size}", out / "exp" / f"{tag}{size}"
        if own["recordings"]:
            self._refuse_others(str(tag))
        self.facts = {
            "fs": self.fs,
            "mics": 0,
            "symmetry": "none",
            "talkers": self.most,
            "fewest": min(2, self.most),
            "outputs": 2 * self.most,
            "model": str(self.model),
        }
        self.variants = self._variants("0")
        self.notes = {"command": shown_command(given, recipe, ()), "seed": str(self.seed)}
        self.notes |= {"size": self.size_name, "talkers": str(self.most)}

    def _refuse_others(self, tag: str) -> None:
        """Refuse recordings whose results would displace those of others of the same name."""
        record = Record.read(self.place / self.exp / "stages/data.json")
        others = {*record.stamp.inputs} - {self.own["recordings"], self.own["geometry"]} if record else ()
        refuse(
            (
                record and self.own["recordings"] not in record.stamp.inputs,
                f"--recordings {self.own['recordings']}: expected a name that no others have, found "
                f"{self.exp} with the results of {', '.join(sorted(others)) or 'others'}: both are called "
                f"'{tag}' (give these another name: --tag NAME)",
            )
        )

    def _find_model(self) -> Path:
        """Return where the model of ``--model`` lies; what it fits is checked before the first stage."""
        own = self.own
        learning = [name for name in ("init_model", "rttm", "segments") if own[name]]
        learning += ["geometry"] if own["geometry"] != "none" else []
        refuse((learning, f"--model trains nothing: leave --{', --'.join(learning)} out"))
        return PRETRAINED if own["model"] == PRETRAINED.name else Path(existing("model", own["model"]))

    @property
    def weights(self) -> list[Path]:
        """The files of trained systems that the streams depend on."""
        if self.model is None:
            return [self.exp / part / MODEL for part in ("teacher", "student")]
        inside = (self.model / name for name in ("config.yaml", "model.pth", MODEL))
        return [self.model] if self.model.is_file() else list(filter(Path.is_file, inside))

    def look_at_array(self) -> None:
        """Take microphones and symmetry from what stage ``data`` found."""
        path = self.data / "whole/array"
        mics, symmetry = path.read_text().split()[:2] if path.is_file() else ("0", "none")
        facts = self.facts | {"mics": int(mics), "symmetry": symmetry}
        if facts != self.facts:
            self.facts, self._contents = facts, {}
            self.variants = self._variants(mics)

    def _variants(self, mics: str) -> list[str]:
        found = ["mask_net", "one_channel"] if mics == "1" else []
        found += ["few_microphones"] if 0 < int(mics) < self.most else []
        return found + (["trained_model"] if self.model else [])


def recordings(o: RecordingOptions) -> list[Stage]:
    """Return the stages from a folder of recordings to separated streams and a report."""
    o.look_at_array()
    start = Path(o.own["init_model"]) if o.own["init_model"] else None
    off = "--model is the student"
    learning = (
        [Stage(*one, [], [], [], skip=off) for one in _LEARNING.items()] if o.model else _learning(o, start)
    )
    return [_data(o), *learning, *_streams(o, start)]


def _data(o: RecordingOptions) -> Stage:
    own = o.own
    geometry = [Path(own["geometry"])] if Path(own["geometry"]).is_absolute() else []
    source = {"fs": o.fs, "geometry": own["geometry"], "channel_pattern": own["channel_pattern"]}
    line = "data recordings --out {data}/whole --nj {nj}"
    return Stage(
        "data",
        "the recordings, checked, as a Kaldi data directory",
        reads=[Path(own["recordings"] or "recordings"), *geometry],
        makes=[o.data / "whole"],
        commands=[o.words(line, recordings=own["recordings"], **source)],
        settings=source,
    )


def _learning(o: RecordingOptions, start: Path | None) -> list[Stage]:
    """Chunks of the recordings, teacher and student."""
    own, whole = o.own, o.data / "whole"
    chunks = [o.data / "train_unlabelled", o.data / "dev_unlabelled"]
    pseudo = [o.data / "train_pseudo", o.data / "dev_pseudo"]
    spans = {name: own[name] for name in ("rttm", "segments") if own[name]}
    how = {"seed": o.seed, "min_speech": o.size["min_speech"]}
    models = {part: [start / part / MODEL] if start else [] for part in ("teacher", "student")}
    conf = {part: f"{part}_adapt" if start else part for part in models}
    label = "label --config {conf_pseudo} --model {exp}/teacher --data {set} --out {out} --nj {nj}"
    cut = "data chunks --data {data}/whole --out {data}/train_unlabelled {data}/dev_unlabelled --nj {nj}"

    def train(part: str, sets: list[Path]) -> list[str]:
        return o.training("separator", conf[part], part, sets, o.seed, init_param=models[part] or None)

    return [
        Stage(
            "chunks",
            _LEARNING["chunks"],
            reads=[whole, *map(Path, spans.values())],
            makes=chunks,
            commands=[*_checks(o, start), o.words(cut, **how, **spans)],
            settings=how,
        ),
        Stage(
            "teacher",
            _LEARNING["teacher"],
            reads=[*chunks, *models["teacher"]],
            makes=[o.exp / "teacher"],
            commands=[train("teacher", chunks)],
            settings=o.settings_of(conf["teacher"]) | {"seed": o.seed},
        ),
        Stage(
            "pseudo",
            _LEARNING["pseudo"],
            reads=[*chunks, o.exp / "teacher" / MODEL],
            makes=pseudo,
            commands=[o.words(label, set=a, out=b) for a, b in zip(chunks, pseudo, strict=True)],
            settings=o.settings_of("pseudo"),
        ),
        Stage(
            "student",
            _LEARNING["student"],
            reads=[*pseudo, *models["student"]],
            makes=[o.exp / "student"],
            commands=[
                train("student", pseudo),
                # What it started from has a row of its own.
                *([["/bin/ln", "-sfn", str(start / "student"), str(o.exp / "start")]] if start else []),
            ],
            settings=o.settings_of(conf["student"]) | {"seed": o.seed},
        ),
    ]


def _streams(o: RecordingOptions, start: Path | None) -> list[Stage]:
    """The whole recordings separated, recognised and measured."""
    whole, transcripts = o.data / "whole", [Path(o.own["transcripts"])] if o.own["transcripts"] else []
    # An earlier run's words would be of other streams.
    words, counted = [o.exp / "words"] if o.given_asr else [], [o.exp / "wer"] if transcripts else []
    separate = """separate --systems {conf_systems} --exp {exp} --data {data}/whole --out {exp}/separated
        --n_talkers {most} --nj {nj}"""
    decode = """decode --config {conf_decode} --data {data}/whole --separated {exp}/separated
        --out {exp}/words --nj {nj}"""
    wer = "wer --decoded {exp}/words --out {exp}/wer --seed {seed} --nj {nj}"
    report = """report --recordings --data {data}/whole --separated {exp}/separated
        --systems {conf_systems} --out {exp} --listen {exp}/report --talkers {most} --seed {seed} --nj {nj}"""
    dev = [] if o.model else [o.data / "dev_unlabelled"]
    teacher = (
        {} if o.model else {"dev": dev, "teacher": o.exp / "teacher", "start": start and start / "teacher"}
    )
    return [
        Stage(
            "separate",
            "the whole recordings by every system, in windows",
            reads=[whole, *o.weights],
            makes=[o.exp / "separated"],
            # With a model there is no stage before this one to find out that transcripts do not fit.
            commands=[*(_check_transcripts(o) if o.model else []), o.words(separate)],
            settings=o.settings_of("systems"),
            keeps=True,
        ),
        Stage(
            "recognise",
            "what is said in every stream, and cpWER where transcripts are given",
            reads=[o.exp / "separated", *transcripts, *o.recogniser_files()],
            makes=[*words, *counted],
            commands=[
                o.words(decode, ngpu=min(o.ngpu, 1), **o.recogniser),
                *([o.words(wer, ref=o.own["transcripts"])] if transcripts else []),
            ],
            settings=o.settings_of("decode") | {"recogniser": o.given_asr},
            skip="" if words else f"a recogniser runs it ({_RECOGNISERS})",
            keeps=True,
        ),
        Stage(
            "report",
            "what can be known without references, and a page to listen to",
            reads=[o.exp / "separated", *dev, *words, *counted],
            makes=[o.exp / "REPORT.md", o.exp / "report.json", o.exp / "report"],
            commands=[o.words(report, words=words, wer=counted, **teacher)],
            settings=o.settings_of("systems"),
            keeps=True,
        ),
    ]


def _check_transcripts(o: RecordingOptions) -> list[list[str]]:
    line = "wer --check --scp {data}/whole/wav.scp"
    return [o.words(line, transcripts=o.own["transcripts"])] if o.own["transcripts"] else []


def _checks(o: RecordingOptions, start: Path | None) -> list[list[str]]:
    """What the recordings may be wrong for, before the long work."""
    line = """train separator --check --model {model} --config {config} --array {data}/whole/array
        --outputs {outputs}"""
    commands = [
        o.words(line, model=start / part, config=o.conf(f"{part}_adapt"), outputs=outputs)
        for part, outputs in (("teacher", 2 * o.most), ("student", o.most))
        if start
    ]
    return [*commands, *_check_transcripts(o)]
