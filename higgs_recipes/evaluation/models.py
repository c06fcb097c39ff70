"""The models of an evaluation: ASR model, speaker model, codec and the speech model with its adapter."""

from dataclasses import dataclass

import torch

from higgs_recipes.audio.asr import ASRModel, load_asr_model
from higgs_recipes.audio.codec import Codec, load_codec
from higgs_recipes.audio.speaker import SpeakerModel, load_speaker_model
from higgs_recipes.configs.inference import EvaluateConfig
from higgs_recipes.errors import InputError
from higgs_recipes.hub.download import Snapshot
from higgs_recipes.hub.run_record import read_reported_run
from higgs_recipes.modeling.base_files import fetch_base
from higgs_recipes.modeling.lora import fetch_adapter
from higgs_recipes.records import Fields
from higgs_recipes.shared_work import shared_device


@dataclass(frozen=True)
class Models:
    """The models of an evaluation. The weights of the speech model are loaded only when it generates.

    Attributes:
        speaker: None if voices are not compared.
        run: run.json of the fine-tuning; None if the folder of the adapter or the model has none.
    """

    device: torch.device
    asr: ASRModel
    speaker: SpeakerModel | None
    codec: Codec
    base: Snapshot
    adapter: Snapshot | None
    run: Fields | None


def load_models(config: EvaluateConfig, *, with_speaker: bool = True) -> Models:
    """Fetch the speech model and read its run.json, then load the metric models and the codec.

    Raises:
        InputError: a package is missing, a model or run.json cannot be read, or clips may be longer than the window of
            the ASR model.
    """
    device = shared_device()
    base = fetch_base(config)
    adapter = fetch_adapter(config.adapter, revision=config.adapter_revision) if config.adapter else None
    # A model that was fine-tuned without an adapter has run.json in its own folder.
    run = read_reported_run((adapter or base).folder)
    asr_model = load_asr_model(config.asr, revision=config.asr_revision, device=device)
    if config.max_seconds > asr_model.window_seconds:
        raise InputError(
            f"max_seconds is {config.max_seconds}, but {config.asr} transcribes at most "
            f"{asr_model.window_seconds:.0f} s: lower it"
        )
    return Models(
        device=device,
        asr=asr_model,
        speaker=load_speaker_model(config.speaker, revision=config.speaker_revision, device=device)
        if with_speaker
        else None,
        codec=load_codec(config.codec_name_or_path, revision=config.codec_revision, device=device),
        base=base,
        adapter=adapter,
        run=run,
    )
