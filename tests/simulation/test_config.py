"""The YAML file of a simulated set: read as written, or refused with the reason."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from recipes import write_resolved

from frontend.simulation.config import (
    ArrayConfig,
    SceneConfig,
    TalkersConfig,
    load_condition,
    load_config,
    read_conditions,
    read_count,
)
from frontend.utils.errors import UserError


@pytest.fixture(scope="module")
def mini(tmp_path_factory) -> Path:
    """The scenes of the embedded recipe."""
    return write_resolved(tmp_path_factory.mktemp("conf") / "scenes.yaml", "mini", "scenes")


def test_configuration_of_the_embedded_recipe_names_every_knob_of_its_sections(mini):
    content = yaml.safe_load(mini.read_text())
    config = load_config(mini)
    assert len(config.array.offsets()) == 4 and config.fs == 8000
    assert set(content) == {field.name for field in dataclasses.fields(config)}
    for section in ("room", "talkers", "noise"):
        assert set(content[section]) == {field.name for field in dataclasses.fields(getattr(config, section))}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rooms: {}", "unknown key 'rooms' (did you mean 'room'?)"),
        ("talkers: {min_angel: 3}", "talkers: unknown key 'min_angel' (did you mean 'min_angle'?)"),
        ("array: {coordinates: []}", "array: unknown key 'coordinates'"),
        (
            "array: {kind: circle}",
            "array: kind: expected one of circular, linear, random, coordinates; found 'circle'",
        ),
        ("array: {n: 4.5}", "array: n: expected a whole number or [fewest, most]; found 4.5"),
        ("array: {rotate: maybe}", "array: rotate: Value 'maybe' is not a valid bool"),
        ("array: {radius: .nan}", "array: radius: expected a number; found nan"),
        ("talkers: {number: 2.5}", "talkers: number: expected a whole number or [fewest, most]"),
        ("array: {n: 0}", "array: n: expected at least one microphone"),
        ("array: {radius: 1.5}", "array: microphones 1.500 m from its centre"),
        ("array: {kind: coordinates}", "needs the key 'file'"),
        ("array: {kind: coordinates, file: nowhere.txt}", "nowhere.txt: expected a file, found no such file"),
        ("t60: [0.4, 0.2]", "t60: expected a number or [lowest, highest]; found [0.4, 0.2]"),
        ("t60: .nan", "t60: expected a number"),
        ("t60: [0.02, 0.2]", "t60: no walls absorb enough for 0.02 s in the smallest room"),
        ("t60: short", "t60: expected a number or [lowest, highest]; found 'short'"),
        ("talkers: {number: 5, min_angle: 90}", "5 talkers cannot stand 90.0 degrees apart"),
        ("talkers: {height: [1, 3]}", "talkers: height: expected between floor and lowest ceiling"),
        ("talkers: {distance: 0.01}", "talkers: distance: expected more than the array's 0.050 m"),
        ("talkers: {one_talker_share: 2.0}", "one_talker_share: expected 0 to 1"),
        ("noise: {kind: babel}", "found 'babel' (did you mean 'babble'?)"),
        ("room: {width: 1.0}", "wall_margin: expected"),
        ("fs: 0", "fs: expected a positive rate"),
        ("room: 3", "room: expected keys length, width, height; found 3"),
        ("[1, 2]", "expected a scene configuration (key: value), found list"),
        ("fs: [", "not YAML"),
    ],
)
def test_a_bad_configuration_is_one_clear_error(tmp_path, text, message):
    path = tmp_path / "scenes.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_config(path)
    assert str(path) in str(error.value) and message in str(error.value)


def test_configuration_values_and_overrides(tmp_path):
    (tmp_path / "mics.txt").write_text("# two\n0.1 0 0\n-0.1, 0, 0\n")
    path = tmp_path / "scenes.yaml"
    path.write_text(f"t60: 0.3\narray: {{kind: coordinates, file: {tmp_path}/mics.txt}}\n")
    config = load_config(path, ["talkers.number=3", "t60=0.2", "t60=[0.2, 0.3]", "noise.kind=none"])
    assert config.t60 == (0.2, 0.3) and config.talkers.number == (3, 3) and config.noise.kind == ("none",)
    assert config.array.offsets() == [(0.1, 0, 0), (-0.1, 0, 0)]
    with pytest.raises(UserError, match="3 channels asked for"):
        load_config(path, ["array.channels=3"])
    (tmp_path / "mics.txt").write_text("0.1 0 0\n-0.1 0\n")
    with pytest.raises(UserError, match=r"mics.txt:2: expected 'x y z' in metres, found '-0.1 0'"):
        load_config(path)
    path.write_text("")
    assert load_config(path) == SceneConfig()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("noise.kind", "override 'noise.kind': expected KEY=VALUE"),
        ("t60=[0.1", "override 't60=[0.1': expected a value in YAML, found [0.1"),
        ("noise.knd=white", "override noise.knd=white: noise: unknown key 'knd' (did you mean 'kind'?)"),
        ("noise=white", "override noise=white: noise: expected keys kind, snr_db, babble_talkers"),
        ("fs=fast", "override fs=fast: fs: Value 'fast' of type 'str' could not be converted to Integer"),
        ("t60=0.02", "scenes.yaml with t60=0.02: t60: no walls absorb enough for 0.02 s"),
    ],
)
def test_a_bad_override_is_one_clear_error(mini, override, message):
    with pytest.raises(UserError) as error:
        load_config(mini, [override])
    assert str(mini.name) in str(error.value) or "KEY=VALUE" in message or "in YAML" in message
    assert message in str(error.value) and "\n" not in str(error.value)


def test_numbers_and_pairs_are_the_same_from_yaml_and_from_python(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "t60: 0.2\ntalkers: {number: [2, 3], onset: 0}\narray: {n: 6, jitter: 0.001}\n"
    )
    talkers, array = TalkersConfig((2, 3), onset=0.0), ArrayConfig(n=6, jitter=(0.001, 0.001))
    assert load_config(tmp_path / "c.yaml") == SceneConfig(t60=0.2, talkers=talkers, array=array)
    assert [read_count("--n_talkers", text) for text in ("3", "2-3")] == [(3, 3), (2, 3)]
    for text in ("", "0", "3-2", "two"):
        with pytest.raises(UserError, match="--n_talkers: expected a number of talkers"):
            read_count("--n_talkers", text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [arry.n=4]", "a: .*unknown key 'arry' .did you mean 'array'"),
        ("a: [array.radius=2.0]", "conditions.yaml: a: .*microphones 2.000 m"),
        ("a: []", r"a: expected a list of overrides such as .*found \[\]"),
        ("a: {array: {radius: 2}}", "a: expected a list of overrides"),
        ("matched: [t60=0.3]", "'matched': expected a name"),
        ("a/b: [t60=0.3]", "'a/b': expected a name"),
        ("a: [fs=16000]", "'a' changes the sampling rate, 8000 in the matched set, 16000 in it"),
        ("- a", "expected a file of conditions"),
        ("b: [t60=0.3]", "no condition 'a'"),
    ],
)
def test_mistakes_in_conditions(mini, tmp_path, text, message):
    (tmp_path / "conditions.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        load_condition(mini, tmp_path / "conditions.yaml", "a")


def test_a_condition_comes_after_what_all_conditions_change(mini, tmp_path):
    (tmp_path / "c.yaml").write_text("a: [array.radius=0.02]\n")
    common = ["array.n=2", "array.radius=0.1", "t60=0.2"]
    assert read_conditions(tmp_path / "c.yaml") == {"matched": [], "a": ["array.radius=0.02"]}
    for name, radius in (("matched", 0.1), ("a", 0.02)):
        config = load_condition(mini, tmp_path / "c.yaml", name, common)
        assert (config.array.n, config.array.radius, config.t60) == ((2, 2), radius, (0.2, 0.2))
