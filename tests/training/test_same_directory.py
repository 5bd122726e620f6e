"""A training that is started where another one lies: said in one line, or what the user asked for."""

import numpy as np
import pytest
import soundfile

from frontend.data.kaldi import write_set
from frontend.training.run import BEGUN, DONE, Training
from frontend.utils.errors import UserError

MADE = (
    "config.yaml checkpoint.pth checkpoint.prev.pth 1epoch.pth latest.pth valid.loss.best.pth "
    "valid.loss.ave_1best.pth valid.loss.ave.pth train.log stamp.json .begun.json images/loss.png stats/x"
).split()


def make_data(folder, seed, names=("u0", "u1"), ending="wav"):
    rng, tables = np.random.default_rng(seed), {"wav.scp": {}, "spk1.scp": {}}
    for name in names:
        for table, column in tables.items():
            path = folder / f"{table[:4]}_{name}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 0.1 * rng.standard_normal(8000), 8000)
            column[name] = str(path)
    write_set(folder, tables)
    return folder


@pytest.fixture
def line(tmp_path):
    """Return the options of a training on sets of the folder, as the test changes them."""
    (tmp_path / "c.yaml").write_text(
        "max_epoch: 3\noptim_conf:\n    lr: 0.1\npreprocessor_conf:\n    crop: 1\n"
    )
    (tmp_path / "w.pth").write_bytes(b"weights")
    for seed, name in enumerate(("train", "valid")):
        make_data(tmp_path / name, seed)

    def options(*more):
        sets = [word for name in ("train", "valid") for word in (f"--{name}_set", str(tmp_path / name))]
        own = ["--config", str(tmp_path / "c.yaml"), "--output_dir", str(tmp_path / "exp")]
        return [*own, *sets, "--init_param", str(tmp_path / "w.pth"), *more]

    return options


@pytest.fixture
def exp(tmp_path, line):
    """The directory of a training in the middle of its second epoch."""
    for name in MADE[:10]:
        path = tmp_path / "exp" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (tmp_path / "exp" / DONE).unlink()
    Training.of(line()).stamp.write(tmp_path / "exp" / BEGUN)
    return tmp_path / "exp"


def change_config(folder):
    (folder / "c.yaml").write_text((folder / "c.yaml").read_text().replace("crop: 1", "crop: 2"))


def test_other_audio_of_the_labelled_set_is_another_training(line, tmp_path):
    make_data(tmp_path / "true", 1)
    argv = line("--preprocessor_conf", f"labelled={tmp_path / 'true'}")
    before = Training.of(argv).stamp
    assert Training.of(argv).stamp == before
    make_data(tmp_path / "true", 2)
    assert Training.of(argv).stamp != before


CHANGES = [
    (["--optim_conf", "lr=0.5"], None, "optim_conf.lr is 0.5, was 0.1"),
    (["--seed", "7"], None, "seed is 7, was not given"),
    (["--max_epoch", "2"], None, "max_epoch is 2, was 3"),
    (["--max_epoch", "9", "--seed", "1"], None, "max_epoch is 9, was 3, seed is 1"),
    (["--batch_size=3"], None, "batch_size is 3, was not given"),
    ([], change_config, "preprocessor_conf.crop is 2, was 1"),
    ([], lambda d: (d / "w.pth").write_bytes(b"others"), "the content of --init_param"),
    ([], lambda d: make_data(d / "train", 5), "the audio of --train_set"),
    ([], lambda d: make_data(d / "valid", 5), "the audio of --valid_set"),
    ([], lambda d: make_data(d / "train", 0, ("u0", "u1", "u2")), "the content of --train_set has changed"),
    ([], lambda d: make_data(d / "train", 0, ending="flac"), "the content of --train_set has changed"),
]


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize(("more", "change", "said"), CHANGES, ids=[said for _, _, said in CHANGES])
def test_another_training_is_named_and_what_can_be_done(line, exp, tmp_path, more, change, said, complete):
    if complete:
        (exp / BEGUN).rename(exp / DONE)
    if change:
        change(tmp_path)
    before = sorted(exp.iterdir())
    with pytest.raises(UserError, match="expected a new directory or this training") as error:
        Training.of(line(*more)).is_complete()
    assert said in str(error.value) and "--resume" in str(error.value) and "--overwrite" in str(error.value)
    assert sorted(exp.iterdir()) == before
    for way in (["--resume"], ["--resume", "true"], ["--overwrite", "true"]):
        assert not Training.of(line(*more, *way)).is_complete()


def test_what_goes_on_without_a_word(line, exp, tmp_path, capsys):
    for more in ([], ["--max_epoch", "4"], ["--num_threads", "2"], ["--log_level", "DEBUG"]):
        assert not Training.of(line(*more)).is_complete()
    make_data(tmp_path / "train", 0)  # the same again, at another time
    assert not Training.of(line()).is_complete()
    Training.of(line()).mark_complete()
    assert Training.of(line()).is_complete() and "nothing to do" in capsys.readouterr().err
    assert Training.of(line("--resume")).is_complete()
    assert not Training.of(line("--overwrite", "true")).is_complete()


def test_a_training_of_somebody_else(line, tmp_path):
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp" / "checkpoint.pth").write_text("")
    with pytest.raises(UserError, match="what it was made from is not known"):
        Training.of(line()).is_complete()
    (tmp_path / "exp" / "checkpoint.pth").rename(tmp_path / "exp" / "notes.txt")
    assert not Training.of(line()).is_complete()


def test_a_dry_run_removes_nothing(line, tmp_path):
    (tmp_path / "dry.yaml").write_text("dry_run: true\n")
    assert Training.of(line("--overwrite", "true", "--dry_run", "False")).overwrite
    for dry in (["--dry_run", "true"], ["--config", str(tmp_path / "dry.yaml")]):
        with pytest.raises(UserError, match="--overwrite: a dry run removes nothing"):
            Training.of(line("--overwrite", "true", *dry))


def test_overwrite_removes_what_a_training_made_and_nothing_else(line, exp):
    for name in (*MADE, "notes.txt", "asr/mine.txt"):
        (exp / name).parent.mkdir(exist_ok=True)
        (exp / name).touch()
    Training.of(line()).clear()
    assert (exp / "checkpoint.pth").exists()
    inside = ["--overwrite", "true", "--init_param", str(exp / "1epoch.pth")]
    with pytest.raises(UserError, match="--overwrite would remove what this training starts from"):
        Training.of(line(*inside)).clear()
    Training.of(line("--overwrite", "true")).clear()
    assert {path.name for path in exp.iterdir()} == {"notes.txt", "asr"}


def test_a_recipes_file_is_no_configuration_yet(line, tmp_path):
    (tmp_path / "c.yaml").write_text("preprocessor_conf:\n    fs: ${run.fs}\n")
    with pytest.raises(UserError, match=r"preprocessor_conf.fs: expected a value, found \$\{run.fs\}"):
        Training.of(line())
    assert Training.of(line("--preprocessor_conf", "fs=8000"))
