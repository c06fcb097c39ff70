"""Overfitting on 4 clips: the model generates exactly their codes, and stops at their end."""

import csv
import json
import shutil

import pytest
import torch

from higgs_recipes.audio.io import read_audio
from higgs_recipes.chatml import conversation
from higgs_recipes.configs.inference import InitConfig, SamplingConfig
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.errors import InputError
from higgs_recipes.generation.generate import Request, generate
from higgs_recipes.modeling.base_files import fetch_base
from higgs_recipes.modeling.random_model import init_checkpoint
from higgs_recipes.samples import SampleDataset
from higgs_recipes.training.trainer import HiggsTrainer
from tests.helpers.checkpoints import build
from tests.helpers.paths import ROOT
from tests.helpers.tiny_codec import CORPUS, tiny_codec


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def memorized(tmp_path_factory):
    """The model of tests/data/random_tiny after 150 steps on 4 real clips of 2 voices: (trainer, tokenizer, rows)."""
    folder = tmp_path_factory.mktemp("memorized")
    init_checkpoint(InitConfig(model_config=str(ROOT / "tests/data/random_tiny/model.json"), output_dir=str(folder)))
    config = SFTConfig(
        model_name_or_path=str(folder / "model"),
        dtype="float32",
        datasets=["none"],
        output_dir=str(folder / "run"),
        method="full",
        allow_untrained=True,
        max_steps=150,
        per_device_train_batch_size=4,
        learning_rate=3e-3,
        adam_beta2=0.95,
        lr_scheduler_type="cosine",
        warmup_steps=10,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    with open(CORPUS / "metadata.csv", encoding="utf-8", newline="") as metadata:
        clips = list(csv.DictReader(metadata))[:4]
    codes = tiny_codec().encode([read_audio(CORPUS / clip["file_name"], name=clip["file_name"]) for clip in clips])
    turns = [conversation(clip, task="single_speaker_smart_voice") for clip in clips]
    rows = [
        {"id": clip["file_name"], "messages": json.dumps(turn), "codes": code}
        for clip, turn, code in zip(clips, turns, codes, strict=True)
    ]
    model, tokenizer = build(config)
    trainer = HiggsTrainer(
        model,
        config,
        base=fetch_base(config),
        train_dataset=SampleDataset(rows, tokenizer),
        run_info={},
    )
    trainer.train()
    shutil.rmtree(folder)
    return trainer, tokenizer, rows


@pytest.mark.parametrize("batch_size", [1, 4])
def test_greedy_generation_gives_the_codes_and_stops(memorized, batch_size):
    trainer, tokenizer, rows = memorized
    requests = [Request(json.loads(row["messages"]), [], seed=0) for row in rows]
    sampling = SamplingConfig(temperature=0, max_seconds=6.0, batch_size=batch_size)
    generations = generate(trainer.model.eval(), tokenizer, requests, sampling=sampling)
    for row, generation in zip(rows, generations, strict=True):
        assert generation.stopped, row["id"]
        assert torch.equal(generation.codes, row["codes"]), row["id"]


def test_preflight_accepts_a_trained_model(memorized):
    trainer, _, _ = memorized
    trainer.args.allow_untrained = False
    report = trainer.preflight()
    assert max(report[f"loss_codebook_{k}"] for k in range(8)) < 0.1


def test_preflight_refuses_the_codes_of_another_codec(memorized):
    trainer, _, rows = memorized
    trainer.args.allow_untrained = False
    # A permutation of the codes stands for another codec.
    permuted = torch.randperm(1024, generator=torch.Generator().manual_seed(0)).to(torch.int16)
    others = [row | {"codes": permuted[row["codes"].long()]} for row in rows]
    trainer.train_dataset = SampleDataset(others, trainer.train_dataset.tokenizer)
    try:
        with pytest.raises(InputError, match="pre-flight: .* Is the corpus encoded with the model's codec"):
            trainer.preflight()
    finally:
        trainer.train_dataset = SampleDataset(rows, trainer.train_dataset.tokenizer)
