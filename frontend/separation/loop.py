"""The one loop for all that is separated: a source of outputs over many items, streams, files and stamps.

A *source* (a network or a blind method) makes outputs of each window of each item; every system that
shares the source makes its streams of them (:func:`streams_of`), which are joined and written. A mixture of a
set is an item of one window, a whole recording one of many. Test sets, whole recordings and labels are
separated by this loop, and go on at the next item after a kill at any moment.
"""

import functools
import importlib.metadata
import json
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from frontend.data.audio import Recording, stamp_of_entries
from frontend.data.kaldi import write_set
from frontend.data.mixtures import MixtureSet
from frontend.data.writers import BlockWriter, existing
from frontend.dsp import array_streams, blind, refine
from frontend.separation import continuous, pseudo_targets
from frontend.separation.continuous import (
    JoinedStreams,
    in_samples,
    separate_windows,
    window_starts,
)
from frontend.separation.systems import System, streams_asked
from frontend.training.checkpoints import open_trained
from frontend.utils.errors import UserError
from frontend.utils.files import LOCK, atomic_directory, check_name, write_json, write_json_lines
from frontend.utils.locks import locked
from frontend.utils.parallel import Progress, Shard, parallel_map, part_of
from frontend.utils.stamps import Stamp, read_stamp

# With DONE all items are complete; BEGUN says what those were made from that ITEMS has a line of.
DONE, BEGUN, ITEMS = "stamp.json", ".begun.json", ".items.jsonl"
_OURS = (DONE, BEGUN, "info.json", "made_from.json")
# Files of a training, and of the words of a system: they have some of _OURS, too.
_OTHERS = ("config.yaml", "hyp.seglst.json")
_CODE = (array_streams, blind, refine, pseudo_targets, continuous)


class Layout(NamedTuple):
    """Where streams go: a path below the directory with ``{id}`` and ``{k}``, and the writer's encoding."""

    path: str
    encoding: str


@dataclass
class Result:
    """What one system makes of all items, in a directory of its own.

    Attributes:
        system: the row of the table.
        folder: where it lies.
        stamp: what it is made from; each item is an input of its own.
        items: what is separated, by id.
        layout: where streams go.
        window: length and hop of windows in seconds; None: each item is one window.
        outputs: the result that keeps the outputs which this one's rule selects from, if any.
        files: what else belongs to it, written before :meth:`close`.
        named: for a row that only names audio which is there, a table ``{id: entry}`` for each stream.
        due, why: the items that are not complete, and in one sentence why there is something to do; from
            :meth:`prepare`.
    """

    system: System
    folder: Path
    stamp: Stamp
    items: Mapping[str, Recording]
    layout: Layout
    window: tuple[float, float] | None = None
    outputs: "Result | None" = None
    files: Sequence[str] = ()
    named: Sequence[Mapping[str, str]] = ()
    due: set[str] = field(default_factory=set)
    why: str = ""

    def path(self, item: str, k: int) -> Path:
        """Return the file of stream ``k`` (from 1) of an item, where it is written or was written."""
        return existing(self._place(item, k))

    def _place(self, item: str, k: int) -> Path:
        return self.folder / self.layout.path.format(id=item, k=k)

    def windows(self, item: Recording) -> tuple[int, int] | None:
        """Return window and hop in samples."""
        return None if self.window is None else in_samples(self.window, item.fs)

    def lines(self) -> dict[str, dict]:
        """Return for each complete item what was measured; a line that a kill cut off counts as none."""
        found = {}
        path = self.folder / ITEMS
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            try:
                values = json.loads(line)
                found[values["id"]] = values
            except (ValueError, TypeError, KeyError):
                continue
        return found

    def prepare(self, shard: Shard = None) -> None:
        """Find out what is due and why, after removing what was made from something else.

        Args:
            shard: part I of N of the items alone is due. Processes that each do a part may begin together:
                the first of them removes what is of something else, the others find it removed.

        Raises:
            UserError: the directory holds something that was not made here.
        """
        for item in self.items if not self.named else ():
            check_name(self.path(item, 1), "give the recording a shorter id")
        if shard is None:
            self._prepare(begun=False)
            return
        # Not the directory's own lock, which the parts share while they work.
        beginning = self.folder.with_name(f".{self.folder.name}.mixit-begin")
        with locked(beginning, patience_s=None):
            self._prepare(begun=True)
        with suppress(OSError):  # another part waits in it
            beginning.rmdir()
        self.due &= set(part_of(list(self.items), shard))

    def _prepare(self, begun: bool) -> None:
        there = self.folder.is_dir() and any(p.name != LOCK for p in self.folder.iterdir())
        ours, others = (any((self.folder / name).exists() for name in names) for names in (_OURS, _OTHERS))
        if there and (others or not ours):
            raise UserError(
                f"{self.folder}: expected a new directory or one made by this command (choose another)"
            )
        before = read_stamp(self.folder / BEGUN)
        kept = self._kept(before) if before else {}
        self.due = set() if self.named else self.items.keys() - kept.keys()
        self.why = self.stamp.why_stale(self.folder / DONE)
        if not self.why and (self.due or not self._tables_there(kept)):
            self.why = "some of its files are gone"
        if not self.why or (begun and (self.named or before == self.stamp)):
            return
        if self.named:
            (self.folder / DONE).unlink(missing_ok=True)
            self.stamp.write(self.folder / BEGUN)
            return
        if there:
            print(f"{self.folder}: {self.why}: separating {len(self.due)} of {len(self.items)}", flush=True)
        if not kept:
            with atomic_directory(self.folder) as part:
                self.stamp.write(part / BEGUN)
            return
        for name in (DONE, "info.json", "wav.scp", "spk1.scp"):  # no reader takes it for complete
            (self.folder / name).unlink(missing_ok=True)
        write_json_lines(self.folder / ITEMS, kept.values())
        self.stamp.write(self.folder / BEGUN)

    def _kept(self, before: Stamp) -> dict[str, dict]:
        """Return the lines of the items that need not be made again."""
        old, now = (
            {k: v for k, v in s.inputs.items() if not k.startswith(_key(""))} for s in (before, self.stamp)
        )
        if replace(before, inputs=old) != replace(self.stamp, inputs=now):
            return {}
        same = {k for k in self.items if before.inputs.get(_key(k)) == self.stamp.inputs[_key(k)]}
        lines = {name: values for name, values in self.lines().items() if name in same}
        return {
            name: values
            for name, values in lines.items()
            if all(self.path(name, k + 1).is_file() for k in range(values["streams"]))
        }

    def _tables_there(self, lines: dict[str, dict]) -> bool:
        streams = len(self.named) or next(iter(lines.values()))["streams"]
        outputs = next(iter(lines.values()))["outputs"] if self.outputs else 0
        names = [*self.files, *(f"spk{k + 1}.scp" for k in range(streams))]
        names += [f"raw{k + 1}.scp" for k in range(outputs)]
        return all((self.folder / name).is_file() for name in names)

    def write(self, item: str) -> BlockWriter:
        """Return the writer of an item's streams."""
        fs, encoding = self.items[item].fs, self.layout.encoding
        return BlockWriter(lambda k: self._place(item, k), fs, encoding)

    def add(self, item: str, n_streams: int, n_outputs: int, cpu_s: float) -> None:
        """Count an item as complete, whose streams are there."""
        values = {"id": item, "streams": n_streams, "outputs": n_outputs, "cpu_s": cpu_s}
        values["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        with open(self.folder / ITEMS, "a", encoding="utf-8") as file:  # processes append whole lines
            file.write(json.dumps(values) + "\n")

    def tables(self, kind: str = "spk") -> dict[str, Mapping[str, str]]:
        """Return ``{"spk1.scp": {id: file}, ...}``, to be written once all items are complete."""
        tables = self.named
        if not tables:
            streams = next(iter(self.lines().values()))["streams"]
            tables = [{name: str(self.path(name, k + 1)) for name in self.items} for k in range(streams)]
        return {f"{kind}{k}.scp": table for k, table in enumerate(tables, 1)}

    def finish(self) -> None:
        """Write tables, ``info.json`` and the stamp."""
        write_set(self.folder, self.tables() | (self.outputs.tables("raw") if self.outputs else {}))
        lines = self.lines().values()
        if self.named:
            self.close({"rtf": None, "peak_memory_mib": None, "n_outputs": len(self.named)})
            return
        seconds = sum(item.seconds for item in self.items.values())
        info = {
            "rtf": round(sum(values["cpu_s"] for values in lines) / seconds, 5),
            "peak_memory_mib": round(max(values["peak_memory_mib"] for values in lines), 1),
            "n_outputs": next(iter(lines))["outputs"],
            "seconds": round(seconds, 3),
        }
        self.close(info)

    def close(self, info: dict | None = None) -> None:
        """Write the stamp, before it what was measured, and remove what killed processes left."""
        for left_over in self.folder.rglob(".*.mixit-part"):
            left_over.unlink()
        if info:
            write_json(self.folder / "info.json", {"system": self.system.name, **info})
        self.stamp.write(self.folder / DONE)


def _key(item: str) -> str:
    """The name of an item among the inputs of a stamp."""
    return f"recording {item}"


def inputs_of(items: Mapping[str, Recording], images: MixtureSet | None = None) -> dict[str, str]:
    """Return digests of the items, for the inputs of a stamp, with those of the talkers' images of a set."""
    tables = images.speakers if images else []
    entries = {name: [*item.entries, *(table[name] for table in tables)] for name, item in items.items()}
    return {_key(name): stamp_of_entries(entries[name]) for name in entries}


def stamp_of(system: System, inputs: Mapping[str, str], settings: dict, model: str = "") -> Stamp:
    """Return what the streams of a system are made from.

    Args:
        system: the row.
        inputs: of :func:`inputs_of`.
        settings: beside those of the row.
        model: a digest of the network's files, "" if there is none.
    """
    versions = {"pyroomacoustics": importlib.metadata.version("pyroomacoustics")} if system.blind else {}
    given = {"model": model, **inputs} if model else inputs
    return Stamp.of({**system.processing, **settings, **versions}, given, _CODE)


# --- the loop


def streams_of(
    system: System,
    outputs: torch.Tensor,
    mixture: np.ndarray,
    fs: int,
    n_talkers: int,
    references: np.ndarray | None = None,
) -> np.ndarray:
    """Make a system's streams (S, T) of the outputs (M, T) for a mixture (C, T).

    Args:
        system: its rule and refinement are applied.
        outputs: of one window.
        mixture: of the same window.
        fs: rate in Hz.
        n_talkers: streams that a rule makes.
        references: (S, T), which the rule ``oracle`` needs.
    """
    x, streams = torch.from_numpy(mixture), outputs
    if system.rule:
        images = None if references is None else torch.from_numpy(references)
        streams = pseudo_targets.select(outputs, n_talkers, system.rule, x, images, fs, **system.settings)
    return (refine.refine(streams, x, fs, system.refine) if system.refine else streams).numpy()


def load_source(
    system: System, exp: Path, fs: int, n_talkers: int, device: str = "cpu"
) -> Callable[[np.ndarray], torch.Tensor]:
    """Return the function (C, T) -> (M, T) that makes a system's outputs."""
    if system.model:
        from frontend.separation.model import Separator  # ESPnet; imported before the fork

        asked = _asked(system, exp, n_talkers)
        separator = Separator.from_pretrained(system.network(exp), device, n_talkers=asked)
        return lambda mixture: separator.outputs(torch.from_numpy(mixture), fs).cpu()

    def run(mixture: np.ndarray) -> torch.Tensor:
        streams = blind.separate_blind(str(system.blind), mixture, fs, n_talkers, **system.settings)
        return torch.from_numpy(streams)

    return run


def _asked(system: System, exp: Path, n_talkers: int) -> int | None:
    """Return how many streams the system's network is asked for, see :func:`streams_asked`."""
    if not system.model:
        return None
    with open_trained(system.network(exp)) as trained:
        return streams_asked(system.rule, trained.any_array, n_talkers)


class _Timed:
    """A function whose CPU time is summed up: of one thread, time on one core. ``last`` is its result."""

    def __init__(self, function: Callable):
        self.function, self.seconds = function, 0.0
        self.last: Any = None

    def __call__(self, *arguments: Any) -> Any:
        start = time.process_time()
        self.last = self.function(*arguments)
        self.seconds += time.process_time() - start
        return self.last


def run(
    results: Sequence[Result],
    exp: str | Path,
    n_talkers: int,
    nj: int,
    what: str,
    references: Callable[[str], np.ndarray] | None = None,
    device: str = "cpu",
) -> None:
    """Separate all that is due; results that share a source share the pass over the data.

    Args:
        results: prepared; all of them of networks, or all of blind methods.
        exp: where the models lie.
        n_talkers: streams of a rule or a blind method.
        nj: processes at a time, each with one thread.
        what: name of the work.
        references: id -> true images (S, T), for the rule ``oracle``.
        device: a GPU works in this process alone.
    """
    groups: dict[tuple, list[Result]] = {}
    for result in results:
        if result.due:
            asked = _asked(result.system, Path(exp), n_talkers)
            groups.setdefault((result.system.source, result.window, asked), []).append(result)
    jobs = []
    for group in groups.values():
        items = [name for name in group[0].items if any(name in result.due for result in group)]
        jobs += [(group, items[k::nj]) for k in range(min(nj, len(items)))]
    if not jobs:
        return
    if jobs[0][0][0].system.model:
        # ESPnet takes seconds: once, for all processes forked from here.
        importlib.import_module("frontend.training.task")
    work = functools.partial(
        _separate, exp=Path(exp), n_talkers=n_talkers, references=references, device=device
    )
    total = sum(_steps(group[0], name) for group, items in jobs for name in items)
    if torch.device(device).type == "cpu":
        list(parallel_map(work, jobs, nj, what, steps=total))
        return
    shown = Progress(total, what)
    for job in jobs:
        work(job, shown.step)
    shown.close()


def _steps(result: Result, item: str) -> int:
    recording = result.items[item]
    windows = result.windows(recording)
    return 1 if windows is None else len(window_starts(recording.frames, *windows))


def _separate(
    job: tuple[list[Result], list[str]],
    tick: Callable[[], None],
    exp: Path,
    n_talkers: int,
    references: Callable[[str], np.ndarray] | None,
    device: str,
) -> None:
    """Write the streams of results that share a source; ``tick`` is called after each window."""
    results, names = job
    items, windows = results[0].items, results[0].windows
    source = _Timed(load_source(results[0].system, exp, items[names[0]].fs, n_talkers, device))
    for name in names:
        item, due = items[name], [result for result in results if name in result.due]
        read = _read_live(item, results[0].system)
        needed = any(result.system.rule == "oracle" for result in due)
        images = references(name) if references and needed else None
        joined = [
            _Timed(
                JoinedStreams(
                    _maker(result.system, item.fs, n_talkers, images), item.fs, f"{result.folder}: {name}"
                )
            )
            for result in due
        ]
        source.seconds = 0.0
        with ExitStack() as stack:
            writers = [stack.enter_context(result.write(name)) for result in due]
            for pieces in separate_windows(read, item.frames, windows(item), source, joined):
                for writer, piece in zip(writers, pieces, strict=True):
                    writer.write(piece)
                tick()
        for result, join in zip(due, joined, strict=True):
            result.add(name, len(join.last), len(source.last), source.seconds + join.seconds)


def _read_live(item: Recording, system: System) -> Callable[[int, int], np.ndarray]:
    """Return the function that reads what a system separates: a network takes all channels as they are.

    Raises:
        UserError: a network's reference channel is dead.
    """
    if system.model:
        item.check_reference()
        return item.read
    live = item.live_channels()
    if len(live) == item.channels:
        return item.read
    return lambda start, frames: item.read(start, frames)[live]


def _maker(system: System, fs: int, n_talkers: int, images: np.ndarray | None) -> Callable:
    return lambda outputs, mixture: streams_of(system, outputs, mixture, fs, n_talkers, images)
