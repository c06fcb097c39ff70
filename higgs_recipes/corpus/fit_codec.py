"""Fit a `mel_rvq` codec to a corpus: mean, principal components, and codebooks by residual k-means."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict
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
from higgs_recipes.files import explain_full_disk, staged_folder
from higgs_recipes.provenance import git_commit, library_versions
from higgs_recipes.records import read_config


_RIDGE = 1e-6  # of the mean variance: components that hardly vary must not divide by nothing


def fit_codec(config: FitCodecConfig) -> dict[str, Any]:
    """Write the codec; returns what fit.json says: speakers, clips and seconds of each, what the codebooks leave over.

    The same recipe on the same corpus gives the same weights where torch rounds the same: one thread, one machine.

    Raises:
        InputError: what `load_rows` finds, a config that is no MelRVQConfig, fewer steps than a codebook has codes.
    """
    codec_config = read_config(config.codec_config, MelRVQConfig)
    if (codec_config.sample_rate, codec_config.hop_length) != (SAMPLE_RATE, HOP):
        found = f"{codec_config.sample_rate} Hz in hops of {codec_config.hop_length}"
        raise InputError(f"{config.codec_config}: {found}, need {SAMPLE_RATE} and {HOP}")
    corpus = load_rows(EncodeConfig(sources=config.sources, columns=config.columns, seed=config.seed))
    drawn = draw_rows(corpus.rows, seconds=config.seconds_per_speaker, seed=config.seed)
    model = MelRVQModel(codec_config)
    features = torch.cat([model.features(clip[None])[0] for clip in _clips(corpus, drawn, config=config)])
    if len(features) < codec_config.codebook_size:
        raise InputError(
            f"{len(features)} steps to fit on, need {codec_config.codebook_size}, better fifty times as many: give "
            "sources with more speech, or raise seconds_per_speaker"
        )
    left_over = fit_model(
        model, features, iterations=config.iterations, refinements=config.refinements, seed=config.seed
    )

    with staged_folder(config.output_dir, overwrite=config.overwrite_output_dir) as folder:
        with explain_full_disk(folder):
            model.half().save_pretrained(folder)
        speakers: dict[str, dict[str, float]] = {}
        for row in drawn:
            totals = speakers.setdefault(str(row["speaker"]), {"clips": 0, "seconds": 0.0})
            totals["clips"] += 1
            totals["seconds"] = round(totals["seconds"] + row["seconds"], 2)
        record = {
            "codec": local_revision(folder),
            "steps": len(features),
            "left_over": left_over,
            "speakers": speakers,
            "recipe": asdict(config),
            "git_commit": git_commit(),
            "versions": library_versions(),
        }
        (folder / "fit.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


def draw_rows(rows: Sequence[CheckedRow], *, seconds: float, seed: int) -> list[CheckedRow]:
    """Rows of each speaker in a drawn order, until they are `seconds` long together; rows without one are one speaker.

    >>> rows = [{"speaker": speaker, "seconds": 2.0} for speaker in ("ann", "ann", "bo")]
    >>> [row["speaker"] for row in draw_rows(rows, seconds=2.0, seed=0)]
    ['ann', 'bo']
    """
    by_speaker: dict[str, list[CheckedRow]] = {}
    for row in rows:
        by_speaker.setdefault(str(row["speaker"]), []).append(row)
    drawn = []
    for speaker in sorted(by_speaker):
        random.Random(f"{seed} {speaker}").shuffle(by_speaker[speaker])
        total = 0.0
        for row in by_speaker[speaker]:
            if total < seconds:
                drawn.append(row)
                total += row["seconds"]
    return drawn


def _clips(corpus: Corpus, rows: Sequence[CheckedRow], *, config: FitCodecConfig) -> Iterator[Tensor]:
    generator = random.Random(config.seed)
    for row in tqdm(rows, desc="Reading", unit=" clips"):
        waveform = corpus.waveform(row["own"], name=row["name"])
        yield pad_to_steps(change_speed(waveform, generator.choice(config.speeds)))


@torch.no_grad()
def fit_model(model: MelRVQModel, features: Tensor, *, iterations: int, refinements: int, seed: int) -> list[float]:
    """Fill a model's weights from features (F, frames_per_step * M), F >= V.

    Residual k-means, then refinements in which all codebooks move together. The weights are rounded as float16 will
    store them, so that a codec in memory and on disk gives the same codes.

    Returns:
        Share of the features' variance that is left over: by the components, and by the components and codebooks.
    """
    config = model.config
    generator = torch.Generator().manual_seed(seed)
    model.mean.copy_(_as_stored(features.mean(dim=0)))
    centered = features - model.mean
    total = centered.square().mean(dim=0).sum()
    covariance = (centered.T @ centered).double() / len(centered)
    _, axes = torch.linalg.eigh(covariance)  # columns, ascending
    axes = axes.flip(1)[:, : config.num_components].T  # (D, frames_per_step * M)
    # An axis may point either way: this fixes which.
    axes = axes * axes.gather(1, axes.abs().argmax(dim=1, keepdim=True)).sign()
    model.components.copy_(_as_stored(axes.float()))
    residual = centered @ model.components.T  # (F, D)
    vectors, lost = residual, total - residual.square().mean(dim=0).sum()
    for codebook in tqdm(model.codebooks, desc="Codebooks"):
        codebook.copy_(k_means(residual, config.codebook_size, iterations=iterations, generator=generator))
        residual = residual - codebook[_assign(residual, codebook)]
    for _ in tqdm(range(refinements), desc="Refining"):
        _refine(model, vectors)
    model.codebooks.copy_(_as_stored(model.codebooks))
    _, residual = quantize(vectors, model.codebooks, beam=config.beam)
    model.restorer.copy_(_as_stored(_restorer(vectors - residual, vectors)))
    residual = vectors - with_neighbors((vectors - residual)[None])[0] @ model.restorer.T
    shares = [lost / total, (lost + residual.square().mean(dim=0).sum()) / total]
    return [round(share.item(), 4) for share in shares]


def _refine(model: MelRVQModel, vectors: Tensor) -> None:
    """Move each code to the middle of what it has to be, the other codebooks' codes being as the search finds them."""
    codes, residual = quantize(vectors, model.codebooks, beam=model.config.beam)  # (F, C), (F, D)
    for codebook, chosen in zip(model.codebooks, codes.unbind(dim=1), strict=True):
        step = _means(residual, chosen, num_codes=len(codebook))  # (V, D); 0 where a code is never chosen
        codebook += step
        residual = residual - step[chosen]


def _restorer(quantized: Tensor, vectors: Tensor) -> Tensor:
    """The matrix (D, 3 * D) that gives vectors (F, D) from quantized ones with their neighbors, by least squares.

    Where one clip ends and the next begins, neighbors are strangers: 1 step in 60, which hardly weighs.
    """
    inputs = with_neighbors(quantized[None])[0].double()  # (F, 3 * D)
    products = inputs.T @ inputs
    ridge = _RIDGE * products.diagonal().mean() * torch.eye(len(products), dtype=torch.float64)
    return torch.linalg.solve(products + ridge, inputs.T @ vectors.double()).T.float()


def k_means(vectors: Tensor, num_codes: int, *, iterations: int, generator: torch.Generator) -> Tensor:
    """Centers (num_codes, D) of vectors (F, D), F >= num_codes, from drawn ones by Lloyd's iterations.

    A center that no vector is nearest to moves to the vector that lies farthest from its own.
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
    """Means (num_codes, D) of the vectors (F, D) at each index (F,); 0 where there is none."""
    sums = vectors.new_zeros(num_codes, vectors.shape[1]).index_add_(0, indexes, vectors)
    return sums / torch.bincount(indexes, minlength=num_codes).clamp_min(1)[:, None]


def _assign(vectors: Tensor, centers: Tensor) -> Tensor:
    """Index (F,) of the center nearest to each vector."""
    return quantize(vectors, centers[None], beam=1)[0][:, 0]


def _as_stored(weights: Tensor) -> Tensor:
    return weights.half().float()
