"""The protocol of an evaluation in words, for metrics.json, reports and cards: what each score is."""

from collections.abc import Iterable

from higgs_recipes.evaluation.clip_judgments import MIN_TURN_SECONDS
from higgs_recipes.evaluation.intervals import MIN_UTTERANCES, NUM_RESAMPLES
from higgs_recipes.evaluation.turn_alignment import FOUND_SHARE
from higgs_recipes.metrics_schema import Languages, unit_note


PROTOCOL = (
    "fine-tuned voice: each text of the split is generated once, row i with seed + i; a text is transcribed and "
    "normalized in its own language; WER and CER are corpus rates (edits in all texts over their words or "
    "characters); similarity is the cosine to the centroid of the speaker's other recordings in the split (never the "
    "row's own), mean over clips; duration ratio is generated over real length, mean over clips; 95 % intervals over "
    f"the texts: Clopper-Pearson for shares of clips, bootstrap-t ({NUM_RESAMPLES:,} resamples) for rates and means, "
    f"none below {MIN_UTTERANCES} texts"
)
UNNAMED_SPEAKER = (
    "no row names its speaker: all clips except dialogues are taken as clips of one speaker, and similarity is "
    "meaningless if they are not"
)
METRIC_PROTOCOLS = {  # of metrics that not every corpus has
    "nearest_speaker": (
        "nearest speaker: the share of single-speaker clips whose cosine to their own speaker's centroid is larger "
        "than to the centroid of any other speaker of the split; the row's own recording is left out of all centroids"
    ),
    "turns_in_order": (
        "dialogues: the transcript has word times, and WER is of the whole text without speaker tags; the words, "
        "normalized one by one, are aligned with the text's words with the fewest edits, and a turn is found if at "
        f"least {FOUND_SHARE:.0%} of its words (characters, where WER counts them) are matched; turns in order is the "
        "share of dialogues in which every turn that has words is found (an alignment keeps the order)"
    ),
    "turn_voice": (
        "turn voice: a found turn is cut from its first to its last matched word, and the metric is the share of "
        "turns closer to their own speaker's centroid than to that of any other speaker of the dialogue; turns below "
        f"{MIN_TURN_SECONDS:g} s, turns without words, turns not found and turns without a voice to compare are "
        "counted and not scored; the interval resamples dialogues; the turns of recorded dialogues, cut in the same "
        "way, count as recordings of their speakers"
    ),
}


def describe_protocol(metrics: Iterable[str], *, languages: Languages, is_unnamed_speaker: bool) -> str:
    """Describe how the scores are defined.

    Args:
        metrics: names of the scores.
        languages: the field of metrics.json.
        is_unnamed_speaker: whether clips without a speaker are compared as those of one.
    """
    parts = [
        PROTOCOL,
        unit_note(languages),
        UNNAMED_SPEAKER if is_unnamed_speaker else None,
        *(METRIC_PROTOCOLS.get(metric) for metric in metrics),
    ]
    return "; ".join(part for part in parts if part)
