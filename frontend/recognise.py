"""Recognition: streams in, words out, by ESPnet's ``Speech2Text``."""

from __future__ import annotations

import argparse
import contextlib
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from frontend import decode_options, espnet
from frontend.errors import UserError
from frontend.espnet import _quietly as quietly
from frontend.recogniser_files import ASR_MODEL, RecogniserFiles, find_in_zoo, find_recogniser
from frontend.separate import check_device
from frontend.task import check_state, read_state
from frontend.yaml_file import read_settings

__all__ = ["ASR_MODEL", "MAX_BATCH", "Recogniser"]

# Streams that go through the encoder at once: its attention takes memory with the square of the length.
MAX_BATCH = 16


class Recogniser:
    """A trained ESPnet recogniser.

    Attributes:
        files: what it is and where it came from.
        options: of the search, as ESPnet got them.

    >>> recogniser = Recogniser.from_pretrained("exp/espeak/asr")  # doctest: +SKIP
    >>> recogniser(streams, fs=8000)  # (S, T) -> S transcripts  # doctest: +SKIP
    """

    def __init__(self, files: RecogniserFiles, options: dict | None = None, device: str = "cpu"):
        """Load a recogniser.

        Args:
            files: where it lies, see :func:`frontend.recogniser_files.find_recogniser`.
            options: of the search, see :data:`frontend.decode_options.OPTIONS`.
            device: ``cpu``, ``cuda``, ``cuda:1``.

        Raises:
            UserError: a damaged checkpoint, one of another network, an unknown option, no such device.
        """
        check_device(device)
        self.files, self.options = files, decode_options.complete(options or {}, files)
        _check_weights(files)
        with _silently():
            self._speech2text = espnet.Speech2Text(
                asr_train_config=str(files.config),
                asr_model_file=str(files.checkpoint),
                device=device,
                **self.options,
            )

    @classmethod
    def from_pretrained(
        cls, path: str | Path, options: dict | None = None, device: str = "cpu"
    ) -> Recogniser:
        """Load what a training left in ``path``: a directory, or a model beside its ``config.yaml``."""
        return cls(find_recogniser(path), options, device)

    @classmethod
    def from_zoo(
        cls, tag: str, options: dict | None = None, device: str = "cpu", cache: str | Path | None = None
    ) -> Recogniser:
        """Load a model of espnet_model_zoo, see :func:`frontend.recogniser_files.find_in_zoo`."""
        return cls(find_in_zoo(tag, cache), options, device)

    @property
    def fs(self) -> int:
        """Rate in Hz."""
        return self.files.fs

    @property
    def fingerprint(self) -> str:
        """Hash of the recogniser's files."""
        return self.files.fingerprint

    @property
    def tokens(self) -> tuple[str, ...]:
        """What it can put out."""
        return self.files.tokens

    @torch.inference_mode()
    def __call__(self, streams: np.ndarray, fs: int) -> list[str]:
        """Recognise streams that are equally long, as those of one recording are.

        Args:
            streams: (S, T) float, full scale 1.0.
            fs: their rate in Hz.

        Returns:
            S transcripts; ``""`` for digital silence, and where the encoder would make no frame of them.

        Raises:
            UserError: another rate, or NaN.
        """
        streams = np.atleast_2d(np.asarray(streams, dtype=np.float32))
        self.files.check_rate("streams", fs)
        if not np.isfinite(streams).all():
            raise UserError("streams: expected finite samples, found NaN or infinity")
        # Nobody spoke in digital silence, which no recogniser was trained on: it might dream up a word.
        spoken = np.flatnonzero(streams.any(axis=1))
        texts = [""] * len(streams)
        for begin in range(0, len(spoken), MAX_BATCH):
            batch = spoken[begin : begin + MAX_BATCH]
            for k, text in zip(batch, self._recognise(torch.from_numpy(streams[batch])), strict=True):
                texts[k] = text
        return texts

    def _recognise(self, streams: torch.Tensor) -> list[str]:
        """Recognise (B, T): the encoder on all of them at once, then one search after the other."""
        # ESPnet has no public step between a whole recording and its encoding.
        search = self._speech2text._decode_single_sample
        with _silently():
            return [_best(search(frames)) if len(frames) else "" for frames in self._encode(streams)]

    def _encode(self, streams: torch.Tensor) -> Iterable[torch.Tensor]:
        """Return the encoder's frames (L, D) of each stream (B, T); L = 0 where these are too short."""
        from espnet.nets.pytorch_backend.transformer.subsampling import TooShortUttError

        speech2text, nothing = self._speech2text, streams.new_zeros(len(streams), 0, 1)
        if streams.shape[1] <= _half_window(speech2text.asr_model):
            return nothing
        streams = streams.to(device=speech2text.device, dtype=getattr(torch, speech2text.dtype))
        lengths = torch.full((len(streams),), streams.shape[1], device=streams.device)
        try:
            encoded, n_frames = speech2text.asr_model.encode(speech=streams, speech_lengths=lengths)
        except TooShortUttError:
            return nothing
        if isinstance(encoded, tuple):
            encoded = encoded[0]  # the rest is of intermediate layers
        return (frames[:n] for frames, n in zip(encoded, n_frames.tolist(), strict=True))


@contextlib.contextmanager
def _silently() -> Iterator[None]:
    """Keep ESPnet's warnings off the terminal: several a stream, of nothing a user could put right."""
    logging.disable(logging.WARNING)
    try:
        with quietly():
            yield
    finally:
        logging.disable(logging.NOTSET)


def _best(hypotheses: list[tuple]) -> str:
    """Return the text of the first hypothesis; a search that found none has heard nothing."""
    return hypotheses[0][0] or "" if hypotheses else ""


def _half_window(model: torch.nn.Module) -> int:
    """Return how many samples ESPnet's STFT reflects at either end, which takes more samples than that."""
    stft = getattr(model.frontend, "stft", None)
    return stft.n_fft // 2 if stft is not None and stft.center else 0


def _check_weights(files: RecogniserFiles) -> None:
    """Raise UserError unless the checkpoint is whole and fits the network of ``config.yaml``.

    Speech2Text loads with ``strict=False`` and so takes any file.
    """
    state = read_state(files.checkpoint)
    settings = read_settings(files.config, "config.yaml of a recogniser's training")
    with _silently():
        try:
            model = espnet.asr.ASRTask.build_model(argparse.Namespace(**settings))
        except (
            AttributeError,
            KeyError,
            TypeError,
            ValueError,
        ) as error:  # whatever a setting is missing for
            raise UserError(f"{files.config}: ESPnet cannot build a recogniser of it: {error}") from None
    check_state(state, model.state_dict(), str(files.checkpoint), f"the network of {files.config}")
