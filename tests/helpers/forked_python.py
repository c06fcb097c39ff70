"""Separate Python processes for the tests, each with its own environment; heavy imports are done once.

    python = Python("-c", "import os; print(os.environ['WHO'])", env={"WHO": "me"}, stdout=subprocess.PIPE)

A server process imports torch and other libraries that do not read the Hub's environment variables, and forks for
each program. Each fork imports huggingface_hub, transformers, datasets and higgs_recipes itself, so it reads their
variables like any Python process.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
import weakref
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from tests.helpers.paths import ROOT


TIMEOUT = 120.0  # seconds
SERVER = "HIGGS_RECIPES_TESTS_SERVER"  # environment variable with the path of the server's socket
# Libraries that the Hugging Face libraries import, without those themselves.
PRELOADED = (
    *("torch._dynamo", "torch.distributed.tensor", "torch.distributed.fsdp", "torch.distributed.checkpoint"),
    *("numpy", "pandas", "pyarrow.parquet", "pyarrow.dataset", "scipy.stats", "scipy.optimize", "sympy"),
    *("matplotlib.figure", "torchaudio", "soundfile", "yaml", "requests", "jinja2", "PIL.Image", "regex"),
    *("tokenizers", "safetensors.torch", "fsspec", "multiprocess", "dill", "aiohttp"),
)
READ_THE_ENVIRONMENT = ("huggingface_hub", "transformers", "datasets", "accelerate", "peft", "trl", "higgs_recipes")


class Python:
    """`python *arguments` in the repository's root, like subprocess.Popen with text pipes.

    Args:
        arguments: ("-c", code, ...), ("-m", module, ...) or (path, ...).
    """

    def __init__(self, *arguments: object, env: dict[str, str], stdin=None, stdout=None, stderr=None) -> None:
        self.returncode: int | None = None
        child_ends, self.stdin, self.stdout = [], None, None
        if stdin == subprocess.PIPE:
            stdin, own_end = os.pipe()
            self.stdin = os.fdopen(own_end, "w", encoding="utf-8")
            child_ends.append(stdin)
        if stdout == subprocess.PIPE:
            own_end, stdout = os.pipe()
            self.stdout = os.fdopen(own_end, encoding="utf-8")
            child_ends.append(stdout)
        given = zip((stdin, stdout, stderr), (0, 1, 2), strict=True)
        files = [
            default if file is None else file if isinstance(file, int) else file.fileno() for file, default in given
        ]
        self._server = socket.socket(socket.AF_UNIX)
        self._server.connect(_address())
        socket.send_fds(self._server, [b"."], files)
        self._server.sendall(json.dumps({"arguments": list(map(str, arguments)), "env": env}).encode() + b"\n")
        for file in child_ends:
            os.close(file)
        self._answers = self._server.makefile()
        self.pid = int(self._answers.readline())

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._server], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float = TIMEOUT) -> int:
        if self.returncode is None:
            self._server.settimeout(timeout)
            self.returncode = int(self._answers.readline())
            self._answers.close()
            self._server.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def run(*arguments: object, env: dict[str, str]) -> subprocess.CompletedProcess:
    """Like subprocess.run(..., capture_output=True, text=True, timeout=TIMEOUT)."""
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        python = Python(*arguments, env=env, stdout=stdout, stderr=stderr)
        try:
            code = python.wait()
        except TimeoutError:
            python.send_signal(signal.SIGKILL)
            raise
        for file in (stdout, stderr):
            file.seek(0)
        return subprocess.CompletedProcess(arguments, code, stdout.read(), stderr.read())


def start_server() -> None:
    """Start the server for this process and its children; it ends with this process.

    The server inherits a socket that is already listening: clients wait while it imports, and get an error if it died.
    """
    folder = tempfile.mkdtemp(dir="/tmp")  # a socket's path is limited to about 100 characters
    address = os.environ[SERVER] = f"{folder}/server"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(8)
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.forked_python", str(listening.fileno())],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            pass_fds=[listening.fileno()],
        )

    def stop() -> None:
        server.stdin.close()
        server.wait(TIMEOUT)
        shutil.rmtree(folder)

    atexit.register(stop)


def _address() -> str:
    if SERVER not in os.environ:
        start_server()
    return os.environ[SERVER]


def be_python(arguments: list[str]) -> int:
    """Run `python *arguments` in this process; returns the exit code."""
    kind, *rest = arguments
    main = sys.modules["__main__"] = ModuleType("__main__")
    try:
        if kind == "-c":
            code, *rest = rest
            sys.argv = ["-c", *rest]
            exec(compile(code, "<string>", "exec"), main.__dict__)
        elif kind == "-m":
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            sys.path.insert(0, str(Path(kind).parent))
            runpy.run_path(kind, run_name="__main__")
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)  # noqa: T201
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


class _Server:
    """Fork a Python for each client; send it the process id and, at the end, the exit code."""

    def __init__(self, listening: socket.socket) -> None:
        self.clients: dict[int, socket.socket] = {}  # process id -> the client that waits for its end
        self.ended, wakeup = os.pipe()
        for end in (self.ended, wakeup):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # by default SIGCHLD does not wake select
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        self.socket = listening

    def serve(self) -> None:
        """Serve until the process that started this one has ended."""
        while True:
            ready, _, _ = select.select([self.socket, sys.stdin, self.ended], [], [])
            if sys.stdin in ready:
                return
            if self.ended in ready:
                os.read(self.ended, 4096)
                self.tell_of_the_ended()
            if self.socket in ready:
                self.accept()

    def tell_of_the_ended(self) -> None:
        while self.clients:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child == 0:
                return
            with self.clients.pop(child) as client, suppress(ConnectionError):  # the client may have died
                client.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())

    def accept(self) -> None:
        client, _ = self.socket.accept()
        _, files, _, _ = socket.recv_fds(client, 1, 3)
        with client.makefile() as lines:
            line = lines.readline()
        if not line:  # the client died while sending
            self.close(files)
            client.close()
            return
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for connection in (self.socket, client, *self.clients.values()):
                connection.close()
            for place, file in enumerate(files):
                os.dup2(file, place)
            self.close(files)
            os.environ.clear()
            os.environ |= job["env"]
            sys.stdout.reconfigure(line_buffering=True)  # a reader may wait for each line
            code = be_python(job["arguments"])
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # skips the interpreter's cleanup, which would copy memory
        self.close(files)
        self.clients[child] = client
        with suppress(ConnectionError):
            client.sendall(f"{child}\n".encode())

    @staticmethod
    def close(files: list[int]) -> None:
        for file in files:
            os.close(file)


def _main(listening: socket.socket) -> None:
    gc.disable()
    for module in PRELOADED:
        importlib.import_module(module)
    assert not [name for name in READ_THE_ENVIRONMENT if name in sys.modules]
    for finalizer in list(weakref.finalize._registry):
        finalizer.detach()  # the forks must not clean up for the server
    gc.enable()
    gc.freeze()  # garbage collection in a fork would copy all these pages
    _Server(listening).serve()


if __name__ == "__main__":
    _main(socket.socket(fileno=int(sys.argv[1])))
