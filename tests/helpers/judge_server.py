"""A loopback OpenAI-compatible endpoint that answers as it is told: well, badly, slowly, with errors or nonsense."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


# (status, headers, body) of the answer to a request, given its content and the number of requests for it so far.
Reply = Callable[[dict[str, Any], int], tuple[int, dict[str, str], bytes]]


def completion(content: Any) -> bytes:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
    answer = {"id": "1", "object": "chat.completion", "created": 0, "model": "judge", "choices": [choice]}
    return json.dumps(answer).encode()


def judgment(winner: int, score_1: int = 2, score_2: int = 1) -> str:
    return json.dumps({"reasoning": "...", "score_1": score_1, "score_2": score_2, "winner": winner})


class JudgeServer:
    """Use as a context manager; `requests` has the content of all requests."""

    def __init__(self, reply: Reply) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        server, lock, seen = self, threading.Lock(), {}

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                key = json.dumps(content["messages"])
                with lock:
                    server.requests.append(content)
                    server.keys.add(self.headers["Authorization"])
                    seen[key] = seen.get(key, 0) + 1
                    number = seen[key]
                status, headers, body = reply(content, number)
                try:
                    self.send_response(status)
                    for name, value in ({"Content-Type": "application/json"} | headers).items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:  # the client did not wait
                    pass

            def log_message(self, *args) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def __enter__(self) -> "JudgeServer":
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *exception) -> None:
        self.http.shutdown()
        self.http.server_close()


def always(content: Any) -> Reply:
    return lambda request, number: (200, {}, completion(content))


def after_errors(status: int, times: int, content: str) -> Reply:
    """An error for the first requests of each pair; the client is told to come back at once."""

    def reply(request: dict, number: int) -> tuple[int, dict[str, str], bytes]:
        if number <= times:
            return status, {"retry-after-ms": "1"}, b'{"error": {"message": "busy"}}'
        return 200, {}, completion(content)

    return reply


def slowly(seconds: float, times: int, content: str) -> Reply:
    """Too late for the first requests of each pair."""

    def reply(request: dict, number: int) -> tuple[int, dict[str, str], bytes]:
        if number <= times:
            time.sleep(seconds)
        return 200, {}, completion(content)

    return reply
