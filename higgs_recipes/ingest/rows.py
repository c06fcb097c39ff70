"""The rows of an import and of a segmentation: as a format reads them, and as metadata.jsonl holds them."""

from typing import Any, TypedDict


class ImportRow(TypedDict, total=False):
    """A row as its format reads it. `file` and `line` (from 1) say where it is, and every row has them.

    `audio` is a path as the source writes it, relative to the source's folder; `ref_speakers` are {"speaker_tag",
    "ref_text", "ref_audio"} each; `segment` is the start and end in seconds where the clip is a part of the file;
    `fields` is what else the source calls by a name of its own. Values may be anything.
    """

    file: str
    line: int
    id: Any
    audio: Any
    text: Any
    speaker: Any
    speaker_name: Any
    language: Any
    gender: Any
    scene: Any
    emotion: Any
    ref_audio: Any
    ref_text: Any
    ref_speakers: Any
    task: Any
    user_instruction: Any
    quality_score: Any
    original_audio_path: Any
    segment: tuple[float, float]
    fields: dict[str, Any]


class ImportedRow(TypedDict):
    """A line of an imported corpus's metadata.jsonl."""

    id: str
    file_name: str
    text: str
    speaker: str | None
    speaker_name: str | None
    language: str | None
    gender: str | None
    scene: str | None
    scene_label: str | None
    emotion: str | None
    ref_audio_file_name: str | None
    ref_text: str | None
    ref_speakers: list[dict[str, Any]] | None
    task: str | None
    user_instruction: str | None
    quality_score: float | None
    original_audio_path: str | None
    duration: float


class SegmentRow(TypedDict, total=False):
    """A segment of a long recording, with what is known of it so far; a line of metadata.jsonl has all of these.

    `file` to `scene` are those of the recording, `start` and `end` are in seconds.
    """

    file: str
    speaker: str | None
    language: str | None
    gender: str | None
    scene: str | None
    id: str
    start: float
    end: float
    duration: float
    speech_probability: float
    silence_share: float
    snr_db: float
    clipped_share: float
    loudness_lufs: float | None
    gain_db: float
    dnsmos_ovrl: float
    dnsmos_sig: float
    dnsmos_bak: float
    dnsmos_p808: float
    file_name: str
    text: str
    text_slowed: str
    asr_disagreement: float | None
    chars_per_second: float
