"""The recipe on LibriSpeech: recorded noise, what a run would take, and real speech in its layout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import exit_code
from librispeech_tree import SUBSETS, made_up_librispeech, standin_librispeech
from scipy.signal import csd, welch
from speech_sets import make_speech, run_command

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "egs" / "mc_libri2mix"
sys.path.insert(0, str(RECIPE / "local"))

import estimate  # noqa: E402
import libri_data  # noqa: E402
import noise_files  # noqa: E402

from frontend.data.audio import read_audio
from frontend.data.kaldi import read_scp, validate, write_scp
from frontend.separation.systems import UNPROCESSED, load_systems
from frontend.simulation.config import load_config
from frontend.simulation.pairs import read_pairs
from frontend.simulation.render import _recorded, _ring, scene_noise
from frontend.simulation.scenes import draw_set, read_scenes
from frontend.utils.errors import UserError
from frontend.utils.rng import generator

OCEAN = Path(os.environ.get("FRONTEND_CORPORA", ROOT.parent / "shared" / "corpora")) / "speechocean762"
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
    config = load_config(RECIPE / "conf" / "scenes.yaml", ["noise.kind=recorded", "noise.snr_db=[3.5,13.5]"])
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
        noise_files.write_noise(tmp_path / "out", plan["dev"], 8000, 1)
    make_noise(tmp_path / "wham" / "tr", fs=800)
    for path, message in (
        (tmp_path / "no", "no such folder"),
        (tmp_path, "expected tr/ cv/ tt/ or wav files, found neither .give .*wham"),
        (tmp_path / "wham", "expected tr/ cv/ tt/, found no cv, tt"),
    ):
        with pytest.raises(UserError, match=message):
            noise_files.plan_noise(path, 0, 0)


# --- what it would take ---


def test_sizes_by_hand():
    lengths = dict.fromkeys(SUBSETS, [2.0, 4.0, 6.0])  # the longer of two: 4, 6 or 6
    found = estimate.pools({"train": 30, "dev": 9}, {"train": 1}, lengths)
    train = found[0]
    assert train.mixture_s == pytest.approx(16 / 3) and train.utterances == 1
    assert train.hours == pytest.approx(4 / 3600) and [p.mixtures for p in found] == [30, 0, 9, 0]
    sizes = estimate.bytes_of(found, 8000, 4, virtual=False, bank=5)
    assert sizes["mixtures"] == pytest.approx(39 * 16 / 3 * 8000 * 2 * 6)
    assert sizes["pseudo-targets"] == pytest.approx(39 * 16 / 3 * 8000 * 4 * 2 * 2)
    assert sizes["rooms"] == 39 * 78e3 and sizes["speech"] == pytest.approx(0.55 * 40 * 16000)
    virtual = estimate.bytes_of(found, 16000, 2, virtual=True, bank=5)
    # what is not for training is written all the same, each in a room of its own
    assert virtual["mixtures"] == pytest.approx(9 * 16 / 3 * 16000 * 2 * 4) and virtual["speech"] == 0
    assert virtual["rooms"] == (5 + 9) * 78e3
    assert estimate.files_of(found, 8000, False, 5)["mixtures"] == 4 * 39
    assert estimate.core_hours_of(found, 16000, 8, False, 5)["rooms"] == pytest.approx(39 * 0.078 * 4 / 3600)
    official = estimate.pools({"train": 50800}, {}, {})[0]
    assert (official.hours, official.utterances) == (pytest.approx(363.6), 104014)
    # LibriMix states 23 GiB for one stream of 50,800 mixtures at 16 kHz
    assert official.mixture_s * 50800 * 32000 / 2**30 == pytest.approx(23, abs=0.5)
    assert estimate.steps_of(RECIPE / "conf" / "teacher.yaml", "--max_epoch 3 --num_iters_per_epoch 5") == 15


def test_what_is_made_of_the_mixtures_by_hand(tmp_path):
    (tmp_path / "systems.yaml").write_text(
        "mixture: {}\n"
        "auxiva: {blind: auxiva}\n"
        "teacher_outputs: {model: teacher}\n"
        "teacher_energy: {model: teacher, rule: energy}\n"
        "student_ft: {model: student_ft, labels: small, optional: true}\n"
        "student_ft_1: {model: curve/student_ft_1, labels: 0.01, optional: true}\n"
        "joint: {model: joint, asr: joint/asr, labels: small, optional: true}\n"
        "oracle: {}\n"
    )
    for options, streams in (
        # auxiva, all four of the teacher, two selected of four that are kept, and what is trained on labels
        ((False, False, False), 2 + 4 + (2 + 4) + 2),
        ((True, True, False), 2 + 4 + (2 + 4) + 2 + 2 + 2),
        ((False, False, True), 2 + 4 + (2 + 4)),
    ):
        assert estimate.streams_of(tmp_path / "systems.yaml", 4, *options) == streams
    lengths = dict.fromkeys(SUBSETS, [2.0, 4.0, 6.0])
    found = estimate.pools({"train": 30, "dev": 9, "test": 5}, {}, lengths)
    later = estimate.Later(streams=56, labellings=4, asr_rooms=(10, 2))
    sizes = estimate.bytes_of(found, 8000, 4, virtual=False, bank=5, later=later)
    assert sizes["separated"] == pytest.approx(56 * 5 * 16 / 3 * 8000 * 4)
    assert sizes["pseudo-targets"] == pytest.approx(4 * 39 * 16 / 3 * 2 * 8000 * 4)
    # a microphone and one talker's image, 4 s long; a microphone and two images; two scenes; three responses
    audio, text, rooms = 12 * (2 * 4 + 3 * 16 / 3) * 16000, 24 * 1300, 12 * 3 * 78e3 / 2 / 4
    assert sizes["recogniser"] == pytest.approx(audio + text + rooms)
    files = estimate.files_of(found, 8000, False, 5, later)
    assert (files["separated"], files["pseudo-targets"], files["recogniser"]) == (56 * 5, 4 * 39 * 2, 12 * 9)


def test_streams_of_the_recipe_are_those_of_its_table():
    """As many as stage separate writes of a test mixture."""
    rows = load_systems(RECIPE / "conf" / "systems.yaml")
    made = [r for r in rows if r.name not in UNPROCESSED and not (r.model or "").startswith("curve/")]
    wanted = sum(4 if r.name == "teacher_outputs" else 2 for r in made) + 4
    assert estimate.streams_of(RECIPE / "conf" / "systems.yaml", 4, False, True, False) == wanted


def test_the_command_prints_the_real_sizes_and_stops_where_they_do_not_fit(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(RECIPE)
    words = ["--mixtures", "train=50800", "labelled=13900", "dev=3000", "test=3000", "--out", str(tmp_path)]

    def call(free: float, *more: str) -> tuple[int, str]:
        monkeypatch.setattr(estimate, "free_bytes", lambda _: free)
        monkeypatch.setattr(sys, "argv", ["estimate.py", *words, *more])
        with pytest.raises(SystemExit) as stop:
            estimate.run(estimate.main)
        return int(stop.value.code), "".join(capsys.readouterr())

    code, printed = call(1e9, "--teacher_options", "--max_epoch 2", "--download", "true")
    assert code == 0 and "363.6      104014" in printed and "it does not fit" in printed
    assert "training steps: teacher 400" in printed and "train-clean-360, train-clean-100" in printed
    both = ["--student_options", "--max_epoch 3", "--full_options", "--max_epoch 5"]
    for more, trainings in (
        ([], "student 2 x 600, full 1000;"),
        (["--curve", "true"], "student 4 x 600, full 2 x 1000;"),
        (["--unsupervised", "true"], "steps: student 600;"),
    ):
        assert trainings in call(1e12, *both, *more)[1], more
    code, printed = call(1e12, "--small_options", "--max_epoch foo")
    assert code == 2 and "--max_epoch of the size file: expected a number, found 'foo'" in printed
    code, printed = call(1e9, "--check")
    assert (
        code == 2
        and printed.count("\n") == 1
        and "GB needed, 1.0 GB free" in printed
        and "make room" in printed
    )
    code, printed = call(1e12, "--check", "--on_the_fly", "true")
    assert code == 0 and printed.startswith("disk: ")
    before = float(printed.split()[1])
    for more, gigabytes in (
        (["--asr_rooms", "14000 500"], 16.58),
        (["--curve", "true"], 129.6),
        (["--joint", "true"], 1.92),
    ):
        after = float(call(1e12, "--check", "--on_the_fly", "true", *more)[1].split()[1])
        assert after - before == pytest.approx(gigabytes, abs=0.2), more
    code, printed = call(1e12, "--asr_rooms", "14000")
    assert code == 2 and "--asr_rooms: expected two numbers" in printed and printed.count("\n") == 1
    words[1] = "trian=5"
    assert call(1e12)[0] == 2


def test_the_corpus_is_counted_on_its_own_disk(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(estimate, "_disk_of", lambda path: path.relative_to(tmp_path).parts[0])
    monkeypatch.setattr(estimate, "free_bytes", lambda path: 5e9 if tmp_path / "a" in path.parents else 90e9)
    data, corpus = tmp_path / "a/new/data", tmp_path / "a/corpus"
    # 3 and 3 GB are too much for one disk of 5, and fit where 3 of them lie elsewhere.
    assert estimate.disk_lines([(data, 3e9), (corpus, 3e9)]) == [
        (f"6.0 GB needed, 5.0 GB free where {data} and {corpus} are", False, [data, corpus])
    ]
    elsewhere = tmp_path / "b/corpus"
    lines = estimate.disk_lines([(data, 3e9), (elsewhere, 3e9)])
    assert [(fits, there) for _, fits, there in lines] == [(True, [data]), (True, [elsewhere])]
    # A full disk of the corpus is not helped by smaller mixtures.
    monkeypatch.setattr(estimate, "disk_lines", lambda needs: [("full", False, [elsewhere])])
    monkeypatch.chdir(RECIPE)
    monkeypatch.setattr(sys, "argv", ["estimate.py", "--check", "--out", str(data)])
    with pytest.raises(SystemExit, match="2"):
        estimate.run(estimate.main)
    assert "--librispeech on another disk" in capsys.readouterr().err


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
