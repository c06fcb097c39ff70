"""Raw PCM has the samples of a wav file, and a reader may be slow or leave."""

import io
import os
import runpy
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from higgs_recipes.audio.io import wav_bytes
from higgs_recipes.configs.inference import GenerateConfig
from higgs_recipes.generation.generate import generate
from higgs_recipes.generation.long_text import speak_texts
from higgs_recipes.generation.pcm_output import pcm_bytes, write_pcm
from higgs_recipes.generation.synthesis import build_texts
from tests.helpers.checkpoints import load_tiny, tiny_folder
from tests.helpers.paths import ROOT
from tests.helpers.tiny_codec import tiny_codec, tiny_codec_folder


def waveform(num_samples: int = 5000, *, loudness: float = 0.5) -> torch.Tensor:
    return loudness * torch.randn(num_samples, generator=torch.Generator().manual_seed(0))


def test_samples_are_those_of_a_wav_file():
    loud = torch.cat([waveform(loudness=1.0), torch.tensor([-1.0, 1.0, 0.0])])  # clipped in part
    assert pcm_bytes(loud, "s16le") == wav_bytes(loud)[44:]
    floats = torch.frombuffer(bytearray(pcm_bytes(loud, "f32le")), dtype=torch.float32)
    assert torch.equal(floats, loud)


def test_pieces_are_written_in_their_order():
    pieces, file = [waveform(100 + index) for index in range(30)], io.BytesIO()
    assert write_pcm(iter(pieces), file, pcm_format="f32le")
    assert file.getvalue() == b"".join(pcm_bytes(piece, "f32le") for piece in pieces)


def test_generation_goes_on_while_a_slow_reader_waits_and_ends_when_it_leaves():
    read_end, write_end = os.pipe()
    made = []

    def pieces() -> Iterator[torch.Tensor]:
        for index in range(1000):
            made.append(index)
            if index == 6:  # more than the pipe holds, and the reader has not read yet
                os.close(read_end)
            yield waveform(24_000)

    file = os.fdopen(write_end, "wb", buffering=0)
    assert not write_pcm(pieces(), file, pcm_format="s16le")
    assert 6 in made and len(made) < 40


def test_another_error_of_the_file_is_raised():
    class Full(io.RawIOBase):
        def write(self, content: bytes) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_pcm(iter([waveform()] * 3), Full(), pcm_format="s16le")


def test_what_was_generated_before_a_failure_is_written():
    def failing():
        yield waveform()
        yield waveform()
        raise RuntimeError("no memory")

    file = io.BytesIO()
    with pytest.raises(RuntimeError, match="no memory"):
        write_pcm(failing(), file, pcm_format="s16le")
    assert file.getvalue() == 2 * pcm_bytes(waveform(), "s16le")


def test_the_script_streams_all_texts_to_stdout_and_logs_to_stderr(monkeypatch, capfdbinary, tmp_path):
    texts, fields = ["Hello there.", "The boat came home."], {"max_seconds": 0.8, "seed": 3}
    model, tokenizer = load_tiny()
    config = GenerateConfig(text=texts, **fields)
    (first,), (second,) = speak_texts(
        build_texts(config, tiny_codec()),
        lambda requests: generate(model, tokenizer, requests, sampling=config),
        buffer_size=config.chunk_buffer_size,
    )
    expected = torch.cat(tiny_codec().decode([first.codes, second.codes]))

    flags = {
        "model_name_or_path": tiny_folder() / "model",
        "codec_name_or_path": tiny_codec_folder(),
        "dtype": "float32",
        "output_dir": tmp_path / "out",
    } | fields
    arguments = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", ["generate.py", *arguments, "--stream", "--text", *texts])
    monkeypatch.setattr("higgs_recipes.devices.PartialState", lambda: SimpleNamespace(num_processes=1, device="cpu"))
    script = runpy.run_path(str(ROOT / "scripts/generate.py"))
    script["main"]()
    os.write(1, b"what a library prints")
    written = capfdbinary.readouterr()
    samples = torch.frombuffer(bytearray(written.out), dtype=torch.int16)
    assert samples.shape == expected.shape and not (tmp_path / "out").exists()
    assert (samples - expected * 2**15).abs().max() <= 1.01
    assert b"what a library prints" in written.err
