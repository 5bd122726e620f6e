"""local/download.sh of mc_libri2mix, with a server that breaks off or sends something else."""

import gzip
import hashlib
import http.server
import io
import re
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest
from librispeech_tree import SUBSETS, made_up_librispeech

DOWNLOAD = Path(__file__).resolve().parents[2] / "egs" / "mc_libri2mix" / "local" / "download.sh"

pytestmark = pytest.mark.skipif(shutil.which("wget") is None, reason="needs wget")


class Server(http.server.ThreadingHTTPServer):
    """Serves ``files``, with ranges; closes after ``cuts`` bytes, one cut a request."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cuts, self.asked = [], []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        content, wanted = self.server.files.get(self.path[1:]), self.headers.get("Range")
        self.server.asked.append((self.path[1:], wanted))
        if content is None:
            return self.send_error(404)
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
        if start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        size = self.server.cuts.pop(0) if self.server.cuts else len(content)
        self.wfile.write(content[start : start + size])

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> dict[str, bytes]:
    """The archives of a small LibriSpeech, each with a file beside the subset."""
    tree, found = made_up_librispeech(tmp_path_factory.mktemp("tree")), {}
    for subset in SUBSETS:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            tar.add(tree / subset, f"LibriSpeech/{subset}")
            readme = tarfile.TarInfo("LibriSpeech/README.TXT")
            readme.size = 4
            tar.addfile(readme, io.BytesIO(b"read"))
        found[f"{subset}.tar.gz"] = packed.getvalue()
    return found


@pytest.fixture
def server(archives):
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        running.files = dict(archives)
        publish(running)
        yield running
        running.shutdown()


def publish(server: Server) -> None:
    """Serve the checksums of what is there."""
    lines = [f"{hashlib.md5(c).hexdigest()}  {name}\n" for name, c in server.files.items() if ".tar" in name]
    server.files["md5sum.txt"] = "".join(lines).encode()


def run(server: Server, root: Path, name: str = "corpus") -> subprocess.CompletedProcess:
    command = ["bash", DOWNLOAD, root / name, server.url]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


def test_the_corpus_is_fetched_in_pieces_and_once(server, tmp_path):
    server.cuts = [10**9, 1000, 2000]  # the list of checksums, then the first archive in three pieces
    done = run(server, tmp_path)
    assert done.returncode == 0, done.stderr
    first = [wanted for name, wanted in server.asked if name == f"{SUBSETS[0]}.tar.gz"]
    assert first == [None, "bytes=1000-", "bytes=3000-"]
    assert sorted(p.name for p in (tmp_path / "corpus").iterdir()) == sorted(["README.TXT", *SUBSETS])
    asked = len(server.asked)
    assert run(server, tmp_path).returncode == 0 and len(server.asked) == asked


def test_what_a_killed_run_left_is_gone_on_with(server, tmp_path):
    corpus, archive = tmp_path / "corpus", f"{SUBSETS[0]}.tar.gz"
    corpus.mkdir()
    (corpus / f"{archive}.part").write_bytes(server.files[archive][:5000])
    (corpus / f".{SUBSETS[1]}.unpacking").mkdir()
    (corpus / f"{SUBSETS[1]}.tar.gz").write_bytes(server.files[f"{SUBSETS[1]}.tar.gz"])
    done = run(server, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (archive, "bytes=5000-") in server.asked
    assert not [name for name, _ in server.asked if name == f"{SUBSETS[1]}.tar.gz"], "it was there"
    assert all((corpus / subset).is_dir() for subset in SUBSETS)
    assert not [p for p in corpus.iterdir() if p.name.startswith(".") or ".tar" in p.name]


def other_content(server, archive):
    server.files[archive] = server.files[archive][:-1] + b"x"


def damaged(server, archive):
    server.files[archive] = server.files[archive][:-300]
    publish(server)


def another_folder(server, archive):
    server.files[archive] = gzip.compress(b"\0" * 10240)
    publish(server)


def no_sum(server, _):
    server.files["md5sum.txt"] = b"oops\n"


@pytest.mark.parametrize(
    ("change", "message", "left"),
    [
        (other_content, "expected the MD5 sum", ".tar.gz.corrupt"),
        (damaged, "found a damaged or another archive", ".tar.gz"),
        (another_folder, "found a damaged or another archive", ".tar.gz"),
        (lambda server, archive: server.files.pop(archive), "not fetched", ".tar.gz.part"),
        (lambda server, _: server.files.pop("md5sum.txt"), "expected a list of checksums", None),
        (no_sum, "expected a line for", ".tar.gz.part"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_half_is_left(server, tmp_path, change, message, left):
    change(server, f"{SUBSETS[0]}.tar.gz")
    done = run(server, tmp_path)
    assert done.returncode == 2 and message in done.stderr.splitlines()[-1], done.stderr
    found = [p.name for p in (tmp_path / "corpus").iterdir() if p.name != ".md5sum.txt"]
    assert found == ([f"{SUBSETS[0]}{left}"] if left else [])


def test_a_subset_is_no_place_for_subsets(server, tmp_path):
    done = run(server, tmp_path, "dev-clean")
    assert done.returncode == 2 and "dev-clean: expected the folder to put dev-clean into" in done.stderr
    assert not server.asked and not list(tmp_path.iterdir())
