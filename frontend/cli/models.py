"""``mixit label``, ``separate``, ``recognise`` and ``pack``: what trained networks are used for."""

import click

from frontend.cli import (
    COUNT,
    Command,
    device,
    flag,
    needed,
    nj,
    one_of,
    option,
    recogniser,
    refine,
    shard,
    way,
)
from frontend.utils.errors import UserError

MAX_SECONDS = 120.0


@click.command(cls=Command)
@needed("model", "trained system: exp/..., a packed directory or zip")
@needed("data", "mixture set to label, such as data/train_unlabelled")
@needed("out", "mixture set to make, such as data/train_pseudo")
@option("config", "YAML with rule, n_talkers, refine and the rule's settings")
@option("rule", "how outputs become targets: all, energy, energy+residual, spatial_merge (over --config)")
@option("n_talkers", "targets per mixture (over --config; default: 2)", type=int, least=1)
@option(
    "refine",
    "refine the targets: mvdr, iva or mask, several joined by a plus (over --config)",
    metavar="STEPS",
)
@option("reference", "labelled set to compare with, for information")
@nj
@device
@shard
def label(model, data, out, config, rule, n_talkers, refine, reference, nj, device, shard) -> None:
    """Label a set of mixtures with a trained network's streams: pseudo-targets for the next network.

    OUT becomes a mixture set whose spk1.scp, spk2.scp ... are the targets. A run that was cut off goes on at
    the next utterance; a set that is complete is left as it is.
    """
    from frontend.separation.labels import label_set, load_labelling

    labelling = load_labelling(config, rule=rule, n_talkers=n_talkers, refine=refine)
    label_set(model, data, out, labelling, nj, device, reference, shard)


@click.command(cls=Command)
@click.argument("inputs", nargs=-1, metavar="[INPUT.wav]...")
@option("scp", "table 'ID FILE' of recordings, instead of files or --data")
@option("model", "trained system: exp/..., a packed directory or zip")
@click.option("-o", "--out", required=True, metavar="DIR", help="where the streams go")
@flag("resample", "allow other sample rates than the model's")
@refine
@device
@option("join", "the inputs are channels of one recording, a file each, in order", metavar="NAME")
@option("max_seconds", "longer recordings are separated in windows", type=float, above=0, default=MAX_SECONDS)
@option(
    "window", "of separation, in seconds: all that is longer is separated in windows", type=float, above=0
)
@option("hop", "between windows (default: half a window)", type=float, above=0)
@option("systems", "instead of --model: systems file, such as conf/systems.yaml")
@option("exp", "with --systems: directory with the trained models the file names")
@option("data", "with --systems: mixture set, or whole recordings (mixit data recordings)", metavar="DIR")
@option(
    "n_talkers", "with --systems: streams wanted of rules and blind methods", type=int, least=1, default=2
)
@option("only", "with --systems: some of the systems, separated by commas")
@flag("blind", "likewise: only what needs no trained model")
@flag("models", "likewise: only trained models")
@option("nj", "with --systems: number of processes", type=COUNT, default=1)
@shard
def separate(inputs, scp, systems, **options) -> None:
    """Separate recordings with a trained system, or a set with every system of a table.

    \b
        mixit separate --model exp/espeak/student meeting.wav -o out
        mixit separate --systems conf/systems.yaml --exp exp/espeak --data data/espeak/test -o exp/separated

    One file a talker, same rate, length and level: INPUT.wav becomes DIR/INPUT_spk1.wav, DIR/INPUT_spk2.wav
    ...; with --scp, ID becomes DIR/ID_spk1.wav. Samples are written as 16-bit integers where the input is
    16-bit and no stream would clip, else as 32-bit floats. Recordings above --max_seconds are separated
    continuously, in bounded memory: window by window, the talkers followed from one window to the next;
    shorter ones as a whole, in about 4 MiB of memory per second at 8 kHz. With --join NAME the streams are
    NAME_spk1.wav ...

    With --systems: DIR/SYSTEM/{spk1.scp,spk2.scp,...,info.json}. A system that is complete is skipped; one
    whose model, settings or data have changed is made again; what was cut off goes on. --window (12) and
    --hop (6) are of whole recordings, where a row has no 'block'.
    """
    if systems is None:
        _separate_files(inputs, scp)
    else:
        _separate_systems()


def _separate_files(inputs: tuple[str, ...], scp: str | None) -> None:
    may = "inputs scp resample refine device join max_seconds window hop"
    o = way("without --systems", "model out", may)
    if bool(inputs) == (scp is not None):
        raise UserError("expected recordings either as files or as --scp wav.scp (see --help)")
    if o.join is not None and not (o.join and inputs):
        raise UserError(
            "--join NAME: expected a name and the channels of one recording as files (see --help)"
        )
    from frontend.separation.files import How, plan, separate_files

    how = How(o.resample, o.refine, o.device, o.max_seconds, o.window, o.hop)
    separate_files(plan(list(inputs), scp, o.model, o.out, o.resample, o.refine, join=o.join), o.model, how)


def _separate_systems() -> None:
    o = way("with --systems", "systems exp out", "data scp n_talkers only blind models window hop nj shard")
    one_of("data", "scp", required=True)
    one_of("only", "blind", "models")
    from frontend.separation.continuous import HOP_S, WINDOW_S
    from frontend.separation.sets import separate
    from frontend.separation.systems import choose, load_systems, trained

    listed = load_systems(o.systems)
    chosen = trained(listed, o.exp)
    for system in listed:
        if system not in chosen:
            print(f"{system.name}: optional, and not trained; left out", flush=True)
    if o.only is not None:
        chosen = choose(chosen, o.only.split(","), o.systems)
    elif o.blind or o.models:
        chosen = [system for system in chosen if bool(system.model) == o.models]
    window, hop = (WINDOW_S if o.window is None else o.window), (HOP_S if o.hop is None else o.hop)
    separate(chosen, o.exp, o.scp or o.data, o.out, o.n_talkers, o.nj, window, hop, o.shard)


@click.command(cls=Command)
@click.argument("input", metavar="INPUT.wav")
@needed("separator", "trained separator: exp/..., a packed directory or zip", metavar="DIR")
@recogniser
@option("config", "options of the search, such as conf/decode.yaml (default: ESPnet's)")
@option("format", "of the transcript", type=click.Choice(["text", "json", "stm"]), default="text")
@click.option("-o", "--out", metavar="FILE", help="write there instead of to standard output")
@option("save_streams", "keep the streams: DIR/INPUT_spk1.wav, ...", metavar="DIR")
@flag("resample", "allow other sample rates than the models'")
@refine
@device
@option("max_seconds", "refuse longer recordings", type=float, above=0, default=MAX_SECONDS)
def recognise(out: str | None, format: str, **options) -> None:
    """Transcribe one multi-channel recording of several talkers: separate it, then recognise each stream.

    Prints one transcript per talker: as text `spk1: WORDS`, as SegLST JSON, or as STM lines `INPUT 1 spk1
    START END WORDS`. The talkers' order is the separator's.
    """
    one_of("asr", "asr_model", required=True)
    from frontend.recognition.model import recognise_file
    from frontend.recognition.text import in_format
    from frontend.utils.files import write_text

    transcript = in_format(recognise_file(**options), format)
    if out:
        write_text(out, transcript + "\n")
    else:
        print(transcript)


@click.command(cls=Command)
@needed("model", "training directory, such as exp/espeak/student")
@needed("out", "directory to make, or a file to make that ends in .zip")
def pack(model: str, out: str) -> None:
    """Pack a trained system into one directory, or one zip, that loads on another machine."""
    from frontend.training.checkpoints import pack

    packed = pack(model, out)
    print(f"{out}: {packed.n_mics} channel(s) at {packed.fs} Hz to {packed.n_outputs} streams")
