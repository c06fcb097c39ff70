"""Samples -> batch: placeholders expanded, codes delayed, rows padded or packed; every count is checked."""

import numpy as np
import torch
from torch import Tensor
from transformers import HiggsAudioV2Config

from higgs_recipes.delay import IGNORE_INDEX, delay_codes, delay_targets


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
    seed, epoch and row_index alone: not on workers, processes, neighbours in the batch or a resume.

    Args:
        config: the model's config: token ids and number of codebooks are taken from it.
        pack_to: positions in a packed row; None pads.
        code_dropout: probability that a codec step is replaced; above 0 every sample needs its row_index.
        seed: of what is drawn.

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
        self, config: HiggsAudioV2Config, *, pack_to: int | None = None, code_dropout: float = 0.0, seed: int = 0
    ) -> None:
        self.config = config
        self.pack_to = pack_to
        self.code_dropout = code_dropout
        self.seed = seed
        self._epoch = torch.zeros((), dtype=torch.long).share_memory_()  # workers that outlive an epoch see the next

    def set_epoch(self, epoch: int) -> None:
        """Of the batches to come: each epoch draws other codes."""
        self._epoch.fill_(epoch)

    def __call__(self, samples: list[dict]) -> dict[str, Tensor]:
        expanded = [self._expand(sample) for sample in samples]
        rows = [[sample] for sample in expanded] if self.pack_to is None else self._pack(expanded)

        num_positions = self.pack_to or max(len(sample["input_ids"]) for sample in expanded)
        num_frames = max(sum(len(sample["frames"]) for sample in row) for row in rows)
        num_codebooks, eos = self.config.num_codebooks, self.config.audio_stream_eos_id
        batch = {
            "input_ids": torch.full((len(rows), num_positions), self.config.pad_token_id),  # (B, S)
            "labels": torch.full((len(rows), num_positions), IGNORE_INDEX),  # (B, S)
            "audio_input_ids": torch.full((len(rows), num_frames, num_codebooks), eos),  # (B, F, C)
            "audio_input_ids_mask": torch.zeros((len(rows), num_frames), dtype=torch.bool),  # (B, F)
            "audio_labels": torch.full((len(rows), num_frames, num_codebooks), IGNORE_INDEX),  # (B, F, C)
        }
        positions = torch.zeros((len(rows), num_positions), dtype=torch.long)
        lengths = torch.zeros(len(rows), dtype=torch.long)
        for index, row in enumerate(rows):
            start, first_frame = 0, 0
            for sample in row:
                stop, last_frame = start + len(sample["input_ids"]), first_frame + len(sample["frames"])
                batch["input_ids"][index, start:stop] = sample["input_ids"]
                batch["labels"][index, start:stop] = sample["labels"]
                batch["audio_input_ids"][index, first_frame:last_frame] = sample["frames"]
                batch["audio_labels"][index, first_frame:last_frame] = sample["targets"]
                positions[index, start:stop] = torch.arange(stop - start)
                start, first_frame = stop, last_frame
            batch["audio_input_ids_mask"][index, :first_frame] = True
            # The padding is a sample of its own: nothing attends to it and it has no targets.
            positions[index, start:] = torch.arange(num_positions - start)
            lengths[index] = start
        if self.pack_to is None:
            batch["attention_mask"] = (torch.arange(num_positions) < lengths[:, None]).long()
        else:
            batch["position_ids"] = positions
        if "row_index" in samples[0]:
            batch["row_index"] = torch.tensor([sample["row_index"] for sample in samples])
        return batch

    def _expand(self, sample: dict) -> dict[str, Tensor]:
        """Repeat each placeholder for its clip's frames: (S0,) -> (S,); delay and label the clips."""
        name = f"row {sample['row_index']}" if "row_index" in sample else "sample"
        input_ids, labels = torch.as_tensor(sample["input_ids"]), torch.as_tensor(sample["labels"])
        clips = [torch.as_tensor(codes).long() for codes in sample["codes"]]
        is_placeholder = input_ids == self.config.audio_token_id
        if labels.shape != input_ids.shape:
            raise ValueError(f"{name}: {len(labels)} labels for {len(input_ids)} input_ids")
        if not int(is_placeholder.sum()) == len(clips) == len(sample["supervise"]):
            raise ValueError(
                f"{name}: {int(is_placeholder.sum())} audio placeholders, {len(clips)} clips and "
                f"{len(sample['supervise'])} supervise flags; they must be as many"
            )
        for codes in clips:
            if codes.ndim != 2 or codes.shape[1] != self.config.num_codebooks or not len(codes):
                raise ValueError(f"{name}: codes of shape {tuple(codes.shape)}, not (T, {self.config.num_codebooks})")
            if not 0 <= int(codes.min()) <= int(codes.max()) < self.config.audio_stream_bos_id:
                raise ValueError(f"{name}: codes outside 0 .. {self.config.audio_stream_bos_id - 1}")

        bos, eos = self.config.audio_stream_bos_id, self.config.audio_stream_eos_id
        read = self._drop(clips, sample) if self.code_dropout else clips
        frames = [delay_codes(codes, bos=bos, eos=eos) for codes in read]  # (F_i, C)
        targets = [
            delay_targets(codes, eos=eos) if supervised else torch.full_like(clip, IGNORE_INDEX)
            for codes, clip, supervised in zip(clips, frames, sample["supervise"], strict=True)
        ]
        repeats = torch.ones_like(input_ids)
        repeats[is_placeholder] = torch.tensor([len(clip) for clip in frames], dtype=repeats.dtype)
        empty = torch.zeros((0, self.config.num_codebooks), dtype=torch.long)
        expanded = {
            "input_ids": input_ids.repeat_interleave(repeats),
            "labels": labels.repeat_interleave(repeats),
            "frames": torch.cat([empty, *frames]),
            "targets": torch.cat([empty, *targets]),
        }
        # Too many frames for the placeholders would pass the model in silence.
        assert int((expanded["input_ids"] == self.config.audio_token_id).sum()) == len(expanded["frames"])
        num_positions = len(expanded["input_ids"])
        if self.pack_to is not None and num_positions > self.pack_to:
            raise ValueError(f"{name}: {num_positions} positions do not fit pack_to={self.pack_to}; raise it")
        # Nothing stands before a sample to predict its first token; in a packed row its neighbour would.
        expanded["labels"][:1] = IGNORE_INDEX
        return expanded

    def _drop(self, clips: list[Tensor], sample: dict) -> list[Tensor]:
        """The clips as the model reads them: of the supervised, some steps drawn anew."""
        if "row_index" not in sample:
            raise ValueError("code_dropout needs samples with their row_index, from which it draws")
        generator = np.random.default_rng((self.seed, int(self._epoch), sample["row_index"]))
        read = []
        for codes, supervised in zip(clips, sample["supervise"], strict=True):
            if supervised:
                is_replaced = torch.from_numpy(generator.random(len(codes)) < self.code_dropout)  # (T,)
                drawn = torch.from_numpy(generator.integers(self.config.audio_stream_bos_id, size=codes.shape))
                codes = torch.where(is_replaced[:, None], drawn, codes)
            read.append(codes)
        return read

    def _pack(self, expanded: list[dict[str, Tensor]]) -> list[list[dict[str, Tensor]]]:
        """First fit, longest first; rows and the samples in them keep the order of arrival."""
        order = sorted(range(len(expanded)), key=lambda index: -len(expanded[index]["input_ids"]))
        bins: list[list[int]] = []
        free: list[int] = []
        for index in order:
            length = len(expanded[index]["input_ids"])
            slot = next((slot for slot, space in enumerate(free) if space >= length), None)
            if slot is None:
                bins.append([])
                free.append(self.pack_to)
                slot = len(bins) - 1
            bins[slot].append(index)
            free[slot] -= length
        return [[expanded[index] for index in sorted(indices)] for indices in sorted(map(sorted, bins))]
