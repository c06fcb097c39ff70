"""The effect of the label rules: the same base, corpus and recipe, fine-tuned under four rules.

accelerate launch --config_file accelerate_configs/cpu.yaml scripts/encode.py --config recipes/tiny/encode.yaml \
    --tasks '{zero_shot_voice_cloning: 1.0}' --output_dir outputs/demo/cloning
python -m tests.experiments.label_rules outputs/label_rules.json --corpus outputs/demo/cloning --steps 80

The recipes are voice_lora.yaml and evaluate.yaml of a folder, recipes/tiny by default, with the changes on the command
line. All adapters start from the same weights, see the same batches and generate with the same options. The intervals
are over the texts; they do not include the variation between training seeds. The corpus needs held-out recordings, and
training rows with reference clips.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from higgs_recipes.audio.asr import load_asr_model
from higgs_recipes.audio.codec import load_codec
from higgs_recipes.audio.speaker import load_speaker_model
from higgs_recipes.collator import HiggsCollator
from higgs_recipes.configs.inference import EvaluateConfig
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.constants import IGNORE_INDEX
from higgs_recipes.corpus.encoded import check_codec, load_encoded
from higgs_recipes.delay import undelay_frames
from higgs_recipes.devices import single_device
from higgs_recipes.errors import InputError, exit_on_input_error
from higgs_recipes.evaluation.evaluate import choose_rules, decode_clips, load_recordings, make_requests
from higgs_recipes.evaluation.report_tables import cell_text, cells, titles_of
from higgs_recipes.evaluation.scoring import SpokenClip, score_clips
from higgs_recipes.generation.generate import generate
from higgs_recipes.hub.markdown import table
from higgs_recipes.modeling.base_files import fetch_base
from higgs_recipes.modeling.model import load_model
from higgs_recipes.provenance import run_environment
from higgs_recipes.samples import SampleDataset
from higgs_recipes.training.trainer import HiggsTrainer
from higgs_recipes.unwrap import unwrap_model
from tests.helpers.checkpoints import base_fingerprint, build
from tests.helpers.paths import ROOT


class EosMasked(HiggsCollator):
    """EOS is never a target, as in transformers' `output_labels=True`."""

    def __call__(self, samples: list[dict]) -> dict[str, Tensor]:
        batch = super().__call__(samples)
        batch["audio_labels"][batch["audio_labels"] == self.config.audio_stream_eos_id] = IGNORE_INDEX
        return batch


class ReferencesSupervised(HiggsCollator):
    """The codes of reference clips are targets too."""

    def __call__(self, samples: list[dict]) -> dict[str, Tensor]:
        return super().__call__([sample | {"supervise": [True] * len(sample["codes"])} for sample in samples])


class DelayOff(HiggsCollator):
    """All codebooks of a step in one frame, with a BOS and an EOS frame: F = T + 2. For padded batches only."""

    def __call__(self, samples: list[dict]) -> dict[str, Tensor]:
        batch = super().__call__(samples)
        rows = [self._row(batch, index, sample) for index, sample in enumerate(samples)]
        padding = {
            "input_ids": self.config.pad_token_id,
            "labels": IGNORE_INDEX,
            "attention_mask": 0,
            "audio_input_ids": self.config.audio_stream_eos_id,
            "audio_input_ids_mask": False,
            "audio_labels": IGNORE_INDEX,
        }
        return batch | {
            name: pad_sequence([row[name] for row in rows], batch_first=True, padding_value=value)
            for name, value in padding.items()
        }

    def _row(self, batch: Mapping[str, Tensor], index: int, sample: dict) -> dict[str, Tensor]:
        num_codebooks = self.config.num_codebooks
        bos = torch.full((1, num_codebooks), self.config.audio_stream_bos_id)
        eos, ignored = torch.full_like(bos, self.config.audio_stream_eos_id), torch.full_like(bos, IGNORE_INDEX)
        clips = [torch.as_tensor(codes).long() for codes in sample["codes"]]
        lengths = [len(clip) + num_codebooks + 1 for clip in clips]
        delayed = batch["audio_input_ids"][index][batch["audio_input_ids_mask"][index]].split(lengths)
        frames = [torch.cat([bos, undelay_frames(clip), eos]) for clip in delayed]  # with code_dropout
        targets = [
            torch.cat([ignored, codes, eos]) if supervised else torch.full_like(clip, IGNORE_INDEX)
            for codes, clip, supervised in zip(clips, frames, sample["supervise"], strict=True)
        ]
        # The first T + 2 of a clip's T + C + 1 positions are kept.
        is_kept = batch["attention_mask"][index].bool()
        positions = (batch["input_ids"][index] == self.config.audio_token_id).nonzero()[:, 0]
        for codes, clip_positions in zip(clips, positions.split(lengths), strict=True):
            is_kept[clip_positions[len(codes) + 2 :]] = False
        return {name: batch[name][index][is_kept] for name in ("input_ids", "labels", "attention_mask")} | {
            "audio_input_ids": torch.cat(frames),
            "audio_input_ids_mask": torch.ones(sum(map(len, frames)), dtype=torch.bool),
            "audio_labels": torch.cat(targets),
        }


RULES: dict[str, type[HiggsCollator]] = {
    "ours": HiggsCollator,
    "eos_masked": EosMasked,
    "delay_off": DelayOff,
    "references_supervised": ReferencesSupervised,
}


def fine_tune(collator_class: type[HiggsCollator], config: SFTConfig) -> float:
    """Train an adapter into the recipe's `output_dir`; returns the last logged loss, on the labels of the rule."""
    rows = load_encoded(config.datasets[0], split="train")
    if not any(rows["ref_codes"]):
        raise InputError(
            f"{config.datasets[0]}: no row has a reference clip, so supervising them would change nothing; encode "
            "with zero_shot_voice_cloning among the tasks"
        )
    model, tokenizer = build(config)  # the seed gives the same initial adapter for every rule
    trainer = HiggsTrainer(
        model,
        config,
        base=fetch_base(config),
        train_dataset=SampleDataset(rows, tokenizer),
        collator=collator_class(unwrap_model(model).config, code_dropout=config.code_dropout, seed=config.seed),
        run_info={"base_model": config.model_name_or_path, "base_fingerprint": base_fingerprint(config)},
    )
    trainer.train()
    trainer.save_model()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry][-1]


def score_rules(folder: Path, config: EvaluateConfig) -> dict[str, Any]:
    """The scores as in metrics.json, with a row for each rule in the place of the fine-tuned model."""
    device = single_device()
    codec = load_codec(config.codec_name_or_path, revision=config.codec_revision, device=device)
    encoded = load_encoded(config.dataset, split=config.split)
    check_codec(encoded, codec.revision, where=config.dataset)
    rows = list(encoded.select(range(min(config.max_rows or len(encoded), len(encoded)))))
    requests = make_requests(rows, seed=config.seed)
    clips: dict[str, Sequence[SpokenClip]] = {
        "real": [SpokenClip(waveform) for waveform in load_recordings(rows, where=config.dataset)],
        "codec": [SpokenClip(each) for each in codec.decode([torch.tensor(row["codes"]).short() for row in rows])],
    }
    adapters = {"base": None} | {rule: str(folder / rule) for rule in RULES}
    for name, adapter in adapters.items():
        model, tokenizer = load_model(config, adapter=adapter, device=device)
        clips[name] = decode_clips(generate(model, tokenizer, requests, sampling=config), codec)
    asr_model = load_asr_model(config.asr, revision=None, device=device)
    return score_clips(
        [row | {"seed": request.seed} for row, request in zip(rows, requests, strict=True)],
        clips,
        asr_model=asr_model,
        speaker_model=load_speaker_model(config.speaker, revision=None, device=device),
        rules=choose_rules(rows, config=config, asr_model=asr_model),
    )


def run(
    folder: Path,
    *,
    recipes: Path,
    paths: Mapping[str, str],
    corpus: str,
    train: Mapping[str, Any],
    score: Mapping[str, Any],
) -> dict:
    """Train and score all rules.

    Args:
        recipes: folder of voice_lora.yaml and evaluate.yaml.
        paths: fields of both recipes that replace the base and its codec.
        train, score: other fields that replace those of the two recipes.
    """
    losses = {}
    for rule, collator_class in RULES.items():
        fields = read_recipe(recipes / "voice_lora.yaml") | {"datasets": [corpus], "output_dir": str(folder / rule)}
        # fast_path would use flat batches, and evaluation the project's labels.
        fields |= {"fast_path": False, "eval_strategy": "no", "save_strategy": "no", "disable_tqdm": True}
        fields |= {"use_cpu": not torch.cuda.is_available()}
        losses[rule] = fine_tune(collator_class, SFTConfig(**(fields | paths | train)))
    fields = read_recipe(recipes / "evaluate.yaml") | {"dataset": corpus, "adapter": None}
    scored = score_rules(folder, EvaluateConfig(**(fields | paths | score)))
    return run_environment() | {"train": dict(train), "score": dict(score), "losses": losses} | scored


def read_recipe(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def side_by_side(report: Mapping[str, Any]) -> str:
    """The scores of all rows as a Markdown table."""
    shown = ("wer", "stop_rate", "similarity", "duration_ratio")
    scores = {
        name: {metric: of_rule[metric] for metric in shown if metric in of_rule}
        for name, of_rule in report["rows"].items()
    }
    return table(["", *titles_of(scores)], [[name, *map(cell_text, cells(scores, name))] for name in scores])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="JSON file of the report")
    parser.add_argument("--recipes", type=Path, default=ROOT / "recipes/tiny", help="folder of the two recipes")
    parser.add_argument("--base", help="folder of the base model; replaces that of the recipes")
    parser.add_argument("--codec", help="folder of the codec; replaces that of the recipes")
    parser.add_argument("--corpus", required=True, help="folder of the encoded corpus")
    parser.add_argument("--steps", type=int, help="optimizer steps; replaces those of the recipe")
    parser.add_argument("--learning_rate", type=float, help="replaces that of the recipe")
    parser.add_argument("--max_rows", type=int, help="number of scored texts; replaces that of the recipe")
    parser.add_argument("--max_seconds", type=float, help="maximum length of a clip; replaces that of the recipe")
    args = parser.parse_args()
    paths = {"model_name_or_path": args.base, "codec_name_or_path": args.codec}
    train = {"max_steps": args.steps, "learning_rate": args.learning_rate}
    score = {"max_rows": args.max_rows, "max_seconds": args.max_seconds}
    paths, train, score = ({k: v for k, v in given.items() if v is not None} for given in (paths, train, score))
    with tempfile.TemporaryDirectory() as folder:
        report = run(Path(folder), recipes=args.recipes, paths=paths, corpus=args.corpus, train=train, score=score)
    args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(side_by_side(report))


if __name__ == "__main__":
    with exit_on_input_error():
        main()
