"""The files of a base: fetched once, and copied without weights and records."""

import pytest

from higgs_recipes.configs.model import ModelConfig
from higgs_recipes.errors import InputError
from higgs_recipes.hub.download import Snapshot
from higgs_recipes.modeling.base_files import copy_base_files, fetch_base
from tests.helpers.checkpoints import tiny_folder, tiny_model_config


def test_base_in_a_folder_is_used_in_place():
    base = fetch_base(tiny_model_config())
    assert base.folder == tiny_folder() / "model" and base.commit is None


def test_missing_base_is_refused():
    with pytest.raises(InputError, match="no such folder: ./nowhere"):
        fetch_base(ModelConfig("./nowhere"))


def test_tokenizer_and_processor_are_copied_and_weights_and_records_are_not(tmp_path):
    base, folder = tmp_path / "base", tmp_path / "tuned"
    base.mkdir()
    folder.mkdir()
    copied = {"config.json", "tokenizer.json", "chat_template.jinja", "vocab.txt", "generation_config.json"}
    excluded = {"model.safetensors", "model.safetensors.index.json", "run.json", "merge.json", "notes.md", "a.bin"}
    for name in copied | excluded:
        (base / name).write_text("base")
    (folder / "config.json").write_text("tuned")
    copy_base_files(Snapshot("base", None, base), folder)
    assert {path.name for path in folder.iterdir()} == copied
    assert (folder / "config.json").read_text() == "tuned" and (folder / "vocab.txt").read_text() == "base"
