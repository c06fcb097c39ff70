"""Held-out texts -> speech -> what a recogniser and a speaker model make of it, beside the real recordings.

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

from higgs_recipes.audio import read_audio
from higgs_recipes.codec import Codec, load_codec
from higgs_recipes.configs import EvaluateConfig, SamplingConfig
from higgs_recipes.delay import SAMPLE_RATE
from higgs_recipes.encoding import check_codec, load_encoded
from higgs_recipes.errors import InputError
from higgs_recipes.files import resolved_revision
from higgs_recipes.generation import Generation, Request, generate, single_device
from higgs_recipes.judges import Recogniser, load_recogniser, load_speaker_model
from higgs_recipes.metrics import utterance_errors
from higgs_recipes.modeling import base_fingerprint, load_model, load_run
from higgs_recipes.provenance import surroundings
from higgs_recipes.records import public_name
from higgs_recipes.scoring import Clip, score_clips
from higgs_recipes.verdicts import check_turn_speakers


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
        InputError: another codec than the corpus's, a row without its recording, a clip longer than the recogniser
            hears, more than one process, or what loading the corpus, the models and the judges raises.
    """
    device = single_device()
    codec = load_codec(config.codec_name_or_path, revision=config.codec_revision, device=device)
    encoded, where = load_encoded(config.dataset, split=config.split), f"{config.dataset}, split {config.split}"
    check_codec(encoded, codec.revision, where=where)
    rows = [dict(row) for row in encoded.select(range(min(config.max_rows or len(encoded), len(encoded))))]
    check_turn_speakers(rows)
    real = load_recordings(rows, where=where)
    # A normaliser that does not exist shows here, and not after a night of generating.
    utterance_errors([], [], normalizer=config.normalizer)
    recogniser = load_recogniser(config.asr, revision=config.asr_revision, language=config.asr_language, device=device)
    if any(row["turn_speakers"] for row in rows):
        recogniser.timed_words([])  # a recogniser that cannot time words says so now
    speaker_model = load_speaker_model(config.speaker, revision=config.speaker_revision, device=device)
    _check_lengths(rows, real, config=config, recogniser=recogniser)

    resynthesis = codec.decode([torch.as_tensor(row["codes"], dtype=torch.int16) for row in rows])
    clips = {"real": [Clip(waveform) for waveform in real], "codec": [Clip(waveform) for waveform in resynthesis]}
    clips |= _speak(rows, config=config, codec=codec, device=device)
    logger.info("scoring %d texts in %d rows", len(rows), len(clips))
    scored = score_clips(
        [row | {"seed": config.seed + index} for index, row in enumerate(rows)],
        clips,
        recogniser=recogniser,
        speaker_model=speaker_model,
        normalizer=config.normalizer,
    )
    facts = {
        "asr": public_name(config.asr),
        "asr_revision": recogniser.revision,
        "asr_language": config.asr_language,
        "speaker": public_name(config.speaker),
        "speaker_revision": speaker_model.revision,
        "speaker_score": speaker_model.score_name,
        "normalizer": config.normalizer,
        "seeds": f"{config.seed} to {config.seed + len(rows) - 1}, one for each text",
        "sampling": {each.name: getattr(config, each.name) for each in fields(SamplingConfig)},
        "dataset": public_name(config.dataset),
        "dataset_revision": resolved_revision(config.dataset, None, repo_type="dataset"),
        "dataset_fingerprint": encoded._fingerprint,
        "split": config.split,
        "codec": codec.revision,
        "base_model": public_name(config.model_name_or_path),
        "base_revision": resolved_revision(config.model_name_or_path, config.model_revision),
        "base_fingerprint": base_fingerprint(config),
        "adapter": None if config.adapter is None else public_name(config.adapter),
        "adapter_revision": None
        if config.adapter is None
        else resolved_revision(config.adapter, config.adapter_revision),
        "untrained_base": config.untrained_base,
    }
    if config.adapter is None:  # a fully fine-tuned model has its run.json too
        run = load_run(config.model_name_or_path, revision=config.model_revision)
    else:
        run = load_run(config.adapter, revision=config.adapter_revision)
    waveforms = {name: [clip.waveform for clip in row_clips] for name, row_clips in clips.items()}
    return Evaluation(metrics=scored | facts | surroundings(), waveforms=waveforms, run=run)


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
    rows: Sequence[Mapping[str, Any]], real: Sequence[Tensor], *, config: EvaluateConfig, recogniser: Recogniser
) -> None:
    window = recogniser.window_seconds
    if config.max_seconds > window:
        raise InputError(f"max_seconds is {config.max_seconds}, but {config.asr} hears {window:.0f} s: lower it")
    for row, waveform in zip(rows, real, strict=True):
        if len(waveform) > window * SAMPLE_RATE:
            raise InputError(
                f"row {row['id']}: {len(waveform) / SAMPLE_RATE:.1f} s, but {config.asr} hears {window:.0f} s: drop "
                "the row or use another recogniser"
            )


def _speak(
    rows: Sequence[Mapping[str, Any]], *, config: EvaluateConfig, codec: Codec, device: torch.device
) -> dict[str, list[Clip]]:
    model, tokenizer = load_model(
        config, adapter=config.adapter, adapter_revision=config.adapter_revision, device=device
    )
    requests = make_requests(rows, seed=config.seed)
    generations = {}
    if config.adapter is None:
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
