"""JSON lines of ms-swift, {"messages": [user, assistant], "audios": [path]}: the assistant says the transcript."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from higgs_recipes.corpus.sources.lines import json_object, parse_lines
from higgs_recipes.ingest.rows import ImportRow
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow


# A closed block is the model's thinking and is not spoken; a mark that is never closed only opens the answer.
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)


def read_ms_swift(source: Path) -> Iterator[ImportRow | Reject]:
    """Rows of one file: the transcript without its markers, the user's words as "user_instruction" to the letter."""
    return parse_lines(source, _row)


def _row(line: str) -> ImportRow:
    stored = json_object(line)
    messages, audios = stored.get("messages"), stored.get("audios")
    if not isinstance(messages, list) or not all(_is_message(message) for message in messages):
        raise RejectedRow(RejectCode.INVALID_FIELD, "messages", "is not a list of {role, content}")
    if not isinstance(audios, list) or len(audios) != 1 or not isinstance(audios[0], str):
        raise RejectedRow(RejectCode.INVALID_FIELD, "audios", f"is {audios!r}; there must be one recording")
    said = {
        role: [message["content"] for message in messages if message["role"] == role] for role in ("user", "assistant")
    }
    if len(said["assistant"]) != 1:
        detail = f"has {len(said['assistant'])} turns of the assistant; there must be one, the transcript"
        raise RejectedRow(RejectCode.INVALID_FIELD, "messages", detail)
    return {
        "audio": audios[0],
        "text": spoken(said["assistant"][0]),
        "user_instruction": "\n".join(said["user"]) if said["user"] else None,
        "original_audio_path": audios[0],
        "fields": {key: value for key, value in stored.items() if key not in ("messages", "audios")},
    }


def spoken(content: str) -> str:
    """The transcript in an assistant's turn.

    >>> spoken("<think>Good morning."), spoken("<think>A greeting.</think><audio>Good morning.")
    ('Good morning.', 'Good morning.')

    Raises:
        RejectedRow: a mark is left that opens or closes nothing.
    """
    text = _THOUGHT.sub("", content).strip().removeprefix("<think>").replace("<audio>", "").strip()
    for mark in ("<think>", "</think>"):
        if mark in text:
            raise RejectedRow(RejectCode.THINKING_TAG, "text", f"{mark} stands inside the transcript; remove it")
    return text


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))
