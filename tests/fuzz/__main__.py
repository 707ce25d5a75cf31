"""The mass run: `make fuzz`, or `python -m tests.fuzz --inputs 10000000 --workers 2`.

Inputs are what `attack` calls so: mutated byte sequences that connections are fed. Epochs are
dealt out to worker processes; each prints a line when it has begun one and when it has ended it.
The same seed always means the same epochs. What is done is kept in a file, so that a run that was
stopped goes on where it was. A worker that dies (a crash in a C library) is a finding too.
"""

import argparse
import asyncio
import faulthandler
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tests.fuzz import attack, oracle

#: An epoch that takes longer hangs; its stack is shown.
EPOCH_SECONDS = 900
PROGRESS_SECONDS = 10
MiB = 1_048_576
#: A worker may grow by so much from its tenth epoch on.
GROWTH_MAX = 48 * MiB
SETTLED_EPOCHS = 10


def run_epochs(seed: str, epochs: Iterator[int], options: argparse.Namespace) -> int:
    """Run epochs and tell about each; the exit code."""
    corpus, level, base = attack.load_corpus(), 0, 0
    # As the service itself does: few cycles are made, and walking all objects often is slow.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    with tempfile.TemporaryDirectory() as directory, oracle.Watch() as watch:
        for done, epoch in enumerate(epochs):
            faulthandler.dump_traceback_later(EPOCH_SECONDS, exit=True)
            say({"begun": epoch})
            found = attack.run_epoch(
                f"{seed}/{epoch}", corpus, watch,
                directory=Path(directory), inputs=options.epoch_inputs, journal=options.journal,
            )  # fmt: skip
            try:
                tally = asyncio.run(found)
            except attack.Found as violation:
                keep(violation, f"{seed}-{epoch}", options.failures)
                say({"violation": epoch, "text": str(violation)[:4_000]})
                continue
            level = oracle.resident_bytes()
            base = level if done == SETTLED_EPOCHS else base
            say({"ended": epoch, "resident": level, "tally": asdict(tally)})
            if base and level - base > GROWTH_MAX:
                say({"violation": epoch, "text": f"the process grew from {base} to {level} bytes"})
                base = level
    return 0


def say(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)


def keep(violation: attack.Found, name: str, directory: Path) -> None:
    """Write the streams of a finding: one file a connection, those first that do it alone."""
    directory.mkdir(parents=True, exist_ok=True)
    for number, stream in enumerate(violation.streams):
        alone = violates_alone(stream)
        file = directory / f"{name}-{'alone' if alone else 'with-others'}-{number}.json"
        file.write_text(json.dumps([read.hex() for read in stream], indent=0))


def violates_alone(stream: list[bytes]) -> bool:
    """Whether a connection does it without the others, in a service of its own."""
    with tempfile.TemporaryDirectory() as directory, oracle.Watch() as watch:
        try:
            asyncio.run(attack.replay(stream, watch, directory=Path(directory)))
        except Exception:  # noqa: BLE001  # whatever it is, it is what is looked for
            return True
    return False


class Worker:
    """A process that runs every n-th epoch.

    Attributes:
        epoch: The one that it is at.
    """

    def __init__(self, number: int, done: set[int], options: argparse.Namespace) -> None:
        self.epoch = -1
        self._number = number
        self._step = options.workers
        first = number
        while first in done:
            first += self._step
        command = [
            sys.executable, "-m", "tests.fuzz", "--worker", str(first), "--seed", options.seed,
            "--workers", str(options.workers), "--epoch-inputs", str(options.epoch_inputs),
            "--failures", str(options.failures),
        ]  # fmt: skip
        env = {**os.environ, "PYTHONHASHSEED": "0"}
        # Proton writes there what it thinks of its peers.
        with (options.state / f"worker-{number}.log").open("ab") as errors:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, env=env
            )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._rest = b""

    def lines(self) -> list[dict]:
        """What it has said since the last time."""
        assert self._process.stdout is not None
        chunk = self._process.stdout.read() or b""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        found = [json.loads(line) for line in lines]
        for line in found:
            self.epoch = line.get("begun", self.epoch)
        return found

    def died(self) -> int | None:
        """Its exit code, once it is gone."""
        return self._process.poll()

    def stop(self) -> None:
        """End it."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        self._process.wait()


class Run:
    """A whole run: what is done, what was found.

    Attributes:
        tally: Sum of all epochs, those of earlier runs with the same seed too.
        violations: What was found, in words.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.tally = attack.Tally()
        self.violations: list[str] = []
        self.done: set[int] = set()
        self.resident: dict[int, list[int]] = {}
        self._options = options
        self._state = options.state / f"fuzz-{options.seed}-{options.epoch_inputs}.jsonl"
        self._began = time.monotonic()
        self._before = 0

    def resume(self) -> None:
        """Take in what was done before."""
        self._options.state.mkdir(parents=True, exist_ok=True)
        if self._state.exists():
            for line in self._state.read_text().splitlines():
                self._take(json.loads(line))
            self._before = self.tally.inputs

    def note(self, worker: int, line: dict) -> None:
        """Keep what a worker says."""
        if "resident" in line:
            self.resident.setdefault(worker, []).append(line["resident"])
        if "begun" not in line:
            with self._state.open("a") as state:
                state.write(json.dumps(line) + "\n")
            self._take(line)

    def _take(self, line: dict) -> None:
        if "ended" in line:
            self.done.add(line["ended"])
            self.tally.add(attack.Tally(**line["tally"]))
        else:
            self.done.add(line["violation"])
            text = f"epoch {line['violation']}: {line['text']}"
            self.violations.append(text)
            print(f"VIOLATION seed {self._options.seed} {text}", flush=True)

    @property
    def finished(self) -> bool:
        """Enough has been fed, or it has taken long enough."""
        late = self._options.seconds and self.seconds >= self._options.seconds
        return self.tally.inputs >= self._options.inputs or bool(late)

    @property
    def seconds(self) -> float:
        """Since the beginning of this run."""
        return time.monotonic() - self._began

    def report(self) -> str:
        """How things stand, on one line."""
        tally, fresh = self.tally, self.tally.inputs - self._before
        resident = ", ".join(
            f"{levels[0] // MiB}..{levels[-1] // MiB}" for levels in self.resident.values()
        )
        return (
            f"{self.seconds:6.0f} s  {tally.inputs:,} inputs  {fresh / max(self.seconds, 1):,.0f}/s  "
            f"{tally.connections:,} connections  {tally.fed_bytes:,} bytes fed  "
            f"{tally.answered_bytes:,} answered  kinds {tally.by_kind}  "
            f"turns at most {tally.turns_max}  resident MiB {resident}  "
            f"epochs {len(self.done)}  violations {len(self.violations)}"
        )


def supervise(options: argparse.Namespace) -> int:
    """Run workers until enough is done; the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    run = Run(options)
    run.resume()
    print(f"seed {options.seed}, {options.workers} workers, {options.inputs:,} inputs", flush=True)
    workers = {number: Worker(number, run.done, options) for number in range(options.workers)}
    told = 0.0
    try:
        while not run.finished:
            time.sleep(0.2)
            for number, worker in workers.items():
                for line in worker.lines():
                    run.note(number, line)
                if worker.died() is not None:
                    text = f"the process ended with {worker.died()}; see --epoch"
                    run.note(number, {"violation": worker.epoch, "text": text})
                    workers[number] = Worker(number, run.done, options)
            if run.seconds - told >= PROGRESS_SECONDS:
                told = run.seconds
                print(run.report(), flush=True)
    finally:
        for worker in workers.values():
            worker.stop()
    print(f"end: {run.report()}", flush=True)
    return 1 if run.violations else 0


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000_000, help="how many in all")
    parser.add_argument("--seconds", type=int, default=0, help="stop after so long; 0: never")
    parser.add_argument("--seed", default="1", help="of everything")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--epoch-inputs", type=int, default=attack.EPOCH_INPUTS)
    parser.add_argument("--state", type=Path, default=Path("build/fuzz"), help="what is done")
    parser.add_argument("--failures", type=Path, default=Path("build/fuzz/failures"))
    parser.add_argument("--epoch", type=int, help="run this epoch alone, here")
    parser.add_argument("--journal", type=Path, help="with --epoch: what is fed, before it is")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    options = parse()
    if options.epoch is not None:
        return run_epochs(options.seed, iter([options.epoch]), options)
    if options.worker is not None:
        epochs = iter(range(options.worker, 10**9, options.workers))
        return run_epochs(options.seed, epochs, options)
    return supervise(options)


if __name__ == "__main__":
    sys.exit(main())
