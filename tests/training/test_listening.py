"""Training that listens: scores of the current weights' speech, which change neither the run nor what it resumes."""

import json
import os
import random
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from higgs_recipes.audio.codec import codec_revision
from higgs_recipes.audio.word_errors import ErrorCounts
from higgs_recipes.configs.inference import EvaluateConfig
from higgs_recipes.corpus.encoded import load_encoded
from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.evaluate import generate_clips
from higgs_recipes.evaluation.models import load_models
from higgs_recipes.evaluation.scoring import SpokenClip, score_clips
from higgs_recipes.hub.cards import adapter_card
from higgs_recipes.modeling.base_files import fetch_base
from higgs_recipes.modeling.model import build_model, load_tokenizer
from higgs_recipes.training.listening import Listener, preserved_random_state, speaking, speaking_rate
from higgs_recipes.training.resume import check_resume
from higgs_recipes.unwrap import unwrap_model
from tests.helpers import forked_python
from tests.helpers.checkpoints import tiny_folder
from tests.helpers.encoded_corpus import encoded_rows, write_encoded
from tests.helpers.fine_tuned import fine_tuned, recipe
from tests.helpers.train_once import make_trainer
from tests.helpers.two_processes import run_on_two
from tests.helpers.wavlm import save_random_wavlm
from tests.helpers.whisper import save_random_whisper


SAMPLES, SEED = 3, 5
SCORES = {"wer", "cer", "similarity", "stop_rate", "listen_samples", "listen_seconds"}
EVALUATED = {"eval_strategy": "steps", "eval_steps": 2}


@pytest.fixture(scope="module")
def metric_models(tmp_path_factory) -> dict[str, str]:
    """A random Whisper with word times and a random x-vector model."""
    folder = tmp_path_factory.mktemp("metric models")
    save_random_whisper(folder / "asr", is_multilingual=False, times_words=True, time_scale=0.01)
    save_random_wavlm(folder / "speaker")
    return {"asr": str(folder / "asr"), "speaker": str(folder / "speaker")}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """An encoded corpus of random codes, whose three test rows are long enough for the speaker model."""
    folder = tmp_path_factory.mktemp("corpus")
    codec = codec_revision(str(tiny_folder() / "codec"), revision=None)
    write_encoded(folder, encoded_rows(8, codec=codec))
    return write_encoded(folder, encoded_rows(3, codec=codec, num_steps=15), split="test")


@pytest.fixture(scope="module")
def listen(metric_models) -> dict:
    return metric_models | {"samples": SAMPLES, "seed": SEED, "max_seconds": 0.6}


@pytest.fixture(scope="module")
def heard(tmp_path_factory, corpus, listen) -> Path:
    """A run of four steps that listens after the second and the fourth."""
    folder = tmp_path_factory.mktemp("heard") / "run"
    fine_tuned(folder, datasets=[str(corpus)], listen=listen, **EVALUATED)
    return folder


def record(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def content(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file of a checkpoint by name; of random states, also what Python and NumPy have."""
    if path.suffix == ".safetensors":
        return load_file(path)
    found: dict[str, torch.Tensor] = {}

    def visit(value: Any, name: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                visit(inner, f"{name}.{key}")
        elif isinstance(value, (list, tuple)):
            for index, inner in enumerate(value):
                visit(inner, f"{name}.{index}")
        elif isinstance(value, (int, float, np.ndarray, torch.Tensor)):
            found[name] = torch.as_tensor(value)

    visit(torch.load(path, weights_only=False), "")
    return found


def evaluations(folder: Path) -> list[dict]:
    return [entry for entry in record(folder)["log_history"] if "eval_loss" in entry]


def test_a_run_that_listens_trains_the_weights_of_one_that_does_not(heard, corpus, tmp_path):
    fine_tuned(tmp_path / "run", datasets=[str(corpus)])
    for step in ("checkpoint-3", "checkpoint-4"):
        for file in ("adapter_model.safetensors", "optimizer.pt", "rng_state.pth"):
            found, expected = (content(folder / step / file) for folder in (heard, tmp_path / "run"))
            assert found.keys() == expected.keys() and found
            assert all(torch.equal(found[name], expected[name]) for name in expected), (step, file)
    losses = [[e["loss"] for e in record(f)["log_history"] if "loss" in e] for f in (heard, tmp_path / "run")]
    assert losses[0] == losses[1]


def test_the_scores_are_those_of_an_evaluation_of_the_same_rows_and_seeds(heard, corpus, listen, metric_models):
    """The adapter that the run has saved speaks as its weights did in training."""
    config = recipe(heard, datasets=[str(corpus)], listen=listen, **EVALUATED)
    listener = Listener(config, load_tokenizer(fetch_base(config)))
    evaluated = EvaluateConfig(
        model_name_or_path=config.model_name_or_path,
        dtype="float32",
        codec_name_or_path=config.codec_name_or_path,
        dataset=config.datasets[0],
        adapter=str(heard),
        output_dir=str(heard.parent / "evaluation"),
        max_seconds=0.6,
        seed=SEED,
        **metric_models,
    )
    models = load_models(evaluated)
    voices = models.codec.decode([torch.as_tensor(row["codes"], dtype=torch.int16) for row in listener.rows])
    clips = generate_clips(listener.rows, config=evaluated, models=models)
    scored = score_clips(
        [row | {"seed": SEED + index} for index, row in enumerate(listener.rows)],
        {"real": [SpokenClip(voice) for voice in voices], "finetuned": clips["finetuned"]},
        asr_model=listener.asr_model,
        speaker_model=listener.speaker_model,
        rules=listener.rules,
    )["rows"]["finetuned"]
    (*_, last) = evaluations(heard)
    assert last["step"] == 4 and last["eval_listen_samples"] == SAMPLES
    for name in ("wer", "cer", "stop_rate"):
        assert last[f"eval_{name}"] == pytest.approx(scored[name]["value"], abs=1e-9), name
    assert scored["similarity"]["n"] == 2, "rows 0 and 1 are of anna, row 2 is a dialogue"
    assert last["eval_similarity"] == pytest.approx(scored["similarity"]["value"], abs=1e-5)
    assert last["eval_listen_seconds"] > 0


def test_the_record_and_the_card_have_the_scores_of_the_saved_weights(heard, listen):
    found, (first, last) = record(heard), evaluations(heard)
    listening = found["listening"]
    assert listening["step"] == 4 and sorted(listening["rows"]) == ["row0", "row1", "row2"]
    assert listening["scores"] == {name: last[name] for name in last if name.removeprefix("eval_") in SCORES}
    assert (listening["asr"], listening["speaker"]) == ("asr", "speaker")
    assert "eval_wer" not in found["losses"] and found["losses"]["eval_loss"] == last["eval_loss"]
    assert record(heard / "checkpoint-3")["listening"]["scores"]["eval_wer"] == first["eval_wer"]
    assert record(heard / "checkpoint-1")["listening"] | {"rows": []} == listening | {
        "rows": [],
        "step": None,
        "scores": {},
    }
    assert (found["recipe"]["listen"]["samples"], found["recipe"]["listen"]["asr"]) == (SAMPLES, "asr")
    assert record(heard / "checkpoint-4")["settings"]["listen"]["top_k"] == 50  # the defaults are recorded
    line = next(line for line in adapter_card(found, name="me/voice").splitlines() if "of its speech" in line)
    assert f"step 4: WER {last['eval_wer']:.1%}" in line.replace("\\", "") and "3 held-out texts; asr" in line


@pytest.mark.slow
def test_the_best_checkpoint_may_be_that_of_the_best_speech(tmp_path, corpus, listen):
    fields = EVALUATED | {"eval_steps": 1, "load_best_model_at_end": True, "metric_for_best_model": "eval_similarity"}
    fine_tuned(tmp_path, datasets=[str(corpus)], listen=listen, **fields)
    found, scores = record(tmp_path), {e["step"]: e["eval_similarity"] for e in evaluations(tmp_path)}
    assert len(scores) == 4 and len(set(scores.values())) > 1
    best = max(scores.values())
    assert found["best"] == {"metric": "eval_similarity", "value": best, "last_step": 4}
    assert scores[found["steps"]] == best == found["listening"]["scores"]["eval_similarity"]
    assert found["listening"]["step"] == found["steps"]
    saved, kept = (load_file(f / "adapter_model.safetensors") for f in (tmp_path, best_folder(tmp_path, found)))
    assert all(torch.equal(saved[name], kept[name]) for name in saved)


def best_folder(folder: Path, found: dict) -> Path:
    return folder / f"checkpoint-{found['steps']}"


def test_a_resumed_run_says_that_it_listens_unless_the_best_checkpoint_depends_on_it(heard, listen, tmp_path):
    checkpoint = heard / "checkpoint-2"
    before = record(checkpoint)["settings"]
    (resumed,) = check_resume(str(checkpoint), before | {"listen": None})
    assert set(resumed["changed"]) == {"listen"}
    by_speech = tmp_path / "checkpoint-2"
    by_speech.mkdir()
    for path in checkpoint.iterdir():
        (by_speech / path.name).symlink_to(path)
    (by_speech / "run.json").unlink()
    changed = before | {"metric_for_best_model": "eval_wer"}
    (by_speech / "run.json").write_text(json.dumps(record(checkpoint) | {"settings": changed}))
    check_resume(str(by_speech), changed)
    with pytest.raises(InputError, match="cannot be resumed with this recipe: listen is .*: restore the checkpoint's"):
        check_resume(str(by_speech), changed | {"listen": before["listen"] | {"samples": 2}})


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_model_is_as_it_was_after_it_spoke(tmp_path, corpus, listen, method):
    """Weights, their memory and parameter objects, the modes of modules, and random numbers."""
    fields = {"method": method} | ({"dtype": "bfloat16", "bf16": True} if method == "full" else {})
    config = recipe(tmp_path, datasets=[str(corpus)], listen=listen, **EVALUATED, **fields)
    base = fetch_base(config)
    model, listener = build_model(config, base), Listener(config, load_tokenizer(base))
    model.train()
    frozen = next(module for module in model.modules() if isinstance(module, torch.nn.Linear))
    frozen.eval()

    def state() -> tuple:
        weights = [(name, id(weight), weight.requires_grad) for name, weight in model.named_parameters()]
        memory = [weight.data_ptr() for weight in model.parameters() if weight.requires_grad]
        return weights, memory, [module.training for module in model.modules()], draws()

    def draws() -> tuple:
        with preserved_random_state(torch.device("cpu")):
            return random.random(), float(np.random.rand()), float(torch.rand(()))

    before, values = state(), [weight.detach().clone() for weight in model.parameters()]
    scores = listener(model)
    assert scores.keys() - {"chars_per_second"} == SCORES
    assert state() == before
    assert all(torch.equal(value, weight) for value, weight in zip(values, model.parameters(), strict=True))
    again = listener(model)
    assert again | {"listen_seconds": 0} == scores | {"listen_seconds": 0}  # the same seeds


def test_trained_weights_of_another_type_speak_in_that_of_the_recipe(tmp_path):
    config = recipe(tmp_path, method="full", dtype="bfloat16", bf16=True, train_modules=["audio_expert"])
    model = unwrap_model(build_model(config, fetch_base(config)))
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    assert {weight.dtype for weight in trained} == {torch.float32}
    with pytest.raises(RuntimeError, match="stop"), speaking(model, dtype=torch.bfloat16):
        assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
        assert not model.training
        raise RuntimeError("stop")
    assert [weight for weight in model.parameters() if weight.requires_grad] == trained


def test_the_trainer_listens_for_its_own_dataset_and_not_in_its_speed(tmp_path):
    trainer = make_trainer(tmp_path, model_folder=tiny_folder() / "model", method="lora")

    def listener(model: torch.nn.Module) -> dict[str, float]:
        assert model is trainer.model
        time.sleep(0.05)
        return {"wer": 0.5}

    trainer.listener = listener
    assert trainer.evaluate()["eval_wer"] == trainer.state.log_history[-1]["eval_wer"] == 0.5
    assert trainer.training_metrics.paused_seconds > 0.05
    assert "eval_wer" not in trainer.evaluate(trainer.eval_dataset)


def test_a_silent_clip_and_one_that_was_cut(tmp_path, corpus, listen):
    """Silence is not a voice that is like the speaker's, and a cut clip says nothing about the speaking rate."""
    config = recipe(tmp_path, datasets=[str(corpus)], listen=listen, **EVALUATED)
    listener = Listener(config, load_tokenizer(fetch_base(config)))
    silent = [SpokenClip(torch.zeros(0), True)] * SAMPLES
    scores = listener._scores(silent, listener._judge([clip.waveform for clip in silent]))
    assert (scores["similarity"], scores["wer"], scores["stop_rate"]) == (0.0, 1.0, 1.0)
    assert "chars_per_second" not in scores
    second = torch.zeros(24_000)
    clips = [SpokenClip(second, True), SpokenClip(second.repeat(9), False), SpokenClip(second.repeat(2), True)]
    assert speaking_rate(clips, [ErrorCounts(0, length) for length in (10, 900, 20)]) == 10.0
    assert speaking_rate(clips[1:2], [ErrorCounts(0, 900)]) is None


@pytest.mark.slow
def test_two_processes_share_the_texts_and_have_the_scores_of_one(tmp_path, corpus, listen):
    def scores() -> dict[str, float]:
        config = recipe(tmp_path / "run", datasets=[str(corpus)], listen=listen, **EVALUATED)
        base = fetch_base(config)
        torch.manual_seed(0)
        model = build_model(config, base)
        return Listener(config, load_tokenizer(base))(model) | {"listen_seconds": 0}

    alone = scores()
    ended = run_on_two(scores, tmp_path)
    for process in ended:
        assert process.code == 0, process.output
        assert process.result == pytest.approx(alone, abs=1e-5)


def test_an_error_of_one_process_ends_both(tmp_path, corpus, listen):
    def fails() -> None:
        config = recipe(tmp_path / "run", datasets=[str(corpus)], listen=listen, **EVALUATED)
        base = fetch_base(config)
        model, listener = build_model(config, base), Listener(config, load_tokenizer(base))
        if config.process_index == 1:
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.data.fill_(float("nan"))
        listener(model)

    main, other = run_on_two(fails, tmp_path)
    assert (main.code, other.code) == (1, 2) and "the adapter cannot be added to the weights" in main.output


@pytest.mark.slow
def test_the_script_finds_the_library_evaluate_and_not_the_script_of_its_name():
    code = (
        "import runpy, sys; from importlib.machinery import PathFinder; sys.path.insert(0, 'scripts'); "
        "runpy.run_path('scripts/sft.py'); print(PathFinder.find_spec('evaluate').origin)"
    )
    done = forked_python.run("-c", code, env=dict(os.environ))
    assert done.returncode == 0 and "/scripts/" not in done.stdout and done.stdout.strip(), done.stderr


@pytest.mark.slow
def test_what_cannot_be_scored_is_refused_before_training(tmp_path, corpus, listen):
    def refused(message: str, **changes: Any) -> None:
        fields = {"datasets": [str(corpus)], "listen": listen} | EVALUATED
        with pytest.raises(InputError, match=message):
            fine_tuned(tmp_path, **fields | changes)

    refused("listen: max_seconds is 31.0, but .*asr transcribes at most 30 s", listen=listen | {"max_seconds": 31.0})
    refused("no such folder: .*/nothing", listen=listen | {"speaker": str(tmp_path / "nothing")})
    rows = [row | {"language": "de"} for row in encoded_rows(1, codec=load_encoded(corpus, split="test")[0]["codec"])]
    german = write_encoded(shutil.copytree(corpus, tmp_path / "german"), rows, split="test")
    refused("row row0, language 'de': .*asr supports English only", datasets=[str(german)])
    assert not list(tmp_path.glob("*.safetensors"))
