"""Copies of streams by the servers' own means, as `nats stream backup` and `restore` make them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import nats
from nats.aio.client import Client

_CHUNK = 65_536
_WITHIN_S = 20.0


@dataclass(frozen=True, slots=True)
class StreamCopy:
    """What a backup holds of a stream."""

    name: str
    config: dict
    state: dict
    chunks: tuple[bytes, ...]


async def _ask(client: Client, name: str, question: dict) -> dict:
    answer = await client.request(f"$JS.API.{name}", json.dumps(question).encode(), _WITHIN_S)
    read = json.loads(answer.data)
    assert "error" not in read, read
    return read


async def stream_names(url: str) -> list[str]:
    """All streams, as `nats stream ls --names` tells them."""
    client = await nats.connect(url)
    try:
        return sorted((await _ask(client, "STREAM.NAMES", {}))["streams"])
    finally:
        await client.close()


async def back_up(url: str, names: Sequence[str]) -> list[StreamCopy]:
    """Copy streams, one after the other."""
    client = await nats.connect(url)
    try:
        return [await _back_up(client, name) for name in names]
    finally:
        await client.close()


async def _back_up(client: Client, name: str) -> StreamCopy:
    inbox = client.new_inbox()
    arriving = await client.subscribe(inbox)
    question = {"deliver_subject": inbox, "no_consumers": True, "chunk_size": _CHUNK}
    told = await _ask(client, f"STREAM.SNAPSHOT.{name}", question)
    chunks = []
    while True:
        message = await arriving.next_msg(_WITHIN_S)
        if not message.data:
            await arriving.unsubscribe()
            return StreamCopy(name, told["config"], told["state"], tuple(chunks))
        chunks.append(message.data)
        if message.reply:
            await client.publish(message.reply, b"")


async def restore(url: str, copies: Sequence[StreamCopy]) -> None:
    """Make streams of copies, on servers that have none of them."""
    client = await nats.connect(url)
    try:
        for copy in copies:
            question = {"config": copy.config, "state": copy.state}
            told = await _ask(client, f"STREAM.RESTORE.{copy.name}", question)
            for chunk in (*copy.chunks, b""):
                answer = await client.request(told["deliver_subject"], chunk, _WITHIN_S)
                assert b"error" not in answer.data, answer.data
    finally:
        await client.close()
