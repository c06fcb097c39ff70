import pytest
import torch

from higgs_recipes.audio.asr import Word
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.scoring import Clip, score_clips


WORD_SAMPLES = round(1.5 * SAMPLE_RATE)
SINGLE, DIALOGUE = "single_speaker_smart_voice", "multi_speaker_smart_voice"


class SpellingRecogniser:
    """Hears the word whose number the first sample is; a judge whose verdict the test can name."""

    revision, window_seconds = "1", 30.0
    words = ("", "one", "two", "three")

    def transcribe(self, waveforms):
        return [self.words[int(waveform[0])] if len(waveform) else "" for waveform in waveforms]

    def timed_words(self, waveforms):
        """A word for each second and a half, spelt by its first sample."""
        pieces = [enumerate(waveform.split(WORD_SAMPLES)) for waveform in waveforms]
        return [
            [Word(self.words[int(piece[0])], 1.5 * index, 1.5 * (index + 1)) for index, piece in each]
            for each in pieces
        ]


class AngleSpeakerModel:
    """A voice is the angle that the second sample is; below 0 there is none."""

    revision, score_name = "1", "cosine_of_angles"

    def embed(self, waveforms):
        return [
            torch.stack([waveform[1].cos(), waveform[1].sin()]) if len(waveform) and waveform[1] >= 0 else None
            for waveform in waveforms
        ]


def clip(word: int, angle: float, *, seconds: float = 1.0, stopped: bool | None = None) -> Clip:
    waveform = torch.zeros(round(seconds * SAMPLE_RATE))
    waveform[:2] = torch.tensor([float(word), angle])
    return Clip(waveform, stopped)


def row(name: str, text: str, speaker: str | None, seed: int, *, turn_speakers: tuple[str | None, ...] = ()) -> dict:
    task = DIALOGUE if turn_speakers else SINGLE
    row = {"id": name, "text": text, "speaker": speaker, "seed": seed}
    return row | {"task": task, "turn_speakers": list(turn_speakers)}


def dialogue(*turns: Clip, stopped: bool | None = None) -> Clip:
    """Turns of a word each."""
    return Clip(torch.cat([turn.waveform for turn in turns]), stopped)


def turn(word: int, angle: float) -> Clip:
    return clip(word, angle, seconds=1.5)


def score(rows, clips):
    return score_clips(
        rows, clips, asr_model=SpellingRecogniser(), speaker_model=AngleSpeakerModel(), normalizer="basic"
    )


ROWS = [row("a", "One.", "x", 5), row("b", "Two three.", "x", 6), row("c", "...", "y", 7)]
REAL = [clip(1, 0.0), clip(2, 1.0, seconds=2.0), clip(3, 0.5)]


def test_the_error_rate_is_of_all_words_together_and_of_each_clip():
    scored = score(ROWS, {"real": REAL})
    wer = scored["rows"]["real"]["wer"]
    assert (wer["value"], wer["n"], wer["skipped"]) == (1 / 3, 2, 1)  # "three" was not heard
    assert wer["low"] <= wer["value"] <= wer["high"]
    assert [detail["real"]["wer"] for detail in scored["clips"]] == [0.0, 0.5, None]
    assert [detail["real"]["transcript"] for detail in scored["clips"]] == ["one", "two", "three"]


def test_a_text_without_words_is_skipped_and_counted():
    scored = score(ROWS, {"real": REAL})
    assert (scored["n"], scored["skipped"]) == (2, 1)
    assert scored["rows"]["real"]["cer"]["n"] == 2


def test_similarity_is_to_the_speakers_other_recordings_and_never_to_the_rows_own():
    rows = [row(name, "One.", "x", 0) for name in "abc"]
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


def test_a_score_that_no_clip_has_is_none_and_not_a_number():
    scored = score([row("a", "...", None, 0)], {"real": [clip(1, 0.0)]})
    nothing = {"value": None, "low": None, "high": None, "n": 0, "skipped": 1}
    assert scored["rows"]["real"] == {"wer": nothing, "cer": nothing, "similarity": nothing}


def test_rows_of_unknown_speakers_share_no_voice():
    scored = score([row("a", "One.", None, 0), row("b", "One.", None, 1)], {"real": [clip(1, 0.5)] * 2})
    assert [detail["real"]["similarity"] for detail in scored["clips"]] == [None, None]


def test_stop_rate_and_duration_are_of_generated_clips_alone():
    generated = [clip(1, 0.0, stopped=True), clip(2, 0.0, seconds=1.0, stopped=False), clip(3, 0.0, stopped=True)]
    scored = score(ROWS, {"real": REAL, "codec": REAL, "finetuned": generated})
    assert "stop_rate" not in scored["rows"]["real"] and "duration_ratio" not in scored["rows"]["codec"]
    assert scored["rows"]["finetuned"]["stop_rate"]["value"] == pytest.approx(2 / 3)
    assert scored["rows"]["finetuned"]["duration_ratio"]["value"] == pytest.approx((1 + 0.5 + 1) / 3)


def test_a_rows_id_never_names_a_file():
    scored = score([row("../../etc/passwd", "One.", "x", 0)], {"real": [clip(1, 0.0)]})
    assert scored["clips"][0]["real"]["wav"] == "samples/0000_real.wav"


TWO_SPEAKERS = [row(name, "One.", speaker, 0) for name, speaker in zip("abcd", "xxyy", strict=True)]
TWO_VOICES = [clip(1, angle) for angle in (0.0, 0.1, 1.0, 1.1)]


def test_a_clip_is_nearer_to_its_own_speaker_or_to_another():
    base = [clip(1, angle, stopped=True) for angle in (0.2, 0.9, 0.9, -1.0)]
    scored = score(TWO_SPEAKERS, {"real": TWO_VOICES, "base": base})
    assert scored["rows"]["real"]["nearest_speaker"]["value"] == 1.0
    assert [detail["base"]["nearest_speaker"] for detail in scored["clips"]] == ["x", "y", "y", None]
    nearest = scored["rows"]["base"]["nearest_speaker"]
    assert (nearest["value"], nearest["n"], nearest["skipped"]) == (2 / 3, 3, 1)
    assert nearest["low"] <= 2 / 3 <= nearest["high"]


def test_a_clip_is_compared_without_its_own_rows_recording():
    # With row b's own recording in its centroid x would be at 0.5, and row b nearest to x.
    scored = score(TWO_SPEAKERS, {"real": [clip(1, angle) for angle in (0.0, 1.0, 0.3, 0.3)]})
    assert [detail["real"]["nearest_speaker"] for detail in scored["clips"]] == ["y", "y", "y", "y"]


def test_a_corpus_of_one_speaker_has_nobody_to_be_nearer_to():
    scored = score([row(name, "One.", "x", 0) for name in "ab"], {"real": [clip(1, 0.0)] * 2})
    assert "nearest_speaker" not in scored["rows"]["real"] and scored["by_speaker"] == {}
    assert "nearest speaker" not in scored["protocol"]


def test_every_row_of_the_report_is_scored_by_speaker_as_those_rows_alone():
    texts = ["One.", "Two.", "One two.", "Three."]
    rows = [row(name, text, speaker, 0) for name, text, speaker in zip("abcd", texts, "xyxy", strict=True)]
    real = [clip(1, angle, seconds=2.0) for angle in (0.0, 1.0, 0.1, 1.1)]
    base = [clip(2, angle, stopped=angle < 1) for angle in (0.2, 1.0, 0.3, 1.2)]
    scored = score(rows, {"real": real, "base": base})
    assert list(scored["by_speaker"]) == ["x", "y"] and scored["by_task"] == {}
    mine = scored["by_speaker"]["x"]
    assert list(mine) == ["real", "base"] and list(mine["base"]) == list(scored["rows"]["base"])
    assert (mine["base"]["wer"]["value"], mine["base"]["wer"]["n"]) == (2 / 3, 2)
    assert mine["base"]["stop_rate"]["value"] == 1.0 and scored["by_speaker"]["y"]["base"]["stop_rate"]["value"] == 0.0
    assert mine["base"]["duration_ratio"]["value"] == 0.5
    assert mine["real"]["nearest_speaker"]["value"] == 1.0
    similarities = [scored["clips"][index]["base"]["similarity"] for index in (0, 2)]
    assert mine["base"]["similarity"]["value"] == pytest.approx(sum(similarities) / 2)


TALK = "[SPEAKER1] One.\n[SPEAKER0] Two."
TALKS = [*TWO_SPEAKERS, row("e", TALK, None, 4, turn_speakers=("x", "y"))]


def talks(base: Clip) -> dict:
    real = [*TWO_VOICES, dialogue(turn(1, 0.0), turn(2, 1.0))]
    return score(TALKS, {"real": real, "base": [*TWO_VOICES, base]})


def test_a_dialogue_is_scored_by_its_whole_text_without_tags_and_by_its_turns():
    scored = talks(dialogue(turn(1, 0.2), turn(2, 0.9), stopped=True))
    (detail,) = [each for each in scored["clips"] if each["id"] == "e"]
    assert (detail["base"]["transcript"], detail["base"]["wer"]) == ("one two", 0.0)
    assert detail["base"]["similarity"] is None and detail["base"]["nearest_speaker"] is None
    assert [each["span"] for each in detail["base"]["turns"]] == [[0.0, 1.5], [1.5, 3.0]]
    assert [each["nearest_speaker"] for each in detail["base"]["turns"]] == ["x", "y"]
    scores = scored["rows"]["base"]
    assert (scores["turns_in_order"]["value"], scores["turns_in_order"]["n"]) == (1.0, 1)
    assert (scores["turn_voice"]["value"], scores["turn_voice"]["n"]) == (1.0, 2)
    assert (scores["similarity"]["n"], scores["nearest_speaker"]["n"]) == (4, 4)
    assert list(scored["by_task"]) == [DIALOGUE, SINGLE]
    assert "nearest_speaker" not in scored["by_task"][DIALOGUE]["base"]
    assert "turn_voice" not in scored["by_task"][SINGLE]["base"]
    assert "turns in order" in scored["protocol"] and "turn voice" in scored["protocol"]


def test_turns_in_each_others_voice_or_one_voice_for_all_are_told():
    swapped = talks(dialogue(turn(1, 1.0), turn(2, 0.0)))["rows"]["base"]
    assert (swapped["turn_voice"]["value"], swapped["turns_in_order"]["value"]) == (0.0, 1.0)
    one_voice = talks(dialogue(turn(1, 0.0), turn(2, 0.0)))["rows"]["base"]
    assert one_voice["turn_voice"]["value"] == 0.5


def test_turns_out_of_order_or_left_out_are_not_found():
    for base in (dialogue(turn(2, 1.0), turn(1, 0.0)), turn(1, 0.0)):
        scores = talks(base)["rows"]["base"]
        assert scores["turns_in_order"]["value"] == 0.0
        assert (scores["turn_voice"]["n"], scores["turn_voice"]["not_found"]) == (1, 1)


def test_a_turn_too_short_or_without_voice_is_counted_and_not_judged(monkeypatch):
    scores = talks(dialogue(turn(1, -1.0), turn(2, 1.0)))["rows"]["base"]["turn_voice"]
    assert (scores["n"], scores["skipped"], scores["no_voice"], scores["too_short"]) == (1, 1, 1, 0)
    monkeypatch.setattr("higgs_recipes.evaluation.clip_judgments.MIN_TURN_SECONDS", 2.0)
    scores = talks(dialogue(turn(1, 0.0), turn(2, 1.0)))["rows"]["base"]["turn_voice"]
    assert (scores["value"], scores["n"], scores["too_short"]) == (None, 0, 2)


def test_turns_of_unknown_speakers_are_found_and_not_judged():
    rows = [row("e", TALK, None, 4, turn_speakers=(None, None))]
    scores = score(rows, {"real": [dialogue(turn(1, 0.0), turn(2, 1.0))]})["rows"]["real"]
    assert scores["turns_in_order"]["value"] == 1.0 and scores["turn_voice"]["n"] == 0


def test_a_dialogue_whose_speakers_are_not_those_of_its_turns_is_named():
    rows = [row("e", TALK, None, 4, turn_speakers=("x",))]
    with pytest.raises(InputError, match="row e: 2 turns in its text and 1 turn_speakers; encode it again"):
        score(rows, {"real": [dialogue(turn(1, 0.0), turn(2, 1.0))]})


def test_the_turns_of_recorded_dialogues_are_recordings_of_their_speakers_but_not_for_their_own_row():
    rows = [row(name, TALK, None, 0, turn_speakers=speakers) for name, speakers in (("e", "xy"), ("f", "yx"))]
    real = [dialogue(turn(1, 0.0), turn(2, 1.0)), dialogue(turn(1, 1.1), turn(2, 0.1))]
    scored = score(rows, {"real": real})
    assert scored["rows"]["real"]["turn_voice"]["value"] == 1.0
    assert scored["clips"][0]["real"]["turns"][0]["similarity"] == pytest.approx(0.995, abs=1e-3)  # cos 0.1: of row f
    assert score(rows[:1], {"real": real[:1]})["rows"]["real"]["turn_voice"]["n"] == 0
