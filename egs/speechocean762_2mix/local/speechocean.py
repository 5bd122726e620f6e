"""Make the speech sets of this recipe: OUT/train, OUT/dev and OUT/test in Kaldi form.

The corpus is speechocean762 (OpenSLR 101) as it is unpacked: DIR/train and DIR/test with wav.scp, text,
utt2spk and spk2gender; wav.scp says what the recordings are called. test is the corpus's own, or drawn
from train where there is none; dev is drawn from train. No talker is in two sets, and the same seed gives
the same sets, bit for bit, for any --nj. Every utterance is trimmed to 50 ms of silence and scaled to
an active level of -26 dB re full scale.

[1] J. Zhang et al., "speechocean762: an open-source non-native English speech corpus for pronunciation
    assessment", Interspeech 2021, arXiv 2104.01378.
"""

import argparse
from pathlib import Path

from frontend.data.audio import audio_info
from frontend.data.kaldi import read_scp, scan_table
from frontend.data.speech import Spoken, check_out, evenly_by_talker, split_speakers, write_speech_sets
from frontend.utils.errors import Parser, UserError, run
from frontend.utils.parallel import number_of_processes, progress

SETS = ("train", "dev", "test")
RATE = 16000  # Hz, of all recordings of the corpus
# Shares of the talkers of train/: dev is always carved from them, test only where there is no test/.
_DEV, _TEST = 0.12, 0.2
_LAYOUT = "train/ and test/ with wav.scp, text, utt2spk, spk2gender"


def plan(corpus: Path, seed: int) -> dict[str, list[Spoken]]:
    """Return who says what in train, dev and test; no talker is in two sets, no sentence of test in another.

    Args:
        corpus: the folder that holds ``train/``, ``test/`` and the recordings.
        seed: of the split.

    Raises:
        UserError: another layout, recordings that are not there, a transcript that is empty or missing, a
            recording of another rate or of several channels, a talker in both parts, too few talkers.
    """
    _check_level(corpus)
    train, genders = _read_part(corpus, "train"), _read_genders(corpus / "train")
    speakers = sorted({u.speaker for u in train})
    for speaker in (s for s in speakers if s not in genders):
        raise UserError(f"{corpus}/train/spk2gender: talker {speaker} of utt2spk is missing (add 'f' or 'm')")
    if (corpus / "test").is_dir():
        test = _read_part(corpus, "test")
        for speaker in sorted({u.speaker for u in test} & set(speakers))[:1]:
            raise UserError(f"{corpus}/test/utt2spk: talker {speaker} is in train/ too (keep one of them)")
        shares = {"dev": _DEV, "train": 1 - _DEV}
    else:
        print(f"no {corpus}/test: its talkers are drawn from train/")
        test, shares = [], {"test": _TEST, "dev": _DEV, "train": 1 - _DEV - _TEST}
    try:
        parts = split_speakers(speakers, genders, shares, seed)
    except UserError as error:
        raise UserError(f"{corpus}/train/utt2spk: {error}") from None
    sets = {name: [u for u in train if u.speaker in parts.get(name, ())] for name in SETS}
    sets["test"] += test
    return _without_known_sentences(sets, corpus)


def _check_level(corpus: Path) -> None:
    """Find a folder above or below the right one, which are the mistakes people make."""
    if not corpus.is_dir():
        raise UserError(f"--corpus_dir {corpus}: no such directory (give the one that holds {_LAYOUT})")
    if (corpus / "train").is_dir():
        return
    wrong = f"--corpus_dir {corpus}: expected {_LAYOUT}"
    inside = next((p for p in sorted(corpus.iterdir()) if (p / "train" / "wav.scp").is_file()), None)
    if inside:
        raise UserError(f"{wrong}, found them one level below (give {inside})")
    above = corpus.resolve().parent
    if any(corpus.glob("SPEAKER*")) or (corpus / "wav.scp").is_file():
        raise UserError(f"{wrong}, found a part of the corpus (give the folder above, {above})")
    if (above.parent / "train" / "wav.scp").is_file():
        raise UserError(f"{wrong}, found the recordings of one talker (give {above.parent})")
    found = " ".join(sorted(p.name for p in corpus.iterdir())[:5]) or "an empty folder"
    raise UserError(f"{wrong}, no train/ among what was found: {found} (unpack the archive again)")


def _read_part(corpus: Path, part: str) -> list[Spoken]:
    """Read train/ or test/; every recording is looked at."""
    folder = corpus / part
    wav, text, speakers = (_read_table(folder / name) for name in ("wav.scp", "text", "utt2spk"))
    for name, table in (("text", text), ("utt2spk", speakers)):
        for lacking in sorted(wav.keys() - table.keys())[:1]:
            raise UserError(f"{folder / name}: utterance {lacking} of wav.scp is missing (add it)")
        for surplus in sorted(table.keys() - wav.keys())[:1]:
            raise UserError(f"{folder}/wav.scp: utterance {surplus} of {name} is missing (add it)")
    files = {key: _path(corpus, folder, entry) for key, entry in wav.items()}
    absent = [key for key, path in files.items() if not path.is_file()]
    if absent:
        raise UserError(
            f"{folder}/wav.scp: {len(absent)} of its {len(files)} recordings are not in {corpus}, the first "
            f"{wav[absent[0]]} (a part of the archive is not unpacked: unpack it again)"
        )
    _check_recordings(files, f"check {part}")
    if len(set(speakers.values())) < 2:
        raise UserError(f"{folder}/utt2spk: expected 2 talkers or more, found {len(set(speakers.values()))}")
    # Kaldi's tools want sorting by utterance to sort by talker: the corpus's ids begin with a zero.
    return [Spoken(f"{speakers[k]}-{k}", speakers[k], text[k], files[k].as_posix()) for k in files]


def _read_table(path: Path) -> dict[str, str]:
    table = scan_table(path, allow_empty=True)
    if table.problems:
        raise UserError(table.problems[0])
    for key, value in table.entries.items():
        if not value.strip():
            what = "transcript" if path.name == "text" else "entry"
            raise UserError(
                f"{path}:{table.lines[key]}: empty {what} of {key} (fill it in, or remove the utterance)"
            )
    return table.entries


def _read_genders(folder: Path) -> dict[str, str]:
    genders = _read_table(folder / "spk2gender")
    for speaker, gender in genders.items():
        if gender not in ("f", "m"):
            raise UserError(f"{folder}/spk2gender: expected f or m for talker {speaker}, found '{gender}'")
    return genders


def _path(corpus: Path, folder: Path, entry: str) -> Path:
    if entry.endswith("|"):
        raise UserError(f"{folder}/wav.scp: piped commands are not read: {entry} (name files)")
    return corpus / entry


def _check_recordings(files: dict[str, Path], what: str) -> None:
    for path in progress(files.values(), len(files), what):
        channels, _, rate = audio_info(str(path))
        if (channels, rate) != (1, RATE):
            raise UserError(
                f"{path}: expected 1 channel at {RATE} Hz, found {channels} at {rate} Hz "
                "(take the recordings of speechocean762 as they are distributed)"
            )


def _without_known_sentences(sets: dict[str, list[Spoken]], corpus: Path) -> dict[str, list[Spoken]]:
    """Leave the sentences of test out of dev, and those of both out of train: none was trained on."""
    later: set[str] = set()
    kept = {}
    for name in reversed(SETS):
        kept[name] = [u for u in sets[name] if u.text not in later]
        if len(kept[name]) < len(sets[name]):
            print(
                f"{name}: {len(sets[name]) - len(kept[name])} utterances left out, a later set says the same"
            )
        if len({u.speaker for u in kept[name]}) < 2:
            raise UserError(f"{corpus}: fewer than 2 talkers of {name} say a sentence that no later set has")
        later |= {u.text for u in sets[name]}
    return {name: kept[name] for name in SETS}


def _parse() -> argparse.Namespace:
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--corpus", default="speechocean762", help="speechocean762, the only one here")
    parser.add_argument("--corpus_dir", type=Path, help="the folder that holds train/, test/ and WAVE/")
    parser.add_argument("--out", type=Path, required=True, help="such as data/speechocean762/speech")
    parser.add_argument("--fs", type=int, default=8000, help="Hz, 8000 or 16000 (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--nj", type=number_of_processes, default=1, help="processes (default: %(default)s)")
    for name in SETS:
        parser.add_argument(f"--{name}_utts", type=int, help="utterances at most (default: all)")
    return parser.parse_args()


def _check(options: argparse.Namespace) -> None:
    check_out(options.out, SETS)
    if options.corpus != "speechocean762":
        raise UserError(
            f"--corpus {options.corpus}: expected speechocean762 (other recipes have other corpora)"
        )
    if options.corpus_dir is None:
        raise UserError(
            "expected --corpus_dir DIR, the folder of speechocean762 (openslr.org/101), found none"
        )
    if options.fs not in (8000, 16000):
        raise UserError(f"--fs {options.fs}: expected 8000 or 16000")
    for name in SETS:
        number = getattr(options, f"{name}_utts")
        if number is not None and number < 2:
            raise UserError(f"--{name}_utts {number}: expected at least 2, of two talkers")


def main() -> None:
    """Check, plan, render."""
    options = _parse()
    _check(options)
    sets = plan(options.corpus_dir, options.seed)
    for name, number in ((name, getattr(options, f"{name}_utts")) for name in sets):
        if number is not None:
            sets[name] = evenly_by_talker(sets[name], number, options.seed)
    seconds = write_speech_sets(options.out, sets, options.fs, options.nj)
    genders: dict[str, str] = {}
    for path in (options.corpus_dir / part / "spk2gender" for part in ("train", "test")):
        genders |= read_scp(path) if path.is_file() else {}
    for name, utterances in sets.items():
        talkers = {u.speaker for u in utterances}
        found = [genders.get(speaker) for speaker in talkers]
        print(
            f"{options.out / name}: {len(utterances)} utterances, {len(talkers)} talkers "
            f"({found.count('f')} f, {found.count('m')} m), {seconds[name] / 60:.1f} min"
        )


if __name__ == "__main__":
    run(main)
