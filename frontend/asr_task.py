"""ESPnet's recognition task, trained as ESPnet's users train it, and able to survive a kill.

ESPnet seeds the generators of Python, NumPy and torch at the start of every epoch
(``seed + epoch``), and the order of its batches is a function of the epoch too. So dropout and
SpecAugment draw in a resumed training what they draw in an undisturbed one, and what is left to do
is that of :class:`frontend.task.FrontendTrainer`: keep the last checkpoint whole.
"""

import argparse
from collections.abc import Iterator, Mapping

import numpy as np

from frontend.audio import read_audio
from frontend.espnet import abs_task, asr
from frontend.schedule import WarmupCosine
from frontend.tables import read_scp
from frontend.task import FrontendTrainer

FILES, ARCHIVES = "sound", "archived_sound"  # ESPnet's type of data, and ours


class ArchivedSound(Mapping):
    """Recordings of a ``wav.scp`` that names archives: id -> (T,) at full scale 1.0.

    ESPnet's ``sound`` reads files alone, and its ``kaldi_ark`` gives 16-bit numbers, so that a
    recogniser would hear archives 90 dB louder than files.

    Args:
        path: of the table.
    """

    def __init__(self, path: str):
        self.entries = read_scp(path)

    def __getitem__(self, key: str) -> np.ndarray:
        return read_audio(self.entries[key], finite=True)[0][0]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)


def register_asr() -> None:
    """Make our classes known to ESPnet by name; safe to call again."""
    from espnet2.train.dataset import DATA_TYPES

    abs_task.scheduler_classes["warmupcosine"] = WarmupCosine
    DATA_TYPES[ARCHIVES] = {"func": ArchivedSound, "kwargs": [], "help": "recordings in files and archives"}


class FrontendASRTask(asr.ASRTask):
    """Recognition: ESPnet's task with a trainer that shows progress and keeps checkpoints whole."""

    trainer = FrontendTrainer

    @classmethod
    def steps_per_epoch(cls, args: argparse.Namespace) -> int:
        """Return the number of batches of an epoch, which for most batch types only the data tell."""
        alone = abs_task.DistributedOption()  # several GPUs share every batch
        return len(cls.build_iter_factory(args, alone, "train").build_iter(1))
