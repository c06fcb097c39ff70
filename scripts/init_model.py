"""Create a model and a codec with random weights from config files, for pretraining, tests and benchmarks.

python scripts/init_model.py --config recipes/tiny/base_init.yaml
"""

from higgs_recipes.configs.inference import InitConfig
from higgs_recipes.configs.parser import parse_recipe
from higgs_recipes.errors import exit_on_input_error
from higgs_recipes.modeling.random_model import init_checkpoint


def main() -> None:
    config = parse_recipe(InitConfig)
    model_folder, codec_folder = init_checkpoint(config)
    print(f"random weights: {model_folder}" + (f" and {codec_folder}" if codec_folder else ""))


if __name__ == "__main__":
    with exit_on_input_error():
        main()
