"""Have espeak-ng read to the recogniser: the training sentences, and new ones of their words.

    python local/read_aloud.py --text data/NAME/speech/train/text --num 3000 --out data/NAME/read_aloud

One hour of recordings does not teach a recogniser its letters: with CTC alone it is still at nothing after
thousands of steps, and begins to spell within one epoch where clear voices read along. Every other utterance
is a sentence of the text; the others are words of it in random order, each as likely as any other. The same
seed gives the same speech. Makes OUT/train in Kaldi form.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import frontend
from frontend.data.kaldi import read_scp
from frontend.data.speech import check_out, normalise, trim, write_sets
from frontend.dsp.resample import resample
from frontend.utils.errors import Parser, UserError, run
from frontend.utils.parallel import number_of_processes
from frontend.utils.rng import generator

sys.path.append(str(Path(frontend.__file__).parents[1] / "egs/mini/local"))  # its voices

from espeak import Voice, draw_voices, synthesise  # noqa: E402

_VOICES = 40
_WORDS = (4, 7)  # of a sentence in random order
_HASTE = (-10, 30)  # words a minute faster than the voice of egs/mini, whose commands are spoken slowly


@dataclass(frozen=True)
class ReadSentence:
    """One utterance; :meth:`render` makes its audio."""

    id: str
    text: str
    voice: Voice
    rate: int
    fs: int

    @property
    def speaker(self) -> str:
        """Id of the talker, which no recorded one has."""
        return f"espeak_{self.voice.speaker}"

    def render(self) -> np.ndarray:
        """Return the speech ``(T,)`` at ``fs`` Hz, trimmed, at the common level."""
        voice = self.voice
        signal, fs = synthesise(
            self.text.lower(), voice.language, voice.variant, self.rate, voice.pitch, voice.intonation
        )
        return normalise(trim(resample(signal, fs, self.fs), self.fs), self.fs)


def plan(sentences: list[str], number: int, seed: int, fs: int) -> list[ReadSentence]:
    """Return who reads what: ``number`` utterances.

    The voices take turns, as sentences and words do: of an even number of voices one half reads sentences,
    the other words.
    """
    voices = draw_voices(seed, {"train": min(_VOICES, number)})["train"]
    words = sorted({word for sentence in sentences for word in sentence.split()})
    planned = []
    for i in range(number):
        voice, rng = voices[i % len(voices)], generator(seed, "read aloud", i)
        text = sentences[i // 2 % len(sentences)]
        if i % 2:
            text = " ".join(rng.choice(words, rng.integers(_WORDS[0], _WORDS[1] + 1)))
        haste = int(rng.integers(_HASTE[0], _HASTE[1] + 1))
        planned.append(ReadSentence(f"espeak_{voice.speaker}-{i:06d}", text, voice, voice.rate + haste, fs))
    return planned


def main() -> None:
    """Check, plan, render."""
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--text", type=Path, required=True, help="Kaldi text of the training utterances")
    parser.add_argument("--num", type=int, required=True, help="utterances to make")
    parser.add_argument("--out", type=Path, required=True, help="such as data/NAME/read_aloud")
    parser.add_argument(
        "--fs", type=int, choices=(8000, 16000), default=8000, help="Hz (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--nj", type=number_of_processes, default=1, help="processes (default: %(default)s)")
    args = parser.parse_args()
    check_out(args.out, ("train",))
    if args.num < 2:
        raise UserError(f"--num {args.num}: expected at least 2, of two voices")
    utterances = plan(list(read_scp(args.text).values()), args.num, args.seed, args.fs)
    seconds = write_sets(args.out, {"train": utterances}, args.fs, args.nj)["train"]
    print(f"{args.out}/train: {args.num} utterances of espeak-ng voices, {seconds / 60:.1f} min")


if __name__ == "__main__":
    run(main)
