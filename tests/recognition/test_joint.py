"""Joint fine-tuning through the real command: both parts learn, one order of talkers, kills, export."""

import argparse
import copy
import logging
import shutil
import signal
from pathlib import Path

import kills
import numpy as np
import pytest
import torch
import trainings
import yaml
from commands import call, exit_code
from defects import RELEASE
from kills import assert_same, kill_at_save, kill_at_step
from sharing import TOLERANCE, assert_near, together
from tiny_models import FS, MICS, make_model
from tiny_recognisers import former_names, make_recogniser, sees_padding
from trainings import command_line

from frontend.data.audio import read_audio
from frontend.data.kaldi import write_scp
from frontend.utils.errors import UserError

TOKENS = ["<blank>", "<unk>", "ONE", "TWO", "THREE", "<sos/eos>"]
JOINT = {
    "batch_size": 2,
    "num_iters_per_epoch": 3,
    "max_epoch": 2,
    "optim": "adam",
    "optim_conf": {"lr": 1.0e-3},
    "scheduler": "warmupcosine",
    "scheduler_conf": {"warmup_steps": 1},
    "keep_nbest_models": 2,
    "num_threads": 1,
}


def make_asr(folder, fs=FS, **changed):
    """Write a recogniser's training directory with random weights, as trainings leave it."""
    np.savez(folder.parent / "feats_stats.npz", count=2, sum=np.ones(10), sum_square=np.full(10, 20.0))
    masks = {"freq_mask_width_range": [0, 2], "time_mask_width_range": [0, 5]}
    sizes = {"output_size": 8, "attention_heads": 2, "linear_units": 8, "num_blocks": 1, "dropout_rate": 0.1}
    others = ("non_linguistic_symbols", "cleaner", "g2p", "preencoder", "postencoder")
    config = {
        "token_list": TOKENS,
        "specaug": "specaug",
        "specaug_conf": {"apply_time_warp": False, **masks},
        "normalize": "global_mvn",
        "normalize_conf": {"stats_file": str(folder.parent / "feats_stats.npz")},
        "encoder_conf": sizes,
        "use_preprocessor": True,
        "max_epoch": 7,
        "preencoder_conf": {},
        "postencoder_conf": {},
        **dict.fromkeys(others),
    }
    return make_recogniser(folder, fs, ctc_weight=0.5, seed=5, sure=1, **(config | changed))


def make_set(directory, n, seed, fs=FS, mics=MICS, longer=400):
    """A mixture set of noise bursts and words."""
    samples = {"samples": lambda i: 2500 + longer * (i % 4)}
    return trainings.make_set(directory, n, seed, fs=fs, mics=mics, words=TOKENS[2:5], **samples)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """What a joint training starts from."""
    root = tmp_path_factory.mktemp("given")
    return {
        "separator": make_model(root / "student", 2),
        "asr": make_asr(root / "asr"),
        "train_set": make_set(root / "train", 5, 1),
        "valid_set": make_set(root / "valid", 3, 2),
    }


@pytest.fixture
def command(tmp_path, given):
    """Return a function that makes the arguments of a training."""

    def make(output, *more, settings=None, **changed):
        return command_line(tmp_path, output, JOINT | (settings or {}), *more, **given | changed)

    return make


def in_child(argv, sabotage=None):
    """Train in a forked child and return its exit code."""
    import frontend.recognition.joint  # noqa: F401  forked children find ESPnet imported

    def prepare():
        logging.root.handlers.clear()  # as in a process of its own, without those of pytest
        if sabotage:
            sabotage()

    return kills.in_child(lambda argv: call("train joint", *argv), argv, prepare)


def weights(directory):
    """What a training leaves: the last epoch, the two networks, the state of the optimiser."""
    names = ("training/2epoch.pth", "valid.loss.ave.pth", "asr/valid.loss.ave.pth")
    files = {name: torch.load(directory / name, weights_only=True) for name in names}
    moments = torch.load(directory / "training/checkpoint.pth", weights_only=False)["optimizers"][0]["state"]
    return files | {"optimiser": {f"{i}.{k}": v for i, s in moments.items() for k, v in s.items()}}


@pytest.fixture(scope="module")
def complete(tmp_path_factory, given):
    """The arguments of a training that came to its end; its directory is the fourth."""
    argv = command_line(tmp_path_factory.mktemp("undisturbed"), "x", JOINT, **given)
    assert in_child(argv) == 0
    return argv


@pytest.fixture(scope="module")
def undisturbed(complete):
    return Path(complete[3])


@pytest.fixture(scope="module")
def trained(undisturbed):
    from frontend.recognition.joint import JointTask, register_joint

    register_joint()
    config = yaml.safe_load((undisturbed / "training/config.yaml").read_text())
    model = JointTask.build_model(argparse.Namespace(**config))
    model.load_state_dict(torch.load(undisturbed / "training/valid.loss.ave.pth", weights_only=True))
    return model


@pytest.fixture
def joint(trained):
    """The joint network, as trained."""
    return copy.deepcopy(trained)


@pytest.fixture
def batch():
    rng = torch.Generator().manual_seed(3)
    lengths = torch.tensor([4000, 3300, 2600])
    inside = (torch.arange(4000) < lengths[:, None]).float()
    images = 0.05 * torch.randn(2, 3, 4000, MICS, generator=rng) * inside[..., None]
    texts = {
        "text_spk1": torch.tensor([[2, 3], [4, -1], [2, 2]]),
        "text_spk1_lengths": torch.tensor([2, 1, 2]),
        "text_spk2": torch.tensor([[4, 2, 3], [3, 3, -1], [-1, -1, -1]]),  # the last talker is not there
        "text_spk2_lengths": torch.tensor([3, 2, 0]),
    }
    images[1, 2] = 0
    references = {f"speech_ref{k + 1}": images[k, ..., 0] for k in range(2)}
    return {"speech": images.sum(0), "speech_lengths": lengths, **references, **texts}


def swapped(batch, what):
    """Exchange the talkers in the entries that start with one of ``what``."""
    other = {"1": "2", "2": "1"}
    names = {
        n: n[:10] + n[10:].translate(str.maketrans(other)) if n.startswith("speech_ref") else n for n in batch
    }
    names |= {n: n.replace(n[8], other[n[8]], 1) for n in batch if n.startswith("text_spk")}
    return {n: batch[names[n]] if n.startswith(what) else batch[n] for n in batch}


class TestModel:
    def test_a_few_steps_lower_both_losses(self, joint, batch):
        joint.train()
        optimizer = torch.optim.Adam(joint.parameters(), lr=6e-3)
        torch.manual_seed(0)
        seen = []
        for _ in range(14):
            loss, stats, _ = joint(**batch)
            seen.append([float(stats["loss_enh"]), float(stats["loss_asr"]), float(loss.detach())])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        first, last = np.mean(seen[:3], axis=0), np.mean(seen[-3:], axis=0)
        assert (last < first - 0.1).all()

    def test_loss_is_the_weighted_sum(self, joint, batch):
        loss, stats, weight = joint.eval()(**batch)
        assert float(loss.detach()) == pytest.approx(float(stats["loss_asr"] + 0.1 * stats["loss_enh"]))
        assert int(weight) == 3

    def test_gradient_of_the_recogniser_reaches_the_separator(self, joint, batch):
        joint.train().enh_weight = 0.0
        joint(**batch)[0].backward()
        for name, parameter in joint.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name

    def test_talkers_in_another_order_are_the_same(self, joint, batch):
        joint.eval().requires_grad_(False)
        loss, stats, _ = joint(**batch)
        both, _, _ = joint(**swapped(batch, ("speech_ref", "text_spk")))
        assert float(both) == pytest.approx(float(loss), rel=1e-5)
        # Not so where only one of the two is exchanged: transcripts follow the references.
        _, stats_texts, _ = joint(**swapped(batch, ("text_spk",)))
        assert float(stats_texts["loss_enh"]) == pytest.approx(float(stats["loss_enh"]), rel=1e-6)
        assert abs(float(stats_texts["loss_asr"]) - float(stats["loss_asr"])) > 1e-3

    def test_order_is_that_of_every_mixture(self, joint, batch):
        """Exchanged in one mixture of the batch alone, and found there."""
        joint.eval().requires_grad_(False)
        loss = float(joint(**batch)[0])
        turned = {name: value.clone() for name, value in batch.items()}
        other = swapped(batch, ("speech_ref", "text_spk"))
        width = max(v.shape[1] for n, v in batch.items() if n in ("text_spk1", "text_spk2"))
        for name in ("text_spk1", "text_spk2"):
            turned[name] = torch.nn.functional.pad(turned[name], (0, width - turned[name].shape[1]), value=-1)
            other[name] = torch.nn.functional.pad(other[name], (0, width - other[name].shape[1]), value=-1)
        for name in turned:
            turned[name][1] = other[name][1]
        assert float(joint(**turned)[0]) == pytest.approx(loss, rel=1e-5)

    def test_padding_is_silent_and_unheard(self, joint, batch):
        joint.eval()
        with torch.no_grad():
            streams, _ = joint.separate(batch["speech"], batch["speech_lengths"])
            pair, _ = joint.separate(batch["speech"][1:], batch["speech_lengths"][1:])
        for stream, shorter in zip(streams, pair, strict=True):
            assert not stream[1, 3300:].any() and stream[1, 3200:3300].any()
            torch.testing.assert_close(stream[2, :2600], shorter[1, :2600])

    def test_convolutions_see_the_padding_as_in_a_training_alone(self, joint):
        assert sees_padding(joint.s2t_model.encoder)


class TestReading:
    def test_whole_utterances_as_they_are_recorded(self, tmp_path):
        from frontend.recognition.joint import WholeUtterances

        data = make_set(tmp_path / "four", 1, 6, mics=4)
        entries = {"speech": str(data / "wav/u0.wav"), "speech_ref1": str(data / "spk1/u0.wav")}
        recorded, _ = read_audio(entries["speech"])
        given = {"text": lambda uid, texts: texts, "fs": FS, "n_mics": 4, "array_symmetry": "circular"}
        orders = {True: set(), False: set()}
        for train, seen in orders.items():
            reader = WholeUtterances(train, **given)
            for epoch in range(12):
                reader.set_epoch(epoch)
                example = reader("u0", entries)
                assert example["speech"].shape == (2500, 4) and example["speech_ref1"].shape == (2500,)
                order = [int((recorded == channel).all(1).argmax()) for channel in example["speech"].T]
                np.testing.assert_array_equal(example["speech"].T, recorded[order])
                seen.add(tuple(order))
        # A circle mirrored about the reference microphone, or not.
        assert orders == {True: {(0, 1, 2, 3), (0, 3, 2, 1)}, False: {(0, 1, 2, 3)}}
        # The default student's setting, for a network that does not depend on the order.
        example = WholeUtterances(True, **given | {"array_symmetry": "any"})("u0", entries)
        np.testing.assert_array_equal(example["speech"].T, recorded)


class TestResume:
    def test_killed_training_ends_in_the_same_weights(self, command, tmp_path, undisturbed):
        """Killed within an epoch, then in writing its checkpoint, then in writing the separator."""
        argv = command("x")
        # Saves from then on: checkpoint and model of the epoch, the average, the recogniser, the separator.
        for kill, n in ((kill_at_step, 5), (kill_at_save, 1), (kill_at_save, 5)):
            assert in_child(argv, lambda: kill(n)) == -signal.SIGKILL  # noqa: B023
        assert in_child(argv) == 0
        assert_same(weights(tmp_path / "x"), weights(undisturbed))

    def test_two_processes_are_one_with_the_whole_batch(self, command, tmp_path):
        """Where nothing is drawn, and nothing is normalised over a batch, as a conformer does."""
        none = {"dropout_rate": 0.0, "positional_dropout_rate": 0.0}
        sizes = {"attention_heads": 2, "linear_units": 8, "num_blocks": 1}
        asr = make_asr(
            tmp_path / "asr",
            specaug=None,
            specaug_conf={},
            encoder="transformer",
            encoder_conf=sizes | none | {"output_size": 8, "attention_dropout_rate": 0.0},
            decoder_conf=sizes | none | {f"{name}_attention_dropout_rate": 0.0 for name in ("self", "src")},
        )
        # All are of one length: the edges of what is padded differ.
        sets = {
            "train_set": make_set(tmp_path / "train", 6, 1, longer=0),
            "valid_set": make_set(tmp_path / "valid", 4, 2, longer=0),
        }
        argv = command("x", settings={"optim": "sgd", "optim_conf": {"lr": 0.1}}, asr=asr, **sets)
        assert in_child(argv) == 0
        (tmp_path / "x").rename(tmp_path / "one")
        found = together(argv, kind="joint")
        assert [code for code, _ in found] == [0, 0] and found[1][1] == "", found
        assert_near(tmp_path / "one/training", tmp_path / "x/training")
        for exported in ("valid.loss.ave.pth", "asr/valid.loss.ave.pth"):
            one, two = (torch.load(tmp_path / name / exported, weights_only=True) for name in ("one", "x"))
            torch.testing.assert_close(one, two, **TOLERANCE)

    def test_complete_training_returns_at_once(self, complete, undisturbed, capsys):
        before = (undisturbed / "training/checkpoint.pth").stat().st_mtime_ns
        assert not call("train joint", *complete)
        assert "complete" in capsys.readouterr().err
        assert (undisturbed / "training/checkpoint.pth").stat().st_mtime_ns == before

    def test_dry_run_writes_no_network(self, command, tmp_path):
        assert in_child(command("dry", "--dry_run", "true")) == 0
        assert not [*(tmp_path / "dry").rglob("*.pth")]

    def test_starts_from_both_with_unknown_words_if_they_are_allowed(self, command, tmp_path, given, capfd):
        spoilt = without(given["train_set"], tmp_path / "spoilt", "text_spk1", "u1", "ONE FOUR")
        settings = {"optim_conf": {"lr": 0.0}, "max_epoch": 1}
        argv = command("still", "--allow_unknown", "true", train_set=spoilt, settings=settings)
        assert in_child(argv) == 0
        assert "note: " in capfd.readouterr().err
        assert "1epoch results" in (tmp_path / "still/training/train.log").read_text()
        for theirs, ours in (("separator", "still"), ("asr", "still/asr")):
            expected = torch.load(given[theirs] / "valid.loss.ave.pth", weights_only=True)
            found = torch.load(tmp_path / ours / "valid.loss.ave.pth", weights_only=True)
            assert found.keys() == expected.keys()
            for name in found:
                # A training counts and averages what batch normalisation sees, whatever its rate.
                assert torch.equal(found[name], expected[name]) or "running" in name or "num_batches" in name


class TestExport:
    @pytest.fixture(scope="class")
    def mixture(self):
        return 0.05 * np.random.default_rng(8).standard_normal((MICS, 3900)).astype(np.float32)

    @pytest.fixture
    def streams(self, joint, mixture):
        with torch.no_grad():
            found, _ = joint.eval().separate(torch.tensor(mixture.T[None]), torch.tensor([3900]))
        return torch.cat(found)

    def test_separator_gives_the_streams_of_the_joint_network(self, undisturbed, mixture, streams):
        from frontend.separation.model import Separator

        found = Separator.from_pretrained(undisturbed)(mixture, FS)
        # Alone, it sees the recording padded to whole hops.
        expected = streams.numpy()[:, :-128]
        assert ((found[:, :-128] - expected) ** 2).sum() < 0.02 * (expected**2).sum()

    def test_recogniser_is_that_of_the_joint_network(self, undisturbed, joint, streams, monkeypatch):
        from espnet2.bin.asr_inference import Speech2Text

        # Nothing of what it started from is needed any more.
        monkeypatch.setattr(np, "load", guarded(np.load, undisturbed / "asr"))
        config, model = (undisturbed / "asr" / name for name in ("config.yaml", "valid.loss.ave.pth"))
        alone = Speech2Text(asr_train_config=config, asr_model_file=model, beam_size=2)
        lengths = torch.full((2,), streams.shape[1])
        logits = []
        with torch.no_grad():
            for asr in (alone.asr_model, joint.eval().s2t_model):
                encoded, n = asr.encode(streams, lengths)
                logits.append(asr.ctc.log_softmax(encoded))
        assert torch.equal(*logits)
        assert len(alone(streams[0].numpy())) == 1
        assert (undisturbed / "asr/tokens.txt").read_text().split() == TOKENS

    def test_configurations_tell_of_this_training(self, undisturbed):
        from frontend.report.collect import training_facts

        facts = training_facts(undisturbed)
        assert (facts["epochs"], facts["steps"], facts["lr"]) == (2, 6, 1e-3)
        assert (facts["init"], facts["train_set"]) == (["student", "asr"], "train")
        assert facts["network"] == "mask_net"
        assert yaml.safe_load((undisturbed / "asr/config.yaml").read_text())["max_epoch"] == 2


def guarded(load, folder):
    def only_there(path, *args, **kwargs):
        assert Path(path).is_relative_to(folder), path
        return load(path, *args, **kwargs)

    return only_there


def without(source, target, name, utterance, value=""):
    """Copy a set, with another entry for one utterance in one table."""
    shutil.copytree(source, target)
    lines = [line.split(maxsplit=1) for line in (target / name).read_text().splitlines()]
    table = {key: (rest or [""])[0] for key, *rest in lines}
    write_scp(target / name, table | {utterance: value})
    return target


class TestErrors:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"max_epochs": 3}, r"max_epochs .*did you mean 'max_epoch'"),
            ({"model_conf": {"enh_wait": 1.0}}, r"model_conf: unknown key 'enh_wait' .*'enh_weight'"),
            ({"optim_conf": {"lr": "2e-4"}}, r"optim_conf: lr: a number expected"),
            ({"asr_encoder": "rnn"}, r"asr_encoder is what .* were trained with"),
            ({"token_type": "char"}, r"token_type is what .* were trained with"),
            (
                {"enh_criterions": [{"name": "thresholded_snr", "wrapper": "mixit"}]},
                r"thresholded_pit or pit expected",
            ),
            ({"enh_criterions": [{"name": "snrr", "wrapper": "pit"}]}, r"unknown criterion 'snrr'"),
            ({"batch_type": "numel"}, r"batch_type must be unsorted"),
            ({"freeze_param": ["enh_model"]}, r"nothing is joint about a frozen separator"),
        ],
    )
    def test_wrong_configuration(self, command, tmp_path, settings, message):
        with pytest.raises(UserError, match=message):
            call("train joint", *command("x", settings=settings))
        assert not (tmp_path / "x").exists()

    def test_networks_that_do_not_go_together(self, command, tmp_path, given):
        fast = make_asr(tmp_path / "fast", fs=16000)
        with pytest.raises(UserError, match=r"student: .*recogniser .*fast expects 16000 Hz"):
            call("train joint", *command("x", asr=fast))
        three = make_model(tmp_path / "three", 3)
        with pytest.raises(
            UserError, match=r"one reference .* per output of --separator expected: 3, found 2"
        ):
            call("train joint", *command("x", separator=three))
        with pytest.raises(UserError, match=r"expected a trained recogniser with config\.yaml"):
            call("train joint", *command("x", asr=tmp_path))
        shutil.copytree(given["asr"], tmp_path / "mixed")
        shutil.copy(given["separator"] / "valid.loss.ave.pth", tmp_path / "mixed")
        with pytest.raises(
            UserError, match=r"mixed/valid\.loss\.ave\.pth: weights do not fit the network of .*mixed"
        ):
            call("train joint", *command("x", asr=tmp_path / "mixed"))
        former = former_names(torch.load(given["asr"] / "valid.loss.ave.pth"))
        torch.save(former, tmp_path / "mixed/valid.loss.ave.pth")
        if RELEASE >= 202611:  # which would leave some weights as they were drawn
            with pytest.raises(
                UserError, match=r"mixed/valid\.loss\.ave\.pth: weights are named as in an earlier"
            ):
                call("train joint", *command("x", asr=tmp_path / "mixed"))
        (tmp_path / "mixed/valid.loss.ave.pth").write_bytes(b"half")
        with pytest.raises(UserError, match=r"mixed/valid\.loss\.ave\.pth: damaged"):
            call("train joint", *command("x", asr=tmp_path / "mixed"))

    @pytest.mark.parametrize(
        ("table", "utterance", "value", "message"),
        [
            (
                "text_spk1",
                "u1",
                "ONE FOUR FOUR FIVE",
                r"text_spk1: 3 words unknown .*: FOUR \(2\), FIVE \(1\)",
            ),
            (
                "text_spk2",
                "u1",
                "",
                r"text_spk2: u1: a transcript expected, found none, though .*u1\.wav is not",
            ),
            ("text_spk2", "u9", "ONE", r"text_spk2:6: id u9 is not in wav\.scp"),
        ],
    )
    def test_wrong_transcripts(self, command, tmp_path, given, table, utterance, value, message):
        spoilt = without(given["train_set"], tmp_path / "spoilt", table, utterance, value)
        with pytest.raises(UserError, match=message):
            call("train joint", *command("x", train_set=spoilt))
        assert not (tmp_path / "x").exists()

    @pytest.mark.parametrize(
        ("mics", "fs", "message"),
        [(3, FS, r"2 channel\(s\) expected .*, found 3"), (MICS, 16000, "8000 Hz expected .*, found 16000")],
    )
    def test_wrong_recordings(self, command, tmp_path, mics, fs, message):
        other = make_set(tmp_path / "other", 2, 4, fs=fs, mics=mics)
        with pytest.raises(UserError, match=rf"wav\.scp: u0: {message}"):
            call("train joint", *command("x", valid_set=other))

    def test_result_takes_no_place_of_its_start(self, command, tmp_path, given):
        for place, name in (("x/asr", "asr"), ("y", "asr"), ("z", "separator")):
            shutil.copytree(given[name], tmp_path / place)
            (tmp_path / place / "valid.loss.ave.pth").rename(tmp_path / place / "model.pth")
            for start in (tmp_path / place, tmp_path / place / "model.pth"):
                with pytest.raises(UserError, match=rf"{place[0]}: the result would replace --{name}"):
                    call("train joint", *command(place[0], **{name: start}))

    def test_one_line_and_exit_code_2(self, command, capsys):
        argv = command("x")
        del argv[argv.index("--asr") : argv.index("--asr") + 2]
        assert exit_code("train joint", *argv) == 2
        line = capsys.readouterr().err.strip().splitlines()
        assert len(line) == 1 and "--asr DIR is missing" in line[0]
