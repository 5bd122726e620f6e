"""egs/mc_libri2mix end to end on a stand-in for LibriSpeech, its training mixtures rendered on the fly."""

import functools
import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest
import soundfile
from librispeech_tree import SUBSETS, made_up_librispeech, standin_librispeech
from speech_sets import voice

from frontend.data.kaldi import read_scp
from frontend.data.mixtures import MixtureSet

ROOT = Path(__file__).resolve().parents[2]
OCEAN = Path(os.environ.get("FRONTEND_CORPORA", ROOT.parent / "shared" / "corpora")) / "speechocean762"
pytestmark = pytest.mark.chain


@pytest.fixture(scope="module")
def librispeech(tmp_path_factory) -> Path:
    tree = tmp_path_factory.mktemp("corpus") / "LibriSpeech"
    if OCEAN.is_dir():
        return standin_librispeech(tree, OCEAN, each=6, talkers=16)
    return made_up_librispeech(tree, speakers=4, each=4)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """A copy of the recipe, so that its data and experiments lie in the test's own place."""
    folder = tmp_path_factory.mktemp("recipe") / "mc_libri2mix"
    return shutil.copytree(ROOT / "egs/mc_libri2mix", folder, ignore=shutil.ignore_patterns("data", "exp"))


def _run(recipe: Path, *options: str) -> subprocess.CompletedProcess:
    """What the recipe's own run.sh does, in the copy."""
    call = re.search(r"^exec .*run\.sh\" (.*) \"\$@\"", (recipe / "run.sh").read_text(), re.M)[1]
    command = [str(ROOT / "run.sh"), *call.replace('"$here"', str(recipe)).split(), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=1500)


def test_from_the_corpus_to_the_table(recipe, librispeech):
    options = ["--librispeech", str(librispeech), "--size", "tiny", "--on_the_fly", "true"]
    done = _run(recipe, *options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    exp, data = recipe / "exp/librispeech_tiny_otf", recipe / "data/librispeech_tiny_otf"
    results = json.loads((exp / "results.json").read_text())
    rows = {row["system"]: row for row in results["rows"]}
    for name in ("auxiva", "teacher_energy", "student", "student_ft", "distilled_ft", "supervised_full"):
        assert rows[name]["si_snri"] is not None and rows[name]["cpwer"] is not None and rows[name]["n"] == 4
    assert "--on_the_fly true" in results["command"]
    # Two pools of different talkers; their mixtures have no audio, the test set's has.
    speakers = {
        name: {
            t["speaker"]
            for line in (data / f"scenes/{name}.jsonl").open()
            for t in json.loads(line)["talkers"]
        }
        for name in ("train", "labelled", "dev", "test")
    }
    assert not speakers["train"] & speakers["labelled"] and not speakers["labelled"] & speakers["test"]
    for name, virtual in (("train", True), ("labelled", True), ("test", False)):
        entries = read_scp(data / name / "wav.scp").values()
        assert [entry.startswith("scene:") for entry in entries] == [virtual] * len(entries)
    assert set(MixtureSet(data / "train_small").ids) <= set(MixtureSet(data / "labelled").ids)
    again = _run(recipe, *options)
    assert again.returncode == 0 and "student: complete, nothing to do" in again.stdout


@pytest.fixture
def mirror(tmp_path, librispeech):
    """A server that has the archives of openslr.org/12, with another corpus in them."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    sums = []
    for subset in SUBSETS:
        with tarfile.open(folder / f"{subset}.tar.gz", "w:gz") as tar:
            tar.add(librispeech / subset, f"LibriSpeech/{subset}")
        digest = hashlib.md5((folder / f"{subset}.tar.gz").read_bytes()).hexdigest()
        sums.append(f"{digest}  {subset}.tar.gz\n")
    (folder / "md5sum.txt").write_text("".join(sums))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_what_was_fetched_is_no_change_and_other_noise_is_one(recipe, mirror, tmp_path):
    """Into a folder that is not there yet; the second run finds the data complete."""
    own = shutil.copytree(recipe, tmp_path / "recipe", ignore=shutil.ignore_patterns("data", "exp"))
    sizes = own / "local/download_corpus.py"  # the real ones may not fit on this disk
    sizes.write_text(sizes.read_text().replace("23.0", "0.1").replace("6.3", "0.1"))
    noise = tmp_path / "noise"
    noise.mkdir()
    for k in range(4):
        soundfile.write(noise / f"n{k}.wav", voice(f"noise {k}", 1.5, 16000), 16000)
    corpus = tmp_path / "my corpora/LibriSpeech"
    options = ["--librispeech", str(corpus), "--download", "true", "--size", "tiny"]
    options += ["--noise_dir", str(noise), "--download_url", mirror, "--stop_stage", "data"]
    done = _run(own, *options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    speech = own / "data/librispeech_tiny_noise/speech"
    assert (speech / "test/wav.scp").exists() and (speech / "test/noise.scp").exists()
    done = _run(own, *options)
    assert done.returncode == 0 and "data: complete, nothing to do" in done.stdout, done.stdout + done.stderr
    soundfile.write(noise / "n0.wav", voice("another", 1.8, 16000), 16000)
    done = _run(own, *options)
    assert done.returncode == 0 and f"stage data: {noise} changed since it ran" in done.stdout


def test_dry_run_says_what_the_real_sizes_make(recipe):
    done = _run(recipe, "--dry_run", "true")
    assert done.returncode == 0, done.stderr
    for what in ("50,?800", "13,?900", r"\bGB\b", r"\bh\b|hours"):
        assert re.search(what, done.stdout), what
    assert not (recipe / "data/librispeech").exists() and not (recipe / "exp/librispeech").exists()


def test_wrong_folders_are_one_line(recipe, librispeech, tmp_path):
    for folder, message in (
        (librispeech / "dev-clean", "expected"),
        (librispeech.parent, "expected"),
        (tmp_path / "nowhere", "no such directory"),
    ):
        done = _run(recipe, "--librispeech", str(folder), "--size", "tiny", "--seed", "7")
        assert done.returncode == 2 and message in done.stderr and str(folder) in done.stderr
        assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_its_options_are_not_the_other_recipes(tmp_path):
    done = subprocess.run([ROOT / "run.sh", "--librispeech", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2 and "egs/mc_libri2mix/run.sh" in done.stderr
