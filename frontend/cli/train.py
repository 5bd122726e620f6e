"""``mixit train separator``, ``recogniser`` and ``joint``: ESPnet's options pass through."""

from collections.abc import Callable

import click

from frontend.cli import Group, alone_in, flag, option, stack, way
from frontend.training.sharing import first_alone, rank
from frontend.utils.errors import UserError
from frontend.utils.files import read_text


@click.group(cls=Group)
def train() -> None:
    """Train a separator, a recogniser, or both together.

    The options of ESPnet's own command are taken, too, such as --max_epoch 20 or --optim_conf lr=0.001, and
    what is the same for many trainings stands in the YAML file of --config. A training that is interrupted at
    any moment and started again goes on and ends in the same weights.
    """


def _command(*own: Callable) -> Callable:
    """Return the decorator of a command that hands on all options but its own to ESPnet's parser."""
    return stack(
        train.command(context_settings={"ignore_unknown_options": True}),
        option("config", "YAML of the training: ESPnet's options, ours among them"),
        option("train_set", "data directory to train on", metavar="DIR"),
        option("valid_set", "data directory that chooses the epochs to average", metavar="DIR"),
        option("output_dir", "where the training is kept", metavar="DIR"),
        option("num_threads", "threads of a CPU training (default: torch's choice)", metavar="N"),
        option("seed", "of the weights and of all draws (default: 0)", metavar="N"),
        *own,
        option(
            "resume",
            "go on with another training that lies in --output_dir, with these settings",
            is_flag=False,
            flag_value="true",
            metavar="",
        ),
        flag("overwrite", "remove another training that lies in --output_dir"),
        flag("check", "check configuration and data, and train nothing"),
        flag("help_espnet", "show all options of ESPnet's command, some hundred lines"),
        click.argument("espnet", nargs=-1, type=click.UNPROCESSED, metavar="[ESPNET'S OPTIONS]"),
    )


def _arguments(espnet: tuple[str, ...], help_espnet: bool, **own) -> list[str]:
    """Return the options for ESPnet's parser."""
    if help_espnet:
        return ["--help"]
    if own["output_dir"] is None:
        raise UserError("--output_dir DIR is missing: where shall the training be kept?")
    given = {name: str(value).lower() if value is True else value for name, value in own.items() if value}
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    return words + list(espnet)


def _directories(params: dict) -> list[str]:
    # Of several processes that share a training the first holds the directory.
    return [] if params["check"] or not params["output_dir"] or rank() else [params["output_dir"]]


# Processes that read data outlive a killed training by 5 s.
_alone = alone_in(_directories, patience_s=6)
_unknown = option(
    "allow_unknown", "true: train what has no token as <unk> (default: an error)", metavar="BOOL"
)


@_command(
    option(
        "model", "with --check: a training on recordings is to start from this trained model", metavar="DIR"
    ),
    option("array", "with --model: microphones, symmetry, rate; of mixit data recordings", metavar="FILE"),
    option("outputs", "with --model: streams that the network is to have", type=int, least=1),
)
@_alone
@first_alone()
def separator(model: str | None, array: str | None, outputs: int | None, check: bool, **espnet) -> None:
    """Train a separator: a teacher by MixIT, or a student by PIT.

    \b
        mixit train separator --config conf/teacher.yaml --train_set data/train --valid_set data/dev \\
            --output_dir exp/teacher

    With --check --model: can the training of --config start from that model? Rate, channels and architecture.
    """
    if model or array or outputs:
        o = way("with --model", "model check config array outputs")
        from frontend.training.checks import check_start

        mics, _, fs = [*read_text(o.array).split(), "", "", ""][:3]
        if not (mics.isdecimal() and fs.isdecimal()):
            wanted = "'MICROPHONES SYMMETRY HZ' as mixit data recordings writes it"
            raise UserError(f"{o.array}: expected {wanted}, found another text")
        check_start(o.model, o.config, int(mics), int(fs), o.outputs)
        return
    from frontend.training.run import train_separator

    train_separator(_arguments(**espnet), check)


@_command(
    option("nbpe", "pieces of a sentencepiece model to train (default: 500)", metavar="N"),
    option("bpemode", "how it is trained: unigram or bpe (default: unigram)"),
    _unknown,
)
@_alone
@first_alone()
def recogniser(check: bool, **options) -> None:
    """Train a recogniser: the steps of an ESPnet recipe in one process.

    \b
        mixit train recogniser --config conf/asr.yaml --train_set data/asr_train --valid_set data/asr_dev \\
            --output_dir exp/asr

    List the tokens of the training text (see ESPnet's --token_type, --token_list, --bpemodel), collect
    statistics, train, average the best epochs. OUTPUT_DIR becomes an ESPnet model that
    espnet2.bin.asr_inference loads. A data directory has wav.scp (one channel) and text.
    """
    from frontend.training.run import Training

    argv = _arguments(**options)
    training = Training.of(argv, ("token_list", "bpemodel"))
    if check or not training.is_complete():
        from frontend.recognition.training import train_recogniser  # ESPnet: 9 s, only now

        train_recogniser(argv, training, check)


@_command(
    option("separator", "training directory of the separator to start from", metavar="DIR"),
    option("asr", "training directory of the recogniser to start from", metavar="DIR"),
    _unknown,
)
@_alone
@first_alone()
def joint(check: bool, **options) -> None:
    """Fine-tune a separator and a recogniser together, on mixtures with references and transcripts.

    \b
        mixit train joint --config conf/joint.yaml --separator exp/student_ft --asr exp/asr \\
            --train_set data/train_small --valid_set data/dev_small --output_dir exp/joint

    Both networks are as their own trainings left them: the configuration holds the joint training's settings
    alone. The result is a separator (OUTPUT_DIR) and a recogniser (OUTPUT_DIR/asr) that every other command
    takes; the training itself lies in OUTPUT_DIR/training.
    """
    from frontend.training.run import Training

    argv = _arguments(**options)
    training = Training.of(argv, ("separator", "asr"))
    if check or not training.is_complete():
        from frontend.recognition.joint import train_joint  # ESPnet: 12 s, only now

        train_joint(argv, training, check)
