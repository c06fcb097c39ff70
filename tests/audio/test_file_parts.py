import io
import random

import soundfile

from higgs_recipes.audio.file_parts import Part, PartReader, patched
from tests.helpers.audio_files import encode
from tests.helpers.tiny_codec import tone


CONTENT = bytes(range(256)) * 4


def test_pieces_read_as_one_file():
    part = Part((range(10, 20), b"abc", range(0), range(5, 300), b"", b"z"))
    expected = CONTENT[10:20] + b"abc" + CONTENT[5:300] + b"z"
    reader, draw = PartReader(io.BytesIO(CONTENT), part), random.Random(0)
    assert reader.seek(0, io.SEEK_END) == len(expected) == reader.size
    for _ in range(300):
        position, size = draw.randrange(len(expected) + 5), draw.randrange(1, 200)
        assert reader.seek(position) == min(position, len(expected))
        assert reader.read(size) == expected[position : position + size][: reader.tell() - position or None]
        assert reader.tell() == min(position + size, max(position, len(expected)), len(expected))


def test_replaced_bytes():
    spans = patched(range(2, 30), {4: b"xy", 29: b"z"})
    reader = PartReader(io.BytesIO(CONTENT), Part(spans))
    assert reader.readall() == CONTENT[2:4] + b"xy" + CONTENT[6:29] + b"z"


def test_a_file_that_is_shorter_than_its_parts_ends_where_it_ends():
    reader = PartReader(io.BytesIO(b"abc"), Part((range(1, 10), b"xyz")))
    assert reader.read(8) == b"bc" and reader.position == 2


def test_a_decoder_reads_parts():
    content = encode(tone(0.5), rate=24_000)
    reader = PartReader(io.BytesIO(b"junk" + content + b"junk"), Part((range(4, 4 + len(content)),)))
    samples, rate = soundfile.read(reader)
    assert (len(samples), rate) == (12_000, 24_000)
