"""Lists of ms-swift."""

import re

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
