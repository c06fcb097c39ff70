"""Codes by content: each recording is encoded once."""

import pytest

from higgs_recipes.corpus.code_cache import CodeCache, encode_clips
from tests.helpers.corpus_folder import make_corpus
from tests.helpers.task_rows import load_task_rows
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
