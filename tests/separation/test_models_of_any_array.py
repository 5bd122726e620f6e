"""Models that take any array: microphones, talkers, rates; the one that comes with the package."""

import numpy as np
import pytest
from tiny_models import FS, make_any_array, recording, write

from frontend.data.audio import audio_info
from frontend.data.kaldi import write_set
from frontend.separation import files
from frontend.separation.model import Separator
from frontend.utils.errors import UserError


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_any_array(tmp_path_factory.mktemp("any") / "student")


@pytest.fixture
def in_the_box(model, monkeypatch):
    monkeypatch.setattr(files, "PRETRAINED", model)


@pytest.mark.parametrize(("mics", "talkers"), [(2, None), (3, 3), (5, 2), (8, 4)])
def test_any_number_of_microphones_and_talkers(model, mics, talkers):
    separator = Separator.from_pretrained(model, n_talkers=talkers)
    streams = separator(recording(12000, mics), 16000)
    assert streams.shape == (talkers or 2, 12000) and np.isfinite(streams).all() and streams.any()


@pytest.mark.parametrize(("fs", "rate"), [(8000, 8000), (16000, 16000), (44100, 16000), (12000, 16000)])
def test_rates_are_its_own_up_to_that_of_its_training(model, fs, rate):
    separator = Separator.from_pretrained(model)
    streams = separator(recording(fs, 3), fs, resample=True)
    assert streams.shape == (2, fs) and separator.model.separator.fs == rate
    if fs != rate:
        with pytest.raises(UserError, match="expects 8000 or 16000 Hz"):
            separator(recording(fs, 3), fs)


@pytest.mark.parametrize(
    ("mics", "talkers", "message"),
    [
        (1, None, "makes 2 streams, which takes as many microphones or more, found 1"),
        (2, 3, "makes 3 streams, which takes as many microphones or more, found 2"),
        (4, 1, "expected 2 talkers or more, found 1"),
    ],
)
def test_what_it_cannot_do(model, mics, talkers, message):
    with pytest.raises(UserError, match=message):
        Separator.from_pretrained(model, n_talkers=talkers)(recording(8000, mics), 16000)


def test_other_networks_make_as_many_streams_as_in_training(models):
    with pytest.raises(UserError, match="expected 3, as it was trained for, found 2"):
        Separator.from_pretrained(models / "teacher", n_talkers=2)


def test_without_a_model_it_is_the_one_of_the_package(in_the_box, tmp_path, command):
    path = write(tmp_path / "x.wav", recording(9000, 5), 11025)
    assert command("separate", path, "--talkers", 3, "-o", tmp_path / "out")[0] == 0
    for k in (1, 2, 3):
        assert audio_info(str(tmp_path / f"out/x_spk{k}.wav")) == (1, 9000, 11025)


def test_refinement_is_of_the_recording_s_microphones_not_the_training_s(model, tmp_path, command):
    path = write(tmp_path / "x.wav", recording(9000, 5), 16000)
    arguments = ["--model", model, path, "--talkers", 5, "--refine", "iva", "-o", tmp_path / "out"]
    assert command("separate", *arguments)[0] == 0


def test_one_microphone_is_refused_in_one_line(in_the_box, tmp_path, command):
    path = write(tmp_path / "x.wav", recording(9000, 1))
    code, _, err = command("separate", path, "-o", tmp_path / "out")
    assert code == 2 and err.count("\n") == 1 and "give all channels of the array" in err
    assert not (tmp_path / "out").exists()


def test_a_set_of_different_arrays(model, models, tmp_path, command):
    """Recordings of 2 and of 3 channels in one set: for networks of any array, not for the others."""
    names = {"a": 2, "b": 3}
    wav = {name: write(tmp_path / f"{name}.wav", recording(6000, mics)) for name, mics in names.items()}
    write_set(tmp_path / "data", {"wav.scp": wav})
    systems = tmp_path / "systems.yaml"
    arguments = ["--systems", systems, "--data", tmp_path / "data", "--out", tmp_path / "out"]
    systems.write_text("auxiva: {blind: auxiva}\nstudent: {model: student}\n")
    code, _, err = command("separate", *arguments, "--exp", model.parent)
    assert code == 0, err
    for name in names:
        assert audio_info(str(tmp_path / f"out/student/wav2/{name}.wav")) == (1, 6000, FS)
    code, _, err = command("separate", *arguments, "--exp", models)
    assert code == 2 and "number of channels 3" in err and "but 2 in" in err
    images = {name: write(tmp_path / f"{name}_image.wav", recording(6000, 1)) for name in names}
    write_set(tmp_path / "truth", {"wav.scp": wav, "spk1.scp": images, "spk2.scp": images})
    label = ["label", "--rule", "all", "--data", tmp_path / "data", "--reference", tmp_path / "truth"]
    code, _, err = command(*label, "--model", model, "--out", tmp_path / "labels")
    assert code == 0 and (tmp_path / "labels/spk2.scp").is_file(), err


def test_a_row_has_as_many_streams_as_there_are_talkers(model, tmp_path, command):
    wav = {"a": write(tmp_path / "a.wav", recording(6000, 4))}
    write_set(tmp_path / "data", {"wav.scp": wav})
    (tmp_path / "systems.yaml").write_text("student: {model: student}\n")
    arguments = ["--systems", tmp_path / "systems.yaml", "--exp", model.parent, "--data", tmp_path / "data"]
    assert command("separate", *arguments, "--out", tmp_path / "out", "--talkers", 3)[0] == 0
    assert sorted(path.name for path in (tmp_path / "out/student").glob("spk*.scp")) == [
        f"spk{k}.scp" for k in (1, 2, 3)
    ]
