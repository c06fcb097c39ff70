from higgs_recipes.evaluation.protocol import METRIC_PROTOCOLS, PROTOCOL, describe_protocol


EN, ZH = {"normalizer": "whisper_en", "unit": "word", "n": 2}, {"normalizer": "x", "unit": "character", "n": 1}


def describe(*metrics: str, is_unnamed_speaker: bool = False, **languages: dict) -> str:
    return describe_protocol(metrics, languages=languages or {"en": EN}, is_unnamed_speaker=is_unnamed_speaker)


def test_a_protocol_names_only_what_was_scored():
    assert describe("wer", "similarity") == PROTOCOL and PROTOCOL.startswith("fine-tuned voice: ")
    assert describe("wer", "turn_voice") == f"{PROTOCOL}; {METRIC_PROTOCOLS['turn_voice']}"


def test_a_protocol_states_its_intervals_and_does_not_claim_held_out_texts():
    assert "bootstrap-t (2,000 resamples)" in PROTOCOL and "Clopper-Pearson" in PROTOCOL
    assert "none below 10 texts" in PROTOCOL and "held-out" not in PROTOCOL and "percentile" not in PROTOCOL


def test_units_and_unnamed_speakers_are_stated():
    assert describe("wer", zh=ZH).endswith("; WER counts characters, not words, in zh")
    mixed = describe("wer", en=EN, zh=ZH)
    assert "in zh, so WER over all texts mixes two units: compare WER by language" in mixed
    assert "no row names its speaker" in describe("wer", is_unnamed_speaker=True)
