"""Make the speech sets of this recipe: OUT/train, OUT/dev and OUT/test in Kaldi form.

The corpus is speechocean762 (OpenSLR 101) as it is unpacked: DIR/train and DIR/test with wav.scp, text,
utt2spk and spk2gender; wav.scp says what the recordings are called. test is the corpus's own, or drawn
from train where there is none; dev is drawn from train. No talker is in two sets, and the same seed gives
the same sets, bit for bit, for any --nj. Every utterance is trimmed to 50 ms of silence and scaled to
an active level of -26 dB re full scale.
"""

import argparse
from pathlib import Path

import speechocean

from frontend.data.kaldi import read_scp
from frontend.data.speech import check_out, in_turns, write_speech_sets
from frontend.simulation.config import load_config
from frontend.utils.errors import UserError, run
from frontend.utils.parallel import number_of_processes

SCENES = Path(__file__).resolve().parents[1] / "conf" / "scenes.yaml"
RATES = (8000, 16000)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--corpus", default="speechocean762", help="speechocean762, the only one here")
    parser.add_argument("--corpus_dir", type=Path, help="the folder that holds train/, test/ and WAVE/")
    parser.add_argument("--out", type=Path, required=True, help="such as data/speechocean762/speech")
    parser.add_argument("--fs", type=int, default=8000, help="Hz, 8000 or 16000 (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--nj", type=number_of_processes, default=1, help="processes (default: %(default)s)")
    for name in speechocean.SETS:
        parser.add_argument(f"--{name}_utts", type=int, help="utterances at most (default: all)")
    return parser.parse_args()


def _check(options: argparse.Namespace) -> None:
    check_out(options.out, speechocean.SETS)
    if options.corpus != "speechocean762":
        raise UserError(
            f"--corpus {options.corpus}: expected speechocean762 (other recipes have other corpora)"
        )
    if options.corpus_dir is None:
        raise UserError(
            "expected --corpus_dir DIR, the folder of speechocean762 (openslr.org/101), found none"
        )
    if options.fs not in RATES:
        raise UserError(f"--fs {options.fs}: expected 8000 or 16000")
    for name in speechocean.SETS:
        number = getattr(options, f"{name}_utts")
        if number is not None and number < 2:
            raise UserError(f"--{name}_utts {number}: expected at least 2, of two talkers")


def _describe(options: argparse.Namespace, name: str, longest: float) -> str:
    """Say how much there is of a set, and how much of it is too long for the mixtures."""
    directory = options.out / name
    seconds = [int(n) / options.fs for n in read_scp(directory / "utt2num_samples").values()]
    talkers = set(read_scp(directory / "utt2spk").values())
    genders = speechocean.count_genders(options.corpus_dir, talkers)
    long = sum(s > longest for s in seconds)
    return (
        f"{directory}: {len(seconds)} utterances, {len(talkers)} talkers ({genders}), "
        f"{sum(seconds) / 60:.1f} min; {long} ({long / len(seconds):.1%}) last longer than {longest:g} s "
        "(conf/scenes.yaml, max_seconds) and are in no mixture"
    )


def main() -> None:
    """Check, plan, render."""
    options = _parse()
    _check(options)
    longest = load_config(SCENES).max_seconds
    sets = speechocean.plan(options.corpus_dir, options.seed)
    for name, number in ((name, getattr(options, f"{name}_utts")) for name in sets):
        if number is not None:
            sets[name] = in_turns(sets[name], number, options.seed)
    write_speech_sets(options.out, sets, options.fs, options.nj)
    for name in sets:
        print(_describe(options, name, longest))


if __name__ == "__main__":
    run(main)
