"""The page to listen to as one HTML document: style and script are in it, audio and pictures beside it."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from frontend.listen_choice import DISAGREE, KINDS
from frontend.listen_examples import Example, Text
from frontend.listen_figures import example_section, marked
from frontend.listen_html import Html, element, join
from frontend.listen_table import results_table
from frontend.markdown import NOTHING, duration

_ASSETS = Path(__file__).parent / "page_assets"
_POLICY = (
    "default-src 'none'; img-src 'self' file:; media-src 'self' file:; style-src 'sha256-{}'; "
    "script-src 'sha256-{}'; base-uri 'none'; form-action 'none'"
)
_SORTING = (
    "Press a heading to sort by it: up, down, then as the method unfolds again. SI-SNRi is the improvement "
    "over the unprocessed mixture, with a 95 % interval over utterances."
)
_COUNTING = (
    " cpWER counts the word errors of all talkers under the best assignment of streams to talkers; inserted, "
    "deleted and substituted words are in percent of the words that were said."
)
_LISTENING = (
    "The streams of all other systems lie in the experiment's directory separated. A stream is shown with "
    "the talker that the best SI-SNR gives it. All players of an utterance share one gain, so that levels "
    "can be compared; it is 1 unless something would clip in 16 bits. With a mouse, press a picture to hear "
    "the signal from there."
)


@dataclass(frozen=True)
class Page:
    """All that the page shows.

    Attributes:
        results: what ``results.json`` holds.
        experiment: name of the one that is played.
        main: the system that utterances are chosen by.
        played: names of the systems.
        examples: utterances, in the order of choice.
        plots: heading, file and description of each.
        words: whether word errors were counted.
    """

    results: Mapping
    experiment: str
    main: str
    played: Sequence[str]
    examples: Sequence[Example]
    plots: Sequence[tuple[str, str, str]]
    words: bool


def render(page: Page) -> str:
    """Return the document."""
    title = f"Separation results: {', '.join(page.results['experiments'])}"
    style, script = (Html((_ASSETS / name).read_text(encoding="utf-8")) for name in ("style.css", "page.js"))
    head = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", style),
    ]
    parts = [element("h1", title), _intro(page), _table(page), _plots(page), _examples(page)]
    body = [
        element("a", "Skip to the utterances", href="#listen", class_="skip"),
        element("main", [part for part in parts if part]),
        element("script", script),
    ]
    return (
        "<!DOCTYPE html>\n" + element("html", element("head", head), element("body", body), lang="en") + "\n"
    )


def _policy(style: str, script: str) -> str:
    """Allow what is in the page and beside it, and no request anywhere else.

    A page opened from disk has no origin for 'self' to mean, in some browsers: ``file:`` stands beside it.
    """
    hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script))
    return _POLICY.format(*hashes)


def _intro(page: Page) -> Html:
    results = page.results
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    facts = {
        "command": element("code", results["command"]),
        "date": results["date"],
        "commit": results["commit"] or NOTHING,
        "versions": versions,
        "machine": results["machine"],
        "seed": str(results["seed"]),
        "wall time": duration(sum(results["stages"].values())),
    }
    pairs = [element("div", element("dt", key), element("dd", value)) for key, value in facts.items()]
    warning = "Quick run: too little data and training, its numbers mean nothing."
    return join(
        [
            element("p", element("strong", warning), class_="warning") if results["quick"] else "",
            element(
                "details", element("summary", "Where this comes from"), element("dl", pairs, class_="facts")
            ),
        ]
    )


def _table(page: Page) -> Html:
    sets = [
        element(
            "li",
            "{experiment}: {n} mixtures of {talkers} talkers, {channels} channels, {fs} Hz".format(**one),
        )
        for one in page.results["test_sets"]
    ]
    reading = _SORTING + (_COUNTING if page.words else "")
    return element(
        "section",
        element("h2", "Systems"),
        element("ul", sets, class_="note"),
        element("p", reading, class_="note"),
        results_table(page.results["rows"]),
    )


def _plots(page: Page) -> Html:
    """Return the plots; each is a link to itself, for a screen on which it is small."""
    plots = [
        element(
            "section",
            element("h2", title),
            element("a", element("img", src=source, alt=alt, loading="lazy"), href=source, class_="plot"),
        )
        for title, source, alt in page.plots
    ]
    return element("div", plots, class_="plots") if plots else Html()


def _examples(page: Page) -> Html:
    order = list(KINDS)
    shown = sorted(page.examples, key=lambda one: order.index(one.kind))  # stable: as they were chosen
    sections = [example_section(one, n, page.main, n == 1) for n, one in enumerate(shown, 1)]
    return element(
        "section",
        element("h2", "Utterances to listen to", id="listen", tabindex="-1"),
        _rule(page, len(shown)),
        _legend() if page.words else "",
        element("p", element("button", "Open all", type="button", id="unfold"), class_="unfold"),
        sections,
    )


def _rule(page: Page, count: int) -> Html:
    kinds = [key for key in KINDS if page.words or key != DISAGREE]
    rules = [element("div", element("dt", key), element("dd", KINDS[key])) for key in kinds]
    taking = (
        f"{count} test utterances of {page.experiment}, chosen by what {page.main} made of them. These kinds "
        "take turns, each with the next of its own order that no other has taken:"
    )
    playing = f"Played: {', '.join(page.played)}. {_LISTENING}"
    return join(
        [element("p", taking), element("dl", rules, class_="facts"), element("p", playing, class_="note")]
    )


def _legend() -> Html:
    sample = Text("Words", [("said", "said"), (None, "added"), ("missed", None), ("meant", "heard")])
    meaning = (
        "As recognised; inserted; said but deleted; substituted for what was said. Spelling is normalised."
    )
    return element("div", marked(sample), element("p", meaning, class_="note"), class_="legend")
