"""Random checkpoints: the byte tokenizer, and reuse of an existing checkpoint."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, HiggsAudioV2Config, PreTrainedTokenizerFast

from higgs_recipes.configs.inference import InitConfig
from higgs_recipes.errors import InputError
from higgs_recipes.modeling.random_model import byte_tokenizer, init_checkpoint, random_checkpoint
from tests.helpers.checkpoints import tiny_folder
from tests.helpers.paths import ROOT


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "model.json: no such file; expected a JSON file of a HiggsAudioV2Config"),
        ("[", "model.json is not JSON"),
        (
            '{"model_type": "llama"}',
            'not a HiggsAudioV2Config; it must contain "model_type": "higgs_audio_v2"',
        ),
        (
            '{"model_type": "higgs_audio_v2", "vocab_size": 100}',
            "model config: the special tokens .* need distinct ids",
        ),
    ],
)
def test_invalid_model_config_is_refused_and_leaves_no_folder(tmp_path, content, message):
    if content is not None:
        (tmp_path / "model.json").write_text(content)
    with pytest.raises(InputError, match=message):
        init_checkpoint(InitConfig(model_config=str(tmp_path / "model.json"), output_dir=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def tokenizer_of(**config) -> PreTrainedTokenizerFast:
    higgs = HiggsAudioV2Config.from_pretrained(ROOT / "tests/data/random_tiny/model.json")
    return byte_tokenizer(higgs, **config)


def test_a_phrase_is_one_token_and_other_text_is_bytes():
    phrases = ["Generate audio following instruction.", "[SPEAKER0]", "A calm room."]
    tokenizer = tokenizer_of(phrases=phrases)
    without_phrases = tokenizer_of()
    text = "<|eot_id|>Generate audio following instruction.\n\nA calm room. [SPEAKER0] Chào ở đó."
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    instruction, tag = tokenizer.convert_tokens_to_ids([phrases[0], phrases[1]])
    assert ids[:2] == [tokenizer.eos_token_id, instruction] and ids.count(tag) == 1
    assert len(ids) == 1 + 1 + 2 + 1 + 1 + 1 + len(" Chào ở đó.".encode())
    assert tokenizer.decode(ids) == text
    text = "A text without a phrase."
    assert tokenizer(text)["input_ids"] == without_phrases(text)["input_ids"]


def test_a_phrase_is_saved_with_the_tokenizer(tmp_path):
    tokenizer = tokenizer_of(phrases=["A calm room."])
    tokenizer.save_pretrained(tmp_path)
    reloaded = AutoTokenizer.from_pretrained(tmp_path)
    assert reloaded("A calm room.")["input_ids"] == tokenizer("A calm room.")["input_ids"]
    assert len(reloaded("A calm room.")["input_ids"]) == 1


@pytest.mark.parametrize(
    "phrases, message",
    [
        (["a", ""], "one is empty or given twice"),
        (["a", "a"], "one is empty or given twice"),
        ([str(index) for index in range(100)], "100 phrases, but only 53 free ids; raise vocab_size"),
    ],
)
def test_invalid_phrases_are_refused(phrases, message):
    with pytest.raises(InputError, match=message):
        tokenizer_of(phrases=phrases)


def test_random_checkpoint_is_created_once_and_kept(tmp_path):
    config = str(tiny_folder() / "model.json")
    folder = random_checkpoint(config, folder=tmp_path, seed=0)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert random_checkpoint(config, folder=tmp_path, seed=0) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    assert {weight.dtype for weight in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}


def test_random_checkpoint_of_another_config_is_refused(tmp_path):
    fields = json.loads((tiny_folder() / "model.json").read_text()) | {"num_hidden_layers": 1}
    (tmp_path / "other.json").write_text(json.dumps(fields))
    random_checkpoint(str(tiny_folder() / "model.json"), folder=tmp_path / "model", seed=0)
    with pytest.raises(InputError, match="its model has num_hidden_layers 2, .*other.json has 1; remove the folder"):
        random_checkpoint(str(tmp_path / "other.json"), folder=tmp_path / "model", seed=0)


@pytest.mark.slow
def test_a_killed_command_is_finished_by_the_same_one_and_by_no_other(tmp_path):
    def init(**fields):
        configs = {"codec_config": str(ROOT / "tests/data/random_tiny/codec.json")}
        configs["model_config"] = str(tiny_folder() / "model.json")
        return init_checkpoint(InitConfig(**configs | {"output_dir": str(tmp_path / "out"), "seed": 3} | fields))

    model, codec = init()
    made = {path: path.stat().st_mtime_ns for path in codec.iterdir()}
    assert json.loads((model / "init.json").read_text()).items() >= {"seed": 3, "dtype": "float32"}.items()
    shutil.rmtree(model)  # killed before the model was complete
    with pytest.raises(InputError, match="out/codec exists and is not empty"):
        init(seed=4)
    assert init() == (model, codec) and (model / "model.safetensors").is_file()
    assert made == {path: path.stat().st_mtime_ns for path in codec.iterdir()}
    with pytest.raises(InputError, match="out/model exists and is not empty"):
        init()
    (codec / "init.json").unlink()
    init(overwrite_output_dir=True)
    assert (codec / "init.json").is_file()
