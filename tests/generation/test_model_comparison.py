"""After a merge: base, adapter and merged model speak the same text with the same seed."""

import json

import pytest
import torch

from higgs_recipes.audio.io import read_audio
from higgs_recipes.configs.inference import MergeConfig
from higgs_recipes.errors import InputError
from higgs_recipes.generation.model_comparison import ModelTest
from higgs_recipes.generation.synthesis import speak_greedily
from higgs_recipes.modeling.merge import merge
from higgs_recipes.output_folder import FILE_LIST
from tests.helpers.checkpoints import build, sft_config, tiny_folder
from tests.helpers.tiny_codec import tiny_codec_folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """An adapter with random weights."""
    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(0)
    model, _ = build(sft_config(folder / "out"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    return folder


def config(adapter, tmp_path, **fields) -> MergeConfig:
    models = {"model_name_or_path": str(tiny_folder() / "model"), "codec_name_or_path": str(tiny_codec_folder())}
    defaults = {
        "adapter": str(adapter),
        "dtype": "float32",
        "max_seconds": 0.2,
        "output_dir": str(tmp_path / "merged"),
    }
    return MergeConfig(**models | defaults | fields)


def test_the_three_models_speak_side_by_side(adapter, tmp_path):
    recipe = config(adapter, tmp_path, test_input="Hello <there>", compare_models=True, seed=3)
    test = ModelTest(recipe)
    merge(recipe, speak=speak_greedily)
    lines = test.run()
    folder = tmp_path / "merged_test"
    assert lines[2:] == [f"{folder}/merged.wav: 0.20 s, seed 3", f"comparison: {folder}/comparison.html"]
    record = json.loads((folder / "comparison.json").read_text())
    equal = {system["system"]: system["equal_codes"] for system in record["systems"]}
    assert list(equal) == ["base", "adapter", "merged"] and (record["text"], record["seed"]) == ("Hello <there>", 3)
    assert equal["adapter"] == equal["merged"] == 1 > equal["base"]
    page = (folder / "comparison.html").read_text()
    assert "Hello &lt;there&gt;" in page and all(f'src="{name}.wav"' in page for name in equal)
    for name in equal:
        assert len(read_audio(folder / f"{name}.wav", name=name)) == 0.2 * 24_000


def test_a_test_input_alone_is_spoken_by_the_merged_model(adapter, tmp_path):
    recipe = config(adapter, tmp_path, test_input="Hello", test_dir=str(tmp_path / "test"))
    test = ModelTest(recipe)
    merge(recipe, speak=speak_greedily)
    assert test.run() == [f"{tmp_path}/test/merged.wav: 0.20 s, seed 0"]
    assert {path.name for path in (tmp_path / "test").iterdir()} - {FILE_LIST} == {"comparison.json", "merged.wav"}


def test_faults_are_found_before_the_merge(adapter, tmp_path):
    with pytest.raises(InputError, match="test_input has no words"):
        ModelTest(config(adapter, tmp_path, test_input="..."))
    with pytest.raises(InputError, match="no config.json; give a transformers checkpoint of"):
        ModelTest(config(adapter, tmp_path, test_input="Hi", codec_name_or_path=str(tmp_path)))
    (tmp_path / "merged_test").mkdir()
    (tmp_path / "merged_test/notes.txt").touch()
    with pytest.raises(InputError, match="merged_test exists and is not empty"):
        ModelTest(config(adapter, tmp_path, test_input="Hi"))
    for test_dir in ("merged", "merged/test", "."):
        with pytest.raises(InputError, match="test_dir .* and output_dir must be separate folders"):
            config(adapter, tmp_path, test_dir=str(tmp_path / test_dir))
