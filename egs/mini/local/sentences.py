"""What is said in the corpora of this recipe: strings of 3 to 6 digits, and short commands."""

import numpy as np

FS = 8000  # Hz, of all speech of this recipe

DIGITS = "ZERO ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE".split()

_SLOTS = {
    "ROOM": ["KITCHEN", "BEDROOM", "OFFICE", "GARDEN", "BATHROOM", "HALL"],
    "THING": ["LIGHT", "RADIO", "HEATING", "TELEVISION", "FAN", "ALARM"],
    "SWITCH": ["ON", "OFF"],
    "MOVE": ["OPEN", "CLOSE", "LOCK"],
    "PLACE": ["DOOR", "WINDOW", "GATE", "CURTAINS"],
    "NUMBER": DIGITS[2:],
    "UNIT": ["MINUTES", "HOURS", "SECONDS"],
    "NAME": ["ANNA", "DAVID", "MARIA", "PETER", "SUSAN", "MARTIN"],
    "DAY": ["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"],
}
_COMMANDS = [
    "TURN {SWITCH} THE {THING} IN THE {ROOM}",
    "PLEASE TURN THE {ROOM} {THING} {SWITCH}",
    "PLEASE {MOVE} THE {ROOM} {PLACE}",
    "{MOVE} THE {PLACE} IN THE {ROOM}",
    "SET THE ALARM FOR {NUMBER} ON {DAY}",
    "SET A TIMER FOR {NUMBER} {UNIT}",
    "CALL {NAME} AT {NUMBER} ON {DAY}",
    "REMIND {NAME} IN {NUMBER} {UNIT}",
    "SET THE {ROOM} {THING} TO {NUMBER}",
]


def digit_string(rng: np.random.Generator, shortest: int = 3, longest: int = 6) -> list[int]:
    """Draw a string of ``shortest`` to ``longest`` digits."""
    return [int(d) for d in rng.integers(0, 10, rng.integers(shortest, longest + 1))]


def sentence(rng: np.random.Generator) -> str:
    """Draw a digit string or a command, upper-case words; one in two is a digit string."""
    if rng.random() < 0.5:
        return " ".join(DIGITS[d] for d in digit_string(rng))
    command = _COMMANDS[rng.integers(len(_COMMANDS))]
    return command.format(**{slot: words[rng.integers(len(words))] for slot, words in _SLOTS.items()})
