"""Samples -> batch: placeholders expanded, codes delayed, rows padded or packed; every count is checked.

In numpy, and what can be for all clips of a batch at once: a hundred small tensor operations a row would take longer
than a small model's step.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import HiggsAudioV2Config

from higgs_recipes.constants import IGNORE_INDEX
from higgs_recipes.delay import shift_columns
from higgs_recipes.varlen_batch import flatten_batch


@dataclass(slots=True)
class _Sample:
    """A checked sample, its placeholders not yet expanded."""

    input_ids: np.ndarray  # (S0,)
    labels: np.ndarray  # (S0,)
    repeats: np.ndarray  # (S0,) positions that each id takes
    clips: list[np.ndarray]  # (T_i, C) each
    read: list[np.ndarray]  # the clips as the model reads them
    supervise: list[bool]
    num_positions: int
    num_frames: int


class HiggsCollator:
    """Collate samples into the tensors that `HiggsAudioV2ForConditionalGeneration` takes.

    A sample is {"input_ids": (S0,) with ONE audio token a clip, "labels": (S0,) text targets or -100, "codes":
    [(T_i, C) integers, a clip each], "supervise": [bool, a clip each], "row_index": optional int}. A clip that is not
    supervised (a reference) is input only. labels and audio_labels are not shifted; the loss shifts. row_index, where
    samples have it, is in the batch too (one each, in the order of the samples), to name the rows of a bad step.

    With `pack_to` the samples are laid end to end into rows of exactly that many positions (first fit, longest
    first): position_ids restart at 0 with each sample and there is no attention_mask, from which transformers knows
    not to attend across samples. Without it each sample is a row, padded on the right.

    With `code_dropout` some steps of a supervised clip are read as codes drawn evenly, each codec step whole (all its
    codebooks, before the delay): what the model just heard then says less of what comes next, and the text more. The
    targets stay. It is the input noise of autoregressive speech models, as Tacotron's dropout in the prenet (Wang et
    al. 2017, arXiv:1703.10135) and scheduled sampling (Bengio et al. 2015, arXiv:1506.03099). What is drawn depends on
    seed, epoch and row_index alone: not on workers, processes, neighbors in the batch or a resume.

    Args:
        config: the model's config: token ids and number of codebooks are taken from it.
        pack_to: positions in a packed row; None pads.
        code_dropout: probability that a codec step is replaced; above 0 every sample needs its row_index.
        seed: of what is drawn.
        flat: put the `FlatBatch` of `fast_path` beside the rest, as `flat`; the trainer sets it.

    Raises:
        ValueError: placeholders, codes and supervise differ in number, codes of another shape or range, labels of
            another length, a sample longer than `pack_to`; names the row.

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
        self._epoch = torch.zeros((), dtype=torch.long).share_memory_()  # workers that outlive an epoch see the next

    def set_epoch(self, epoch: int) -> None:
        """Of the batches to come: each epoch draws other codes."""
        self._epoch.fill_(epoch)

    def __call__(self, samples: list[dict]) -> dict[str, Tensor]:
        checked = [self._check(sample) for sample in samples]
        rows = [[sample] for sample in checked] if self.pack_to is None else self._pack(checked)
        text, clips = self._lay_text(rows), self._lay_clips(rows)
        # Too many frames for the placeholders would pass the model in silence.
        is_placeholder = text["input_ids"] == self.config.audio_token_id
        assert np.array_equal(is_placeholder.sum(axis=1), clips["audio_input_ids_mask"].sum(axis=1))
        last = "attention_mask" if self.pack_to is None else "position_ids"
        arrays = {name: text[name] for name in ("input_ids", "labels")} | clips | {last: text[last]}
        if "row_index" in samples[0]:
            arrays["row_index"] = np.array([sample["row_index"] for sample in samples])
        batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return batch | {"flat": flatten_batch(text | clips, self.config)} if self.flat else batch

    def _check(self, sample: dict) -> _Sample:
        name = f"row {sample['row_index']}" if "row_index" in sample else "sample"
        input_ids, labels = np.asarray(sample["input_ids"]), np.asarray(sample["labels"])
        clips, num_codebooks = [np.asarray(codes) for codes in sample["codes"]], self.config.num_codebooks
        is_placeholder = input_ids == self.config.audio_token_id
        num_placeholders = np.count_nonzero(is_placeholder)
        if labels.shape != input_ids.shape:
            raise ValueError(f"{name}: {len(labels)} labels for {len(input_ids)} input_ids")
        if not num_placeholders == len(clips) == len(sample["supervise"]):
            raise ValueError(
                f"{name}: {num_placeholders} audio placeholders, {len(clips)} clips and "
                f"{len(sample['supervise'])} supervise flags; they must be as many"
            )
        for codes in clips:
            if codes.ndim != 2 or codes.shape[1] != num_codebooks or not len(codes):
                raise ValueError(f"{name}: codes of shape {codes.shape}, not (T, {num_codebooks})")
            if not 0 <= codes.min() <= codes.max() < self.config.audio_stream_bos_id:
                raise ValueError(f"{name}: codes outside 0 .. {self.config.audio_stream_bos_id - 1}")
        num_frames = [len(codes) + num_codebooks + 1 for codes in clips]
        num_positions = len(input_ids) - len(clips) + sum(num_frames)
        if self.pack_to is not None and num_positions > self.pack_to:
            raise ValueError(f"{name}: {num_positions} positions do not fit pack_to={self.pack_to}; raise it")
        repeats = np.ones(len(input_ids), dtype=np.int64)
        repeats[is_placeholder] = num_frames
        return _Sample(
            input_ids=input_ids,
            labels=labels,
            repeats=repeats,
            clips=clips,
            read=self._drop(clips, sample) if self.code_dropout else clips,
            supervise=sample["supervise"],
            num_positions=num_positions,
            num_frames=sum(num_frames),
        )

    def _lay_text(self, rows: list[list[_Sample]]) -> dict[str, np.ndarray]:
        """Ids and labels (B, S), each placeholder repeated for its clip's frames; the mask, or the positions."""
        used = np.array([[sum(sample.num_positions for sample in row)] for row in rows])  # (B, 1)
        num_positions = self.pack_to or int(used.max())
        is_used = np.arange(num_positions) < used  # (B, S)
        samples = [sample for row in rows for sample in row]
        repeats = np.concatenate([sample.repeats for sample in samples])
        text = {
            "input_ids": np.full(is_used.shape, self.config.pad_token_id),
            "labels": np.full(is_used.shape, IGNORE_INDEX),
        }
        for name, array in text.items():
            array[is_used] = np.repeat(np.concatenate([getattr(sample, name) for sample in samples]), repeats)

        # The padding is a sample of its own: nothing attends to it and it has no targets.
        lengths = [
            [*(sample.num_positions for sample in row), num_positions - total]
            for row, total in zip(rows, used[:, 0], strict=True)
        ]
        lengths = np.concatenate(lengths)
        starts = np.cumsum(lengths) - lengths
        # Nothing stands before a sample to predict its first token; in a packed row its neighbor would.
        text["labels"].reshape(-1)[starts[lengths > 0]] = IGNORE_INDEX
        positions = np.arange(is_used.size) - np.repeat(starts, lengths)
        return text | {"attention_mask": is_used.astype(np.int64), "position_ids": positions.reshape(is_used.shape)}

    def _lay_clips(self, rows: list[list[_Sample]]) -> dict[str, np.ndarray]:
        """Frames and targets (B, F, C), the clips of a row end to end; the mask (B, F)."""
        bos, eos, num_codebooks = (
            self.config.audio_stream_bos_id,
            self.config.audio_stream_eos_id,
            self.config.num_codebooks,
        )
        num_frames = np.array([[sum(sample.num_frames for sample in row)] for row in rows])  # (B, 1)
        is_frame = np.arange(int(num_frames.max())) < num_frames  # (B, F)
        # Columns before the delay: of each clip a row of BOS, its T codes, a row of EOS, and C - 1 more.
        frames = np.full((is_frame.size, num_codebooks), eos)  # (B * F, C)
        targets = np.full((is_frame.size, num_codebooks), IGNORE_INDEX)
        starts = []
        for index, row in enumerate(rows):
            start = index * is_frame.shape[1]
            for sample in row:
                for codes, read, supervised in zip(sample.clips, sample.read, sample.supervise, strict=True):
                    stop = start + 1 + len(codes)
                    frames[start] = bos
                    frames[start + 1 : stop] = read
                    if supervised:
                        targets[start + 1 : stop] = codes
                        targets[stop] = eos
                    starts.append(start)
                    start = stop + num_codebooks
        shape = (*is_frame.shape, num_codebooks)
        return {
            "audio_input_ids": shift_columns(frames, starts, above=bos).reshape(shape),
            "audio_input_ids_mask": is_frame,
            "audio_labels": shift_columns(targets, starts, above=IGNORE_INDEX).reshape(shape),
        }

    def _drop(self, clips: list[np.ndarray], sample: dict) -> list[np.ndarray]:
        """The clips as the model reads them: of the supervised, some steps drawn anew."""
        if "row_index" not in sample:
            raise ValueError("code_dropout needs samples with their row_index, from which it draws")
        generator = np.random.default_rng((self.seed, int(self._epoch), sample["row_index"]))
        read = []
        for codes, supervised in zip(clips, sample["supervise"], strict=True):
            if supervised:
                is_replaced = generator.random(len(codes)) < self.code_dropout  # (T,)
                drawn = generator.integers(self.config.audio_stream_bos_id, size=codes.shape)
                codes = np.where(is_replaced[:, None], drawn, codes)
            read.append(codes)
        return read

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
