"""JSON lines of ms-swift, {"messages": [user, assistant], "audios": [path]}; the assistant says the transcript."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from higgs_recipes.corpus.sources.lines import json_object, parse_lines
from higgs_recipes.ingest.rows import ImportRow
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow


# A closed block is not spoken; a tag that is never closed only starts the answer.
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)


def read_ms_swift(source: Path) -> Iterator[ImportRow | Reject]:
    """Yield the rows of a file: the transcript without tags, the user's turns unchanged as "user_instruction"."""
    return parse_lines(source, _row)


def _row(line: str) -> ImportRow:
    stored = json_object(line)
    messages, audios = stored.get("messages"), stored.get("audios")
    if not isinstance(messages, list) or not all(_is_message(message) for message in messages):
        raise RejectedRow(RejectCode.INVALID_FIELD, "messages", "is not a list of {role, content}")
    if not isinstance(audios, list) or len(audios) != 1 or not isinstance(audios[0], str):
        raise RejectedRow(RejectCode.INVALID_FIELD, "audios", f"is {audios!r}; there must be one recording")
    turns = {
        role: [message["content"] for message in messages if message["role"] == role] for role in ("user", "assistant")
    }
    if len(turns["assistant"]) != 1:
        detail = f"has {len(turns['assistant'])} turns of the assistant; there must be one, the transcript"
        raise RejectedRow(RejectCode.INVALID_FIELD, "messages", detail)
    return {
        "audio": audios[0],
        "text": spoken_text(turns["assistant"][0]),
        "user_instruction": "\n".join(turns["user"]) if turns["user"] else None,
        "original_audio_path": audios[0],
        "fields": {key: value for key, value in stored.items() if key not in ("messages", "audios")},
    }


def spoken_text(content: str) -> str:
    """Return the transcript in an assistant's turn.

    >>> spoken_text("<think>Good morning."), spoken_text("<think>A greeting.</think><audio>Good morning.")
    ('Good morning.', 'Good morning.')

    Raises:
        RejectedRow: an unmatched tag inside the transcript.
    """
    text = _THOUGHT.sub("", content).strip().removeprefix("<think>").replace("<audio>", "").strip()
    for tag in ("<think>", "</think>"):
        if tag in text:
            raise RejectedRow(RejectCode.THINKING_TAG, "text", f"{tag} inside the transcript; remove it")
    return text


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))
