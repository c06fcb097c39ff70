"""Lists of ms-swift: JSON lines or one JSON array; the assistant says the transcript.

Three layouts are read: {"messages": [{"role", "content"}]}, {"conversations": [{"from", "value"}]} and {"query",
"response"}, each with "audios", an <audio>path</audio> tag or a part of the type "audio".
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from higgs_recipes.corpus.sources.lines import json_lines, parse_lines
from higgs_recipes.corpus.sources.paths import SourceFolder
from higgs_recipes.errors import InputError, shown
from higgs_recipes.ingest.formats.lines import array_elements, parse_json, read_text
from higgs_recipes.ingest.rows import ImportRow
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow


_MESSAGE_KEYS = {"messages": ("role", "content"), "conversations": ("from", "value")}
LAYOUTS = (*_MESSAGE_KEYS, "response")
_ROLES = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}
_AUDIO_TAG = re.compile(r"<audio>([^<>]+)</audio>")
_USED = ("messages", "conversations", "query", "response", "history", "system", "audios", "audio")


def read_ms_swift(source: Path, folder: SourceFolder) -> Iterator[ImportRow | Reject]:
    """Yield the rows of a file: the transcript without tags, the user's turns unchanged as "user_instruction".

    Raises:
        InputError: no row has one of the layouts.
    """
    unknown: list[Reject] = []  # reported once if there are no others
    has_layout = False
    for row in _elements(source):
        place = row.columns if isinstance(row, Reject) else {key: row[key] for key in ("file", "line")}
        if not isinstance(row, Reject) and not any(key in row["stored"] for key in LAYOUTS):
            detail = f"none of {', '.join(LAYOUTS)} is in {shown(list(row['stored']))}"
            row = Reject(RejectCode.NO_FIELD, "text", detail).at(place)
            if not has_layout:
                unknown.append(row)
                continue
        has_layout = has_layout or not isinstance(row, Reject)
        if has_layout:
            yield from unknown
            unknown = []
        try:
            yield row if isinstance(row, Reject) else place | _row(row["stored"])
        except RejectedRow as error:
            yield error.reject.at(place)
    if unknown:
        raise InputError(f"{source} line {unknown[0].columns['line']} and all others: {unknown[0].reason}")


def _elements(source: Path) -> Iterator[dict[str, Any] | Reject]:
    """{"file", "line", "stored"} of each JSON object, or its reject."""
    if not _is_array(source):
        yield from json_lines(source)
        return
    text = read_text(source)
    parse_json(text, path=source)
    for line, element in array_elements(text, text.index("[")):
        place = {"file": str(source), "line": line}
        if isinstance(element, dict):
            yield place | {"stored": element}
        else:
            yield Reject(RejectCode.NOT_AN_OBJECT, detail=type(element).__name__).at(place)


def _is_array(source: Path) -> bool:
    """Whether the file is one JSON array, on one line or on several."""
    lines = parse_lines(source, lambda line: {"text": line})
    first = next(lines, None)
    if first is None or isinstance(first, Reject) or not first["text"].lstrip().startswith("["):
        return False
    return next(lines, None) is None or not first["text"].rstrip().endswith("]")


def _row(stored: dict[str, Any]) -> ImportRow:
    turns = _turns(stored)
    spoken = [content for role, content in turns if role == "assistant"]
    instructions = [content for role, content in turns if role == "user"]
    if len(spoken) != 1:
        field = next(key for key in LAYOUTS if key in stored)
        detail = f"has {len(spoken)} turns of the assistant; there must be one, the transcript"
        raise RejectedRow(RejectCode.INVALID_FIELD, field, detail)
    texts = [_text(content) for content in spoken + instructions]
    audios = stored.get("audios", stored.get("audio"))
    if audios is None:
        audios = [path for content in spoken + instructions for path in _audio_parts(content)]
    audios = audios if isinstance(audios, list) else [audios]
    audios = [audio["path"] if isinstance(audio, dict) and "path" in audio else audio for audio in audios]
    if len(audios) != 1 or not isinstance(audios[0], str):
        raise RejectedRow(RejectCode.INVALID_FIELD, "audios", f"is {shown(audios)}; there must be one recording")
    return {
        "audio": audios[0],
        "text": spoken_text(texts[0]),
        "user_instruction": "\n".join(texts[1:]) if instructions else None,
        "original_audio_path": audios[0],
        "fields": {key: value for key, value in stored.items() if key not in _USED},
    }


def _turns(stored: dict[str, Any]) -> list[tuple[str, Any]]:
    """(role, content) of each turn; a content is a string or a list of parts."""
    for field, (role_key, content_key) in _MESSAGE_KEYS.items():
        messages = stored.get(field)
        if field not in stored:
            continue
        if not isinstance(messages, list) or not all(_is_message(each, role_key, content_key) for each in messages):
            raise RejectedRow(RejectCode.INVALID_FIELD, field, f"is not a list of {{{role_key}, {content_key}}}")
        return [(_ROLES.get(message[role_key], message[role_key]), message[content_key]) for message in messages]
    if stored.get("history"):
        raise RejectedRow(RejectCode.INVALID_FIELD, "history", "is not empty; there must be one turn, the transcript")
    turns = [("user", stored.get("query")), ("assistant", stored["response"])]
    if not all(isinstance(content, (str, type(None))) for _, content in turns):
        raise RejectedRow(RejectCode.INVALID_FIELD, "response", "and query must be texts")
    return [(role, content) for role, content in turns if content is not None]


def _is_message(message: Any, role_key: str, content_key: str) -> bool:
    if not isinstance(message, dict) or not isinstance(message.get(role_key), str):
        return False
    content = message.get(content_key)
    return isinstance(content, str) or isinstance(content, list) and all(isinstance(part, dict) for part in content)


def _text(content: Any) -> str:
    """The text of a turn: the string, or its text parts; <audio>path</audio> is a recording, not text."""
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    return _AUDIO_TAG.sub("<audio>", content)


def _audio_parts(content: Any) -> list[Any]:
    """The recordings in a turn: its parts of the type "audio", or its tags."""
    if isinstance(content, str):
        return _AUDIO_TAG.findall(content)
    parts = [part for part in content if part.get("type") in ("audio", "audio_url")]
    return [part.get("audio", part.get("audio_url", part.get("path"))) for part in parts]


def spoken_text(content: str) -> str:
    """Return the transcript in an assistant's turn.

    A closed <think> block is not spoken; a tag that is never closed only starts the answer.

    >>> spoken_text("<think>Good morning."), spoken_text("<think>A greeting.</think><audio>Good morning.")
    ('Good morning.', 'Good morning.')

    Raises:
        RejectedRow: an unmatched tag inside the transcript.
    """
    kept, position = [], 0
    while (start := content.find("<think>", position)) >= 0 and (end := content.find("</think>", start)) >= 0:
        kept.append(content[position:start])
        position = end + len("</think>")
    text = "".join([*kept, content[position:]]).strip().removeprefix("<think>").replace("<audio>", "").strip()
    for tag in ("<think>", "</think>", "</audio>"):
        if tag in text:
            raise RejectedRow(RejectCode.THINKING_TAG, "text", f"{tag} inside the transcript; remove it")
    return text
