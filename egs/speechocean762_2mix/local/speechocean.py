"""speechocean762 as it is unpacked: checked completely, then split into sets of different talkers.

[1] J. Zhang et al., "speechocean762: an open-source non-native English speech corpus for pronunciation
    assessment", Interspeech 2021, arXiv 2104.01378; OpenSLR 101.
"""

from collections.abc import Iterable
from pathlib import Path

from frontend.data.audio import audio_info
from frontend.data.kaldi import scan_table
from frontend.data.speech import Spoken, split_speakers
from frontend.utils.errors import UserError
from frontend.utils.parallel import progress

SETS = ("train", "dev", "test")
RATE = 16000  # Hz, of all recordings of the corpus
# Shares of the talkers of train/: dev is always carved from them, test only where there is no test/.
_DEV, _TEST = 0.12, 0.2
_TABLES = ("wav.scp", "text", "utt2spk", "spk2gender")
_LAYOUT = f"train/ and test/ with {', '.join(_TABLES)}"


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
    """Leave out of dev what test says, and of train what either says: a recogniser must not know it."""
    heard: set[str] = set()
    kept = {}
    for name in reversed(SETS):
        kept[name] = [u for u in sets[name] if u.text not in heard]
        if len(kept[name]) < len(sets[name]):
            print(
                f"{name}: {len(sets[name]) - len(kept[name])} utterances left out, a later set says the same"
            )
        if len({u.speaker for u in kept[name]}) < 2:
            raise UserError(f"{corpus}: fewer than 2 talkers of {name} say a sentence that no later set has")
        heard |= {u.text for u in sets[name]}
    return {name: kept[name] for name in SETS}


def count_genders(corpus: Path, speakers: Iterable[str]) -> str:
    """Return such as ``18 f, 24 m`` of the talkers that spk2gender knows."""
    genders: dict[str, str] = {}
    for part in ("train", "test"):
        path = corpus / part / "spk2gender"
        genders |= scan_table(path).entries if path.is_file() else {}
    found = [genders.get(s) for s in speakers]
    return ", ".join(f"{found.count(g)} {g}" for g in ("f", "m"))
