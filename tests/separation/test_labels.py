"""Pseudo-target sets made with a tiny untrained network, and the processes that make them."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import torch
from tiny_models import FS, write

from frontend.data.kaldi import validate
from frontend.data.mixtures import MixtureSet, subset
from frontend.dsp.refine import refine
from frontend.separation.labels import load_labelling
from frontend.separation.model import Separator
from frontend.separation.pseudo_targets import select


def test_a_labelled_set_is_made_and_differs_from_the_truth(models, data, tmp_path, command):
    unlabelled = tmp_path / "unlabelled"
    subset(data, unlabelled, "abc", labelled=False)
    made = {}
    for nj in (1, 2):
        out = tmp_path / f"pseudo{nj}"
        arguments = [
            "--model",
            models / "teacher",
            "--data",
            unlabelled,
            "--rule",
            "spatial_merge",
            "--refine",
            "mvdr",
        ]
        assert command("label", *arguments, "--out", out, "--reference", data, "--nj", nj)[0] == 0
        assert validate(out) == []
        made[nj] = {p.relative_to(out): p.read_bytes() for p in out.rglob("*.wav")}
    assert made[1] == made[2] and len(made[1]) == 6
    made_set, teacher = MixtureSet(out), Separator.from_pretrained(models / "teacher")
    x = torch.from_numpy(made_set.mixture("b")[0])
    expected = refine(select(torch.from_numpy(teacher(x.numpy(), FS)), 2, "spatial_merge", x), x, FS, "mvdr")
    torch.testing.assert_close(torch.from_numpy(made_set.references("b")), expected, rtol=1e-4, atol=1e-6)
    quality = json.loads((out / "quality.json").read_text())
    assert quality["n"] == 3 and quality["rule"] == "spatial_merge" and np.isfinite(quality["si_snri"])
    assert quality["by_talkers"]["2"]["n"] == 3


def test_targets_of_mixtures_in_which_nobody_talks_are_counted(models, data, tmp_path, command):
    for name in ("spk1", "spk2"):
        write(data / f"audio/{name}/b.wav", np.zeros((1, 4100)))
    arguments = ["--model", models / "student", "--data", data, "--rule", "all", "--reference", data]
    code, printed, _ = command("label", *arguments, "--out", tmp_path / "pseudo")
    assert code == 0 and "1 mixtures of 0 talker(s), 2.0 targets (for information" in printed
    assert "2 mixtures of 2 talker(s), 2.0 targets at " in printed
    quality = json.loads((tmp_path / "pseudo/quality.json").read_text())
    assert quality["by_talkers"]["0"] == {"n": 1, "sounding": 2.0, "si_snr": None, "si_snri": None}
    assert quality["si_snri"] == quality["by_talkers"]["2"]["si_snri"]


def test_labelling_goes_on_where_it_was_cut_off(models, data, tmp_path, command):
    out = tmp_path / "pseudo"
    arguments = ["--model", models / "student", "--data", data, "--out", out]
    assert command("label", *arguments, "--rule", "all")[0] == 0
    files = sorted(out.rglob("*.wav"))
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in files}
    code, printed, _ = command("label", *arguments, "--rule", "all")
    assert code == 0 and "nothing to do" in printed
    files[1].unlink()
    assert command("label", *arguments, "--rule", "all")[0] == 0
    assert files[0].name == files[3].name and files[1].read_bytes() == before[files[1]][1]
    assert files[2].stat().st_mtime_ns == before[files[2]][0], "a complete utterance was made again"
    for name in ("spk2.scp", "utt2num_samples"):
        (out / name).unlink()
        assert command("label", *arguments, "--rule", "all")[0] == 0
        assert validate(out) == []
    code, printed, _ = command("label", *arguments, "--rule", "energy")
    assert code == 0 and "changed" in printed


def test_a_kill_while_an_old_set_is_replaced_does_no_harm(models, data, tmp_path, command, monkeypatch):
    out = tmp_path / "pseudo"
    arguments = ["--model", models / "student", "--data", data, "--out", out]
    assert command("label", *arguments, "--rule", "all")[0] == 0

    def killed_half_way(path, **_):
        if Path(path).exists():
            for stamp in Path(path).rglob("*.json"):
                stamp.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    def replace():
        monkeypatch.setattr("shutil.rmtree", killed_half_way)
        command("label", *arguments, "--rule", "energy")

    child = multiprocessing.get_context("fork").Process(target=replace)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert command("label", *arguments, "--rule", "energy")[0] == 0
    assert validate(out) == []


def test_a_configuration_of_labels_and_its_mistakes(models, data, tmp_path, command):
    config = tmp_path / "pseudo.yaml"
    config.write_text("rule: spatial_merge\nrefine: mvdr+mask\nweight_exponent: 2\n")
    labelling = load_labelling(config, rule=None, n_talkers=None, refine=None)
    assert (labelling.rule, labelling.n_talkers, labelling.refine) == ("spatial_merge", 2, "mvdr+mask")
    assert labelling.settings == {"weight_exponent": 2}
    arguments = ["--model", models / "teacher", "--data", data, "--out", tmp_path / "pseudo"]
    for text, options, message in [
        ("rule: energy\nweight: 2", [], "no setting 'weight'"),
        ("ruel: energy", [], "found 'ruel'"),
        ("rule: oracle", [], "not make pseudo-targets"),
        ("rule: energy\nn_talkers: two", [], "'two'"),
        ("rule: 3", [], "pseudo.yaml: expected a rule out of"),
        ("rule: [energy]", [], "pseudo.yaml: expected a rule out of"),
        ("rule: energy\n3: 4", [], "pseudo.yaml: rule 'energy' has no setting '3'"),
        ("blind: 3", [], "pseudo.yaml: expected a blind method out of"),
        ("blind: [auxiva]", [], "pseudo.yaml: expected a blind method out of"),
        ("rule: spatial_merge\nwindow: abc", [], "window: expected seconds above 0, found 'abc'"),
        ("rule: energy", ["--n_talkers", 4], "expects 4 outputs or more"),
        ("rule: energy", ["--nj", "-1"], "--nj: expected at least 1, found -1"),
        ("rule: energy", ["--reference", tmp_path], "wav.scp"),
        ("blind: auxiva", ["--device", "cuda"], "expected the device cpu, where auxiva computes"),
    ]:
        config.write_text(text)
        code, _, err = command("label", *arguments, "--config", config, *options)
        assert code == 2 and message in err and not (tmp_path / "pseudo").exists()
    (tmp_path / "pseudo").mkdir()
    (tmp_path / "pseudo" / "mine").write_text("precious")
    code, _, err = command("label", *arguments, "--rule", "energy")
    assert code == 2 and (tmp_path / "pseudo" / "mine").exists()
