"""Typed rejects: messages are made from code, field and detail, and nothing parses them."""

import json
import pickle
from pathlib import Path

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.rejects import _WORDING, Reject, RejectCode, RejectedRow, count_rejects, field_name, rejected_as
from tests.helpers.paths import ROOT


def test_every_code_has_a_message_and_its_own_category():
    assert _WORDING.keys() == set(RejectCode)
    categories = [Reject(code, "audio").category for code in RejectCode]
    assert len(set(categories)) == len(categories)


@pytest.mark.parametrize("code", RejectCode)
def test_the_category_depends_on_code_field_and_task_only(code):
    first = Reject(code, "turns.1", "one: detail; of (a row)")
    assert first.category == Reject(code, "turns.2", "another {detail}").category
    assert Reject(code, "turns.1", task="a_task").category == f"a_task: {first.category}"
    assert "one: detail; of (a row)" in first.reason or code is RejectCode.STRUCK
    assert "{" not in first.reason and "{" not in first.category and first.reason.strip() == first.reason
    assert Reject(code, "turns.1", "braces {head} {0}").reason.endswith("braces {head} {0}") or (
        code is RejectCode.STRUCK
    )


def test_categories_ignore_the_index_of_a_field():
    rejects = [Reject(RejectCode.TOO_SHORT, f"turns.{index}", f"0.{index} s") for index in range(2)]
    rejects += [Reject(RejectCode.TOO_SHORT, "audio", "0.1 s"), Reject(RejectCode.TOO_LOW, "snr_db", "3, least is 5")]
    assert [reject.reason for reject in rejects] == [
        "recording of turn 0 too short: 0.0 s",
        "recording of turn 1 too short: 0.1 s",
        "recording too short: 0.1 s",
        "snr_db too low: 3, least is 5",
    ]
    assert count_rejects(rejects) == {
        "recording of a turn too short": 2,
        "recording too short": 1,
        "snr_db too low": 1,
    }
    assert field_name("ref_speakers.3") == "reference clip 3"


def test_the_record_has_columns_reason_and_code():
    reject = Reject(RejectCode.SILENT, "audio", "drop it", task="a_task")
    record = reject.at({"file": "a", "row": 3, "id": None}).record()
    assert record == {
        "file": "a",
        "row": 3,
        "id": None,
        "reason": "a_task: recording silent; drop it",
        "code": "silent",
    }
    assert list(record)[:4] == ["file", "row", "id", "reason"]


def test_a_reject_can_be_serialized():
    reject = Reject(RejectCode.TOO_LONG, "turns.1", "40 s", task="a_task", columns={"file": "a", "row": 3})
    assert Reject.from_json(json.loads(json.dumps(reject.to_json()))) == reject
    assert pickle.loads(pickle.dumps(reject)) == reject


def test_a_rejected_row_is_an_input_error_that_can_name_the_row():
    error = RejectedRow(RejectCode.INVALID_FIELD, "ref_text", "is missing", row_id="7")
    assert isinstance(error, InputError) and str(error) == "row 7: ref_text is missing"
    assert error.reject.reason == "ref_text is missing" and error.reject.category == "invalid ref_text"


def test_input_errors_become_rejects_and_rejects_are_not_changed():
    with pytest.raises(RejectedRow) as caught, rejected_as(RejectCode.UNREADABLE_AUDIO, "audio"):
        raise InputError("recording: zero bytes")
    assert caught.value.reject == Reject(RejectCode.UNREADABLE_AUDIO, "audio", "recording: zero bytes")
    assert caught.value.reject.reason == "recording: zero bytes"
    with pytest.raises(RejectedRow) as caught, rejected_as(RejectCode.UNREADABLE_AUDIO, "audio"):
        raise RejectedRow(RejectCode.SILENT, "audio")
    assert caught.value.reject.code is RejectCode.SILENT
    with pytest.raises(OSError), rejected_as(RejectCode.UNREADABLE_AUDIO):
        raise OSError("not ours")


def test_every_code_is_used():
    package = ROOT / "higgs_recipes"
    sources = [path.read_text("utf-8") for path in package.rglob("*.py") if path != package / Path("rejects.py")]
    unused = [code.name for code in RejectCode if not any(f"RejectCode.{code.name}" in text for text in sources)]
    assert not unused
