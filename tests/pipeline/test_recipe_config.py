"""Recipes merged over the template: nothing is repeated, and the values are those of the files before it."""

import hashlib
import json
from pathlib import Path

import pytest
import yaml
from recipes import ROOT, copy_recipe, resolved

from frontend.pipeline.config import (
    Configuration,
    Setting,
    change,
    flat,
    merge,
    read_merged,
    read_size,
    sizes_of,
)
from frontend.utils.errors import UserError

RECIPES = ("mini", "mc_libri2mix", "speechocean762_2mix", "any_array", "recordings")
EXPECTED = json.loads((Path(__file__).parent / "resolved.json").read_text())


def digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def everything() -> dict[str, object]:
    """All configurations and sizes of all recipes, variants included."""
    found = {}
    for recipe in RECIPES:
        place = ROOT / "egs" / recipe
        facts = {"symmetry": "none"} if recipe == "recordings" else {}
        for size in sizes_of(place):
            found[f"{recipe}/size_{size}"] = read_size(place, size)
        names = "teacher student pseudo decode systems".split()
        names += [] if recipe == "recordings" else "scenes distill joint asr asr_gpu conditions".split()
        names += [] if recipe == "recordings" else ["pseudo_blind"]
        for name in names:
            found[f"{recipe}/{name}"] = resolved(recipe, name, **facts)
        for variant, names, more in (
            ("mask_net", "student", {}),
            ("one_channel", "teacher student pseudo distill systems", {"mics": 1}),
            ("mixed_talkers", "pseudo distill student systems", {"talkers": 3, "outputs": 6}),
            ("spatialnet", "teacher student", {}),
        ):
            for name in () if recipe == "recordings" else names.split():
                networks = () if variant in ("mask_net", "mixed_talkers") else ("mask_net",)
                found[f"{recipe}/{name}_{variant}"] = resolved(recipe, name, (*networks, variant), **more)
    found["mc_libri2mix/scenes_noise"] = resolved("mc_libri2mix", "scenes", ("noise",))
    return found


def test_every_configuration_is_what_it_was():
    """Digests of the files that each recipe had; an intended change is entered in resolved.json."""
    found = {name: digest(content) for name, content in everything().items()}
    assert {name for name in found if EXPECTED.get(name) != found[name]} == set()
    assert EXPECTED.keys() == found.keys()


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_says_only_what_differs(recipe):
    place = ROOT / "egs" / recipe
    for path in sorted(place.glob("conf/**/*.yaml")):
        own = yaml.safe_load(path.read_text())
        if own.pop("defaults", None) is None:
            continue
        template = flat("", yaml.safe_load((ROOT / "egs/TEMPLATE" / path.relative_to(place)).read_text()))
        alike = [key for key, value in flat("", own).items() if value == template.get(key, ...)]
        assert not alike, path
    template = yaml.safe_load((ROOT / "egs/TEMPLATE/recipe.yaml").read_text())
    own = yaml.safe_load((place / "recipe.yaml").read_text())
    assert not [key for key, value in own.items() if value == template[key]]


def test_what_is_merged_keeps_the_order_of_the_template():
    """Rows of the table stand in the order of the file."""
    assert [*merge({"a": {"x": 1, "y": 2}, "b": 1}, {"c": 1, "a": {"x": 3}})] == ["a", "b", "c"]
    assert merge({"a": {"x": 1, "y": [1]}}, {"a": {"y": [2], "z": None}}) == {
        "a": {"x": 1, "y": [2], "z": None}
    }


def test_recipes_are_short():
    files = [*ROOT.glob("egs/*/recipe.yaml"), *ROOT.glob("egs/*/conf/**/*.yaml")]
    assert len(files) <= 47 and sum(path.read_text().count("\n") for path in files) <= 916


def test_another_rate_keeps_windows_as_long_in_time():
    teacher, asr = resolved("mini", "teacher", fs=16000), resolved("mini", "asr", fs=16000)
    assert (
        teacher["encoder_conf"]
        == {"n_fft": 512, "hop_length": 256, "window": "hann"}
        == teacher["decoder_conf"]
    )
    assert teacher["preprocessor_conf"]["fs"] == asr["frontend_conf"]["fs"] == 16000
    assert resolved("mini", "student", fs=16000)["separator_conf"]["fs"] == 16000
    # 12.5 ms from window to window, as conf/asr.yaml has it.
    assert [asr["frontend_conf"][k] for k in ("n_fft", "win_length", "hop_length")] == [512, 400, 200]
    assert asr["batch_bins"] == 320000


def test_sizes_change_their_own_trainings():
    place = ROOT / "egs/mini"
    made = Configuration(
        place,
        read_size(place, "full"),
        {"fs": 8000, "mics": 4, "symmetry": "none", "talkers": 2, "fewest": 2, "outputs": 4},
    )
    student, finetune, full = (made.get(name) for name in ("student", "finetune", "full"))
    assert (student["max_epoch"], finetune["max_epoch"], full["max_epoch"]) == (3, 1, 3)
    assert [x["preprocessor_conf"]["as_is"] for x in (student, finetune, full)] == [0.0, 0.5, 0.5]
    made.settings = [Setting.read("student.preprocessor_conf.crop=2"), Setting.read("finetune.max_epoch=1")]
    student, finetune = made.get("student"), made.get("finetune")
    assert student["preprocessor_conf"]["crop"] == finetune["preprocessor_conf"]["crop"] == 2
    assert (student["max_epoch"], finetune["max_epoch"]) == (3, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "teacher.max_epochs=3",
            "--set teacher.max_epochs: no such key in the configuration (did you mean 'max_epoch'?)",
        ),
        ("teacher.optim_conf.lrr=3", "(did you mean 'lr'?)"),
        ("teacher.criterions[3].wrapper=x", "no such key"),
        ("teacher", "expected KEY=VALUE"),
        ("teacher.max_epoch=[", "expected a value in YAML"),
    ],
)
def test_unknown_settings_are_refused(text, message):
    with pytest.raises(UserError) as error:
        change(read_merged(ROOT / "egs/mini", "conf/teacher.yaml"), [Setting.read(text)], "teacher")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "value"), [("5e-4", 5e-4), ("[1, 2]", [1, 2]), ("null", None), ("a b", "a b")]
)
def test_values_are_yaml(text, value):
    assert Setting.read(f"teacher.x={text}").value == value


def test_settings_reach_into_lists_and_whole_mappings():
    settings = [
        "student.criterions[0].conf.snr_max=20",
        "student.optim_conf={lr: 0.1}",
        "student.max_epoch=1",
    ]
    found = change(
        read_merged(ROOT / "egs/mini", "conf/student.yaml"), map(Setting.read, settings), "student"
    )
    assert (
        found["criterions"][0]["conf"]["snr_max"] == 20
        and found["optim_conf"] == {"lr": 0.1}
        and found["max_epoch"] == 1
    )


def test_files_of_ones_own_are_checked(tmp_path):
    recipe = copy_recipe("mini", tmp_path / "mini")
    sizes = recipe / "conf/sizes.yaml"
    sizes.write_text(sizes.read_text() + "mine: {mixturs: {train: 3}}\n")
    with pytest.raises(UserError, match="mine: unknown key 'mixturs' .did you mean 'mixtures'"):
        read_size(recipe, "mine")
    with pytest.raises(UserError, match="unknown size 'huge': expected one of full, gpu, long, .*, mine"):
        read_size(recipe, "huge")
    (recipe / "conf/decode.yaml").write_text("beam_size: 2\n")  # without defaults: all of it
    assert resolved(recipe, "decode") == {"beam_size": 2}
    (recipe / "conf/decode.yaml").write_text("defaults: [OTHER]\n")
    with pytest.raises(UserError, match="expected .TEMPLATE., or no such line"):
        resolved(recipe, "decode")
    (recipe / "conf/decode.yaml").write_text("defaults: [TEMPLATE]\nbeam_size: ${run.beams}\n")
    with pytest.raises(UserError, match="conf/decode.yaml: "):
        resolved(recipe, "decode")
    (recipe / "conf/decode.yaml").write_text("defaults: [TEMPLATE]\npenalty: null\n")  # null removes
    assert "penalty" not in resolved(recipe, "decode")
