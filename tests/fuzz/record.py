"""Record what real clients send: `python -m tests.fuzz.record DIRECTORY` (see CONTRIBUTING).

Runs the scenarios of the interoperability tests with every client that is installed, then keeps a
small set of the captures (`choose`), which goes to `tests/fuzz/corpus/amqp`.
"""

import argparse
import itertools
import json
import sys
import time
from pathlib import Path

from tests.fuzz.frames import shapes, split
from tests.interop.harness import Client, Program, Service
from tests.interop.scenarios import IMPLEMENTATIONS, SCENARIOS, Implementation

CORPUS = Path(__file__).parent / "corpus" / "amqp"
#: Scenarios that take long or many connections, or that are about the end of tokens.
LEFT_OUT = {"token renewal", "token expiry", "a thousand subscriptions", "ten receivers"}
SECONDS = 25
#: A capture is cut behind its last frame below this.
CAPTURE_BYTES_MAX = 6_000
FRAME_BYTES_MAX = 3_000


class RecordingService(Service):
    """The service of the interoperability tests, as `recording_server` runs it."""

    def __init__(self, directory: Path, tape: Path) -> None:
        self._tape = tape
        super().__init__(directory)

    def _launch(self, options: dict, log: Path) -> Program:
        options |= {"tape": str(self._tape)}
        command = [sys.executable, "-m", "tests.fuzz.recording_server", json.dumps(options)]
        return Program(command, log=log)


def slug(text: str) -> str:
    """A name as a part of a file name."""
    return "".join(c if c.isalnum() else "-" for c in text.lower()).strip("-")


def record(directory: Path) -> Path:
    """Run every scenario with every client; where the captures are."""
    tape = directory / "tape"
    tape.mkdir(parents=True, exist_ok=True)
    service = RecordingService(directory, tape)
    try:
        bases = itertools.count(1_000, 1_000)
        for implementation in IMPLEMENTATIONS:
            if implementation.needs.exists():
                run_all(implementation, service, directory, bases)
    finally:
        service.stop()
    return tape


def run_all(implementation: Implementation, service: Service, directory: Path, bases) -> None:
    """Run the scenarios of one client."""
    log = directory / f"{slug(implementation.name)}.log"
    env = {"NODE_EXTRA_CA_CERTS": str(service.ca)}
    client = Client(implementation.command, log=log, env=env)
    for scenario in SCENARIOS:
        if scenario in {*LEFT_OUT, *implementation.unsupported}:
            continue
        service.ask("label", {"name": f"{slug(implementation.name)}--{slug(scenario)}"})
        began = time.monotonic()
        outcome, why = client.run(scenario, service, base=next(bases), seconds=SECONDS)
        took = time.monotonic() - began
        print(f"{implementation.name}: {scenario}: {outcome} {took:.1f} s {why}", flush=True)
    client.stop()


def cut(stream: bytes) -> bytes:
    """The front of a capture, up to a frame's end."""
    kept: list[bytes] = []
    size = 0
    for frame in split(stream):
        size += len(frame)
        if size > CAPTURE_BYTES_MAX or len(frame) > FRAME_BYTES_MAX:
            break
        kept.append(frame)
    return b"".join(kept)


def choose(tape: Path) -> dict[str, bytes]:
    """Few captures that together hold every kind of frame that is in any of them."""
    captures = {path.stem: cut(path.read_bytes()) for path in sorted(tape.glob("*.bin"))}
    wanted = {name: shapes(stream) for name, stream in captures.items()}
    chosen: dict[str, bytes] = {}
    while wanted:
        # The most that is new for its bytes; names settle a draw, so that it is always the same.
        name = max(wanted, key=lambda n: (len(wanted[n]) / (400 + len(captures[n])), n))
        new = wanted.pop(name)
        if not new:
            break
        chosen[name] = captures[name]
        wanted = {other: rest - new for other, rest in wanted.items()}
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, help="for captures and logs")
    parser.add_argument("--chosen", type=Path, default=CORPUS, help="where the chosen ones go")
    parser.add_argument("--choose-only", action="store_true", help="do not record again")
    options = parser.parse_args()
    tape = options.directory / "tape"
    if not options.choose_only:
        record(options.directory)
    options.chosen.mkdir(parents=True, exist_ok=True)
    for old in options.chosen.glob("*.bin"):
        old.unlink()
    chosen = choose(tape)
    for name, stream in chosen.items():
        (options.chosen / f"{name}.bin").write_bytes(stream)
    total = len(list(tape.glob("*.bin")))
    size = sum(map(len, chosen.values()))
    print(f"{len(chosen)} of {total} captures, {size} bytes, in {options.chosen}")


if __name__ == "__main__":
    main()
