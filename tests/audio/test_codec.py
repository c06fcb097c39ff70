import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import HiggsAudioV2TokenizerModel

from higgs_recipes.audio.codec import equal_length_batches, load_codec, num_steps, pad_to_steps
from higgs_recipes.audio.io import read_audio
from higgs_recipes.audio.random_codec import init_codec
from higgs_recipes.constants import HOP
from higgs_recipes.errors import InputError
from tests.helpers.paths import ROOT
from tests.helpers.tiny_codec import CORPUS, tiny_codec, tiny_codec_folder, tone


def clips(count):
    paths = sorted(CORPUS.glob("*.flac"))[:count]
    return [read_audio(path, name=path.name) for path in paths]


def test_codes_are_int16_steps_by_codebooks():
    waveforms = [tone(1.0), tone(0.5)[: 3 * HOP + 1]]
    codes = tiny_codec().encode(waveforms)
    assert [tuple(clip.shape) for clip in codes] == [(25, 8), (4, 8)]
    assert all(clip.dtype == torch.int16 and 0 <= clip.min() and clip.max() < 1024 for clip in codes)


def test_encode_is_the_models_own_on_the_padded_clip():
    (waveform,) = clips(1)
    padded = torch.cat([waveform, torch.zeros(num_steps(len(waveform)) * HOP - len(waveform))])
    with torch.no_grad():
        expected = tiny_codec().model.encode(padded[None, None]).audio_codes[0].T
    assert torch.equal(tiny_codec().encode([waveform])[0].long(), expected)


def test_a_batched_encode_equals_the_single_one():
    length = min(map(len, clips(8)))
    waveforms = [waveform[:length] for waveform in clips(8)]
    batched = torch.stack(tiny_codec().encode(waveforms))
    single = torch.stack([tiny_codec().encode([waveform])[0] for waveform in waveforms])
    assert (batched == single).float().mean() >= 0.999


def test_order_is_kept_whatever_the_lengths():
    waveforms = [tone(0.4), tone(0.8), tone(0.4, hertz=330.0), tone(0.6)]
    codes = tiny_codec().encode(waveforms, batch_seconds=0.4)
    for waveform, clip in zip(waveforms, codes, strict=True):
        assert (tiny_codec().encode([waveform])[0] == clip).float().mean() >= 0.999


def test_only_equal_lengths_share_a_batch_and_no_batch_is_too_long():
    steps = [25, 50, 25, 25, 700, 50, 25]
    batches = equal_length_batches(steps, batch_seconds=3.0)
    assert sorted(index for batch in batches for index in batch) == list(range(len(steps)))
    for batch in batches:
        assert len({steps[index] for index in batch}) == 1
        assert len(batch) == 1 or sum(steps[index] for index in batch) <= 75


def test_codes_vary_with_the_audio_in_all_codebooks():
    codes = torch.cat(tiny_codec().encode(clips(8)))  # about 21 s
    assert all(len(codes[:, codebook].unique()) > 100 for codebook in range(8))
    # Another sentence is not the same row of codes shifted or repeated.
    first, second = tiny_codec().encode(clips(2))
    length = min(len(first), len(second))
    assert (first[:length] == second[:length]).float().mean() < 0.2


def test_decode_gives_a_hop_per_step_and_hears_the_codes():
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
def test_codes_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"need \(T, 8\)"):
        tiny_codec().decode([torch.zeros(shape, dtype=torch.int16)])


def test_padding_fills_whole_hops_with_zeros():
    assert pad_to_steps(torch.ones(1)).tolist() == [1] + [0] * (HOP - 1)
    assert len(pad_to_steps(torch.ones(HOP))) == HOP


def test_the_same_seed_gives_the_same_codec_and_another_seed_another(tmp_path):
    small = json.loads((ROOT / "tests/data/random_tiny/codec.json").read_text()) | {"codebook_size": 16}
    (tmp_path / "codec.json").write_text(json.dumps(small))
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        init_codec(tmp_path / "codec.json", seed=seed, output_dir=tmp_path / name)
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_transformers_loads_the_tiny_codec_and_its_identity_is_the_weights_hash():
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


def test_folders_that_are_no_codec_are_refused(tmp_path):
    assert "no such folder" in refusal(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no config.json; give a transformers checkpoint of higgs_audio_v2_tokenizer" in refusal(tmp_path / "empty")

    folder = copy_of_codec(tmp_path / "old_layout")  # boson_multimodal's: model.pth beside a config of no model_type
    (folder / "model.safetensors").unlink()
    (folder / "model.pth").write_bytes(b"pickle")
    assert "no model.safetensors" in refusal(folder)

    folder = copy_of_codec(tmp_path / "other_model")
    (folder / "config.json").write_text('{"model_type": "dac"}')
    assert "config.json is of dac, need higgs_audio_v2_tokenizer" in refusal(folder)
    for content in ("{}", '{"model_type": "no_such_model"}', "not JSON"):
        (folder / "config.json").write_text(content)
        assert "config.json is not of higgs_audio_v2_tokenizer" in refusal(folder)


def test_another_rate_broken_or_missing_weights_are_refused(tmp_path):
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


@pytest.mark.parametrize(
    "content, message",
    [(None, "no such config"), ("[", "not JSON"), ("[]", "holds a list"), ("{}", 'must hold "model_type"')],
)
def test_a_wrong_codec_config_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "codec.json").write_text(content)
    with pytest.raises(InputError, match=message):
        init_codec(tmp_path / "codec.json", seed=0, output_dir=tmp_path / "codec")
