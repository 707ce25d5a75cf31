"""Control calls: ``python -m bench rest`` creates subscriptions as fast as one core takes them.

Each call carries a JSON Web Token and a filter of its own, over a few kept connections. The
broker is kept on one processor, the client on the others. The client is a loop over plain
sockets: it takes a small part of what the broker takes for a call, and says how much.
"""

import argparse
import json
import os
import selectors
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.backlog import broker
from bench.errors import RunError
from bench.hotpath_broker import SCOPE, SUBSCRIPTION, TOPIC, mint_token
from bench.measure import pin
from bench.procfs import read_usage
from bench.report import Row, render, show_rate, write_document
from bench.stats import percentile, summarise
from hotpath.auth.jwt import TokenRules, mint
from hotpath.auth.keys import load_development_key

#: What is promised, on one core.
CREATES_MIN = 1_000.0
WARM_UP = 200
ANSWER_MAX = 65_536
SILENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One round."""

    creates: int
    rate: float
    """Subscriptions created a second."""
    service_ms: float
    """Processor time of the service for each, milliseconds; on one core it bounds the rate."""
    client_ms: float
    p50_ms: float
    p99_ms: float


def make_request(host: str, token: str, index: int) -> bytes:
    """One create as bytes."""
    wanted = f"objectId = 'obj-{index:08d}' AND quality >= 192"
    body = json.dumps({**SUBSCRIPTION, "filter": wanted}).encode()
    head = (
        f"POST /subscriptions/{TOPIC} HTTP/1.1\r\nHost: {host}\r\n"
        f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def answer_length(text: bytes) -> int | None:
    """Bytes of the whole answer that a text begins with, None while its head is not complete.

    Raises:
        RunError: If it is no 201, or has no length.
    """
    head, separator, _ = text.partition(b"\r\n\r\n")
    if not separator:
        return None
    if not head.startswith(b"HTTP/1.1 201 "):
        raise RunError(f"a create was answered with {text[:300]!r}")
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return len(head) + len(separator) + int(value)
    raise RunError("an answer has no Content-Length")


class Client:
    """A few connections, each with one request under way."""

    def __init__(self, server: tuple[str, int], connections: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._sockets = [socket.create_connection(server) for _ in range(connections)]
        for each in self._sockets:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(each, selectors.EVENT_READ)
        self._texts = dict.fromkeys(self._sockets, b"")
        self._sent_s: dict[socket.socket, float] = {}

    def run(self, requests: Sequence[bytes]) -> list[float]:
        """Send all and wait for all answers; how long each took, seconds.

        Raises:
            RunError: If one is refused or does not come.
        """
        waiting = iter(requests)
        for each in self._sockets:
            self._send(each, waiting)
        took: list[float] = []
        while self._sent_s:
            ready = self._selector.select(SILENCE_S)
            if not ready:
                raise RunError(f"no answer within {SILENCE_S:g} s")
            for key, _ in ready:
                if isinstance(key.fileobj, socket.socket) and self._receive(key.fileobj, took):
                    self._send(key.fileobj, waiting)
        return took

    def _send(self, connection: socket.socket, waiting: Iterator[bytes]) -> None:
        request = next(waiting, None)
        if request is not None:
            self._sent_s[connection] = time.monotonic()
            connection.sendall(request)

    def _receive(self, connection: socket.socket, took: list[float]) -> bool:
        """Read what is there; whether an answer is complete."""
        part = connection.recv(ANSWER_MAX)
        if not part:
            raise RunError("the service closed a connection")
        text = self._texts[connection] + part
        length = answer_length(text)
        if length is None or len(text) < length:
            self._texts[connection] = text
            return False
        self._texts[connection] = text[length:]
        took.append(time.monotonic() - self._sent_s.pop(connection))
        return True

    def close(self) -> None:
        """End all connections."""
        self._selector.close()
        for each in self._sockets:
            each.close()


def make_tokens(data_dir: Path, count: int) -> list[str]:
    """Tokens of as many callers of one tenant, signed with the development key."""
    mint_token(data_dir)  # makes sure that there is a key
    key = load_development_key(data_dir)
    return [
        mint(
            key,
            TokenRules(),
            tenant="bench",
            scopes=SCOPE.split(),
            subject=f"caller-{index}",
            now_ms=int(time.time() * 1000),
            minutes=600,
        )
        for index in range(count)
    ]


def examine(creates: int, *, connections: int, tokens: int, work_dir: Path) -> Finding:
    """One round on a broker of its own.

    Raises:
        BenchError: If the broker fails to run or refuses a call.
    """
    processors = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="bench-rest-", dir=work_dir) as name:
        directory = Path(name)
        with broker(directory / "data", directory / "hotpath.log", log_level="info") as up:
            where = urlsplit(up.addresses.http)
            made = make_tokens(directory / "data", tokens)
            requests = [
                make_request(where.netloc, made[index % tokens], index)
                for index in range(WARM_UP + creates)
            ]
            if len(processors) > 1:
                pin(up.pid, {processors[0]})
                os.sched_setaffinity(0, set(processors[1:]))
            client = Client((str(where.hostname), where.port or 80), connections)
            try:
                client.run(requests[:WARM_UP])
                before, own = read_usage(up.pid), time.process_time()
                begun = time.monotonic()
                took = client.run(requests[WARM_UP:])
                elapsed = time.monotonic() - begun
                used = read_usage(up.pid).cpu_since(before)
                own = time.process_time() - own
            finally:
                client.close()
                os.sched_setaffinity(0, set(processors))
    return Finding(
        creates=creates,
        rate=creates / elapsed,
        service_ms=1e3 * used / creates,
        client_ms=1e3 * own / creates,
        p50_ms=1e3 * percentile(took, 50),
        p99_ms=1e3 * percentile(took, 99),
    )


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The options."""
    parser = commands.add_parser("rest", help="creates a second, with tokens and filters")
    parser.add_argument("--creates", type=int, default=5_000, help="of a round (5000)")
    parser.add_argument("--connections", type=int, default=16, help="kept connections (16)")
    parser.add_argument("--tokens", type=int, default=100, help="callers, each a token (100)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work-dir", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--out", type=Path, help="write all numbers to this JSON file")


def measure_all(options: argparse.Namespace) -> list[Finding]:
    """All rounds."""
    return [
        examine(
            options.creates,
            connections=options.connections,
            tokens=options.tokens,
            work_dir=options.work_dir,
        )
        for _ in range(options.rounds)
    ]


def run(options: argparse.Namespace) -> int:
    """Measure, print, and write what was asked for; 1 when the promise was not kept."""
    findings = measure_all(options)
    rate = summarise([each.rate for each in findings])
    rows: list[Row] = [
        ("REST", "creates/s", "service ms", "client ms", "p50 ms", "p99 ms", "ok"),
        (
            f"{options.creates:,} creates, {options.tokens} tokens",
            show_rate(rate),
            f"{summarise([each.service_ms for each in findings]).median:.3f}",
            f"{summarise([each.client_ms for each in findings]).median:.3f}",
            f"{summarise([each.p50_ms for each in findings]).median:.1f}",
            f"{summarise([each.p99_ms for each in findings]).median:.1f}",
            "yes" if rate.median >= CREATES_MIN else "NO",
        ),
    ]
    print(render(rows))
    if options.out is not None:
        write_document(options.out, [asdict(each) for each in findings], options.work_dir)
        print(f"written: {options.out}", file=sys.stderr)
    return 0 if rate.median >= CREATES_MIN else 1
