"""The pages: the committed ones are what ``mixit report --from`` makes of their JSON; filters."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from frontend.report.pages import interval, named, number, write_page
from frontend.utils.errors import UserError

EGS = Path(__file__).resolve().parents[2] / "egs"
CLAIMED = ("mini", "mini/1ch", "mini/fsdd", "mc_libri2mix")
MEASURED = (*CLAIMED, "mini/fsdd/1ch", "mini/fsdd/3spk", "mini/fsdd/2-3spk", "speechocean762_2mix")
COMMITTED = [
    *(EGS / place / "results.json" for place in MEASURED),
    *(EGS / place / "claims.json" for place in CLAIMED),
    EGS / "mini/fsdd/mismatch.json",
    EGS / "recordings/meetings/report.json",
]


@pytest.mark.parametrize("source", COMMITTED, ids=lambda path: path.relative_to(EGS).as_posix())
def test_committed_pages_are_made_from_their_json(source, tmp_path):
    page = write_page(source, tmp_path)
    assert page.read_text() == source.with_name(page.name).read_text(), f"run: mixit report --from {source}"
    text = re.sub("```.*?```", "code", page.read_text(), flags=re.S)
    assert "\n\n\n" not in text and text.endswith("\n") and not text.endswith("\n\n")
    for word in ("None", "nan", "inf", "Undefined"):
        assert not re.search(rf"\b{word}\b", text), word


@pytest.mark.parametrize("source", COMMITTED, ids=lambda path: path.relative_to(EGS).as_posix())
def test_every_table_is_whole(source):
    """All lines of a table have as many cells as its heading."""
    page = source.with_name(f"{source.stem.upper()}.md").read_text()
    for table in re.findall(r"(?:^\|.*\n)+", page, re.M):
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(cells) == 1, table


def test_other_files_have_no_page(tmp_path):
    with pytest.raises(UserError, match="expected one of results.json"):
        write_page(tmp_path / "scores.json")
    (tmp_path / "results.json").write_text('{"experiments": ["x"], "quick": false}')
    with pytest.raises(UserError, match="results.json: .*'stages'.*make the report again"):
        write_page(tmp_path / "results.json")
    assert not (tmp_path / "RESULTS.md").exists()


def test_filters():
    assert [number(v) for v in (-0.04, 0.05, None, 12.34)] == ["0.0", "0.1", "—", "12.3"]
    assert interval({"cpwer": 1.0, "cpwer_ci": None}, "cpwer") == "1.0"
    assert interval({"cpwer": None, "cpwer_ci": None}, "cpwer") == interval(None) == "—"
    assert named([f"u{k}" for k in range(12)]).endswith("u9 and 2 more") and named(["u"]) == "1 utterance: u"


def test_the_pages_need_nothing_heavy():
    code = "import sys; from frontend.report.pages import results_table, environment; environment()\n"
    code += "print({'torch', 'numpy', 'espnet2', 'matplotlib'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout == "set()\n", found.stderr


def test_configurations_are_text():
    """What a configuration holds is shown as it is, also what looks like a template."""
    results = json.loads(COMMITTED[0].read_text())
    for name, text in results["configs"].items():
        assert f"<summary>{name}</summary>" in COMMITTED[0].with_name("RESULTS.md").read_text()
        assert text.rstrip() in COMMITTED[0].with_name("RESULTS.md").read_text()
