"""MixIT against a brute-force loop, ESPnet's solver, closed forms and silence."""

import itertools
import math

import pytest
import torch

from frontend.training.losses import mixit_loss, thresholded_snr


def signals(b, n, m, t=400, seed=0, dtype=torch.float64):
    """Mixtures that are sums of outputs plus noise, so that assignments differ clearly."""
    g = torch.Generator().manual_seed(seed)
    estimates = torch.randn(b, m, t, generator=g, dtype=dtype)
    owner = torch.arange(m) % n
    mixtures = torch.stack([estimates[:, owner == i].sum(1) for i in range(n)], dim=1)
    return mixtures + 0.3 * torch.randn(b, n, t, generator=g, dtype=dtype), estimates


def brute_force(mixtures, estimates, snr_max=30.0, allow_empty=False):
    """The definition, one assignment after the other."""
    losses, assignments = [], []
    for x, e in zip(mixtures, estimates, strict=True):
        n, m = len(x), len(e)
        best = math.inf, None
        for assignment in itertools.product(range(n), repeat=m):
            if not allow_empty and len(set(assignment)) < n:
                continue
            loss = 0.0
            for i in range(n):
                total = sum((e[k] for k in range(m) if assignment[k] == i), torch.zeros_like(x[i]))
                error, energy = (x[i] - total).square().sum(), x[i].square().sum()
                loss += 10 * math.log10(error + 10 ** (-snr_max / 10) * energy) - 10 * math.log10(energy)
            best = min(best, (loss / n, assignment))
        losses.append(best[0])
        assignments.append(best[1])
    return torch.tensor(losses, dtype=mixtures.dtype), torch.tensor(assignments)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 3), (2, 2), (2, 3), (2, 4), (2, 7), (3, 3), (3, 5), (4, 5)])
@pytest.mark.parametrize("allow_empty", [False, True])
def test_equals_brute_force(n, m, allow_empty):
    mixtures, estimates = signals(3, n, m, seed=n * 10 + m)
    # One item where outputs are of no use at all, one that is close to perfect.
    mixtures[0] = torch.randn(n, mixtures.shape[-1], generator=torch.Generator().manual_seed(7)).double()
    mixtures[1] = signals(1, n, m, seed=n * 10 + m)[0][0] * 1e-2 + mixtures[1]
    loss, assignment = mixit_loss(mixtures, estimates, allow_empty=allow_empty)
    expected_loss, expected = brute_force(mixtures, estimates, allow_empty=allow_empty)
    torch.testing.assert_close(loss, expected_loss, rtol=0, atol=1e-9)
    assert torch.equal(assignment, expected)


def test_float32_is_exact_near_perfect_reconstruction():
    """Where differences of inner products in float32 would be off by several dB."""
    mixtures, estimates = signals(2, 2, 4, t=16000, seed=1)
    mixtures = torch.stack([estimates[:, 0::2].sum(1), estimates[:, 1::2].sum(1)], dim=1)
    mixtures = (
        mixtures + 1e-4 * torch.randn(mixtures.shape, generator=torch.Generator().manual_seed(3)).double()
    )
    exact, _ = brute_force(mixtures, estimates, snr_max=90)
    loss, _ = mixit_loss(mixtures.float(), estimates.float(), snr_max=90)
    torch.testing.assert_close(loss.double(), exact, rtol=0, atol=1e-2)


def test_closed_forms():
    """Perfect: -snr_max. Nothing: 0. An error of a tenth of the amplitude: about -20 dB."""
    mixtures, _ = signals(2, 2, 2)
    zeros = torch.zeros_like(mixtures)
    for snr_max in (10.0, 30.0):
        perfect, assignment = mixit_loss(mixtures, mixtures, snr_max)
        torch.testing.assert_close(perfect, torch.full((2,), -snr_max, dtype=torch.float64))
        assert assignment.tolist() == [[0, 1], [0, 1]]
    torch.testing.assert_close(
        mixit_loss(mixtures, zeros)[0], torch.full((2,), 10 * math.log10(1.001), dtype=torch.float64)
    )
    tenth, _ = mixit_loss(mixtures, 0.9 * mixtures)
    torch.testing.assert_close(tenth, torch.full((2,), 10 * math.log10(0.011), dtype=torch.float64))


def test_level_counts_but_common_scale_does_not():
    mixtures, estimates = signals(2, 2, 4)
    loss, assignment = mixit_loss(mixtures, estimates)
    scaled, same = mixit_loss(7 * mixtures, 7 * estimates)
    torch.testing.assert_close(loss, scaled)
    assert torch.equal(assignment, same)
    assert (mixit_loss(mixtures, 7 * estimates)[0] > loss + 1).all()


def test_permuting_outputs_permutes_the_assignment():
    mixtures, estimates = signals(2, 2, 5)
    order = torch.tensor([3, 0, 4, 1, 2])
    loss, assignment = mixit_loss(mixtures, estimates)
    permuted_loss, permuted = mixit_loss(mixtures, estimates[:, order])
    torch.testing.assert_close(loss, permuted_loss)
    assert torch.equal(assignment[:, order], permuted)


def test_empty_assignments_are_out_unless_asked_for():
    """Outputs that sum to the mixture of mixtures, one of them everything: empty scores better."""
    mixtures, _ = signals(1, 2, 2)
    mixtures[:, 1] *= 1e-2
    estimates = torch.stack([mixtures.sum(1), mixtures[:, 0] * 3, mixtures[:, 0] * -3], dim=1)
    _, with_empty = mixit_loss(mixtures, estimates, allow_empty=True)
    _, without = mixit_loss(mixtures, estimates)
    assert set(with_empty[0].tolist()) == {0}
    assert set(without[0].tolist()) == {0, 1}


def test_gradient_matches_finite_differences():
    mixtures, estimates = signals(2, 2, 3, t=20)
    estimates.requires_grad_()
    assert torch.autograd.gradcheck(lambda e: mixit_loss(mixtures, e)[0], (estimates,))
    mixtures.requires_grad_()
    # The energies that errors are measured against are constants by definition.
    loss = mixit_loss(mixtures, estimates)[0].sum()
    loss.backward()
    assert torch.isfinite(mixtures.grad).all()


@pytest.mark.parametrize("silent", ["mixture", "output", "mixtures", "outputs", "everything"])
@pytest.mark.parametrize("max_assignments", [2**16, 1])
def test_silence_gives_finite_loss_and_gradient(silent, max_assignments):
    mixtures, estimates = (x.float() for x in signals(2, 2, 4))
    if silent in ("mixture", "mixtures", "everything"):
        mixtures[:, 1 if silent == "mixture" else slice(None)] = 0
    if silent in ("output", "outputs", "everything"):
        estimates[:, 1 if silent == "output" else slice(None)] = 0
    estimates.requires_grad_()
    loss, _ = mixit_loss(mixtures, estimates, max_assignments=max_assignments)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(estimates.grad).all()
    if silent == "everything":
        torch.testing.assert_close(loss, torch.full((2,), -30.0))
        assert not estimates.grad.any()


def test_silent_mixture_does_not_outweigh_the_other():
    """The gradient for a silent mixture stays of the order of that for speech."""
    mixtures, estimates = (x.float() for x in signals(1, 2, 4))
    mixtures[:, 1] = 0
    estimates = (estimates * 1e-4).requires_grad_()
    mixit_loss(mixtures, estimates)[0].sum().backward()
    assert estimates.grad.norm(dim=-1).max() < 1e3 / mixtures.norm()


def test_least_squares_above_the_bound():
    """Where outputs do belong to one mixture each, least squares finds what the search finds."""
    mixtures, estimates = signals(4, 2, 6, t=4000)
    exact = mixit_loss(mixtures, estimates)
    fast = mixit_loss(mixtures, estimates, max_assignments=1)
    assert torch.equal(exact[1], fast[1])
    torch.testing.assert_close(exact[0], fast[0])
    many = signals(1, 2, 20, t=4000)
    loss, assignment = mixit_loss(*many)
    assert assignment.tolist() == [[k % 2 for k in range(20)]]
    assert loss < -5


def test_least_squares_leaves_no_mixture_empty():
    mixtures, estimates = signals(3, 3, 3)
    estimates = mixtures[:, :1].repeat(1, 3, 1) * torch.tensor([1.0, 0.5, 0.2])[None, :, None]
    _, assignment = mixit_loss(mixtures, estimates, max_assignments=1)
    assert all(set(row) == {0, 1, 2} for row in assignment.tolist())


def test_shapes_that_do_not_fit_are_refused():
    mixtures, estimates = signals(2, 2, 4)
    for x, e in [(mixtures, estimates[:1]), (mixtures, estimates[..., 1:]), (mixtures, estimates[:, :1])]:
        with pytest.raises(ValueError, match="expected"):
            mixit_loss(x, e)


def test_thresholded_snr_is_monotonic_and_bounded():
    reference = torch.randn(1, 1000, generator=torch.Generator().manual_seed(0)).double()
    energy = reference.square().sum(-1)
    values = [thresholded_snr(reference, (1 - a) * reference, energy, 30.0) for a in (1, 0.3, 0.1, 0.01, 0)]
    assert all(a > b for a, b in itertools.pairwise(values))
    torch.testing.assert_close(values[-1], torch.tensor([-30.0]).double())


class TestEspnet:
    """The same numbers as ESPnet's solvers where those work."""

    @pytest.mark.parametrize("m", [2, 4])
    def test_equals_mixit_solver(self, m):
        from espnet2.enh.loss.wrappers.mixit_solver import MixITSolver

        from frontend.training.criteria import MixIT, ThresholdedSNR

        # ESPnet takes N to be M // 2: two mixtures for four outputs, and one for two.
        n = m // 2
        mixtures, estimates = (x.float() for x in signals(3, n, m, t=4000))
        estimates.requires_grad_()
        criterion = ThresholdedSNR()
        ref, inf = list(mixtures.unbind(1)), list(estimates.unbind(1))
        theirs, _, _ = MixITSolver(criterion)(ref, inf)
        ours, stats, _ = MixIT(criterion, allow_empty=True)(ref, inf)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
        assert stats["thresholded_snr"] == ours
        theirs_gradient = torch.autograd.grad(theirs, estimates)[0]
        torch.testing.assert_close(torch.autograd.grad(ours, estimates)[0], theirs_gradient)

    def test_eight_outputs_of_two_mixtures(self):
        """Where ESPnet would enumerate 4^8 assignments."""
        from frontend.training.criteria import MixIT, ThresholdedSNR

        mixtures, estimates = signals(2, 2, 8, t=4000)
        loss, _, others = MixIT(ThresholdedSNR())(mixtures.unbind(1), estimates.unbind(1))
        expected, assignment = brute_force(mixtures, estimates)
        torch.testing.assert_close(loss, expected.mean())
        assert torch.equal(others["assignment"], assignment)
        assert "perm" not in others  # joint models would sort by it

    def test_pit_equals_the_definition(self):
        from frontend.training.criteria import ThresholdedPIT, ThresholdedSNR

        references, _ = signals(3, 2, 2, t=1000)
        estimates = references.flip(1) + 0.1 * signals(3, 2, 2, t=1000, seed=5)[0]
        loss, stats, others = ThresholdedPIT(ThresholdedSNR(20.0))(references.unbind(1), estimates.unbind(1))
        energy = references.sum(1).square().sum(-1)
        errors = (references - estimates.flip(1)).square().sum(-1)
        expected = 10 * torch.log10((errors + 0.01 * energy[:, None]) / energy[:, None])
        torch.testing.assert_close(loss, expected.mean())
        torch.testing.assert_close(stats["thresholded_snr"], loss)
        assert others["perm"].tolist() == [[1, 0]] * 3

    def test_pit_threshold_where_a_talker_is_silent(self):
        """Examples with a silent reference saturate at their own threshold, the others do not change."""
        from frontend.training.criteria import ThresholdedPIT, ThresholdedSNR

        references, _ = signals(3, 2, 2, t=1000)
        references[1, 1] = 0  # digital silence
        references[2, 0] *= 0.01  # 40 dB below the other: nothing that a threshold of 30 dB would see
        estimates = references + 0.01 * signals(3, 2, 2, t=1000, seed=5)[0]
        loss, _, _ = ThresholdedPIT(ThresholdedSNR(30.0), snr_max_silent=10.0)(
            references.unbind(1), estimates.unbind(1)
        )
        energy = references.sum(1).square().sum(-1)[:, None]
        errors = (references - estimates).square().sum(-1)
        tau = torch.tensor([[0.001], [0.1], [0.1]], dtype=errors.dtype)
        torch.testing.assert_close(loss, (10 * torch.log10(errors / energy + tau)).mean())

    def test_pit_threshold_keeps_the_balance_of_gradients(self):
        """Without it an almost solved one-talker example pulls several times as hard as an overlapped one."""
        from frontend.training.criteria import ThresholdedPIT, ThresholdedSNR

        def pull(**options):
            references, _ = signals(2, 2, 2, t=1000)
            references[1, 1] = 0
            estimates = (
                references + references.sum(1, keepdim=True) * torch.tensor([0.5, 0.03])[:, None, None]
            )
            estimates.requires_grad_()
            ThresholdedPIT(ThresholdedSNR(30.0), **options)(references.unbind(1), estimates.unbind(1))[
                0
            ].backward()
            overlapped, silent = estimates.grad.flatten(1).norm(dim=1)
            return (silent / overlapped).item()

        assert pull() > 5
        assert pull(snr_max_silent=10.0) < 1

    @pytest.mark.parametrize("value", [0, -5, 31, "ten", True, [10]])
    def test_a_threshold_out_of_range_is_refused(self, value):
        from frontend.training.criteria import ThresholdedPIT, ThresholdedSNR
        from frontend.utils.errors import UserError

        with pytest.raises(UserError, match="snr_max_silent must lie above 0 and at most at snr_max"):
            ThresholdedPIT(ThresholdedSNR(30.0), snr_max_silent=value)

    @pytest.mark.parametrize("silent", ["one", "both"])
    def test_pit_with_silent_references(self, silent):
        from frontend.training.criteria import ThresholdedPIT, ThresholdedSNR

        references, estimates = (x.float() for x in signals(2, 2, 2))
        references[:, 1 if silent == "one" else slice(None)] = 0
        estimates[:, 1] = 0
        estimates.requires_grad_()
        loss, _, _ = ThresholdedPIT(ThresholdedSNR())(references.unbind(1), estimates.unbind(1))
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(estimates.grad).all()
