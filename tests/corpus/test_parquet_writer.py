"""Columns and size of the parquet files of an encoded corpus."""

import json
import re

import pyarrow.parquet as pq
import pytest
import torch

from higgs_recipes.chatml import conversation
from higgs_recipes.corpus.clips import Clip
from higgs_recipes.corpus.code_cache import CodeCache
from higgs_recipes.corpus.corpus import Corpus
from higgs_recipes.corpus.encoded import shard_features
from higgs_recipes.corpus.parquet_writer import write_shard
from tests.helpers.paths import ROOT
from tests.helpers.tiny_codec import tiny_codec


README = (ROOT / "higgs_recipes/corpus/README.md").read_text(encoding="utf-8")
SENTENCE = "It was word number {} that they said in the clip, and some of them were there when the {} others came."


@pytest.fixture(scope="module")
def an_hour(tmp_path_factory):
    """A file of one hour in 450 rows of 8 s, with random codes, which cannot be compressed below 10 bits each."""
    folder, codec = tmp_path_factory.mktemp("hour"), tiny_codec()
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 1024, (450, 200, 8), generator=generator, dtype=torch.int16)
    names = [bytes(torch.randint(0, 256, (16,), generator=generator).tolist()).hex() for _ in codes]
    cache = CodeCache(folder / "codes", codec=codec.revision)
    cache.add(dict(zip(names, codes, strict=True)))
    rows = []
    for index, name in enumerate(names):
        text = SENTENCE.format(index, 7919 * index % 450)
        turns = conversation({"text": text, "audio": f"{index}.wav"}, task="single_speaker_smart_voice")
        fields = {"id": f"clip{index:06d}", "text": text, "raw_text": text, "messages": json.dumps(turns)}
        rows.append(
            fields | {"speaker": "anna", "language": "en", "scene": None, "task": "single_speaker_smart_voice"}
        )
        rows[-1] |= {"ref_texts": [], "turn_speakers": [], "seconds": 8.0, "clips": [Clip(8.0, name)]}
    path = folder / "train-00000-of-00001.parquet"
    write_shard(path, Corpus([], rows, [], {}), rows, cache=cache, codec=codec, keep_audio=False)
    return path


def test_the_size_of_an_hour_is_that_of_the_readme(an_hour):
    (megabytes,) = re.findall(r"an hour takes ([\d.]+) MB", README)
    assert an_hour.stat().st_size / 1e6 == pytest.approx(float(megabytes), rel=0.05)
    metadata = pq.ParquetFile(an_hour).metadata
    columns = [metadata.row_group(0).column(index) for index in range(metadata.num_columns)]
    (codes,) = [column for column in columns if column.path_in_schema.startswith("codes.")]
    num_codes = 3600 * 25 * 8
    assert num_codes * 10 / 8 < codes.total_compressed_size < num_codes * 10 / 8 * 1.03


def test_the_columns_are_those_of_the_readme(an_hour):
    table = README.partition("## Columns")[2].partition("\n## ")[0]
    types = {
        name: kind
        for names, kind in re.findall(r"^\| (`[^|]+) \| ([^|]+) \|", table, flags=re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    features = shard_features(num_codebooks=8)
    assert types.keys() == features.keys() == set(pq.read_schema(an_hour).names)
    for name, feature in features.items():
        if re.match(r"Value\('(\w+)'\)", str(feature)):
            assert types[name].split(" or ")[0] == feature.dtype
        elif name != "audio":
            assert types[name].strip("`") == str(feature).replace("Value('", "").replace("')", "")
