"""Recorded single digits (FSDD, AudioMNIST) joined into strings of one talker."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sentences import DIGITS, FS, digit_string

from frontend.data.audio import audio_info, read_audio
from frontend.data.speech import normalise, split_speakers, trim
from frontend.dsp.resample import resample
from frontend.utils.errors import UserError
from frontend.utils.rng import generator

SETS = ("train", "dev", "test")
SHARES = {"test": 0.2, "dev": 0.15, "train": 0.65}  # of the talkers of AudioMNIST
_SHORTEST, _LONGEST = 4, 6  # digits a string: about 2 to 4 s
_PAUSE_S = (0.05, 0.25)
_FADE = FS // 200  # 5 ms, against clicks where a recording begins or ends in noise

_NAME = re.compile(r"(?P<digit>[0-9])_(?P<speaker>[^_]+)_(?P<index>[0-9]+)\.wav")

# recordings of each talker and digit: {speaker: {digit: [path, ...]}}
Pool = dict[str, dict[int, list[str]]]


@dataclass(frozen=True)
class JoinedDigits:
    """One utterance: recordings of single digits with pauses (in samples) between them."""

    id: str
    speaker: str
    text: str
    files: tuple[str, ...]
    pauses: tuple[int, ...]

    def render(self) -> np.ndarray:
        """Return the speech ``(T,)`` at 8 kHz; its digits keep the relative levels they were recorded at."""
        pieces = []
        for file, pause in zip(self.files, (*self.pauses, 0), strict=True):
            signal, fs = read_audio(file, finite=True)
            digit = trim(resample(signal[0].astype(np.float64), fs, FS), FS)
            fade = np.minimum(1.0, (np.arange(len(digit)) + 1) / _FADE)
            pieces += [digit * fade * fade[::-1], np.zeros(pause)]
        return normalise(trim(np.concatenate(pieces), FS), FS)


def plan_fsdd(corpus: Path, seed: int, sizes: dict[str, int]) -> dict[str, list[JoinedDigits]]:
    """Plan sets from the Free Spoken Digit Dataset: its own test part (indices 0-4), dev 5-9, train the rest.

    Every talker is in all three sets, as its official split has it.
    """
    found = _find(corpus, "recordings", "*.wav", "recordings/{digit}_{speaker}_{index}.wav")
    parts = {"test": range(0, 5), "dev": range(5, 10), "train": range(10, 10**9)}
    pools: dict[str, Pool] = {}
    for name in SETS:
        pools[name] = _pool([f for f in found if int(f[0]["index"]) in parts[name]], corpus, name)
    return {name: _strings(pools[name], seed, name, sizes[name]) for name in SETS}


def plan_audiomnist(corpus: Path, seed: int, sizes: dict[str, int]) -> dict[str, list[JoinedDigits]]:
    """Plan sets from AudioMNIST with different talkers in each: about 65 % train, 15 % dev, 20 % test."""
    found = _find(corpus, "data", "*/*.wav", "data/NN/{digit}_NN_{index}.wav")
    speakers = sorted({match["speaker"] for match, _ in found})
    if len(speakers) < 6:
        raise UserError(f"{corpus}: expected 6 talkers or more, found {len(speakers)}: {' '.join(speakers)}")
    # Each gender's share is about the same in every set, with at least 2 talkers in each.
    parts = split_speakers(speakers, _genders(corpus, speakers), SHARES, seed)
    pools = {k: _pool([f for f in found if f[0]["speaker"] in parts[k]], corpus, k) for k in SETS}
    return {name: _strings(pools[name], seed, name, sizes[name]) for name in SETS}


def _find(corpus: Path, folder: str, glob: str, layout: str) -> list[tuple[re.Match, str]]:
    """Return (what the name says, path) of the corpus's recordings, sorted by path."""
    if not corpus.is_dir():
        raise UserError(f"--corpus_dir {corpus}: no such directory (give the one that holds {folder}/)")
    matches = ((_NAME.fullmatch(p.name), p.as_posix()) for p in sorted((corpus / folder).glob(glob)))
    found = [(match, path) for match, path in matches if match]
    if not found:
        raise UserError(f"--corpus_dir {corpus}: expected {layout} in it, found none (check the path)")
    return found


def _pool(found: list[tuple[re.Match, str]], corpus: Path, name: str) -> Pool:
    """Sort recordings by talker and digit; each talker must have all ten, of one channel."""
    pool: Pool = {}
    for match, path in found:
        pool.setdefault(match["speaker"], {}).setdefault(int(match["digit"]), []).append(path)
        if audio_info(path)[0] != 1:
            raise UserError(f"{path}: expected 1 channel, found {audio_info(path)[0]}")
    if len(pool) < 2:
        raise UserError(
            f"{corpus}: expected 2 talkers or more for {name}, found {len(pool)} (is it complete?)"
        )
    for speaker, digits in pool.items():
        for missing in sorted(set(range(10)) - digits.keys())[:1]:
            raise UserError(
                f"{corpus}: no recording of {missing} by {speaker} for {name} (is the corpus complete?)"
            )
    return pool


def _strings(pool: Pool, seed: int, name: str, number: int) -> list[JoinedDigits]:
    """Draw digit strings; the talkers take turns."""
    speakers = sorted(pool)
    utterances = []
    for index in range(number):
        turn, who = divmod(index, len(speakers))
        speaker = speakers[who]
        key = f"{speaker}-{name}-{turn:04d}"
        rng = generator(seed, key, "digits")
        digits = digit_string(rng, _SHORTEST, _LONGEST)
        files = tuple(pool[speaker][d][rng.integers(len(pool[speaker][d]))] for d in digits)
        pauses = tuple(int(FS * p) for p in rng.uniform(*_PAUSE_S, len(digits) - 1))
        utterances.append(JoinedDigits(key, speaker, " ".join(DIGITS[d] for d in digits), files, pauses))
    return utterances


def _genders(corpus: Path, speakers: list[str]) -> dict[str, str]:
    """Read the talkers' genders from the corpus's own table; without it all count as one group."""
    path = corpus / "data" / "audioMNIST_meta.txt"
    if not path.exists():
        print(f"no {path}: the talkers are split without regard to gender")
        return dict.fromkeys(speakers, "")
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {speaker: str(table[speaker]["gender"]) for speaker in speakers}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(
            f'{path}: expected JSON {{"NN": {{"gender": ...}}}}, found otherwise: {error!r}'
        ) from None
