import json
import random

import pytest
import yaml
from transformers import HiggsAudioV2Config

from higgs_recipes.audio.clipping import Levels
from higgs_recipes.chatml import conversation
from higgs_recipes.collator import HiggsCollator
from higgs_recipes.configs.measured_speeds import SETTINGS, Speed
from higgs_recipes.corpus import statistics as stats
from higgs_recipes.corpus.clips import Clip
from higgs_recipes.rejects import Reject, RejectCode
from higgs_recipes.samples import build_sample
from tests.helpers.checkpoints import load_tiny, random_rows, tiny_folder
from tests.helpers.corpus_folder import encode_config
from tests.helpers.paths import ROOT


def row(index, text="Some words here.", *, seconds=1.0, language=None, speaker=None, levels=None):
    clip = Clip(seconds, f"hash{index}", levels=levels or Levels(24_000, 0, 0.0, 0.0))
    return {"id": str(index), "text": text, "seconds": seconds, "language": language, "speaker": speaker, "own": clip}


def test_a_spread_has_percentiles_and_a_histogram():
    values = list(range(101))
    random.Random(0).shuffle(values)
    spread = stats.spread(values)
    assert [spread[name] for name in ("least", "p5", "median", "mean", "p95", "most")] == [0, 5, 50, 50, 95, 100]
    assert stats.spread([3.0])["histogram"] == {"start": 3.0, "step": 1.0, "counts": [1]}


@pytest.mark.parametrize("values", [[0.4, 0.44, 0.48, 0.44], [1.0, 1.0], [0.5, 30.0, 2.2], list(range(1000))])
def test_a_histogram_counts_every_value_in_its_bin(values):
    made = stats.histogram(values)
    assert sum(made["counts"]) == len(values) and len(made["counts"]) <= stats.NUM_BINS + 2
    for index, count in enumerate(made["counts"]):
        low = made["start"] + index * made["step"]
        assert count == sum(low - 1e-9 <= value < low + made["step"] - 1e-9 for value in values)
    assert made["counts"][0] and made["counts"][-1]


def test_sizes_are_sorted_by_duration_and_include_rows_without_a_name():
    rows = [row(0, seconds=2.0, speaker="a"), row(1, seconds=3.0), row(2, seconds=2.0, speaker="a")]
    assert stats.sizes(rows, "speaker") == [
        {"name": "a", "rows": 2, "seconds": 4.0},
        {"name": None, "rows": 1, "seconds": 3.0},
    ]


def test_same_words_ignore_case_and_punctuation():
    rows = [row(0, "Hello, you!"), row(1, "hello you."), row(2, "Hello."), row(3, "..."), row(4, "!")]
    assert stats.repeated(rows, stats.same_words) == [["0", "1"]]


def test_outliers_of_the_speaking_rate_are_found_within_each_language():
    generator = random.Random(0)
    english = [row(index, "a" * generator.randint(90, 110), seconds=7.0, language="en") for index in range(50)]
    chinese = [row(index, "字" * generator.randint(45, 55), seconds=10.0, language="zh") for index in range(50, 100)]
    few = [row(index, "a" * index, language="xx") for index in range(101, 105)]
    assert stats.speaking_rates(english + chinese + few)["outliers"] == []
    unusual = [row("fast", "a" * 300, seconds=7.0, language="en"), row("slow", "a" * 20, seconds=7.0, language="en")]
    unusual += [row("english", "a" * 140, seconds=10.0, language="zh")]  # usual for English
    rates = stats.speaking_rates(english + chinese + few + unusual)
    assert {each["id"] for each in rates["outliers"]} == {"fast", "slow", "english"}
    assert [each["judged"] for each in rates["languages"]] == [True, True, False]
    fast = next(each for each in rates["outliers"] if each["id"] == "fast")
    english_rates = rates["languages"][0]
    assert fast["deviations"] == pytest.approx((300 / 7 - english_rates["median"]) / english_rates["deviation"])
    alike = stats.speaking_rates([row(index) for index in range(20)] + [row("other", "Some.")])
    assert alike["outliers"] == [] and not alike["languages"][0]["judged"]


def test_invisible_characters_are_listed_and_rare_ones_from_1000_rows():
    texts = ["plain", "tab\tzero\u200b", "\ue000", "lost \ufffd", "line\nline"]
    kinds = {each["code"]: each["kind"] for each in stats.unusual_characters(texts)}
    assert kinds == {"U+0009": "control", "U+200B": "format", "U+E000": "private use", "U+FFFD": "lost in decoding"}
    rare = stats.unusual_characters(["plain"] * 1000 + ["đ"] + ["é"] * 2)
    assert [(each["name"], each["rows"]) for each in rare] == [("LATIN SMALL LETTER D WITH STROKE", 1)]
    assert stats.unusual_characters(["plain"] * 999 + ["đ"]) == []


def test_filters_count_rejects_by_code():
    none = Reject(RejectCode.NO_REFERENCE, "ref_audio", "max_seconds is 5", task="zero_shot_voice_cloning")
    rejects = [Reject(RejectCode.TOO_SHORT, "audio", "0.05 s"), Reject(RejectCode.TOO_LONG, "dialogue", "40.00 s")]
    rejects += [Reject(RejectCode.SILENT, "audio", "record it again"), none, none]
    config = encode_config("f", codec_name_or_path="none", tasks={"zero_shot_voice_cloning": 1.0})
    dropped = stats.dropped_by_filters(rejects, {"a": 3, "b": 4}, config)
    assert [(each["filter"], each["rows"]) for each in dropped] == [
        ("min_seconds", 1),
        ("max_seconds", 1),
        ("max_chars_per_second", 0),
        ("ref_min_seconds, ref_max_seconds", 2),
        ("weights of sources", 7),
    ]
    groups = stats.rejects_by_category(rejects * 4)
    assert [(each["reason"], each["rows"], len(each["first"])) for each in groups] == [
        ("zero_shot_voice_cloning: no reference", 8, stats.FIRST),
        ("recording too short", 4, 4),
        ("dialogue too long", 4, 4),
        ("recording silent", 4, 4),
    ]
    assert groups[1]["first"][0] == {"reason": "recording too short: 0.05 s", "code": "too_short"}


def test_positions_equal_those_of_the_collator():
    tokenizer = load_tiny()[1]
    config = HiggsAudioV2Config.from_pretrained(tiny_folder() / "model")
    for made in random_rows(4):
        clips = [*made["ref_codes"], made["codes"]]
        taken = stats.positions(made | {"clips": [Clip(len(codes) / 25, "hash") for codes in clips]})
        sample = build_sample(made, tokenizer)
        num_positions = HiggsCollator(config)([sample])["input_ids"].shape[1]
        assert taken["codes"] == sum(len(codes) + 9 for codes in clips)
        assert taken["codes"] + len(sample["input_ids"]) - len(clips) == num_positions
        assert taken["text"] <= num_positions - taken["codes"]  # the tiny tokenizer gives more tokens


def test_special_tokens_are_counted_and_text_is_estimated():
    turns = conversation({"text": "é" * 40, "audio": "a.wav"}, task="single_speaker_smart_voice")
    taken = stats.positions({"messages": json.dumps(turns), "clips": [Clip(10.0, "hash")]})
    num_bytes = len("Generate audio following instruction.") + 80
    assert taken == {"codes": 259, "text": 1 + 3 * 5 + 2 + -(-num_bytes // 4), "text_at_most": 18 + num_bytes}


def test_an_epoch_is_packed_as_in_voice_lora(monkeypatch):
    recipe = yaml.safe_load((ROOT / "recipes/higgs-3b/voice_lora.yaml").read_text(encoding="utf-8"))
    assert recipe | stats.VOICE_LORA == recipe and recipe["fill_rows"]
    assert {name: recipe[name] for name in SETTINGS if name in recipe} == {
        name: value for name, value in (SETTINGS | stats.VOICE_LORA).items() if name in recipe
    }
    monkeypatch.setattr("higgs_recipes.configs.measured_speeds.SPEEDS", ())
    unmeasured = stats.epoch([100] * 200)
    assert (unmeasured["pack_to"], unmeasured["steps"], unmeasured["seconds"]) == (8192, 3, None)
    speed = Speed(stats.VOICE_LORA, positions_per_second=1000.0, peak_gib=1.0, hardware="1 x Big", made_by="a program")
    monkeypatch.setattr("higgs_recipes.configs.measured_speeds.SPEEDS", (speed,))
    measured = {"positions_per_second": 1000.0, "seconds": 20.0, "hardware": "1 x Big"}
    assert stats.epoch([100] * 200) == unmeasured | measured
