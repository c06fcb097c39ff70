"""`Speaker`: the codes of scripts/generate.py, streams that join to the same waveform, and one clear error."""

import subprocess
import sys

import pytest
import torch

from higgs_recipes import Speaker
from higgs_recipes.audio.io import read_audio, write_wav
from higgs_recipes.configs.inference import GenerateConfig, SamplingConfig
from higgs_recipes.constants import HOP, SAMPLE_RATE
from higgs_recipes.errors import InputError
from higgs_recipes.generation.chunk_joins import joined_chunks
from higgs_recipes.generation.generate import generate
from higgs_recipes.generation.long_text import speak_texts
from higgs_recipes.generation.synthesis import build_texts
from tests.generation.test_engine import count_steps
from tests.helpers.checkpoints import build, load_tiny, sft_config, tiny_folder
from tests.helpers.paths import ROOT
from tests.helpers.tiny_codec import tiny_codec, tiny_codec_folder, tone
from tests.test_docs import blocks


TEXTS = ["Hello there.", "The boat came home before the rain."]
LONG = " ".join(f"This is sentence number {index} of a text that is longer than a chunk." for index in range(3))


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    return Speaker.from_pretrained(tiny_folder() / "model", codec=tiny_codec_folder(), device="cpu")


def codes_of_the_script(text: list[str], **fields) -> list[list[torch.Tensor]]:
    """The codes of each chunk of each text, as scripts/generate.py makes them."""
    config = GenerateConfig(text=text, **fields)
    model, tokenizer = load_tiny()
    clips = speak_texts(
        build_texts(config, tiny_codec()),
        lambda requests: generate(model, tokenizer, requests, sampling=config),
        buffer_size=config.chunk_buffer_size,
    )
    return [[clip.codes for clip in chunks] for chunks in clips]


def assert_same_audio(joined: torch.Tensor, whole: torch.Tensor) -> None:
    assert joined.shape == whole.shape and (joined - whole).abs().max() < 1e-6 * whole.abs().max()


def test_a_text_gives_a_clip_and_a_list_of_texts_a_list(speaker, tmp_path):
    expected = codes_of_the_script(TEXTS, seed=4, max_seconds=0.6)
    clips = speaker(TEXTS, seed=4, max_seconds=0.6)
    assert [clip.seed for clip in clips] == [4, 5] and all(clip.sampling_rate == SAMPLE_RATE for clip in clips)
    assert all(torch.equal(clip.codes, codes) for clip, (codes,) in zip(clips, expected, strict=True))
    clip = speaker(TEXTS[1], seed=5, max_seconds=0.6)
    assert torch.equal(clip.codes, clips[1].codes) and clip.stopped == clips[1].stopped
    assert clip.codes.dtype == torch.int16 and clip.codes.shape[1] == 8
    assert clip.waveform.dtype == torch.float32 and clip.waveform.shape == (len(clip.codes) * HOP,)
    clip.save(tmp_path / "new" / "x.wav")
    assert torch.allclose(read_audio(tmp_path / "new" / "x.wav", name="x"), clip.waveform.clamp(-1, 1), atol=1e-4)
    assert speaker([]) == [] and speaker.sampling_rate == SAMPLE_RATE
    with pytest.raises(InputError, match="x.mp3: clips are saved as wav files"):
        clip.save("x.mp3")


@pytest.mark.parametrize("voice", [{"voice": "a warm, low voice"}, {"ref_text": "A hum."}, {"ref_in_system": True}])
def test_voices_and_scenes_are_those_of_the_script(speaker, tmp_path, voice):
    fields = {"scene": "A quiet room.", "max_seconds": 0.4, **voice}
    if "voice" not in voice:
        write_wav(tmp_path / "a.wav", tone(1.0))
        fields["ref_audio"] = tmp_path / "a.wav"
    clip = speaker(TEXTS[0], seed=1, **fields)
    names = {"voice": "profile"}
    lists = {"ref_audio", "ref_text", "voice"}
    recipe = {names.get(key, key): [str(value)] if key in lists else value for key, value in fields.items()}
    assert torch.equal(clip.codes, codes_of_the_script(TEXTS[:1], seed=1, **recipe)[0][0])
    assert not torch.equal(clip.codes, speaker(TEXTS[0], seed=1, max_seconds=0.4).codes)


def test_a_dialogue_has_a_voice_for_each_speaker(speaker, tmp_path):
    paths = [tmp_path / f"{index}.wav" for index in range(3)]
    for index, path in enumerate(paths):
        write_wav(path, tone(0.6, hertz=200.0 + 60 * index))
    text = "[SPEAKER0] Hi.\n[SPEAKER1] Ho.\n[SPEAKER2] Well."
    fields = {"ref_audio": list(map(str, paths)), "ref_text": ["A.", "B.", "C."], "max_seconds": 0.4}
    clip = speaker(text, **fields)
    assert torch.equal(clip.codes, codes_of_the_script([text], **fields)[0][0])


def test_a_conversation_with_the_turns_of_a_text_is_spoken_as_the_text(speaker):
    turns = [
        {"role": "system", "content": "Generate audio following instruction."},
        {"role": "user", "content": TEXTS[0]},
    ]
    clip = speaker(TEXTS[0], seed=2, max_seconds=0.4)
    assert torch.equal(speaker(turns, seed=2, max_seconds=0.4).codes, clip.codes)
    mixed = speaker([TEXTS[1], turns], seed=1, max_seconds=0.4)
    assert torch.equal(mixed[1].codes, clip.codes) and mixed[1].seed == 2
    joined = torch.cat(list(speaker.stream(turns, seed=2, max_seconds=0.4)))
    assert_same_audio(joined, clip.waveform)


def test_a_long_text_is_spoken_in_chunks_whole_and_as_a_stream(speaker):
    fields = {"seed": 3, "max_seconds": 1.6, "chunk_max_words": 20, "chunk_buffer_size": 1}
    clip, (expected,) = speaker(LONG, **fields), codes_of_the_script([LONG], **fields)
    assert len(expected) > 2 and torch.equal(clip.codes, torch.cat(expected))
    pauses = [chunk.pause for chunk in build_texts(GenerateConfig(text=[LONG], **fields), tiny_codec())[0].chunks]
    assert_same_audio(torch.cat(list(joined_chunks(tiny_codec().decode(expected), pauses))), clip.waveform)
    pieces = list(speaker.stream_pieces(LONG, **fields))
    assert_same_audio(torch.cat([piece.waveform for piece in pieces]), clip.waveform)
    assert [piece.is_last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert torch.equal(pieces[-1].clip.codes, clip.codes)
    assert len(pieces[0].waveform) < len(clip.waveform) / 4  # it came while the first chunk was generated


def test_a_stream_joins_to_the_clip_and_closing_it_frees_its_slot(speaker):
    clip = speaker(TEXTS[1], seed=1, max_seconds=1.6)
    stream = speaker.stream(TEXTS[1], seed=1, max_seconds=1.6)
    first = next(stream)
    stream.close()
    num_slots = count_steps(speaker._engine)
    pieces = list(speaker.stream(TEXTS[1], seed=1, max_seconds=1.6))
    assert torch.equal(pieces[0], first) and set(num_slots) == {1}
    assert_same_audio(torch.cat(pieces), clip.waveform)


def test_weights_in_eight_bits_are_an_option_of_a_call(speaker):
    fields = {"seed": 1, "max_seconds": 0.4, "temperature": 0.0}
    clip = speaker(TEXTS[0], **fields)
    running = speaker.stream(TEXTS[0], **fields)  # with the weights as loaded, also during the next call
    first = next(running)
    rounded = speaker(TEXTS[0], generation_weights="int8", **fields)
    assert torch.equal(rounded.codes, codes_of_the_script(TEXTS[:1], generation_weights="int8", **fields)[0][0])
    assert_same_audio(torch.cat([first, *running]), clip.waveform)
    assert torch.equal(speaker(TEXTS[0], **fields).codes, clip.codes)
    loaded, eight_bits = (speaker._weights[int8].layers[0].down for int8 in (False, True))
    assert not torch.equal(loaded, eight_bits)


def test_calls_with_the_same_sampling_share_an_engine(speaker):
    speaker(TEXTS[0], max_seconds=0.4)
    engine, step = speaker._engine, speaker._engine._step
    speaker(TEXTS, max_seconds=0.4, seed=9)
    assert speaker._engine is engine and engine._step is step
    speaker(TEXTS[0], max_seconds=0.4, temperature=0.5)
    assert speaker._engine is not engine and speaker._engine.sampling == SamplingConfig(
        max_seconds=0.4, temperature=0.5
    )


def test_another_adapter_and_the_base_alone(tmp_path, speaker, monkeypatch):
    torch.manual_seed(0)
    adapted, _ = build(sft_config(tmp_path, method="lora"))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight.data, std=0.3)
    adapted.save_pretrained(tmp_path / "adapter")
    fields = {"seed": 1, "max_seconds": 0.4, "temperature": 0.5}
    base = speaker(TEXTS[0], **fields)
    voice = Speaker.from_pretrained(
        tmp_path / "adapter", base=str(tiny_folder() / "model"), codec=tiny_codec_folder(), device="cpu"
    )
    clip = voice(TEXTS[0], **fields)
    assert not torch.equal(clip.codes, base.codes)
    voice.set_adapter(None)
    assert torch.equal(voice(TEXTS[0], **fields).codes, base.codes)
    voice.set_adapter(tmp_path / "adapter")
    assert torch.equal(voice(TEXTS[0], **fields).codes, clip.codes)
    with pytest.raises(InputError, match="nowhere"):
        voice.set_adapter(tmp_path / "nowhere")
    with monkeypatch.context() as patched:
        patched.setattr("higgs_recipes.generation.synthesis.read_run", lambda folder: {"codec": "me/other@1"})
        with pytest.raises(InputError, match="trained on codes of the codec me/other@1"):
            voice.set_adapter(tmp_path / "adapter")
    assert torch.equal(voice(TEXTS[0], **fields).codes, clip.codes)


@pytest.mark.parametrize(
    ("text", "options", "error", "message"),
    [
        ("", {}, InputError, "text 0"),
        ("  \n", {}, InputError, "text 0"),
        (["Hello.", "..."], {}, InputError, "text 1"),
        ("Hello <|eot_id|>.", {}, InputError, r"special token <\|eot_id\|>"),
        (["Hello.", 3], {}, InputError, "text 1 is neither a string nor a list of turns: 3"),
        ("Hello.", {"scene": "\ud800"}, InputError, "text of the scene turn has invalid Unicode; correct it"),
        ("Hello.", {"ref_audio": "/no.wav", "ref_text": "A."}, InputError, "ref_audio /no.wav"),
        ("Hello.", {"ref_audio": "/no.wav"}, InputError, "cloning needs both ref_audio and ref_text"),
        ("Hello.", {"temperature": -1.0}, InputError, "temperature must be 0"),
        ("Hello.", {"temperature": "0.3"}, InputError, "option 'temperature' is '0.3'; it must be float"),
        ("Hello.", {"generation_weights": "int4"}, InputError, "it must be one of 'loaded', 'int8'"),
        ("Hello.", {"ref_audio": ["a.wav"], "ref_text": [None]}, InputError, r"'ref_text' is \[None\]; it must be"),
        ("Hello.", {"voice": 3}, InputError, r"'profile' is \[3\]; it must be"),
        ("Hello.", {"seed": -1}, InputError, "seed must be an integer in"),
        ("Hello.", {"seed": 1.5}, InputError, "seed must be an integer in .*, got 1.5"),
        ("Hello.", {"temprature": 1.0}, TypeError, "unknown option 'temprature': expected one of batch_size, "),
        (3, {}, InputError, "got 3"),
        ([{"role": "user", "content": "Hi."}], {"scene": "A room."}, InputError, "scene is an option of texts"),
        ([{"role": "user", "content": "<|eot_id|>"}], {}, InputError, "conversation 0: .*control token"),
    ],
)
def test_bad_input_is_refused_before_anything_is_generated(speaker, text, options, error, message):
    with pytest.raises(error, match=message):
        speaker(text, **options)
    if isinstance(text, list) and isinstance(text[0], str):
        message = "a stream speaks one text or conversation, got "
    with pytest.raises(error, match=message):
        speaker.stream(text, **options)


def test_the_codec_of_the_training_is_required():
    with pytest.raises(InputError, match="trained on codes of the codec local@"):
        Speaker.from_pretrained(ROOT / "recipes/tiny/base", codec=tiny_codec_folder(), device="cpu")


def test_a_device_that_is_not_here_and_an_unknown_dtype_are_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for device, message in {
        "cuda": "device cuda: torch finds no GPU here",
        "gpu": "device gpu: Expected one of",
    }.items():
        with pytest.raises(InputError, match=message):
            Speaker.from_pretrained(tiny_folder() / "model", codec=tiny_codec_folder(), device=device)
    with pytest.raises(InputError, match="dtype float16: expected float32 or bfloat16"):
        Speaker.from_pretrained(tiny_folder() / "model", codec=tiny_codec_folder(), dtype=torch.float16)


def test_the_package_alone_imports_neither_torch_nor_a_room():
    script = (
        "import sys, higgs_recipes; "
        "print(sorted(name for name in sys.modules if name.startswith(('torch', 'transformers', 'higgs_recipes'))))"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout == "['higgs_recipes']\n", run.stderr
    import higgs_recipes

    with pytest.raises(AttributeError, match="module 'higgs_recipes' has no attribute 'Listener'"):
        _ = higgs_recipes.Listener


@pytest.mark.parametrize("readme", ["README.md", "scripts/README.md"])
def test_the_examples_of_the_readmes_run(monkeypatch, tmp_path, readme):
    (example,) = [
        block for block in blocks((ROOT / readme).read_text(encoding="utf-8"), "python") if "Speaker" in block
    ]
    names = f"{str(tiny_folder() / 'model')!r}, codec={str(tiny_codec_folder())!r}, device='cpu'"
    for of_readme, here in {'"me/my-voice", device="cuda"': names, '"me/other-voice"': "None"}.items():
        assert of_readme in example or readme == "README.md"
        example = example.replace(of_readme, here)
    read = Speaker._read
    monkeypatch.setattr(
        Speaker, "_read", lambda self, texts, seed, options: read(self, texts, seed, {"max_seconds": 0.2} | options)
    )
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "b.wav"):
        write_wav(tmp_path / name, tone(0.5))
    values: dict = {}
    exec(compile(example, readme, "exec"), values)
    assert values["clip"].codes.shape == (5, 8) and ("piece" in values) == (tmp_path / "speech.wav").is_file()
