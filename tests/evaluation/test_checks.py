import logging

import torch

from higgs_recipes.evaluation.checks import check_clips
from higgs_recipes.evaluation.scoring import SpokenClip, score_clips
from higgs_recipes.normalizers import choose_normalizer
from tests.helpers.spoken_clips import AngleSpeakerModel, NumberASRModel, clip, row


ROWS = [row("a", "One.", "x"), row("b", "Two.", "x")]
RULES = [choose_normalizer("basic", "en")] * 2
REAL = [clip(1, 0.0), clip(2, 0.0)]


def check(base: list[SpokenClip], finetuned: list[SpokenClip]) -> tuple[dict, dict]:
    clips = {"real": REAL, "base": base, "finetuned": finetuned}
    scored = score_clips(ROWS, clips, asr_model=NumberASRModel(), speaker_model=AngleSpeakerModel(), rules=RULES)
    return scored, check_clips(scored, clips, RULES)


def spoken(word: int, code: int) -> SpokenClip:
    return SpokenClip(clip(word, 0.5).waveform, True, torch.full((3, 8), code, dtype=torch.int16))


def test_models_are_compared_on_the_edits_of_their_clips():
    scored, checks = check([spoken(3, 0), spoken(2, 0)], [spoken(1, 1), spoken(2, 0)])
    assert checks["comparison"]["wer"]["value"] == -0.5 and checks["comparison"]["wer"]["n"] == 2
    assert checks["codes"] == {"changed": 0.5, "identical": 1, "n": 2}
    assert scored["clips"][0]["base"]["edits"] == 1 and scored["clips"][0]["finetuned"]["edits"] == 0
    # Its words are in the first sample, and the rest of the clip is silent.
    assert {system: counts["silence"] for system, counts in checks["transcript_flags"].items()} == {
        "real": 0,
        "base": 0,
        "finetuned": 0,
    }
    assert scored["clips"][0]["real"]["flags"] == []


def test_an_adapter_without_effect_is_logged(caplog):
    same = [spoken(1, 0), spoken(2, 5)]
    with caplog.at_level(logging.WARNING):
        _, checks = check(same, same)
    assert checks["codes"]["identical"] == 2 and "The fine-tuning has no effect" in caplog.text


def test_recordings_alone_have_no_comparison():
    clips = {"real": REAL}
    scored = score_clips(ROWS, clips, asr_model=NumberASRModel(), speaker_model=AngleSpeakerModel(), rules=RULES)
    checks = check_clips(scored, clips, RULES)
    assert checks["comparison"] is None and checks["codes"] is None and list(checks["transcript_flags"]) == ["real"]
