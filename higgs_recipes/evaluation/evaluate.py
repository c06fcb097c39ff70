"""Generate speech for held-out texts and score it with an ASR model and a speaker model.

Four systems on the same texts: the real recordings, the codec's resynthesis of them (the upper bound for a model that
generates its codes), the base model, and the fine-tuned model with the same seeds as the base model.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from higgs_recipes.audio.asr import ASRModel
from higgs_recipes.audio.codec import Codec
from higgs_recipes.audio.io import read_audio
from higgs_recipes.configs.inference import EvaluateConfig, MetricModelsConfig
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.corpus.encoded import check_codec, fetch_encoded, load_encoded
from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.checks import check_clips
from higgs_recipes.evaluation.clip_judgments import check_turn_speakers
from higgs_recipes.evaluation.models import Models, load_models
from higgs_recipes.evaluation.scoring import SpokenClip, score_clips
from higgs_recipes.evaluation.setup import describe_setup, sample_indexes
from higgs_recipes.generation.finished_clips import FinishedClips, clip_settings, generate_rest
from higgs_recipes.generation.generate import Generation, Request
from higgs_recipes.hub.download import Snapshot
from higgs_recipes.hub.public import public_name
from higgs_recipes.languages import language_code
from higgs_recipes.metrics_schema import SYSTEMS
from higgs_recipes.modeling.model import load_model
from higgs_recipes.normalizers import TextRule, choose_normalizer
from higgs_recipes.provenance import run_environment
from higgs_recipes.shared_work import shared_errors


logger = logging.getLogger(__name__)

TRAIN_SPLIT = "train"  # as scripts/encode.py names it
HASH = "content_hash"


@dataclass(frozen=True)
class Evaluation:
    """The input of `report.write_report`.

    Attributes:
        metrics: the content of metrics.json.
        waveforms: the clips (N_i,) of each system, in the order of `metrics["clips"]`.
        run: run.json of the fine-tuning; None if the folder of the adapter or the model has none.
    """

    metrics: dict[str, Any]
    waveforms: dict[str, list[Tensor]]
    run: dict[str, Any] | None


def evaluate_model(config: EvaluateConfig) -> Evaluation:
    """Run the whole protocol. All input is checked before the first clip is generated. Several processes share the
    clips, and each returns the whole evaluation.

    Generated clips are kept on disk next to `output_dir`, so that a killed run goes on with the rest; remove them with
    `remove_finished_clips` when the report is written.

    Raises:
        InputError: the corpus was encoded with a different codec, a row has no recording, a clip is longer than the
            window of the ASR model, the ASR model or the normalizer does not fit the language of a row, or a corpus or
            model cannot be loaded.
    """
    with shared_errors():
        corpus = fetch_encoded(config.dataset, revision=config.dataset_revision)
        encoded = load_encoded(corpus, split=config.split)
        where = f"{config.dataset}, split {config.split}"
        first_rows = encoded.select(range(min(config.max_rows or len(encoded), len(encoded))))
        rows = [dict(row) for row in first_rows.select(sample_indexes(len(first_rows), config))]
        check_turn_speakers(rows)
        recordings = load_recordings(rows, where=where)
        shared = shared_with_train(corpus, rows)
        models = load_models(config)
        check_codec(encoded, models.codec.revision, where=where)
        rules = choose_rules(rows, config=config, asr_model=models.asr)
        dialogue_languages = {rule.language for row, rule in zip(rows, rules, strict=True) if row["turn_speakers"]}
        for language in sorted(dialogue_languages):
            models.asr.timed_words([], language=language)  # raises if the ASR model has no word times
        _check_lengths(rows, recordings, config=config, asr_model=models.asr)
        resynthesis = models.codec.decode([torch.as_tensor(row["codes"], dtype=torch.int16) for row in rows])
        clips = {
            "real": [SpokenClip(waveform) for waveform in recordings],
            "codec": [SpokenClip(waveform) for waveform in resynthesis],
        }
    clips |= generate_clips(rows, config=config, models=models)
    logger.info("scoring %d texts, spoken by %d systems", len(rows), len(clips))
    scored = score_clips(
        [row | {"seed": config.seed + index} for index, row in enumerate(rows)],
        clips,
        asr_model=models.asr,
        speaker_model=models.speaker,
        rules=rules,
    )
    checks = check_clips(scored, clips, rules)
    train_fingerprints = None if models.run is None else {entry["fingerprint"] for entry in models.run["datasets"]}
    setup = describe_setup(config, models, num_rows=len(rows)) | {
        "benchmark": None,
        "dataset": public_name(config.dataset),
        "dataset_revision": corpus.commit,
        "dataset_fingerprint": encoded._fingerprint,
        "split": config.split,
        "held_out": None if train_fingerprints is None else encoded._fingerprint not in train_fingerprints,
        "shared_with_train": shared,
    }
    waveforms = {system: [clip.waveform for clip in system_clips] for system, system_clips in clips.items()}
    return Evaluation(metrics=scored | checks | setup | run_environment(), waveforms=waveforms, run=models.run)


def choose_rules(
    rows: Sequence[Mapping[str, Any]], *, config: MetricModelsConfig, asr_model: ASRModel
) -> list[TextRule]:
    """The language, normalizer and unit of each row: of its own language, or of `asr_language` if it names none.

    Raises:
        InputError: not a language, the ASR model does not transcribe it, or the normalizer does not fit the ASR model;
            names the first such row.
    """
    rules: dict[str, TextRule] = {}
    for row in rows:
        language = row["language"] or config.asr_language
        if language in rules:
            continue
        try:
            asr_model.check_language(language_code(language))
            rules[language] = choose_normalizer(config.normalizer, language, spelling=asr_model.spelling)
        except InputError as error:
            source = "language" if row["language"] else "asr_language"
            raise InputError(f"row {row['id']}, {source} {language!r}: {error}") from error
    return [rules[row["language"] or config.asr_language] for row in rows]


def shared_with_train(corpus: Snapshot, rows: Sequence[Mapping[str, Any]]) -> int | None:
    """How many of the recordings are also in the corpus's train split; None if it has no train split.

    Raises:
        InputError: a file of the train split cannot be read.
    """
    paths = sorted((corpus.folder / "data").glob(f"{TRAIN_SPLIT}-*-of-*.parquet"))
    hashes: set[str] = set()
    for path in paths:
        try:
            hashes.update(pq.read_table(path, columns=[HASH])[HASH].to_pylist())
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{corpus.name}: {path.name} cannot be read ({error}): encode the corpus again"
            ) from error
    hashes.discard(None)
    return sum(row[HASH] in hashes for row in rows) if paths else None


def load_recordings(rows: Sequence[Mapping[str, Any]], *, where: str) -> list[Tensor]:
    """Read the real recordings (N_i,) from the column `audio`.

    Only embedded bytes are read: the corpus may be a stranger's, and its paths may name private files of this machine,
    whose audio the report would publish.

    Raises:
        InputError: there are no rows, or a row has no readable recording; names the row.
    """
    if not rows:
        raise InputError(f"{where}: no rows to evaluate; encode the corpus again with test_size above 0")
    waveforms = []
    for row in rows:
        if row.get("audio") is None:
            raise InputError(
                f"{where}: row {row['id']} has no recording in column 'audio'; encode the corpus again with keep_audio"
            )
        recording = row["audio"]["bytes"]
        if recording is None:
            raise InputError(
                f"{where}: row {row['id']}: column audio has no bytes: embed the recording; a path is never opened"
            )
        waveforms.append(read_audio(recording, name=f"row {row['id']}"))
    return waveforms


def _check_lengths(
    rows: Sequence[Mapping[str, Any]], recordings: Sequence[Tensor], *, config: EvaluateConfig, asr_model: ASRModel
) -> None:
    window = asr_model.window_seconds
    for row, recording in zip(rows, recordings, strict=True):
        if len(recording) > window * SAMPLE_RATE:
            raise InputError(
                f"row {row['id']} has {len(recording) / SAMPLE_RATE:.1f} s, but {config.asr} transcribes at most "
                f"{window:.0f} s: remove the row or use another ASR model"
            )


def generate_clips(
    rows: Sequence[Mapping[str, Any]],
    *,
    config: EvaluateConfig,
    models: Models,
) -> dict[str, list[SpokenClip]]:
    """The clips of the base model and, if there is an adapter, of the fine-tuned model."""
    with shared_errors():
        model, tokenizer = load_model(config, base=models.base, adapter=models.adapter, device=models.device)
    requests = make_requests(rows, seed=config.seed)

    def generate_system(system: str, used_adapter: Snapshot | None) -> list[Generation]:
        logger.info("generating %d clips with the %s", len(rows), SYSTEMS[system])
        made_by = clip_settings(config, base=models.base, adapter=used_adapter)
        finished = FinishedClips(config.output_dir, made_by)
        return generate_rest(model, tokenizer, requests, sampling=config, finished=finished)

    if models.adapter is None:
        generations = {"base": generate_system("base", None)}
    else:
        with model.disable_adapter():
            generations = {"base": generate_system("base", None)}
        generations["finetuned"] = generate_system("finetuned", models.adapter)
    return {
        system: decode_clips(system_generations, models.codec) for system, system_generations in generations.items()
    }


def make_requests(rows: Sequence[Mapping[str, Any]], *, seed: int) -> list[Request]:
    """Build a generation request for each row of an encoded corpus; row i has seed + i."""
    return [
        Request(
            conversation=json.loads(row["messages"]),
            ref_codes=[torch.as_tensor(codes, dtype=torch.int16) for codes in row["ref_codes"] or []],
            seed=seed + index,
        )
        for index, row in enumerate(rows)
    ]


def decode_clips(generations: Sequence[Generation], codec: Codec) -> list[SpokenClip]:
    """Decode generated codes to waveforms."""
    waveforms = codec.decode([generation.codes for generation in generations])
    return [
        SpokenClip(waveform, generation.stopped, generation.codes)
        for waveform, generation in zip(waveforms, generations, strict=True)
    ]
