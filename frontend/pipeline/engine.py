"""Stages: what each makes, whether that is there and of today's inputs, and how the stages of a run are run.

They run in their order. A stage that says so runs beside those before it that make nothing it reads.

A stage's inputs are compared by content, so a touched file is no change and an edited one is. Output made
from other inputs or settings is never used: it is moved to PATH.old once, and the stage runs from the start;
or it stays in place where its tool finds out itself which items are stale. A stage that was cut off, at any
moment, goes on.

The record of a stage, ``EXP/stages/NAME.json``, holds the :class:`~frontend.utils.stamps.Stamp` of what it
was made from, its attempts and, once it is complete, its seconds and the sizes of its outputs.
``EXP/stages.json`` says for the report how long each stage took, and at which commit. The seconds in which
several stages were at work are divided among them, so that those of all stages are the time of the run.
"""

import contextlib
import json
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from frontend.pipeline.launch import Local, Slurm, shown
from frontend.pipeline.options import Options
from frontend.pipeline.stage import (
    Record,
    Stage,
    at_work,
    earlier_seconds,
    expected_seconds,
    is_below,
    number_of,
    put_aside,
    put_back,
    sizes,
    versions,
)
from frontend.utils.errors import INTERRUPTED, UserError
from frontend.utils.files import read_json, remove_left_over, write_json
from frontend.utils.locks import locked
from frontend.utils.parallel import duration
from frontend.utils.provenance import commit_of
from frontend.utils.stamps import Stamp, of_tree

_PATIENCE_S = 10.0  # for what was killed just now, and may need a moment to end


@dataclass
class _Work:
    """A stage that is next, or at work.

    Attributes:
        stamp: what its output is made from.
        why: what there is to do.
        before: its record so far.
        record: its record from now.
        moved: what was put aside, see :func:`frontend.pipeline.stage.put_aside`.
        seconds: its share of them.
        later_s: seconds that are expected for the others.
    """

    place: int
    stage: Stage
    stamp: Stamp
    why: str
    before: Record | None
    record: Record | None = None
    moved: dict[Path, Path] = field(default_factory=dict)
    seconds: float = 0.0
    later_s: float = 0.0


class Engine:
    """Runs the stages of a run.

    Args:
        options: of the run.
        recipe: returns its stages; asked anew after each stage, since what is there may decide what the next
            are.
        launcher: runs the commands.
        check: called with the run before the first stage that has something to do: what takes long to check.
    """

    def __init__(
        self,
        options: Options,
        recipe: Callable[[Options], list[Stage]],
        launcher: Local | Slurm,
        check: Callable[[Options], None],
    ) -> None:
        self.options, self.recipe, self.launcher, self.check = options, recipe, launcher, check
        self.exp = options.exp
        self._digests: dict[Path, str] = {}
        self._due: set[str] = set()  # names of stages that have something to do, or will have
        self._at_work: dict[Future, _Work] = {}
        self._now = time.time()  # until when the seconds are divided
        self._turn = contextlib.ExitStack()  # holds what experiments share, while a stage makes it
        self._checked = False

    # What is known of a stage.

    def record_path(self, stage: Stage) -> Path:
        """Return where the record of a stage lies."""
        return (stage.shared or self.exp / "stages") / f"{stage.name}.json"

    def stamp(self, stage: Stage) -> Stamp:
        """Return what the stage's output would be made from now; a missing input has an empty digest."""
        for path in stage.reads:
            if path not in self._digests:
                self._digests[path] = of_tree(path)
        made_from = Stamp.of(stage.settings, {str(path): self._digests[path] for path in stage.reads})
        return replace(made_from, code=versions(stage.commands))

    def state(self, stage: Stage) -> str:
        """Return in one sentence why the stage has something to do; "" if it is complete."""
        record = Record.read(self.record_path(stage))
        if record is None:
            return "not run yet"
        if why := self.stamp(stage).changed_since(record.stamp):
            return why
        if record.seconds is None:
            return "was cut off"
        made = record.outputs == sizes(stage.makes)
        return "" if made else "its output was changed or removed since"

    # A run.

    def run(self, first: str, last: str) -> None:
        """Run the stages from ``first`` to ``last``, by name or number.

        Raises:
            UserError: unknown stages, an input that is missing, or a command that failed.
        """
        begin, end = self.places(first, last)
        left, self._due = [*range(begin, end + 1)], self._find_due(begin, end)
        with ThreadPoolExecutor(self.options.at_once) as pool, self._turn:
            try:
                while left or self._at_work:
                    works = self._next(left)
                    self._show([*self._at_work.values(), *works])
                    for work in works:
                        name, log_of, later = work.stage.name, self._log_of(work.stage), work.later_s
                        job = pool.submit(self.launcher.run, name, work.stage.commands, log_of, later)
                        self._at_work[job] = work
                    for job in wait(self._at_work, return_when=FIRST_COMPLETED).done:
                        self._end(job)
            except BaseException as error:
                self._stop_all(isinstance(error, KeyboardInterrupt))
                raise

    def _next(self, left: list[int]) -> list[_Work]:
        """Return what can start now; that and what has nothing to do is removed from ``left``."""
        works = [*self._at_work.values()]
        while len(works) < self.options.at_once:
            stages = dict(enumerate(self.recipe(self.options), 1))
            before = [*left, *(work.place for work in works)]
            waits = {p: any(stages[p].follows(stages[one]) for one in before if one < p) for p in left}
            if not (ready := [place for place in left if not waits[place]]):
                break
            # What was cut off comes first: jobs of Slurm may be at work for it.
            place = min(ready, key=lambda place: (not self._was_cut_off(stages[place]), place))
            left.remove(place)
            if stages[place].skip:
                log(f"stage {place} {stages[place].name}: off, {stages[place].skip}")
            elif work := self._prepare(place, stages[place]):
                works.append(work)
        found = works[len(self._at_work) :]
        if found:
            self.launcher.claim({work.stage.name: work.stamp for work in works})
        for work in found:
            self._begin(work, [one.stage.name for one in works[: works.index(work)]])
        return found

    def _was_cut_off(self, stage: Stage) -> bool:
        record = None if stage.skip else Record.read(self.record_path(stage))
        return record is not None and record.seconds is None

    def _show(self, works: list[_Work]) -> None:
        """Let the terminal show the output of the first of the stages at work."""
        first = min(works, key=lambda work: work.place, default=None)
        self.launcher.shown = first.stage.name if first else ""

    def _divide(self) -> None:
        """Divide the seconds since the last call among the stages at work."""
        now = time.time()
        for work in self._at_work.values():
            work.seconds += (now - self._now) / len(self._at_work)
        self._now = now

    def _find_due(self, begin: int, end: int) -> set[str]:
        """Return the stages that have something to do now, or will have when those before have run."""
        due, made = set[str](), set[Path]()
        for stage in self.recipe(self.options)[begin - 1 : end]:
            follows = any(is_below(path, made) for path in stage.reads)
            if not stage.skip and (follows or self.state(stage)):
                due.add(stage.name)
                made |= {*stage.makes}
        self._digests.clear()  # the commands that fetch may come before the inputs are looked at
        return due

    def _left(self, names: list[str]) -> tuple[float, float, bool]:
        """Return the seconds expected for the first of some stages and for the others; if one is a guess."""
        found, is_guess = expected_seconds(names, earlier_seconds(self.exp), self.options.size_name)
        return found[names[0]], sum(found[name] for name in names[1:]), is_guess

    def places(self, first: str, last: str) -> tuple[int, int]:
        """Return the places of the first and the last stage.

        Raises:
            UserError: unknown stages, or the last before the first.
        """
        stages = self.recipe(self.options)
        begin, end = number_of(first, stages), number_of(last, stages)
        if begin > end:
            raise UserError(f"--stage {first} comes after --stop_stage {last}")
        return begin, end

    def _prepare(self, place: int, stage: Stage) -> _Work | None:
        """Return a stage that is next, with what it is made from; None where it is complete.

        Its first commands run and the configurations are written before; a missing input is a UserError.
        """
        if stage.shared is not None:
            self._turn.enter_context(self._turn_at(stage.shared.parent))
        self.options.write()
        for command in stage.first:
            Local(self.exp).run(stage.name, [command], self._log_of(stage))
        record, now = Record.read(self.record_path(stage)), self.stamp(stage)
        why = self.state(stage)
        if not why and record is not None:
            log(f"stage {place} {stage.name}: complete, nothing to do")
            self._due.discard(stage.name)
            self._note_stage(stage, record)
            self._release(stage)
            return None
        missing = [name for name, digest in now.inputs.items() if not digest]
        if missing:
            what = f"stage {stage.name}: {missing[0]}: missing"
            raise UserError(f"{what}; run the stages before this one first")
        if not self._checked:
            self.check(self.options)
            self._checked = True
        return _Work(place, stage, now, why, record)

    def _begin(self, work: _Work, others: list[str]) -> None:
        """Put stale output aside, record that the stage runs from now, and say so."""
        stage = work.stage
        self._divide()
        work.record = self._new_record(work)
        now_s, later_s, is_guess = self._left([stage.name, *(self._due - {stage.name})])
        work.later_s = later_s
        how = ", a guess from other runs" if is_guess else ""
        whole = f"; {duration(now_s + later_s)} to the end of the run" if later_s else ""
        aside = f"; beside {' and '.join(others)}: see {self._log_of(stage)}" if others else ""
        log(f"stage {work.place} {stage.name}: {stage.about} (about {duration(now_s)}{whole}{how}{aside})")

    def _new_record(self, work: _Work) -> Record:
        began, stage, record, now = time.time(), work.stage, work.before, work.stamp
        if record is None:
            fresh = Record(now, began)
        else:
            if record.seconds is None:
                record.close_attempt(stage.makes)
                for path in stage.makes:
                    remove_left_over(path)
            stale = bool(now.changed_since(record.stamp))
            print(f"stage {stage.name}: {work.why}{stage.consequence(record, stale)}", flush=True)
            if stale and not stage.keeps:
                work.moved = put_aside(stage.makes, complete=record.seconds is not None)
            if not any(path.exists() for path in stage.makes):
                fresh = Record(now, began)
            elif record.seconds is not None:  # to be mended, perhaps in no time
                fresh = Record(now, began, record.attempts + 1, least=record.seconds)
            else:
                fresh = Record(now, began, record.attempts + 1, record.spent, record.least)
        fresh.write(self.record_path(stage))
        return fresh

    def _end(self, job: Future) -> None:
        """Record that a stage is complete.

        Raises:
            SystemExit, UserError: its commands failed.
        """
        self._divide()
        work = self._at_work.pop(job)
        stage, record, path = work.stage, cast(Record, work.record), self.record_path(work.stage)
        try:
            job.result()
        except BaseException:
            if work.before is not None and put_back(work.moved):  # nothing was made: what was there, is again
                work.before.write(path)
            else:
                record.spent, record.began = record.spent + work.seconds, time.time()
                record.write(path)
            raise
        finally:
            self._release(stage)
        self._digests.clear()
        record.seconds = round(max(record.least, record.spent + work.seconds), 1)
        record.outputs, record.commit = sizes(stage.makes), commit_of(Path(__file__).parent) or ""
        record.write(path)
        self._note_stage(stage, record)
        self._due.discard(stage.name)
        if self._at_work:
            log(f"stage {work.place} {stage.name}: done")

    def _stop_all(self, interrupted: bool) -> None:
        """After a failure or an interrupt, end the stages at work and write their records.

        It exits where the command whose output is shown has printed a line about the interrupt.
        """
        self.launcher.stop(interrupted)
        is_said = False
        for job in wait(self._at_work).done:
            name = self._at_work[job].stage.name
            try:
                self._end(job)
            except SystemExit as end:
                is_said |= end.code == INTERRUPTED and name == self.launcher.shown
            except (UserError, OSError, KeyboardInterrupt):
                pass  # it was stopped
        if interrupted and is_said:
            raise SystemExit(INTERRUPTED)

    def _log_of(self, stage: Stage) -> Path:
        return self.exp / "log" / f"{stage.name}.log"

    def _note_stage(self, stage: Stage, record: Record) -> None:
        """Put into stages.json how long the complete output took, in how many attempts, at which commit."""
        facts = {"stages": record.seconds, "attempts": record.attempts, "commits": record.commit}
        self.note(**{key: {stage.name: fact} for key, fact in facts.items()})

    def note(self, **facts) -> None:
        """Add facts of the run to stages.json; a fact that is a table adds to the one there."""
        path = self.exp / "stages.json"
        known = read_json(path) if path.is_file() else {}
        before = json.dumps(known)
        if "setup" in facts:  # an environment that was there already took no time: keep the longest
            longest = max(float(facts.pop("setup")), known.get("stages", {}).get("setup", 0.0))
            facts["stages"] = {"setup": longest}
        for key, more in facts.items():
            known[key] = {**known.get(key, {}), **more} if isinstance(more, dict) else more
        if json.dumps(known) != before:
            write_json(path, known)

    # Two runs in one directory would overwrite each other.

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the experiment; what a killed run left working still holds it.

        Raises:
            UserError: another run holds it.
        """
        with locked(self.exp, _PATIENCE_S) as mine:
            if not mine:
                raise UserError(
                    f"{self.exp} is in use by another run (or by what a killed run left working); wait for "
                    "it or stop it first"
                )
            yield

    @contextlib.contextmanager
    def _turn_at(self, place: Path) -> Iterator[None]:
        """What experiments share, one makes and the others wait for."""
        with locked(place, 0.0) as mine:
            if mine:
                yield
                return
        log(f"waiting for another run, which makes what is shared in {place}")
        with locked(place, None):
            yield

    def _release(self, stage: Stage) -> None:
        if stage.shared is not None:
            self._turn.close()

    # Other than running.

    def list(self) -> None:
        """Print each stage with its state and the seconds of its last run, its jobs, and the free disk."""
        jobs = at_work(self.exp)
        for place, stage in enumerate(self.recipe(self.options), 1):
            record = Record.read(self.record_path(stage))
            state = f"off, {stage.skip}" if stage.skip else self.state(stage) or "complete"
            state = jobs.get(stage.name, state)
            took = f", {record.seconds:.0f} s" if record and record.seconds is not None else ""
            print(f"{place:3d}  {stage.name:10s} {stage.about} [{state}{took}]")
        print(f"     free disk: {shutil.disk_usage('.').free / 1e9:.1f} GB")

    def dry_run(self, first: str, last: str) -> None:
        """Print the commands that would run, a line each, to be run in the recipe's directory."""
        begin, end = self.places(first, last)
        print(f"cd {shlex.quote(str(self.options.place))}")
        for place in range(begin, end + 1):
            stage = self.recipe(self.options)[place - 1]
            planned = self.options.planned
            follows = any(is_below(a, [b]) or is_below(b, [a]) for a in stage.reads for b in planned)
            if stage.skip or not (follows or self.state(stage)):
                continue
            planned |= {*stage.makes}
            self.show(stage.name, first=True)
        self.write_if_free()

    def show(self, name: str, first: bool = False) -> None:
        """Print the commands of one stage."""
        stages = self.recipe(self.options)
        stage = stages[number_of(name, stages) - 1]
        print(f"# {stage.name}: {stage.about}{f' (off, {stage.skip})' if stage.skip else ''}")
        for command in (*(stage.first if first else ()), *stage.commands):
            print(shown(command))

    def write_if_free(self) -> None:
        """Write the configurations that printed commands name, unless a run is at work with its own."""
        with locked(self.exp, 0.0) as mine:
            if mine:
                self.options.write()

    def adopt(self, first: str, last: str) -> None:
        """Write the records of stages whose outputs are all there, without running them."""
        begin, end = self.places(first, last)
        self.options.write()
        path = self.exp / "stages.json"
        seconds = read_json(path).get("stages", {}) if path.is_file() else {}
        for place in range(begin, end + 1):
            stage = self.recipe(self.options)[place - 1]
            there = all(path.exists() for path in (*stage.makes, *stage.reads))
            if stage.skip or not there or not self.state(stage):
                continue
            known = Record.read(self.record_path(stage))
            if known is not None and known.seconds is None:
                log(f"stage {place} {stage.name}: was cut off, not adopted; run it again")
                continue
            record = Record(self.stamp(stage), time.time(), seconds=seconds.get(stage.name, 0.0))
            record.outputs = sizes(stage.makes)
            record.write(self.record_path(stage))
            self._note_stage(stage, record)
            taken = "its output is taken to be complete and of today's inputs"
            log(f"stage {place} {stage.name}: adopted, {taken}")


def log(text: str) -> None:
    """Print a line with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
