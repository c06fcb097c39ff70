"""ChatML for Higgs Audio v2: `conversation` converts a row to turns for its task, `CHAT_TEMPLATE` renders them.

The turns have the format of `apply_chat_template`. The rendered strings equal those of the published checkpoint's chat
template, except for a scene with speakers and no sentence, which follows the reference implementation.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Literal, get_args

from higgs_recipes.rejects import RejectCode, RejectedRow


Task = Literal[
    "single_speaker_smart_voice",
    "zero_shot_voice_cloning",
    "multi_speaker_smart_voice",
    "multi_speaker_voice_cloning",
]
TASKS: tuple[Task, ...] = get_args(Task)

# The scene is rendered at the end of the system turn: one sentence about the recording, a blank line, and one line per
# speaker.
CHAT_TEMPLATE = r"""
{%- macro render(item) %}
    {%- if item.type == "audio" %}{{- "<|audio_out_bos|><|AUDIO_OUT|><|audio_eos|>" }}
    {%- elif item.type == "text" %}{{- item.text | trim }}
    {%- else %}{{- raise_exception("a turn's content must be a string or a list of items of type text or audio") }}
    {%- endif %}
{%- endmacro %}
{{- "<|begin_of_text|>" }}
{%- for message in messages %}
    {%- set items = [{"type": "text", "text": message.content}] if message.content is string else message.content %}
    {%- if message.role == "scene" %}
        {{- "\n\n<|scene_desc_start|>" }}
        {%- for item in items %}
            {%- if item.type == "audio" %}{{- " " }}
            {%- elif loop.index == 2 and not items[0].text.startswith("SPEAKER") %}{{- "\n\n" }}
            {%- else %}{{- "\n" }}
            {%- endif %}
            {{- render(item) }}
        {%- endfor %}
        {{- "\n<|scene_desc_end|>" }}
    {%- else %}
        {{- "<|start_header_id|>" + message.role + "<|end_header_id|>\n\n" }}
        {%- for item in items %}{{- render(item) }}{%- endfor %}
    {%- endif %}
    {%- if loop.last or loop.nextitem.role != "scene" %}{{- "<|eot_id|>" }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|start_header_id|>assistant<|end_header_id|>\n\n<|audio_out_bos|>" }}
{%- endif %}
""".strip()

# The reference describes unknown speakers alternately by these two words.
_VOICES = ("feminine", "masculine")
# Gender as corpora write it -> the reference's word.
_VOICE_OF_GENDER = {
    **dict.fromkeys(("f", "female", "feminine", "female_feminine"), "feminine"),
    **dict.fromkeys(("m", "male", "masculine", "male_masculine"), "masculine"),
}

SPEAKER_TAG = re.compile(r"\[(SPEAKER\d+)\]")  # starts a turn in the text of a dialogue
_WRITTEN_TAG = re.compile(r"\[\s*speaker\s*(\d+)\s*\]", re.IGNORECASE)

# Not only the tokens of the template: a checkpoint may have more special tokens of this form.
_CONTROL_TOKEN = re.compile(r"<\|[^\s|]+\|>")

_ROLES = ("system", "scene", "user", "assistant")

_SYSTEM = "Generate audio following instruction."
_DIALOGUE_SYSTEM = """You are an AI assistant designed to convert text into speech.
If the user's message includes a [SPEAKER*] tag, do not read out the tag and generate speech for the following text, \
using the specified voice.
If no speaker tag is present, select a suitable voice on your own."""


def conversation(row: Mapping[str, Any], *, task: str, ref_in_system: bool = False) -> list[dict]:
    """Convert one row to the turns of a conversation.

    The last turn is always the assistant's, with the audio of the row. To generate that audio instead, render all
    turns but the last with `add_generation_prompt=True`.

    Args:
        row: `text` (the transcript; a dialogue starts each turn with `[SPEAKER0]`, `[SPEAKER1]`, ...), and optionally
            `id` (for error messages), `scene` (a sentence about the recording, or None) and `audio`. Voice cloning
            needs `ref_audio` and `ref_text`; in a dialogue it needs `ref_speakers`, a list of {"speaker_tag",
            "ref_text", "ref_audio"} with the tag as "SPEAKER0" or "[SPEAKER0]". An audio is a URL or path, or a cell
            {"path", "bytes"} of datasets. A dialogue with smart voices describes its speakers as "feminine" and
            "masculine" in turn, as the reference does, unless the speaker's entry in `ref_speakers` has a
            `description`.
        task: one of `TASKS`.
        ref_in_system: put the reference clips into the scene, without their texts, instead of earlier turns. Only the
            two cloning tasks have reference clips. A `description` takes the place of a clip that is missing, as the
            reference's `profile:` does.

    >>> turns = conversation({"text": "Hi.", "audio": "hi.wav"}, task="single_speaker_smart_voice")
    >>> [turn["role"] for turn in turns]
    ['system', 'user', 'assistant']
    >>> turns[-1]["content"]
    [{'type': 'audio', 'url': 'hi.wav'}]

    Raises:
        InputError: the task is unknown, or the row lacks a field that the task needs. The message names the row, the
            field and the remedy.
    """
    if task not in TASKS:
        raise _error(row, "task", f"is {task!r}; use one of {', '.join(TASKS)}")
    text = _required(row, row, "text", "add a transcript or remove the row")
    scene = [] if _is_blank(row.get("scene")) else [_text(row["scene"])]
    references: list[dict] = []
    if task == "multi_speaker_smart_voice":
        scene += _described_speakers(row, text)
    elif task != "single_speaker_smart_voice":
        clips = _reference_clips(row, text, task)
        for tag, prefix, clip in clips:
            if ref_in_system and clip.get("ref_audio") is None and not _is_blank(clip.get("description")):
                scene.append(_text(f"{tag}: {clip['description']}"))
                continue
            audio = _audio(_required(row, clip, "ref_audio", f"{task} needs a recording of the voice"))
            if ref_in_system:
                scene += [_text(f"{tag}:"), audio]
            else:
                ref_text = _required(row, clip, "ref_text", "add the transcript of ref_audio")
                user_text = prefix + ref_text.removeprefix(prefix)
                references += [_turn("user", _text(user_text)), _turn("assistant", audio)]
    turns = [
        _turn("system", _text(_DIALOGUE_SYSTEM if task == "multi_speaker_smart_voice" else _SYSTEM)),
        *([_turn("scene", *scene)] if scene else []),
        *references,
        _turn("user", _text(text)),
        _turn("assistant", _audio(row.get("audio"))),
    ]
    _refuse_control_tokens(row, turns)
    return turns


def canonical_speaker_tags(text: str) -> str:
    """Write speaker tags as the model knows them; it reads out any others.

    >>> canonical_speaker_tags("[speaker0] Hi. [ Speaker 1 ] Well. [laugh]")
    '[SPEAKER0] Hi. [SPEAKER1] Well. [laugh]'
    """
    return _WRITTEN_TAG.sub(r"[SPEAKER\1]", text)


def is_dialogue(text: str) -> bool:
    """Whether a text has speaker tags.

    >>> is_dialogue("[SPEAKER0] Hi.\\n[SPEAKER1] Well."), is_dialogue("[laugh] Hi.")
    (True, False)
    """
    return SPEAKER_TAG.search(text) is not None


def describe_voice(gender: str | None) -> str | None:
    """The reference's word for a voice of the given gender; None for an unknown gender.

    >>> describe_voice("F"), describe_voice("male"), describe_voice("unknown")
    ('feminine', 'masculine', None)
    """
    return _VOICE_OF_GENDER.get((gender or "").strip().lower())


def _described_speakers(row: Mapping[str, Any], text: str) -> list[dict]:
    described = {tag: speaker.get("description") for tag, speaker in _speakers(row).items()}
    return [
        _text(f"{tag}: {described.get(tag) or _VOICES[index % 2]}")
        for index, tag in enumerate(_speaker_tags(row, text))
    ]


def _reference_clips(row: Mapping[str, Any], text: str, task: str) -> list[tuple[str, str, Mapping[str, Any]]]:
    """For each reference clip: its speaker tag, the prefix of its user turn, and the mapping with its fields."""
    if task == "zero_shot_voice_cloning":
        return [("SPEAKER0", "", row)]
    clips = _speakers(row)
    missing = [tag for tag in _speaker_tags(row, text) if tag not in clips]
    if missing:
        raise _error(row, "ref_speakers", f"has no entry for {', '.join(missing)}; add one per speaker of the text")
    return [(tag, f"[{tag}] ", clip) for tag, clip in clips.items()]


def _speakers(row: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The entries of `ref_speakers` by tag, in their order."""
    speakers: dict[str, Mapping[str, Any]] = {}
    for speaker in row.get("ref_speakers") or []:
        tag = _tag(row, speaker)
        if tag in speakers:  # one of the two recordings would be encoded but have no turn
            raise _error(row, "ref_speakers", f"has two entries for {tag}; keep one")
        speakers[tag] = speaker
    return speakers


def _speaker_tags(row: Mapping[str, Any], text: str) -> list[str]:
    tags = sorted(set(SPEAKER_TAG.findall(text)))
    if not tags:
        raise _error(row, "text", "has no speaker tag; start each turn with [SPEAKER0], [SPEAKER1], ...")
    return tags


def _tag(row: Mapping[str, Any], speaker: Mapping[str, Any]) -> str:
    tag = _required(row, speaker, "speaker_tag", "use the tag of the text, e.g. SPEAKER0")
    if not isinstance(tag, str) or not re.fullmatch(r"SPEAKER\d+|\[SPEAKER\d+\]", tag):
        raise _error(row, "speaker_tag", f"is {tag!r}; write SPEAKER and a number, e.g. SPEAKER0")
    return tag.strip("[]")


def _required(row: Mapping[str, Any], owner: Mapping[str, Any], field: str, remedy: str) -> Any:
    if _is_blank(owner.get(field)):
        raise _error(row, field, f"is missing; {remedy}")
    return owner[field]


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _refuse_control_tokens(row: Mapping[str, Any], turns: list[dict]) -> None:
    for turn in turns:
        for item in turn["content"]:
            text, field = item.get("text", ""), f"text of the {turn['role']} turn"
            if token := _CONTROL_TOKEN.search(text):
                problem = f"contains the special token {token[0]}, which is reserved for the prompt; remove it"
                raise _error(row, field, problem)
            if problem := _prompt_problem(text):
                raise _error(row, field, f"{problem}; correct it")


def _error(row: Mapping[str, Any], field: str, problem: str) -> RejectedRow:
    return RejectedRow(RejectCode.INVALID_FIELD, field, problem, row_id=row.get("id", "(without id)"))


def _turn(role: str, *content: dict) -> dict:
    return {"role": role, "content": list(content)}


def _text(text: str) -> dict:
    return {"type": "text", "text": text}


def _audio(source: Any) -> dict:
    """An audio item; its url is None if the audio has no path: not generated yet, or stored as bytes."""
    path = source["path"] if isinstance(source, Mapping) else source
    return {"type": "audio", "url": None if path is None else str(path)}


def conversation_problem(messages: str, *, num_clips: int) -> str:
    """Describe what is wrong with a conversation; return "" if it is JSON of what `conversation` makes.

    The prompt of a valid conversation has an audio token for each clip and ends with the assistant's clip, as
    `samples.label_sample` requires.

    >>> conversation_problem('[{"role": "assistant", "content": [{"type": "audio"}]}]', num_clips=1)
    ''
    >>> conversation_problem('[{"role": "assistant", "content": "Hi."}]', num_clips=1)
    'the content of turn 0 is not a list of items'
    """
    try:
        turns = json.loads(messages)
    except (ValueError, RecursionError) as error:  # nested too deeply
        return f"is not JSON ({str(error)[:100]})"
    if not isinstance(turns, list) or not turns:
        return "is not a list of turns"
    num_audio = 0
    for index, turn in enumerate(turns):
        role, content = (turn.get("role"), turn.get("content")) if isinstance(turn, dict) else (None, None)
        if role not in _ROLES:
            return f"turn {index} has none of the roles {', '.join(_ROLES)}"
        if not isinstance(content, list) or not content:
            return f"the content of turn {index} is not a list of items"
        types = [item.get("type") if isinstance(item, dict) else None for item in content]
        if role == "scene" and (index != 1 or turns[0]["role"] != "system" or types[0] != "text"):
            return f"turn {index} is a scene: it must follow the system turn, and begin with text"
        for item, kind in zip(content, types, strict=True):
            if kind == "audio":
                num_audio += 1
            elif kind != "text" or not isinstance(item.get("text"), str):
                return f"turn {index} has an item that is neither audio nor text"
            elif problem := _prompt_problem(item["text"]):
                return f"the text of turn {index} {problem}"
    if role != "assistant" or types != ["audio"]:
        return "the last turn is not the assistant's with one audio item"
    if num_audio != num_clips:
        return f"has {num_audio} audio items for {num_clips} clips in codes and ref_codes"
    return ""


def _prompt_problem(text: str) -> str:
    if "<|" in text and (token := _CONTROL_TOKEN.search(text)):
        return f"has the control token {token[0][:40]}, which only the prompt may set"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "has invalid Unicode"
    return ""
