"""Training through the real command: configuration checks, kills, resuming, strict loading."""

import shutil
import signal
from pathlib import Path

import kills
import numpy as np
import pytest
import soundfile
import torch
from kills import assert_same, kill_at_link, kill_at_save, kill_at_step, weights
from trainings import FS, GUIDED, MICS, STFT, STUDENT, TEACHER, command_line, make_set

from frontend.data.audio import read_audio
from frontend.data.kaldi import read_scp, write_scp
from frontend.training.checkpoints import repair_checkpoint
from frontend.training.checks import check_channels
from frontend.training.examples import CroppedSources
from frontend.training.run import DONE, train_separator
from frontend.training.task import KeyedIterFactory, WarmupCosine
from frontend.utils.errors import UserError, run

NAN = float("nan")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return {
        "train": str(make_set(root / "train", 7, 1)),
        "valid": str(make_set(root / "valid", 3, 2, "flac.ark")),
        "other": str(make_set(root / "other", 3, 3, mics=2)),
        "fast": str(make_set(root / "fast", 3, 4, fs=16000)),
    }


@pytest.fixture
def command(tmp_path, data):
    """Return a function that makes the arguments of a training."""

    def make(settings, output, *more, **changed):
        sets = {"train_set": data["train"], "valid_set": data["valid"]}
        return command_line(tmp_path, output, settings | changed, *more, **sets)

    return make


def in_child(argv, sabotage=None):
    """Train in a forked child and return its exit code."""
    return kills.in_child(train_separator, argv, sabotage)


def as_kaldi_has_it(source: str, out: Path) -> str:
    """Make a directory of one recording, which ``segments`` cuts into the mixtures of ``source``."""
    pieces = {key: read_audio(entry) for key, entry in read_scp(f"{source}/wav.scp").items()}
    out.mkdir()
    soundfile.write(
        out / "whole.wav", np.concatenate([audio for audio, _ in pieces.values()], axis=1).T, FS, "PCM_16"
    )
    start, lines = 0, []
    for key, (audio, _) in pieces.items():
        end = start + audio.shape[1]
        lines.append(
            f"{key}\twhole {start / FS!r} {-1 if key == list(pieces)[-1] else repr(end / FS)} \r\n\r\n"
        )
        start = end
    (out / "wav.scp").write_bytes(b"\xef\xbb\xbfwhole whole.wav\r\n")
    (out / "segments").write_bytes("".join(lines).encode("utf-16"))
    return str(out)


def test_a_directory_with_segments_and_marks_is_trained_on_as_files_are(command, data, tmp_path):
    kaldi = as_kaldi_has_it(data["train"], tmp_path / "kaldi")
    for output, name in (("files", data["train"]), ("cut", kaldi)):
        assert in_child(command(TEACHER, output, "--train_set", name, max_epoch=1)) == 0
    assert_same(weights(tmp_path / "files"), weights(tmp_path / "cut"))


def test_lengths_that_are_wrong_are_found_before_training(command, data, tmp_path):
    wrong = tmp_path / "wrong"
    shutil.copytree(data["train"], wrong)
    lengths = read_scp(wrong / "utt2num_samples")
    for value in ("2999", "many"):
        write_scp(wrong / "utt2num_samples", lengths | {"u3": value})
        with pytest.raises(UserError, match=r"u3.*utt2num_samples"):
            train_separator(command(TEACHER, f"x{value}", "--train_set", str(wrong)))


class TestResume:
    @pytest.fixture(scope="class")
    def undisturbed(self, tmp_path_factory, data):
        directory = tmp_path_factory.mktemp("undisturbed")
        sets = {"train_set": data["train"], "valid_set": data["valid"]}
        assert in_child(command_line(directory, "x", TEACHER, **sets)) == 0
        return weights(directory / "x")

    # Saves: checkpoint and model of two epochs, their average. Links: latest, best, ...
    @pytest.mark.parametrize(
        ("kill", "n"),
        [(kill_at_save, n) for n in range(1, 6)] + [(kill_at_link, 3), (kill_at_link, 5), (kill_at_step, 5)],
    )
    def test_killed_training_ends_in_the_same_weights(self, command, tmp_path, undisturbed, kill, n):
        argv = command(TEACHER, "x")
        assert in_child(argv, lambda: kill(n)) == -signal.SIGKILL
        assert in_child(argv) == 0
        assert_same(weights(tmp_path / "x"), undisturbed)
        for link in ("latest.pth", "valid.loss.best.pth", "valid.loss.ave.pth"):
            assert (tmp_path / "x" / link).exists()

    def test_a_killed_student_of_remixes_ends_in_the_same_weights(self, command, tmp_path):
        """It takes one round and two in turn, and goes on with the one that is next."""
        assert in_child(command(GUIDED, "x")) == 0
        argv = command(GUIDED, "y")
        assert in_child(argv, lambda: kill_at_step(5)) == -signal.SIGKILL
        assert in_child(argv) == 0
        assert_same(weights(tmp_path / "x"), weights(tmp_path / "y"))

    def test_a_student_takes_recordings_of_fewer_microphones(self, command, data, tmp_path):
        mixed = make_set(tmp_path / "mixed", 4, 6)
        for name in ("wav.scp", "spk1.scp", "spk2.scp", "utt2num_samples"):
            few = read_scp(Path(data["other"]) / name)
            write_scp(mixed / name, read_scp(mixed / name) | {f"v{key}": few[key] for key in few})
        assert in_child(command(GUIDED, "x", "--train_set", str(mixed), max_epoch=1)) == 0
        with pytest.raises(UserError, match="number of channels|channel"):
            train_separator(command(STUDENT, "y", "--train_set", str(mixed), max_epoch=1))

    def test_workers_do_not_change_the_result(self, command, tmp_path, undisturbed):
        assert in_child(command(TEACHER, "x", "--num_workers", "2")) == 0
        assert_same(weights(tmp_path / "x"), undisturbed)

    def test_another_seed_does(self, command, tmp_path, undisturbed):
        assert in_child(command(TEACHER, "x", "--seed", "1")) == 0
        with pytest.raises(AssertionError):
            assert_same(weights(tmp_path / "x"), undisturbed)

    def test_complete_training_returns_at_once(self, command, tmp_path, capsys):
        argv = command(TEACHER, "x", max_epoch=1)
        assert in_child(argv) == 0
        before = (tmp_path / "x" / "checkpoint.pth").stat().st_mtime_ns
        train_separator(argv)
        assert "complete" in capsys.readouterr().err
        assert (tmp_path / "x" / "checkpoint.pth").stat().st_mtime_ns == before
        # Threads and the log are no settings; other settings would change no weight any more.
        train_separator([*argv, "--num_threads", "2", "--max_epoch=1", "--log_level", "DEBUG"])
        assert (tmp_path / "x" / "checkpoint.pth").stat().st_mtime_ns == before
        with pytest.raises(UserError, match=r"another one in it: optim_conf.lr is 0.1, was 0.002 .*--resume"):
            train_separator([*argv, "--optim_conf", "lr=0.1"])
        train_separator(argv)  # which it did not touch
        # A longer training goes on from there.
        assert in_child([*argv, "--max_epoch", "2"]) == 0
        assert (tmp_path / "x" / "2epoch.pth").exists()

    def test_repair_of_nothing(self, tmp_path):
        assert repair_checkpoint(tmp_path) is None
        (tmp_path / "checkpoint.pth").write_bytes(b"half")
        assert repair_checkpoint(tmp_path) is None
        assert not (tmp_path / "checkpoint.pth").exists()


class TestStudent:
    def test_trains_with_silent_references_and_is_fine_tuned(self, command, tmp_path):
        assert in_child(command(STUDENT, "student")) == 0
        model = tmp_path / "student" / "valid.loss.ave.pth"
        state = torch.load(model, weights_only=True)
        assert all(torch.isfinite(v).all() for v in state.values())
        still = {"lr": 0.0}
        argv = command(STUDENT, "tuned", "--init_param", str(model), optim_conf=still, max_epoch=1)
        assert in_child(argv) == 0
        tuned = torch.load(tmp_path / "tuned" / "valid.loss.ave.pth", weights_only=True)
        assert all(torch.equal(tuned[k], state[k]) for k in state)

    def test_load_model_is_strict(self, command, tmp_path):
        from frontend.training.checkpoints import load_model

        assert in_child(command(STUDENT, "x", max_epoch=1)) == 0
        config, weights = tmp_path / "x" / "config.yaml", tmp_path / "x" / "1epoch.pth"
        model = load_model(config, weights)
        assert not model.training
        state = torch.load(weights, weights_only=True)
        assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
        name = next(iter(state))
        junk = tmp_path / "junk.pth"
        for found, message in [
            ({"a": torch.zeros(1)}, f"missing {name}"),
            (state | {"extra": torch.zeros(1)}, "unexpected extra"),
            (state | {name: torch.zeros(1, 2)}, rf"{name} is \(1, 2\) instead of"),
            ({"model": [1, 2]}, "weights by name expected"),
        ]:
            torch.save(found, junk)
            with pytest.raises(UserError, match=message):
                load_model(config, junk)
        junk.write_bytes(b"junk")
        with pytest.raises(UserError, match="damaged"):
            load_model(config, junk)
        with pytest.raises(UserError, match="no such file"):
            load_model(config, tmp_path / "none.pth")
        with pytest.raises(UserError, match=r"not the config\.yaml of a training: no encoder"):
            (tmp_path / "c.yaml").write_text("a: 1")
            load_model(tmp_path / "c.yaml", weights)


def conf(settings, key, **changed):
    return {key: settings[key] | changed}


WRONG = [
    (TEACHER, {"max_epochs": 3}, r"max_epochs .*did you mean 'max_epoch'"),
    (TEACHER, conf(TEACHER, "separator_conf", n_mic=4), r"separator_conf: unknown key 'n_mic' .*'n_mics'"),
    (TEACHER, conf(TEACHER, "preprocessor_conf", crops=2), r"unknown key 'crops' .*'crop'"),
    (TEACHER, {"optim_conf": {"lr": "2e-3"}}, r"optim_conf: lr: a number expected, found the text '2e-3'"),
    (TEACHER, {"preprocessor_conf": {"crop": 1.0}}, r"preprocessor_conf: key 'fs' is missing"),
    (
        STUDENT,
        {
            "separator": "spatialnet",
            "separator_conf": {"n_mics": MICS, "streams": 2},
            "encoder_conf": STFT | {"hop_length": STFT["n_fft"] // 4},
        },
        r"encoder_conf: streams need an n_fft of two hop_length",
    ),
    (TEACHER, {"separator": "mask_nett"}, r"mask_nett.*did you mean 'mask_net'"),
    (TEACHER, {"scheduler_conf": {"warmup": 2}}, r"scheduler_conf: unknown key 'warmup'"),
    (TEACHER, {"criterions": 3}, r"criterions: a list of criteria .* expected, found 3"),
    (TEACHER, {"scheduler_conf": None}, r"scheduler_conf: settings \(key: value\) expected, found nothing"),
    (TEACHER, {"criterions": [{"name": "snr"}]}, r"criterions: name, conf, wrapper"),
    (TEACHER, {"criterions": [{"name": "thresholded_snr", "wrapper": "mixxit"}]}, r"'mixxit' .*'mixit'"),
    (
        TEACHER,
        {"criterions": [{"name": "snr", "wrapper": "mixit"}]},
        r"mixit needs the criterion",
    ),
    (TEACHER, {"batch_type": "numel"}, r"batch_type must be unsorted"),
    (TEACHER, conf(TEACHER, "separator_conf", n_mics=4), r"wav\.scp: u0: 4 channel\(s\) expected.*found 3"),
    (
        TEACHER,
        conf(TEACHER, "separator_conf", num_spk=1),
        r"at least n_mixtures \(2\), found 1",
    ),
    (TEACHER, conf(TEACHER, "separator_conf", ref_channel=1), r"same ref_channel expected"),
    (GUIDED, conf(GUIDED, "separator_conf", fs=16000), r"same fs expected, found \[16000, 8000\]"),
    (
        TEACHER,
        conf(TEACHER, "preprocessor_conf", array_symmetry="any"),
        r"'any' is for guided_net, found mask",
    ),
    (TEACHER, conf(TEACHER, "preprocessor_conf", fs=16000), r"16000 Hz expected .* found 8000"),
    (TEACHER, conf(TEACHER, "preprocessor_conf", array_symmetry="round"), r"array symmetry must be"),
    (
        TEACHER,
        conf(TEACHER, "preprocessor_conf", crop=0.001),
        r"crop: .* at least the 64 samples",
    ),
    *((TEACHER, conf(TEACHER, "preprocessor_conf", crop=x), "crop") for x in (0, -1, NAN, float("inf"))),
    *((TEACHER, conf(TEACHER, "optim_conf", lr=x), "optim_conf.*(lr|learning rate)") for x in (-1, NAN)),
    *((TEACHER, conf(TEACHER, "encoder_conf", n_fft=x), "n_fft: expected at least 1") for x in (0, -1)),
    *(
        (TEACHER, conf(TEACHER, "encoder_conf", hop_length=x), "hop_length: expected at least 1")
        for x in (0, -1)
    ),
    (TEACHER, conf(TEACHER, "separator_conf", channels=0), "channels: expected at least 1, found 0"),
    (TEACHER, {"max_epoch": 0}, "max_epoch: expected at least 1, found 0"),
    (TEACHER, {"batch_size": -2}, "batch_size: expected at least 1, found -2"),
    (TEACHER, {"accum_grad": 0}, "accum_grad: expected at least 1, found 0"),
    (TEACHER, {"init_param": ["/nowhere.pth"]}, r"/nowhere\.pth: no such file"),
    (TEACHER, {"init_param": 3}, r"x\.yaml: init_param: expected a list of files, found 3"),
    (TEACHER, {"optim_conf": 3}, r"x\.yaml: optim_conf: settings \(key: value\) expected, found 3"),
    (TEACHER, {"optim_conf": {3: 4}}, "optim_conf: unknown key '3'"),
    (TEACHER, {"optim": ["adam"]}, r"x\.yaml: unknown optim '\['adam'\]'"),
    (TEACHER, {"criterions": [3]}, "criterions: name, conf, wrapper, wrapper_conf expected, found 3"),
    (
        STUDENT,
        conf(STUDENT, "separator_conf", num_spk=3),
        r"one reference .* expected: 3 .* found 2",
    ),
]


class TestErrors:
    @pytest.mark.parametrize(
        ("settings", "changed", "message"), WRONG, ids=lambda x: x if isinstance(x, str) else ""
    )
    def test_wrong_configuration(self, command, tmp_path, settings, changed, message):
        with pytest.raises(UserError, match=message):
            train_separator(command(settings, "x", **changed))
        assert not (tmp_path / "x").exists()

    @pytest.mark.parametrize(
        ("which", "message"),
        [
            ("other", r"other/wav\.scp: u0: 3 channel\(s\) expected .* found 2"),
            ("fast", r"fast/wav\.scp: u0: 8000 Hz expected .* found 16000"),
            ("none", r"--valid_set none: no such directory"),
        ],
    )
    def test_wrong_data(self, command, data, which, message):
        argv = command(TEACHER, "x", "--valid_set", data.get(which, which))
        with pytest.raises(UserError, match=message):
            train_separator(argv)

    def test_a_set_is_one_directory(self, command, data):
        argv = command(TEACHER, "x", train_set=["a", "b"])
        at = argv.index("--train_set")
        del argv[at : at + 2]
        with pytest.raises(
            UserError, match=r"x\.yaml: train_set: expected the name of a directory, found \["
        ):
            train_separator(argv)

    def test_weights_of_another_network(self, command, tmp_path):
        assert in_child(command(STUDENT, "student", max_epoch=1)) == 0
        weights = str(tmp_path / "student" / "1epoch.pth")
        with pytest.raises(UserError, match=r"1epoch\.pth: weights do not fit .*separator\.head"):
            train_separator(command(TEACHER, "x", "--init_param", weights))
        wider = conf(STUDENT, "separator_conf", channels=8)
        with pytest.raises(UserError, match=r"checkpoint\.pth: weights do not fit this configuration"):
            train_separator(command(STUDENT, "student", "--resume", "true", **wider))

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (["--max_epochs", "3"], "did you mean 'max_epoch'"),
            (["--max_ep", "3"], "unrecognized arguments: --max_ep"),
            (["--config", "none.yaml"], "none.yaml: expected a configuration (--config), found no such file"),
            (
                ["--optim_conf", "foo"],
                "command line: optim_conf: settings (key: value) expected, found 'foo'",
            ),
            (
                ["--optim_conf", "lr.x=1"],
                "x.yaml: optim_conf.lr: settings (key: value) expected, found 0.002",
            ),
        ],
    )
    def test_one_line_and_exit_code_2(self, command, capsys, more, message):
        argv = command(TEACHER, "x", *more)
        with pytest.raises(SystemExit) as exit_:
            run(lambda: train_separator(argv))
        assert exit_.value.code == 2
        line = capsys.readouterr().err.strip().splitlines()
        assert len(line) == 1 and message in line[0]

    def test_every_recording_is_looked_at_before_training(self, command, tmp_path):
        broken = make_set(tmp_path / "broken", 4, 5)
        path = tmp_path / "broken" / "wav" / "u3.wav"
        whole = path.read_bytes()
        argv = command(TEACHER, "x", "--train_set", broken)

        def other(fs, shape):
            soundfile.write(path, np.zeros(shape), fs)

        for spoil, message in (
            (lambda: path.write_bytes(whole[:2000]), r"u3\.wav: truncated"),
            (lambda: other(FS, (0, MICS)), r"u3\.wav: 0 samples"),
            (lambda: other(16000, (3030, MICS)), r"sample rate 16000 in .*u3\.wav, but 8000 in .*u0\.wav"),
            (lambda: other(FS, (3030, 1)), r"number of channels 1 in .*u3\.wav, but 3 in"),
            (path.unlink, r"u3\.wav: no such audio file"),
        ):
            spoil()
            with pytest.raises(UserError, match=message):
                train_separator(argv)
            assert not (tmp_path / "x").exists()

    @pytest.mark.parametrize("value", [0.0, 0.2])
    def test_dead_channels_are_found_before_training(self, tmp_path, capsys, value):
        entries = list(read_scp(make_set(tmp_path / "set", 7, 5) / "wav.scp").values())
        for channel in (1, 0):
            for entry in entries:
                audio, _ = read_audio(entry)
                audio[channel] = value
                soundfile.write(entry, audio.T, FS)
            if channel:
                check_channels(f"{tmp_path}/wav.scp", entries)
                assert "/wav.scp: channel 2 is dead: constant" in capsys.readouterr().err
        with pytest.raises(UserError, match=r"channel 1 is dead in all of 4 mixtures .*it is the reference"):
            check_channels(f"{tmp_path}/wav.scp", entries)

    @pytest.mark.parametrize("workers", ["0", "1"])
    def test_recording_that_breaks_while_training(self, command, tmp_path, workers):
        broken = make_set(tmp_path / "broken", 7, 5)  # u3 is none of the few that are looked at before
        path = tmp_path / "broken" / "wav" / "u3.wav"
        soundfile.write(path, np.full((3030, MICS), np.nan), FS, subtype="FLOAT")
        with pytest.raises(UserError, match=r"u3\.wav: NaN or infinity") as error:
            train_separator(command(TEACHER, "x", "--train_set", broken, "--num_workers", workers))
        assert "\n" not in str(error.value)

    def test_a_gpu_that_is_not_there(self, command, tmp_path, monkeypatch):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        with pytest.raises(UserError, match="--ngpu 1: .* torch finds 0"):
            train_separator(command(TEACHER, "x", "--ngpu", "1"))
        assert not (tmp_path / "x").exists()

    def test_diverged_training_is_an_error(self, command, tmp_path):
        argv = command(STUDENT, "x", optim_conf={"lr": 1.0e30})
        with pytest.raises(UserError, match=r"no gradient was finite in epoch 2.*diverged"):
            train_separator(argv)
        assert not (tmp_path / "x" / DONE).exists()


class TestSchedule:
    @staticmethod
    def rates(scheduler, optimizer, steps):
        found = []
        for _ in range(steps):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return found

    def make(self, **settings):
        optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
        return WarmupCosine(optimizer, **settings), optimizer

    def test_closed_form(self):
        rates = self.rates(*self.make(total_steps=101, warmup_steps=20, floor=0.1), 120)
        np.testing.assert_allclose(rates[:21], 2 * np.arange(1, 22) / 21)
        assert max(rates) == rates[20] == 2.0
        np.testing.assert_allclose(rates[60], 2 * (0.1 + 0.9 / 2))  # half-way down
        np.testing.assert_allclose(rates[100:], 0.2)
        assert (np.diff(rates[20:101]) < 0).all()

    def test_resumes_exactly(self):
        rates = self.rates(*self.make(total_steps=30, warmup_steps=5), 30)
        scheduler, optimizer = self.make(total_steps=30, warmup_steps=5)
        self.rates(scheduler, optimizer, 12)
        states = scheduler.state_dict(), optimizer.state_dict()
        scheduler, optimizer = self.make(total_steps=30, warmup_steps=5)
        scheduler.load_state_dict(states[0])
        optimizer.load_state_dict(states[1])
        assert self.rates(scheduler, optimizer, 18) == rates[12:]


class TestBatches:
    @staticmethod
    def factory(n=7, batch_size=2, steps=3, **settings):
        given = {"seed": 0, "train": True} | settings
        return KeyedIterFactory(None, [f"u{i}" for i in range(n)], batch_size, steps, **given)

    def test_every_utterance_equally_often(self):
        factory = self.factory()
        used = [u for epoch in range(1, 8) for batch in factory.batches(epoch) for u in batch]
        assert len(used) == 7 * 6
        for i in range(0, len(used), 7):
            assert len(set(used[i : i + 7])) == 7
        assert used[:7] != used[7:14]

    def test_examples_are_of_the_epoch(self):
        class Dataset(dict):
            preprocess = CroppedSources(True, lengths={}, fs=FS)

            def __missing__(self, utterance):
                return utterance, self.preprocess.epoch

        factory = self.factory(n=12, num_workers=0, collate_fn=list)
        factory.dataset = Dataset()
        for epoch in (1, 4):
            batches = list(factory.build_iter(epoch))
            assert batches == [[(u, epoch) for u in batch] for batch in factory.batches(epoch)]

    @pytest.mark.parametrize("shard", [(0, 1), (0, 2), (1, 2)])
    def test_an_utterance_that_an_epoch_uses_again_is_another_example(self, shard):
        class Dataset(dict):
            preprocess = CroppedSources(True, lengths={}, fs=FS)

            def __missing__(self, utterance):
                return utterance, float(self.preprocess._draws(utterance, "crop").uniform())

        factory = self.factory(n=3, batch_size=4, steps=5, shard=shard, num_workers=0, collate_fn=list)
        factory.dataset = Dataset()
        found = [example for batch in factory.build_iter(1) for example in batch]
        assert len(found) == len(set(found)) == 20 // shard[1]
        assert {utterance for utterance, _ in found} == {"u0", "u1", "u2"}

    def test_sizes(self):
        assert [len(b) for b in self.factory().batches(3)] == [2, 2, 2]
        assert [len(b) for b in self.factory(steps=None).batches(3)] == [2, 2, 2, 1]
        assert [len(b) for b in self.factory(n=2, batch_size=3).batches(1)] == [3, 3, 3]

    def test_validation_in_order_and_shards_together_everything(self):
        valid = self.factory(train=False, steps=None)
        assert valid.batches(1) == valid.batches(5) == [["u0", "u1"], ["u2", "u3"], ["u4", "u5"], ["u6"]]
        shards = [self.factory(shard=(r, 2)).batches(4) for r in (0, 1)]
        assert [a + b for a, b in zip(*shards, strict=True)] == self.factory().batches(4)
