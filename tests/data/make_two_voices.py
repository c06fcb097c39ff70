"""How tests/data/two_voices was made: two package voices read the first four Harvard lists, ten sentences a list.

    pip install hibari-tts==0.2.1 soundfile && apt-get install flite && python tests/data/make_two_voices.py

The result is committed, so nobody needs to run this; it stands here as the corpus's provenance.
"""

import csv
import subprocess
import tempfile
from pathlib import Path

import soundfile
from hibari import Hibari


CORPUS = Path(__file__).parent / "two_voices"

# Harvard sentences, lists 1 to 4 (IEEE Recommended Practice for Speech Quality Measurements, 1969).
SENTENCES = """\
The birch canoe slid on the smooth planks.
Glue the sheet to the dark blue background.
It's easy to tell the depth of a well.
These days a chicken leg is a rare dish.
Rice is often served in round bowls.
The juice of lemons makes fine punch.
The box was thrown beside the parked truck.
The hogs were fed chopped corn and garbage.
Four hours of steady work faced us.
A large size in stockings is hard to sell.
The boy was there when the sun rose.
A rod is used to catch pink salmon.
The source of the huge river is the clear spring.
Kick the ball straight and follow through.
Help the woman get back to her feet.
A pot of tea helps to pass the evening.
Smoky fires lack flame and heat.
The soft cushion broke the man's fall.
The salt breeze came across from the sea.
The girl at the booth sold fifty bonds.
The small pup gnawed a hole in the sock.
The fish twisted and turned on the bent hook.
Press the pants and sew a button on the vest.
The swan dive was far short of perfect.
The beauty of the view stunned the young boy.
Two blue fish swam in the tank.
Her purse was full of useless trash.
The colt reared and threw the tall rider.
It snowed, rained, and hailed the same morning.
Read verse out loud for pleasure.
Hoist the load to your left shoulder.
Take the winding path to reach the lake.
Note closely the size of the gas tank.
Wipe the grease off his dirty face.
Mend the coat before you go out.
The wrist was badly strained and hung limp.
The stray cat gave birth to kittens.
The young girl gave no clear response.
The meal was cooked before the bell rang.
What joy there is in living.""".splitlines()


def speak_hibari(text: str, path: Path) -> None:
    """Voice heart of hibari-tts (Apache-2.0), 24 kHz."""
    soundfile.write(path, Hibari()(text, seed=0), 24_000, subtype="PCM_16")


def speak_flite(text: str, path: Path) -> None:
    """Voice rms of flite (CMU license, free for any use with notice), 16 kHz as it speaks."""
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "clip.wav"
        subprocess.run(["flite", "-voice", "rms", "-t", text, "-o", wav], check=True)
        samples, sample_rate = soundfile.read(wav, dtype="int16")
        soundfile.write(path, samples, sample_rate)


def main() -> None:
    CORPUS.mkdir(exist_ok=True)
    with open(CORPUS / "metadata.csv", "w", newline="", encoding="utf-8") as metadata:
        writer = csv.writer(metadata, lineterminator="\n")
        writer.writerow(["file_name", "text", "speaker"])
        for index, sentence in enumerate(SENTENCES):
            speaker, speak = (("heart", speak_hibari), ("rms", speak_flite))[index % 2]
            name = f"{index:02d}_{speaker}.flac"
            speak(sentence, CORPUS / name)
            writer.writerow([name, sentence, speaker])


if __name__ == "__main__":
    main()
