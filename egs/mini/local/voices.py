"""The talkers that espeak-ng can play: accent x variant x pitch x rate, drawn at random, balanced."""

from dataclasses import dataclass

from frontend.utils.errors import UserError
from frontend.utils.rng import generator

# Left out by name: no voice (whisper whisperf caleb), a croaking or raspy one (croak grandpa fast ian john
# "Mr serious" Tweaky), robots and echoes (robosoft* UniRobot anikaRobot Demonic announcer RicishayMax*),
# the Klatt synthesiser (klatt* Reed adam benjamin david edward* mike2), a cartoon child (zac), an accent of
# its own (Storm), and all but one of near-twins (steph2 steph3, iven2-4, Gene2, Henrique Hugo, miguel,
# AnxiousAndy).
FEMALE = "Alicia Andrea Annie anika aunty belinda f1 f2 f3 f4 f5 grandma linda shelby steph".split()
MALE = (
    "Alex Andy Denis Diogo Gene Jacky Lee Marco Mario Michael Mike Nguyen antonio boris ed gustave iven "
    "kaukovalta m1 m2 m3 m4 m5 m6 m7 m8 marcelo max michel norbert pablo paul pedro quincy rob robert "
    "sandro travis victor"
).split()

ACCENTS = {
    "gb": "gmw/en",
    "caribbean": "gmw/en-029",
    "scotland": "gmw/en-GB-scotland",
    "lancaster": "gmw/en-GB-x-gbclan",
    "midlands": "gmw/en-GB-x-gbcwmd",
    "rp": "gmw/en-GB-x-rp",
    "us": "gmw/en-US",
    "nyc": "gmw/en-US-nyc",
}


@dataclass(frozen=True)
class Voice:
    """A talker: how :func:`espeak.synthesise` is to sound, and the id of the speaker."""

    speaker: str
    gender: str
    language: str
    variant: str
    rate: int
    pitch: int
    intonation: int


def draw_voices(seed: int, numbers: dict[str, int]) -> dict[str, list[Voice]]:
    """Draw the talkers of each set: half of them women, no variant in two sets.

    Args:
        seed: of the draw.
        numbers: talkers of each set; the first may use a variant with several accents, so that its
            number can exceed that of the variants left.

    Raises:
        UserError: more talkers than there are.
    """
    sets: dict[str, list[Voice]] = {name: [] for name in numbers}
    first = next(iter(numbers))
    for gender, variants in (("f", FEMALE), ("m", MALE)):
        wanted = {k: n // 2 if gender == "m" else n - n // 2 for k, n in numbers.items()}
        left = [variants[i] for i in generator(seed, gender, "variants").permutation(len(variants))]
        for name in [k for k in numbers if k != first] + [first]:
            take = len(left) if name == first else wanted[name]
            chosen, left = left[:take], left[take:]
            most = len(chosen) * (len(ACCENTS) if name == first else 1)
            if wanted[name] > most:
                raise UserError(
                    f"{name}: {numbers[name]} voices asked for, more than espeak-ng has (ask for fewer)"
                )
            sets[name] += [
                _draw_voice(seed, gender, chosen[i % len(chosen)], i // len(chosen))
                for i in range(wanted[name])
            ]
    return sets


def _draw_voice(seed: int, gender: str, variant: str, turn: int) -> Voice:
    """Return the ``turn``-th talker that is made from a variant; each has another accent."""
    accents = list(ACCENTS)
    accent = accents[generator(seed, variant, "accent").permutation(len(accents))[turn]]
    rng = generator(seed, variant, accent, "manner")
    return Voice(
        speaker=f"{variant.lower()}_{accent}",
        gender=gender,
        language=ACCENTS[accent],
        variant=variant,
        rate=int(rng.integers(105, 151)),
        pitch=int(rng.integers(35, 66)),
        intonation=int(rng.integers(35, 71)),
    )
