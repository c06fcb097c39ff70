"""The DualFFN loss as sums and counts, for the text head and for each codebook of the audio head.

transformers' own loss is wrong for fine-tuning in three ways: it masks every EOS, it supervises reference clips and
the whole prompt, and its Trainer divides the audio loss by the number of text labels. Here the labels are those of
`HiggsCollator`, the audio loss is split by codebook, and sums are divided once, by the counts of the whole optimizer
step (see `training.trainer`).
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from types import MethodType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from higgs_recipes.constants import IGNORE_INDEX
from higgs_recipes.unwrap import unwrap_model
from higgs_recipes.varlen_batch import FlatBatch


@dataclass
class DualFFNLosses:
    """Cross-entropy sums in nats, the number of targets in each, and the number of correct top-1 predictions."""

    text_sum: Tensor  # ()
    text_count: Tensor  # ()
    codebook_sums: Tensor  # (C,)
    codebook_counts: Tensor  # (C,)
    codebook_hits: Tensor  # (C,) targets that equal the most likely code
    eos_sum: Tensor  # () the part of codebook_sums whose target is EOS
    eos_count: Tensor  # ()
    eos_hits: Tensor  # ()

    def detach(self) -> "DualFFNLosses":
        return DualFFNLosses(**{field.name: getattr(self, field.name).detach() for field in fields(self)})

    def __add__(self, other: "DualFFNLosses") -> "DualFFNLosses":
        pairs = {field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)}
        return DualFFNLosses(**pairs)

    def pack(self) -> Tensor:
        """All values as one float64 vector, so that one reduction adds them over processes."""
        return torch.cat([getattr(self, field.name).reshape(-1).double() for field in fields(self)])

    def unpack(self, vector: Tensor) -> "DualFFNLosses":
        """Invert `pack`, with the shapes of this object."""
        parts = vector.split([getattr(self, field.name).numel() for field in fields(self)])
        named = zip(fields(self), parts, strict=True)
        return DualFFNLosses(**{field.name: part.reshape(getattr(self, field.name).shape) for field, part in named})


def label_counts(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Number of targets in a batch: text () and audio per codebook (C,)."""
    text_count = (batch["labels"][:, 1:] != IGNORE_INDEX).sum()  # ()
    codebook_counts = (batch["audio_labels"][:, 1:] != IGNORE_INDEX).sum(dim=(0, 1))  # (C,)
    return text_count, codebook_counts


def dual_ffn_losses(model: nn.Module, batch: dict[str, Tensor]) -> DualFFNLosses:
    """Compute the losses of a batch of `HiggsCollator`.

    Args:
        model: a `HiggsAudioV2ForConditionalGeneration` with text head, bare or inside PEFT, DDP, FSDP or DeepSpeed.
        batch: input_ids, labels (B, S), audio_input_ids, audio_labels (B, F, C), audio_input_ids_mask (B, F), and
            attention_mask (B, S) for a padded batch or position_ids (B, S) for a packed one. If the batch has `flat`,
            only that is used, by the variable-length forward that `attach_varlen_forward` added to the model.

    Raises:
        ValueError: the model has no text head.
    """
    attach_losses(unwrap_model(model))
    if "flat" in batch:
        inputs = {"flat": batch["flat"]}
    else:
        inputs = {name: tensor for name, tensor in batch.items() if name != "row_index"}
    return DualFFNLosses(**model(**inputs, output_losses=True))


def attach_losses(model: nn.Module, *, compiled: bool = False) -> None:
    """Add the argument `output_losses` to the forward of a bare model, in place.

    `model(**batch, output_losses=True)` returns the fields of `DualFFNLosses` as a dict: wrappers find the tensors in
    it that they register hooks on. Without the argument the forward is unchanged.

    The losses are computed inside the forward, as Liger does it, so that the weights of the heads are available under
    every wrapper (DDP, FSDP, ZeRO, autocast). Call this before a wrapper that replaces `forward` on the instance.

    Args:
        compiled: compile what follows the audio head with torch.compile; in a model with few layers it takes a third
            of a step.
    """
    if "output_losses" in inspect.signature(model.forward).parameters:
        return
    original_forward = model.forward
    codebook_sums = torch.compile(_codebook_sums) if compiled else _codebook_sums

    def forward(self: nn.Module, *args, output_losses: bool = False, **kwargs):
        if not output_losses:
            return original_forward(*args, **kwargs)
        targets = _varlen_targets(self, **kwargs) if "flat" in kwargs else _original_targets(self, **kwargs)
        return _head_losses(self, *targets, codebook_sums=codebook_sums)

    # generate() validates its arguments against the signature of forward.
    signature = inspect.signature(original_forward)
    flag = inspect.Parameter("output_losses", inspect.Parameter.KEYWORD_ONLY, default=False)
    named = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    rest = [p for p in signature.parameters.values() if p.kind is inspect.Parameter.VAR_KEYWORD]
    bound = MethodType(forward, model)
    forward.__signature__ = signature.replace(
        parameters=[inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD), *named, flag, *rest]
    )
    model.forward = bound


def _original_targets(
    model: nn.Module, *, labels: Tensor, audio_labels: Tensor, **inputs: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run transformers' backbone and select the positions with targets.

    Returns:
        Text: hidden states (Kt, H) and labels (Kt,). Audio: hidden states (Ka, H) and labels (Ka, C).
    """
    hidden = model.model(**inputs, use_cache=False).last_hidden_state  # (B, S, H)

    # Audio positions and valid frames correspond in order, row by row: so the model scatters the frames.
    is_audio = model.model.get_placeholder_mask(inputs["input_ids"], None, None)  # (B, S)
    targets = audio_labels[inputs["audio_input_ids_mask"]]  # (sum F, C)
    # The first row of a clip's targets is empty, so this shift by one never crosses from one clip into the next.
    # Padding first works for a batch without any clip too.
    targets = F.pad(targets, (0, 0, 0, 1), value=IGNORE_INDEX)[1:]  # (sum F, C)
    kept_frames = (targets != IGNORE_INDEX).any(dim=-1)  # (sum F,)
    next_labels = labels[:, 1:]  # (B, S - 1)
    kept = next_labels != IGNORE_INDEX  # (B, S - 1)
    return hidden[:, :-1][kept], next_labels[kept], hidden[is_audio][kept_frames], targets[kept_frames]


def _varlen_targets(model: nn.Module, *, flat: FlatBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Like `_original_targets`, by the variable-length forward: the collator has indexed the positions already."""
    hidden = model.varlen_hidden_states(flat)  # (P, H)
    text_hidden, audio_hidden = (
        hidden.index_select(0, flat[name]) for name in ("text_predictors", "audio_predictors")
    )
    return text_hidden, flat["text_labels"], audio_hidden, flat["audio_labels"]


def _head_losses(
    model: nn.Module,
    text_hidden: Tensor,
    text_labels: Tensor,
    audio_hidden: Tensor,
    audio_labels: Tensor,
    *,
    codebook_sums: Callable[..., dict[str, Tensor]],
) -> dict[str, Tensor]:
    """Hidden states (Kt, H), (Ka, H) and the labels (Kt,), (Ka, C) they predict -> fields of `DualFFNLosses`."""
    if model.text_lm_head is None:
        raise ValueError("the model has no text head: build it with use_text_head=True (modeling.load_model does)")
    text_losses = _cross_entropy(model.text_lm_head(text_hidden).float(), text_labels)  # (Kt,)
    logits = model.audio_lm_head(audio_hidden)  # (Ka, C * V)
    for tensor in (logits, audio_labels):
        torch._dynamo.maybe_mark_dynamic(tensor, 0)
    return {
        "text_sum": text_losses.sum(),
        "text_count": (text_labels != IGNORE_INDEX).sum(),
        **codebook_sums(logits, audio_labels, model.config.audio_stream_eos_id),
    }


def _codebook_sums(logits: Tensor, labels: Tensor, eos_code: int) -> dict[str, Tensor]:
    """Logits (Ka, C * V) and labels (Ka, C) -> audio fields of `DualFFNLosses`."""
    logits = logits.float().unflatten(-1, (labels.shape[1], -1))  # (Ka, C, V)
    losses = _cross_entropy(logits, labels)  # (Ka, C)
    hits = (logits.detach().argmax(dim=-1) == labels).long()  # (Ka, C)
    is_eos = labels == eos_code  # (Ka, C)
    return {
        "codebook_sums": losses.sum(dim=0),
        "codebook_counts": (labels != IGNORE_INDEX).sum(dim=0),
        "codebook_hits": hits.sum(dim=0),
        "eos_sum": (losses.detach() * is_eos).sum(),
        "eos_count": is_eos.sum(),
        "eos_hits": (hits * is_eos).sum(),
    }


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats of each target, 0 where it is `IGNORE_INDEX`: (..., V), (...) -> (...)."""
    losses = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="none")
    return losses.view(targets.shape)
