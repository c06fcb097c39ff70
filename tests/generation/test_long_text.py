"""A text of several chunks equals its definition: the engine called by hand with the prompt of each chunk."""

import json
from dataclasses import replace

import pytest
import torch

from higgs_recipes.audio.io import read_audio
from higgs_recipes.chatml import conversation
from higgs_recipes.configs.inference import GenerateConfig
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.generation.engine import open_engine
from higgs_recipes.generation.finished_clips import FinishedClips
from higgs_recipes.generation.generate import Generation, Request, generate
from higgs_recipes.generation.long_text import (
    SpokenText,
    chunk_request,
    chunk_seed,
    generate_texts,
    max_prompt_positions,
    speak_texts,
)
from higgs_recipes.generation.prefill import build_prompt
from higgs_recipes.generation.synthesis import build_texts, write_speech
from higgs_recipes.generation.text_chunks import TextChunk
from higgs_recipes.samples import tokenize_prompts
from tests.helpers.checkpoints import load_tiny
from tests.helpers.tiny_codec import tiny_codec


REFERENCE = {"ref_audio": "ref.wav", "ref_text": "Reference words."}


@pytest.fixture(scope="module")
def loaded():
    return load_tiny()


def random_codes(num_steps: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 1024, (num_steps, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.int16)


def spoken(*chunks: str, seed: int = 0, cloning: bool = False) -> SpokenText:
    task = "zero_shot_voice_cloning" if cloning else "single_speaker_smart_voice"
    turns = conversation({"text": " ".join(chunks), "scene": "A room."} | (REFERENCE if cloning else {}), task=task)
    ref_codes = [random_codes(6, 99)] if cloning else []
    return SpokenText(" ".join(chunks), "text", [TextChunk(text, 0.4) for text in chunks], turns, ref_codes, seed)


def config(tmp_path, **fields) -> GenerateConfig:
    defaults = {"text": ["Hi."], "max_seconds": 0.4, "batch_size": 4, "output_dir": str(tmp_path / "out")}
    return GenerateConfig(**defaults | fields)


def test_the_prompt_of_a_chunk_is_system_references_earlier_chunks_and_its_text():
    text = spoken("One.", "Two.", "Three.", "Four.", seed=5, cloning=True)
    codes = [random_codes(4 + index, index) for index in range(3)]
    request = chunk_request(text, 3, codes, buffer_size=2)
    said = [(turn["role"], turn["content"][0].get("text", "<audio>")) for turn in request.conversation]
    assert said[:4] == [
        ("system", "Generate audio following instruction."),
        ("scene", "A room."),
        ("user", "Reference words."),
        ("assistant", "<audio>"),
    ]
    assert said[4:] == [("user", "Two."), ("assistant", "<audio>")] + [
        ("user", "Three."),
        ("assistant", "<audio>"),
    ] + [
        ("user", "Four."),
        ("assistant", "<audio>"),
    ]
    assert request.ref_codes == [*text.ref_codes, codes[1], codes[2]] and request.seed == chunk_seed(5, 3) == 3_000_014
    assert [len(chunk_request(text, 3, codes, buffer_size=size).ref_codes) for size in (0, 1, None)] == [1, 2, 4]


def test_a_text_of_one_chunk_is_the_request_of_its_conversation():
    text = spoken("Hello.", seed=7, cloning=True)
    assert chunk_request(text, 0, [], buffer_size=2) == Request(text.conversation, text.ref_codes, 7)


@pytest.mark.parametrize("buffer_size", [0, 1, 2, None])
def test_chunks_equal_the_engine_called_by_hand(loaded, tmp_path, buffer_size):
    model, tokenizer = loaded
    recipe = config(tmp_path, chunk_buffer_size=buffer_size, max_seconds=0.2)
    texts = [
        spoken("One.", "Two is it.", "Three.", seed=3, cloning=True),
        spoken("Alone."),
        spoken("A.", "B.", seed=9),
    ]
    finished = FinishedClips(recipe.output_dir, {})
    generations = generate_texts(model, tokenizer, texts, config=recipe, finished=finished)
    assert [len(clips) for clips in generations] == [3, 1, 2]

    for text, clips in list(zip(texts, generations, strict=True))[::2]:
        codes: list[torch.Tensor] = []
        for index, clip in enumerate(clips):
            first = max(0, index - (index if buffer_size is None else buffer_size))
            turns = text.conversation[:-2]
            for before in text.chunks[first:index]:
                turns = turns + [{"role": "user", "content": [{"type": "text", "text": before.text}]}]
                turns = turns + [{"role": "assistant", "content": [{"type": "audio", "url": None}]}]
            turns = turns + [{"role": "user", "content": [{"type": "text", "text": text.chunks[index].text}]}]
            (ids,) = tokenize_prompts([turns], tokenizer, add_generation_prompt=True)
            seed = text.seed + 1_000_003 * index
            context = [*text.ref_codes, *codes[first:]]
            prompt = build_prompt(torch.tensor(ids), context, seed=seed, config=model.config)
            with open_engine(model, sampling=recipe) as engine:
                (expected,) = engine.generate([prompt])
            assert torch.equal(clip.codes, expected.codes) and clip.seed == seed
            codes.append(expected.codes)


def test_a_text_of_one_chunk_has_the_codes_that_it_had(loaded, tmp_path):
    recipe, text = config(tmp_path), spoken("Hello.", seed=4)
    (before,) = generate(*loaded, [Request(text.conversation, [], 4)], sampling=recipe)
    ((after,),) = generate_texts(*loaded, [text], config=recipe, finished=FinishedClips(recipe.output_dir, {}))
    assert torch.equal(before.codes, after.codes)


def test_an_interrupted_text_goes_on_with_its_next_chunk(loaded, tmp_path, monkeypatch):
    recipe, text = config(tmp_path), spoken("One.", "Two.", "Three.")
    finished, add, added = FinishedClips(recipe.output_dir, {}), FinishedClips.add, []

    def add_two(self, request, generation):
        if len(added) == 2:
            raise KeyboardInterrupt
        added.append(request.seed)
        add(self, request, generation)

    monkeypatch.setattr(FinishedClips, "add", add_two)
    with pytest.raises(KeyboardInterrupt):
        generate_texts(*loaded, [text], config=recipe, finished=finished)
    assert added == [0, chunk_seed(0, 1)]
    monkeypatch.setattr(FinishedClips, "add", lambda self, request, clip: added.append(request.seed))
    (clips,) = generate_texts(*loaded, [text], config=recipe, finished=finished)
    assert added == [0, chunk_seed(0, 1), chunk_seed(0, 2)] == [clip.seed for clip in clips]


def test_texts_share_the_rounds_and_without_context_there_is_one():
    texts, calls = [spoken("A.", "B.", "C."), spoken("D.")], []

    def fake(requests):
        calls.append([request.conversation[-2]["content"][0]["text"] for request in requests])
        return [Generation(random_codes(3, request.seed), True, request.seed) for request in requests]

    speak_texts(texts, fake, buffer_size=1)
    assert calls == [["A.", "D."], ["B."], ["C."]]
    calls.clear()
    clips = speak_texts(texts, fake, buffer_size=0)
    assert calls == [["A.", "B.", "C.", "D."]] and [len(chunks) for chunks in clips] == [3, 1]


def test_the_longest_prompt_is_known_before_the_first_chunk(loaded):
    model, tokenizer = loaded
    texts = [spoken("One.", "Two is a bit longer.", "Three.", cloning=True)]
    expected = max_prompt_positions(texts, tokenizer, buffer_size=2, max_seconds=0.4)
    codes, lengths = [random_codes(10, index) for index in range(2)], []
    for index in range(3):
        request = chunk_request(texts[0], index, codes[:index], buffer_size=2)
        (ids,) = tokenize_prompts([request.conversation[:-1]], tokenizer, add_generation_prompt=True)
        lengths.append(len(build_prompt(torch.tensor(ids), request.ref_codes, seed=0, config=model.config).ids))
    assert expected == max(lengths)


def test_a_long_text_becomes_one_wav_with_its_chunks_in_the_record(tmp_path):
    sentence = "This sentence has exactly seven short words."
    recipe = config(tmp_path, text=["Hi.", " ".join([sentence] * 8)], max_seconds=0.4, seed=5)
    texts = build_texts(recipe, tiny_codec())
    assert [len(text.chunks) for text in texts] == [1, 3]
    whole = texts[1].conversation[-2]["content"][0]["text"]
    assert whole.count(sentence) == 8
    clips = [
        [
            Generation(random_codes(10, index), index != 1, chunk_seed(text.seed, index))
            for index in range(len(text.chunks))
        ]
        for text in texts
    ]
    lines = write_speech(recipe, tiny_codec(), texts, clips)
    assert "0.40 s, stopped by itself, seed 5" in lines[0]
    assert "hit the cap of 0.4 s in chunk 2 of 3, seed 6" in lines[1]
    records = [json.loads(line) for line in (tmp_path / "out/generations.jsonl").read_text().splitlines()]
    assert "chunks" not in records[0] and not records[1]["stopped"]
    assert records[1]["codes"] == [step for clip in clips[1] for step in clip.codes.tolist()]
    assert [(chunk["seed"], chunk["stopped"], chunk["seconds"]) for chunk in records[1]["chunks"]] == [
        (6, True, 0.4),
        (1_000_009, False, 0.4),
        (2_000_012, True, 0.4),
    ]
    assert " ".join(chunk["text"] for chunk in records[1]["chunks"]) == recipe.text[1]
    waveform = read_audio(tmp_path / "out/001.wav", name="wav")
    assert len(waveform) == round(records[1]["seconds"] * SAMPLE_RATE)
    decoded = tiny_codec().decode([clips[1][0].codes])[0]
    assert torch.allclose(waveform[:8000], decoded[:8000], atol=1e-4)


def test_decoding_keeps_a_few_clips_at_a_time(tmp_path, monkeypatch):
    calls, codec = [], tiny_codec()
    decode = type(codec).decode
    monkeypatch.setattr("higgs_recipes.audio.codec._DECODED_TOGETHER", 2)
    monkeypatch.setattr(type(codec), "decode", lambda self, codes: calls.append(len(codes)) or decode(self, codes))
    recipe = config(tmp_path)
    text = replace(spoken("A.", "B.", "C.", "D.", "E."))
    write_speech(recipe, codec, [text], [[Generation(random_codes(3, index), True, index) for index in range(5)]])
    assert calls == [2, 2, 1]
