"""HTML from calls: whatever is no element is text, and escaped."""

import html
from collections.abc import Iterable

_VOID = {"img", "meta", "wbr"}
# A browser drops a line break after these, so that nothing changes and a person can read the source.
_OWN_LINE = {"div", "section", "details", "figure", "table", "tr", "thead", "tbody", "head", "body", "main"}


class Html(str):
    """Markup, in contrast to text that has to be escaped."""


def element(name: str, /, *children: str | Iterable[str], **attributes: str | bool | None) -> Html:
    """Return an element.

    Args:
        name: of the tag.
        children: text, elements, or lists of these.
        attributes: ``class_`` for class, ``data_value`` for data-value; True stands alone, None and False are
            left out.

    >>> element("p", "a < b ", element("b", "c"), class_="x", hidden=True, title='"')
    '<p class="x" hidden title="&quot;">a &lt; b <b>c</b></p>'
    """
    parts = [name]
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            parts.append(key)
        elif value is not None and value is not False:
            parts.append(f'{key}="{html.escape(str(value))}"')
    start = f"<{' '.join(parts)}>"
    if name in _VOID:
        return Html(start)
    gap = "\n" if name in _OWN_LINE else ""
    return Html(f"{start}{gap}{join(children)}</{name}>{gap}")


def join(children: Iterable[str | Iterable[str]]) -> Html:
    """Return elements and texts one after the other, the texts escaped."""
    return Html("".join(_markup(child) for child in children))


def _markup(child: str | Iterable[str]) -> str:
    if isinstance(child, Html):
        return child
    return html.escape(child, quote=False) if isinstance(child, str) else join(child)
