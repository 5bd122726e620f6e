"""Print the options that make a training configuration one of another sampling rate.

usage: at_rate.py FS CONFIG.yaml

Windows and hops stay as long in time as the configuration has them, and a batch that is counted in
samples holds as many seconds. Nothing is printed where the configuration is of that rate.
"""

import sys
from collections.abc import Iterator

from frontend.utils.errors import UserError, run
from frontend.utils.files import read_settings

_PARTS = ("encoder_conf", "decoder_conf", "frontend_conf")
_SAMPLES = ("n_fft", "win_length", "hop_length")


def options(config: str, fs: int) -> Iterator[str]:
    """Yield the options for ``fs`` Hz, words of a command line."""
    settings = read_settings(config, "training configuration")
    rates = {part: (settings.get(part) or {}).get("fs") for part in ("preprocessor_conf", "frontend_conf")}
    rates = {part: rate for part, rate in rates.items() if rate is not None}
    if len(set(rates.values())) != 1 or not all(type(rate) is int for rate in rates.values()):
        found = ", ".join(f"{part}: fs: {rate}" for part, rate in rates.items()) or "none"
        raise UserError(f"{config}: expected one sampling rate in Hz (preprocessor_conf: fs), found {found}")
    factor = fs / next(iter(rates.values()))
    if factor == 1:
        return
    for part in rates:
        yield from (f"--{part}", f"fs={fs}")
    for part in _PARTS:
        for key, samples in (settings.get(part) or {}).items():
            if key in _SAMPLES and samples is not None:
                yield from (f"--{part}", f"{key}={round(factor * samples)}")
    if "batch_bins" in settings:
        yield from ("--batch_bins", str(round(factor * settings["batch_bins"])))


def main() -> None:
    print(*options(sys.argv[2], int(sys.argv[1])))


if __name__ == "__main__":
    run(main)
