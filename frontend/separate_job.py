"""One source of streams (a model, a blind method) over one test set, in a process of its own.

All systems of the source share the pass over the data: the network runs once for
its selections, groupings and beamformers.
"""

import contextlib
import functools
import json
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from frontend import atomic
from frontend.blind import separate_blind
from frontend.datadir import AudioWriter, MixtureSet, write_scp
from frontend.pseudo_targets import select
from frontend.refine import refine
from frontend.systems import System


@dataclass(frozen=True)
class Task:
    """What a process needs to know beside its systems.

    Attributes:
        mixtures: the test set.
        fs: its rate in Hz.
        exp: where the models lie.
        out: where the systems' directories go.
        n_talkers: streams wanted of a rule or a blind method.
        made_from: per system, a fingerprint of all that its streams depend on.
    """

    mixtures: MixtureSet = field(repr=False)
    fs: int
    exp: Path
    out: Path
    n_talkers: int
    made_from: dict[str, str] = field(default_factory=dict)

    def outputs_of(self, model: str) -> Path:
        """Where a network's outputs go whose selections are compared; hidden, for it is no system."""
        return self.out / ".outputs" / model


def separate_job(systems: list[System], tick: Callable[[], None], task: Task) -> None:
    """Write the streams of ``systems``, which share a source; ``tick`` is called after each utterance."""
    run = _source(systems[0], task)
    with contextlib.ExitStack() as stack:
        rows = {s.name: stack.enter_context(_writing(task.out / s.name, task)) for s in systems}
        raw = None
        if any(s.rule for s in systems):
            # Entered last, so complete first: the systems' tables name these files.
            raw = stack.enter_context(_writing(task.outputs_of(systems[0].model), task))
        for utterance in task.mixtures.ids:
            mixture = torch.from_numpy(task.mixtures.mixture(utterance)[0])
            references = (
                torch.from_numpy(task.mixtures.references(utterance)) if _has_oracle(systems) else None
            )
            outputs, shared_s = _timed(run, mixture)
            if raw:
                raw.write(utterance, outputs)
            for system in systems:
                work = functools.partial(_streams, system, outputs, mixture, references, task)
                streams, own_s = _timed(work)
                rows[system.name].write(utterance, streams, shared_s + own_s)
            tick()
        for system in systems:
            rows[system.name].describe(system, len(outputs), raw if system.rule else None)


def write_info(directory: Path, system: System, made_from: dict[str, str], **measured) -> None:
    """Write ``info.json``: what was measured, and what the streams were made from."""
    info = {"system": system.name, "made_from": made_from[system.name], **measured}
    (directory / "info.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")


class _Streams:
    """A directory of streams on its way: ``part`` now, ``final`` when complete."""

    def __init__(self, part: Path, final: Path, task: Task):
        self.part, self.final, self.fs, self.made_from = part, final, task.fs, task.made_from
        self.tables: list[dict[str, str]] = []
        self.cpu_s = self.audio_s = 0.0

    def write(self, utterance: str, streams: torch.Tensor, cpu_s: float = 0.0) -> None:
        """Write streams (S, T) as float32, so that no level is lost and nothing clips."""
        while len(self.tables) < len(streams):
            self.tables.append({})
        for k, stream in enumerate(streams.numpy(), 1):
            writer = AudioWriter(self.part / f"wav{k}", "wav", self.fs, encoding="float32")
            entry = Path(writer.write(utterance, stream)).relative_to(self.part)
            self.tables[k - 1][utterance] = str(self.final / entry)
        self.cpu_s += cpu_s
        self.audio_s += streams.shape[-1] / self.fs

    def describe(self, system: System, n_outputs: int, raw: "_Streams | None") -> None:
        """Write the tables and, last, ``info.json``."""
        named = {"spk": self.tables, "raw": raw.tables if raw else []}
        for kind, tables in named.items():
            for k, table in enumerate(tables, 1):
                write_scp(self.part / f"{kind}{k}.scp", table)
        measured = {
            "rtf": round(self.cpu_s / self.audio_s, 5),
            "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "n_outputs": n_outputs,
            "seconds": round(self.audio_s, 3),
        }
        write_info(self.part, system, self.made_from, **measured)


@contextlib.contextmanager
def _writing(final: Path, task: Task) -> Iterator[_Streams]:
    with atomic.directory(final) as part:
        yield _Streams(part, final, task)


def _source(system: System, task: Task) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the function (C, T) -> (M, T) that makes the outputs."""
    if system.model:
        from frontend.separate import Separator  # ESPnet; imported before the fork

        return Separator.from_pretrained(task.exp / system.model).outputs

    def run(mixture: torch.Tensor) -> torch.Tensor:
        streams = separate_blind(system.blind, mixture.numpy(), task.fs, task.n_talkers, **system.settings)
        return torch.from_numpy(streams)

    return run


def _streams(system, outputs, mixture, references, task) -> torch.Tensor:
    streams = outputs
    if system.rule:
        streams = select(
            outputs, task.n_talkers, system.rule, mixture, references, task.fs, **system.settings
        )
    return refine(streams, mixture, task.fs, system.refine) if system.refine else streams


def _has_oracle(systems: list[System]) -> bool:
    return any(s.rule == "oracle" for s in systems)


def _timed(function: Callable, *args) -> tuple[torch.Tensor, float]:
    """Return the result and the CPU seconds it took: of one thread, that is time on one core."""
    start = time.process_time()
    return function(*args), time.process_time() - start
