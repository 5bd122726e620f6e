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


def write_sets(out: Path, sets: dict[str, list], nj: int) -> dict[str, float]:
    """Render all speech sets, complete or not at all, and return the seconds of each."""
    with atomic.directory(out) as part:
        # one pool of processes for all sets: each start costs a second of imports
        jobs = [(u, str(part / name / "wav")) for name, utterances in sets.items() for u in utterances]
        samples = dict(parallel_map(_render, jobs, nj, "speech"))
        for name, utterances in sets.items():
            entries = {u.id: out / name / "wav" / f"{u.id}.wav" for u in utterances}
            write_scp(part / name / "wav.scp", entries)
            write_scp(part / name / "text", {u.id: u.text for u in utterances})
            write_scp(part / name / "utt2num_samples", {u.id: samples[u.id] for u in utterances})
            write_spk2utt(part / name, {u.id: u.speaker for u in utterances})
    return {name: sum(samples[u.id] for u in utterances) / FS for name, utterances in sets.items()}


def _check_out(out: Path) -> None:
    """Refuse to replace anything but speech sets."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: expected a directory to make, found a file (choose another)")
    others = {p.name for p in out.iterdir()} - set(digits_corpora.SETS) if out.exists() else set()
    if others:
        raise UserError(f"--out {out}: holds {min(others)}, which would be lost (choose another directory)")


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
    _check_out(options.out)
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
    for name, seconds in write_sets(options.out, sets, options.nj).items():
        talkers = len({u.speaker for u in sets[name]})
        print(
            f"{options.out / name}: {len(sets[name])} utterances, {talkers} talkers, {seconds / 60:.1f} min"
        )


if __name__ == "__main__":
    run(main)
