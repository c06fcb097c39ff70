"""The reference clips of a benchmark's text: `ref_speakers`, a list of {"speaker_tag", "ref_text", "ref_audio"}."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from higgs_recipes.audio.decoding import AudioSource
from higgs_recipes.chatml import SPEAKER_TAG, Task, canonical_speaker_tags
from higgs_recipes.errors import InputError, shown


@dataclass(frozen=True)
class References:
    """The reference clips of one text: the speaker tag, the text and the recording of each."""

    tags: list[str]
    texts: list[str]
    audio: list[AudioSource]

    def task(self, text: str) -> Task:
        """The task of a text with these references."""
        if SPEAKER_TAG.search(text):
            return "multi_speaker_voice_cloning" if self.tags else "multi_speaker_smart_voice"
        return "zero_shot_voice_cloning" if self.tags else "single_speaker_smart_voice"


def read_references(
    value: Any, text: str, *, where: str, recording: Callable[[Any, str], AudioSource | None]
) -> References:
    """Read the field `ref_speakers` of a text; None or an empty list: no references.

    Args:
        value: of the field.
        text: a text with speaker tags needs one entry for each of its speakers, one without tags at most one.
        where: the row, for messages.
        recording: (value of ref_audio, name of the field) -> the recording, or None if there is none.

    Raises:
        InputError: an entry is malformed or missing; names the row and the field.
    """
    if value is None:
        value = []
    if not isinstance(value, list):
        raise InputError(f"{where}: ref_speakers is {shown(value)}: it must be a list, one entry per speaker")
    references = References([], [], [])
    for number, entry in enumerate(value):
        field = f"ref_speakers.{number}"
        if not isinstance(entry, dict):
            raise InputError(f"{where}: {field} is {shown(entry)}: it must have speaker_tag, ref_text and ref_audio")
        references.tags.append(_tag(entry.get("speaker_tag"), where=f"{where}: {field}"))
        ref_text = entry.get("ref_text")
        if not isinstance(ref_text, str) or not ref_text.strip():
            raise InputError(f"{where}: {field}.ref_text is {shown(ref_text)}: add the transcript of ref_audio")
        references.texts.append(ref_text)
        audio = recording(entry.get("ref_audio"), f"{field}.ref_audio")
        if audio is None:
            raise InputError(f"{where}: {field}.ref_audio has no recording")
        references.audio.append(audio)
    _check_tags(references.tags, text, where=where)
    return references


def _tag(value: Any, *, where: str) -> str:
    tag = SPEAKER_TAG.fullmatch(canonical_speaker_tags(f"[{value.strip('[] ')}]")) if isinstance(value, str) else None
    if tag is None:
        raise InputError(f"{where}.speaker_tag is {shown(value)}: write SPEAKER and a number, e.g. SPEAKER0")
    return tag[1]


def _check_tags(tags: list[str], text: str, *, where: str) -> None:
    spoken = set(SPEAKER_TAG.findall(text))
    if not spoken and len(tags) > 1:
        raise InputError(f"{where}: ref_speakers has {len(tags)} entries for a text without speaker tags: keep one")
    if len(set(tags)) < len(tags):
        raise InputError(f"{where}: ref_speakers has two entries for one speaker_tag: keep one")
    missing = sorted(spoken - set(tags)) if tags else []
    if missing:
        raise InputError(
            f"{where}: ref_speakers has no entry for {', '.join(missing)}: add one per speaker of the text"
        )
