"""A `transformers.Trainer` with the DualFFN loss, normalized over the whole optimizer step and logged by codebook."""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from transformers import Trainer

from higgs_recipes.collator import HiggsCollator
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.constants import IGNORE_INDEX
from higgs_recipes.errors import InputError
from higgs_recipes.files import explain_full_disk
from higgs_recipes.hub.download import Snapshot
from higgs_recipes.loss import DualFFNLosses, attach_losses, dual_ffn_losses, label_counts
from higgs_recipes.modeling.base_files import copy_base_files
from higgs_recipes.modeling.varlen_forward import attach_varlen_forward
from higgs_recipes.samples import SampleDataset
from higgs_recipes.training.callbacks import (
    GracefulStopCallback,
    NonFiniteLossCallback,
    TrainBeginCallback,
    early_stopping,
)
from higgs_recipes.training.checkpoints import (
    STAGING,
    delete_old_checkpoints,
    has_all_steps,
    record_final_path,
    restore_resumed,
    staged_checkpoint,
)
from higgs_recipes.training.fsdp import keep_float32_outputs
from higgs_recipes.training.metrics import TrainingMetrics, summarize
from higgs_recipes.training.packed_sampler import PackedRowSampler, packed_loader
from higgs_recipes.training.preflight import check_preflight, is_at_chance
from higgs_recipes.training.result_record import write_run_record
from higgs_recipes.training.run_estimate import RunEstimateCallback
from higgs_recipes.training.torchao_optimizers import compiled_once
from higgs_recipes.unwrap import unwrap_model


class HiggsTrainer(Trainer):
    """Fine-tune a Higgs Audio v2 model, with full fine-tuning or an adapter.

    The loss of an optimizer step is text_weight * text_sum / text_count + audio_weight * sum_k w_k * sum_k / count_k,
    with the sums and counts of ALL its micro-batches on all processes: it does not depend on how the step is split.

    Args:
        model: a `HiggsAudioV2ForConditionalGeneration` with text head, or a `PeftModel` of one.
        args: the recipe; `epochs_to_train` has resolved its `hours_seen`.
        base: the files of the base model: full fine-tuning copies its tokenizer and processor.
        train_dataset, eval_dataset: samples with `row_index`; `row_id` names a row in errors.
        collator: collates training batches; None builds the recipe's. Evaluation always pads, without `code_dropout`,
            and uses transformers' own forward, which also validates the variable-length forward.
        run_info: entries of `run.json` that the trainer does not know: base, codec, datasets.
        listener: scores the speech of the model at each evaluation; None: evaluations have losses only.

    Raises (by `train`):
        InputError: the model does not predict every codebook better than chance (`check_preflight`).
        FloatingPointError: the loss is NaN or infinite; the message names the step and the rows.
    """

    def __init__(
        self,
        model: nn.Module,
        args: SFTConfig,
        *,
        base: Snapshot,
        train_dataset: SampleDataset,
        eval_dataset: SampleDataset | None = None,
        collator: HiggsCollator | None = None,
        run_info: Mapping[str, Any],
        listener: Callable[[nn.Module], dict[str, float]] | None = None,
    ) -> None:
        assert args.num_train_epochs is not None, "hours_seen must be resolved by epochs_to_train"
        bare_model = unwrap_model(model)
        config = bare_model.config
        if args.fast_path:
            attach_varlen_forward(bare_model, compile_layers=args.compile_layers, recompute=args.layers_recompute)
        attach_losses(bare_model, compiled=args.compile_layers)
        self.training_metrics = TrainingMetrics()
        self.run_estimate = RunEstimateCallback(train_dataset, config, clock=self.training_metrics.clock)
        self.non_finite_loss = NonFiniteLossCallback(train_dataset.row_id)
        self.graceful_stop = GracefulStopCallback()
        self.early_stopping = early_stopping(args)
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            data_collator=collator
            or HiggsCollator(
                config, pack_to=args.pack_to, code_dropout=args.code_dropout, seed=args.seed, flat=args.fast_path
            ),
            callbacks=[
                self.graceful_stop,
                self.run_estimate,
                TrainBeginCallback(on_train=self._begin_training, on_epoch=self._begin_epoch),
                self.non_finite_loss,
                *([] if self.early_stopping is None else [self.early_stopping]),
            ],
        )
        if self.is_fsdp_enabled:
            keep_float32_outputs(self.accelerator.state.fsdp_plugin)
        self.model_accepts_loss_kwargs = True  # compute_loss divides by the counts of the whole step
        # Padded: transformers' forward builds a dense mask for packed rows.
        self.eval_collator = HiggsCollator(config)
        # Copied to the device once: a copy within a step would wait for the GPU.
        weights = args.codebook_weights or [1 / config.num_codebooks] * config.num_codebooks
        self.codebook_weights = torch.tensor(weights, device=args.device)  # (C,)
        self.base, self.run_info, self.listener = base, dict(run_info), listener
        self.packed_sampler: PackedRowSampler | None = None  # the training batches, with `fill_rows`
        self.staging: Path | None = None  # folder of the checkpoint while it is saved

    @staticmethod
    def get_optimizer_cls_and_kwargs(args: SFTConfig, model: nn.Module | None = None) -> tuple[type, dict[str, Any]]:
        optimizer_class, kwargs = Trainer.get_optimizer_cls_and_kwargs(args, model)
        return compiled_once(optimizer_class), kwargs

    @property
    def stopped_early(self) -> bool:
        """Whether SIGTERM ended `train`, with a checkpoint."""
        return self.graceful_stop.has_stopped and self.state.global_step < self.state.max_steps

    def get_train_dataloader(self) -> DataLoader:
        args = self.args
        if args.fill_rows:
            loader = packed_loader(self.train_dataset, self.data_collator, args)
            self.packed_sampler = loader.batch_sampler
            return self.accelerator.prepare(loader)
        loader = super().get_train_dataloader()
        if not len(loader):
            raise InputError(
                f"dataloader_drop_last: the {len(self.train_dataset)} rows do not fill a batch of "
                f"{args.per_device_train_batch_size} for each of {args.world_size} processes: set it to false"
            )
        return loader

    def _begin_training(self) -> None:
        if self.args.layers_recompute:  # checkpointing around the compiled layers would recompute all of it twice
            unwrap_model(self.model).gradient_checkpointing_disable()
        if self.state.global_step == 0:
            self.preflight()
        restore_resumed(self.state, self.args.output_dir, early_stopping=self.early_stopping)
        self.training_metrics.reset()

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if has_all_steps(self.state):  # resumed from the last checkpoint: transformers would train one more step
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)

    def _begin_epoch(self, epoch: int) -> None:
        self.data_collator.set_epoch(epoch)
        if self.packed_sampler is not None:  # in a resumed run of several processes, accelerate does not set it
            self.packed_sampler.set_epoch(epoch)

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> tuple:
        return super().get_batch_samples(self.training_metrics.time_waits(epoch_iterator), num_batches, device)

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Tensor]], device: torch.device) -> Tensor | None:
        """Number of targets in the whole optimizer step on all processes: text, then each codebook, (1 + C,)."""
        if not batch_samples:
            return None
        counts = sum(torch.cat([text[None], audio]) for text, audio in map(label_counts, batch_samples))
        return self.accelerator.reduce(counts.to(device), reduction="sum")

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor:
        """This micro-batch's share of the step's loss, times the number of processes, which average gradients."""
        assert not return_outputs and num_items_in_batch is not None, "for training only; evaluate() does not call it"
        losses = dual_ffn_losses(model, inputs)
        loss = self._weighted(losses, text_count=num_items_in_batch[0], codebook_counts=num_items_in_batch[1:])
        self.training_metrics.add(losses.detach(), inputs, config=self.eval_collator.config)
        self.non_finite_loss.add(loss, inputs["row_index"])
        return loss * self.accelerator.num_processes

    def _weighted(self, losses: DualFFNLosses, *, text_count: Tensor, codebook_counts: Tensor) -> Tensor:
        # Where a count is 0, the sum is 0 too.
        audio = losses.codebook_sums / codebook_counts.clamp(min=1) * self.codebook_weights  # (C,)
        text = losses.text_sum / text_count.clamp(min=1)  # ()
        return self.args.text_loss_weight * text + self.args.audio_loss_weight * audio.sum()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add losses by codebook, EOS, speed and memory to transformers' training logs."""
        if "loss" in logs:
            logs |= self.training_metrics.report(self.accelerator)
        super().log(logs, start_time)

    def evaluate(
        self,
        eval_dataset: SampleDataset | dict[str, SampleDataset] | None = None,
        ignore_keys: None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Losses of a dataset; each row counts once, for any number of processes, and sums are divided at the end.

        Returns:
            `eval_loss`, weighted as in training, and `eval_` with the other names of `HIGHER_IS_BETTER` and, for the
            trainer's own dataset, of the listener's scores; of several datasets by name, `eval_NAME_loss` ...
        """
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(dataset, dict):
            parts = [
                self.evaluate(part, metric_key_prefix=f"{metric_key_prefix}_{name}") for name, part in dataset.items()
            ]
            return {name: value for metrics in parts for name, value in metrics.items()}
        if dataset is None or not len(dataset):
            raise ValueError("evaluate() needs an eval_dataset with rows")
        with self.training_metrics.paused():
            losses = self._sum_losses(dataset)
            scores = {} if self.listener is None or eval_dataset is not None else self.listener(self.model)
        loss = self._weighted(losses, text_count=losses.text_count, codebook_counts=losses.codebook_counts)
        named = summarize(losses) | {"loss": float(loss)} | scores
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in named.items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    @torch.no_grad()
    def _sum_losses(self, dataset: SampleDataset | Subset) -> DualFFNLosses:
        """Losses of a dataset, summed over batches and processes."""
        model, was_training = self.model_wrapped, self.model.training
        model.eval()
        rank, world, size = self.args.process_index, self.args.world_size, self.args.per_device_eval_batch_size
        total: DualFFNLosses | None = None
        for index in range(math.ceil(len(dataset) / (world * size))):
            start = (index * world + rank) * size
            rows = range(start, min(start + size, len(dataset)))
            # Sharded models need as many forward passes on all processes: one without a row runs row 0 unlabeled.
            batch = self.eval_collator([dataset[row] for row in rows or range(1)])
            if not rows:
                batch["labels"].fill_(IGNORE_INDEX)
                batch["audio_labels"].fill_(IGNORE_INDEX)
            with self.accelerator.autocast():
                losses = dual_ffn_losses(model, self._prepare_inputs(batch))
            total = losses if total is None else total + losses
        model.train(was_training)
        return total.unpack(self.accelerator.reduce(total.pack(), reduction="sum"))

    def preflight(self) -> dict[str, float]:
        """Losses of a few rows, after `check_preflight`; takes less time than a training step."""
        rows = Subset(self.train_dataset, range(min(8, len(self.train_dataset))))
        losses = summarize(self._sum_losses(rows))
        check_preflight(losses, self.eval_collator.config, allow_untrained=self.args.allow_untrained)
        if self.run_info.get("untrained_base") is None:  # the base has no record of its own
            self.run_info["untrained_base"] = is_at_chance(losses, self.eval_collator.config)
        return losses

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """Save the weights in safetensors, and run.json instead of transformers' pickled arguments.

        Full fine-tuning also copies the base's tokenizer and processor, so that the folder loads like the base.
        """
        folder = Path(output_dir or self.args.output_dir)
        with explain_full_disk(folder):
            super()._save(str(folder), state_dict=state_dict)
            if not self.args.should_save:
                return
            if self.args.method == "full":
                copy_base_files(self.base, folder)
        (folder / "training_args.bin").unlink()
        run, is_complete = self.run_info | {"length": self.run_estimate.record}, self.staging is None
        write_run_record(folder, run, self.args, self.state, is_complete=is_complete)
        if is_complete:
            delete_old_checkpoints(self.args, self.state, is_complete=True)

    def _determine_best_metric(self, metrics: dict[str, float], trial: None) -> bool:
        # Only an evaluation whose weights are saved: the best checkpoint would not be found for another.
        is_saved = self.control.should_save or self.args.save_strategy == "best"
        return is_saved and super()._determine_best_metric(metrics, trial)

    def _get_output_dir(self, trial: None) -> str:
        """The folder in which transformers saves checkpoints, and in which it would delete some at the end."""
        return str(Path(self.args.output_dir) / STAGING)

    def _save_checkpoint(self, model: nn.Module, trial: None) -> None:
        folder, args = Path(self.args.output_dir), self.args
        wait = self.accelerator.wait_for_everyone
        with (
            self.training_metrics.paused(),
            explain_full_disk(folder),
            staged_checkpoint(folder, publishes=args.should_save, wait=wait) as self.staging,
        ):
            super()._save_checkpoint(model, trial)
            record_final_path(self.state, folder, staging=self.staging, writes=args.should_save)
        self.staging = None
        if args.should_save:  # old checkpoints are deleted only when the new one is complete
            delete_old_checkpoints(args, self.state, is_complete=False)
