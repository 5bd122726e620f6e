"""A stand-in for LibriSpeech: its layout, filled with other speech or with made-up voices."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from speech_sets import voice

from frontend.utils.rng import generator

SUBSETS = ("train-clean-360", "train-clean-100", "dev-clean", "test-clean")
_SHARES = (0.5, 0.2, 0.15, 0.15)  # of the talkers


def write_utterance(
    root: Path, subset: str, speaker: int, chapter: int, number: int, signal, text: str
) -> Path:
    """Add one utterance of 16 kHz to a tree; return its FLAC file."""
    folder = root / subset / str(speaker) / str(chapter)
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{speaker}-{chapter}-{number:04d}"
    with open(folder / f"{speaker}-{chapter}.trans.txt", "a", encoding="utf-8") as file:
        file.write(f"{name} {text}\n")
    soundfile.write(folder / f"{name}.flac", np.asarray(signal), 16000, subtype="PCM_16")
    return folder / f"{name}.flac"


def made_up_librispeech(path: Path, speakers: int = 3, each: int = 3, seconds: float = 3.2) -> Path:
    """Write a tree of bursts of noise: ``speakers`` a subset, ``each`` utterances of ``seconds`` or more."""
    for k, subset in enumerate(SUBSETS):
        for speaker in range(100 * (k + 1), 100 * (k + 1) + speakers):
            for number in range(each):
                name = f"{speaker}-{number}"
                signal = voice(name, seconds + generator(3, name).random(), 16000)
                write_utterance(
                    path, subset, speaker, 7 + speaker, number, signal, f"WORDS OF {speaker} {number}"
                )
    (path / "SPEAKERS.TXT").write_text("; a table of speakers\n")
    return path


def made_up_slice(path: Path, talkers: int = 8, seconds: float = 9.0) -> Path:
    """Write a tree like a part of LibriSpeech: train-clean-100 with an utterance a talker and no transcripts.

    The first of them lasts 2.5 s, the others ``seconds`` to one more; test-other has 3 talkers, with
    transcripts.
    """
    for number in range(talkers):
        name = f"{100 + number}-0"
        length = 2.5 if number == 0 else seconds + generator(3, name).random()
        write_utterance(path, "train-clean-100", 100 + number, 7, 0, voice(name, length, 16000), "")
    for transcript in path.glob("train-clean-100/*/*/*.trans.txt"):
        transcript.unlink()
    for speaker in range(300, 303):
        for number in range(3):
            signal = voice(f"{speaker}-{number}", 2.5 + number, 16000)
            write_utterance(path, "test-other", speaker, 9, number, signal, f"WORDS OF {speaker} {number}")
    table = [f"{100 + k} | {'FM'[k % 2]} | train-clean-100 | 25.0 | Somebody" for k in range(talkers)]
    (path / "SPEAKERS.TXT").write_text("; a table of speakers\n" + "\n".join(table) + "\n")
    return path


def standin_librispeech(path: Path, corpus: Path, each: int = 20, talkers: int = 60) -> Path:
    """Write a tree of LibriSpeech's layout from speechocean762, half of the talkers in train-clean-360.

    Args:
        path: the folder to make; it then holds the four subsets.
        corpus: of speechocean762, such as ``shared/corpora/speechocean762``.
        each: utterances a talker at most.
        talkers: at most, in the order of their ids.
    """
    wav, text, utt2spk = ({} for _ in range(3))
    for part in ("train", "test"):
        for name, table in (("wav.scp", wav), ("text", text), ("utt2spk", utt2spk)):
            lines = (corpus / part / name).read_text(encoding="utf-8").splitlines()
            table.update(line.replace("\t", " ").split(maxsplit=1) for line in lines)
    speakers: dict[str, list[str]] = {}
    for name in sorted(wav):
        speakers.setdefault(utt2spk[name], []).append(name)
    for speaker, subset in zip(
        sorted(speakers)[:talkers], _subsets(min(talkers, len(speakers))), strict=False
    ):
        for number, name in enumerate(speakers[speaker][:each]):
            signal = soundfile.read(corpus / wav[name])[0]
            write_utterance(path, subset, int(speaker), 1, number, signal, text[name].upper())
    (path / "SPEAKERS.TXT").write_text("; a table of speakers\n")
    return path


def _subsets(talkers: int) -> Sequence[str]:
    counts = [max(2, round(share * talkers)) for share in _SHARES]
    counts[0] = talkers - sum(counts[1:])
    return [subset for subset, count in zip(SUBSETS, counts, strict=True) for _ in range(count)]
