"""Make a Kaldi set to train a recogniser on, from dry speech and talkers in rooms, or from separated streams.

    python -m frontend.bin.asr_data --speech data/speech/train --rooms data/asr_train_rooms1 \\
        --rooms data/asr_train_rooms2 --out data/asr_train
    python -m frontend.bin.asr_data --separated --data data/train --streams exp/separated/train/student \\
        --decoded exp/decoded_train/student --out data/asr_train_separated

With --separated, the hypotheses of a first recogniser decide which stream says which of a mixture's
transcripts, by the fewest word errors: that needs transcripts, but no clean source. Mixtures where
they do not decide are left out. No audio is copied.
"""

import argparse

from frontend.utils.errors import UserError, run

_OPTIONS = {
    "speech": "speech set (dry): wav.scp text utt2spk; several times",
    "rooms": "mixture set of one channel, of which each talker is heard alone; several times",
    "data": "mixture set with text_spk1, text_spk2 ...",
    "streams": "a system's streams of it: spk1.scp, spk2.scp ...",
    "decoded": "their hypotheses: text_spk1, text_spk2 ...",
}
_SETS, _SEPARATED = ("speech", "rooms"), ("data", "streams", "decoded")


def main() -> None:
    """Parse, make, say how much."""
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--separated", action="store_true", help="make it of separated streams")
    for name, text in _OPTIONS.items():
        several = {"action": "append"} if name in _SETS else {}
        parser.add_argument(f"--{name}", metavar="DIR", help=text, **several)
    parser.add_argument("--without", metavar="DIR", help="with --separated: mixtures that are not taken")
    parser.add_argument("--out", required=True, metavar="DIR", help="data directory to make")
    args = parser.parse_args()
    wanted, others = (_SEPARATED, _SETS) if args.separated else (_SETS, _SEPARATED)
    how = "with" if args.separated else "without"
    for name in wanted:
        if getattr(args, name) is None:
            raise UserError(f"--{name} DIR is missing ({how} --separated): {_OPTIONS[name]}")
    for name in others:
        if getattr(args, name) is not None:
            raise UserError(
                f"--{name} {how} --separated: expected {', '.join(f'--{w}' for w in wanted)} alone"
            )
    if args.without is not None and not args.separated:
        raise UserError("--without belongs to --separated: leave it out")
    from frontend.recognition.training_sets import (  # late, so that --help is quick
        make_asr_set,
        make_separated_set,
    )

    if args.separated:
        number, left_out = make_separated_set(args.data, args.streams, args.decoded, args.out, args.without)
        print(f"{args.out}: {number} streams of {args.data}; {left_out} mixtures left out as undecided")
    else:
        number = make_asr_set(args.speech, args.rooms, args.out)
        print(f"{args.out}: {number} utterances of {', '.join([*args.speech, *args.rooms])}")


if __name__ == "__main__":
    run(main)
