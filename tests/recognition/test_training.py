"""Training a recogniser through the real command: checks, tokens, kills, what ESPnet loads."""

import argparse
import functools
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import kills
import numpy as np
import pytest
import soundfile
import torch
import yaml
from commands import call, exit_code
from defects import RELEASE
from kills import assert_same, weights
from recipes import resolved, write_resolved
from sharing import assert_near, together
from speech_sets import voice
from tiny_recognisers import former_names, sees_padding
from trainings import command_line

from frontend.data.kaldi import read_scp, write_scp
from frontend.data.writers import AudioWriter
from frontend.recognition.text import unknown
from frontend.recognition.training_sets import read_list, write_list
from frontend.training.run import parse
from frontend.utils.errors import UserError

FS = 8000
WORDS = ["ONE TWO", "TWO TWO THREE", "FOUR ONE", "THREE", "ONE FOUR TWO", "TWO ONE"]
TINY = {
    "token_type": "word",
    "frontend": "default",
    "frontend_conf": {"fs": FS, "n_fft": 128, "hop_length": 80, "n_mels": 12},
    "normalize": "global_mvn",  # so that the weights depend on the statistics
    "specaug": "specaug",
    "specaug_conf": {
        "apply_time_warp": True,
        "time_warp_window": 5,
        "freq_mask_width_range": [0, 3],
        "time_mask_width_range": [0, 10],
    },
    "encoder": "conformer",
    "encoder_conf": {
        "output_size": 16,
        "attention_heads": 2,
        "linear_units": 16,
        "num_blocks": 1,
        "dropout_rate": 0.2,
        "cnn_module_kernel": 3,
    },
    "model_conf": {"ctc_weight": 1.0},
    "batch_type": "unsorted",
    "batch_size": 2,
    "max_epoch": 2,
    "optim": "adam",
    "optim_conf": {"lr": 2.0e-3},
    "scheduler": "warmupcosine",
    "scheduler_conf": {"warmup_steps": 2},
    "keep_nbest_models": 2,
    "num_threads": 1,
}
STEPS = 3  # an epoch


def make_set(directory, texts, fs=FS, audio_format="wav", channels=1, longer_s=0.1):
    """A Kaldi set of noise bursts that are said to be words, each so much longer than the one before."""
    with AudioWriter(directory / "audio", audio_format, fs) as writer:
        wav = {
            f"u{i}": writer.write(f"u{i}", np.tile(voice(f"u{i}", 0.8 + longer_s * i, fs), (channels, 1)))
            for i in range(len(texts))
        }
    write_scp(directory / "wav.scp", wav)
    write_scp(directory / "text", {f"u{i}": text for i, text in enumerate(texts)})
    return directory


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    make_set(root / "train", WORDS)
    make_set(root / "valid", WORDS[:3], audio_format="flac.ark")
    return root


@pytest.fixture
def command(tmp_path, data):
    """Return a function that makes the arguments of a training."""

    def make(*more, **changed):
        sets = {"train_set": data / "train", "valid_set": data / "valid"}
        return command_line(tmp_path, "exp", TINY | changed, *more, **sets)

    return make


def in_child(argv, sabotage=None):
    """Train in a forked child, which finds ESPnet imported, and return its exit code."""
    import frontend.recognition.training  # noqa: F401

    return kills.in_child(lambda argv: call("train recogniser", *argv), argv, sabotage)


@pytest.fixture(scope="module")
def complete(tmp_path_factory, data):
    """The arguments of a training that came to its end; its directory is the fourth."""
    sets = {"train_set": data / "train", "valid_set": data / "valid"}
    argv = command_line(tmp_path_factory.mktemp("undisturbed"), "exp", TINY, **sets)
    assert in_child(argv) == 0
    return argv


@pytest.fixture
def undisturbed(complete):
    return Path(complete[3])


class TestResume:
    def test_killed_training_ends_in_the_same_weights(self, command, tmp_path, undisturbed):
        """Killed in both statistics, in the files of both epochs and within an epoch, one after another."""
        argv = command()
        for kill in (
            # Statistics are written with np.savez: 2 of the training set, then 2 of the validation set.
            functools.partial(kills.kill_at_call, np, "savez", 1),
            functools.partial(kills.kill_at_call, np, "savez", 4),
            functools.partial(kills.kill_at_save, 1),
            functools.partial(kills.kill_at_step, STEPS + 2),
            functools.partial(kills.kill_at_save, 2),
        ):
            assert in_child(argv, kill) == -signal.SIGKILL
        assert in_child(argv) == 0
        assert_same(weights(tmp_path / "exp"), weights(undisturbed))
        for name in ("tokens.txt", "stats/train/speech_shape", "stats/valid/text_shape.word"):
            assert (tmp_path / "exp" / name).read_bytes() == (undisturbed / name).read_bytes()
        assert not list((tmp_path / "exp").glob(".stats*"))

    def test_chance_has_a_part_in_it(self, command, tmp_path, undisturbed):
        """Else the test above would show nothing of dropout and SpecAugment."""
        assert in_child(command(encoder_conf=TINY["encoder_conf"] | {"dropout_rate": 0.0})) == 0
        with pytest.raises(AssertionError):
            assert_same(weights(tmp_path / "exp"), weights(undisturbed))

    def test_second_call_does_nothing_and_imports_nothing(self, complete, undisturbed):
        before = (undisturbed / "checkpoint.pth").stat().st_mtime_ns
        code = f"import sys; from frontend.cli import main\ntry: main({['train', 'recogniser', *complete]})\n"
        code += "except SystemExit as end: sys.exit(end.code or 'torch' in sys.modules)"
        again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert again.returncode == 0, again.stderr
        assert "training is complete; nothing to do" in again.stderr
        assert (undisturbed / "checkpoint.pth").stat().st_mtime_ns == before

    def test_statistics_are_collected_again_for_other_features(self, command, tmp_path, undisturbed):
        shutil.copytree(undisturbed, tmp_path / "exp")
        stats = tmp_path / "exp" / "stats" / "train" / "feats_stats.npz"
        assert np.load(stats)["sum"].shape == (12,)
        made = stats.stat().st_mtime_ns
        assert in_child(command(max_epoch=3)) == 0
        assert stats.stat().st_mtime_ns == made
        (tmp_path / "exp" / "checkpoint.pth").unlink()
        other = {"frontend_conf": TINY["frontend_conf"] | {"n_mels": 10}}
        assert in_child(command("--resume", "true", max_epoch=1, **other)) == 0
        assert np.load(stats)["sum"].shape == (10,)

    def test_stopped_early_and_killed_before_the_average(self, command, tmp_path):
        patient = {
            "patience": 0,
            "optim_conf": {"lr": 0.0},
            "max_epoch": 9,
        }  # no epoch is better than the first
        assert in_child(command(**patient), functools.partial(kills.kill_at_save, 5)) == -signal.SIGKILL
        assert in_child(command(**patient)) == 0
        assert not (tmp_path / "exp" / "3epoch.pth").exists()


class TestModel:
    def test_espnet_loads_and_recognises(self, undisturbed, data):
        from frontend.utils.espnet import Speech2Text

        exp = undisturbed
        model = Speech2Text(
            str(exp / "config.yaml"), str(exp / "valid.loss.ave.pth"), ctc_weight=1.0, beam_size=3
        )
        assert model.asr_model.token_list == ["<blank>", "<unk>", "TWO", "ONE", "THREE", "FOUR", "<sos/eos>"]
        text, tokens, *_ = model(soundfile.read(data / "train" / "audio" / "u0.wav")[0])[0]
        assert set(tokens) <= set(model.asr_model.token_list)
        config = yaml.safe_load((exp / "config.yaml").read_text())
        assert "train_set" not in config and "allow_unknown" not in config

    def test_accuracy_may_choose_the_model(self, command, tmp_path):
        decoder = {"attention_heads": 2, "linear_units": 8, "num_blocks": 1}
        changed = {
            "model_conf": {"ctc_weight": 0.3},
            "decoder": "transformer",
            "decoder_conf": decoder,
            "best_model_criterion": [["valid", "acc", "max"]],
            "max_epoch": 1,
        }
        assert in_child(command(**changed)) == 0
        exp = tmp_path / "exp"
        assert os.readlink(exp / "valid.loss.ave.pth") == "valid.acc.ave.pth"
        assert (exp / "valid.acc.best.pth").exists()
        for key, message in (("acc", "CTC alone"), ("los", "no 'los' was measured in 'valid'")):
            argv = command("--output_dir", str(tmp_path / "x"), best_model_criterion=[["valid", key, "max"]])
            with pytest.raises(UserError, match=message):
                call("train recogniser", *argv)

    def test_the_log_names_espnets_own_command(self, command, tmp_path):
        """And that command makes the same model, where convolutions see the padding (202511 as it stands)."""
        argv = command("--seed", "7", scheduler="warmuplr", scheduler_conf={"warmup_steps": 2}, max_epoch=1)
        # Without our registrations ESPnet reads files alone.
        argv[argv.index("--valid_set") + 1] = argv[argv.index("--train_set") + 1]
        # pytest has logging in its hands.
        assert in_child(argv, lambda: logging.getLogger().handlers.clear()) == 0
        log = (tmp_path / "exp" / "train.log").read_text().splitlines()
        printed = [line.split("): ", 1)[1] for line in log if "own words" in line]
        assert len(printed) == 2 and "--collect_stats true" in printed[0]
        words = shlex.split(printed[1])
        assert words[:3] == ["python", "-m", "espnet2.bin.asr_train"]
        theirs = tmp_path / "theirs"
        words[words.index("--output_dir") + 1] = str(theirs)
        config = yaml.safe_load((tmp_path / "exp.yaml").read_text())
        config.pop("num_threads")  # ours
        (tmp_path / "exp.yaml").write_text(yaml.safe_dump(config))

        def plain(argv):
            from frontend.recognition.training import with_padding_seen
            from frontend.utils.espnet import asr

            class Theirs(asr.ASRTask):
                @classmethod
                def build_model(cls, args):
                    return with_padding_seen(super().build_model(args))

            torch.set_num_threads(1)
            Theirs.main(cmd=argv)

        assert kills.in_child(plain, words[3:]) == 0
        assert_same(weights(theirs), weights(tmp_path / "exp"))


def test_two_processes_are_one_with_the_whole_batch(command, tmp_path):
    """Where nothing is drawn, and nothing is normalised over a batch, as a conformer does."""
    fixed = {"specaug": None, "specaug_conf": {}, "optim": "sgd", "optim_conf": {"lr": 0.1}}
    sizes = {"output_size": 16, "attention_heads": 2, "linear_units": 16, "num_blocks": 1}
    none = {"dropout_rate": 0.0, "positional_dropout_rate": 0.0, "attention_dropout_rate": 0.0}
    argv = command(**fixed, encoder="transformer", encoder_conf=sizes | none)
    # All are of one length: the edges of what is padded differ.
    for option, texts in (("--train_set", WORDS), ("--valid_set", WORDS[:3])):
        argv[argv.index(option) + 1] = str(make_set(tmp_path / option, texts, longer_s=0))
    assert in_child(argv) == 0
    (tmp_path / "exp").rename(tmp_path / "one")
    found = together(argv, kind="recogniser")
    assert [code for code, _ in found] == [0, 0] and found[1][1] == "", found
    assert_near(tmp_path / "one", tmp_path / "exp")


def test_convolutions_see_the_padding(recognisers):
    from frontend.recognition.training import FrontendASRTask

    settings = yaml.safe_load((recognisers / "asr/config.yaml").read_text())
    assert sees_padding(FrontendASRTask.build_model(argparse.Namespace(**settings)).encoder)


def test_archives_are_as_loud_as_files(tmp_path):
    from frontend.recognition.training import ArchivedSound

    files, archive = (make_set(tmp_path / kind, WORDS[:2], audio_format=kind) for kind in ("wav", "flac.ark"))
    sounds = ArchivedSound(str(archive / "wav.scp"))
    assert list(sounds) == ["u0", "u1"]
    for key, samples in sounds.items():
        np.testing.assert_array_equal(
            samples, soundfile.read(files / "audio" / f"{key}.wav", dtype="float32")[0]
        )


class TestTokens:
    def test_the_list_is_by_frequency(self, command, tmp_path):
        """Of equally frequent tokens the one met first comes first; <unk> in the text is the model's own."""
        from frontend.recognition.training import check_config, list_tokens, make_parser, read_sets

        texts = ["B A  A <unk>", "C A", "B D E"]
        expected = {"word": "A B C D E", "char": "<space> A B < u n k > C D E"}
        data = make_set(tmp_path / "listed", texts)
        for kind, tokens in expected.items():
            sets = ["--train_set", str(data), "--valid_set", str(data), "--token_type", kind]
            args = parse(make_parser()[0], command(*sets))
            check_config(args)
            found, notes = list_tokens(args, read_sets(args))
            assert found == ["<blank>", "<unk>", *tokens.split(), "<sos/eos>"] and notes == []

    def test_lists_are_read_strictly(self, tmp_path):
        path = tmp_path / "tokens.txt"
        good = ["<blank>", "<unk>", "A", "<sos/eos>"]
        write_list(path, good)
        assert read_list(path) == good
        for bad, message in (
            (["A", "B"], "expected <blank> <unk> ... <sos/eos>"),
            ([*good[:3], "A", good[3]], "token A occurs 2 times"),
        ):
            write_list(path, bad)
            with pytest.raises(UserError, match=message):
                read_list(path)
        with pytest.raises(UserError, match="no such file"):
            read_list(tmp_path / "none")

    def test_unknown_are_counted_and_named(self):
        assert unknown(Counter(A=3), ["A"], "word") == ""
        many = unknown(Counter({f"W{k:02d}": 1 for k in range(12)}), [], "word")
        assert many.startswith("12 words unknown") and many.endswith("W09 (1) and 2 more")
        assert unknown(Counter({"Ä": 1}), [], "char").startswith("1 character unknown")

    def test_characters_and_pieces(self, command, tmp_path):
        assert in_child(command("--token_type", "char", max_epoch=1)) == 0
        assert "<space>" in (tmp_path / "exp" / "tokens.txt").read_text().splitlines()
        pieces = ["--token_type", "bpe", "--nbpe", "16", "--output_dir", str(tmp_path / "bpe")]
        assert in_child(command(*pieces, max_epoch=1)) == 0
        tokens = (tmp_path / "bpe" / "tokens.txt").read_text().splitlines()
        assert len(tokens) == 16 and any(t.startswith("▁") for t in tokens)
        pieces[3] = "5000"
        with pytest.raises(UserError, match=r"--nbpe 5000: the training text gives no such vocabulary"):
            call("train recogniser", *command(*pieces, "--overwrite"))

    def test_unknown_words_are_an_error_or_a_note(self, command, tmp_path):
        strange = make_set(tmp_path / "strange", ["ONE FOO", "BAR FOO", "TWO"])
        argv = command("--valid_set", str(strange), max_epoch=1)
        message = "3 words unknown to the model's tokens: FOO (2), BAR (1)"
        with pytest.raises(UserError) as error:
            call("train recogniser", *argv)
        assert message in str(error.value) and "strange/text" in str(error.value)
        assert not (tmp_path / "exp").exists()
        assert in_child([*argv, "--allow_unknown", "true"]) == 0
        listed = tmp_path / "given.txt"
        write_list(listed, ["<blank>", "<unk>", "ONE", "TWO", "THREE", "<sos/eos>"])
        with pytest.raises(UserError, match=r"train/text: 2 words unknown to the model's tokens: FOUR \(2\)"):
            call("train recogniser", *command("--token_list", str(listed), "--resume", "true"))


class TestTranscripts:
    """Recognisers are trained on what the scoring compares."""

    @staticmethod
    def listed(command, data, *more):
        from frontend.recognition.training import (
            check_config,
            list_tokens,
            make_parser,
            normalise_texts,
            read_sets,
        )

        argv = command("--train_set", str(data), "--valid_set", str(data), *more)
        args = parse(make_parser()[0], argv)
        check_config(args)
        texts, changes = normalise_texts(args, read_sets(args))
        return args, texts["train"], list_tokens(args, texts)[0], changes

    def test_case_punctuation_and_tags(self, command, tmp_path):
        data = make_set(
            tmp_path / "own", ["Please, open the Door.", "PLEASE [laughter]", "<noise>", "<unk> door"]
        )
        args, texts, tokens, (line, _) = self.listed(command, data)
        assert list(texts.values()) == ["PLEASE OPEN THE DOOR", "PLEASE", "<unk> DOOR"]
        assert tokens == ["<blank>", "<unk>", "PLEASE", "DOOR", "OPEN", "THE", "<sos/eos>"]
        assert f"{data}/text: 4 of 4 transcripts normalised as for scoring: " in line
        for part in (
            "Please, -> PLEASE",
            "2 tags left out ([laughter], <noise>)",
            "1 without a word left out",
        ):
            assert part in line
        (wav, *_), (text, *_) = args.train_data_path_and_name_and_type
        assert list(read_scp(wav)) == ["u0", "u1", "u3"] and read_scp(text) == texts
        before = (data / "text").read_text()
        assert "Please," in before and Path(text).is_relative_to(tmp_path / "exp")

    def test_texts_that_are_normalised_stay_byte_for_byte(self, command, data):
        args, texts, _, changes = self.listed(command, data / "train")
        assert changes == [] and list(texts.values()) == WORDS
        files = [path for path, *_ in args.train_data_path_and_name_and_type]
        assert files == [str(data / "train/wav.scp"), str(data / "train/text")]

    def test_a_model_of_small_letters_keeps_its_texts(self, command, tmp_path):
        data = make_set(tmp_path / "own", ["please open", "please"])
        write_list(tmp_path / "tokens.txt", ["<blank>", "<unk>", "please", "open", "<sos/eos>"])
        _, texts, _, changes = self.listed(command, data, "--token_list", str(tmp_path / "tokens.txt"))
        assert list(texts.values()) == ["please open", "please"] and changes == []

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
    def test_a_configuration_as_windows_saves_it(self, command, tmp_path, encoding):
        argv = command()
        text = (tmp_path / "exp.yaml").read_text()
        (tmp_path / "exp.yaml").write_bytes(text.replace("\n", "\r\n").encode(encoding))
        from frontend.recognition.training import make_parser

        args = parse(make_parser()[0], argv)
        assert args.encoder_conf == TINY["encoder_conf"] and args.config == str(tmp_path / "exp.yaml")

    def test_nothing_but_tags_is_an_error(self, command, tmp_path):
        with pytest.raises(UserError, match="expected words, found none in 2 lines"):
            self.listed(command, make_set(tmp_path / "own", ["<noise>", "[laughter]"]))

    def test_a_directory_with_segments_and_marks(self, command, tmp_path):
        """ESPnet gets tables that it reads as we do."""
        from frontend.recognition.training import ArchivedSound

        data = make_set(tmp_path / "own", ["ONE TWO", "TWO"])
        (data / "wav.scp").write_text("r0 audio/u0.wav\n\nr1 audio/u1.wav\n")
        (data / "segments").write_text("a r0 0 0.4\nb r1 0.2 -1\n")
        (data / "text").write_bytes(b"\xef\xbb\xbfa ONE\r\n\r\nb TWO\r\n")
        args, texts, tokens, _ = self.listed(command, data)
        assert texts == {"a": "ONE", "b": "TWO"} and "ONE" in tokens
        (wav, _, kind), (text, *_) = args.train_data_path_and_name_and_type
        assert kind == "archived_sound" and Path(text).read_bytes() == b"a ONE\nb TWO\n"
        sounds = ArchivedSound(wav)
        whole = soundfile.read(data / "audio/u1.wav", dtype="float32")[0]
        np.testing.assert_array_equal(sounds["b"], whole[round(0.2 * FS) :])


WRONG = [
    ({"max_epochs": 3}, r"max_epochs .*did you mean 'max_epoch'"),
    ({"encoder_conf": {"num_block": 3}}, r"encoder_conf: unknown key 'num_block' .*'num_blocks'"),
    ({"frontend_conf": {"n_mel": 3}}, r"frontend_conf: unknown key 'n_mel' .*'n_mels'"),
    ({"specaug_conf": {"time_warp": 3}}, r"specaug_conf: unknown key 'time_warp'"),
    ({"normalize_conf": {"mean": 3}}, r"normalize_conf: unknown key 'mean'"),
    ({"model_conf": {"ctc_weigth": 1.0}}, r"model_conf: unknown key 'ctc_weigth' .*'ctc_weight'"),
    ({"ctc_conf": {"drop": 1.0}}, r"ctc_conf: unknown key 'drop'"),
    ({"optim_conf": {"lr": "2e-3"}}, r"optim_conf: lr: a number expected, found the text '2e-3'"),
    ({"decoder_conf": {"num_blocks": 1}}, r"decoder_conf: settings of no decoder"),
    ({"encoder": "konformer"}, r"unknown encoder 'konformer' .*'conformer'"),
    ({"token_type": "words"}, r"token_type must be word or char or bpe, found words .*'word'"),
    ({"batch_type": "catbel"}, r"batch_type must be"),
    ({"best_model_criterion": [["valid", "loss"]]}, r"best_model_criterion: \[valid, loss, min\]"),
    ({"init_param": ["/nowhere.pth"]}, r"/nowhere\.pth: no such file"),
]


class TestErrors:
    @pytest.mark.parametrize(("changed", "message"), WRONG, ids=lambda x: x if isinstance(x, str) else "")
    def test_wrong_configuration(self, command, changed, message):
        with pytest.raises(UserError, match=message):
            call("train recogniser", *command(**changed))

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            ({"text": "u0 ONE\nu1\nu2 TWO\n"}, r"text:2: utterance u1 has an empty transcript"),
            ({"text": "u0 ONE\nu2 TWO\n"}, r"text: id u1 of wav\.scp:2 is missing"),
            ({"text": "u0 ONE\nu1 ONE\nu2 TWO\nu3 ONE\n"}, r"text:4: id u3 is not in wav\.scp"),
            ({"text": "u0 ONE\nu0 ONE\n"}, r"text:2: id u0 occurs twice"),
            ({"text": None}, r"text: expected a table 'id value', found no such file"),
            ({"wav.scp": None}, r"wav\.scp: expected a table 'id value', found no such file"),
        ],
        ids=lambda x: x if isinstance(x, str) else "",
    )
    def test_wrong_tables(self, command, tmp_path, spoil, message):
        bad = make_set(tmp_path / "bad", ["ONE", "ONE", "TWO"])
        for name, text in spoil.items():
            (bad / name).write_text(text) if text else (bad / name).unlink()
        with pytest.raises(UserError, match=message):
            call("train recogniser", *command("--valid_set", str(bad)))
        assert not (tmp_path / "exp").exists()

    def test_wrong_audio(self, command, tmp_path):
        fast = make_set(tmp_path / "fast", ["ONE"], fs=16000)
        message = r"fast/wav\.scp: u0: 8000 Hz expected \(.*frontend_conf: fs\), found 16000 in"
        with pytest.raises(UserError, match=message):
            call("train recogniser", *command("--train_set", str(fast)))
        with pytest.raises(
            UserError, match=r"1 channel\(s\) expected \(a recogniser takes one channel.* found 2"
        ):
            call(
                "train recogniser",
                *command("--train_set", str(make_set(tmp_path / "stereo", ["ONE"], channels=2))),
            )
        with pytest.raises(UserError, match=r"--train_set .*none: no such directory"):
            call("train recogniser", *command("--train_set", str(tmp_path / "none")))
        short = make_set(tmp_path / "short", ["ONE"])
        with AudioWriter(short / "audio", "wav", FS) as writer:
            writer.write("u0", 0.1 * np.sin(np.arange(300)))
        with pytest.raises(UserError, match=r"short: an utterance is too short for the encoder"):
            call("train recogniser", *command("--train_set", str(short), "--allow_unknown", "true"))

    def test_one_line_and_exit_code_2(self, command, capsys, monkeypatch):
        assert exit_code("train recogniser", *command("--max_epochs", "3")) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and "did you mean 'max_epoch'" in lines[0]
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        with pytest.raises(UserError, match="--ngpu 1: .* torch finds 0"):
            call("train recogniser", *command("--ngpu", "1"))

    def test_weights_of_another_network(self, command, tmp_path, undisturbed):
        shutil.copytree(undisturbed, tmp_path / "exp")
        weights_ = str(tmp_path / "exp" / "1epoch.pth")
        wider = {"encoder_conf": TINY["encoder_conf"] | {"output_size": 8}}
        with pytest.raises(UserError, match=r"1epoch\.pth: weights do not fit"):
            call(
                "train recogniser",
                *command("--init_param", weights_, "--output_dir", str(tmp_path / "x"), **wider),
            )
        with pytest.raises(UserError, match=r"checkpoint\.pth: weights do not fit this configuration"):
            call("train recogniser", *command("--resume", "true", **wider))

    @pytest.mark.skipif(RELEASE < 202611, reason="ESPnet 202511 has the former names itself")
    def test_no_training_goes_on_from_weights_of_an_earlier_espnet(self, command, tmp_path, undisturbed):
        """ESPnet would leave some of them as they were drawn, and fail when it averages epochs."""
        former = tmp_path / "former.pth"
        torch.save(former_names(torch.load(undisturbed / "1epoch.pth")), former)
        with pytest.raises(UserError, match=r"former\.pth: weights are named as in an earlier ESPnet"):
            call(
                "train recogniser", *command("--init_param", str(former), "--output_dir", str(tmp_path / "x"))
            )
        shutil.copytree(undisturbed, tmp_path / "exp")
        checkpoint = torch.load(tmp_path / "exp/checkpoint.pth", weights_only=False)
        checkpoint["model"] = former_names(checkpoint["model"])
        torch.save(checkpoint, tmp_path / "exp/checkpoint.pth")
        with pytest.raises(UserError, match=r"checkpoint\.pth: weights are named as in an earlier ESPnet"):
            call("train recogniser", *command("--max_epoch", "3", "--resume", "true"))


@pytest.mark.parametrize("conf", ["asr", "asr_gpu"])
def test_configurations_of_the_recipe(conf, data, tmp_path):
    """They pass the check, and their networks can be built."""
    from frontend.recognition.training import FrontendASRTask, check_config, make_parser, read_sets

    sets = ["--train_set", str(data / "train"), "--valid_set", str(data / "valid")]
    config = write_resolved(tmp_path / "conf.yaml", "mini", conf)
    argv = ["--config", str(config), "--output_dir", str(tmp_path), *sets]
    args = parse(make_parser()[0], argv)
    check_config(args)
    assert set(read_sets(args)) == {"train", "valid"}
    args.token_list = ["<blank>", "<unk>", "ONE", "<sos/eos>"]
    model = FrontendASRTask.build_model(args)
    assert (model.decoder is None) == (conf == "asr")


@pytest.mark.parametrize("conf", ["asr", "asr_gpu"])
@pytest.mark.parametrize("recipe", ["mini", "speechocean762_2mix", "mc_libri2mix"])
def test_every_recogniser_has_windows_of_25_ms_and_perturbs_the_speed(recipe, conf):
    settings = resolved(recipe, conf)
    frontend, preprocessor = settings["frontend_conf"], settings["preprocessor_conf"]
    assert frontend["win_length"] * 40 == frontend["fs"] == preprocessor["fs"] == 8000
    assert {effect for _, effect, _ in preprocessor["data_aug_effects"]} == {"speed_perturb"}
    assert preprocessor["data_aug_prob"] > 0
