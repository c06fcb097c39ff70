import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from higgs_recipes.chatml import conversation
from higgs_recipes.configs.inference import GenerateConfig
from higgs_recipes.generation.finished_clips import (
    FinishedClips,
    clip_settings,
    generate_rest,
    remove_finished_clips,
)
from higgs_recipes.generation.generate import Generation, Request, generate
from higgs_recipes.hub.download import Snapshot
from tests.helpers.checkpoints import load_tiny, tiny_folder


def request(text: str = "Hello.", *, seed: int = 0, ref: int | None = None) -> Request:
    if ref is None:
        return Request(conversation({"text": text}, task="single_speaker_smart_voice"), [], seed)
    row = {"text": text, "ref_audio": "ref.wav", "ref_text": "Words."}
    codes = torch.full((4, 8), ref, dtype=torch.int16)
    return Request(conversation(row, task="zero_shot_voice_cloning"), [codes], seed)


def clip(num_steps: int = 3, *, seed: int = 0) -> Generation:
    return Generation(torch.arange(num_steps * 8, dtype=torch.int16).reshape(num_steps, 8), True, seed)


def config(tmp_path: Path, **fields) -> GenerateConfig:
    return GenerateConfig(
        **{"text": ["-"], "output_dir": str(tmp_path / "out"), "max_seconds": 0.2, "batch_size": 2} | fields
    )


@pytest.mark.parametrize("num_steps", [3, 0])
def test_a_clip_is_found_as_it_was_added(tmp_path, num_steps):
    finished = FinishedClips(str(tmp_path / "out"), {"seed": 1})
    assert finished.find(request(seed=5)) is None
    finished.add(request(seed=5), clip(num_steps, seed=5))
    found = finished.find(request(seed=5))
    assert torch.equal(found.codes, clip(num_steps).codes) and found.codes.dtype == torch.int16
    assert (found.stopped, found.seed, found.codes.shape) == (True, 5, (num_steps, 8))
    assert not (tmp_path / "out").exists()  # a folder of that name is always a whole result


def test_a_clip_of_another_text_seed_reference_or_setting_is_not_found(tmp_path):
    finished = FinishedClips(str(tmp_path / "out"), {"temperature": 1.0})
    finished.add(request(ref=1), clip())
    assert finished.find(request(ref=1)) is not None
    for other in (request(ref=2), request(), request("Well.", ref=1), request(seed=1, ref=1)):
        assert finished.find(other) is None
    assert replace(finished, made_by={"temperature": 0.5}).find(request(ref=1)) is None
    assert replace(finished, output_dir=str(tmp_path / "other")).find(request(ref=1)) is None


def test_settings_change_with_options_weights_and_adapter(tmp_path):
    folders = [tmp_path / name for name in ("base", "adapter")]
    for folder in folders:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights")
    base, adapter = (Snapshot(folder.name, None, folder) for folder in folders)
    same = clip_settings(config(tmp_path), base=base, adapter=None)
    assert same == clip_settings(config(tmp_path, output_dir="elsewhere"), base=base, adapter=None)
    others = [
        clip_settings(config(tmp_path, top_k=3), base=base, adapter=None),
        clip_settings(config(tmp_path, dtype="float32"), base=base, adapter=None),
        clip_settings(config(tmp_path), base=base, adapter=adapter),
    ]
    os.utime(folders[0] / "model.safetensors", ns=(1, 1))  # as if the weights were written again
    others.append(clip_settings(config(tmp_path), base=base, adapter=None))
    assert all(other != same for other in others)


def test_settings_do_not_change_with_the_number_of_processes(tmp_path, monkeypatch):
    base = Snapshot("tiny", None, tmp_path)
    one = clip_settings(config(tmp_path), base=base, adapter=None)
    monkeypatch.setattr("higgs_recipes.provenance.describe_hardware", lambda: "4 x NVIDIA H100")
    assert clip_settings(config(tmp_path), base=base, adapter=None) == one


@pytest.fixture(scope="module")
def loaded():
    return load_tiny()


def test_an_interrupted_run_goes_on_with_the_clips_that_are_missing(tmp_path, loaded, monkeypatch, caplog):
    recipe = config(tmp_path)
    base = Snapshot("tiny", None, tiny_folder() / "model")
    requests = [request(f"Text number {index}.", seed=index) for index in range(5)]
    expected = generate(*loaded, requests, sampling=recipe)
    add, added = FinishedClips.add, []

    def add_three(self, request, generation):
        if len(added) == 3:
            raise KeyboardInterrupt
        add(self, request, generation)
        added.append(request.seed)

    def add_more(self, request, generation):
        add(self, request, generation)
        added.append(request.seed)

    finished = FinishedClips(recipe.output_dir, clip_settings(recipe, base=base, adapter=None))
    monkeypatch.setattr(FinishedClips, "add", add_three)
    with pytest.raises(KeyboardInterrupt):
        generate_rest(*loaded, requests, sampling=recipe, finished=finished)
    assert len(added) == 3 == len(list((tmp_path / ".out.clips").iterdir()))  # in the middle of a batch of two

    monkeypatch.setattr(FinishedClips, "add", add_more)
    with caplog.at_level("INFO"):
        generations = generate_rest(*loaded, requests, sampling=recipe, finished=finished)
    assert sorted(added) == [0, 1, 2, 3, 4] and "3 of 5 clips were generated by an earlier run" in caplog.text
    for generation, other in zip(generations, expected, strict=True):
        assert torch.equal(generation.codes, other.codes)
        assert (generation.seed, generation.stopped) == (other.seed, other.stopped)

    remove_finished_clips(recipe.output_dir)
    assert list(tmp_path.iterdir()) == []
    remove_finished_clips(recipe.output_dir)  # as after a run without generated clips
