"""Setting up: which environment is taken, what a failure says. With a script in place of Python and uv."""

import fcntl
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _repository(place: Path, python: str) -> Path:
    """A repository with nothing but the set-up, whose .venv has the given script for a python."""
    (place / "local").mkdir(parents=True)
    for name in ("install.sh", "check_install.py", "overrides.txt", "constraints.txt"):
        shutil.copy(ROOT / "local" / name, place / "local")
    shutil.copy(ROOT / "setup.cfg", place)
    program = place / ".venv/bin/python"
    program.parent.mkdir(parents=True)
    program.write_text("#!/usr/bin/env bash\n" + textwrap.dedent(python))
    program.chmod(0o755)
    return place / "local/install.sh"


def _environment(**more: str) -> dict[str, str]:
    own = {
        k: v
        for k, v in os.environ.items()
        if k not in ("VIRTUAL_ENV", "CONDA_PREFIX", "UV_FIND_LINKS", "MIXIT_VENV")
    }
    return {**own, "PYTHON": sys.executable, **more}


def _install(script: Path, *options: str, **more: str) -> subprocess.CompletedProcess:
    return subprocess.run([script, *options], capture_output=True, text=True, env=_environment(**more))


# Says what uv says of $SAID; nothing is ever complete until uv succeeded.
FAILING = """\
    case "$*" in
      *check_install.py*) [ -e "$(dirname "$0")/installed" ] ;;
      *"uv pip install"*) echo "$*" "$UV_FIND_LINKS" >> "$(dirname "$0")/calls"
        [ -z "$SAID" ] || case "$*" in *--torch-backend*) echo "$SAID"; exit 1 ;; esac
        touch "$(dirname "$0")/installed" ;;
    esac
    """


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("pesq/cypesq.c:33: fatal error: Python.h: No such file or directory", "apt-get install python3-dev"),
        ("error: command 'x86_64-linux-gnu-g++' failed: No such file or directory", "apt-get install g++"),
        ("error: [Errno 2] No such file or directory: 'cc'", "apt-get install g++"),
        ("Failed to fetch: `https://pypi.org/simple/espnet/`", "check the network"),
        ("No solution found when resolving dependencies", "uv could not install"),
    ],
)
def test_a_failed_installation_says_what_to_do(tmp_path, output, message):
    script = _repository(tmp_path, FAILING)
    done = _install(script, SAID=output, PIP_FIND_LINKS=str(tmp_path))
    assert done.returncode == 2 and done.stdout == ""
    assert output in done.stderr and message in done.stderr.splitlines()[-1]
    assert len((tmp_path / ".venv/bin/calls").read_text().splitlines()) == 1


def test_torch_from_pypi_only_if_its_index_cannot_be_reached(tmp_path):
    output = "cause: Failed to fetch: https://download.pytorch.org/whl/cpu/torch/"
    done = _install(_repository(tmp_path, FAILING), SAID=output, PIP_FIND_LINKS=f"{tmp_path}/a  {tmp_path}/b")
    assert done.returncode == 0 and "PyTorch's index cannot be reached" in done.stderr
    calls = (tmp_path / ".venv/bin/calls").read_text().splitlines()
    assert ["--torch-backend" in call for call in calls] == [True, False]
    assert all(call.endswith(f" {tmp_path}/a,{tmp_path}/b") for call in calls)


def test_a_second_set_up_is_not_entered_whatever_the_extras(tmp_path):
    script = _repository(tmp_path, FAILING)
    for number, extras in enumerate(("mini", "mini,test,lint", "mini")):
        done = _install(script, "--extras", extras, SAID="")
        assert done.returncode == 0 and done.stdout.strip() == str(tmp_path / ".venv/bin")
        assert ("setting up" in done.stderr) == (number == 0)
    (tmp_path / "setup.cfg").write_text((tmp_path / "setup.cfg").read_text() + "\n# changed\n")
    assert "setting up" in _install(script, SAID="").stderr


# Says that it cannot build packages if $UNFIT names it; makes environments whose python is $MADE.
CANDIDATE = """\
    #!/usr/bin/env bash
    case "$*" in
      *Python.h*) case "$UNFIT" in *"$(basename "$0")"*) exit 1 ;; esac ;;
      "-m venv "*) basename "$0" >> "$MADE.by"; mkdir -p "$3/bin"; cp "$MADE" "$3/bin/python" ;;
    esac
    """


@pytest.mark.parametrize(
    ("unfit", "named", "taken"),
    [
        ("", "", "python3.13"),
        ("python3.13", "", "python3.12"),
        ("python3.13 python3.12", "", "python3.11"),
        ("python3.13 python3.12 python3.11", "", "python3"),
        ("python3.12", "python3.12", "python3.12"),
    ],
)
def test_the_newest_python_that_can_build_packages_is_taken(tmp_path, unfit, named, taken):
    script = _repository(tmp_path / "repository", FAILING)
    made = (tmp_path / "repository/.venv").rename(tmp_path / "made") / "bin/python"
    for name in ("python3.13", "python3.12", "python3.11", "python3"):
        (tmp_path / name).write_text(textwrap.dedent(CANDIDATE))
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = _install(script, PATH=path, PYTHON=named, UNFIT=unfit, MADE=str(made), SAID="")
    assert done.returncode == 0, done.stderr
    assert Path(f"{made}.by").read_text().split() == [taken]


def test_an_environment_elsewhere_is_made_beside_an_active_one(tmp_path):
    script = _repository(tmp_path, FAILING)
    there = (tmp_path / ".venv").rename(tmp_path / "there")
    done = _install(script, VIRTUAL_ENV=sys.prefix, MIXIT_VENV=str(there), SAID="")
    assert done.returncode == 0 and done.stdout.strip() == str(there / "bin")


@pytest.mark.parametrize("complete", [True, False])
def test_an_active_environment_is_used_if_complete(tmp_path, complete):
    script = _repository(tmp_path, FAILING)
    python = tmp_path / "env/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\nexit {int(not complete)}\n")
    python.chmod(0o755)
    done = _install(script, VIRTUAL_ENV=str(tmp_path / "env"), SAID="")
    assert done.returncode == 0
    assert done.stdout.strip() == str(tmp_path / ("env/bin" if complete else ".venv/bin"))


def test_two_set_ups_take_turns(tmp_path):
    script = _repository(tmp_path, FAILING)
    with open(tmp_path / ".venv.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = subprocess.Popen(
            [script],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=_environment(SAID=""),
        )
        assert "waiting for it" in waiting.stderr.readline()
        assert not (tmp_path / ".venv/bin/calls").exists()
    assert "setting up" in waiting.communicate()[1] and waiting.returncode == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["mini"], "found 'mini', expected --extras mini,test,lint or nothing"),
        (["--extra", "mini"], "found '--extra mini'"),
        (["--extras"], "found '--extras'"),
        (["--extras", "mini,tests"], "unknown extra 'tests'; setup.cfg has mini, test, lint"),
    ],
)
def test_install_misuse(tmp_path, options, message):
    done = _install(_repository(tmp_path, "exit 1\n"), *options)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1


MATRIX = """\
    #!/bin/sh
    /bin/mkdir -p "$MIXIT_VENV/bin" && /bin/cp "$0.python" "$MIXIT_VENV/bin/python"
    """
MATRIX_PYTHON = """\
    #!/bin/sh
    case "$*" in *pytest*) echo "3 passed, 1 xfailed in 2.00s" ;; *) echo 3.12.1 202611 2.13.0 ;; esac
    """


def test_the_matrix_has_a_row_for_each_python_that_runs(tmp_path):
    (tmp_path / "local").mkdir()
    shutil.copy(ROOT / "local/test_matrix.py", tmp_path / "local")
    scripts = {"local/install.sh": MATRIX, "local/install.sh.python": MATRIX_PYTHON}
    scripts |= {
        "versions/3.12.1/bin/python": "#!/bin/sh\n",
        "versions/3.13.0/bin/python": "#!/bin/sh\nexit 1\n",
    }
    for name, text in scripts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text))
        (tmp_path / name).chmod(0o755)
    command = [sys.executable, tmp_path / "local/test_matrix.py"]
    own = {"PATH": str(tmp_path), "PYENV_ROOT": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=own)
    assert done.returncode == 0, done.stderr
    _, _, *rows = done.stdout.splitlines()
    assert len(rows) == 1 and rows[0].startswith("| 3.12.1 | 202611 | 2.13.0 | ")
    assert rows[0].endswith("| 3 passed, 1 xfailed |") and (tmp_path / ".venv312/bin/python").exists()
    none = subprocess.run(command, capture_output=True, text=True, env=own | {"PYENV_ROOT": "/nowhere"})
    assert none.returncode == 2 and "no Python 3.11 to 3.13 here" in none.stderr


def test_another_package_called_frontend_is_not_ours(tmp_path):
    def check(package: Path) -> str:
        environment = {**os.environ, "PYTHONPATH": str(package)}
        command = [sys.executable, ROOT / "local/check_install.py", ROOT, "mini"]
        return subprocess.run(command, capture_output=True, text=True, env=environment).stdout

    (tmp_path / "frontend").mkdir()
    (tmp_path / "frontend/__init__.py").write_text("")
    assert f"expected the package frontend of {ROOT}" in check(tmp_path)
    assert "the package frontend" not in check(ROOT)
