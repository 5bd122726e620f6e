"""Where numbers come from: the commit, its changes, and the machine."""

import re
import subprocess

import pytest

from frontend.utils.provenance import commit_of, provenance


def test_changes_anywhere_in_the_checkout_mark_the_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    package = tmp_path / "frontend"
    files = ["frontend/a.py", "egs/mini/conf/student.yaml", "run.sh", "local/overrides.txt", "setup.cfg"]
    results = ["egs/mini/RESULTS.md", "egs/mini/results.json"]
    for name in (*files, *results):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before")
    assert commit_of(package) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *arguments], check=True)
    commit = commit_of(package)
    assert re.fullmatch("[0-9a-f]{40}", commit)
    for name in results:
        (tmp_path / name).write_text("after")
    assert commit_of(package) == commit
    for name in files:
        (tmp_path / name).write_text("after")
        assert commit_of(package) == f"{commit}+changes", name
        (tmp_path / name).write_text("before")
    assert commit_of(package) == commit


def test_the_machine_says_whether_it_computes_in_bfloat16():
    pytest.importorskip("torch")
    from frontend.utils.device import computes_in_bfloat16

    shown = provenance()["machine"].split(", ")[-1]
    assert shown == ("bfloat16" if computes_in_bfloat16("cpu") else "no bfloat16")
