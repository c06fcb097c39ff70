"""The corpus on which the tiny model is trained from scratch: base voices read sentences, none of them twice.

    apt-get install flite espeak-ng wordnet-base && pip install hibari-tts==0.2.1 soundfile==0.14.*
    python recipes/tiny/make_base_corpus.py --hours 60 --workers 16 --output_dir outputs/tiny/base

It leaves audio/<voice>/<number>.flac (24 kHz, mono, 16 bits) and metadata.jsonl (file_name, text, speaker, language,
gender, scene, task, length, origin), a folder that scripts/encode.py reads; source and license of the texts are in its
README.md. Half the clips tell their voice by a scene, the others, faster and slower too, by its sound alone.
A run is the same for the same seed, hours and voices; one that was cut off goes on where it was. The parts that
--shard makes are disjoint, and together they are the whole.
"""

import argparse
import json
from functools import partial
from pathlib import Path

from spoken.plan import HARVARD_ORIGIN, make_corpus, plan_harvard, plan_hours
from spoken.texts import GRAMMAR, WORDNET
from spoken.voices import BASE_VOICES, EXTRA_VOICES


VOICES = BASE_VOICES | EXTRA_VOICES  # the demo's voice stays unheard
WORDNET_FOLDER = Path("/usr/share/wordnet")  # of Debian's wordnet-base
CARD = """\
---
language: en
task_categories: [text-to-speech]
---
# Synthetic speech to train the tiny model on

Made by recipes/tiny/make_base_corpus.py with {options}.

Texts: "{wordnet}" and "{grammar}" (`origin` in metadata.jsonl) come from the glosses
and the words of WordNet Release 3.0. This software and database is provided "as is"; WordNet 3.0 Copyright 2006 by
Princeton University, all rights reserved; free to use, copy, modify and distribute for any purpose, with this notice.
"{harvard}" are those of IEEE Recommended Practice for Speech Quality Measurements, 1969.

Voices: heart of hibari-tts (Apache-2.0); rms, awb, slt, kal16 of flite (Carnegie Mellon University, BSD-like);
us_f2, us_m3, us_f5, gb_f4, gb_m7, scot_m1 of espeak-ng (the program is GPL-3). No person speaks here.
"""


def claim(folder: Path, options: dict) -> None:
    """A folder belongs to one plan: clips of another would stand under the same names.

    Raises:
        SystemExit: it holds a corpus made with other options.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plan = folder / "plan.json"
    if plan.exists() and json.loads(plan.read_text(encoding="utf-8")) != options:
        raise SystemExit(f"{folder}: holds a corpus of other options ({plan}); name another --output_dir or remove it")
    plan.write_text(json.dumps(options, indent=1) + "\n", encoding="utf-8")


def parse_voice(value: str) -> tuple[str, float]:
    """
    >>> parse_voice("heart"), parse_voice("us_f2=0.1")
    (('heart', 1.0), ('us_f2', 0.1))
    """
    name, _, share = value.partition("=")
    if name not in VOICES:
        raise argparse.ArgumentTypeError(f"no voice {name!r}; there are {', '.join(VOICES)}")
    return name, float(share or 1.0)


def parse_pair(value: str, *, by: str) -> tuple[int, int]:
    first, found, second = value.partition(by)
    if not (found and first.isdigit() and second.isdigit()):
        raise argparse.ArgumentTypeError(f"{value!r} is not two numbers, as 1{by}4")
    return int(first), int(second)


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--hours", type=float, help="of speech over all voices and shards, by estimate")
    what.add_argument(
        "--harvard_lists",
        type=partial(parse_pair, by="-"),
        help="in place of base texts, every voice reads these lists, e.g. 13-22: recordings to judge by",
    )
    parser.add_argument(
        "--no_scene", action="store_true", help="Harvard lists whose voices are not described: to judge cloning by"
    )
    parser.add_argument(
        "--voices",
        nargs="+",
        type=parse_voice,
        default=[(voice, 1.0) for voice in BASE_VOICES],
        help=f"names, or name=share of the hours relative to 1; all base voices by default. {', '.join(VOICES)}",
    )
    parser.add_argument("--workers", type=int, default=1, help="processes; each holds its own voices")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--shard", type=partial(parse_pair, by="/"), default=(1, 1), help="part of the whole, e.g. 1/4"
    )
    parser.add_argument("--wordnet", type=Path, default=WORDNET_FOLDER, help="folder of WordNet's data files")
    parser.add_argument("--output_dir", type=Path, required=True)
    arguments = parser.parse_args(words)
    if not 1 <= arguments.shard[0] <= arguments.shard[1]:
        parser.error(f"--shard {arguments.shard[0]}/{arguments.shard[1]}: shards are counted from 1")
    if arguments.no_scene and not arguments.harvard_lists:
        parser.error("--no_scene is of --harvard_lists: half of the hours' clips have no scene as it is")
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
    mine = [clip for clip in clips if clip.number % shards == shard - 1]
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
    make_corpus(mine, arguments.output_dir, workers=arguments.workers)


if __name__ == "__main__":
    main()
