import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.protocols.references import read_references


ENTRY = {"speaker_tag": "SPEAKER0", "ref_text": "Hello.", "ref_audio": "a.wav"}
DIALOGUE = "[SPEAKER0] Hi. [SPEAKER1] Hello."


def read(value, text="Hi."):
    return read_references(value, text, where="row 3", recording=lambda name, field: name)


@pytest.mark.parametrize("tag", ["SPEAKER0", "[SPEAKER0]", " [speaker 0] ", "speaker0"])
def test_a_tag_is_written_with_or_without_brackets(tag):
    references = read([ENTRY | {"speaker_tag": tag}])
    assert (references.tags, references.texts, references.audio) == (["SPEAKER0"], ["Hello."], ["a.wav"])


@pytest.mark.parametrize(
    "value, text, task",
    [
        (None, "Hi.", "single_speaker_smart_voice"),
        ([ENTRY], "Hi.", "zero_shot_voice_cloning"),
        ([], DIALOGUE, "multi_speaker_smart_voice"),
        ([ENTRY, ENTRY | {"speaker_tag": "SPEAKER1"}], DIALOGUE, "multi_speaker_voice_cloning"),
    ],
)
def test_text_and_references_decide_the_task(value, text, task):
    assert read(value, text).task(text) == task


@pytest.mark.parametrize(
    "value, text, message",
    [
        ({"speaker_tag": "SPEAKER0"}, "Hi.", "row 3: ref_speakers is {.*it must be a list"),
        ("a.wav", "Hi.", "row 3: ref_speakers is 'a.wav': it must be a list"),
        (["a.wav"], "Hi.", "row 3: ref_speakers.0 is 'a.wav': it must have speaker_tag, ref_text and ref_audio"),
        ([None], "Hi.", "row 3: ref_speakers.0 is None"),
        ([ENTRY | {"speaker_tag": None}], "Hi.", "row 3: ref_speakers.0.speaker_tag is None: write SPEAKER and"),
        ([ENTRY | {"speaker_tag": 0}], "Hi.", "row 3: ref_speakers.0.speaker_tag is 0"),
        ([ENTRY | {"speaker_tag": "Anna"}], "Hi.", "row 3: ref_speakers.0.speaker_tag is 'Anna'"),
        ([ENTRY | {"ref_text": None}], "Hi.", "row 3: ref_speakers.0.ref_text is None: add the transcript"),
        ([{"speaker_tag": "SPEAKER0", "ref_text": "Hi."}], "Hi.", "row 3: ref_speakers.0.ref_audio has no recording"),
        ([ENTRY, ENTRY], "Hi.", "row 3: ref_speakers has 2 entries for a text without speaker tags: keep one"),
        ([ENTRY, ENTRY], DIALOGUE, "row 3: ref_speakers has two entries for one speaker_tag"),
        ([ENTRY], DIALOGUE, "row 3: ref_speakers has no entry for SPEAKER1: add one per speaker"),
    ],
)
def test_a_malformed_reference_is_named(value, text, message):
    with pytest.raises(InputError, match=message):
        read(value, text)
