import json
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from higgs_recipes.errors import InputError
from higgs_recipes.hub.cards import adapter_card
from higgs_recipes.hub.push import write_adapter_card, write_merged_card
from higgs_recipes.hub.result_state import ResultState
from tests.helpers import forked_python
from tests.helpers.hub_client import CALLS, attempt, contents, run_retry
from tests.helpers.hub_server import TOKENS, run_python
from tests.helpers.records import MERGE, METRICS, RUN


def push(folder: Path, repo_id: str, **target) -> tuple[str, dict]:
    return "push_model", {"folder": str(folder), "repo_id": repo_id} | target


def push_of_report(folder: Path, repo_id: str, **target) -> tuple[str, dict]:
    return "push_report", {"folder": str(folder), "repo_id": repo_id} | target


def resolve(name: str | None, **arguments) -> tuple[str, dict]:
    return "resolve_target", {"name": name, "output_dir": "outputs/voice", "push": True} | arguments


ADAPTER = ("README.md", "run.json", "adapter_config.json", "adapter_model.safetensors")
FOREIGN = {  # files that a user may keep in the folder of a run
    ".env": b"HF_TOKEN=hf_secret",
    ".ssh/id_rsa": b"PRIVATE KEY",
    "training_args.bin": b"a pickle",
    "runs/events.out.tfevents.name-of-the-machine": b"log",
    "checkpoint-5/adapter_model.safetensors": b"weights",
    "checkpoint-5/rng.json": b"{}",
    ".half.1234.partial": b"half",
    "secrets.json": b"{}",
    "model.safetensors": b"another model",
    "notes.txt": b"private",
    "evaluation/notes.txt": b"private",
    "evaluation/samples/private.wav": b"RIFF",
    "state.json": b"{}",
}


@pytest.fixture
def adapter(tmp_path) -> Path:
    folder = tmp_path / "my voice"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(RUN))
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (folder / "adapter_model.safetensors").write_bytes(b"weights" * 100)
    write_adapter_card(folder, name="tester/voice")
    return folder


@pytest.fixture
def merged(tmp_path) -> Path:
    folder = tmp_path / "merged"
    folder.mkdir()
    (folder / "merge.json").write_text(json.dumps(MERGE))
    for name in ("config.json", "tokenizer.json", "generation_config.json"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes(b"all weights")
    write_merged_card(folder, name="tester/voice")
    return folder


@pytest.fixture
def report(tmp_path) -> Path:
    folder = tmp_path / "report"
    (folder / "samples").mkdir(parents=True)
    (folder / "samples" / "a.wav").write_bytes(b"RIFF")
    (folder / "report.md").write_text("# Report")
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    return folder


def test_pushed_files_are_downloaded_unchanged_and_are_private(hub, adapter):
    expected = {name: contents(adapter)[name] for name in ADAPTER}
    url, again, target, fetched = attempt(
        hub.env(),
        push(adapter, "voice"),
        push(adapter, "tester/voice"),
        resolve("voice"),
        ("fetch", {"name_or_path": "tester/voice"}),
    )
    repo = hub.repos["models", "tester/voice"]
    assert repo.files == expected == contents(Path(fetched))
    assert repo.private and "Target(repo_id='tester/voice', " in target
    assert url == again == f"{hub.url}/tester/voice/commit/{repo.head}"
    assert len(repo.commits) == 2  # the initial commit and one push: a second push of equal files adds none

    (unseen,) = attempt(hub.env("stranger"), ("fetch", {"name_or_path": "tester/voice"}))
    assert "InputError: model 'tester/voice' is not a local folder and not on" in unseen


def test_only_the_files_of_the_result_are_pushed_and_the_others_are_named(hub, adapter):
    for name, content in FOREIGN.items():
        (adapter / name).parent.mkdir(parents=True, exist_ok=True)
        (adapter / name).write_bytes(content)
    code = f"import logging; logging.basicConfig(level='INFO')\n{CALLS}"
    log = forked_python.run("-c", code, json.dumps([push(adapter, "voice")]), env=hub.env()).stderr
    assert set(hub.repos["models", "tester/voice"].files) == set(ADAPTER)
    (line,) = [line for line in log.splitlines() if "not pushed, as not part of the result: " in line]
    skipped = line.rpartition(": ")[2].split(", ")
    assert skipped == sorted({name.partition("/")[0] + "/" * ("/" in name) for name in FOREIGN} - {"state.json"})


def test_a_report_in_the_folder_is_pushed_with_its_own_clips_only(hub, adapter, report):
    (report / "samples" / "private.wav").write_bytes(b"RIFF")
    (report / "notes.txt").write_text("private")
    report.rename(adapter / "evaluation")
    attempt(hub.env(), push(adapter, "voice"))
    files = {f"evaluation/{name}" for name in ("metrics.json", "report.md", "samples/a.wav")}
    assert set(hub.repos["models", "tester/voice"].files) == {*ADAPTER, *files}


def test_a_public_repo_stays_public_with_a_warning(hub, adapter, tmp_path):
    hub.add_repo("tester/voice", {"old.txt": b"old"})
    env = hub.env()
    run_python(CALLS, env, json.dumps([push(adapter, "tester/open", private=False)]))
    assert not hub.repos["models", "tester/open"].private

    log = forked_python.run("-c", CALLS, json.dumps([push(adapter, "tester/voice")]), env=env).stderr
    assert "tester/voice already exists and is public: the pushed files will be public" in log
    assert not hub.repos["models", "tester/voice"].private
    assert hub.repos["models", "tester/voice"].files["old.txt"] == b"old"


def test_the_target_is_the_named_repo_or_the_name_of_the_folder(hub):
    targets = [
        resolve(name, output_dir=output_dir, push=push)
        for name, output_dir, push in (
            ("testers-lab/voice", "outputs/voice", True),
            ("named", "outputs/voice", True),
            (None, "outputs/voice", True),  # not a Hub id of a user "outputs", although no such folder exists
            (None, "/anywhere/voice/", True),
            (None, "outputs/voice", False),
        )
    ]
    found = [target.removeprefix("Target(repo_id=").partition(",")[0] for target in attempt(hub.env(), *targets)]
    assert found == ["'testers-lab/voice'", "'tester/named'", "'tester/voice'", "'tester/voice'", "None"]


def test_a_target_that_cannot_be_pushed_to_is_refused_before_the_run(hub):
    hub.add_repo("stranger/public", {})
    hub.add_repo("stranger/secret", {}, private=True)
    hub.add_repo("tester/data", {}, kind="datasets")
    wrong = {
        "a b/c": "'a b/c' is not a valid repository id: Repo id must use alphanumeric chars",
        "a/b/c": "'a/b/c' is not a valid repository id",
        "x" * 300: "xxx ... is not a valid repository id: Repo id must use",
        "tester/a..b": "is not a valid repository id: Cannot have -- or .. in repo_id",
        "tester/voice.git": "is not a valid repository id",
        "stranger/public": "tester has no permission to write to the model stranger/public on http",
        "stranger/secret": "tester cannot see or create the model stranger/secret on http",
        "nobody/voice": "'nobody/voice' cannot be pushed: tester cannot see or create the model nobody/voice",
    }
    messages = attempt(hub.env(), *map(resolve, wrong))
    for message, expected in zip(messages, wrong.values(), strict=True):
        assert message.startswith("InputError: ") and expected in message, message
    revisions = ("a..b", "../main", "x" * 300, "with space", "ends.lock", "-option", "", "a~1", "\x00")
    for message in attempt(hub.env(), *(resolve("voice", revision=revision) for revision in revisions)):
        assert message.startswith("InputError: hub_revision ") and "is not the name of a branch" in message, message
    (dataset,) = attempt(hub.env(), resolve("data", repo_type="dataset"))
    assert "repo_id='tester/data', repo_type='dataset'" in dataset
    hub.role = "read"
    (message,) = attempt(hub.env(), resolve("voice"))
    assert "the token of tester is read-only; run `hf auth login` with a token that can write" in message
    assert len(hub.repos) == 3  # nothing was created


def test_a_branch_and_a_token_of_the_recipe_are_used(hub, adapter):
    env, token = hub.env(None), TOKENS["tester"]
    hub.add_repo("tester/voice", {"old.txt": b"old"}, private=True)
    first, second, message = attempt(
        env,
        push(adapter, "tester/voice", token=token, revision="second"),
        push(adapter, "tester/fresh", token=token, revision="take-2"),
        push(adapter, "tester/voice", revision="second"),
    )
    repo, fresh = hub.repos["models", "tester/voice"], hub.repos["models", "tester/fresh"]
    assert repo.files == {"old.txt": b"old"} and fresh.files == {}
    assert set(repo.commits[repo.branches["second"]]) == {"old.txt", *ADAPTER}
    assert set(fresh.commits[fresh.branches["take-2"]]) == set(ADAPTER) and fresh.private
    assert first.endswith(repo.branches["second"]) and second.endswith(fresh.branches["take-2"])
    assert "rejected the token or got none (401)" in message

    hub.fail_next(500, "POST .*/commit/", times=9)
    (message,) = attempt(env, push(adapter, "tester/fresh", token=token, revision="take-3"))
    hub.forget_failures()
    assert token not in message and "to push again, with the token in HF_TOKEN:" in message
    run_retry(message, env | {"HF_TOKEN": token})
    assert set(fresh.commits[fresh.branches["take-3"]]) == set(ADAPTER)


def test_the_local_path_of_a_codec_is_not_pushed(hub, tmp_path, merged):
    files = {}
    for codec in (str(tmp_path / "codec"), "user/codec", "outputs/init/codec"):
        processor = {"audio_tokenizer": {"audio_tokenizer_name_or_path": codec}, "processor_class": "Processor"}
        written = json.dumps(processor)
        (merged / "processor_config.json").write_text(written)
        attempt(hub.env(), push(merged, "merged"))
        assert (merged / "processor_config.json").read_text() == written  # the processor loads its codec from there
        files[codec] = hub.repos["models", "tester/merged"].files["processor_config.json"]
    assert json.loads(files[str(tmp_path / "codec")])["audio_tokenizer"] == {"audio_tokenizer_name_or_path": "codec"}
    assert b"user/codec" in files["user/codec"] and b"outputs/init/codec" in files["outputs/init/codec"]


def test_a_push_replaces_the_files_of_an_earlier_result_and_no_others(hub, adapter, merged, report):
    repo = hub.add_repo("tester/voice", {"notes.txt": b"mine", "samples/mine.wav": b"RIFF", "LICENSE": b"mine"})
    theirs = dict(repo.files)
    attempt(hub.env(), push(merged, "voice"), push_of_report(report, "voice"))
    assert {"model.safetensors", "config.json", "evaluation/samples/a.wav"} < set(repo.files)
    attempt(hub.env(), push(adapter, "voice"))
    assert repo.files == theirs | {name: contents(adapter)[name] for name in ADAPTER}
    assert "## Evaluation" not in repo.files["README.md"].decode() and len(repo.commits) == 4

    (report / "samples" / "a.wav").rename(report / "samples" / "b.wav")
    (report / "report.md").unlink()
    attempt(hub.env(), push_of_report(report, "voice"))  # names a.wav, which is gone
    assert repo.files == theirs | {name: contents(adapter)[name] for name in ADAPTER}
    metrics = json.dumps(METRICS).replace("samples/a.wav", "samples/b.wav")
    for again in range(2):
        (report / "metrics.json").write_text(metrics.replace("b.wav", f"{again}.wav"))
        (report / "samples" / f"{again}.wav").write_bytes(b"RIFF")
        attempt(hub.env(), push_of_report(report, "voice"))
    evaluation = {name for name in repo.files if name.startswith("evaluation/")}
    assert evaluation == {"evaluation/metrics.json", "evaluation/samples/1.wav"}
    assert repo.files["samples/mine.wav"] == b"RIFF"


def test_a_repo_with_weights_of_others_is_not_pushed_to(hub, adapter):
    files = {"model.safetensors": b"weights", "README.md": b"Another model."}
    hub.add_repo("tester/voice", files)
    (message,) = attempt(hub.env(), push(adapter, "tester/voice"))
    assert "the push to tester/voice failed: it contains model.safetensors but neither run.json nor merge" in message
    assert hub.repos["models", "tester/voice"].files == files


def test_a_push_is_recorded_in_the_folder(hub, adapter):
    state = ResultState(adapter, script="sft", recipe={"learning_rate": 1e-4}, repo_id="tester/voice")
    state.write()
    assert state.is_push_pending()
    hub.fail_next(500, "POST .*/commit/main", times=9)
    attempt(hub.env(), push(adapter, "tester/voice"))
    hub.forget_failures()
    assert state.is_push_pending()
    (url, name, unpushed) = attempt(
        hub.env(),
        push(adapter, "tester/other"),
        ("model_repo_name", {"name_or_path": str(adapter)}),
        ("model_repo_name", {"name_or_path": "outputs/voice"}),
    )
    assert not state.is_push_pending() and state.is_same_run()
    assert json.loads((adapter / "state.json").read_text())["pushed"] == url
    assert name == "tester/other" and unpushed == "outputs/voice"  # of no folder: a Hub id


def test_a_failed_push_changes_no_files_and_names_a_command_that_retries_it(hub, adapter):
    before = contents(adapter)
    hub.fail_next(500, "POST .*/commit/main", times=9)
    (message,) = attempt(hub.env(), push(adapter, "voice"))
    hub.forget_failures()
    assert message.startswith(f"PushError: the push to voice failed: {hub.url} answered 500 injected failure; wait")
    assert f"All files are on disk at {adapter}; to push again:\n  {sys.executable} -c " in message
    assert contents(adapter) == before

    run_retry(message, hub.env())
    repo = hub.repos["models", "tester/voice"]
    assert repo.private
    assert set(repo.files) == set(ADAPTER)


def test_each_failure_is_one_message_without_the_token(hub, adapter, tmp_path):
    hub.add_repo("tester/public", {"README.md": b"original"})
    (tmp_path / "empty").mkdir()
    (tmp_path / "leaving").mkdir()
    for name in ADAPTER:
        (tmp_path / "leaving" / name).write_bytes((adapter / name).read_bytes())
    (tmp_path / "leaving" / "adapter_config.json").unlink()
    (tmp_path / "leaving" / "adapter_config.json").symlink_to("/etc/passwd")

    stranger = attempt(
        hub.env("stranger"),
        push(adapter, "tester/public"),
        push(adapter, "tester/voice"),
        push(adapter, "a b/c"),
        push(adapter, "nobody/voice"),
        push(tmp_path / "nowhere", "voice"),
        push(tmp_path / "empty", "voice"),
        push(tmp_path / "leaving", "voice"),
    )
    refused = f"failed: {hub.url} rejected the token or got none (403); run `hf auth login`"
    assert f"PushError: the push to tester/public {refused}" in stranger[0]
    assert f"PushError: the push to tester/voice {refused}" in stranger[1]
    assert "PushError: the push to a b/c failed: Repo id must" in stranger[2]
    assert f"PushError: the push to nobody/voice {refused}" in stranger[3]
    assert f"InputError: {tmp_path / 'nowhere' / 'run.json'} is missing" in stranger[4]
    assert f"InputError: {tmp_path / 'empty' / 'run.json'} is missing" in stranger[5]
    assert "InputError: a file to push is 'adapter_config.json': it leaves the folder" in stranger[6]
    assert hub.repos["models", "tester/public"].files == {"README.md": b"original"}

    anonymous = attempt(hub.env(None), push(adapter, "voice"), push(adapter, "tester/voice"))
    assert all(f"failed: {hub.url} rejected the token or got none (401)" in message for message in anonymous)
    wrong_tokens = ("hf_wrong", "hf_wröng")
    wrong = [attempt(hub.env() | {"HF_TOKEN": token}, push(adapter, "tester/voice"))[0] for token in wrong_tokens]
    offline = attempt(hub.env() | {"HF_HUB_OFFLINE": "1"}, push(adapter, "tester/voice"))
    assert "failed: offline mode is on; unset HF_HUB_OFFLINE" in offline[0]
    assert list(hub.repos) == [("models", "tester/public")]

    env = hub.env()
    hub.__exit__(None, None, None)
    gone = attempt(env, push(adapter, "tester/voice"))
    assert f"failed: {hub.url} cannot be reached (ConnectError); check the connection" in gone[0]
    for message in stranger[:4] + anonymous + wrong + offline + gone:
        assert message.startswith("PushError: the push to ") and f"All files are on disk at {adapter}" in message
        for token in (*TOKENS.values(), *wrong_tokens):
            assert token not in message


def test_a_missing_or_invalid_login_is_found_when_the_target_is_resolved(hub):
    calls = [resolve(name) for name in ("voice", "tester/voice")]
    for name, message in zip(("voice", "tester/voice"), attempt(hub.env(None), *calls), strict=True):
        assert message == f"HubError: '{name}' cannot be pushed: you are not logged in; run `hf auth login`"
    for token in ("hf_wrong", "hf_wröng"):
        messages = attempt(hub.env() | {"HF_TOKEN": token}, *calls)
        assert all("cannot be pushed: " in message and token not in message for message in messages)


def test_a_report_is_added_to_the_adapter_and_its_card(hub, adapter, report):
    own_text = "\nA paragraph by the author.\n"
    (adapter / "README.md").write_text(adapter_card(RUN, name="tester/voice") + own_text)
    attempt(hub.env(), push(adapter, "voice"), push_of_report(report, "voice"))
    repo = hub.repos["models", "tester/voice"]
    card = ModelCard(repo.files["README.md"].decode())
    assert own_text in card.text and card.text.count("## Evaluation") == 1
    assert [score.metric_value for score in card.data.eval_results] == [0.05, 0.875]
    assert {name: content for name, content in repo.files.items() if name.startswith("evaluation/")} == {
        f"evaluation/{name}": content for name, content in contents(report).items()
    }
    assert repo.files["adapter_model.safetensors"] == (adapter / "adapter_model.safetensors").read_bytes()
    assert len(repo.commits) == 3

    hub.fail_next(500, "POST .*/commit/main", times=9)
    (message,) = attempt(hub.env(), push_of_report(report, "tester/fresh"))
    hub.forget_failures()
    assert "PushError: the push to tester/fresh failed" in message
    run_retry(message, hub.env())
    fresh = hub.repos["models", "tester/fresh"]
    assert fresh.private and "evaluation/metrics.json" in fresh.files
    assert ModelCard(fresh.files["README.md"].decode()).data.eval_results


def test_a_card_that_cannot_be_parsed_is_not_overwritten(hub, report):
    card = b"---\nmodel-index: [{name: x}]\n---\nA text.\n"
    hub.add_repo("tester/voice", {"README.md": card})
    (message,) = attempt(hub.env(), push_of_report(report, "tester/voice"))
    assert "PushError: the push to tester/voice failed: the metadata of its README.md cannot be parsed" in message
    assert hub.repos["models", "tester/voice"].files == {"README.md": card}


def test_a_report_that_names_files_outside_its_folder_is_refused(hub, report):
    (report.parent / "secret.wav").write_bytes(b"RIFF")
    messages = []
    for wav in ("../secret.wav", str(report.parent / "secret.wav"), "samples/missing.wav", None):
        clip = METRICS["clips"][0] | {"finetuned": {"wav": wav}}
        (report / "metrics.json").write_text(json.dumps(METRICS | {"clips": [clip]}))
        messages += attempt(hub.env(None), push_of_report(report, "tester/voice"))
    reasons = ("it leaves the folder", "it leaves the folder", "no such file", "None: it must name a file")
    for message, reason in zip(messages, reasons, strict=True):
        assert message.startswith(f"InputError: {report}/metrics.json: clips[0].finetuned.wav is ")
        assert reason in message
    assert hub.requests == []


def test_cards_are_written_from_the_records_in_their_folder(adapter, report, tmp_path):
    report.rename(adapter / "evaluation")
    write_adapter_card(adapter)
    card = ModelCard((adapter / "README.md").read_text())
    assert card.data.eval_results and "# my voice\n" in card.text
    assert '<audio controls src="evaluation/samples/a.wav"></audio>' in card.text

    merged = tmp_path / "merged"
    merged.mkdir()
    with pytest.raises(InputError, match="merged/merge.json is missing"):
        write_merged_card(merged)
    (merged / "merge.json").write_text(json.dumps(MERGE))
    (merged / "run.json").write_text(json.dumps(RUN))
    write_merged_card(merged, name="tester/merged")
    assert "fingerprint1" in (merged / "README.md").read_text()

    for text, said in (("{", "run.json is not JSON"), ("[]", "run.json contains a list, not a mapping")):
        (adapter / "run.json").write_text(text)
        with pytest.raises(InputError, match=said):
            write_adapter_card(adapter)
