"""The ESPnet task, and the one place where our classes are registered with ESPnet."""

import argparse
import importlib
import itertools
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from frontend import resume
from frontend.criteria import MixIT, ThresholdedPIT, ThresholdedSNR
from frontend.errors import UserError
from frontend.espnet import ESPnetEnhancementModel, Trainer, abs_task, enh
from frontend.iterators import KeyedIterFactory
from frontend.mixing import CroppedSources, MixtureOfMixtures
from frontend.parallel import Progress
from frontend.schedule import WarmupCosine
from frontend.tables import read_scp
from frontend.yaml_file import read_settings

_SEPARATORS = {
    "mask_net": ("frontend.separators.mask_net", "MaskNet"),
    "mc_conv_tasnet": ("frontend.separators.mc_conv_tasnet", "MCConvTasNet"),
    "safe_tfgridnet": ("frontend.separators.safe_tfgridnet", "SafeTFGridNet"),
}
PREPROCESSORS = {"mom": MixtureOfMixtures, "crop": CroppedSources}


def register() -> None:
    """Make our classes known to ESPnet by name; safe to call again.

    ESPnet's joint task (``espnet2.tasks.enh_s2t``) copies the choices when it is
    imported: call this first.
    """
    for name, (module, cls) in _SEPARATORS.items():
        enh.separator_choices.classes[name] = getattr(importlib.import_module(module), cls)
    enh.criterion_choices.classes["thresholded_snr"] = ThresholdedSNR
    # Ours takes the place of ESPnet's MixITSolver, whose number of mixtures is a guess.
    enh.loss_wrapper_choices.classes["mixit"] = MixIT
    enh.loss_wrapper_choices.classes["thresholded_pit"] = ThresholdedPIT
    enh.preprocessor_choices.classes.update(PREPROCESSORS)
    abs_task.scheduler_classes["warmupcosine"] = WarmupCosine


class _Counted:
    """A data loader whose batches are counted, over all epochs of the training."""

    shown: Progress | None = None

    def __init__(self, loader: DataLoader, epoch: int, options: object):
        self.loader = loader
        if _Counted.shown is None:
            steps, name = len(loader), Path(options.output_dir).name
            _Counted.shown = Progress(options.max_epoch * steps, name, (epoch - 1) * steps, "batch")

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator:
        for batch in self.loader:
            yield batch
            _Counted.shown.step()


class FrontendTrainer(Trainer):
    """ESPnet's trainer, with what it lacks to survive a kill and a diverged network."""

    @classmethod
    def run(cls, *args: object, **kwargs: object) -> None:
        """Train, and show how far it is."""
        _Counted.shown = None
        super().run(*args, **kwargs)
        if _Counted.shown is not None:
            _Counted.shown.close()

    @classmethod
    def train_one_epoch(cls, **kwargs: object) -> bool:
        """Keep the last checkpoint aside, train, and stop where no step was valid.

        Raises:
            UserError: no gradient of the epoch was finite. ESPnet would end the training
                there as if it had succeeded.
        """
        options = kwargs["options"]
        if kwargs["distributed_option"].dist_rank in (None, 0):
            resume.keep_previous(options.output_dir)
            kwargs["iterator"] = _Counted(kwargs["iterator"], kwargs["reporter"].get_epoch(), options)
        if super().train_one_epoch(**kwargs):
            raise UserError(
                f"{options.output_dir}: no gradient was finite in epoch {kwargs['reporter'].get_epoch()}: "
                "the training diverged (lower the learning rate, and validate the data)"
            )
        return False


class FrontendTask(enh.EnhancementTask):
    """Separation from mixtures: ESPnet's enhancement task with our batches and checks."""

    trainer = FrontendTrainer

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """``speech_mix`` alone: mixtures of mixtures are their own references."""
        return ("speech_mix",)

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """References, as many as there are."""
        return tuple(f"speech_ref{n}" for n in range(1, enh.MAX_REFERENCE_NUM + 1))

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Callable:
        """Build ``mom`` or ``crop`` from ``preprocessor_conf`` and what the data say."""
        data = args.train_data_path_and_name_and_type if train else args.valid_data_path_and_name_and_type
        shapes = args.train_shape_file if train else args.valid_shape_file
        given = {
            "lengths": {k: int(v.split(",")[0]) for k, v in read_scp(shapes[0]).items()},
            "n_mics": args.separator_conf.get("n_mics", 1),
            "seed": args.seed,
        }
        if args.preprocessor == "mom":
            given["entries"] = read_scp(next(path for path, name, _ in data if name == "speech_mix"))
        return PREPROCESSORS[args.preprocessor](train, **given, **args.preprocessor_conf)

    @classmethod
    def build_sequence_iter_factory(
        cls, args: argparse.Namespace, iter_options: abs_task.IteratorOptions, mode: str
    ) -> KeyedIterFactory:
        """Batches of crops keyed by seed and epoch, see :class:`KeyedIterFactory`."""
        ids = list(read_scp(iter_options.shape_files[0]))
        shard = (0, 1)
        if iter_options.distributed:
            shard = (torch.distributed.get_rank(), torch.distributed.get_world_size())
        return KeyedIterFactory(
            cls.build_dataset(args, iter_options, set(ids)),
            ids,
            iter_options.batch_size,
            iter_options.num_iters_per_epoch,
            args.seed,
            iter_options.train,
            shard,
            num_workers=args.num_workers,
            collate_fn=iter_options.collate_fn,
            pin_memory=args.ngpu > 0,
        )


def load_model(config: str | Path, checkpoint: str | Path, device: str = "cpu") -> ESPnetEnhancementModel:
    """Build the network of a training and load its weights, strictly.

    ESPnet's ``build_model_from_file`` loads with ``strict=False`` and so takes any file.

    Args:
        config: ``config.yaml`` that the training wrote.
        checkpoint: weights, such as ``valid.loss.ave.pth``.
        device: ``cpu``, ``cuda``, ``cuda:0``.

    Returns:
        the model in evaluation mode.

    Raises:
        UserError: no such file, not a training's configuration or weights, or weights of another network.
    """
    register()
    settings = _read_config(config)
    model = FrontendTask.build_model(settings)
    state = read_state(checkpoint, device)
    check_state(state, model.state_dict(), str(checkpoint), f"the network of {config}")
    model.load_state_dict(state)
    return model.to(device).eval()


def _read_config(path: str | Path) -> argparse.Namespace:
    settings = read_settings(path, "config.yaml of a training")
    needed = [f"{x}{y}" for x, y in itertools.product(("encoder", "separator", "decoder"), ("", "_conf"))]
    needed += ["model_conf", "criterions", "init"]
    missing = [k for k in needed if k not in settings]
    if missing:
        raise UserError(f"{path}: not the config.yaml of a training: no {', '.join(missing)}")
    return argparse.Namespace(**settings)


def read_state(path: str | Path, device: str = "cpu") -> dict[str, torch.Tensor]:
    """Return the weights stored in ``path``, by name.

    Raises:
        UserError: missing, damaged, or no weights.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; weights of a training (.pth) expected")
    if not resume.is_sound(Path(path)):
        raise UserError(f"{path}: damaged, or not weights saved by PyTorch (train or copy it again)")
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError):
        state = None  # some other zip archive, or more than tensors
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise UserError(f"{path}: weights by name expected, found something else (give a valid.loss.ave.pth)")
    return state


def check_state(found: Mapping, expected: Mapping, where: str, what: str) -> None:
    """Compare names and shapes of two sets of weights.

    Raises:
        UserError: naming the first few that are missing, unexpected, or of another shape.
    """
    problems = [f"missing {k}" for k in expected if k not in found]
    problems += [f"unexpected {k}" for k in found if k not in expected]
    problems += [
        f"{k} is {tuple(found[k].shape)} instead of {tuple(expected[k].shape)}"
        for k in expected
        if k in found and found[k].shape != expected[k].shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(f"{where}: weights do not fit {what}: {'; '.join(problems[:3])}{more}")
