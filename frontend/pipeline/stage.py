"""Stages: what each makes, whether that is there and of today's inputs, and how the stages of a run are run.

A stage's inputs are compared by content, so a touched file is no change and an edited one is. Output made
from other inputs or settings is never used: it is moved to PATH.old once, and the stage runs from the start;
or it stays in place where its tool finds out itself which items are stale. A stage that was cut off, at any
moment, goes on.

The record of a stage, ``EXP/stages/NAME.json``, holds the :class:`~frontend.utils.stamps.Stamp` of what it
was made from, its attempts and, once it is complete, its seconds and the sizes of its outputs.
``EXP/stages.json`` says for the report how long each stage took, and at which commit.
"""

import contextlib
import json
import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from frontend.pipeline.launch import Local, Slurm, shown
from frontend.pipeline.options import Options
from frontend.pipeline.records import (
    Record,
    at_work,
    earlier_seconds,
    expected_seconds,
    put_aside,
    put_back,
    sizes,
    versions,
)
from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.files import read_json, remove_left_over, write_text
from frontend.utils.locks import locked
from frontend.utils.parallel import LEFT_AFTER, duration
from frontend.utils.provenance import commit_of
from frontend.utils.stamps import Stamp, of_tree

_PATIENCE_S = 10.0  # for what was killed just now, and may need a moment to end


@dataclass
class Stage:
    """A named step of a recipe.

    Attributes:
        name, about: for messages.
        reads: files and directories, compared by content.
        makes: files and directories.
        commands: words of ``python -m frontend ...``, or of a script of the recipe: ``local/data.sh ...``.
        settings: what the output depends on beside the content of ``reads``.
        skip: why the stage is off; empty where it is not.
        keeps: stale output stays in place, since its tool knows which items are stale, or writes it anew.
        first: commands that run before the inputs are looked at, here in any case; each does nothing where
            nothing is to do.
        shared: directory of the record where several experiments share the output; none of them make it at a
            time.
    """

    name: str
    about: str
    reads: list[Path]
    makes: list[Path]
    commands: list[list[str]]
    settings: dict = field(default_factory=dict)
    skip: str = ""
    keeps: bool = False
    first: list[list[str]] = field(default_factory=list)
    shared: Path | None = None


def number_of(name: str, stages: list[Stage]) -> int:
    """Return the place, from 1 on, of the stage that a name or number stands for.

    Raises:
        UserError: there is none.
    """
    names = [stage.name for stage in stages]
    if name.isdecimal() and 1 <= int(name) <= len(names):
        return int(name)
    if name in names:
        return names.index(name) + 1
    raise UserError(f"unknown stage '{name}'{did_you_mean(name, names)}; --list shows them")


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
        self._moved: dict[Path, Path] = {}  # by the stage at work, see put_aside
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
        due = self._due(begin, end)
        for place in range(begin, end + 1):
            stage = self.recipe(self.options)[place - 1]
            if stage.skip:
                log(f"stage {place} {stage.name}: off, {stage.skip}")
                continue
            with self._turn(stage):
                self._run_stage(place, stage, [name for name in due if due[name] >= place])
        os.environ.pop(LEFT_AFTER, None)

    def _due(self, begin: int, end: int) -> dict[str, int]:
        """Return the stages that have something to do now, or will have when those before have run."""
        due, made = {}, set[Path]()
        for place, stage in enumerate(self.recipe(self.options)[begin - 1 : end], begin):
            follows = any(path == one or one in path.parents for path in stage.reads for one in made)
            if not stage.skip and (follows or self.state(stage)):
                due[stage.name] = place
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

    def _run_stage(self, place: int, stage: Stage, due: list[str]) -> None:
        self.options.write()
        for command in stage.first:
            Local(self.exp).run(stage.name, [command], self._log_of(stage))
        path = self.record_path(stage)
        before, now = Record.read(path), self.stamp(stage)
        why = self.state(stage)
        if not why and before is not None:
            log(f"stage {place} {stage.name}: complete, nothing to do")
            return self._tell(stage, before)
        missing = [name for name, digest in now.inputs.items() if not digest]
        if missing:
            raise UserError(
                f"stage {stage.name}: {missing[0]}: missing; run the stages before this one first"
            )
        if not self._checked:
            self.check(self.options)
            self._checked = True
        self.launcher.claim(stage.name, now)
        record = self._begin(stage, before, now, why)
        now_s, later_s, is_guess = self._left([stage.name, *(name for name in due if name != stage.name)])
        how = ", a guess from other runs" if is_guess else ""
        whole = f"; {duration(now_s + later_s)} to the end of the run" if later_s else ""
        log(f"stage {place} {stage.name}: {stage.about} (about {duration(now_s)}{whole}{how})")
        os.environ[LEFT_AFTER] = f"{later_s:.0f}"
        try:
            self.launcher.run(stage.name, stage.commands, self._log_of(stage))
        except SystemExit as end:
            if end.code == 2 and before is not None and put_back(self._moved):
                before.write(path)  # refused, and nothing made: what was moved aside for it is there again
            raise
        self._digests.clear()
        record.seconds = round(max(record.least, record.spent + time.time() - record.began), 1)
        record.outputs, record.commit = sizes(stage.makes), commit_of(Path(__file__).parent) or ""
        record.write(path)
        self._tell(stage, record)

    def _log_of(self, stage: Stage) -> Path:
        return self.exp / "log" / f"{stage.name}.log"

    def _begin(self, stage: Stage, record: Record | None, now: Stamp, why: str) -> Record:
        """Say why the stage runs, put stale output aside, and record that it runs from now."""
        began, self._moved = time.time(), {}
        if record is None:
            fresh = Record(now, began)
        else:
            if record.seconds is None:
                self._close_attempt(stage, record)
                for path in stage.makes:
                    remove_left_over(path)
            stale = bool(now.changed_since(record.stamp))
            print(f"stage {stage.name}: {why}{self._consequence(stage, record, stale)}", flush=True)
            if stale and not stage.keeps:
                self._moved = put_aside(stage.makes, complete=record.seconds is not None)
            if not any(path.exists() for path in stage.makes):
                fresh = Record(now, began)
            elif record.seconds is not None:  # to be mended, perhaps in no time
                fresh = Record(now, began, record.attempts + 1, least=record.seconds)
            else:
                fresh = Record(now, began, record.attempts + 1, record.spent, record.least)
        fresh.write(self.record_path(stage))
        return fresh

    @staticmethod
    def _consequence(stage: Stage, record: Record, stale: bool) -> str:
        if stale:
            kept = "its output stays in place; what is stale in it is made again"
            return f"; {kept if stage.keeps else 'its output is stale, moved to *.old'}"
        return "; going on from what is there" if record.seconds is None else "; running it again"

    def _close_attempt(self, stage: Stage, record: Record) -> None:
        """Count the seconds of a cut-off attempt, as far as known: until it last wrote something."""
        files = [p for path in stage.makes if path.exists() for p in (path, *path.rglob("*"))]
        last = max([record.began, *(p.lstat().st_mtime for p in files)])
        record.spent += last - record.began

    def _tell(self, stage: Stage, record: Record) -> None:
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
            write_text(path, json.dumps(known, indent=1) + "\n")

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
                    f"it or "
                    "stop it first"
                )
            yield

    @contextlib.contextmanager
    def _turn(self, stage: Stage) -> Iterator[None]:
        """What experiments share, one makes and the others wait for."""
        if stage.shared is None:
            yield
            return
        with locked(stage.shared.parent, 0.0) as mine:
            if mine:
                yield
                return
        log(f"waiting for another run, which makes what is shared in {stage.shared.parent}")
        with locked(stage.shared.parent, None):
            yield

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
            needs = any(self._is_planned(path) for path in stage.reads)
            if stage.skip or not (needs or self.state(stage)):
                continue
            self.options.planned |= {*stage.makes}
            self.show(stage.name, first=True)
        self.write_if_free()

    def _is_planned(self, path: Path) -> bool:
        made = self.options.planned
        return any(path == one or one in path.parents or path in one.parents for one in made)

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
            if (
                stage.skip
                or not self.state(stage)
                or not all(p.exists() for p in (*stage.makes, *stage.reads))
            ):
                continue
            known = Record.read(self.record_path(stage))
            if known is not None and known.seconds is None:
                log(f"stage {place} {stage.name}: was cut off, not adopted; run it again")
                continue
            record = Record(self.stamp(stage), time.time(), seconds=seconds.get(stage.name, 0.0))
            record.outputs = sizes(stage.makes)
            record.write(self.record_path(stage))
            self._tell(stage, record)
            log(
                f"stage {place} {stage.name}: adopted, its output is taken to be complete and of today's "
                f"inputs"
            )


def log(text: str) -> None:
    """Print a line with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
