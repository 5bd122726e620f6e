"""What a run would make, and whether it fits: hours, files, gigabytes, time. Nothing is written.

Sizes are those of the corpus where it is given, else LibriSpeech's published ones. Speeds were measured on
one core of an AMD EPYC with egs/mini: yours differ. With --check, only a line for each disk, and exit
code 2 if the free space of one is too small.
"""

import argparse
import math
import shutil
from pathlib import Path

from download_corpus import SIZES
from estimate_sizes import Later, Pool, bytes_of, core_hours_of, files_of, pools, streams_of
from librispeech import FS, SUBSETS, check_root, read_subset

from frontend.data.audio import audio_info
from frontend.utils.errors import UserError, run
from frontend.utils.files import read_settings
from frontend.utils.parallel import number_of_processes, parallel_map

_STEP_S = 0.075  # a training step on 2 cores: batches of 4 x 2.5 s, the network of egs/mini
_ROWS = ("curve", "joint", "unsupervised")  # options of run.sh that add rows to the table or leave some out
_NETWORKS = dict(teacher="teacher", student="student", full="student", finetune="student", small="student")


def steps_of(config: Path, options: str) -> int:
    """Return the training steps of a YAML file, its keys overridden by command-line ``options``."""
    settings, words = read_settings(config, "training configuration"), options.split()
    for key in ("max_epoch", "num_iters_per_epoch"):
        if f"--{key}" in words:
            given = "".join(words[words.index(f"--{key}") + 1 :][:1])
            if not given.isdecimal():
                raise UserError(f"--{key} of the size file: expected a number, found '{given}'")
            settings[key] = int(given)
    return settings["max_epoch"] * settings["num_iters_per_epoch"]


def trainings_of(args: argparse.Namespace) -> dict[str, tuple[int, int]]:
    """Return how many trainings of each kind there will be, and the steps of one, of those with options."""
    curve, _, unsupervised = (getattr(args, name) == "true" for name in _ROWS)
    semi, more = (curve * len(shares.split()) for shares in (args.semi_shares, args.more_shares))
    times = {"teacher": 1, "student": 2 + semi, "full": 1 + more, "finetune": 2 + 2 * semi, "small": 1 + semi}
    if unsupervised:
        times = {"teacher": 1, "student": 1}
    given = {name: getattr(args, f"{name}_options") for name in times}
    return {
        name: (times[name], steps_of(Path(f"conf/{_NETWORKS[name]}.yaml"), options))
        for name, options in given.items()
        if options is not None
    }


def _there(path: Path) -> Path:
    path = path.resolve()
    while not path.exists():
        path = path.parent
    return path


def _disk_of(path: Path) -> int:
    return _there(path).stat().st_dev


def free_bytes(path: Path) -> int:
    """Return the free bytes of the disk on which ``path`` is or will be."""
    return shutil.disk_usage(_there(path)).free


def disk_lines(needs: list[tuple[Path, float]]) -> list[tuple[str, bool, list[Path]]]:
    """Return, for each disk, what it needs and has, whether that fits, and the folders that lie there.

    Args:
        needs: folders, and the bytes that each will take.
    """
    disks: dict[int, list[tuple[Path, float]]] = {}
    for path, needed in needs:
        disks.setdefault(_disk_of(path), []).append((path, needed))
    lines = []
    for folders in disks.values():
        needed, free = sum(n for _, n in folders), free_bytes(folders[0][0])
        there = list(dict.fromkeys(path for path, _ in folders))
        where = f"{' and '.join(map(str, there))} {'is' if len(there) == 1 else 'are'}"
        line = f"{math.ceil(needed / 1e8) / 10} GB needed, {free / 1e9:.1f} GB free where {where}"
        lines.append((line, needed <= free, there))
    return lines


def report(
    found: list[Pool], sizes: dict, files: dict, hours: dict, nj: int, trainings: dict[str, tuple[int, int]]
) -> list[str]:
    """Return the lines to print."""
    lines = [f"{'set':10} {'mixtures':>9} {'hours':>8} {'speech h':>9} {'utterances':>11}"]
    for p in found:
        mixed = p.mixtures * p.mixture_s / 3600
        lines.append(f"{p.name:10} {p.mixtures:9d} {mixed:8.1f} {p.hours:9.1f} {p.utterances:11d}")
    lines.append(f"{'stage':15} {'files':>8} {'GB':>8} {'core hours':>11}")
    for name, size in sizes.items():
        lines.append(f"{name:15} {files[name]:8d} {size / 1e9:8.1f} {hours.get(name, 0.0):11.1f}")
    total = sum(hours.values())
    lines.append(f"{'sum':15} {sum(files.values()):8d} {sum(sizes.values()) / 1e9:8.1f} {total:11.1f}")
    lines.append(f"about {total / nj:.1f} h with --nj {nj}, besides training, test and recogniser")
    if trainings:
        spent = sum(times * steps for times, steps in trainings.values()) * _STEP_S / 3600
        named = ", ".join(f"{name} {f'{n} x ' * (n > 1)}{steps}" for name, (n, steps) in trainings.items())
        lines.append(f"training steps: {named}; {spent:.1f} h on 2 cores if they were as small as egs/mini's")
    return lines


def _lengths(corpus: Path | None, nj: int) -> dict[str, list[float]]:
    if corpus is None or not corpus.is_dir():
        return {}
    check_root(corpus)
    return {
        s: list(parallel_map(_seconds, read_subset(corpus, s), nj, f"{s} lengths")) for s in SUBSETS.values()
    }


def _seconds(utterance) -> float:
    return audio_info(utterance.source)[1] / FS


def _numbers(words: list[str], option: str) -> dict[str, int]:
    """Read ``SET=NUMBER ...``."""
    pairs = [word.partition("=") for word in words]
    for name, _, number in pairs:
        if name not in SUBSETS or not number.isdecimal():
            raise UserError(
                f"--{option}: expected SET=NUMBER with one of {', '.join(SUBSETS)}; found '{name}={number}'"
            )
    return {name: int(number) for name, _, number in pairs}


def _later(args: argparse.Namespace) -> Later:
    outputs = read_settings(Path("conf/teacher.yaml"), "training configuration")["separator_conf"]["num_spk"]
    systems = Path("conf/systems_1ch.yaml" if args.channels == 1 else "conf/systems.yaml")
    curve, joint, unsupervised = (getattr(args, name) == "true" for name in _ROWS)
    rooms = args.asr_rooms.split() or ["0", "0"]
    if len(rooms) != 2 or not all(number.isdecimal() for number in rooms):
        raise UserError(
            f"--asr_rooms: expected two numbers, of training and of validation; found '{args.asr_rooms}'"
        )
    return Later(
        streams_of(systems, outputs, curve, joint, unsupervised),
        2 - unsupervised + curve * len(args.semi_shares.split()),
        (int(rooms[0]), int(rooms[1])),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--corpus_dir", type=Path, help="folder of LibriSpeech; without it, published sizes")
    parser.add_argument(
        "--out", type=Path, default=Path("data"), help="whose disk is looked at (default: data)"
    )
    parser.add_argument(
        "--mixtures", nargs="+", default=[], metavar="SET=N", help="train=50800 labelled=13900 ..."
    )
    parser.add_argument("--fs", type=int, choices=(8000, 16000), default=8000)
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--on_the_fly", choices=("true", "false"), default="false")
    parser.add_argument("--bank", type=int, default=20000, help="rooms, on the fly")
    parser.add_argument("--audio_format", choices=("wav", "flac", "flac.ark"), default="wav")
    parser.add_argument("--download", choices=("true", "false"), default="false")
    parser.add_argument("--nj", type=number_of_processes, default=1)
    parser.add_argument("--speech_utts", default="", help="the size file's: --train_utts N ...")
    parser.add_argument(
        "--asr_rooms", default="", help="the size file's; without it, no recogniser is trained"
    )
    for name in _ROWS:
        parser.add_argument(f"--{name}", choices=("true", "false"), default="false")
    parser.add_argument("--semi_shares", default="0.01 0.05", help="the size file's, for --curve true")
    parser.add_argument("--more_shares", default="0.25", help="the size file's, for --curve true")
    for name in _NETWORKS:
        parser.add_argument(
            f"--{name}_options", default=None, help="the size file's; adds the training's steps"
        )
    parser.add_argument("--check", action="store_true", help="one line only; exit code 2 if it does not fit")
    return parser


def main() -> None:
    """Estimate, print, compare with the disk."""
    args = _parser().parse_args()
    limits = args.speech_utts.split()
    utterances = {n: int(limits[limits.index(f"--{n}_utts") + 1]) for n in SUBSETS if f"--{n}_utts" in limits}
    missing = [s for s in SIZES if args.corpus_dir is None or not (args.corpus_dir / s).is_dir()]
    # Of what is still to be fetched, the published sizes are known.
    lengths = {} if missing and args.download == "true" else _lengths(args.corpus_dir, args.nj)
    found = pools(_numbers(args.mixtures, "mixtures"), utterances, lengths)
    later = _later(args)
    virtual, flac = args.on_the_fly == "true", args.audio_format != "wav"
    sizes = bytes_of(found, args.fs, args.channels, virtual, args.bank, flac, later)
    files = files_of(found, args.fs, virtual, args.bank, later)
    hours = core_hours_of(found, args.fs, args.channels, virtual, args.bank, later)
    trainings = trainings_of(args)
    if not args.check:
        source = f"lengths of {args.corpus_dir}" if lengths else "LibriSpeech's published sizes"
        kind = "on the fly" if virtual else f"rendered as {args.audio_format}"
        kind = f"{args.fs} Hz, {args.channels} channels, {kind}"
        print("\n".join([f"{kind}; by {source}", *report(found, sizes, files, hours, args.nj, trainings)]))
    # An archive and what is unpacked of it lie there at once; one is deleted before the next.
    fetched = sum(SIZES[s] for s in missing) + max((SIZES[s] for s in missing), default=0.0)
    if args.download == "true" and missing:
        print(
            f"download: {', '.join(missing)}: {sum(SIZES[s] for s in missing):.1f} GB, unpacked about as much"
        )
    needs = [(args.out, sum(sizes.values()))]
    if args.download == "true" and missing:
        needs.append((args.corpus_dir or args.out, fetched * 1e9))
    for line, fits, folders in disk_lines(needs):
        less = "--on_the_fly true, --audio_format flac.ark or a smaller --size take less"
        if args.out not in folders:
            less = "--librispeech on another disk, with its own subsets or for --download true"
        if fits:
            print(f"disk: {line}")
        elif args.check:
            raise UserError(f"{line}: make room, or: {less}")
        else:
            print(f"disk: {line}: it does not fit; {less}")


if __name__ == "__main__":
    run(main)
