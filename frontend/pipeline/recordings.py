"""A run on the user's own recordings: its options, and the 8 stages to separated streams and a report."""

import re
from pathlib import Path

from frontend.pipeline.options import MODEL, Given, Options, shown_command
from frontend.pipeline.stage import Stage
from frontend.utils.errors import UserError


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


def recordings(o: RecordingOptions) -> list[Stage]:
    """Return the stages from a folder of recordings to separated streams and a report, without any reference."""
    own, start = o.own, Path(o.own["init_model"]) if o.own["init_model"] else None
    whole, chunks = o.data / "whole", [o.data / "train_unlabelled", o.data / "dev_unlabelled"]
    pseudo = [o.data / "train_pseudo", o.data / "dev_pseudo"]
    geometry = [Path(own["geometry"])] if Path(own["geometry"]).is_absolute() else []
    source = {"fs": o.fs, "geometry": own["geometry"], "channel_pattern": own["channel_pattern"]}
    spans = {name: own[name] for name in ("rttm", "segments") if own[name]}
    models = {part: [start / part / MODEL] if start else [] for part in ("teacher", "student")}
    conf = {part: f"{part}_adapt" if start else part for part in models}
    transcripts = [Path(own["transcripts"])] if own["transcripts"] else []
    counted = [o.exp / "wer"] if transcripts else []  # an earlier run's would be of other streams

    def train(part: str, sets: list[Path]) -> list[str]:
        return o.training("separator", conf[part], part, sets, o.seed, init_param=models[part] or None)

    return [
        Stage(
            *("data", "the recordings, checked, as a Kaldi data directory"),
            reads=[Path(own["recordings"] or "recordings"), *geometry],
            makes=[whole],
            commands=[
                o.words(
                    "data recordings --out {data}/whole --nj {nj}", recordings=own["recordings"], **source
                )
            ],
            settings=source,
        ),
        Stage(
            *("chunks", "training and validation chunks where somebody talks"),
            reads=[whole, *map(Path, spans.values())],
            makes=chunks,
            commands=[
                *_checks(o, start),
                o.words(
                    "data chunks --data {data}/whole --out {data}/train_unlabelled {data}/dev_unlabelled --seed {seed} "
                    "--nj {nj}",
                    **{"min_speech": o.size["min_speech"], **spans},
                ),
            ],
            settings={"seed": o.seed, "min_speech": o.size["min_speech"]},
        ),
        Stage(
            *("teacher", "MixIT on mixtures of chunks"),
            reads=[*chunks, *models["teacher"]],
            makes=[o.exp / "teacher"],
            commands=[train("teacher", chunks)],
            settings=o.settings_of(conf["teacher"]) | {"seed": o.seed},
        ),
        Stage(
            *("pseudo", "the teacher labels the chunks"),
            reads=[*chunks, o.exp / "teacher" / MODEL],
            makes=pseudo,
            commands=[
                o.words(
                    "label --config {conf.pseudo} --model {exp}/teacher --data {set} --out {out} --nj {nj}",
                    set=a,
                    out=b,
                )
                for a, b in zip(chunks, pseudo, strict=True)
            ],
            settings=o.settings_of("pseudo"),
            shards=o.shards,
        ),
        Stage(
            *("student", "PIT on the teacher's labels"),
            reads=[*pseudo, *models["student"]],
            makes=[o.exp / "student"],
            commands=[
                train("student", pseudo),
                # What it started from has a row of its own.
                *([["/bin/ln", "-sfn", str(start / "student"), str(o.exp / "start")]] if start else []),
            ],
            settings=o.settings_of(conf["student"]) | {"seed": o.seed},
        ),
        Stage(
            *("separate", "the whole recordings by every system, in windows"),
            reads=[whole, *(o.exp / part / MODEL for part in models)],
            makes=[o.exp / "separated"],
            commands=[
                o.words(
                    "separate --systems {conf.systems} --exp {exp} --data {data}/whole --out {exp}/separated "
                    "--n_talkers {most} --nj {nj}"
                )
            ],
            settings=o.settings_of("systems"),
            keeps=True,
            shards=o.shards,
        ),
        Stage(
            *("recognise", "what is said in every stream, and cpWER"),
            reads=[o.exp / "separated", *transcripts, *o.recogniser_files()],
            makes=[o.exp / "words", o.exp / "wer"],
            commands=_recognise(o) if transcripts else [],
            settings=o.settings_of("decode") | {"recogniser": o.asr_exp},
            skip="" if transcripts else "--transcripts and --asr_exp run it",
            keeps=True,
            shards=o.shards,
        ),
        Stage(
            *("report", "what can be known without references"),
            reads=[o.exp / "separated", chunks[1], *counted],
            makes=[o.exp / "REPORT.md", o.exp / "report.json"],
            commands=[
                o.words(
                    "report --recordings --data {data}/whole --separated {exp}/separated --dev {data}/dev_unlabelled "
                    "--teacher {exp}/teacher --systems {conf.systems} --out {exp} --seed {seed} --nj {nj}",
                    **{"start": start and start / "teacher", "wer": counted, "talkers": o.most},
                )
            ],
            settings=o.settings_of("systems"),
            keeps=True,
        ),
    ]


def _checks(o: RecordingOptions, start: Path | None) -> list[list[str]]:
    """What the recordings may be wrong for, before the long work."""
    line = "train separator --check --model {model} --config {config} --array {data}/whole/array --outputs {outputs}"
    commands = [
        o.words(line, model=start / part, config=o.conf(f"{part}_adapt"), outputs=outputs)
        for part, outputs in (("teacher", 2 * o.most), ("student", o.most))
        if start
    ]
    if o.own["transcripts"]:
        commands += [o.words("wer --check --scp {data}/whole/wav.scp", transcripts=o.own["transcripts"])]
    return commands


def _recognise(o: RecordingOptions) -> list[list[str]]:
    decode = "decode --config {conf.decode} --asr {asr_exp} --data {data}/whole --separated {exp}/separated "
    decode += "--out {exp}/words --nj {nj} --ngpu {gpu}"
    wer = "wer --decoded {exp}/words --out {exp}/wer --seed {seed} --nj {nj}"
    return [o.words(decode, gpu=min(o.ngpu, 1)), o.words(wer, ref=o.own["transcripts"])]
