"""Fetch from OpenSLR 12 the subsets of LibriSpeech that a folder lacks: verified, resumed where cut off."""

import argparse
from pathlib import Path

from librispeech import SUBSETS

from frontend.download import check_unpacking, fetch, read_checksums, unpack
from frontend.utils.errors import UserError, run

BASE_URL = "https://www.openslr.org/resources/12"
# Of the archives as openslr.org/12 states them, in GB.
SIZES = {"train-clean-360": 23.0, "train-clean-100": 6.3, "dev-clean": 0.337, "test-clean": 0.346}


def download(root: Path, subsets: list[str], base_url: str = BASE_URL, wait_s: float = 5.0) -> None:
    """Fetch and unpack the subsets that are not in ``root`` yet: ``root/SUBSET``.

    An archive is deleted once it is unpacked; one that lies in ``root`` already is used.

    Raises:
        UserError: ``root`` is one of the subsets' own folders, no such file on the server, another
            checksum, a connection lost for good, a damaged archive, a Python that cannot unpack safely.
    """
    if root.name in SUBSETS.values():
        raise UserError(f"{root}: expected the folder to put {root.name} into (give {root.parent})")
    missing = [name for name in subsets if not (root / name).is_dir()]
    if not missing:
        print(f"{root}: {', '.join(subsets)} are there, nothing to download")
        return
    check_unpacking()
    sums = read_checksums(f"{base_url}/md5sum.txt", wait_s)
    for name in missing:
        archive = root / f"{name}.tar.gz"
        if archive.name not in sums:
            raise UserError(
                f"{base_url}/md5sum.txt: expected a line for {archive.name}, found none (check the URL)"
            )
    for name in missing:
        archive = root / f"{name}.tar.gz"
        print(f"{base_url}/{archive.name} -> {root / name}", flush=True)
        fetch(f"{base_url}/{archive.name}", archive, sums[archive.name], wait_s)
        unpack(archive, root, f"LibriSpeech/{name}")
        archive.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--corpus_dir", type=Path, required=True, help="folder for train-clean-360 ...; made if need be"
    )
    parser.add_argument("--base_url", default=BASE_URL, help="default: %(default)s")
    args = parser.parse_args()
    download(args.corpus_dir, list(SUBSETS.values()), args.base_url)


if __name__ == "__main__":
    run(main)
