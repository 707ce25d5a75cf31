"""`Coordination` on a JetStream key-value bucket.

A key is a subject of the bucket's stream, `$KV.<bucket>.<key>`; its revision is the number of its
last message there, and a swap is a publish that expects this number. A removed key leaves a marker
without content, as with every client of such buckets, so that the `nats` tool can look at it; no
other value is empty.

Reads ask the stream's leader. A leader that has just been replaced may answer with what was there
before; a swap cannot be misled, because a majority must accept it.
"""

import asyncio
import base64
import binascii
from typing import Final, NamedTuple

from hotpath.clusterports import Entry, Stop
from hotpath.ports import LogFailure
from hotpath.storage.jetstream.link import JsonMap, Link, Refused, Unanswered
from hotpath.storage.jetstream.server import JetStream
from hotpath.storage.jetstream.watching import Changed, Watch

#: How long a call waits for its answer, seconds: shorter than nodes wait for one another.
TIMEOUT_S: Final = 1.0
#: How long a start waits for servers that are electing, seconds: that takes up to nine.
OPEN_S: Final = 30.0
_PAUSE_S: Final = 0.25

_NANO: Final = 1_000_000_000
_NOT_FOUND: Final = 404
_WRONG_LAST_SEQUENCE: Final = 10071


class _Later(LogFailure):
    """It may be answered a little later."""


class _Last(NamedTuple):
    """The last message of a key; `entry` is None when the key was removed."""

    revision: int
    entry: Entry | None


class KvCoordination:
    """Small values in a bucket; the link is the caller's to open and to close."""

    def __init__(self, link: Link, *, bucket: str, timeout_s: float = TIMEOUT_S) -> None:
        self._link = link
        self._subjects = f"$KV.{bucket}."
        self._stream = f"KV_{bucket}"
        self._timeout_s = timeout_s

    async def open(self, *, replicas: int, within_s: float = OPEN_S) -> None:
        """Make the bucket if it is not there yet. Raises LogFailure.

        One that is there stays as it is: its replicas are the operator's to change. Servers that
        are electing a leader just now are waited for.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + within_s
        while True:
            try:
                await self._make(replicas)
                # It is there; that somebody leads it shows in an answer about what is in it.
                await self._last("ready")
            except _Later:
                if loop.time() >= until:
                    raise
                await asyncio.sleep(_PAUSE_S)
            else:
                return

    async def _make(self, replicas: int) -> None:
        """Make the bucket if it is not there. Raises LogFailure."""
        if await self._ask(f"STREAM.INFO.{self._stream}", {}) is not None:
            return
        wanted: JsonMap = {
            "name": self._stream,
            "subjects": [f"{self._subjects}>"],
            "max_msgs_per_subject": 1,
            "num_replicas": replicas,
            "storage": "file",
            "discard": "new",
            "allow_rollup_hdrs": True,
            "deny_delete": True,
            "allow_direct": True,
            "duplicate_window": 2 * 60 * _NANO,
        }
        await self._ask(f"STREAM.CREATE.{self._stream}", wanted)

    # The port

    async def read(self, key: str) -> Entry | None:
        """What is there now. Raises LogFailure."""
        last = await self._last(key)
        return None if last is None else last.entry

    async def swap(self, key: str, value: bytes, *, revision: int) -> int | None:
        """Write if the key still has this revision. Raises LogFailure."""
        written = await self._write(key, value, expected=revision)
        if written is not None or revision:
            return written
        last = await self._last(key)
        if last is None or last.entry is not None:
            return None
        return await self._write(key, value, expected=last.revision)

    async def drop(self, key: str) -> None:
        """Remove a key. Raises LogFailure."""
        if await self.read(key) is not None:
            await self._publish(key, b"", {"KV-Operation": "PURGE", "Nats-Rollup": "sub"})

    async def watch(self, prefix: str, changed: Changed) -> Stop:
        """Tell what is there under a prefix, and of every change. Raises LogFailure."""
        # For reading alone: other calls have less time here than there.
        server = JetStream(self._link, replicas=0, duplicate_seconds=0)
        watch = Watch(self._link, server, stream=self._stream, subjects=self._subjects)
        await watch.start(prefix, changed)
        return watch.stop

    # The server

    async def _last(self, key: str) -> _Last | None:
        """The last message of a key, None when it never had one."""
        question: JsonMap = {"last_by_subj": self._subjects + key}
        answer = await self._ask(f"STREAM.MSG.GET.{self._stream}", question)
        message = None if answer is None else answer.get("message")
        if not isinstance(message, dict):
            return None
        revision = int(message["seq"])
        try:
            value = base64.b64decode(message.get("data") or "")
        except binascii.Error as error:
            raise LogFailure(f"the server's answer cannot be read: {error}") from error
        return _Last(revision, Entry(key, value, revision) if value else None)

    async def _write(self, key: str, value: bytes, *, expected: int) -> int | None:
        """Publish if the key's last message has this number; the new number."""
        headers = {"Nats-Expected-Last-Subject-Sequence": str(expected)}
        answer = await self._publish(key, value, headers)
        return None if answer is None else int(str(answer["seq"]))

    async def _publish(self, key: str, value: bytes, headers: dict[str, str]) -> JsonMap | None:
        """None when the key's last message is not the expected one."""
        subject = self._subjects + key
        try:
            return await self._link.ask(subject, value, headers=headers, seconds=self._timeout_s)
        except Unanswered as error:
            raise LogFailure(f"the coordination bucket: {error}") from error
        except Refused as refused:
            if refused.code == _WRONG_LAST_SEQUENCE:
                return None
            raise refused.failure() from refused

    async def _ask(self, name: str, question: JsonMap) -> JsonMap | None:
        """An answer of JetStream's API, None when it has not found what was asked for."""
        try:
            return await self._link.api(name, question, seconds=self._timeout_s)
        except Unanswered as error:
            raise _Later(f"the coordination bucket: {error}") from error
        except Refused as refused:
            if refused.status == _NOT_FOUND:
                return None
            if refused.passes:
                raise _Later(f"the coordination bucket: {refused}") from refused
            raise refused.failure() from refused
