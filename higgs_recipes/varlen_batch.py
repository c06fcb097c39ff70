"""Index vectors for the variable-length forward, computed by the collator once per batch.

Indexing a GPU tensor with a mask makes the host wait for the GPU, to learn how many elements are selected. DualFFN
would do so in every layer, since text and audio go through separate networks. Here all index vectors are computed in
advance, in numpy on the CPU.
"""

from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from transformers import HiggsAudioV2Config

from higgs_recipes.constants import IGNORE_INDEX


class FlatPositions(TypedDict):
    """The P used positions of a batch, sample after sample, without padding. P = Nt + Na: text and audio."""

    text_ids: Tensor  # (Nt,) token ids of the text positions
    frames: Tensor  # (Na, C) input frames of the audio positions
    text_index: Tensor  # (Nt,) the text positions, ascending
    audio_index: Tensor  # (Na,) the audio positions, ascending
    from_text_first: Tensor  # (P,) index of each position in [text, audio]: gathers rows in that order back
    position_ids: Tensor  # (P,) from 0 in each sample
    sample_starts: Tensor  # (samples + 1,) int32, first position of each sample, and P
    max_length: int  # positions of the longest sample


class FlatBatch(FlatPositions):
    """The used positions with the labels that the loss needs."""

    text_predictors: Tensor  # (Kt,) positions that predict a text label
    text_labels: Tensor  # (Kt,)
    audio_predictors: Tensor  # (Ka,) positions that predict a frame with a label
    audio_labels: Tensor  # (Ka, C), -100 for a codebook without a label


def flatten_positions(
    ids: np.ndarray, position_ids: np.ndarray, frames: np.ndarray, config: HiggsAudioV2Config
) -> FlatPositions:
    """Build the `FlatPositions` of samples that are already without padding.

    Args:
        ids: token ids (P,), audio_token_id at each frame.
        position_ids: (P,), from 0 in each sample.
        frames: (Na, C).
    """
    starts = np.append(np.flatnonzero(position_ids == 0), len(ids))  # (samples + 1,)
    is_audio = ids == config.audio_token_id  # (P,)
    text_index, audio_index = np.flatnonzero(~is_audio), np.flatnonzero(is_audio)  # (Nt,), (Na,)
    assert len(frames) == len(audio_index), (len(frames), len(audio_index))
    from_text_first = np.empty(len(ids), dtype=np.int64)
    from_text_first[np.concatenate([text_index, audio_index])] = np.arange(len(ids))
    return {
        "text_ids": torch.from_numpy(ids[text_index]),
        "frames": torch.from_numpy(frames),
        "text_index": torch.from_numpy(text_index),
        "audio_index": torch.from_numpy(audio_index),
        "from_text_first": torch.from_numpy(from_text_first),
        "position_ids": torch.from_numpy(position_ids),
        "sample_starts": torch.from_numpy(starts.astype(np.int32)),
        "max_length": int(np.diff(starts).max()),
    }


def flatten_batch(arrays: dict[str, np.ndarray], config: HiggsAudioV2Config) -> FlatBatch:
    """Build the `FlatBatch` of a padded or packed batch.

    Args:
        arrays: input_ids, labels, attention_mask, position_ids (B, S), audio_input_ids, audio_labels (B, F, C) and
            audio_input_ids_mask (B, F). A sample starts at position id 0 and has no label there.
        config: config of the model.

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
        >>> [flat[name].tolist() for name in ("text_ids", "text_index", "audio_index", "from_text_first")]
        [[5, 6, 7], [0, 3, 4], [1, 2], [0, 3, 4, 1, 2]]
        >>> [flat[name].tolist() for name in ("position_ids", "sample_starts")], flat["max_length"]
        ([[0, 1, 2, 3, 0], [0, 4, 5]], 4)
        >>> [flat[name].tolist() for name in ("text_predictors", "audio_predictors", "audio_labels")]
        [[2], [1], [[8, 9, 10, 11, 12, 13, 14, 15]]]
    """
    used = np.flatnonzero(arrays["attention_mask"])  # (P,)
    ids, labels, position_ids = (arrays[name].reshape(-1)[used] for name in ("input_ids", "labels", "position_ids"))
    valid = np.flatnonzero(arrays["audio_input_ids_mask"])  # (Na,)
    frames, targets = (
        arrays[name].reshape(-1, arrays[name].shape[-1])[valid] for name in ("audio_input_ids", "audio_labels")
    )  # (Na, C)
    flat = flatten_positions(ids, position_ids, frames, config)
    labeled = np.flatnonzero(labels != IGNORE_INDEX)  # (Kt,)
    # The first row of a clip's targets is empty, so the frame before a labeled one belongs to the same clip.
    labeled_frames = np.flatnonzero((targets != IGNORE_INDEX).any(axis=-1))  # (Ka,)
    return flat | {
        "text_predictors": torch.from_numpy(labeled - 1),
        "text_labels": torch.from_numpy(labels[labeled]),
        "audio_predictors": flat["audio_index"][labeled_frames - 1],
        "audio_labels": torch.from_numpy(targets[labeled_frames]),
    }
