"""What an evaluation is run with: the models, seeds and sampling of metrics.json, and the rows that it takes."""

from dataclasses import fields
from typing import Any

import numpy as np

from higgs_recipes.configs.inference import EvaluateConfig, SamplingConfig
from higgs_recipes.configs.listening import ListenConfig
from higgs_recipes.evaluation.models import Models
from higgs_recipes.hub.download import Snapshot
from higgs_recipes.hub.lineage import base_lineage
from higgs_recipes.hub.public import public_name
from higgs_recipes.modeling.fingerprint import folder_fingerprint


def describe_setup(config: EvaluateConfig, models: Models, *, num_rows: int) -> dict[str, Any]:
    """The fields of metrics.json on models, seeds and sampling."""
    speaker, base, adapter = models.speaker, models.base, models.adapter
    return {
        "asr": public_name(config.asr),
        "asr_revision": models.asr.revision,
        "asr_language": config.asr_language,
        "speaker": None if speaker is None else public_name(config.speaker),
        "speaker_revision": None if speaker is None else speaker.revision,
        "speaker_score": None if speaker is None else speaker.score_name,
        "normalizer": config.normalizer,
        "seeds": f"{config.seed} to {config.seed + num_rows - 1}, one for each text",
        "sampling": {field.name: getattr(config, field.name) for field in fields(SamplingConfig)},
        "codec": models.codec.revision,
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
