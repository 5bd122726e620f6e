"""Make the speech sets of this recipe of all corpora that are given, and of espeak-ng voices.

OUT/train has the training talkers of each, without words, cut at pauses into pieces of at most
--piece_seconds; OUT/dev other talkers of the same parts, alike. OUT/test has the test talkers of the
corpora's own recipes, whole and with words. No talker is in two sets, and no test talker of another recipe is
in train or dev, but for fsdd's:

- espeak: the voices of each set of egs/mini;
- librispeech: train-clean-100, of which dev has --dev_share of the talkers; test-clean and test-other, as far
  as they are there;
- speechocean762: the sets of egs/speechocean762_2mix;
- fsdd: in train alone, for all its six talkers are in its test part too: recordings 10 to 49 of each digit,
  of which neither that test part (0 to 4) nor the dev set of egs/mini (5 to 9) has any.

Utterances are resampled, trimmed to 50 ms of silence and scaled to an active level of -26 dB re full scale.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import frontend
from frontend.data.speech import (
    Recorded,
    Spoken,
    Utterance,
    check_out,
    cut_long,
    evenly_by_talker,
    write_sets,
)
from frontend.utils.errors import Parser, UserError, run
from frontend.utils.parallel import number_of_processes

EGS = Path(frontend.__file__).parents[1] / "egs"
sys.path += [str(EGS / name / "local") for name in ("mini", "mc_libri2mix", "speechocean762_2mix")]

import digits  # noqa: E402
import espeak  # noqa: E402
import librispeech  # noqa: E402
import speechocean  # noqa: E402

SETS = ("train", "dev", "test")
CORPORA = {"librispeech": "LibriSpeech", "speechocean762": "speechocean762", "fsdd": "fsdd"}
TRAIN, TESTS = "train-clean-100", ("test-clean", "test-other")  # of LibriSpeech
# Of the talkers of the other recipes: those of their committed tables, whatever this recipe's seed.
_SPLIT_SEED = 0


@dataclass(frozen=True)
class Member:
    """An utterance of a corpus in a merged set; its ids begin with the corpus's name."""

    corpus: str
    utterance: Utterance
    text: str

    @property
    def id(self) -> str:
        """``CORPUS_TALKER-...``."""
        return f"{self.corpus}_{self.utterance.id}"

    @property
    def speaker(self) -> str:
        """``CORPUS_TALKER``."""
        return f"{self.corpus}_{self.utterance.speaker}"

    def render(self) -> np.ndarray:
        """Return the speech ``(T,)`` at the rate of the set."""
        return self.utterance.render()


Sets = dict[str, Sequence[Utterance]]


def _espeak(options: argparse.Namespace) -> Sets:
    return {**espeak.plan(_SPLIT_SEED, _sizes(options), options.fs)}


def _fsdd(options: argparse.Namespace) -> Sets:
    if options.fs != digits.FS:
        raise UserError(f"--fsdd: its recordings have {digits.FS} Hz (leave it out at --fs {options.fs})")
    return {"train": digits.plan_fsdd(options.fsdd, _SPLIT_SEED, _sizes(options))["train"]}


def _speechocean762(options: argparse.Namespace) -> Sets:
    return _recorded(speechocean.plan(options.speechocean762, _SPLIT_SEED), options)


def _librispeech(options: argparse.Namespace) -> Sets:
    root = options.librispeech
    librispeech.check_root(root, (TRAIN,))
    sets = librispeech.apart(root, librispeech.read_subset(root, TRAIN), options.dev_share, _SPLIT_SEED)
    tests = [librispeech.read_subset(root, name) for name in TESTS if (root / name).is_dir()]
    sets["test"] = [u for found in tests for u in found if u.text]
    return _recorded(sets, options)


def _recorded(sets: dict[str, list[Spoken]], options: argparse.Namespace) -> Sets:
    """Cut all but test into pieces, take what the size asks for, and say how it is read."""
    found: Sets = {}
    for name, utterances in sets.items():
        pieces = utterances if name == "test" else cut_long(utterances, options.piece_seconds, options.nj)
        taken = evenly_by_talker(pieces, _sizes(options)[name], options.seed)
        found[name] = [Recorded(**vars(u), fs=options.fs) for u in taken]
    return found


READERS: dict[str, Callable[[argparse.Namespace], Sets]] = {
    "espeak": _espeak,
    "librispeech": _librispeech,
    "speechocean762": _speechocean762,
    "fsdd": _fsdd,
}


def _sizes(options: argparse.Namespace) -> dict[str, int]:
    return {name: getattr(options, f"{name}_utts") for name in SETS}


def plan(options: argparse.Namespace) -> dict[str, list[Member]]:
    """Return the utterances of every set; no talker is in two of them.

    Raises:
        UserError: whatever the readers of the corpora find wrong.
    """
    sets: dict[str, list[Member]] = {name: [] for name in SETS}
    for corpus, read in READERS.items():
        if corpus == "espeak" or getattr(options, corpus):
            for name, utterances in read(options).items():
                sets[name] += [Member(corpus, u, u.text if name == "test" else "") for u in utterances]
    return sets


def _parse() -> argparse.Namespace:
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--corpus", choices=("any",), default="any", help="any, the only one here")
    parser.add_argument("--corpora", type=Path, help=f"folder with some of {', '.join(CORPORA.values())}")
    for corpus, folder in CORPORA.items():
        parser.add_argument(f"--{corpus}", type=Path, help=f"folder of {corpus} (default: CORPORA/{folder})")
    parser.add_argument("--out", type=Path, required=True, help="such as data/any/speech")
    parser.add_argument(
        "--fs", type=int, choices=(8000, 16000), default=8000, help="Hz (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice (default: %(default)s)")
    parser.add_argument("--nj", type=number_of_processes, default=1, help="processes (default: %(default)s)")
    for name, number in zip(SETS, (1200, 150, 150), strict=True):
        parser.add_argument(
            f"--{name}_utts", type=int, default=number, help="of each corpus, at most (default: %(default)s)"
        )
    parser.add_argument(
        "--piece_seconds", type=float, default=6.0, help="longest of train and dev (default: 6)"
    )
    parser.add_argument(
        "--dev_share", type=float, default=0.12, help="of LibriSpeech's talkers (default: 0.12)"
    )
    return parser.parse_args()


def _check(options: argparse.Namespace) -> None:
    """Check the options, and find the corpora in the folder that has them."""
    check_out(options.out, SETS)
    for name, number in _sizes(options).items():
        if number < 2:
            raise UserError(f"--{name}_utts {number}: expected at least 2, of two talkers")
    if not options.piece_seconds >= 1:
        raise UserError(f"--piece_seconds {options.piece_seconds}: expected 1 or more")
    if not 0 < options.dev_share < 1:
        raise UserError(f"--dev_share {options.dev_share}: expected more than 0 and less than 1")
    if options.corpora is None:
        return
    found = [name for name, folder in CORPORA.items() if (options.corpora / folder).is_dir()]
    if not found:
        wanted = ", ".join(CORPORA.values())
        raise UserError(
            f"--corpora {options.corpora}: expected some of {wanted}, found none (check the path)"
        )
    for name in found:
        if name == "fsdd" and options.fs != digits.FS:
            print(f"{options.corpora / CORPORA[name]}: left out, it has {digits.FS} Hz")
        elif getattr(options, name) is None:
            setattr(options, name, options.corpora / CORPORA[name])


def main() -> None:
    """Check, plan, render."""
    options = _parse()
    _check(options)
    sets = plan(options)
    seconds = write_sets(options.out, sets, options.fs, options.nj)
    for name, members in sets.items():
        talkers = [member.corpus for member in {m.speaker: m for m in members}.values()]
        each = ", ".join(f"{talkers.count(c)} {c}" for c in READERS if c in talkers)
        print(
            f"{options.out / name}: {len(members)} utterances, {len(talkers)} talkers ({each}), "
            f"{seconds[name] / 60:.1f} min"
        )


if __name__ == "__main__":
    run(main)
