"""An utterance of the page as HTML: players, spectrograms, and words with their errors marked."""

from collections.abc import Sequence
from urllib.parse import quote

import numpy as np

from frontend.alignments import mark
from frontend.listen_choice import FOLDED, KINDS
from frontend.listen_examples import Block, Clip, Example, Text
from frontend.listen_html import Html, element, join
from frontend.listen_media import RANGE_DB
from frontend.markdown import number

_TITLES = {"oracle": "references", "dry": "clean dry speech"}
_NOTES = {
    "mixture": "not processed",
    "oracle": "row oracle: each talker alone, as the microphone hears it",
    "dry": "not played: the recogniser's own errors",
    "joint": "heard by a recogniser of its own",
}


def example_section(example: Example, number_: int, main: str, opened: bool) -> Html:
    """Return one utterance, folded unless ``opened``."""
    block = next((one for one in example.blocks if one.system == main), None)
    summary = element(
        "summary",
        element("h3", example.id),
        element("span", example.kind, class_="kind", title=KINDS[example.kind]),
        element("span", _numbers(block, f"{main}: ") if block else "", class_="numbers"),
    )
    texts = [
        element("div", element("dt", name), element("dd", text or "(no text)"))
        for name, text in example.talkers
    ]
    content = [
        summary,
        element("dl", texts, class_="talkers"),
        element("p", _about(example), class_="note", data_gain=repr(example.gain)),
        [_block(one, example) for one in example.blocks if one.system == main or one.system not in FOLDED],
        _more([one for one in example.blocks if one.system != main and one.system in FOLDED], example),
    ]
    return element("details", content, class_="example", id=f"utterance-{number_}", open=opened)


def _more(blocks: Sequence[Block], example: Example) -> Html | str:
    """Return what of an utterance is folded even where the utterance is not."""
    if not blocks:
        return ""
    summary = element("summary", f"more systems: {', '.join(one.system for one in blocks)}")
    return element("details", summary, [_block(one, example) for one in blocks], class_="more")


def marked(text: Text) -> Html:
    """Return recognised words with insertions, deletions and substitutions marked, in words too."""
    words = join(part for pair in text.pairs for part in (_word(pair), " "))
    if not any(heard for _, heard in text.pairs):
        words = join([element("span", "(nothing recognised) ", class_="note"), words])
    return element("p", element("b", f"{text.title}: "), words, class_="words")


def _word(pair: tuple[str | None, str | None]) -> Html:
    wanted, heard = pair
    kind = mark(pair)
    if kind == "I":
        return element("ins", element("small", "ins "), element("u", heard))
    if kind == "D":
        return element("del", element("small", "del "), element("s", wanted))
    if kind == "S":
        return element(
            "mark", element("small", "sub "), heard, element("small", " for "), element("s", wanted)
        )
    return element("span", heard)


def _about(example: Example) -> str:
    parts = [f"{example.seconds:.2f} s", *example.facts]
    frequency = number(example.fs / 2000, 1).removesuffix(".0")
    parts.append(f"pictures: 0 to {frequency} kHz upwards, {RANGE_DB} dB from dark to bright, alike for all")
    if example.gain < 1:
        parts.append(f"all players turned down by {-20 * np.log10(example.gain):.1f} dB, so that none clips")
    return "; ".join(parts) + "."


def _block(block: Block, example: Example) -> Html:
    note = _NOTES.get(block.system, "")
    head = element(
        "div",
        element("h4", _TITLES.get(block.system, block.system)),
        element("p", note, class_="note") if note else "",
        element("p", _numbers(block), class_="numbers"),
        class_="who",
    )
    clips = [_figure(clip, block.system, example) for clip in block.clips]
    rest = element("div", [marked(text) for text in block.texts], class_="rest") if block.texts else ""
    return element("section", head, element("div", clips, rest, class_="streams"), class_="system")


def _numbers(block: Block, start: str = "") -> str:
    """Return SI-SNRi and word errors of one system, as far as there are any."""
    parts = []
    if block.si_snri is not None and block.system != "mixture":
        parts.append(f"SI-SNRi {number(block.si_snri)} dB")
    if (row := block.errors) is not None:
        kinds = ", ".join(
            f"{row[key]} {key[:3]}" for key in ("insertions", "deletions", "substitutions") if row[key]
        )
        parts.append(f"word errors {row['errors']} of {row['words']}" + (f" ({kinds})" if kinds else ""))
    return start + ", ".join(parts) if parts else ""


def _figure(clip: Clip, system: str, example: Example) -> Html:
    source = quote(f"{example.directory}/{clip.stem}")
    what = f"{_TITLES.get(system, system)}, {clip.title}"
    picture = element(
        "div",
        element("img", src=f"{source}.png", alt=f"Spectrogram of {example.id}: {what}", loading="lazy"),
        element("span", class_="cursor", aria_hidden="true"),
        class_="picture",
    )
    audio = element(
        "audio",
        controls=True,
        preload="none",
        src=f"{source}.wav",
        aria_label=f"{example.id}: {what}",
        data_seconds=f"{example.seconds:.4f}",
    )
    return element("figure", element("figcaption", _caption(clip)), picture, audio, _texts(clip.texts))


def _caption(clip: Clip) -> str:
    gain = f": SI-SNRi {number(clip.si_snri)} dB" if clip.si_snri is not None else ""
    return clip.title + gain + (", silent" if clip.silent else "")


def _texts(texts: Sequence[Text]) -> list[Html]:
    return [marked(text) for text in texts]
