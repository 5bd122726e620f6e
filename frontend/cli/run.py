"""``mixit run``: a recipe from nothing to the table, stage by stage."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import click

from frontend.cli import COUNT, Command, flag, one_of, option, split
from frontend.pipeline.config import TEMPLATE
from frontend.pipeline.mixtures import MixtureOptions
from frontend.pipeline.options import EXTRAS, FREE, Given, Options, find_recipe
from frontend.pipeline.recipes import read_options, stages_of
from frontend.pipeline.recordings import RecordingOptions
from frontend.utils.device import check_gpu
from frontend.utils.errors import UserError


class Run(Command):
    """The help shows the options that are keys of recipe.yaml, which says what they mean."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show those keys of the template, and the recipe's own file."""
        place = find_recipe(ctx.params.get("recipe") or "egs/mini")
        template = (TEMPLATE / "recipe.yaml").read_text(encoding="utf-8").splitlines()
        formatter.write("\nOptions of every recipe and their defaults (--KEY VALUE)\n\n")
        formatter.write("".join(f"  {line}\n" for line in template if line.partition(":")[0] in FREE))
        formatter.write(f"\nOptions of this recipe: every key below `data` of {place.name}/recipe.yaml\n\n")
        text = (place / "recipe.yaml").read_text(encoding="utf-8")
        formatter.write("".join(f"  {line}\n" for line in text.splitlines()))


def _extras(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for text in texts for name in split(text))


@click.command(cls=Run, context_settings={"ignore_unknown_options": True})
@option("recipe", "the recipe to run", default="egs/mini", is_eager=True, metavar="DIR")
@option("corpus", "another corpus of the recipe, or the name of your own", metavar="NAME")
@option("corpus_dir", "where the corpus lies", metavar="DIR")
@option("size", "how much of everything, of conf/sizes.yaml", metavar="NAME")
@flag("quick", "--size quick: the same stages on less; its numbers mean nothing")
@option("seed", "of every random draw", type=click.IntRange(0), default=0)
@option(
    "train_seed", "of training and of the choice of labels, beside a finished run", type=click.IntRange(0)
)
@option(
    "nj",
    "processes (data, separation, scores) at once; threads of the trainings at the same time together",
    type=COUNT,
    default=None,
    show_default="all processors; of a job of Slurm launcher.cpus",
)
@option(
    "at_once",
    "stages at the same time, none of which needs another: trainings and what is beside them",
    type=COUNT,
    default=None,
    show_default="--nj, 4 at most; 1 with --ngpu; 4 with Slurm",
)
@option("ngpu", "GPUs for training, and one of them for decoding", type=click.IntRange(0), default=0)
@option(
    "nodes", "machines that share a training (--launcher slurm), with --ngpu GPUs each", type=COUNT, default=1
)
@option("channels", "microphones; 1 adds the single-channel rows to the table", type=COUNT)
@option("talkers", "of a mixture, instead of two: 3 or 4, or 2-3 for either", metavar="N")
@option("fs", "Hz, instead of the recipe's rate", type=int)
@option(
    "with",
    f"what is added to the run, separated by commas: {'; '.join(f'{k} ({v})' for k, v in EXTRAS.items())}",
    multiple=True,
    callback=_extras,
    metavar="NAMES",
)
@option("asr_exp", "a trained ESPnet recogniser, instead of stage asr", metavar="DIR")
@option("stage", "first stage, name or number", default="1")
@option("stop_stage", "last stage, name or number", default="report")
@option(
    "set",
    "any value of the recipe: teacher.optim_conf.lr=5e-4, size.mixtures.train=100",
    multiple=True,
    metavar="KEY=VALUE",
)
@option("launcher", "where commands run: local or slurm", default="local", metavar="NAME")
@flag(
    "list", "list the stages: complete, stale (and why), cut off or at work in jobs; seconds of the last run"
)
@flag("dry_run", "print every command that would run, ready to paste, and run none")
@option("show", "print the commands of one stage", metavar="STAGE")
@flag("adopt", "take the outputs that are there to be complete and of today's inputs: write their records")
@click.argument("more", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS OF THE RECIPE]")
def run(stop_stage: str, list: bool, dry_run: bool, show: str | None, adopt: bool, more, **typed) -> None:
    """Run the stages of a recipe, from nothing to the table.

    \b
        ./run.sh                                   the embedded default, egs/mini
        ./run.sh --quick                           the same stages on less; its numbers mean nothing
        ./run.sh --corpus fsdd --corpus_dir DIR    recorded digits instead of synthetic speech
        ./run.sh --stage student --stop_stage score

    Every stage skips what is complete, continues after an interruption, and reports changed inputs.
    """
    one_of("quick", "size")
    size = "quick" if typed.pop("quick") else typed.pop("size")
    typed.pop("size", None)
    typed |= {"extras": typed.pop("with"), "settings": typed.pop("set")}
    options = read_options(Given(size=size, more=_pairs(more), **typed), listing=list)
    from frontend.pipeline.engine import Engine
    from frontend.pipeline.launch import Local, Slurm

    with _inside(options.place):
        launcher: Local | Slurm = Local(options.exp)
        if options.given.launcher == "slurm" and not (list or show or dry_run or adopt):
            launcher = Slurm(options.exp, options.recipe["launcher"], options.nj, options.given.nodes)
        engine = Engine(options, stages_of, launcher, _check)
        if list:
            engine.list()
        elif show is not None:
            engine.show(show)
            engine.write_if_free()
        elif dry_run:
            engine.dry_run(options.given.stage, stop_stage)
        else:
            engine.places(options.given.stage, stop_stage)
            with engine.lock():
                engine.note(setup=os.environ.get("SETUP_SECONDS", "0"), **options.notes)
                (engine.adopt if adopt else engine.run)(options.given.stage, stop_stage)


def _pairs(words: tuple[str, ...]) -> dict[str, str]:
    """Return options that only the recipe knows, name -> text.

    Raises:
        UserError: something that is no option, or one without a value.
    """
    found, rest = {}, [*words]
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise UserError(f"unexpected argument '{word}': options start with --; --help lists them")
        name, sign, value = word[2:].partition("=")
        if not sign and rest and not rest[0].startswith("--"):
            value = rest.pop(0)
        if not value:
            raise UserError(f"option --{name} needs a value; --help lists them")
        found[name] = value
    return found


@contextlib.contextmanager
def _inside(place: Path) -> Iterator[None]:
    """Work in the recipe's directory: all paths are seen from there."""
    before = os.getcwd()
    os.chdir(place)
    try:
        yield
    finally:
        os.chdir(before)


def _check(o: Options) -> None:
    """Check what takes long to check, before the work: GPUs, conditions, recordings, a recogniser."""
    if o.ngpu and o.given.launcher == "local":
        check_gpu(o.ngpu)
    if isinstance(o, MixtureOptions) and "mismatch" in o.extras:
        from frontend.simulation.config import load_condition

        scenes, conditions = o.conf("scenes"), o.conf("conditions")
        channels = [f"array.channels={o.given.channels}"] if o.given.channels else []
        for name in o.content("conditions"):
            load_condition(scenes, conditions, name, channels)
    if isinstance(o, RecordingOptions) and o.model is not None:
        _check_model(o, o.model)
    if o.given_asr:
        from frontend.recognition.model import Search

        search = Search.find(**o.recogniser, config=str(o.conf("decode")))
        search.files.check_rate(str(o.exp / "conf"), o.fs)


def _check_model(o: RecordingOptions, model: Path) -> None:
    """Refuse a model that does not fit the options or the recordings, of which the headers alone are read."""
    from frontend.data.recordings import find_recordings
    from frontend.training.checkpoints import open_trained

    with open_trained(model) as found:
        trained = found.of_talkers(o.most)
        if o.fs not in trained.rates:
            rates = " or ".join(map(str, trained.rates))
            raise UserError(
                f"--fs {o.fs}: {model} expects {rates} Hz; recordings of a higher rate are lowered to it "
                f"(give --fs {trained.rates[-1]})"
            )
        one = next(iter(find_recordings(o.own["recordings"], o.own["channel_pattern"]).values()))
        trained.check(one.name, one.channels, o.fs)
