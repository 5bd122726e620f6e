"""ESPnet's defects that this project steps around, tried on ESPnet as it is installed (docs/versions.md).

Each test says what would be right. Those of the trainer are in ``tests/training/test_espnets_trainer.py``.
"""

import configparser
import importlib.metadata
import inspect
import subprocess
import sys
import warnings
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile
import torch
from defects import GONE, defect
from packaging.requirements import Requirement
from tiny_recognisers import former_names, sees_padding, tones

from frontend.data.kaldi import write_scp
from frontend.utils.espnet import Speech2Text, TooShortUttError, enh, enh_s2t

ROOT = Path(__file__).resolve().parents[2]


def wanted(package: str) -> list[Requirement]:
    """What ESPnet says of a package, extras left out."""
    found = [Requirement(line) for line in importlib.metadata.requires("espnet")]
    return [want for want in found if want.name == package and not want.marker]


def test_no_work_around_is_left_for_releases_that_are_no_longer_allowed():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = [
        line for line in config["options"]["install_requires"].splitlines() if line.startswith("espnet ")
    ]
    oldest = min(int(next(iter(Requirement(line).specifier)).version) for line in lines)
    assert not [where for where, gone in GONE.items() if gone <= oldest]


@pytest.mark.parametrize(
    "package",
    [
        pytest.param("setuptools", marks=defect("local/overrides.txt: setuptools", gone=202611)),
        pytest.param("sentencepiece", marks=defect("local/overrides.txt: sentencepiece")),
        pytest.param(
            "importlib-metadata", marks=defect("local/overrides.txt: importlib-metadata", gone=202611)
        ),
    ],
)
def test_what_espnet_asks_for_can_be_had(package):
    assert all(want.specifier.contains(importlib.metadata.version(package)) for want in wanted(package))


@defect("utils/espnet.py: _undecorated", since=202611)
def test_layers_are_imported_without_the_compiler():
    code = "import sys, espnet2.layers.stft; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@defect("setup.cfg: numpy < 2.4", gone=202611, raises=(DeprecationWarning, TypeError))
def test_chunks_are_drawn_with_any_numpy():
    from espnet2.iterators.chunk_iter_factory import ChunkIterFactory
    from espnet2.train.collate_fn import CommonCollateFn

    class Ramps(torch.utils.data.Dataset):
        def __getitem__(self, key):
            return key, {"x": np.arange(20.0)}

    factory = ChunkIterFactory(
        Ramps(), 1, [["a"]], 5, num_cache_chunks=1, collate_fn=CommonCollateFn(), shuffle=False
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what numpy 2.4 makes an error of, earlier ones warn of
        assert len(next(iter(factory.build_iter(1)))[1]["x"][0]) == 5


class TestSeparation:
    @defect("training/criteria.py: MixIT")
    def test_mixit_has_as_many_mixtures_as_references(self):
        from espnet2.enh.loss.criterions.time_domain import SNRLoss
        from espnet2.enh.loss.wrappers.mixit_solver import MixITSolver

        one, other, *estimates = torch.randn(5, 1, 100, generator=torch.Generator().manual_seed(0)).unbind(0)
        solver = MixITSolver(SNRLoss())
        losses = [solver([one, mixture], estimates)[0] for mixture in (other, 2 * other)]
        assert losses[0] != losses[1]

    @defect("training/examples.py")
    def test_mixtures_are_made_of_several_channels_while_training(self, tmp_path):
        from espnet2.train.preprocessor import DynamicMixingPreprocessor

        rng = np.random.default_rng(0)
        for name in "ab":
            soundfile.write(tmp_path / f"{name}.wav", 0.1 * rng.standard_normal((100, 2)), 8000)
        write_scp(tmp_path / "spk1.scp", {name: str(tmp_path / f"{name}.wav") for name in "ab"})
        mix = DynamicMixingPreprocessor(train=True, source_scp=str(tmp_path / "spk1.scp"))
        data = {"speech_ref1": rng.standard_normal((100, 2)).astype(np.float32)}
        assert mix("a", data)["speech_mix"].shape == (100, 2)

    @defect("networks/tfgridnet.py")
    def test_silence_has_no_nan_in_it(self):
        from espnet2.enh.separator.tfgridnetv2_separator import TFGridNetV2

        sizes = {
            "n_layers": 1,
            "lstm_hidden_units": 2,
            "attn_n_head": 1,
            "attn_approx_qk_dim": 8,
            "emb_dim": 4,
        }
        network = TFGridNetV2(None, n_fft=16, stride=8, n_imics=2, use_builtin_complex=True, **sizes)
        streams, *_ = network(torch.zeros(1, 200, 2), torch.tensor([200]))
        assert all(torch.isfinite(stream).all() for stream in streams)

    @defect("training/checkpoints.py: load_model")
    def test_weights_of_something_else_are_refused(self, models, tmp_path):
        from frontend.training.task import FrontendTask, register

        register()
        torch.save({"junk": torch.zeros(1)}, tmp_path / "junk.pth")
        with pytest.raises((RuntimeError, KeyError)):
            FrontendTask.build_model_from_file(models / "student/config.yaml", tmp_path / "junk.pth")


class TestJoint:
    """ESPnet's forward of separator and recogniser, around parts that say what they were given."""

    @pytest.fixture
    def joint(self):
        class Separator(enh_s2t.ESPnetEnhancementModel):
            def __init__(self):
                torch.nn.Module.__init__(self)
                self.num_spk, self.normalize_variance, self.level = 2, True, None

            def forward_enhance(self, speech, lengths, additional=None, fs=None):
                self.level = speech.std().item()
                return [speech, speech], None, None, {}

            def forward_loss(self, *given, **more):
                return torch.ones(1), {}, None, [torch.tensor([0, 1])]

        class Recogniser(enh_s2t.ESPnetASRModel):
            def __init__(self):
                torch.nn.Module.__init__(self)
                self.extract_feats_in_collect_stats, self.ctc = False, None

            def forward(self, speech, *given, **more):
                return torch.ones(()), {}, torch.tensor(1)

        return enh_s2t.ESPnetEnhS2TModel(Separator(), Recogniser())

    @staticmethod
    def stats(joint, name):
        given = {f"speech_ref{k}": torch.ones(1, 50) for k in (1, 2)}
        for k in (1, 2):
            given |= {f"text_spk{k}": torch.ones(1, 3).long(), f"text_spk{k}_lengths": torch.tensor([3])}
        speech = 0.1 * torch.randn(1, 50, generator=torch.Generator().manual_seed(0))
        return joint(speech, torch.tensor([50]), utt_id=[name], **given)[1]

    @defect("recognition/joint.py: JointModel.forward", raises=(ValueError,))
    def test_the_name_of_an_utterance_decides_nothing(self, joint):
        assert self.stats(joint, "SURREAL")["loss_enh"] is not None

    @defect("recognition/joint.py: adopt")
    def test_the_separator_gets_the_level_that_it_was_trained_with(self, joint):
        self.stats(joint, "a")
        assert joint.enh_model.level == pytest.approx(1.0, rel=0.01)

    @defect("recognition/joint.py: register_joint")
    def test_a_separator_that_is_registered_is_known_to_the_joint_task(self):
        assert enh_s2t.enh_separator_choices.classes is enh.separator_choices.classes


class TestRecognition:
    @pytest.fixture
    def archive(self, tmp_path):
        recording = {"a": (8000, np.full(100, 2**14, np.int16))}
        kaldiio.save_ark(str(tmp_path / "wav.ark"), recording, scp=str(tmp_path / "wav.scp"))
        return str(tmp_path / "wav.scp")

    @pytest.mark.parametrize("kind", ["sound", "kaldi_ark"])
    @defect("recognition/training.py: ArchivedSound", raises=(RuntimeError, OSError))
    def test_recordings_in_archives_are_as_loud_as_files(self, archive, kind):
        from espnet2.train.dataset import DATA_TYPES

        assert np.abs(DATA_TYPES[kind]["func"](archive)["a"]).max() == pytest.approx(0.5, rel=0.01)

    @defect("recognition/training.py: check_config")
    def test_what_was_not_measured_is_no_criterion(self):
        from espnet2.train.reporter import Reporter

        reporter = Reporter()
        reporter.set_epoch(1)
        with reporter.observe("valid") as observed:
            observed.register({"loss": torch.tensor(1.0), "acc": None})
            observed.next()
        assert reporter.has("valid", "loss") and not reporter.has("valid", "acc")

    @defect("recognition/model.py: complete_options", raises=(RuntimeError,))
    def test_the_search_may_keep_more_than_there_are_words(self, recognisers):
        assert self.recogniser(recognisers, beam_size=20)(tones(4000)[0])

    @defect("recognition/model.py: _ESPnet", raises=(RuntimeError,))
    def test_a_stream_shorter_than_a_window_is_called_too_short(self, recognisers):
        with pytest.raises(TooShortUttError):
            self.recogniser(recognisers, beam_size=2)(np.zeros(30, np.float32))

    @defect("recognition/model.py: ctc_window_margin", since=202611)
    def test_ctc_scores_are_exact_unless_asked_otherwise(self):
        margin = inspect.signature(Speech2Text).parameters.get("ctc_window_margin")
        assert margin is None or margin.default == 0

    @defect("training/checkpoints.py: load_state", since=202611)
    def test_a_training_starts_from_weights_under_former_names(self, recognisers, tmp_path):
        from espnet2.torch_utils.load_pretrained_model import load_pretrained_model

        saved = self.recogniser(recognisers).asr_model.state_dict()
        torch.save(former_names(saved), tmp_path / "former.pth")
        model = self.recogniser(recognisers).asr_model
        for weights in model.parameters():
            weights.data += 1
        load_pretrained_model(str(tmp_path / "former.pth"), model, False)
        assert all(torch.equal(saved[k], weights) for k, weights in model.state_dict().items())

    @defect("recognition/training.py: build_model", since=202611)
    def test_convolutions_of_a_conformer_see_the_padding(self, recognisers):
        """A matter of training: egs/mini's learns more slowly where they do not (docs/versions.md)."""
        assert sees_padding(self.recogniser(recognisers).asr_model.encoder)

    @staticmethod
    def recogniser(recognisers, **options):
        files = {"asr_train_config": "config.yaml", "asr_model_file": "valid.loss.ave.pth"}
        return Speech2Text(
            **{key: str(recognisers / "asr" / name) for key, name in files.items()}, ctc_weight=1.0, **options
        )
