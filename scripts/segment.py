"""Cut and transcribe long recordings; the result is a folder that scripts/encode.py reads.

accelerate launch --config_file accelerate_configs/ddp.yaml scripts/segment.py --config recipes/import/raw.yaml
python scripts/segment.py --config recipes/import/raw.yaml --strike strike.txt
"""

import sys
from pathlib import Path


# As in evaluate.py: otherwise Python imports that script instead of the library `evaluate`.
sys.path.sort(key=lambda folder: Path(folder).resolve() == Path(__file__).resolve().parent)

from accelerate import PartialState

from higgs_recipes.configs.parser import parse_recipe
from higgs_recipes.configs.segment import SegmentConfig
from higgs_recipes.errors import exit_on_input_error
from higgs_recipes.ingest.curation import exclude_rows
from higgs_recipes.ingest.segment_corpus import segment_recordings


def main() -> None:
    config = parse_recipe(SegmentConfig)
    is_main = PartialState().is_main_process
    if config.strike is not None and not is_main:  # the main process excludes rows
        return
    record = segment_recordings(config) if config.strike is None else exclude_rows(config)
    if not is_main:
        return
    print(
        f"corpus: {config.output_dir}: {record['rows']} rows, {record['seconds'] / 3600:.2f} hours of "
        f"{record['recorded_seconds'] / 3600:.2f}; {sum(record['rejects'].values())} rejected, see rejects.jsonl; "
        f"listen and exclude: {config.output_dir}/listen.html"
    )


if __name__ == "__main__":
    with exit_on_input_error():
        main()
