"""The base and the codec of a model are found in its records."""

import json

import pytest

from higgs_recipes.configs.model import CODEC_ID, CODEC_REVISION, MODEL_ID, MODEL_REVISION
from higgs_recipes.errors import InputError
from higgs_recipes.generation.speaker_files import find_codec, find_model
from higgs_recipes.hub.run_record import read_run
from tests.helpers.paths import ROOT
from tests.helpers.tiny_codec import tiny_codec_folder


CODEC = "recipes/tiny/mel_rvq"


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def adapter_folder(tmp_path, *, run: dict | None = None, **lora):
    folder = tmp_path / "adapter"
    folder.mkdir()
    lora = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"], **lora}
    (folder / "adapter_config.json").write_text(json.dumps(lora))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    if run is not None:
        (folder / "run.json").write_text(json.dumps(run))
    return str(folder)


def find(name: str, **fields):
    return find_model(name, **{"revision": None, "base": None, "dtype": "float32"} | fields)


def test_a_checkpoint_is_its_own_base():
    files = find("recipes/tiny/base")
    assert files.adapter is None and files.config.model_name_or_path == "recipes/tiny/base"
    assert files.run["codec"].startswith("local@") and files.config.dtype == "float32"
    with pytest.raises(InputError, match="recipes/tiny/base is not an adapter, so it has no base: remove base='x'"):
        find("recipes/tiny/base", base="x")


def test_an_adapter_names_its_base_in_its_record(tmp_path):
    name = adapter_folder(tmp_path, run={"base_model": "recipes/tiny/base", "base_revision": None})
    files = find(name)
    assert files.adapter.name == name and files.base.name == "recipes/tiny/base"


def test_an_adapter_of_others_names_its_base_in_its_config(tmp_path):
    files = find(adapter_folder(tmp_path, base_model_name_or_path="recipes/tiny/base"))
    assert files.base.name == "recipes/tiny/base" and files.run is None


def test_the_revision_of_the_base_is_that_of_the_record(tmp_path, monkeypatch):
    monkeypatch.setattr("higgs_recipes.generation.speaker_files.fetch_base", lambda config: config)
    name = adapter_folder(tmp_path, run={"base_model": "me/base", "base_revision": "abc"})
    assert (find(name).base.model_name_or_path, find(name).base.model_revision) == ("me/base", "abc")
    assert (find(name, base=MODEL_ID).base.model_revision) == MODEL_REVISION


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"base_model": "model", "base_revision": None}, "its base, model, is not a folder here: give base="),
        (None, "its record names no base: give base=, or merge it with scripts/merge.py"),
    ],
)
def test_a_base_that_is_not_here_must_be_given(tmp_path, run, message):
    name = adapter_folder(tmp_path, run=run)
    with pytest.raises(InputError, match=message):
        find(name)
    assert find(name, base="recipes/tiny/base").base.name == "recipes/tiny/base"


def codec_of(run: dict | None, codec: str | None = None) -> tuple[str, str | None]:
    config = find_codec(codec, run, name="me/voice")
    return config.codec_name_or_path, config.codec_revision


def test_the_codec_is_the_given_one_or_that_of_the_record_or_the_published_one():
    run = read_run(ROOT / "recipes/tiny/base")
    assert codec_of(run) == (CODEC, None)
    assert codec_of(run, "me/codec") == ("me/codec", None)
    assert codec_of({"codec": "me/codec@abc", "recipe": {}}) == ("me/codec", "abc")
    assert codec_of(None) == codec_of(None, CODEC_ID) == (CODEC_ID, CODEC_REVISION)


@pytest.mark.parametrize(
    "path", ["codec", str(tiny_codec_folder()), None, "recipes/tiny"], ids=["name", "folder", "none", "base"]
)
def test_a_local_codec_that_is_not_here_must_be_given(path):
    run = {"codec": "local@0123456789abcdef", "recipe": {"codec_name_or_path": path}}
    with pytest.raises(InputError, match="me/voice: trained with the codec local@0123456789abcdef, .*: give codec="):
        codec_of(run)
