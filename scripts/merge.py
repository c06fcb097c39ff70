"""Merge an adapter into its base model: one native checkpoint, which transformers loads without peft.

python scripts/merge.py --adapter me/my-voice --output_dir merged --check
"""

from higgs_recipes.configs.inference import MergeConfig
from higgs_recipes.configs.parser import parse_recipe
from higgs_recipes.errors import exit_on_input_error
from higgs_recipes.generation.synthesis import speak_greedily
from higgs_recipes.hub.cards import describe_logit_check
from higgs_recipes.hub.push import push_folder, resolve_target, write_merged_card
from higgs_recipes.modeling.merge import merge


def main() -> None:
    config = parse_recipe(MergeConfig)
    repo_id = resolve_target(config.hub_model_id, output_dir=config.output_dir, push=config.push_to_hub)
    record = merge(config, speak=speak_greedily)
    write_merged_card(config.output_dir, name=repo_id)
    if config.check:
        print(f"merged against adapter: {describe_logit_check(record)}")
    print(f"merged checkpoint: {config.output_dir}")
    if repo_id:
        message = f"Merge {record['adapter']} into its base model"
        url = push_folder(config.output_dir, repo_id=repo_id, private=config.hub_private_repo, commit_message=message)
        print(f"pushed: {url}")


if __name__ == "__main__":
    with exit_on_input_error():
        main()
