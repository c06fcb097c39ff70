"""One short training run on random rows; a program, so that tests can launch it on two processes (train_on_two.py)."""

import json
import sys
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.modeling.base_files import fetch_base
from higgs_recipes.samples import SampleDataset
from higgs_recipes.training.run_estimate import epochs_to_train
from higgs_recipes.training.trainer import HiggsTrainer
from tests.helpers.checkpoints import build, random_rows


NUM_ROWS = 8


def make_trainer(folder: str | Path, *, model_folder: str | Path, **fields) -> HiggsTrainer:
    """A trainer on `NUM_ROWS` random rows; SGD without clipping, so that the update is the gradient."""
    defaults = {"dtype": "float32", "datasets": ["none"], "use_cpu": True, "report_to": "none", "method": "full"}
    defaults |= {"optim": "sgd", "learning_rate": 0.05, "lr_scheduler_type": "constant", "max_grad_norm": 0.0}
    defaults |= {"allow_untrained": True, "save_strategy": "no", "max_steps": 2, "logging_steps": 1}
    defaults |= {"disable_tqdm": True}
    config = SFTConfig(model_name_or_path=str(model_folder), output_dir=str(folder), **(defaults | fields))
    torch.manual_seed(0)  # of a new adapter
    model, tokenizer = build(config)
    train_dataset = SampleDataset(random_rows(NUM_ROWS), tokenizer)
    config.num_train_epochs = epochs_to_train(config, train_dataset)
    return HiggsTrainer(
        model,
        config,
        base=fetch_base(config),
        train_dataset=train_dataset,
        eval_dataset=SampleDataset(random_rows(5), tokenizer),
        run_info={"method": config.method},
    )


def trained_weights(trainer: HiggsTrainer) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in trainer.model.named_parameters() if weight.requires_grad}


def main() -> None:
    torch.set_num_threads(1)
    folder, fields = Path(sys.argv[1]), json.loads(sys.argv[2])
    trainer = make_trainer(folder, **fields)
    trainer.train()
    metrics = trainer.evaluate()
    trainer.save_model()
    wrapped = trainer.model_wrapped
    if trainer.is_world_process_zero():
        about = {
            "processes": trainer.accelerator.num_processes,
            "distributed_type": str(trainer.accelerator.distributed_type.value),
            "metrics": metrics,
            "finds_unused": wrapped.find_unused_parameters if isinstance(wrapped, DistributedDataParallel) else None,
            "log": trainer.state.log_history,
        }
        (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


if __name__ == "__main__":
    main()
