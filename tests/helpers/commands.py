"""Commands run in this process, as a user runs them."""

from pathlib import Path

import click
import pytest

from frontend.cli import main, mixit


def exit_code(name: str, *arguments: object) -> int:
    """Run ``mixit NAME ARGUMENTS`` and return its exit code."""
    with pytest.raises(SystemExit) as stop:
        main([*name.split(), *map(str, arguments)])
    return int(stop.value.code or 0)


@pytest.fixture
def command(capfd):
    """Return a function that runs a command and gives exit code and outputs; a mistake must be one line."""

    def run(name: str, *arguments: object) -> tuple[int, str, str]:
        code = exit_code(name, *arguments)
        out, err = capfd.readouterr()
        if code:
            errors = [line for line in err.strip().splitlines() if not line.startswith("warning: ")]
            assert len(errors) == 1, err
        return code, out, err

    return run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in the test's own directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(name: str, *arguments: object) -> int | None:
    """Run a command and let its ``UserError`` through; return what it returns."""
    found: click.Command = mixit
    for part in name.split():
        found = found.get_command(click.Context(found), part)
    with found.make_context(f"mixit {name}", list(map(str, arguments))) as ctx:
        return click.Command.invoke(found, ctx)
