"""The repository keeps the shape that CONTRIBUTING promises."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "frontend"
# A room imports from itself and from those before it, never from those after it.
ROOMS = (
    "utils dsp data simulation networks training separation recognition evaluation report pipeline cli"
).split()
FILES = sorted(PACKAGE.rglob("*.py"))


def _room(path: Path) -> str | None:
    """The room of a module; None for the package itself."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else None


def _imported_rooms(path: Path) -> set[str]:
    """Rooms that a module imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("frontend.")}
    return found & set(ROOMS)


def test_the_rooms_are_these():
    found = {path.parent.name for path in PACKAGE.glob("*/*.py")}
    assert found == set(ROOMS)
    for room in ROOMS:
        assert ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text())), room


def test_the_page_on_the_architecture_lists_all_modules():
    text = (ROOT / "docs/architecture.md").read_text()
    listed = {
        room: names.split() for room, names in re.findall(r"^\| `(\w+)` \|.*\| `([^`]*)` \|$", text, re.M)
    }
    assert list(listed) == ROOMS
    for room, names in listed.items():
        found = {path.stem for path in (PACKAGE / room).glob("*.py")} - {"__init__"}
        assert sorted(names) == sorted(found), room


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downward(path):
    room = _room(path)
    if room is None:
        return
    upward = {other for other in _imported_rooms(path) if ROOMS.index(other) > ROOMS.index(room)}
    assert not upward, f"{room} imports {upward}, which come after it"


def test_few_pairs_of_rooms_import_one_another():
    pairs = {(_room(path), other) for path in FILES for other in _imported_rooms(path)}
    assert len({(a, b) for a, b in pairs if a is not None and a != b}) <= 45


def test_rooms_and_files_stay_small():
    for room in ROOMS:
        modules = [path for path in (PACKAGE / room).rglob("*.py") if path.name != "__init__.py"]
        assert len(modules) <= 9, room
    long = []
    for path in [*FILES, *(ROOT / "egs").rglob("local/*.py"), *(ROOT / "local").glob("*.py")]:
        text = path.read_text()
        if text.count("\n") > 450:
            long.append(f"{path.relative_to(ROOT)}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno > 70:
                long.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert not long


@pytest.mark.parametrize("room", ROOMS)
def test_only_training_needs_espnet(room):
    """ESPnet takes 8 s to import: only the networks and the training of one do it at once."""
    allowed = {"networks", "training/criteria", "training/examples", "training/task", "training/checks"}
    allowed |= {"recognition/training", "recognition/joint", "utils/espnet"}
    modules = [
        f"frontend.{room}.{path.stem}"
        for path in (PACKAGE / room).glob("*.py")
        if path.name != "__init__.py" and not {room, f"{room}/{path.stem}"} & allowed
    ]
    code = f"import sys, importlib; [importlib.import_module(m) for m in {modules}]; "
    code += "sys.exit('espnet2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_data_scenes_and_decoding_start_without_torch():
    code = "import sys, frontend.data.kaldi, frontend.data.mixtures, frontend.simulation.scenes; "
    code += "import frontend.recognition.decode; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_shell_is_thin():
    assert (ROOT / "run.sh").read_text().count("\n") <= 40
    scripts = [ROOT / "run.sh", *(ROOT / "local").glob("*.sh"), *(ROOT / "egs").glob("*/run.sh")]
    scripts += (ROOT / "egs").glob("*/local/*.sh")
    assert sum(path.read_text().count("\n") for path in scripts) < 170
