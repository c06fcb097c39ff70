"""A Hugging Face Hub for tests: real HTTP on the loopback, standard library only, everything in memory.

It answers the requests of `huggingface_hub` and `datasets` that create a repo, push to it in one commit and read it:
branch `main` and commit hashes, small files inside the commit, large files through LFS, private and gated repos.

    with HubServer(tmp_path) as hub:
        run_python("from huggingface_hub import whoami; print(whoami())", hub.env("tester"))
"""

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from tests.helpers import forked_python


TOKENS = {"tester": "hf_token_of_tester", "stranger": "hf_token_of_stranger"}  # user -> token
USERS = {token: user for user, token in TOKENS.items()}
LFS_SUFFIXES = (".safetensors", ".parquet", ".wav", ".tar", ".bin", ".pt")

ROOT = r"/(?:(?P<kind>datasets)/)?(?P<repo_id>[^/]+/[^/]+)"
API = r"/api/(?P<kind>models|datasets)/(?P<repo_id>[^/]+/[^/]+)"
ROUTES = {  # "METHOD /path" -> name of the RequestHandler's method
    r"GET /api/whoami-v2": "whoami",
    r"POST /api/validate-yaml": "validate_yaml",
    r"POST /api/repos/create": "create_repo",
    rf"GET {API}(?:/revision/(?P<revision>[^/]+))?": "repo_info",
    rf"GET {API}/auth-check(?P<write>/write)?": "auth_check",
    rf"GET {API}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?": "tree",
    rf"POST {API}/paths-info/(?P<revision>[^/]+)": "paths_info",
    rf"POST {API}/preupload/(?P<revision>[^/]+)": "preupload",
    rf"POST {API}/commit/(?P<revision>[^/]+)": "commit",
    rf"POST {API}/branch/(?P<revision>[^/]+)": "create_branch",
    rf"POST {ROOT}\.git/info/lfs/objects/batch": "lfs_batch",
    r"PUT /lfs/(?P<sha256>[0-9a-f]{64})": "lfs_upload",
    rf"(?:GET|HEAD) {ROOT}/resolve/(?P<revision>[^/]+)/(?P<path>.+)": "resolve",
}


@dataclass(frozen=True)
class StoredFile:
    content: bytes
    is_lfs: bool

    @property
    def git_oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()

    @property
    def oid(self) -> str:
        return hashlib.sha256(self.content).hexdigest() if self.is_lfs else self.git_oid

    def entry(self, path: str) -> dict:
        size = len(self.content)
        lfs = {"lfs": {"oid": self.oid, "size": size, "pointerSize": 134}} if self.is_lfs else {}
        return {"type": "file", "path": path, "oid": self.git_oid, "size": size, **lfs}


def stored(files: dict[str, bytes]) -> dict[str, StoredFile]:
    """Path -> file, as the server stores it."""
    return {path: StoredFile(content, path.endswith(LFS_SUFFIXES)) for path, content in files.items()}


@dataclass
class Repo:
    """A repo. Each commit is a tree, path -> file; a branch is the name of a commit."""

    private: bool
    gated: bool = False
    commits: dict[str, dict[str, StoredFile]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, StoredFile], branch: str = "main") -> str:
        sha = hashlib.sha1(b"commit %d" % len(self.commits)).hexdigest()
        self.commits[sha] = files
        self.branches[branch] = sha
        return sha

    @property
    def head(self) -> str:
        return self.branches["main"]

    @property
    def files(self) -> dict[str, bytes]:
        return {path: file.content for path, file in self.commits[self.head].items()}


def run_python(code: str, env: dict[str, str], *args: str) -> str:
    """The output of `code` in its own Python process, run in the repository's root with `args` in `sys.argv[1:]`."""
    python = forked_python.run("-c", code, *args, env=env)
    assert python.returncode == 0, python.stderr
    return python.stdout


class HubError(Exception):
    """A response other than 200, with the headers that `huggingface_hub` reads."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})


@dataclass(frozen=True)
class Answer:
    """A response; `request` is "METHOD /path"."""

    request: str
    status: int
    headers: dict[str, str]
    payload: bytes


@dataclass(frozen=True)
class HeldRequest:
    """A request that is not answered until it is released."""

    pattern: re.Pattern
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


class HubServer:
    """A Hub on a free port for the duration of a `with` block; `folder` holds the caches of its clients."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.repos: dict[tuple[str, str], Repo] = {}  # ("models" or "datasets", id)
        self.lfs: dict[str, bytes] = {}
        self.requests: list[str] = []  # "METHOD /path"
        self.role = "write"  # of the tokens
        self.lock = threading.Lock()
        self._failures: list[tuple[int, re.Pattern]] = []  # one for each request that must fail
        self._held: list[HeldRequest] = []
        self.spoil: Callable[[Answer], Answer] = lambda answer: answer  # changes each answer before it is sent

    def __enter__(self) -> "HubServer":
        handler = type("Handler", (RequestHandler,), {"hub": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception) -> None:
        self._http.shutdown()
        self._http.server_close()

    def env(self, user: str | None = "tester") -> dict[str, str]:
        """The environment of a process of `user` (None: not logged in); Hugging Face libraries read it at import."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        env |= {"HF_ENDPOINT": self.url, "HF_HOME": str(self.folder / (user or "nobody")), "NO_PROXY": "127.0.0.1"}
        env |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        return env | ({"HF_TOKEN": TOKENS[user]} if user else {})

    def add_repo(self, repo_id: str, files: dict[str, bytes], *, kind: str = "models", **access: bool) -> Repo:
        """Add a repo without a push; `access` is `private` and `gated`."""
        repo = self.repos[kind, repo_id] = Repo(**{"private": False} | access)
        repo.commit(stored(files))
        return repo

    def add_converted(self, repo_id: str, files: dict[str, bytes], *, main: dict[str, bytes]) -> Repo:
        """Add a dataset whose main branch is `main`, with the Hub's conversion in `refs/convert/parquet`."""
        repo = self.add_repo(repo_id, files, kind="datasets")
        repo.branches["refs/convert/parquet"] = repo.head
        repo.commit(stored(main))
        return repo

    def fail_next(self, status: int, path_regex: str, times: int = 1) -> None:
        """Answer `status` to the next `times` requests whose "METHOD /path" matches the pattern."""
        self._failures += [(status, re.compile(path_regex))] * times

    @contextmanager
    def hold_next(self, path_regex: str) -> Iterator["HeldRequest"]:
        """Do not answer the next request whose "METHOD /path" matches the pattern before the end of the block."""
        held = HeldRequest(re.compile(path_regex))
        self._held.append(held)
        try:
            yield held
        finally:
            self._held.remove(held)
            held.released.set()

    def wait_if_held(self, request: str) -> None:
        for held in self._held:
            if held.pattern.search(request) and not held.reached.is_set():
                held.reached.set()
                held.released.wait()

    def forget_failures(self) -> None:
        """Stop failing requests."""
        self._failures.clear()

    def raise_failure(self, request: str) -> None:
        for failure in self._failures:
            if failure[1].search(request):
                self._failures.remove(failure)
                raise HubError(failure[0], "injected failure")


class RequestHandler(BaseHTTPRequestHandler):
    """One request: the method in `ROUTES` returns the response as JSON or bytes, or raises `HubError`."""

    hub: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise the body waits 40 ms for the acknowledgement of the head

    def log_message(self, *args) -> None:
        """Keep the tests' output clean."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        self.content = self.read_content()
        self.status, self.answer_headers = 200, {}
        request = f"{self.command} {url.path}"
        try:
            self.hub.wait_if_held(request)
            with self.hub.lock:
                self.hub.requests.append(request)
                self.hub.raise_failure(request)
                self.user = self.authenticate()
                answer = self.route(request)
        except HubError as error:
            self.status, self.answer_headers, answer = error.status, error.headers, {"error": str(error)}
        with suppress(ConnectionError):  # the client may have been killed
            self.send_answer(request, answer)

    do_HEAD = do_POST = do_PUT = do_GET

    def read_content(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def send_answer(self, request: str, answer: dict | list | bytes) -> None:
        payload = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        content_type = "application/octet-stream" if payload is answer else "application/json"
        headers = self.answer_headers | {"Content-Type": content_type, "Content-Length": str(len(payload))}
        with self.hub.lock:
            sent = self.hub.spoil(Answer(request, self.status, headers, payload))
        self.send_response(sent.status)
        for name, value in sent.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(sent.payload)
            if sent.headers.get("Content-Length") != str(len(sent.payload)):
                self.close_connection = True  # cut off

    def authenticate(self) -> str | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in USERS:
            raise HubError(401, "Invalid credentials in Authorization header")
        return USERS.get(token)

    def route(self, request: str) -> dict | list | bytes:
        for pattern, name in ROUTES.items():
            if match := re.fullmatch(pattern, request):
                return getattr(self, name)(
                    **{key: value and unquote(value) for key, value in match.groupdict().items()}
                )
        raise HubError(404, f"no route for {request}")

    def owns(self, repo_id: str) -> bool:
        return repo_id.split("/")[0] in (self.user, f"{self.user}s-lab")

    def find_repo(self, kind: str | None, repo_id: str, *, write: bool = False) -> Repo:
        # As on the real Hub: a user without access is not told whether a repo exists.
        repo = self.hub.repos.get((kind or "models", repo_id))
        is_owner = self.owns(repo_id)
        if repo is None or (repo.private and not is_owner):
            if self.user is None:
                raise HubError(401, "Invalid username or password.")
            raise HubError(404, "Repository not found", "RepoNotFound")
        if write and not is_owner:
            raise HubError(403 if self.user else 401, "You don't have the rights to write to this repository")
        return repo

    def find_commit(self, repo: Repo, revision: str | None) -> str:
        sha = repo.branches.get(revision or "main", revision)
        if sha not in repo.commits:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return sha

    def web_url(self, kind: str, repo_id: str) -> str:
        return f"{self.hub.url}/{'' if kind == 'models' else kind + '/'}{repo_id}"

    def whoami(self) -> dict:
        if self.user is None:
            raise HubError(401, "Invalid username or password.")
        orgs = [{"name": f"{self.user}s-lab"}]
        return {"type": "user", "name": self.user, "orgs": orgs, "auth": {"accessToken": {"role": self.hub.role}}}

    def validate_yaml(self) -> dict:
        return {"errors": [], "warnings": []}

    def create_repo(self) -> dict:
        owner = self.whoami()["name"]
        wanted = json.loads(self.content)
        kind, repo_id = f"{wanted['type']}s", f"{wanted['organization'] or owner}/{wanted['name']}"
        if not self.owns(repo_id):
            raise HubError(403, f"You don't have the rights to create {repo_id}")
        if (kind, repo_id) in self.hub.repos:
            self.status = 409
        else:
            self.hub.add_repo(repo_id, {}, kind=kind, private=wanted.get("visibility") == "private")
        return {"name": repo_id, "url": self.web_url(kind, repo_id)}

    def auth_check(self, kind: str, repo_id: str, write: str | None) -> dict:
        self.find_repo(kind, repo_id, write=bool(write))
        return {}

    def repo_info(self, kind: str, repo_id: str, revision: str | None) -> dict:
        repo = self.find_repo(kind, repo_id)
        sha = self.find_commit(repo, revision)
        files = [{"rfilename": path} for path in sorted(repo.commits[sha])]
        about = {"id": repo_id, "sha": sha, "private": repo.private, "siblings": files, "tags": []}
        return about | {"downloads": 0, "likes": 0, "lastModified": "2026-01-01T00:00:00.000Z"}

    def tree(self, kind: str, repo_id: str, revision: str, folder: str | None) -> list:
        repo = self.find_repo(kind, repo_id)
        files = repo.commits[self.find_commit(repo, revision)]
        prefix = f"{folder}/" if folder else ""
        depth = 99 if self.query.get("recursive", ["false"])[0].lower() == "true" else prefix.count("/")
        inside = [path for path in sorted(files) if path.startswith(prefix)]
        if folder and not inside:
            raise HubError(404, f"{folder} does not exist", "EntryNotFound")
        folders = sorted({parent.as_posix() for path in inside for parent in Path(path).parents} - {"."})
        entries = [files[path].entry(path) for path in inside]
        entries += [self.folder_entry(path) for path in folders if path.startswith(prefix)]
        return [entry for entry in entries if entry["path"].count("/") <= depth]

    def folder_entry(self, path: str) -> dict:
        return {"type": "directory", "path": path, "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0}

    def paths_info(self, kind: str, repo_id: str, revision: str) -> list:
        repo = self.find_repo(kind, repo_id)
        files = repo.commits[self.find_commit(repo, revision)]
        is_json = "json" in self.headers["Content-Type"]
        paths = json.loads(self.content)["paths"] if is_json else parse_qs(self.content.decode())["paths"]
        folders = [path for path in paths if any(file.startswith(f"{path}/") for file in files)]
        return [files[path].entry(path) for path in paths if path in files] + [*map(self.folder_entry, folders)]

    def preupload(self, kind: str, repo_id: str, revision: str) -> dict:
        repo = self.find_repo(kind, repo_id, write=True)
        files = repo.commits[self.find_commit(repo, revision)]
        plans = []
        for path in [file["path"] for file in json.loads(self.content)["files"]]:
            mode = "lfs" if path.endswith(LFS_SUFFIXES) else "regular"
            oid = files[path].oid if path in files else None
            plans.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": plans}

    def lfs_batch(self, kind: str | None, repo_id: str) -> dict:
        self.find_repo(kind, repo_id, write=True)
        objects = [{"oid": wanted["oid"], "size": wanted["size"]} for wanted in json.loads(self.content)["objects"]]
        for each in objects:
            if each["oid"] not in self.hub.lfs:
                each["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{each['oid']}"}}
        return {"transfer": "basic", "objects": objects}

    def lfs_upload(self, sha256: str) -> dict:
        if hashlib.sha256(self.content).hexdigest() != sha256:
            raise HubError(400, "the content does not match its sha256")
        self.hub.lfs[sha256] = self.content
        return {}

    def commit(self, kind: str, repo_id: str, revision: str) -> dict:
        repo = self.find_repo(kind, repo_id, write=True)
        head = self.find_commit(repo, revision)
        files = dict(repo.commits[head])
        for line in self.content.splitlines():
            operation = json.loads(line)
            key, value = operation["key"], operation["value"]
            if key == "file":
                files[value["path"]] = StoredFile(base64.b64decode(value["content"]), is_lfs=False)
            elif key == "lfsFile":
                files[value["path"]] = StoredFile(self.hub.lfs[value["oid"]], is_lfs=True)
            elif key == "deletedFile":
                del files[value["path"]]
            elif value.get("parentCommit", head) != head:
                raise HubError(412, "the repo has changed since its parent commit")
        sha = repo.commit(files, branch=revision)
        return {"success": True, "commitOid": sha, "commitUrl": f"{self.web_url(kind, repo_id)}/commit/{sha}"}

    def create_branch(self, kind: str, repo_id: str, revision: str) -> dict:
        repo = self.find_repo(kind, repo_id, write=True)
        if revision in repo.branches:
            raise HubError(409, f"Reference already exists: {revision}")
        repo.branches[revision] = repo.head
        return {}

    def resolve(self, kind: str | None, repo_id: str, revision: str, path: str) -> bytes:
        repo = self.find_repo(kind, repo_id)
        sha = self.find_commit(repo, revision)
        if repo.gated and not self.owns(repo_id):
            raise HubError(403 if self.user else 401, "Access to this repo is restricted", "GatedRepo")
        if path not in repo.commits[sha]:
            raise HubError(404, f"{path} does not exist", "EntryNotFound")
        file = repo.commits[sha][path]
        self.answer_headers = {"ETag": f'"{file.oid}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        size = len(file.content)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None or self.command == "HEAD":
            return file.content
        first, last = int(wanted[1]), min(int(wanted[2] or size), size - 1)
        self.status, self.answer_headers["Content-Range"] = 206, f"bytes {first}-{last}/{size}"
        return file.content[first : last + 1]
