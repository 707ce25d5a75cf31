"""Request bodies: bounded reading, and JSON that is stricter than Python's.

Refused beyond what JSON forbids: NaN and Infinity, a name twice in one object, lone surrogates,
numbers of thousands of digits. Each is read differently by different programs, and a filter must
see what a receiver will see.
"""

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator, Iterator
from typing import Final, TypeGuard, cast

from aiohttp import web
from aiohttp.client_exceptions import ClientPayloadError
from pydantic import BaseModel, ValidationError

from hotpath.model.errors import Invalid, TooLarge, Violation

JSON_TYPE: Final = "application/json"
#: JSON of the Streaming API, which speaks JSON:API where it is asked to.
JSON_API_TYPE: Final = "application/vnd.api+json"
STREAMING: Final = "/streaming/"
#: Time in which a whole body, or the next part of a stream, must come; set by the server.
BODY_SECONDS: Final = web.AppKey("body_seconds", float)
#: A body that may be large has a second more for each of these.
_BYTES_A_SECOND: Final = 65_536

#: What a caller is told whose body is slow.
LATE: Final = "the body did not come in time"
_BLANK: Final = re.compile(r"[ \t\n\r]*")
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_CHARSET: Final = re.compile(r';\s*charset\s*=\s*"?([^";\s]+)', re.IGNORECASE)
_MODEL_ERRORS: Final = {
    "missing": "{name} is required",
    "float_type": "{name} must be a number",
    "finite_number": "{name} must be a finite number",
    "string_type": "{name} must be a string",
    "string_unicode": "{name} must be valid Unicode",
    "list_type": "{name} must be an array",
    "too_short": "{name} must not be empty",
    "string_too_short": "{name} must not be empty",
    "string_too_long": "{name} is too long",
    "dict_type": "{name} must be an object",
    "literal_error": "{name} must be one of {expected}",
}


def refuse(detail: str, pointer: str | None = None, **meta: object) -> Invalid:
    """One violation as an error to raise."""
    return Invalid([Violation(detail, pointer, dict(meta))])


# Bytes


def content_type(request: web.Request) -> str:
    """The media type of a body, JSON when it is missing. Raises Invalid for a foreign charset."""
    text = request.headers.get("Content-Type", "")
    if not text.strip():
        return JSON_TYPE
    charset = _CHARSET.search(text)
    if charset is not None and charset[1].lower() not in {"utf-8", "utf8", "us-ascii"}:
        raise refuse("the body must be UTF-8")
    kind = text.partition(";")[0].strip().lower()
    is_json = kind == JSON_API_TYPE and request.path.startswith(STREAMING)
    return JSON_TYPE if is_json else kind


def check_encoding(request: web.Request) -> None:
    """Refuse compressed bodies: their size says nothing. Raises Invalid."""
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in {"", "identity"}:
        raise refuse("a compressed body (Content-Encoding) is not supported")


async def read_body(request: web.Request, *, bytes_max: int) -> bytes:
    """The whole body. Raises TooLarge, or Invalid when it does not come."""
    check_encoding(request)
    declared = request.content_length
    if declared is not None and declared > bytes_max:
        raise _too_large(bytes_max)
    if declared is not None and request.content.is_eof() and request.content.exception() is None:
        return request.content.read_nowait()  # it came with the head: nothing to wait for
    body = bytearray()
    try:
        # Beside the time for each part: one byte now and then is no progress.
        async with asyncio.timeout(request.app[BODY_SECONDS] + bytes_max / _BYTES_A_SECOND):
            async for part in parts(request):
                body += part
                if len(body) > bytes_max:
                    raise _too_large(bytes_max)
    except TimeoutError:
        raise refuse(LATE) from None
    return bytes(body)


async def parts(request: web.Request) -> AsyncIterator[bytes]:
    """The body as it comes. Raises Invalid when it stops coming."""
    try:
        while not request.content.at_eof():
            async with asyncio.timeout(request.app[BODY_SECONDS]):
                part = await request.content.readany()
            if part:
                yield part
    except TimeoutError:
        raise refuse(LATE) from None
    except (web.RequestPayloadError, ClientPayloadError, ConnectionError):
        raise refuse("the body is incomplete") from None


def _too_large(bytes_max: int) -> TooLarge:
    return TooLarge(f"the payload is larger than {bytes_max} bytes", limit_bytes=bytes_max)


async def read_object(
    request: web.Request, *, bytes_max: int, required: bool = True
) -> dict[str, object]:
    """A JSON object as the body; {} for none where none is required.

    Raises Invalid or TooLarge.
    """
    body = await read_body(request, bytes_max=bytes_max)
    if not body.strip() and not required:
        return {}
    if content_type(request) != JSON_TYPE:
        raise refuse(f"the content type must be {JSON_TYPE}")
    text = decode(body)
    if not text.strip():
        raise refuse("a JSON object is needed as the body")
    value, _ = parse_whole(text)
    if not isinstance(value, dict):
        raise refuse("the body must be a JSON object")
    return cast("dict[str, object]", value)


# JSON


class _NotStrict(ValueError):
    """Text that JSON allows, or Python does, and this API does not."""


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _NotStrict("an object has a name twice")
    return members


def _no_constant(name: str) -> object:
    raise _NotStrict(f"{name} is no JSON")


_decoder: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def decode(body: bytes) -> str:
    """A body as text, without a byte order mark. Raises Invalid."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refuse(f"the body is not UTF-8 at byte {error.start}") from None


def parse_whole(text: str) -> tuple[object, str]:
    """A value that is all of a text, and its own text without blanks around. Raises Invalid."""
    start = skip_blank(text, 0)
    value, end = parse_at(text, start)
    if skip_blank(text, end) != len(text):
        raise refuse(f"malformed JSON: there is more behind the value, {place(text, end)}")
    return value, text[start:end]


def parse_at(text: str, start: int) -> tuple[object, int]:
    """The JSON value at a place, and where it ends. Raises Invalid."""
    try:
        value, end = _decoder.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise refuse(f"malformed JSON: {error.msg.lower()}, {place(text, error.pos)}") from None
    except _NotStrict as error:
        raise refuse(f"malformed JSON: {error}") from None
    except ValueError:
        raise refuse("malformed JSON: a number has too many digits") from None
    except RecursionError:
        raise refuse("malformed JSON: nested too deep") from None
    if _SURROGATE.search(text, start, end) and not _is_unicode(value):
        raise refuse("malformed JSON: a string holds half of a surrogate pair")
    return value, end


def elements(text: str, start: int) -> Iterator[tuple[object, str]]:
    """The values of the JSON array at a place, which ends the text, each with its own text.

    Raises Invalid, with the index of the element that cannot be read.
    """
    at = skip_blank(text, start + 1)
    if text[at : at + 1] == "]":
        _check_end(text, at + 1)
        return
    index = 0
    while True:
        try:
            value, end = parse_at(text, at)
        except Invalid as error:
            raise refuse(f"element {index}: {error.detail}", f"/{index}") from None
        yield value, text[at:end]
        at = skip_blank(text, end)
        index += 1
        if text[at : at + 1] == "]":
            _check_end(text, at + 1)
            return
        if text[at : at + 1] != ",":
            raise refuse(f"malformed JSON: expected , or ], {place(text, at)}", f"/{index}")
        at = skip_blank(text, at + 1)


def _check_end(text: str, at: int) -> None:
    if skip_blank(text, at) != len(text):
        raise refuse(f"malformed JSON: there is more behind the array, {place(text, at)}")


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a parsed value is a number: no boolean, and finite."""
    # An integer is finite, even one that no float can hold.
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def skip_blank(text: str, at: int) -> int:
    """The first place from `at` on that holds no JSON white space."""
    found = _BLANK.match(text, at)
    return at if found is None else found.end()


def place(text: str, at: int) -> str:
    """A place in words."""
    line = text.count("\n", 0, at) + 1
    return f"line {line} column {at - text.rfind(chr(10), 0, at)}"


def _is_unicode(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


# Models


def violations_of(error: ValidationError, model: type[BaseModel]) -> list[Violation]:
    """Everything that a model finds wrong, in words, each with a JSON pointer."""
    return [_violation(dict(found), model) for found in error.errors(include_url=False)]


def _violation(found: dict[str, object], model: type[BaseModel]) -> Violation:
    location = cast("tuple[str | int, ...]", found["loc"])
    name = str(location[0]) if location else "the body"
    pointer = "".join(f"/{escape_pointer(str(part))}" for part in location)
    kind = str(found["type"])
    if kind in {"greater_than_equal", "less_than_equal"}:
        return Violation(f"{name} must be {_range_of(model, name)}", pointer)
    context = found.get("ctx")
    expected = context.get("expected", "") if isinstance(context, dict) else ""
    wording = _MODEL_ERRORS.get(kind, "{name} is not valid")
    subject = name if len(location) < 2 else "/".join(map(str, location))
    return Violation(wording.format(name=subject, expected=expected), pointer)


def _range_of(model: type[BaseModel], name: str) -> str:
    """The bounds of a number as the schema shows them."""
    schema = model.model_json_schema()["properties"][name]
    variants = [schema, *schema.get("anyOf", ())]
    bounds = next(variant for variant in variants if "minimum" in variant)
    if "maximum" in bounds:
        return f"between {bounds['minimum']} and {bounds['maximum']}"
    return f"at least {bounds['minimum']}"


def escape_pointer(name: str) -> str:
    """A name as a part of a JSON pointer (RFC 6901 §3)."""
    return name.replace("~", "~0").replace("/", "~1")
