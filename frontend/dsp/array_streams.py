"""What a microphone array makes of mixtures: blind AuxIVA, AuxIVA that starts from streams, and beamformers.

:class:`ArrayStreams` analyses a batch of recordings once. Blind separation, the refinement of streams and the
network that has the array inside all take their streams from it.

[1] M. Souden, J. Benesty, S. Affes, "On optimal frequency-domain multichannel linear filtering for noise
    reduction", IEEE TASLP 18(2), 2010.
"""

import functools
from collections.abc import Callable

import torch
from torch.nn.functional import pad
from torchaudio.functional import apply_beamforming, mvdr_weights_souden

from frontend.dsp import iva
from frontend.dsp.spatial import istft, spatial_covariance, stft, stream_masks
from frontend.utils.rng import generator

# Raised with every change after which the same mixture has other streams; that of training/run.py then, too.
VERSION = 3
# Precision, and noise that is added, relative to the mixture in amplitude: it keeps the matrices of a dead
# channel or of silence invertible. What has sound in a few windows alone takes more of both.
_ATTEMPTS = (
    (torch.float32, 1e-5),
    (torch.float64, 1e-5),
    (torch.float64, 1e-3),
    (torch.float64, 1e-2),
)
_LOADING = 1e-5  # on the diagonal of a beamformer's noise covariance, times its trace
_ITERATIONS = 15  # from streams; 10 and 30 differed by 0.2 dB on the one corpus and -0.1 on the other
_LEAST = 1e-15  # of a component's power, that of the mixture being about 1
_HANN = 1.0  # power of the Hann window: AuxIVA and MVDR gain 0.1 dB over its root


class ArrayStreams:
    """A batch of recordings; the streams have the level of their reference channel.

    Args:
        mixture: real (B, C, T); a silent channel has no influence.
        n_streams: S, at most C.
        n_fft, hop: of the STFT in samples. A window should be about as long as the reverberation.
        ref_channel: the microphone at which streams are estimated.
        attempt: number of the precision and the dither that are taken.
    """

    def __init__(
        self,
        mixture: torch.Tensor,
        n_streams: int,
        n_fft: int,
        hop: int,
        ref_channel: int = 0,
        attempt: int = 0,
    ):
        self.mixture, self.n_streams, self.n_fft, self.hop = mixture, n_streams, n_fft, hop
        self.ref_channel, self.attempt = ref_channel, attempt
        self.dtype, dither = _ATTEMPTS[attempt]
        self.loudness = mixture.to(self.dtype).square().mean((1, 2), keepdim=True).sqrt()
        self.level = torch.where(self.loudness > 0, self.loudness, 1.0)
        noise = generator(0, "blind", "dither").standard_normal(mixture.shape[1:])
        noisy = mixture / self.level + dither * torch.from_numpy(noise).to(self.level)
        self.spectrum = self._stft(noisy)  # (B, C, F, L)
        self.components = principal(self.spectrum, n_streams)

    def blind(
        self, iterations: int = 30, prior: str = "gauss", starts: int = 1
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Separate by AuxIVA.

        It ends in local optima. So of several starts the likeliest after a third of the iterations goes on.

        Returns:
            as :meth:`separated`.
        """
        first = unitary_matrices(self.n_streams, starts)[None, :, None]
        tried = max(1, iterations // 3) if starts > 1 else 0

        def solve(array: ArrayStreams, _: torch.Tensor) -> torch.Tensor:
            w = first.to(array.components)
            if tried:
                w = likeliest(*iva.auxiva(array.components, w, tried, prior)).unsqueeze(1)
            return iva.auxiva(array.components, w, iterations - tried, prior)[0][:, 0]

        return self.separated(solve)

    def separated(self, solve: "Solve") -> tuple[torch.Tensor, torch.Tensor]:
        """Separate by the matrices of ``solve``, see :meth:`demixed`.

        Returns:
            streams (B, S, T), loudest first, and (B,) whether there are any. There are none where sound is in
            too few frames: the first is the reference channel there, the others are silent.
        """
        streams, found = self.demixed(solve)
        order = streams.square().sum(-1).argsort(dim=1, descending=True, stable=True)
        streams = streams.gather(1, order.unsqueeze(-1).expand_as(streams))
        nothing = torch.zeros_like(streams)
        nothing[:, 0] = self.mixture[:, self.ref_channel]
        return torch.where(found[:, None, None], streams, nothing), found

    def guided(
        self, streams: torch.Tensor, iterations: int = _ITERATIONS
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Separate by AuxIVA whose matrices start from ``streams`` (B, S, T).

        Per frequency, the matrix is started as the least-squares map of the components to the streams. So the
        sources are in one order at all frequencies from the first iteration on, which is where AuxIVA from
        nowhere goes wrong.

        Returns:
            streams (B, S, T) in the order of those given, and (B,) whether there are any; where there are
            none, they are those given.
        """

        def solve(array: ArrayStreams, these: torch.Tensor) -> torch.Tensor:
            start = array.map_to(streams[these]).unsqueeze(1)
            return iva.auxiva(array.components, start, iterations)[0][:, 0]

        made, found = self.demixed(solve)
        return torch.where(found[:, None, None], made, streams), found

    def map_to(self, streams: torch.Tensor) -> torch.Tensor:
        """Return the matrices (B, F, S, S) that take the components to (B, S, T) in least squares."""
        x = self.components.transpose(1, 2)  # (B, F, S, L)
        y = self._stft(streams / self.level).transpose(1, 2)
        return torch.linalg.solve_ex(x @ x.mH, x @ y.mH)[0].mH

    def demixed(self, solve: "Solve") -> tuple[torch.Tensor, torch.Tensor]:
        """Return the streams (B, S, T) that matrices make, and whether they are finite, (B,).

        ``solve`` makes the matrices (B, F, S, S) of a batch, given the numbers of its recordings in this one:
        where they are not finite, those recordings are tried again in double precision, then with more
        dither.
        """
        y = torch.einsum("bfsc,bcfl->bsfl", solve(self, torch.arange(len(self.mixture))), self.components)
        reference = self.spectrum[:, self.ref_channel, None]
        scale = (reference * y.conj()).sum(-1) / y.abs().square().sum(-1)  # projection back, (B, S, F)
        streams = self._istft(y * scale.unsqueeze(-1))
        found = streams.isfinite().all(-1).all(-1)
        if self.attempt + 1 < len(_ATTEMPTS) and not found.all():
            failed = torch.nonzero(~found).flatten()
            sizes = self.n_streams, self.n_fft, self.hop, self.ref_channel, self.attempt + 1
            again = ArrayStreams(self.mixture[failed], *sizes)
            streams[failed], found[failed] = again.demixed(lambda array, these: solve(array, failed[these]))
        return streams, found

    def beamformed(self, streams: torch.Tensor) -> torch.Tensor:
        """Return a mask-based Souden MVDR beamformer's output for each stream, Eq. (24) in [1].

        The masks are the streams' shares of each bin. Target covariance: the mixture weighted with the
        stream's own mask; noise covariance: with all the others'.

        Args:
            streams: (B, S, T).

        Returns:
            (B, S, T); exactly zero for a silent stream or mixture.
        """
        masks = stream_masks(self._stft(streams / self.level))
        own = spatial_covariance(self.spectrum.unsqueeze(1), masks)  # (B, S, F, C, C)
        # torchaudio adds 1e-8 to traces whatever the level, so give every frequency level 1.
        trace = own.sum(1, keepdim=True).diagonal(dim1=-2, dim2=-1).sum(-1).real[..., None, None]
        own = own / torch.where(trace > 0, trace, 1.0)
        others = own.sum(1, keepdim=True) - own
        weights = mvdr_weights_souden(own, others, self.ref_channel, diag_eps=_LOADING)
        spectrum = self.spectrum.unsqueeze(1).expand(-1, masks.shape[1], -1, -1, -1)
        return self._istft(apply_beamforming(weights, spectrum))

    def _stft(self, waveform: torch.Tensor) -> torch.Tensor:
        padded = pad(waveform.to(self.dtype), (0, -waveform.shape[-1] % self.hop))
        return stft(padded, self.n_fft, self.hop, _HANN) * (2 / self.n_fft)

    def _istft(self, spectrum: torch.Tensor) -> torch.Tensor:
        scaled = spectrum * (self.n_fft / 2)
        waveform = istft(scaled, self.n_fft, self.hop, self.mixture.shape[-1], _HANN)
        return (waveform * self.loudness).to(self.mixture)


# (recordings, their numbers in the first batch) -> matrices (B, F, S, S)
Solve = Callable[[ArrayStreams, torch.Tensor], torch.Tensor]


def likeliest(w: torch.Tensor, cost: torch.Tensor) -> torch.Tensor:
    """Return the matrices of the start of least cost: (B, N, F, S, S), (B, N) to (B, F, S, S)."""
    best = cost.nan_to_num(torch.inf, torch.inf, torch.inf).argmin(1)
    return w[torch.arange(len(w), device=w.device), best]


@functools.lru_cache(maxsize=32)
def unitary_matrices(n: int, count: int) -> torch.Tensor:
    """Return the identity and ``count - 1`` random unitary matrices, always the same, (count, n, n)."""
    draws = generator(0, "blind", "starts").standard_normal((count, 2, n, n))
    matrices = torch.linalg.qr(torch.complex(*torch.from_numpy(draws).unbind(1)))[0]
    matrices[0] = torch.eye(n)
    return matrices


def principal(x: torch.Tensor, n_components: int) -> torch.Tensor:
    """The strongest principal components of every frequency, each of power 1.

    Complex (B, C, F, L) to (B, n_components, F, L). Of equal power, single precision is enough for AuxIVA.
    """
    covariance = spatial_covariance(x) / x.shape[-1]  # (B, F, C, C)
    powers, vectors = torch.linalg.eigh(covariance.to(torch.complex128))
    powers = powers.flip(-1)[..., None, :n_components].clamp_min(_LEAST)
    vectors = vectors.flip(-1)[..., :n_components]
    return torch.einsum("bcfl,bfcs->bsfl", x, (vectors.conj() * powers.rsqrt()).to(x))
