"""What `data check` says of a set, whoever works with it says too: the same sentence, before work."""

import pytest
import soundfile
import yaml
from tiny_models import FS, recording, write

from frontend.data.kaldi import read_scp, validate, write_scp

SYSTEMS = "student: {model: student}\nteacher_energy: {model: teacher, rule: energy}\n"


def cut(folder, name="spk2", samples=3000):
    path = folder / "audio" / name / "b.wav"
    soundfile.write(path, soundfile.read(path)[0][:samples], FS)


def lengthen(folder):
    write(folder / "audio/spk2/b.wav", recording(9000, 1))


def change(table, **lines):
    def spoil(folder):
        entries = read_scp(folder / table) | lines
        write_scp(folder / table, {key: value for key, value in entries.items() if value})

    return spoil


FAULTS = {
    "shorter": cut,
    "longer": lengthen,
    "another rate": lambda d: write(d / "audio/spk1/c.wav", recording(4200, 1), 16000),
    "several channels": lambda d: write(d / "audio/spk1/c.wav", recording(4200, 2)),
    "no talker": change("spk2.scp", c=None),
    "another id": change("spk2.scp", x="x.wav"),
    "no table": lambda d: (d / "spk1.scp").rename(d / "spk3.scp"),
    "no file": lambda d: (d / "audio/spk1/c.wav").unlink(),
    "wrong count": change("utt2num_samples", b="4099"),
    "no number": change("utt2num_samples", b="many"),
    "no count": change("utt2num_samples", b=None),
    "unsorted": lambda d: (d / "spk1.scp").write_text("b x\na x\nc x\n"),
    "a text is missing": lambda d: write_scp(d / "text_spk1", dict.fromkeys("abc", "ONE")),
    "mixture cut off": lambda d: cut(d, "wav"),
    "mixture of another rate": lambda d: write(d / "audio/wav/c.wav", recording(4200), 16000),
    "mixture of other channels": lambda d: write(d / "audio/wav/c.wav", recording(4200, 1)),
}
OTHER_CHANNELS = "mixture of other channels"
OF_MIXTURES = {"wrong count", "no number", "no count", "mixture of another rate", OTHER_CHANNELS}
TRAINING = {
    "encoder": "stft",
    "encoder_conf": {"n_fft": 128, "hop_length": 64},
    "decoder": "stft",
    "decoder_conf": {"n_fft": 128, "hop_length": 64},
    "separator": "mask_net",
    "separator_conf": {"n_mics": 2, "num_spk": 2, "channels": 4, "blocks": 1},
    "criterions": [{"name": "thresholded_snr", "wrapper": "thresholded_pit"}],
    "preprocessor": "crop",
    "preprocessor_conf": {"fs": FS, "crop": 0.25},
}


@pytest.fixture
def runs(models, data, tmp_path):
    """Each command that works with the set, and whether it looks at the labels."""
    write_scp(data / "utt2num_samples", {name: 4000 + 100 * k for k, name in enumerate("abc")})
    (tmp_path / "systems.yaml").write_text(SYSTEMS)
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(TRAINING))
    (tmp_path / "streams" / "mixture").mkdir(parents=True)
    for k in (1, 2):
        write_scp(tmp_path / f"streams/mixture/spk{k}.scp", read_scp(data / "wav.scp"))
    label = ["--model", models / "student", "--data", data, "--out", tmp_path / "labels", "--rule", "all"]
    train = ["--config", tmp_path / "train.yaml", "--train_set", data, "--valid_set", data]
    separate = ["--systems", tmp_path / "systems.yaml", "--exp", models, "--data", data]
    return {
        "label": (label, False),
        "label ": ([*label, "--reference", data], True),
        "separate": ([*separate, "--out", tmp_path / "out"], True),
        "score": (["--data", data, "--separated", tmp_path / "streams", "--out", tmp_path / "scores"], True),
        "train separator": ([*train, "--output_dir", tmp_path / "exp"], True),
    }


@pytest.mark.parametrize("fault", FAULTS)
def test_the_same_sentence_everywhere(runs, data, tmp_path, command, fault):
    assert not validate(data)[2:], "but for utt2spk and spk2utt, of which there are none"
    FAULTS[fault](data)
    known = validate(data)
    if fault == OTHER_CHANNELS:  # a set may have several arrays; networks of one array refuse it
        known, _ = ["number of channels 1"], runs.pop("score")
    before = {path.name for path in tmp_path.iterdir()}
    for name, (arguments, looks_at_labels) in runs.items():
        if not looks_at_labels and fault not in OF_MIXTURES:
            continue
        if name == "train separator" and "text" in fault:
            continue
        code, _, err = command(name.strip(), *arguments)
        assert code == 2 and any(problem in err for problem in known), (name, err, known)
    assert {path.name for path in tmp_path.iterdir()} == before, "nothing was begun"
