"""Bookkeeping of the stages of run.sh: what is complete and valid, stale, or cut off.

usage: stage.py begin NAME --exp DIR [--in PATH...] [--out PATH...] [--param KEY=VALUE...]
       stage.py end NAME --exp DIR
       stage.py note --exp DIR --param KEY=VALUE...

``begin`` exits 0 if the stage has to run (again, or on from where it was cut
off) and 10 if its output is there and made from what is there now. The inputs
are compared by content (audio and archives by name and size), so a touched
file is no change and an edited one is. Output made from other inputs is never
used: it is moved aside to PATH.old, and the stage runs from the start.
``end`` records what was written and how long it took; ``note`` records facts of
the whole run. Both go to DIR/stages.json, for the report.

Only the standard library: this runs before every stage and must cost nothing.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path

RUN, SKIP = 0, 10
# Compared by name and size: large, and written once by our own tools.
_BULK = {".wav", ".flac", ".ark", ".npz", ".pth", ".png"}
_HASH_AT_MOST = 64 << 20


def fingerprint(path: Path, by_size: bool = False) -> str:
    """Return a digest of a file or of everything below a directory ("" if absent)."""
    if not path.exists():
        return ""
    digest = hashlib.sha256()
    files = (
        [path]
        if path.is_file()
        else sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    )
    for file in files:
        digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
        alone = path.is_file() and file.stat().st_size <= _HASH_AT_MOST
        if not by_size and (alone or file.suffix not in _BULK):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def write(path: Path, content: dict) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(part, path)


def read(path: Path) -> dict:
    return json.loads(path.read_text()) if path.exists() else {}


def changed(before: dict, now: dict) -> str:
    return ", ".join(k for k in sorted({*before, *now}) if before.get(k) != now.get(k))


def begin(name: str, folder: Path, inputs: list[str], outputs: list[str], params: list[str]) -> int:
    """Decide whether the stage has to run; say why if that is not obvious."""
    now = {path: fingerprint(Path(path)) for path in inputs}
    missing = [path for path, digest in now.items() if not digest]
    if missing:
        what = f"{missing[0]} is missing; run the stages before this one first"
        print(f"stage {name}: error: {what}", file=sys.stderr)
        return 2
    now |= dict(p.split("=", 1) for p in params)
    done, started = read(folder / f"{name}.done.json"), read(folder / f"{name}.started.json")
    why = changed(done["inputs"], now) if done else ""
    if done and not why:
        if done["outputs"] == {path: fingerprint(Path(path), by_size=True) for path in outputs}:
            return SKIP
        print(f"stage {name}: its output was changed or removed since; running it again")
    elif not done and started:
        why = changed(started["inputs"], now)
        if not why:
            print(f"stage {name}: was cut off; going on from what is there")
    if why:
        for path in filter(os.path.exists, outputs):
            shutil.rmtree(f"{path}.old", ignore_errors=True)
            os.replace(path, f"{path}.old")
        print(
            f"stage {name}: {why} changed since it ran; its output is stale, moved to *.old; running it again"
        )
    (folder / f"{name}.done.json").unlink(missing_ok=True)
    write(folder / f"{name}.started.json", {"inputs": now, "outputs": outputs, "time": time.time()})
    return RUN


def end(name: str, folder: Path) -> int:
    """Record a completed stage."""
    started = read(folder / f"{name}.started.json")
    started["seconds"] = round(time.time() - started.pop("time"), 1)
    started["outputs"] = {p: fingerprint(Path(p), by_size=True) for p in started["outputs"]}
    write(folder / f"{name}.done.json", started)
    (folder / f"{name}.started.json").unlink()
    return note(folder, stages={name: started["seconds"]})


def note(folder: Path, stages: dict[str, float] | None = None, **facts: str) -> int:
    """Add facts of the run, or the seconds of a stage, to stages.json."""
    path = folder.parent / "stages.json"
    known = read(path)
    if "setup" in facts:  # an environment that was there already took no time: keep the longest
        stages = {"setup": max(float(facts.pop("setup")), known.get("stages", {}).get("setup", 0.0))}
    write(path, {**known, **facts, "stages": {**known.get("stages", {}), **(stages or {})}})
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("action", choices=["begin", "end", "note"])
    parser.add_argument("name", nargs="?")
    parser.add_argument("--exp", type=Path, required=True)
    parser.add_argument("--in", dest="inputs", nargs="*", default=[])
    parser.add_argument("--out", dest="outputs", nargs="*", default=[])
    parser.add_argument("--param", dest="params", nargs="*", default=[])
    args = parser.parse_args()
    folder = args.exp / "stages"
    folder.mkdir(parents=True, exist_ok=True)
    if args.action == "note":
        return note(folder, **dict(p.split("=", 1) for p in args.params))
    if args.action == "end":
        return end(args.name, folder)
    return begin(args.name, folder, args.inputs, args.outputs, args.params)


if __name__ == "__main__":
    sys.exit(main())
