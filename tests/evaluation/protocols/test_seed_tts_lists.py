import io

import pytest
import soundfile
from datasets import Audio, Dataset, Features, Value

from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.protocols.dataset import Origin
from higgs_recipes.evaluation.protocols.seed_tts_lists import read_list, read_sentences
from tests.helpers.benchmark_run import benchmark_config
from tests.helpers.paths import DATA


def write_list(folder, *lines: str, name: str = "meta.lst"):
    (folder / "prompt-wavs").mkdir(exist_ok=True)
    (folder / "prompt-wavs/a.wav").write_bytes(b"")
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name


def test_a_list_has_prompts_next_to_it_and_perhaps_recordings(tmp_path):
    (tmp_path / "real.wav").write_bytes(b"")
    path = write_list(
        tmp_path,
        "u1|Hi there.|prompt-wavs/a.wav|Say this.",
        "",
        "u2|Hi.|prompt-wavs/a.wav|And this.|real.wav",
        "u3|Hi.|prompt-wavs/a.wav|And that.|none.wav",
    )
    first, second, third = read_list(path)
    assert (first.id, first.ref_text, first.text, first.has_real) == ("u1", "Hi there.", "Say this.", False)
    assert first.ref_audio == (tmp_path / "prompt-wavs/a.wav").resolve()
    assert second.real == (tmp_path / "real.wav").resolve()
    assert third.has_real and third.real is None  # missing: an error rate of 100 %


@pytest.mark.parametrize(
    "line, message",
    [
        ("u1|Hi.|prompt-wavs/a.wav", r"meta.lst, line 2: 3 fields, expected utt\|prompt_text"),
        ("u1|Hi.|prompt-wavs/a.wav|", "meta.lst, line 2: 4 fields"),
        ("u1|Hi.|none.wav|Text.", "meta.lst, line 2: prompt_wav is 'none.wav': no such file"),
        ("u1|Hi.|../a.wav|Text.", "meta.lst, line 2: prompt_wav is '../a.wav': it leaves the folder"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path, line, message):
    path = write_list(tmp_path, "u0|Hi.|prompt-wavs/a.wav|Text.", line)
    with pytest.raises(InputError, match=message):
        read_list(path)


def test_lines_of_a_list_end_only_at_line_feeds_and_carriage_returns(tmp_path):
    path = write_list(tmp_path, *(f"u{i}|Hi.|prompt-wavs/a.wav|One{end}two." for i, end in enumerate("\u2028\u0085")))
    assert [sentence.text for sentence in read_list(path)] == ["One\u2028two.", "One\u0085two."]
    path.write_bytes(b"u0|Hi.|prompt-wavs/a.wav|Text.\nu1|Hi.|prompt-wavs/a.wav|\xff\n")
    with pytest.raises(InputError, match="meta.lst, line 2: not UTF-8"):
        read_list(path)


def test_a_list_without_lines_is_refused(tmp_path):
    with pytest.raises(InputError, match="no lines"):
        read_list(write_list(tmp_path, ""))


def test_a_folder_or_a_list_is_read_and_sampled(tmp_path):
    lines = [f"u{index}|Hi.|prompt-wavs/a.wav|Text {index}." for index in range(30)]
    path = write_list(tmp_path, *lines)
    hard = write_list(tmp_path, lines[3], name="hardcase.lst")
    assert len(read_sentences(benchmark_config(tmp_path, dataset=str(tmp_path)))[0]) == 30
    (only,), origin = read_sentences(benchmark_config(tmp_path, dataset=str(hard)))
    assert origin == Origin()  # a list has no splits
    assert only.id == "u3"
    few = [s.id for s in read_sentences(benchmark_config(tmp_path, dataset=str(path), num_samples=5))[0]]
    again = [s.id for s in read_sentences(benchmark_config(tmp_path, dataset=str(path), num_samples=5))[0]]
    assert few == again and len(few) == 5 and few == sorted(few, key=lambda name: int(name[1:])) != ["u0", "u1"]


def test_the_rows_of_the_dataset_on_the_hub_are_read(tmp_path):
    content = io.BytesIO()
    soundfile.write(content, *soundfile.read(DATA / "two_voices/00_heart.flac"), format="WAV")
    row = {"sample_id": "u1", "ref_text": "Hi.", "target_text": "Say this.", "ref_audio_path": "prompt-wavs/a.wav"}
    features = Features(
        dict.fromkeys(row, Value("string")) | {"ref_audio": {"bytes": Value("binary"), "path": Value("string")}}
    )
    rows = Dataset.from_list(
        [row | {"ref_audio": {"bytes": content.getvalue(), "path": "a.wav"}}] * 2, features=features
    )
    (tmp_path / "corpus").mkdir()
    rows.cast_column("ref_audio", Audio()).to_parquet(tmp_path / "corpus/en-00000-of-00001.parquet")
    config = benchmark_config(tmp_path, dataset=str(tmp_path / "corpus"), split="en")
    (first, _), origin = read_sentences(config)
    assert origin == Origin(split="en")
    assert (first.id, first.text, first.ref_text, first.ref_audio) == ("u1", "Say this.", "Hi.", content.getvalue())
    rows.remove_columns("ref_text").to_parquet(tmp_path / "corpus/en-00000-of-00001.parquet")
    with pytest.raises(InputError, match="split en: no column ref_text; the columns are sample_id, "):
        read_sentences(config)
    with pytest.raises(InputError, match="dataset no-such is neither a folder nor a Hub id"):
        read_sentences(benchmark_config(tmp_path, dataset="no-such"))
