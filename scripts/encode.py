"""Encode a Hub dataset or a folder of recordings into a corpus that scripts/sft.py trains on.

accelerate launch --config_file accelerate_configs/single_gpu.yaml scripts/encode.py \
    --config recipes/higgs-3b/encode.yaml --push_to_hub

With --push_to_hub each file is uploaded while the next is made; the dataset appears when all files are uploaded.
With --dry_run the corpus is checked and a report is written; this needs neither GPU nor codec.
"""

from dataclasses import asdict
from pathlib import Path

from accelerate import PartialState

from higgs_recipes.configs.corpus import EncodeConfig
from higgs_recipes.configs.parser import parse_recipe
from higgs_recipes.corpus.encode import encode_corpus
from higgs_recipes.corpus.report import REPORT_PAGE, check_corpus
from higgs_recipes.corpus.report_summary import render_text
from higgs_recipes.errors import exit_on_input_error
from higgs_recipes.hub.push import resolve_target
from higgs_recipes.hub.push_corpus import CorpusPush
from higgs_recipes.hub.result_state import ResultState
from higgs_recipes.run_lock import lock_output


def main() -> None:
    config = parse_recipe(EncodeConfig)
    if config.dry_run:
        record, folder = check_corpus(config)
        if PartialState().is_main_process:
            print(render_text(record))
            print(f"report: {folder / REPORT_PAGE}")
        return
    with lock_output(config.output_dir):
        run(config)


def run(config: EncodeConfig) -> None:
    # Before the work, so that a missing token is found now and not after hours of encoding.
    folder, private = Path(config.output_dir), config.hub_private_repo
    options = {"output_dir": folder, "push": config.push_to_hub, "repo_type": "dataset", "private": private}
    target = resolve_target(config.hub_dataset_id, **options)
    state = ResultState(folder, script="encode", recipe=asdict(config), repo_id=target and target.repo_id)
    push = CorpusPush(target) if target else None
    if not state.is_push_pending():
        config.hub_dataset_id = target.repo_id if target else config.hub_dataset_id  # the card names it
        encode_corpus(config, on_shard=push.add if push else None, finish=state.write if target else None)
    if not PartialState().is_main_process:
        return
    if push:
        print(f"pushed: {push.finish(folder)}")
    print(f"corpus: {folder}")


if __name__ == "__main__":
    with exit_on_input_error():
        main()
