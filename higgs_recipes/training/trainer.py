"""A `transformers.Trainer` for the DualFFN loss: divided once a step, reported by codebook, checked first."""

import json
import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from transformers import Trainer
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import rotate_checkpoints

from higgs_recipes.collator import HiggsCollator
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.constants import IGNORE_INDEX
from higgs_recipes.errors import InputError
from higgs_recipes.files import atomic_write, explain_full_disk
from higgs_recipes.hub.download import Snapshot
from higgs_recipes.hub.run_record import RUN_INFO
from higgs_recipes.loss import DualFFNLosses, attach_losses, dual_ffn_losses, label_counts
from higgs_recipes.modeling.base_files import copy_companions
from higgs_recipes.modeling.varlen_forward import attach_varlen_forward
from higgs_recipes.samples import SampleDataset
from higgs_recipes.training.callbacks import (
    AsyncHostCopy,
    GracefulStopCallback,
    NonFiniteLossCallback,
    TrainBeginCallback,
)
from higgs_recipes.training.checkpoints import staged_checkpoint
from higgs_recipes.training.fsdp import keep_sums_exact
from higgs_recipes.training.metrics import TrainingMetrics, summarize
from higgs_recipes.training.packed_sampler import PackedRowSampler
from higgs_recipes.training.run_estimate import RunEstimateCallback
from higgs_recipes.training.torchao_optimizers import compiled_once
from higgs_recipes.unwrap import unwrap_model


logger = logging.getLogger(__name__)


class HiggsTrainer(Trainer):
    """Fine-tune a Higgs Audio v2 model, whole or with an adapter.

    The loss of an optimizer step is text_weight * text_sum / text_count + audio_weight * sum_k w_k * sum_k / count_k
    with the sums and counts of ALL its micro-batches on all processes: it does not depend on how the step is cut.

    Args:
        model: a `HiggsAudioV2ForConditionalGeneration` with text head, or a `PeftModel` around one.
        args: the recipe.
        base: the files of the base model; a whole fine-tuned model gets its tokenizer and processor.
        train_dataset, eval_dataset: samples with `row_index`; `row_id` names a row in errors.
        collator: pads or packs them; with the recipe's `fast_path` it makes flat batches too. Evaluation leaves its
            `code_dropout` out, and keeps transformers' own forward: what the fast path learns, the plain one checks.
        run_info: what `run.json` says beside what the trainer adds: base, codec, datasets.

    Raises (by `train`):
        InputError: the pre-flight finds a codebook that the model does not know.
        FloatingPointError: the loss is NaN or infinite; names the step and the rows.
    """

    def __init__(
        self,
        model: nn.Module,
        args: SFTConfig,
        *,
        base: Snapshot,
        train_dataset: SampleDataset,
        eval_dataset: SampleDataset | None = None,
        collator: HiggsCollator,
        run_info: Mapping[str, Any],
    ) -> None:
        if args.fast_path:
            attach_varlen_forward(
                unwrap_model(model), compile_layers=args.compile_layers, recompute=args.layers_recompute
            )
            collator.flat = True
        attach_losses(unwrap_model(model), compiled=args.compile_layers)
        if args.hours_seen is not None:
            args.num_train_epochs = args.hours_seen * 3600 / train_dataset.audio_seconds()
        self.forecast = RunEstimateCallback(train_dataset, collator.config, clock=lambda: self.meter.clock())
        if args.n_gpu > 1:  # one process beside several GPUs: transformers would wrap the model in DataParallel
            args._n_gpu = 1
        start = TrainBeginCallback(train=self._begin, epoch=self._begin_epoch)
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            data_collator=collator,
            callbacks=[GracefulStopCallback(), self.forecast, start, NonFiniteLossCallback(self.nan_rows)],
        )
        if self.is_fsdp_enabled:
            keep_sums_exact(self.accelerator.state.fsdp_plugin)
        self.model_accepts_loss_kwargs = True  # compute_loss divides by the counts of the whole step
        # Padded: the plain forward makes a dense mask of a packed row.
        self.eval_collator = HiggsCollator(collator.config)
        num_codebooks = collator.config.num_codebooks
        # Copied once: a copy amid a step waits for the GPU.
        weights = args.codebook_weights or [1 / num_codebooks] * num_codebooks
        self.codebook_weights = torch.tensor(weights, device=args.device)  # (C,)
        self.base = base
        self.run_info = dict(run_info)
        self.filled_rows: PackedRowSampler | None = None  # the batches of training, with `fill_rows`
        self.step_batches: list[tuple[AsyncHostCopy, Tensor]] = []  # (loss, row_index) of the step's micro-batches
        self.meter = TrainingMetrics()
        self.staging: Path | None = None  # the folder of the checkpoint that is being written

    @staticmethod
    def get_optimizer_cls_and_kwargs(args: SFTConfig, model: nn.Module | None = None) -> tuple[type, dict[str, Any]]:
        optimizer_class, kwargs = Trainer.get_optimizer_cls_and_kwargs(args, model)
        return compiled_once(optimizer_class), kwargs

    @property
    def stopped_early(self) -> bool:
        """Whether `train` was ended by SIGTERM, its checkpoint saved."""
        return self.state.global_step < self.state.max_steps

    def get_train_dataloader(self) -> DataLoader:
        args = self.args
        if not args.fill_rows:
            return super().get_train_dataloader()
        self.filled_rows = PackedRowSampler(
            self.train_dataset.num_positions(), capacity=args.pack_to, seed=args.seed, num_processes=args.world_size
        )
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=self.filled_rows,
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
        )
        return self.accelerator.prepare(loader)

    def _begin_epoch(self, epoch: int) -> None:
        self.data_collator.set_epoch(epoch)
        if self.filled_rows is not None:  # a resumed run of several processes tells nobody else
            self.filled_rows.set_epoch(epoch)

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> tuple:
        return super().get_batch_samples(self.meter.waiting(epoch_iterator), num_batches, device)

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Tensor]], device: torch.device) -> Tensor | None:
        """Targets of the whole optimizer step on all processes: text, then one number a codebook, (1 + C,)."""
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
        """This micro-batch's share of the step's loss, times the processes over which gradients are averaged."""
        assert not return_outputs and num_items_in_batch is not None, "training only; evaluate() goes its own way"
        losses = dual_ffn_losses(model, inputs)
        loss = self._weighted(losses, text_count=num_items_in_batch[0], codebook_counts=num_items_in_batch[1:])
        self.meter.add(losses.detach(), inputs, config=self.eval_collator.config)
        self.step_batches.append((AsyncHostCopy(loss), inputs["row_index"]))
        return loss * self.accelerator.num_processes

    def _weighted(self, losses: DualFFNLosses, *, text_count: Tensor, codebook_counts: Tensor) -> Tensor:
        # A count of 0 has a sum of 0.
        audio = losses.codebook_sums / codebook_counts.clamp(min=1) * self.codebook_weights
        text = losses.text_sum / text_count.clamp(min=1)
        return self.args.text_loss_weight * text + self.args.audio_loss_weight * audio.sum()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the losses by codebook, the EOS, speed and memory to what transformers logs while training."""
        if "loss" in logs:
            logs |= self.meter.report(self.accelerator)
        super().log(logs, start_time)

    def evaluate(
        self, eval_dataset: SampleDataset | None = None, ignore_keys: None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The losses of a dataset, each row counted once on however many processes; divided at the end.

        Returns:
            `eval_loss` weighted as in training, `eval_loss_text`, `eval_loss_codebook_0` ..., `eval_eos_loss`, ...
        """
        dataset = eval_dataset or self.eval_dataset
        if dataset is None:
            raise ValueError("evaluate() needs an eval_dataset")
        with self.meter.paused():
            losses = self._sum_losses(dataset)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in summarize(losses).items()}
        metrics[f"{metric_key_prefix}_loss"] = float(
            self._weighted(losses, text_count=losses.text_count, codebook_counts=losses.codebook_counts)
        )
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    @torch.no_grad()
    def _sum_losses(self, dataset: SampleDataset | Subset) -> DualFFNLosses:
        """Losses of a whole dataset, added over batches and processes."""
        model, was_training = self.model_wrapped, self.model.training
        model.eval()
        rank, world, size = self.args.process_index, self.args.world_size, self.args.per_device_eval_batch_size
        total: DualFFNLosses | None = None
        for index in range(math.ceil(len(dataset) / (world * size))):
            start = (index * world + rank) * size
            rows = range(start, min(start + size, len(dataset)))
            # Sharded models run in step: a process that has no row left runs one without its labels.
            batch = self.eval_collator([dataset[row] for row in rows or range(1)])
            if not rows:
                batch["labels"].fill_(IGNORE_INDEX)
                batch["audio_labels"].fill_(IGNORE_INDEX)
            with self.accelerator.autocast():
                losses = dual_ffn_losses(model, self._prepare_inputs(batch))
            total = losses if total is None else total + losses
        model.train(was_training)
        return total.unpack(self.accelerator.reduce(total.pack(), reduction="sum"))

    def _begin(self) -> None:
        if self.args.layers_recompute:  # once more around them would be all of it twice
            unwrap_model(self.model).gradient_checkpointing_disable()
        if self.state.global_step == 0:
            self.preflight()
        self.meter = TrainingMetrics()

    def preflight(self) -> dict[str, float]:
        """The model's losses on the recipe's own labels, before the first step.

        Raises:
            InputError: a codebook is no likelier than chance, ln(V) nats, and `allow_untrained` is off: the codes are
                not of the model's codec, or delayed or prompted in another way than it was trained.
        """
        # Some thousand frames: they tell chance from knowledge, in less than a step's time.
        rows = Subset(self.train_dataset, range(min(8, len(self.train_dataset))))
        report = summarize(self._sum_losses(rows))
        chance = math.log(self.eval_collator.config.codebook_size)
        found = [report[f"loss_codebook_{k}"] for k in range(self.eval_collator.config.num_codebooks)]
        described = ", ".join(f"{loss:.2f}" for loss in found)
        if self.is_world_process_zero():
            logger.info("pre-flight on %d rows: loss by codebook %s (chance %.2f)", len(rows), described, chance)
        if not all(loss < chance for loss in found):  # a NaN is below nothing
            message = (
                f"pre-flight: the base model's loss by codebook is {described} nats; a pretrained model is below "
                f"chance, {chance:.2f}, on every one. Is the corpus encoded with the model's codec?"
            )
            if not self.args.allow_untrained:
                raise InputError(f"{message} For a model with random weights set allow_untrained: true")
            if self.is_world_process_zero():
                logger.warning("%s allow_untrained is set: going on", message)
        return report

    def nan_rows(self) -> list[str]:
        """The rows of the micro-batches of this step whose loss is not finite; forgets the step."""
        broken = [row_index for loss, row_index in self.step_batches if not math.isfinite(loss.get())]
        self.step_batches.clear()
        return [self.train_dataset.row_id(int(row)) for row_index in broken for row in row_index]

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """The weights in safetensors, and run.json instead of the pickle that transformers makes of its arguments.

        A whole model gets the base's tokenizer and processor too, so that its folder loads as the base's does.
        """
        folder = Path(output_dir or self.args.output_dir)
        with explain_full_disk(folder):
            super()._save(str(folder), state_dict=state_dict)
            if not self.args.should_save:
                return
            if self.args.method == "full":
                copy_companions(self.base, folder)
        (folder / "training_args.bin").unlink()
        evaluations = [entry for entry in self.state.log_history if "eval_loss" in entry]
        trained = [entry for entry in self.state.log_history if "loss" in entry]
        run = self.run_info | {
            "steps": self.state.global_step,
            "length": self.forecast.record,
            "losses": (trained[-1] if trained else {}) | (evaluations[-1] if evaluations else {}),
            "log_history": self.state.log_history,
        }
        atomic_write(folder / RUN_INFO, json.dumps(run, indent=1) + "\n")

    def _get_output_dir(self, trial: None) -> str:
        """Where transformers writes `checkpoint-N`, and looks for it: while it saves, a folder beside."""
        return str(self.staging or self.args.output_dir)

    def _save_checkpoint(self, model: nn.Module, trial: None) -> None:
        folder, args = Path(self.args.output_dir), self.args
        wait = self.accelerator.wait_for_everyone
        with (
            self.meter.paused(),
            explain_full_disk(folder),
            staged_checkpoint(folder, publishes=args.should_save, wait=wait) as self.staging,
        ):
            super()._save_checkpoint(model, trial)
            best = self.state.best_model_checkpoint
            if best is not None and Path(best).parent == self.staging:  # it is this one, under its name to be
                self.state.best_model_checkpoint = str(folder / Path(best).name)
                if args.should_save:
                    self.state.save_to_json(str(Path(best) / TRAINER_STATE_NAME))
        self.staging = None
        if args.should_save:  # not before the new one is whole
            rotate_checkpoints(
                args.output_dir,
                save_total_limit=args.save_total_limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
                use_mtime=True,
            )
