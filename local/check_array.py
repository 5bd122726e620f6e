"""Check, before the long work, that an array has as many microphones as talk at once.

usage: check_array.py SCENES.yaml TALKERS [CHANNELS]

AuxIVA and ILRMA make no more streams than there are microphones, and the labels are refined by AuxIVA. One
microphone is allowed: its rows and rules are others (conf/*_1ch.yaml).
"""

import sys

from frontend.simulation.config import load_config
from frontend.utils.errors import UserError, run


def main() -> None:
    scenes, talkers, channels = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    microphones = len(load_config(scenes, channels=int(channels[0]) if channels else None).array.offsets())
    if 1 < microphones < talkers:
        raise UserError(
            f"--talkers: expected at least {talkers} microphones for {talkers} talkers, or one, found "
            f"{microphones} ({'--channels' if channels else scenes}); AuxIVA makes no more streams than that"
        )


if __name__ == "__main__":
    run(main)
