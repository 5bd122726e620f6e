"""Bookkeeping of the stages of run.sh: what is complete and valid, stale, or cut off.

usage: stage.py begin NAME --exp DIR [--in PATH...] [--out PATH...] [--overwrite PATH...] [--keep]
                                     [--param KEY=VALUE...] [--record DIR]
       stage.py end NAME --exp DIR [--record DIR]
       stage.py note --exp DIR --param KEY=VALUE...

``begin`` exits 0 if the stage has to run (again, or on from where it was cut
off) and 10 if its output is there and made from what is there now. The inputs
are compared by content, so a touched file is no change and an edited one is
(inside directories, audio and weights by name and size, what is larger than 64 MiB
by its time as well). Output made from other inputs is never
used: it is moved aside to PATH.old, and the stage runs from the start; when the
inputs are again those of PATH.old, it is moved back. Two exceptions: outputs
under ``--overwrite`` are simply written again, and with ``--keep`` all stay where
they are, for a tool that finds out itself which items are stale.
``end`` records what was written and how long it took, interrupted attempts
included as far as known; ``note`` records facts of the whole run. Both go to
DIR/stages.json, for the report. Where experiments share an output, ``--record`` says
where its record lies, for all of them; each is told the facts.

Only the standard library: this runs before every stage and must cost nothing.
"""

import argparse
import errno
import os
import sys
import time
from pathlib import Path

from stage_files import commit, exchange, fingerprint, number, read, remove, remove_left_over, sizes, write

RUN, SKIP = 0, 10


class Stage:
    """What is known of a stage's output.

    A record holds ``inputs`` (path or parameter -> digest or value), ``outputs``
    and, once complete, ``seconds``. One tells of the output in place: started.json
    while it is made, renamed to done.json at the end (where a kill left both,
    started.json is the newer). Another, old.json, tells of the output moved aside.
    """

    def __init__(self, name: str, folder: Path, exp: Path):
        self.name, self.exp = name, exp
        self.started, self.done, self.old = (folder / f"{name}.{k}.json" for k in ("started", "done", "old"))
        if "seconds" in read(self.started):  # killed just before the renaming
            os.replace(self.started, self.done)
        self.record = read(self.started) or read(self.done)

    @property
    def complete(self) -> bool:
        return "seconds" in self.record

    def say(self, what: str) -> None:
        print(f"stage {self.name}: {what}")

    def start(self, inputs: dict, outputs: list[str], **before: float) -> int:
        """Record that the stage runs from now; ``before`` is from ``time_before``."""
        write(self.started, {"inputs": inputs, "outputs": outputs, "time": time.time(), **before})
        self.done.unlink(missing_ok=True)
        return RUN

    def end(self) -> int:
        """Record a completed stage."""
        record = read(self.started)
        if not record:
            raise FileNotFoundError(errno.ENOENT, "missing: the stage was not begun", str(self.started))
        spent = max(record["least"], record["spent"] + time.time() - record["time"])
        record |= {"seconds": round(spent, 1), "outputs": sizes(record["outputs"]), "commit": commit()}
        write(self.started, record)
        os.replace(self.started, self.done)
        return self.tell(record)

    def tell(self, record: dict) -> int:
        """Put into stages.json how long the complete output took, in how many attempts, at which commit."""
        facts = {
            "stages": record["seconds"],
            "attempts": record.get("attempts", 1),
            "commits": record["commit"],
        }
        return note(self.exp, **{key: {self.name: fact} for key, fact in facts.items()})

    def close_attempt(self, outputs: list[str]) -> None:
        """Count the seconds of a cut-off attempt, as far as known: until it last wrote something."""
        files = [p for path in map(Path, outputs) if path.exists() for p in [path, *path.rglob("*")]]
        began = self.record["time"]
        last = max([began, *(p.lstat().st_mtime for p in files)])
        self.record |= {"time": last, "spent": self.record.get("spent", 0.0) + last - began}

    def set_aside(self, outputs: list[str]) -> None:
        """Move stale output to PATH.old. What was cut off never takes the place of what is complete."""
        present = [path for path in outputs if os.path.exists(path)]
        old_is_complete = "seconds" in read(self.old) and any(os.path.exists(f"{p}.old") for p in outputs)
        if present and old_is_complete and not self.complete:
            for path in present:
                remove(path)
            self.say("its unfinished output was removed, for *.old holds a complete one")
        elif present:
            write(self.old, self.displaced(outputs))
            for path in present:
                remove(f"{path}.old")
                os.replace(path, f"{path}.old")
            self.say("its output is stale, moved to *.old")

    def displaced(self, outputs: list[str]) -> dict:
        """Return the record of what is in place, for old.json; renaming keeps a file's number."""
        made = self.record["outputs"] if self.complete else sizes(outputs)
        return {**self.record, "outputs": made, "numbers": {path: number(path) for path in outputs}}

    def put_back(self, inputs: dict, outputs: list[str]) -> bool:
        """Exchange the output in place for that in PATH.old, if this is of ``inputs`` and intact."""
        old = read(self.old)
        if old.get("inputs") != inputs or {*old["outputs"]} != {*outputs}:
            return False
        # A kill in the middle of an exchange left some of it back in place already.
        left = [path for path in outputs if not 0 != number(path) == old["numbers"][path]]
        lies = {path: f"{path}.old" if path in left else path for path in outputs}
        if any(old["outputs"][path] != fingerprint(Path(lies[path]), by_size=True) for path in outputs):
            return False
        displaced = self.displaced(outputs)
        for path in left:
            exchange(path, f"{path}.old")
        self.record = old
        write(self.done if self.complete else self.started, old)
        (self.started if self.complete else self.done).unlink(missing_ok=True)
        write(self.old, displaced)
        if self.complete:
            self.tell(old)
        self.say("what it made of its present inputs was in *.old and is back in place")
        return True


def changed(before: dict, now: dict) -> str:
    return ", ".join(k for k in sorted({*before, *now}) if before.get(k) != now.get(k))


def begin(stage: Stage, now: dict, outputs: list[str], overwrite: list[str], keep: bool) -> int:
    """Decide whether the stage has to run; say why if that is not obvious."""
    everything = [*outputs, *overwrite]
    if stage.record and not stage.complete:
        stage.close_attempt(everything)
        remove_left_over(everything)
    why = changed(stage.record["inputs"], now) if stage.record else ""
    if why:
        stage.say(f"{why} changed since it ran")
    elif stage.complete and stage.record["outputs"] == sizes(everything):
        stage.tell(stage.record)  # perhaps another experiment made it
        return SKIP
    if not keep and not overwrite and stage.put_back(now, outputs):
        if stage.complete:
            return SKIP
    elif why and keep:
        stage.say("its output stays in place; what is stale in it is made again")
    elif why:
        stage.set_aside(outputs)
        stage.record = {}
    elif stage.complete:
        stage.say("its output was changed or removed since; running it again")
    elif stage.record:
        stage.say("was cut off; going on from what is there")
    return stage.start(now, everything, **time_before(stage, everything))


def time_before(stage: Stage, outputs: list[str]) -> dict[str, float]:
    """Return how often the stage was begun to make what is in place, and the seconds that took."""
    record = stage.record if any(map(os.path.exists, outputs)) else {}
    attempts = record.get("attempts", 1) + 1 if record else 1
    if "seconds" in record:  # to be mended, perhaps in no time: it counts for no less than before
        return {"attempts": attempts, "spent": 0.0, "least": record["seconds"]}
    return {"attempts": attempts, "spent": record.get("spent", 0.0), "least": record.get("least", 0.0)}


def check_inputs(paths: list[str]) -> dict[str, str]:
    """Return the digest of every input."""
    found = {path: fingerprint(Path(path)) for path in paths}
    missing = [path for path, digest in found.items() if not digest]
    if missing:
        raise FileNotFoundError(errno.ENOENT, "missing; run the stages before this one first", missing[0])
    return found


def note(exp: Path, **facts: str | dict) -> int:
    """Add facts of the run to stages.json; a fact that is a table adds to the one there."""
    path = exp / "stages.json"
    known = read(path)
    if "setup" in facts:  # an environment that was there already took no time: keep the longest
        before = known.get("stages", {}).get("setup", 0.0)
        facts["stages"] = {"setup": max(float(facts.pop("setup")), before)}
    for key, more in facts.items():
        known[key] = {**known.get(key, {}), **more} if isinstance(more, dict) else more
    if known != read(path):
        write(path, known)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("action", choices=["begin", "end", "note"])
    parser.add_argument("name", nargs="?")
    parser.add_argument("--exp", type=Path, required=True)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--in", dest="inputs", nargs="*", default=[])
    parser.add_argument("--out", dest="outputs", nargs="*", default=[])
    parser.add_argument("--overwrite", nargs="*", default=[])
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--param", dest="params", nargs="*", default=[])
    return parser.parse_args()


def main() -> int:
    args = arguments()
    folder, params = args.record or args.exp / "stages", dict(p.split("=", 1) for p in args.params)
    try:
        for directory in (args.exp, folder):
            directory.mkdir(parents=True, exist_ok=True)
        if args.action == "note":
            return note(args.exp, **params)
        if args.action == "end":
            return Stage(args.name, folder, args.exp).end()
        now = {**check_inputs(args.inputs), **params}
        return begin(Stage(args.name, folder, args.exp), now, args.outputs, args.overwrite, args.keep)
    except OSError as error:
        where = f"stage {args.name}" if args.name else "stage.py"
        print(f"{where}: error: {error.filename or args.exp}: {error.strerror}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
