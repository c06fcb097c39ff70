"""Folders of train-higgs-audio for tests."""

import json
import re
from pathlib import Path

from tests.helpers.corpus_folder import write_tone
from tests.helpers.import_folder import TEXTS, write_tones


def sample(name: str, **fields) -> dict:
    """A sample with all fields that the converter writes."""
    written = {
        "id": name,
        "audio_file": f"{name}.wav",
        "transcript_file": f"{name}.txt",
        "duration": 0.4,
        "speaker_id": "huo_speaker",
        "speaker_name": "Huo",
        "scene": "recording_system",
        "emotion": "alerting",
        "language": "zh",
        "gender": "unknown",
        "quality_score": 1.0,
        "original_audio_path": f"/srv/recordings/{name}.wav",
        "user_instruction": "<audio> /translate",
        "task_type": "audio_generation",
    }
    return written | fields


def higgs_folder(folder: Path, *samples: dict, texts: list[str] = TEXTS) -> Path:
    write_tones(folder, *[each["audio_file"] for each in samples if re.fullmatch(r"\w+\.wav", each["audio_file"])])
    for each, text in zip(samples, texts, strict=False):
        (folder / each["transcript_file"]).write_text(text, encoding="utf-8")
    metadata = {"dataset_info": {"total_samples": len(samples)}, "samples": list(samples)}
    (folder / "metadata.json").write_text(json.dumps(metadata, indent=2, ensure_ascii=False), encoding="utf-8")
    return folder


def full_folder(folder: Path) -> Path:
    """A folder with every documented field."""
    speakers = [
        {"speaker_tag": f"[SPEAKER{index}]", "ref_audio_file": f"refs/{index}.wav", "ref_transcript": f"I am {index}."}
        for index in range(2)
    ]
    samples = [
        sample("huo_000000"),
        sample(
            "huo_000001", ref_audio_file="refs/0.wav", ref_transcript="我是火君。", task_type="zero_shot_voice_cloning"
        ),
        sample("huo_000002", ref_speakers=speakers, task_type="multi_speaker_voice_cloning", user_instruction=None),
        sample("huo_000003", gender="female", quality_score=0.5, emotion="neutral", scene="a busy street"),
    ]
    higgs_folder(folder, *samples, texts=["你好。", "Xin chào.", "[SPEAKER0] Hi.\n[SPEAKER1] مرحبا", "Bye 🎉 42"])
    for index in range(2):
        write_tone(folder / f"refs/{index}.wav", hertz=500.0 + 50 * index)
    return folder
