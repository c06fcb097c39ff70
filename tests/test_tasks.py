import json
import re
from collections import Counter

import pytest

from higgs_recipes.audio import read_audio
from higgs_recipes.chatml import TASKS
from higgs_recipes.clips import Clip, cut_at_turns, joined_clip
from higgs_recipes.corpus import load_rows
from higgs_recipes.corpus_configs import EncodeConfig
from higgs_recipes.delay import SAMPLE_RATE
from higgs_recipes.encoding import encode_corpus, load_encoded
from higgs_recipes.errors import InputError
from higgs_recipes.levels import Levels
from higgs_recipes.tasks import count_cuts, count_tasks, lay_out_tasks
from tests.corpus_folder import encode_config, make_corpus, write_metadata, write_tone


SMART, CLONING = "single_speaker_smart_voice", "zero_shot_voice_cloning"
DIALOGUE, DIALOGUE_CLONING = "multi_speaker_smart_voice", "multi_speaker_voice_cloning"


def laid_out(folder, **fields):
    """(the config, the corpus, the laid-out rows of its only split)"""
    config = encode_config(folder, **{"test_size": 0, "ref_min_seconds": 0.3} | fields)
    corpus = load_rows(config)
    return config, corpus, lay_out_tasks(corpus, corpus.rows, config, split="train")


def audio_urls(row) -> list[str]:
    return [item["url"] for turn in json.loads(row["messages"]) for item in turn["content"] if item["type"] == "audio"]


def test_tasks_are_drawn_in_the_shares_of_their_weights_and_the_draw_is_seeded(tmp_path):
    make_corpus(tmp_path, 20)
    tasks = {SMART: 7, CLONING: 3}
    _, _, rows = laid_out(tmp_path, tasks=tasks)
    assert count_tasks(rows) == {SMART: 14, CLONING: 6}
    _, _, again = laid_out(tmp_path, tasks=tasks)
    assert [row["messages"] for row in rows] == [row["messages"] for row in again]
    _, _, other = laid_out(tmp_path, tasks=tasks, seed=1)
    assert count_tasks(other) == count_tasks(rows)
    assert [row["task"] for row in other] != [row["task"] for row in rows]


def test_a_drawn_reference_is_another_clip_of_the_same_speaker(tmp_path):
    make_corpus(tmp_path, 12)
    _, corpus, rows = laid_out(tmp_path, tasks={CLONING: 1})
    speaker_of = {row["own"].content_hash: row["speaker"] for row in corpus.rows}
    text_of = {row["own"].content_hash: row["text"] for row in corpus.rows}
    assert len(rows) == 12
    for row in rows:
        reference, own = row["clips"]
        assert reference.content_hash != own.content_hash
        assert speaker_of[reference.content_hash] == row["speaker"]
        assert row["ref_texts"] == [text_of[reference.content_hash]]
        assert len(audio_urls(row)) == 2
    assert len({row["clips"][0].content_hash for row in rows}) > 4  # not one for all


def test_a_reference_has_the_recipes_length_and_a_row_without_one_is_rejected(tmp_path):
    for name, seconds in (("a", 0.5), ("b", 1.5), ("c", 1.6), ("d", 1.0)):
        write_tone(tmp_path / f"{name}.wav", seconds=seconds, hertz=200 + 100 * seconds)
    rows = [{"file_name": f"{name}.wav", "text": f"Row {name}.", "speaker": "anna"} for name in "abc"]
    write_metadata(tmp_path, [*rows, {"file_name": "d.wav", "text": "Row d.", "speaker": "bert"}])
    _, corpus, made = laid_out(tmp_path, tasks={CLONING: 1}, ref_min_seconds=1.45, ref_max_seconds=1.55)
    assert {row["id"]: row["ref_texts"] for row in made} == {"a": ["Row b."], "c": ["Row b."]}
    reasons = {reject["id"]: reject["reason"] for reject in corpus.rejects}
    expected = "zero_shot_voice_cloning: no reference; speaker {} has no other clip of 1.45 to 1.55 s"
    assert reasons == {"b": expected.format("anna"), "d": expected.format("bert")}


def test_the_same_sound_under_another_name_is_no_reference(tmp_path):
    for name in ("a", "twin"):
        write_tone(tmp_path / f"{name}.wav")
    write_metadata(
        tmp_path, [{"file_name": f"{name}.wav", "text": "A hum.", "speaker": "anna"} for name in ("a", "twin")]
    )
    with pytest.raises(
        InputError, match="no row of split train is left.*no reference; speaker anna has no other clip"
    ):
        laid_out(tmp_path, tasks={CLONING: 1})


def test_a_row_without_a_speaker_has_no_other_clip(tmp_path):
    for name in "ab":
        write_tone(tmp_path / f"{name}.wav", hertz=ord(name))
    write_metadata(tmp_path, [{"file_name": f"{name}.wav", "text": "A hum."} for name in "ab"])
    with pytest.raises(InputError, match="ref_audio is missing, and without a speaker no other clip can be drawn"):
        laid_out(tmp_path, tasks={CLONING: 1})


def test_a_row_that_brings_its_reference_keeps_it(tmp_path):
    for name in "abc":
        write_tone(tmp_path / f"{name}.wav", hertz=2.0 * ord(name))
    own = {"ref_audio_file_name": "c.wav", "ref_text": "It is c", "speaker": "anna"}
    write_metadata(tmp_path, [{"file_name": f"{name}.wav", "text": f"Row {name}.", **own} for name in "ab"])
    _, _, rows = laid_out(tmp_path, tasks={CLONING: 1})
    assert [row["ref_texts"] for row in rows] == [["It is c."]] * 2
    assert [audio_urls(row) for row in rows] == [["c.wav", "a.wav"], ["c.wav", "b.wav"]]


def test_references_can_stand_in_the_system_turn(tmp_path):
    make_corpus(tmp_path, 4)
    _, _, rows = laid_out(tmp_path, tasks={CLONING: 1}, ref_in_system=True)
    roles = [turn["role"] for turn in json.loads(rows[0]["messages"])]
    assert roles == ["system", "scene", "user", "assistant"] and len(audio_urls(rows[0])) == 2


def test_utterances_are_joined_into_dialogues_of_two_speakers(tmp_path):
    make_corpus(tmp_path, 40)
    _, corpus, rows = laid_out(tmp_path, tasks={DIALOGUE: 1}, dialogue_turns=[2, 5])
    used = [part.content_hash for row in rows for part in row["own"].parts]
    assert len(used) == len(set(used))  # an utterance in one dialogue only
    assert len(used) + len(corpus.rejects) == 40 and len(corpus.rejects) < 5
    speaker_of = {row["own"].content_hash: row["speaker"] for row in corpus.rows}
    for row in rows:
        turns = re.findall(r"\[(SPEAKER[01])\] ([^\n]+)", row["text"])
        speakers = [speaker_of[part.content_hash] for part in row["own"].parts]
        assert 2 <= len(turns) == len(speakers) <= 5 and len(set(speakers)) == 2
        assert len(set(zip([tag for tag, _ in turns], speakers, strict=True))) == 2  # a tag is a speaker
        assert row["turn_speakers"] == speakers
        assert all(one != two for one, two in zip(speakers, speakers[1:], strict=False))
        assert row["messages"] and len(audio_urls(row)) == 1
    assert len({len(row["own"].parts) for row in rows}) > 1
    firsts = Counter(re.match(r"\[SPEAKER(\d)\]", row["text"]).group(1) for row in rows)
    assert min(firsts["0"], firsts["1"]) > 0  # a number means nothing


def test_a_dialogue_sounds_as_its_turns_with_gaps_between_them(tmp_path):
    make_corpus(tmp_path, 4)
    _, corpus, rows = laid_out(tmp_path, tasks={DIALOGUE: 1}, dialogue_turns=[2, 2], dialogue_gap_seconds=[0.25, 0.25])
    for row in rows:
        joined = corpus.waveform(row["own"], name=row["id"])
        first, second = (read_audio(corpus.recording(part), name="part") for part in row["own"].parts)
        gap = round(0.25 * SAMPLE_RATE)
        assert len(joined) == len(first) + gap + len(second) == round(row["seconds"] * SAMPLE_RATE)
        assert joined[: len(first)].equal(first) and joined[-len(second) :].equal(second)
        assert not joined[len(first) : len(first) + gap].any()


def test_a_dialogue_in_cloned_voices_has_a_reference_for_each_speaker(tmp_path):
    make_corpus(tmp_path, 16)
    _, corpus, rows = laid_out(tmp_path, tasks={DIALOGUE_CLONING: 1}, dialogue_turns=[2, 3])
    speaker_of = {row["own"].content_hash: row["speaker"] for row in corpus.rows}
    for row in rows:
        *references, own = row["clips"]
        assert len(references) == 2 and len(row["ref_texts"]) == 2
        assert not {each.content_hash for each in references} & {part.content_hash for part in own.parts}
        tags = [re.match(r"\[(SPEAKER\d)\]", line).group(1) for line in row["text"].splitlines()]
        speaker_by_tag = {tag: speaker_of[part.content_hash] for tag, part in zip(tags, own.parts, strict=True)}
        assert [speaker_of[each.content_hash] for each in references] == [
            speaker_by_tag[tag] for tag in sorted(speaker_by_tag)
        ]


def test_a_long_overlap_leaves_half_of_each_turn(tmp_path):
    make_corpus(tmp_path, 4)
    _, corpus, rows = laid_out(tmp_path, tasks={DIALOGUE: 1}, dialogue_turns=[2, 2], dialogue_gap_seconds=[-1.0, -0.9])
    for row in rows:
        first, second = row["own"].parts
        assert row["seconds"] == pytest.approx(
            max(first.seconds, second.seconds) + 0.5 * min(first.seconds, second.seconds)
        )
        assert len(corpus.waveform(row["own"], name=row["id"])) == round(row["seconds"] * SAMPLE_RATE)


def test_a_dialogue_stays_within_the_longest_clip(tmp_path):
    make_corpus(tmp_path, 20)
    _, _, rows = laid_out(tmp_path, tasks={DIALOGUE: 1}, dialogue_turns=[4, 6], max_seconds=1.5)
    assert rows and all(row["seconds"] <= 1.5 and len(row["own"].parts) >= 2 for row in rows)


def test_one_speaker_has_nobody_to_talk_to(tmp_path):
    for name in "ab":
        write_tone(tmp_path / f"{name}.wav", hertz=2.0 * ord(name))
    write_metadata(tmp_path, [{"file_name": f"{name}.wav", "text": "Hm.", "speaker": "anna"} for name in "ab"])
    with pytest.raises(InputError, match="no partner; the other speakers' utterances are used up"):
        laid_out(tmp_path, tasks={DIALOGUE: 1})


def test_a_recorded_dialogue_teaches_a_dialogue_task_or_nothing(tmp_path):
    write_tone(tmp_path / "talk.wav", seconds=2.0)
    write_tone(tmp_path / "word.wav", seconds=1.0, hertz=300.0)
    talk = {"file_name": "talk.wav", "text": "[SPEAKER0] Hi.\n[SPEAKER1] Well."}
    write_metadata(tmp_path, [talk, {"file_name": "word.wav", "text": "Word."}])
    _, corpus, rows = laid_out(tmp_path, tasks={SMART: 1})
    assert [row["id"] for row in rows] == ["word"]
    reason = "single_speaker_smart_voice: the text is a dialogue; give tasks a multi_speaker task"
    assert [reject["reason"] for reject in corpus.rejects] == [reason]
    _, _, rows = laid_out(tmp_path, tasks={SMART: 1000, DIALOGUE: 1})
    assert {row["id"]: row["task"] for row in rows} == {"word": SMART, "talk": DIALOGUE}
    assert {row["id"]: row["turn_speakers"] for row in rows} == {"word": [], "talk": [None, None]}


def test_a_mix_of_all_four_tasks_is_encoded_with_its_references_and_counted(tmp_path):
    make_corpus(tmp_path / "clips", 48)
    tasks = {SMART: 1.0, CLONING: 1.0, DIALOGUE: 1.0, DIALOGUE_CLONING: 1.0}
    fields = {"tasks": tasks, "ref_min_seconds": 0.3, "test_size": 20, "keep_audio": "all"}
    folder = encode_corpus(
        encode_config(tmp_path / "clips", output_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "c"), **fields)
    )
    record = json.loads((folder / "corpus.json").read_text())
    for split in ("train", "test"):
        rows = load_encoded(folder, split=split)
        assert record["splits"][split]["tasks"] == dict(Counter(rows["task"])) and set(rows["task"]) == set(tasks)
        for row in rows:
            num_audios = len(audio_urls(row))
            assert num_audios == len(row["ref_codes"]) + 1 == len(row["ref_texts"]) + 1
            assert len(row["turn_speakers"]) == row["text"].count("[SPEAKER")
            assert set(row["turn_speakers"]) <= {"anna", "bert"}
            seconds = len(read_audio(row["audio"], name=row["id"])) / SAMPLE_RATE
            assert seconds == pytest.approx(row["seconds"], abs=1e-3)
            assert len(row["codes"]) == -(-round(row["seconds"] * SAMPLE_RATE) // 960)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tasks": {}}, "tasks is empty"),
        ({"tasks": {"singing": 1.0}}, "tasks: 'singing' is none of single_speaker_smart_voice"),
        (
            {"tasks": {SMART: -1.0}},
            "tasks: weight of single_speaker_smart_voice is -1.0; it must be a positive number",
        ),
        ({"tasks": {SMART: "much"}}, "it must be a positive number"),
        ({"ref_min_seconds": 5.0, "ref_max_seconds": 4.0}, "need 0 < the first < the second"),
        (
            {"dialogue_turns": [1, 3]},
            r"dialogue_turns is \[1, 3\]: need two numbers, the smaller first and not below 2",
        ),
        ({"dialogue_gap_seconds": [0.5]}, "dialogue_gap_seconds is .* need two numbers"),
        ({"license": "CC BY 4.0"}, "license is 'CC BY 4.0'; use the Hub's identifier, e.g. cc-by-4.0"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        EncodeConfig(sources=["corpus"], **fields)


def write_turns(folder, *dialogues, **columns) -> None:
    """metadata.jsonl of dialogues, each a list of turns, beside recordings a.wav ... d.wav."""
    for index, name in enumerate("abcd"):
        write_tone(folder / f"{name}.wav", seconds=0.4 + 0.1 * index, hertz=200.0 + 50 * index)
    rows = [{"id": f"talk{index}", "turns": turns, **columns} for index, turns in enumerate(dialogues)]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def turn(speaker: str, text: str, audio: str | None = None) -> dict[str, str | None]:
    return {"speaker": speaker, "text": text, "audio": audio}


def test_turns_with_recordings_of_their_own_are_joined_in_their_order(tmp_path):
    write_turns(
        tmp_path, [turn("anna", "Hello", "a.wav"), turn("bert", "Well", "b.wav"), turn("anna", "Bye!", "c.wav")]
    )
    _, corpus, (row,) = laid_out(tmp_path, tasks={DIALOGUE: 1})
    tags = row["tags"]
    assert set(tags) == {"anna", "bert"} and set(tags.values()) == {"SPEAKER0", "SPEAKER1"}
    lines = [f"[{tags['anna']}] Hello.", f"[{tags['bert']}] Well.", f"[{tags['anna']}] Bye!"]
    assert row["text"] == "\n".join(lines) and row["task"] == DIALOGUE
    assert [corpus.recording(part)["path"][-5:] for part in row["own"].parts] == ["a.wav", "b.wav", "c.wav"]
    assert len(corpus.waveform(row["own"], name="talk")) == round(row["seconds"] * SAMPLE_RATE)
    _, _, (again,) = laid_out(tmp_path, tasks={DIALOGUE: 1})
    assert again["own"].content_hash == row["own"].content_hash and again["text"] == row["text"]


def test_turns_of_one_recording_are_its_text(tmp_path):
    write_turns(tmp_path, [turn("anna", "Hello"), turn("bert", "Well")], file_name="d.wav")
    _, corpus, (row,) = laid_out(tmp_path, tasks={DIALOGUE: 1})
    assert corpus.recording(row["own"])["path"].endswith("d.wav") and not row["own"].parts
    assert len(row["text"].splitlines()) == 2


def test_a_dialogue_in_turns_takes_its_references_from_its_speakers_other_clips(tmp_path):
    make_corpus(tmp_path / "words", 6)  # of anna and bert
    write_turns(tmp_path / "talk", [turn("anna", "Hello", "a.wav"), turn("bert", "Well", "b.wav")])
    sources = [str(tmp_path / "words"), str(tmp_path / "talk")]
    _, corpus, rows = laid_out(tmp_path, sources=sources, tasks={SMART: 1000, DIALOGUE_CLONING: 1})
    (talk,) = [row for row in rows if row["task"] == DIALOGUE_CLONING]
    speaker_of = {row["own"].content_hash: row["speaker"] for row in corpus.rows}
    by_tag = {tag: speaker for speaker, tag in talk["tags"].items()}
    assert [speaker_of[clip.content_hash] for clip in talk["clips"][:-1]] == [by_tag["SPEAKER0"], by_tag["SPEAKER1"]]


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([turn("anna", "Hi"), turn("bert", " ")], "turn 1 has no text; give each turn its speaker and its words"),
        ([turn("", "Hi", "a.wav")], "turn 0 has no speaker"),
        ([turn("anna", "Hi", "a.wav"), turn("bert", "Yes")], "turn 1 has no recording, unlike the first"),
        ([turn("anna", "Hi", "a.wav"), turn("bert", "Yes", "../b.wav")], "audio leaves the folder of its source"),
        ([turn("anna", "Hi", "a.wav"), turn("bert", "Yes", "none.wav")], "recording of turn 1 cannot be read"),
        ([turn("anna", "Hi"), turn("bert", "Yes")], "recording missing; give the row one or drop it"),
    ],
)
def test_turns_that_make_no_dialogue_are_rejected(tmp_path, turns, reason):
    write_turns(tmp_path, turns, [turn("anna", "Good", "c.wav"), turn("bert", "One", "d.wav")])
    _, corpus, rows = laid_out(tmp_path, tasks={DIALOGUE: 1})
    assert [row["id"] for row in rows] == ["talk1"]
    assert [(reject["id"], reject["reason"].startswith(reason)) for reject in corpus.rejects] == [
        (corpus.rejects[0]["id"], True)
    ], corpus.rejects


def test_turns_beside_references_by_tag_are_rejected(tmp_path):
    good = {"turns": [turn("anna", "Good", "c.wav"), turn("bert", "One", "d.wav")]}
    write_turns(tmp_path)
    named = {"ref_speakers": [{"speaker_tag": "SPEAKER0", "ref_audio": "a.wav", "ref_text": "Who?"}]}
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (good, good | named)))
    _, corpus, _ = laid_out(tmp_path, tasks={DIALOGUE: 1})
    (reject,) = corpus.rejects
    assert reject["reason"].startswith("turns and ref_speakers do not go together: the tags of turns are drawn; leave")


# Dialogues that are too long


@pytest.mark.parametrize("num_turns", [2, 7, 20])
def test_a_long_clip_is_cut_in_its_gaps_and_no_lone_turn_is_left(num_turns):
    parts = [Clip(10.0, f"{index:032x}", levels=Levels(24_000, 0, 0.0, 0.0)) for index in range(num_turns)]
    whole = joined_clip(parts, [0.1 if index % 2 else -0.1 for index in range(num_turns - 1)])
    pieces = cut_at_turns(whole, 31.0)
    assert [part for _, piece in pieces for part in piece.parts] == parts
    for held, piece in pieces:
        assert piece.parts == whole.parts[held] and piece.gaps == whole.gaps[held.start : held.stop - 1]
        assert piece.seconds <= 31.0 and len(piece.parts) >= 2
    assert len(pieces) == -(-num_turns // 3)


def long_talk(folder, **columns):
    """Six turns of three speakers, 0.4 to 0.7 s each, and a short talk."""
    names = [("anna", "a"), ("bert", "b"), ("carl", "c"), ("carl", "d"), ("bert", "a"), ("anna", "b")]
    turns = [turn(speaker, f"Words {index}", f"{name}.wav") for index, (speaker, name) in enumerate(names)]
    write_turns(folder, turns, [turn("anna", "Good", "c.wav"), turn("bert", "One", "d.wav")], **columns)


def test_a_dialogue_that_is_too_long_is_rejected_unless_the_recipe_has_it_cut(tmp_path):
    long_talk(tmp_path)
    fields = {"tasks": {DIALOGUE: 1}, "max_seconds": 1.5, "dialogue_gap_seconds": [0.1, 0.1]}
    _, corpus, rows = laid_out(tmp_path, **fields)
    assert [row["id"] for row in rows] == ["talk1"] and count_cuts(rows) == {"dialogues": 0, "pieces": 0}
    assert [reject["reason"] for reject in corpus.rejects] == ["too long: 3.60 s, max_seconds is 1.5"]

    _, corpus, rows = laid_out(tmp_path, too_long="cut_at_turn", **fields)
    assert [row["id"] for row in rows] == ["talk0-turns-0-1", "talk0-turns-2-3", "talk0-turns-4-5", "talk1"]
    assert not corpus.rejects and count_cuts(rows) == {"dialogues": 1, "pieces": 3}
    said = [re.findall(r"\[SPEAKER(\d)\] (\S+ \d)\.", row["text"]) for row in rows[:3]]
    assert [words for piece in said for _, words in piece] == [f"Words {index}" for index in range(6)]
    # Each piece numbers its own speakers: the middle one has only one.
    assert [sorted({number for number, _ in piece}) for piece in said] == [["0", "1"], ["0"], ["0", "1"]]
    for row in rows:
        assert row["seconds"] <= 1.5
        assert len(corpus.waveform(row["own"], name=row["id"])) == round(row["seconds"] * SAMPLE_RATE)
    assert "Words 0\n" in rows[0]["raw_text"] and "Words 0.\n" in rows[0]["text"]


def test_what_cannot_be_cut_is_rejected(tmp_path):
    long_talk(tmp_path)
    whole = {"file_name": "d.wav", "id": "whole", "turns": [turn("anna", "Hello"), turn("bert", "Well")]}
    short = {"file_name": "a.wav", "id": "short", "text": "[SPEAKER0] Hm.\n[SPEAKER1] Hm."}
    with (tmp_path / "metadata.jsonl").open("a") as file:
        file.write("".join(json.dumps(row) + "\n" for row in (whole, short)))
    cut = {"tasks": {DIALOGUE: 1}, "too_long": "cut_at_turn"}
    _, corpus, _ = laid_out(tmp_path, max_seconds=0.65, **cut)
    reasons = {reject["id"]: reject["reason"] for reject in corpus.rejects}
    assert reasons == {
        "talk0": "recording of turn 3 too long: 0.70 s, max_seconds is 0.65",
        "talk1": "recording of turn 1 too long: 0.70 s, max_seconds is 0.65",
        "whole": "recording too long: 0.70 s, max_seconds is 0.65",
    }


def test_a_page_of_turns_is_cut_too_but_not_a_page_of_one_turn(tmp_path):
    words = "Word " * 150
    turns = [turn("anna", words, "a.wav"), turn("bert", words, "b.wav"), turn("anna", "Well", "c.wav")]
    write_turns(tmp_path, turns, [turn("anna", "Good", "c.wav"), turn("bert", "One", "d.wav")])
    fields = {"tasks": {DIALOGUE: 1}, "max_chars_per_second": 9999.0, "too_long": "cut_at_turn"}
    _, corpus, rows = laid_out(tmp_path, max_seconds=0.8, dialogue_gap_seconds=[0, 0], **fields)
    assert [row["id"] for row in rows][:3] == [f"talk0-turns-{index}-{index}" for index in range(3)]
    _, corpus, rows = laid_out(tmp_path, max_seconds=1.2, dialogue_gap_seconds=[0, 0], **fields)
    assert corpus.rejects[0]["reason"].startswith("multi_speaker_smart_voice: transcript too long: 1")


def test_cuts_are_counted_in_the_record_of_the_corpus(tmp_path):
    long_talk(tmp_path / "talk")
    fields = {"tasks": {DIALOGUE: 1}, "max_seconds": 1.5, "dialogue_gap_seconds": [0.1, 0.1], "test_size": 0}
    folders = {"output_dir": str(tmp_path / "out"), "cache_dir": str(tmp_path / "c")}
    folder = encode_corpus(encode_config(tmp_path / "talk", too_long="cut_at_turn", **fields, **folders))
    record = json.loads((folder / "corpus.json").read_text())
    assert record["splits"]["train"]["cut_at_turn"] == {"dialogues": 1, "pieces": 3}
    assert record["splits"]["train"]["rows"] == len(load_encoded(folder, split="train")) == 4


# Tasks that rows name themselves


def named_tasks(folder, tasks, *, last=()):
    """make_corpus with a column task, and rows after it."""
    make_corpus(folder, len(tasks))
    rows = [
        {"file_name": f"{index:02d}.wav", "text": f"Sentence {index}.", "speaker": ("anna", "bert")[index % 2]}
        for index in range(len(tasks))
    ]
    write_metadata(folder, [row | {"task": task} for row, task in zip(rows, tasks, strict=True)] + list(last))


def test_a_row_that_names_its_task_is_laid_out_as_it_and_the_others_are_drawn(tmp_path):
    named_tasks(tmp_path, [CLONING, "", DIALOGUE, DIALOGUE, "", "", "", SMART])
    _, _, rows = laid_out(tmp_path, tasks={SMART: 1})
    task_of = {row["id"]: row["task"] for row in rows}
    joined = [row_id for row_id in task_of if row_id.startswith("dialogue")]
    assert task_of.pop(*joined) == DIALOGUE
    assert task_of == {"00": CLONING, "01": SMART, "04": SMART, "05": SMART, "06": SMART, "07": SMART}
    _, _, rows = laid_out(tmp_path, tasks={CLONING: 1})
    assert {row["id"]: row["task"] for row in rows if row["task"] == SMART} == {"07": SMART}


def test_a_row_that_lacks_what_its_task_needs_is_rejected_and_taught_nothing_else(tmp_path):
    write_tone(tmp_path / "solo.wav", hertz=999.0)
    write_tone(tmp_path / "talk.wav", seconds=2.0, hertz=777.0)
    talk = {"file_name": "talk.wav", "text": "[SPEAKER0] Hi.\n[SPEAKER1] Well."}
    solo = {"file_name": "solo.wav", "text": "Alone.", "speaker": "carl"}
    last = [solo | {"id": "solo", "task": CLONING}, solo | {"id": "odd", "task": "singing"}]
    last += [talk | {"id": "smart", "task": SMART}, talk | {"id": "cloned", "task": DIALOGUE_CLONING}]
    make_corpus(tmp_path, 2)
    first = {"id": "first", "file_name": "00.wav", "text": "First.", "speaker": "anna", "task": None}
    write_metadata(tmp_path, [first, *last])
    _, corpus, rows = laid_out(tmp_path, tasks={SMART: 1})
    assert [row["id"] for row in rows] == ["first"]
    assert {reject["id"]: reject["reason"].split(";")[0] for reject in corpus.rejects} == {
        "solo": "zero_shot_voice_cloning: no reference",
        "odd": "task is 'singing'",
        "smart": "single_speaker_smart_voice: the text is a dialogue",
        "cloned": "multi_speaker_voice_cloning: ref_speakers has no entry for SPEAKER0, SPEAKER1",
    }
    reasons = {reject["id"]: reject["reason"] for reject in corpus.rejects}
    assert reasons["odd"] == f"task is 'singing'; use one of {', '.join(TASKS)}, or leave it out and one is drawn"
    assert reasons["smart"].endswith("; give its column task a multi_speaker task")


def test_a_named_cloning_row_brings_its_own_reference_whatever_the_recipe_teaches(tmp_path):
    make_corpus(tmp_path, 3)
    row = {"file_name": "00.wav", "text": "Hello.", "task": CLONING}
    own = {"ref_audio_file_name": "01.wav", "ref_text": "Before."}
    write_metadata(tmp_path, [row | own | {"id": "good"}, row | own | {"id": "no_text", "ref_text": ""}])
    _, corpus, (row,) = laid_out(tmp_path, tasks={SMART: 1})
    assert row["task"] == CLONING and row["ref_texts"] == ["Before."]
    assert [reject["reason"] for reject in corpus.rejects] == [
        "ref_text is missing; give the words of ref_audio, or set ref_in_system"
    ]


def test_an_empty_cell_names_no_speaker_no_task_and_no_reference(tmp_path):
    make_corpus(tmp_path, 4)
    empty = {"speaker": "", "task": "", "gender": "", "ref_audio_file_name": "", "ref_text": ""}
    write_metadata(tmp_path, [{"file_name": f"{index:02d}.wav", "text": "Hm."} | empty for index in range(4)])
    _, corpus, rows = laid_out(tmp_path, tasks={SMART: 1000, CLONING: 1})
    assert {row["speaker"] for row in rows} == {row["gender"] for row in rows} == {None}
    with pytest.raises(InputError, match="ref_audio is missing, and without a speaker no other clip can be drawn"):
        laid_out(tmp_path, tasks={CLONING: 1})


# Voices


def scene_lines(row) -> set[str]:
    return {item["text"] for item in json.loads(row["messages"])[1]["content"]}


def test_speakers_of_a_dialogue_are_described_by_their_gender_where_it_is_known(tmp_path):
    make_corpus(tmp_path, 16)
    genders = {"anna": "F", "bert": "male"}
    rows = [
        {"file_name": f"{index:02d}.wav", "text": f"Sentence {index}.", "speaker": speaker, "gender": genders[speaker]}
        for index, speaker in enumerate(["anna", "bert"] * 8)
    ]
    write_metadata(tmp_path, rows)
    _, _, rows = laid_out(tmp_path, tasks={DIALOGUE: 1})
    for row in rows:
        assert scene_lines(row) == {f"{row['tags']['anna']}: feminine", f"{row['tags']['bert']}: masculine"}
    assert {row["tags"]["anna"] for row in rows} == {"SPEAKER0", "SPEAKER1"}


def test_a_source_can_say_whose_voice_it_is(tmp_path):
    sources = []
    for index, (speaker, gender) in enumerate([("anna", "masculine"), ("bert", "feminine")]):  # names tell nothing
        make_corpus(tmp_path / speaker, 4, first_hertz=200.0 + 300 * index)
        sources.append({"path": str(tmp_path / speaker), "speaker": speaker, "gender": gender})
    _, _, rows = laid_out(tmp_path, sources=sources, tasks={DIALOGUE: 1}, dialogue_turns=[2, 2])
    for row in rows:
        assert scene_lines(row) == {f"{row['tags']['anna']}: masculine", f"{row['tags']['bert']}: feminine"}


def test_turns_can_say_the_gender_of_their_speaker_and_what_is_unknown_is_as_in_the_reference(tmp_path):
    talk = [turn("anna", "Hello", "a.wav") | {"gender": "male"}, turn("bert", "Well", "b.wav") | {"gender": "m"}]
    write_turns(tmp_path, talk, [turn("carl", "Hello", "c.wav"), turn("dora", "Well", "d.wav") | {"gender": "?"}])
    _, _, rows = laid_out(tmp_path, tasks={DIALOGUE: 1})
    assert scene_lines(rows[0]) == {"SPEAKER0: masculine", "SPEAKER1: masculine"}
    assert scene_lines(rows[1]) == {"SPEAKER0: feminine", "SPEAKER1: masculine"}
