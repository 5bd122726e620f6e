"""The recipe on LibriSpeech: recorded noise, and real speech in its layout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import exit_code
from librispeech_tree import made_up_librispeech, standin_librispeech
from recipes import CORPORA, ROOT, write_resolved
from scipy.signal import csd, welch
from speech_sets import make_speech, run_command

from frontend.data.audio import read_audio
from frontend.data.kaldi import read_scp, validate, write_scp
from frontend.simulation.config import load_config
from frontend.simulation.pairs import read_pairs
from frontend.simulation.render import _recorded, _ring, scene_noise
from frontend.simulation.scenes import draw_set, read_scenes
from frontend.utils.errors import UserError
from frontend.utils.rng import generator

RECIPE = ROOT / "egs" / "mc_libri2mix"
sys.path.insert(0, str(RECIPE / "local"))

import dry_sets  # noqa: E402
import libri_data  # noqa: E402
import noise_files  # noqa: E402

OCEAN = CORPORA / "speechocean762"
SETS = ("train", "labelled", "dev", "test")


def hiss(name: str, samples: int) -> np.ndarray:
    return generator(0, name).standard_normal(samples)


# --- recorded noise ---


def test_recordings_are_joined_into_a_ring_of_even_power():
    pieces, joint = [hiss(f"p{k}", 40000) for k in range(3)], 4000
    ring = _ring(pieces, joint)
    assert len(ring) == 3 * (40000 - joint)
    np.testing.assert_array_equal(ring[joint : 40000 - joint], pieces[0][joint:-joint])
    np.testing.assert_array_equal(ring[40000 : 2 * (40000 - joint)], pieces[1][joint:-joint])
    powers = [np.mean(ring[k : k + joint] ** 2) for k in range(0, len(ring), joint)]
    assert min(powers) > 0.85 and max(powers) < 1.15  # a linear fade would fall to 2/3 in a joint
    # one piece alone becomes a ring too: its end fades into its beginning
    alone = _ring([np.ones(100)], 10)
    assert (
        len(alone) == 90
        and np.all(alone[10:] == 1)
        and alone[:10].max() == pytest.approx(np.sqrt(2), abs=0.01)
    )
    assert len(_ring([hiss("a", 5), hiss("b", 50)], 100)) == 55 - 2 * 2


def test_every_channel_starts_somewhere_else():
    scene = {"seed": 0, "id": "m", "samples": 10}
    for name in range(20):
        starts = [_recorded(scene | {"id": f"{name}"}, np.arange(18000), c)[0] for c in range(8)]
        apart = [min(abs(a - b), 18000 - abs(a - b)) for k, a in enumerate(starts) for b in starts[:k]]
        assert min(apart) >= 995


def test_recorded_noise_is_a_diffuse_field_of_the_recordings():
    mics = [[0.0, 0.0, 1.0], [0.08, 0.0, 1.0], [0.0, 0.03, 1.0]]
    noise = {"kind": "recorded", "snr_db": 5.0, "utterances": ["a", "b"]}
    scene = {"seed": 1, "id": "m", "fs": 8000, "samples": 400000, "mics": mics, "noise": noise}
    coloured = {n: np.convolve(hiss(n, 300000), [1, 0.6])[:-1] * (1 + 9 * (n == "b")) for n in "ab"}
    field = scene_noise(scene, coloured.__getitem__)
    assert field.shape == (3, 400000)
    for i, j, distance in ((0, 1, 0.08), (0, 2, 0.03), (1, 2, np.hypot(0.08, 0.03))):
        frequency, cross = csd(field[i], field[j], 8000, nperseg=512)
        powers = [welch(field[k], 8000, nperseg=512)[1] for k in (i, j)]
        coherence = cross.real / np.sqrt(powers[0] * powers[1])
        np.testing.assert_allclose(
            coherence[2:-2], np.sinc(2 * frequency * distance / 343.0)[2:-2], atol=0.12
        )
    # the loud recording does not drown the other, and microphone 0 does not know how many there are
    assert np.std(field[0][:200000]) == pytest.approx(np.std(field[0][200000:]), rel=0.05)
    np.testing.assert_array_equal(scene_noise(scene | {"mics": mics[:1]}, coloured.__getitem__)[0], field[0])


def test_scenes_with_recorded_noise_are_rendered_at_their_snr(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    speech = make_speech(Path("speech"), seconds=1.0)
    for k in range(5):
        soundfile.write(f"n{k}.wav", 0.01 * hiss(f"n{k}", 9000), 8000)
    write_scp(speech / "noise.scp", {f"noise_{k}": f"n{k}.wav" for k in range(5)})
    config = load_config(write_resolved(tmp_path / "noise.yaml", "mc_libri2mix", "scenes", ("noise",)))
    plain = load_config(write_resolved(tmp_path / "plain.yaml", "mc_libri2mix", "scenes"))
    assert config.noise.kind == ("recorded",) and config.noise.babble_talkers == plain.noise.babble_talkers
    assert (config.room, config.talkers) == (plain.room, plain.talkers)
    draw_set(config, speech, "scenes", 4, "m")
    for scene in read_scenes("scenes"):
        # of 1.125 s each, less the joints: as many as the mixture needs, and no more
        needed = int(np.ceil(scene["samples"] / 8000 / (1.125 - 0.05)))
        assert (
            len(set(scene["noise"]["utterances"])) == min(needed, 5)
            and 3.5 <= scene["noise"]["snr_db"] <= 13.5
        )
    options = {"scenes": "scenes", "speech": speech, "out": "set"}
    pairs = [word for key, value in options.items() for word in (f"--{key}", value)]
    assert exit_code("simulate render", "--parts", *pairs) == 0 and validate("set") == []
    for scene in read_scenes("set/scenes.jsonl"):
        noise = read_audio(read_scp("set/noise.scp")[scene["id"]])[0]
        spoken = sum(read_audio(read_scp(f"set/spk{k}.scp")[scene["id"]])[0] for k in (1, 2))
        snr = 10 * np.log10(np.mean(spoken[0] ** 2) / np.mean(noise[0] ** 2))
        assert snr == pytest.approx(scene["noise"]["snr_db"], abs=0.05)
    (speech / "noise.scp").unlink()
    with pytest.raises(UserError, match="noise.scp: noise of kind 'recorded' is asked for"):
        draw_set(config, speech, "scenes", 4, "m")
    code, printed = run_command("simulate render", monkeypatch, capsys, **options)
    assert code == 2 and "noise.scp" in printed
    shutil.copy(speech / "wav.scp", speech / "noise.scp")
    with pytest.raises(UserError, match="is an utterance of wav.scp as well"):
        draw_set(config, speech, "scenes", 4, "m")


def make_noise(directory: Path, count: int = 3, fs: int = 16000, channels: int = 2) -> Path:
    directory.mkdir(parents=True)
    for k in range(count):
        signal = 0.05 * np.stack([hiss(f"{directory.name}{k}{c}", 2 * fs) for c in range(channels)], axis=1)
        soundfile.write(directory / f"{directory.name}_{k}.wav", signal, fs)
    return directory


def test_noise_of_wham_is_read_by_its_folders(tmp_path, monkeypatch, capsys):
    tree = made_up_librispeech(tmp_path / "LibriSpeech", speakers=2, each=1, seconds=0.5)
    for folder in ("tr", "cv", "tt"):
        make_noise(tmp_path / "wham_noise" / folder)
    soundfile.write(tmp_path / "wham_noise" / "tr" / "short.wav", np.ones(100), 16000)
    soundfile.write(tmp_path / "wham_noise" / "tr" / "still.wav", np.zeros(40000), 16000)
    monkeypatch.chdir(tmp_path)
    options = {"corpus_dir": tree, "out": "speech", "noise_dir": tmp_path / "wham_noise", "min_seconds": 0.1}
    code, printed = run_command(libri_data.main, monkeypatch, capsys, **options)
    assert code == 0 and "speech/train/noise.scp: 3 recordings" in printed
    for name, folder in zip(SETS, ("tr", "tr", "cv", "tt"), strict=True):
        entries = read_scp(f"speech/{name}/noise.scp")
        assert set(entries) == {f"noise_{folder}_{k}" for k in range(3)}
        signal, fs = read_audio(entries[f"noise_{folder}_0"])
        assert fs == 8000 and signal.shape == (1, 16000)
        # channel 0 of the original, low-passed: half of the hiss's power is left
        first = soundfile.read(tmp_path / "wham_noise" / folder / f"{folder}_0.wav")[0][:, 0]
        assert np.corrcoef(signal[0][500:-500], first[::2][500:-500])[0, 1] == pytest.approx(
            np.sqrt(0.5), abs=0.05
        )


def test_a_flat_folder_is_split_and_wrong_ones_are_refused(tmp_path):
    flat = make_noise(tmp_path / "flat", count=20, fs=800)
    plan = noise_files.plan_noise(flat, 0, 0)
    assert plan["train"] == plan["labelled"] and [len(plan[n]) for n in SETS] == [16, 16, 2, 2]
    assert len({p for name in ("train", "dev", "test") for p in plan[name]}) == 20
    assert (
        plan != noise_files.plan_noise(flat, 1, 0) and len(noise_files.plan_noise(flat, 0, 3)["train"]) == 3
    )
    with pytest.raises(UserError, match="expected noise at 8000 Hz or more, found 800 Hz"):
        dry_sets.write_noise(tmp_path / "out", plan["dev"], flat, 8000, 1)
    make_noise(tmp_path / "wham" / "tr", fs=800)
    for path, message in (
        (tmp_path / "no", "no such folder"),
        (tmp_path, "expected tr/ cv/ tt/ or wav files, found neither .give .*wham"),
        (tmp_path / "wham", "expected tr/ cv/ tt/, found no cv, tt"),
    ):
        with pytest.raises(UserError, match=message):
            noise_files.plan_noise(path, 0, 0)


@pytest.mark.skipif(not OCEAN.is_dir(), reason=f"no speechocean762 at {OCEAN}")
def test_real_speech_in_librispeechs_layout(tmp_path):
    root = standin_librispeech(tmp_path / "LibriSpeech", OCEAN, each=3, talkers=12)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [RECIPE / "local" / "data.sh", "--corpus_dir", root, "--out", "speech", "--min_seconds", "2"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in SETS:
        speakers = read_scp(tmp_path / "speech" / name / "utt2spk")
        pairs = read_pairs(tmp_path / "speech" / name / "pairs")
        assert len(set(speakers.values())) >= 2 and len(pairs) > 2
        assert all(speakers[one] != speakers[two] for one, two in (p.utterances for p in pairs))
