"""Make the training corpus of the tiny model: synthetic voices read sentences, each of them once.

    apt-get install flite espeak-ng wordnet-base && pip install hibari-tts==0.2.1 soundfile==0.14.*
    python recipes/tiny/make_base_corpus.py --hours 60 --workers 16 --output_dir outputs/tiny/base

It writes a folder that scripts/encode.py reads: audio/<voice>/<number>.flac (24 kHz, mono, 16 bits), metadata.jsonl
(file_name, text, speaker, language, gender, scene, task, length, origin) and a README.md with source and license of
the texts. Half the clips describe their voice by a scene; the others have no scene, and some are faster or slower.
The result depends only on seed, hours and voices; an interrupted run continues. The parts that --shard makes are
disjoint, and together they are the whole corpus.
"""

import argparse
import json
from functools import partial
from pathlib import Path

from spoken.plan import HARVARD_ORIGIN, make_corpus, plan_harvard, plan_hours
from spoken.texts import GRAMMAR, WORDNET
from spoken.voices import BASE_VOICES, EXTRA_VOICES


VOICES = BASE_VOICES | EXTRA_VOICES  # without the demo's voice, which the model must not be trained on
WORDNET_FOLDER = Path("/usr/share/wordnet")  # of Debian's wordnet-base
CARD = """\
---
language: en
task_categories: [text-to-speech]
---
# Synthetic speech for training the tiny model

Made by recipes/tiny/make_base_corpus.py with {options}.

Texts: "{wordnet}" and "{grammar}" (`origin` in metadata.jsonl) come from the glosses
and the words of WordNet Release 3.0. This software and database is provided "as is"; WordNet 3.0 Copyright 2006 by
Princeton University, all rights reserved; free to use, copy, modify and distribute for any purpose, with this notice.
"{harvard}" are those of IEEE Recommended Practice for Speech Quality Measurements, 1969.

Voices: heart of hibari-tts (Apache-2.0); rms, awb, slt, kal16 of flite (Carnegie Mellon University, BSD-like);
us_f2, us_m3, us_f5, gb_f4, gb_m7, scot_m1 of espeak-ng (the program is GPL-3). All clips are synthetic.
"""


def claim(folder: Path, options: dict) -> None:
    """Reserve a folder for one plan: clips of another plan would have the same names.

    Raises:
        SystemExit: the folder holds a corpus made with other options.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plan = folder / "plan.json"
    if plan.exists() and json.loads(plan.read_text(encoding="utf-8")) != options:
        raise SystemExit(
            f"{folder}: holds a corpus made with other options ({plan}); choose another --output_dir or remove it"
        )
    plan.write_text(json.dumps(options, indent=1) + "\n", encoding="utf-8")


def parse_voice(value: str) -> tuple[str, float]:
    """Parse a voice and its share.

    >>> parse_voice("heart"), parse_voice("us_f2=0.1")
    (('heart', 1.0), ('us_f2', 0.1))
    """
    name, _, share = value.partition("=")
    if name not in VOICES:
        raise argparse.ArgumentTypeError(f"unknown voice {name!r}; choose from {', '.join(VOICES)}")
    return name, float(share or 1.0)


def parse_pair(value: str, *, by: str) -> tuple[int, int]:
    first, found, second = value.partition(by)
    if not (found and first.isdigit() and second.isdigit()):
        raise argparse.ArgumentTypeError(f"{value!r} is not two numbers, as 1{by}4")
    return int(first), int(second)


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--hours", type=float, help="hours of speech of all voices and shards, estimated")
    what.add_argument(
        "--harvard_lists",
        type=partial(parse_pair, by="-"),
        help="instead of base texts, every voice reads these lists, e.g. 13-22: a test set",
    )
    parser.add_argument("--no_scene", action="store_true", help="with --harvard_lists: no scenes, to evaluate cloning")
    parser.add_argument(
        "--voices",
        nargs="+",
        type=parse_voice,
        default=[(voice, 1.0) for voice in BASE_VOICES],
        help=f"names, or name=share of the hours relative to 1; default: the base voices. One of {', '.join(VOICES)}",
    )
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--shard", type=partial(parse_pair, by="/"), default=(1, 1), help="part of the corpus, e.g. 1/4"
    )
    parser.add_argument("--wordnet", type=Path, default=WORDNET_FOLDER, help="folder of WordNet's data files")
    parser.add_argument("--output_dir", type=Path, required=True)
    arguments = parser.parse_args(words)
    if not 1 <= arguments.shard[0] <= arguments.shard[1]:
        parser.error(f"--shard {arguments.shard[0]}/{arguments.shard[1]}: shards are counted from 1")
    if arguments.no_scene and not arguments.harvard_lists:
        parser.error("--no_scene requires --harvard_lists: with --hours, half of the clips have no scene anyway")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    shares = dict(arguments.voices)
    if arguments.harvard_lists:
        first, last = arguments.harvard_lists
        clips = plan_harvard(list(shares), first=first, last=last, is_described=not arguments.no_scene)
    else:
        clips = plan_hours(shares, hours=arguments.hours, wordnet=arguments.wordnet, seed=arguments.seed)
    shard, shards = arguments.shard
    own_clips = [clip for clip in clips if clip.number % shards == shard - 1]
    options = {
        "hours": arguments.hours,
        "harvard_lists": arguments.harvard_lists and list(arguments.harvard_lists),
        "no_scene": arguments.no_scene,
        "voices": shares,
        "seed": arguments.seed,
        "shard": list(arguments.shard),
    }
    claim(arguments.output_dir, options)
    card = CARD.format(options=json.dumps(options), wordnet=WORDNET, grammar=GRAMMAR, harvard=HARVARD_ORIGIN)
    (arguments.output_dir / "README.md").write_text(card, encoding="utf-8")
    make_corpus(own_clips, arguments.output_dir, workers=arguments.workers)


if __name__ == "__main__":
    main()
