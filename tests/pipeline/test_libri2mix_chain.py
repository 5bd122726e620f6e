"""egs/mc_libri2mix through `mixit run`: its data and its mixtures on the fly; the rest as commands."""

import functools
import hashlib
import http.server
import json
import shutil
import tarfile
import threading
from pathlib import Path

import pytest
import soundfile
from librispeech_tree import SUBSETS, made_up_librispeech, standin_librispeech
from recipes import CORPORA, copy_recipe
from speech_sets import voice

from frontend.data.kaldi import read_scp

OCEAN = CORPORA / "speechocean762"


@pytest.fixture(scope="module")
def librispeech(tmp_path_factory) -> Path:
    tree = tmp_path_factory.mktemp("corpus") / "LibriSpeech"
    if OCEAN.is_dir():
        return standin_librispeech(tree, OCEAN, each=6, talkers=16)
    return made_up_librispeech(tree, speakers=4, each=4)


@pytest.fixture
def recipe(tmp_path) -> Path:
    return copy_recipe("mc_libri2mix", tmp_path / "mc_libri2mix")


def test_from_the_corpus_to_mixtures_that_nobody_writes(recipe, librispeech, command):
    options = ["--recipe", recipe, "--librispeech", librispeech, "--size", "tiny", "--nj", 1]
    options += ["--with", "on_the_fly"]
    code, _, err = command("run", *options, "--stop_stage", "simulate")
    assert code == 0, err
    data = recipe / "data/librispeech_tiny_otf"
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
    for name, on_the_fly in (("train", True), ("labelled", True), ("test", False)):
        entries = read_scp(data / name / "wav.scp").values()
        assert [entry.startswith("scene:") for entry in entries] == [on_the_fly] * len(entries)
    code, out, err = command("run", *options, "--dry_run")
    assert code == 0, err
    lines = out.splitlines()
    assert not any("simulate render" in line and "/scenes/" in line for line in lines), "it is complete"
    small = next(
        line
        for line in lines
        if "data subset" in line and "--seed 0 --fewest 2" in line and "train_small" in line
    )
    assert "--data data/librispeech_tiny_otf/labelled " in small
    full = next(line for line in lines if "--output_dir exp/librispeech_tiny_otf/supervised_full" in line)
    assert "--train_set data/librispeech_tiny_otf/labelled" in full and full.endswith("--num_workers 1")
    assert json.loads((recipe / "exp/librispeech_tiny_otf/stages.json").read_text())["command"] == (
        "egs/mc_libri2mix/run.sh --size tiny --librispeech .../LibriSpeech --with on_the_fly"
    )


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


@pytest.mark.skipif(shutil.which("wget") is None, reason="needs wget")
def test_what_was_fetched_is_no_change_and_other_noise_is_one(recipe, mirror, tmp_path, command):
    """Into a folder that is not there yet; the second run finds the data complete."""
    noise = tmp_path / "noise"
    noise.mkdir()
    for k in range(4):
        soundfile.write(noise / f"n{k}.wav", voice(f"noise {k}", 1.5, 16000), 16000)
    options = ["--recipe", recipe, "--librispeech", tmp_path / "my corpora/LibriSpeech", "--download", "true"]
    options += ["--size", "tiny", "--noise_dir", noise, "--download_url", mirror, "--stop_stage", "data"]
    code, out, err = command("run", *options)
    assert code == 0, err
    speech = recipe / "data/librispeech_tiny_noise/speech"
    assert (speech / "test/wav.scp").exists() and (speech / "test/noise.scp").exists()
    code, out, _ = command("run", *options)
    assert code == 0 and "data: complete, nothing to do" in out
    soundfile.write(noise / "n0.wav", voice("another", 1.8, 16000), 16000)
    code, out, _ = command("run", *options)
    assert code == 0 and f"stage data: input {noise} changed since it was made" in out


def test_wrong_folders_are_one_line(recipe, librispeech, command):
    for folder in (librispeech / "dev-clean", librispeech.parent):
        code, _, err = command(
            "run", "--recipe", recipe, "--librispeech", folder, "--size", "tiny", "--stop_stage", "data"
        )
        assert code == 2 and "expected" in err and str(folder) in err and "Traceback" not in err
