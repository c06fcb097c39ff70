"""The benchmark of a run of generate: all texts, clips of their lengths, one wav file each."""

import pytest

from higgs_recipes.benchmarks import texts
from higgs_recipes.benchmarks.texts import measure_texts
from higgs_recipes.configs.benchmark import BenchmarkTextsConfig
from higgs_recipes.errors import InputError
from tests.helpers.benchmark_fields import texts_fields
from tests.helpers.tiny_codec import tiny_codec_folder


def test_a_run_writes_a_clip_of_its_length_for_each_text(tmp_path, monkeypatch):
    written, write_wav_parts = [], texts.write_wav_parts

    def recorded(path, parts):
        written.append((path.name, write_wav_parts(path, parts) / 24_000))

    monkeypatch.setattr(texts, "write_wav_parts", recorded)
    config = BenchmarkTextsConfig(**texts_fields(tmp_path, codec_dir=str(tiny_codec_folder())))
    rows = list(measure_texts(config))
    assert [row["name"] for row in rows] == ["two, 5 texts", "greedy, 5 texts"]
    assert [name for name, _ in written] == [f"{index:04d}.wav" for index in range(5)] * 4
    lengths = [seconds for _, seconds in written[:5]]
    assert lengths * 4 == [seconds for _, seconds in written]
    assert 0.2 <= min(lengths) < max(lengths) <= 0.6
    for row in rows:
        assert row["audio_seconds"] == pytest.approx(sum(lengths))
        parts = [row[f"{part}_seconds"] for part in ("encode", "generate", "write")]
        assert min(parts) > 0 and sum(parts) == pytest.approx(row["seconds"]) and row["first_seconds"] > 0
        assert row["times_real_time"] == pytest.approx(row["frames_per_second"] / 25)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"codec_config": ""}, "codec_config is missing"),
        ({"num_texts": 0}, "num_texts must be positive, got 0"),
        ({"min_seconds": 0.7}, "min_seconds must be from one frame, 0.04, to clip_seconds, got 0.7"),
        ({"ref_seconds": 0.0}, "ref_seconds must be at least one frame"),
        ({"variants": {}}, "variants is empty: name at least one"),
        ({"variants": {"a": {"max_second": 1}}}, "variant 'a': 'max_second' is not a field of SamplingConfig"),
    ],
)
def test_fields_out_of_range_are_refused(tmp_path, fields, message):
    with pytest.raises(InputError, match=message):
        BenchmarkTextsConfig(**texts_fields(tmp_path, **fields))
