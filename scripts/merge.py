"""Merge an adapter into its base model: one native checkpoint, which transformers loads without peft.

python scripts/merge.py --adapter me/my-voice --output_dir merged --check --test_input "One sentence." --compare_models
"""

from dataclasses import asdict
from pathlib import Path

from higgs_recipes.configs.inference import MergeConfig
from higgs_recipes.configs.parser import parse_recipe
from higgs_recipes.errors import exit_on_input_error
from higgs_recipes.generation.model_comparison import ModelTest
from higgs_recipes.generation.synthesis import speak_greedily
from higgs_recipes.hub.cards import describe_logit_check
from higgs_recipes.hub.push import push_model, resolve_target, write_merged_card
from higgs_recipes.hub.result_state import ResultState
from higgs_recipes.hub.run_record import MERGE_INFO
from higgs_recipes.modeling.merge import merge
from higgs_recipes.output_folder import check_output
from higgs_recipes.records import read_record
from higgs_recipes.run_lock import lock_output


def main() -> None:
    config = parse_recipe(MergeConfig)
    with lock_output(config.output_dir):
        run(config)


def run(config: MergeConfig) -> None:
    folder, private = Path(config.output_dir), config.hub_private_repo
    target = resolve_target(config.hub_model_id, output_dir=folder, push=config.push_to_hub, private=private)
    state = ResultState(folder, script="merge", recipe=asdict(config), repo_id=target and target.repo_id)

    def finish(staging: Path) -> None:
        write_merged_card(staging, name=target.repo_id if target else config.output_dir)
        if target:
            state.write(staging)

    test = None
    if not state.is_push_pending():
        check_output(config, kind="merge")
        test = ModelTest(config) if config.test_input is not None or config.compare_models else None
        merge(config, speak=speak_greedily, finish=finish)
    record = read_record(folder / MERGE_INFO)
    if config.check:
        print(f"merged against adapter: {describe_logit_check(record)}")
    print(f"merged checkpoint: {config.output_dir}")
    for line in test.run() if test else []:
        print(line)
    if target:
        message = f"Merge {record['adapter']} into its base model"
        print(f"pushed: {push_model(folder, target, message=message)}")


if __name__ == "__main__":
    with exit_on_input_error():
        main()
