"""The real server process, started from the command line, as an operator and a client see it."""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest
from proton import SSLDomain
from proton.utils import BlockingConnection

from hotpath.auth.jwt import TokenRules, mint
from hotpath.auth.keys import load_development_key
from hotpath.config import Settings

ROOT = Path(__file__).parents[2]
#: Also what takes long and shows little more (`make test-cluster`).
LONG = bool(os.environ.get("HOTPATH_LONG"))
COMMAND = [sys.executable, "-m", "hotpath"]
SCOPES = "hotpath.subscribe hotpath.publish"
READY_SECONDS = 30.0

#: For tests of what only a service of its own does, storage in a directory say.
embedded_only = pytest.mark.skipif(
    bool(os.environ.get("HOTPATH_TEST_CLUSTER")), reason="of the embedded service alone"
)

ResultT = TypeVar("ResultT")


def eventually(look: Callable[[], ResultT], *, seconds: float = 30.0, what: str = "") -> ResultT:
    """Look again and again until the result is true; that result."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or look}"
        time.sleep(0.02)
    return found


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: Any
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Access:
    """What a caller gets for a feed: where, and with which token."""

    id: str
    url: str
    token: str

    @property
    def host(self) -> str:
        """The URL without its path."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def address(self) -> str:
        """The path of the URL."""
        return urlsplit(self.url).path.lstrip("/")


class Server:
    """A server process on free ports of the loopback."""

    #: How long a start may take.
    ready_seconds = READY_SECONDS

    def __init__(self, data_dir: Path, *options: str, **settings: object) -> None:
        self.data_dir = data_dir
        self.process: subprocess.Popen[str] | None = None
        self.urls: dict[str, str] = {}
        self.stderr = data_dir.parent / f"{data_dir.name}.stderr"
        self._options = options
        self._settings = {"http": "127.0.0.1:0", "amqp": "127.0.0.1:0", **settings}

    # The process

    def command(self) -> list[str]:
        """What starts it."""
        flags = [
            part
            for name, value in self._settings.items()
            for part in ("--" + name.replace("_", "-"), str(value))
        ]
        return [*COMMAND, "serve", "--data-dir", str(self.data_dir), *flags, *self._options]

    def start(self, **popen: Any) -> "Server":
        """Start and wait for the ready line."""
        self.launch(**popen)
        self.wait_ready()
        return self

    def launch(self, **popen: Any) -> None:
        """Start, without waiting."""
        with self.stderr.open("a") as stderr:
            self.process = subprocess.Popen(
                self.command(), stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=ROOT, **popen
            )

    def wait_ready(self) -> None:
        """Wait for the ready line."""
        self._note_ready(self._read_line())

    def _note_ready(self, line: str) -> None:
        ready = json.loads(line)
        assert ready.pop("event") == "ready"
        self.urls = ready

    def _read_line(self) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(self.ready_seconds):
                self.kill()
                raise AssertionError("the server does not get ready")
        line = self.process.stdout.readline()
        if not line:
            self.wait()
            raise AssertionError(f"the server ended: {self.stderr.read_text()}")
        return line

    def stop(self, *, seconds: float = 20.0) -> int:
        """SIGTERM, and wait; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.wait(seconds=seconds)

    def kill(self) -> None:
        """SIGKILL, as if the power of the process went."""
        assert self.process is not None
        self.process.kill()
        self.wait()

    def wait(self, *, seconds: float = 20.0) -> int:
        """Wait for its end; the exit code."""
        assert self.process is not None
        code = self.process.wait(seconds)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def close(self) -> None:
        """Leave no process behind."""
        if self.process is not None and self.process.poll() is None:
            self.kill()

    # Calls

    def token(
        self,
        *,
        tenant: str = "acme",
        scope: str = SCOPES,
        minutes: float = 60,
        condition: str | None = None,
    ) -> str:
        """A token of the server's development key."""
        return mint(
            load_development_key(self.data_dir),
            TokenRules.of(Settings.model_validate({"data_dir": self.data_dir})),
            tenant=tenant,
            scopes=scope.split(),
            subject="tester",
            now_ms=time.time_ns() // 1_000_000,
            minutes=minutes,
            condition=condition,
        )

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = None,
        content_type: str = "application/json",
        base: str | None = None,
        context: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One call; bytes are sent as they are."""
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            (base or self.urls["http"]) + path, method=method, data=raw
        )
        request.add_header("Authorization", f"Bearer {token or self.token()}")
        if raw is not None:
            request.add_header("Content-Type", content_type)
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=20, context=context) as answer:
                return _answer(answer)
        except urllib.error.HTTPError as error:
            with error:
                return _answer(error)

    def subscribe(self, filter_text: str, *, topic: str = "variables", **options: Any) -> Access:
        """Create a subscription."""
        token = options.pop("token", None)
        wanted = {"subscriptionTTL": 60, "sasTokenTTL": 30, "filter": filter_text, **options}
        answer = self.call("POST", f"/subscriptions/{topic}", wanted, token=token)
        assert answer.status == 201, answer
        return access_of(answer)

    def publish(self, body: object, *, topic: str = "variables", **options: Any) -> None:
        """Publish over HTTP."""
        answer = self.call("POST", f"/messages/{topic}", body, **options)
        assert answer.status == 202, answer

    def shown(self, access: Access, *, topic: str = "variables", **options: Any) -> dict[str, Any]:
        """The figures of a subscription."""
        answer = self.call("GET", f"/subscriptions/{topic}/{access.id}", **options)
        assert answer.status == 200, answer
        figures: dict[str, Any] = answer.body
        return figures


def _answer(answer: Any) -> Answer:
    text = answer.read()
    return Answer(answer.status, json.loads(text) if text else None, dict(answer.headers))


def access_of(answer: Answer) -> Access:
    """The three fields of an answer."""
    identity = answer.body.get("subscriptionId") or answer.body["publisherId"]
    return Access(identity, answer.body["connectionURL"], answer.body["sasToken"])


def make_server(data_dir: Path, *options: str, **settings: Any) -> Server:
    """One process, or a cluster that looks like one where HOTPATH_TEST_CLUSTER is set."""
    if not os.environ.get("HOTPATH_TEST_CLUSTER"):
        return Server(data_dir, *options, **settings)
    from tests.support.cluster_server import ClusterServer  # noqa: PLC0415  # needs this module

    return ClusterServer(data_dir, *options, **settings)


@contextmanager
def running_server(data_dir: Path, *options: str, **settings: object) -> Iterator[Server]:
    """A server that is gone when the block is left."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    server = make_server(data_dir, *options, **settings)
    try:
        yield server.start()
    finally:
        server.close()


@contextmanager
def amqp_connection(
    url: str, password: str | None, *, user: str = "any", ssl_domain: SSLDomain | None = None
) -> Iterator[BlockingConnection]:
    """A stock Proton client, logged in by SASL PLAIN, or ANONYMOUS without a password."""
    options: dict[str, Any] = {"allowed_mechs": "ANONYMOUS"}
    if password is not None:
        options = {"allowed_mechs": "PLAIN", "user": user, "password": password}
    connection = BlockingConnection(
        url, timeout=10, allow_insecure_mechs=True, ssl_domain=ssl_domain, **options
    )
    try:
        yield connection
    finally:
        connection.close()


def run_command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `hotpath` to its end."""
    environment = {**os.environ, "NO_COLOR": "1"}
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env=environment,
        check=False,
        **options,
    )
