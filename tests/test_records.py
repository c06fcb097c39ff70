"""JSON records: invalid files and missing fields are refused with the file."""

import pytest
from transformers import HiggsAudioV2Config

from higgs_recipes.errors import InputError
from higgs_recipes.records import Fields, read_config, read_record
from tests.helpers.paths import ROOT


def test_record_is_read_with_its_file(tmp_path):
    (tmp_path / "run.json").write_text('{"steps": 3}')
    record = read_record(tmp_path / "run.json")
    assert record == {"steps": 3} and record.file == str(tmp_path / "run.json")


def test_missing_field_is_named_with_its_file():
    fields = Fields({"steps": 3}, "run.json")
    assert fields["steps"] == 3 and fields.get("losses") is None
    with pytest.raises(InputError, match="^run.json: field 'losses' is missing: create the file again"):
        fields["losses"]


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "run.json is missing: only a finished run has it"),
        ("{", "run.json is not JSON: "),
        ("[]", "run.json contains a list, not a mapping"),
    ],
)
def test_file_that_is_not_a_record_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_record(tmp_path / "run.json")


def test_config_is_read_as_its_class():
    config = read_config(ROOT / "recipes/higgs-3b/model.json", HiggsAudioV2Config)
    assert isinstance(config, HiggsAudioV2Config) and config.num_codebooks == 8


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "model.json: no such file; expected a JSON file of a HiggsAudioV2Config"),
        ("[", "model.json is not JSON"),
        ('{"model_type": "llama"}', 'not a HiggsAudioV2Config; it must contain "model_type": "higgs_audio_v2"'),
        ("{}", "model.json: not a HiggsAudioV2Config"),
    ],
)
def test_file_that_is_not_the_config_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "model.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_config(tmp_path / "model.json", HiggsAudioV2Config)
