"""More than two talkers: scenes of two or three, sets, losses, rules, scores, counts; and the whole chain."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from speech_sets import make_speech

from frontend.data.audio import read_audio
from frontend.data.mixtures import MixtureSet
from frontend.data.speech import read_speech
from frontend.dsp.refine import gate, refine
from frontend.evaluation.measured import Scores, load_scores
from frontend.evaluation.results import counted
from frontend.evaluation.score import Settings, score_utterance
from frontend.recognition.text import REFERENCES, segments, utterance_errors, write_hypotheses, write_segments
from frontend.separation.pseudo_targets import select
from frontend.separation.systems import System, load_systems
from frontend.simulation.config import SceneConfig, TalkersConfig
from frontend.simulation.scenes import read_scenes, sample_scene
from frontend.training.criteria import ThresholdedPIT, ThresholdedSNR
from frontend.training.losses import mixit_loss
from frontend.utils.errors import UserError


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return make_speech(tmp_path_factory.mktemp("dry") / "speech", speakers=6, seconds=0.5)


def draw(number, speech, count, share=0.0):
    config = SceneConfig(talkers=TalkersConfig(number=number, one_talker_share=share))
    known = read_speech(speech, config.fs)
    return [sample_scene(f"m{k:03d}", config, known, 5) for k in range(count)]


def test_numbers_of_talkers_are_drawn_evenly_beside_the_share_of_one(speech):
    found = [len(scene["talkers"]) for scene in draw((2, 3), speech, 400, share=0.2)]
    one, two, three = (found.count(n) for n in (1, 2, 3))
    assert one + two + three == 400
    assert abs(one - 80) < 4 * math.sqrt(400 * 0.2 * 0.8)
    assert abs(two - three) < 4 * math.sqrt(one + two + three - one)
    # A single number is what it was, and talkers are added behind those who were there.
    pairs, threes = draw(2, speech, 20), draw(3, speech, 20)
    for few, many in zip(pairs, threes, strict=True):
        assert [t["utterance"] for t in few["talkers"]] == [t["utterance"] for t in many["talkers"][:2]]
        assert [t["level_db"] for t in few["talkers"]] == [t["level_db"] for t in many["talkers"][:2]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("talkers: {number: [3, 2]}", "number: expected a whole number or [fewest, most]; found [3, 2]"),
        ("talkers: {number: [2, 2.5]}", "expected a whole number or [fewest, most]"),
        ("talkers: {number: 0}", "number: expected at least 1"),
        ("talkers: {number: [2, 5], min_angle: 80}", "5 talkers cannot stand 80.0 degrees apart"),
    ],
)
def test_impossible_numbers_are_refused(tmp_path, speech, command, text, message):
    (tmp_path / "c.yaml").write_text(text)
    options = ["--config", tmp_path / "c.yaml", "--speech", speech, "--num", 2, "--prefix", "x"]
    code, _, err = command("simulate scenes", *options, "--out", tmp_path / "s.jsonl")
    assert code == 2 and message in err and not (tmp_path / "s.jsonl").exists()


def test_options_of_scenes(tmp_path, speech, command):
    (tmp_path / "c.yaml").write_text("talkers: {one_talker_share: 1.0}\n")
    options = ["--config", tmp_path / "c.yaml", "--speech", speech, "--num", 12, "--prefix", "x"]
    options += ["--out", tmp_path / "s.jsonl"]

    def numbers(*more):
        assert command("simulate scenes", *options, *more)[0] == 0
        return {len(scene["talkers"]) for scene in read_scenes(tmp_path / "s.jsonl")}

    assert numbers() == numbers("--talkers", "2-3") == {1}  # the share of one talker stays
    assert numbers("--n_talkers", "3") == {3} and numbers("--n_talkers", "2-3") == {2, 3}
    for wrong in (["--talkers", "3-2"], ["--n_talkers", "two"], ["--talkers", "2", "--n_talkers", "2"]):
        assert command("simulate scenes", *options, *wrong)[0] == 2


def test_a_set_has_a_silent_image_and_an_empty_text_where_a_talker_is_absent(tmp_path, speech, command):
    (tmp_path / "c.yaml").write_text("t60: 0\nnoise: {kind: none}\n")
    options = ["--config", tmp_path / "c.yaml", "--speech", speech, "--num", 3, "--prefix", "x"]
    assert command("simulate scenes", *options, "--n_talkers", 2, "--out", tmp_path / "s.jsonl")[0] == 0
    make = ["--scenes", tmp_path / "s.jsonl", "--speech", speech, "--out", tmp_path / "set"]
    code, printed, _ = command("simulate render", *make, "--n_talkers", 3)
    assert code == 0 and "3 talkers" in printed
    assert command("data check", tmp_path / "set")[0] == 0
    made = MixtureSet(tmp_path / "set")
    for key in made.ids:
        images, texts = made.references(key), made.texts(key)
        assert images.shape[0] == len(texts) == 3
        assert [bool(i.any()) for i in images] == [bool(t) for t in texts] == [True, True, False]
    code, _, err = command("simulate render", *make[:-1], tmp_path / "other", "--n_talkers", 1)
    assert code == 2 and "has 2 talkers, expected at most 1" in err


def test_pit_asks_for_silence_where_nobody_talks():
    refs = noise(3, 4, 500)
    refs[2] = 0
    outputs = (refs[[1, 2, 0]] + 0.1 * noise(3, 4, 500, seed=1)).requires_grad_()
    loss, _, others = ThresholdedPIT(ThresholdedSNR(snr_max=30))(list(refs), list(outputs))
    assert (others["perm"] == torch.tensor([2, 0, 1])).all()
    x = refs.sum(0).square().sum(-1)
    slow = []
    for b in range(4):  # the definition: all six orders, errors against the mixture's energy
        errors = (refs[:, None, b] - outputs[None, :, b]).square().sum(-1)
        values = 10 * torch.log10(errors / x[b] + 1e-3)
        slow.append(min(values[range(3), list(p)].mean() for p in itertools.permutations(range(3))))
    torch.testing.assert_close(loss, torch.stack(slow).mean())
    loss.backward()
    silent = outputs.grad[1]  # the gradient makes the surplus output smaller
    assert torch.isfinite(outputs.grad).all() and ((silent * outputs[1].detach()).sum(-1) > 0).all()


def test_mixit_of_six_outputs_and_two_mixtures_of_three():
    sources = noise(2, 6, 400)
    mixtures = torch.stack([sources[:, [0, 3, 4]].sum(1), sources[:, [1, 2, 5]].sum(1)], dim=1)
    loss, assignment = mixit_loss(mixtures, sources)
    assert assignment.tolist() == [[0, 1, 1, 0, 0, 1]] * 2
    torch.testing.assert_close(loss, torch.full((2,), -30.0))


def three_talkers(present=(0, 1, 2), samples=6000):
    """Voices from three directions, each in two of six outputs: outputs, mixture (4, T), images (3, T)."""
    delays = [[0, 1, 3, 2], [0, 4, 1, 6], [0, 2, 5, 3]]
    voices = noise(3, samples + 32, seed=3).numpy() * (
        np.arange(samples + 32) // 2048 % 3 == np.arange(3)[:, None]
    )
    at_mics = np.stack([np.stack([voices[s, 16 - d : 16 - d + samples] for d in delays[s]]) for s in present])
    piece = np.arange(samples) // 100 % 4 < 2
    outputs = [at_mics[k, 0] * half for k in range(len(present)) for half in (piece, ~piece)]
    outputs = np.stack(outputs + [np.zeros(samples)] * (6 - len(outputs)))
    mixture = at_mics.sum(0) + 1e-3 * noise(4, samples, seed=9).numpy()
    return [torch.from_numpy(a.astype(np.float32)) for a in (outputs, mixture, at_mics[:, 0])]


def test_six_outputs_are_merged_to_three_talkers():
    outputs, mixture, images = three_talkers()
    streams = select(outputs, 3, "spatial_merge", mixture, window=0.008)
    for image in images:
        assert (streams - image).square().sum(-1).min() < 1e-3 * image.square().sum()


def test_the_oracle_leaves_a_talker_silent_who_is():
    outputs, _, images = three_talkers(present=(0, 1))
    oracle = select(outputs, 3, "oracle", references=torch.cat([images, 0 * images[:1]]))
    for image, stream in zip(images, oracle, strict=False):
        assert (stream - image).square().sum() < 1e-3 * image.square().sum()


@pytest.mark.parametrize("steps", ["mask+gate", "mask+gate+mvdr+iva+mask"])
def test_the_gate_closes_where_a_third_talker_is_not(steps):
    """Two voices, of which a tenth of the one has leaked into the third stream."""
    _, mixture, images = three_talkers(present=(0, 1))
    leak = 0.1 * images[1:]
    streams = torch.cat([images[:1], images[1:] - leak, leak])
    assert refine(streams, mixture, 8000, steps).any(-1).tolist() == [True, True, False]
    _, mixture, images = three_talkers()
    assert refine(images, mixture, 8000, steps).any(-1).all()


def test_the_gate_keeps_what_is_the_loudest_for_an_eighth_of_its_share():
    """Of 32 frames of equal energy an even share of two streams is 16, an eighth of it 2.02 (leakage)."""
    frame = 2048
    voice = noise(1, 32 * frame)[0].unflatten(0, (32, frame))
    voice = voice / voice.square().sum(-1, keepdim=True).sqrt()
    for count, kept in ((2, [True, False]), (3, [True, True]), (30, [False, True])):
        second = torch.arange(32)[:, None] < count
        # Each leaks into the other at -20 dB.
        streams = torch.stack([torch.where(second, 0.1, 1.0) * voice, torch.where(second, 1.0, 0.1) * voice])
        streams, mixture = streams.flatten(1), voice.flatten()[None].repeat(2, 1)
        made = gate(streams, mixture, 8000)
        assert made.any(-1).tolist() == kept
        expected = streams if all(kept) else mixture * torch.tensor(kept)[:, None]
        assert torch.equal(made, expected)
    assert not gate(0 * streams, 0 * mixture, 8000).any()


@pytest.mark.parametrize("steps", ["mvdr", "iva", "mask", "gate", "mvdr+iva+mask+gate+iva+mask"])
def test_three_streams_are_refined_and_a_silent_one_stays_silent(steps):
    _, mixture, images = three_talkers()
    refined = refine(images, mixture, 8000, steps)
    assert refined.shape == images.shape and torch.isfinite(refined).all() and refined.any(-1).all()
    _, mixture, images = three_talkers(present=(0, 1))
    refined = refine(torch.cat([images, 0 * images[:1]]), mixture, 8000, steps)
    assert torch.isfinite(refined).all() and not refined[2].any() and refined[:2].any(-1).all()
    alone = refine(torch.stack([images[0], 0 * images[0], 0 * images[0]]), mixture, 8000, steps)
    assert torch.isfinite(alone).all() and alone[0].any() and not alone[1:].any()


def test_scores_and_word_errors_of_two_who_talk_and_three_streams():
    voices = noise(3, 8000).numpy()
    references = np.stack([voices[0], voices[1], 0 * voices[2]])
    mixture = references.sum(0)
    streams = np.stack([0 * mixture, voices[1], voices[0] + 0.01 * voices[2]])
    row = score_utterance(references, streams, streams, mixture, 8000, Settings(()))
    assert (row["talkers"], row["permutation"], row["silent"], row["active_streams"]) == (2, [2, 1], [], 2)
    assert len(row["si_snri"]) == 2 and row["si_snri"][0] > 30
    over = score_utterance(references, streams + 0.3 * voices[2], streams, mixture, 8000, Settings(()))
    assert over["active_streams"] == 3 and over["active_outputs"] == 2
    found = utterance_errors(["ONE TWO", "THREE"], ["", "THREE", "ONE TWO"])
    assert (found["errors"], found["assignment"], found["surplus"]) == (0, [2, 1], [0])
    found = utterance_errors(["ONE TWO", "THREE", "FOUR"], ["FOUR", "ONE", "THREE SIX"])
    assert (found["errors"], found["assignment"]) == (2, [1, 2, 0])


def test_talkers_are_counted_by_active_streams():
    def rows(talkers, active, silent=()):
        gains = [1.0, 3.0, 5.0][:talkers]
        row = {"id": "u", "talkers": talkers, "silent": list(silent), "si_snri": gains}
        return [row | {"active_streams": k} for k in active]

    both = {"student": Scores({"channels": 4}, rows(2, [2, 2, 3, 1]) + rows(3, [3, 3, 2, 3]))}
    one = {"student": Scores({"channels": 4}, rows(1, [1, 2]))}
    entries = counted(both, one, [System("mixture"), System("student", model="student")], 0)
    assert [(e["talkers"], e["n"], e["active"]) for e in entries] == [
        (1, 2, {"1": 1, "2": 1}),
        (2, 4, {"1": 1, "2": 2, "3": 1}),
        (3, 4, {"2": 1, "3": 3}),
    ]
    shares = [(e["right"], e["surplus"], e["missing"]) for e in entries]
    assert shares == [(50, 50, 0), (50, 25, 25), (75, 0, 25)]
    assert [e["si_snri"] for e in entries] == [1, 2, 3]
    two = {"student": Scores({"channels": 4}, rows(2, [2]))}
    assert [e["talkers"] for e in counted(two, one, [System("student")], 0)] == [1]
    assert counted(two, {}, [System("student")], 0) == []
    old = Scores({"channels": 4}, [{"id": "u7", "talkers": 3, "silent": [], "si_snri": [1.0]}])
    with pytest.raises(UserError, match="u7.*run the stage 'score' again"):
        counted({"student": old}, {}, [System("student")], 0)


STFT = {"n_fft": 64, "hop_length": 32}
TRAINING = {"encoder": "stft", "encoder_conf": STFT, "decoder": "stft", "decoder_conf": STFT}
TRAINING |= {
    "separator": "mask_net",
    "separator_conf": {"n_mics": 4, "num_spk": 2, "channels": 4, "blocks": 1},
}
TRAINING |= {
    "batch_size": 2,
    "num_iters_per_epoch": 2,
    "max_epoch": 1,
    "num_threads": 1,
    "keep_nbest_models": 1,
}
TRAINING |= {"optim": "adam", "optim_conf": {"lr": 1.0e-3}}
TEACHER = TRAINING | {"criterions": [{"name": "thresholded_snr", "wrapper": "mixit"}], "preprocessor": "mom"}
TEACHER |= {"model_conf": {"flexible_numspk": True}, "preprocessor_conf": {"fs": 8000, "crop": 0.3}}
STUDENT = TRAINING | {
    "criterions": [{"name": "thresholded_snr", "wrapper": "thresholded_pit"}],
    "preprocessor": "crop",
}
STUDENT |= {"preprocessor_conf": {"fs": 8000, "crop": 0.3}}
SYSTEMS = """\
mixture: {}
auxiva: {blind: auxiva, iterations: 2}
ilrma: {blind: ilrma, iterations: 2}
teacher_outputs: {model: teacher}
teacher_spatial_merge: {model: teacher, rule: spatial_merge}
teacher_oracle: {model: teacher, rule: oracle}
student: {model: student}
student+mvdr: {model: student, refine: mvdr}
student+iva: {model: student, refine: iva}
student+iva+mask+gate+iva+mask: {model: student, refine: iva+mask+gate+iva+mask}
oracle: {}
"""


def test_the_chain_of_two_or_three_talkers(tmp_path, speech, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {
        "scenes": {"t60": 0, "talkers": {"one_talker_share": 0.2}},
        "teacher": TEACHER,
        "student": STUDENT,
    }
    for name, content in files.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "pseudo.yaml").write_text(
        "rule: spatial_merge\nn_talkers: 2\nrefine: iva+mask+gate+iva+mask\n"
    )
    (tmp_path / "systems.yaml").write_text(SYSTEMS)

    def do(name, **options):
        flags = [
            part for key, value in options.items() for part in (f"--{key}", *str(value).split("|")) if part
        ]
        code, printed, err = command(name, *flags)
        assert code == 0, (name, printed, err)
        return printed

    for name, number in (("train", 6), ("dev", 3), ("test", 4)):
        option = {"n_talkers": "2-3"} if name == "test" else {"talkers": "2-3"}
        where = {"speech": speech, "out": f"{name}.jsonl", "prefix": name}
        do("simulate scenes", config="scenes.yaml", num=number, seed=1, **where, **option)
        do("simulate render", scenes=f"{name}.jsonl", speech=speech, out=name, n_talkers=3)
    for name in ("train", "dev"):
        do("data subset", data=name, out=f"{name}_unlabelled", share="1|--unlabelled")
    sets = {"train_set": "train_unlabelled", "valid_set": "dev_unlabelled"}
    do("train separator", config="teacher.yaml", output_dir="exp/teacher", separator_conf="num_spk=6", **sets)
    for name in ("train", "dev"):
        pair = {"data": f"{name}_unlabelled", "out": f"{name}_pseudo", "reference": name}
        printed = do("label", config="pseudo.yaml", n_talkers=3, model="exp/teacher", **pair)
        assert "mixtures of 2 talker(s)" in printed and MixtureSet(f"{name}_pseudo").n_talkers == 3
        quality = json.loads(Path(f"{name}_pseudo/quality.json").read_text())
        assert 1 <= quality["by_talkers"]["2"]["sounding"] <= 3
    sets = {"train_set": "train_pseudo", "valid_set": "dev_pseudo"}
    do("train separator", config="student.yaml", output_dir="exp/student", separator_conf="num_spk=3", **sets)
    paths = {"systems": "systems.yaml", "exp": "exp", "data": "test", "out": "separated"}
    do("separate", n_talkers=3, **paths)
    do("score", data="test", separated="separated", out="scores", measures="sdr")
    check_scores(tmp_path)
    entries = counted(load_scores(Path("scores")), {}, load_systems("systems.yaml"), 0)
    assert {e["system"] for e in entries} == set(yaml.safe_load(SYSTEMS)) - {"mixture"}
    for entry in (e for e in entries if e["system"] == "oracle"):
        assert entry["right"] == 100 and entry["active"] == {str(entry["talkers"]): entry["n"]}
    count_words(do)


def check_scores(root):
    test = MixtureSet("test")
    talkers = {key: sum(map(bool, test.texts(key))) for key in test.ids}
    assert set(talkers.values()) == {2, 3}, "the seed should give both"
    for name in yaml.safe_load(SYSTEMS):
        rows = [json.loads(line) for line in (root / f"scores/{name}.jsonl").read_text().splitlines()]
        assert {row["id"]: row["talkers"] for row in rows} == talkers, name
        assert all(len(row["si_snri"]) == len(row["sdr"]) == row["talkers"] for row in rows)
    rows = [json.loads(line) for line in (root / "scores/teacher_outputs.jsonl").read_text().splitlines()]
    assert all(0 <= row["active_outputs"] <= 6 for row in rows)
    for key in talkers:  # what is selected of the six is all of them, in up to three parts
        streams = [read_audio(f"separated/teacher_spatial_merge/wav{k}/{key}.wav")[0][0] for k in (1, 2, 3)]
        whole = sum(read_audio(f"separated/.outputs/teacher/wav{k}/{key}.wav")[0][0] for k in range(1, 7))
        np.testing.assert_allclose(sum(streams), whole, atol=1e-5)


def count_words(do):
    """Word errors of texts that are right, with a word too many in the first utterance of two talkers."""
    test = MixtureSet("test")
    references = {key: test.texts(key)[::-1] for key in test.ids}
    seconds = {key: [1.0] * 3 for key in test.ids}
    two = next(key for key, texts in references.items() if not all(texts))
    recognised = {
        key: [t or ("SURPLUS" if key == two else "") for t in texts] for key, texts in references.items()
    }
    info = {"asr": "none", "asr_fingerprint": ""}
    write_hypotheses("decoded/student", recognised, seconds, info)
    write_segments(Path("decoded") / REFERENCES, segments(references, seconds, keep_empty=False))
    do("wer", data="test", decoded="decoded", out="wer")
    about = json.loads(Path("wer/student.json").read_text())
    assert (about["errors"], about["insertions"], about["streams"]) == (1, 1, 3)
