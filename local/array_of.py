"""Print what run.sh has to know of the array that a set was simulated with.

usage: array_of.py SCENES.jsonl

Prints the number of microphones; the symmetry that training may use (``circular``, ``linear``
or ``none``); and ``_1ch`` where there is one microphone, the suffix of the configurations made for it.
Nothing where there are no scenes yet.
"""

import json
import os
import sys

if os.path.exists(sys.argv[1]):
    with open(sys.argv[1], encoding="utf-8") as scenes:
        scene = json.loads(scenes.readline())
    mics, kind = len(scene["mics"]), scene["array"]
    print(mics, kind if kind in ("circular", "linear") else "none", "_1ch" if mics == 1 else "")
