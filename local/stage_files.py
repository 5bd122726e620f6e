"""What stage.py does with files: compare, record, move, tidy up. Only the standard library."""

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

# Inside directories these are compared by name and size: large, and written once by our own tools.
_BULK = {".wav", ".flac", ".ark", ".npz", ".pth", ".png"}
# Of other files there: a corpus may lie beside its archives, which take minutes to read.
_HASH_AT_MOST = 64 << 20
_BLOCK = 1 << 20


def fingerprint(path: Path, by_size: bool = False) -> str:
    """Return a digest of a file or of everything below a directory ("" if absent)."""
    if not path.exists():
        return ""
    digest, alone = hashlib.sha256(), path.is_file()
    inside = () if alone else (p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    for file in [path] if alone else sorted(inside):
        found = file.stat()
        digest.update(f"{file.relative_to(path)}\0{found.st_size}\0".encode())
        if by_size or (file.suffix in _BULK and not alone):
            continue
        if alone or found.st_size <= _HASH_AT_MOST:
            _add_content(digest, file)
        else:
            digest.update(f"{found.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _add_content(digest, file: Path) -> None:
    with open(file, "rb") as opened:
        while block := opened.read(_BLOCK):
            digest.update(block)


def sizes(paths: list[str]) -> dict[str, str]:
    return {path: fingerprint(Path(path), by_size=True) for path in paths}


def write(path: Path, content: dict) -> None:
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise OSError(errno.EINVAL, "not as stage.py wrote it; remove it", str(path)) from error


def remove(path: str | Path) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        Path(path).unlink(missing_ok=True)


def number(path: str) -> int:
    """Return the file's number (0: none), which it keeps when it is renamed."""
    return os.stat(path).st_ino if os.path.exists(path) else 0


def exchange(a: str, b: str) -> None:
    """Let two paths change places; either may be absent."""
    aside = f"{b}.old"
    remove(aside)
    for source, target in ((a, aside), (b, a), (aside, b)):
        if os.path.exists(source):
            os.replace(source, target)


def remove_left_over(outputs: list[str]) -> None:
    """Remove the ``.NAME.PID.part`` (frontend/atomic.py) of processes that are no more."""
    for path in map(Path, outputs):
        for part in [*path.parent.glob(".*.part"), *path.rglob(".*.part")]:
            pid = re.search(r"\.(\d+)\.part$", part.name)
            if pid and not alive(int(pid[1])):
                remove(part)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return True


def commit() -> str:
    """Return the commit of the checkout, marked if files were changed since; "" outside one."""
    here = ["git", "-C", str(Path(__file__).parent)]
    try:
        found = subprocess.run([*here, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        # Results are written while they are made; they do not make the code another one.
        code = [":(top)*.py", ":(top)*.sh", ":(top)*.yaml"]
        status = [*here, "status", "--porcelain", "--untracked-files=no", "--", *code]
        dirty = subprocess.run(status, capture_output=True, text=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip() + ("+changes" if dirty else "")
