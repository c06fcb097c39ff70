import json
from collections import Counter
from pathlib import Path

import pytest

from higgs_recipes.audio.io import read_audio
from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.intervals import MIN_UTTERANCES
from higgs_recipes.evaluation.protocols.forgetting import read_probes
from higgs_recipes.evaluation.protocols.run import run_protocol
from higgs_recipes.evaluation.report import write_report
from tests.helpers.benchmark_run import RecordingsASRModel, benchmark_config, save_adapter
from tests.helpers.golden_wavlm import save_golden_port
from tests.helpers.paths import ROOT


PROBES = ROOT / "recipes/higgs-3b/forgetting_probes"


def config(folder: Path, **changes):
    fields = {"protocol": "forgetting", "dataset": str(PROBES), "max_seconds": 0.2, "batch_size": 20}
    return benchmark_config(folder, **fields | changes)


def test_the_probes_of_the_recipe_cover_what_the_base_could_do(tmp_path):
    texts, languages = read_probes(config(tmp_path, adapter="any"))
    counts = Counter(text.columns["ability"] for text in texts)
    assert list(counts) == [
        *("other languages", "other voices by reference", "dialogues", "dialogues with references", "event tags"),
    ]
    assert min(counts.values()) >= MIN_UTTERANCES  # so that each has an interval
    assert set(languages) == {"zh", "de", "es", "fr", "ko", "en"}
    assert {text.task for text in texts} == {
        *("single_speaker_smart_voice", "zero_shot_voice_cloning"),
        *("multi_speaker_smart_voice", "multi_speaker_voice_cloning"),
    }
    for clip in {clip for text in texts for clip in text.ref_audio}:
        assert 1.5 < len(read_audio(clip, name=clip.name)) / 24_000 < 5


def write_probes(folder: Path, *probes: dict | str) -> Path:
    folder.mkdir(exist_ok=True)
    lines = [probe if isinstance(probe, str) else json.dumps(probe) for probe in probes]
    (folder / "probes.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "joe.flac").write_bytes((PROBES / "joe.flac").read_bytes())
    return folder


REFERENCE = {"speaker_tag": "SPEAKER0", "ref_text": "A king ruled the state.", "ref_audio": "joe.flac"}


def test_each_ability_has_a_row_with_base_finetuned_and_their_difference(tmp_path, monkeypatch):
    monkeypatch.setattr("higgs_recipes.evaluation.models.load_asr_model", lambda name, **options: RecordingsASRModel())
    probes = [{"ability": "other languages", "language": "de", "text": f"Satz {index}."} for index in range(10)]
    probes += [{"ability": "voices", "text": f"Text {index}.", "ref_speakers": [REFERENCE]} for index in range(2)]
    folder = write_probes(tmp_path / "probes", *probes)
    adapter, speaker = save_adapter(tmp_path / "adapter", scale=0.5), save_golden_port(tmp_path / "speaker")
    evaluation = run_protocol(config(tmp_path, dataset=str(folder), adapter=str(adapter), speaker=str(speaker)))
    metrics = json.loads(json.dumps(evaluation.metrics, allow_nan=False))
    assert list(metrics["abilities"]) == ["other languages", "voices"]
    languages, voices = metrics["abilities"].values()
    assert languages["wer_macro"]["base"] == languages["wer_macro"]["finetuned"] == 1.0  # "noise" for every clip
    assert languages["wer_macro"]["n"] == 10 and languages["wer_macro"]["verdict"] == "no difference shown"
    assert "prompt_similarity" not in languages and voices["prompt_similarity"]["n"] == 2
    write_report(evaluation.metrics, evaluation.waveforms, run=None, output_dir=tmp_path / "report")
    markdown = (tmp_path / "report/report.md").read_text(encoding="utf-8").replace("\u00a0", " ")
    assert "## What the fine-tuning forgot" in markdown
    assert "| other languages | WER, mean over texts | 100.00 % | 100.00 % | +0.0 points | none" in markdown
    assert "## By ability" in markdown


@pytest.mark.parametrize(
    "probe, message",
    [
        ("{", "probes.jsonl, line 2: not a probe"),
        ("[" * 100_000, "line 2: not a probe"),
        ({"text": "a"}, "line 2: ability is None: .* a probe needs ability, text and, for cloning, ref_speakers"),
        ({"ability": "a", "text": " "}, "line 2: text is ' ': it must be text"),
        ({"ability": "a", "text": "b", "language": 5}, "line 2: language is 5"),
        ({"ability": "a", "text": "b", "ref_speakers": [{}]}, "line 2: ref_speakers.0.speaker_tag is None"),
        ({"ability": "a", "text": "b", "ref_speakers": [REFERENCE | {"ref_audio": "../x"}]}, "line 2: .*ref_audio is"),
        ({"ability": "a", "text": "b", "ref_speakers": [REFERENCE | {"ref_audio": 5}]}, "line 2: .*ref_audio is 5"),
        ({"ability": "a", "text": "b", "ref_speakers": [REFERENCE] * 2}, "line 2: ref_speakers has 2 entries for a"),
        ([1], "line 2: not a probe"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path, probe, message):
    folder = write_probes(tmp_path / "probes", {"ability": "a", "text": "b"}, probe)
    with pytest.raises(InputError, match=message):
        read_probes(config(tmp_path, dataset=str(folder)))


def test_lines_end_only_at_line_feeds_and_carriage_returns(tmp_path):
    texts = ["One\u2028two.", "Three\u0085four.", "Five."]
    lines = [json.dumps({"ability": "a", "text": text}, ensure_ascii=False) for text in texts]
    (tmp_path / "probes.jsonl").write_bytes("\ufeff".encode() + "\r\n".join(lines).encode())
    found, _ = read_probes(config(tmp_path, dataset=str(tmp_path)))
    assert [text.text for text in found] == texts
    (tmp_path / "probes.jsonl").write_bytes(lines[2].encode() + b"\n\xff\n")
    with pytest.raises(InputError, match="probes.jsonl, line 2: not a probe .not UTF-8"):
        read_probes(config(tmp_path, dataset=str(tmp_path)))


def test_a_base_model_alone_and_missing_probes_are_refused(tmp_path):
    with pytest.raises(InputError, match="protocol forgetting compares an adapter with its base: set adapter"):
        run_protocol(config(tmp_path, adapter=None))
    with pytest.raises(InputError, match="no probes.jsonl; name a folder with probes"):
        read_probes(config(tmp_path, dataset=str(tmp_path)))
    (tmp_path / "probes.jsonl").write_text("\n")
    with pytest.raises(InputError, match="probes.jsonl: no probes"):
        read_probes(config(tmp_path, dataset=str(tmp_path)))
