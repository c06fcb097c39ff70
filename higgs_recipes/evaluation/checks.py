"""What every evaluation says besides its scores: the paired comparison, the changed codes, invented transcripts."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from higgs_recipes.evaluation.comparison import BASE, FINETUNED, compare_codes, compare_models
from higgs_recipes.evaluation.scoring import SpokenClip
from higgs_recipes.evaluation.transcript_flags import count_flags, transcript_flags
from higgs_recipes.evaluation.turn_alignment import spoken_text
from higgs_recipes.metrics_schema import no_effect_warning
from higgs_recipes.normalizers import TextRule


logger = logging.getLogger(__name__)


def check_clips(
    scored: Mapping[str, Any], clips: Mapping[str, Sequence[SpokenClip]], rules: Sequence[TextRule]
) -> dict[str, Any]:
    """The fields `comparison`, `codes` and `transcript_flags` of metrics.json; adds `flags` to the entry of each clip.

    Args:
        scored: metrics.json, with `rows` and `clips`.
        clips: one clip per row of each system.
        rules: of each row.
    """
    for index, (entry, rule) in enumerate(zip(scored["clips"], rules, strict=True)):
        for system, system_clips in clips.items():
            text, transcript = spoken_text(entry["text"]), entry[system]["transcript"]
            entry[system]["flags"] = transcript_flags(text, transcript, system_clips[index].waveform, rule=rule)
    codes = None
    if BASE in clips and FINETUNED in clips:
        codes = compare_codes(*([clip.codes for clip in clips[system]] for system in (BASE, FINETUNED)))
    if warning := no_effect_warning(codes):
        logger.warning(warning)
    return {
        "comparison": compare_models(scored["rows"], scored["clips"]),
        "codes": codes,
        "transcript_flags": count_flags(scored["clips"], list(clips)),
    }
