import json
from dataclasses import fields, replace

from higgs_recipes.configs import measured_speeds
from higgs_recipes.configs.measured_speeds import FSDP, PUBLISHED_SHAPE, SETTINGS, SPEEDS, Speed, find_speed
from higgs_recipes.configs.sft import SFTConfig
from tests.helpers.configs import make
from tests.helpers.paths import ROOT


def test_every_measurement_is_found_by_exactly_its_settings(monkeypatch):
    monkeypatch.setattr("higgs_recipes.configs.fields.find_spec", lambda name: name)  # as if bitsandbytes is installed
    assert set(SETTINGS) <= {field.name for field in fields(SFTConfig)}
    for speed in SPEEDS:
        recipe = SETTINGS | dict(speed.settings)
        place = {"hardware": speed.hardware, "sharded_by": speed.sharded_by}
        assert set(speed.settings) <= set(SETTINGS) and find_speed(recipe, **place) == speed
        parsed = make(SFTConfig, **recipe)  # transformers changes some fields
        assert find_speed({name: getattr(parsed, name) for name in SETTINGS}, **place) == speed
        for name in SETTINGS:
            assert find_speed(recipe | {name: "another value"}, **place) is None, name


def test_no_settings_were_measured_twice_on_the_same_hardware():
    keys = [
        json.dumps([SETTINGS | dict(speed.settings), speed.hardware, speed.sharded_by], sort_keys=True)
        for speed in SPEEDS
    ]
    assert len(set(keys)) == len(keys)


def test_a_measurement_on_the_given_hardware_is_preferred(monkeypatch):
    small = Speed({}, positions_per_second=1.0, peak_gib=1.0, hardware="small", made_by="a program")
    big, sharded = replace(small, hardware="big"), replace(small, hardware="big", sharded_by=FSDP)
    monkeypatch.setattr(measured_speeds, "SPEEDS", (sharded, small, big))
    assert find_speed(SETTINGS, hardware="big") == big and find_speed(SETTINGS, hardware="small") == small
    assert find_speed(SETTINGS, hardware="other") == find_speed(SETTINGS) == small
    assert find_speed(SETTINGS, hardware="small", sharded_by=FSDP) == sharded
    assert find_speed(SETTINGS, hardware="big", sharded_by="another way") is None


def test_the_published_shape_is_that_of_the_config_of_its_size():
    shape = json.loads((ROOT / "recipes/higgs-3b/model.json").read_text())
    assert {name: shape[name] for name in PUBLISHED_SHAPE} == PUBLISHED_SHAPE
