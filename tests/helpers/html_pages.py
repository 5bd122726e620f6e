"""Pages in HTML, read and checked."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote


class Parsed(HTMLParser):
    """A page as a flat list of elements; raises where a tag is not closed in order."""

    VOID = {"img", "meta"}

    def __init__(self, path):
        super().__init__()
        self.open, self.elements = [], []  # of [tag, attributes, text]
        self.feed(path.read_text())
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), ""])
        if tag not in self.VOID:
            self.open.append(self.elements[-1])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag, tag

    def handle_data(self, data):
        for one in self.open:
            one[2] += data

    def all(self, tag, class_=None):
        return [e for e in self.elements if e[0] == tag and class_ in (None, e[1].get("class"))]


def check_document(folder: Path) -> Parsed:
    """Check a page to listen to in ``folder``: sound, accessible, with all of its files and no others."""
    page = Parsed(folder / "report.html")
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert page.all("html")[0][1]["lang"] == "en" and page.all("title")[0][2]
    named = {
        unquote(a[key])
        for _, a, _ in page.elements
        for key in ("src", "href")
        if key in a and a[key][0] != "#"
    }
    found = {p.relative_to(folder).as_posix() for p in (folder / "report_files").rglob("*") if p.is_file()}
    assert named == found  # nothing is missing, nothing lies there unused, nothing is fetched from elsewhere
    assert not re.search(r"https?:|//|@import|url\(", (folder / "report.html").read_text().replace("// ", ""))
    assert {a["href"][1:] for _, a, _ in page.all("a") if a["href"][0] == "#"} <= set(ids)
    assert all(a["alt"] for _, a, _ in page.all("img"))
    assert all(
        a["preload"] == "none" and "controls" in a and a["aria-label"] for _, a, _ in page.all("audio")
    )
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
    return page
