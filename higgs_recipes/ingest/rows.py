"""Row types of import and segmentation."""

from typing import Any, TypedDict


class ImportRow(TypedDict, total=False):
    """A row as its format reads it.

    `file` and `line` (from 1) locate the row and are always present. `audio` is the path in the source, relative to
    the source's folder. Each of `ref_speakers` has "speaker_tag", "ref_text" and "ref_audio". `segment` is the start
    and end in seconds of a clip that is a part of its file; None is the end of the file. `channel` is the channel of
    the segment, None if no channel is named. `fields` contains all fields of the source by their own names. Values
    are unchecked.
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
    segment: tuple[float, float | None]
    channel: str | None
    fields: dict[str, Any]


class ImportedRow(TypedDict):
    """A line of metadata.jsonl of an imported corpus."""

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
    """A segment of a long recording with the measurements made so far; a line of metadata.jsonl has all of them.

    `file` to `scene` are those of the recording; `start` and `end` are in seconds.
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
