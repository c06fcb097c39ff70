"""Speak one text with a merged model, and with its base and adapter for comparison."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from higgs_recipes.audio.codec import Codec, load_codec
from higgs_recipes.audio.io import write_wav
from higgs_recipes.configs.inference import MergeConfig
from higgs_recipes.configs.model import ModelConfig
from higgs_recipes.constants import FRAMES_PER_SECOND
from higgs_recipes.delay import share_of_equal_codes
from higgs_recipes.generation.generate import Generation, Request, generate
from higgs_recipes.generation.synthesis import check_codec
from higgs_recipes.generation.texts import normalize_text
from higgs_recipes.generation.voices import voice_conversation
from higgs_recipes.modeling.base_files import fetch_base
from higgs_recipes.modeling.lora import fetch_adapter
from higgs_recipes.modeling.merge import CHECK_TEXT
from higgs_recipes.modeling.model import load_model
from higgs_recipes.output_folder import check_output_dir, named_paths, staged_folder
from higgs_recipes.pages import render_page
from higgs_recipes.run_lock import lock_output


RECORD, REPORT = "comparison.json", "comparison.html"
TITLES = {"base": "base model", "adapter": "base model with adapter", "merged": "merged model"}


class ModelTest:
    """The test that a merge recipe asks for. Text, codec and folder are checked when it is created, before the merge.

    Raises:
        InputError: the text has no words, `test_dir` is not empty, or the codec cannot be loaded or is not that of the
            adapter.
    """

    def __init__(self, config: MergeConfig) -> None:
        self.config = config
        self.text = CHECK_TEXT if config.test_input is None else config.test_input
        normalized = normalize_text(self.text, place="test_input")
        turns = voice_conversation(normalized, [], scene=None, ref_in_system=False, place="test_input")
        self.request = Request(turns, [], seed=config.seed)
        with lock_output(config.test_dir):  # tries it
            check_output_dir(config.test_dir, **_test_options(config))
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.base = fetch_base(config)
        self.adapter = fetch_adapter(config.adapter, revision=config.adapter_revision)
        self.codec = load_codec(config.codec_name_or_path, revision=config.codec_revision, device=self.device)
        check_codec(self.codec, self.adapter, self.base)

    def run(self) -> list[str]:
        """Speak the text with the checkpoint in `output_dir`, and with `compare_models` also with the other two.

        Returns:
            One line per wav file to print, and one for the report.
        """
        config = self.config
        clips: dict[str, Generation] = {}
        if config.compare_models:
            model, tokenizer = load_model(config, base=self.base, adapter=self.adapter, device=self.device)
            with model.disable_adapter():
                clips["base"] = self._speak(model, tokenizer)
            clips["adapter"] = self._speak(model, tokenizer)
            del model  # frees its memory for the merged model
        merged = ModelConfig(config.output_dir, dtype=config.dtype, attn_implementation=config.attn_implementation)
        clips["merged"] = self._speak(*load_model(merged, device=self.device))
        return write_comparison(self.config, self.codec, self.text, clips)

    def _speak(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> Generation:
        (clip,) = generate(model, tokenizer, [self.request], sampling=self.config)
        return clip


def write_comparison(config: MergeConfig, codec: Codec, text: str, clips: Mapping[str, Generation]) -> list[str]:
    """Write a wav file per system of `TITLES`, `RECORD`, and for several systems `REPORT`.

    Returns:
        One line per file of the folder to print, but for the record.

    Raises:
        InputError: the folder is not empty, or the disk is full.
    """
    waveforms = codec.decode([clip.codes for clip in clips.values()])
    systems = [
        {
            "system": name,
            "wav": f"{name}.wav",
            "seconds": len(clip.codes) / FRAMES_PER_SECOND,
            "stopped": clip.stopped,
            "equal_codes": share_of_equal_codes(clip.codes, clips["merged"].codes),
        }
        for name, clip in clips.items()
    ]
    folder = Path(config.test_dir)
    lines = [f"{folder / system['wav']}: {system['seconds']:.2f} s, seed {config.seed}" for system in systems]
    with staged_folder(config.test_dir, **_test_options(config)) as staging:
        for system, waveform in zip(systems, waveforms, strict=True):
            write_wav(staging / system["wav"], waveform)
        record = {"text": text, "seed": config.seed, "systems": systems}
        (staging / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if len(systems) > 1:
            page = render_page(
                "comparison", title=_title(config), text=text, seed=config.seed, systems=systems, titles=TITLES
            )
            (staging / REPORT).write_text(page, encoding="utf-8")
            lines.append(f"comparison: {folder / REPORT}")
    return lines


def _test_options(config: MergeConfig) -> dict[str, Any]:
    return {"kind": "merge_test", "overwrite": config.overwrite_output_dir, "inputs": named_paths(config)}


def _title(config: MergeConfig) -> str:
    return f"{Path(config.output_dir).name}: base, adapter and merged model"
