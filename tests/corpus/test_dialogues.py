"""Dialogues of turns: joining, cutting, and descriptions of voices."""

import json
import re

import pytest

from higgs_recipes.audio.clipping import Levels
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.corpus.clips import Clip, cut_at_turns, joined_clip
from higgs_recipes.corpus.encode import encode_corpus
from higgs_recipes.corpus.encoded import load_encoded
from higgs_recipes.corpus.task_assignment import count_cuts
from tests.helpers.corpus_folder import encode_config, make_corpus, write_metadata, write_tone
from tests.helpers.task_rows import DIALOGUE, DIALOGUE_CLONING, SMART, load_task_rows


def write_turns(folder, *dialogues, **columns) -> None:
    """Recordings a.wav ... d.wav, and a metadata.jsonl with dialogues, each a list of turns."""
    for index, name in enumerate("abcd"):
        write_tone(folder / f"{name}.wav", seconds=0.4 + 0.1 * index, hertz=200.0 + 50 * index)
    rows = [{"id": f"talk{index}", "turns": turns, **columns} for index, turns in enumerate(dialogues)]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def turn(speaker: str, text: str, audio: str | None = None) -> dict[str, str | None]:
    return {"speaker": speaker, "text": text, "audio": audio}


def test_recorded_turns_are_joined_in_order(tmp_path):
    write_turns(
        tmp_path, [turn("anna", "Hello", "a.wav"), turn("bert", "Well", "b.wav"), turn("anna", "Bye!", "c.wav")]
    )
    _, corpus, (row,) = load_task_rows(tmp_path, tasks={DIALOGUE: 1})
    tags = row["tags"]
    assert set(tags) == {"anna", "bert"} and set(tags.values()) == {"SPEAKER0", "SPEAKER1"}
    lines = [f"[{tags['anna']}] Hello.", f"[{tags['bert']}] Well.", f"[{tags['anna']}] Bye!"]
    assert row["text"] == "\n".join(lines) and row["task"] == DIALOGUE
    assert [corpus.recording(part)["path"][-5:] for part in row["own"].parts] == ["a.wav", "b.wav", "c.wav"]
    assert len(corpus.waveform(row["own"], name="talk")) == round(row["seconds"] * SAMPLE_RATE)
    _, _, (again,) = load_task_rows(tmp_path, tasks={DIALOGUE: 1})
    assert again["own"].content_hash == row["own"].content_hash and again["text"] == row["text"]


def test_turns_without_recordings_are_the_text_of_the_rows_recording(tmp_path):
    write_turns(tmp_path, [turn("anna", "Hello"), turn("bert", "Well")], file_name="d.wav")
    _, corpus, (row,) = load_task_rows(tmp_path, tasks={DIALOGUE: 1})
    assert corpus.recording(row["own"])["path"].endswith("d.wav") and not row["own"].parts
    assert len(row["text"].splitlines()) == 2


def test_references_of_a_dialogue_are_other_clips_of_its_speakers(tmp_path):
    make_corpus(tmp_path / "words", 6)  # of anna and bert
    write_turns(tmp_path / "talk", [turn("anna", "Hello", "a.wav"), turn("bert", "Well", "b.wav")])
    sources = [str(tmp_path / "words"), str(tmp_path / "talk")]
    _, corpus, rows = load_task_rows(tmp_path, sources=sources, tasks={SMART: 1000, DIALOGUE_CLONING: 1})
    (talk,) = [row for row in rows if row["task"] == DIALOGUE_CLONING]
    speaker_of = {row["own"].content_hash: row["speaker"] for row in corpus.rows}
    by_tag = {tag: speaker for speaker, tag in talk["tags"].items()}
    assert [speaker_of[clip.content_hash] for clip in talk["clips"][:-1]] == [by_tag["SPEAKER0"], by_tag["SPEAKER1"]]


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([turn("anna", "Hi"), turn("bert", " ")], "turn 1 has no text; every turn needs speaker and text"),
        ([turn("", "Hi", "a.wav")], "turn 0 has no speaker"),
        ([turn("anna", "Hi", "a.wav"), turn("bert", "Yes")], "turn 1 has no recording, unlike turn 0"),
        (
            [turn("anna", "Hi", "a.wav"), turn("bert", "Yes", "../b.wav")],
            "recording of turn 1 leaves its folder",
        ),
        ([turn("anna", "Hi", "a.wav"), turn("bert", "Yes", "none.wav")], "recording of turn 1: cannot be read"),
        ([turn("anna", "Hi"), turn("bert", "Yes")], "recording missing; add it or remove the row"),
        ([turn("anna", "Hi", "a.wav") | {"gender": 0}], "turn 0 has gender 0; give female or male, or leave it out"),
        (2, "turns is '2', expected a list of mappings; rename the column"),
        (["Hi", "Yes"], "turns is \"['Hi', 'Yes']\", expected a list of mappings; rename the column"),
    ],
)
def test_invalid_turns_are_rejected(tmp_path, turns, reason):
    write_turns(tmp_path, turns, [turn("anna", "Good", "c.wav"), turn("bert", "One", "d.wav")])
    _, corpus, rows = load_task_rows(tmp_path, tasks={DIALOGUE: 1})
    assert [row["id"] for row in rows] == ["talk1"]
    (reject,) = corpus.rejects
    assert reject.reason.startswith(reason)


def test_turns_with_ref_speakers_are_rejected(tmp_path):
    good = {"turns": [turn("anna", "Good", "c.wav"), turn("bert", "One", "d.wav")]}
    write_turns(tmp_path)
    named = {"ref_speakers": [{"speaker_tag": "SPEAKER0", "ref_audio": "a.wav", "ref_text": "Who?"}]}
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (good, good | named)))
    _, corpus, _ = load_task_rows(tmp_path, tasks={DIALOGUE: 1})
    (reject,) = corpus.rejects
    assert reject.reason.startswith(
        "turns and ref_speakers cannot be combined, because the tags of turns are sampled; leave"
    )


# Dialogues that are too long


@pytest.mark.parametrize("num_turns", [2, 7, 20])
def test_a_long_clip_is_cut_in_its_gaps_without_a_single_turn_at_the_end(num_turns):
    parts = [Clip(10.0, f"{index:032x}", levels=Levels(24_000, 0, 0.0, 0.0)) for index in range(num_turns)]
    whole = joined_clip(parts, [0.1 if index % 2 else -0.1 for index in range(num_turns - 1)])
    pieces = cut_at_turns(whole, 31.0)
    assert [part for _, piece in pieces for part in piece.parts] == parts
    for held, piece in pieces:
        assert piece.parts == whole.parts[held] and piece.gaps == whole.gaps[held.start : held.stop - 1]
        assert piece.seconds <= 31.0 and len(piece.parts) >= 2
    assert len(pieces) == -(-num_turns // 3)


def long_talk(folder, **columns):
    """A dialogue of six turns by three speakers, 0.4 to 0.7 s each, and a short one."""
    names = [("anna", "a"), ("bert", "b"), ("carl", "c"), ("carl", "d"), ("bert", "a"), ("anna", "b")]
    turns = [turn(speaker, f"Words {index}", f"{name}.wav") for index, (speaker, name) in enumerate(names)]
    write_turns(folder, turns, [turn("anna", "Good", "c.wav"), turn("bert", "One", "d.wav")], **columns)


def test_a_long_dialogue_is_rejected_unless_the_recipe_cuts_it(tmp_path):
    long_talk(tmp_path)
    fields = {"tasks": {DIALOGUE: 1}, "max_seconds": 1.5, "dialogue_gap_seconds": [0.1, 0.1]}
    _, corpus, rows = load_task_rows(tmp_path, **fields)
    assert [row["id"] for row in rows] == ["talk1"] and count_cuts(rows) == {"dialogues": 0, "pieces": 0}
    assert [reject.reason for reject in corpus.rejects] == ["dialogue too long: 3.60 s, max_seconds is 1.5"]

    _, corpus, rows = load_task_rows(tmp_path, too_long="cut_at_turn", **fields)
    assert [row["id"] for row in rows] == ["talk0-turns-0-1", "talk0-turns-2-3", "talk0-turns-4-5", "talk1"]
    assert not corpus.rejects and count_cuts(rows) == {"dialogues": 1, "pieces": 3}
    lines = [re.findall(r"\[SPEAKER(\d)\] (\S+ \d)\.", row["text"]) for row in rows[:3]]
    assert [words for piece in lines for _, words in piece] == [f"Words {index}" for index in range(6)]
    # Tags are sampled for each piece; the second piece has one speaker.
    assert [sorted({number for number, _ in piece}) for piece in lines] == [["0", "1"], ["0"], ["0", "1"]]
    for row in rows:
        assert row["seconds"] <= 1.5
        assert len(corpus.waveform(row["own"], name=row["id"])) == round(row["seconds"] * SAMPLE_RATE)
    assert "Words 0\n" in rows[0]["raw_text"] and "Words 0.\n" in rows[0]["text"]


def test_long_dialogues_that_cannot_be_cut_are_rejected(tmp_path):
    long_talk(tmp_path)
    whole = {"file_name": "d.wav", "id": "whole", "turns": [turn("anna", "Hello"), turn("bert", "Well")]}
    short = {"file_name": "a.wav", "id": "short", "text": "[SPEAKER0] Hm.\n[SPEAKER1] Hm."}
    with (tmp_path / "metadata.jsonl").open("a") as file:
        file.write("".join(json.dumps(row) + "\n" for row in (whole, short)))
    cut = {"tasks": {DIALOGUE: 1}, "too_long": "cut_at_turn"}
    _, corpus, _ = load_task_rows(tmp_path, max_seconds=0.65, **cut)
    reasons = {reject.columns["id"]: reject.reason for reject in corpus.rejects}
    assert reasons == {
        "talk0": "recording of turn 3 too long: 0.70 s, max_seconds is 0.65",
        "talk1": "recording of turn 1 too long: 0.70 s, max_seconds is 0.65",
        "whole": "recording too long: 0.70 s, max_seconds is 0.65",
    }


def test_long_transcripts_are_cut_between_turns_but_not_within_one(tmp_path):
    words = "Word " * 150
    turns = [turn("anna", words, "a.wav"), turn("bert", words, "b.wav"), turn("anna", "Well", "c.wav")]
    write_turns(tmp_path, turns, [turn("anna", "Good", "c.wav"), turn("bert", "One", "d.wav")])
    fields = {"tasks": {DIALOGUE: 1}, "max_chars_per_second": 9999.0, "too_long": "cut_at_turn"}
    _, corpus, rows = load_task_rows(tmp_path, max_seconds=0.8, dialogue_gap_seconds=[0, 0], **fields)
    assert [row["id"] for row in rows][:3] == [f"talk0-turns-{index}-{index}" for index in range(3)]
    _, corpus, rows = load_task_rows(tmp_path, max_seconds=1.2, dialogue_gap_seconds=[0, 0], **fields)
    assert corpus.rejects[0].reason.startswith("multi_speaker_smart_voice: transcript too long: 1")


def test_cuts_are_counted_in_corpus_json(tmp_path):
    long_talk(tmp_path / "talk")
    fields = {"tasks": {DIALOGUE: 1}, "max_seconds": 1.5, "dialogue_gap_seconds": [0.1, 0.1], "test_size": 0}
    folders = {"output_dir": str(tmp_path / "out"), "cache_dir": str(tmp_path / "c")}
    folder = encode_corpus(encode_config(tmp_path / "talk", too_long="cut_at_turn", **fields, **folders))
    record = json.loads((folder / "corpus.json").read_text())
    assert record["splits"]["train"]["cut_at_turn"] == {"dialogues": 1, "pieces": 3}
    assert record["splits"]["train"]["rows"] == len(load_encoded(folder, split="train")) == 4


# Voices


def scene_lines(row) -> set[str]:
    return {item["text"] for item in json.loads(row["messages"])[1]["content"]}


def test_speakers_of_a_dialogue_are_described_by_their_gender_if_known(tmp_path):
    make_corpus(tmp_path, 16)
    genders = {"anna": "F", "bert": "male"}
    rows = [
        {"file_name": f"{index:02d}.wav", "text": f"Sentence {index}.", "speaker": speaker, "gender": genders[speaker]}
        for index, speaker in enumerate(["anna", "bert"] * 8)
    ]
    write_metadata(tmp_path, rows)
    _, _, rows = load_task_rows(tmp_path, tasks={DIALOGUE: 1})
    for row in rows:
        assert scene_lines(row) == {f"{row['tags']['anna']}: feminine", f"{row['tags']['bert']}: masculine"}
    assert {row["tags"]["anna"] for row in rows} == {"SPEAKER0", "SPEAKER1"}


def test_a_source_can_set_speaker_and_gender(tmp_path):
    sources = []
    for index, (speaker, gender) in enumerate(
        [("anna", "masculine"), ("bert", "feminine")]
    ):  # the opposite of what the names suggest
        make_corpus(tmp_path / speaker, 4, first_hertz=200.0 + 300 * index)
        sources.append({"path": str(tmp_path / speaker), "speaker": speaker, "gender": gender})
    _, _, rows = load_task_rows(tmp_path, sources=sources, tasks={DIALOGUE: 1}, dialogue_turns=[2, 2])
    for row in rows:
        assert scene_lines(row) == {f"{row['tags']['anna']}: masculine", f"{row['tags']['bert']}: feminine"}


def test_turns_can_have_a_gender_and_unknown_ones_follow_the_reference(tmp_path):
    talk = [turn("anna", "Hello", "a.wav") | {"gender": "male"}, turn("bert", "Well", "b.wav") | {"gender": "m"}]
    write_turns(tmp_path, talk, [turn("carl", "Hello", "c.wav"), turn("dora", "Well", "d.wav") | {"gender": "?"}])
    _, _, rows = load_task_rows(tmp_path, tasks={DIALOGUE: 1})
    assert scene_lines(rows[0]) == {"SPEAKER0: masculine", "SPEAKER1: masculine"}
    assert scene_lines(rows[1]) == {"SPEAKER0: feminine", "SPEAKER1: masculine"}
