"""A full disk and a read-only one, for real: one line, exit code 2, nothing half-written."""

import subprocess

import pytest

SYSTEMS = "student: {model: student}\nteacher_energy: {model: teacher, rule: energy}\n"


@pytest.fixture
def disk(tmp_path):
    """Mount a small disk of its own: ``disk(size, read_only)``; skipped where that is not allowed."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(size: str, read_only: bool = False):
        options = f"size={size}" + (",ro" if read_only else "")
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True)
        if done.returncode:
            pytest.skip("mounting a small tmpfs is not allowed here")
        return place

    yield mount
    subprocess.run(["umount", "--lazy", place], capture_output=True)


def _commands(models, data, systems, out):
    """The commands that write a lot, each with where its result would lie."""
    return [
        ("separate", [*data.glob("audio/wav/*.wav"), "--model", models / "student", "-o", out / "streams"]),
        (
            "label",
            ["--model", models / "student", "--data", data, "--out", out / "set", "--rule", "all"],
        ),
        (
            "separate",
            ["--systems", systems, "--exp", models, "--data", data, "--out", out / "separated", "--nj", "1"],
        ),
        ("pack", ["--model", models / "student", "--out", out / "student.zip"]),
    ]


@pytest.mark.parametrize(
    ("size", "read_only", "reason"), [("8k", False, "No space left"), ("1m", True, "Read-only")]
)
def test_one_line_and_nothing_half_written(models, data, tmp_path, disk, command, size, read_only, reason):
    systems = tmp_path / "systems.yaml"
    systems.write_text(SYSTEMS)
    place = disk(size, read_only)
    for name, arguments in _commands(models, data, systems, place):
        code, _, err = command(name, *arguments)
        assert code == 2 and reason in err, (name, err)
        # What is there under a final name is whole: no part of a recording, no table of missing files.
        left = [p for p in place.rglob("*") if p.is_file()]
        assert not [p for p in left if p.suffix == ".zip" or p.name == "info.json" or p.name == "wav.scp"]
        assert not [p for p in left if p.suffix == ".wav" and p.stat().st_size < 8000], left
        if not read_only:
            subprocess.run(["find", place, "-mindepth", "1", "-delete"], check=True)


def test_small_tables_too(data, disk, command):
    place = disk("4k")
    code, _, err = command("data subset", "--data", data, "--out", place / "a", "--num", "2")
    assert code == 2 and "No space left" in err
    assert not (place / "a").exists()


def test_scores_on_a_read_only_disk(data, tmp_path, disk, command):
    separated = tmp_path / "separated" / "mixture"
    separated.mkdir(parents=True)
    for k in (1, 2):
        (separated / f"spk{k}.scp").write_text((data / "wav.scp").read_text())
    place = disk("1m", read_only=True)
    arguments = ["--data", data, "--separated", separated.parent, "--out", place / "scores"]
    code, _, err = command("score", *arguments)
    assert code == 2 and len(err.splitlines()) == 1
