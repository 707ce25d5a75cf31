"""Watching keys of a bucket without missing what they are now.

A bucket's stream holds the last message of each key and nothing else. Who follows it from its
beginning is told what every key has now, in the order of the writing, and then every change; who
was away for a while is told what has changed meanwhile. A key that was removed has a message
without content.
"""

from collections.abc import Callable

from hotpath.clusterports import Entry
from hotpath.storage.jetstream.following import Following
from hotpath.storage.jetstream.link import Link
from hotpath.storage.jetstream.server import JetStream, Stored

Changed = Callable[[str, Entry | None], None]


class Watch:
    """The keys under a prefix, as far as they were told."""

    def __init__(self, link: Link, server: JetStream, *, stream: str, subjects: str) -> None:
        read = server.reader(stream, f"{subjects}>")
        self._following = Following(link, stream, deliver=self._arrived, read=read)
        self._subjects = subjects
        self._prefix = ""
        self._changed: Changed = lambda _key, _entry: None
        self._there: set[str] = set()

    async def start(self, prefix: str, changed: Changed) -> None:
        """Begin, and go on until `stop`. Raises LogFailure when it cannot begin."""
        self._prefix = prefix
        self._changed = changed
        await self._following.start(1)

    async def stop(self) -> None:
        """No more calls come."""
        await self._following.stop()

    def _arrived(self, stored: Stored) -> None:
        key = stored.subject.removeprefix(self._subjects)
        if not key.startswith(self._prefix):
            return
        if stored.body:
            self._there.add(key)
            self._changed(key, Entry(key, stored.body, stored.seq))
        elif key in self._there:
            self._there.discard(key)
            self._changed(key, None)
