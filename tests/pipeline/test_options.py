"""What a run makes of its options before it does anything: refusals, and where a run lies."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from recipes import ROOT, copy_recipe

from frontend import PRETRAINED
from frontend.cli.run import _check
from frontend.networks.spatialnet import SpatialNet
from frontend.pipeline.options import Given, shown_command
from frontend.pipeline.recipes import read_options, stages_of
from frontend.pipeline.stage import Record
from frontend.utils.errors import UserError
from frontend.utils.stamps import Stamp


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A copy of egs/mini, in which nothing was run, and where we are."""
    place = copy_recipe("mini", tmp_path / "mini")
    monkeypatch.chdir(place)
    return place


def options(recipe: Path, text: str = "", **more):
    """The options as they are typed, values without blanks."""
    words, given = text.split(), {}
    for name, value in zip(words[::2], words[1::2], strict=True):
        name = {"with": "extras", "set": "settings"}.get(name[2:], name[2:])
        known = {field.name: field.type for field in dataclasses.fields(Given)}
        if name in ("extras", "settings"):
            given[name] = tuple(value.split(","))
        elif name in known:
            given[name] = int(value) if "int" in str(known[name]) else value
        else:
            given.setdefault("more", {})[name] = value
    return read_options(Given(recipe=str(recipe), **given), **more)


def refused(recipe: Path, text: str, message: str) -> None:
    before = sorted(recipe.rglob("*"))
    with pytest.raises(UserError) as error:
        options(recipe, text)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert sorted(recipe.rglob("*")) == before


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "exp/espeak data/espeak data/espeak/speech ."),
        ("--channels 2", "exp/espeak_2ch data/espeak_2ch data/espeak/speech ."),
        ("--train_seed 3", "exp/espeak_train3 data/espeak data/espeak/speech exp/espeak_train3"),
        ("--train_seed 0", "exp/espeak data/espeak data/espeak/speech ."),  # the run itself
        (
            "--size tiny --seed 2",
            "exp/espeak_tiny_seed2 data/espeak_tiny_seed2 data/espeak_tiny_seed2/speech "
            "exp/espeak_tiny_seed2",
        ),
        ("--corpus fsdd", "exp/fsdd data/fsdd data/fsdd/speech fsdd"),
        ("--with on_the_fly", "exp/espeak_otf data/espeak_otf data/espeak/speech exp/espeak_otf"),
        # A run without labels, or with another recogniser or value, leaves the kept page alone.
        ("--with unsupervised", "exp/espeak_unsup data/espeak_unsup data/espeak/speech exp/espeak_unsup"),
        (
            "--with unsupervised --talkers 3 --channels 6",
            "exp/espeak_3spk_unsup_6ch data/espeak_3spk_unsup_6ch data/espeak/speech exp/espeak_3spk_unsup",
        ),
        ("--asr_model tag", "exp/espeak data/espeak data/espeak/speech exp/espeak"),
        ("--asr_exp .", "exp/espeak data/espeak data/espeak/speech exp/espeak"),
        ("--asr_config asr_gpu", "exp/espeak data/espeak data/espeak/speech exp/espeak"),
        ("--set teacher.max_epoch=3", "exp/espeak data/espeak data/espeak/speech exp/espeak"),
    ],
)
def test_where_a_run_lies(recipe, text, place):
    if "train_seed" in text:  # it needs what the first run made
        for path in ("data/espeak/train/wav.scp", "data/espeak/test/wav.scp", "exp/espeak/asr/config.yaml"):
            (recipe / path).parent.mkdir(parents=True)
            (recipe / path).touch()
    o = options(recipe, text)
    assert f"{o.exp} {o.data} {o.speech} {o.results}" == place


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("--talkers 1", "--talkers 1: expected 2, 3 or 4"),
        ("--talkers 5", "--talkers 5: expected 2, 3 or 4"),
        ("--talkers 1-3", "--talkers 1-3: expected 2, 3 or 4"),
        ("--talkers 3-2", "--talkers 3-2: expected 2, 3 or 4"),
        ("--with unsupervised,retrain", "curve, joint and retrain need labels"),
        ("--with unsupervised,curve", "curve, joint and retrain need labels"),
        ("--with joit", "--with joit: expected some of joint, controls, curve"),
        ("--size huge", "unknown size 'huge': expected one of full, gpu, long, one_channel, quick, tiny"),
        ("--audio_format mp3", "--audio_format mp3: expected one of wav, flac, flac.ark"),
        (
            "--audio_format flac --channels 12",
            "--audio_format flac: flac holds at most 8 channels, the array has 12",
        ),
        ("--audio_format flac.ark --channels 9", "at most 8 channels, the array has 9"),
        ("--allow_unknown maybe", "--allow_unknown maybe: expected one of true, false"),
        ("--train_seed 1", "run the same command without --train_seed first"),
        ("--train_seed 1 --asr_config asr_gpu", "--asr_config out"),
        ("--asr_exp nowhere", "--asr_exp nowhere: no such directory"),
        ("--asr_exp . --asr_model tag", "give one of them"),
        ("--asr_model tag --with joint", "leave --asr_exp, --asr_model and --asr_whisper out"),
        ("--asr_whisper tiny.en --with retrain", "--with joint and retrain need the ESPnet recogniser"),
        ("--asr_whisper tiny.en --asr_model tag", "--asr_model and --asr_whisper: give one of them"),
        ("--asr_config asr_gpuu", "unknown --asr_config 'asr_gpuu'"),
        ("--corpus fsdd --corpus_dir nowhere", "--corpus_dir nowhere: no such file or directory"),
        ("--channels 1 --with mismatch", "needs two or more microphones"),
        ("--talkers 3 --with joint", "are made for two talkers"),
        ("--talkers 2-3 --channels 2", "expected at least 3 microphones for 3 talkers, or one, found 2"),
        (
            "--talkers 4 --set scenes.array.n=3",
            "expected at least 4 microphones for 4 talkers, or one, found 3",
        ),
        ("--librispeech .", "no option --librispeech for"),
        ("--sizze tiny", "no option --sizze for"),
        ("--set techer.max_epoch=3", "--set techer.max_epoch: no such key (did you mean 'teacher'?)"),
        ("--set size.mixtures.trian=3", "--set size.mixtures.trian: no such key in the configuration"),
        ("--set launcher.tiem=3", "did you mean 'time'"),
        ("--set launcher.time=abc", "--set launcher.time: expected a number, found abc"),
        ("--set launcher.array=0", "launcher.array: expected a number, 1 or more, found 0"),
        ("--set launcher.train.time=1h", "launcher.train.time: expected a number of minutes, 1 or more"),
        ("--set launcher.train.cpus=2", "no such key in the configuration"),
        ("--set size.mixtures=3", "--set size.mixtures: expected keys with values, found 3"),
        ("--set size.mixtures.train=null", "--set size.mixtures.train: expected a number, found null"),
        ("--set scenes.array=3", "--set scenes.array: expected keys with values, found 3"),
        ("--set scenes.array.n=x", "--set scenes.array.n: expected a number, found x"),
        ("--set scenes.array.kind=coordinates", "scenes.array.file: expected a file of coordinates"),
        ("--set size.shares.semi=[a]", "size.shares: expected numbers above 0 and at most 1, found a"),
        ("--set size.shares.small=2", "size.shares: expected numbers above 0 and at most 1, found 2"),
        ("--set size.shares.small=0", "size.shares: expected numbers above 0 and at most 1, found 0"),
        ("--set size.generations=1.5", "size.generations: expected a whole number of at least 1, found 1.5"),
        ("--set size.mixtures.train=-1", "size.mixtures.train: expected a whole number of at least 1"),
        ("--set size.mixtures.labelled=0", "size.mixtures.labelled: expected a whole number of at least 1"),
        ("--set size.asr_rooms.dev=0", "size.asr_rooms.dev: expected a whole number of at least 1"),
        ("--set size.bank=0.5", "size.bank: expected a whole number of at least 1, found 0.5"),
        ("--set teacher=3", "--set teacher: expected teacher.KEY=VALUE, found no KEY"),
        ("--set size=3", "--set size: expected size.KEY=VALUE"),
        ("--set techer=3", "--set techer: no such key (did you mean 'teacher'?)"),
        ("--corpus ../other", "--corpus '../other': expected letters, digits"),
        # These would change nothing.
        ("--set mixtures.train=5", "--set mixtures.train: no such key"),
        ("--set sizes.full.seed=5", "--set sizes.full.seed: no such key"),
        ("--allow_unknown [", "--allow_unknown [: expected a value in YAML"),
        ("--launcher pbs", "--launcher pbs: expected local or slurm"),
        ("--fs 16000", "--fs 16000: the corpora of mini are made at 8000 Hz"),
        ("--fs 44100 --stage scenes", "--fs 44100: expected 8000 or 16000"),
        ("--set size.read_aloud=1", "read_aloud: expected 2 or more utterances"),
        ("--with curve --set size.shares.semi=[0.07]", "the share 0.07 needs a row supervised_7"),
        ("--with curve --set size.shares.semi=[0.25]", "the share 0.25 needs a row student_ft_25"),
    ],
)
def test_what_would_fail_after_hours_is_refused(recipe, text, message):
    refused(recipe, text, message)


def test_the_kept_page_of_a_size_is_of_its_recogniser(recipe):
    """That of the LibriSpeech slice is with Whisper; that of egs/mini with its own recogniser."""
    slice_ = "--size slice --librispeech ."
    assert options(ROOT / "egs/mc_libri2mix", f"{slice_} --asr_whisper tiny.en").results == Path(".")
    assert options(ROOT / "egs/mc_libri2mix", slice_).results != Path(".")
    assert options(recipe).results == Path(".") != options(recipe, "--asr_whisper tiny.en").results


def test_shares_of_a_size_are_a_list(recipe):
    with (recipe / "conf/sizes.yaml").open("a") as sizes:
        sizes.write("\nmine: {shares: {semi: 0.05}}\n")
    refused(recipe, "--size mine", "size.shares.semi: expected a list of shares, found 0.05")


def test_several_nodes_need_slurm(recipe):
    refused(recipe, "--nodes 2", "--nodes 2: several machines need --launcher slurm")
    assert options(recipe, "--nodes 2 --launcher slurm").given.nodes == 2


def test_a_setting_that_no_stage_reads_is_refused(recipe):
    with pytest.raises(UserError, match="no stage of this run reads"):
        stages_of(options(recipe, "--set student_adapt.max_epoch=3"))
    assert stages_of(options(recipe, "--set student.max_epoch=3"))


def test_a_text_in_the_place_of_a_number_is_refused(recipe):
    with pytest.raises(UserError, match="student.optim_conf.lr: expected a number, found 5e-4x"):
        stages_of(options(recipe, "--set student.optim_conf.lr=5e-4x"))
    assert stages_of(options(recipe, "--set student.optim_conf.lr=5e-4"))


def test_names_that_look_like_numbers_or_dates_stay_as_they_are(recipe):
    (recipe / "rec").mkdir()
    for text in ("--tag 007", "--tag 2024-01-01", "--out_dir 2024"):
        found = options(ROOT / "egs/recordings", f"--recordings {recipe}/rec {text}").data
        assert text.split()[1] in found.parts
    libri2mix = ROOT / "egs/mc_libri2mix"
    refused(libri2mix, "--download maybe --librispeech .", "--download maybe: expected true or false")


def test_a_packed_recogniser_is_seen_from_where_the_command_is_typed(recipe, monkeypatch):
    (recipe.parent / "asr.zip").touch()
    monkeypatch.chdir(recipe.parent)
    assert options(recipe, "--asr_model asr.zip").given_asr == "../asr.zip"


def test_wrong_recipes_are_refused(recipe):
    refused(recipe / "none", "", "no recipe '")
    refused(ROOT / "egs/TEMPLATE", "", "no recipe '")
    (recipe / "recipe.yaml").write_text("corpuss: espeak\n")
    refused(recipe, "", "recipe.yaml: unknown key 'corpuss' (did you mean 'corpus'?)")
    (recipe / "recipe.yaml").write_text("stages: all\n")
    refused(recipe, "", "stages: expected mixtures or recordings, found all")


def test_as_many_microphones_as_talkers(recipe):
    for text in ("--talkers 4", "--talkers 3 --channels 3", "--talkers 3 --channels 1", "--channels 2"):
        assert options(recipe, text)
    (recipe / "array.txt").write_text("0 0 0\n0.1 0 0  # beside it\n\n")
    text = "--set scenes.array.kind=coordinates,scenes.array.file=array.txt"
    (recipe / "conf/scenes.yaml").write_text(
        "defaults: [TEMPLATE]\narray: {kind: coordinates, file: array.txt}\n"
    )
    assert options(recipe).facts["mics"] == 2 and options(recipe).facts["symmetry"] == "none"
    refused(recipe, "--talkers 3", "found 2")


def test_as_many_gpus_as_asked_for(recipe):
    with pytest.raises(UserError, match="--ngpu 99: expected so many CUDA devices"):
        _check(options(recipe, "--ngpu 99"))


def test_a_recogniser_that_is_none_is_found_before_the_first_stage(recipe):
    o = options(recipe, "--asr_exp .")
    o.conf("decode")
    o.write()
    with pytest.raises(UserError, match="expected a trained recogniser with config.yaml"):
        _check(o)


def test_whisper_takes_the_place_of_the_recogniser(recipe, monkeypatch):
    """Of other training seeds too: there is nothing of the first run that they need."""
    (recipe.parent / "tiny").mkdir()
    monkeypatch.chdir(recipe.parent)
    for text, model in (
        ("base.en", "base.en"),
        ("tiny", "../tiny"),
        (str(recipe.parent / "tiny"), "../tiny"),
    ):
        o = options(recipe, f"--asr_whisper {text}")
        stages = {stage.name: stage for stage in stages_of(o)}
        assert o.given_asr == model and stages["asr"].skip == "another recogniser was given"
        [decode] = stages["decode"].commands
        assert decode[decode.index("--asr_whisper") + 1] == model and not {"--asr", "--asr_model"} & {*decode}
        assert o.results == Path("exp/espeak")  # the kept page is of the recipe's own recogniser
    for name in ("train/wav.scp", "test/wav.scp"):
        (recipe / "data/espeak" / name).parent.mkdir(parents=True)
        (recipe / "data/espeak" / name).touch()
    refused(recipe, "--train_seed 1", "asr/config.yaml is not there")
    assert options(recipe, "--train_seed 1 --asr_whisper base.en").recogniser["asr_whisper"] == "base.en"
    (recipe.parent / "rec").mkdir()
    (recipe.parent / "ref.stm").touch()
    o = options(ROOT / "egs/recordings", "--recordings rec --transcripts ref.stm --asr_whisper base.en")
    stage = next(stage for stage in stages_of(o) if stage.name == "recognise")
    assert not stage.skip and "--asr_whisper base.en" in " ".join(stage.commands[0])
    assert "--asr " not in " ".join(stage.commands[0])


def test_listed_pairs_are_pairs(tmp_path):
    libri = copy_recipe("mc_libri2mix", tmp_path / "libri")
    refused(libri, "--talkers 3", "--talkers 3: libri mixes 2 at most")
    refused(libri, "", "--librispeech DIR is missing")
    refused(libri, "--download true", "--librispeech DIR is missing")
    refused(libri, f"--librispeech {tmp_path}/nowhere", "nowhere: no such file or directory")
    o = options(libri, f"--librispeech {tmp_path}/nowhere --download true --download_url http://mirror")
    assert o.fetch == [["local/download.sh", f"{tmp_path}/nowhere", "http://mirror"]]
    assert o.pool == "labelled" and [name for name, *_ in o.sets] == [
        "train",
        "labelled",
        "dev",
        "test",
        "test_1spk",
    ]


def test_options_of_the_recipe_reach_its_data_preparation(tmp_path):
    libri = copy_recipe("mc_libri2mix", tmp_path / "libri")
    (tmp_path / "my noise").mkdir()
    o = options(libri, f"--librispeech {tmp_path} --size tiny --fs 16000")
    noisy = read_options(
        Given(
            str(libri), size="tiny", more={"librispeech": str(tmp_path), "noise_dir": f"{tmp_path}/my noise"}
        )
    )
    data, noise = stages_of(o)[0], stages_of(noisy)[0]
    line = " ".join(data.commands[0])
    assert f"--librispeech {tmp_path}" in line and "--fs 16000" in line and "--noise_files 4" in line
    assert f"{tmp_path}/my noise" in noise.commands[0] and Path(f"{tmp_path}/my noise") in noise.reads
    assert o.content("scenes")["noise"]["kind"] == "white" and o.content("scenes")["fs"] == 16000
    assert noisy.content("scenes")["noise"] == {
        "kind": "recorded",
        "snr_db": [3.5, 13.5],
        "babble_talkers": 6,
    }
    assert noisy.exp == Path("exp/librispeech_tiny_noise")


def test_corpora_of_one_rate_and_speech_that_somebody_brings(recipe):
    assert options(recipe, "--fs 16000 --stage scenes").exp == Path("exp/espeak_16k")
    for name in ("speechocean762_2mix", "mc_libri2mix"):
        other = copy_recipe(name, recipe.parent / name)
        assert options(other, f"--fs 16000 --corpus_dir {recipe}").fs == 16000


def test_the_table_is_of_one_family(recipe):
    names = (
        "espeak espeak_1ch espeak_16ch espeak_16k_2ch espeak_3spk_2ch espeak_3spk_otf_1ch espeak_3spk".split()
    )
    for name in names:
        (recipe / "exp" / name / "scores").mkdir(parents=True)
    (recipe / "exp/espeak_2ch").mkdir()  # without scores
    assert [path.name for path in options(recipe).experiments()] == ["espeak", "espeak_16ch", "espeak_1ch"]
    assert [path.name for path in options(recipe, "--talkers 3").experiments()] == [
        "espeak_3spk",
        "espeak_3spk_2ch",
    ]


def test_training_seeds_are_not_compared_with_other_arrays(recipe):
    for path in ("data/espeak/train/wav.scp", "data/espeak/test/wav.scp", "exp/espeak/asr/config.yaml"):
        (recipe / path).parent.mkdir(parents=True)
        (recipe / path).touch()
    for name in ("espeak", "espeak_2ch"):
        (recipe / "exp" / name / "scores").mkdir(parents=True)

    def compared(text):
        stage = next(s for s in stages_of(options(recipe, text)) if s.name == "mismatch")
        return [path for path in stage.reads if path == Path("exp/espeak_2ch/scores")]

    assert compared("--with mismatch") and not compared("--with mismatch --train_seed 1")


def test_the_conditions_are_those_of_the_file(recipe):
    (recipe / "conf/conditions.yaml").write_text("far: {t60: 0.5}\n'near.1': {t60: 0.2}\n")
    stage = next(s for s in stages_of(options(recipe, "--with mismatch")) if s.name == "mismatch")
    assert [path.parent.name for path in stage.reads] == ["matched", "far", "near.1"]


def test_conditions_need_a_row_of_their_own(recipe):
    (recipe / "conf/systems.yaml").write_text("mixture: {}\n")
    with pytest.raises(UserError, match=r"one of the rows student, any_array, .*systems\.yaml, found none"):
        stages_of(options(recipe, "--with mismatch"))


def test_no_condition_has_fewer_microphones_than_talkers(recipe):
    names = {f"mics_{n}": [f"array.n={n}"] for n in (2, 3, 8)} | {"far": ["t60=0.5"]}
    (recipe / "conf/conditions.yaml").write_text(yaml.safe_dump(names))

    def listed(text):
        return sorted(options(recipe, f"--with mismatch {text}").conditions)

    assert listed("") == sorted(names) and listed("--talkers 2-3") == ["far", "mics_3", "mics_8"]
    assert listed("--channels 6") == ["far"]  # of one number of microphones
    (recipe / "array.txt").write_text("0 0 0\n0.05 0 0\n0 0.05 0\n")
    scenes = "defaults: [TEMPLATE]\narray: {kind: coordinates, file: array.txt}\n"
    (recipe / "conf/scenes.yaml").write_text(scenes)
    assert listed("") == ["far"]


def test_what_was_asked_for_once_stays(recipe):
    (recipe / "exp/espeak/joint").mkdir(parents=True)
    o = options(recipe, "--with curve")
    assert o.extras == ("joint", "curve") and o.notes["command"].endswith("--with joint,curve")
    refused(recipe, "--asr_model tag", "leave --asr_exp, --asr_model and --asr_whisper out")


def test_the_page_shows_what_differs_and_no_homes():
    given = Given(
        recipe="egs/speechocean762_2mix",
        corpus_dir="/home/somebody/corpora/ocean",
        size="cpu",
        seed=3,
        nj=8,
        settings=("teacher.max_epoch=3",),
        more={"allow_unknown": "true", "out_dir": "/tmp/x"},
    )
    shown = shown_command(given, {"size": "cpu", "corpus": "speechocean762"}, ("joint",))
    assert shown == (
        "egs/speechocean762_2mix/run.sh --corpus_dir .../ocean --seed 3 --allow_unknown true --with joint "
        "--set teacher.max_epoch=3"
    )


def test_variants_follow_channels_and_talkers(recipe):
    assert options(recipe, "--channels 1").content("pseudo") == {"rule": "energy+residual", "n_talkers": 2}
    for name in ("teacher", "student", "full"):
        assert options(recipe, "--channels 1").content(name)["separator_conf"]["recurrent_units"] == 128
    mixed = options(recipe, "--talkers 2-3")
    assert (
        mixed.content("pseudo")["refine"].endswith("gate+iva+mask")
        and mixed.content("pseudo")["n_talkers"] == 3
    )
    assert mixed.content("teacher")["separator_conf"]["num_spk"] == 6
    assert options(recipe, "--talkers 2-3 --channels 1").variants == ["mask_net", "one_channel"]
    assert options(recipe, "--channels 2").content("student")["separator_conf"]["n_mics"] == 2


def test_another_network_is_an_experiment_of_its_own(recipe):
    made = options(recipe, "--network spatialnet")
    assert made.exp.name.endswith("_spatialnet") and made.results.parent.name == "exp"
    for name, outputs in ("teacher", 4), ("student", 2):
        content = made.content(name)
        network = SpatialNet(129, **content["separator_conf"])  # whose names the overlay has
        assert content["separator"] == "spatialnet" and (network.num_spk, network.n_mics) == (outputs, 4)
        assert network.streams == (2 if name == "student" else 0)
    with pytest.raises(UserError, match="--network spatialnet is for one array, of two microphones or more"):
        options(recipe, "--network spatialnet --channels 1")
    with pytest.raises(UserError, match="--network mask_net: expected one of spatialnet"):
        options(recipe, "--network mask_net")


def test_of_recordings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = copy_recipe("recordings", tmp_path / "recipe")
    (tmp_path / "v1.0").mkdir()
    (tmp_path / "wav.table.scp").touch()
    for text, message in (
        ("", "--recordings is missing"),
        ("--recordings nowhere", "--recordings nowhere: no such file or directory"),
        ("--recording x", "no option --recording for"),
        ("--recordings v1.0 --size huge", "unknown size 'huge'"),
        ("--recordings v1.0 --talkers 1", "--talkers 1: expected 2 to 4"),
        (
            "--recordings v1.0 --transcripts v1.0",
            "--transcripts: expected a recogniser beside them",
        ),
        ("--recordings v1.0 --init_model v1.0", "expected a trained teacher in it"),
        ("--recordings v1.0 --rttm v1.0 --segments v1.0", "give one of them"),
        ("--recordings v1.0 --tag a/b", "--tag 'a/b': expected letters"),
        ("--recordings v1.0 --seed 1 --channels 2", "recordings have no such choice"),
    ):
        refused(recipe, text, message)
    for name, tag in (("v1.0", "v1_0_tiny"), ("wav.table.scp", "wav_table_tiny")):
        assert options(recipe, f"--recordings {name} --size tiny").exp == Path("exp", tag)
    assert options(recipe, "", listing=True)
    o = options(recipe, "--recordings v1.0 --fs 16000")
    assert o.content("teacher")["encoder_conf"]["n_fft"] == 512 and o.facts["mics"] == 0
    monkeypatch.chdir(recipe)
    (o.data / "whole").mkdir(parents=True)
    (o.data / "whole/array").write_text("6 circular 16000\n")
    assert stages_of(o)  # what was read before stage data is read again
    teacher = yaml.safe_load(yaml.safe_dump(o.content("teacher")))
    assert (
        teacher["separator_conf"]["n_mics"] == 6
        and teacher["preprocessor_conf"]["array_symmetry"] == "circular"
    )


def test_recordings_of_the_same_name_never_displace_each_other(tmp_path, monkeypatch):
    """The name is that of the folder; however its path is written, the same folder goes on."""
    monkeypatch.chdir(tmp_path)
    recipe = copy_recipe("recordings", tmp_path / "recipe")
    for day in ("day1", "day2"):
        (tmp_path / day / "wav").mkdir(parents=True)
        (tmp_path / day / "wav.scp").touch()
        (tmp_path / day / "会议").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "day1/wav")
    for first, again, other in (
        (
            "day1/wav",
            ("day1/wav/", "day1/../day1/wav/.", "link"),
            ("day2/wav", "day2/wav.scp", "day1/wav.scp"),
        ),
        ("day1/会议", ("day1/会议/",), ("day2/会议",)),
    ):
        o = options(recipe, f"--recordings {first}")
        record = Record(Stamp.of({}, {str(tmp_path / first): "digest", "/some/geometry": ""}), 0.0)
        record.write(recipe / o.exp / "stages/data.json")
        for path in (first, *again):
            assert options(recipe, f"--recordings {path}").exp == o.exp
        for path in other:
            refused(recipe, f"--recordings {path}", "(give these another name: --tag NAME)")
            assert options(recipe, f"--recordings {path} --tag second").exp != o.exp


def test_with_one_microphone_fresh_students_start_from_the_teacher(recipe):
    """What learns from true images alone starts from nothing, and so do the students of an array."""

    def started(text):
        stages = stages_of(options(recipe, text))
        lines = [command for stage in stages for command in stage.commands if command[0] == "train"]
        names = [Path(line[line.index("--output_dir") + 1]).name for line in lines]
        from_teacher = [
            name for name, line in zip(names, lines, strict=True) if "ignore_init_mismatch" in " ".join(line)
        ]
        assert all("teacher/" in " ".join(line) for line in lines if "ignore_init_mismatch" in " ".join(line))
        assert {"supervised_small", "supervised_full", "student_ft"} <= {*names}
        return from_teacher

    def read(text):
        stages = {stage.name: stage for stage in stages_of(options(recipe, text))}
        return [
            name
            for name, stage in stages.items()
            if any(path.parent.name == "teacher" for path in stage.reads)
        ]

    # A student is stale with its teacher, by way of the labels; with one microphone by its weights too.
    assert {"student", "distill", "curve"} <= {*read("--channels 1 --with curve")}
    assert {"student", "distill", "curve"}.isdisjoint(read("--with curve"))
    curve = ["cotrained", "cotrained_1", "distilled_1", "cotrained_5", "distilled_5"]
    assert started("--channels 1 --with curve") == ["student", "distilled", *curve]
    assert started("--with curve") == []


@pytest.mark.parametrize(("text", "fits"), [("", True), ("--channels 1", False), ("--channels 9", False)])
def test_the_rows_of_the_package_s_model_are_stale_with_it(recipe, text, fits):
    stages = {stage.name: stage for stage in stages_of(options(recipe, text))}
    assert (PRETRAINED.name in stages["separate"].settings) == fits
