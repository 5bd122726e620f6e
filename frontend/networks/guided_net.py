"""GuidedNet: a small network that corrects, stream by stream, what AuxIVA and beamformers make of an array.

The same network sees for each stream the mixture at the reference channel, the stream and the sum of the
other streams, as AuxIVA and as an MVDR beamformer have them. It corrects the logits of the masks that the
AuxIVA streams amount to, adds complex residuals that sum to zero, and weighs the masked reference channel
against the array's own streams. Its last layer starts at zero: untrained, it is AuxIVA with masks. In the
next round, AuxIVA and the beamformer start from its outputs.

The streams share all weights, and no channel but the reference is seen. So one set of weights serves any
number of microphones in any arrangement, and any number of streams. Frequencies are 31.25 Hz apart at any
rate, so that it serves 8 and 16 kHz.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn
from torch.nn import functional as F

from frontend.dsp.array_streams import ArrayStreams
from frontend.dsp.refine import WINDOW_S
from frontend.dsp.spatial import frames, istft, stft
from frontend.networks.base import ArraySeparator, MaskedGroupNorm
from frontend.networks.stack import FLOOR, STRIDE, Block, autocast, check_precision
from frontend.utils.errors import UserError

_BIN_HZ = 31.25
_HIGHEST_HZ = 8000  # frequencies above it share one embedding
# What it sees of a stream: the mixture; its own and the other streams of AuxIVA, and of the beamformer.
_SIGNALS = 5
# What it gives for each bin: logit, residual (2), weight of the AuxIVA stream, and of the beamformer's.
_OUTPUTS = 5
# Blind AuxIVA tries so many matrices. 1, 2, 4, 8 gave 5.1, 5.9, 6.1, 6.1 dB on the development set of
# egs/mini, 5.5, 5.8, 5.9, 6.1 on its test set; 8 take 1.7 times as long as 1. In training, where each step
# waits for them, fewer do.
STARTS = 8
TRAINING_STARTS = 2


class GuidedNet(ArraySeparator):
    """Masks, residuals and weights for the streams of an array, in rounds; on waveforms.

    Use it with ESPnet's encoder and decoder ``same``.

    Args:
        input_dim: not used (ESPnet hands it over).
        num_spk: number of streams; may be changed afterwards.
        n_mics: microphones in training; recordings of fewer are filled up with silent channels there. Later,
            it takes any number that is not below ``num_spk``.
        ref_channel: the microphone whose images are estimated.
        fs: rate in Hz; may be changed afterwards.
        rounds: how often AuxIVA, beamformer and network follow each other. In training, batches take
            1, 2, ... ``rounds`` of them in turn, and the gradient is that of the last.
        channels: width of the stack.
        blocks: its number of residual blocks.
        freq_dilations: dilations over frequency positions, repeated over the blocks.
        time_dilations: dilations over frames, repeated over the blocks.
        precision: of the convolution stack, see :class:`frontend.networks.mask_net.MaskNet`.

    Raises:
        UserError: sizes that make no sense.
    """

    def __init__(
        self,
        input_dim: int,
        num_spk: int = 2,
        n_mics: int = 2,
        ref_channel: int = 0,
        fs: int = 8000,
        rounds: int = 2,
        channels: int = 32,
        blocks: int = 6,
        freq_dilations: Sequence[int] = (1, 2, 4),
        time_dilations: Sequence[int] = (1, 2, 4, 8),
        precision: str = "float32",
    ):
        super().__init__(num_spk, n_mics, ref_channel, mixture_consistency=False)
        check_precision(precision)
        if num_spk < 2 or rounds < 1 or fs < 1:
            raise UserError(
                "separator_conf: expected num_spk of 2 or more, rounds of 1 or more and fs in Hz, found "
                f"{num_spk}, {rounds} and {fs}"
            )
        self.fs, self.rounds, self.precision = fs, rounds, precision
        positions = -(-round(_HIGHEST_HZ / _BIN_HZ + 1) // STRIDE)
        self.stem = nn.Conv2d(3 * _SIGNALS, channels, (3, STRIDE + 2), stride=(1, STRIDE), padding=(1, 0))
        self.embedding = nn.Parameter(torch.zeros(1, channels, 1, positions))
        self.blocks = nn.ModuleList(
            Block(channels, 1, (time, freq))
            for time, freq in zip(
                _repeated(time_dilations, blocks), _repeated(freq_dilations, blocks), strict=True
            )
        )
        self.norm = MaskedGroupNorm(1, channels)
        self.head = nn.Linear(channels, STRIDE * _OUTPUTS)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        # Batches seen: a training that was interrupted goes on with the round that is next.
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))
        self.to(memory_format=torch.channels_last)

    def forward(
        self, input: torch.Tensor, ilens: torch.Tensor, additional: dict | None = None
    ) -> tuple[list[torch.Tensor], torch.Tensor, OrderedDict]:
        """Separate waveforms.

        Args:
            input: ``(B, T, C)``; a channel of zeros has no influence.
            ilens: ``(B,)`` samples of each item. Items of unequal lengths are separated one by one, so that
                padding changes nothing.
            additional: not used.

        Returns:
            ``num_spk`` tensors ``(B, T)``, zero in the padding; ``ilens``; an empty dict.

        Raises:
            UserError: fewer microphones than streams.
        """
        n_mics = input.shape[2] if input.dim() == 3 else 1
        if n_mics < self._num_spk:
            raise UserError(
                f"expected {self._num_spk} or more microphones for {self._num_spk} streams, found {n_mics} "
                "(give recordings of an array, or a model that was trained for one microphone)"
            )
        if n_mics <= self.ref_channel:
            raise UserError(f"expected channel {self.ref_channel} as the reference, found {n_mics} channels")
        mixture, rounds = input.transpose(1, 2), self.rounds
        if self.training:
            rounds = 1 + int(self.batches) % self.rounds
            self.batches += 1
        lengths, longest = ilens.tolist(), mixture.shape[-1]
        if min(lengths) >= longest:
            streams = self.separate(mixture, rounds)
        else:
            made = [self.separate(x[None, :, :n], rounds)[0] for x, n in zip(mixture, lengths, strict=True)]
            streams = torch.stack([F.pad(one, (0, longest - one.shape[-1])) for one in made])
        return list(streams.unbind(1)), ilens, OrderedDict()

    def separate(self, mixture: torch.Tensor, rounds: int) -> torch.Tensor:
        """Separate (B, C, T) in so many rounds: (B, S, T). The gradient is that of the last."""
        made = self.in_threads(functools.partial(self.last_streams, rounds=rounds), mixture)
        return self.correct(mixture[:, self.ref_channel], *made)

    @torch.no_grad()
    def last_streams(self, mixture: torch.Tensor, rounds: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the network sees in the last round: streams of AuxIVA and of beamformers, (B, S, T)."""
        # Covariances in half precision, which ESPnet's use_amp would compute, are nearly singular.
        with torch.autocast(mixture.device.type, enabled=False):
            array = ArrayStreams(mixture, self._num_spk, *frames(self.fs, WINDOW_S, 4), self.ref_channel)
            demixed, _ = array.blind(starts=TRAINING_STARTS if self.training else STARTS)
            beams = array.beamformed(demixed)
            for _ in range(rounds - 1):
                streams = self.correct(mixture[:, self.ref_channel], demixed, beams)
                demixed, _ = array.guided(streams)
                beams = array.beamformed(streams)
        return demixed, beams

    @staticmethod
    def in_threads(make: Callable, mixture: torch.Tensor) -> list[torch.Tensor]:
        """Return what ``make`` makes of (B, ...), each of its tensors, a part of the batch in each thread.

        AuxIVA is thousands of small operations. Recordings side by side take 0.6 of the time that these take
        with more threads each.
        """
        number = torch.get_num_threads()
        threads = min(number, len(mixture)) if mixture.device.type == "cpu" else 1
        if threads == 1:
            return list(make(mixture))
        try:
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                parts = list(pool.map(make, mixture.chunk(threads)))
        finally:
            torch.set_num_threads(number)  # what a thread sets is the number of all threads to come
        return [torch.cat(tensors) for tensors in zip(*parts, strict=True)]

    def correct(self, reference: torch.Tensor, demixed: torch.Tensor, beams: torch.Tensor) -> torch.Tensor:
        """Run the network once: mixture (B, T), streams of AuxIVA and beamformers (B, S, T), to (B, S, T)."""
        n_fft, hop = self._window()
        signals = torch.cat([reference.unsqueeze(1), demixed, beams], 1)
        # To whole hops: else the last samples have the end of one window alone, by which the inverse divides.
        signals = F.pad(signals, (0, -signals.shape[-1] % hop))
        spectra = stft(signals, n_fft, hop).transpose(-1, -2)  # (B, 1 + 2 S, L, F)
        x, y, z = spectra.split([1, demixed.shape[1], beams.shape[1]], 1)
        logit, real, imag, of_demixed, of_beam = self._outputs(_features(x, y, z)).unbind(-1)
        power = torch.view_as_real(y).square().sum(-1)
        masks = (power.clamp_min(torch.finfo(power.dtype).tiny).log() + logit).softmax(1)
        residual = torch.complex(real, imag)
        masked = (masks + residual - residual.mean(1, keepdim=True)) * x
        streams = masked + of_demixed * (y - masked) + of_beam * (z - masked)
        return istft(streams.transpose(-1, -2), n_fft, hop, reference.shape[-1])

    def _window(self) -> tuple[int, int]:
        n_fft = round(self.fs / _BIN_HZ / 2) * 2
        return n_fft, n_fft // 2

    def _outputs(self, features: torch.Tensor) -> torch.Tensor:
        """(B, S, K, L, F) to (B, S, L, F, 5)."""
        n_freqs = features.shape[-1]
        positions = -(-n_freqs // STRIDE)
        x = features.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        right = STRIDE * (positions - 1) + STRIDE + 2 - n_freqs - 1
        places = torch.arange(positions, device=x.device).clamp_max(self.embedding.shape[-1] - 1)
        with autocast(self.precision, self.training, features.device.type):
            x = self.stem(F.pad(x, (1, right)))
            x = x + self.embedding[..., places].to(x.dtype)
            for block in self.blocks:
                x = block(x, None)
            x = self.head(self.norm(x, None).permute(0, 2, 3, 1))
        x = x.to(features.dtype).unflatten(-1, (STRIDE, _OUTPUTS)).flatten(2, 3)[:, :, :n_freqs]
        return x.unflatten(0, features.shape[:2])


def _repeated(values: Sequence[int], count: int) -> list[int]:
    return [values[i % len(values)] for i in range(count)]


def _features(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """(B, 1, L, F) and streams (B, S, L, F) to log-magnitudes and compressed parts, (B, S, 15, L, F)."""
    others = [streams.sum(1, keepdim=True) - streams for streams in (y, z)]
    signals = torch.stack([x.expand_as(y), y, others[0], z, others[1]], 2)
    level = torch.view_as_real(x).square().sum(-1).mean((1, 2, 3)).view(-1, 1, 1, 1, 1)
    level = torch.where(level > 0, level, 1.0)
    power = torch.view_as_real(signals).square().sum(-1) / level + FLOOR
    compressed = signals * (power**-0.25 * level.rsqrt())
    return torch.cat([power.log10() / 2 + 1.5, compressed.real, compressed.imag], 2)
