"""Fit a codec without a neural network (`higgs_recipes.audio.mel_rvq`) to the speech of a corpus.

python scripts/fit_codec.py --config recipes/tiny/codec_fit.yaml
"""

from higgs_recipes.configs.codec import FitCodecConfig
from higgs_recipes.configs.parser import parse_recipe
from higgs_recipes.corpus.fit_codec import fit_codec
from higgs_recipes.errors import exit_on_input_error


def main() -> None:
    config = parse_recipe(FitCodecConfig)
    record = fit_codec(config)
    shares = " ".join(f"{share:.3f}" for share in record["left_over"])
    print(f"codec: {config.output_dir}: {record['codec']}; residual variance: {shares}")


if __name__ == "__main__":
    with exit_on_input_error():
        main()
