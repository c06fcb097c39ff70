import json

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from higgs_recipes.audio.io import read_audio, write_wav
from higgs_recipes.chatml import CHAT_TEMPLATE
from higgs_recipes.configs.inference import GenerateConfig
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import InputError
from higgs_recipes.generation.generate import Generation
from higgs_recipes.generation.synthesis import build_texts, check_codec, write_speech
from higgs_recipes.hub.download import Snapshot
from tests.helpers.tiny import GOLDEN
from tests.helpers.tiny_codec import tiny_codec, tone


def config(tmp_path, **fields) -> GenerateConfig:
    return GenerateConfig(**({"text": ["Hello", "You there?"], "output_dir": str(tmp_path / "out")} | fields))


def test_texts_are_normalized_and_have_consecutive_seeds(tmp_path):
    texts = build_texts(config(tmp_path, seed=7), tiny_codec())
    assert [spoken.seed for spoken in texts] == [7, 8]
    assert [spoken.conversation[-2]["content"][0]["text"] for spoken in texts] == ["Hello.", "You there?"]
    assert [[chunk.text for chunk in spoken.chunks] for spoken in texts] == [["Hello."], ["You there?"]]
    assert not any(spoken.ref_codes for spoken in texts)


def test_speaker_tags_of_any_case_are_those_of_the_model(tmp_path):
    write_wav(tmp_path / "ref.wav", tone(1.0))
    text = "[speaker0] Hello.\n[ Speaker 1 ] Hi. 【SPEAKER 0】 Well."
    (request,) = build_texts(config(tmp_path, text=[text]), tiny_codec())
    expected = "[SPEAKER0] Hello.\n[SPEAKER1] Hi. [SPEAKER0] Well."
    assert request.conversation[-2]["content"][0]["text"] == expected
    assert "If the user's message includes a [SPEAKER*] tag" in request.conversation[0]["content"][0]["text"]


def test_a_reference_clip_is_encoded_and_comes_before_the_text(tmp_path):
    write_wav(tmp_path / "ref.wav", tone(1.0))
    fields = {"ref_audio": [str(tmp_path / "ref.wav")], "ref_text": ["A hum"]}
    texts = build_texts(config(tmp_path, **fields), tiny_codec())
    (codes,) = tiny_codec().encode([read_audio(tmp_path / "ref.wav", name="ref")])
    assert all(torch.equal(spoken.ref_codes[0], codes) for spoken in texts)
    roles = [turn["role"] for turn in texts[0].conversation]
    assert roles == ["system", "user", "assistant", "user", "assistant"]


CASES = json.loads((GOLDEN / "chatml.json").read_text(encoding="utf-8"))
TEXTS = {
    "multi_speaker_smart_voice": "[SPEAKER0] I can't believe it!\n[SPEAKER1] Oh, come on.",
    "multi_speaker_voice_cloning": "[SPEAKER0] Hello.\n[SPEAKER1] Hi.",
}
REF_TEXTS = {
    "zero_shot_voice_cloning": ["A short reference sentence."],
    "multi_speaker_voice_cloning": ["First reference.", "Second reference."],
}


@pytest.mark.parametrize("name", [name for name in CASES if name != "no_scene"])
def test_prompts_equal_those_of_the_reference(name, tmp_path):
    task, _, variant = name.partition("/")
    fields = {"text": [TEXTS.get(task, "The sun rises in the east.")], "scene": "Audio is recorded from a quiet room."}
    for index in range(len(REF_TEXTS.get(task, []))):
        write_wav(tmp_path / f"{index}.wav", tone(0.5, hertz=200.0 + 50 * index))
        fields.setdefault("ref_audio", []).append(str(tmp_path / f"{index}.wav"))
    # Clips in the system turn have no texts.
    texts = {} if variant == "ref_in_system" else {"ref_text": REF_TEXTS.get(task, [])}
    recipe = config(tmp_path, ref_in_system=variant == "ref_in_system", **fields, **texts)
    (request,) = build_texts(recipe, tiny_codec())
    prompt = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE())).apply_chat_template(
        request.conversation[:-1], chat_template=CHAT_TEMPLATE, add_generation_prompt=True, tokenize=False
    )
    assert prompt == CASES[name]["generation_prompt"]
    expected = tiny_codec().encode([read_audio(path, name="ref") for path in fields.get("ref_audio", [])])
    assert len(request.ref_codes) == len(expected) == prompt.count("<|AUDIO_OUT|>")
    assert all(torch.equal(one, two) for one, two in zip(request.ref_codes, expected, strict=True))


def test_reference_clips_that_do_not_match_the_text_are_refused(tmp_path):
    for name in "ab":
        write_wav(tmp_path / f"{name}.wav", tone(0.5))
    clips = [str(tmp_path / "a.wav"), str(tmp_path / "b.wav")]
    with pytest.raises(InputError, match="text 1 has no speaker tags, but there are 2 ref_audio clips: give one clip"):
        texts = {"text": ["[SPEAKER0] Hi. [SPEAKER1] Well.", "Hello."]}
        build_texts(config(tmp_path, ref_audio=clips, ref_text=["A.", "B."], **texts), tiny_codec())
    with pytest.raises(InputError, match="row text 0: ref_speakers has no entry for SPEAKER1; add one per speaker"):
        texts = {"text": ["[SPEAKER0] Hi. [SPEAKER1] Well."]}
        build_texts(config(tmp_path, ref_audio=clips[:1], ref_text=["A."], **texts), tiny_codec())
    with pytest.raises(InputError, match="ref_audio .*none.wav.* cannot be read"):
        build_texts(config(tmp_path, ref_audio=[str(tmp_path / "none.wav")], ref_text=["A."]), tiny_codec())


def test_wavs_and_their_record_are_written(tmp_path):
    codes = torch.randint(0, 1024, (5, 8), dtype=torch.int16)
    generations = [Generation(codes, True, 0), Generation(codes[:3], False, 1)]
    recipe = config(tmp_path, max_seconds=0.12)
    texts = build_texts(recipe, tiny_codec())
    lines = write_speech(recipe, tiny_codec(), texts, [[generation] for generation in generations])
    assert "0.20 s, stopped by itself, seed 0" in lines[0]
    assert "0.12 s, hit the cap of 0.12 s, seed 1" in lines[1]
    records = [json.loads(line) for line in (tmp_path / "out/generations.jsonl").read_text().splitlines()]
    assert [record["stopped"] for record in records] == [True, False]
    assert records[0]["codes"] == codes.tolist()
    for record in records:
        waveform = read_audio(tmp_path / "out" / record["wav"], name=record["wav"])
        assert len(waveform) == record["seconds"] * SAMPLE_RATE


def test_another_codec_than_that_of_the_training_is_refused(tmp_path):
    codec = tiny_codec()
    files = {name: Snapshot(name, None, tmp_path / name) for name in ("adapter", "base")}
    for snapshot in files.values():
        snapshot.folder.mkdir()
    check_codec(codec, None, files["base"])  # no run.json: nothing is known
    for name, snapshot in files.items():
        (snapshot.folder / "run.json").write_text(json.dumps({"codec": codec.revision}))
        check_codec(codec, *files.values())
        (snapshot.folder / "run.json").write_text(json.dumps({"codec": "me/other@123"}))
        message = (
            f"{name}: trained on codes of the codec me/other@123, but codec_name_or_path is {codec.revision}: set"
        )
        with pytest.raises(InputError, match=message):
            check_codec(codec, *files.values())
        (snapshot.folder / "run.json").unlink()


def test_a_text_without_words_is_named_by_its_index_or_line(tmp_path):
    (tmp_path / "texts.txt").write_text("Hello.\n\n\u2026\n", encoding="utf-8")
    with pytest.raises(InputError, match="^text 1 has no words: '\u3002'"):
        build_texts(config(tmp_path, text=["Hi.", "\u3002"]), tiny_codec())
    with pytest.raises(InputError, match=r"^.*texts.txt, line 3 has no words: '\u2026'"):
        build_texts(config(tmp_path, text_file=str(tmp_path / "texts.txt")), tiny_codec())


def test_described_voices_need_no_clip(tmp_path):
    recipe = config(tmp_path, text="[SPEAKER0] Hi. [SPEAKER1] Ho.", profile=["A low voice.", "A high voice."])
    (spoken,) = build_texts(recipe, tiny_codec())
    scene = [item["text"] for item in spoken.conversation[1]["content"]]
    assert scene == ["SPEAKER0: A low voice.", "SPEAKER1: A high voice."] and spoken.ref_codes == []
    assert spoken.conversation[0]["content"][0]["text"] == "Generate audio following instruction."
