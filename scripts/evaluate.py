"""Compare base and fine-tuned model with the real recordings on held-out texts, or by the protocol of a benchmark.

accelerate launch --config_file accelerate_configs/single_gpu.yaml scripts/evaluate.py \
    --config recipes/higgs-3b/evaluate.yaml --adapter me/my-voice --push_to_hub

Several GPUs share the clips: accelerate launch --config_file accelerate_configs/ddp.yaml --num_processes 4 ...
"""

import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path


# Python searches the folder of the script first and would import this file as the library `evaluate`. Search it last.
sys.path.sort(key=lambda folder: Path(folder).resolve() == Path(__file__).resolve().parent)

from accelerate import PartialState

from higgs_recipes.configs.inference import EvaluateConfig
from higgs_recipes.configs.parser import parse_recipe
from higgs_recipes.errors import exit_on_input_error
from higgs_recipes.evaluation.evaluate import Evaluation
from higgs_recipes.evaluation.protocols.run import run_protocol
from higgs_recipes.evaluation.report import write_report
from higgs_recipes.generation.finished_clips import remove_finished_clips
from higgs_recipes.hub.push import Target, model_repo_name, push_report, resolve_target
from higgs_recipes.hub.result_state import ResultState
from higgs_recipes.output_folder import check_output
from higgs_recipes.run_lock import lock_output
from higgs_recipes.shared_work import shared_device, shared_errors


def main() -> None:
    shared_device()
    with ExitStack() as stack:
        with shared_errors():
            config = parse_recipe(EvaluateConfig)
            stack.enter_context(lock_output(config.output_dir))
            # Before generation starts, so that a missing token is reported at once.
            folder, private = Path(config.output_dir), config.hub_private_repo
            name = config.hub_model_id or model_repo_name(config.adapter or config.model_name_or_path)
            target = resolve_target(name, output_dir=folder, push=config.push_to_hub, private=private)
            state = ResultState(folder, script="evaluate", recipe=asdict(config), repo_id=target and target.repo_id)
            is_written = state.is_push_pending()
            if not is_written:
                check_output(config, kind="evaluate")
        evaluation = None if is_written else run_protocol(config)
        with shared_errors():
            if PartialState().is_main_process:
                finish(config, evaluation, state=state, target=target)


def finish(
    config: EvaluateConfig, evaluation: Evaluation | None, *, state: ResultState, target: Target | None
) -> None:
    """Write the report, unless it is written, and push it."""
    if evaluation is not None:
        write_report(
            evaluation.metrics,
            evaluation.waveforms,
            run=evaluation.run,
            output_dir=config.output_dir,
            overwrite=config.overwrite_output_dir,
            finish=state.write if target else None,
        )
    remove_finished_clips(config.output_dir)
    if target:
        print(f"pushed: {push_report(Path(config.output_dir), target)}")
    print(f"report: {Path(config.output_dir) / 'report.html'}")


if __name__ == "__main__":
    with exit_on_input_error():
        main()
