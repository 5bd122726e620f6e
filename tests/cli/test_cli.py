"""The command line: help, mistakes, exit codes, what is handed to ESPnet, completion."""

import configparser
import errno
import importlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from commands import exit_code

import frontend
from frontend.cli import Command, Group, mixit
from frontend.utils.errors import UserError

ROOT = Path(frontend.__file__).parents[1]
HEAVY = ("numpy", "scipy", "torch", "espnet2", "matplotlib", "soundfile")


def commands(group: click.Group = mixit, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield the path and the command of all commands below ``group``, groups as well."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        yield f"{path} {name}".strip(), command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}".strip())


COMMANDS = dict(commands())
LEAVES = [path for path, command in COMMANDS.items() if not isinstance(command, click.Group)]


def python(code: str, *arguments: str, **more) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, *(["-c", code] if code else ["-m", "frontend"]), *arguments]
    return subprocess.run(line, env=environment | more.pop("env", {}), capture_output=True, text=True, **more)


def test_the_commands_are_these():
    tree = {path: command for path, command in COMMANDS.items() if " " not in path}
    assert (
        list(tree)
        == "data simulate train label separate recognise decode score wer report compare pack run".split()
    )
    assert set(LEAVES) >= {
        *("data check", "data subset", "data recordings", "data chunks", "data recogniser"),
        *("simulate scenes", "simulate render", "train separator", "train recogniser", "train joint"),
    }


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_option_says_what_it_is(path):
    command = COMMANDS[path]
    assert isinstance(command, Command | Group)
    first = command.help.splitlines()[0]
    assert first[0].isupper() and len(first) < 110 and command.get_short_help_str().endswith(".")
    for one in command.params:
        assert isinstance(one, click.Argument) or one.help, one.name


def test_help_of_all_commands_imports_nothing_heavy():
    code = f"""
import contextlib, io, json, sys
from frontend.cli import main
for path in {list(COMMANDS)}:
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        main([*path.split(), "--help"])
    assert text.getvalue().startswith("Usage: mixit " + path), text.getvalue()
print(json.dumps(sorted(set({HEAVY}) & set(sys.modules))))
"""
    done = python(code)
    assert done.returncode == 0 and json.loads(done.stdout) == [], done


def test_help_is_quick_and_imports_no_other_commands():
    code = "import atexit, sys\natexit.register(lambda: print(*sys.modules))\n"
    code += "from frontend.cli import main\nmain()"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = python(code, "data", "--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5  # CPU seconds
    loaded = set(done.stdout.splitlines()[-1].split())
    assert {m for m in loaded if m.startswith("frontend.cli.")} == {"frontend.cli.data"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trian separator", "mixit: error: no command 'trian' (did you mean 'train'?)"),
        ("data subst", "mixit data: error: no command 'subst' (did you mean 'subset'?)"),
        ("data 12", "no command '12' (there are check, subset, recordings, chunks, recogniser)"),
        ("data subset --sed 1", "mixit data subset: error: no option --sed (did you mean '--seed'?)"),
        ("data subset --12 1", "mixit data subset: error: no option --12 (see mixit data subset --help)"),
        ("--fast", "mixit: error: no option --fast (see mixit --help)"),
        ("data subset --out x", "Missing option '--data' (see mixit data subset --help)"),
        ("data check", "mixit data check: error: Missing argument 'DIR...'"),
        ("pack --model m --out o more", "mixit pack: error: Got unexpected extra argument"),
        ("data subset --data d --out o --num x", "'x' is not a valid integer"),
        (
            "simulate render --scenes s --speech s --out o --audio_format mp3",
            "'mp3' is not one of 'wav', 'flac'",
        ),
        ("label --model m --data d --out o --nj 0", "mixit label: error: --nj: expected at least 1, found 0"),
        ("label --model m --data d --out o --nj two", "'two' is not a valid integer"),
        ("data subset --data d --out o --num 1 --share 1", "--num and --share exclude each other"),
        ("data chunks --data d --out a b --rttm r --segments s", "--rttm and --segments exclude each other"),
        (
            "recognise x.wav --separator s",
            "expected --asr or --asr_model or --asr_whisper, found none of them",
        ),
        ("separate x.wav --model m -o o --exp e", "--exp is not expected with --model: leave it out"),
        (
            "separate --systems s --exp e --out o",
            "expected --data or --scp, found neither",
        ),
        ("wer --compare a b --out o --data d", "--data is not expected with --compare: leave it out"),
        ("wer --out o", "--data: expected a value, found none"),
        ("report --show o --exp e", "--exp is not expected with --show: leave it out"),
        ("compare --a x:y --out o", "--b: expected a value, found none (with --a and --b)"),
        ("train separator", "mixit train separator: error: --output_dir DIR is missing"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(line, message, command):
    code, out, err = command(line)
    assert (code, out) == (2, "") and message in err and err.startswith("mixit")


@pytest.mark.parametrize(
    ("name", "option", "more"),
    [
        ("separate", "--scp", ["-o", "out"]),
        ("separate", "-o", ["x.wav"]),
        ("decode", "--asr", ["--data", "d", "--separated", "s", "--out", "out"]),
        ("recognise", "--asr_whisper", ["x.wav"]),
        ("label", "--model", ["--data", "d", "--out", "out"]),
        ("compare", "--exp", ["--out", "out"]),
        ("wer", "--compare", ["b", "--out", "out"]),
        ("train separator", "--config", ["--output_dir", "out"]),
        ("run", "--corpus", ["--list"]),
        ("run", "--recordings", ["--list", "--recipe", ROOT / "egs/recordings"]),
    ],
)
def test_empty_text_is_no_value(name, option, more, tmp_path, monkeypatch, command):
    """As of an unset variable of the shell."""
    monkeypatch.chdir(tmp_path)
    code, out, err = command(name, option, "", *more)
    assert (code, out) == (2, "") and not Path("out").exists()
    full = {"-o": "--out"}.get(option, option)
    assert f"{full}: expected a value, found empty text" in err or f"option {full} needs a value" in err


def test_options_that_take_empty_text():
    found = [(path, one.name) for path in LEAVES for one in COMMANDS[path].params if getattr(one, "empty", 0)]
    assert found == [("score", "measures")]


def test_a_group_without_a_command_shows_its_help(capfd):
    assert exit_code("data") == 2
    assert "Usage: mixit data" in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (None, 0, ""),
        (UserError("of two\n   lines"), 2, "mixit data check: error: of two lines\n"),
        (
            OSError(errno.ENOSPC, "", "x/y"),
            2,
            "mixit data check: error: x/y: No space left on device (make room there, or write elsewhere)\n",
        ),
        (KeyboardInterrupt(), 130, "mixit data check: interrupted; run the same command again\n"),
    ],
)
def test_exit_codes(error, code, message, monkeypatch, capfd):
    def validate(directory, silent):
        if error:
            raise error
        return []

    monkeypatch.setattr("frontend.data.kaldi.validate", validate)
    monkeypatch.setattr("frontend.data.kaldi.read_utterances", lambda path: {})
    assert exit_code("data check", "somewhere") == code
    assert capfd.readouterr().err == message


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("frontend.data.kaldi.validate", lambda directory, silent: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        exit_code("data check", "somewhere")


def test_options_of_espnet_pass_through(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "frontend.training.run.train_separator", lambda argv, check: seen.append((argv, check))
    )
    line = "--max_epoch 3 --config c.yaml --optim_conf lr=0.1 --output_dir x --init_param a b --seed 7"
    assert exit_code("train separator", *line.split(), "--use_amp=true", "--grad_clip", "-1") == 0
    own = "--config c.yaml --output_dir x --seed 7".split()
    rest = "--max_epoch 3 --optim_conf lr=0.1 --init_param a b --use_amp=true --grad_clip -1".split()
    assert seen.pop() == ([*own, *rest], False)
    assert exit_code("train separator", "--check", "--output_dir", "x") == 0
    assert seen.pop() == (["--output_dir", "x"], True)
    for words in (["--resume", "--output_dir", "x"], ["--output_dir", "x", "--resume"]):
        assert exit_code("train separator", *words, "--overwrite") == 0
        given = {"--output_dir", "x", "--resume", "true", "--overwrite"}
        assert set(seen[-1][0]) == given and not seen.pop()[1]
    assert exit_code("train separator", "--help_espnet") == 0
    assert seen.pop() == (["--help"], False)


def test_it_runs_in_any_directory_under_one_name(tmp_path):
    done = python("", "data", "check", "nothing", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr == "nothing: expected a data directory, found nothing\n"
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    name, _, where = setup["options.entry_points"]["console_scripts"].strip().partition(" = ")
    module, _, function = where.partition(":")
    assert name == "mixit" and callable(getattr(importlib.import_module(module), function))


def test_completion(tmp_path):
    complete = ShellComplete(mixit, {}, "mixit", "_MIXIT_COMPLETE").get_completions
    assert [item.value for item in complete(["data"], "rec")] == ["recordings", "recogniser"]
    assert [item.value for item in complete(["data", "subset"], "--s")] == ["--share", "--seed"]
    done = python("", cwd=tmp_path, env={"_MIXIT_COMPLETE": "zsh_source"})
    assert done.returncode == 0 and "compdef _mixit_completion mixit" in done.stdout


def test_defaults_are_those_of_the_functions():
    """``--help`` shows them without importing what takes long."""
    from frontend.data import chunks
    from frontend.dsp import activity, blind, metrics
    from frontend.evaluation import score, wer_recordings
    from frontend.recognition import pieces

    def default(path: str, name: str) -> object:
        return next(one.default for one in COMMANDS[path].params if one.name == name)

    def choices(path: str, name: str) -> list[str]:
        return list(next(one.type.choices for one in COMMANDS[path].params if one.name == name))

    assert default("data chunks", "min_speech") == chunks.MIN_SPEECH_S
    assert default("data chunks", "dev_share") == chunks.DEV_SHARE
    assert default("score", "active_db") == metrics.ACTIVE_DB
    assert default("decode", "leak_db") == default("recognise", "leak_db") == pieces.LEAK_DB
    assert default("score", "least_s") == score.RecordingSettings().least_s
    assert (default("wer", "collar"), default("wer", "orc_cells")) == (
        wer_recordings.COLLAR_S,
        wer_recordings.ORC_CELLS,
    )
    for name in ("margin_db", "range_db", "min_pause", "max_seconds"):
        assert default("decode", name) == getattr(activity.Rule, name)
    for name in ("margin_db", "range_db", "min_pause"):
        assert default("recognise", name) == getattr(activity.Rule, name)
    assert choices("separate", "blind") == choices("recognise", "blind") == list(blind.METHODS)


def test_an_output_is_no_input(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    for folder in ("s/one", "data", "exp/scores"):
        Path(folder).mkdir(parents=True)
    for name in ("conf.yaml", "data/text", "exp/scores/a.jsonl"):
        Path(name).write_text("precious\n")
    scenes = ["simulate scenes", "--config", "conf.yaml", "--speech", "data", "--num", 1, "--prefix", "x"]
    for arguments, message in (
        ([*scenes, "--out", "conf.yaml"], "conf.yaml: an input that the output would replace"),
        ([*scenes, "--out", "data/text"], "data/text: a file of the input data would be replaced"),
        (["score", "--data", "data", "--separated", "s", "--out", "s"], "s: is the source itself"),
        (
            ["score", "--data", "data", "--separated", "s", "--out", "s/x"],
            "a directory outside of --separated s",
        ),
        (["wer", "--data", "data", "--decoded", "s", "--out", "s/x"], "a directory outside of --decoded s"),
        (["compare", "--a", "exp:a", "--b", "exp:b", "--out", "exp/scores/a.jsonl"], "would replace"),
        (["data chunks", "--data", "data", "--out", "t", "./t"], "expected two directories, found one"),
    ):
        code, _, err = command(*arguments)
        assert code == 2 and message in err, err
    found = [Path(name).read_text() for name in ("conf.yaml", "data/text", "exp/scores/a.jsonl")]
    assert found == ["precious\n"] * 3 and not Path("s/x").exists() and not Path("t").exists()


def test_names_of_outputs_and_tables_that_are_none(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    Path("nowhere").symlink_to("gone")
    Path("d").mkdir()
    Path("d/segments").write_text("u a 0 1\n")
    blind = ["separate", "--blind", "ilrma", "-o"]
    for arguments, message in (
        ([*blind, "nowhere", "a.wav"], "nowhere: expected a directory, found a link to nothing"),
        ([*blind, "out", "--scp", "d/segments"], "found another table (--scp d)"),
        (["label", "--model", "m", "--data", "d", "--out", "out"], "--rule: expected a rule"),
    ):
        code, _, err = command(*arguments)
        assert code == 2 and message in err, err
