import json
import re
import runpy
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import soundfile
import torch

from higgs_recipes.configs.corpus import EncodeConfig
from higgs_recipes.corpus.encode import encode_corpus
from higgs_recipes.corpus.report import check_corpus
from higgs_recipes.corpus.report_page import render_report
from higgs_recipes.corpus.report_summary import findings, render_text
from higgs_recipes.errors import InputError
from tests.helpers.corpus_folder import encode_config, make_corpus, write_metadata, write_tone
from tests.helpers.paths import ROOT
from tests.helpers.tiny_codec import tone


EVIL = "<script>alert('x')</script>\u202e <img src=x onerror=alert(1)> {{ 7 * 7 }}"
NUM_GOOD = 40


def messy_corpus(folder):
    """40 rows of 0.4 to 0.48 s with 13 to 15 characters, and one row of each fault."""
    make_corpus(folder, NUM_GOOD)
    rows = [
        {"file_name": f"{index:02d}.wav", "text": f"Sentence {index:02d}{'.!?'[index % 3] * (index % 4)}."}
        | {"speaker": ("anna", "bert")[index % 2], "language": "en"}
        for index in range(NUM_GOOD)
    ]
    last = rows[-1]
    silence = torch.zeros(12_000)
    soundfile.write(folder / "clipped.wav", tone(0.5, loudness=3.0).clamp(-1, 1).numpy(), 24_000)
    soundfile.write(folder / "edge.wav", torch.cat([tone(0.5), silence, silence]).numpy(), 24_000)
    soundfile.write(folder / "silent.wav", silence.numpy(), 24_000)
    shutil.copy(folder / "00.wav", folder / "twin.wav")
    write_tone(folder / "low.wav", rate=16_000)
    write_tone(folder / "short.wav", seconds=0.05)
    write_tone(folder / "evil.wav", seconds=3.0)
    for name in ("fast", "nfd"):
        write_tone(folder / f"{name}.wav", hertz=1000.0 + len(name))
    rows += [last | {"file_name": f"{name}.wav", "text": f"Row {name} here"} for name in ("clipped", "low")]
    rows += [last | {"file_name": "edge.wav", "text": "A long silence follows these words of edge"}]
    rows += [last | {"file_name": f"{name}.wav", "text": f"Bad {name}."} for name in ("short", "silent", "gone")]
    rows += [
        last | {"file_name": "twin.wav", "text": "sentence 38", "speaker": "anna"}
    ]  # the audio of 00, the words of 38
    rows += [last | {"file_name": "fast.wav", "text": "Nobody speaks as fast."}]
    rows += [last | {"file_name": "nfd.wav", "text": "Etude, e\u0301tude\u200b."}]
    rows += [last | {"file_name": "evil.wav", "text": EVIL, "speaker": EVIL, "language": EVIL}]
    write_metadata(folder, rows)
    return folder


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """(record, folder of the report, recipe) of the messy corpus; the codec does not exist."""
    folder = tmp_path_factory.mktemp("check")
    config = encode_config(
        messy_corpus(folder / "clips"),
        codec_name_or_path="/no/codec",
        output_dir=str(folder / "codes"),
        cache_dir=str(folder / "cache"),
        max_chars_per_second=50.0,
        tasks={"single_speaker_smart_voice": 3, "zero_shot_voice_cloning": 1},
        ref_min_seconds=0.3,
        test_size=5,
        dry_run=True,
    )
    record, place = check_corpus(config)
    return record, place, config


def test_the_check_needs_no_codec_and_writes_only_its_report(checked):
    _, place, config = checked
    folder = Path(config.output_dir).parent
    assert sorted(path.name for path in folder.iterdir()) == ["clips", "codes-check"]
    assert place == folder / "codes-check"
    assert sorted(path.name for path in place.iterdir()) == ["corpus_report.html", "corpus_report.json"]


def test_the_json_file_equals_the_record_and_has_no_paths_of_this_machine(checked):
    record, place, config = checked
    text = (place / "corpus_report.json").read_text(encoding="utf-8")
    assert json.loads(text) == json.loads(json.dumps(record))
    assert str(Path(config.output_dir).parent) not in text + (place / "corpus_report.html").read_text(encoding="utf-8")


def test_rejects_are_counted_by_category_with_the_first_of_each(checked):
    record, _, _ = checked
    assert (record["read"], record["kept"]) == (50, 47)
    counts = {group["reason"]: group["rows"] for group in record["rejects"]}
    evil = "zero_shot_voice_cloning: no reference"  # the speaker with one clip, if its task is cloning
    assert {name: count for name, count in counts.items() if name != evil} == {
        "recording too short": 1,
        "recording silent": 1,
        "recording cannot be read": 1,
    }
    short = next(group for group in record["rejects"] if group["reason"] == "recording too short")
    assert [(each["file"], each["row"], each["id"]) for each in short["first"]] == [("clips:train", 43, "short")]
    assert {each["filter"]: each["rows"] for each in record["filters"]}["min_seconds"] == 1


def test_speakers_languages_and_audio_are_measured(checked):
    record, _, _ = checked
    assert {size["name"]: size["rows"] for size in record["speakers"]} == {"bert": 25, "anna": 21, EVIL: 1}
    assert record["seconds"] == pytest.approx(sum(size["seconds"] for size in record["speakers"]))
    assert {size["name"]: size["rows"] for size in record["languages"]} == {"en": 46, EVIL: 1}
    assert record["sample_rates"] == [{"rate": 16_000, "rows": 1}, {"rate": 24_000, "rows": 46}]
    assert (record["durations"]["least"], record["durations"]["most"]) == (0.4, 3.0)
    assert sum(record["durations"]["histogram"]["counts"]) == 47
    (clipped,) = record["clipped"]
    assert clipped["id"] == "clipped" and clipped["samples"] == pytest.approx(12_000 * 0.784, rel=0.05)
    assert record["silent_edges"] == [{"id": "edge", "start": 0.0, "end": 1.0}]
    assert record["same_sound"] == [["00", "twin"]]


def test_texts_are_measured(checked):
    record, _, _ = checked
    assert record["same_text"] == record["same_text_and_speaker"] == [["38", "twin"]]
    assert [each["id"] for each in record["speaking_rates"]["outliers"]] == ["fast"]
    assert record["not_composed"] == ["nfd"]
    unusual = {each["code"]: (each["kind"], each["rows"]) for each in record["unusual_characters"]}
    assert unusual == {"U+200B": ("format", 1), "U+202E": ("format", 1)}
    assert record["text_lengths"]["least"] == len("sentence 38.")


def test_shares_of_tasks_and_positions_are_those_of_the_splits(checked):
    record, _, _ = checked
    assert record["tasks"] == {"single_speaker_smart_voice": 0.75, "zero_shot_voice_cloning": 0.25}
    train, test = record["splits"]["train"], record["splits"]["test"]
    assert train["tasks"]["zero_shot_voice_cloning"] / train["rows"] == pytest.approx(0.25, abs=0.04)
    by_task = record["rejected"] - 3
    assert train["rows"] + test["rows"] == 47 - by_task
    positions = train["positions"]
    assert positions["codes"] > train["seconds"] * 25 + 9 * train["rows"]  # the references too
    assert positions["text"] < positions["text_at_most"]
    assert sum(train["tasks"].values()) == train["rows"]
    assert train["epoch"]["steps"] == -(-(positions["codes"] + positions["text"]) // 8192)


def test_encode_makes_the_rows_that_the_check_counts(tmp_path):
    make_corpus(tmp_path / "clips", 12)
    tasks = {"single_speaker_smart_voice": 1.0, "multi_speaker_smart_voice": 1.0}
    config = encode_config(
        tmp_path / "clips", tasks=tasks, output_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "c"), test_size=4
    )
    record, _ = check_corpus(config)
    encoded = json.loads((encode_corpus(config) / "corpus.json").read_text(encoding="utf-8"))
    for split, made in encoded["splits"].items():
        checked = record["splits"][split]
        assert (checked["rows"], checked["tasks"]) == (made["rows"], made["tasks"])
        assert checked["seconds"] == pytest.approx(made["seconds"], abs=0.01)
    assert encoded["rejects"] == {group["reason"]: group["rows"] for group in record["rejects"]}


def test_tasks_of_rows_and_cut_dialogues_are_counted(tmp_path):
    make_corpus(tmp_path / "clips", 6)
    turns = [
        {"speaker": ("carl", "dora")[index % 2], "text": f"Turn {index}", "audio": f"0{index}.wav"}
        for index in range(4)
    ]
    rows = [{"file_name": f"0{index}.wav", "text": f"Words {index}.", "speaker": "anna"} for index in range(6)]
    rows[0]["task"] = "zero_shot_voice_cloning"
    (tmp_path / "clips/metadata.csv").unlink()
    lines = [json.dumps(row) + "\n" for row in (*rows, {"id": "talk", "turns": turns})]
    (tmp_path / "clips/metadata.jsonl").write_text("".join(lines))
    fields = {"too_long": "cut_at_turn", "max_seconds": 1.0, "ref_min_seconds": 0.3, "test_size": 0}
    fields |= {"dialogue_gap_seconds": [0.0, 0.0], "output_dir": str(tmp_path / "out")}
    tasks = {"single_speaker_smart_voice": 1.0, "multi_speaker_smart_voice": 0.001}
    record, place = check_corpus(encode_config(tmp_path / "clips", tasks=tasks, **fields))
    train = record["splits"]["train"]
    assert train["tasks"] == {
        "zero_shot_voice_cloning": 1,
        "single_speaker_smart_voice": 5,
        "multi_speaker_smart_voice": 2,
    }
    assert train["cut_at_turn"] == {"dialogues": 1, "pieces": 2}
    assert "train: 1 dialogue cut at turns into 2" in render_text(record).splitlines()
    page = Page((place / "corpus_report.html").read_text(encoding="utf-8")).text
    assert "1 dialogue cut at turns into 2" in page and "only rows that name it" in page


def test_the_summary_has_filters_and_lengths(checked):
    record, _, _ = checked
    lines = {line.partition(": ")[0]: line.partition(": ")[2] for line in render_text(record).splitlines()}
    assert "filter: min_seconds (0.3) removes 1 row" in render_text(record).splitlines()
    assert re.fullmatch(r"\[█[ ▁-█]*▁\] from 0\.4 to 3\.0 s", lines["lengths"])


class Page(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, text):
        self.text += text


def test_the_page_escapes_untrusted_text_and_loads_nothing(checked):
    record, place, _ = checked
    source = (place / "corpus_report.html").read_text(encoding="utf-8")
    page = Page(source)
    names = {tag for tag, _ in page.tags}
    assert not {"script", "img", "link", "iframe", "object", "base"} & names
    attributes = [name for _, each in page.tags for name in each]
    assert not [name for name in attributes if name.startswith("on")]
    assert all(each["href"].startswith("#") for _, each in page.tags if "href" in each)
    assert "<script>alert('x')</script>\\u202e" in page.text and "{{ 7 * 7 }}" in page.text
    assert "\u202e" not in source and "\u200b" not in source
    ids = [each["id"] for _, each in page.tags if "id" in each]
    assert len(ids) == len(set(ids)) and {each["href"][1:] for _, each in page.tags if "href" in each} == set(ids)
    assert len([each for tag, each in page.tags if tag == "svg" and each["role"] == "img"]) == 4
    assert "it can represent any character" in page.text and " of 8,192 with voice_lora.yaml; " in page.text


def test_problems_come_first_and_control_characters_are_escaped(checked):
    record, _, _ = checked
    found = "\n".join(findings(record))
    for message in (
        "3 rows: rejected by the checks",
        "1 row: clipped",
        "1 row: more than 0.5 s of silence at an end, 1.0 s in total",
        "1 row: sample rate below 24,000 Hz",
        "1 row: same audio as an earlier row",
        "1 row: same words as another row of the same speaker",
        "1 row: unusual speaking rate",
        "1 row: text not in Unicode NFC",
        "invisible characters: 2 format",
    ):
        assert message in found, message
    text = render_text(record | {"languages": [{"name": "\x1b[2J\r", "rows": 1, "seconds": 1.0}]})
    assert "\\u001b[2J\\u000d" in text and not {"\x1b", "\r", "\u202e"} & set(text)
    assert "47 of 50 rows pass the checks" in text.splitlines()[0] and " of 8,192 with voice_lora.yaml; " in text


def test_a_clean_corpus_has_no_problems(tmp_path):
    make_corpus(tmp_path / "clips", 8)
    config = encode_config(tmp_path / "clips", output_dir=str(tmp_path / "out"))
    record, _ = check_corpus(config)
    assert findings(record) == [] and "No problems found." in Page(render_report(record)).text


def test_a_lone_surrogate_does_not_break_the_report(tmp_path):
    write_tone(tmp_path / "clips/a.wav", seconds=1.0)
    row = '{"file_name": "a.wav", "id": "%s", "text": "Half%s.", "speaker": "%s"}\n'
    rows = [row % ("good", "", ""), row % ("text", "\\ud83d", ""), row % ("speaker", "", "\\ud83d")]
    (tmp_path / "clips/metadata.jsonl").write_text("".join(rows))
    config = encode_config(tmp_path / "clips", output_dir=str(tmp_path / "out"), test_size=0)
    record, place = check_corpus(config)
    (group,) = record["rejects"]
    assert (group["reason"], group["rows"]) == ("invalid Unicode", 2)
    assert group["first"][0]["reason"] == "invalid Unicode: '\\ud83d' in text; correct the text or remove the row"
    assert "\\ud83d" in (place / "corpus_report.html").read_text(encoding="utf-8")
    assert render_text(record).encode()


def test_a_corpus_without_a_valid_row_is_refused_with_its_reasons(tmp_path):
    write_tone(tmp_path / "clips/a.wav", seconds=0.05)
    write_metadata(tmp_path / "clips", [{"file_name": "a.wav", "text": "Short."}])
    with pytest.raises(InputError, match="none of 1 rows passes the checks: {'recording too short': 1}"):
        check_corpus(encode_config(tmp_path / "clips", output_dir=str(tmp_path / "out")))
    assert [path.name for path in tmp_path.iterdir()] == ["clips"]


def test_a_report_can_be_made_again(tmp_path):
    config = EncodeConfig(sources=[str(make_corpus(tmp_path / "clips"))], output_dir=f"{tmp_path}/out/", test_size=2)
    assert check_corpus(config)[1] == check_corpus(config)[1] == tmp_path / "out-check"


def test_the_script_prints_the_summary_and_pushes_nothing(tmp_path, monkeypatch, capsys):
    make_corpus(tmp_path / "clips")
    script = ROOT / "scripts/encode.py"
    flags = ["--sources", tmp_path / "clips", "--output_dir", tmp_path / "out", "--test_size", 2, "--dry_run"]
    monkeypatch.setattr(sys, "argv", list(map(str, [script, *flags, "--push_to_hub"])))
    runpy.run_path(str(script), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("6 of 6 rows pass the checks") and lines[-1].endswith("out-check/corpus_report.html")
    assert len(lines) < 20 and not (tmp_path / "out").exists()
