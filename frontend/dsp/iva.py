"""AuxIVA for a batch of recordings and several starts: all frequencies at once, on CPU or GPU.

[1] N. Ono, "Stable and fast update rules for independent vector analysis based on auxiliary function
    technique", WASPAA 2011: the updates, Eqs. (13) to (16).

The weight of a frame is the same at all frequencies. So the weighted covariances of all sources, starts and
frequencies are one matrix product of the outer products x x^H, which do not change, and the weights; and the
power of all sources in each frame is one of the matrices and the outer products. Nothing else of the length
of the recording is touched in an iteration, and further starts cost little.
"""

import functools
import itertools

import torch

PRIORS = ("gauss", "laplace")
_LEAST = 1e-15  # of a frame's power, that of the components being about 1


def auxiva(
    x: torch.Tensor, start: torch.Tensor, iterations: int = 30, prior: str = "gauss"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Estimate as many sources as there are channels.

    Args:
        x: complex (B, S, F, L).
        start: complex (B, N, F, S, S), N first matrices for each frequency; B, N and F may be 1.
        iterations: updates of all matrices.
        prior: ``gauss`` (of a variance that changes from frame to frame) or ``laplace``.

    Returns:
        matrices, complex (B, N, F, S, S): the sources of start n, of unknown scale, are
        ``einsum("bfsc,bcfl->bsfl", w[:, n], x)``; and their cost (B, N), see :func:`cost`. Not finite where
        the covariances of a frequency are singular.

    Raises:
        ValueError: unknown prior.
    """
    if prior not in PRIORS:
        raise ValueError(f"expected prior gauss or laplace, found {prior!r}")
    batch, n_sources, n_freqs, n_frames = x.shape
    n_starts = start.shape[1]
    products = outer_products(x).flatten(1, 2)  # (B, F * S * S, L)
    w = start.expand(batch, n_starts, n_freqs, n_sources, n_sources).to(x.dtype, copy=True)
    update = _update_pair if n_sources == 2 else _update
    for _ in range(iterations):
        power = frame_power(products, w)  # (B, N, S, L)
        r = 2 * power.sqrt() if prior == "laplace" else power / n_freqs
        weight = (r.clamp_min(_LEAST) * n_frames).reciprocal().flatten(1, 2)
        v = (products @ weight.mT).view(batch, n_freqs, -1, n_starts, n_sources)
        update(w, v.permute(4, 2, 0, 3, 1))  # (S, S * S, B, N, F)
    return w, cost(products, w)


def cost(products: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Return what :func:`auxiva` with the prior ``gauss`` makes small; it chooses between starts.

    The negative log-likelihood per frame and frequency, up to a constant: with the power r_s(l) of source s
    in frame l, averaged over the frequencies, ``sum_s mean_l log r_s(l) - 2 mean_f log |det W(f)|``.

    Args:
        products: :func:`outer_products`, (B, F * S * S, L).
        w: complex (B, N, F, S, S).

    Returns:
        (B, N).
    """
    power = frame_power(products, w) / w.shape[2]
    return power.clamp_min(_LEAST).log().mean(-1).sum(-1) - 2 * torch.linalg.slogdet(w)[1].mean(-1)


def outer_products(x: torch.Tensor) -> torch.Tensor:
    """Return x x^H of each frame as S * S real numbers: complex (B, S, F, L) to (B, F, S * S, L).

    They are the powers, then real and imaginary parts above the diagonal, row by row.
    """
    parts = list(torch.view_as_real(x).square().sum(-1).unbind(1))
    for i, j in itertools.combinations(range(x.shape[1]), 2):
        cross = x[:, i] * x[:, j].conj()
        parts += [cross.real, cross.imag]
    return torch.stack(parts, 2)


def frame_power(products: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Return sum_f |w_s x|^2: (B, F * S * S, L), (B, N, F, S, S) to (B, N, S, L)."""
    rows = torch.view_as_real(w)
    parts = list(rows.square().sum(-1).unbind(-1))
    for i, j in itertools.combinations(range(w.shape[-1]), 2):
        cross = w[..., i] * w[..., j].conj()
        parts += [2 * cross.real, -2 * cross.imag]
    weights = torch.stack(parts, -1).permute(0, 1, 3, 2, 4)  # (B, N, S, F, S * S)
    return (weights.flatten(3).flatten(1, 2) @ products).unflatten(1, (w.shape[1], -1))


def _update_pair(w: torch.Tensor, v: torch.Tensor) -> None:
    """:func:`_update` of two sources in closed form: a solver is slow on many small matrices."""
    for s in (0, 1):
        first, second, cross = v[s, 0], v[s, 1], torch.complex(v[s, 2], v[s, 3])
        # Of any scale and phase, the solution of W e = e_s, and that of V u = e.
        a, b = w[..., 1 - s, 1], -w[..., 1 - s, 0]
        u, z = second * a - cross * b, first * b - cross.conj() * a
        determinant = first * second - torch.view_as_real(cross).square().sum(-1)
        # Positive but for rounding, where a covariance is nearly singular.
        scale = (determinant * ((a.conj() * u).real + (b.conj() * z).real)).abs().rsqrt()
        w[..., s, :] = torch.stack([u, z], -1).conj() * scale.unsqueeze(-1)


def _update(w: torch.Tensor, v: torch.Tensor) -> None:
    """Update the rows of w (B, N, F, S, S), given the covariances as real numbers (S, S * S, B, N, F).

    Where a talker pauses, frames weigh so much that covariances are singular but for rounding: their
    diagonal is raised by as much.
    """
    n = w.shape[-1]
    loading = torch.finfo(v.dtype).eps * v[:, :n].sum(1, keepdim=True)
    v = torch.cat([v[:, :n] + loading, v[:, n:]], 1)
    v = torch.einsum("snbkf,nij->sbkfij", v.to(w.dtype), _basis(n, w.dtype, w.device))
    for s in range(n):
        unit = torch.zeros_like(w[..., :1])
        unit[..., s, 0] = 1
        row = torch.linalg.solve_ex(w @ v[s], unit)[0].mH
        scale = (row @ v[s] @ row.mH).abs().rsqrt()
        w[..., s, :] = (row * scale).squeeze(-2)


@functools.lru_cache(maxsize=32)
def _basis(n: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(n * n, n, n): the Hermitian matrices whose multiples by :func:`outer_products` add up to x x^H."""
    real, imag = torch.zeros(2, n * n, n, n)
    for i in range(n):
        real[i, i, i] = 1
    for k, (i, j) in enumerate(itertools.combinations(range(n), 2)):
        real[n + 2 * k, i, j] = real[n + 2 * k, j, i] = 1
        imag[n + 2 * k + 1, i, j], imag[n + 2 * k + 1, j, i] = 1, -1
    return torch.complex(real, imag).to(device, dtype)
