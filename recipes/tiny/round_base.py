"""Store the trained base model in float16, as it is in recipes/tiny/base.

    python recipes/tiny/round_base.py --model outputs/tiny/base_full --output_dir recipes/tiny/base

float16 has 11 significant bits, bfloat16 has 8. Loaded with dtype float32, the model computes in float32.
"""

import argparse
import shutil
from pathlib import Path

import torch

from higgs_recipes.configs.model import ModelConfig
from higgs_recipes.errors import InputError, exit_on_input_error
from higgs_recipes.hub.run_record import RUN_INFO
from higgs_recipes.modeling.model import load_model


def round_model(model_folder: Path, output_dir: Path) -> None:
    """Write float16 weights, tokenizer, generation config and run.json to `output_dir`; other files there are kept.

    Raises:
        InputError: what `load_model` raises, or a weight exceeds the range of float16.
    """
    model, tokenizer = load_model(ModelConfig(str(model_folder), dtype="float32"))
    largest = max(float(weight.abs().max()) for weight in model.parameters())
    if not largest <= torch.finfo(torch.float16).max:
        raise InputError(f"{model_folder}: the largest weight, {largest:g}, exceeds the range of float16")
    model.half().save_pretrained(output_dir)
    tokenizer.save_pretrained(output_dir)
    shutil.copyfile(model_folder / RUN_INFO, output_dir / RUN_INFO)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", type=Path, default=Path("outputs/tiny/base_full"), help="folder of the trained model"
    )
    parser.add_argument("--output_dir", type=Path, default=Path(__file__).parent / "base")
    args = parser.parse_args()
    round_model(args.model, args.output_dir)
    print(f"rounded: {args.output_dir}")


if __name__ == "__main__":
    with exit_on_input_error():
        main()
