import json
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from higgs_recipes.errors import InputError
from higgs_recipes.hub.cards import adapter_card, corpus_card
from higgs_recipes.hub.push import write_adapter_card, write_merged_card
from tests.helpers import forked_python
from tests.helpers.hub_client import CALLS, attempt, contents, run_retry
from tests.helpers.hub_server import TOKENS, run_python
from tests.helpers.records import CORPUS, MERGE, METRICS, RUN


def push(folder: Path, repo_id: str, **arguments) -> tuple[str, dict]:
    defaults = {"repo_type": "model", "commit_message": "Add files"}
    return "push_folder", {"folder": str(folder), "repo_id": repo_id} | defaults | arguments


def push_of_report(folder: Path, repo_id: str) -> tuple[str, dict]:
    return "push_report", {"report_folder": str(folder), "repo_id": repo_id}


@pytest.fixture
def adapter(tmp_path) -> Path:
    folder = tmp_path / "my voice"
    (folder / "runs").mkdir(parents=True)
    (folder / "checkpoint-5").mkdir()
    (folder / "run.json").write_text(json.dumps(RUN))
    (folder / "adapter_model.safetensors").write_bytes(b"weights" * 100)
    (folder / "runs" / "events.out.tfevents.name-of-the-machine").write_bytes(b"log")
    (folder / "training_args.bin").write_bytes(b"a pickle")
    (folder / "checkpoint-5" / "rng.json").write_bytes(b"{}")
    (folder / ".half.1234.partial").write_bytes(b"half")
    write_adapter_card(folder, name="tester/voice")
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
    expected = {name: contents(adapter)[name] for name in ("README.md", "run.json", "adapter_model.safetensors")}
    url, again, full_id, fetched = attempt(
        hub.env(),
        push(adapter, "voice"),
        push(adapter, "tester/voice"),
        ("resolve_repo_id", {"name": "voice"}),
        ("fetch", {"name_or_path": "tester/voice"}),
    )
    repo = hub.repos["models", "tester/voice"]
    assert repo.files == expected == contents(Path(fetched))
    assert repo.private and full_id == "tester/voice"
    assert url == again == f"{hub.url}/tester/voice/commit/{repo.head}"
    assert len(repo.commits) == 2  # the initial commit and one push: a second push of equal files adds none

    (unseen,) = attempt(hub.env("stranger"), ("fetch", {"name_or_path": "tester/voice"}))
    assert "InputError: model 'tester/voice' is not a local folder and not on" in unseen


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
        ("resolve_target", {"name": name, "output_dir": output_dir, "push": push})
        for name, output_dir, push in (
            ("someone/voice", "outputs/voice", True),
            ("named", "outputs/voice", True),
            (None, "outputs/voice", True),  # not a Hub id of a user "outputs", although no such folder exists
            (None, "/anywhere/voice/", True),
            (None, "outputs/voice", False),
        )
    ]
    found = attempt(hub.env(), *targets)
    assert found == ["someone/voice", "tester/named", "tester/voice", "tester/voice", "None"]


def test_the_local_path_of_a_codec_is_not_pushed(hub, tmp_path):
    folder = tmp_path / "merged"
    folder.mkdir()
    files = {}
    for codec in (str(tmp_path / "codec"), "user/codec", "outputs/init/codec"):
        processor = {"audio_tokenizer": {"audio_tokenizer_name_or_path": codec}, "processor_class": "Processor"}
        written = json.dumps(processor)
        (folder / "processor_config.json").write_text(written)
        attempt(hub.env(), push(folder, "merged"))
        assert (folder / "processor_config.json").read_text() == written  # the processor loads its codec from there
        files[codec] = hub.repos["models", "tester/merged"].files["processor_config.json"]
    assert json.loads(files[str(tmp_path / "codec")])["audio_tokenizer"] == {"audio_tokenizer_name_or_path": "codec"}
    assert b"user/codec" in files["user/codec"] and b"outputs/init/codec" in files["outputs/init/codec"]


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
    assert set(repo.files) == {"README.md", "run.json", "adapter_model.safetensors"}


def test_each_failure_is_one_message_without_the_token(hub, adapter, tmp_path):
    hub.add_repo("tester/public", {"README.md": b"original"})
    (tmp_path / "bad_card").mkdir()
    (tmp_path / "bad_card" / "README.md").write_text("---\nlicense: [\n---\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "leaving").mkdir()
    (tmp_path / "leaving" / "passwd").symlink_to("/etc/passwd")

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
    assert f"InputError: no such folder: {tmp_path / 'nowhere'}" in stranger[4]
    assert f"InputError: nothing to push in {tmp_path / 'empty'}" in stranger[5]
    assert "InputError: a file to push is 'passwd': it leaves the folder" in stranger[6]
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
    calls = [("resolve_repo_id", {"name": name}) for name in ("voice", "tester/voice")]
    for name, message in zip(("voice", "tester/voice"), attempt(hub.env(None), *calls), strict=True):
        assert message == f"InputError: '{name}' cannot be pushed: you are not logged in; run `hf auth login`"
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


def test_a_pushed_corpus_loads_by_its_hub_id(hub, tmp_path):
    corpus = tmp_path / "corpus"
    (corpus / "data").mkdir(parents=True)
    (corpus / "README.md").write_text(corpus_card(CORPUS, name="tester/corpus"))
    (corpus / "corpus.json").write_text(json.dumps(CORPUS))
    code = """
import sys
from datasets import Dataset, Features, List, Value, load_dataset
from higgs_recipes.hub.push import push_folder
corpus = sys.argv[1]
features = Features({"id": Value("string"), "codes": List(List(Value("int16"), length=8))})
rows = {
    "train": [{"id": str(i), "codes": [[i * 100 + k for k in range(8)]] * (i + 1)} for i in range(2)],
    "test": [{"id": "held out", "codes": [[1023] * 8]}],
}
for split in rows:
    Dataset.from_list(rows[split], features=features).to_parquet(f"{corpus}/data/{split}-00000-of-00001.parquet")
push_folder(corpus, repo_id="corpus", repo_type="dataset", commit_message="Add corpus")
loaded = load_dataset("tester/corpus")
assert {split: loaded[split].to_list() for split in loaded} == rows, loaded
assert loaded["train"].features == features, loaded["train"].features
"""
    run_python(code, hub.env(), str(corpus))
    assert hub.repos["datasets", "tester/corpus"].private


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
