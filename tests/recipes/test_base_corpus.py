"""The texts of the tiny model's corpora, their voices, and the normalization of clips. No synthesizer is needed."""

import csv
import doctest
import json
import subprocess
import sys
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import soundfile
import yaml
from transformers import HiggsAudioV2Config

from higgs_recipes.chatml import conversation
from higgs_recipes.configs.inference import InitConfig
from higgs_recipes.modeling.random_model import byte_tokenizer
from higgs_recipes.samples import tokenize_prompt
from recipes.tiny.spoken import plan, texts, word_forms
from recipes.tiny.spoken.clips import LEAD_SECONDS, LOUDNESS, RATE, TRAIL_SECONDS, prepare, resample
from recipes.tiny.spoken.voices import BASE_VOICES, DEMO_VOICES, EXTRA_VOICES, Voice
from tests.helpers.paths import ROOT


TINY = ROOT / "recipes" / "tiny"
SYNSETS = {  # part: (lexicographer's file, words, frames, gloss)
    "noun": [
        (
            6,
            "canoe",
            "",
            'a small light boat; "the birch canoe slid on the smooth planks of the pier"; "our canoe sank"',
        ),
        (6, "boat", "", "a small vessel (as on a river) for travel on water"),
        (17, "river", "", 'a large stream of water; "they sailed the river, and then the sea"'),
        (18, "woman girl", "", 'an adult female, e.g. one of age 21; "where is the small boat?"'),
        (27, "water", "", "a small boat on the water"),
    ],
    "verb": [
        (38, "sail", "+ 02 00 + 08 00", "travel on water"),
        (38, "push", "+ 08 00", "move a small boat on the water"),
        (38, "sink", "+ 01 00 + 11 00", 'go under; "The boat sank on the B.B.C. news"'),
    ],
    "adj": [(0, "small", "", "a small boat on the river"), (0, "light(a)", "", "of small weight on the water")],
    "adv": [(2, "slowly", "", 'on the water; "where is the water?"; "where is a boat?"')],
}


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory):
    """A WordNet of eleven synsets, in WordNet's format."""
    folder = tmp_path_factory.mktemp("wordnet")
    tags = []
    for part, synsets in SYNSETS.items():
        lines = ["  1 This software and database is being provided to you, the LICENSEE"]
        for number, (file, words, frames, gloss) in enumerate(synsets):
            words = words.split()
            named = " ".join(f"{word} 0" for word in words)
            uses = f" {frames.count('+'):02d} {frames}" if part == "verb" else ""
            lines.append(
                f"{number:08d} {file:02d} {part[0]} {len(words):02x} {named} 001 + 03110323 n 0301{uses} | {gloss}  "
            )
            kind = {"noun": 1, "verb": 2, "adj": 3, "adv": 4}[part]
            tags += [f"{word.removesuffix('(a)')}%{kind}:{file:02d}:00:: 1 {9 - number}" for word in words]
        (folder / f"data.{part}").write_text("\n".join(lines) + "\n", encoding="ascii")
    (folder / "cntlist.rev").write_text("\n".join(tags) + "\n", encoding="ascii")
    return folder


@pytest.fixture(scope="module")
def some_texts(wordnet):
    return list(islice(texts.base_texts(wordnet, seed=0), 2000))


def test_examples_in_docstrings_hold():
    for module in (texts, word_forms, plan):
        assert doctest.testmod(module).failed == 0


def test_no_text_comes_twice(some_texts):
    assert len({texts.spoken(text.words) for text in some_texts}) == len(some_texts)


def test_texts_are_2_to_14_words_of_plain_letters(some_texts):
    for text in some_texts:
        assert set(text.words) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ,.?'"), text
        assert 2 <= len(text.words.split()) <= 14
        assert text.words[0].isupper() and text.words[-1] in ".?" and not set(text.words[:-1]) & set(".?")
        assert "  " not in text.words and " ," not in text.words


def test_no_text_shares_four_consecutive_words_with_a_harvard_sentence(some_texts):
    harvard = set()
    for line in texts.harvard_lists(1, 72):
        words = texts.spoken(line)
        harvard |= {words[start : start + 4] for start in range(len(words) - 3)}
    for text in some_texts:
        words = texts.spoken(text.words)
        assert not any(words[start : start + 4] in harvard for start in range(len(words) - 3)), text
    assert not any("birch" in text.words for text in some_texts)  # although a WordNet example begins like the first


def test_a_seed_gives_the_same_texts_and_another_seed_gives_others(wordnet, some_texts):
    assert list(islice(texts.base_texts(wordnet, seed=0), 300)) == some_texts[:300]
    assert list(islice(texts.base_texts(wordnet, seed=1), 300)) != some_texts[:300]


def test_texts_come_from_wordnet_and_from_the_grammar(some_texts):
    found = {text.words for text in some_texts if text.origin == texts.WORDNET}
    assert {"A small boat on the water.", "Where is the small boat?", "Where is a boat?"} <= found
    assert not any("news" in words or "age" in words for words in found)  # an abbreviation, a number
    built = [text.words for text in some_texts if text.origin == texts.GRAMMAR]
    assert len(built) > 1900  # the small WordNet runs out soon
    words = Counter(word for line in built for word in texts.spoken(line))
    assert {"sailed", "canoes", "women", "sunk", "pushing", "smaller", "slowly", "an"} <= words.keys()


def test_a_long_gloss_is_cut_between_phrases():
    gloss = "a boat that was built by three brothers in the north of the country when they were young and poor"
    assert list(texts.clauses(gloss)) == [
        "a boat that was built by three brothers in the north of the country",
        "when they were young and poor",
    ]


def test_harvard_lists_are_72_of_ten():
    assert len(texts.harvard_lists(1, 72)) == len(set(texts.harvard_lists(1, 72))) == 720
    assert texts.harvard_lists(2, 2)[0] == "The boy was there when the sun rose."
    with pytest.raises(ValueError, match="Harvard lists 70 to 73: there are lists 1 to 72"):
        texts.harvard_lists(70, 73)


def test_a_folder_without_wordnet_is_named(tmp_path):
    with pytest.raises(SystemExit, match="no cntlist.rev, data.noun, .*apt-get install wordnet-base"):
        next(texts.base_texts(tmp_path, seed=0))


def test_hours_are_divided_by_the_shares(wordnet):
    shares = {"heart": 1.0, "rms": 1.0, "us_f2": 0.1}
    clips = list(plan.plan_hours(shares, hours=0.5, wordnet=wordnet, seed=0))
    seconds = Counter()
    for clip in clips:
        seconds[clip.voice] += 0.2 + len(clip.text) / plan.VOICES[clip.voice].letters_per_second / clip.speed
    assert sum(seconds.values()) == pytest.approx(1800, abs=10)
    assert seconds["rms"] == pytest.approx(seconds["heart"], abs=10)
    assert seconds["us_f2"] == pytest.approx(0.1 * seconds["heart"], abs=10)
    assert [clip.number for clip in clips] == list(range(len(clips)))


def test_half_the_clips_have_no_scene(wordnet):
    clips = list(plan.plan_hours({"heart": 1.0, "rms": 1.0}, hours=0.5, wordnet=wordnet, seed=0))
    described = [clip for clip in clips if clip.is_described]
    assert 0.45 < len(described) / len(clips) < 0.55
    for clip in clips:
        row = plan.metadata_row(clip)
        if clip.is_described:
            assert (row["speaker"], row["task"]) == (clip.voice, "single_speaker_smart_voice") and row["scene"]
        else:
            assert row["scene"] is row["task"] is None and row["speaker"].startswith(clip.voice)
    assert {clip.speaker for clip in clips} == {
        f"{voice}{speed}" for voice in ("heart", "rms") for speed in ("", "_0.86", "_0.93", "_1.07", "_1.15")
    }


def test_a_faster_clip_is_shorter_and_higher(tmp_path, monkeypatch):
    monkeypatch.setitem(
        plan.VOICES, "hum", Voice("Somebody hums.", "male", lambda text: (tone(1, 16_000), 16_000), 15)
    )
    (tmp_path / "audio" / "hum").mkdir(parents=True)
    clip, seconds = plan.speak(tmp_path, plan.Clip(3, "Hello there.", "test", "hum", False, 1.15))
    assert seconds == pytest.approx(LEAD_SECONDS + 1 / 1.15 + TRAIL_SECONDS, abs=0.021)
    wave, rate = soundfile.read(tmp_path / clip.file_name)
    loudest = np.abs(np.fft.rfft(wave)).argmax() * rate / len(wave)
    assert loudest == pytest.approx(440 * 1.15, abs=2)


def test_every_voice_reads_every_harvard_sentence():
    clips = list(plan.plan_harvard(["heart", "slt"], first=13, last=14, is_described=True))
    assert len({clip.number for clip in clips}) == len(clips) == 40
    assert Counter(clip.voice for clip in clips) == {"heart": 20, "slt": 20}
    assert {clip.text for clip in clips} == set(texts.harvard_lists(13, 14))


def test_every_voice_has_its_own_description():
    voices = BASE_VOICES | EXTRA_VOICES | DEMO_VOICES
    assert len({voice.scene for voice in voices.values()}) == len(voices) == 12


def tone(seconds: float, rate: int, *, amplitude: float = 0.1) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", [16_000, 22_050, 24_000])
def test_a_tone_of_another_rate_becomes_the_same_tone(rate):
    hanning = np.hanning(rate), np.hanning(RATE)
    assert resample(tone(1, rate) * hanning[0], rate) == pytest.approx(tone(1, RATE) * hanning[1], abs=1e-4)


@pytest.mark.parametrize("rate", [16_000, 22_050, 24_000])
def test_clips_have_one_loudness_and_fixed_silence(rate):
    silence = np.zeros(rate // 2)
    for amplitude in (0.01, 0.5):
        clip = prepare(np.concatenate([silence, tone(1, rate, amplitude=amplitude), silence, silence]), rate)
        assert clip.dtype == np.int16
        assert len(clip) / RATE == pytest.approx(LEAD_SECONDS + 1 + TRAIL_SECONDS, abs=0.021)
        wave = clip / 32767
        middle = wave[round(0.3 * RATE) : round(0.9 * RATE)]
        assert 10 * np.log10(np.mean(middle**2)) == pytest.approx(LOUDNESS, abs=0.2)
        assert np.abs(wave[: round((LEAD_SECONDS - 0.011) * RATE)]).max() < 0.005
        assert np.abs(wave[-round((TRAIL_SECONDS - 0.011) * RATE) :]).max() < 0.005


def test_a_click_does_not_exceed_full_scale():
    wave = tone(1, RATE, amplitude=0.001)
    wave[5000] = 1.0
    assert np.abs(prepare(wave, RATE)).max() <= 0.981 * 32767


def test_a_silent_clip_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(
        plan.VOICES, "mute", Voice("Nobody speaks.", "female", lambda text: (np.zeros(8000), 16_000), 15.0)
    )
    (tmp_path / "audio" / "mute").mkdir(parents=True)
    with pytest.raises(ValueError, match="mute reading 'Hello there.': the clip is silent"):
        plan.speak(tmp_path, plan.Clip(3, "Hello there.", "test", "mute"))


def test_an_existing_clip_is_not_made_again(tmp_path, monkeypatch):
    calls = []

    def hum(text):
        calls.append(text)
        return tone(1, 16_000), 16_000

    monkeypatch.setitem(plan.VOICES, "hum", Voice("Somebody hums.", "male", hum, 15.0))
    (tmp_path / "audio" / "hum").mkdir(parents=True)
    clip = plan.Clip(3, "Hello there.", "test", "hum")
    first, again = plan.speak(tmp_path, clip), plan.speak(tmp_path, clip)
    assert first == again and calls == ["Hello there."]
    info = soundfile.info(tmp_path / "audio/hum/0000003.flac")
    assert (info.samplerate, info.channels, info.subtype) == (24_000, 1, "PCM_16")
    assert [path.name for path in (tmp_path / "audio/hum").iterdir()] == ["0000003.flac"]
    assert plan.metadata_row(clip)["length"] == "short"


def run(*words: object) -> str:
    """The error message of make_base_corpus.py."""
    command = [sys.executable, TINY / "make_base_corpus.py", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    return done.stderr


def test_the_error_for_an_unknown_voice_lists_the_known_ones(tmp_path):
    message = run("--hours", 1, "--output_dir", tmp_path, "--voices", "joe")
    assert "unknown voice 'joe'; choose from heart, rms, awb, slt, kal16, us_f2" in message


def test_no_scene_is_refused_with_hours(tmp_path):
    message = run("--hours", 1, "--no_scene", "--output_dir", tmp_path)
    assert "--no_scene requires --harvard_lists" in message and not list(tmp_path.iterdir())


def test_a_folder_of_another_corpus_is_not_overwritten(tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps({"seed": 1}))
    message = run("--harvard_lists", "5-6", "--output_dir", tmp_path)
    assert "holds a corpus made with other options" in message and "choose another --output_dir" in message
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_the_demo_corpus_is_complete_and_small():
    folder = TINY / "demo_corpus"
    with open(folder / "metadata.csv", newline="", encoding="utf-8") as metadata:
        rows = list(csv.DictReader(metadata))
    assert [row["text"] for row in rows] == texts.harvard_lists(5, 12)
    assert {row["file_name"] for row in rows} == {path.name for path in folder.glob("*.flac")}
    assert {(row["speaker"], row["scene"]) for row in rows} == {("joe", DEMO_VOICES["joe"].scene)}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 4_000_000
    for row in rows:
        info = soundfile.info(folder / row["file_name"])
        assert (info.samplerate, info.channels, info.subtype) == (RATE, 1, "PCM_16")


def test_every_voice_description_is_one_token_of_the_base_model():
    init = InitConfig(**yaml.safe_load((TINY / "base_init.yaml").read_text(encoding="utf-8")))
    config = HiggsAudioV2Config.from_pretrained(ROOT / init.model_config)
    tokenizer = byte_tokenizer(config, phrases=init.phrases)
    for voice in (BASE_VOICES | EXTRA_VOICES).values():
        assert len(tokenizer(voice.scene)["input_ids"]) == 1
    row = {"text": "[SPEAKER0] A.\n[SPEAKER1] B.", "scene": BASE_VOICES["slt"].scene}
    turns = conversation(row, task="multi_speaker_smart_voice")
    prompt = tokenize_prompt(turns[:-1], tokenizer, add_generation_prompt=True)
    assert len(prompt) <= 65  # of 450 bytes
