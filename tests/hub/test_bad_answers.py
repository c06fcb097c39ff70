"""Answers that are not the Hub's: every call gives its right result, or one message with the address.

A proxy, a login page and a broken connection answer in the Hub's place; a seeded fuzz damages its own answers.
"""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.hub_client import contents
from tests.helpers.hub_server import TOKENS, Answer, HubServer, run_python, stored
from tests.helpers.records import CORPUS, METRICS, RUN


LOGIN_PAGE = b"<!DOCTYPE html><html><body><h1>Welcome to the hotel</h1> Please log in.</body></html>"
FILES = {"config.json": b'{"a": 1}', "model.safetensors": b"weights" * 50, "README.md": b"# A model\n"}
NUM_FUZZED, SEED = 90, 0  # 1,200 calls with seeds 101 to 103 passed too
# Each call of sys.argv[1]: its outcome, or the name of any other exception than InputError.
FUZZ = """
import json, sys, time, traceback
from pathlib import Path
from higgs_recipes.errors import InputError
from higgs_recipes.hub import download, push
from higgs_recipes.hub.push_corpus import push_corpus
time.sleep = lambda seconds: None  # huggingface_hub waits before it repeats a request
download.RETRY_WAITS = (0, 0)
FUNCTIONS = {
    "fetch": lambda local_dir=None, **arguments: download.fetch(
        local_dir=local_dir and Path(local_dir), **arguments
    ).folder,
    "resolve_target": push.resolve_target,
    "push_model": lambda folder, **target: push.push_model(folder, push.Target(**target), message="Add files"),
    "push_report": lambda folder, **target: push.push_report(folder, push.Target(**target)),
    "push_corpus": lambda folder, **target: push_corpus(folder, push.Target(repo_type="dataset", **target)),
}
for name, arguments in json.loads(sys.argv[1]):
    try:
        outcome = ["done", str(FUNCTIONS[name](**arguments))]
    except InputError as error:
        outcome = ["refused", str(error)]
    except Exception:
        outcome = ["failed", traceback.format_exc()]
    print(json.dumps(outcome))
"""


def login_page(answer: Answer) -> Answer:
    headers = {"Content-Type": "text/html", "Content-Length": str(len(LOGIN_PAGE))}
    return replace(answer, status=200, headers=headers, payload=LOGIN_PAGE)


def with_payload(answer: Answer, payload: bytes) -> Answer:
    return replace(answer, payload=payload, headers=answer.headers | {"Content-Length": str(len(payload))})


def damage_json(answer: Answer, chance: random.Random) -> Answer:
    """Remove a field, or replace a value by something else, anywhere in the answer."""
    try:
        value = json.loads(answer.payload)
    except ValueError:
        return answer
    others = (None, 7, "", [], {}, "../../evil", "/evil", "x" * 300, {"sha": 1}, [None], True, "\ud800", -1.5)

    def damage(value):
        if isinstance(value, dict) and value and chance.random() < 0.8:
            key = chance.choice(sorted(value))
            kept = {name: item for name, item in value.items() if name != key}
            return kept if chance.random() < 0.3 else kept | {key: damage(value[key])}
        if isinstance(value, list) and value and chance.random() < 0.8:
            index = chance.randrange(len(value))
            return [*value[:index], damage(value[index]), *value[index + 1 :]]
        return chance.choice(others)

    return with_payload(answer, json.dumps(damage(value)).encode())


def flip_byte(answer: Answer, chance: random.Random) -> Answer:
    payload = bytearray(answer.payload or b"\0")
    payload[chance.randrange(len(payload))] ^= 1 << chance.randrange(8)
    return with_payload(answer, bytes(payload))


def fuzz(chance: random.Random) -> Callable[[Answer], Answer]:
    """A function that damages some of the answers."""
    kinds = (
        lambda answer: login_page(answer),
        lambda answer: damage_json(answer, chance),
        lambda answer: damage_json(answer, chance),
        lambda answer: damage_json(answer, chance),
        lambda answer: flip_byte(answer, chance),
        lambda answer: with_payload(answer, answer.payload[: chance.randrange(len(answer.payload) + 1)]),
        lambda answer: replace(answer, payload=answer.payload[: len(answer.payload) // 2]),  # cut off
        lambda answer: with_payload(answer, b""),
        lambda answer: with_payload(answer, b"[" * 100_000),
        lambda answer: replace(
            answer, status=chance.choice((201, 204, 400, 401, 403, 404, 408, 409, 412, 429, 500, 503, 511))
        ),
        lambda answer: replace(
            answer, status=302, headers=answer.headers | {"Location": "https://hotel.invalid/login"}
        ),
        lambda answer: replace(answer, status=307, headers=answer.headers | {"Location": "/login"}),
        lambda answer: replace(answer, headers={"Content-Length": str(len(answer.payload))}),
        lambda answer: replace(answer, headers=answer.headers | {"ETag": chance.choice(('""', "W/", "x" * 300))}),
        lambda answer: replace(
            answer, headers=answer.headers | {"X-Repo-Commit": chance.choice(("../../evil", "", "main"))}
        ),
        lambda answer: replace(answer, headers=answer.headers | {"Content-Length": "many"}),
    )

    def spoil(answer: Answer) -> Answer:
        return chance.choice(kinds)(answer) if chance.random() < 0.15 else answer

    return spoil


def results(folder: Path) -> dict[str, Path]:
    """A folder with each kind of result."""
    adapter, report, corpus = (folder / name for name in ("adapter", "report", "corpus"))
    (report / "samples").mkdir(parents=True)
    (corpus / "data").mkdir(parents=True)
    adapter.mkdir()
    (adapter / "run.json").write_text(json.dumps(RUN))
    for name in ("README.md", "adapter_config.json", "adapter_model.safetensors"):
        (adapter / name).write_text(name * 9)
    (report / "metrics.json").write_text(json.dumps(METRICS))
    (report / "samples" / "a.wav").write_bytes(b"RIFF")
    (corpus / "README.md").write_text("# A corpus\n")
    (corpus / "corpus.json").write_text(json.dumps(CORPUS))
    (corpus / "data" / "train-00000-of-00001.parquet").write_bytes(b"rows" * 99)
    return {"push_model": adapter, "push_report": report, "push_corpus": corpus}


def calls_of_all_kinds(hub: HubServer, folder: Path, number: int) -> list[tuple[str, dict]]:
    """Calls on repositories of their own, so that nothing is in the cache."""
    folders, calls = results(folder), []
    for index in range(number):
        hub.add_repo(f"tester/model{index}", FILES)
        hub.add_repo(f"tester/data{index}", {"data/a.parquet": b"rows", "b.json": b"{}"}, kind="datasets")
        local = {"local_dir": str(folder / f"local{index}")} if index % 2 else {}
        calls.append(("fetch", {"name_or_path": f"tester/model{index}"}))
        calls.append(("fetch", {"name_or_path": f"tester/data{index}", "repo_type": "dataset"} | local))
        calls.append(("resolve_target", {"name": f"model{index}", "output_dir": "x", "push": True}))
        for function, result in folders.items():
            calls.append((function, {"folder": str(result), "repo_id": f"tester/pushed{index}"}))
    return calls


def outcomes(hub: HubServer, calls: list[tuple[str, dict]]) -> list[list[str]]:
    """["done", result], ["refused", message of the InputError] or ["failed", traceback] for each call."""
    return [json.loads(line) for line in run_python(FUZZ, hub.env(), json.dumps(calls)).splitlines()]


def test_a_login_page_in_place_of_the_hub_is_one_message_for_every_call(hub, tmp_path):
    calls = calls_of_all_kinds(hub, tmp_path / "results", 2)
    hub.spoil = login_page
    for kind, message in outcomes(hub, calls):
        assert kind == "refused", message
        assert f"{hub.url} sent an answer that cannot be read (JSONDecodeError: Expecting value" in message
        assert (
            f"a proxy or a login page may answer in its place: open {hub.url} in a browser, then run again" in message
        )


@pytest.mark.parametrize(
    "request_path, answer",
    [
        ("/api/whoami-v2", {"type": "user"}),
        ("/api/whoami-v2", {"name": "../evil", "orgs": [], "auth": {}}),
        ("/api/whoami-v2", {"name": "tester", "orgs": [{}], "auth": {"accessToken": {"role": "write"}}}),
        ("/api/whoami-v2", []),
        ("/api/repos/create", {}),
        ("/api/models/tester/pushed0", {"id": "tester/pushed0", "sha": None, "private": True}),
        ("/api/models/tester/pushed0", {"id": "tester/pushed0", "sha": "../../x", "private": True}),
        ("/api/models/tester/pushed0", {"id": "tester/pushed0", "sha": "a" * 40, "siblings": [{}]}),
        ("/api/models/tester/pushed0/tree", [{"type": "file", "path": "a"}]),
        ("/api/models/tester/pushed0/tree", {"error": None}),
        ("/api/models/tester/pushed0/preupload", {"files": [{}]}),
        ("/api/models/tester/pushed0/commit", {"success": True}),
        ("/api/models/tester/pushed0/commit", {"commitOid": "../x", "commitUrl": "u", "success": True}),
        ("/tester/pushed0.git/info/lfs", {"objects": [{}]}),
    ],
)
def test_an_answer_without_its_fields_is_one_message(hub, tmp_path, request_path, answer):
    folder = results(tmp_path)["push_model"]
    calls = [("push_model", {"folder": str(folder), "repo_id": "tester/pushed0"})]
    if "whoami" in request_path:
        calls = [("resolve_target", {"name": "pushed0", "output_dir": "x", "push": True})]
    payload = json.dumps(answer).encode()
    hub.spoil = lambda sent: with_payload(sent, payload) if request_path in sent.request else sent
    ((kind, message),) = outcomes(hub, calls)
    assert kind == "refused" and hub.url in message, message


@pytest.mark.parametrize("name", ["../../evil", "/evil", "a/../../evil", "x" * 300, "a\0b", ""])
def test_a_file_name_that_leads_out_of_its_folder_is_refused(hub, tmp_path, name):
    hub.add_repo("tester/model", FILES)
    listed = [{"type": "file", "path": name, "oid": "a" * 40, "size": 1}]
    payload = json.dumps(listed).encode()
    hub.spoil = lambda sent: with_payload(sent, payload) if "/tree/" in sent.request else sent
    for arguments in ({}, {"local_dir": str(tmp_path / "local")}):
        ((kind, message),) = outcomes(hub, [("fetch", {"name_or_path": "tester/model"} | arguments)])
        assert kind == "refused" and hub.url in message, message
    assert not list(tmp_path.rglob("*evil*"))


def test_ids_and_revisions_that_cannot_exist_are_refused_without_a_request(hub):
    ids = ("x" * 300, "tester/" + "x" * 300, "tester/a..b", "a\0b", "tester/a b", "tester/voice.git")
    revisions = ("..", "a/../b", "../../evil", "x" * 300, "a b", "a\0b", "-x", "a.lock", "")
    calls = [("fetch", {"name_or_path": name}) for name in ids]
    calls += [("fetch", {"name_or_path": "tester/model", "revision": revision}) for revision in revisions]
    for (_, arguments), (kind, message) in zip(calls, outcomes(hub, calls), strict=True):
        assert kind == "refused", message
        expected = "is not the name of a branch" if "revision" in arguments else "nor a valid id of a model"
        assert expected in message and len(message) < 450
    assert hub.requests == []


@pytest.mark.parametrize(("name", "local"), [("model.safetensors", False), ("config.json", True)])
def test_a_flipped_byte_is_noticed_and_the_file_downloaded_again(hub, tmp_path, name, local):
    hub.add_repo("tester/model", FILES)
    damaged = []

    def flip_first(answer: Answer) -> Answer:
        if answer.request.startswith("GET") and answer.request.endswith(f"/{name}") and len(damaged) < times:
            damaged.append(name)
            return flip_byte(answer, random.Random(1))
        return answer

    hub.spoil = flip_first
    calls = [
        [("fetch", {"name_or_path": f"tester/{repo}"} | ({"local_dir": str(tmp_path / repo)} if local else {}))]
        for repo in ("model", "other")
    ]
    times = 1
    ((kind, folder),) = outcomes(hub, calls[0])
    assert kind == "done" and damaged == [name]
    assert contents(Path(folder)).items() >= FILES.items()

    repo = hub.add_repo("tester/other", FILES)
    times = 99
    ((kind, message),) = outcomes(hub, calls[1])
    assert kind == "refused" and "arrived damaged: its content has not the hash " in message
    assert repo.commits[repo.head][name].oid in message
    times = 0  # nothing damaged stays on disk
    ((kind, folder),) = outcomes(hub, calls[1])
    assert kind == "done" and contents(Path(folder)).items() >= FILES.items()


def test_a_download_that_was_killed_before_its_hashes_were_compared_is_compared_by_the_next_run(hub):
    code = """
import os
from higgs_recipes.hub import download
download.has_git_hash = lambda path, expected: os._exit(0)
download.fetch("tester/model")
"""
    hub.add_repo("tester/model", FILES)
    chance = random.Random(1)

    def flip(answer: Answer) -> Answer:
        is_file = answer.request.startswith("GET") and answer.request.endswith("/model.safetensors")
        return flip_byte(answer, chance) if is_file else answer

    hub.spoil = flip
    run_python(code, hub.env())
    hub.spoil = lambda answer: answer
    ((kind, folder),) = outcomes(hub, [("fetch", {"name_or_path": "tester/model"})])
    assert kind == "done" and contents(Path(folder)).items() >= FILES.items()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_temporary_failures_are_retried(hub, tmp_path, status):
    hub.add_repo("tester/model", FILES)
    folders = results(tmp_path)
    calls = [
        ("fetch", {"name_or_path": "tester/model"}),
        ("resolve_target", {"name": "voice", "output_dir": "x", "push": True}),
        ("push_model", {"folder": str(folders["push_model"]), "repo_id": "tester/voice"}),
        ("push_report", {"folder": str(folders["push_report"]), "repo_id": "tester/voice"}),
        ("push_corpus", {"folder": str(folders["push_corpus"]), "repo_id": "tester/corpus"}),
    ]
    for path in ("GET /api/models/tester/model", "GET /api/whoami", "POST /api/repos/create", "POST .*/commit/"):
        hub.fail_next(status, path)
    assert [kind for kind, _ in outcomes(hub, calls)] == ["done"] * len(calls)
    assert len(hub.repos["models", "tester/voice"].commits) == 3  # the initial one, and one for each push


def test_a_push_goes_on_after_the_repository_has_changed(hub, tmp_path):
    folder = results(tmp_path)["push_model"]
    repo, changes = hub.add_repo("tester/voice", {}), []

    def change(answer: Answer) -> Answer:
        if "/preupload/" in answer.request and not changes:
            changes.append(repo.commit(repo.commits[repo.head] | stored({"notes.txt": b"mine"})))
        return answer

    hub.spoil = change
    ((kind, message),) = outcomes(hub, [("push_model", {"folder": str(folder), "repo_id": "tester/voice"})])
    assert kind == "done", message
    assert {"notes.txt", "run.json"} < repo.files.keys()


def test_files_that_the_hub_leaves_out_are_named(hub, tmp_path):
    folder = results(tmp_path)["push_model"]

    def ignore(answer: Answer) -> Answer:
        return with_payload(answer, answer.payload.replace(b'"shouldIgnore": false', b'"shouldIgnore": true'))

    hub.spoil = lambda answer: ignore(answer) if "/preupload/" in answer.request else answer
    ((kind, message),) = outcomes(hub, [("push_model", {"folder": str(folder), "repo_id": "tester/voice"})])
    assert kind == "refused" and "did not store README.md: does the .gitignore of tester/voice name it?" in message


def test_damaged_answers_end_in_the_right_result_or_in_one_message(hub, tmp_path):
    calls = calls_of_all_kinds(hub, tmp_path / "results", NUM_FUZZED // 6)
    hub.spoil = fuzz(random.Random(SEED))
    found = outcomes(hub, calls)
    for (function, arguments), (kind, text) in zip(calls, found, strict=True):
        assert kind != "failed", text
        if kind == "refused":
            assert hub.url in text and "Traceback" not in text
            assert len(text.partition("to push again")[0]) < 800, text
            assert TOKENS["tester"] not in text
        elif function == "fetch":
            repo = hub.repos[f"{arguments.get('repo_type', 'model')}s", arguments["name_or_path"]]
            files = {name: content for name, content in contents(Path(text)).items() if not name.startswith(".cache/")}
            assert files.items() <= repo.files.items()  # a damaged listing may lack a file
        elif function.startswith("push"):
            kind = "datasets" if function == "push_corpus" else "models"
            pushed = hub.repos[kind, arguments["repo_id"]].files
            prefix = "evaluation/" if function == "push_report" else ""
            expected = contents(Path(arguments["folder"]))
            assert {f"{prefix}{name}" for name in expected} <= pushed.keys()
    kinds = [kind for kind, _ in found]
    assert kinds.count("done") > NUM_FUZZED // 5 and kinds.count("refused") > NUM_FUZZED // 5
    # huggingface_hub names a file in its cache by the hash that the Hub states, whatever it is.
    assert not [path for path in tmp_path.rglob("*evil*") if not path.is_relative_to(hub.folder / "tester" / "hub")]
