import json
import re
from html.parser import HTMLParser

import pytest
import torch

from higgs_recipes.audio.io import read_audio
from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.report import MAX_PLAYED_TEXTS, render_markdown, write_report
from higgs_recipes.metrics_schema import SYSTEMS
from higgs_recipes.output_folder import FILE_LIST
from tests.helpers.evaluation_record import RUN, metrics, two_speaker_metrics, waveforms, without_interval


EVIL = "<script>alert('x')</script> [link](javascript:alert(1)) | `code` <img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """The tags of a page with their attributes, its text, and its ids."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, text: str) -> None:
        self.text += text


def write(tmp_path, record: dict, *, run: dict | None = RUN, num_clips: int = 2) -> tuple[Page, str]:
    write_report(record, waveforms(num_clips), run=run, output_dir=tmp_path / "report")
    page = (tmp_path / "report/report.html").read_text(encoding="utf-8")
    return Page(page), page


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Page, str]:
    """The page of a report on one speaker, for the tests that only read it."""
    return write(tmp_path_factory.mktemp("one"), metrics())


def test_the_folder_has_metrics_reports_and_samples(tmp_path):
    write(tmp_path, metrics())
    folder = tmp_path / "report"
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8")) == metrics()
    names = sorted(path.name for path in folder.iterdir())
    assert names == [FILE_LIST, "metrics.json", "report.html", "report.md", "samples"]
    assert len(list((folder / "samples").iterdir())) == 8
    waveform = read_audio(folder / "samples/0001_base.wav", name="base")
    torch.testing.assert_close(waveform, waveforms()["base"][1], atol=1e-4, rtol=0)


def test_the_page_loads_nothing_from_outside(written):
    page, source = written
    loaded = [
        attributes[name] for _, attributes in page.tags for name in ("src", "href", "xlink:href") if name in attributes
    ]
    assert loaded and all(link.startswith(("data:audio/wav;base64,", "#")) for link in loaded)
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    assert "@import" not in source and not re.search(r"url\((?!#)", source)


def test_every_system_of_every_text_has_a_player_and_its_scores(written):
    page, _ = written
    players = [attributes for tag, attributes in page.tags if tag == "audio"]
    assert len(players) == 2 * len(SYSTEMS)
    assert all(player["aria-label"].endswith("Hello there.") and "controls" in player for player in players)
    assert page.text.count("WER 0\u00a0%") == 2 * len(SYSTEMS)


def test_untrusted_text_is_escaped(tmp_path):
    page, _ = write(
        tmp_path, metrics(text=EVIL, adapter=EVIL, dataset=EVIL, hardware=EVIL), run=RUN | {"method": EVIL}
    )
    assert not [tag for tag, _ in page.tags if tag in ("script", "img")]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert page.text.count("<script>alert('x')</script>") >= 5
    markdown = (tmp_path / "report/report.md").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)<(script|img)", markdown) and not re.search(r"(?<!\\)\[link", markdown)


def test_words_that_differ_from_the_text_are_marked(tmp_path):
    record = metrics(1, text="The birch canoe slid.")
    record["clips"][0]["base"]["transcript"] = "the Birch can use slid"
    _, source = write(tmp_path, record, num_clips=1)
    assert re.findall(r"<mark>(.*?)</mark>", source) == ["can", "use"]


def marked(tmp_path, text: str, transcript: str, *, unit: str) -> str:
    """The transcript of the base model in the page, with the marks."""
    languages = {"en": {"normalizer": "words", "unit": unit, "n": 1}}
    record = metrics(1, text=text, languages=languages)
    record["clips"][0]["base"]["transcript"] = transcript
    _, source = write(tmp_path, record, num_clips=1)
    clip = source[source.index('<div class="clip base">') :]
    return re.search(r"</audio>\s*<p>\s*(.*?)\s*</p>", clip, re.DOTALL)[1]


def test_languages_without_spaces_are_marked_by_character(tmp_path):
    assert marked(tmp_path, "今天，天气很好。", "今天天七很好！", unit="character") == "今天天<mark>七</mark>很好！"


def test_vowel_and_tone_marks_are_part_of_a_word(tmp_path):
    hindi = marked(tmp_path / "hi", "राम की बात।", "राम का बात", unit="word")
    assert hindi == "राम <mark>का</mark> बात"
    vietnamese = marked(tmp_path / "vi", "Ma má mà.", "ma má mã", unit="word")
    assert vietnamese == "ma má <mark>mã</mark>"


def test_both_reports_warn_of_an_untrained_base(tmp_path):
    page, _ = write(tmp_path, metrics(untrained_base=True))
    assert "The base model is untrained: its weights are random" in page.text
    assert "The base model is untrained" in render_markdown(metrics(untrained_base=True))
    assert "untrained" not in render_markdown(metrics())


def test_both_reports_warn_of_texts_that_the_model_was_trained_on(tmp_path):
    record = metrics(held_out=False, shared_with_train=2, split="train")
    page, _ = write(tmp_path, record)
    for text in (page.text, render_markdown(record)):
        assert "The model was trained on these texts: split train of me/corpus is part of its training data" in text
        assert "held-out texts" not in text and "held-out recordings" not in text
    shared = render_markdown(metrics(shared_with_train=1))
    assert "1 of these 2 recordings are also in the train split of me/corpus" in shared
    assert "held-out texts" not in shared
    unknown = render_markdown(metrics(held_out=None, shared_with_train=None))
    assert "Word error rate on 2 texts" in unknown and "trained on" not in unknown
    assert "trained on" not in render_markdown(metrics())


def test_both_reports_state_the_unit_of_each_language(tmp_path):
    zh = {"normalizer": "characters_simplified", "unit": "character", "n": 2}
    page, _ = write(tmp_path, metrics(languages={"zh": zh}))
    for text in (page.text, render_markdown(metrics(languages={"zh": zh})).replace("\\", "")):
        assert "Character error rate on 2 held-out texts" in text
        assert "WER counts characters, not words, in zh." in text
        assert "zh (2 texts, in characters, normalizer characters_simplified)" in text
    mixed = render_markdown(metrics(languages={"en": zh | {"unit": "word"}, "zh": zh}))
    assert "Error rate, in words or characters by language, on 2" in mixed and "mixes two units" in mixed


def test_scores_of_few_clips_show_why_they_have_no_interval(tmp_path):
    record = metrics()
    for scores in record["rows"].values():
        scores["wer"] = without_interval(0.125, n=2)
    page, source = write(tmp_path, record)
    reason = "n=2, no interval: too few: 2, an interval needs 10"
    assert page.text.count(reason) == len(SYSTEMS) and reason in render_markdown(record)
    assert source.count('class="range"') == len(SYSTEMS) + 4  # of CER, and two scores of the generated clips


def test_both_reports_name_models_data_and_settings(written):
    page, _ = written
    markdown = render_markdown(metrics()).replace("\\", "")
    for fact in (
        "protocol of the test",
        "openai/whisper-large-v3 @ asr123, greedy",
        "en (2 texts, in words, normalizer whisper_en)",
        "Word error rate on 2 held-out texts",
        "package:resemblyzer @ Resemblyzer 0.1.4, score ge2e_cosine",
        "2 scored, 1 skipped",
        "0 to 1, one for each text",
        "me/corpus, split test",
        "1 x NVIDIA H100",
        "fedcba",
        "torch 2.14.1",
        "never the row's own",
    ):
        assert fact in page.text, fact
        assert fact in markdown, fact
    assert "bootstrap" not in page.text and "bootstrap" not in markdown
    assert "12.5\u00a0%" in page.text and "6.2 to 18.8\u00a0%, n=2" in page.text


def test_a_missing_score_is_not_shown_as_a_number(written, tmp_path):
    page, _ = written
    assert page.text.count("not measured") == len(SYSTEMS)  # similarity
    assert not re.search(r"\b(None|nan)\b", page.text)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report(metrics(n=float("nan")), waveforms(), run=None, output_dir=tmp_path / "nan")
    assert not (tmp_path / "nan").exists()


def test_many_texts_play_from_the_samples_folder(tmp_path):
    num_clips = MAX_PLAYED_TEXTS + 1
    page, _ = write(tmp_path, metrics(num_clips), num_clips=num_clips)
    players = [attributes["src"] for tag, attributes in page.tags if tag == "audio"]
    assert sum(source.startswith("data:") for source in players) == MAX_PLAYED_TEXTS * len(SYSTEMS)
    assert players[-1] == f"samples/{MAX_PLAYED_TEXTS:04d}_finetuned.wav"
    assert f"The audio of the first {MAX_PLAYED_TEXTS} texts is in this page" in page.text


def test_training_curves_are_in_the_page_with_unique_ids(written):
    page, source = written
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert [drawing["role"] for drawing in drawings] == ["img"] * 4
    assert "training 7 to 0.35" in drawings[0]["aria-label"] and "held-out 0.5 to 0.5" in drawings[0]["aria-label"]
    assert "codebook 7 13 to 0.65" in drawings[1]["aria-label"]
    assert "var(--c7)" in source and "#0708" not in source and "#010203" not in source
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_without_run_json_there_are_no_curves(tmp_path):
    page, _ = write(tmp_path, metrics(), run=None)
    assert "No training curves" in page.text
    assert not [tag for tag, _ in page.tags if tag == "svg"]


def test_a_folder_that_is_not_empty_is_kept(tmp_path):
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(InputError, match="not empty.*--overwrite_output_dir"):
        write_report(metrics(), waveforms(), run=None, output_dir=tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "notes"


def test_markdown_tables_have_equal_rows(tmp_path):
    lines = render_markdown(metrics(text="a | b")).splitlines()
    head = next(index for index, line in enumerate(lines) if line.startswith("| system"))
    assert {line.count("|") for line in lines[head : head + 6]} == {7}
    assert "### a \\| b" in lines


def test_several_speakers_have_a_table_with_a_line_per_system(tmp_path):
    page, source = write(tmp_path, two_speaker_metrics())
    groups = [attributes for tag, attributes in page.tags if tag == "th" and attributes["scope"] == "rowgroup"]
    assert [attributes["rowspan"] for attributes in groups] == ["4", "4"]
    assert "By speaker" in page.text and "By task" not in page.text and 'href="#by_speaker"' in source
    lines = (tmp_path / "report/report.md").read_text(encoding="utf-8").splitlines()
    table = lines[lines.index("## By speaker") + 2 :][:10]
    assert {line.count("|") for line in table} == {len("word cer sim stop dur near turn".split()) + 3}
    assert table[2].startswith("| heart | real recordings | 12.5") and table[9].startswith(
        "| rms | fine-tuned model |"
    )
    assert "100.0 % (50.0 to 150.0 %, n=2) | 75.0" in table[2]


def test_one_speaker_has_no_table_by_speaker_and_no_dialogue_columns(written):
    page, _ = written
    for words in ("By speaker", "By task", "nearest", "closest", "dialogue"):
        assert words not in page.text


def test_dialogue_turns_have_their_times_and_closest_speakers(tmp_path):
    page, _ = write(tmp_path, two_speaker_metrics())
    assert (
        "turn 1 (heart), 0.5 to 2.0 s, closest to rms; turn 2 (heart), 0.5 to 2.0 s, voice not compared; "
        "turn 3 not found; turn 4 has no words"
    ) in page.text
    assert "A dialogue has no similarity as a whole: its turns are compared" in page.text


def test_speaker_names_are_escaped(tmp_path):
    page, _ = write(tmp_path, two_speaker_metrics(speaker=EVIL))
    assert not [tag for tag, _ in page.tags if tag in ("script", "img")]
    markdown = (tmp_path / "report/report.md").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)<(script|img)", markdown) and not re.search(r"(?<!\\)\[link", markdown)
