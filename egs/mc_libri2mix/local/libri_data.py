"""Make the speech sets of this recipe and the lists of who is mixed with whom.

OUT/train is train-clean-360 (the unlabelled pool), OUT/labelled train-clean-100, OUT/dev dev-clean and
OUT/test test-clean, or the subsets that --SET_subset names; where dev and train are of one subset, dev has
--dev_share of its talkers. OUT/SET/pairs lists the mixtures: LibriMix's own (--librimix_metadata DIR), or
drawn with its statistics; with --drawn there is no list, and scenes draw talkers as in other recipes.
Run it again after it was cut off: it goes on where it was. (local/data.sh, which calls this, fetches what
is missing.)

A subset without transcripts has no text; its utterances are cut at pauses into pieces of at most
--piece_seconds. What has a transcript is never cut.
"""

import argparse
from pathlib import Path

from dry_sets import write_dry_set, write_noise
from librimix_lists import draw_pairs, first_utterances, read_table, to_pairs
from librispeech import ALL, SUBSETS, apart, check_root, read_subset
from noise_files import plan_noise

from frontend.data.kaldi import read_scp
from frontend.data.speech import Spoken, check_out, cut_long, evenly_by_talker
from frontend.simulation.pairs import write_pairs
from frontend.utils.errors import Parser, UserError, run
from frontend.utils.parallel import number_of_processes

# Mixtures listed, as many as Libri2Mix has.
LISTED = {"train": 50800, "labelled": 13900, "dev": 3000, "test": 3000}
NONE = "none"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--corpus", choices=("librispeech",), default="librispeech", help="default: %(default)s"
    )
    parser.add_argument(
        *("--librispeech", "--corpus_dir"),
        dest="corpus_dir",
        type=Path,
        required=True,
        help="folder that holds train-clean-360 ...",
    )
    parser.add_argument("--out", type=Path, required=True, help="such as data/librispeech/speech")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--nj", type=number_of_processes, default=1, help="processes (default: %(default)s)")
    parser.add_argument(
        "--fs", type=int, choices=(8000, 16000), default=8000, help="Hz (default: %(default)s)"
    )
    for name, subset in SUBSETS.items():
        parser.add_argument(f"--{name}_utts", type=int, default=0, help=f"utterances of {name}; 0: all")
        parser.add_argument(
            f"--{name}_subset",
            choices=sorted(ALL) + [NONE] * (name == "labelled"),
            default=subset,
            help="default: %(default)s",
        )
    parser.add_argument(
        "--dev_share", type=float, default=0.15, help="of the talkers, where dev is of train's subset"
    )
    parser.add_argument(
        "--piece_seconds", type=float, default=8.0, help="longest piece without transcript (default: 8)"
    )
    parser.add_argument("--drawn", action="store_true", help="mixtures are drawn, not listed")
    parser.add_argument(
        "--min_seconds", type=float, default=3.0, help="of drawn mixtures' utterances (default: 3)"
    )
    parser.add_argument(
        "--max_seconds", type=float, default=36.0, help="of drawn mixtures' utterances (default: 36)"
    )
    parser.add_argument("--librimix_metadata", type=Path, help="folder of libri2mix_SUBSET.csv")
    parser.add_argument(
        "--noise_dir", type=Path, help="recorded noise: tr/ cv/ tt/ as in wham_noise, or wav files"
    )
    parser.add_argument("--noise_files", type=int, default=0, help="of each set; 0: all")
    return parser


def _check(args: argparse.Namespace) -> None:
    check_out(args.out, tuple(SUBSETS))
    for option in (*(f"{name}_utts" for name in SUBSETS), "noise_files"):
        if getattr(args, option) < 0:
            raise UserError(f"--{option}: expected 0 (all) or more, found {getattr(args, option)}")
    if not 0 <= args.min_seconds < args.max_seconds:
        raise UserError(f"--min_seconds {args.min_seconds}: expected 0 or more, below --max_seconds")
    if not args.piece_seconds >= 1:
        raise UserError(f"--piece_seconds {args.piece_seconds}: expected 1 or more")
    if not 0 < args.dev_share < 1:
        raise UserError(f"--dev_share {args.dev_share}: expected more than 0 and less than 1")
    subsets = _subsets(args)
    for name, other in (("labelled", "train"), ("test", "train"), ("test", "labelled"), ("test", "dev")):
        if name in subsets and subsets[name] == subsets.get(other):
            raise UserError(f"--{name}_subset {subsets[name]}: expected another one than that of {other}")
    if subsets["dev"] == subsets.get("labelled"):
        raise UserError(f"--dev_subset {subsets['dev']}: expected another one than that of labelled")
    if args.librimix_metadata and (args.drawn or subsets != SUBSETS):
        raise UserError("--librimix_metadata: LibriMix's lists are of its own subsets: leave the option out")


def _subsets(args: argparse.Namespace) -> dict[str, str]:
    """Return the subset of each set."""
    found = {name: getattr(args, f"{name}_subset") for name in SUBSETS}
    return {name: subset for name, subset in found.items() if subset != NONE}


def _read(args: argparse.Namespace) -> dict[str, list[Spoken]]:
    """Return the utterances of each set; no talker is in two of train, dev and test."""
    subsets = _subsets(args)
    read = {}
    for subset in dict.fromkeys(subsets.values()):
        read[subset] = found = read_subset(args.corpus_dir, subset)
        if not any(u.text for u in found):
            read[subset] = cut_long(found, args.piece_seconds, args.nj)
            print(
                f"{args.corpus_dir / subset}: no transcripts, so nothing to train a recogniser on; "
                f"{len(found)} utterances cut into {len(read[subset])} pieces"
            )
    sets = {name: read[subset] for name, subset in subsets.items()}
    if subsets["dev"] == subsets["train"]:
        sets |= apart(args.corpus_dir, sets["train"], args.dev_share, args.seed)
    return sets


def main() -> None:
    """Check everything, then write."""
    args = _parser().parse_args()
    _check(args)
    noises = plan_noise(args.noise_dir, args.seed, args.noise_files) if args.noise_dir else {}
    tables = (
        {n: read_table(args.librimix_metadata, s) for n, s in SUBSETS.items()}
        if args.librimix_metadata
        else {}
    )
    check_root(args.corpus_dir, tuple(_subsets(args).values()))
    sets = _read(args)
    for name in tables:
        _check_listed(sets[name], tables[name], args.librimix_metadata, SUBSETS[name])
    for name, spoken in sets.items():
        number = getattr(args, f"{name}_utts")
        if name in tables:
            wanted = first_utterances(tables[name], number)
            chosen = [u for u in spoken if u.id in wanted]
        else:
            chosen = evenly_by_talker(spoken, number or len(spoken), args.seed)
        out = args.out / name
        seconds = write_dry_set(out, chosen, args.corpus_dir, args.fs, args.nj)
        print(
            f"{out}: {len(chosen)} of {len(spoken)} utterances, {len({u.speaker for u in chosen})} talkers, "
            f"{seconds / 3600:.2f} h"
        )
        _write_list(out, tables.get(name), name, args)
        if noises:
            number, seconds = write_noise(out, noises[name], args.noise_dir, args.fs, args.nj)
            print(f"{out}/noise.scp: {number} recordings, {seconds / 3600:.2f} h")
        else:
            (out / "noise.scp").unlink(missing_ok=True)  # of an earlier run


def _check_listed(spoken: list, rows: list, directory: Path, subset: str) -> None:
    known = {u.id for u in spoken}
    lacking = sorted({name for row in rows for name in row.utterances} - known)
    if lacking:
        raise UserError(
            f"{directory}/libri2mix_{subset}.csv: {len(lacking)} of its utterances are not in {subset}, such "
            f"as {lacking[0]}; expected the table of the same corpus (is {subset} complete?)"
        )


def _write_list(out: Path, rows: list | None, name: str, args: argparse.Namespace) -> None:
    """Write the list of mixtures: LibriMix's, or drawn; none where scenes draw the talkers."""
    if args.drawn:
        (out / "pairs").unlink(missing_ok=True)  # of an earlier run
        return
    if rows is not None:
        pairs = to_pairs(rows, {k: float(level) for k, level in read_scp(out / "utt2level").items()})
        print(f"{out}/pairs: {len(pairs)} of LibriMix's {len(rows)} mixtures")
    else:
        speakers, samples = read_scp(out / "utt2spk"), read_scp(out / "utt2num_samples")
        speech = {k: (speakers[k], int(samples[k]) / args.fs) for k in speakers}
        limits = {"shortest": args.min_seconds, "longest": args.max_seconds}
        pairs = draw_pairs(speech, LISTED[name], name, args.seed, **limits)
        print(f"{out}/pairs: {len(pairs)} mixtures drawn")
    write_pairs(out / "pairs", pairs)


if __name__ == "__main__":
    run(main)
