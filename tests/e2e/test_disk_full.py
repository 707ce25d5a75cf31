"""No room left on the disk: publishers are told, receivers go on, and it recovers by itself."""

import json
import os
import resource
import subprocess

import pytest
from proton import Message
from proton.utils import LinkDetached, SendException

from tests.e2e.feeds import elsewhere, quality_of, receive_all
from tests.support.process import (
    access_of,
    amqp_connection,
    embedded_only,
    eventually,
    running_server,
)

pytestmark = [pytest.mark.slow, pytest.mark.interop, embedded_only]

MEGABYTE = 1_048_576


class SmallDisk:
    """A file system of its own, nearly full; freeing it deletes what lies about in it."""

    status = 503
    detail = "the message log is full; try again later"

    def __init__(self, directory):
        self.directory = directory
        self.data_dir = directory / "disk" / "data"
        self.ballast = directory / "disk" / "ballast"

    def __enter__(self):
        mount = self.directory / "disk"
        mount.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=48m,mode=700", "tmpfs", str(mount)]
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
        if mounted.returncode:
            pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", str(self.directory / "disk")], check=True)

    def fill(self, server):
        """Take what is free but a little."""
        room = os.statvfs(self.directory / "disk")
        size = room.f_bavail * room.f_frsize - 2 * MEGABYTE
        with self.ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)

    def free(self, server):
        """Make room again."""
        self.ballast.unlink()


class SmallFiles:
    """A limit on the size of the server's files, which `prlimit` sets and lifts.

    The disk itself has room, so that the server cannot say what is wrong, but that it is.
    """

    status = 503
    detail = "the message log cannot be written now; try again later"

    def __init__(self, directory):
        self.data_dir = directory / "data"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def fill(self, server):
        """Let no file grow by much."""
        largest = max(path.stat().st_size for path in self.data_dir.iterdir())
        self._limit(server, largest + MEGABYTE)

    def free(self, server):
        """Lift the limit."""
        self._limit(server, resource.RLIM_INFINITY)

    def _limit(self, server, size):
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.fixture(params=[SmallDisk, SmallFiles], ids=["full disk", "limited files"])
def disk(request, tmp_path):
    with request.param(tmp_path) as small:
        yield small


def array(first):
    """Ten messages, some 100 KB."""
    return [
        {"objectId": "o", "variable": "v", "value": "x" * 10_000, "quality": first + n}
        for n in range(10)
    ]


def publish_until_refused(server):
    """Over HTTP; the numbers that were accepted, and the refusal."""
    accepted = []
    for first in range(0, 5000, 10):
        answer = server.call("POST", "/messages/variables", array(first))
        if answer.status != 202:
            return accepted, answer
        accepted += range(first, first + 10)
    raise AssertionError("the disk is never full")


def takes(publisher, accepted):
    """Publish ten more over AMQP; whether they were accepted, and then they are noted."""
    with amqp_connection(publisher.host, publisher.token) as connection:
        sender = connection.create_sender(publisher.address)
        try:
            sender.send(Message(body=json.dumps(array(0)).encode()), timeout=10)
        except (SendException, LinkDetached):
            return False
    accepted += range(10)
    return True


def is_ready(server):
    return server.call("GET", "/readyz").status == 200


@pytest.mark.timeout(90)
def test_a_full_disk_refuses_publishers_and_lets_receivers_go_on(disk):
    with running_server(disk.data_dir) as server:
        feed = server.subscribe("quality >= 0")
        publisher = access_of(server.call("POST", "/publishers/variables"))
        server.publish(array(0))
        disk.fill(server)

        accepted, refusal = publish_until_refused(server)

        assert refusal.status == disk.status
        assert refusal.body["errors"][0]["detail"] == disk.detail
        assert int(refusal.headers["Retry-After"]) > 0
        # A refused commit lets the write-ahead log start over, which can make a little room.
        eventually(lambda: not takes(publisher, accepted), what="refused over AMQP")
        eventually(lambda: not takes(publisher, accepted) and not is_ready(server))
        assert server.call("GET", "/healthz").status == 200
        received = [quality_of(message) for message in receive_all(feed)]
        assert received == [*range(10), *accepted]

        disk.free(server)

        eventually(lambda: is_ready(server), seconds=20)
        server.publish(array(9000))
        assert takes(publisher, accepted)
        server.kill()
        server.start()
        feed = elsewhere(feed, server)
        again = [quality_of(message) for message in receive_all(feed)]
        assert again == [*range(9000, 9010), *range(10)]


def test_a_server_starts_on_a_full_disk_and_serves_what_it_has(tmp_path):
    with SmallDisk(tmp_path) as disk, running_server(disk.data_dir) as server:
        feed = server.subscribe("quality >= 0")
        server.publish(array(0))
        disk.fill(server)
        accepted, _ = publish_until_refused(server)

        server.kill()
        server.start()

        received = [quality_of(message) for message in receive_all(elsewhere(feed, server))]
        assert received == [*range(10), *accepted]
