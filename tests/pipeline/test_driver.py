"""The options and stages of a toy driver that sources local/common.sh."""

import json
import shutil
import subprocess
import textwrap
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


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


SHARED = """\
    exp=exp/$nothing
    shared_in=common
    if stage one "the first" --out common/one; then
      touch begun
      until [ -e go ]; do sleep 0.05; done
      touch common/one
    fi
    if stage two "the second" --in common/one --out "$exp/two"; then
      touch "$exp/two"
    fi
    end_stage
    """


def test_what_experiments_share_one_makes_and_the_other_awaits(tmp_path):
    driver = _driver(tmp_path, SHARED)

    def start(name):
        command = [driver, "--nothing", name]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)

    with start("a") as maker:
        while not (tmp_path / "begun").exists():
            assert maker.poll() is None
            time.sleep(0.02)
        with start("b") as other:
            assert "waiting for another run" in other.stdout.readline()
            (tmp_path / "go").touch()
            assert "stage 1 one: the first" in maker.communicate()[0]
            assert "stage 1 one: complete" in other.communicate()[0]
    assert maker.returncode == other.returncode == 0
    for name in ("a", "b"):
        assert (tmp_path / "exp" / name / "two").exists()
        assert "two" in json.loads((tmp_path / f"exp/{name}/stages.json").read_text())["stages"]


def test_driver_stops_when_a_stage_cannot_be_recorded(tmp_path):
    """Also where the next `if stage` ends the stage before."""
    body = STAGES.replace("touch one\n", "touch one; rm exp/stages/one.started.json\n")
    done = _run(_driver(tmp_path, body))
    assert done.returncode == 2 and "one.started.json: missing" in done.stderr
    assert not (tmp_path / "two").exists()
