"""LibriSpeech as it is published: SUBSET/SPEAKER/CHAPTER/ID.flac, one SPEAKER-CHAPTER.trans.txt a chapter.

A subset without any transcript is read too: a part of LibriSpeech that was given away without them.
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from frontend.data.speech import Spoken, split_speakers
from frontend.utils.errors import UserError
from frontend.utils.files import read_lines
from frontend.utils.parallel import progress

# Our sets and the subsets they are made of, unless options name others; train is the unlabelled pool,
# labelled the labelled one.
SUBSETS = {
    "train": "train-clean-360",
    "labelled": "train-clean-100",
    "dev": "dev-clean",
    "test": "test-clean",
}
FS = 16000
ALL = {*SUBSETS.values(), "train-other-500", "dev-other", "test-other"}
_WHERE = "openslr.org/12 has it"


def check_root(root: Path, subsets: Collection[str] = tuple(SUBSETS.values())) -> None:
    """Check that ``root`` is the folder that holds the subsets.

    Raises:
        UserError: it is the folder above or below, a subset is missing, an archive is still packed.
    """
    wanted = f"expected the folder that holds {', '.join(subsets)}"
    if not root.is_dir():
        raise UserError(f"{root}: {wanted}; found no such folder (check the path)")
    if root.name in ALL or any(parent.name in ALL for parent in root.resolve().parents):
        inside = [p for p in (root.resolve(), *root.resolve().parents) if p.name in ALL][-1]
        raise UserError(f"{root}: {wanted}; found a folder of {inside.name} (give {inside.parent})")
    missing = [name for name in subsets if not (root / name).is_dir()]
    if not missing:
        return
    inside = [p for p in sorted(root.iterdir()) if p.is_dir() and any((p / n).is_dir() for n in ALL)]
    if inside and len(missing) == len(subsets):
        raise UserError(f"{root}: {wanted}; found them in a folder of it (give {inside[0].resolve()})")
    packed = [name for name in missing if (root / f"{name}.tar.gz").exists()]
    if packed:
        archive = root / f"{packed[0]}.tar.gz"
        raise UserError(
            f"{root}: {wanted}; {packed[0]} is still packed "
            f"(unpack {archive}, so that {root / packed[0]} is there)"
        )
    there = [name for name in subsets if name not in missing]
    found = f"found {', '.join(there)}, but no {', '.join(missing)}" if there else "found none of them"
    fetched = ", and so has --download true" if {*missing} <= {*SUBSETS.values()} else ""
    raise UserError(f"{root}: {wanted}; {found} ({_WHERE}{fetched})")


def read_subset(root: Path, subset: str) -> list[Spoken]:
    """Return the utterances of a subset, sorted by id; without words where no chapter has a transcript.

    Raises:
        UserError: no transcript in a chapter where others have one, an empty one, a line without words, a
            transcript without its recording (a half-unpacked archive), or the other way round.
    """
    folder = root / subset
    chapters = sorted(p for p in folder.glob("*/*") if p.is_dir())
    if not chapters:
        raise UserError(
            f"{folder}: expected SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt, found nothing of the kind "
            f"(unpack the archive again; {_WHERE})"
        )
    utterances, silent, unread = [], [], []
    is_read = any(path for chapter in chapters for path in chapter.glob("*.trans.txt"))
    for chapter in progress(chapters, len(chapters), subset):
        recorded = {p.stem for p in chapter.glob("*.flac")}
        texts = _transcripts(chapter) if is_read else dict.fromkeys(recorded, "")
        silent += [chapter / f"{name}.flac" for name in sorted(texts.keys() - recorded)]
        unread += [chapter / f"{name}.flac" for name in sorted(recorded - texts.keys())]
        speaker = chapter.parent.name
        utterances += [Spoken(n, speaker, t, str(chapter / f"{n}.flac")) for n, t in texts.items()]
    if silent:
        raise UserError(
            f"{silent[0]}: expected a recording, for the chapter's .trans.txt names it; {len(silent)} of "
            f"{len(utterances)} in {subset} are missing (half unpacked? unpack {subset}.tar.gz again)"
        )
    if unread:
        raise UserError(
            f"{unread[0]}: not in the chapter's .trans.txt; {len(unread)} recordings of {subset} have no "
            f"transcript (half unpacked? unpack {subset}.tar.gz again)"
        )
    if not utterances:
        raise UserError(f"{folder}: expected recordings SPEAKER/CHAPTER/ID.flac, found none ({_WHERE})")
    return sorted(utterances, key=lambda u: u.id)


def apart(root: Path, utterances: list[Spoken], dev_share: float, seed: int) -> dict[str, list[Spoken]]:
    """Divide a subset into ``dev`` and ``train``, of different talkers: that share of them, of either gender.

    Raises:
        UserError: fewer than four talkers.
    """
    speakers = sorted({u.speaker for u in utterances})
    shares = {"dev": dev_share, "train": 1 - dev_share}
    parts = split_speakers(speakers, _genders(root, speakers), shares, seed)
    return {name: [u for u in utterances if u.speaker in parts[name]] for name in parts}


def _genders(root: Path, speakers: Iterable[str]) -> Mapping[str, str]:
    """Return the gender of each talker, "" where ``root``/SPEAKERS.TXT (``ID | F | SUBSET ...``) has none."""
    path, found = root / "SPEAKERS.TXT", dict.fromkeys(speakers, "")
    for _, line in read_lines(path, "LibriSpeech's table of speakers") if path.is_file() else ():
        who, _, rest = (word.strip() for word in line.partition("|"))
        if who in found:
            found[who] = rest[:1].lower()
    return found


def _transcripts(chapter: Path) -> dict[str, str]:
    path = chapter / f"{chapter.parent.name}-{chapter.name}.trans.txt"
    lines = read_lines(path, "the transcript of the chapter")
    if not lines:
        raise UserError(f"{path}: expected 'ID WORDS' a line, found an empty file (unpack it again)")
    texts = {}
    for number, line in lines:
        name, _, text = line.partition(" ")
        if not text.strip():
            raise UserError(f"{path}:{number}: expected 'ID WORDS', found '{line}' (unpack it again)")
        if not name.startswith(f"{chapter.parent.name}-{chapter.name}-"):
            raise UserError(f"{path}:{number}: '{name}' is of another chapter (unpack it again)")
        texts[name] = text.strip()
    return texts
