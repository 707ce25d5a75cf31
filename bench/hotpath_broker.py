"""hotpath as the broker under test: a fresh data directory, free ports, real tokens."""

import asyncio
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from bench.children import Child
from bench.clients import Endpoint, Link, Login
from bench.errors import RunError
from bench.workload import Workload

TOPIC = "variables"
READY_TIMEOUT_S = 30.0
REST_TIMEOUT_S = 120.0
CREATES_IN_FLIGHT = 16
SUBSCRIPTION = {"subscriptionTTL": 600, "sasTokenTTL": 300}
SCOPE = "hotpath.subscribe hotpath.publish"
# Ten thousand subscriptions are created as fast as they go; the limit is not what is measured.
SETTINGS = {"HOTPATH_RATE_LIMIT": "1000000/second"}


def hotpath_command() -> list[str]:
    """How hotpath is started: ``HOTPATH_BENCH_COMMAND``, or the module in this interpreter."""
    configured = os.environ.get("HOTPATH_BENCH_COMMAND")
    return shlex.split(configured) if configured else [sys.executable, "-m", "hotpath"]


@dataclass(frozen=True, slots=True)
class Addresses:
    """What the ready line says."""

    http: str
    amqp: str

    @classmethod
    def parse(cls, line: str) -> "Addresses":
        """Read the ready line.

        Raises:
            RunError: If it is not one.
        """
        try:
            fields = json.loads(line)
            if fields["event"] != "ready":
                raise RunError(f"not a ready line: {line!r}")
            return cls(fields["http"], urlsplit(fields["amqp"]).netloc)
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"not a ready line: {line!r}") from error


def mint_token(data_dir: Path) -> str:
    """A development JWT for one tenant.

    Raises:
        RunError: If the command fails.
    """
    command = [*hotpath_command(), "token", "--data-dir", str(data_dir), "--tenant", "bench"]
    command += ["--scope", SCOPE, "--sub", "bench", "--minutes", "600"]
    minted = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if minted.returncode:
        raise RunError(f"no token: {minted.stderr[-800:]}")
    return minted.stdout.strip()


def address_of(connection_url: str) -> str:
    """The AMQP address in a ``connectionURL``: its path."""
    return urlsplit(connection_url).path.lstrip("/")


async def post(session: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """POST JSON and return the JSON of a 201.

    Raises:
        RunError: On any other answer.
    """
    async with session.post(path, json=body) as response:
        if response.status != 201:
            raise RunError(f"POST {path}: {response.status} {await response.text()}")
        created: dict[str, Any] = await response.json()
        return created


async def create_links(
    session: aiohttp.ClientSession,
    workload: Workload,
    *,
    prefix: str = "",
    more: dict[str, Any] | None = None,
) -> Sequence[Link]:
    """Create all subscriptions of a workload, a few at a time."""
    gate = asyncio.Semaphore(CREATES_IN_FLIGHT)

    async def create(index: int) -> Link:
        async with gate:
            wanted = workload.filter_of(index)
            if prefix:
                wanted = wanted.replace("objectId = 'obj", f"objectId = '{prefix}")
            body = {**SUBSCRIPTION, **(more or {}), "filter": wanted}
            created = await post(session, f"/subscriptions/{TOPIC}", body)
        address = address_of(created["connectionURL"])
        return Link(workload.connection_of(index), address, created["sasToken"])

    return await asyncio.gather(*(create(index) for index in range(workload.subscriptions)))


async def create_many(
    http: str,
    jwt: str,
    workload: Workload,
    *,
    prefix: str,
    more: dict[str, Any] | None = None,
) -> Sequence[Link]:
    """Create a workload's subscriptions; with a prefix, to objects that nobody publishes."""
    async with aiohttp.ClientSession(
        http,
        headers={"Authorization": f"Bearer {jwt}"},
        timeout=aiohttp.ClientTimeout(total=REST_TIMEOUT_S),
    ) as session:
        return await create_links(session, workload, prefix=prefix, more=more or {})


async def prepare(http: str, jwt: str, workload: Workload) -> tuple[Sequence[Link], str, str]:
    """Create the subscriptions and one publisher: links, publish address, publish token."""
    async with aiohttp.ClientSession(
        http,
        headers={"Authorization": f"Bearer {jwt}"},
        timeout=aiohttp.ClientTimeout(total=REST_TIMEOUT_S),
    ) as session:
        links = await create_links(session, workload)
        publisher = await post(session, f"/publishers/{TOPIC}", {"sasTokenTTL": 300})
    return links, address_of(publisher["connectionURL"]), publisher["sasToken"]


@contextmanager
def hotpath(workload: Workload, directory: Path) -> Iterator[Endpoint]:
    """Run hotpath for one measurement.

    Raises:
        RunError: If it does not become ready or refuses a control call.
    """
    data_dir = directory / "data"
    command = [*hotpath_command(), "serve", "--data-dir", str(data_dir)]
    command += ["--http", "127.0.0.1:0", "--amqp", "127.0.0.1:0"]
    log = directory / "hotpath.log"
    with Child(command, log=log, environment=SETTINGS) as broker:
        addresses = Addresses.parse(broker.read_line(READY_TIMEOUT_S))
        jwt = mint_token(data_dir)
        links, publish_address, token = asyncio.run(prepare(addresses.http, jwt, workload))
        # SASL PLAIN carries one token, so it serves where each link has its own connection.
        shared = workload.connections < workload.subscriptions
        yield Endpoint(
            server=addresses.amqp,
            publish_address=publish_address,
            publisher=Login(user="bench", secret=token),
            subscriber=Login(claims=True) if shared else Login(user="bench"),
            links=tuple(links),
            pid=broker.pid,
            settle=workload.settle,
        )
