"""The model in recipes/tiny/base is small enough for a repository, and it speaks."""

import shutil

import pytest
import torch
import yaml
from safetensors import safe_open

from higgs_recipes.audio.asr import PACKAGE_ASR_MODEL, load_asr_model
from higgs_recipes.audio.codec import load_codec
from higgs_recipes.audio.word_errors import utterance_errors
from higgs_recipes.chatml import conversation
from higgs_recipes.configs.inference import SamplingConfig
from higgs_recipes.configs.model import ModelConfig
from higgs_recipes.constants import FRAMES_PER_SECOND
from higgs_recipes.errors import InputError
from higgs_recipes.generation.generate import Request, generate
from higgs_recipes.hub.run_record import RUN_INFO
from higgs_recipes.modeling.model import load_model
from higgs_recipes.normalizers import choose_normalizer
from recipes.tiny.round_base import round_model
from recipes.tiny.spoken.voices import BASE_VOICES
from tests.helpers.checkpoints import tiny_folder
from tests.helpers.paths import ROOT


TINY = ROOT / "recipes/tiny"


@pytest.fixture(scope="module")
def base():
    return load_model(ModelConfig(str(TINY / "base"), dtype="float32"))


def test_model_and_codec_are_small_and_the_weights_are_float16():
    files = [path for part in ("base", "mel_rvq") for path in (TINY / part).iterdir()]
    assert sum(path.stat().st_size for path in files) < 32e6
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jinja", ".md"}
    with safe_open(TINY / "base/model.safetensors", framework="pt") as weights:
        assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.float16}


def test_rounding_keeps_all_weights_and_refuses_values_beyond_float16(tmp_path):
    folder = tmp_path / "trained"
    shutil.copytree(tiny_folder() / "model", folder)
    (folder / RUN_INFO).write_text("{}", encoding="utf-8")
    round_model(folder, tmp_path / "rounded")
    trained, rounded = (
        load_model(ModelConfig(str(tmp_path / name), dtype="float32"))[0] for name in ("trained", "rounded")
    )
    with safe_open(tmp_path / "rounded/model.safetensors", framework="pt") as weights:
        assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.float16}
    for (name, weight), other in zip(trained.named_parameters(), rounded.parameters(), strict=True):
        assert torch.equal(weight.half().float(), other), name
    with torch.no_grad():
        trained.model.norm.weight.fill_(70_000.0)
    trained.save_pretrained(folder)
    with pytest.raises(InputError, match="trained: the largest weight, 70000, exceeds the range of float16"):
        round_model(folder, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_the_model_has_the_shape_of_base_model_json_and_one_token_per_voice(base):
    model, tokenizer = base
    shape = yaml.safe_load((TINY / "base_model.json").read_text(encoding="utf-8"))
    config = model.config.to_dict()
    assert {name: config[name] for name in shape} == shape
    assert sum(weight.numel() for weight in model.parameters()) == 14_466_304
    for voice in BASE_VOICES.values():
        assert len(tokenizer.encode(voice.scene, add_special_tokens=False)) == 1


def test_the_model_speaks_the_text_and_stops(base):
    model, tokenizer = base
    recipe = yaml.safe_load((TINY / "base_generate.yaml").read_text(encoding="utf-8"))
    requests = [
        Request(
            conversation({"text": text, "scene": BASE_VOICES[voice].scene}, task="single_speaker_smart_voice"), [], 0
        )
        for text in recipe["text"]
        for voice in ("heart", "rms")
    ]
    sampling = SamplingConfig(
        **{name: recipe[name] for name in ("temperature", "ras_win_len", "max_seconds")}, batch_size=4
    )
    generations = generate(model, tokenizer, requests, sampling=sampling)
    assert all(clip.stopped and 1 < len(clip.codes) / FRAMES_PER_SECOND < 4 for clip in generations)
    waveforms = load_codec(TINY / "mel_rvq", revision=None, device="cpu").decode([clip.codes for clip in generations])
    asr_model = load_asr_model(PACKAGE_ASR_MODEL, revision=None, device="cpu")
    heard = asr_model.transcribe(waveforms, language="en")
    said = [text for text in recipe["text"] for _ in range(2)]
    rules = [choose_normalizer("whisper_en_no_spelling", "en")] * len(said)
    errors = utterance_errors(said, heard, rules=rules)
    assert sum(each.edits for each in errors) <= 0.4 * sum(each.length for each in errors), heard
