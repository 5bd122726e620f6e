"""Streams recognised a second: our Recogniser against ESPnet's own Speech2Text, stream by stream.

    python -m benchmarks.decode [--asr exp/espeak/asr --separated exp/espeak/separated/test/*]

Ours takes the streams of a mixture together (the encoder sees them at once, the search one after the
other) and in torch's inference mode, ESPnet in ``no_grad``. Both get the same weights, options and
audio, and take turns on one thread. CPU time is what a core needs, wall time what passed (on a busy
machine more). The default recogniser is that of egs/mini before its training, which finds words in any
noise; loading is not timed.
"""

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml

from benchmarks.configs import config_file
from frontend.data.audio import read_audio
from frontend.data.kaldi import numbered, read_scp
from frontend.recognition.model import MODEL, Recogniser, find_recogniser, read_options
from frontend.utils.errors import UserError, run
from frontend.utils.espnet import Speech2Text, asr
from frontend.utils.rng import generator

# A network without training finds all tokens about as likely, in any sound: it gets larger logits
# and a bias towards blank, so that it finds some 2 words a second, as a trained one does.
_LOGITS, _BLANK = 20.0, 25.0

Batches = list[np.ndarray]  # of streams (S, T) that are equally long
Pass = tuple[list[str], float, float]  # texts, seconds of CPU time, of wall time


def make_recogniser(folder: Path) -> Path:
    """Write the network of egs/mini's recogniser with random weights and 60 words."""
    tokens = ["<blank>", "<unk>", *(f"WORD{k:02}" for k in range(60)), "<sos/eos>"]
    config = asr.ASRTask.get_default_config()
    config |= yaml.safe_load(config_file("asr", folder).read_text()) | {"token_list": tokens}
    torch.manual_seed(0)
    model = asr.ASRTask.build_model(argparse.Namespace(**config))
    with torch.no_grad():
        model.ctc.ctc_lo.weight *= _LOGITS
        model.ctc.ctc_lo.bias[0] += _BLANK
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    torch.save(model.state_dict(), folder / MODEL)
    return folder


def make_streams(n: int, seconds: float, fs: int) -> Batches:
    """Return a mixture's streams: noise, every 0.1 s through another filter, for words that differ."""
    streams = []
    for k in range(n):
        g = generator(0, k, "decode")
        pieces = [
            np.convolve(g.standard_normal(fs // 10), g.standard_normal(16) * g.uniform(0.003, 0.03), "same")
            for _ in range(int(np.ceil(10 * seconds)))
        ]
        streams.append(np.concatenate(pieces)[: round(seconds * fs)])
    return [np.array(streams, dtype=np.float32)]


def read_streams(directories: list[str], num: int, fs: int) -> Batches:
    """Read the first ``num`` mixtures' streams of all systems, but digital silence: ours skips it."""
    folders = [Path(directory) for directory in directories]
    tables = [path for folder in folders if folder.is_dir() for path in numbered(folder, "spk", ".scp")]
    if not tables:
        raise UserError(f"--separated {' '.join(directories)}: expected spk1.scp ..., found none")
    entries, batches = [read_scp(table) for table in tables], []
    for name in list(entries[0])[:num]:
        streams = []
        for table, path in zip(entries, tables, strict=True):
            if name not in table:
                raise UserError(f"{path}: expected {name} as in {tables[0]}, found none")
            audio, rate = read_audio(table[name], finite=True)
            if rate != fs or (streams and audio[0].shape != streams[0].shape):
                raise UserError(f"{table[name]}: expected {fs} Hz and the length of the other streams")
            streams.append(audio[0])
        batch = np.stack(streams)
        batches.append(batch[batch.any(axis=1)])
    return batches


def peer(recogniser: Recogniser) -> Callable[[np.ndarray], list[str]]:
    """Return ESPnet's recogniser of the same files and options, called for each stream by itself."""
    files = recogniser.files
    speech2text = Speech2Text(
        asr_train_config=str(files.config), asr_model_file=str(files.checkpoint), **recogniser.options
    )

    def recognise(streams: np.ndarray) -> list[str]:
        found = [speech2text(stream) for stream in streams]
        found = [f[0] if isinstance(f, tuple) else f for f in found]  # the rest is of intermediate layers
        return [hypotheses[0][0] or "" if hypotheses else "" for hypotheses in found]

    return recognise


def timed(recognise: Callable[[np.ndarray], list[str]], batches: Batches) -> Pass:
    """Recognise all batches once."""
    wall, cpu = time.perf_counter(), time.process_time()
    texts = [text for batch in batches for text in recognise(batch)]
    return texts, time.process_time() - cpu, time.perf_counter() - wall


def show(passes: dict[str, list[Pass]], batches: Batches, fs: int) -> None:
    """Print a line for each side, their ratio, and whether their hypotheses are equal."""
    n, audio_s = sum(map(len, batches)), sum(batch.size for batch in batches) / fs
    cpu, wall = ({who: statistics.median(p[i] for p in passes[who]) for who in passes} for i in (1, 2))
    for who in passes:
        print(
            f"{who:6}: {n / cpu[who]:6.1f} streams/s of CPU time, {n / wall[who]:6.1f} of wall time, "
            f"real-time factor {cpu[who] / audio_s:.4f}"
        )
    each = [theirs[1] / ours[1] for ours, theirs in zip(passes["ours"], passes["ESPnet"], strict=True)]
    print(
        f"ratio : {cpu['ESPnet'] / cpu['ours']:.2f} times faster in CPU time ({min(each):.2f} to "
        f"{max(each):.2f} by round), {wall['ESPnet'] / wall['ours']:.2f} in wall time"
    )
    pairs = list(zip(passes["ours"][0][0], passes["ESPnet"][0][0], strict=True))
    other = [f"'{a}' and '{b}'" for a, b in pairs if a != b]
    words, distinct = sum(len(a.split()) for a, _ in pairs), len({a for a, _ in pairs})
    print(
        f"hypotheses: {n - len(other)} of {n} equal; {distinct} distinct, "
        f"{words / audio_s:.1f} words/s" + (f"; first unequal: {other[0]}" if other else "")
    )


def main() -> None:
    """Run the benchmark."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw, allow_abbrev=False)
    parser.add_argument("--asr", help="a trained recogniser (default: that of egs/mini, untrained)")
    parser.add_argument("--config", help="search (default: that of egs/mini)")
    parser.add_argument("--separated", nargs="+", help="directories of spkN.scp (default: made-up noise)")
    parser.add_argument("--num", type=int, default=5, help="mixtures of --separated (default: %(default)s)")
    parser.add_argument("--streams", type=int, default=12, help="of made-up noise (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="their length (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=5, help="default: %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")  # ESPnet's warnings, several a stream: ours keeps them off the terminal
    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as place:
        options, _ = read_options(config_file("decode", place, args.config))
        files = find_recogniser(args.asr or make_recogniser(Path(place)))
        ours = Recogniser(files, options)
        sides = {"ours": lambda streams: ours(streams, ours.fs), "ESPnet": peer(ours)}
    if args.separated:
        batches = read_streams(args.separated, args.num, ours.fs)
    else:
        batches = make_streams(args.streams, args.seconds, ours.fs)
    if not any(map(len, batches)):
        raise UserError("expected streams to recognise, found none (or digital silence)")
    for recognise in sides.values():  # the first call allocates
        recognise(batches[0])
    passes: dict[str, list[Pass]] = {who: [] for who in sides}
    for _ in range(args.repeats):
        for who, recognise in sides.items():
            passes[who].append(timed(recognise, batches))
    sizes = sorted({len(batch) for batch in batches})
    print(
        f"{len(batches)} mixture(s) of {' or '.join(map(str, sizes))} streams, "
        f"{sum(batch.shape[1] for batch in batches) / len(batches) / ours.fs:.1f} s each at {ours.fs} Hz, "
        f"{args.threads} thread(s), median of {args.repeats} rounds"
    )
    show(passes, batches, ours.fs)


if __name__ == "__main__":
    run(main)
