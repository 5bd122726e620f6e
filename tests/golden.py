"""The golden run: digests of all that the tiny recipes compute, so that two versions can be compared.

    python tests/golden.py recordings DIR                   two made-up recordings, as input of egs/recordings
    python tests/golden.py digest DIR [DIR...] --out FILE   of data and experiment directories of a run
    python tests/golden.py compare FILE FILE                exit code 1 and a line for each difference

A run to be digested: ``./run.sh --size tiny --nj 1``, then ``egs/recordings/run.sh --size tiny --nj 1
--recordings DIR``; both recipes' ``data`` and ``exp`` are digested. Digested are samples (not files, whose
headers hold times), weights, texts and JSON without what the clock, the machine and the commit say.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import soundfile

TEXTS = {
    "text",
    "wav.scp",
    "utt2spk",
    "spk2utt",
    "utt2num_samples",
    "tokens.txt",
    "segments",
    "utt2lang",
    "array",
}
CLOCK = {
    "date", "commit", "commits", "versions", "machine", "stages", "attempts", "rtf", "peak_memory_mib",
    "command", "seconds", "made_from", "wall_time", "started", "environment", "setup",
}  # fmt: skip


def recordings(out: Path) -> None:
    """A recording of 45 s with four channels in one file, and one of 30 s with a file a channel."""
    out.mkdir(parents=True, exist_ok=True)
    soundfile.write(out / "first.wav", meeting(45, 0).T, 8000)
    for k, channel in enumerate(meeting(30, 1), 1):
        soundfile.write(out / f"second_ch{k}.wav", channel, 8000)


def meeting(seconds: int, seed: int, fs: int = 8000, mics: int = 4) -> np.ndarray:
    """Two noises of speech's rhythm that arrive with delays of their own, and a little noise: (C, T)."""
    rng = np.random.default_rng(seed)
    found = 1e-4 * rng.standard_normal((mics, seconds * fs))
    for delays in ((0, 1, 2, 1), (0, -1, 0, 2)):
        dry = rng.standard_normal(seconds * fs)
        syllables = np.repeat(rng.random(seconds * 5) ** 2, fs // 5)
        turns = np.repeat(rng.random(seconds // 5 + 1) < 0.6, 5 * fs)[: len(dry)]
        dry = 0.1 * dry * syllables * turns
        found += np.stack([np.roll(dry, delay) for delay in delays])
    return found.clip(-0.99, 0.99)


def digest(folder: Path) -> dict[str, str]:
    """Return a digest for each file below ``folder`` that holds a result."""
    found = {}
    for path in sorted(folder.rglob("*")):
        content = _content(path) if path.is_file() and not path.name.startswith(".") else None
        if content is not None:
            found[f"{folder.name}/{path.relative_to(folder)}"] = hashlib.sha256(content).hexdigest()[:16]
    return found


def _content(path: Path) -> bytes | None:
    if path.suffix in (".wav", ".flac"):
        return soundfile.read(path, dtype="float64")[0].tobytes()
    if path.name.endswith("ave.pth") and not path.is_symlink():
        import torch

        state = torch.load(path, map_location="cpu", weights_only=True)
        return b"".join(k.encode() + v.numpy().tobytes() for k, v in sorted(state.items()))
    if path.suffix == ".jsonl" or path.name in TEXTS or path.suffix == ".scp":
        return path.read_bytes().replace(str(path.parents[2]).encode(), b"")
    if path.suffix == ".json":
        try:
            return json.dumps(_without_clock(json.loads(path.read_text())), sort_keys=True).encode()
        except ValueError:
            return None
    return None


def _without_clock(value: object) -> object:
    if isinstance(value, dict):
        return {k: _without_clock(v) for k, v in value.items() if k not in CLOCK}
    return [_without_clock(v) for v in value] if isinstance(value, list) else value


def compare(before: dict[str, str], now: dict[str, str]) -> int:
    """Print what is missing, new or different; return 1 if something differs or is missing."""
    wrong = 0
    for name in sorted({*before, *now}):
        a, b = before.get(name), now.get(name)
        if a != b:
            print("missing" if b is None else "new" if a is None else "differs", name)
            wrong |= a is not None
    print(f"{len({*before} & {*now})} in both, {sum(before.get(k) == v for k, v in now.items())} equal")
    return int(wrong)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["recordings", "digest", "compare"])
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.action == "recordings":
        recordings(args.paths[0])
    elif args.action == "digest":
        found = {k: v for path in args.paths for k, v in digest(path).items()}
        args.out.write_text(json.dumps(found, indent=1) + "\n")
    else:
        return compare(*(json.loads(path.read_text()) for path in args.paths))
    return 0


if __name__ == "__main__":
    sys.exit(main())
