"""Whisper on read English that nobody mixed: word errors, and seconds of one core for each utterance.

    python -m benchmarks.whisper --asr_whisper MODEL --corpus LibriSpeech/test-other --fs 8000

The corpus has LibriSpeech's layout, ``TALKER/CHAPTER/*.flac`` and ``*.trans.txt``. Utterances go through the
network one by one, as streams of one length each do; both texts are normalised as Whisper's are. Loading is
not timed. With ``--fs`` they are brought to that rate first, as the streams of a separator of that rate are.
"""

import argparse
import time
from pathlib import Path

import torch

from frontend.data.audio import read_audio
from frontend.dsp.resample import resample
from frontend.evaluation.wer import as_line, rates
from frontend.recognition.model import Recogniser
from frontend.recognition.text import utterance_errors
from frontend.recognition.whisper import ENGLISH, complete_options, find_whisper
from frontend.utils.errors import UserError, run
from frontend.utils.parallel import progress


def read_corpus(folder: Path) -> list[tuple[Path, str]]:
    """Return (file, what is said in it) of every utterance whose audio is there."""
    found = []
    for path in sorted(folder.rglob("*.trans.txt")):
        for line in path.read_text().splitlines():
            key, _, text = line.partition(" ")
            if (audio := path.parent / f"{key}.flac").is_file():
                found.append((audio, text))
    if not found:
        raise UserError(f"{folder}: expected TALKER/CHAPTER/*.trans.txt and *.flac, found none of a kind")
    return found


def main() -> None:
    """Recognise, count, print a line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--asr_whisper", required=True, help="a size, or a directory with model.bin")
    parser.add_argument("--corpus", required=True, type=Path, help="a part of LibriSpeech, with transcripts")
    parser.add_argument("--fs", type=int, default=16000, help="rate of the streams (default: %(default)s)")
    parser.add_argument("--beam_size", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--compute_type", default="float32", help="default: %(default)s")
    parser.add_argument("--num", type=int, help="utterances at most")
    args = parser.parse_args()
    torch.set_num_threads(1)
    options = {"beam_size": args.beam_size, "compute_type": args.compute_type}
    recogniser = Recogniser(find_whisper(args.asr_whisper), complete_options(options, "command line"))
    rows, audio_s, cpu_s = [], 0.0, 0.0
    utterances = read_corpus(args.corpus)[: args.num]
    for number, (path, text) in enumerate(progress(utterances, len(utterances), "recognise")):
        audio, fs = read_audio(path)
        streams = resample(resample(audio[:1], fs, args.fs), args.fs, recogniser.fs)
        if not number:
            recogniser(streams, recogniser.fs)  # loads the model
        start = time.process_time()
        [words] = recogniser(streams, recogniser.fs)
        cpu_s += time.process_time() - start
        audio_s += streams.shape[1] / recogniser.fs
        rows.append(utterance_errors([text], [words], how=ENGLISH))
    print(f"{len(rows)} utterances of {audio_s / len(rows):.1f} s at {args.fs} Hz: {as_line(rates(rows, 0))}")
    print(f"{cpu_s / len(rows):.2f} s of one core an utterance, {cpu_s / audio_s:.3f} of its length")


if __name__ == "__main__":
    run(main, "benchmarks.whisper")
