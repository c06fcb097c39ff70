"""Fit a `mel_rvq` codec to a corpus: mean, principal components, and codebooks by residual k-means."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from higgs_recipes.audio.codec import local_revision, pad_to_steps
from higgs_recipes.audio.io import change_speed
from higgs_recipes.audio.mel_rvq import MelRVQModel, quantize, with_neighbors
from higgs_recipes.audio.mel_rvq_config import MelRVQConfig
from higgs_recipes.configs.codec import FitCodecConfig
from higgs_recipes.configs.corpus import EncodeConfig
from higgs_recipes.constants import HOP, SAMPLE_RATE
from higgs_recipes.corpus.corpus import Corpus, load_rows
from higgs_recipes.corpus.rows import CheckedRow
from higgs_recipes.errors import InputError
from higgs_recipes.output_folder import staged_output
from higgs_recipes.provenance import git_commit, library_versions
from higgs_recipes.records import read_config


_RIDGE = 1e-6  # share of the mean variance, so that nearly constant components do not make the matrix singular


def fit_codec(config: FitCodecConfig) -> dict[str, Any]:
    """Fit a codec and write it, with fit.json, to `output_dir`; returns the content of fit.json.

    The same recipe and corpus give the same weights on one machine with one thread, where torch rounds the same.

    Raises:
        InputError: as `load_rows`, a config that is not a MelRVQConfig, or fewer steps than a codebook has codes.
    """
    with staged_output(config, kind="fit_codec") as folder:  # first: it may be refused before the work
        return _fit_codec_into(folder, config)


def _fit_codec_into(folder: Path, config: FitCodecConfig) -> dict[str, Any]:
    codec_config = read_config(config.codec_config, MelRVQConfig)
    if (codec_config.sample_rate, codec_config.hop_length) != (SAMPLE_RATE, HOP):
        found = f"{codec_config.sample_rate} Hz in hops of {codec_config.hop_length}"
        raise InputError(f"{config.codec_config}: {found}, need {SAMPLE_RATE} and {HOP}")
    corpus = load_rows(EncodeConfig(sources=config.sources, columns=config.columns, seed=config.seed))
    sampled = sample_rows(corpus.rows, seconds=config.seconds_per_speaker, seed=config.seed)
    model = MelRVQModel(codec_config)
    features = torch.cat([model.features(clip[None])[0] for clip in _clips(corpus, sampled, config=config)])
    if len(features) < codec_config.codebook_size:
        raise InputError(
            f"{len(features)} steps of audio, need at least {codec_config.codebook_size}, better 50 times as many: "
            "add sources, or raise seconds_per_speaker"
        )
    residual_shares = fit_model(
        model, features, iterations=config.iterations, refinements=config.refinements, seed=config.seed
    )

    model.half().save_pretrained(folder)
    speakers: dict[str, dict[str, float]] = {}
    for row in sampled:
        totals = speakers.setdefault(str(row["speaker"]), {"clips": 0, "seconds": 0.0})
        totals["clips"] += 1
        totals["seconds"] = round(totals["seconds"] + row["seconds"], 2)
    record = {
        "codec": local_revision(folder),
        "steps": len(features),
        "left_over": residual_shares,
        "speakers": speakers,
        "recipe": asdict(config),
        "git_commit": git_commit(),
        "versions": library_versions(),
    }
    (folder / "fit.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


def sample_rows(rows: Sequence[CheckedRow], *, seconds: float, seed: int) -> list[CheckedRow]:
    """Sample rows of each speaker, in random order, until they have `seconds` of audio.

    Rows without a speaker count as one speaker.

    >>> rows = [{"speaker": speaker, "seconds": 2.0} for speaker in ("ann", "ann", "bo")]
    >>> [row["speaker"] for row in sample_rows(rows, seconds=2.0, seed=0)]
    ['ann', 'bo']
    """
    by_speaker: dict[str, list[CheckedRow]] = {}
    for row in rows:
        by_speaker.setdefault(str(row["speaker"]), []).append(row)
    sampled = []
    for speaker in sorted(by_speaker):
        random.Random(f"{seed} {speaker}").shuffle(by_speaker[speaker])
        total = 0.0
        for row in by_speaker[speaker]:
            if total < seconds:
                sampled.append(row)
                total += row["seconds"]
    return sampled


def _clips(corpus: Corpus, rows: Sequence[CheckedRow], *, config: FitCodecConfig) -> Iterator[Tensor]:
    generator = random.Random(config.seed)
    for row in tqdm(rows, desc="Reading", unit=" clips"):
        waveform = corpus.waveform(row["own"], name=row["name"])
        yield pad_to_steps(change_speed(waveform, generator.choice(config.speeds)))


@torch.no_grad()
def fit_model(model: MelRVQModel, features: Tensor, *, iterations: int, refinements: int, seed: int) -> list[float]:
    """Fit the weights of a model to features (F, frames_per_step * M), F >= V.

    Codebooks are fitted by residual k-means, then refined together. Weights are rounded to float16, as they are
    stored, so that the codec in memory and the one on disk give the same codes.

    Returns:
        Residual share of the features' variance, after the components, and after the components and codebooks.
    """
    config = model.config
    generator = torch.Generator().manual_seed(seed)
    model.mean.copy_(_round_to_float16(features.mean(dim=0)))
    centered = features - model.mean
    total = centered.square().mean(dim=0).sum()
    covariance = (centered.T @ centered).double() / len(centered)
    _, axes = torch.linalg.eigh(covariance)  # columns, ascending
    axes = axes.flip(1)[:, : config.num_components].T  # (D, frames_per_step * M)
    # The sign of an axis is arbitrary; the largest coefficient is made positive.
    axes = axes * axes.gather(1, axes.abs().argmax(dim=1, keepdim=True)).sign()
    model.components.copy_(_round_to_float16(axes.float()))
    residual = centered @ model.components.T  # (F, D)
    vectors, lost = residual, total - residual.square().mean(dim=0).sum()
    for codebook in tqdm(model.codebooks, desc="Codebooks"):
        codebook.copy_(k_means(residual, config.codebook_size, iterations=iterations, generator=generator))
        residual = residual - codebook[_assign(residual, codebook)]
    for _ in tqdm(range(refinements), desc="Refining"):
        _refine(model, vectors)
    model.codebooks.copy_(_round_to_float16(model.codebooks))
    _, residual = quantize(vectors, model.codebooks, beam=config.beam)
    model.restorer.copy_(_round_to_float16(_restorer(vectors - residual, vectors)))
    residual = vectors - with_neighbors((vectors - residual)[None])[0] @ model.restorer.T
    shares = [lost / total, (lost + residual.square().mean(dim=0).sum()) / total]
    return [round(share.item(), 4) for share in shares]


def _refine(model: MelRVQModel, vectors: Tensor) -> None:
    """Move each code to the mean of the vectors that it should represent, given the codes of the other codebooks."""
    codes, residual = quantize(vectors, model.codebooks, beam=model.config.beam)  # (F, C), (F, D)
    for codebook, chosen in zip(model.codebooks, codes.unbind(dim=1), strict=True):
        step = _means(residual, chosen, num_codes=len(codebook))  # (V, D); 0 for unused codes
        codebook += step
        residual = residual - step[chosen]


def _restorer(quantized: Tensor, vectors: Tensor) -> Tensor:
    """The matrix (D, 3 * D) that predicts vectors (F, D) from quantized ones with their neighbors, by least squares.

    At the ends of clips, about 1 step in 60, neighbors belong to different clips; the effect is small.
    """
    inputs = with_neighbors(quantized[None])[0].double()  # (F, 3 * D)
    products = inputs.T @ inputs
    ridge = _RIDGE * products.diagonal().mean() * torch.eye(len(products), dtype=torch.float64)
    return torch.linalg.solve(products + ridge, inputs.T @ vectors.double()).T.float()


def k_means(vectors: Tensor, num_codes: int, *, iterations: int, generator: torch.Generator) -> Tensor:
    """Centers (num_codes, D) of vectors (F, D), F >= num_codes, by Lloyd's iterations from randomly chosen vectors.

    A center that is nearest to no vector moves to the vector that is farthest from its center.
    """
    centers = vectors[torch.randperm(len(vectors), generator=generator)[:num_codes]]
    for _ in range(iterations):
        nearest_center = _assign(vectors, centers)
        counts = torch.bincount(nearest_center, minlength=num_codes)
        means = _means(vectors, nearest_center, num_codes=num_codes)
        empty = (counts == 0).nonzero()[:, 0]
        if len(empty):
            distances = (vectors - centers[nearest_center]).square().sum(dim=1)
            means[empty] = vectors[distances.topk(len(empty)).indices]
        centers = means
    return centers


def _means(vectors: Tensor, indexes: Tensor, *, num_codes: int) -> Tensor:
    """Means (num_codes, D) of the vectors (F, D) by index (F,); 0 for unused indexes."""
    sums = vectors.new_zeros(num_codes, vectors.shape[1]).index_add_(0, indexes, vectors)
    return sums / torch.bincount(indexes, minlength=num_codes).clamp_min(1)[:, None]


def _assign(vectors: Tensor, centers: Tensor) -> Tensor:
    """Index (F,) of the nearest center of each vector."""
    return quantize(vectors, centers[None], beam=1)[0][:, 0]


def _round_to_float16(weights: Tensor) -> Tensor:
    return weights.half().float()
