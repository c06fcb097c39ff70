"""The whole road by the real scripts over a local Hub: recordings -> codes -> adapter -> speech, scores, merged."""

import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pyarrow.parquet
import pytest
import torch
from huggingface_hub import DatasetCard, ModelCard
from safetensors.torch import load_file
from transformers import AutoTokenizer, HiggsAudioV2ForConditionalGeneration, HiggsAudioV2Processor

from higgs_recipes.chatml import conversation
from higgs_recipes.delay import undelay_frames
from higgs_recipes.output_folder import FILE_LIST
from higgs_recipes.run_lock import lock_output
from tests.helpers.checkpoints import tiny_folder
from tests.helpers.forked_python import TIMEOUT
from tests.helpers.forked_scripts import Done, Scripts
from tests.helpers.hub_server import TOKENS, HubServer, Repo
from tests.helpers.paths import ROOT
from tests.helpers.wavlm import save_random_wavlm
from tests.helpers.whisper import save_random_whisper


CORPUS = ROOT / "tests/data/two_voices"
NUM_CLIPS, NUM_TEST = 8, 3
TEXT = "The birch canoe slid on the smooth planks."
SECONDS = 0.4  # of what is generated
PUSH, PUSH_CORPUS = ("--push_to_hub", "--hub_model_id"), ("--push_to_hub", "--hub_dataset_id")


@dataclass(frozen=True)
class Road:
    """A Hub with the recordings as tester/recordings, the scripts, and a folder for all that they write."""

    hub: HubServer
    scripts: Scripts
    folder: Path

    def run(self, script: str, *args: object, **env: str | None) -> Done:
        done = self.scripts.run(script, *args, **env)
        assert done.code == 0, done.said
        return done

    def refused(self, script: str, *args: object, **env: str | None) -> str:
        """The one line that a script ends with, exit code 2."""
        (line,) = error_lines(self.scripts.run(script, *args, **env))
        return line

    def repo(self, kind: str, name: str) -> Repo:
        return self.hub.repos[kind, f"tester/{name}"]

    def encode_flags(self, output: str) -> list[object]:
        flags = ["--config", "tests/data/random_tiny/encode.yaml", *models()[2:], "--test_size", NUM_TEST]
        flags += ["--sources", "tester/recordings", "--cache_dir", self.folder / "cache"]
        return [*flags, "--output_dir", self.folder / output]

    def sft_flags(self, output: str) -> list[object]:
        flags = ["--config", "tests/data/random_tiny/voice_lora.yaml", *models(), "--datasets", "tester/corpus"]
        flags += ["--per_device_train_batch_size", 2, "--logging_steps", 1]
        flags += ["--lr_scheduler_type", "constant_with_warmup"]  # so that a resumed run may have another length
        return [*flags, "--output_dir", self.folder / output]

    def generate_flags(self, output: str, *, adapter: object) -> list[object]:
        flags = [
            "--config",
            "tests/data/random_tiny/generate.yaml",
            *models(),
            "--max_seconds",
            SECONDS,
            "--text",
            TEXT,
        ]
        return [*flags, "--adapter", adapter, "--output_dir", self.folder / output, "--overwrite_output_dir", "false"]

    def evaluate_flags(self, output: str) -> list[object]:
        flags = [
            "--config",
            "tests/data/random_tiny/evaluate.yaml",
            *models(),
            "--max_seconds",
            SECONDS,
            "--max_rows",
            2,
        ]
        flags += ["--adapter", "tester/voice", "--dataset", "tester/corpus", "--output_dir", self.folder / output]
        return [*flags, "--asr", self.folder / "asr", "--speaker", self.folder / "speaker", "--push_to_hub"]

    def merge_flags(self, output: str) -> list[object]:
        return [*models()[:2], "--dtype", "float32", "--adapter", "tester/voice", "--output_dir", self.folder / output]

    def codes(self, output: str) -> list[list[list[int]]]:
        lines = (self.folder / output / "generations.jsonl").read_text().splitlines()
        return [json.loads(line)["codes"] for line in lines]


def error_lines(done: Done) -> list[str]:
    """The lines of the error that a script refused its input with."""
    assert done.code == 2 and "Traceback" not in done.said, done.said
    _, error = done.said.split("ERROR higgs_recipes.errors: ")
    return error.strip().splitlines()


def models() -> list[object]:
    """The flags that name the tiny model, then those for the tiny codec."""
    return ["--model_name_or_path", tiny_folder() / "model", "--codec_name_or_path", tiny_folder() / "codec"]


def recordings() -> dict[str, bytes]:
    """Some clips of one voice as an audio dataset."""
    with (CORPUS / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["speaker"] == "heart"][:NUM_CLIPS]
    metadata = "file_name,text,speaker\n" + "".join(f"{row['file_name']},{row['text']},heart\n" for row in rows)
    clips = {row["file_name"]: (CORPUS / row["file_name"]).read_bytes() for row in rows}
    return clips | {"metadata.csv": metadata.encode(), "README.md": b"# Recordings\n"}


@pytest.fixture(scope="module")
def road(tmp_path_factory):
    folder = tmp_path_factory.mktemp("road")
    with HubServer(folder / "clients") as hub, Scripts(hub.env(), folder) as scripts:
        hub.add_repo("tester/recordings", recordings(), kind="datasets", private=True)
        yield Road(hub, scripts, folder)


@pytest.fixture(scope="module")
def corpus(road) -> str:
    return road.run("encode", *road.encode_flags("corpus"), "--push_to_hub", "--hub_dataset_id", "corpus").said


@pytest.fixture(scope="module")
def stopped(road, corpus) -> Done:
    """A fine-tuning on the pushed corpus, ended by SIGTERM long before its last step."""
    process = road.scripts.start("sft", *road.sft_flags("voice"), "--max_steps", 1000)
    road.scripts.wait_for("{'loss': ")
    os.kill(process, signal.SIGTERM)
    return road.scripts.finish()


@pytest.fixture(scope="module")
def adapter(road, stopped) -> Path:
    """The same run, two steps further, pushed."""
    (checkpoint,) = (road.folder / "voice").glob("checkpoint-*")
    steps = int(checkpoint.name.removeprefix("checkpoint-")) + 2
    push = ["--push_to_hub", "--hub_model_id", "tester/voice"]
    resume = ["--resume_from_checkpoint", "true", "--max_steps", steps]
    road.run("sft", *road.sft_flags("voice"), *resume, *push)
    return road.folder / "voice"


@pytest.fixture(scope="module")
def report(road, adapter) -> Path:
    save_random_whisper(road.folder / "asr", is_multilingual=False)
    save_random_wavlm(road.folder / "speaker")
    road.run("evaluate", *road.evaluate_flags("report"))
    return road.folder / "report"


@pytest.fixture(scope="module")
def other(road) -> Path:
    """Another model and another codec, of few codes: to fill codebooks takes longest."""
    codec = json.loads((ROOT / "tests/data/random_tiny/codec.json").read_text(encoding="utf-8")) | {
        "codebook_size": 16
    }
    (road.folder / "codec.json").write_text(json.dumps(codec), encoding="utf-8")
    flags = ["--config", "tests/data/random_tiny/init.yaml", "--seed", 1, "--codec_config", road.folder / "codec.json"]
    road.run("init_model", *flags, "--output_dir", road.folder / "other")
    return road.folder / "other"


def test_a_corpus_on_the_hub_is_encoded_and_pushed_in_private(road, corpus):
    repo = road.repo("datasets", "corpus")
    data = {f"data/{split}-00000-of-00001.parquet" for split in ("train", "test")}
    assert repo.private and set(repo.files) == {"README.md", "corpus.json", "rejects.jsonl"} | data
    assert f"pushed: {road.hub.url}/datasets/tester/corpus/commit/{repo.head}" in corpus
    card = DatasetCard(repo.files["README.md"].decode())
    assert card.data["source_datasets"] == ["tester/recordings"]
    assert 'load_dataset("tester/corpus", split="train")' in card.text
    record = json.loads(repo.files["corpus.json"])
    assert [record["splits"][split]["rows"] for split in ("train", "test")] == [NUM_CLIPS - NUM_TEST, NUM_TEST]
    assert "HTTP Request" not in corpus  # a line for each of the Hub's files would bury what matters


def test_a_run_told_to_end_saves_and_says_how_to_go_on(road, stopped):
    (checkpoint,) = (road.folder / "voice").glob("checkpoint-*")
    step = checkpoint.name.removeprefix("checkpoint-")
    assert stopped.code == 0, stopped.said
    assert f"stopped at step {step}; continue with --resume_from_checkpoint true" in stopped.said
    assert (checkpoint / "adapter_model.safetensors").is_file()


def test_an_adapter_is_pushed_in_private_with_its_record_and_card(road, adapter):
    repo = road.repo("models", "voice")
    assert repo.private
    trained = {"adapter_model.safetensors", "adapter_config.json", "run.json", "README.md"}
    assert trained <= set(repo.files)
    assert {path for path in repo.files if not path.startswith("evaluation/")} == trained
    assert repo.files["adapter_model.safetensors"] == (adapter / "adapter_model.safetensors").read_bytes()

    run = json.loads(repo.files["run.json"])
    assert run["datasets"][0]["path"] == "tester/corpus" and run["datasets"][0]["rows"] == NUM_CLIPS - NUM_TEST
    assert run["log_history"][0]["step"] == 1  # of the run before it was ended: the record is of both
    assert run["steps"] == run["recipe"]["max_steps"]
    card = ModelCard(repo.files["README.md"].decode())
    assert card.data.datasets == ["tester/corpus"]
    for fact in (run["git_commit"], run["datasets"][0]["fingerprint"], run["base_fingerprint"], run["codec"]):
        assert str(fact) in card.text
    assert "lora_r: 16" in card.text and 'adapter="tester/voice"' in card.text


def test_an_adapter_from_the_hub_speaks_as_the_one_on_disk(road, adapter):
    road.run("generate", *road.generate_flags("local", adapter=adapter))
    said = road.run("generate", *road.generate_flags("pulled", adapter="tester/voice")).said
    assert f"{road.folder}/pulled/000.wav: {SECONDS:.2f} s, hit the cap of {SECONDS} s, seed 0" in said
    assert road.codes("local") == road.codes("pulled")
    assert torch.tensor(road.codes("pulled")).shape == (1, round(SECONDS * 25), 8)


@pytest.mark.slow
def test_a_killed_generation_goes_on_with_the_clips_that_are_missing(road, adapter):
    flags = [*road.generate_flags("killed", adapter=adapter), "--batch_size", 1, "--text", *[TEXT] * 6]
    process = road.scripts.start("generate", *flags)
    deadline = time.monotonic() + 200
    while not list(road.folder.glob(".killed.clips/*.json")):
        assert time.monotonic() < deadline, road.scripts.said()
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    assert road.scripts.finish().code == -signal.SIGKILL and not (road.folder / "killed").exists()
    finished = len(list(road.folder.glob(".killed.clips/*.json")))
    assert 1 <= finished < 6
    said = road.run("generate", *flags).said
    assert f"{finished} of 6 clips were generated by an earlier run" in said
    codes = road.codes("killed")
    road.run("generate", *road.generate_flags("undisturbed", adapter=adapter), *flags[-9:])
    assert len(codes) == 6 and codes == road.codes("undisturbed")
    assert not list(road.folder.glob(".*.clips"))


def test_a_report_joins_its_adapter_on_the_hub(road, report):
    repo = road.repo("models", "voice")
    files = {path.relative_to(report).as_posix() for path in report.rglob("*") if path.is_file()}
    files -= {"state.json", FILE_LIST}
    assert {"metrics.json", "report.md", "report.html", "samples/0001_finetuned.wav"} <= files
    assert {path for path in repo.files if path.startswith("evaluation/")} == {f"evaluation/{file}" for file in files}
    metrics = json.loads(repo.files["evaluation/metrics.json"])
    assert list(metrics["rows"]) == ["real", "codec", "base", "finetuned"] and metrics["n"] == 2
    assert (metrics["held_out"], metrics["shared_with_train"]) == (True, 0)
    assert not list(road.folder.glob(".*.clips"))  # the clips are in the report
    assert metrics["adapter"] == "tester/voice" and metrics["adapter_revision"] in repo.commits

    card = ModelCard(repo.files["README.md"].decode())
    (score, *_) = card.data.eval_results
    assert (score.metric_type, score.metric_value) == ("wer", metrics["rows"]["finetuned"]["wer"]["value"])
    assert "## Training" in card.text and "## Evaluation" in card.text and "lora_r: 16" in card.text


def test_a_merged_checkpoint_speaks_as_its_adapter_in_plain_transformers(road, adapter):
    test = ["--compare_models", "--test_input", TEXT, "--max_seconds", SECONDS, *models()[2:]]
    said = road.run("merge", *road.merge_flags("merged"), "--check", *test, *PUSH, "tester/merged").said
    assert "the most likely codes are equal in 100.00%" in said
    comparison = json.loads((road.folder / "merged_test/comparison.json").read_text())
    assert [system["equal_codes"] for system in comparison["systems"][1:]] == [1, 1]
    road.run("generate", *road.generate_flags("greedy", adapter="tester/voice"), "--temperature", 0)

    model = HiggsAudioV2ForConditionalGeneration.from_pretrained(road.folder / "merged").eval()
    tokenizer = AutoTokenizer.from_pretrained(road.folder / "merged")
    turns = conversation({"text": TEXT}, task="single_speaker_smart_voice")[:-1]
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    inputs = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    (expected,) = torch.tensor(road.codes("greedy"))
    frames = model.generate(**inputs, do_sample=False, ras_win_len=None, max_new_tokens=len(expected) + 9)[0]
    assert torch.equal(undelay_frames(frames)[: len(expected) - 8], expected[:-8])


def test_no_folder_of_this_machine_is_in_anything_that_is_pushed(road, adapter, report):
    folder = road.folder / "recordings"
    folder.mkdir()
    for name, content in recordings().items():
        (folder / name).write_bytes(content)
    with (folder / "metadata.csv").open("a") as file:
        file.write("missing.wav,Nobody reads this.,heart\n/etc/passwd,Nor this.,heart\n")
    flags = [*road.encode_flags("local_corpus"), "--sources", folder, *PUSH_CORPUS, "tester/local"]
    road.run("encode", *flags)
    road.run("merge", *road.merge_flags("merged2"), "--adapter", adapter, *PUSH, "tester/merged2")

    assert len(road.repo("datasets", "local").files["rejects.jsonl"].splitlines()) == 2
    places = [str(place).encode() for place in (road.folder, tiny_folder(), Path.home(), "/etc/passwd")]
    for repo in road.hub.repos.values():
        for path, content in repo.files.items():
            if path.endswith(".parquet"):
                content = repr(pyarrow.parquet.read_table(BytesIO(content)).to_pylist()).encode()
            assert not any(place in content for place in places), path
    merge = json.loads(road.repo("models", "merged2").files["merge.json"])
    assert (merge["base_model"], merge["adapter"], merge["adapter_revision"]) == ("model", "voice", None)
    # Here, it still finds its codec.
    HiggsAudioV2Processor.from_pretrained(road.folder / "merged2")


def test_a_revision_that_is_not_named_is_recorded_as_its_commit(road, adapter):
    base = {path.name: path.read_bytes() for path in (tiny_folder() / "model").iterdir()}
    repo = road.hub.add_repo("tester/base", base)
    flags = [*road.sft_flags("of_hub"), "--model_name_or_path", "tester/base", "--max_steps", 1]
    road.run("sft", *flags, "--eval_strategy", "no", "--save_strategy", "no")
    run = json.loads((road.folder / "of_hub/run.json").read_text())
    assert (run["base_model"], run["base_revision"]) == ("tester/base", repo.head)
    flags = ["--model_name_or_path", "tester/base", "--adapter_revision", "main", "--output_dir", road.folder / "m"]
    road.run("merge", *road.merge_flags("of_hub"), *flags)
    merge = json.loads((road.folder / "m/merge.json").read_text())
    assert merge["base_revision"] == repo.head and merge["adapter_revision"] == road.repo("models", "voice").head


def test_the_report_of_a_whole_model_goes_to_its_own_repository(road, report):
    base = {path.name: path.read_bytes() for path in (tiny_folder() / "model").iterdir()}
    repo = road.hub.add_repo("tester/whole", base)
    flags = [*road.evaluate_flags("report4"), "--model_name_or_path", "tester/whole", "--adapter", "null"]
    said = road.run("evaluate", *flags).said
    assert f"pushed: {road.hub.url}/tester/whole/commit/" in said
    assert "evaluation/metrics.json" in repo.files and repo.files.items() >= base.items()
    assert ("models", "tester/report4") not in road.hub.repos


def test_a_loss_that_is_no_number_ends_training_with_one_line(road, corpus):
    done = road.scripts.run("sft", *road.sft_flags("diverged"), "--learning_rate", 1e30, "--max_steps", 9)
    assert done.code == 1 and "Traceback" not in done.said, done.said
    _, error = done.said.split("ERROR higgs_recipes.errors: ")
    assert re.match(r"step \d: the loss is not finite; rows of the batch: .*", error)


@pytest.mark.slow
def test_a_failed_push_leaves_the_adapter_on_disk_and_its_command_pushes_it(road, corpus):
    road.hub.fail_next(500, "POST .*/commit/main", times=9)
    flags = [*road.sft_flags("second"), "--max_steps", 1, "--eval_strategy", "no", "--save_strategy", "no"]
    done = road.scripts.run("sft", *flags, "--push_to_hub", "--hub_model_id", "tester/second")
    road.hub.forget_failures()
    first, command = error_lines(done)
    assert first.startswith(f"the push to tester/second failed: {road.hub.url} answered 500")
    assert f"All files are on disk at {road.folder / 'second'}; to push again:" in first
    on_disk = {path.name: path.read_bytes() for path in (road.folder / "second").iterdir()}
    state = json.loads(on_disk.pop("state.json"))
    assert (state["push_to"], state["pushed"]) == ("tester/second", None)
    assert set(on_disk) == {"adapter_model.safetensors", "adapter_config.json", "run.json", "README.md"}

    env = road.hub.env() | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    again = subprocess.run(shlex.split(command), env=env, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert road.repo("models", "second").files == on_disk and road.repo("models", "second").private


def test_an_adapter_is_trained_further_with_its_origin_in_record_and_card(road, adapter):
    flags = [*road.sft_flags("further"), "--adapter", "tester/voice", "--max_steps", 1, "--eval_strategy", "no"]
    road.run("sft", *flags, "--save_strategy", "no")
    run = json.loads((road.folder / "further/run.json").read_text())
    commit = road.repo("models", "voice").head
    assert (run["adapter"], run["adapter_revision"]) == ("tester/voice", commit)
    assert f"- continues the adapter: tester/voice @ {commit}" in (road.folder / "further/README.md").read_text()
    before = load_file(adapter / "adapter_model.safetensors")
    after = load_file(road.folder / "further" / "adapter_model.safetensors")
    assert before.keys() == after.keys()
    for name, weight in after.items():  # one step further, not from the start: a new adapter has zeros in B
        assert torch.allclose(weight, before[name], atol=2e-3) and ("lora_B" not in name or weight.any())


def test_a_folder_with_files_of_others_is_refused_before_training(road, corpus):
    folder = road.folder / "foreign"
    (folder / ".ssh").mkdir(parents=True)
    (folder / ".ssh" / "id_rsa").write_text("PRIVATE KEY")
    (folder / ".env").write_text("HF_TOKEN=hf_secret")
    push = ["--push_to_hub", "--hub_model_id", "tester/foreign"]
    error = road.refused("sft", *road.sft_flags("foreign"), *push)
    assert error == f"{folder} exists and contains files that are not of a run: .env, .ssh; choose another output_dir"
    assert sorted(path.name for path in folder.iterdir()) == [".env", ".ssh"]
    assert ("models", "tester/foreign") not in road.hub.repos


def pushed_again(road: Road, script: str, flags: list[object], folder: Path) -> Done:
    """Kill a script when it commits, and run the same command again; the result on disk must not change."""
    with road.hub.hold_next("POST .*/commit/") as commit:
        process = road.scripts.start(script, *flags)
        assert commit.reached.wait(TIMEOUT), road.scripts.said()
        os.kill(process, signal.SIGKILL)
        assert road.scripts.finish().code == -signal.SIGKILL
    made = {
        path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name not in ("state.json", "README.md")
    }
    done = road.run(script, *flags)
    assert "pushed: " in done.said
    assert made == {
        path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name not in ("state.json", "README.md")
    }
    return done


@pytest.mark.slow
def test_a_killed_push_is_finished_by_the_same_command(road, corpus, adapter, report):
    flags = [*road.encode_flags("corpus3"), *PUSH_CORPUS, "tester/corpus3", "--overwrite_output_dir", "false"]
    done = pushed_again(road, "encode", flags, road.folder / "corpus3")
    assert "Encoding" not in done.said and "corpus.json" in road.repo("datasets", "corpus3").files
    assert "exists and is not empty" in road.refused("encode", *flags)  # nothing is left to do

    flags = [*road.sft_flags("third"), "--max_steps", 1, "--eval_strategy", "no", "--save_strategy", "no"]
    flags += ["--push_to_hub", "--hub_model_id", "tester/third"]
    done = pushed_again(road, "sft", flags, road.folder / "third")
    assert "'loss'" not in done.said and "run.json" in road.repo("models", "third").files
    assert "holds a finished run" in road.refused("sft", *flags)

    flags = [*road.merge_flags("merged3"), *PUSH, "tester/merged3"]
    pushed_again(road, "merge", flags, road.folder / "merged3")
    assert "merge.json" in road.repo("models", "merged3").files
    assert "exists and is not empty" in road.refused("merge", *flags)

    flags = [*road.evaluate_flags("report3"), "--hub_model_id", "tester/third", "--overwrite_output_dir", "false"]
    done = pushed_again(road, "evaluate", flags, road.folder / "report3")
    assert "scoring" not in done.said and "evaluation/metrics.json" in road.repo("models", "third").files
    assert "exists and is not empty" in road.refused("evaluate", *flags)


def test_a_second_run_with_the_same_folder_is_refused(road, corpus):
    commands = {"sft": road.sft_flags("locked"), "encode": road.encode_flags("locked")}
    commands |= {"merge": road.merge_flags("locked"), "generate": road.generate_flags("locked", adapter="null")}
    with lock_output(road.folder / "locked"):
        for script, flags in commands.items():
            assert "locked is in use by another run (process " in road.refused(script, *flags)
    assert not (road.folder / "locked").exists()


def test_a_run_that_was_killed_before_its_card_is_finished_by_the_same_command(road, corpus):
    flags = [*road.sft_flags("fourth"), "--max_steps", 1, "--eval_strategy", "no", "--save_steps", 1]
    assert f"fine-tuned: {road.folder / 'fourth'}, step 1, the last one" in road.run("sft", *flags).said
    card = road.folder / "fourth" / "README.md"
    written = card.read_text()
    card.unlink()
    assert "'loss'" not in road.run("sft", *flags).said
    assert card.read_text() == written

    (road.folder / "fourth" / "run.json").unlink()  # killed before: the weights may be incomplete
    weights = road.folder / "fourth" / "adapter_model.safetensors"
    trained = weights.read_bytes()
    weights.write_bytes(trained[:100])
    assert "'loss'" not in road.run("sft", *flags).said  # the last checkpoint has them
    assert weights.read_bytes() == trained and "for 1 steps with higgs_recipes" in card.read_text()

    (road.folder / "fourth" / "run.json").unlink()
    shutil.rmtree(road.folder / "fourth" / "checkpoint-1")
    assert "'loss'" in road.run("sft", *flags).said


def test_what_is_not_on_the_hub_is_named(road, corpus):
    missing = f"'tester/nowhere' is not a local folder and not on {road.hub.url}"
    assert missing in road.refused("sft", *road.sft_flags("none"), "--datasets", "tester/nowhere")
    assert missing in road.refused("generate", *road.generate_flags("none", adapter="tester/nowhere"))
    error = road.refused("encode", *road.encode_flags("none"), "--sources", "tester/nowhere")
    assert error.startswith("dataset 'tester/nowhere': ") and "hf auth login" in error
    road.hub.add_repo("tester/secret", {}, kind="datasets", private=True)
    error = road.refused("sft", *road.sft_flags("none"), "--datasets", "tester/secret", HF_TOKEN=None)
    assert error.startswith("dataset 'tester/secret' ") and "hf auth login" in error
    assert not (road.folder / "none").exists()


def test_without_a_login_nothing_is_begun_that_is_to_be_pushed(road):
    asked = len(road.hub.requests)
    for script, flags in (
        ("encode", [*road.encode_flags("none"), "--hub_dataset_id", "tester/none"]),
        ("sft", [*road.sft_flags("none"), "--hub_model_id", "tester/none"]),
        ("evaluate", road.evaluate_flags("none")),
        ("merge", [*road.merge_flags("none"), "--hub_model_id", "tester/none"]),
    ):
        error = road.refused(script, *flags, "--push_to_hub", HF_TOKEN=None)
        assert error.endswith("cannot be pushed: you are not logged in; run `hf auth login`")
    assert len(road.hub.requests) == asked and not (road.folder / "none").exists()


def test_a_recipe_with_an_unknown_field_is_refused(road, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text((ROOT / "tests/data/random_tiny/voice_lora.yaml").read_text() + "learning_rat: 1.0e-4\n")
    error = road.refused("sft", "--config", recipe)
    assert error == f"{recipe}: unknown field 'learning_rat'; did you mean 'learning_rate'?"


def test_an_adapter_of_another_base_is_refused(road, adapter, other):
    flags = [*road.generate_flags("none", adapter="tester/voice"), "--model_name_or_path", other / "model"]
    error = road.refused("generate", *flags)
    assert (
        error.startswith("tester/voice: trained on ") and "set model_name_or_path to the base of the adapter" in error
    )


def test_codes_of_another_codec_are_refused(road, adapter, other):
    for script, flags in (("sft", road.sft_flags("none")), ("evaluate", road.evaluate_flags("none"))):
        error = road.refused(script, *flags, "--codec_name_or_path", other / "codec")
        assert "column codec: the codes were made by local@" in error


def test_what_is_finished_is_not_written_over(road, adapter, report):
    voice, said = road.folder / "voice", "exists and is not empty: choose another output_dir or pass --overwrite"
    assert road.refused("sft", *road.sft_flags("voice")).startswith(f"{voice}: holds a finished run; choose another")
    assert said in road.refused("generate", *road.generate_flags("voice", adapter=voice))
    assert said in road.refused("evaluate", *road.evaluate_flags("report"), "--overwrite_output_dir", "false")
    assert said in road.refused("merge", *road.merge_flags("voice"))


def test_no_token_and_no_pickle_is_anywhere(road, adapter, report):
    pushed = [(path, content) for repo in road.hub.repos.values() for path, content in repo.files.items()]
    written = [(str(path), path.read_bytes()) for path in road.folder.rglob("*") if path.is_file()]
    for path, content in pushed + written:
        assert not any(token.encode() in content for token in TOKENS.values()), path
    assert not any(path.endswith((".bin", ".pt", ".pth")) or "checkpoint" in path for path, _ in pushed)
    assert not any(path.endswith("training_args.bin") for path, _ in written)
