"""The repository keeps the shape that CONTRIBUTING promises."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "frontend"

# From the ground up: a module imports from its own layer or from those before it.
LAYERS = [
    {
        "frontend",
        "errors",
        "rng",
        "atomic",
        "parallel",
        "download",
        "intervals",
        "seed_intervals",
        "yaml_file",
        "text_file",
        "precision",
    },
    {
        "audio",
        "stream_files",
        "tables",
        "validate",
        "datadir",
        "dry_speech",
        "text_normaliser",
        "activity",
        "segment_files",
        "speech_level",
        "speech_sets",
    },
    {"scene_yaml", "scene_config", "scene_check", "scene_pairs", "scene_noise", "scenes", "meeting_scenes"},
    {
        "noise",
        "rirs",
        "simulate",
        "simulate_set",
        "conditions",
        "meetings",
        "meeting_set",
        "virtual",
        "virtual_set",
    },
    {
        "spatial",
        "mixit",
        "metrics",
        "over_separation",
        "partitions",
        "signatures",
        "stitching",
        "pseudo_targets",
        "blind",
        "refine",
    },
    {
        "geometry",
        "wave_blocks",
        "recordings",
        "recording_set",
        "speech_spans",
        "chunks",
        "spatial_consistency",
        "field_measures",
    },
    {"separators", "mixing", "criteria", "schedule", "iterators", "resume", "espnet"},
    {"task", "packing", "separate", "continuous", "separate_files", "systems", "streams", "score"},
    {"token_list", "train_checks", "train_door", "train_config", "asr_task", "asr_config", "asr_prepare"},
    {"recogniser_files", "decode_options", "vocabulary", "recognise", "hypotheses", "alignments", "wer"},
    {"joint_data", "joint_task", "joint_config", "joint_export"},
    {
        "separate_job",
        "separate_set",
        "label_set",
        "recognise_file",
        "asr_data",
        "long_streams",
        "stream_choice",
        "long_score",
    },
    {"decode_cache", "decode_rows", "decode_job", "decode", "wer_set", "long_words", "long_wer"},
    {
        "results",
        "counting",
        "word_results",
        "agreement",
        "curves",
        "provenance",
        "training_facts",
        "run_facts",
    },
    {"markdown", "word_plot", "terminal", "page", "page_words", "page_counting"},
    {"listen_choice", "listen_examples", "listen_media", "listen_source"},
    {"listen_html", "listen_table", "listen_figures", "listen_page", "listen"},
    {"adaptation", "mixit_validation", "separate_long", "field_page", "field_report"},
    {"report", "mismatch", "page_mismatch"},
    {
        "claims_data",
        "claims_systems",
        "claims_tables",
        "claims_page",
        "claims_plot",
        "claims",
        "compare_runs",
    },
    {"bin"},
]
HEIGHT = {name: height for height, layer in enumerate(LAYERS) for name in layer}


def _unit(path: Path) -> str:
    part = path.relative_to(PACKAGE).parts[0]
    return "frontend" if part == "__init__.py" else part.removesuffix(".py")


def _imports(path: Path) -> set[str]:
    """Units of the package that a module imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {n.split(".")[1] for n in names if n.startswith("frontend.") and n.split(".")[1] in HEIGHT}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downward(path):
    unit = _unit(path)
    assert unit in HEIGHT, f"{unit} has no layer in this test: decide where it stands"
    upward = {other for other in _imports(path) if HEIGHT[other] > HEIGHT[unit]}
    assert not upward, f"{unit} imports {upward}, which stand above it"


def test_light_modules_stay_light():
    """Data directories and scenes are text: they start without torch and ESPnet."""
    code = "import sys, frontend.data.mixtures, frontend.simulation.scenes; sys.exit('torch' in sys.modules)"
    assert subprocess.run(["python", "-c", code], cwd=ROOT).returncode == 0


def test_files_and_functions_fit_a_screen():
    long = []
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "egs").rglob("local/*.py"), *(ROOT / "local").glob("*.py")]:
        text = path.read_text()
        if text.count("\n") > 300:
            long.append(f"{path.name}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno > 70:
                long.append(f"{path.name}: {node.name}")
    assert not long


def test_recipes_are_thin():
    for recipe in (ROOT / "egs").glob("*/run.sh"):
        assert recipe.read_text().count("\n") <= 25, recipe


def test_every_command_explains_itself():
    """Each command has a docstring for --help and ends through errors.run."""
    for path in (PACKAGE / "bin").glob("[a-z]*.py"):
        text = path.read_text()
        assert ast.get_docstring(ast.parse(text)), path
        assert re.search(r"^    run\(main\)$", text, re.M), path
