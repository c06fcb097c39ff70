import math

import pytest
import torch

from higgs_recipes.audio.word_errors import ErrorCounts
from higgs_recipes.errors import InputError
from higgs_recipes.evaluation import clip_judgments
from higgs_recipes.evaluation.clip_judgments import (
    SpeakerCentroids,
    SpeakerSegment,
    Transcription,
    check_turn_speakers,
    judge_clips,
)
from higgs_recipes.evaluation.scoring import SpokenClip
from higgs_recipes.normalizers import choose_normalizer
from tests.helpers.spoken_clips import AngleSpeakerModel, NumberASRModel, clip, dialogue, row, turn


TALK = "[SPEAKER1] One.\n[SPEAKER0] Two."


def judge(rows: list[dict], clips: list[SpokenClip], *, asr_model=None, rules=None) -> list[Transcription]:
    return judge_clips(
        rows,
        [clip.waveform for clip in clips],
        asr_model=asr_model or NumberASRModel(),
        speaker_model=AngleSpeakerModel(),
        rules=rules or [choose_normalizer("basic", "en")] * len(rows),
    )


def vector(angle: float) -> torch.Tensor:
    return torch.tensor([math.cos(angle), math.sin(angle)])


def segment(speaker: str | None, angle: float | None) -> SpeakerSegment:
    embedding = None if angle is None else vector(angle)
    return SpeakerSegment(speaker, (0.0, 1.0), embedding, "no_voice" if angle is None else "heard")


def centroids(*recordings: list[SpeakerSegment]) -> SpeakerCentroids:
    none = ErrorCounts(0, 0)
    return SpeakerCentroids([Transcription("", "", none, none, segments) for segments in recordings])


def test_a_single_speaker_clip_is_one_segment_of_the_whole_clip():
    (judged,) = judge([row("a", "One two!", "x")], [clip(1, 0.5, seconds=2.0)])
    assert (judged.text, judged.transcript) == ("One two!", "one")
    assert judged.word_errors == ErrorCounts(edits=1, length=2)
    (only,) = judged.segments
    assert (only.speaker, only.span, only.state) == ("x", (0.0, 2.0), "heard")
    torch.testing.assert_close(only.embedding, vector(0.5))


def test_a_dialogue_has_one_segment_per_turn_and_its_tags_are_not_spoken():
    rows = [row("a", "Three.", "x"), row("e", TALK, None, turn_speakers=("x", "y"))]
    judged = judge(rows, [clip(3, 0.0), dialogue(turn(1, 0.2), turn(2, 0.9))])
    assert [each.transcript for each in judged] == ["three", "one two"]
    assert judged[1].text == "One. Two." and judged[1].word_errors.edits == 0
    assert [segment.span for segment in judged[1].segments] == [(0.0, 1.5), (1.5, 3.0)]
    for found, (speaker, angle) in zip(judged[1].segments, [("x", 0.2), ("y", 0.9)], strict=True):
        assert found.speaker == speaker
        torch.testing.assert_close(found.embedding, vector(angle))


def test_single_speaker_clips_need_no_word_times():
    class WithoutTimes(NumberASRModel):
        def timed_words(self, waveforms, *, language):
            raise AssertionError("word times were asked for")

    (judged,) = judge([row("a", "One.", "x")], [clip(1, 0.0)], asr_model=WithoutTimes())
    assert judged.transcript == "one"


def test_segments_without_an_embedding_have_the_reason_as_state(monkeypatch):
    rows = [row("e", TALK, None, turn_speakers=("x", "y"))]
    (judged,) = judge(rows, [dialogue(turn(1, -1.0), turn(3, 1.0))])
    assert [segment.state for segment in judged.segments] == ["no_voice", "not_found"]
    assert [segment.span for segment in judged.segments] == [(0.0, 1.5), None]
    monkeypatch.setattr(clip_judgments, "MIN_TURN_SECONDS", 2.0)
    (judged,) = judge(rows, [dialogue(turn(1, 0.0), turn(2, 1.0))])
    assert [segment.state for segment in judged.segments] == ["too_short", "too_short"]
    assert all(segment.embedding is None for segment in judged.segments)
    (single,) = judge([row("a", "One.", "x")], [clip(1, 0.0)])  # the limit is for turns
    assert single.segments[0].state == "heard"


def test_a_dialogue_without_one_speaker_per_turn_is_refused_with_its_row():
    rows = [row("a", "One.", "x"), row("e", TALK, None, turn_speakers=("x",))]
    with pytest.raises(InputError, match="row e: the text has 2 turns and turn_speakers has 1 entries; encode"):
        check_turn_speakers(rows)
    check_turn_speakers([row("e", TALK, None, turn_speakers=("x", None))])


def test_text_before_the_first_speaker_tag_is_refused_with_its_row():
    rows = [row("a", "One.", "x"), row("e", f"Well, {TALK}", None, turn_speakers=("x", "y"))]
    with pytest.raises(InputError, match="row e: text before the first speaker tag, .*: 'Well,'; correct"):
        check_turn_speakers(rows)
    with pytest.raises(InputError, match="row e: text before the first speaker tag"):
        judge(rows, [clip(1, 0.0), dialogue(turn(1, 0.2), turn(2, 0.9))])


def test_a_turn_without_words_is_empty_and_not_missing():
    text = "[SPEAKER1] One.\n[SPEAKER0] <SE>[Laughter]</SE>\n[SPEAKER1] Three."
    (judged,) = judge([row("e", text, None, turn_speakers=("x", "y", "x"))], [dialogue(turn(1, 0.2), turn(2, 0.9))])
    assert [segment.state for segment in judged.segments] == ["heard", "empty", "not_found"]


def test_each_clip_is_transcribed_in_its_language_and_languages_without_spaces_are_joined_without():
    names = ("de", "th", "ko", "ja")
    rules = [choose_normalizer("auto", language) for language in names for _ in range(2)]
    rows = [
        made for name in names for made in (row(name, "One.", "x"), row(name, TALK, None, turn_speakers=("x", "y")))
    ]
    clips = [clip(1, 0.0), dialogue(turn(1, 0.2), turn(2, 0.9))] * 4
    asr_model = NumberASRModel()
    judged = judge(rows, clips, asr_model=asr_model, rules=rules)
    assert asr_model.languages == ["de", "de", "th", "th", "ko", "ko", "ja", "ja"]
    assert [each.transcript for each in judged[1::2]] == ["one two", "onetwo", "one two", "onetwo"]
    assert [each.word_errors for each in judged[1::2]] == [ErrorCounts(0, 2), *[ErrorCounts(0, 6)] * 3]


def test_a_centroid_is_the_mean_of_the_other_rows():
    voices = centroids([segment("x", 0.0)], [segment("x", 0.4)], [segment("x", 1.0), segment("y", 2.0)])
    assert voices.speakers == ["x", "y"]
    torch.testing.assert_close(voices.centroid("x", without=0), (vector(0.4) + vector(1.0)) / 2)
    torch.testing.assert_close(voices.centroid("y", without=0), vector(2.0))
    for speaker, row_index in (("y", 2), ("z", 0), (None, 0)):
        assert voices.centroid(speaker, without=row_index) is None


def test_similarity_is_the_cosine_to_the_own_centroid():
    voices = centroids([segment("x", 0.0)], [segment("x", 0.4)], [segment(None, 0.1)])
    assert voices.similarity(segment("x", 1.0), without=0) == pytest.approx(math.cos(0.6), abs=1e-6)
    for unknown in (segment("x", None), segment("y", 1.0), segment(None, 1.0)):
        assert voices.similarity(unknown, without=0) is None


def test_the_nearest_speaker_needs_an_own_and_another_centroid():
    voices = centroids([segment("x", 0.0)], [segment("x", 0.1)], [segment("y", 1.0)], [segment("z", 2.0)])
    assert voices.nearest(segment("x", 0.2), ["x", "y"], without=0) == "x"
    assert voices.nearest(segment("x", 0.9), ["x", "y"], without=0) == "y"
    assert voices.nearest(segment("x", 1.9), ["x", "y"], without=0) == "y"  # z is not a candidate
    for voice, speakers, without in (
        (segment("x", None), ["x", "y"], 0),  # no embedding
        (segment("y", 1.0), ["x", "y"], 2),  # no other recording of its own speaker
        (segment("x", 0.0), ["x", "x"], 0),  # no other speaker
        (segment(None, 0.0), ["x", "y"], 0),  # unknown speaker
    ):
        assert voices.nearest(voice, speakers, without=without) is None
