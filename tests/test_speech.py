import json

import pytest
import torch

from higgs_recipes.audio import read_audio, write_wav
from higgs_recipes.configs import GenerateConfig
from higgs_recipes.delay import SAMPLE_RATE
from higgs_recipes.errors import InputError
from higgs_recipes.generation import Generation
from higgs_recipes.speech import build_requests, read_texts, write_speech
from tests.tiny_codec import tiny_codec, tone


def config(tmp_path, **fields) -> GenerateConfig:
    return GenerateConfig(**({"text": ["Hello", "You there?"], "output_dir": str(tmp_path / "out")} | fields))


def test_each_text_has_a_seed_of_its_own_and_is_normalised(tmp_path):
    requests = build_requests(config(tmp_path, seed=7), tiny_codec())
    assert [request.seed for request in requests] == [7, 8]
    assert [request.conversation[-2]["content"][0]["text"] for request in requests] == ["Hello.", "You there?"]
    assert not any(request.ref_codes for request in requests)


def test_texts_of_a_file_come_after_those_of_the_recipe(tmp_path):
    (tmp_path / "texts.txt").write_text("one\n\n  \ntwo\n", encoding="utf-8")
    assert read_texts(config(tmp_path, text=["zero"], text_file=str(tmp_path / "texts.txt"))) == ["zero", "one", "two"]


def test_a_missing_or_empty_text_file_is_an_error(tmp_path):
    with pytest.raises(InputError, match="text_file: no such file: .*nowhere.txt"):
        read_texts(config(tmp_path, text_file=str(tmp_path / "nowhere.txt")))
    (tmp_path / "latin.txt").write_bytes("Grüße".encode("latin-1"))
    with pytest.raises(InputError, match="latin.txt is not UTF-8 .*; save it as UTF-8"):
        read_texts(config(tmp_path, text_file=str(tmp_path / "latin.txt")))
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(InputError, match="empty.txt holds no text"):
        read_texts(config(tmp_path, text=[], text_file=str(tmp_path / "empty.txt")))


def test_a_reference_clip_is_encoded_and_stands_before_the_text(tmp_path):
    write_wav(tmp_path / "ref.wav", tone(1.0))
    fields = {"ref_audio": str(tmp_path / "ref.wav"), "ref_text": "A hum"}
    requests = build_requests(config(tmp_path, **fields), tiny_codec())
    (codes,) = tiny_codec().encode([read_audio(tmp_path / "ref.wav", name="ref")])
    assert all(torch.equal(request.ref_codes[0], codes) for request in requests)
    roles = [turn["role"] for turn in requests[0].conversation]
    assert roles == ["system", "user", "assistant", "user", "assistant"]


def test_wavs_and_their_record_are_written(tmp_path):
    codes = torch.randint(0, 1024, (5, 8), dtype=torch.int16)
    generations = [Generation(codes, True, 0), Generation(codes[:3], False, 1)]
    lines = write_speech(config(tmp_path, max_seconds=0.12), tiny_codec(), generations)
    assert "0.20 s, stopped by itself, seed 0" in lines[0]
    assert "0.12 s, hit the cap of 0.12 s, seed 1" in lines[1]
    records = [json.loads(line) for line in (tmp_path / "out/generations.jsonl").read_text().splitlines()]
    assert [record["stopped"] for record in records] == [True, False]
    assert records[0]["codes"] == codes.tolist()
    for record in records:
        waveform = read_audio(tmp_path / "out" / record["wav"], name=record["wav"])
        assert len(waveform) == record["seconds"] * SAMPLE_RATE
