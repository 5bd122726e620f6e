"""The options and stages of a toy driver that sources local/common.sh."""

import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _driver(place: Path, body: str) -> Path:
    """A driver of two options and the stages of ``body``, beside copies of the shared scripts."""
    (place / "local").mkdir()
    for name in ("common.sh", "stage.py", "stage_files.py"):
        shutil.copy(ROOT / "local" / name, place / "local")
    head = """\
        #!/usr/bin/env bash
        # What the toy does.
        # shellcheck disable=SC2034
        set -u
        # Not part of the header.
        driver=$(cd "$(dirname "$0")" && pwd)/run.sh root=$(dirname "$0")
        # options
        first=1           # first stage
        last=$((1 + 1))   # last stage
        nothing=          # nothing
        # internal
        secret=x          # for scripts
        # end of options
        . "$root/local/common.sh"
        parse_options "$@"
        first_stage=$(stage_number "$first")
        last_stage=$(stage_number "$last")
        exp=$root/exp
        cd "$root"
        """
    run = place / "run.sh"
    run.write_text(textwrap.dedent(head) + textwrap.dedent(body))
    run.chmod(0o755)
    return run


STAGES = """\
    if stage one "the first" --out one; then
      touch one
    fi
    if stage two "the second" --in one --out two; then
      touch two
    fi
    end_stage
    echo "secret $secret"
    """


def _run(driver: Path, *options: str) -> subprocess.CompletedProcess:
    return subprocess.run([driver, *options], capture_output=True, text=True, cwd=driver.parent)


def test_driver_runs_and_skips(tmp_path):
    driver = _driver(tmp_path, STAGES)
    first, second = _run(driver, "--secret", "y"), _run(driver)
    assert first.returncode == second.returncode == 0, first.stderr
    assert "secret y" in first.stdout and "stage 2 two: the second" in first.stdout
    assert second.stdout.count("complete, nothing to do") == 2
    assert _run(driver, "--list").stdout.split() == "1 one the first 2 two the second".split()


def test_driver_help(tmp_path):
    text = _run(_driver(tmp_path, STAGES), "--first", "2", "--help").stdout
    assert text.startswith("What the toy does.\n\noptions:\n")
    assert "shellcheck" not in text and "secret" not in text
    assert "--first [1]" in text and "--last [2]" in text  # evaluated, and the default


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fist", "1"], "unknown option --fist (did you mean first?)"),
        (["--f....", "1"], "unknown option --f...."),
        (["--secre", "1"], "unknown option --secre; "),  # what is internal is not proposed
        (["--first", "o.e"], "unknown stage 'o.e' (did you mean one?)"),
        (["--first", "3"], "unknown stage '3'"),
        (["--first"], "needs a value"),
    ],
)
def test_driver_misuse(tmp_path, options, message):
    done = _run(_driver(tmp_path, STAGES), *options)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1


def test_driver_stops_when_a_stage_cannot_be_recorded(tmp_path):
    """Also where the next `if stage` ends the stage before."""
    body = STAGES.replace("touch one\n", "touch one; rm exp/stages/one.started.json\n")
    done = _run(_driver(tmp_path, body))
    assert done.returncode == 2 and "one.started.json: missing" in done.stderr
    assert not (tmp_path / "two").exists()
