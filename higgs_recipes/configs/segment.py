"""The knobs of segment: long recordings without transcripts -> a corpus."""

from dataclasses import dataclass

from higgs_recipes.configs.corpus import require_constants
from higgs_recipes.configs.fields import option, require
from higgs_recipes.configs.model import Source
from higgs_recipes.normalizers import Normalizer


@dataclass
class SegmentConfig:
    """Folders of long recordings -> a folder that encode takes: metadata.jsonl, audio/, rejects.jsonl, listen.html."""

    sources: list[Source] = option(
        [], "Folders of recordings, or mappings with path and any of constant speaker, language, gender, scene."
    )
    speaker_per_file: bool = option(
        False, "Each file holds one speaker, who is called by its path; else the sources say who speaks, or nobody."
    )
    min_seconds: float = option(1.0, "Shorter segments are rejected.")
    max_seconds: float = option(15.0, "Longer stretches are cut at their widest pause.")
    min_pause: float = option(0.2, "Seconds without speech that a cut needs.")
    max_pause: float = option(1.0, "A segment never holds a longer pause: there it is always cut.")
    target_lufs: float | None = option(
        -23.0, "Loudness (ITU-R BS.1770) that segments are brought to, as far as peaks allow; null leaves them."
    )
    min_speech_probability: float | None = option(None, "Mean over the segment, by the voice activity model.")
    max_silence_share: float | None = option(None, "Share of the segment without speech.")
    min_snr_db: float | None = option(None, "Level of the speech above the quietest tenth in and around the segment.")
    max_clipped_share: float | None = option(None, "Share of the samples in flat tops at full scale.")
    min_dnsmos: float | None = option(
        None, "How a listener would rate it, overall, from 1 to 5 (DNSMOS P.835); Emilia keeps what has 3."
    )
    min_chars_per_second: float | None = option(None, "Characters of the transcript for a second of speech.")
    max_chars_per_second: float | None = option(
        None, "As min_chars_per_second: an ASR model that loops writes too many."
    )
    max_asr_disagreement: float | None = option(
        None, "Word error rate between the transcript and that of the same segment slowed by a twentieth."
    )
    asr: str | None = option(None, "ASR model: Hub id or folder of a Whisper checkpoint, or a package: name.")
    asr_revision: str | None = option(None, "Commit, tag or branch of the ASR model.")
    asr_language: str = option("en", "Language that is spoken, by its code.")
    normalizer: Normalizer = option("basic", "What two transcripts are compared under.")
    strike: str | None = option(
        None, "List of ids, as listen.html makes it: those rows are taken out of output_dir, and nothing else is done."
    )
    output_dir: str = option("outputs/segmented", "Folder of the corpus.")
    overwrite_output_dir: bool = option(False, "Replace what stands in output_dir.")

    def __post_init__(self) -> None:
        require(bool(self.sources), "sources is empty: name at least one folder of recordings")
        require(self.asr is not None, "asr is missing: name the ASR model that writes the transcripts")
        require(
            0 < self.min_seconds < self.max_seconds <= 28,  # slowed, a segment still fits Whisper's window of 30 s
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
