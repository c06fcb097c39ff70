"""The judge against a loopback endpoint, by the real client of the package openai."""

import base64
import json
import logging
import sys
from types import SimpleNamespace

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.judge import Failure, Judge, Judgment, Pair, parse_answer
from tests.helpers.judge_server import JudgeServer, after_errors, always, completion, judgment, slowly


PAIRS = [Pair("Is it? It is.", "Questions", b"wav one", b"wav two"), Pair("Ha!", "Other", b"one", b"two")]


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Judge pairs by an endpoint that gives these replies -> (answers, server)."""
    pytest.importorskip("openai")
    monkeypatch.setenv("TEST_JUDGE_KEY", "secret")
    monkeypatch.setattr("higgs_recipes.evaluation.judge.MAX_RETRIES", 2)

    def run(reply, *, pairs=PAIRS, seconds=5.0, folder="answers"):
        with JudgeServer(reply) as server:
            judge = Judge(
                "some-model", url=server.url, key_variable="TEST_JUDGE_KEY", seconds=seconds, folder=tmp_path / folder
            )
            return judge.compare(pairs), server

    return run


def test_a_good_answer_is_a_judgment_and_the_request_has_both_clips_at_temperature_0(ask):
    answers, server = ask(always(judgment(1, 3, 1)))
    assert answers == [Judgment(3, 1, 1)] * 2 and server.keys == {"Bearer secret"}
    request = next(r for r in server.requests if "Questions" in json.dumps(r))
    assert request["model"] == "some-model" and request["temperature"] == 0
    _, user = request["messages"]
    texts = [part["text"] for part in user["content"] if part["type"] == "text"]
    clips = [part["input_audio"] for part in user["content"] if part["type"] == "input_audio"]
    assert "Is it? It is." in texts[0] and "intonation" in texts[0] and texts[1] == "Recording 2:"
    assert [base64.b64decode(clip["data"]) for clip in clips] == [b"wav one", b"wav two"]
    assert {clip["format"] for clip in clips} == {"wav"}


def test_429_and_server_errors_are_asked_again(ask):
    for status in (429, 500, 503):
        answers, server = ask(after_errors(status, 2, judgment(0)), folder=str(status))
        assert answers == [Judgment(2, 1, 0)] * 2 and len(server.requests) == 6


def test_an_endpoint_that_stays_busy_for_one_pair_is_counted(ask):
    def busy_for_questions(request, number):
        if "Questions" in json.dumps(request):
            return 429, {"retry-after-ms": "1"}, b"{}"
        return 200, {}, completion(judgment(2))

    answers, _ = ask(busy_for_questions)
    assert answers == [Failure("no_answer", "status 429"), Judgment(2, 1, 2)]


@pytest.mark.slow
def test_a_slow_answer_is_asked_again_and_then_counted(ask):
    answers, server = ask(slowly(0.6, 1, judgment(1)), seconds=0.2, pairs=PAIRS[:1])
    assert answers == [Judgment(2, 1, 1)] and len(server.requests) == 2
    with pytest.raises(InputError, match="none of 1 pairs was answered: timeout"):
        ask(slowly(0.6, 9, judgment(1)), seconds=0.1, pairs=PAIRS[:1], folder="other")


@pytest.mark.parametrize(
    "content",
    [
        "I like the first.",
        '{"score_1": 4, "score_2": 1, "winner": 1}',
        '{"score_1": true, "score_2": 1, "winner": 1}',
        None,
        "",
    ],
)
def test_an_answer_that_cannot_be_parsed_is_counted(ask, content):
    answers, _ = ask(always(content), pairs=PAIRS[:1])
    assert [answer.kind for answer in answers] == ["unparsed"]


@pytest.mark.parametrize(
    "headers, body",
    [
        ({"Content-Type": "text/html"}, b"<html>login</html>"),
        ({}, b"{not json"),
        ({}, b'{"choices": []}'),
        ({}, b'{"error": "no such thing"}'),
        ({}, b"[]"),
        ({}, b"null"),
        ({}, b'{"choices": [{"message": null}]}'),
        ({}, b'{"choices": [{"message": {"content": [1]}}]}'),
    ],
)
def test_nonsense_is_counted_and_never_a_crash(ask, headers, body):
    def nonsense_for_questions(request, number):
        if "Questions" in json.dumps(request):
            return 200, headers, body
        return 200, {}, completion(judgment(2))

    nonsense, good = ask(nonsense_for_questions)[0]
    assert isinstance(nonsense, Failure) and good == Judgment(2, 1, 2)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_model_ends_the_run_without_the_key_in_the_message(ask, status, caplog):
    with caplog.at_level(logging.DEBUG, logger="higgs_recipes"):
        with pytest.raises(InputError, match=f"answered {status} for model some-model: check judge") as refused:
            ask(lambda request, number: (status, {}, b'{"error": {"message": "no"}}'))
    assert "secret" not in str(refused.value) and "secret" not in caplog.text


class StatusError(Exception):
    """As the client of the package raises it."""

    def __init__(self, status: int, body: str) -> None:
        self.status_code, self.response = status, SimpleNamespace(text=body)


@pytest.fixture
def judge_without_client(tmp_path, monkeypatch):
    """A judge whose requests are answered by `replies`, one each: a status and a body."""

    def make(*replies: tuple[int, str]) -> Judge:
        left = iter(replies)

        def create(**request):
            status, body = next(left)
            if status != 200:
                raise StatusError(status, body)
            return SimpleNamespace(http_response=SimpleNamespace(text=body))

        completions = SimpleNamespace(with_raw_response=SimpleNamespace(create=create))
        errors = {name: type(name, (Exception,), {}) for name in ("APITimeoutError", "APIConnectionError")}
        client = SimpleNamespace(chat=SimpleNamespace(completions=completions))
        package = SimpleNamespace(OpenAI=lambda **options: client, APIStatusError=StatusError, **errors)
        monkeypatch.setitem(sys.modules, "openai", package)
        monkeypatch.setattr("higgs_recipes.evaluation.judge.CONCURRENCY", 1)
        monkeypatch.setenv("TEST_JUDGE_KEY", "sk-1234")
        return Judge("m", url="http://x/v1", key_variable="TEST_JUDGE_KEY", seconds=5, folder=tmp_path)

    return make


@pytest.mark.parametrize("status", [400, 401, 422])
def test_a_refusal_of_the_first_request_ends_the_run_with_the_message_of_the_server(judge_without_client, status):
    body = f"audio is not supported\x1b[31m by sk-1234{'.' * 1000}"
    with pytest.raises(InputError, match=f"answered {status} for model m: check judge") as refused:
        judge_without_client((status, body), (200, completion(judgment(1)).decode())).compare(PAIRS)
    message = str(refused.value)
    assert "audio is not supported\\x1b[31m by ***" in message and "sk-1234" not in message and len(message) < 500


@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_of_one_text_is_counted_with_the_message_of_the_server(judge_without_client, status):
    answers = judge_without_client((200, completion(judgment(1)).decode()), (status, "filtered")).compare(PAIRS)
    assert answers == [Judgment(2, 1, 1), Failure("no_answer", f"status {status}: 'filtered'")]


def test_an_endpoint_that_cannot_be_reached_ends_the_run(tmp_path, monkeypatch):
    pytest.importorskip("openai")
    monkeypatch.setenv("TEST_JUDGE_KEY", "secret")
    monkeypatch.setattr("higgs_recipes.evaluation.judge.MAX_RETRIES", 0)
    url = "http://127.0.0.1:9/v1"
    judge = Judge("some-model", url=url, key_variable="TEST_JUDGE_KEY", seconds=5, folder=tmp_path)
    with pytest.raises(InputError, match=f"judge: {url} cannot be reached"):
        judge.compare(PAIRS)


def test_answers_are_kept_so_that_a_resumed_run_does_not_ask_again(tmp_path, monkeypatch):
    pytest.importorskip("openai")
    monkeypatch.setenv("TEST_JUDGE_KEY", "secret")
    with JudgeServer(always(judgment(1))) as server:
        options = {"url": server.url, "key_variable": "TEST_JUDGE_KEY", "seconds": 5, "folder": tmp_path}
        Judge("a", **options).compare(PAIRS)
        Judge("a", **options).compare(PAIRS)
        assert len(server.requests) == 2
        Judge("b", **options).compare(PAIRS)
        Judge("a", **options).compare([Pair("Ha!", "Other", b"one", b"three")])
        assert len(server.requests) == 5


def test_a_missing_key_or_package_is_named(tmp_path, monkeypatch):
    options = {"url": "http://x/v1", "key_variable": "NO_SUCH_KEY", "seconds": 5, "folder": tmp_path}
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(InputError, match="judge needs the module openai, which is not installed: pip install 'openai"):
        Judge("a", **options)
    monkeypatch.undo()
    pytest.importorskip("openai")
    with pytest.raises(
        InputError, match="judge: set the environment variable NO_SUCH_KEY to the API key of http://x/v1"
    ):
        Judge("a", **options)


@pytest.mark.parametrize(
    "answer, expected",
    [
        (judgment(2, 0, 3), Judgment(0, 3, 2)),
        (f"Thinking {{hard}} ...\n```json\n{judgment(0)}\n```\nDone.", Judgment(2, 1, 0)),
        (f'{{"draft": {judgment(1)}}} final: {judgment(2)}', Judgment(2, 1, 2)),
        ("{" * 5000, None),
        ('{"score_1": 1, "score_2": 1}', None),
    ],
)
def test_an_answer_is_read_with_or_without_text_around_it(answer, expected):
    found = parse_answer(answer)
    assert found == expected if expected else found.kind == "unparsed" and len(found.detail) <= 300
