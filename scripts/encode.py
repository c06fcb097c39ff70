"""Corpus -> codes: a Hub dataset or a folder of recordings becomes a corpus that scripts/sft.py trains on.

accelerate launch --config_file accelerate_configs/single_gpu.yaml scripts/encode.py \
    --config recipes/higgs-3b/encode.yaml --push_to_hub
"""

from accelerate import PartialState

from higgs_recipes.configs import EncodeConfig
from higgs_recipes.encoding import encode_corpus
from higgs_recipes.errors import exit_on_input_error
from higgs_recipes.hub import push_folder, resolve_repo_id
from higgs_recipes.recipe_parser import parse_recipe
from higgs_recipes.records import public_name


def main() -> None:
    config = parse_recipe(EncodeConfig)
    if config.push_to_hub:  # asked for before the work: a missing token shows now, and not after hours of encoding
        config.hub_dataset_id = resolve_repo_id(config.hub_dataset_id or public_name(config.output_dir))
    folder = encode_corpus(config)
    if not PartialState().is_main_process:
        return
    if config.push_to_hub:
        url = push_folder(
            folder,
            repo_id=config.hub_dataset_id,
            repo_type="dataset",
            private=config.hub_private_repo,
            commit_message="Add encoded corpus",
        )
        print(f"pushed: {url}")
    print(f"corpus: {folder}")


if __name__ == "__main__":
    with exit_on_input_error():
        main()
