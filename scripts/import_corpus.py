"""Import a corpus of another format into a folder of recordings and metadata that scripts/encode.py reads.

python scripts/import_corpus.py --config recipes/import/train_higgs_audio.yaml --sources higgs_training_data
"""

from higgs_recipes.configs.corpus import ImportConfig
from higgs_recipes.configs.parser import parse_recipe
from higgs_recipes.errors import exit_on_input_error
from higgs_recipes.ingest.import_corpus import import_corpus


def main() -> None:
    config = parse_recipe(ImportConfig)
    record = import_corpus(config)
    num_rejects = sum(record["rejects"].values())
    print(
        f"corpus: {config.output_dir}: {record['rows']} rows, {record['seconds'] / 3600:.2f} hours; "
        f"{num_rejects} rejected, see rejects.jsonl"
    )


if __name__ == "__main__":
    with exit_on_input_error():
        main()
