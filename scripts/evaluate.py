"""Held-out texts -> speech -> WER, CER, speaker similarity: base and fine-tuned beside the real recordings.

accelerate launch --config_file accelerate_configs/single_gpu.yaml scripts/evaluate.py \
    --config recipes/higgs-3b/evaluate.yaml --adapter me/my-voice --push_to_hub
"""

import sys
from pathlib import Path


# Python looks into a script's folder first, and would take this file for the library `evaluate`: there it looks last.
sys.path.sort(key=lambda folder: Path(folder).resolve() == Path(__file__).resolve().parent)

from higgs_recipes.configs.inference import EvaluateConfig
from higgs_recipes.configs.parser import parse_recipe
from higgs_recipes.errors import exit_on_input_error
from higgs_recipes.evaluation.evaluate import evaluate_model
from higgs_recipes.evaluation.report import write_report
from higgs_recipes.files import check_output_dir
from higgs_recipes.hub.public import public_name
from higgs_recipes.hub.push import push_report, resolve_target


def main() -> None:
    config = parse_recipe(EvaluateConfig)
    check_output_dir(config.output_dir, overwrite=config.overwrite_output_dir)
    # Asked for before the work: a missing token shows now, and not after hours of generating.
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
    if repo_id:
        url = push_report(config.output_dir, repo_id=repo_id, private=config.hub_private_repo)
        print(f"pushed: {url}")
    print(f"report: {Path(config.output_dir) / 'report.html'}")


if __name__ == "__main__":
    with exit_on_input_error():
        main()
