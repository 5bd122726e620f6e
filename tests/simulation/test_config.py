"""The YAML file of a simulated set: read as written, or refused with the reason."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from frontend.simulation.config import SceneConfig, load_config
from frontend.utils.errors import UserError

MINI = Path(__file__).resolve().parents[2] / "egs" / "mini" / "conf" / "scenes.yaml"


def test_configuration_of_the_embedded_recipe_names_every_knob_of_its_sections():
    content = yaml.safe_load(MINI.read_text())
    config = load_config(MINI)
    assert len(config.array.offsets()) == 4 and config.fs == 8000
    assert set(content) == {field.name for field in dataclasses.fields(config)}
    for section in ("room", "talkers", "noise"):
        assert set(content[section]) == {field.name for field in dataclasses.fields(getattr(config, section))}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rooms: {}", "unknown key 'rooms' (did you mean 'room'?)"),
        ("talkers: {min_angel: 3}", "talkers: unknown key 'min_angel' (did you mean 'min_angle'?)"),
        ("array: {channels: 3}", "array: unknown key 'channels'"),
        (
            "array: {kind: circle}",
            "array: kind: expected one of circular, linear, coordinates; found 'circle'",
        ),
        ("array: {n: 4.5}", "array: n: expected a value of type int; found 4.5"),
        ("array: {rotate: 1}", "array: rotate: expected a value of type bool"),
        ("array: {n: 0}", "array: n: expected at least one microphone"),
        ("array: {radius: 1.5}", "array: microphones 1.500 m from its centre"),
        ("array: {kind: coordinates}", "needs the key 'file'"),
        ("array: {kind: coordinates, file: nowhere.txt}", "cannot read the coordinates file 'nowhere.txt'"),
        ("t60: [0.4, 0.2]", "t60: expected a number or [lowest, highest]; found [0.4, 0.2]"),
        ("t60: .nan", "t60: expected a number"),
        ("t60: [0.02, 0.2]", "t60: no walls absorb enough for 0.02 s"),
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
    config = load_config(path, n_talkers=3)
    assert config.t60 == (0.3, 0.3) and config.talkers.number == 3
    assert config.array.offsets() == [(0.1, 0, 0), (-0.1, 0, 0)]
    with pytest.raises(UserError, match="3 channels asked for"):
        load_config(path, channels=3)
    (tmp_path / "mics.txt").write_text("0.1 0 0\n-0.1 0\n")
    with pytest.raises(UserError, match=r"mics.txt:2: expected 'x y z' in metres; found '-0.1 0'"):
        load_config(path)
    path.write_text("")
    assert load_config(path) == SceneConfig()
