"""ChatML for Higgs Audio v2: `conversation` lays a row out as turns for its task, `CHAT_TEMPLATE` renders them.

The turns have the form that `apply_chat_template` takes; the strings are those of the chat template that the published
checkpoint carries, but for a scene that has speakers and no sentence, which follows the reference implementation.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

from higgs_recipes.rejects import RejectCode, RejectedRow


Task = Literal[
    "single_speaker_smart_voice",
    "zero_shot_voice_cloning",
    "multi_speaker_smart_voice",
    "multi_speaker_voice_cloning",
]
TASKS = (
    "single_speaker_smart_voice",
    "zero_shot_voice_cloning",
    "multi_speaker_smart_voice",
    "multi_speaker_voice_cloning",
)

# A scene is no turn of its own: it closes the system turn. Its lines are one sentence on the recording, a blank line,
# and one line for each speaker.
CHAT_TEMPLATE = r"""
{%- macro render(item) %}
    {%- if item.type == "audio" %}{{- "<|audio_out_bos|><|AUDIO_OUT|><|audio_eos|>" }}
    {%- elif item.type == "text" %}{{- item.text | trim }}
    {%- else %}{{- raise_exception("a turn's content must be a list of items of type text or audio") }}
    {%- endif %}
{%- endmacro %}
{{- "<|begin_of_text|>" }}
{%- for message in messages %}
    {%- if message.role == "scene" %}
        {{- "\n\n<|scene_desc_start|>" }}
        {%- for item in message.content %}
            {%- if item.type == "audio" %}{{- " " }}
            {%- elif loop.index == 2 and not message.content[0].text.startswith("SPEAKER") %}{{- "\n\n" }}
            {%- else %}{{- "\n" }}
            {%- endif %}
            {{- render(item) }}
        {%- endfor %}
        {{- "\n<|scene_desc_end|>" }}
    {%- else %}
        {{- "<|start_header_id|>" + message.role + "<|end_header_id|>\n\n" }}
        {%- for item in message.content %}{{- render(item) }}{%- endfor %}
    {%- endif %}
    {%- if loop.last or loop.nextitem.role != "scene" %}{{- "<|eot_id|>" }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|start_header_id|>assistant<|end_header_id|>\n\n<|audio_out_bos|>" }}
{%- endif %}
""".strip()

# How the reference describes a voice whose owner it does not know, in turn; and the words of corpora for the two.
_VOICES = ("feminine", "masculine")
_VOICE_OF = {
    **dict.fromkeys(("f", "female", "feminine", "female_feminine"), "feminine"),
    **dict.fromkeys(("m", "male", "masculine", "male_masculine"), "masculine"),
}

SPEAKER_TAG = re.compile(r"\[(SPEAKER\d+)\]")  # begins a turn in the text of a dialogue
_WRITTEN_TAG = re.compile(r"\[\s*speaker\s*(\d+)\s*\]", re.IGNORECASE)

# Any of these may be one token of some checkpoint, not only those of the template.
_CONTROL_TOKEN = re.compile(r"<\|[^\s|]+\|>")

_SYSTEM = "Generate audio following instruction."
_DIALOGUE_SYSTEM = """You are an AI assistant designed to convert text into speech.
If the user's message includes a [SPEAKER*] tag, do not read out the tag and generate speech for the following text, \
using the specified voice.
If no speaker tag is present, select a suitable voice on your own."""


def conversation(row: Mapping[str, Any], *, task: str, ref_in_system: bool = False) -> list[dict]:
    """The turns of one row. The last is always the assistant's with the row's own audio; to ask for that audio
    instead, render all turns but the last with `add_generation_prompt=True`.

    Args:
        row: `text` (what is said; dialogues mark each turn with `[SPEAKER0]`, `[SPEAKER1]`, ...), and where present
            `id` (named in errors), `scene` (a sentence on the recording, or None) and `audio`. Cloning takes
            `ref_audio` and `ref_text`; a dialogue takes `ref_speakers`, a list of {"speaker_tag", "ref_text",
            "ref_audio"} with the tag as "SPEAKER0" or "[SPEAKER0]". Each audio is a url or path, or a cell {"path",
            "bytes"} of datasets. A dialogue in smart voices describes its speakers as "feminine" and "masculine" in
            turn, as the reference does, unless the speaker's entry of `ref_speakers` has a `description`.
        task: one of `TASKS`.
        ref_in_system: name the reference clips in the scene, without their texts, and not as earlier turns. Only the
            two cloning tasks have such clips.

    >>> turns = conversation({"text": "Hi.", "audio": "hi.wav"}, task="single_speaker_smart_voice")
    >>> [turn["role"] for turn in turns]
    ['system', 'user', 'assistant']
    >>> turns[-1]["content"]
    [{'type': 'audio', 'url': 'hi.wav'}]

    Raises:
        InputError: the task is unknown, or the row lacks what it needs; names the row, the field and the remedy.
    """
    if task not in TASKS:
        raise _error(row, "task", f"is {task!r}; use one of {', '.join(TASKS)}")
    text = _required(row, row, "text", "give the row a transcript or drop it")
    scene = [] if _is_blank(row.get("scene")) else [_text(row["scene"])]
    references: list[dict] = []
    if task == "multi_speaker_smart_voice":
        scene += _described_speakers(row, text)
    elif task != "single_speaker_smart_voice":
        clips = _reference_clips(row, text, task)
        for tag, prefix, clip in clips:
            audio = _audio(_required(row, clip, "ref_audio", f"{task} needs a recording of the voice to clone"))
            if ref_in_system:
                scene += [_text(f"{tag}:"), audio]
            else:
                words = _required(row, clip, "ref_text", "give the words of ref_audio")
                references += [_turn("user", _text(prefix + words.removeprefix(prefix))), _turn("assistant", audio)]
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
    """The reference's word for a voice of that gender, as corpora write it; None where none of its two is said.

    >>> describe_voice("F"), describe_voice("male"), describe_voice("unknown")
    ('feminine', 'masculine', None)
    """
    return _VOICE_OF.get((gender or "").strip().lower())


def _described_speakers(row: Mapping[str, Any], text: str) -> list[dict]:
    described = {tag: speaker.get("description") for tag, speaker in _speakers(row).items()}
    return [
        _text(f"{tag}: {described.get(tag) or _VOICES[index % 2]}")
        for index, tag in enumerate(_speaker_tags(row, text))
    ]


def _reference_clips(row: Mapping[str, Any], text: str, task: str) -> list[tuple[str, str, Mapping[str, Any]]]:
    """For each reference clip its speaker tag, what its user turn starts with, and who has ref_audio and ref_text."""
    if task == "zero_shot_voice_cloning":
        return [("SPEAKER0", "", row)]
    clips = _speakers(row)
    missing = [tag for tag in _speaker_tags(row, text) if tag not in clips]
    if missing:
        raise _error(row, "ref_speakers", f"has no entry for {', '.join(missing)}; give every speaker of the text one")
    return [(tag, f"[{tag}] ", clip) for tag, clip in clips.items()]


def _speakers(row: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The entries of `ref_speakers` by their tags, in their order."""
    speakers: dict[str, Mapping[str, Any]] = {}
    for speaker in row.get("ref_speakers") or []:
        tag = _tag(row, speaker)
        if tag in speakers:  # one of two recordings would be encoded and have no turn
            raise _error(row, "ref_speakers", f"has two entries for {tag}; keep one")
        speakers[tag] = speaker
    return speakers


def _speaker_tags(row: Mapping[str, Any], text: str) -> list[str]:
    tags = sorted(set(SPEAKER_TAG.findall(text)))
    if not tags:
        raise _error(row, "text", "has no speaker tag; start each turn with [SPEAKER0], [SPEAKER1], ...")
    return tags


def _tag(row: Mapping[str, Any], speaker: Mapping[str, Any]) -> str:
    tag = _required(row, speaker, "speaker_tag", "name the speaker as the text does, e.g. SPEAKER0")
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
            if token := _CONTROL_TOKEN.search(item.get("text", "")):
                problem = f"holds {token[0]}, a mark that only the prompt may set; remove it"
                raise _error(row, f"text of the {turn['role']} turn", problem)


def _error(row: Mapping[str, Any], field: str, problem: str) -> RejectedRow:
    return RejectedRow(RejectCode.INVALID_FIELD, field, problem, row_id=row.get("id", "(without id)"))


def _turn(role: str, *content: dict) -> dict:
    return {"role": role, "content": list(content)}


def _text(text: str) -> dict:
    return {"type": "text", "text": text}


def _audio(source: Any) -> dict:
    """An audio item; its url is None where the audio has no path: not recorded yet, or held as bytes alone."""
    path = source["path"] if isinstance(source, Mapping) else source
    return {"type": "audio", "url": None if path is None else str(path)}
