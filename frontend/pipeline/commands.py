"""The command lines of the stages of a run on simulated mixtures, and the jobs that are made of them."""

import functools
import itertools
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from frontend import MODEL, MOST_MICS, PRETRAINED
from frontend.pipeline.mixtures import MixtureOptions, percent
from frontend.pipeline.options import refuse
from frontend.pipeline.stage import known_to_job
from frontend.separation.systems import systems_of
from frontend.utils.stamps import of_file

# Rows that separate the test sets of other numbers of microphones, and those of other conditions.
OTHER_ARRAYS = ("student", "any_array", "auxiva", "auxiva+mask")
ELSEWHERE = (*OTHER_ARRAYS, "student_masknet", "student_masknet+iva+mask")
# Commands that take --shard i/n: their items are written whole, one by one, and a last call without it writes
# the tables.
SHARDED = ("simulate render", "label", "separate", "score", "decode")
# Configurations of students that learn from labels which a system made.
FRESH = ("student", "cotrained")
Command = list[str]
_FIRST_S = 30.0  # for the first of several processes to end: what it says is the result


def pair(folder: Path, kind: str) -> list[Path]:
    """Return the sets of that kind for training and validation."""
    return [folder / f"train_{kind}", folder / f"dev_{kind}"]


def model(folder: Path) -> list[Path]:
    """Return the files of a trained model."""
    return [folder / "config.yaml", folder / MODEL]


def draw(o: MixtureOptions, name: str, speech: str, number: int, more: dict) -> Command:
    """Return the command that draws the scenes of a set, or takes them of the corpus's list of mixtures."""
    pairs = o.speech / speech / "pairs"
    listed = name != "test_1spk" and (pairs.exists() or o.recipe["corpus"] == "librispeech")
    listed = listed and not o.size["speech"].get("drawn")
    line = """simulate scenes --config {conf_scenes} --speech {speech}/{part} --num {num} --prefix {name}
        --seed {seed} --out {data}/scenes/{name}.jsonl"""
    values = {"part": speech, "num": number, "name": name, "channels": o.given.channels}
    return o.words(line, **values, pairs=pairs if listed else None, **more)


def render_sets(o: MixtureOptions) -> list[Command]:
    """Return the commands that render all sets and check them; sets on the fly are named alone."""
    rendered, checked = [], []
    for name, speech, *_ in o.sets:
        # What trainings alone read need not be written.
        on_the_fly = "on_the_fly" in o.extras and name in ("train", "labelled")
        how = {"on_the_fly": True} if on_the_fly else {"audio_format": o.recipe["audio_format"]}
        more = {"rir_cache": o.data / "rirs", "n_talkers": o.most, **how}
        rendered.append(render(o, f"scenes/{name}", speech, name, **more))
        checked += [] if on_the_fly else [["data", "check", str(o.data / name)]]
    return [*rendered, *checked]


def render(o: MixtureOptions, scenes: str, speech: str, name: str, **more: object) -> Command:
    """Return the command that makes the set ``name`` of scenes; ``more`` are further options."""
    line = """simulate render --scenes {data}/{scenes}.jsonl --speech {speech}/{part} --out {data}/{name}
        --nj {nj}"""
    return o.words(line, scenes=scenes, part=speech, name=name, **more)


def subset(o: MixtureOptions, data: Path, out: Path, share: float, seed: int, **more: object) -> Command:
    """Return the command that makes a set of a share of another; ``more`` are further options."""
    return o.words("data subset", data=data, out=out, share=share, seed=seed, **more)


def unlabelled(o: MixtureOptions, part: str) -> Command:
    """Return the command that makes a set without what training without labels must not see."""
    return subset(o, o.data / part, o.data / f"{part}_unlabelled", 1, o.seed, unlabelled=True)


def keep_labels(o: MixtureOptions, share: float, name: str) -> list[Command]:
    """Return the commands that take a share of the labelled mixtures, for training and validation.

    A remix is of as many mixtures as there are talkers, so that there are never fewer.
    """
    pairs = ((o.pool, f"train_{name}"), ("dev", f"dev_{name}"))
    return [
        subset(o, o.data / source, o.labels / out, share, o.train_seed, fewest=o.most)
        for source, out in pairs
    ]


def beginning(o: MixtureOptions) -> list[Path]:
    """Return the weights that fresh students start from, if any.

    With one microphone they are the teacher's, all but the last layer: from nothing a student is behind its
    own labels after as many steps (docs/ablations.md).
    """
    return [o.exp / "teacher" / MODEL] if o.facts["mics"] == 1 else []


def packaged(o: MixtureOptions) -> dict[str, str]:
    """Return what the rows of the package's model depend on."""
    tables = [o.content("systems"), o.content("systems").get("models") or {}]
    known = any(PRETRAINED.name in table for table in tables) and 1 < o.facts["mics"] <= MOST_MICS
    return {PRETRAINED.name: of_file(PRETRAINED / "model.pth")} if known else {}


def train(
    o: MixtureOptions, name: str, conf: str, sets: list[Path], start: Path | None = None, **more: object
) -> Command:
    """Return the command that trains a separator.

    On the fly its workers render the mixtures; a size may ask for more of them.
    """
    if conf in FRESH and beginning(o):
        (start,) = beginning(o)
        more = more | {"ignore_init_mismatch": "true"}
    workers = o.threads if "on_the_fly" in o.extras and "num_workers" not in o.content(conf) else None
    return o.training(
        "separator", conf, name, sets, o.train_seed, init_param=start, num_workers=workers, **more
    )


def train_asr(o: MixtureOptions, name: str, sets: list[Path], **more: object) -> Command:
    """Return the command that trains a recogniser on a pair of sets."""
    return o.training("recogniser", "asr", name, sets, o.seed, allow_unknown=o.unknown, **more)


def label(o: MixtureOptions, model: str, name: str, kind: str = "") -> list[Command]:
    """Return the commands that label the unlabelled sets with a model's streams: train_NAME and dev_NAME."""
    # --reference only scores the targets for the reader; nothing is chosen by it.
    line = """label --config {config} --model {exp}/{model} --data {data}/{part}_unlabelled
        --reference {data}/{part} --out {labels}/{part}_{name} --nj {nj}"""
    config = o.conf(kind or name)
    return [o.words(line, config=config, model=model, part=part, name=name) for part in ("train", "dev")]


def generation(o: MixtureOptions, number: int) -> list[Command]:
    """Return the commands of student ``number``, from 0 on.

    It learns from remixes of the teacher's labels, later ones from remixes of the last student's streams.
    """
    if number == 0:
        labelled, commands = "pseudo", []
    else:
        labelled = f"gen{number}"
        commands = label(o, o.generations[number - 1].name, labelled, "distill")
    return [*commands, train(o, o.generations[number].name, "student", pair(o.labels, labelled))]


def control(o: MixtureOptions, name: str) -> list[Command]:
    """Return the commands of one of :data:`frontend.pipeline.mixtures.CONTROLS`."""
    if name != "student_blind":
        return [train(o, name, name, pair(o.labels, "pseudo"))]
    line = """label --config {conf_pseudo_blind} --data {data}/{part}_unlabelled --reference {data}/{part}
        --out {labels}/{part}_blind --nj {nj}"""
    labelled = [o.words(line, part=part) for part in ("train", "dev")]
    return [*labelled, train(o, name, "student", pair(o.labels, "blind"))]


def cotrain(o: MixtureOptions, name: str, labelled: Path) -> Command:
    """Return the command of a fresh student on the last generation's labels and true ones in one batch."""
    last = len(o.generations) - 1
    sets = pair(o.labels, f"gen{last}" if last else "pseudo")
    return train(o, name, "cotrained", sets, preprocessor_conf=f"labelled={labelled}")


def on_share(o: MixtureOptions, share: float) -> list[Command]:
    """Return the commands of the trainings on one share of the labels."""
    at, sets = percent(share), pair(o.labels, percent(share))
    kept = keep_labels(o, share, at)
    if share not in o.size["shares"]["semi"]:
        return [*kept, train(o, f"curve/supervised_{at}", "full", sets)]
    return [
        *kept,
        train(o, f"curve/student_ft_{at}", "finetune", sets, o.exp / "student" / MODEL),
        cotrain(o, f"curve/cotrained_{at}", sets[0]),
        *label(o, f"curve/student_ft_{at}", f"distill_{at}", "distill"),
        train(o, f"curve/distilled_{at}", "student", pair(o.labels, f"distill_{at}")),
        train(o, f"curve/distilled_ft_{at}", "finetune", sets, o.exp / f"curve/distilled_{at}" / MODEL),
        train(o, f"curve/supervised_{at}", "small", sets),
    ]


def asr_sets(o: MixtureOptions) -> list[Command]:
    """Return the commands that make the recogniser's sets: one microphone, new rooms, each talker alone."""
    read_aloud = """local/read_aloud.py --text {speech}/{pool}/text --num {aloud} --out {data}/read_aloud
        --seed {seed} --nj {nj}"""
    scenes = """simulate scenes --config {conf_scenes} --speech {speech}/{source} --num {rooms}
        --prefix asr{number}_{part} --seed {seed} --out {data}/scenes_asr/{part}{number}.jsonl
        --channels 1 --n_talkers {number}"""
    drawn, rendered, joined = list[Command](), list[Command](), list[Command]()
    aloud, audio_format = o.size["read_aloud"], o.recipe["audio_format"]
    if aloud:
        drawn += [o.words(read_aloud, aloud=aloud, fs=o.given.fs)]
    for part, source in (("train", o.pool), ("dev", "dev")):
        speech, rooms = [o.speech / source], []
        if aloud and part == "train":
            speech += [o.data / "read_aloud/train"]
        for number in (1, 2):
            values = {"source": source, "rooms": o.size["asr_rooms"][part], "number": number, "part": part}
            drawn += [o.words(scenes, **values)]
            name = f"asr_{part}_rooms{number}"
            rendered += [render(o, f"scenes_asr/{part}{number}", source, name, audio_format=audio_format)]
            rooms += [o.data / name]
        joined += [o.words("data recogniser", speech=speech, rooms=rooms, out=o.data / f"asr_{part}")]
    return [*drawn, *rendered, *joined]


def separated_set(o: MixtureOptions, part: str) -> list[Command]:
    """Return the commands that make a recogniser's set of the student's streams, each with its text."""
    line = """data recogniser --separated --data {data}/{part} --streams {exp}/separated/{part}/student
        --decoded {exp}/decoded_{part}/student --out {data}/asr_{part}_separated"""
    # Systems without labels are judged by it too: it is trained on no mixture of the labelled set.
    without = o.labels / f"{part}_small" if o.pool == "train" else None
    return [
        separate(o, o.data / part, o.exp / "separated" / part, only="student"),
        decode(o, part, o.exp / f"decoded_{part}", asr=o.exp / "asr", only="student"),
        o.words(line, part=part, without=without),
    ]


def separate(o: MixtureOptions, data: Path, out: Path, **more: object) -> Command:
    """Return the command that separates a set by every system of the table, or by ``only`` some."""
    line = """separate --systems {conf_systems} --exp {exp} --data {set} --out {out} --n_talkers {most}
        --nj {nj}"""
    return o.words(line, set=data, out=out, **more)


def decode(o: MixtureOptions, part: str, out: Path, **more: object) -> Command:
    """Return the command that recognises a set's streams, its true images and its dry speech."""
    line = """decode --config {conf_decode} --systems {conf_systems} --exp {exp} --data {data}/{part}
        --separated {exp}/separated/{part} --speech {speech}/{part} --out {out} --nj {nj}"""
    return o.words(line, part=part, out=out, ngpu=min(o.ngpu, 1), allow_unknown=o.allow_unknown, **more)


def rows_of(o: MixtureOptions) -> list[str]:
    """Return the names of the rows of the table of systems."""
    return [system.name for system in systems_of(o.content("systems"), o.conf("systems"))]


def in_condition(o: MixtureOptions, name: str, rows: list[str]) -> list[Command]:
    """Return the commands that draw, render, separate and score the test set of a condition.

    It is separated by those of the rows wanted that the table has.
    """
    data, folder = o.data / "conditions" / name, o.exp / "mismatch" / name
    scenes = """simulate scenes --config {conf_scenes} --conditions {conf_conditions} --condition {name}
        --seed {seed} --speech {speech}/test --num {num} --prefix test
        --out {data}/conditions/scenes/{name}.jsonl"""
    known = OTHER_ARRAYS if name in o.other_arrays else ELSEWHERE
    only = [row for row in known if row in rows]
    wanted = f"--with mismatch: expected one of the rows {', '.join(known)} in conf/systems.yaml"
    refuse((not only, f"{wanted}, found none (add one)"))
    drawn = {"num": o.size["mixtures"]["test"], "n_talkers": o.talkers or 2, "channels": o.given.channels}
    how = {"rir_cache": o.data / "rirs", "audio_format": o.recipe["audio_format"]}
    score = "score --data {set} --separated {folder}/separated --out {folder}/scores --nj {nj}"
    return [
        o.words(scenes, name=name, **drawn),
        render(o, f"conditions/scenes/{name}", "test", f"conditions/{name}", **how),
        separate(o, data, folder / "separated", only=",".join(only)),
        o.words(score, set=data, folder=folder, measures=""),
    ]


def works_of(commands: list[Command], settings: dict[str, dict]) -> list[list[list[Command]]]:
    """Divide the commands of a stage into jobs.

    Args:
        commands: in their order.
        settings: of :func:`frontend.pipeline.config.read_launcher`.

    Returns:
        arrays in their order: jobs that may run at the same time, each a list of commands that run one after
        the other. Commands of one kind that can be divided and follow one another are one array; what they
        leave to be done and all that lies between is one job; a training is one, too.
    """

    def kind_of(command: Command) -> str:
        is_divided = " ".join(command).startswith(SHARDED) and settings[command[0]]["array"] > 1
        return command[0] if is_divided or command[0] == "train" else ""

    arrays: list[list[list[Command]]] = []
    left: list[Command] = []
    for kind, group in itertools.groupby(commands, kind_of):
        same = [*group]
        if kind and left:
            arrays.append([left])
            left = []
        if kind == "train":
            arrays += [[[command]] for command in same]
        elif kind:
            n = settings[kind]["array"]
            arrays.append([[[*command, "--shard", f"{k}/{n}"]] for command in same for k in range(1, n + 1)])
        left = left if kind == "train" else left + same
    return [*arrays, *([[left]] if left else [])]


def shown(command: Command) -> str:
    """Return a command as one can paste it."""
    return shlex.join(with_python("python", command))


def with_python(python: str, command: Command) -> Command:
    """Return a command with the interpreter that runs it."""
    if command[0].endswith(".py"):
        return [python, *command]
    return command if "/" in command[0] else [python, "-m", "frontend", *command]


def environment() -> dict[str, str]:
    """Return the environment of a command: this interpreter, and this repository's package."""
    package = str(Path(__file__).parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    # Of a job of several nodes its processes learn that they share a training, and of nothing else.
    own = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return {**own, "PYTHONPATH": os.pathsep.join(paths), "PATH": programs, "PYTHONUNBUFFERED": "1"}


class Job:
    """Commands as a job: queued again, by a time-out or by Slurm, it runs them again, and so goes on."""

    def __init__(self, commands: list[Command], place: str, own: dict[str, str]) -> None:
        self.commands, self.place, self.own = commands, place, own

    def __call__(self) -> int:
        """Run the commands until one fails; return its exit code."""
        shares = known_to_job()
        all_of_it = {**environment(), **self.own, **shares}  # of the machine that it runs on
        for command in self.commands:
            print(f"$ {shown(command)}", flush=True)
            line = with_python(sys.executable, command)
            # What announces a time-out goes to all processes of the job, and is meant for this one.
            deaf = functools.partial(signal.signal, signal.SIGUSR2, signal.SIG_IGN)
            done = subprocess.run(line, cwd=self.place, env=all_of_it, check=False, preexec_fn=deaf)
            if done.returncode and shares.get("RANK", "0") != "0":
                time.sleep(_FIRST_S)  # the result is that of the first process: it may be about to say why
                raise RuntimeError("one of several processes failed")
            if done.returncode:
                return done.returncode
        return 0

    def checkpoint(self, *arguments) -> object:
        """Return what is queued again."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, *arguments)
