"""Conversations of upstream's serve engine and of chat templates -> requests."""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

from higgs_recipes.audio.codec import Codec
from higgs_recipes.audio.decoding import AudioSource
from higgs_recipes.audio.io import read_audio
from higgs_recipes.chatml import conversation_problem
from higgs_recipes.errors import InputError
from higgs_recipes.generation.generate import Request


_AUDIO_FIELDS = ("url", "audio_url", "path", "audio")  # of an audio part: a path
_SCENE_TOKENS = re.compile(r"(<\|scene_desc_(?:start|end)\|>)")


def is_conversation(value: Any) -> bool:
    """Whether a value is a list of turns: mappings, or dataclasses as upstream's `Message`."""
    return isinstance(value, (list, tuple)) and bool(value) and all(_is_turn(turn) for turn in value)


def chat_request(turns: Sequence[Any], codec: Codec, *, seed: int, name: str) -> Request:
    """Build the request of a conversation whose next turn, of the assistant, is to be generated.

    The prompt is the one that the published chat template renders. A scene between its tokens in the system turn, as
    upstream writes it, is the same as a turn with the role "scene".

    Args:
        turns: each has `role` (system, scene, user or assistant) and `content`: a string, a part or a list of parts.
            A part is {"type": "text", "text": ...} or {"type": "audio", "url": path}; instead of `url`, `audio_url`,
            `path`, or base64 in `raw_audio`. The texts are not normalized.
        codec: encodes the clips.
        seed: of the request.
        name: of the conversation in messages.

    Raises:
        InputError: a turn is malformed, a text has control tokens, or a clip cannot be read.
    """
    read: list[dict] = []
    sources: list[AudioSource] = []
    for index, turn in enumerate(turns):
        fields = asdict(turn) if is_dataclass(turn) else turn
        content = fields.get("content")
        parts = content if isinstance(content, (list, tuple)) else [content]
        items = [_read_part(part, sources, where=f"{name}: turn {index}") for part in parts]
        role = fields.get("role")
        read += _split_scene(items) if role == "system" else [{"role": role, "content": items}]
    if read and read[-1]["role"] == "assistant":
        raise InputError(f"{name}: ends with a turn of the assistant, which is to be generated: remove it")
    read.append({"role": "assistant", "content": [{"type": "audio", "url": None}]})
    if problem := conversation_problem(json.dumps(read), num_clips=len(sources) + 1):
        raise InputError(f"{name}: {problem}")
    waveforms = [read_audio(source, name=f"{name}: audio {index}") for index, source in enumerate(sources)]
    return Request(read, codec.encode(waveforms), seed)


def _is_turn(value: Any) -> bool:
    return isinstance(value, Mapping) or (is_dataclass(value) and not isinstance(value, type))


def _read_part(part: Any, sources: list[AudioSource], *, where: str) -> dict:
    """A part of a turn's content as an item of a conversation; the source of an audio part goes to `sources`."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if kind != "audio":
        raise InputError(f"{where}: the content must be a string or parts of type text or audio, got {part!r:.80}")
    paths = [part[field] for field in _AUDIO_FIELDS if part.get(field)]
    encoded = part.get("raw_audio")
    if encoded:
        try:
            sources.append(base64.b64decode(encoded, validate=True))
        except (binascii.Error, ValueError, TypeError) as error:
            raise InputError(f"{where}: raw_audio is not base64: {error}") from error
    elif paths:
        sources.append(str(paths[0]))
    else:
        raise InputError(f"{where}: an audio part has no audio: give a path as url, or base64 as raw_audio")
    return {"type": "audio", "url": None if encoded else str(paths[0])}


def _split_scene(items: list[dict]) -> list[dict]:
    """The turns of a system turn: a scene between its tokens becomes a separate turn."""
    before, scene, after = [], [], []
    content = before
    for item in items:
        if item["type"] == "audio":
            content.append(item)
            continue
        for text in _SCENE_TOKENS.split(item["text"]):
            if text == "<|scene_desc_start|>" and content is before:
                content = scene
            elif text == "<|scene_desc_end|>" and content is scene:
                content = after
            elif text.strip():
                content.append({"type": "text", "text": text.strip()})
    if content is not after or after or not scene:
        return [{"role": "system", "content": items}]  # where tokens that were not taken for a scene are refused
    before = before or [{"type": "text", "text": ""}]
    return [{"role": "system", "content": before}, {"role": "scene", "content": scene}]
