"""Config of scripts/segment.py: long recordings without transcripts -> a corpus."""

from dataclasses import dataclass
from typing import Any

from higgs_recipes.configs.corpus import require_constants
from higgs_recipes.configs.fields import option, require
from higgs_recipes.configs.model import Source
from higgs_recipes.normalizers import Normalizer


@dataclass
class SegmentConfig:
    """Cut and transcribe long recordings into a folder that encode reads.

    The folder contains metadata.jsonl, audio/, rejects.jsonl and listen.html.
    """

    sources: list[Source] = option(
        [], "Folders of recordings, or mappings with path and constant values of speaker, language, gender or scene."
    )
    follow_links: bool = option(
        False,
        "Follow links in the sources that lead outside them. A stranger's link may lead to any file of this machine: "
        "set it for folders whose links you made.",
    )
    speaker_per_file: bool = option(
        False, "Name the speaker of each file by its path; otherwise only the sources name speakers."
    )
    min_seconds: float = option(1.0, "Minimum length of a segment, in seconds; shorter ones are rejected.")
    max_seconds: float = option(15.0, "Maximum length of a segment, in seconds; longer ones are cut at pauses.")
    min_pause: float = option(0.2, "Minimum pause to cut at, in seconds without speech.")
    max_pause: float = option(1.0, "Maximum pause within a segment, in seconds; longer pauses are always cut.")
    target_lufs: float | None = option(
        -23.0, "Target loudness in LUFS (ITU-R BS.1770), limited by the peak of the segment; null: unchanged."
    )
    min_speech_probability: float | None = option(
        None, "Minimum mean speech probability, by the voice activity model; null: no limit."
    )
    max_silence_share: float | None = option(None, "Maximum share of a segment without speech; null: no limit.")
    min_snr_db: float | None = option(
        None, "Minimum level of speech above the quietest tenth in and around the segment, in dB; null: no limit."
    )
    max_clipped_share: float | None = option(None, "Maximum share of clipped samples; null: no limit.")
    min_dnsmos: float | None = option(
        None, "Minimum overall DNSMOS P.835 score, from 1 to 5 (Emilia uses 3); null: no limit."
    )
    min_chars_per_second: float | None = option(
        None, "Minimum characters of the transcript per second of speech; null: no limit."
    )
    max_chars_per_second: float | None = option(
        None, "Maximum characters of the transcript per second of speech, against repeating ASR; null: no limit."
    )
    max_asr_disagreement: float | None = option(
        None, "Maximum word error rate between the transcripts of a segment and of its slowed copy; null: no limit."
    )
    asr: str | None = option(
        None, "ASR model: Hub id or folder of a Whisper checkpoint, or package:faster-whisper-tiny.en."
    )
    asr_revision: str | None = option(None, "Commit, tag or branch of the ASR model; null: main.")
    asr_language: str = option("en", "Language of sources that name none: a code or an English name.")
    normalizer: Normalizer = option(
        "auto", "Text normalizer for the comparison of transcripts; auto: by the language of each source."
    )
    strike: str | None = option(
        None, "List of ids from listen.html: remove these rows from output_dir, nothing else; null: segment."
    )
    output_dir: str = option("outputs/segmented", "Folder of the corpus.")
    overwrite_output_dir: bool = option(False, "Replace an existing output_dir.")

    def __post_init__(self) -> None:
        require(bool(self.sources), "sources is empty: name at least one folder of recordings")
        require(self.asr is not None, "asr is missing: name the ASR model that writes the transcripts")
        require(
            0 < self.min_seconds < self.max_seconds <= 28,  # the slowed copy must fit Whisper's window of 30 s
            f"need 0 < min_seconds < max_seconds <= 28, got {self.min_seconds} and {self.max_seconds}",
        )
        require(
            0.1 <= self.min_pause <= self.max_pause,
            f"need 0.1 <= min_pause <= max_pause, got {self.min_pause} and {self.max_pause}",
        )
        require_constants(self.sources)
        for source in self.sources:
            require(
                not (isinstance(source, dict) and self.speaker_per_file and "speaker" in source),
                f"sources: speaker of {source} and speaker_per_file exclude each other",
            )

    def language_of(self, source: dict[str, Any]) -> str:
        """The language of a source as a mapping."""
        return source.get("language", self.asr_language)
