"""The client of the REST benchmark, against a small server on a real socket."""

import json
import socket
import threading

import pytest

from bench.errors import RunError
from bench.rest import Client, answer_length, make_request

CREATED = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"


def test_a_request_carries_a_token_and_a_filter_of_its_own() -> None:
    head, _, body = make_request("host:1", "abc", 7).partition(b"\r\n\r\n")

    assert b"Authorization: Bearer abc" in head
    assert json.loads(body)["filter"] == "objectId = 'obj-00000007' AND quality >= 192"
    assert f"Content-Length: {len(body)}".encode() in head


@pytest.mark.parametrize(
    ("text", "length"),
    [
        pytest.param(b"HTTP/1.1 201 Created\r\nCon", None, id="half a head"),
        pytest.param(CREATED, len(CREATED), id="whole"),
        pytest.param(CREATED[:-1], len(CREATED), id="without the end of its body"),
        pytest.param(CREATED + b"HTTP", len(CREATED), id="with the next one"),
    ],
)
def test_the_length_of_an_answer_stands_in_its_head(text: bytes, length: int | None) -> None:
    assert answer_length(text) == length


@pytest.mark.parametrize(
    "text",
    [b"HTTP/1.1 429 Slow\r\n\r\n", b"HTTP/1.1 201 Created\r\n\r\n"],
    ids=["429", "no length"],
)
def test_any_other_answer_ends_the_round(text: bytes) -> None:
    with pytest.raises(RunError):
        answer_length(text)


@pytest.fixture
def server():
    """Answers each request in two parts; an empty one closes the connection."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            while request := connection.recv(65_536):
                if request == b"end":
                    return
                connection.sendall(CREATED[:30])
                connection.sendall(CREATED[30:])

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listening.getsockname()
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


def test_every_request_is_answered_once_over_a_few_connections(server) -> None:
    client = Client(server, 3)
    try:
        took = client.run([b"one"] * 20)
    finally:
        client.close()

    assert len(took) == 20
    assert all(0 <= each < 5 for each in took)


def test_a_connection_that_ends_is_an_error(server) -> None:
    client = Client(server, 1)
    try:
        with pytest.raises(RunError, match="closed a connection"):
            client.run([b"end"])
    finally:
        client.close()
