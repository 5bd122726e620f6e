"""The report on separated recordings as Markdown: tables, and how to read them."""

from collections.abc import Mapping

from frontend.markdown import NOTHING, duration, number, table, with_interval

_READING = """\
What stands here is known without any reference. None of it says alone that a separation is good: streams
that are silent, or that share the mixture between them bin by bin, leave no residual either.

- **cpWER**: where transcripts were given, the share of words that are wrong, with the best permutation of
  the streams.
- **residual**: energy of the mixture less the sum of the streams, relative to the mixture. Masks leave
  nothing; what linear filters (AuxIVA) leave is what they cancelled.
- **leakage**: mean over blocks of 8 s of the largest normalised cross-correlation of two streams within 10
  ms; 0 for two talkers, 1 for the same signal twice.
- **one, two ... active**: share of the time with speech in which so many of a system's streams are at most
  20 dB below the mixture (frames of 0.2 s). Streams that all sound all the time are not separated; how much
  they should is the recordings' own overlap.
- **spatial consistency, own / other / random**: the principal direction of the microphones under a stream's
  mask, block by block, compared (squared coherence, mean over frequencies) with that of all other blocks:
  of the same stream, of another stream, and of the same stream where every block's streams are put in a
  random order. Talkers who sit still and keep their streams: own high, other low. Own near random: the
  streams change talkers, or never followed one.
- **changed**: share of the blocks in which all streams sound whose streams fit another order better:
  talkers that have changed streams, for 8 s or for good.
- **MixIT loss**: of the teacher on sums of two held-out chunks each, in dB (0: nothing explained, -3: outputs
  that share the sum evenly, lower is better); what its weights were chosen by. The two are of different
  recordings where there are several: chunks of one have the same talkers in the same places, and are harder
  to tell apart. *Active outputs*: of the teacher on a held-out chunk alone, within 20 dB of it; *surplus*:
  the share of them beyond the number of talkers (over-separation).
"""


def page(report: Mapping) -> str:
    """Return the report as Markdown."""
    recordings = report["recordings"]
    minutes = sum(recordings.values()) / 60
    facts = (
        f"{len(recordings)} recordings, {minutes:.1f} min, "
        f"{report['channels']} channels at {report['fs']} Hz; "
        f"streams for {report['talkers']} talkers; seed {report['seed']}."
    )
    parts = ["# Recordings without references\n", facts + "\n", _systems(report), _teacher(report)]
    parts += ["## How to read this\n", _READING, _each(report), _made(report["made"])]
    return "\n".join(part for part in parts if part)


def _made(made: Mapping) -> str:
    """Where the figures come from."""
    stages = ", ".join(f"{name} {seconds:.0f}" for name, seconds in made["stages"].items())
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    rows = [
        ["command", f"`{made['command']}`" if made["command"] else "—"],
        ["commit", made["commit"] or "—"],
        ["seconds of the stages", stages or "—"],
        ["date", made["date"]],
        ["versions", versions],
        ["machine", made["machine"]],
    ]
    return "## Where this comes from\n\n" + table(["", ""], rows, left=2)


def _systems(report: Mapping) -> str:
    count = _most_streams(report)
    header = ["system", "cpWER, %", "residual, dB", "leakage", *_active_header(count)]
    header += ["own", "other", "random", "changed, %", "RTF"]
    rows = []
    for name, row in report["systems"].items():
        words = report["wer"].get(name, {})
        wer = with_interval(words.get("rate"), words.get("ci"))
        rows.append([f"`{name}`", wer, *_cells(row["all"], count), number(row["rtf"], 3)])
    return "## Systems\n\n" + table(header, rows)


def _most_streams(report: Mapping) -> int:
    """A student may have more streams than there are talkers: all of its activity is shown."""
    found = (len(row["all"]["activity"]["streams"]) for row in report["systems"].values())
    return max(report["talkers"], *found)


def _active_header(count: int) -> list[str]:
    words = dict(enumerate(["no", "one", "two", "three", "four"]))
    return [f"{words.get(k, k)} active, %" for k in range(count + 1)]


def _cells(row: Mapping, count: int) -> list[str]:
    shares = row["activity"]["number"]
    activity = [*shares, *[None] * (count + 1 - len(shares))]
    spatial = row["spatial"] or dict.fromkeys(("own", "other", "random", "changed"))
    return [
        number(row["residual_db"]) if row["residual_db"] > -99 else "none",
        number(row["leakage"], 2),
        *(number(_percent(share), 0) for share in activity),
        *(number(spatial[key], 2) for key in ("own", "other", "random")),
        number(_percent(spatial["changed"]), 0),
    ]


def _teacher(report: Mapping) -> str:
    rows = [
        [
            name,
            number(row["loss"], 2),
            number(row["active_outputs"], 2),
            number(100 * row["surplus"], 0),
            str(row["n"]),
        ]
        for name, row in report["teacher"].items()
    ]
    header = ["teacher", "MixIT loss, dB", "active outputs", "surplus, %", "chunks"]
    return "## Held-out chunks\n\n" + table(header, rows)


def _each(report: Mapping) -> str:
    count = _most_streams(report)
    header = ["recording", "length", "residual, dB", "leakage", *_active_header(count)]
    header += ["own", "other", "random", "changed, %"]
    parts = []
    for name, row in report["systems"].items():
        rows = [
            [recording, duration(one["seconds"]), *_cells(one, count)]
            for recording, one in row["recordings"].items()
        ]
        parts.append(f"<details><summary>{name}</summary>\n\n{table(header, rows)}\n</details>\n")
    return "## Recording by recording\n\n" + "\n".join(parts)


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def summary(report: Mapping) -> str:
    """Return the table of systems for the terminal."""
    columns = ["cpWER, %", "own", "other", "random", "changed, %", "leakage", "RTF"]
    lines = [f"{'system':24}" + "".join(f"{column:>12}" for column in columns)]
    for name, row in report["systems"].items():
        spatial = row["all"]["spatial"] or dict.fromkeys(("own", "other", "random", "changed"))
        cells = [
            number(report["wer"].get(name, {}).get("rate")),
            *(number(spatial[key], 2) for key in ("own", "other", "random")),
            number(_percent(spatial["changed"]), 0),
            number(row["all"]["leakage"], 2),
            number(row["rtf"], 3),
        ]
        lines.append(f"{name:24}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines).replace(NOTHING, "-")
