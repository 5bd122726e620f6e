"""Which utterances make up the batches of an epoch."""

from collections.abc import Callable, Sequence
from functools import partial

from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.iterators.sequence_iter_factory import worker_init_fn
from torch.utils.data import DataLoader, Dataset

from frontend.rng import generator


class KeyedIterFactory(AbsIterFactory):
    """Batches of equally long crops, as a function of seed and epoch alone.

    The training set is an endless sequence of shuffles of its utterances; an epoch is the
    next ``steps * batch_size`` of it, so every utterance is used equally often whatever
    the length of an epoch. (ESPnet's unsorted sampler keeps the same utterances together
    in every epoch and lets batches grow beyond the batch size.)

    Args:
        dataset: ESPnet's; its ``preprocess`` is told the epoch.
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
        dataset: Dataset,
        ids: Sequence[str],
        batch_size: int,
        steps: int | None,
        seed: int,
        train: bool,
        shard: tuple[int, int] = (0, 1),
        **options: int | bool | Callable,
    ):
        self.dataset, self.ids, self.batch_size, self.steps = dataset, list(ids), batch_size, steps
        self.seed, self.train, self.shard, self.options = seed, train, shard, options

    def batches(self, epoch: int) -> list[list[str]]:
        """Return the utterances of each batch of ``epoch`` (from 1)."""
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
        cuts = range(0, len(sequence), self.batch_size)
        return [sequence[i : i + self.batch_size][rank::world] for i in cuts]

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> DataLoader:
        """Return the batches of ``epoch``, read and collated."""
        self.dataset.preprocess.set_epoch(epoch)
        return DataLoader(
            self.dataset,
            batch_sampler=self.batches(epoch),
            worker_init_fn=partial(worker_init_fn, base_seed=epoch + self.seed),
            **self.options,
        )
