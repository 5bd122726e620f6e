"""Large archives from a web server: resumed where cut off, checked, unpacked whole or not at all."""

import gzip
import hashlib
import http.client
import os
import platform
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from pathlib import Path

from frontend.utils.errors import UserError
from frontend.utils.parallel import Progress

_CHUNK = 1 << 20
_TIMEOUT_S = 60.0
_FRUITLESS_TRIES = 3  # in a row, without one byte more
_AGAIN = "run the same command again to go on"


def check_unpacking() -> None:
    """Raise UserError where :func:`unpack` could not work: before gigabytes are fetched."""
    # Asked for by name: distributions brought the filters to releases that were older.
    if not hasattr(tarfile, "data_filter"):
        raise UserError(
            f"expected Python 3.10.12, 3.11.4 or newer, whose tarfile unpacks safely; found "
            f"{platform.python_version()} (take a newer one, or download and unpack the corpus yourself)"
        )


def fetch(url: str, path: Path, md5: str, wait_s: float = 5.0) -> None:
    """Download ``url`` to ``path``; what an earlier try left in ``path.part`` is gone on from.

    Args:
        url: http or https.
        path: file to write; it appears when complete and correct. One that is there is not checked again.
        md5: of the content, hexadecimal.
        wait_s: seconds before another try.

    Raises:
        UserError: no such file on the server, the connection was lost ``_FRUITLESS_TRIES`` times in a row
            without progress, or the checksum is another (the file is then kept as ``path.corrupt``).
    """
    if path.exists():
        return
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    fruitless = 0
    while True:
        before = _size(part)
        trouble = _receive(url, part)
        if not trouble:
            break
        fruitless = fruitless + 1 if _size(part) <= before else 0
        if fruitless >= _FRUITLESS_TRIES:
            raise UserError(f"{url}: {trouble} after {_size(part)} bytes; {_AGAIN}")
        time.sleep(wait_s)
    found = _md5(part)
    if found != md5:
        aside = path.with_name(path.name + ".corrupt")
        os.replace(part, aside)
        raise UserError(
            f"{url}: expected the MD5 sum {md5}, found {found}; kept aside as {aside} "
            f"(delete it; {_AGAIN} from the start)"
        )
    os.replace(part, path)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _receive(url: str, part: Path) -> str:
    """Append what is left of ``url`` to ``part``; return what went wrong, "" if it is complete."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            # 200 to a request for the rest: a server that knows no ranges sends it all again.
            start = have if answer.status == 206 else 0
            length = answer.headers.get("Content-Length")
            total = None if length is None else start + int(length)
            _copy(answer, part, start, total, url)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            return ""  # nothing is left to ask for: complete, or the checksum will tell
        if error.code < 500:
            raise UserError(
                f"{url}: expected a file, the server says {error.code} {error.reason} (check the URL)"
            ) from None
        return f"the server says {error.code} {error.reason}"
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        return f"connection lost ({getattr(error, 'reason', error)})"
    short = total is not None and _size(part) < total
    return "connection lost" if short else ""


def _copy(answer: http.client.HTTPResponse, part: Path, start: int, total: int | None, url: str) -> None:
    steps = -(-total // _CHUNK) if total else 0
    shown = Progress(steps, url.rsplit("/", 1)[-1], start // _CHUNK, "MiB")
    with open(part, "r+b" if start else "wb") as file:
        file.seek(start)
        while chunk := answer.read(_CHUNK):
            file.write(chunk)
            shown.step()
    shown.close()


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def read_checksums(url: str, wait_s: float = 5.0) -> dict[str, str]:
    """Return the list of checksums at ``url`` (``MD5  NAME`` a line): name -> MD5.

    Raises:
        UserError: no such list, or something else in its place.
    """
    for _ in range(_FRUITLESS_TRIES):
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
                lines = answer.read().decode("utf-8", "replace").splitlines()
            break
        except urllib.error.HTTPError as error:
            raise UserError(
                f"{url}: expected a list of checksums, the server says {error.code} {error.reason} "
                "(check the URL)"
            ) from None
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            trouble = getattr(error, "reason", error)
            time.sleep(wait_s)
    else:
        raise UserError(f"{url}: no connection ({trouble}); check network and URL, then {_AGAIN}")
    words = [line.split() for line in lines if line.strip()]
    if not words or any(len(w) != 2 or len(w[0]) != 32 for w in words):
        raise UserError(f"{url}: expected 'MD5 NAME' a line, found something else (check the URL)")
    return {name.lstrip("*").removeprefix("./"): md5 for md5, name in words}


def unpack(archive: Path, out: Path, folder: str) -> None:
    """Unpack the folder ``folder`` of a tar archive to ``out/NAME``, whole or not at all.

    Files that lie beside it in the archive (a README, a table of speakers) go to ``out`` as well, where
    there are none yet.

    Args:
        archive: ``.tar.gz``.
        out: directory.
        folder: path inside the archive, such as ``LibriSpeech/dev-clean``.

    Raises:
        UserError: a damaged archive, or one without ``folder``.
    """
    place = out / Path(folder).name
    with tempfile.TemporaryDirectory(dir=out, prefix=f".{place.name}.") as aside:
        try:
            _extract(archive, aside)
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(
                f"{archive}: damaged archive: {error} (delete it and download it again)"
            ) from None
        inside = Path(aside) / folder
        if not inside.is_dir():
            raise UserError(
                f"{archive}: expected {folder} in it, found none (delete it and download it again)"
            )
        for beside in inside.parent.iterdir():
            if beside.is_file() and not (out / beside.name).exists():
                os.replace(beside, out / beside.name)
        os.replace(inside, place)


def _extract(archive: Path, directory: str) -> None:
    shown = Progress(-(-archive.stat().st_size // _CHUNK), f"unpack {archive.name}", unit="MiB")
    with open(archive, "rb") as packed, gzip.open(packed) as plain:
        # Not mode "r|gz": tarfile's own reader leaves gzip's checksum unread.
        with tarfile.open(fileobj=plain, mode="r|") as tar:
            for member in tar:
                # "data" keeps every member inside the directory and refuses devices and the like.
                tar.extract(member, directory, filter="data")
                while shown.done < packed.tell() // _CHUNK:
                    shown.step()
        while plain.read(_CHUNK):
            pass  # to the end, where the checksum is
    shown.close()
