import json
import shutil
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import HiggsAudioV2TokenizerModel

from higgs_recipes.audio import codec as codec_module
from higgs_recipes.audio.codec import (
    codec_revision,
    equal_length_batches,
    load_codec,
    local_revision,
    num_steps,
    pad_to_steps,
)
from higgs_recipes.audio.io import read_audio
from higgs_recipes.constants import HOP
from higgs_recipes.corpus.code_cache import CodeCache
from higgs_recipes.errors import InputError
from tests.helpers.tiny_codec import CORPUS, tiny_codec, tiny_codec_folder, tone


def clips(count):
    paths = sorted(CORPUS.glob("*.flac"))[:count]
    return [read_audio(path, name=path.name) for path in paths]


def test_codes_are_int16_steps_by_codebooks():
    waveforms = [tone(1.0), tone(0.5)[: 3 * HOP + 1]]
    codes = tiny_codec().encode(waveforms)
    assert [tuple(clip.shape) for clip in codes] == [(25, 8), (4, 8)]
    assert all(clip.dtype == torch.int16 and 0 <= clip.min() and clip.max() < 1024 for clip in codes)


def test_encode_equals_the_model_on_the_padded_clip():
    (waveform,) = clips(1)
    padded = torch.cat([waveform, torch.zeros(num_steps(len(waveform)) * HOP - len(waveform))])
    with torch.no_grad():
        expected = tiny_codec().model.encode(padded[None, None]).audio_codes[0].T
    assert torch.equal(tiny_codec().encode([waveform])[0].long(), expected)


def test_a_clip_in_a_batch_equals_the_clip_alone():
    length = min(map(len, clips(8)))
    waveforms = [waveform[:length] for waveform in clips(8)]
    batched = torch.stack(tiny_codec().encode(waveforms))
    single = torch.stack([tiny_codec().encode([waveform])[0] for waveform in waveforms])
    assert (batched == single).float().mean() >= 0.999


def test_codes_are_in_the_order_of_the_clips():
    waveforms = [tone(0.4), tone(0.8), tone(0.4, hertz=330.0), tone(0.6)]
    codes = tiny_codec().encode(waveforms, batch_seconds=0.4)
    for waveform, clip in zip(waveforms, codes, strict=True):
        assert (tiny_codec().encode([waveform])[0] == clip).float().mean() >= 0.999


def test_only_clips_of_equal_length_share_a_batch_of_limited_length():
    steps = [25, 50, 25, 25, 700, 50, 25]
    batches = equal_length_batches(steps, batch_seconds=3.0)
    assert sorted(index for batch in batches for index in batch) == list(range(len(steps)))
    for batch in batches:
        assert len({steps[index] for index in batch}) == 1
        assert len(batch) == 1 or sum(steps[index] for index in batch) <= 75


def test_codes_vary_with_the_audio_in_all_codebooks():
    codes = torch.cat(tiny_codec().encode(clips(8)))  # about 21 s
    assert all(len(codes[:, codebook].unique()) > 100 for codebook in range(8))
    # Two sentences differ at most steps.
    first, second = tiny_codec().encode(clips(2))
    length = min(len(first), len(second))
    assert (first[:length] == second[:length]).float().mean() < 0.2


def test_decoded_audio_has_a_hop_per_step_and_depends_on_the_codes():
    codes = tiny_codec().encode([tone(0.4), tone(0.6), tone(0.4, hertz=500.0)])
    waveforms = tiny_codec().decode(codes)
    assert [len(waveform) for waveform in waveforms] == [len(clip) * HOP for clip in codes]
    assert all(waveform.dtype == torch.float32 and waveform.isfinite().all() for waveform in waveforms)
    assert not torch.allclose(waveforms[0], waveforms[2], atol=1e-3)
    torch.testing.assert_close(tiny_codec().decode([codes[1]])[0], waveforms[1])


@pytest.mark.parametrize("code", [-1, 1024, 1025])
def test_codes_outside_the_codebook_are_refused(code):
    with pytest.raises(ValueError, match="need 0 to 1023"):
        tiny_codec().decode([torch.full((3, 8), code)])


@pytest.mark.parametrize("shape", [(0, 8), (3, 7), (8,)])
def test_codes_of_a_wrong_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"need \(T, 8\)"):
        tiny_codec().decode([torch.zeros(shape, dtype=torch.int16)])


def test_padding_fills_the_last_hop_with_zeros():
    assert pad_to_steps(torch.ones(1)).tolist() == [1] + [0] * (HOP - 1)
    assert len(pad_to_steps(torch.ones(HOP))) == HOP


def test_transformers_loads_the_tiny_codec_and_its_revision_is_a_hash():
    assert tiny_codec().revision.startswith("local@") and len(tiny_codec().revision) == len("local@") + 16
    model = HiggsAudioV2TokenizerModel.from_pretrained(tiny_codec_folder())
    assert model.config.hop_length == HOP and model.config.num_quantizers == 8
    assert (tiny_codec_folder() / "model.safetensors").stat().st_size < 4 * 2**20


def copy_of_codec(folder):
    shutil.copytree(tiny_codec_folder(), folder)
    return folder


def refusal(folder) -> str:
    with pytest.raises(InputError) as error:
        load_codec(folder, revision=None, device="cpu")
    return str(error.value)


def test_folders_that_are_not_a_codec_are_refused(tmp_path):
    assert "no such folder" in refusal(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no config.json; give a transformers checkpoint of higgs_audio_v2_tokenizer" in refusal(tmp_path / "empty")

    folder = copy_of_codec(tmp_path / "old_layout")  # of boson_multimodal: model.pth and a config without model_type
    (folder / "model.safetensors").unlink()
    (folder / "model.pth").write_bytes(b"pickle")
    assert "no model.safetensors" in refusal(folder)

    folder = copy_of_codec(tmp_path / "other_model")
    (folder / "config.json").write_text('{"model_type": "dac"}')
    assert "config.json has model_type dac, need higgs_audio_v2_tokenizer" in refusal(folder)
    for content in ("{}", '{"model_type": "no_such_model"}', "not JSON"):
        (folder / "config.json").write_text(content)
        assert "config.json is not that of higgs_audio_v2_tokenizer" in refusal(folder)


def test_a_wrong_rate_and_broken_or_missing_weights_are_refused(tmp_path):
    folder = copy_of_codec(tmp_path / "rate")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"sample_rate": 16_000}))
    assert "16000 Hz in hops of 960, need 24000 and 960" in refusal(folder)

    folder = copy_of_codec(tmp_path / "broken")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])
    assert "model.safetensors cannot be loaded" in refusal(folder)

    folder = copy_of_codec(tmp_path / "missing")
    weights = load_file(folder / "model.safetensors")
    del weights["fc2.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "lacks 1 weights, e.g. fc2.weight" in refusal(folder)


def test_a_pinned_revision_needs_no_download():
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert codec_revision("user/codec", revision=commit) == f"user/codec@{commit}"
    assert codec_revision(tiny_codec_folder(), revision=None) == tiny_codec().revision


def test_the_local_revision_depends_on_weights_and_config(tmp_path):
    folder = copy_of_codec(tmp_path / "codec")
    assert local_revision(folder) == tiny_codec().revision
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert local_revision(folder) != tiny_codec().revision
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match="codec: no config.json; give a transformers checkpoint"):
        local_revision(folder)


def test_only_gpus_encode_in_tf32_and_their_codes_have_a_cache_of_their_own(tmp_path, monkeypatch):
    assert load_codec(tiny_codec_folder(), revision=None, device="cpu", exact=False).arithmetic == "float32"
    codec, arithmetic = tiny_codec(), []

    def recorded(name, device):
        arithmetic.append(name)
        return nullcontext()

    monkeypatch.setattr(codec_module, "convolution_arithmetic", recorded)
    for name in ("float32", "tf32"):
        (codes,) = replace(codec, arithmetic=name).encode([torch.zeros(2 * HOP)])
        replace(codec, arithmetic=name).decode([codes])
    assert arithmetic == ["float32", "float32", "tf32", "float32"]

    CodeCache(tmp_path, codec="local@1", arithmetic="tf32").add({"a": codes})
    assert "a" not in CodeCache(tmp_path, codec="local@1")
    assert "a" in CodeCache(tmp_path, codec="local@1", arithmetic="tf32")
