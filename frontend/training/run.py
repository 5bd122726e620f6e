"""Around the task of every training: options, what is complete, resuming after a kill, the log.

The trainings of separators, recognisers and both together differ in what they check and prepare; the order is
the same (:func:`train_separator` shows it). Nothing here imports torch or ESPnet before it must: ESPnet takes
8 s, which a training that is complete need not wait for.
"""

import argparse
import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frontend import MODEL
from frontend.data.audio import entry_stamp, files_of, scheme_of, split_archive
from frontend.data.kaldi import scan_entries
from frontend.training.checkpoints import (
    CHECKPOINT,
    had_enough,
    load_state,
    repair_checkpoint,
    weights_of,
)
from frontend.training.options import (
    DEFAULTS,
    flat,
    given_options,
    listed,
    make_parser,
    parse,
    resolve,
)
from frontend.training.sharing import LOG, log_to, rank, ready
from frontend.utils import stamps
from frontend.utils.errors import UserError, few
from frontend.utils.files import remove
from frontend.utils.stamps import Stamp, read_stamp

# Raised with every change after which the same training ends in other weights.
VERSION = 5
# With DONE a training is complete. BEGUN says what the checkpoint of one that is not was made from.
DONE, BEGUN = "stamp.json", ".begun.json"
# What changes how long a training takes and what it says, not its weights; and what is an input.
_NO_SETTING = set(
    """output_dir config train_set valid_set init_param dry_run resume print_config overwrite num_threads
    num_workers ngpu log_level log_interval use_tensorboard use_matplotlib""".split()
)
_WAYS = ("resume", "overwrite")
_AUDIO = " audio"  # ends the name of an input: a digest of a set's audio beside that of its tables
# What a training makes in its directory, that of ESPnet or one of ours; a joint one makes two more folders.
_MADE = f"""config.yaml {CHECKPOINT} checkpoint.*.pth *epoch.pth *.ave*.pth *.best.pth latest.pth {LOG}
    images tensorboard att_ws stats {DONE} {BEGUN}""".split()
_MADE_JOINTLY = ("training", "asr")
_SAMPLE = 4096  # bytes that are looked at of each recording


@dataclass(frozen=True)
class Training:
    """A training as its command line describes it.

    Attributes:
        output: its directory, None if none was given.
        stamp: what its weights depend on.
        reads: weights and lists that it starts from.
        resume: the user wants to go on though settings or data have changed.
        overwrite: the user wants another training there to be removed.
    """

    output: Path | None
    stamp: Stamp
    reads: tuple[Path, ...] = ()
    resume: bool = False
    overwrite: bool = False

    @classmethod
    def of(cls, argv: list[str], models: Iterable[str] = ()) -> "Training":
        """Read options and configuration as far as that is possible without ESPnet.

        Args:
            argv: options as ESPnet takes them; those on the command line replace those of ``--config``.
            models: options that name a trained model to start from.

        Raises:
            UserError: an unreadable configuration, one that is to be filled in, or --overwrite in a dry run.
        """
        given = given_options(argv)
        options, inputs, reads = resolve(given), {}, []
        # What is not there is found, with a hint, when the options are checked.
        sets = {name: options.get(name) for name in ("train_set", "valid_set")}
        sets["preprocessor_conf.labelled"] = (options.get("preprocessor_conf") or {}).get("labelled")
        for name, directory in sets.items():
            if directory and Path(str(directory)).is_dir():
                inputs[name] = of_data(Path(str(directory)))
                inputs[f"{name}{_AUDIO}"] = _of_audio(Path(str(directory)))
        for spec in listed(options.get("init_param")):
            path, _, part = str(spec).partition(":")
            if Path(path).is_file():
                inputs[f"init_param {part}".strip()] = stamps.of_file(path)
                reads.append(Path(path))
        for name in models:
            if options.get(name):
                reads += weights_of(options[name])
                inputs[name] = stamps.of_text("".join(map(stamps.of_file, weights_of(options[name]))))
        settings = {k: v for k, v in options.items() if k not in {*_NO_SETTING, *models}}
        output = options.get("output_dir")
        wanted = {name: any(one == name and value != ["false"] for one, value in given) for name in _WAYS}
        if options.get("dry_run") and wanted["overwrite"]:
            raise UserError("--overwrite: a dry run removes nothing (leave one of the two out)")
        stamp = Stamp.of(settings, inputs, [sys.modules[__name__]])
        return cls(Path(str(output)) if output else None, stamp, tuple(reads), **wanted)

    def file(self, name: str) -> Path:
        """Return a file of the training's directory."""
        return Path(self.output or "") / name

    def is_complete(self) -> bool:
        """Return whether this training was completed before; report it on the terminal if so.

        Raises:
            UserError: another training lies there, and the user has not said what to do with it.
        """
        if self.output is None:
            return False
        done = read_stamp(self.file(DONE))
        if done and self.file(MODEL).exists() and not self._changes(done) and not self.overwrite:
            print(f"{self.output}: training is complete; nothing to do", file=sys.stderr)
            return True
        if not (self.resume or self.overwrite):
            self._refuse_another()
        return False

    def _refuse_another(self) -> None:
        """Only one that is made longer goes on without a word of the user."""
        folders = (Path(self.output or ""), self.file(_MADE_JOINTLY[0]))
        if not any((folder / name).exists() for folder in folders for name in (CHECKPOINT, MODEL)):
            return
        before = read_stamp(self.file(DONE)) or read_stamp(self.file(BEGUN))
        changes = self._changes(before) if before else {"": "what it was made from is not known"}
        if before and changes.keys() == {"max_epoch"}:
            old, new = (s.settings.get("max_epoch", DEFAULTS["max_epoch"]) for s in (before, self.stamp))
            if isinstance(old, int) and isinstance(new, int) and new > old:
                return
        if changes:
            raise UserError(
                f"{self.output}: expected a new directory or this training, found another one in it: "
                f"{few(changes.values())} (go on from its checkpoint with --resume, remove it with "
                "--overwrite, or choose another --output_dir)"
            )

    def clear(self) -> None:
        """Remove another training, of which the user said so: nothing but what a training makes.

        Raises:
            UserError: this one starts from it.
        """
        if self.output is None or not self.overwrite or rank():
            return
        names = [*_MADE, *(_MADE_JOINTLY if self.file("training/train.log").exists() else ())]
        found = [path for name in names for path in sorted(self.output.glob(name))]
        for path in self.reads:
            if any(one.resolve() in (path.resolve(), *path.resolve().parents) for one in found):
                raise UserError(
                    f"{path}: --overwrite would remove what this training starts from (choose another "
                    "--output_dir)"
                )
        for path in found:
            remove(path)

    def mark_complete(self) -> None:
        """Write the stamp that :meth:`is_complete` compares; last of all."""
        if not rank():
            self.stamp.write(self.file(DONE))

    def changed(self) -> str:
        """Return in one sentence how this training differs from that of the checkpoint; "" if it does not."""
        before = read_stamp(self.file(DONE)) or read_stamp(self.file(BEGUN))
        return few(self._changes(before).values()) if before else ""

    def _changes(self, before: Stamp) -> dict[str, str]:
        """Return what differs from an earlier stamp: its name, and the difference in words."""
        found = {}
        old, new = (dict(flat(s.settings)) for s in (before, self.stamp))
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                found[name] = f"{name} is {new.get(name, 'not given')}, was {old.get(name, 'not given')}"
        # A training of an earlier version knows nothing of the audio.
        inputs = {k: v for k, v in self.stamp.inputs.items() if k in before.inputs or not k.endswith(_AUDIO)}
        for name in sorted({*before.inputs, *inputs}):
            if before.inputs.get(name) != inputs.get(name):
                option, what = name.removesuffix(_AUDIO), "audio" if name.endswith(_AUDIO) else "content"
                found[name] = f"the {what} of --{option} has changed"
        if before.code != self.stamp.code:
            found["code"] = "the program has changed"
        return found


def _of_audio(directory: Path) -> str:
    """Return a digest of some of the audio of a data directory: other audio may have the same names."""
    digest = hashlib.sha256()
    for table in [directory / "wav.scp", *sorted(directory.glob("spk*.scp"))]:
        for entry in scan_entries(table).entries.values():
            digest.update(_sample_of(entry))
    return digest.hexdigest()


def _sample_of(entry: str) -> bytes:
    """Return what is probably another for other audio: some bytes; what is not there is found later."""
    if scheme_of(entry):
        return repr(entry_stamp(entry)).encode()
    path, offset = split_archive(entry)
    with contextlib.suppress(OSError, UserError):
        if offset is not None:
            with open(path, "rb") as file:
                file.seek(offset)
                return file.read(2 * _SAMPLE)[-_SAMPLE:]
        found = b""
        for name in files_of(entry):
            with open(name, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size // 2 - _SAMPLE // 2))
                found += b"%d " % size + file.read(_SAMPLE)
        return found
    return b""


def of_data(directory: Path) -> str:
    """Return a digest of a data directory: of its tables, and of its stamp where it was made here."""
    files = sorted(p for p in directory.iterdir() if p.is_file() and not p.name.startswith("."))
    return stamps.of_text(json.dumps([(path.name, stamps.of_file(path)) for path in files]))


def open_log(args: argparse.Namespace, training: Training) -> None:
    """Make the directory of the training, and send what ESPnet says to its log.

    Raises:
        UserError: --overwrite would remove what the training starts from.
    """
    training.clear()
    output = Path(args.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    log_to(args)
    print(f"{output}: training; the log is {output / LOG}", file=sys.stderr)


def train(task: Any, args: argparse.Namespace, training: Training) -> None:
    """Go on after the last complete epoch, and train to the end; the caller marks the training as complete.

    Raises:
        UserError: the checkpoint is of another network, or complete and of other settings; the training
            diverged, the disk is full, an utterance is too short for a recogniser.
    """
    from torch.multiprocessing import ProcessExitedException

    output = Path(args.output_dir)
    if args.resume:
        _repair(task, args, training)
    if not args.dry_run:
        training.file(DONE).unlink(missing_ok=True)
        training.stamp.write(training.file(BEGUN))
    ready()
    try:
        task.main(args=args)
    except ProcessExitedException as error:
        if error.exit_code != 2:
            raise
        raise SystemExit(2) from None  # the process of a GPU has said why
    if not args.dry_run and not rank():
        _link_average(output, args.best_model_criterion)


def _repair(task: Any, args: argparse.Namespace, training: Training) -> None:
    """Bring the directory to the state after its last complete epoch; refuse what cannot go on from there."""
    states = repair_checkpoint(args.output_dir, args.best_model_criterion)
    if states is None:
        return
    # ESPnet 202611 reads a checkpoint of 202511 on demand alone; it was read as a whole already.
    os.environ["ESPNET_ALLOW_UNSAFE_TORCH_LOAD"] = "1"
    where = str(Path(args.output_dir) / CHECKPOINT)
    load_state(task.build_model(args), states["model"], where, "this configuration", as_named=True)
    epoch = states["reporter"]["epoch"]
    if args.patience is not None and had_enough(states, args.patience, args.early_stopping_criterion):
        args.max_epoch = epoch  # killed after it stopped early, before it averaged
    if changed := training.changed():
        if epoch >= args.max_epoch:  # ESPnet would train no step and leave the weights as they are
            raise UserError(
                f"{training.output}: expected a training that can go on, found one whose {epoch} epochs are "
                f"complete: {changed} (raise --max_epoch, give --overwrite, or choose another --output_dir)"
            )
        print(f"{training.output}: going on from epoch {epoch}, though {changed}", file=sys.stderr)


def _link_average(output: Path, criteria: list) -> None:
    """Give the averaged model its one name where another criterion than the validation loss chose it."""
    phase, key, _ = criteria[0]
    average = f"{phase}.{key}.ave.pth"
    if not (output / average).exists():
        raise UserError(f"{output}: best_model_criterion: no '{key}' was measured in '{phase}'")
    if average != MODEL:
        (output / MODEL).unlink(missing_ok=True)
        (output / MODEL).symlink_to(average)


def train_separator(argv: list[str], check: bool = False) -> None:
    """Train a MixIT teacher or a PIT student; interrupted and started again, it ends in the same weights.

    Args:
        argv: every option of ``espnet2.bin.enh_train``, ``--train_set`` and ``--valid_set``.
        check: stop where all that can be checked before the training has been.

    Raises:
        UserError: whatever is wrong with settings, data or weights.
    """
    training = Training.of(argv)
    if training.is_complete():
        return
    # Only now: ESPnet takes 8 s to import.
    from frontend.training.checks import check_config, expand_data, fill_schedule
    from frontend.training.task import FrontendTask, register

    register()
    defaults = {"batch_type": "unsorted", "keep_nbest_models": 3}
    args = parse(make_parser(FrontendTask, "train separator", train_separator.__doc__, defaults), argv)
    expand_data(args)
    fill_schedule(args)
    check_config(args)
    if check:
        return
    open_log(args, training)
    train(FrontendTask, args, training)
    if not args.dry_run:
        training.mark_complete()
