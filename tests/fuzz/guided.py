"""Coverage-guided fuzzing with atheris: `python -m tests.fuzz.guided qel --seconds 60`.

Atheris (libFuzzer for Python) instruments the parsers' code and keeps inputs that reach something
new. The targets are those of `targets`, and `amqp`: one connection of a whole service, fed frame by
frame. What is found is written to a file, which belongs into `regressions/` once it is mended.
"""

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
from collections.abc import Callable
from io import StringIO
from pathlib import Path

try:
    import atheris
except ImportError:  # pragma: no cover
    sys.exit("atheris is not installed: pip install 'hotpath[fuzz]'")

#: The code whose coverage leads, by target; instrumenting takes longer than a short run.
INSTRUMENTED = {
    "values": ["hotpath.wire"],
    "messages": ["hotpath.wire"],
    "properties": ["hotpath.wire"],
    "sasl": ["hotpath.amqp.sasl", "hotpath.wire"],
    "frames": ["hotpath.amqp.frames", "hotpath.amqp.workarounds", "hotpath.wire"],
    "dispositions": ["hotpath.amqp.outcomes", "hotpath.wire"],
    "requests": ["hotpath.amqp.requests", "hotpath.amqp.management_fields", "hotpath.wire"],
    "addresses": ["hotpath.model"],
    "sas": ["hotpath.auth", "hotpath.model"],
    "jwt": ["hotpath.auth", "jwt"],
    "qel": ["qel"],
    "bodies": ["hotpath.rest", "hotpath.wire", "qel"],
    "amqp": ["hotpath.amqp", "hotpath.wire", "hotpath.service", "hotpath.core"],
}
TARGET = next((word for word in sys.argv[1:] if word in INSTRUMENTED), "amqp")

with (
    atheris.instrument_imports(include=INSTRUMENTED[TARGET]),
    contextlib.redirect_stderr(StringIO()),
):
    from tests.fuzz import attack, mutate, oracle, seeds, world
    from tests.fuzz.frames import split
    from tests.fuzz.targets import TARGETS

#: Inputs of one service; then it is a new one.
WORLD_INPUTS = 500


class AmqpTarget:
    """A service that is kept for some inputs, each a connection of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._watch = oracle.Watch()
        self._watch.__enter__()
        self._runner = asyncio.Runner()
        self._running: contextlib.AbstractAsyncContextManager[world.World] | None = None
        self._world: world.World | None = None
        self._left = 0

    def __call__(self, given: bytes) -> None:
        self._runner.run(self._feed(given))

    async def _feed(self, given: bytes) -> None:
        if self._world is None or not self._left:
            await self._renew()
        assert self._world is not None
        self._left -= 1
        attacker = self._world.attack()
        for read in split(given)[:60]:
            attacker.feed(read)
            await self._world.rest()
        attacker.check()
        await self._world.check_empty([attacker])
        self._watch.check()
        if not self._left % 50:
            await self._world.refill()
            await self._world.check()

    async def _renew(self) -> None:
        if self._running is not None:
            await self._running.__aexit__(None, None, None)
        self._running = world.running_world(self._directory, self._watch)
        self._world = await self._running.__aenter__()
        self._left = WORLD_INPUTS


def change(target: str, given: bytes, seed: int) -> bytes:
    """A change that knows what the bytes mean, beside libFuzzer's own."""
    rng = random.Random(seed)
    if target == "amqp":
        parts = split(given) or [b""]
        at = rng.randrange(len(parts))
        parts[at] = mutate.change_frame(rng, parts[at], [b""])
        return b"".join(parts)
    if target in ("qel", "bodies", "jwt", "sas", "addresses"):
        return mutate.json_text(rng, given)
    return mutate.exchange_in(rng, given, rng.choice(mutate.VALUES))


def corpus_of(target: str) -> list[bytes]:
    """Where libFuzzer begins."""
    if target == "amqp":
        return attack.load_corpus()
    return [*seeds.seeds(target), *(raw for _, raw in seeds.regressions(target))]


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.guided", description=__doc__)
    parser.add_argument("target", choices=list(INSTRUMENTED))
    parser.add_argument("--seconds", type=int, default=60, help="how long")
    parser.add_argument("--runs", type=int, default=-1, help="how many inputs; -1: any number")
    parser.add_argument("--seed", type=int, default=1, help="of everything")
    parser.add_argument("--corpus", type=Path, help="keeps what reached something new")
    parser.add_argument("--failures", type=Path, default=Path("build/fuzz/failures"))
    return parser.parse_args()


def main() -> None:
    options = parse()
    options.failures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        corpus = options.corpus or Path(scratch) / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        for number, raw in enumerate(corpus_of(options.target)):
            (corpus / f"seed-{number}").write_bytes(raw)
        target: Callable[[bytes], object] = TARGETS.get(options.target) or AmqpTarget(Path(scratch))

        def mutator(given: bytes, bytes_max: int, seed: int) -> bytes:
            if seed % 2:
                return bytes(atheris.Mutate(given, bytes_max))
            return change(options.target, given, seed)[:bytes_max]

        flags = [
            f"-max_total_time={options.seconds}", f"-runs={options.runs}", f"-seed={options.seed}",
            f"-artifact_prefix={options.failures}/{options.target}-", "-timeout=30",
            "-rss_limit_mb=1500", "-max_len=8192", "-print_final_stats=1", str(corpus),
        ]  # fmt: skip
        atheris.Setup([sys.argv[0], *flags], target, custom_mutator=mutator)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
