"""Codes by content: each recording is encoded once."""

import pytest

from higgs_recipes.corpus.code_cache import CodeCache, encode_clips
from higgs_recipes.errors import InputError
from tests.helpers.corpus_folder import make_corpus, write_tone
from tests.helpers.task_rows import DIALOGUE, load_task_rows
from tests.helpers.tiny_codec import tiny_codec


@pytest.fixture
def encoded():
    """Numbers of clips in the batches that the codec encodes."""
    batches: list[int] = []
    encoder = tiny_codec().model.acoustic_encoder
    handle = encoder.register_forward_hook(lambda _, args, out: batches.append(len(out)))
    yield batches
    handle.remove()


def test_only_missing_clips_are_encoded_and_a_second_cache_finds_their_codes(tmp_path, encoded):
    _, corpus, rows = load_task_rows(make_corpus(tmp_path / "clips"))
    codec = tiny_codec()
    cache = CodeCache(tmp_path / "cache", codec=codec.revision)
    encode_clips(corpus, rows[:2], codec, cache=cache, batch_seconds=10.0)
    assert sum(encoded) == 2
    encode_clips(corpus, [*rows, *rows], codec, cache=cache, batch_seconds=10.0)
    assert sum(encoded) == len(rows)
    again = CodeCache(tmp_path / "cache", codec=codec.revision)
    for row in rows:
        key = row["own"].content_hash
        assert again[key].equal(cache[key]) and len(again[key]) == -(-round(row["seconds"] * 24_000) // 960)


def test_a_recording_that_changes_after_the_check_is_refused_and_its_codes_are_not_stored(tmp_path):
    _, corpus, rows = load_task_rows(make_corpus(tmp_path / "clips"))
    codec = tiny_codec()
    cache = CodeCache(tmp_path / "cache", codec=codec.revision)
    write_tone(tmp_path / "clips/00.wav", seconds=0.4, hertz=999.0)
    with pytest.raises(InputError, match="row 00: the recording has changed since it was checked; run again"):
        encode_clips(corpus, rows, codec, cache=cache, batch_seconds=0.5)
    assert rows[0]["own"].content_hash not in CodeCache(tmp_path / "cache", codec=codec.revision)
    (tmp_path / "clips/00.wav").unlink()
    with pytest.raises(InputError, match="recording: cannot be read: No such file"):
        encode_clips(corpus, rows, codec, cache=cache, batch_seconds=0.5)
    _, corpus, rows = load_task_rows(make_corpus(tmp_path / "clips"))
    encode_clips(corpus, rows, codec, cache=cache, batch_seconds=10.0)
    for row in rows:
        waveform = corpus.waveform(row["own"], name="row")
        assert (cache[row["own"].content_hash] == codec.encode([waveform])[0]).float().mean() > 0.99


def test_a_changed_part_of_a_dialogue_is_found_too(tmp_path):
    _, corpus, rows = load_task_rows(make_corpus(tmp_path / "clips"), tasks={DIALOGUE: 1.0})
    write_tone(tmp_path / "clips/00.wav", seconds=0.4, hertz=999.0)
    changed = [row for row in rows if "Sentence 0." in row["text"]]
    with pytest.raises(InputError, match="the recording has changed since it was checked"):
        corpus.waveform(changed[0]["own"], name="row")


def test_a_recording_that_changes_before_it_is_stored_is_refused(tmp_path):
    _, corpus, rows = load_task_rows(make_corpus(tmp_path / "clips"))
    write_tone(tmp_path / "clips/00.wav", seconds=0.4, hertz=999.0)
    with pytest.raises(InputError, match="row 0: the recording has changed"):
        corpus.recorded(rows[0]["own"], name="row 0")
    assert corpus.recorded(rows[1]["own"], name="row 1") == (tmp_path / "clips/01.wav").read_bytes()
