"""Export a corpus folder in the format of train-higgs-audio: metadata.json, recordings, transcripts.

python scripts/export_corpus.py --source outputs/imported --output_dir higgs_training_data
"""

from higgs_recipes.configs.corpus import ExportConfig
from higgs_recipes.configs.parser import parse_recipe
from higgs_recipes.errors import exit_on_input_error
from higgs_recipes.ingest.export_corpus import export_corpus


def main() -> None:
    config = parse_recipe(ExportConfig)
    print(f"exported: {config.output_dir}: {export_corpus(config)} rows")


if __name__ == "__main__":
    with exit_on_input_error():
        main()
