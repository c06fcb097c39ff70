"""Against the figures that the original code gave for a tiny model; see tests/data/golden."""

import pytest
import torch
import torch.nn.functional as F
import torchaudio

from higgs_recipes.audio.wavlm_ecapa import (
    WAVLM_LARGE,
    EcapaHead,
    WavLMEcapa,
    is_wavlm_ecapa,
    load_wavlm_ecapa,
    rename_weights,
)
from higgs_recipes.errors import InputError
from tests.helpers.golden_wavlm import figures, golden_model, golden_weights, metadata


CLIPS = [0, 1, 2]


def waveform(index: int) -> torch.Tensor:
    return figures()[f"waveform.{index}"]


def hooked(module: torch.nn.Module, run) -> torch.Tensor:
    """What a module returns while `run` runs."""
    results = []
    handle = module.register_forward_hook(lambda module, inputs, output: results.append(output))
    run()
    handle.remove()
    return results[0]


def check(found: torch.Tensor, name: str) -> None:
    torch.testing.assert_close(found, figures()[name], atol=1e-4, rtol=0)


@pytest.mark.parametrize("index", CLIPS)
def test_every_stage_is_that_of_the_original(index):
    model = golden_model()
    with torch.inference_mode():
        states = model.hidden_states(waveform(index))
        check(states, f"hidden_states.{index}")  # the last one after the encoder's norm
        check(model.weighted_sum(states), f"weighted_sum.{index}")
        features = F.instance_norm(model.weighted_sum(states).T[None] + 1e-6, eps=1e-5)
        check(features[0], f"features.{index}")
    for layer in ("layer1", "layer2", "layer3", "layer4"):
        module = model.ecapa.get_submodule(layer)
        check(hooked(module, lambda: model(waveform(index)))[0], f"{layer}.{index}")
    check(hooked(model.ecapa.pooling, lambda: model(waveform(index)))[0], f"pooled.{index}")


def test_embeddings_and_cosines_are_those_of_the_original():
    embeddings = torch.stack([golden_model()(waveform(index)) for index in CLIPS])  # (3, E)
    check(embeddings, "embeddings")
    cosines = F.cosine_similarity(embeddings[:, None], embeddings[None], dim=-1)  # (3, 3)
    torch.testing.assert_close(cosines, figures()["cosines"], atol=1e-5, rtol=0)


def test_an_embedding_has_no_gradient_and_the_model_is_in_evaluation_mode():
    with torch.enable_grad():
        assert not golden_model()(waveform(0)).requires_grad
    assert not golden_model().training


@pytest.mark.parametrize("rate", [24_000, 44_100, 48_000])
def test_the_resampler_is_that_of_the_original(rate):
    resampled = torchaudio.functional.resample(figures()[f"resample.{rate}.input"], rate, 16_000)
    torch.testing.assert_close(resampled, figures()[f"resample.{rate}.output"], atol=1e-5, rtol=0)


def test_a_clip_at_24_khz_has_the_embedding_of_the_original():
    resampled = torchaudio.functional.resample(figures()["resample.24000.input"], 24_000, 16_000)
    check(golden_model()(resampled), "resample.24000.embedding")


def test_the_full_size_model_has_the_names_and_shapes_of_the_published_checkpoint():
    assert metadata()["transformers_config_full_size"] == WAVLM_LARGE
    published = metadata()["full_size_shapes"]
    with torch.device("meta"):
        weights = rename_weights({name: torch.empty(shape) for name, shape in published.items()})
        head = {name.removeprefix("ecapa."): weight for name, weight in weights.items() if name.startswith("ecapa.")}
        small = WAVLM_LARGE | {"num_hidden_layers": 1}
        names = set(WavLMEcapa(type(golden_model().wavlm.config)(**small), head).state_dict())
    is_later_layer = ".encoder.layers."
    expected = {name for name in weights if is_later_layer not in name or f"{is_later_layer}0." in name}
    assert names == expected and len(published) == 710
    with torch.device("meta"):
        assert {name: weight.shape for name, weight in EcapaHead(head).state_dict().items()} == {
            name: weight.shape for name, weight in head.items()
        }


def test_weights_under_either_names_load():
    renamed = rename_weights(golden_weights())
    assert is_wavlm_ecapa(renamed) and is_wavlm_ecapa(golden_weights())
    assert not is_wavlm_ecapa(["feature_weight", "wavlm.mask"])
    # Of older torch, and without what is not used.
    older = {name.replace("parametrizations.weight.original0", "weight_g"): weight for name, weight in renamed.items()}
    older = {name.replace("parametrizations.weight.original1", "weight_v"): weight for name, weight in older.items()}
    older = {name: weight for name, weight in older.items() if not name.endswith(("embed", "batches_tracked"))}
    model = load_wavlm_ecapa(older, wavlm_config=metadata()["transformers_config"])
    assert torch.equal(model(waveform(0)), golden_model()(waveform(0)))


@pytest.mark.parametrize("name", ["feature_weight", "ecapa.bn.running_mean", "wavlm.encoder.layer_norm.weight"])
def test_missing_weights_are_refused(name):
    weights = rename_weights(golden_weights())
    del weights[name]
    with pytest.raises(InputError, match="here: 1 weights of WavLM-ECAPA are missing and 0 do not belong to it"):
        load_wavlm_ecapa(weights, wavlm_config=metadata()["transformers_config"], name="here")


def test_other_weights_and_sizes_are_refused():
    weights = rename_weights(golden_weights())
    config = metadata()["transformers_config"]
    with pytest.raises(InputError, match="0 weights .* are missing and 1 do not belong to it, e.g. ecapa.other"):
        load_wavlm_ecapa(weights | {"ecapa.other": torch.zeros(1)}, wavlm_config=config)
    with pytest.raises(InputError, match="not the weights of WavLM-large with an ECAPA-TDNN head: .*size mismatch"):
        load_wavlm_ecapa(weights, wavlm_config=config | {"num_buckets": 80})
    with pytest.raises(InputError, match="not the weights of WavLM-large"):
        load_wavlm_ecapa({"feature_weight": torch.zeros(4)}, wavlm_config=config)
