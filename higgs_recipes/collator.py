"""Samples -> batch: placeholders expanded, codes delayed, rows padded or packed; every count is checked.

Written in numpy and for all clips of a batch at once: a hundred small tensor operations per row would take longer than
a training step of a small model.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import HiggsAudioV2Config

from higgs_recipes.constants import IGNORE_INDEX
from higgs_recipes.delay import delay_clips, delayed_length
from higgs_recipes.varlen_batch import flatten_batch


@dataclass(slots=True)
class _Sample:
    """A validated sample; its placeholders are not expanded yet."""

    input_ids: np.ndarray  # (S0,)
    labels: np.ndarray  # (S0,)
    repeats: np.ndarray  # (S0,) number of positions of each id
    clips: list[np.ndarray]  # (T_i, C) each, the targets
    input_clips: list[np.ndarray]  # (T_i, C) each, what the model reads: the clips, after `code_dropout`
    supervise: list[bool]
    num_positions: int
    num_frames: int


class HiggsCollator:
    """Collate samples into the tensors that `HiggsAudioV2ForConditionalGeneration` takes.

    A sample is {"input_ids": (S0,) with ONE audio token per clip, "labels": (S0,) text targets or -100, "codes":
    [(T_i, C) integers, one per clip], "supervise": [bool, one per clip], "row_index": optional int}. A clip that is
    not supervised (a reference) is input only. `labels` and `audio_labels` are not shifted; the loss shifts them. If
    the samples have a `row_index`, the batch has one entry per sample, in their order, to name the rows of a bad step.

    With `pack_to`, samples are concatenated into rows of exactly that many positions (first fit, longest first).
    `position_ids` restart at 0 with each sample and there is no `attention_mask`: this is how transformers detects
    packed rows and does not attend across samples. Without `pack_to`, each sample is a row, padded on the right.

    With `code_dropout`, random steps of a supervised clip are replaced in the input by uniformly random codes (all
    codebooks of the step, before the delay). The previous audio then tells less about the next step, so that the model
    relies more on the text. The targets do not change. This is the input noise of autoregressive speech models:
    dropout in Tacotron's prenet (Wang et al. 2017, arXiv:1703.10135) and scheduled sampling (Bengio et al. 2015,
    arXiv:1506.03099). The random codes depend on seed, epoch and row_index only, not on workers, processes, the rest
    of the batch or a resume.

    Args:
        config: config of the model: token ids and number of codebooks.
        pack_to: positions in a packed row; None pads.
        code_dropout: probability that a codec step is replaced; above 0, every sample needs its row_index.
        seed: seed of `code_dropout`.
        flat: add the `FlatBatch` of the variable-length forward to the batch, as `flat`.

    Raises:
        ValueError: placeholders, codes and supervise differ in number; codes have a wrong shape or range; labels have
            a wrong length; a sample is longer than `pack_to`. The message names the row.

    Example:
        >>> config = HiggsAudioV2Config(codebook_size=1026, audio_token_id=9, pad_token_id=0)
        >>> sample = {"input_ids": [5, 9, 6], "labels": [-100, -100, 6], "supervise": [True]}
        >>> batch = HiggsCollator(config)([sample | {"codes": [torch.zeros(2, 8, dtype=torch.int16)]}])
        >>> {name: tuple(tensor.shape) for name, tensor in batch.items()}      # S = 2 + F, F = T + C + 1 = 11
        {'input_ids': (1, 13), 'labels': (1, 13), 'audio_input_ids': (1, 11, 8), 'audio_input_ids_mask': (1, 11), \
'audio_labels': (1, 11, 8), 'attention_mask': (1, 13)}
    """

    def __init__(
        self,
        config: HiggsAudioV2Config,
        *,
        pack_to: int | None = None,
        code_dropout: float = 0.0,
        seed: int = 0,
        flat: bool = False,
    ) -> None:
        self.config = config
        self.pack_to = pack_to
        self.code_dropout = code_dropout
        self.seed = seed
        self.flat = flat
        # In shared memory: persistent workers see the next epoch too.
        self._epoch = torch.zeros((), dtype=torch.long).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the batches to come: `code_dropout` differs from epoch to epoch."""
        self._epoch.fill_(epoch)

    def __call__(self, samples: list[dict]) -> dict[str, Tensor]:
        checked = [self._check(sample) for sample in samples]
        rows = [[sample] for sample in checked] if self.pack_to is None else self._pack(checked)
        text, audio = self._collate_text(rows), self._collate_audio(rows)
        # The model would accept more frames than placeholders without an error.
        is_placeholder = text["input_ids"] == self.config.audio_token_id  # (B, S)
        assert np.array_equal(is_placeholder.sum(axis=1), audio["audio_input_ids_mask"].sum(axis=1))
        last = "attention_mask" if self.pack_to is None else "position_ids"
        arrays = {name: text[name] for name in ("input_ids", "labels")} | audio | {last: text[last]}
        if "row_index" in samples[0]:
            arrays["row_index"] = np.array([sample["row_index"] for sample in samples])  # (samples,)
        batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return batch | {"flat": flatten_batch(text | audio, self.config)} if self.flat else batch

    def _check(self, sample: dict) -> _Sample:
        name = f"row {sample['row_index']}" if "row_index" in sample else "sample"
        input_ids, labels = np.asarray(sample["input_ids"]), np.asarray(sample["labels"])  # (S0,)
        clips, num_codebooks = [np.asarray(codes) for codes in sample["codes"]], self.config.num_codebooks
        is_placeholder = input_ids == self.config.audio_token_id  # (S0,)
        num_placeholders = np.count_nonzero(is_placeholder)
        if labels.shape != input_ids.shape:
            raise ValueError(f"{name}: {len(labels)} labels for {len(input_ids)} input_ids")
        if not num_placeholders == len(clips) == len(sample["supervise"]):
            raise ValueError(
                f"{name}: {num_placeholders} audio placeholders, {len(clips)} clips and "
                f"{len(sample['supervise'])} supervise flags; the numbers must be equal"
            )
        for codes in clips:
            if codes.ndim != 2 or codes.shape[1] != num_codebooks or not len(codes):
                raise ValueError(f"{name}: codes of shape {codes.shape}, not (T, {num_codebooks})")
            if not 0 <= codes.min() <= codes.max() < self.config.audio_stream_bos_id:
                raise ValueError(f"{name}: codes outside 0 .. {self.config.audio_stream_bos_id - 1}")
        num_frames = [delayed_length(len(codes), num_codebooks) for codes in clips]
        num_positions = len(input_ids) - len(clips) + sum(num_frames)
        if self.pack_to is not None and num_positions > self.pack_to:
            raise ValueError(f"{name}: {num_positions} positions do not fit pack_to={self.pack_to}; raise it")
        repeats = np.ones(len(input_ids), dtype=np.int64)  # (S0,)
        repeats[is_placeholder] = num_frames
        return _Sample(
            input_ids=input_ids,
            labels=labels,
            repeats=repeats,
            clips=clips,
            input_clips=self._drop_codes(clips, sample) if self.code_dropout else clips,
            supervise=sample["supervise"],
            num_positions=num_positions,
            num_frames=sum(num_frames),
        )

    def _collate_text(self, rows: list[list[_Sample]]) -> dict[str, np.ndarray]:
        """Token ids, labels, attention mask and position ids, (B, S) each, with a placeholder for each frame."""
        num_used = np.array([[sum(sample.num_positions for sample in row)] for row in rows])  # (B, 1)
        num_positions = self.pack_to or int(num_used.max())
        is_used = np.arange(num_positions) < num_used  # (B, S)
        samples = [sample for row in rows for sample in row]
        repeats = np.concatenate([sample.repeats for sample in samples])  # (sum S0,)
        text = {
            "input_ids": np.full(is_used.shape, self.config.pad_token_id),
            "labels": np.full(is_used.shape, IGNORE_INDEX),
        }
        for name, array in text.items():
            array[is_used] = np.repeat(np.concatenate([getattr(sample, name) for sample in samples]), repeats)

        # The padding of a row counts as one more sample: nothing attends to it and it has no targets.
        lengths = [
            [*(sample.num_positions for sample in row), num_positions - total]
            for row, total in zip(rows, num_used[:, 0], strict=True)
        ]
        lengths = np.concatenate(lengths)
        starts = np.cumsum(lengths) - lengths
        # The first token of a sample has no position before it that predicts it; in a packed row, the last position
        # of another sample would.
        text["labels"].reshape(-1)[starts[lengths > 0]] = IGNORE_INDEX
        positions = np.arange(is_used.size) - np.repeat(starts, lengths)  # (B * S,)
        return text | {"attention_mask": is_used.astype(np.int64), "position_ids": positions.reshape(is_used.shape)}

    def _collate_audio(self, rows: list[list[_Sample]]) -> dict[str, np.ndarray]:
        """Frames and targets (B, F, C), the clips of a row one after the other; the mask (B, F)."""
        bos, eos = self.config.audio_stream_bos_id, self.config.audio_stream_eos_id
        num_codebooks = self.config.num_codebooks
        num_frames = np.array([[sum(sample.num_frames for sample in row)] for row in rows])  # (B, 1)
        is_frame = np.arange(int(num_frames.max())) < num_frames  # (B, F)
        inputs, input_starts, targets, target_starts = [], [], [], []
        for index, row in enumerate(rows):
            start = index * is_frame.shape[1]
            for sample in row:
                for codes, read, supervised in zip(sample.clips, sample.input_clips, sample.supervise, strict=True):
                    inputs.append(read)
                    input_starts.append(start)
                    if supervised:
                        targets.append(codes)
                        target_starts.append(start)
                    start += delayed_length(len(codes), num_codebooks)
        flat_shape, shape = (is_frame.size, num_codebooks), (*is_frame.shape, num_codebooks)
        frames = delay_clips(inputs, input_starts, shape=flat_shape, before=bos, eos=eos, after=eos)  # (B * F, C)
        labels = delay_clips(
            targets, target_starts, shape=flat_shape, before=IGNORE_INDEX, eos=eos, after=IGNORE_INDEX
        )  # (B * F, C)
        return {
            "audio_input_ids": frames.reshape(shape),
            "audio_input_ids_mask": is_frame,
            "audio_labels": labels.reshape(shape),
        }

    def _drop_codes(self, clips: list[np.ndarray], sample: dict) -> list[np.ndarray]:
        """The clips as the model reads them: random steps of the supervised ones are replaced."""
        if "row_index" not in sample:
            raise ValueError("code_dropout needs samples with their row_index, which seeds the random codes")
        generator = np.random.default_rng((self.seed, int(self._epoch), sample["row_index"]))
        input_clips = []
        for codes, supervised in zip(clips, sample["supervise"], strict=True):
            if supervised:
                is_replaced = generator.random(len(codes)) < self.code_dropout  # (T,)
                random_codes = generator.integers(self.config.audio_stream_bos_id, size=codes.shape)  # (T, C)
                codes = np.where(is_replaced[:, None], random_codes, codes)
            input_clips.append(codes)
        return input_clips

    def _pack(self, samples: list[_Sample]) -> list[list[_Sample]]:
        """First fit, longest first; rows and the samples in them keep the order of arrival."""
        order = sorted(range(len(samples)), key=lambda index: -samples[index].num_positions)
        bins: list[list[int]] = []
        free: list[int] = []
        for index in order:
            length = samples[index].num_positions
            slot = next((slot for slot, space in enumerate(free) if space >= length), None)
            if slot is None:
                bins.append([])
                free.append(self.pack_to)
                slot = len(bins) - 1
            bins[slot].append(index)
            free[slot] -= length
        return [[samples[index] for index in sorted(indices)] for indices in sorted(map(sorted, bins))]
