"""Fine-tune Higgs Audio v2 on encoded corpora, with LoRA or full fine-tuning.

accelerate launch --config_file accelerate_configs/single_gpu.yaml scripts/sft.py \
    --config recipes/higgs-3b/voice_lora.yaml --push_to_hub
"""

import sys
from pathlib import Path


# As in evaluate.py: with listen, Python would import that script instead of the library `evaluate`.
sys.path.sort(key=lambda folder: Path(folder).resolve() == Path(__file__).resolve().parent)

from higgs_recipes.configs.parser import given_fields, parse_recipe
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.errors import exit_on_input_error
from higgs_recipes.hub.push import push_model, resolve_target, write_adapter_card
from higgs_recipes.hub.result_state import ResultState
from higgs_recipes.hub.run_record import RUN_INFO
from higgs_recipes.provenance import resolved_recipe
from higgs_recipes.records import read_record
from higgs_recipes.run_lock import lock_output
from higgs_recipes.training.checkpoints import checkpoint_to_resume
from higgs_recipes.training.fine_tune import fine_tune
from higgs_recipes.training.result_record import describe_saved
from higgs_recipes.training.run_folder import check_run_folder, is_trained


def main() -> None:
    config = parse_recipe(SFTConfig)
    with lock_output(config.output_dir, in_place=True):  # checkpoints are written into the folder
        run(config)


def run(config: SFTConfig) -> None:
    folder, is_main = Path(config.output_dir), config.process_index == 0
    target = resolve_target(
        config.hub_model_id,
        output_dir=folder,
        push=config.push_to_hub,
        private=config.hub_private_repo,
        revision=config.hub_revision,
        token=config.hub_token,
    )
    recipe = resolved_recipe(config, given=given_fields(SFTConfig))
    config.push_to_hub = False  # pushed below, with a model card; the Trainer would push without it
    state = ResultState(folder, script="sft", recipe=recipe, repo_id=target and target.repo_id)
    if not is_trained(state):
        checkpoint = checkpoint_to_resume(config, is_same_run=state.is_same_run())
        check_run_folder(state)
        trainer = fine_tune(config, state, checkpoint=checkpoint)
        if trainer.stopped_early:
            print(f"stopped at step {trainer.state.global_step}; continue with --resume_from_checkpoint true")
            return
    if not is_main:
        return
    write_adapter_card(folder, name=target and target.repo_id)
    record = read_record(folder / RUN_INFO)
    print(f"fine-tuned: {config.output_dir}, {describe_saved(record)}")
    if target:
        message = f"{config.method} fine-tuning, {record['steps']} steps"
        print(f"pushed: {push_model(folder, target, message=message)}")


if __name__ == "__main__":
    with exit_on_input_error():
        main()
