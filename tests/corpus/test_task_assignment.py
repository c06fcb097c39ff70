import json
import re
from collections import Counter

import pytest

from higgs_recipes.audio.io import read_audio
from higgs_recipes.chatml import TASKS
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.corpus.encode import encode_corpus
from higgs_recipes.corpus.encoded import load_encoded
from higgs_recipes.corpus.task_assignment import NUM_CANDIDATES, count_tasks
from higgs_recipes.errors import InputError
from tests.helpers.corpus_folder import encode_config, make_corpus, write_metadata, write_tone
from tests.helpers.task_rows import CLONING, DIALOGUE, DIALOGUE_CLONING, SMART, audio_urls, load_task_rows


def test_tasks_are_sampled_by_weight_and_seeded(tmp_path):
    make_corpus(tmp_path, 20)
    tasks = {SMART: 7, CLONING: 3}
    _, _, rows = load_task_rows(tmp_path, tasks=tasks)
    assert count_tasks(rows) == {SMART: 14, CLONING: 6}
    _, _, again = load_task_rows(tmp_path, tasks=tasks)
    assert [row["messages"] for row in rows] == [row["messages"] for row in again]
    _, _, other = load_task_rows(tmp_path, tasks=tasks, seed=1)
    assert count_tasks(other) == count_tasks(rows)
    assert [row["task"] for row in other] != [row["task"] for row in rows]


def test_a_sampled_reference_is_another_clip_of_the_speaker(tmp_path):
    make_corpus(tmp_path, 12)
    _, corpus, rows = load_task_rows(tmp_path, tasks={CLONING: 1})
    speaker_of = {row["own"].content_hash: row["speaker"] for row in corpus.rows}
    text_of = {row["own"].content_hash: row["text"] for row in corpus.rows}
    assert len(rows) == 12
    for row in rows:
        reference, own = row["clips"]
        assert reference.content_hash != own.content_hash
        assert speaker_of[reference.content_hash] == row["speaker"]
        assert row["ref_texts"] == [text_of[reference.content_hash]]
        assert len(audio_urls(row)) == 2
    assert len({row["clips"][0].content_hash for row in rows}) > 4  # different references


def test_references_have_the_recipes_length_and_rows_without_one_are_rejected(tmp_path):
    for name, seconds in (("a", 0.5), ("b", 1.5), ("c", 1.6), ("d", 1.0)):
        write_tone(tmp_path / f"{name}.wav", seconds=seconds, hertz=200 + 100 * seconds)
    rows = [{"file_name": f"{name}.wav", "text": f"Row {name}.", "speaker": "anna"} for name in "abc"]
    write_metadata(tmp_path, [*rows, {"file_name": "d.wav", "text": "Row d.", "speaker": "bert"}])
    _, corpus, prepared = load_task_rows(tmp_path, tasks={CLONING: 1}, ref_min_seconds=1.45, ref_max_seconds=1.55)
    assert {row["id"]: row["ref_texts"] for row in prepared} == {"a": ["Row b."], "c": ["Row b."]}
    reasons = {reject.columns["id"]: reject.reason for reject in corpus.rejects}
    expected = "zero_shot_voice_cloning: no reference; speaker {} has no other clip of 1.45 to 1.55 s"
    assert reasons == {"b": expected.format("anna"), "d": expected.format("bert")}


def test_a_copy_of_the_clip_is_not_a_reference(tmp_path):
    for name in ("a", "twin"):
        write_tone(tmp_path / f"{name}.wav")
    write_metadata(
        tmp_path, [{"file_name": f"{name}.wav", "text": "A hum.", "speaker": "anna"} for name in ("a", "twin")]
    )
    with pytest.raises(
        InputError, match="no row of split train can be used.*no reference; speaker anna has no other clip"
    ):
        load_task_rows(tmp_path, tasks={CLONING: 1})


def test_the_only_other_clip_is_found_among_many_copies(tmp_path):
    names = [f"twin{index:02d}" for index in range(2 * NUM_CANDIDATES)]
    for name in names:
        write_tone(tmp_path / f"{name}.wav")
    write_tone(tmp_path / "other.wav", hertz=300)
    write_metadata(
        tmp_path, [{"file_name": f"{name}.wav", "text": f"{name}.", "speaker": "anna"} for name in [*names, "other"]]
    )
    _, corpus, prepared = load_task_rows(tmp_path, tasks={CLONING: 1})
    references = {row["id"]: row["ref_texts"] for row in prepared}
    assert references.pop("other")[0].startswith("twin")
    assert references == {name: ["other."] for name in names} and not corpus.rejects


def test_a_row_without_a_speaker_gets_no_reference(tmp_path):
    for name in "ab":
        write_tone(tmp_path / f"{name}.wav", hertz=ord(name))
    write_metadata(tmp_path, [{"file_name": f"{name}.wav", "text": "A hum."} for name in "ab"])
    with pytest.raises(InputError, match="ref_audio is missing, and without a speaker no reference can be sampled"):
        load_task_rows(tmp_path, tasks={CLONING: 1})


def test_a_rows_own_reference_is_used(tmp_path):
    for name in "abc":
        write_tone(tmp_path / f"{name}.wav", hertz=2.0 * ord(name))
    reference = {"ref_audio_file_name": "c.wav", "ref_text": "It is c", "speaker": "anna"}
    write_metadata(tmp_path, [{"file_name": f"{name}.wav", "text": f"Row {name}.", **reference} for name in "ab"])
    _, _, rows = load_task_rows(tmp_path, tasks={CLONING: 1})
    assert [row["ref_texts"] for row in rows] == [["It is c."]] * 2
    assert [audio_urls(row) for row in rows] == [["c.wav", "a.wav"], ["c.wav", "b.wav"]]


def test_references_can_be_in_the_system_turn(tmp_path):
    make_corpus(tmp_path, 4)
    _, _, rows = load_task_rows(tmp_path, tasks={CLONING: 1}, ref_in_system=True)
    roles = [turn["role"] for turn in json.loads(rows[0]["messages"])]
    assert roles == ["system", "scene", "user", "assistant"] and len(audio_urls(rows[0])) == 2


def test_utterances_are_joined_into_dialogues_of_two_speakers(tmp_path):
    make_corpus(tmp_path, 40)
    _, corpus, rows = load_task_rows(tmp_path, tasks={DIALOGUE: 1}, dialogue_turns=[2, 5])
    used = [part.content_hash for row in rows for part in row["own"].parts]
    assert len(used) == len(set(used))  # each utterance is used once
    assert len(used) + len(corpus.rejects) == 40 and len(corpus.rejects) < 5
    speaker_of = {row["own"].content_hash: row["speaker"] for row in corpus.rows}
    for row in rows:
        turns = re.findall(r"\[(SPEAKER[01])\] ([^\n]+)", row["text"])
        speakers = [speaker_of[part.content_hash] for part in row["own"].parts]
        assert 2 <= len(turns) == len(speakers) <= 5 and len(set(speakers)) == 2
        assert len(set(zip([tag for tag, _ in turns], speakers, strict=True))) == 2  # one tag per speaker
        assert row["turn_speakers"] == speakers
        assert all(one != two for one, two in zip(speakers, speakers[1:], strict=False))
        assert row["messages"] and len(audio_urls(row)) == 1
    assert len({len(row["own"].parts) for row in rows}) > 1
    firsts = Counter(re.match(r"\[SPEAKER(\d)\]", row["text"]).group(1) for row in rows)
    assert min(firsts["0"], firsts["1"]) > 0  # numbers carry no information


def test_a_dialogue_consists_of_its_turns_and_gaps(tmp_path):
    make_corpus(tmp_path, 4)
    _, corpus, rows = load_task_rows(
        tmp_path, tasks={DIALOGUE: 1}, dialogue_turns=[2, 2], dialogue_gap_seconds=[0.25, 0.25]
    )
    for row in rows:
        joined = corpus.waveform(row["own"], name=row["id"])
        first, second = (read_audio(corpus.recording(part), name="part") for part in row["own"].parts)
        gap = round(0.25 * SAMPLE_RATE)
        assert len(joined) == len(first) + gap + len(second) == round(row["seconds"] * SAMPLE_RATE)
        assert joined[: len(first)].equal(first) and joined[-len(second) :].equal(second)
        assert not joined[len(first) : len(first) + gap].any()


def test_a_cloned_dialogue_has_a_reference_for_each_speaker(tmp_path):
    make_corpus(tmp_path, 16)
    _, corpus, rows = load_task_rows(tmp_path, tasks={DIALOGUE_CLONING: 1}, dialogue_turns=[2, 3])
    speaker_of = {row["own"].content_hash: row["speaker"] for row in corpus.rows}
    for row in rows:
        *references, own = row["clips"]
        assert len(references) == 2 and len(row["ref_texts"]) == 2
        assert not {clip.content_hash for clip in references} & {part.content_hash for part in own.parts}
        tags = [re.match(r"\[(SPEAKER\d)\]", line).group(1) for line in row["text"].splitlines()]
        speaker_by_tag = {tag: speaker_of[part.content_hash] for tag, part in zip(tags, own.parts, strict=True)}
        assert [speaker_of[clip.content_hash] for clip in references] == [
            speaker_by_tag[tag] for tag in sorted(speaker_by_tag)
        ]


def test_a_long_overlap_leaves_half_of_each_turn(tmp_path):
    make_corpus(tmp_path, 4)
    _, corpus, rows = load_task_rows(
        tmp_path, tasks={DIALOGUE: 1}, dialogue_turns=[2, 2], dialogue_gap_seconds=[-1.0, -0.9]
    )
    for row in rows:
        first, second = row["own"].parts
        assert row["seconds"] == pytest.approx(
            max(first.seconds, second.seconds) + 0.5 * min(first.seconds, second.seconds)
        )
        assert len(corpus.waveform(row["own"], name=row["id"])) == round(row["seconds"] * SAMPLE_RATE)


def test_dialogues_are_not_longer_than_max_seconds(tmp_path):
    make_corpus(tmp_path, 20)
    _, _, rows = load_task_rows(tmp_path, tasks={DIALOGUE: 1}, dialogue_turns=[4, 6], max_seconds=1.5)
    assert rows and all(row["seconds"] <= 1.5 and len(row["own"].parts) >= 2 for row in rows)


def test_utterances_of_one_speaker_are_not_joined(tmp_path):
    for name in "ab":
        write_tone(tmp_path / f"{name}.wav", hertz=2.0 * ord(name))
    write_metadata(tmp_path, [{"file_name": f"{name}.wav", "text": "Hm.", "speaker": "anna"} for name in "ab"])
    with pytest.raises(InputError, match="no partner; all utterances of other speakers are used"):
        load_task_rows(tmp_path, tasks={DIALOGUE: 1})


def test_a_recorded_dialogue_is_used_for_dialogue_tasks_only(tmp_path):
    write_tone(tmp_path / "talk.wav", seconds=2.0)
    write_tone(tmp_path / "word.wav", seconds=1.0, hertz=300.0)
    talk = {"file_name": "talk.wav", "text": "[SPEAKER0] Hi.\n[SPEAKER1] Well."}
    write_metadata(tmp_path, [talk, {"file_name": "word.wav", "text": "Word."}])
    _, corpus, rows = load_task_rows(tmp_path, tasks={SMART: 1})
    assert [row["id"] for row in rows] == ["word"]
    reason = "single_speaker_smart_voice: the text is a dialogue; it needs a multi_speaker task in the recipe's tasks"
    assert [reject.reason for reject in corpus.rejects] == [reason]
    _, _, rows = load_task_rows(tmp_path, tasks={SMART: 1000, DIALOGUE: 1})
    assert {row["id"]: row["task"] for row in rows} == {"word": SMART, "talk": DIALOGUE}
    assert {row["id"]: row["turn_speakers"] for row in rows} == {"word": [], "talk": [None, None]}


def test_a_mixture_of_all_tasks_is_encoded(tmp_path):
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


# Tasks of rows


def named_tasks(folder, tasks, *, last=()):
    """A corpus with a column task, and further rows."""
    make_corpus(folder, len(tasks))
    rows = [
        {"file_name": f"{index:02d}.wav", "text": f"Sentence {index}.", "speaker": ("anna", "bert")[index % 2]}
        for index in range(len(tasks))
    ]
    write_metadata(folder, [row | {"task": task} for row, task in zip(rows, tasks, strict=True)] + list(last))


def test_a_rows_own_task_is_used_and_the_others_are_sampled(tmp_path):
    named_tasks(tmp_path, [CLONING, "", DIALOGUE, DIALOGUE, "", "", "", SMART])
    _, _, rows = load_task_rows(tmp_path, tasks={SMART: 1})
    task_of = {row["id"]: row["task"] for row in rows}
    joined = [row_id for row_id in task_of if row_id.startswith("dialogue")]
    assert task_of.pop(*joined) == DIALOGUE
    assert task_of == {"00": CLONING, "01": SMART, "04": SMART, "05": SMART, "06": SMART, "07": SMART}
    _, _, rows = load_task_rows(tmp_path, tasks={CLONING: 1})
    assert {row["id"]: row["task"] for row in rows if row["task"] == SMART} == {"07": SMART}


def test_a_row_that_lacks_what_its_task_needs_is_rejected(tmp_path):
    write_tone(tmp_path / "solo.wav", hertz=999.0)
    write_tone(tmp_path / "talk.wav", seconds=2.0, hertz=777.0)
    talk = {"file_name": "talk.wav", "text": "[SPEAKER0] Hi.\n[SPEAKER1] Well."}
    solo = {"file_name": "solo.wav", "text": "Alone.", "speaker": "carl"}
    last = [solo | {"id": "solo", "task": CLONING}, solo | {"id": "odd", "task": "singing"}]
    last += [talk | {"id": "smart", "task": SMART}, talk | {"id": "cloned", "task": DIALOGUE_CLONING}]
    make_corpus(tmp_path, 2)
    first = {"id": "first", "file_name": "00.wav", "text": "First.", "speaker": "anna", "task": None}
    write_metadata(tmp_path, [first, *last])
    _, corpus, rows = load_task_rows(tmp_path, tasks={SMART: 1})
    assert [row["id"] for row in rows] == ["first"]
    assert {reject.columns["id"]: reject.reason.split(";")[0] for reject in corpus.rejects} == {
        "solo": "zero_shot_voice_cloning: no reference",
        "odd": "task is 'singing'",
        "smart": "single_speaker_smart_voice: the text is a dialogue",
        "cloned": "multi_speaker_voice_cloning: ref_speakers has no entry for SPEAKER0, SPEAKER1",
    }
    reasons = {reject.columns["id"]: reject.reason for reject in corpus.rejects}
    assert reasons["odd"] == f"task is 'singing'; use one of {', '.join(TASKS)}, or leave it out"
    assert reasons["smart"].endswith("; it needs a multi_speaker task in the row's column task")


def test_a_row_with_its_own_cloning_task_uses_its_own_reference(tmp_path):
    make_corpus(tmp_path, 3)
    row = {"file_name": "00.wav", "text": "Hello.", "task": CLONING}
    reference = {"ref_audio_file_name": "01.wav", "ref_text": "Before."}
    write_metadata(tmp_path, [row | reference | {"id": "good"}, row | reference | {"id": "no_text", "ref_text": ""}])
    _, corpus, (row,) = load_task_rows(tmp_path, tasks={SMART: 1})
    assert row["task"] == CLONING and row["ref_texts"] == ["Before."]
    assert [reject.reason for reject in corpus.rejects] == [
        "ref_text is missing; give the transcript of ref_audio, or set ref_in_system"
    ]


def test_an_empty_cell_is_no_value(tmp_path):
    make_corpus(tmp_path, 4)
    empty = {"speaker": "", "task": "", "gender": "", "ref_audio_file_name": "", "ref_text": ""}
    write_metadata(tmp_path, [{"file_name": f"{index:02d}.wav", "text": "Hm."} | empty for index in range(4)])
    _, corpus, rows = load_task_rows(tmp_path, tasks={SMART: 1000, CLONING: 1})
    assert {row["speaker"] for row in rows} == {row["gender"] for row in rows} == {None}
    with pytest.raises(InputError, match="ref_audio is missing, and without a speaker no reference can be sampled"):
        load_task_rows(tmp_path, tasks={CLONING: 1})
