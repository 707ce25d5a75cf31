"""A crowd of abusive connections of one kind: ``python -m bench.crowd KIND …``.

Members come from many loopback addresses, behave badly until they are dropped, and come back some
seconds later. When each has stood once, logged in where it logs in, or has been dropped, it says
``ready`` on stderr: what is measured is how it is to live with them. It works until its stdin ends,
and then prints one JSON object: how many stood at the most, were refused and were dropped.
"""

import argparse
import asyncio
import json
import random
import struct
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count

#: Mean time until a member that was dropped comes back.
COME_BACK_S = 5.0
PAUSE_S = 0.5
#: Connections opened at once.
OPENING = 200
SASL = b"AMQP\x03\x01\x00\x00"
AMQP = b"AMQP\x00\x01\x00\x00"
NULL = b"\x40"


@dataclass
class Crowd:
    """What the members share."""

    host: str
    port: int
    token: str
    addresses: list[str]
    standing: int = 0
    most: int = 0
    settled: int = 0
    refused: int = 0
    dropped: int = 0
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(OPENING))
    all_settled: asyncio.Event = field(default_factory=asyncio.Event)
    size: int = 0


@dataclass
class Member:
    """One connection."""

    number: int
    crowd: Crowd
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    settle: Callable[[], None]

    async def say(self, data: bytes) -> None:
        """Send; raises OSError when dropped."""
        self.writer.write(data)
        await self.writer.drain()

    async def trickle(self, data: bytes) -> None:
        """Send a byte now and then."""
        self.settle()
        for byte in data:
            await self.say(bytes([byte]))
            await asyncio.sleep(2 * PAUSE_S)

    async def log_in(self, *, known: bool) -> None:
        """SASL, open and begin; PLAIN with the token, or ANONYMOUS."""
        response = b"\x00any\x00" + self.crowd.token.encode()
        fields = [symbol(b"PLAIN"), binary(response)] if known else [symbol(b"ANONYMOUS")]
        await self.say(SASL + frame(performative(0x41, *fields), kind=1))
        await self.say(AMQP + frame(performative(0x10, string(f"crowd-{self.number}"))))
        await self.say(frame(performative(0x11, NULL, uint(0), uint(2048), uint(2048))))
        # Its SASL outcome, its open and its begin are longer than this.
        if len(await self.reader.read(128)) < 64 and not await self.reader.read(128):
            raise ConnectionError
        self.settle()

    @property
    def address(self) -> str:
        """A feed of its own tenant."""
        return self.crowd.addresses[self.number % len(self.crowd.addresses)]

    async def attach(self) -> None:
        """A receiving link on its feed."""
        await self.say(attach_frame("in", 0, self.address))

    async def linger(self) -> None:
        """Read what comes until the end; raises OSError."""
        while await self.reader.read(65_536):
            pass


# AMQP 1.0 §1.6, as far as it is needed


def uint(value: int) -> bytes:
    """An unsigned integer."""
    return struct.pack(">BI", 0x70, value)


def string(text: str) -> bytes:
    """A short string."""
    return struct.pack(">BB", 0xA1, len(text.encode())) + text.encode()


def symbol(text: bytes) -> bytes:
    """A short symbol."""
    return struct.pack(">BB", 0xA3, len(text)) + text


def binary(value: bytes) -> bytes:
    """Bytes."""
    return struct.pack(">BI", 0xB0, len(value)) + value


def performative(code: int, *fields: bytes) -> bytes:
    """A described list."""
    body = b"".join(fields)
    return struct.pack(">BBBBII", 0, 0x53, code, 0xD0, len(body) + 4, len(fields)) + body


def frame(body: bytes, *, kind: int = 0, channel: int = 0) -> bytes:
    """A frame."""
    return struct.pack(">IBBH", 8 + len(body), 2, kind, channel) + body


def attach_frame(name: str, handle: int, address: str) -> bytes:
    """Attach a receiver to an address."""
    source = performative(0x28, string(address))
    fields = [string(name), uint(handle), b"\x41", NULL, NULL, source, performative(0x29)]
    return frame(performative(0x12, *fields))


def flow_frame(credit: int) -> bytes:
    """Give credit on the first link."""
    fields = [uint(0), uint(2048), uint(0), uint(2048), uint(0), uint(0), uint(credit)]
    return frame(performative(0x13, *fields))


# Kinds


async def silent(member: Member) -> None:
    """Connected, and nothing else."""
    member.settle()
    await member.linger()


async def half_tls(member: Member) -> None:
    """The beginning of a TLS handshake."""
    await member.say(b"\x16\x03\x01\x02\x00")
    member.settle()
    await member.linger()


async def slow_sasl(member: Member) -> None:
    """The first bytes of SASL, one by one."""
    await member.trickle(SASL + frame(performative(0x41, symbol(b"PLAIN"))))


async def slow_http(member: Member) -> None:
    """The head of a request, byte by byte."""
    await member.trickle(b"GET /subscriptions HTTP/1.1\r\nHost: " + b"x" * 200)


async def unknown_idle(member: Member) -> None:
    """Open, without a token."""
    await member.log_in(known=False)
    await member.linger()


async def attach_flood(member: Member) -> None:
    """Links to what is not there, over and over."""
    await member.log_in(known=True)
    for number in count():
        names = range(number * 16, number * 16 + 16)
        await member.say(b"".join(attach_frame(f"l{n}", n, "variables/x") for n in names))
        await asyncio.sleep(PAUSE_S)


async def begin_flood(member: Member) -> None:
    """Sessions, over and over."""
    await member.log_in(known=True)
    begin = performative(0x11, NULL, uint(0), uint(2048), uint(2048))
    for number in count():
        channels = range(1 + number * 16, 17 + number * 16)
        await member.say(b"".join(frame(begin, channel=n % 65_536) for n in channels))
        await asyncio.sleep(PAUSE_S)


async def never_read(member: Member) -> None:
    """Much credit, and nothing is read."""
    await member.log_in(known=True)
    await member.attach()
    await member.say(flow_frame(1_000_000))
    member.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(3_600)


async def credit_flood(member: Member) -> None:
    """Flow frames, over and over."""
    await member.log_in(known=True)
    await member.attach()
    for number in count(1):
        await member.say(b"".join(flow_frame(number * 100 + n) for n in range(100)))
        await asyncio.sleep(PAUSE_S)


KINDS: dict[str, tuple[str, Callable[[Member], Awaitable[None]]]] = {
    "silent TCP": ("amqp", silent),
    "silent TLS": ("amqps", half_tls),
    "slow SASL": ("amqp", slow_sasl),
    "slow HTTP": ("http", slow_http),
    "unknown idle": ("amqp", unknown_idle),
    "attach flood": ("amqp", attach_flood),
    "begin flood": ("amqp", begin_flood),
    "never reading": ("amqp", never_read),
    "credit flood": ("amqp", credit_flood),
}


async def live(number: int, crowd: Crowd, act: Callable[[Member], Awaitable[None]]) -> None:
    """Connect, behave, be dropped, come back."""
    source = f"127.{1 + number % 50}.{1 + number // 50 % 50}.1"
    settled = False

    def settle() -> None:
        nonlocal settled
        crowd.settled += not settled
        settled = True
        if crowd.settled == crowd.size:
            crowd.all_settled.set()

    while True:
        try:
            async with crowd.gate:
                reader, writer = await asyncio.open_connection(
                    crowd.host, crowd.port, local_addr=(source, 0)
                )
        except OSError:
            crowd.refused += 1
        else:
            crowd.standing += 1
            crowd.most = max(crowd.most, crowd.standing)
            try:
                await act(Member(number, crowd, reader, writer, settle))
            except OSError:
                pass
            finally:
                crowd.standing -= 1
                writer.transport.abort()
            crowd.dropped += 1
        settle()
        await asyncio.sleep(COME_BACK_S * (0.2 + 1.6 * random.random()))


async def gather(crowd: Crowd, kind: str, size: int) -> None:
    """All members, until stdin ends."""
    act = KINDS[kind][1]
    crowd.size = size
    members = [asyncio.ensure_future(live(number, crowd, act)) for number in range(size)]
    await crowd.all_settled.wait()
    print("ready", file=sys.stderr, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for member in members:
        member.cancel()
    await asyncio.gather(*members, return_exceptions=True)


def main() -> int:
    """Run one crowd."""
    parser = argparse.ArgumentParser(prog="python -m bench.crowd", description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--server", required=True, help="HOST:PORT")
    parser.add_argument("--size", type=int, default=5_000)
    options = parser.parse_args()
    host, _, port = options.server.rpartition(":")
    # From stdin and not among the arguments, which every user of the machine can read.
    given = json.loads(sys.stdin.readline())
    crowd = Crowd(host, int(port), given["token"], given["addresses"])
    asyncio.run(gather(crowd, options.kind, options.size))
    told = {"most": crowd.most, "refused": crowd.refused, "dropped": crowd.dropped}
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
