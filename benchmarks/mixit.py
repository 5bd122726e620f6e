"""Our MixIT loss against ESPnet's solver: value, time, memory.

    python -m benchmarks.mixit [--threads 1] [--device cpu]

Goal: at M = 4 (batch 4 of 4 s at 8 kHz, forward and backward) at least 8 times faster
than ESPnet's MixITSolver, same value to 1e-5.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from frontend.training.criteria import MixIT, ThresholdedSNR

_BATCH, _SAMPLES = 4, 32000


def problem(m: int, device: str) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Two mixtures that are sums of M outputs and some noise."""
    g = torch.Generator().manual_seed(m)
    estimates = torch.randn(_BATCH, m, _SAMPLES, generator=g)
    mixtures = [estimates[:, i::2].sum(1) + 0.5 * torch.randn(_BATCH, _SAMPLES, generator=g) for i in (0, 1)]
    return [x.to(device) for x in mixtures], estimates.to(device)


def measure(solver: Callable, m: int, device: str, repeats: int) -> tuple[float, float, float]:
    """Return (loss in dB, median seconds of forward and backward, extra memory in MiB)."""
    mixtures, estimates = problem(m, device)

    def step() -> torch.Tensor:
        leaf = estimates.clone().requires_grad_()
        loss, _, _ = solver(mixtures, list(leaf.unbind(1)))
        loss.backward()
        return loss

    times = []
    for _ in range(repeats + 2):
        if device != "cpu":
            torch.cuda.synchronize()
        start = time.perf_counter()
        loss = float(step())
        times.append(time.perf_counter() - start)
    return loss, statistics.median(times[2:]), peak_memory(step, device)


def peak_memory(step: Callable, device: str) -> float:
    """Return the memory in MiB that tensors take at most during ``step``."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with torch.profiler.profile(profile_memory=True) as profile:
        step()
    level = peak = 0
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        level += event.nbytes()
        peak = max(peak, level)
    return peak / 2**20


def main() -> None:
    """Print one line per solver and number of outputs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    from espnet2.enh.loss.wrappers.mixit_solver import MixITSolver

    criterion = ThresholdedSNR()
    print(f"{_BATCH} x {_SAMPLES} samples, 2 mixtures, {args.threads} thread(s), {args.device}")
    ours = {}
    for m in (4, 8, 12):
        ours[m] = measure(MixIT(criterion, allow_empty=True), m, args.device, args.repeats)
        print(f"ours    M = {m:2}: {ours[m][1] * 1e3:7.1f} ms  {ours[m][2]:7.1f} MiB  {ours[m][0]:.6f} dB")
    loss, seconds, memory = measure(MixITSolver(criterion), 4, args.device, args.repeats)
    print(f"ESPnet  M =  4: {seconds * 1e3:7.1f} ms  {memory:7.1f} MiB  {loss:.6f} dB")
    print("ESPnet  M =  8: takes N to be 4 and enumerates 4^8 assignments (about 134 GB)")
    print(f"M = 4: {seconds / ours[4][1]:.1f} times faster, difference {abs(loss - ours[4][0]):.1e} dB")


if __name__ == "__main__":
    main()
