"""How many bytes, files and hours of a core the mixtures of a run take, and what is made of them."""

from dataclasses import dataclass
from pathlib import Path

from librispeech import FS, SUBSETS

from frontend.utils.files import read_settings

# subset: hours, utterances (openslr.org/12), seconds of a mixture in max mode. The last of the training
# subsets is from the sizes that LibriMix's metadata/Libri2Mix/storage_info.txt states; that of dev and test
# is a guess, for LibriMix leaves out long utterances there and we do not.
OFFICIAL = {
    "train-clean-360": (363.6, 104014, 15.2),
    "train-clean-100": (100.6, 28539, 15.0),
    "dev-clean": (5.4, 2703, 10.0),
    "test-clean": (5.4, 2620, 10.0),
}
_FLAC_SPEECH = 0.55  # of 16-bit samples: read speech at 8 kHz (speechocean762)
_FLAC_MIXTURE = 0.62  # mixtures with sensor noise and their images (egs/mini)
_RIR_BYTES = 78e3  # of a mixture's cache file: 2 talkers, 4 microphones, 8 kHz, T60 0.15-0.4 s
_SCENE_BYTES = 1300.0  # its text, twice: as drawn and as rendered
_RIR_S = 0.078  # a mixture and core, 4 microphones, 8 kHz
_CONVOLVE_S = 0.002  # a second of mixture and core, 4 microphones, 8 kHz
_READ_S = 0.0012  # a second of speech and core: decode, resample, measure, write
_LABEL_S = 0.06  # a second of mixture and core, 8 kHz: separate, merge, beamformer, AuxIVA
_TALKERS = 2
_FLOAT = 4  # bytes of a sample of a network's stream
_READ_BY_TRAININGS = ("train", "labelled")  # on the fly, these are never written


@dataclass(frozen=True)
class Pool:
    """A mixture set: how many mixtures, their mean length, and the speech they are made of."""

    name: str
    mixtures: int
    mixture_s: float
    hours: float
    utterances: int


@dataclass(frozen=True)
class Later:
    """What a run makes of its mixtures.

    Attributes:
        streams: of every test mixture, by all systems together.
        labellings: how often train and dev are labelled: by the teacher, by the fine-tuned student, and by
            that of each further share.
        asr_rooms: the recogniser's training and validation mixtures of one talker, and as many of two.
    """

    streams: int = 0
    labellings: int = 2
    asr_rooms: tuple[int, int] = (0, 0)


_DEFAULT = Later()


def pools(
    mixtures: dict[str, int], utterances: dict[str, int], lengths: dict[str, list[float]]
) -> list[Pool]:
    """Return the sets of a run.

    Args:
        mixtures: of each set.
        utterances: limits, 0: all.
        lengths: seconds of each utterance of a subset; empty: LibriSpeech's published sizes.
    """
    found = []
    for name, subset in SUBSETS.items():
        hours, number, mean = OFFICIAL[subset] if not lengths else _of(lengths[subset])
        taken = min(utterances.get(name) or number, number)
        found.append(Pool(name, mixtures.get(name, 0), mean, hours * taken / number, taken))
    return found


def _of(lengths: list[float]) -> tuple[float, int, float]:
    """Return hours, utterances, and the mean of the longer of two utterances drawn at random."""
    ordered, n = sorted(lengths), len(lengths)
    longer = sum(s * 2 * k for k, s in enumerate(ordered)) / max(n * (n - 1), 1)
    return sum(lengths) / 3600, n, longer


def streams_of(systems: Path, outputs: int, curve: bool, joint: bool, unsupervised: bool) -> int:
    """Return the streams that the rows of ``systems`` leave of a mixture; ``outputs`` are the teacher's."""
    # Not by frontend.separation.systems: it imports all blind methods, and a check is to be quick.
    rows = [
        row for row in read_settings(systems, "table of systems").values() if row.keys() & {"model", "blind"}
    ]
    trained = [
        row
        for row in rows
        if (curve or not row.get("model", "").startswith("curve/"))
        and (joint or row.get("model") != "joint")
        and not (unsupervised and "labels" in row)
    ]
    whole = [row for row in trained if row.get("model") == "teacher" and "rule" not in row]
    # What rules select from is kept as well, once for all rows of a model.
    selected = {row["model"] for row in trained if "rule" in row}
    return _TALKERS * (len(trained) - len(whole)) + outputs * (len(whole) + len(selected))


def _written(found: list[Pool], virtual: bool) -> list[Pool]:
    return [p for p in found if not (virtual and p.name in _READ_BY_TRAININGS)]


def _rooms(found: list[Pool], virtual: bool, bank: int) -> int:
    own = sum(p.mixtures for p in _written(found, virtual))
    return own + min(bank, sum(p.mixtures for p in found) - own)


def _seconds_of(found: list[Pool], *names: str) -> float:
    return sum(p.mixtures * p.mixture_s for p in found if p.name in names)


def _number_of(found: list[Pool], *names: str) -> int:
    return sum(p.mixtures for p in found if p.name in names)


def bytes_of(
    found: list[Pool],
    fs: int,
    channels: int,
    virtual: bool,
    bank: int,
    flac: bool = False,
    later: Later = _DEFAULT,
) -> dict[str, float]:
    """Return bytes by what they are for; mixtures have two talkers' images beside their channels."""
    share = _FLAC_MIXTURE if flac else 1.0
    seconds = sum(p.mixtures * p.mixture_s for p in _written(found, virtual))
    by_name = {p.name: p for p in found}
    heard = 0.0  # seconds of one channel: the microphone and each talker's image, of one talker and of two
    for name, number in zip(("labelled", "dev"), later.asr_rooms, strict=True):
        p = by_name[name]
        heard += number * (2 * p.hours * 3600 / max(p.utterances, 1) + 3 * p.mixture_s)
    # A room of one talker has half the responses.
    heard_rooms = sum(later.asr_rooms) * (2 * _SCENE_BYTES + 1.5 * _RIR_BYTES * fs / 8000 / 4)
    return {
        "speech": 0.0 if fs == FS else _FLAC_SPEECH * 2 * fs * 3600 * sum(p.hours for p in found),
        "scenes": _SCENE_BYTES * sum(p.mixtures for p in found),
        "rooms": _RIR_BYTES * _rooms(found, virtual, bank) * fs / 8000 * channels / 4,
        "mixtures": share * 2 * fs * (channels + _TALKERS) * seconds,
        "pseudo-targets": later.labellings * _TALKERS * _FLOAT * fs * _seconds_of(found, "train", "dev"),
        "recogniser": share * 2 * fs * heard + heard_rooms,
        "separated": later.streams * _FLOAT * fs * _seconds_of(found, "test"),
    }


def files_of(found: list[Pool], fs: int, virtual: bool, bank: int, later: Later = _DEFAULT) -> dict[str, int]:
    """Return the number of files by what they are for."""
    return {
        "speech": 0 if fs == FS else sum(p.utterances for p in found),
        "scenes": len(found),
        "rooms": _rooms(found, virtual, bank),
        # mix, spk1, spk2 and the record that it is done
        "mixtures": 4 * sum(p.mixtures for p in _written(found, virtual)),
        "pseudo-targets": later.labellings * _TALKERS * _number_of(found, "train", "dev"),
        "recogniser": (4 + 5) * sum(later.asr_rooms),  # their rooms as well
        "separated": later.streams * _number_of(found, "test"),
    }


def core_hours_of(
    found: list[Pool], fs: int, channels: int, virtual: bool, bank: int, later: Later = _DEFAULT
) -> dict[str, float]:
    """Return hours of one core by what they are for; costs grow with rate and number of microphones."""
    scale = fs / 8000 * channels / 4
    rendered = sum(p.mixtures * p.mixture_s for p in _written(found, virtual))
    labelled = later.labellings * _seconds_of(found, "train", "dev")
    return {
        "speech": _READ_S * sum(p.hours for p in found),
        "rooms": _RIR_S * scale * _rooms(found, virtual, bank) / 3600,
        "mixtures": _CONVOLVE_S * scale * rendered / 3600,
        "pseudo-targets": _LABEL_S * scale * labelled / 3600,
    }
