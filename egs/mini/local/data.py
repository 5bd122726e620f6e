"""Make the speech sets of this recipe: OUT/train, OUT/dev and OUT/test in Kaldi form, 8 kHz.

The same seed gives the same sets, bit for bit, for any --nj. Every utterance is trimmed to
50 ms of silence and scaled to an active level of -26 dB re full scale.
"""

import argparse
from pathlib import Path

import digits_corpora
import espeak_corpus
from speech import FS

from frontend import atomic
from frontend.datadir import AudioWriter, write_scp, write_spk2utt
from frontend.errors import UserError, run
from frontend.parallel import parallel_map

CORPORA = {"fsdd": digits_corpora.plan_fsdd, "audiomnist": digits_corpora.plan_audiomnist}


def _render(job: tuple) -> tuple[str, int]:
    """Make and write one utterance in a worker; return its id and length in samples."""
    utterance, directory = job
    signal = utterance.render()
    with AudioWriter(directory, "wav", FS) as writer:
        writer.write(utterance.id, signal)
    return utterance.id, len(signal)


def write_set(destination: Path, utterances: list, nj: int) -> float:
    """Render a speech set, complete or not at all, and return its seconds."""
    with atomic.directory(destination) as part:
        jobs = [(u, str(part / "wav")) for u in utterances]
        samples = dict(parallel_map(_render, jobs, nj, f"speech {destination.name}"))
        write_scp(part / "wav.scp", {u.id: destination / "wav" / f"{u.id}.wav" for u in utterances})
        write_scp(part / "text", {u.id: u.text for u in utterances})
        write_scp(part / "utt2num_samples", samples)
        write_spk2utt(part, {u.id: u.speaker for u in utterances})
    return sum(samples.values()) / FS


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--corpus", choices=("espeak", *CORPORA), default="espeak", help="default: %(default)s"
    )
    parser.add_argument("--corpus_dir", type=Path, help="where the corpus lies (fsdd and audiomnist)")
    parser.add_argument("--out", type=Path, required=True, help="such as data/espeak/speech")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--nj", type=int, default=1, help="processes (default: %(default)s)")
    for name, number in (("train", 1200), ("dev", 150), ("test", 200)):
        parser.add_argument(f"--{name}_utts", type=int, default=number, help="default: %(default)s")
    return parser.parse_args()


def main() -> None:
    """Check, plan, render."""
    options = _parse()
    sizes = {name: getattr(options, f"{name}_utts") for name in digits_corpora.SETS}
    for name, number in sizes.items():
        if number < 1:
            raise UserError(f"--{name}_utts {number}: expected at least 1")
    if options.corpus == "espeak":
        if options.corpus_dir:
            raise UserError(
                "--corpus_dir: espeak makes its own speech (leave the option out, or give --corpus)"
            )
        sets = espeak_corpus.plan(options.seed, sizes)
    elif options.corpus_dir is None:
        raise UserError(
            f"--corpus {options.corpus}: expected --corpus_dir DIR, found none (say where it lies)"
        )
    else:
        sets = CORPORA[options.corpus](options.corpus_dir, options.seed, sizes)
    for name, utterances in sets.items():
        seconds = write_set(options.out / name, utterances, options.nj)
        talkers = len({u.speaker for u in utterances})
        print(
            f"{options.out / name}: {len(utterances)} utterances, {talkers} talkers, {seconds / 60:.1f} min"
        )


if __name__ == "__main__":
    run(main)
