"""The systems of a table, each over one test set, with tiny untrained networks."""

import functools
import itertools
import json
import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from kills import exit_code, kill_at_call
from recipes import write_resolved
from tiny_models import FS, OUTPUTS, make_data, make_model, recording, write

from frontend import PRETRAINED
from frontend.data.audio import read_audio
from frontend.data.kaldi import read_scp
from frontend.data.mixtures import MixtureSet
from frontend.dsp.blind import separate_blind
from frontend.dsp.refine import refine
from frontend.separation import loop
from frontend.separation.model import Separator
from frontend.separation.pseudo_targets import select
from frontend.separation.sets import separate
from frontend.separation.systems import System, load_systems
from frontend.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]

SYSTEMS = """
mixture: {}
auxiva: {blind: auxiva, window: 0.032, iterations: 3}
teacher_energy: {model: teacher, rule: energy}
teacher_spatial_merge: {model: teacher, rule: spatial_merge, window: 0.016}
teacher_spatial_merge+mvdr: {model: teacher, rule: spatial_merge, window: 0.016, refine: mvdr}
teacher_oracle: {model: teacher, rule: oracle}
student: {model: student, labels: small}
student+mvdr: {model: student, refine: mvdr}
oracle: {}
"""


def _streams(directory: Path, utterance: str, kind: str = "spk") -> torch.Tensor:
    tables = [read_scp(p) for p in sorted(directory.glob(f"{kind}*.scp"))]
    return torch.from_numpy(np.stack([read_audio(t[utterance])[0][0] for t in tables]))


def rows(folder: Path, *names: str) -> list[System]:
    return [system for system in load_systems(folder / "systems.yaml") if system.name in names]


def _stamps(out: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("*/stamp.json")}


@pytest.fixture(scope="module")
def separated(models, tmp_path_factory):
    """All systems over a labelled set, by two processes: the arguments of the command."""
    root = tmp_path_factory.mktemp("separated")
    data = make_data(root / "data")
    (root / "systems.yaml").write_text(SYSTEMS)
    systems = load_systems(root / "systems.yaml")
    separate(systems, models, data, root / "out", nj=2)
    return root


def test_every_system_writes_the_streams_it_stands_for(models, separated):
    out, mixtures = separated / "out", MixtureSet(separated / "data")
    assert {p.name for p in out.iterdir()} == {
        ".outputs",
        *(s.name for s in load_systems(separated / "systems.yaml")),
    }
    assert not list(out.rglob("*.mixit-part"))
    teacher, student = (Separator.from_pretrained(models / name) for name in ("teacher", "student"))
    for utterance in mixtures.ids:
        x, references = (
            torch.from_numpy(a) for a in (mixtures.mixture(utterance)[0], mixtures.references(utterance))
        )
        y, z = (torch.from_numpy(s(x.numpy(), FS)) for s in (teacher, student))
        merged = select(y, 2, "spatial_merge", x, window=0.016)
        expected = {
            "mixture": x[:1].expand(2, -1),
            "teacher_energy": select(y, 2, "energy"),
            "teacher_spatial_merge": merged,
            "teacher_spatial_merge+mvdr": refine(merged, x, 8000, "mvdr"),
            "teacher_oracle": select(y, 2, "oracle", references=references),
            "student": z,
            "student+mvdr": refine(z, x, 8000, "mvdr"),
            "oracle": references,
        }
        for name, streams in expected.items():
            torch.testing.assert_close(_streams(out / name, utterance), streams, rtol=1e-4, atol=1e-6)
        for name in ("teacher_energy", "teacher_spatial_merge+mvdr"):
            torch.testing.assert_close(_streams(out / name, utterance, "raw"), y, rtol=1e-4, atol=1e-6)
    assert not list((out / "student").glob("raw*.scp"))
    info = {name: json.loads((out / name / "info.json").read_text()) for name in expected}
    assert info["teacher_energy"]["n_outputs"] == OUTPUTS and info["student"]["n_outputs"] == 2
    assert info["student"]["peak_memory_mib"] > 50 and info["mixture"]["rtf"] is None
    assert info["student"]["seconds"] == pytest.approx((4000 + 4100 + 4200) / FS, abs=1e-3)


def test_the_number_of_processes_changes_nothing(models, separated, tmp_path):
    systems = load_systems(separated / "systems.yaml")
    separate(systems, models, separated / "data", tmp_path / "out", nj=1)
    for path in tmp_path.rglob("*.wav"):
        other = separated / path.relative_to(tmp_path)
        assert path.read_bytes() == other.read_bytes(), path


def test_cost_is_that_of_the_network_and_of_what_follows_it(models, data, tmp_path, monkeypatch):
    """Every timed call is counted as one second: a row has one of the network, one of its own."""
    clock = itertools.count()
    monkeypatch.setattr(loop.time, "process_time", lambda: next(clock))
    (tmp_path / "systems.yaml").write_text(SYSTEMS)
    names = ["teacher_energy", "student+mvdr", "auxiva"]
    systems = rows(tmp_path, *names)
    separate(systems, models, data, tmp_path / "out")
    for name in names:
        info = json.loads((tmp_path / "out" / name / "info.json").read_text())
        assert info["rtf"] == pytest.approx(3 * 2 * FS / (4000 + 4100 + 4200), abs=1e-4)


def test_only_what_is_missing_or_stale_is_separated(models, separated, tmp_path, command):
    exp = shutil.copytree(models, tmp_path / "exp")
    out = shutil.copytree(separated / "out", tmp_path / "out")
    arguments = ["--systems", separated / "systems.yaml", "--exp", exp, "--data", separated / "data"]
    arguments += ["--out", out]
    code, printed, _ = command("separate", *arguments)
    assert (
        code == 0
        and "9 systems, 9 of them complete" in printed
        and _stamps(out) == _stamps(separated / "out")
    )

    for only, number in (("blind", 4 - 1), ("models", 6), ("student,", 1)):
        code, printed, _ = command("separate", *arguments, "--only", only)
        assert code == 0 and f"{number} systems, {number} of them complete" in printed

    shutil.rmtree(out / "student+mvdr")
    make_model(tmp_path / "new", OUTPUTS, seed=5)
    shutil.copy(tmp_path / "new" / "valid.loss.ave.pth", exp / "teacher")
    before = _stamps(out)
    code, printed, _ = command("separate", *arguments, "--only", "student,student+mvdr,teacher_energy")
    assert code == 0 and "3 systems, 1 of them complete" in printed
    assert "teacher_energy: input model changed since it was made: separating 3 of 3" in printed
    after = _stamps(out)
    assert {k for k in after if before.get(k) != after[k]} == {"student+mvdr", "teacher_energy"}


def test_of_items_only_those_that_changed_are_made_again(models, separated, tmp_path, monkeypatch):
    root = shutil.copytree(separated, tmp_path / "all")
    for table in (root / "data").glob("*.scp"):
        table.write_text(table.read_text().replace(str(separated), str(root)))
    systems = rows(root, "student")
    separate(systems, models, root / "data", root / "own")
    times = {p.name: p.stat().st_mtime_ns for p in (root / "own/student/wav1").iterdir()}

    def made() -> set[str]:
        nonlocal times
        before, _ = times, separate(systems, models, root / "data", root / "own")
        times = {p.name: p.stat().st_mtime_ns for p in (root / "own/student/wav1").iterdir()}
        return {name[0] for name in times if times[name] != before.get(name)}

    assert made() == set()
    write(Path(read_scp(root / "data/wav.scp")["b"]), recording(4100, seed=99))
    assert made() == {"b"}
    monkeypatch.setattr(loop.continuous, "VERSION", -1)
    assert made() == {"a", "b", "c"}


@pytest.mark.parametrize("gone", ["spk2.scp", "wav1/b.wav", "raw3.scp", "../.outputs/teacher/wav2/c.wav"])
def test_what_is_gone_is_made_again(models, separated, tmp_path, gone):
    out = shutil.copytree(separated / "out", tmp_path / "out")
    systems = rows(separated, "mixture", "teacher_energy", "student")
    for stamp in out.rglob("stamp.json"):
        stamp.unlink()  # so that the tables are written anew, to name the copies
    separate(systems, models, separated / "data", out)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.wav")}
    path = out / "teacher_energy" / gone
    content = path.read_bytes()
    path.unlink()
    separate(systems, models, separated / "data", out)
    assert path.read_bytes() == content
    utterance = Path(gone).stem
    for p, time in before.items():
        assert p.exists() and (p.stat().st_mtime_ns == time or p.stem == utterance)


def test_a_run_killed_at_any_moment_goes_on(models, separated, tmp_path):
    """By SIGKILL, later in each run, before a file takes its place, until one comes to its end."""
    systems = rows(separated, "teacher_energy", "student+mvdr")
    out = tmp_path / "out"

    def work(n: int):
        torch.set_num_threads(1)
        kill_at_call(os, "replace", n)
        loop.parallel_map = lambda function, jobs, *_, **__: [function(job, lambda: None) for job in jobs]
        separate(systems, models, separated / "data", out)

    codes = []
    while not codes or codes[-1]:
        codes.append(exit_code(functools.partial(work, 4 + 5 * len(codes))))
        assert codes[-1] in (0, -signal.SIGKILL) and len(codes) < 20
    assert len(codes) > 3
    for path in out.rglob("*.wav"):
        assert path.read_bytes() == (separated / path.relative_to(tmp_path)).read_bytes()
    assert len(list(out.rglob("*.wav"))) == 3 * (2 + 2 + OUTPUTS) and not list(out.rglob("*.mixit-part"))
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    separate(systems, models, separated / "data", out)
    assert before == {p: p.stat().st_mtime_ns for p in out.rglob("*")}


@pytest.mark.parametrize(
    "names", [["thesis.txt"], ["config.yaml", "stamp.json", ".begun.json"], ["hyp.seglst.json", "stamp.json"]]
)
def test_a_directory_of_something_else_is_left_alone(models, data, tmp_path, command, names):
    """Of a user, of a training, of the words of a system."""
    (tmp_path / "systems.yaml").write_text("student: {model: student}")
    (tmp_path / "out/student").mkdir(parents=True)
    for name in names:
        (tmp_path / "out/student" / name).write_text("precious")
    arguments = ["--systems", tmp_path / "systems.yaml", "--exp", models, "--data", data]
    for shard in ([], ["--shard", "1/2"]):
        code, _, err = command("separate", *arguments, "--out", tmp_path / "out", *shard)
        assert code == 2 and "expected a new directory" in err
        assert {path.name for path in (tmp_path / "out/student").iterdir()} == set(names)
        assert {path.name for path in (tmp_path / "out").iterdir()} == {"student"}


@pytest.mark.parametrize(
    ("systems", "options", "message"),
    [
        ("a: {model: nobody}", [], "nobody"),
        ("a: {model: student, ruel: energy}", [], "did you mean 'rule'"),
        ("a: {model: teacher, rule: enrgy}", [], "a: expected a rule"),
        ("../a: {model: teacher}", [], "expected a name for files and folders, found '../a'"),
        ("a/b: {model: teacher}", [], "expected a name for files and folders, found 'a/b'"),
        ('"": {model: teacher}', [], "expected a name for files and folders, found ''"),
        ('"a\\nb": {model: teacher}', [], "expected a name for files and folders"),
        (f"{'x' * 201}: {{model: teacher}}", [], "at most 200 bytes, as files are named after it, found 201"),
        ("a: {model: teacher, rule: spatial_merge, widow: 3}", [], "did you mean 'window'"),
        ("a: {blind: auxiva, iterashuns: 3}", [], "did you mean 'iterations'"),
        ("a: {model: teacher, rule: 3}", [], "a: expected a rule out of"),
        ("a: {model: teacher, rule: [energy]}", [], "a: expected a rule out of"),
        ("a: {model: teacher, 3: y}", [], "a: unknown key '3'"),
        ("a: {blind: auxiva, 3: y}", [], "a: auxiva has no setting '3'"),
        ("a: {model: teacher, rule: spatial_merge, window: 0}", [], "window: expected seconds above 0"),
        ("a: {}", [], "'model' and 'blind'"),
        ("a: {model: student, refine: mvdr}", [], "mvdr"),
        ("a+mvdr: {model: student}", [], "mvdr"),
        ("a: {model: student, labels: some}", [], "small or full"),
        ("oracle: {model: student}", [], "not processed"),
        ("a: {model: 3}", [], "name for 'model'"),
        ("- a", [], "expected a table of systems"),
        ("a: {model: [", [], "not YAML"),
        ("a: {blind: ilrma, optional: true}", [], "optional: true beside a 'model'"),
        ("a: {model: student, optional: maybe}", [], "optional: true beside a 'model'"),
        ("a: {blind: ilrma, asr: asr}", [], "asr: DIRECTORY beside a 'model'"),
        ("student: {model: student}", ["--only", "studnet"], "did you mean 'student'"),
        ("a: {blind: ilrma}", ["--n_talkers", 3], "3 microphones"),
        ("a: {model: student}", ["--n_talkers", 3], "3 outputs"),
        ("a: {model: student}", ["--nj", 0], "--nj: expected at least 1, found 0"),
        ("a: {blind: ilrma, block: 60}", [], "'block' is for whole recordings"),
        ("a: {blind: ilrma, block: long}", [], "block: expected seconds, found 'long'"),
        ("a: {blind: ilrma, block: true}", [], "block: expected seconds, found True"),
        ("a: {blind: ilrma, block_hop: 6}", [], "block_hop beside a 'block'"),
        ("a: {blind: ilrma, block: 6, block_hop: 6}", [], "a: expected a hop above 0 s and below the window"),
        ("a: {blind: ilrma, block: 0}", [], "expected a hop"),
        ("mixture: {block: 6}", [], "not processed"),
        ("a+mvdr: {model: teacher, rule: energy, refine: mvdr}", ["--n_talkers", 1], "two or more streams"),
    ],
)
def test_mistakes_in_systems(models, data, tmp_path, command, systems, options, message):
    (tmp_path / "systems.yaml").write_text(systems)
    arguments = ["--systems", tmp_path / "systems.yaml", "--exp", models, "--data", data]
    code, _, err = command("separate", *arguments, "--out", tmp_path / "out", *options)
    assert code == 2 and message in err and not (tmp_path / "out").exists()


def test_optional_systems_may_be_missing_others_not(models, data, tmp_path, command):
    (tmp_path / "systems.yaml").write_text("mixture: {}\njoint: {model: joint, optional: true}\n")
    arguments = ["--systems", tmp_path / "systems.yaml", "--exp", models, "--data", data]
    code, out, _ = command("separate", *arguments, "--out", tmp_path / "out")
    assert code == 0 and "joint: optional, and not trained; left out" in out
    assert [p.name for p in (tmp_path / "out").iterdir() if not p.name.startswith(".")] == ["mixture"]
    (tmp_path / "systems.yaml").write_text("mixture: {}\njoint: {model: joint}\n")
    assert command("separate", *arguments, "--out", tmp_path / "out")[0] == 2


# The rows of the tables, which committed results name.
ROWS = """
mixture auxiva auxiva+mask auxiva_starts auxiva_starts+mask ilrma teacher_outputs teacher_energy
teacher_energy_residual teacher_spatial_merge teacher_spatial_merge+iva+mask teacher_oracle student_gen1
student_gen2 student student+gate student+iva+mask any_array student_masknet student_masknet+iva+mask
student_masknet_remix student_masknet_remix+iva+mask student_labels student_blind student_ft cotrained
distilled distilled_ft
supervised_small supervised_full supervised_full+iva+mask joint student_ft_1 cotrained_1 distilled_ft_1
supervised_1 student_ft_5 cotrained_5 distilled_ft_5 supervised_5 supervised_25 oracle
""".split()
ONE_CHANNEL = """
mixture teacher_outputs teacher_energy teacher_energy_residual teacher_oracle student_gen1
student_gen2 student student_masknet student_masknet_remix student_labels student_blind student_ft
cotrained distilled distilled_ft supervised_small supervised_full joint student_ft_1 cotrained_1
distilled_ft_1 supervised_1 student_ft_5
cotrained_5 distilled_ft_5 supervised_5 supervised_25 oracle
""".split()
GATED = """
auxiva+mask+gate+iva+mask teacher_spatial_merge+iva+mask+gate+iva+mask student+gate+iva+mask
distilled_ft+gate+iva+mask supervised_full+gate+iva+mask
""".split()
RECORDINGS = (
    "mixture auxiva auxiva+mask teacher_spatial_merge start start+iva+mask student student+gate "
    "student+iva+mask".split()
)


@pytest.mark.parametrize(
    ("variants", "mics", "rows"),
    [
        ((), 4, ROWS),
        (("one_channel",), 1, ONE_CHANNEL),
        (("mixed_talkers",), 2, ROWS + GATED),
        ((), 9, [row for row in ROWS if row != "any_array"]),
    ],
)
def test_the_generated_rows_are_those_that_were_listed(tmp_path, variants, mics, rows):
    write_resolved(tmp_path / "systems.yaml", "TEMPLATE", "systems", variants, mics=mics)
    found = load_systems(tmp_path / "systems.yaml")
    assert [system.name for system in found] == rows
    for system in found:
        base = system.name.partition("+")[0]
        assert system.labels is None or system.optional
        assert system.model in (None, "teacher", base, f"curve/{base}")
    labels = {system.name: system.labels for system in found}
    assert (labels["student_ft"], labels["supervised_full"], labels["supervised_5"]) == (
        "small",
        "full",
        0.05,
    )
    assert [system.asr for system in found if system.asr] == ["joint/asr"]


def test_one_microphone_has_no_rows_of_arrays_in_a_table_of_ones_own(tmp_path):
    """That of egs/recordings is not the template's."""
    path = tmp_path / "systems.yaml"
    write_resolved(path, "recordings", "systems", ("mask_net", "one_channel", "few_microphones"), mics=1)
    assert [system.name for system in load_systems(path)] == ["mixture", "start", "student"]
    # A report may be of several numbers of microphones.
    assert "teacher_spatial_merge" in [system.name for system in load_systems(path, every=True)]
    path.write_text("microphones: two\nmixture: {}\n")
    with pytest.raises(UserError, match="systems.yaml: microphones: expected a number, found 'two'"):
        load_systems(path)


def test_the_model_of_the_package_needs_no_training(tmp_path):
    """Its row is separated by the weights that come with the package, whatever lies in the experiment."""
    assert System("x", model="any_array").network("exp") == PRETRAINED
    assert System("x", model="student").network("exp") == Path("exp/student")
    (tmp_path / "systems.yaml").write_text("microphones: 9\nmixture: {}\nany_array: {model: any_array}\n")
    assert [system.name for system in load_systems(tmp_path / "systems.yaml")] == ["mixture"]


def test_the_generated_rows_of_recordings():
    found = load_systems(ROOT / "egs/recordings/conf/systems.yaml")
    assert [system.name for system in found] == RECORDINGS
    assert [system.name for system in found if system.optional] == ["start", "start+iva+mask"]
    assert found[3] == System("teacher_spatial_merge", model="teacher", rule="spatial_merge")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ("modles: {}", "unknown section 'modles' (did you mean 'models'?)"),
        ("teacher: {rule: [energy]}", "teacher: unknown key 'rule' (did you mean 'rules'?)"),
        ("teacher: {rules: [enrgy]}", "expected a rule out of"),
        ("models: {student: 3}", "student: expected settings such as"),
        ("models: {student: {refine: 3}}", "student: refine: expected a name, or a list of names, found 3"),
        ("teacher: {rules: 3}", "teacher: rules: expected a name, or a list of names, found 3"),
        ("further: {steps: gate, rows: 3}", "further: rows: expected a name, or a list of names, found 3"),
        ("curve: {shares: [1]}", "curve: shares: expected settings such as"),
        ("curve: {shares: {a: [supervised]}}", "shares: expected a number for each share, found 'a'"),
        ("models: {student: {refine: [mvd]}}", "expected a refinement out of"),
        ("further: {rows: [student], steps: mask}", "rows of this table, found 'student'"),
        ("curve: 5", "curve: expected settings"),
    ],
)
def test_mistakes_in_sections(tmp_path, sections, message):
    (tmp_path / "systems.yaml").write_text(f"reference: {{mixture: {{}}}}\n{sections}\n")
    with pytest.raises(UserError, match=re.escape(message)):
        load_systems(tmp_path / "systems.yaml")


def test_dead_channels_of_a_set(data, tmp_path):
    """A network's reference must live, also in one mixture of many; blind methods take the live ones."""
    entry = read_scp(data / "wav.scp")["b"]
    audio = np.concatenate([read_audio(entry)[0], read_audio(entry)[0][:1] / 2 + 0.01])
    for table in ("a", "c"):  # all mixtures have three channels
        other = read_scp(data / "wav.scp")[table]
        write(
            Path(other), np.concatenate([read_audio(other)[0], recording(read_audio(other)[0].shape[1], 1)])
        )
    audio[0] = 0.0
    write(Path(entry), audio)
    make_model(tmp_path / "exp/student", 2, n_mics=3)
    with pytest.raises(UserError, match=r"b\.wav: channel 1 is dead.* such as channel 2"):
        separate([System("student", model="student")], tmp_path / "exp", data, tmp_path / "out")
    blind = System("auxiva", blind="auxiva", settings={"iterations": 2})
    separate([blind], tmp_path, data, tmp_path / "out")
    expected = separate_blind("auxiva", read_audio(entry)[0][1:], FS, 2, iterations=2)
    assert np.array_equal(_streams(tmp_path / "out/auxiva", "b").numpy(), expected)
