import pytest
import torch

from higgs_recipes.audio.io import read_audio, write_wav
from higgs_recipes.configs.inference import GenerateConfig
from higgs_recipes.errors import InputError
from higgs_recipes.generation.voices import check_reference, is_steady_noise, read_voices, voice_conversation
from tests.helpers.tiny_codec import CORPUS, tone


@pytest.fixture(scope="module")
def voices_dir(tmp_path_factory):
    """Voices anna and ben, and the profiles male_en and low."""
    folder = tmp_path_factory.mktemp("voices")
    for index, name in enumerate(("anna", "ben")):
        write_wav(folder / f"{name}.wav", tone(0.5, hertz=200.0 + 50 * index))
        (folder / f"{name}.txt").write_text(f"I am\n{name}", encoding="utf-8")
    (folder / "profile.yaml").write_text("profiles:\n  male_en: Male,\n    British.\n  low: A low voice.\n")
    return folder


def voices(voices_dir, *ref_audio: str, **fields):
    return read_voices(GenerateConfig(text="Hi.", voices_dir=str(voices_dir), ref_audio=list(ref_audio), **fields))


def noise(exponent: float, *, seconds: float = 3.0) -> torch.Tensor:
    """Noise (N,) whose power falls with frequency to the 2 * exponent: white, pink, brown."""
    white = torch.randn(round(seconds * 24_000), generator=torch.Generator().manual_seed(0))
    spectrum = torch.fft.rfft(white)
    spectrum /= torch.arange(1, len(spectrum) + 1) ** exponent
    waveform = torch.fft.irfft(spectrum, n=len(white))
    return 0.3 * waveform / waveform.abs().max()


@pytest.mark.parametrize(
    "waveform, problem",
    [
        (tone(0.008), r"0.008 s is too short for a reference clip; use 3 to 15 s of clean speech"),
        (torch.zeros(24_000), "the reference clip is silent; use 3 to 15 s of clean speech"),
        (tone(1.0, loudness=0.0005), "the reference clip is silent"),
        (noise(0), "the reference clip is noise without speech"),
        (tone(60.0), r"too long for a reference clip: 60.00 s, max_seconds is 30.0; .*: cut the file \(ffmpeg -i"),
    ],
    ids=["8 ms", "silent", "quiet", "noise", "60 s"],
)
def test_a_clip_that_holds_no_voice_is_refused_with_its_name(tmp_path, waveform, problem):
    write_wav(tmp_path / "a.wav", waveform)
    with pytest.raises(InputError, match=rf"^ref_audio .*a.wav: {problem}"):
        read_voices(GenerateConfig(text="Hi.", ref_audio=str(tmp_path / "a.wav"), ref_text="Words."))


def test_a_clip_of_speech_is_read(tmp_path):
    path = CORPUS / "00_heart.flac"
    assert torch.equal(check_reference(path, name="clip"), read_audio(path, name="clip"))


@pytest.mark.parametrize("exponent", [0, 0.5, 1])
def test_steady_noise_is_told_from_speech_and_tones(exponent):
    assert is_steady_noise(noise(exponent)) and not is_steady_noise(noise(exponent, seconds=0.5))
    assert is_steady_noise(torch.cat([torch.zeros(24_000), noise(exponent), torch.zeros(9_000)]))
    speech = read_audio(CORPUS / "01_rms.flac", name="speech")
    assert not is_steady_noise(speech) and not is_steady_noise(tone(2.0)) and not is_steady_noise(torch.zeros(48_000))
    hiss = noise(exponent, seconds=len(speech) / 24_000)[: len(speech)] * 0.1
    assert not is_steady_noise(speech[: len(hiss)] + hiss)


def test_a_named_voice_brings_its_clip_and_its_transcript(voices_dir):
    (voice,) = voices(voices_dir, "anna")
    assert (voice.name, voice.text) == (str(voices_dir / "anna.wav"), "I am anna.")
    assert torch.equal(voice.waveform, read_audio(voices_dir / "anna.wav", name="anna"))
    assert [voice.text for voice in voices(voices_dir, "ben", str(voices_dir / "anna.wav"))] == [
        "I am ben.",
        "I am anna.",
    ]
    assert voices(voices_dir, "ben", ref_text="Other words")[0].text == "Other words."
    assert voices(voices_dir, "ben", ref_in_system=True)[0].text is None


def test_an_unknown_name_and_a_missing_transcript_are_named(voices_dir, tmp_path):
    with pytest.raises(
        InputError, match="ref_audio ana: no such file, and no voice of voices_dir; did you mean anna?"
    ):
        voices(voices_dir, "ana")
    with pytest.raises(InputError, match=r"ref_audio ../x: .*; there are anna, ben"):
        voices(voices_dir, "../x")
    with pytest.raises(InputError, match="voices_dir: no such folder: .*nowhere"):
        voices(tmp_path / "nowhere", "anna")
    write_wav(tmp_path / "carl.wav", tone(0.5))
    with pytest.raises(
        InputError, match="ref_audio carl: no transcript .*carl.txt; write what the clip says, give ref"
    ):
        voices(tmp_path, "carl")
    (tmp_path / "carl.txt").write_text("...")
    with pytest.raises(InputError, match="carl.txt has no words"):
        voices(tmp_path, "carl")


def test_a_described_voice_is_a_sentence_or_a_name_in_the_profiles(voices_dir):
    described = [
        voice.description for voice in voices(voices_dir, "profile: A  warm voice.", "profile:male_en", "ben")
    ]
    assert described == ["A warm voice.", "Male, British.", None]
    with pytest.raises(InputError, match="profile:male: no such name in profile.yaml; did you mean male_en?"):
        voices(voices_dir, "profile:male")
    with pytest.raises(InputError, match="profile: is empty: describe the voice in a sentence"):
        voices(voices_dir, "profile: ")
    (voice,) = read_voices(GenerateConfig(text="Hi.", profile="A low voice."))
    assert (voice.description, voice.waveform) == ("A low voice.", None)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"profiles: {a: &x [1], b: *y}", "not YAML"),
        (b"profiles:\n  a: Caf\xe9.\n", "is not UTF-8"),
        (b"a: &a [x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (i + 1, i + 1, i, i) for i in range(97, 117)), "values"),
        (b"profiles: " + b"[" * 5000, "nested deeper than 50 levels"),
        (b"profiles: {a: 1}", "it must be a mapping"),
    ],
)
def test_profiles_of_unknown_origin_are_read_within_limits(tmp_path, content, message):
    (tmp_path / "profile.yaml").write_bytes(content)
    with pytest.raises(InputError, match=f"profile.yaml.*{message}"):
        voices(tmp_path, "profile:a")


def test_profiles_may_have_a_byte_order_mark(tmp_path):
    (tmp_path / "profile.yaml").write_text("profiles: {low: A low voice.}", encoding="utf-8-sig")
    (voice,) = voices(tmp_path, "profile:low")
    assert voice.description == "A low voice."


def scene_and_roles(text, voices, *, scene=None, ref_in_system=False):
    turns = voice_conversation(text, voices, scene=scene, ref_in_system=ref_in_system, place="text 0")
    items = [item.get("text", "<audio>") for turn in turns if turn["role"] == "scene" for item in turn["content"]]
    return items, [turn["role"] for turn in turns]


def test_described_voices_stand_in_the_scene_as_the_reference_writes_them(voices_dir):
    mixed = voices(voices_dir, "profile: A low voice.", "anna")
    dialogue = "[SPEAKER0] Hi.\n[SPEAKER1] Ho."
    expected = (
        ["A quiet room.", "SPEAKER0: A low voice.", "SPEAKER1:", "<audio>"],
        ["system", "scene", "user", "assistant"],
    )
    assert scene_and_roles(dialogue, mixed, scene="A quiet room.", ref_in_system=True) == expected
    assert scene_and_roles("Hi.", mixed[:1], ref_in_system=True)[0] == ["SPEAKER0: A low voice."]


def test_three_speakers_have_a_reference_each(voices_dir):
    text = "[SPEAKER0] One. [SPEAKER2] Three. [SPEAKER1] Two."
    three = voices(voices_dir, "anna", "ben", "anna")
    turns = voice_conversation(text, three, scene=None, ref_in_system=False, place="text 0")
    spoken = [turn["content"][0]["text"] for turn in turns if turn["role"] == "user"]
    assert spoken == ["[SPEAKER0] I am anna.", "[SPEAKER1] I am ben.", "[SPEAKER2] I am anna.", text]
    with pytest.raises(InputError, match="row text 0: ref_speakers has no entry for SPEAKER2; add one per speaker"):
        voice_conversation(text, three[:2], scene=None, ref_in_system=False, place="text 0")
    with pytest.raises(InputError, match="text 0 has no speaker tags, but there are 3 ref_audio clips: give one clip"):
        voice_conversation("Hi.", three, scene=None, ref_in_system=False, place="text 0")
