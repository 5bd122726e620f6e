"""What run.sh makes of its options before it does anything: refusals, and where a run lies."""

import shutil
import subprocess
from pathlib import Path

import pytest

from frontend.utils.files import read_settings

ROOT = Path(__file__).resolve().parents[2]
# All that run.sh does before it sets up its environment, then a command.
UP_TO_THE_PATHS = """\
root=$1 recipe_dir=$2; driver=$root/run.sh
. "$root/local/common.sh"
eval "$(options_block)"
recipe_dir=$2 command=$3
shift 3
parse_options "$@"
. "$root/local/options.sh"
. "$root/local/steps.sh"
check_options
resolve_paths
cd "$recipe_dir"
set_paths
check_together
eval "$command"
"""


@pytest.fixture
def recipe(tmp_path):
    """A copy of egs/mini, in which nothing was run."""
    ignore = shutil.ignore_patterns("data", "exp", "__pycache__")
    return shutil.copytree(ROOT / "egs/mini", tmp_path / "mini", ignore=ignore)


def do(recipe: Path, command: str, *options: str) -> subprocess.CompletedProcess:
    script = ["bash", "-c", UP_TO_THE_PATHS, "run.sh", str(ROOT), str(recipe), command, *options]
    return subprocess.run(script, capture_output=True, text=True)


def say(recipe: Path, command: str, *options: str) -> str:
    done = do(recipe, command, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def refused(recipe: Path, message: str, *options: str) -> None:
    before = sorted(recipe.rglob("*"))
    done = do(recipe, "echo went on", *options)
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and not done.stdout
    assert sorted(recipe.rglob("*")) == before


PLACE = 'echo "$exp $data $speech $results"'


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ("", "exp/espeak data/espeak data/espeak/speech ."),
        ("--channels 2", "exp/espeak_2ch data/espeak_2ch data/espeak/speech ."),
        ("--train_seed 3", "exp/espeak_train3 data/espeak data/espeak/speech exp/espeak_train3"),
        # A run without labels, or with another recogniser, leaves the kept page alone.
        ("--unsupervised true", "exp/espeak_unsup data/espeak_unsup data/espeak/speech exp/espeak_unsup"),
        (
            "--unsupervised true --talkers 3 --channels 6",
            "exp/espeak_3spk_unsup_6ch data/espeak_3spk_unsup_6ch data/espeak/speech exp/espeak_3spk_unsup",
        ),
        ("--asr_model tag", "exp/espeak data/espeak data/espeak/speech exp/espeak"),
        ("--asr_exp {recipe}", "exp/espeak data/espeak data/espeak/speech exp/espeak"),
        ("--asr_config asr_gpu", "exp/espeak data/espeak data/espeak/speech exp/espeak"),
    ],
)
def test_where_a_run_lies(recipe, options, place):
    if "train_seed" in options:  # it needs what the first run made
        for path in ("data/espeak/train/wav.scp", "data/espeak/test/wav.scp", "exp/espeak/asr/config.yaml"):
            (recipe / path).parent.mkdir(parents=True)
            (recipe / path).touch()
    assert say(recipe, PLACE, *options.format(recipe=recipe).split()) == place


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--talkers 1", "--talkers 1: expected 2, 3 or 4"),
        ("--talkers 5", "--talkers 5: expected 2, 3 or 4"),
        ("--talkers 1-3", "--talkers 1-3: expected 2, 3 or 4"),
        ("--talkers 3-2", "--talkers 3-2: expected 2, 3 or 4"),
        ("--ngpu one", "--ngpu one: expected a number of GPUs"),
        ("--ngpu -1", "--ngpu -1: expected a number of GPUs"),
        ("--unsupervised true --asr_train_on separated", "--asr_train_on separated need labels"),
        ("--unsupervised true --curve true", "--curve true, --joint true and"),
    ],
)
def test_what_would_fail_after_hours_is_refused(recipe, options, message):
    refused(recipe, message, *options.split())


def test_listed_pairs_are_pairs(recipe):
    libri = shutil.copytree(ROOT / "egs/mc_libri2mix", recipe.parent / "libri")
    refused(libri, "--talkers 3: egs/mc_libri2mix mixes the pairs of a list", "--talkers", "3")
    assert say(libri, "echo $most", "--talkers", "2", "--dry_run", "true") == "2"
    for options in ((), ("--download", "true")):
        refused(libri, "--librispeech DIR is missing", *options)


def test_as_many_microphones_as_talkers(recipe):
    for options in ("--talkers 4", "--talkers 3 --channels 3", "--talkers 3 --channels 1", "--channels 2"):
        assert say(recipe, "check_installed", *options.split()) == ""
    done = do(recipe, "check_installed", "--talkers", "2-3", "--channels", "2")
    assert done.returncode == 2 and "expected at least 3 microphones for 3 talkers" in done.stderr
    scenes = recipe / "conf/scenes.yaml"
    scenes.write_text(scenes.read_text().replace("n: 4", "n: 3"))
    done = do(recipe, "check_installed", "--talkers", "4")
    assert done.returncode == 2 and "found 3 (conf/scenes.yaml)" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_as_many_gpus_as_asked_for(recipe):
    done = do(recipe, "check_installed", "--ngpu", "99")
    assert done.returncode == 2 and "--ngpu 99: expected so many CUDA devices" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_dry_run_that_fails_starts_nothing(recipe):
    """Half a corpus, in a folder whose name has spaces."""
    libri = shutil.copytree(ROOT / "egs/mc_libri2mix", recipe.parent / "libri")
    corpus = recipe.parent / "my own corpus"
    (corpus / "dev-clean").mkdir(parents=True)
    command = [ROOT / "run.sh", "--recipe_dir", libri, "--corpus", "librispeech", "--size", "tiny"]
    options = ["--dry_run", "true", "--librispeech", corpus]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    assert done.returncode == 2 and f"{corpus}: expected the folder that holds" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and not done.stdout
    assert not (libri / "exp").exists() and not (libri / "data").exists()


def test_a_recipe_whose_corpora_have_one_rate_says_so(recipe):
    refused(recipe, "egs/speechocean762_2mix and egs/mc_libri2mix take it", "--fs", "16000")
    # Speech that somebody brings may have any.
    assert say(recipe, PLACE, "--fs", "16000", "--stage", "scenes").startswith(
        "exp/espeak_16k data/espeak_16k"
    )
    for name in ("speechocean762_2mix", "mc_libri2mix"):
        other = shutil.copytree(ROOT / "egs" / name, recipe.parent / name)
        options = ["--fs", "16000", "--size", "cpu", "--corpus_dir", str(recipe)]
        assert say(other, PLACE, *options).startswith("exp/espeak_cpu_16k")


@pytest.mark.parametrize("name", ["teacher", "student", "asr", "asr_gpu"])
def test_the_rate_of_the_configuration_changes_nothing(recipe, name):
    assert say(recipe, f"at_rate conf/{name}.yaml", "--fs", "8000", "--stage", "scenes") == ""


def test_another_rate_keeps_windows_as_long_in_time(recipe):
    options = ["--fs", "16000", "--stage", "scenes"]
    stft = "--{0}_conf n_fft=512 --{0}_conf hop_length=256"
    both = stft.format("encoder"), stft.format("decoder")
    found = say(recipe, "at_rate conf/student.yaml", *options)
    assert found == f"--preprocessor_conf fs=16000 {both[0]} {both[1]}"
    # 12.5 ms from window to window, as conf/asr.yaml has it.
    assert say(recipe, "at_rate conf/asr.yaml", *options) == (
        "--preprocessor_conf fs=16000 --frontend_conf fs=16000 --frontend_conf n_fft=512 "
        "--frontend_conf win_length=400 --frontend_conf hop_length=200 --batch_bins 320000"
    )
    (recipe / "conf/asr.yaml").write_text("batch_bins: 3\n")
    done = do(recipe, "at_rate conf/asr.yaml", *options)
    assert done.returncode == 2 and "conf/asr.yaml: expected one sampling rate in Hz" in done.stderr


def test_the_table_is_of_one_family(recipe):
    names = [
        "espeak",
        "espeak_1ch",
        "espeak_16ch",
        "espeak_16k_2ch",
        "espeak_3spk_2ch",
        "espeak_3spk_otf_1ch",
    ]
    for name in [*names, "espeak_3spk"]:
        (recipe / "exp" / name / "scores").mkdir(parents=True)
    (recipe / "exp/espeak_2ch").mkdir()  # without scores
    assert say(recipe, "counts_of $family").split() == [
        f"exp/{name}" for name in ("espeak", "espeak_16ch", "espeak_1ch")
    ]
    assert say(recipe, "counts_of $family", "--talkers", "3").split() == [
        "exp/espeak_3spk",
        "exp/espeak_3spk_2ch",
    ]


def test_the_page_shows_the_files_that_were_read(recipe):
    def shown(*options):
        return say(recipe, "set_changes; shown_configs", *options).split()

    usual = shown()
    assert {"conf/pseudo.yaml", "conf/scenes.yaml", "conf/asr.yaml", "conf/size_full.sh"} <= set(usual)
    assert not {"conf/pseudo_mixed.yaml", "conf/asr_gpu.yaml", "conf/joint.yaml"} & set(usual)
    mixed = shown("--talkers", "2-3")
    for name in ("pseudo", "distill", "student"):
        assert f"conf/{name}_mixed.yaml" in mixed and f"conf/{name}.yaml" not in mixed
    assert {"conf/systems.yaml", "conf/systems_mixed.yaml", "conf/teacher.yaml"} <= set(mixed)
    (recipe / "exp/espeak_16k").mkdir(parents=True)
    assert set(shown("--fs", "16000", "--stage", "scenes")) - set(usual) == {"exp/espeak_16k/changes.yaml"}
    for path in usual:
        assert (recipe / path).is_file()


@pytest.mark.parametrize("channels", [(), ("--channels", "1")])
def test_every_share_of_the_curve_has_its_rows(recipe, channels):
    options = ["--curve", "true", *channels]
    for size in ("full", "half", "quick", "tiny"):
        assert say(recipe, "echo fine", *options, "--size", size) == "fine"
    path = recipe / "conf/size_tiny.sh"
    path.write_text(path.read_text().replace('semi_shares="0.05"', 'semi_shares="0.07"'))
    refused(recipe, "the share 0.07 needs a row supervised_7 in", *options, "--size", "tiny")
    path.write_text(path.read_text().replace('"0.07"', '"0.25"'))
    refused(recipe, "the share 0.25 needs a row student_ft_25 in", *options, "--size", "tiny")


def test_rows_of_one_microphone_are_those_of_many(recipe):
    """Without what needs two or more."""
    for name in ("mini", "speechocean762_2mix", "mc_libri2mix"):
        conf = ROOT / "egs" / name / "conf"
        many, one = (read_settings(conf / f"systems{end}.yaml", "systems") for end in ("", "_1ch"))
        assert list(one) == [
            row
            for row, about in many.items()
            if not {"blind", "refine"} & about.keys() and about.get("rule") != "spatial_merge"
        ]
        assert all(many[row] == about for row, about in one.items())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("s/^full_options=.*//", "expected a line full_options=..., found none"),
        ("s/^dev_mixtures=.*//", "expected a line dev_mixtures=..., found none"),
        ("$ a read_aloud=0", "read_aloud=0: expected a number of utterances, 2 or more"),
        ("$ a read_aloud=1", "read_aloud=1: expected a number"),
    ],
)
def test_a_size_file_of_ones_own_is_checked_first(recipe, changed, message):
    path = recipe / "conf/size_mine.sh"
    shutil.copy(recipe / "conf/size_tiny.sh", path)
    assert say(recipe, "echo fine", "--size", "mine") == "fine"
    subprocess.run(["sed", "-i", changed, path], check=True)
    refused(recipe, message, "--size", "mine")


def test_a_download_is_estimated_on_the_disk_where_it_will_lie(recipe):
    """The folder need not be there yet."""
    libri = shutil.copytree(ROOT / "egs/mc_libri2mix", recipe.parent / "libri")
    command = 'python3() { printf "%s\n" "$*"; }; estimate --check'
    options = ["--librispeech", str(recipe.parent / "to come"), "--download", "true"]
    assert f"--corpus_dir {recipe.parent / 'to come'}" in say(libri, command, *options)


def test_another_training_takes_the_recogniser_as_it_is(recipe):
    refused(recipe, "leave --asr_config out", "--train_seed", "1", "--asr_config", "asr_gpu")


def test_training_seeds_are_not_compared_with_other_arrays(recipe):
    for name in ("espeak", "espeak_2ch"):
        (recipe / "exp" / name / "scores").mkdir(parents=True)
    assert say(recipe, "other_counts") == "exp/espeak_2ch"
    assert say(recipe, "again=_train1; other_counts") == ""


def test_the_conditions_are_those_of_the_file(recipe):
    (recipe / "conf/conditions.yaml").write_text("far: {t60: 0.5}\n'near.1': {t60: 0.2}\n")
    assert say(recipe, "conditions").split() == ["matched", "far", "near.1"]
