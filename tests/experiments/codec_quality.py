"""Quality and speed of a codec: WER and speaker similarity of its resynthesis and the recordings, by speaker.

python -m tests.experiments.codec_quality OUTPUT.json --codec recipes/tiny/mel_rvq \
    --sources outputs/tiny/described recipes/tiny/demo_corpus

Transcribed by Whisper tiny.en and compared by Resemblyzer, as in recipes/tiny. Similarity is the GE2E cosine of a
resynthesis and its recording. WER has 95 % intervals over the texts, none below 10 texts.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from higgs_recipes.audio.asr import PACKAGE_ASR_MODEL, load_asr_model
from higgs_recipes.audio.codec import load_codec
from higgs_recipes.audio.speaker import PACKAGE_SPEAKER_MODEL, load_speaker_model
from higgs_recipes.audio.word_errors import utterance_errors
from higgs_recipes.configs.corpus import EncodeConfig
from higgs_recipes.corpus.corpus import load_rows
from higgs_recipes.devices import single_device
from higgs_recipes.errors import exit_on_input_error
from higgs_recipes.evaluation.scoring import SpokenClip, corpus_rate
from higgs_recipes.hub.markdown import table
from higgs_recipes.normalizers import choose_normalizer
from higgs_recipes.provenance import run_environment


def measure(codec_folder: str, sources: Sequence[str]) -> dict[str, Any]:
    """Measure `n`, `recordings`, `resynthesis` (WER with its interval) and `similarity` per speaker, and both speeds.

    Raises:
        InputError: whatever `load_rows`, `load_codec` and the metric models raise.
    """
    device = single_device()
    corpus = load_rows(EncodeConfig(sources=list(sources), codec_name_or_path=codec_folder))
    codec = load_codec(codec_folder, revision=None, device=device)
    asr_model = load_asr_model(PACKAGE_ASR_MODEL, revision=None, device=device)
    rule = choose_normalizer("auto", "en", spelling=asr_model.spelling)
    speaker_model = load_speaker_model(PACKAGE_SPEAKER_MODEL, revision=None, device=device)

    waveforms = [corpus.waveform(row["own"], name=row["name"]) for row in corpus.rows]
    began = time.perf_counter()
    codes = codec.encode(waveforms)
    encoded = time.perf_counter()
    resynthesis = codec.decode(codes)
    decoded = time.perf_counter()

    speakers: dict[str, Any] = {}
    for speaker in dict.fromkeys(row["speaker"] for row in corpus.rows):
        chosen = [index for index, row in enumerate(corpus.rows) if row["speaker"] == speaker]
        texts = [corpus.rows[index]["text"] for index in chosen]
        real, heard = ([clips[index] for index in chosen] for clips in (waveforms, resynthesis))
        pairs = zip(speaker_model.embed(real), speaker_model.embed(heard), strict=True)
        cosines = [torch.cosine_similarity(*pair, dim=0).item() for pair in pairs]
        transcripts = [asr_model.transcribe(clips, language="en") for clips in (real, heard)]
        rates = [corpus_rate(utterance_errors(texts, each, rules=[rule] * len(texts))) for each in transcripts]
        speakers[str(speaker)] = {
            "n": len(chosen),
            "recordings": rates[0],
            "resynthesis": rates[1],
            "similarity": sum(cosines) / len(cosines),
        }
    seconds = sum(SpokenClip(waveform).seconds for waveform in waveforms)
    return run_environment() | {
        "codec": codec.revision,
        "audio_seconds": seconds,
        "threads": torch.get_num_threads(),
        "encode_times_real_time": seconds / (encoded - began),
        "decode_times_real_time": seconds / (decoded - encoded),
        "speakers": speakers,
    }


def describe(report: dict[str, Any]) -> str:
    """The report as a Markdown table."""
    lines = []
    for speaker, scores in report["speakers"].items():
        errors = [
            f"{each['value']:.1%} ({each['low']:.1%} to {each['high']:.1%})"
            if each["low"] is not None
            else f"{each['value']:.1%} ({each['note']})"
            for each in (scores["recordings"], scores["resynthesis"])
        ]
        lines.append([speaker, str(scores["n"]), *errors, f"{scores['similarity']:.3f}"])
    speeds = " and ".join(f"{verb}s {report[f'{verb}_times_real_time']:.0f}" for verb in ("encode", "decode"))
    head = ["voice", "n", "WER of the recordings", "WER of the resynthesis", "similarity"]
    return f"{table(head, lines)}\n{speeds} times real time, threads: {report['threads']}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="JSON file of the report")
    parser.add_argument("--codec", required=True, help="folder of the codec")
    parser.add_argument("--sources", nargs="+", required=True, help="folders of recordings with text and speaker")
    args = parser.parse_args()
    report = measure(args.codec, args.sources)
    args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(describe(report))


if __name__ == "__main__":
    with exit_on_input_error():
        main()
