"""The ESPnet task of separation, its batches and learning rate, and the registration of our classes.

A new network is a file in ``frontend/networks`` and a line of :data:`SEPARATORS` here.
"""

import argparse
import importlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.iterators.sequence_iter_factory import worker_init_fn
from espnet2.schedulers.abs_scheduler import AbsBatchStepScheduler
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset

from frontend.data.kaldi import read_scp
from frontend.training.checkpoints import ANY_ARRAY, keep_previous_checkpoint
from frontend.training.criteria import MixIT, ThresholdedPIT, ThresholdedSNR
from frontend.training.examples import CroppedSources, MixtureOfMixtures, Remixes
from frontend.training.sharing import Worker
from frontend.utils.errors import UserError
from frontend.utils.espnet import Trainer, abs_task, enh
from frontend.utils.parallel import Progress
from frontend.utils.rng import generator


class _Uses(Dataset):
    """The utterances of an epoch by (utterance, use): one that is used again is another example."""

    def __init__(self, dataset: Any, epoch: int):
        self.dataset, self.epoch = dataset, epoch

    def __getitem__(self, item: tuple[str, int]) -> Any:
        utterance, use = item
        self.dataset.preprocess.set_epoch(self.epoch, use)
        return self.dataset[utterance]


class KeyedIterFactory(AbsIterFactory):
    """Batches of equally long crops, as a function of seed and epoch alone.

    The training set is an endless sequence of shuffles of its utterances; an epoch is the next ``steps *
    batch_size`` of it, so every utterance is used equally often whatever the length of an epoch. (ESPnet's
    unsorted sampler keeps the same utterances together, and lets batches grow beyond the batch size.)

    Args:
        dataset: ESPnet's; its ``preprocess`` has ``set_epoch``.
        ids: utterances, sorted.
        batch_size: utterances a batch.
        steps: batches an epoch; None: one pass, the last batch may be smaller.
        seed: of the training.
        train: shuffle.
        shard: (rank, world size): take every ``world size``-th utterance of a batch.
        options: for the ``DataLoader``: num_workers, collate_fn, pin_memory.
    """

    def __init__(
        self,
        dataset: Any,
        ids: Sequence[str],
        batch_size: int,
        steps: int | None,
        seed: int,
        train: bool,
        shard: tuple[int, int] = (0, 1),
        **options: Any,
    ):
        self.dataset, self.ids, self.batch_size, self.steps = dataset, list(ids), batch_size, steps
        self.seed, self.train, self.shard, self.options = seed, train, shard, options

    def batches(self, epoch: int) -> list[list[str]]:
        """Return the utterances of each batch of ``epoch`` (from 1)."""
        return [[utterance for utterance, _ in batch] for batch in self.uses(epoch)]

    def uses(self, epoch: int) -> list[list[tuple[str, int]]]:
        """Return (utterance, how often the epoch used it before) of each batch of ``epoch`` (from 1)."""
        n = len(self.ids)
        count = n if self.steps is None else self.steps * self.batch_size
        sequence: list[str] = []
        if not self.train:
            sequence = self.ids
        else:
            shuffle, first = divmod((epoch - 1) * count, n)
            while len(sequence) < first + count:
                order = generator(self.seed, "order", shuffle).permutation(n)
                sequence += [self.ids[i] for i in order]
                shuffle += 1
            sequence = sequence[first : first + count]
        rank, world = self.shard
        before = Counter[str]()
        items = []
        for utterance in sequence:
            items.append((utterance, before[utterance]))
            before[utterance] += 1
        found = [items[i : i + self.batch_size] for i in range(0, len(items), self.batch_size)]
        if len(sequence) < world:
            raise UserError(
                f"{len(self.ids)} utterances for {world} processes that share the training: expected one for "
                "each (use fewer GPUs or nodes)"
            )
        if len(found[-1]) < world:  # each process needs a part of it
            found[-2:] = [found[-2] + found[-1]]
        return [batch[rank::world] for batch in found]

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> DataLoader:
        """Return the batches of ``epoch``, read and collated."""
        return DataLoader(
            _Uses(self.dataset, epoch),
            batch_sampler=self.uses(epoch),
            worker_init_fn=partial(worker_init_fn, base_seed=epoch + self.seed),
            **self.options,
        )


class WarmupCosine(LRScheduler, AbsBatchStepScheduler):
    """Linear warm-up, then a cosine down to a fraction, per step (``scheduler: warmupcosine``).

    The peak is the optimiser's ``lr``. (ESPnet's ``CosineAnnealingWarmupRestarts`` wants both rates again as
    settings of its own, and jumps back to the peak after its last step.) The rate is a closed form of the
    number of the step, which is all the state there is: a resumed training continues exactly, and one that
    is made longer has the rates of its new length.

    Args:
        optimizer: its groups' ``lr`` is the peak.
        total_steps: steps of the whole training; :func:`frontend.training.checks.fill_schedule` derives it
            from ``max_epoch`` where it is not given.
        warmup_steps: steps until the peak.
        floor: last rate as a fraction of the peak.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, total_steps: int, warmup_steps: int = 100, floor: float = 0.03
    ):
        self.total_steps, self.warmup_steps, self.floor = total_steps, warmup_steps, floor
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """Return the rate of the step after ``step`` steps, as a fraction of the peak."""
        rise = (step + 1) / (self.warmup_steps + 1)
        done = (step - self.warmup_steps) / max(1, self.total_steps - 1 - self.warmup_steps)
        fall = 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))
        return min(rise, self.floor + (1 - self.floor) * fall)

    def get_lr(self) -> list[float | torch.Tensor]:
        """Return the rate of every group for the next step."""
        return [base * self.factor(self.last_epoch) for base in self.base_lrs]

    def state_dict(self) -> dict:
        """Return the step number and the peak rates."""
        return {k: self.__dict__[k] for k in ("last_epoch", "_step_count", "base_lrs")}


# Name in ``separator:`` of a configuration -> module and class. Trained models name them: names stay.
SEPARATORS = {
    "guided_net": ("frontend.networks.guided_net", "GuidedNet"),
    "mask_net": ("frontend.networks.mask_net", "MaskNet"),
    "mc_conv_tasnet": ("frontend.networks.conv_tasnet", "MCConvTasNet"),
    "safe_tfgridnet": ("frontend.networks.tfgridnet", "TFGridNet"),  # `tfgridnet` is ESPnet's own
    "spatialnet": ("frontend.networks.spatialnet", "SpatialNet"),
}
PREPROCESSORS = {"mom": MixtureOfMixtures, "crop": CroppedSources, "remix": Remixes}


def register() -> None:
    """Make our classes known to ESPnet by name; safe to call again."""
    for name, (module, cls) in SEPARATORS.items():
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

    def __init__(self, loader: DataLoader, epoch: int, options: Any):
        self.loader = loader
        if _Counted.shown is None:
            steps, name = len(loader), Path(options.output_dir).name
            _Counted.shown = Progress(options.max_epoch * steps, name, (epoch - 1) * steps, "batch")

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator:
        for batch in self.loader:
            yield batch
            if _Counted.shown is not None:
                _Counted.shown.step()


class FrontendTrainer(Trainer):
    """ESPnet's trainer, with what it lacks to survive a kill and a diverged network."""

    @classmethod
    def run(cls, *args: Any, **kwargs: Any) -> None:
        """Train, and show how far it is."""
        _Counted.shown = None
        super().run(*args, **kwargs)
        if _Counted.shown is not None:
            _Counted.shown.close()

    @classmethod
    def train_one_epoch(cls, **kwargs: Any) -> bool:
        """Keep the last checkpoint aside, train, and stop where no step was valid.

        Raises:
            UserError: no gradient of the epoch was finite. ESPnet would end the training
                there as if it had succeeded.
        """
        options = kwargs["options"]
        if kwargs["distributed_option"].dist_rank in (None, 0):
            keep_previous_checkpoint(options.output_dir)
            kwargs["iterator"] = _Counted(kwargs["iterator"], kwargs["reporter"].get_epoch(), options)
        if super().train_one_epoch(**kwargs):
            raise UserError(
                f"{options.output_dir}: no gradient was finite in epoch {kwargs['reporter'].get_epoch()}: "
                "the training diverged (lower the learning rate, and validate the data)"
            )
        return False


class FrontendTask(Worker, enh.EnhancementTask):
    """Separation from mixtures: ESPnet's enhancement task with our batches and checks."""

    trainer = FrontendTrainer
    register = staticmethod(register)

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
        """Build ``mom``, ``crop`` or ``remix`` from ``preprocessor_conf`` and what the data say."""
        data = args.train_data_path_and_name_and_type if train else args.valid_data_path_and_name_and_type
        shapes = args.train_shape_file if train else args.valid_shape_file
        given = {
            "lengths": {k: int(v.split(",")[0]) for k, v in read_scp(shapes[0]).items()},
            "n_mics": args.separator_conf.get("n_mics", 1),
            "fewer_mics": args.separator in ANY_ARRAY,
            "seed": args.seed,
        }
        if args.preprocessor != "crop":
            given["entries"] = {name: read_scp(path) for path, name, _ in data}
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
