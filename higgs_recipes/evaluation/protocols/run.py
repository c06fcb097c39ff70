"""Run the protocol that a recipe names."""

from collections.abc import Callable

from higgs_recipes.configs.inference import EvaluateConfig
from higgs_recipes.configs.protocols import Protocol
from higgs_recipes.evaluation.evaluate import Evaluation, evaluate_model
from higgs_recipes.evaluation.protocols.emergent_tts import evaluate_emergent_tts
from higgs_recipes.evaluation.protocols.emotion import evaluate_emotion
from higgs_recipes.evaluation.protocols.forgetting import evaluate_forgetting
from higgs_recipes.evaluation.protocols.multi_speaker import evaluate_multi_speaker
from higgs_recipes.evaluation.protocols.seed_tts import evaluate_seed_tts
from higgs_recipes.shared_work import shared_device


PROTOCOLS: dict[Protocol, Callable[[EvaluateConfig], Evaluation]] = {
    "fine_tuned_voice": evaluate_model,
    "seed_tts_eval": evaluate_seed_tts,
    "multi_speaker": evaluate_multi_speaker,
    "emotion": evaluate_emotion,
    "emergent_tts_eval": evaluate_emergent_tts,
    "forgetting": evaluate_forgetting,
}


def run_protocol(config: EvaluateConfig) -> Evaluation:
    """Evaluate a model by the protocol of the recipe. Several processes share the clips.

    Raises:
        InputError: as the protocol.
    """
    shared_device()
    return PROTOCOLS[config.protocol](config)
