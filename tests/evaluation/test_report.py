import json
import re
from html.parser import HTMLParser

import pytest
import torch
from torch import Tensor

from higgs_recipes.audio.io import read_audio
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.plots import training_plots
from higgs_recipes.evaluation.report import MAX_PLAYED_TEXTS, render_markdown, write_report


ROWS = ("real", "codec", "base", "finetuned")
EVIL = "<script>alert('x')</script> [link](javascript:alert(1)) | `code` <img src=x onerror=alert(1)>"
RUN = {
    "method": "lora",
    "steps": 20,
    "hardware": "CPU x86_64, 2 threads",
    "git_commit": "abc",
    "log_history": [
        {"step": step, "loss": 7.0 / step, "loss_text": 1.0 / step, "eos_accuracy": step / 20, "eos_loss": 2.0 / step}
        | {f"loss_codebook_{index}": (6.0 + index) / step for index in range(8)}
        for step in range(1, 21)
    ]
    + [{"step": 20, "eval_loss": 0.5}],
}


def score(value: float | None, *, n: int) -> dict:
    spread = {"low": None, "high": None} if value is None else {"low": value * 0.5, "high": value * 1.5}
    return {"value": value, "n": n, "skipped": 0} | spread


def metrics(num_clips: int = 2, *, text: str = "Hello there.", **changes) -> dict:
    rows = {
        name: {"wer": score(0.125, n=num_clips), "cer": score(0.0625, n=num_clips), "similarity": score(None, n=0)}
        for name in ROWS
    }
    for name in ("base", "finetuned"):
        rows[name] |= {"stop_rate": score(0.5, n=num_clips), "duration_ratio": score(1.25, n=num_clips)}
    clips = [
        {"id": f"row{index}", "text": text, "speaker": "heart", "seed": index}
        | {
            name: {
                "wav": f"samples/{index:04d}_{name}.wav",
                "transcript": text,
                "wer": 0.0,
                "similarity": 0.875,
                "nearest_speaker": None,
                "turns": [],
                "stopped": None if name in ("real", "codec") else True,
                "seconds": 0.1,
            }
            for name in ROWS
        }
        for index in range(num_clips)
    ]
    return {
        "rows": rows,
        "by_speaker": {},
        "by_task": {},
        "n": num_clips,
        "skipped": 1,
        "clips": clips,
        "protocol": "protocol of the test",
        "asr": "openai/whisper-large-v3",
        "asr_revision": "asr123",
        "asr_language": "en",
        "speaker": "package:resemblyzer",
        "speaker_revision": "Resemblyzer 0.1.4",
        "speaker_score": "ge2e_cosine",
        "normalizer": "basic",
        "seeds": "0 to 1, one for each text",
        "dataset": "me/corpus",
        "dataset_revision": None,
        "split": "test",
        "codec": "local@0123",
        "base_model": "model",
        "base_revision": None,
        "adapter": "voice",
        "adapter_revision": None,
        "untrained_base": False,
        "git_commit": "fedcba",
        "hardware": "1 x NVIDIA H100",
        "versions": {"torch": "2.14.1", "deepspeed": None},
    } | changes


def waveforms(num_clips: int = 2) -> dict[str, list[Tensor]]:
    tone = 0.5 * torch.sin(torch.arange(SAMPLE_RATE // 10) / 10)
    return {name: [tone for _ in range(num_clips)] for name in ROWS}


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
    """The report of one speaker, for the tests that only read its page."""
    return write(tmp_path_factory.mktemp("one"), metrics())


def test_the_folder_holds_the_record_the_reports_and_the_sounds(tmp_path):
    write(tmp_path, metrics())
    folder = tmp_path / "report"
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8")) == metrics()
    assert sorted(path.name for path in folder.iterdir()) == ["metrics.json", "report.html", "report.md", "samples"]
    assert len(list((folder / "samples").iterdir())) == 8
    waveform = read_audio(folder / "samples/0001_base.wav", name="base")
    torch.testing.assert_close(waveform, waveforms()["base"][1], atol=1e-4, rtol=0)


def test_the_page_needs_nothing_outside_itself(written):
    page, source = written
    loaded = [
        attributes[name] for _, attributes in page.tags for name in ("src", "href", "xlink:href") if name in attributes
    ]
    assert loaded and all(link.startswith(("data:audio/wav;base64,", "#")) for link in loaded)
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    assert "@import" not in source and not re.search(r"url\((?!#)", source)


def test_every_row_of_every_text_has_a_player_and_what_was_heard(written):
    page, _ = written
    players = [attributes for tag, attributes in page.tags if tag == "audio"]
    assert len(players) == 2 * len(ROWS)
    assert all(player["aria-label"].endswith("Hello there.") and "controls" in player for player in players)
    assert page.text.count("WER 0\u00a0%") == 2 * len(ROWS)


def test_text_from_outside_cannot_become_markup(tmp_path):
    page, _ = write(
        tmp_path, metrics(text=EVIL, adapter=EVIL, dataset=EVIL, hardware=EVIL), run=RUN | {"method": EVIL}
    )
    assert not [tag for tag, _ in page.tags if tag in ("script", "img")]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert page.text.count("<script>alert('x')</script>") >= 5
    markdown = (tmp_path / "report/report.md").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)<(script|img)", markdown) and not re.search(r"(?<!\\)\[link", markdown)


def test_words_that_are_out_of_place_are_marked(tmp_path):
    record = metrics(1, text="The birch canoe slid.")
    record["clips"][0]["base"]["transcript"] = "the Birch can use slid"
    _, source = write(tmp_path, record, num_clips=1)
    assert re.findall(r"<mark>(.*?)</mark>", source) == ["can", "use"]


def test_an_untrained_base_is_said_plainly(tmp_path):
    page, _ = write(tmp_path, metrics(untrained_base=True))
    assert "The base model is untrained: its weights are random" in page.text
    assert "The base model is untrained" in render_markdown(metrics(untrained_base=True))
    assert "untrained" not in render_markdown(metrics())


def test_the_reports_name_what_the_numbers_rest_on(written):
    page, _ = written
    markdown = render_markdown(metrics()).replace("\\", "")
    for fact in (
        "protocol of the test",
        "openai/whisper-large-v3 @ asr123, greedy, language en",
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
    assert "12.5\u00a0%" in page.text and "6.2 to 18.8\u00a0%, n=2" in page.text


def test_a_score_that_nobody_has_is_not_a_number(written, tmp_path):
    page, _ = written
    assert page.text.count("not measured") == len(ROWS)  # similarity
    assert not re.search(r"\b(None|nan)\b", page.text)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report(metrics(n=float("nan")), waveforms(), run=None, output_dir=tmp_path / "nan")
    assert not (tmp_path / "nan").exists()


def test_many_texts_play_from_the_samples_folder(tmp_path):
    num_clips = MAX_PLAYED_TEXTS + 1
    page, _ = write(tmp_path, metrics(num_clips), num_clips=num_clips)
    players = [attributes["src"] for tag, attributes in page.tags if tag == "audio"]
    assert sum(source.startswith("data:") for source in players) == MAX_PLAYED_TEXTS * len(ROWS)
    assert players[-1] == f"samples/{MAX_PLAYED_TEXTS:04d}_finetuned.wav"
    assert f"The first {MAX_PLAYED_TEXTS} texts play from this page itself" in page.text


def test_the_curves_of_the_run_are_drawn_in_the_pages_colours_and_described(written):
    page, source = written
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert [drawing["role"] for drawing in drawings] == ["img"] * 4
    assert "training 7 to 0.35" in drawings[0]["aria-label"] and "held-out 0.5 to 0.5" in drawings[0]["aria-label"]
    assert "codebook 7 13 to 0.65" in drawings[1]["aria-label"]
    assert "var(--c7)" in source and "#0708" not in source and "#010203" not in source
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_without_a_run_the_page_says_that_there_are_no_curves(tmp_path):
    page, _ = write(tmp_path, metrics(), run=None)
    assert "There are no training curves" in page.text
    assert not [tag for tag, _ in page.tags if tag == "svg"]


def test_a_curve_that_was_not_logged_is_left_out():
    (plot,) = training_plots([{"step": 1, "loss": 2.0, "loss_text": float("nan")}, {"step": 2, "loss": 1.0}])
    assert plot["caption"] == "Loss, steps 1 to 2: training 2 to 1."


def test_a_folder_in_use_is_kept(tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(InputError, match="not empty.*--overwrite_output_dir"):
        write_report(metrics(), waveforms(), run=None, output_dir=tmp_path)
    assert (tmp_path / "mine").read_text() == "mine"


def test_markdown_keeps_its_table(tmp_path):
    lines = render_markdown(metrics(text="a | b")).splitlines()
    head = next(index for index, line in enumerate(lines) if line.startswith("| row"))
    assert {line.count("|") for line in lines[head : head + 6]} == {7}
    assert "### a \\| b" in lines


def many_speakers(*, speaker: str = "heart") -> dict:
    """Two speakers and a dialogue between them."""
    record = metrics(by_task={})
    record["rows"]["real"] |= {"nearest_speaker": score(1.0, n=2), "turn_voice": score(0.75, n=4)}
    record["by_speaker"] = dict.fromkeys((speaker, "rms"), record["rows"])
    found = {"speaker": speaker, "span": [0.5, 2.0], "nearest_speaker": "rms"}
    record["clips"][1]["base"]["turns"] = [found, found | {"nearest_speaker": None}, found | {"span": None}]
    return record


def test_several_speakers_have_a_table_with_a_line_for_each_row_of_the_report(tmp_path):
    page, source = write(tmp_path, many_speakers())
    groups = [attributes for tag, attributes in page.tags if tag == "th" and attributes["scope"] == "rowgroup"]
    assert [attributes["rowspan"] for attributes in groups] == ["4", "4"]
    assert "By speaker" in page.text and "By task" not in page.text and 'href="#by_speaker"' in source
    lines = (tmp_path / "report/report.md").read_text(encoding="utf-8").splitlines()
    table = lines[lines.index("## By speaker") + 2 :][:10]
    assert {line.count("|") for line in table} == {len("word cer sim stop dur near turn".split()) + 3}
    assert table[2].startswith("| heart | real recordings | 12.5") and table[9].startswith(
        "| rms | fine-tuned model |"
    )
    assert "100.0\u00a0% (50.0 to 150.0\u00a0%, n=2) | 75.0" in table[2]


def test_one_speaker_has_no_table_of_speakers_and_no_columns_of_dialogues(written):
    page, _ = written
    for words in ("By speaker", "By task", "nearest", "dialogue"):
        assert words not in page.text


def test_the_turns_of_a_dialogue_are_told_with_their_places_and_voices(tmp_path):
    page, _ = write(tmp_path, many_speakers())
    assert (
        "turn 1 of heart from 0.5 to 2.0 s, nearest to rms; turn 2 of heart from 0.5 to 2.0 s, voice not judged; "
        "turn 3 not found"
    ) in page.text
    assert "Of dialogues the turns have it" in page.text


def test_a_speakers_name_cannot_become_markup(tmp_path):
    page, _ = write(tmp_path, many_speakers(speaker=EVIL))
    assert not [tag for tag, _ in page.tags if tag in ("script", "img")]
    markdown = (tmp_path / "report/report.md").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)<(script|img)", markdown) and not re.search(r"(?<!\\)\[link", markdown)
