"""Held-out texts -> speech -> what an ASR model and a speaker model make of it, beside the real recordings.

Four rows on the same texts: the real recordings, the codec's resynthesis of them (the ceiling of any model that speaks
in its codes), the base model, and the fine-tuned model with the base's seeds.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from higgs_recipes.audio.asr import ASRModel, load_asr_model
from higgs_recipes.audio.codec import Codec, load_codec
from higgs_recipes.audio.io import read_audio
from higgs_recipes.audio.speaker import load_speaker_model
from higgs_recipes.audio.word_errors import utterance_errors
from higgs_recipes.configs.inference import EvaluateConfig, SamplingConfig
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.corpus.encoded import check_codec, fetch_encoded, load_encoded
from higgs_recipes.devices import single_device
from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.clip_judgments import check_turn_speakers
from higgs_recipes.evaluation.scoring import Clip, score_clips
from higgs_recipes.generation.generate import Generation, Request, generate
from higgs_recipes.hub.download import Snapshot
from higgs_recipes.hub.public import public_name
from higgs_recipes.hub.run_record import read_run
from higgs_recipes.modeling.base_files import fetch_base
from higgs_recipes.modeling.fingerprint import folder_fingerprint
from higgs_recipes.modeling.lora import fetch_adapter
from higgs_recipes.modeling.model import load_model
from higgs_recipes.provenance import run_environment


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """What `report.write_report` takes.

    Attributes:
        metrics: metrics.json.
        waveforms: for each of its rows the clips (N_i,), in the order of `metrics["clips"]`.
        run: run.json of the fine-tuning; None where none lies beside the adapter or the model.
    """

    metrics: dict[str, Any]
    waveforms: dict[str, list[Tensor]]
    run: dict[str, Any] | None


def evaluate_model(config: EvaluateConfig) -> Evaluation:
    """Run the whole protocol. What can be wrong with the input is found before the first clip is generated.

    Raises:
        InputError: another codec than the corpus's, a row without its recording, a clip longer than the ASR model
            hears, more than one process, or what loading the corpus, the models and the judges raises.
    """
    device = single_device()
    codec = load_codec(config.codec_name_or_path, revision=config.codec_revision, device=device)
    corpus, base = fetch_encoded(config.dataset), fetch_base(config)
    adapter = config.adapter and fetch_adapter(config.adapter, revision=config.adapter_revision)
    encoded, where = load_encoded(corpus, split=config.split), f"{config.dataset}, split {config.split}"
    check_codec(encoded, codec.revision, where=where)
    rows = [dict(row) for row in encoded.select(range(min(config.max_rows or len(encoded), len(encoded))))]
    check_turn_speakers(rows)
    real = load_recordings(rows, where=where)
    # A normalizer that does not exist shows here, and not after a night of generating.
    utterance_errors([], [], normalizer=config.normalizer)
    asr_model = load_asr_model(config.asr, revision=config.asr_revision, language=config.asr_language, device=device)
    if any(row["turn_speakers"] for row in rows):
        asr_model.timed_words([])  # an ASR model that cannot time words says so now
    speaker_model = load_speaker_model(config.speaker, revision=config.speaker_revision, device=device)
    _check_lengths(rows, real, config=config, asr_model=asr_model)

    resynthesis = codec.decode([torch.as_tensor(row["codes"], dtype=torch.int16) for row in rows])
    clips = {"real": [Clip(waveform) for waveform in real], "codec": [Clip(waveform) for waveform in resynthesis]}
    clips |= _speak(rows, config=config, base=base, adapter=adapter, codec=codec, device=device)
    logger.info("scoring %d texts in %d rows", len(rows), len(clips))
    scored = score_clips(
        [row | {"seed": config.seed + index} for index, row in enumerate(rows)],
        clips,
        asr_model=asr_model,
        speaker_model=speaker_model,
        normalizer=config.normalizer,
    )
    facts = {
        "asr": public_name(config.asr),
        "asr_revision": asr_model.revision,
        "asr_language": config.asr_language,
        "speaker": public_name(config.speaker),
        "speaker_revision": speaker_model.revision,
        "speaker_score": speaker_model.score_name,
        "normalizer": config.normalizer,
        "seeds": f"{config.seed} to {config.seed + len(rows) - 1}, one for each text",
        "sampling": {each.name: getattr(config, each.name) for each in fields(SamplingConfig)},
        "dataset": public_name(config.dataset),
        "dataset_revision": corpus.commit,
        "dataset_fingerprint": encoded._fingerprint,
        "split": config.split,
        "codec": codec.revision,
        "base_model": public_name(config.model_name_or_path),
        "base_revision": base.commit,
        "base_fingerprint": folder_fingerprint(base.folder),
        "adapter": None if adapter is None else public_name(config.adapter),
        "adapter_revision": None if adapter is None else adapter.commit,
        "untrained_base": config.untrained_base,
    }
    run = read_run((adapter or base).folder)  # a fully fine-tuned model has its run.json too
    waveforms = {name: [clip.waveform for clip in row_clips] for name, row_clips in clips.items()}
    return Evaluation(metrics=scored | facts | run_environment(), waveforms=waveforms, run=run)


def load_recordings(rows: Sequence[Mapping[str, Any]], *, where: str) -> list[Tensor]:
    """The real recordings (N_i,) of the rows' column `audio`.

    Raises:
        InputError: no rows, no such column, or a row whose recording was not kept or cannot be read; names the row.
    """
    if not rows:
        raise InputError(f"{where}: no rows to evaluate; encode again with test_size above 0")
    waveforms = []
    for row in rows:
        if row.get("audio") is None:
            raise InputError(
                f"{where}: row {row['id']} has no recording in column 'audio'; encode again with keep_audio set"
            )
        waveforms.append(read_audio(row["audio"], name=f"row {row['id']}"))
    return waveforms


def _check_lengths(
    rows: Sequence[Mapping[str, Any]], real: Sequence[Tensor], *, config: EvaluateConfig, asr_model: ASRModel
) -> None:
    window = asr_model.window_seconds
    if config.max_seconds > window:
        raise InputError(f"max_seconds is {config.max_seconds}, but {config.asr} hears {window:.0f} s: lower it")
    for row, waveform in zip(rows, real, strict=True):
        if len(waveform) > window * SAMPLE_RATE:
            raise InputError(
                f"row {row['id']}: {len(waveform) / SAMPLE_RATE:.1f} s, but {config.asr} hears {window:.0f} s: drop "
                "the row or use another ASR model"
            )


def _speak(
    rows: Sequence[Mapping[str, Any]],
    *,
    config: EvaluateConfig,
    base: Snapshot,
    adapter: Snapshot | None,
    codec: Codec,
    device: torch.device,
) -> dict[str, list[Clip]]:
    model, tokenizer = load_model(config, base=base, adapter=adapter, device=device)
    requests = make_requests(rows, seed=config.seed)
    generations = {}
    if adapter is None:
        logger.info("generating %d clips with the base model", len(rows))
        generations["base"] = generate(model, tokenizer, requests, sampling=config)
    else:
        logger.info("generating %d clips with the base model and as many with the adapter", len(rows))
        with model.disable_adapter():
            generations["base"] = generate(model, tokenizer, requests, sampling=config)
        generations["finetuned"] = generate(model, tokenizer, requests, sampling=config)
    return {name: decoded_clips(made, codec) for name, made in generations.items()}


def make_requests(rows: Sequence[Mapping[str, Any]], *, seed: int) -> list[Request]:
    """What asks the model for the audio of rows of an encoded corpus, row i with seed + i."""
    return [
        Request(
            conversation=json.loads(row["messages"]),
            ref_codes=[torch.as_tensor(codes, dtype=torch.int16) for codes in row["ref_codes"] or []],
            seed=seed + index,
        )
        for index, row in enumerate(rows)
    ]


def decoded_clips(made: Sequence[Generation], codec: Codec) -> list[Clip]:
    """What was generated, as sound."""
    waveforms = codec.decode([generation.codes for generation in made])
    return [Clip(waveform, each.stopped) for waveform, each in zip(waveforms, made, strict=True)]
