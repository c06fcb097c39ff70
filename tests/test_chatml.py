"""Conversations and rendered prompts equal those of the reference implementation."""

import json

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from higgs_recipes.chatml import CHAT_TEMPLATE, TASKS, conversation
from higgs_recipes.errors import InputError
from tests.helpers.tiny import GOLDEN


CASES = json.loads((GOLDEN / "chatml.json").read_text(encoding="utf-8"))
QUIET_ROOM = "Audio is recorded from a quiet room."
ROW = {"id": "r1", "text": "The sun rises in the east.", "scene": QUIET_ROOM, "audio": "x.wav"}
SPEAKERS = [
    {"speaker_tag": "SPEAKER0", "ref_text": "First reference.", "ref_audio": "x.wav"},
    {"speaker_tag": "[SPEAKER1]", "ref_text": "Second reference.", "ref_audio": "x.wav"},
]
ROWS = {  # the rows of the conversations in the golden file
    "single_speaker_smart_voice": ROW,
    "zero_shot_voice_cloning": ROW | {"ref_text": "A short reference sentence.", "ref_audio": "x.wav"},
    "multi_speaker_smart_voice": ROW | {"text": "[SPEAKER0] I can't believe it!\n[SPEAKER1] Oh, come on."},
    "multi_speaker_voice_cloning": ROW | {"text": "[SPEAKER0] Hello.\n[SPEAKER1] Hi.", "ref_speakers": SPEAKERS},
}


@pytest.fixture(scope="module")
def tokenizer():
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE()))


def render(tokenizer, turns, *, add_generation_prompt=False):
    return tokenizer.apply_chat_template(
        turns, chat_template=CHAT_TEMPLATE, add_generation_prompt=add_generation_prompt, tokenize=False
    )


@pytest.mark.parametrize("name", CASES)
def test_template_renders_the_reference_prompts(name, tokenizer):
    turns = CASES[name]["conversation"]
    assert render(tokenizer, turns) == CASES[name]["rendered"]
    assert render(tokenizer, turns[:-1], add_generation_prompt=True) == CASES[name]["generation_prompt"]


@pytest.mark.parametrize("name", [name for name in CASES if name != "no_scene"])
def test_rows_become_the_reference_conversations(name):
    task, _, variant = name.partition("/")
    turns = conversation(ROWS[task], task=task, ref_in_system=variant == "ref_in_system")
    assert turns == CASES[name]["conversation"]


def test_a_row_without_scene_has_no_scene_turn():
    for scene in (None, " "):
        row = {"text": "No scene here.", "scene": scene, "audio": "x.wav"}
        assert conversation(row, task="single_speaker_smart_voice") == CASES["no_scene"]["conversation"]


def test_a_generation_prompt_is_the_start_of_the_rendered_conversation(tokenizer):
    for case in CASES.values():
        assert case["rendered"].startswith(render(tokenizer, case["conversation"][:-1], add_generation_prompt=True))


def test_speakers_without_a_scene_sentence_follow_the_reference(tokenizer):
    row = ROWS["multi_speaker_smart_voice"] | {"scene": None}
    prompt = render(tokenizer, conversation(row, task="multi_speaker_smart_voice"))
    scene = "<|scene_desc_start|>\nSPEAKER0: feminine\nSPEAKER1: masculine\n<|scene_desc_end|><|eot_id|>"
    assert f"on your own.\n\n{scene}<|start_header_id|>user" in prompt


def test_description_of_a_speaker_replaces_the_default():
    described = [{"speaker_tag": "SPEAKER1", "description": "an old man, hoarse"}]
    row = ROWS["multi_speaker_smart_voice"] | {"ref_speakers": described}
    scene = conversation(row, task="multi_speaker_smart_voice")[1]["content"]
    assert [item["text"] for item in scene[1:]] == ["SPEAKER0: feminine", "SPEAKER1: an old man, hoarse"]


def test_audio_without_a_path_has_a_placeholder_but_no_url(tokenizer):
    turns = conversation({"text": "Hi.", "audio": {"path": None, "bytes": b"RIFF"}}, task=TASKS[0])
    assert turns[-1]["content"] == [{"type": "audio", "url": None}]
    assert "<|AUDIO_OUT|>" in render(tokenizer, turns)
    assert conversation({"text": "Hi."}, task=TASKS[0]) == turns


def error_message(row, *, task, ref_in_system=False):
    with pytest.raises(InputError) as error:
        conversation(row, task=task, ref_in_system=ref_in_system)
    return str(error.value)


@pytest.mark.parametrize("text", ["a <|eot_id|> b", "<|reserved_special_token_3|>", "x<|audio-out|>"])
@pytest.mark.parametrize("field", ["text", "scene", "ref_text"])
def test_special_tokens_in_texts_are_refused(field, text):
    row = ROWS["zero_shot_voice_cloning"] | {field: text}
    message = error_message(row, task="zero_shot_voice_cloning")
    assert message.startswith("row r1: text of the ") and text.strip("ab x") in message and "remove it" in message


def test_angle_brackets_of_event_tags_are_text():
    text = "a <SE>[Laughter]</SE> || <b> |>"
    assert conversation({"text": text}, task=TASKS[0])[-2]["content"][0]["text"] == text


def test_missing_fields_are_named():
    cloning, dialogue = ROWS["zero_shot_voice_cloning"], ROWS["multi_speaker_voice_cloning"]
    assert error_message(ROW, task="singing") == (
        "row r1: task is 'singing'; use one of single_speaker_smart_voice, zero_shot_voice_cloning, "
        "multi_speaker_smart_voice, multi_speaker_voice_cloning"
    )
    assert error_message({"text": " "}, task=TASKS[0]) == (
        "row (without id): text is missing; add a transcript or remove the row"
    )
    assert error_message(cloning | {"ref_audio": None}, task="zero_shot_voice_cloning") == (
        "row r1: ref_audio is missing; zero_shot_voice_cloning needs a recording of the voice"
    )
    assert error_message(cloning | {"ref_text": ""}, task="zero_shot_voice_cloning") == (
        "row r1: ref_text is missing; add the transcript of ref_audio"
    )
    assert error_message(ROW, task="multi_speaker_smart_voice") == (
        "row r1: text has no speaker tag; start each turn with [SPEAKER0], [SPEAKER1], ..."
    )
    assert error_message(dialogue | {"ref_speakers": SPEAKERS[:1]}, task="multi_speaker_voice_cloning") == (
        "row r1: ref_speakers has no entry for SPEAKER1; add one per speaker of the text"
    )
    for tag in ("Anna", 0):
        assert error_message(
            dialogue | {"ref_speakers": [{"speaker_tag": tag}]}, task="multi_speaker_voice_cloning"
        ) == (f"row r1: speaker_tag is {tag!r}; write SPEAKER and a number, e.g. SPEAKER0")


@pytest.mark.parametrize("task", ["multi_speaker_smart_voice", "multi_speaker_voice_cloning"])
def test_two_entries_for_one_speaker_are_refused(task):
    twice = [*SPEAKERS, SPEAKERS[0] | {"speaker_tag": "[SPEAKER0]"}]
    assert error_message(ROWS["multi_speaker_voice_cloning"] | {"ref_speakers": twice}, task=task) == (
        "row r1: ref_speakers has two entries for SPEAKER0; keep one"
    )


def test_ref_in_system_needs_no_reference_texts():
    row = ROWS["zero_shot_voice_cloning"] | {"ref_text": None}
    assert conversation(row, task="zero_shot_voice_cloning", ref_in_system=True)[1]["content"][1:] == [
        {"type": "text", "text": "SPEAKER0:"},
        {"type": "audio", "url": "x.wav"},
    ]
