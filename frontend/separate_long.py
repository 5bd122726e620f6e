"""Whole recordings by every system of a table: networks, rules and blind methods, window by window.

``OUT/SYSTEM`` holds a stream of each recording and talker, ``wav/ID_spk1.flac ...`` (24 bits; what
would pass full scale is clipped), named by ``spk1.scp ...``, and ``info.json``, what it cost.
A recording that is there, made from what is there now, is left as it is.
"""

import contextlib
import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pyroomacoustics
import soundfile
import torch

from frontend import atomic, packing, parallel
from frontend.blind import separate_blind
from frontend.continuous import HOP_S, WINDOW_S, ContinuousSeparator, Recording, check_window, window_starts
from frontend.datadir import read_scp, write_scp
from frontend.errors import UserError
from frontend.label_set import Labelling
from frontend.refine import check_size, refine
from frontend.streams import file_stamp
from frontend.systems import System, load_systems, trained
from frontend.wave_blocks import integers

# Changes when the code of windows, stitching, rules, refinement or blind methods gives other streams.
_VERSION = 1
Source = Callable[[np.ndarray, int, bool], np.ndarray]


def separate_long(
    systems: str,
    exp: str,
    scp: str,
    out: str,
    n_talkers: int = 2,
    window_s: float = WINDOW_S,
    hop_s: float = HOP_S,
    nj: int = 1,
) -> None:
    """Separate every recording of ``scp`` with every system.

    Args:
        systems: table of systems (:mod:`frontend.systems`), without ``oracle``.
        exp: where the models lie.
        scp: multi-channel recordings.
        out: where the systems' directories go.
        n_talkers: streams of rules, blind methods and ``mixture`` (the reference channel in all of them).
        window_s, hop_s: of the windows, see :mod:`frontend.continuous`; a system's own ``block`` and
            ``block_hop`` take their place.
        nj: number of processes, each with one thread.

    Raises:
        UserError: a model that is not there or does not fit the recordings, found before anything is
            separated.
    """
    check_window(window_s, hop_s)
    recordings = {name: Recording([entry]) for name, entry in read_scp(scp).items()}
    table = trained(load_systems(systems), exp)
    windows = {s.name: s.windows(window_s, hop_s) for s in table}
    prints = {s.name: _fingerprints(s, exp, recordings, n_talkers, windows[s.name], systems) for s in table}
    torch.set_num_threads(1)
    for system in table:
        folder = Path(out) / system.name
        stale = [k for k in recordings if not _is_current(folder, k, prints[system.name][k])]
        if stale:
            source = _source(system, exp, n_talkers)
            refinement = functools.partial(refine, steps=system.refine) if system.refine else None
            run = ContinuousSeparator(source, *windows[system.name], refinement)
            work = functools.partial(
                _separate, run=run, folder=folder, recordings=recordings, made_from=prints[system.name]
            )
            steps = sum(_windows(recordings[k], *windows[system.name]) for k in stale)
            shards = [stale[k::nj] for k in range(min(nj, len(stale)))]
            parallel.forked(work, shards, nj, f"separate {system.name}", steps)
        _write_tables(folder, system.name, list(recordings))
        rtf = json.loads((folder / "info.json").read_text())["rtf"]
        print(f"{folder}: {len(recordings)} recordings, real-time factor {rtf:.4f}", flush=True)


def _windows(recording: Recording, window_s: float, hop_s: float) -> int:
    fs = recording.fs
    return len(window_starts(recording.frames, round(window_s * fs), round(hop_s * fs)))


def _fingerprints(
    system: System,
    exp: str,
    recordings: dict[str, Recording],
    n_talkers: int,
    window: tuple[float, float],
    where: str,
) -> dict[str, str]:
    """Hash what a system's streams of each recording depend on, after checking that it fits all of them."""
    mics = min(recording.channels for recording in recordings.values())
    if system.name == "oracle" or system.rule == "oracle":
        raise UserError(f"{where}: '{system.name}': there are no true images of recordings (remove the row)")
    if system.blind and mics < n_talkers:
        raise UserError(f"{where}: '{system.name}' needs {n_talkers} microphones or more, found {mics}")
    hashes, outputs = [], n_talkers
    if system.model:
        with packing.opened(Path(exp) / system.model) as found:
            for recording in recordings.values():
                found.check(recording.name, recording.channels, recording.fs)
            paths = (found.config, found.checkpoint)
            hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
            outputs = n_talkers if system.rule else found.n_outputs
        longest = min(window[0], max(recording.seconds for recording in recordings.values()))
        if longest > packing.MAX_SECONDS:
            raise UserError(
                f"{where}: '{system.name}': expected windows of at most {packing.MAX_SECONDS:g} s, which is "
                f"what a network takes, found {window[0]:g} s (shorten --window, or the row's 'block')"
            )
    if system.refine:
        check_size(system.refine, mics, outputs, f"{where}: {system.name}: ")
    everything = [_VERSION, pyroomacoustics.__version__, repr(system), hashes, n_talkers, window]
    return {name: _digest([*everything, r.name, file_stamp(r.name)]) for name, r in recordings.items()}


def _digest(content: list) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _source(system: System, exp: str, n_talkers: int) -> Source:
    """Return what maps a window (C, T), its rate and whether to resample to streams (S, T)."""
    if system.name == "mixture":
        return lambda mixture, fs, resample: np.repeat(mixture[:1], n_talkers, axis=0)
    if system.blind:
        return lambda mixture, fs, resample: separate_blind(
            system.blind, mixture, fs, n_talkers, **system.settings
        )
    from frontend.separate import Separator  # ESPnet: 8 s

    separator = Separator.from_pretrained(Path(exp) / system.model)
    if not system.rule:
        return separator
    labelling = Labelling(system.rule, n_talkers, settings=system.settings)

    def selected(mixture: np.ndarray, fs: int, resample: bool) -> np.ndarray:
        x = torch.from_numpy(mixture)
        return labelling.targets(separator.outputs(x).cpu(), x, fs).numpy()

    return selected


def _separate(
    names: Iterable[str],
    tick: Callable[[], None],
    run: ContinuousSeparator,
    folder: Path,
    recordings: dict[str, Recording],
    made_from: dict[str, str],
) -> None:
    """Write the streams of these recordings; ``tick`` is called after each window."""
    for name in names:
        recording = recordings[name]
        (folder / "wav" / f"{name}.json").unlink(missing_ok=True)
        start = time.process_time()
        pieces = run.pieces(recording.read, recording.frames, recording.fs)
        n_streams = _write_streams(folder / "wav", name, _ticking(pieces, tick), recording.fs)
        cost = {"cpu_s": time.process_time() - start, "seconds": recording.seconds, "streams": n_streams}
        # Written last: with it the recording is complete.
        atomic.write_text(folder / "wav" / f"{name}.json", json.dumps({"made_from": made_from[name], **cost}))


def _ticking(pieces: Iterable[np.ndarray], tick: Callable[[], None]) -> Iterator[np.ndarray]:
    for piece in pieces:
        yield piece
        tick()


def _write_streams(directory: Path, name: str, pieces: Iterator[np.ndarray], fs: int) -> int:
    """Write arrays (S, n), one after the other, as S files; return S."""
    with contextlib.ExitStack() as stack:
        files: list[soundfile.SoundFile] = []
        for piece in pieces:
            while len(files) < len(piece):
                part = stack.enter_context(atomic.file(directory / f"{name}_spk{len(files) + 1}.flac"))
                layout = {"format": "FLAC", "subtype": "PCM_24"}
                files.append(stack.enter_context(soundfile.SoundFile(part, "w", fs, 1, **layout)))
            for file, stream in zip(files, piece, strict=True):
                file.write(integers(stream, 24))
    return len(files)


def _is_current(folder: Path, name: str, made_from: str) -> bool:
    stamp = folder / "wav" / f"{name}.json"
    if not stamp.is_file():
        return False
    found = json.loads(stamp.read_text())
    entries = [folder / "wav" / f"{name}_spk{k + 1}.flac" for k in range(found["streams"])]
    return found["made_from"] == made_from and all(entry.is_file() for entry in entries)


def _write_tables(folder: Path, system: str, names: list[str]) -> None:
    costs = [json.loads((folder / "wav" / f"{name}.json").read_text()) for name in names]
    for left_over in folder.glob("spk*.scp"):  # of a run with more talkers
        left_over.unlink()
    for k in range(1, costs[0]["streams"] + 1):
        write_scp(folder / f"spk{k}.scp", {name: folder / "wav" / f"{name}_spk{k}.flac" for name in names})
    seconds = sum(cost["seconds"] for cost in costs)
    info = {"system": system, "rtf": sum(cost["cpu_s"] for cost in costs) / seconds, "seconds": seconds}
    atomic.write_text(folder / "info.json", json.dumps(info, indent=1) + "\n")
