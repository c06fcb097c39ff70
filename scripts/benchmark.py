"""Benchmark training, generation or encoding, compared with unmodified transformers and the hardware limits.

python scripts/benchmark.py train --config recipes/higgs-3b/benchmark_train.yaml
"""

import sys

from accelerate import PartialState

from higgs_recipes.benchmarks.encode import measure_encoding
from higgs_recipes.benchmarks.generate import measure_generation
from higgs_recipes.benchmarks.report import describe, write_report
from higgs_recipes.benchmarks.stream import measure_streaming
from higgs_recipes.benchmarks.texts import measure_texts
from higgs_recipes.benchmarks.train import measure_training
from higgs_recipes.configs.benchmark import (
    BenchmarkEncodeConfig,
    BenchmarkGenerateConfig,
    BenchmarkStreamConfig,
    BenchmarkTextsConfig,
    BenchmarkTrainConfig,
)
from higgs_recipes.configs.parser import parse_recipe
from higgs_recipes.errors import InputError, exit_on_input_error
from higgs_recipes.run_lock import lock_output


BENCHMARKS = {
    "train": (BenchmarkTrainConfig, measure_training),
    "generate": (BenchmarkGenerateConfig, measure_generation),
    "stream": (BenchmarkStreamConfig, measure_streaming),
    "texts": (BenchmarkTextsConfig, measure_texts),
    "encode": (BenchmarkEncodeConfig, measure_encoding),
}


def main() -> None:
    name, args = sys.argv[1] if len(sys.argv) > 1 else "", sys.argv[2:]
    if name not in BENCHMARKS:
        found = f"unknown benchmark {name!r}" if name else "missing benchmark"
        raise InputError(f"{found}: expected train, generate, stream, texts or encode")
    config_class, measure = BENCHMARKS[name]
    config = parse_recipe(config_class, args)
    with lock_output(config.output):
        report = write_report(name, config, measure(config))
    if PartialState().is_main_process:
        print(describe(report))
        print(f"measured: {config.output}")


if __name__ == "__main__":
    with exit_on_input_error():
        main()
