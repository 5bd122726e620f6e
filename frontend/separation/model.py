"""Inference: a recording in, one stream per output of a trained network out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from frontend import MAX_SECONDS, PRETRAINED
from frontend.dsp.resample import resample as change_rate
from frontend.training.checkpoints import (
    Trained,
    check_length,
    load_model,
    open_trained,
)
from frontend.utils.device import check_device
from frontend.utils.errors import UserError


class Separator:
    """A trained separation network.

    Attributes:
        trained: what it is and where it came from (rate, channels, outputs).
        max_seconds: the longest recording that a call takes.

    >>> separator = Separator.from_pretrained("exp/espeak/student")  # doctest: +SKIP
    >>> streams = separator(waveform, fs=8000)  # (C, T) -> (S, T)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Any,  # ESPnet's enhancement model
        trained: Trained,
        device: str = "cpu",
        max_seconds: float = MAX_SECONDS,
    ):
        if getattr(model, "normalize_variance", False) or getattr(model, "normalize_variance_per_ch", False):
            # ESPnet undoes it in training alone; our networks take any level as it comes.
            raise UserError(f"{trained.path}: trained with normalize_variance, which is not supported")
        self.model, self.trained, self.device, self.max_seconds = model, trained, device, max_seconds

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path | None = None,
        device: str = "cpu",
        max_seconds: float = MAX_SECONDS,
        n_talkers: int | None = None,
    ) -> Separator:
        """Load a trained system.

        Args:
            path: a training directory (``config.yaml`` and the averaged weights), or a
                directory or zip made by ``mixit pack``; None: the model that comes with the
                package, for 2 to 8 microphones.
            device: ``cpu``, ``cuda``, ``cuda:1``.
            max_seconds: refuse longer recordings, which are separated as a whole: see
                :data:`frontend.MAX_SECONDS` for the memory that this takes.
            n_talkers: streams wanted; None: as many as in training, which most networks always make.

        Raises:
            UserError: nothing there, weights that do not fit, no such device, or another number of streams.
        """
        check_device(device)
        with open_trained(PRETRAINED if path is None else path) as trained:
            trained = trained.of_talkers(n_talkers)
            model: Any = load_model(trained.config, trained.checkpoint, device)
            if trained.any_array:
                model.separator.num_spk = trained.n_outputs
            return cls(model, trained, device, max_seconds)

    def __call__(self, waveform: np.ndarray, fs: int, resample: bool = False) -> np.ndarray:
        """Separate one recording.

        Args:
            waveform: (C, T) float, full scale 1.0; (T,) for a network of one microphone.
            fs: its rate in Hz.
            resample: allow a rate the network was not trained at: separate at the
                network's rate and return to ``fs``.

        Returns:
            (S, T) float32 at the recording's rate and level.

        Raises:
            UserError: wrong channels or rate, an empty or too long recording, NaN or infinity.
        """
        # Contiguous: torch takes no reversed view, such as one of the channels in another order.
        waveform = np.atleast_2d(np.ascontiguousarray(waveform, dtype=np.float32))
        self.trained.check("recording", len(waveform), fs, resample)
        check_length("recording", waveform.shape[1], fs, self.max_seconds)
        if waveform.shape[1] == 0:
            raise UserError("recording: expected samples, found none")
        if not np.isfinite(waveform).all():
            raise UserError("recording: expected finite samples, found NaN or infinity")
        rate = fs if fs in self.trained.rates else self.trained.fs
        at_model_rate = change_rate(waveform, fs, rate)
        streams = self.outputs(torch.from_numpy(at_model_rate), rate).cpu().numpy()
        streams = change_rate(streams, rate, fs)
        missing = max(0, waveform.shape[1] - streams.shape[1])
        return np.pad(streams, [(0, 0), (0, missing)])[:, : waveform.shape[1]]

    @torch.inference_mode()
    def outputs(self, waveform: torch.Tensor, fs: int | None = None) -> torch.Tensor:
        """Run the network: (C, T) of any length, from any device, to (M, T) on its own.

        ``fs`` is the rate in Hz, one of those that the network takes; None: that of its training.
        """
        if self.trained.any_array:
            self.model.separator.fs = fs or self.trained.fs
        n_samples = waveform.shape[1]
        # ESPnet's STFT reflects half a window at either end, which takes more samples than that. Whole hops:
        # else the last samples have the end of one window alone, by the square of which the inverse divides.
        encoder = self.model.encoder
        window = int(getattr(encoder, "n_fft", 0) or getattr(encoder, "kernel_size", 0) or 0)
        length = max(window, n_samples)
        length += -length % int(getattr(encoder, "hop_length", 0) or 1)
        padded = torch.nn.functional.pad(waveform.to(self.device), (0, length - n_samples))
        batch = padded.T[None] if len(padded) > 1 else padded  # (1, T, C) or (1, T)
        lengths = torch.tensor([padded.shape[1]], device=padded.device)
        streams = self.model.forward_enhance(batch, lengths, {})[0]
        return torch.cat(streams)[:, :n_samples].float()
