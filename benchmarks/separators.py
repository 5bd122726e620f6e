"""Size and speed of the networks and of blind methods: time of a training step and of inference.

One line a network: parameters, forward and backward of a training batch (ms, the mean of two), batches a
second, and real-time factor (forward of one utterance over its length), on this machine and with the given
threads. One line a blind method: its real-time factor and the ratio to pyroomacoustics' AuxIVA.

    python -m benchmarks.separators [--only guided_net ...] [--num_threads 1]
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from pyroomacoustics.bss import auxiva, fastmnmf2, ilrma

from frontend.dsp.array_streams import ArrayStreams
from frontend.dsp.refine import WINDOW_S
from frontend.dsp.spatial import frames, stft
from frontend.networks.conv_tasnet import MCConvTasNet
from frontend.networks.guided_net import STARTS, GuidedNet
from frontend.networks.mask_net import MaskNet
from frontend.networks.spatialnet import SpatialNet
from frontend.networks.tfgridnet import TFGridNet
from frontend.utils.errors import run

N_FFT, HOP = 256, 128
# Small TF-GridNet: the published size takes minutes a batch on a CPU.
_SMALL = {"n_layers": 3, "lstm_hidden_units": 64, "emb_dim": 24, "emb_hs": 4}
_TALKERS = 2  # streams of GuidedNet and of the blind methods
NETWORKS = {
    "guided_net float32": (GuidedNet, {"num_spk": _TALKERS}),
    "guided_net bfloat16": (GuidedNet, {"num_spk": _TALKERS, "precision": "bfloat16"}),
    "mask_net float32": (MaskNet, {}),
    "mask_net bfloat16": (MaskNet, {"precision": "bfloat16"}),
    "mc_conv_tasnet": (MCConvTasNet, {}),
    "safe_tfgridnet small": (TFGridNet, _SMALL),
    "spatialnet": (SpatialNet, {}),
}


WAVEFORMS = (GuidedNet, MCConvTasNet)
# (frames, frequencies, channels) -> streams
PEERS = {
    "AuxIVA, pyroomacoustics": lambda x: auxiva(x[..., :_TALKERS], n_iter=30, model="gauss"),
    "ILRMA, pyroomacoustics": lambda x: ilrma(x[..., :_TALKERS], n_iter=30, n_components=2),
    "FastMNMF2, pyroomacoustics": lambda x: fastmnmf2(x, n_src=_TALKERS, n_iter=30, n_components=2),
}


def best_time(call: Callable[[], object], repeats: int, device: str) -> float:
    """Return the shortest of ``repeats`` wall times of ``call`` in seconds, after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def measure(name: str, args: argparse.Namespace) -> str:
    """Return the line of one network."""
    kind, settings = NETWORKS[name]
    torch.manual_seed(0)
    sizes = {"num_spk": args.num_spk, "n_mics": args.n_mics} | settings
    network = kind(N_FFT // 2 + 1, **sizes).to(args.device)

    def input_of(batch: int, seconds: float) -> tuple[torch.Tensor, torch.Tensor]:
        waveform = torch.randn(batch, args.n_mics, int(seconds * args.fs), device=args.device)
        # As ESPnet's encoders give it: (B, T, C) or (B, L, C, F).
        if kind in WAVEFORMS:
            x = waveform.transpose(1, 2).contiguous()
        else:
            x = stft(waveform, N_FFT, HOP).permute(0, 3, 1, 2).contiguous()
        return x, torch.full((batch,), x.shape[1])

    def step() -> None:
        network.train()
        for _ in range(2):  # GuidedNet takes one round and two in turn
            once()

    def once() -> None:
        outputs = torch.stack(network(*batch)[0])
        (torch.view_as_real(outputs) if outputs.is_complex() else outputs).square().mean().backward()

    @torch.no_grad()
    def infer() -> None:
        network.eval()(*single)

    batch, single = input_of(args.batch, args.crop), input_of(1, args.seconds)
    size = sum(p.numel() for p in network.parameters())
    train, inference = (best_time(f, args.repeats, args.device) for f in (step, infer))
    train /= 2
    return (
        f"{name:22s} {size / 1e3:8.0f} k {train * 1e3:10.0f} ms {1 / train:8.2f} /s "
        f"{inference / args.seconds:8.4f}"
    )


def measure_blind(args: argparse.Namespace) -> None:
    """Print a line for each blind method, ours and those of pyroomacoustics."""
    waveform = torch.randn(1, args.n_mics, int(args.seconds * args.fs))
    n_fft, hop = frames(args.fs, WINDOW_S, 4)
    x = np.ascontiguousarray(stft(waveform[0].double(), n_fft, hop).permute(2, 1, 0).numpy())
    calls = {name: lambda method=method: method(x) for name, method in PEERS.items()}
    for starts in (1, STARTS):
        name = f"AuxIVA, ours, {starts} start{'s' * (starts > 1)}"
        calls[name] = lambda n=starts: ArrayStreams(waveform, _TALKERS, n_fft, hop).blind(starts=n)
    times = {name: best_time(call, args.repeats, "cpu") for name, call in calls.items()}
    print(f"{'blind, ' + str(_TALKERS) + ' streams':28s} {'RTF':>8s} {'ratio':>7s}")
    for name, seconds in times.items():
        print(f"{name:28s} {seconds / args.seconds:8.4f} {seconds / next(iter(times.values())):7.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--num_threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--n_mics", type=int, default=4)
    parser.add_argument("--num_spk", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=float, default=2.5, help="seconds of a training crop")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of the utterance for inference")
    parser.add_argument("--fs", type=int, default=8000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=NETWORKS, nargs="+", default=list(NETWORKS))
    args = parser.parse_args()
    torch.set_num_threads(args.num_threads)
    print(
        f"torch {torch.__version__}, {args.device}, {args.num_threads} thread(s), {args.n_mics} microphones,"
    )
    print(f"{args.num_spk} outputs, batch {args.batch} x {args.crop} s at {args.fs} Hz")
    print(f"{'network':22s} {'parameters':>10s} {'step':>13s} {'steps':>11s} {'RTF':>8s}")
    for name in args.only:
        print(measure(name, args), flush=True)
    if args.device == "cpu" and args.n_mics > 1:
        measure_blind(args)


if __name__ == "__main__":
    run(main)
