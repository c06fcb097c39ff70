"""Which rows of which tensor go where in a training step: index vectors, made once a batch, where the data is.

A mask as an index makes the host wait for the GPU, to learn how many it selects; in every layer, since DualFFN sends
text and audio through networks of their own. Here all of it is counted beforehand, in numpy on the loader's side.
"""

from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from transformers import HiggsAudioV2Config

from higgs_recipes.constants import IGNORE_INDEX


class FlatPositions(TypedDict):
    """The P used positions of a batch laid end to end, sample after sample; no padding. P = Nt + Na."""

    text_ids: Tensor  # (Nt,) token ids where no clip stands
    frames: Tensor  # (Na, C) what the model reads where one does
    text_index: Tensor  # (Nt,) positions of the text, rising
    audio_index: Tensor  # (Na,) positions of the frames, rising
    place: Tensor  # (P,) where a position stands in [text, audio]: the inverse of the two together
    positions: Tensor  # (P,) each sample from 0
    starts: Tensor  # (samples + 1,) int32, where each sample begins; the last is P
    longest: int  # positions of the longest sample


class FlatBatch(FlatPositions):
    """The same with what a loss compares at them."""

    text_targets: Tensor  # (Kt,) positions that predict a text label
    text_labels: Tensor  # (Kt,)
    audio_targets: Tensor  # (Ka,) positions that predict a frame with a label
    audio_labels: Tensor  # (Ka, C) with -100 where a codebook has none


def flatten_positions(
    ids: np.ndarray, positions: np.ndarray, frames: np.ndarray, config: HiggsAudioV2Config
) -> FlatPositions:
    """Index vectors of ids (P,) with `audio_token_id` at each frame, positions (P,) and frames (Na, C)."""
    starts = np.append(np.flatnonzero(positions == 0), len(ids))
    is_audio = ids == config.audio_token_id
    text_index, audio_index = np.flatnonzero(~is_audio), np.flatnonzero(is_audio)
    assert len(frames) == len(audio_index), (len(frames), len(audio_index))
    place = np.empty(len(ids), dtype=np.int64)
    place[np.concatenate([text_index, audio_index])] = np.arange(len(ids))
    return {
        "text_ids": torch.from_numpy(ids[text_index]),
        "frames": torch.from_numpy(frames),
        "text_index": torch.from_numpy(text_index),
        "audio_index": torch.from_numpy(audio_index),
        "place": torch.from_numpy(place),
        "positions": torch.from_numpy(positions),
        "starts": torch.from_numpy(starts.astype(np.int32)),
        "longest": int(np.diff(starts).max()),
    }


def flatten_batch(arrays: dict[str, np.ndarray], config: HiggsAudioV2Config) -> FlatBatch:
    """The flat form of a batch.

    Args:
        arrays: input_ids, labels, attention_mask, position_ids (B, S), audio_input_ids, audio_labels (B, F, C) and
            audio_input_ids_mask (B, F). Position 0 begins a sample and has no label.

    Example: two samples, "5 <clip of 2 frames> 6" and "7", in a padded batch
        >>> config = HiggsAudioV2Config(audio_token_id=9)
        >>> frames = np.arange(2 * 2 * 8).reshape(2, 2, 8)
        >>> flat = flatten_batch(
        ...     {
        ...         "input_ids": np.array([[5, 9, 9, 6], [7, 0, 0, 0]]),
        ...         "labels": np.array([[-100, -100, -100, 6], [-100, -100, -100, -100]]),
        ...         "attention_mask": np.array([[1, 1, 1, 1], [1, 0, 0, 0]]),
        ...         "position_ids": np.array([[0, 1, 2, 3], [0, 0, 1, 2]]),
        ...         "audio_input_ids": frames,
        ...         "audio_labels": np.where(frames < 8, -100, frames),
        ...         "audio_input_ids_mask": np.array([[True, True], [False, False]]),
        ...     },
        ...     config,
        ... )
        >>> names = ("text_ids", "text_index", "audio_index", "place", "positions", "starts", "text_targets")
        >>> [flat[name].tolist() for name in names]
        [[5, 6, 7], [0, 3, 4], [1, 2], [0, 3, 4, 1, 2], [0, 1, 2, 3, 0], [0, 4, 5], [2]]
        >>> flat["longest"], flat["audio_targets"].tolist(), flat["audio_labels"].tolist()
        (4, [1], [[8, 9, 10, 11, 12, 13, 14, 15]])
    """
    used = np.flatnonzero(arrays["attention_mask"])  # (P,)
    ids, labels, positions = (arrays[name].reshape(-1)[used] for name in ("input_ids", "labels", "position_ids"))
    valid = np.flatnonzero(arrays["audio_input_ids_mask"])  # (Na,)
    frames, targets = (
        arrays[name].reshape(-1, arrays[name].shape[-1])[valid] for name in ("audio_input_ids", "audio_labels")
    )  # (Na, C)
    flat = flatten_positions(ids, positions, frames, config)
    labeled = np.flatnonzero(labels != IGNORE_INDEX)
    # A clip's first row of targets is empty, so the frame before a labeled one is of the same clip.
    predicted = np.flatnonzero((targets != IGNORE_INDEX).any(axis=-1))
    return flat | {
        "text_targets": torch.from_numpy(labeled - 1),
        "text_labels": torch.from_numpy(labels[labeled]),
        "audio_targets": flat["audio_index"][predicted - 1],
        "audio_labels": torch.from_numpy(targets[predicted]),
    }
