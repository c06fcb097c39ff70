import math

import pytest
import torch

from higgs_recipes.audio.word_errors import utterance_errors
from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.intervals import mean_interval, rate_interval, share_interval
from higgs_recipes.evaluation.scoring import BOOTSTRAP_SEED, SpokenClip, corpus_rate, score_clips
from higgs_recipes.normalizers import choose_normalizer
from tests.helpers.spoken_clips import (
    DIALOGUE,
    SINGLE,
    AngleSpeakerModel,
    NumberASRModel,
    clip,
    dialogue,
    row,
    turn,
)


def score(rows, clips, *, rules=None):
    rules = rules or [choose_normalizer("basic", "en")] * len(rows)
    return score_clips(rows, clips, asr_model=NumberASRModel(), speaker_model=AngleSpeakerModel(), rules=rules)


ROWS = [row("a", "One.", "x"), row("b", "Two three.", "x"), row("c", "...", "y")]
REAL = [clip(1, 0.0), clip(2, 1.0, seconds=2.0), clip(3, 0.5)]


def test_wer_is_over_all_words_and_per_clip():
    scored = score(ROWS, {"real": REAL})
    wer = scored["rows"]["real"]["wer"]
    assert (wer["value"], wer["n"], wer["skipped"]) == (1 / 3, 2, 1)  # "three" is missing
    assert (wer["low"], wer["high"], wer["note"]) == (None, None, "too few: 2, an interval needs 10")
    assert [detail["real"]["wer"] for detail in scored["clips"]] == [0.0, 0.5, None]
    assert [detail["real"]["transcript"] for detail in scored["clips"]] == ["one", "two", "three"]


@pytest.mark.parametrize("unit", ["word", "character"])
def test_corpus_rates_have_the_interval_of_their_utterances(unit):
    texts, transcripts = ["One two three.", "...", "Four"] * 6, ["one too three", "hm", "four five"] * 6
    rules = [choose_normalizer("basic", "en")] * 18
    errors = utterance_errors(texts, transcripts, rules=rules, unit=unit)
    rate = corpus_rate(errors)
    assert rate["value"] == sum(count.edits for count in errors) / sum(count.length for count in errors)
    interval = rate_interval([(count.edits, count.length) for count in errors], seed=BOOTSTRAP_SEED)
    assert (rate["low"], rate["high"]) == (interval.low, interval.high) and rate["low"] < rate["high"]
    assert (rate["n"], rate["skipped"], rate["note"]) == (12, 6, "bootstrap-t")


def test_each_kind_of_score_has_its_kind_of_interval():
    rows = [row(f"{index}", "One.", "xy"[index % 2]) for index in range(12)]
    real = [clip(1, 0.9 * (index % 2) + 0.01 * index, seconds=2.0) for index in range(12)]
    base = [clip(1, 0.1 * index, seconds=1.0 + index / 10, stopped=index != 3) for index in range(12)]
    scored = score(rows, {"real": real, "base": base})
    scores, details = scored["rows"]["base"], [detail["base"] for detail in scored["clips"]]

    def interval(name: str) -> tuple:
        return scores[name]["low"], scores[name]["high"], scores[name]["note"]

    def expected(interval) -> tuple:
        return interval.low, interval.high, interval.note

    assert interval("wer") == (0.0, pytest.approx(3.689 / 12, abs=1e-3), "exact Poisson bound: 0 in 12")
    assert interval("stop_rate") == expected(share_interval(11, 12))
    own = sum(detail["nearest_speaker"] == row["speaker"] for detail, row in zip(details, rows, strict=True))
    assert interval("nearest_speaker") == expected(share_interval(own, 12))
    cosines = [detail["similarity"] for detail in details]
    assert interval("similarity") == expected(mean_interval(cosines, seed=BOOTSTRAP_SEED, low=-1, high=1))
    ratios = [detail["seconds"] / 2 for detail in details]
    assert interval("duration_ratio") == expected(mean_interval(ratios, seed=BOOTSTRAP_SEED, low=0))
    assert interval("similarity")[2] == interval("duration_ratio")[2] == "bootstrap-t"


def test_a_text_without_words_is_skipped_and_counted():
    scored = score(ROWS, {"real": REAL})
    assert (scored["n"], scored["skipped"]) == (2, 1)
    assert scored["rows"]["real"]["cer"]["n"] == 2


def test_similarity_is_to_the_other_recordings_of_the_speaker():
    rows = [row(name, "One.", "x") for name in "abc"]
    angles = [0.0, 0.4, 1.0]
    scored = score(rows, {"real": [clip(1, angle) for angle in angles], "base": [clip(1, 0.0, stopped=True)] * 3})
    for index in range(3):
        others = [torch.tensor(angle) for other, angle in enumerate(angles) if other != index]
        centroid = sum(torch.stack([angle.cos(), angle.sin()]) for angle in others) / 2
        for name, angle in (("real", angles[index]), ("base", 0.0)):
            voice = torch.tensor([angle]).cos().item(), torch.tensor([angle]).sin().item()
            expected = (voice[0] * centroid[0] + voice[1] * centroid[1]) / centroid.norm()
            assert scored["clips"][index][name]["similarity"] == pytest.approx(float(expected), abs=1e-6)


def test_a_speaker_with_one_recording_and_a_clip_without_voice_have_no_similarity():
    scored = score(ROWS, {"real": REAL, "base": [clip(1, -1.0), clip(1, 0.0), clip(1, 0.0)]})
    assert [detail["base"]["similarity"] is None for detail in scored["clips"]] == [True, False, True]
    assert scored["rows"]["base"]["similarity"]["n"] == 1
    assert scored["rows"]["base"]["similarity"]["skipped"] == 2


def test_a_score_that_no_clip_has_is_none():
    scored = score([row("a", "...", None)], {"real": [clip(1, 0.0)]})
    nothing = {"value": None, "low": None, "high": None, "n": 0, "skipped": 1}
    nothing |= {"note": "too few: 0, an interval needs 10"}
    assert scored["rows"]["real"] == {"wer": nothing, "cer": nothing, "similarity": nothing}


def test_unknown_speakers_have_no_similarity_where_other_rows_name_theirs():
    rows = [row("a", "One.", None), row("b", "One.", None), row("c", "One.", "x")]
    scored = score(rows, {"real": [clip(1, 0.5)] * 3})
    assert [detail["real"]["similarity"] for detail in scored["clips"]] == [None] * 3
    assert "no row names its speaker" not in scored["protocol"]


def test_without_any_speaker_all_single_speaker_rows_are_compared_as_one():
    talk = row("e", TALK, None, turn_speakers=(None, None))
    rows = [row("a", "One.", None), row("b", "One.", None), talk]
    real = [clip(1, 0.0), clip(1, 0.4), dialogue(turn(1, 1.0), turn(2, 1.2))]
    scored = score(rows, {"real": real, "base": [clip(1, 0.1, stopped=True)] * 2 + real[2:]})
    cosines = [detail["base"]["similarity"] for detail in scored["clips"]]
    assert cosines == [pytest.approx(math.cos(0.3), abs=1e-6), pytest.approx(math.cos(0.1), abs=1e-6), None]
    similarity = scored["rows"]["base"]["similarity"]
    assert (similarity["value"], similarity["n"]) == (pytest.approx((math.cos(0.3) + math.cos(0.1)) / 2), 2)
    assert (
        "no row names its speaker: all clips except dialogues are taken as clips of one speaker" in scored["protocol"]
    )
    assert "nearest_speaker" not in scored["rows"]["base"] and scored["by_speaker"] == {}
    assert [detail["speaker"] for detail in scored["clips"]] == [None] * 3
    assert [turn["similarity"] for turn in scored["clips"][2]["real"]["turns"]] == [None, None]


def test_only_generated_clips_have_stop_rate_and_duration_ratio():
    generated = [clip(1, 0.0, stopped=True), clip(2, 0.0, seconds=1.0, stopped=False), clip(3, 0.0, stopped=True)]
    scored = score(ROWS, {"real": REAL, "codec": REAL, "finetuned": generated})
    assert "stop_rate" not in scored["rows"]["real"] and "duration_ratio" not in scored["rows"]["codec"]
    assert scored["rows"]["finetuned"]["stop_rate"]["value"] == pytest.approx(2 / 3)
    assert scored["rows"]["finetuned"]["duration_ratio"]["value"] == pytest.approx((1 + 0.5 + 1) / 3)


def test_row_ids_are_not_used_in_file_names():
    scored = score([row("../../etc/passwd", "One.", "x")], {"real": [clip(1, 0.0)]})
    assert scored["clips"][0]["real"]["wav"] == "samples/0000_real.wav"


TWO_SPEAKERS = [row(name, "One.", speaker) for name, speaker in zip("abcd", "xxyy", strict=True)]
TWO_VOICES = [clip(1, angle) for angle in (0.0, 0.1, 1.0, 1.1)]


def test_nearest_speaker_is_the_share_of_clips_closest_to_their_own_speaker():
    base = [clip(1, angle, stopped=True) for angle in (0.2, 0.9, 0.9, -1.0)]
    scored = score(TWO_SPEAKERS, {"real": TWO_VOICES, "base": base})
    assert scored["rows"]["real"]["nearest_speaker"]["value"] == 1.0
    assert [detail["base"]["nearest_speaker"] for detail in scored["clips"]] == ["x", "y", "y", None]
    nearest = scored["rows"]["base"]["nearest_speaker"]
    assert (nearest["value"], nearest["n"], nearest["skipped"]) == (2 / 3, 3, 1)
    assert nearest["note"] == "too few: 3, an interval needs 10"


def test_the_nearest_speaker_ignores_the_rows_own_recording():
    # With row b's own recording, the centroid of x would be at 0.5 and closest to row b.
    scored = score(TWO_SPEAKERS, {"real": [clip(1, angle) for angle in (0.0, 1.0, 0.3, 0.3)]})
    assert [detail["real"]["nearest_speaker"] for detail in scored["clips"]] == ["y", "y", "y", "y"]


def test_a_corpus_of_one_speaker_has_no_nearest_speaker():
    scored = score([row(name, "One.", "x") for name in "ab"], {"real": [clip(1, 0.0)] * 2})
    assert "nearest_speaker" not in scored["rows"]["real"] and scored["by_speaker"] == {}
    assert "nearest speaker" not in scored["protocol"]


def test_scores_of_a_speaker_are_those_of_its_rows():
    texts = ["One.", "Two.", "One two.", "Three."]
    rows = [row(name, text, speaker) for name, text, speaker in zip("abcd", texts, "xyxy", strict=True)]
    real = [clip(1, angle, seconds=2.0) for angle in (0.0, 1.0, 0.1, 1.1)]
    base = [clip(2, angle, stopped=angle < 1) for angle in (0.2, 1.0, 0.3, 1.2)]
    scored = score(rows, {"real": real, "base": base})
    assert list(scored["by_speaker"]) == ["x", "y"] and scored["by_task"] == {}
    of_x = scored["by_speaker"]["x"]
    assert list(of_x) == ["real", "base"] and list(of_x["base"]) == list(scored["rows"]["base"])
    assert (of_x["base"]["wer"]["value"], of_x["base"]["wer"]["n"]) == (2 / 3, 2)
    assert of_x["base"]["stop_rate"]["value"] == 1.0 and scored["by_speaker"]["y"]["base"]["stop_rate"]["value"] == 0.0
    assert of_x["base"]["duration_ratio"]["value"] == 0.5
    assert of_x["real"]["nearest_speaker"]["value"] == 1.0
    similarities = [scored["clips"][index]["base"]["similarity"] for index in (0, 2)]
    assert of_x["base"]["similarity"]["value"] == pytest.approx(sum(similarities) / 2)


TALK = "[SPEAKER1] One.\n[SPEAKER0] Two."
TALKS = [*TWO_SPEAKERS, row("e", TALK, None, turn_speakers=("x", "y"))]


def score_talk(base: SpokenClip) -> dict:
    real = [*TWO_VOICES, dialogue(turn(1, 0.0), turn(2, 1.0))]
    return score(TALKS, {"real": real, "base": [*TWO_VOICES, base]})


def test_a_dialogue_is_scored_by_its_text_without_tags_and_by_turn():
    scored = score_talk(dialogue(turn(1, 0.2), turn(2, 0.9), stopped=True))
    (detail,) = [detail for detail in scored["clips"] if detail["id"] == "e"]
    assert (detail["base"]["transcript"], detail["base"]["wer"]) == ("one two", 0.0)
    assert detail["base"]["similarity"] is None and detail["base"]["nearest_speaker"] is None
    assert [turn["span"] for turn in detail["base"]["turns"]] == [[0.0, 1.5], [1.5, 3.0]]
    assert [turn["nearest_speaker"] for turn in detail["base"]["turns"]] == ["x", "y"]
    scores = scored["rows"]["base"]
    assert (scores["turns_in_order"]["value"], scores["turns_in_order"]["n"]) == (1.0, 1)
    assert (scores["turn_voice"]["value"], scores["turn_voice"]["n"]) == (1.0, 2)
    assert (scores["similarity"]["n"], scores["nearest_speaker"]["n"]) == (4, 4)
    assert list(scored["by_task"]) == [DIALOGUE, SINGLE]
    assert "nearest_speaker" not in scored["by_task"][DIALOGUE]["base"]
    assert "turn_voice" not in scored["by_task"][SINGLE]["base"]
    assert "turns in order" in scored["protocol"] and "turn voice" in scored["protocol"]


def test_swapped_voices_and_a_single_voice_lower_turn_voice():
    swapped = score_talk(dialogue(turn(1, 1.0), turn(2, 0.0)))["rows"]["base"]
    assert (swapped["turn_voice"]["value"], swapped["turns_in_order"]["value"]) == (0.0, 1.0)
    one_voice = score_talk(dialogue(turn(1, 0.0), turn(2, 0.0)))["rows"]["base"]
    assert one_voice["turn_voice"]["value"] == 0.5


def test_turns_out_of_order_or_missing_are_not_found():
    for base in (dialogue(turn(2, 1.0), turn(1, 0.0)), turn(1, 0.0)):
        scores = score_talk(base)["rows"]["base"]
        assert scores["turns_in_order"]["value"] == 0.0
        assert (scores["turn_voice"]["n"], scores["turn_voice"]["not_found"]) == (1, 1)


def test_turns_that_are_too_short_or_without_voice_are_counted_and_not_scored(monkeypatch):
    scores = score_talk(dialogue(turn(1, -1.0), turn(2, 1.0)))["rows"]["base"]["turn_voice"]
    assert (scores["n"], scores["skipped"], scores["no_voice"], scores["too_short"]) == (1, 1, 1, 0)
    monkeypatch.setattr("higgs_recipes.evaluation.clip_judgments.MIN_TURN_SECONDS", 2.0)
    scores = score_talk(dialogue(turn(1, 0.0), turn(2, 1.0)))["rows"]["base"]["turn_voice"]
    assert (scores["value"], scores["n"], scores["too_short"]) == (None, 0, 2)


def test_turns_of_unknown_speakers_are_found_and_not_scored():
    rows = [row("e", TALK, None, turn_speakers=(None, None))]
    scores = score(rows, {"real": [dialogue(turn(1, 0.0), turn(2, 1.0))]})["rows"]["real"]
    assert scores["turns_in_order"]["value"] == 1.0 and scores["turn_voice"]["n"] == 0


def test_a_dialogue_without_one_speaker_per_turn_is_refused():
    rows = [row("e", TALK, None, turn_speakers=("x",))]
    with pytest.raises(InputError, match="row e: the text has 2 turns and turn_speakers has 1 entries; encode"):
        score(rows, {"real": [dialogue(turn(1, 0.0), turn(2, 1.0))]})


def test_turns_of_recorded_dialogues_are_recordings_for_other_rows():
    rows = [row(name, TALK, None, turn_speakers=speakers) for name, speakers in (("e", "xy"), ("f", "yx"))]
    real = [dialogue(turn(1, 0.0), turn(2, 1.0)), dialogue(turn(1, 1.1), turn(2, 0.1))]
    scored = score(rows, {"real": real})
    assert scored["rows"]["real"]["turn_voice"]["value"] == 1.0
    assert scored["clips"][0]["real"]["turns"][0]["similarity"] == pytest.approx(0.995, abs=1e-3)  # cos 0.1, to row f
    assert score(rows[:1], {"real": real[:1]})["rows"]["real"]["turn_voice"]["n"] == 0


def test_a_turn_without_words_is_counted_and_does_not_count_against_the_order():
    text = "[SPEAKER1] One.\n[SPEAKER0] <SE>[Laughter]</SE>\n[SPEAKER1] Two."
    rows = [*TWO_SPEAKERS, row("e", text, None, turn_speakers=("x", "y", "x"))]
    real = [*TWO_VOICES, dialogue(turn(1, 0.0), turn(2, 0.0))]
    scores = score(rows, {"real": real})["rows"]["real"]
    assert (scores["turns_in_order"]["value"], scores["turns_in_order"]["n"]) == (1.0, 1)
    assert (scores["turn_voice"]["empty"], scores["turn_voice"]["not_found"], scores["turn_voice"]["n"]) == (1, 0, 2)
    silent = [*TWO_SPEAKERS, row("e", "[SPEAKER1] ...\n[SPEAKER0] !", None, turn_speakers=("x", "y"))]
    scores = score(silent, {"real": real})["rows"]["real"]
    assert (scores["turns_in_order"]["value"], scores["turns_in_order"]["skipped"]) == (None, 1)
    assert scores["turn_voice"]["empty"] == 2


def test_languages_have_their_own_units_scores_and_place_in_the_protocol():
    languages = ("de", "th", "de", "th")
    rows = [row(name, text, "x") for name, text in zip("abcd", ["One two.", "One two.", "Two.", "..."], strict=True)]
    rules = [choose_normalizer("auto", language) for language in languages]
    scored = score(rows, {"real": [clip(1, 0.1 * index) for index in range(4)]}, rules=rules)
    assert scored["languages"] == {
        "de": {"normalizer": "words", "unit": "word", "n": 2},
        "th": {"normalizer": "characters", "unit": "character", "n": 2},
    }
    wers = {code: group["real"]["wer"] for code, group in scored["by_language"].items()}
    assert (wers["de"]["value"], wers["de"]["n"]) == (2 / 3, 2)  # "two" is missing, and "one" for "two"
    assert (wers["th"]["value"], wers["th"]["n"], wers["th"]["skipped"]) == (3 / 6, 1, 1)  # letters of "two"
    assert scored["rows"]["real"]["wer"]["value"] == (2 + 3) / (3 + 6)
    assert "WER counts characters, not words, in th, so WER over all texts mixes two units" in scored["protocol"]
    assert [detail["language"] for detail in scored["clips"]] == list(languages)


def test_one_language_has_no_table_of_languages():
    scored = score(ROWS, {"real": REAL})
    assert scored["by_language"] == {} and list(scored["languages"]) == ["en"]
    assert "characters, not words" not in scored["protocol"]
