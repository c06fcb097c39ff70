"""Compare base and fine-tuned model with the real recordings on held-out texts: WER, CER, speaker similarity.

accelerate launch --config_file accelerate_configs/single_gpu.yaml scripts/evaluate.py \
    --config recipes/higgs-3b/evaluate.yaml --adapter me/my-voice --push_to_hub
"""

import sys
from pathlib import Path


# Python searches the folder of the script first and would import this file as the library `evaluate`. Search it last.
sys.path.sort(key=lambda folder: Path(folder).resolve() == Path(__file__).resolve().parent)

from higgs_recipes.configs.inference import EvaluateConfig
from higgs_recipes.configs.parser import parse_recipe
from higgs_recipes.errors import exit_on_input_error
from higgs_recipes.evaluation.evaluate import evaluate_model
from higgs_recipes.evaluation.report import write_report
from higgs_recipes.files import check_output_dir
from higgs_recipes.generation.finished_clips import remove_finished_clips
from higgs_recipes.hub.public import public_name
from higgs_recipes.hub.push import push_report, resolve_target


def main() -> None:
    config = parse_recipe(EvaluateConfig)
    check_output_dir(config.output_dir, overwrite=config.overwrite_output_dir)
    # Before generation starts, so that a missing token is reported at once.
    name = config.hub_model_id or (config.adapter and public_name(config.adapter))
    repo_id = resolve_target(name, output_dir=config.output_dir, push=config.push_to_hub)
    evaluation = evaluate_model(config)
    write_report(
        evaluation.metrics,
        evaluation.waveforms,
        run=evaluation.run,
        output_dir=config.output_dir,
        overwrite=config.overwrite_output_dir,
    )
    remove_finished_clips(config.output_dir)
    if repo_id:
        url = push_report(config.output_dir, repo_id=repo_id, private=config.hub_private_repo)
        print(f"pushed: {url}")
    print(f"report: {Path(config.output_dir) / 'report.html'}")


if __name__ == "__main__":
    with exit_on_input_error():
        main()
