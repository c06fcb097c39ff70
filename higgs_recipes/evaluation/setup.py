"""What an evaluation is run with: the models, seeds and sampling of metrics.json, and the rows that it takes."""

from dataclasses import fields
from typing import Any

import numpy as np

from higgs_recipes.audio.asr import ASRModel
from higgs_recipes.audio.codec import Codec
from higgs_recipes.audio.speaker import SpeakerModel
from higgs_recipes.configs.inference import EvaluateConfig, SamplingConfig
from higgs_recipes.configs.listening import ListenConfig
from higgs_recipes.hub.download import Snapshot
from higgs_recipes.hub.lineage import base_lineage
from higgs_recipes.hub.public import public_name
from higgs_recipes.modeling.fingerprint import folder_fingerprint


def describe_setup(
    config: EvaluateConfig,
    *,
    asr_model: ASRModel,
    speaker_model: SpeakerModel | None,
    codec: Codec,
    base: Snapshot,
    adapter: Snapshot | None,
    num_rows: int,
) -> dict[str, Any]:
    """The fields of metrics.json on models, seeds and sampling."""
    return {
        "asr": public_name(config.asr),
        "asr_revision": asr_model.revision,
        "asr_language": config.asr_language,
        "speaker": None if speaker_model is None else public_name(config.speaker),
        "speaker_revision": None if speaker_model is None else speaker_model.revision,
        "speaker_score": None if speaker_model is None else speaker_model.score_name,
        "normalizer": config.normalizer,
        "seeds": f"{config.seed} to {config.seed + num_rows - 1}, one for each text",
        "sampling": {field.name: getattr(config, field.name) for field in fields(SamplingConfig)},
        "codec": codec.revision,
        "base_model": public_name(config.model_name_or_path),
        "base_revision": base.commit,
        "base_fingerprint": folder_fingerprint(base.folder),
        "adapter": None if adapter is None else public_name(config.adapter),
        "adapter_revision": None if adapter is None else adapter.commit,
        "untrained_base": _is_untrained(base, config),
    }


def _is_untrained(base: Snapshot, config: EvaluateConfig) -> bool:
    recorded = base_lineage(base).untrained  # the base's own record takes precedence over the recipe
    return config.untrained_base if recorded is None else recorded


def sample_indexes(num_rows: int, config: EvaluateConfig | ListenConfig) -> list[int]:
    """The rows to evaluate, in order: all, or `num_samples` of them at random."""
    if config.num_samples is None or config.num_samples >= num_rows:
        return list(range(num_rows))
    chosen = np.random.default_rng(config.seed).choice(num_rows, config.num_samples, replace=False)
    return sorted(map(int, chosen))
