"""Downloading from a server that breaks off, forgets ranges or sends something else."""

import hashlib
import http.server
import io
import re
import sys
import tarfile
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "egs" / "mc_libri2mix" / "local"))

import download_corpus  # noqa: E402

from frontend.download import fetch, read_checksums, unpack
from frontend.utils.errors import UserError

CONTENT = bytes(range(256)) * 12000  # 3 MB: several chunks


class Server(http.server.ThreadingHTTPServer):
    """Serves ``files``; knows ranges if ``ranges``; closes after ``cuts`` bytes, one cut a request."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.ranges, self.cuts, self.asked = True, [], []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        content, wanted = self.server.files.get(self.path[1:]), self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        if content is None:
            return self.send_error(404)
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.server.ranges else 0
        if start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        size = self.server.cuts.pop(0) if self.server.cuts else len(content)
        self.wfile.write(content[start : start + size])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def get(server, path: Path, content: bytes = CONTENT, sent: bytes = CONTENT, **options) -> None:
    server.files["a.bin"] = sent
    fetch(f"{server.url}/a.bin", path, md5(content), wait_s=0.0, **options)


def test_a_download_that_is_cut_off_twice_goes_on_where_it_was(server, tmp_path):
    server.cuts = [1_500_000, 700_000]
    get(server, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, "bytes=1500000-", "bytes=2200000-"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]
    get(server, tmp_path / "a.bin")
    assert len(server.asked) == 3  # there already: nothing is asked for


def test_a_later_run_goes_on_with_what_an_earlier_one_left(server, tmp_path):
    server.cuts = [1_000_000, 0, 0, 0]
    with pytest.raises(UserError, match="connection lost after 1000000 bytes; run the same command again"):
        get(server, tmp_path / "a.bin")
    assert not (tmp_path / "a.bin").exists()
    get(server, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT and server.asked[-1][1] == "bytes=1000000-"


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    server.ranges, server.cuts = False, [1_000_000]
    get(server, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_complete_part_needs_no_more_bytes(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    get(server, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_another_checksum_is_kept_aside(server, tmp_path):
    with pytest.raises(UserError, match=f"expected the MD5 sum {md5(CONTENT)}, found {md5(CONTENT[1:])}"):
        get(server, tmp_path / "a.bin", sent=CONTENT[1:])
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin.corrupt"]


def test_no_such_file_and_no_server(server, tmp_path):
    with pytest.raises(UserError, match=r"b.bin: expected a file, the server says 404 .*check the URL"):
        fetch(f"{server.url}/b.bin", tmp_path / "b.bin", "0", wait_s=0.0)
    with pytest.raises(UserError, match=r"md5sum.txt: expected a list of checksums, the server says 404"):
        read_checksums(f"{server.url}/md5sum.txt", wait_s=0.0)
    server.files["md5sum.txt"] = b"<html>sign in</html>"
    with pytest.raises(UserError, match="expected 'MD5 NAME' a line, found something else"):
        read_checksums(f"{server.url}/md5sum.txt", wait_s=0.0)
    with pytest.raises(UserError, match="no connection .*check network and URL"):
        read_checksums("http://127.0.0.1:9/md5sum.txt", wait_s=0.0)


def packed(names: list[str], mode: str = "w:gz") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 5000
            tar.addfile(info, io.BytesIO(md5(name.encode()).encode() * 157))
    return stream.getvalue()


def corpus(server) -> None:
    for name in ("dev-clean", "test-clean"):
        files = ["LibriSpeech/README.TXT", *(f"LibriSpeech/{name}/1/2/1-2-{k:04d}.flac" for k in range(3))]
        server.files[f"{name}.tar.gz"] = packed(files)
    sums = (f"{md5(content)}  {name}\n" for name, content in server.files.items())
    server.files["md5sum.txt"] = "".join(sums).encode()


def test_the_corpus_is_unpacked_beside_what_is_there(server, tmp_path, capsys):
    corpus(server)
    root = tmp_path / "LibriSpeech"
    (root / "dev-clean").mkdir(parents=True)
    subsets = ["dev-clean", "test-clean"]
    download_corpus.download(root, subsets, server.url, wait_s=0.0)
    assert not any(path == "/dev-clean.tar.gz" for path, _ in server.asked)
    assert len(list((root / "test-clean" / "1" / "2").iterdir())) == 3
    assert {p.name for p in root.iterdir()} == {"README.TXT", "dev-clean", "test-clean"}
    asked = len(server.asked)
    download_corpus.download(root, subsets, server.url, wait_s=0.0)
    assert len(server.asked) == asked and "nothing to download" in capsys.readouterr().out
    with pytest.raises(UserError, match=f"expected the folder to put dev-clean into .give {root}."):
        download_corpus.download(root / "dev-clean", subsets, server.url)
    with pytest.raises(UserError, match="expected a line for train-clean-100.tar.gz, found none"):
        download_corpus.download(root, ["train-clean-100"], server.url, wait_s=0.0)


def test_a_python_that_cannot_unpack_says_so_before_anything_is_fetched(server, tmp_path, monkeypatch):
    """Python 3.10.11 and 3.11.3 have no filters yet."""
    monkeypatch.delattr(tarfile, "data_filter")
    corpus(server)
    with pytest.raises(UserError, match=r"expected Python 3\.10\.12, 3\.11\.4 or newer.*; found 3\."):
        download_corpus.download(tmp_path / "LibriSpeech", ["dev-clean"], server.url, wait_s=0.0)
    assert not server.asked


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "other"])
def test_a_damaged_archive_leaves_nothing(tmp_path, damage):
    content = packed([f"LibriSpeech/dev-clean/1/2/1-2-{k:04d}.flac" for k in range(50)])
    middle = len(content) // 2
    damaged = {
        "cut": content[:middle],
        "flipped": content[:middle] + bytes(64) + content[middle + 64 :],
        "text": b"<html>" * 1000,
        "other": packed(["LibriSpeech/test-clean/a"]),
    }
    (tmp_path / "dev-clean.tar.gz").write_bytes(damaged[damage])
    with pytest.raises(
        UserError, match=r"dev-clean.tar.gz: (damaged archive|expected LibriSpeech/dev-clean in it)"
    ):
        unpack(tmp_path / "dev-clean.tar.gz", tmp_path, "LibriSpeech/dev-clean")
    assert [p.name for p in tmp_path.iterdir()] == ["dev-clean.tar.gz"]


def test_an_archive_cannot_write_outside(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "dev-clean.tar.gz").write_bytes(packed(["LibriSpeech/dev-clean/a", "../../evil"]))
    with pytest.raises(UserError, match="damaged archive"):
        unpack(tmp_path / "in" / "dev-clean.tar.gz", tmp_path / "in", "LibriSpeech/dev-clean")
    assert {p.name for p in tmp_path.iterdir()} == {"in"}
