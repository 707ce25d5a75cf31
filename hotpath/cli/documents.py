"""JSON documents out of bytes: one object, an array of objects, or one object a line."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Final, NamedTuple, cast

from hotpath.cli.lines import LineTooLong, read_chunks, read_lines
from hotpath.client.message import BadMessage, read_object

#: A file that is one JSON value is read as a whole; NDJSON has no limit.
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
WHOLE_BYTES_MAX: Final = 512 * 1024 * 1024


class BadInput(ValueError):
    """The input is not what it should be; says where."""


class Document(NamedTuple):
    """One object of the input."""

    number: int
    """Its line, or its position in an array, from 1."""
    value: dict[str, object]
    text: bytes | None = None
    """The JSON it was read from, where that stood alone."""


async def read_documents(
    descriptor: int, *, on_bytes: Callable[[int], None] = lambda _: None
) -> AsyncIterator[Document]:
    """The objects of a file descriptor, each with its line, or in an array with its position.

    The first line decides: an object that ends with it begins NDJSON.

    Raises:
        BadInput: where the first fault is; everything before it has been given.
    """

    async def counted() -> AsyncIterator[bytes]:
        async for chunk in read_chunks(descriptor):
            on_bytes(len(chunk))
            yield chunk

    try:
        async for document in _read(read_lines(counted())):
            yield document
    except LineTooLong as error:
        raise BadInput(str(error)) from None
    except OSError as error:
        raise BadInput(f"cannot read on: {error.strerror}") from None


async def _read(lines: AsyncIterator[tuple[int, bytes]]) -> AsyncIterator[Document]:
    is_first = True
    async for number, line in lines:
        if is_first and _opens_whole(line):
            async for document in _read_whole(lines, number, line):
                yield document
            return
        is_first = False
        yield _parse(number, line)


def _parse(number: int, line: bytes) -> Document:
    text = line.removeprefix(BYTE_ORDER_MARK).strip()
    try:
        return Document(number, read_object(text), text)
    except BadMessage as error:
        raise BadInput(f"line {number}: {error}") from None


def _opens_whole(line: bytes) -> bool:
    """Whether the first line begins an array, or an object that goes on in the next lines."""
    start = line.removeprefix(BYTE_ORDER_MARK).lstrip()
    if start.startswith(b"["):
        return True
    if not start.startswith(b"{"):
        return False
    try:
        json.loads(line)
    except json.JSONDecodeError as error:
        # Cut off at its end: there is more to come. A fault before that is one of this line.
        return error.pos >= len(error.doc.rstrip())
    except (ValueError, RecursionError):
        return False
    return False


async def _read_whole(
    lines: AsyncIterator[tuple[int, bytes]], number: int, first: bytes
) -> AsyncIterator[Document]:
    # Blank lines were left out; newlines in their place keep the line numbers of complaints.
    parts = [b"\n" * (number - 1), first.removeprefix(BYTE_ORDER_MARK)]
    size, previous = len(first), number
    async for number, line in lines:  # noqa: PLR1704 -- goes on where the first line was
        parts.append(b"\n" * (number - previous) + line)
        previous = number
        size += len(line)
        if size > WHOLE_BYTES_MAX:
            raise BadInput("a JSON value over 512 MiB: use NDJSON, one object a line")
    value = _load(b"".join(parts))
    if isinstance(value, dict):
        yield Document(1, cast("dict[str, object]", value))
        return
    for position, element in enumerate(cast("list[object]", value), start=1):
        if not isinstance(element, dict):
            raise BadInput(f"element {position} of the array is no object")
        yield Document(position, cast("dict[str, object]", element))


def _load(text: bytes) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput(
            f"line {error.lineno}: no JSON: {error.msg} at column {error.colno}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"no JSON: {error}") from None
