"""Configs with the fields that have no usable default."""

from typing import Any

from higgs_recipes.configs.benchmark import (
    BenchmarkEncodeConfig,
    BenchmarkGenerateConfig,
    BenchmarkStreamConfig,
    BenchmarkTextsConfig,
    BenchmarkTrainConfig,
    RandomCodecConfig,
)
from higgs_recipes.configs.codec import FitCodecConfig
from higgs_recipes.configs.corpus import EncodeConfig, ExportConfig, ImportConfig
from higgs_recipes.configs.finetuning import ForwardConfig, MethodConfig
from higgs_recipes.configs.inference import (
    ChunkConfig,
    EvaluateConfig,
    GenerateConfig,
    InitConfig,
    MergeConfig,
    MetricModelsConfig,
    SamplingConfig,
)
from higgs_recipes.configs.listening import ListenConfig
from higgs_recipes.configs.model import CodecConfig, HubConfig, ModelConfig
from higgs_recipes.configs.segment import SegmentConfig
from higgs_recipes.configs.sft import SFTConfig


REQUIRED: dict[type, dict[str, Any]] = {
    BenchmarkEncodeConfig: {"codec_config": "codec.json"},
    BenchmarkGenerateConfig: {"model_config": "model.json"},
    BenchmarkStreamConfig: {"model_config": "model.json", "codec_config": "codec.json"},
    BenchmarkTextsConfig: {"model_config": "model.json", "codec_config": "codec.json", "variants": {"plain": {}}},
    BenchmarkTrainConfig: {"model_config": "model.json", "variants": {"packed": {}, "checkpointed": {}}},
    ChunkConfig: {},
    CodecConfig: {},
    EncodeConfig: {"sources": ["corpus"]},
    EvaluateConfig: {"dataset": "codes"},
    ExportConfig: {"source": "corpus"},
    FitCodecConfig: {"sources": ["corpus"], "codec_config": "codec.json"},
    ForwardConfig: {},
    GenerateConfig: {"text": ["Hello."]},
    HubConfig: {},
    ImportConfig: {"format": "f5", "sources": ["metadata.csv"]},
    InitConfig: {"model_config": "model.json"},
    ListenConfig: {},
    MergeConfig: {"adapter": "voice"},
    MethodConfig: {},
    MetricModelsConfig: {},
    ModelConfig: {},
    SamplingConfig: {},
    RandomCodecConfig: {"codec_config": "codec.json"},
    SFTConfig: {"datasets": ["codes"], "use_cpu": True, "report_to": "none"},
    SegmentConfig: {"sources": ["recordings"], "asr": "openai/whisper-large-v3"},
}


def make(config_class: type, **fields: Any) -> Any:
    return config_class(**REQUIRED[config_class] | fields)
