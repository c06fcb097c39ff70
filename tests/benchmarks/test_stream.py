"""The benchmark of streaming: the first audio of each stream, and no more audio than its clip."""

import pytest

from higgs_recipes.benchmarks.stream import measure_streaming
from higgs_recipes.configs.benchmark import BenchmarkStreamConfig
from higgs_recipes.errors import InputError
from tests.helpers.benchmark_fields import stream_fields
from tests.helpers.tiny_codec import tiny_codec_folder


def test_streams_are_measured_from_the_request_to_the_first_piece(tmp_path):
    fields = stream_fields(tmp_path, codec_dir=str(tiny_codec_folder()))
    rows = list(measure_streaming(BenchmarkStreamConfig(**fields)))
    assert [(row["name"], row["outcome"]) for row in rows] == [("1 streams", "measured"), ("3 streams", "measured")]
    for row in rows:
        assert row["audio_seconds"] == pytest.approx(1.2 * row["streams"])
        assert 0 < row["first_audio_ms"] < 1000 * row["seconds"] and row["longest_pause_ms"] >= 0
        assert row["times_real_time"] == pytest.approx(row["frames_per_second"] / 25)
        assert row["preparation_seconds"] == 0 and row["peak_gib"] > 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"codec_config": ""}, "codec_config is missing"),
        ({"streams": []}, "streams must be positive, got"),
        ({"text_characters": 0}, "text_characters must be positive, got 0"),
        ({"only": ["a"]}, "only: the benchmark of streams has no variants; set streams"),
        ({"model_config": ""}, "model_config is missing"),
    ],
)
def test_fields_out_of_range_are_refused(tmp_path, fields, message):
    with pytest.raises(InputError, match=message):
        BenchmarkStreamConfig(**stream_fields(tmp_path, **fields))
