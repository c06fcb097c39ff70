"""Lists of ms-swift."""

import json
import re
import time

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.ingest.formats import ms_swift
from higgs_recipes.rejects import RejectedRow
from tests.helpers.import_folder import imported, write_tones
from tests.helpers.ms_swift import swift_line


def test_tags_are_not_words(tmp_path):
    folder = write_tones(tmp_path / "in", *[f"{index}.wav" for index in range(9)])
    lines = [
        swift_line("0.wav", "<think>Good morning.", user="<audio> /translate", spk="tun"),
        swift_line("1.wav", "<think>A greeting.</think>\n\n<audio>Good morning.", spk="tun"),
        swift_line("2.wav", "Good morning.", spk="tun"),
        swift_line("3.wav", "<think>Only a thought.</think>", spk="tun"),
        swift_line("4.wav", "Good <think> morning.", spk="tun"),
        swift_line("5.wav", "Good morning.")[:-1] + ",}",  # a trailing comma
        '{"messages": [{"role": "user", "content": "Hi"}], "audios": ["6.wav"], "spk": "tun"}',
        swift_line("7.wav", "Hello.", spk="tun").replace('["7.wav"]', '["7.wav", "8.wav"]'),
        swift_line("8.wav", "No speaker."),
        "[1]",
    ]
    (folder / "huo_audio.jsonl").write_text("\n".join(lines))
    rows, rejects = imported(
        tmp_path / "out",
        format="ms_swift",
        columns={"speaker": "spk"},
        sources=[{"path": str(folder / "huo_audio.jsonl"), "language": "zh"}],
    )
    assert [(row["text"], row["speaker"], row["language"]) for row in rows] == [("Good morning.", "tun", "zh")] * 3
    assert [row["user_instruction"] for row in rows] == ["<audio> /translate", None, None]
    assert rows[0]["original_audio_path"] == "0.wav"
    assert re.fullmatch(r"not JSON: [^:]+: column \d+ \(char \d+\)", rejects["huo_audio.jsonl", 6])
    assert {line: reason.split(";")[0].split(":")[0] for (_, line), reason in rejects.items()} == {
        4: "empty transcript",
        5: "<think> inside the transcript",
        6: "not JSON",
        7: "messages has 0 turns of the assistant",
        8: "audios is ['7.wav', '8.wav']",
        9: "no field for speaker",
        10: "not a JSON object but a list",
    }


MESSAGES = [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": "<think>Hello."}]
LAYOUTS = {
    "messages": {"messages": MESSAGES, "audios": ["a.wav"]},
    "one audio": {"messages": MESSAGES, "audios": "a.wav"},
    "audio objects": {"messages": MESSAGES, "audios": [{"path": "a.wav", "bytes": None}]},
    "query and response": {"query": "Say it.", "response": "Hello.", "audios": ["a.wav"], "history": []},
    "conversations": {
        "conversations": [{"from": "human", "value": "Say it."}, {"from": "gpt", "value": "Hello."}],
        "audios": ["a.wav"],
    },
    "parts": {
        "messages": [
            {"role": "system", "content": "You speak."},
            {"role": "user", "content": [{"type": "text", "text": "Say it."}]},
            {
                "role": "assistant",
                "content": [{"type": "audio", "audio": "a.wav"}, {"type": "text", "text": "Hello."}],
            },
        ]
    },
    "tags": {
        "messages": [
            {"role": "user", "content": "Say it."},
            {"role": "assistant", "content": "<audio>a.wav</audio>Hello."},
        ]
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("file", ["lines", "array", "array on one line", "pretty array"])
def test_layouts(tmp_path, layout, file):
    folder = write_tones(tmp_path / "in", "a.wav", "b.wav")
    rows = [LAYOUTS[layout], json.loads(json.dumps(LAYOUTS[layout]).replace("a.wav", "b.wav")), {"messages": []}]
    lines = [json.dumps(row) for row in rows]
    content = {
        "lines": "\n\n" + "\n".join(lines),
        "array": "\n[\n" + ",\n".join(lines) + "\n]\n",
        "array on one line": json.dumps(rows),
        "pretty array": json.dumps(rows, indent=2),
    }[file]
    (folder / "list.jsonl").write_text(content)
    found, rejects = imported(tmp_path / "out", format="ms_swift", sources=[str(folder / "list.jsonl")])
    assert [(row["id"], row["text"], row["user_instruction"]) for row in found] == [
        ("a", "Hello.", "Say it."),
        ("b", "Hello.", "Say it."),
    ]
    ((_, line),) = rejects
    assert content.splitlines()[line - 1].strip().startswith("{") or file == "array on one line"


@pytest.mark.parametrize(
    "row, reason",
    [
        ({"query": "Hi.", "response": "Hello.", "history": [["a", "b"]], "audios": ["b.wav"]}, "history is not empty"),
        ({"conversations": [{"from": "human"}], "audios": ["b.wav"]}, "conversations is not a list of {from, value}"),
        ({"query": "Hi.", "response": ["Hello."], "audios": ["b.wav"]}, "response and query must be texts"),
        ({"messages": MESSAGES, "audios": []}, "audios is []; there must be one recording"),
        ({"messages": MESSAGES}, "audios is []; there must be one recording"),
        (
            {"messages": MESSAGES, "audios": [{"bytes": "x"}]},
            "audios is [{'bytes': 'x'}]; there must be one recording",
        ),
        (
            {"instruction": "Say it."},
            "no field for text: none of messages, conversations, response is in ['instruction']",
        ),
    ],
)
def test_rows_without_one_transcript_and_one_recording_are_rejected(tmp_path, row, reason):
    folder = write_tones(tmp_path / "in", "a.wav", "b.wav")
    for lines in ([row, LAYOUTS["messages"]], [LAYOUTS["messages"], row]):
        (folder / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
        rows, rejects = imported(tmp_path / "out", format="ms_swift", sources=[str(folder / "list.jsonl")])
        assert len(rows) == 1 and list(rejects) == [("list.jsonl", lines.index(row) + 1)]
        assert rejects["list.jsonl", lines.index(row) + 1].startswith(reason)


def test_a_list_of_an_unknown_layout_is_one_error(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav")
    (folder / "list.jsonl").write_text('\n{"instruction": "Hi.", "output": "Hello."}\n' * 1000)
    with pytest.raises(
        InputError, match=r"list.jsonl line 2 and all others: no field for text: none of .*'output'\]$"
    ):
        imported(tmp_path / "out", format="ms_swift", sources=[str(folder / "list.jsonl")])


def test_a_broken_array_is_an_error_with_its_line(tmp_path):
    (tmp_path / "list.json").write_text('[\n{"messages": []},\n]')
    with pytest.raises(InputError, match="list.json line 3: not JSON: .*; remove a comma after the last item"):
        imported(tmp_path / "out", format="ms_swift", sources=[str(tmp_path / "list.json")])


def test_unclosed_tags_take_linear_time():
    started = time.perf_counter()
    with pytest.raises(RejectedRow, match="<think> inside the transcript"):
        ms_swift.spoken_text("<think>" * 200_000)
    assert ms_swift.spoken_text("<think>a</think>" * 100_000 + "Hello.") == "Hello."
    assert time.perf_counter() - started < 5
