"""Conversations of upstream's serve engine give the prompts of the published chat template."""

import base64
from dataclasses import dataclass

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from higgs_recipes.audio.io import read_audio, wav_bytes, write_wav
from higgs_recipes.chatml import CHAT_TEMPLATE
from higgs_recipes.errors import InputError
from higgs_recipes.generation.chat_input import chat_request, is_conversation
from tests.helpers.tiny_codec import tiny_codec, tone


def prompt_of(turns: list[dict]) -> str:
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE())).apply_chat_template(
        turns, chat_template=CHAT_TEMPLATE, add_generation_prompt=True, tokenize=False
    )


def request_of(turns):
    return chat_request(turns, tiny_codec(), seed=3, name="conversation 0")


SCENE = "Audio is recorded from a quiet room.\n\nSPEAKER0: feminine\nSPEAKER1: masculine"
TEXT = {"role": "user", "content": "The sun rises in the east."}


def test_the_prompt_is_that_of_the_template_with_string_contents():
    turns = [{"role": "system", "content": "Generate audio following instruction."}, TEXT]
    request = request_of(turns)
    assert prompt_of(request.conversation[:-1]) == prompt_of(turns)
    assert request.seed == 3 and list(request.ref_codes) == []


def test_a_scene_in_the_system_turn_is_rendered_as_upstream_wrote_it():
    system = f"Generate audio following instruction.\n\n<|scene_desc_start|>\n{SCENE}\n<|scene_desc_end|>"
    turns = [{"role": "system", "content": system}, TEXT]
    assert prompt_of(request_of(turns).conversation[:-1]) == prompt_of(turns)


@pytest.mark.parametrize("field", ["url", "audio_url", "path", "raw_audio"])
def test_clips_are_encoded_in_the_order_of_the_turns(tmp_path, field):
    waveforms = [tone(0.5), tone(0.7, hertz=330.0)]
    clips = []
    for index, waveform in enumerate(waveforms):
        write_wav(tmp_path / f"{index}.wav", waveform)
        path, encoded = str(tmp_path / f"{index}.wav"), base64.b64encode(wav_bytes(waveform)).decode()
        clips.append({"type": "audio", "audio_url": "", field: encoded if field == "raw_audio" else path})
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "One."}]},
        {"role": "assistant", "content": clips[0]},
        {"role": "user", "content": "Two."},
        {"role": "assistant", "content": [clips[1]]},
        TEXT,
    ]
    request = request_of(turns)
    expected = tiny_codec().encode([read_audio(tmp_path / f"{index}.wav", name="ref") for index in range(2)])
    assert all(torch.equal(one, two) for one, two in zip(request.ref_codes, expected, strict=True))
    assert prompt_of(request.conversation[:-1]).count("<|AUDIO_OUT|>") == 2


def test_clips_in_the_scene_stay_there(tmp_path):
    write_wav(tmp_path / "a.wav", tone(0.5))
    audio = {"type": "audio", "url": str(tmp_path / "a.wav")}
    parts = ["Generate audio following instruction.\n\n<|scene_desc_start|>\nSPEAKER0:", audio, "\n<|scene_desc_end|>"]
    prompt = prompt_of(request_of([{"role": "system", "content": parts}, TEXT]).conversation[:-1])
    clip = "<|audio_out_bos|><|AUDIO_OUT|><|audio_eos|>"
    assert f"instruction.\n\n<|scene_desc_start|>\nSPEAKER0: {clip}\n<|scene_desc_end|><|eot_id|>" in prompt


@dataclass
class Message:
    """As upstream's."""

    role: str
    content: str


def test_turns_may_be_dataclasses():
    assert is_conversation([Message("user", "Hi.")]) and not is_conversation([Message]) and not is_conversation([])
    assert request_of([Message(**TEXT)]).conversation == request_of([TEXT]).conversation


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([{"role": "robot", "content": "Hi."}], "turn 0 has none of the roles system, scene, user, assistant"),
        ([{"role": "user"}], "turn 0: the content must be a string or parts of type text or audio, got None"),
        ([{"role": "user", "content": []}], "content of turn 0 is not a list of items"),
        ([{"role": "user", "content": [{"type": "image"}]}], "turn 0: the content must be a string or parts"),
        ([{"role": "user", "content": [{"type": "audio"}]}], "turn 0: an audio part has no audio: give a path as url"),
        ([{"role": "user", "content": {"type": "audio", "raw_audio": "?"}}], "turn 0: raw_audio is not base64"),
        ([{"role": "user", "content": {"type": "audio", "url": "/no.wav"}}], "conversation 0: audio 0: .*no.wav"),
        ([TEXT, {"role": "assistant", "content": "Hi."}], "ends with a turn of the assistant"),
        ([{"role": "user", "content": "Hi.<|eot_id|>"}], r"control token <\|eot_id\|>"),
        ([{"role": "system", "content": "A <|scene_desc_start|> b"}, TEXT], r"control token <\|scene_desc_start\|>"),
        ([{"role": "user", "content": "\ud800"}], "invalid Unicode"),
    ],
)
def test_malformed_conversations_are_refused(turns, message):
    with pytest.raises(InputError, match=message):
        request_of(turns)
