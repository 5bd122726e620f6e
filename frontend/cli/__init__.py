"""The command line: ``mixit COMMAND``, the same as ``python -m frontend COMMAND``.

May use all other rooms; nothing imports it. What takes long to import is imported inside the commands, and a
module of commands only when one of them is asked for, so that ``--help`` is quick. A mistake becomes one line
on standard error, signed with the command, and exit code 2 (:mod:`frontend.utils.errors`); that holds for an
unknown command or option, too.
"""

import functools
import importlib
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import click
from click.core import ParameterSource

from frontend import __version__
from frontend.utils import errors
from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.files import check_place, check_utf8
from frontend.utils.locks import working_in


class Command(click.Command):
    """A command whose mistakes are one line."""

    def get_short_help_str(self, limit: int = 200) -> str:
        """Return the first sentence for the list of commands, which wraps it."""
        return super().get_short_help_str(limit=200)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options: an option's own check may raise a ``UserError``."""
        try:
            for arg in args:
                check_utf8(arg)
            return super().parse_args(ctx, args)
        except UserError as error:
            raise click.UsageError(str(error), ctx) from None

    def invoke(self, ctx: click.Context) -> None:
        """Do the work, alone in the directories that it writes (:func:`alone_in`), and exit."""
        work = functools.partial(super().invoke, ctx)
        errors.run(lambda: self._alone(ctx.params, work), ctx.command_path)

    def _alone(self, params: dict, work: Callable[[], int | None]) -> int | None:
        nothing: tuple[Callable, dict] = (lambda params: [], {})
        find, how = getattr(self.callback, "alone_in", nothing)
        _check_out(params, not how.get("wait"))
        with working_in(*find(params), shared=params.get("shard") is not None, **how):
            return work()


def _check_out(params: dict, alone: bool) -> None:
    """Raise UserError where ``--out`` is an input: a file, or a directory that is to be this command's alone.

    Nor may it lie among systems, of which it would be taken for one.
    """
    out = params.get("out")
    if not isinstance(out, str | Path):
        return
    if os.path.isfile(out) or alone:
        check_place(out, *_inputs(params))
    for name in ("separated", "decoded"):
        given = params.get(name)
        if alone and isinstance(given, str) and Path(given).resolve() in Path(out).resolve().parents:
            raise UserError(
                f"--out {out}: expected a directory outside of --{name} {given} (there it would be taken for "
                "one of the systems)"
            )


def _inputs(params: dict) -> list[str]:
    """Return what options may name as inputs: files and directories, of DIR:SYSTEM also DIR."""
    values = [value for name, value in params.items() if name not in ("out", "rir_cache")]
    words = [w for value in values for w in (value if isinstance(value, list | tuple) else [value])]
    named = [str(word) for word in words if isinstance(word, str | Path)]
    return [*filter(None, named), *(word.rpartition(":")[0] for word in named if ":" in word)]


class Group(click.Group):
    """Commands in the order in which they are written; ``modules`` are imported when they are asked for.

    Args:
        modules: command -> the module of :mod:`frontend.cli` that holds it, under the command's name.
    """

    command_class = Command
    group_class = type  # groups in a group are of this class

    def __init__(self, *args, modules: dict[str, str] | None = None, **more) -> None:
        super().__init__(*args, **more)
        self.modules = modules or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(self.modules or self.commands)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return a command, ``None`` where there is none of this name."""
        if name not in self.modules:
            return super().get_command(ctx, name)
        return getattr(importlib.import_module(f"frontend.cli.{self.modules[name]}"), name)

    def invoke(self, ctx: click.Context) -> None:
        """Import the command, run it and exit: Ctrl-C is one line meanwhile, too."""
        errors.run(functools.partial(super().invoke, ctx), ctx.command_path)

    def resolve_command(self, ctx: click.Context, args: list[str]):
        """Return the command that ``args`` name; say which one may be meant where there is none."""
        known = self.list_commands(ctx)
        if args[0] not in known and not args[0].startswith("-"):
            near = did_you_mean(args[0], known) or f" (there are {', '.join(known)})"
            raise click.UsageError(f"no command '{args[0]}'{near}", ctx)
        return super().resolve_command(ctx, args)


_MODULES = {"data": "data", "simulate": "data", "train": "train"}
_MODULES |= dict.fromkeys(("label", "separate", "recognise"), "models")
_MODULES |= dict.fromkeys(("decode", "score", "wer", "report", "compare"), "evaluate")
_MODULES |= {"pack": "models", "run": "run"}


@click.group(cls=Group, modules=_MODULES, context_settings={"show_default": True, "max_content_width": 110})
@click.version_option(__version__, message="%(prog)s %(version)s")
def mixit() -> None:
    """Multi-channel speech separation learned from mixtures, in front of an ESPnet recogniser.

    `mixit COMMAND --help` shows the options of a command. For completion of commands and options in bash, put
    this line into ~/.bashrc (for zsh and fish: zsh_source, fish_source):

    \b
        eval "$(_MIXIT_COMPLETE=bash_source mixit)"
    """


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that ``argv`` names, by default that of the shell, and exit."""
    errors.open_standard_files()
    errors.run(functools.partial(_run, argv), _program())


def _program() -> str:
    """Return how the program was called: its messages are signed so."""
    is_module = Path(sys.argv[0]).parts[-2:] == ("frontend", "__main__.py")
    is_asked_for_completion = "_MIXIT_COMPLETE" in os.environ  # of the command of that name
    return "python -m frontend" if is_module and not is_asked_for_completion else "mixit"


def _run(argv: Sequence[str] | None) -> int:
    try:
        return mixit.main(argv, _program(), standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:  # a group without a command
        error.show()
    except click.UsageError as error:
        _complain(error)
    except click.Abort:
        raise KeyboardInterrupt from None
    return 2


def _complain(error: click.UsageError) -> None:
    """Print the one line of a command line that cannot be read."""
    where = errors.signature(error.ctx.command_path if error.ctx else _program())
    message = error.format_message()
    if isinstance(error, click.NoSuchOption) and error.ctx:
        options = [name for option in error.ctx.command.get_params(error.ctx) for name in option.opts]
        message = f"no option {error.option_name}{did_you_mean(error.option_name, options)}"
    message = " ".join(message.split()).rstrip(".")
    print(f"{where}: error: {message}{'' if '(' in message else f' (see {where} --help)'}", file=sys.stderr)


# What several commands share.


class Number(click.ParamType):
    """A finite number in a range; anything else is a ``UserError``.

    Args:
        kind: int or float.
        least, above, most: what it must be; None: any.
    """

    def __init__(
        self, kind: type, least: float | None = None, above: float | None = None, most: float | None = None
    ) -> None:
        self.kind, self.name = kind, "INTEGER" if kind is int else "FLOAT"
        limits = (("at least", least), ("more than", above), ("at most", most))
        self.wanted = " and ".join(f"{words} {limit:g}" for words, limit in limits if limit is not None)
        self.least = -math.inf if least is None else least
        self.above = -math.inf if above is None else above
        self.most = math.inf if most is None else most

    def convert(self, value, param, ctx) -> float:
        """Read it."""
        number = click.types.convert_type(self.kind).convert(value, param, ctx)
        if not (self.least <= number <= self.most and number > self.above and math.isfinite(number)):
            raise UserError(f"{param.opts[-1]}: expected {self.wanted or 'a finite number'}, found {value}")
        return number


class Shard(click.ParamType):
    """A part of the work, ``I/N``; anything else is a ``UserError``."""

    name = "I/N"

    def convert(self, value, param, ctx) -> tuple[int, int]:
        """Read it."""
        number, _, parts = str(value).partition("/")
        if not (number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts)):
            raise UserError(f"--shard: expected I/N, such as 1/8, found {value}")
        return int(number), int(parts)


COUNT, PATH = Number(int, least=1), click.Path(path_type=Path)


def alone_in(find: str | Callable[[dict], Sequence[str | Path]], **how) -> Callable:
    """Return the decorator of a command that lets no other run write where it does; parts of one may.

    Args:
        find: the option that names its directory, or a function of all options that returns directories.
        how: see :func:`frontend.utils.locks.working_in`.
    """

    def mark(callback: Callable) -> Callable:
        callback.alone_in = (  # type: ignore[attr-defined]
            (lambda params: [params[find]]) if isinstance(find, str) else find,
            how,
        )
        return callback

    return mark


class Option(click.Option):
    """An option; empty text, as of an unset variable of the shell, is a ``UserError`` unless ``empty``."""

    def __init__(self, *names, empty: bool = False, **more) -> None:
        super().__init__(*names, **more)
        self.empty = empty

    def process_value(self, ctx: click.Context, value):
        """Read it."""
        if not self.empty and "" in (value if isinstance(value, list | tuple) else [value]):
            raise UserError(f"--{self.name}: expected a value, found empty text")
        return super().process_value(ctx, value)


def option(name: str, about: str, *others: str, **more) -> Callable:
    """Return an option ``--name``, or one of ``others``, with a help text; ``more`` as click has it.

    With ``type=int`` or ``float`` there are also ``least``, ``above`` and ``most``, see :class:`Number`. With
    ``empty=True`` empty text is a value of it.
    """
    if more.get("type") in (int, float):
        limits = {name: more.pop(name, None) for name in ("least", "above", "most")}
        more["type"] = Number(more["type"], **limits)
    about += "; several times" * more.get("multiple", False)
    return click.option(f"--{name}", *others, cls=Option, help=about, **more)


def needed(name: str, about: str, *others: str, **more) -> Callable:
    """Return an option that the command must be given."""
    return option(name, about, *others, required=True, **more)


def flag(name: str, about: str) -> Callable:
    """Return an option without a value."""
    return option(name, about, is_flag=True)


def stack(*options: Callable) -> Callable:
    """Return one decorator for several options; ``--help`` shows them in the order given."""
    return lambda function: functools.reduce(lambda f, one: one(f), reversed(options), function)


nj = option("nj", "number of processes", type=COUNT, default=1)
shard = option("shard", "do part I of N and write no tables: run it without --shard in the end", type=Shard())
device = option("device", "cpu, cuda, cuda:1", default="cpu")
refine = option("refine", "refine the streams: mvdr, iva, mask or gate, joined by a plus", metavar="STEPS")
recogniser = stack(
    option("asr", "trained recogniser: a directory, or a model beside its config.yaml"),
    option("asr_model", "a recogniser of espnet_model_zoo, or a packed zip", metavar="TAG"),
    option("asr_whisper", "Whisper: a size such as base.en, or a directory with model.bin", metavar="MODEL"),
)

# What counts as speech in the streams of whole recordings.
RULE = ("margin_db", "range_db", "min_pause")
activity = stack(
    option(
        "leak_db", "a stream so far below the loudest holds only leakage", type=float, least=0, default=10.0
    ),
    option("margin_db", "speech is so far above the noise floor", type=float, default=6.0),
    option("range_db", "and no farther below the loudest parts", type=float, default=35.0),
    option("min_pause", "shorter pauses are bridged, seconds", type=float, least=0, default=0.2),
)


def given() -> set[str]:
    """Return the options of the running command that were given on the command line."""
    ctx = click.get_current_context()
    return {name for name in ctx.params if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT}


def way(which: str, must: str = "", may: str = "") -> SimpleNamespace:
    """Return the options of one of the ways to use the running command.

    Args:
        which: the way in words, for messages: "with --compare".
        must: names of the options that it needs, separated by blanks.
        may: those that it takes beside them.

    Raises:
        UserError: one that it needs is missing, or one of another way was given.
    """
    values = click.get_current_context().params
    for name in must.split():
        if values[name] in (None, ()):
            raise UserError(f"--{name}: expected a value, found none ({which})")
    mine = f"{must} {may}".split()
    for name in sorted(given().difference(mine)):
        raise UserError(f"--{name} is not expected {which}: leave it out")
    return SimpleNamespace(**{name: values[name] for name in mine})


def one_of(*names: str, required: bool = False) -> None:
    """Refuse two of some options that exclude each other, and where one is required, none."""
    found = [f"--{name}" for name in names if name in given()]
    if len(found) > 1:
        raise UserError(f"{' and '.join(found)} exclude each other: give one of them")
    if required and not found:
        lost = "neither" if len(names) == 2 else "none of them"
        raise UserError(f"expected {' or '.join(f'--{name}' for name in names)}, found {lost}")


def split(names: str | None) -> tuple[str, ...]:
    """Return names that are separated by commas."""
    return tuple(filter(None, (names or "").split(",")))


def is_recordings(data: str | None) -> bool:
    """Say whether a directory holds whole recordings, as ``mixit data recordings`` leaves them."""
    return data is not None and (Path(data) / "array").exists()
