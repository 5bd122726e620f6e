"""Sets on the fly, read by trainings and by pseudo-targets."""

from pathlib import Path

import kills
import numpy as np
import pytest
import soundfile
from espnet2.train.dataset import ESPnetDataset
from kills import assert_same, weights
from speech_sets import make_speech
from trainings import STUDENT, TEACHER, TWO_MICS, command_line

from frontend.data.kaldi import read_scp, validate
from frontend.data.mixtures import MixtureSet, subset
from frontend.data.speech import read_speech
from frontend.simulation.config import ArrayConfig, SceneConfig, TalkersConfig
from frontend.simulation.mixture_sets import make_set
from frontend.simulation.scenes import sample_scene, write_scenes
from frontend.training.examples import MixtureOfMixtures
from frontend.training.run import train_separator
from frontend.training.task import KeyedIterFactory
from frontend.utils.errors import UserError


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """The same mixtures as files and without."""
    root = tmp_path_factory.mktemp("sets")
    speech = make_speech(root / "speech")
    config = SceneConfig(
        t60=(0.15, 0.18), array=ArrayConfig(n=2), talkers=TalkersConfig(one_talker_share=0.3)
    )
    known = read_speech(speech, config.fs)
    write_scenes(root / "scenes", [sample_scene(f"m{k}", config, known, 2, bank=3) for k in range(7)])
    for name in ("plain", "fly"):
        make_set(root / "scenes", speech, root / name, on_the_fly=name == "fly", rir_cache=root / "rirs")
        subset(root / name, root / f"{name}_unlabelled", MixtureSet(root / name).ids, False)
    return root


def arguments(root, settings, data, valid="plain", **more):
    """The arguments of a training that leaves what it makes in ``root/x_DATA``."""
    sets = {"train_set": data, "valid_set": valid}
    return command_line(root, f"x_{Path(data).name}", settings | TWO_MICS | more, **sets)


@pytest.mark.parametrize(("settings", "kind", "workers"), [(STUDENT, "", 2), (TEACHER, "_unlabelled", 0)])
def test_training_ends_in_the_same_weights_with_any_number_of_workers(
    sets, tmp_path, monkeypatch, settings, kind, workers
):
    monkeypatch.chdir(sets)
    results = []
    for data, number in (("plain", 0), ("fly", workers)):
        argv = arguments(tmp_path, settings, data + kind, "fly", num_workers=number)
        assert kills.in_child(train_separator, argv) == 0
        results.append(weights(tmp_path / f"x_{data}{kind}"))
    assert "2epoch.pth" in results[0]
    assert_same(*results)


def test_ranks_and_workers_draw_each_mixture_once_and_alike(sets, monkeypatch):
    """The examples of two processes with two data workers each are those of one process, to the bit."""
    monkeypatch.chdir(sets)
    rooms = {path: path.read_bytes() for path in (sets / "rirs").rglob("*") if path.is_file()}
    ids = sorted(read_scp("fly/wav.scp"))

    def examples(workers, shard):
        entries = {"speech_mix": read_scp("fly/wav.scp")}
        lengths = dict.fromkeys(ids, 8000)
        given = {"lengths": lengths, "n_mics": 2, "fs": 8000, "crop": 0.25, "seed": 3, "entries": entries}
        preprocess = MixtureOfMixtures(True, **given)
        dataset = ESPnetDataset([("fly/wav.scp", "speech_mix", "text")], preprocess=preprocess)
        options = {"num_workers": workers, "collate_fn": lambda batch: batch}
        factory = KeyedIterFactory(dataset, ids, 4, 7, 3, True, shard, **options)
        return [list(factory.build_iter(epoch)) for epoch in (1, 2)]

    alone, parts = examples(0, (0, 1)), [examples(2, (k, 2)) for k in range(2)]
    for epoch, batches in enumerate(alone):
        named = dict(one for batch in batches for one in batch)
        assert [name for batch in batches for name, _ in batch].count("m3") == 4 and sorted(named) == ids
        for k, batch in enumerate(batches):
            shared = [one for part in parts for one in part[epoch][k]]
            assert sorted(name for name, _ in shared) == sorted(name for name, _ in batch)
            for (_, found), (_, wanted) in zip(
                sorted(shared, key=_name), sorted(batch, key=_name), strict=True
            ):
                assert found.keys() == wanted.keys()
                assert all(np.array_equal(found[key], wanted[key]) for key in wanted)
    assert {path: path.read_bytes() for path in (sets / "rirs").rglob("*") if path.is_file()} == rooms


def _name(example):
    """Of an utterance that a batch uses twice, the audio tells which use it is."""
    return example[0], example[1]["speech_mix"].tobytes()


def test_pseudo_targets_of_a_set_on_the_fly_are_the_same(sets, models, tmp_path, command):
    made = {}
    for data in ("plain", "fly"):
        options = ["--data", sets / f"{data}_unlabelled", "--reference", sets / data, "--nj", 2]
        out = tmp_path / data
        for again in (False, True):
            code, text, _ = command(
                "label", "--model", models / "student", "--rule", "all", "--out", out, *options
            )
            assert code == 0 and again == ("complete" in text), text
        made[data] = {p.relative_to(out): p.read_bytes() for p in out.rglob("*.wav")}
        assert validate(out) == []
    assert made["plain"] == made["fly"] and len(made["plain"]) == 14


@pytest.mark.parametrize("workers", [0, 1])
def test_speech_that_changed_ends_a_training_with_one_line(tmp_path, workers):
    config = SceneConfig(t60=(0.15, 0.18), array=ArrayConfig(n=2))
    known = read_speech(make_speech(tmp_path / "speech", speakers=3, each=1), config.fs)
    write_scenes(tmp_path / "scenes", [sample_scene(f"m{k}", config, known, 2) for k in range(3)])
    make_set(tmp_path / "scenes", tmp_path / "speech", tmp_path / "set", on_the_fly=True)
    for entry in read_scp(tmp_path / "speech" / "wav.scp").values():
        soundfile.write(entry, soundfile.read(entry)[0][::-1], config.fs)
    data = str(tmp_path / "set")
    argv = arguments(tmp_path, STUDENT, data, data, num_workers=workers)
    with pytest.raises(UserError, match=r"^\S+\.wav: other samples than when .*simulate render --on_the_fly"):
        train_separator(argv)
