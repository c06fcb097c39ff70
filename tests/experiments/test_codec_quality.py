"""The codec of recipes/tiny on real clips of two voices, with the real metric models."""

import json

import pytest

from tests.experiments.codec_quality import describe, measure
from tests.helpers.paths import ROOT
from tests.helpers.recordings import corpus_rows, write_recordings


pytestmark = pytest.mark.slow


def test_each_voice_is_compared_with_its_recordings(tmp_path):
    folders = [tmp_path / speaker for speaker in ("heart", "rms")]
    for folder in folders:
        write_recordings(folder, corpus_rows(folder.name)[:10])
    report = measure(str(ROOT / "recipes/tiny/mel_rvq"), [str(folder) for folder in folders])
    assert json.loads(json.dumps(report)) == report
    assert list(report["speakers"]) == ["heart", "rms"]
    for scores in report["speakers"].values():
        assert scores["n"] == 10 and 0.8 < scores["similarity"] < 0.99
        for row in ("recordings", "resynthesis"):
            assert 0 <= scores[row]["low"] <= scores[row]["value"] <= scores[row]["high"] < 0.5
    assert report["audio_seconds"] > 12 and report["encode_times_real_time"] > report["decode_times_real_time"] > 1
    lines = [line.split("|")[1].strip() for line in describe(report).splitlines() if line.startswith("|")]
    assert lines == ["voice", "---", "heart", "rms"]
