"""The command line: `python -m qel check|match|explain --type TYPE 'EXPR' [FILE or -]`.

Exit codes: 0 done, 1 the filter is wrong or a line could not be read, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO, NamedTuple, TextIO

from qel.compiler import Filter, compile_filter
from qel.errors import QelError
from qel.schema import TOPICS
from qel.values import Message, Truth

LINE_BYTES_MAX = 16 * 1024 * 1024
"""A longer line is reported and passed over."""

_VERDICTS = {True: "matches", False: "does not match", None: "unknown, does not match"}


class Line(NamedTuple):
    """A line of the input that holds a message."""

    number: int
    text: str
    message: Message


class LineReader:
    """Reads NDJSON; lines that hold no JSON object are reported, counted and passed over."""

    def __init__(self, stream: BinaryIO, errors: TextIO) -> None:
        self._stream = stream
        self._errors = errors
        self.refused = 0

    def __iter__(self) -> Iterator[Line]:
        number = 0
        while raw := self._stream.readline(LINE_BYTES_MAX + 1):
            number += 1
            if len(raw) > LINE_BYTES_MAX:
                self._skip_rest(raw)
                self._refuse(number, f"longer than {LINE_BYTES_MAX} bytes")
            elif raw.strip():
                try:
                    yield Line(number, raw.decode().rstrip("\r\n"), read_message(raw))
                except (ValueError, RecursionError) as error:
                    self._refuse(number, str(error))

    def _skip_rest(self, raw: bytes) -> None:
        while raw and not raw.endswith(b"\n"):
            raw = self._stream.readline(LINE_BYTES_MAX)

    def _refuse(self, number: int, why: str) -> None:
        self.refused += 1
        _print(f"line {number}: {why}", file=self._errors)


def read_message(raw: bytes) -> Message:
    """Read a JSON object.

    Raises:
        ValueError: it is none, or no UTF-8.
        RecursionError: it is nested too deeply.
    """
    message = json.loads(raw.decode())
    if not isinstance(message, dict):
        raise ValueError("a message is a JSON object")  # noqa: TRY004 -- it is the text that is wrong
    return message


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    options = _options().parse_args(arguments)
    try:
        chosen = compile_filter(options.expression, options.type)
    except QelError as error:
        _report(error, as_json=options.json)
        return 1
    if options.command == "check":
        _check(chosen, as_json=options.json)
        return 0
    try:
        return _read(chosen, options)
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing may be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        _print(f"{options.file}: {error.strerror}", file=sys.stderr)
        return 1


def _print(line: object, file: TextIO | None = None) -> None:
    (file or sys.stdout).write(f"{line}\n")


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m qel", description="Try QEL filters.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--type", required=True, choices=TOPICS, help="topic of the messages")
    shared.add_argument("--json", action="store_true", help="print JSON lines")
    shared.add_argument("expression", metavar="EXPR", help="the filter")
    commands.add_parser("check", parents=[shared], help="print the filter's canonical text")
    for name, purpose in (("match", "print the messages that match"), ("explain", "say why")):
        command = commands.add_parser(name, parents=[shared], help=purpose)
        command.add_argument(
            "file", nargs="?", default="-", metavar="FILE", help="NDJSON; - is standard input"
        )
    return parser


def _report(error: QelError, *, as_json: bool) -> None:
    if as_json:
        problems = [
            {"detail": one.detail, "line": one.line, "column": one.column} for one in error.errors
        ]
        _print(json.dumps({"valid": False, "errors": problems}))
    else:
        _print(error, file=sys.stderr)


def _check(chosen: Filter, *, as_json: bool) -> None:
    _print(json.dumps({"valid": True, "canonical": str(chosen)}) if as_json else chosen)


def _read(chosen: Filter, options: argparse.Namespace) -> int:
    with (
        nullcontext(sys.stdin.buffer)
        if options.file == "-"
        else Path(options.file).open("rb") as stream
    ):
        lines = LineReader(stream, sys.stderr)
        for line in lines:
            if options.command == "explain":
                _explain(chosen, line, as_json=options.json)
            elif chosen.matches(line.message):
                _print(line.text)
    sys.stdout.flush()
    return 1 if lines.refused else 0


def _explain(chosen: Filter, line: Line, *, as_json: bool) -> None:
    explanation = chosen.explain(line.message)
    truth: Truth = explanation.truth
    if as_json:
        answer = {"line": line.number, "matches": truth, "because": explanation.because}
        _print(json.dumps(answer))
    else:
        _print(f"line {line.number} {_VERDICTS[truth]}: {explanation.because}")


if __name__ == "__main__":  # pragma: no cover -- tested in a process of its own
    sys.exit(main())
