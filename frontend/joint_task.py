"""Separator and recogniser as one network: ESPnet's EnhS2T task with our separators and batches.

The separator's streams are put in the talkers' order by PIT on the separation loss, and that one
order holds for both losses. Not by PIT on the recogniser's loss: where both streams are still
mixtures their transcripts decide nothing, it costs talkers times as many passes through the
recogniser, and a talker whose two losses disagree would be pulled both ways.
"""

import argparse
from collections.abc import Callable

import torch
from espnet2.torch_utils.device_funcs import force_gatherable
from torch.nn import functional as F

from frontend.espnet import ESPnetEnhancementModel, abs_task, enh, enh_s2t
from frontend.iterators import KeyedIterFactory
from frontend.joint_data import WholeUtterances
from frontend.task import FrontendTask, FrontendTrainer, register

# Prefixes of the two parts in the weights of the joint network.
SEPARATOR, RECOGNISER = "enh_model", "s2t_model"


def register_joint() -> None:
    """Make our classes known to the joint task too; safe to call again."""
    register()
    # EnhS2T deep-copies the choices when it is imported, whoever imported it first.
    enh_s2t.enh_separator_choices.classes.update(enh.separator_choices.classes)


class JointModel(enh_s2t.ESPnetEnhS2TModel):
    """A separator, and a recogniser that reads all of its streams.

    Args:
        enh_model, s2t_model: the two parts.
        enh_weight: of the separation loss (dB) beside the recogniser's (nats per utterance).
    """

    def __init__(
        self, enh_model: ESPnetEnhancementModel, s2t_model: enh_s2t.ESPnetASRModel, enh_weight: float = 0.1
    ):
        super().__init__(enh_model, s2t_model)
        self.enh_weight = enh_weight

    def separate(self, speech: torch.Tensor, lengths: torch.Tensor) -> tuple[list[torch.Tensor], tuple]:
        """Return the streams [(B, T)] * S, and what the separation loss wants beside them.

        ESPnet's own path does without ``normalize_variance``, which our networks do not need and
        :mod:`frontend.joint_config` refuses, and leaves in a short item of the batch what
        the inverse STFT gives beyond its end, for the recogniser to hear.
        """
        speech = speech[:, : lengths.max()]
        streams, *others = self.enh_model.forward_enhance(
            speech, lengths, {"num_spk": self.enh_model.num_spk}
        )
        inside = torch.arange(speech.shape[1], device=speech.device) < lengths[:, None]
        return [stream * inside for stream in streams], tuple(others)

    def forward(
        self, speech: torch.Tensor, speech_lengths: torch.Tensor, **given: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """Return the sum of both losses.

        ESPnet's own forward knows no weight of the separation loss, skips that loss for the whole
        batch where its first utterance happens to be named ``...REAL`` or ``...CLEAN``, and looks
        for the order of the talkers by CTC (for two talkers only) where a solver gives none.

        Args:
            speech: (B, T, C), or (B, T) of one microphone.
            speech_lengths: (B,) in samples.
            given: ``speech_ref1..S`` (B, T), ``text_spk1..S`` (B, L) and their ``_lengths`` (B,).
        """
        talkers = range(1, self.enh_model.num_spk + 1)
        references = [given[f"speech_ref{k}"][:, : speech_lengths.max()] for k in talkers]
        streams, others = self.separate(speech, speech_lengths)
        loss_enh, stats_enh, _, order = self.enh_model.forward_loss(
            streams, speech_lengths, *others, references
        )
        streams = ESPnetEnhancementModel.sort_by_perm(streams, order)
        loss_asr, stats, _ = self.s2t_model(
            torch.cat(streams),
            speech_lengths.repeat(len(streams)),
            _stacked([given[f"text_spk{k}"] for k in talkers], self.s2t_model.ignore_id),
            torch.cat([given[f"text_spk{k}_lengths"] for k in talkers]),
        )
        loss = loss_asr + self.enh_weight * loss_enh[0]
        stats |= {"loss_asr": loss_asr.detach(), "loss_enh": stats_enh["loss"], "loss": loss.detach()}
        return force_gatherable((loss, stats, speech.shape[0]), loss.device)


def _stacked(texts: list[torch.Tensor], ignore_id: int) -> torch.Tensor:
    """[(B, L_k)] * S -> (S B, L), talker after talker."""
    longest = max(text.shape[1] for text in texts)
    return torch.cat([F.pad(text, (0, longest - text.shape[1]), value=ignore_id) for text in texts])


class JointTask(enh_s2t.EnhS2TTask):
    """ESPnet's joint task, with whole utterances in keyed batches."""

    trainer = FrontendTrainer

    @classmethod
    def get_parser(cls) -> argparse.ArgumentParser:
        """Return ESPnet's parser with the defaults of our model; call :func:`register_joint` first."""
        parser = super().get_parser()
        parser.set_defaults(
            model_conf={"enh_weight": 0.1},
            enh_criterions=[{"name": "thresholded_snr", "wrapper": "thresholded_pit"}],
            use_preprocessor=True,
        )
        return parser

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> JointModel:
        """Let ESPnet build both parts, and join them in our model."""
        parts = super().build_model(argparse.Namespace(**vars(args) | {"model_conf": {}}))
        return JointModel(parts.enh_model, parts.s2t_model, **args.model_conf)

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Callable:
        """Build the reader of utterances; the recogniser's configuration turns texts into tokens."""
        names = [f"text_spk{k}" for k in range(1, args.enh_separator_conf["num_spk"] + 1)]
        text = super().build_preprocess_fn(argparse.Namespace(**vars(args) | {"text_name": names}), train)
        return WholeUtterances(train, text, **args.reading)

    @classmethod
    def build_sequence_iter_factory(
        cls, args: argparse.Namespace, iter_options: abs_task.IteratorOptions, mode: str
    ) -> KeyedIterFactory:
        """Batches keyed by seed and epoch, as those of the separators."""
        return FrontendTask.build_sequence_iter_factory.__func__(cls, args, iter_options, mode)
