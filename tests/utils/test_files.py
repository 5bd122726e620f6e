"""Files and directories that are replaced whole, whatever happens meanwhile."""

import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from frontend.utils.errors import UserError
from frontend.utils.files import atomic_directory, write_named, write_text


def make(path, text):
    with atomic_directory(path) as part:
        (part / "a").write_text(text)
        (part / text).touch()


def content(path):
    return sorted(p.name for p in path.iterdir())


def killed_at(call, n, path):
    """Replace ``path`` in a process that dies at its n-th ``os.CALL``; return its exit code."""

    def target():
        real, calls = getattr(os, call), []

        def dies(*arguments, **options):
            calls.append(arguments)
            if len(calls) == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        setattr(os, call, dies)
        make(path, "new")

    child = multiprocessing.get_context("fork").Process(target=target)
    child.start()
    child.join()
    return child.exitcode


def test_a_new_directory_replaces_the_old_and_leaves_nothing_beside_it(tmp_path):
    for text in ("old", "new"):
        make(tmp_path / "deep" / "set", text)
        assert content(tmp_path / "deep" / "set") == ["a", text]
    assert content(tmp_path / "deep") == ["set"]


@pytest.mark.parametrize(
    ("call", "n", "left"),
    [("rename", 1, "old"), ("rename", 2, None), ("unlink", 1, "new"), ("rmdir", 1, "new")],
)
def test_a_kill_leaves_the_old_or_the_new_whole(tmp_path, call, n, left):
    make(tmp_path / "set", "old")
    assert killed_at(call, n, tmp_path / "set") == -signal.SIGKILL
    if left:
        assert content(tmp_path / "set") == ["a", left]
    else:  # between the two renames both are there
        whole = {p.suffix: content(p) for p in tmp_path.iterdir()}
        assert whole == {".mixit-old": ["a", "old"], ".mixit-part": ["a", "new"]}
    make(tmp_path / "set", "newer")
    assert content(tmp_path / "set") == ["a", "newer"]


def test_an_error_or_interrupt_leaves_the_old(tmp_path, monkeypatch):
    make(tmp_path / "set", "old")
    with pytest.raises(KeyboardInterrupt), atomic_directory(tmp_path / "set"):
        raise KeyboardInterrupt
    assert content(tmp_path / "set") == ["a", "old"]
    real, calls = os.rename, []

    def fails(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError("no")
        real(*arguments)

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(OSError, match="no"):
        make(tmp_path / "set", "new")
    assert content(tmp_path / "set") == ["a", "old"] and content(tmp_path) == ["set"]


def test_a_dead_process_of_the_same_number_does_not_cost_the_old(tmp_path):
    make(tmp_path / f".set.{os.getpid()}.mixit-old", "old")
    with pytest.raises(KeyboardInterrupt), atomic_directory(tmp_path / "set"):
        raise KeyboardInterrupt
    assert content(tmp_path / "set") == ["a", "old"]


def test_what_a_user_names_may_be_a_link_a_pipe_or_a_device(tmp_path):
    """What this program names is replaced as it is: a link, not the file of somebody else."""
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_named(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor() as pool:
        read = pool.submit((tmp_path / "pipe").read_text)
        write_named(tmp_path / "pipe", "words")
        assert read.result(10) == "words" and (tmp_path / "pipe").is_fifo()
    with pytest.raises(OSError, match="/dev/full"):
        write_named("/dev/full", "words")
    write_text(tmp_path / "link", "newer")
    assert not (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"
    assert content(tmp_path) == ["link", "pipe", "real"]
    with pytest.raises(UserError, match="/proc/none: no directory can be made there"):
        write_text("/proc/none/x", "words")


def test_links_are_followed_and_files_kept(tmp_path):
    make(tmp_path / "disk" / "set", "old")
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "set")
    make(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and content(tmp_path / "disk" / "set") == ["a", "new"]
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError):
        make(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "mine"
    assert content(tmp_path) == ["disk", "file", "link"]
