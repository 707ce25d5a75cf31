"""Reading an endpoint's answer: its status, its `Retry-After`, and where it ends.

HTTP/1.1 (RFC 9112) as a client needs it that looks at no body: the head is parsed, the body is
counted and thrown away so that the connection can be used again. Bytes in, no IO.

    HEAD → (1xx) HEAD → BODY, CHUNK_SIZE ⇄ CHUNK → TRAILER, UNTIL_CLOSE → DONE

From the end of the head on the outcome is known (`status`); whatever happens to the body later
only decides whether the connection is good for another request. Any bytes lead to DONE, to
`BadAnswer`, or to waiting for more; memory is bounded by `HEAD_MAX`.
"""

import re
from enum import Enum
from typing import Final

#: Longest head, trailer or chunk size line, bytes; interim answers count.
HEAD_MAX: Final = 16_384
#: Bytes of a body that are read at most.
BODY_MAX: Final = 65_536

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\r\n]*)?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.DOTALL)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")
_LENGTH = re.compile(rb"[0-9]{1,18}")


class BadAnswer(Exception):
    """The bytes are no HTTP answer; the text says why."""


class _State(Enum):
    HEAD = "head"
    BODY = "body"
    UNTIL_CLOSE = "until close"
    CHUNK_SIZE = "chunk size"
    CHUNK = "chunk"
    TRAILER = "trailer"
    DONE = "done"


class AnswerReader:
    """Reads one answer.

    Attributes:
        status: The final status, once the head is complete.
        retry_after: The header, if there was one.
        done: The answer is complete, or enough of it was read.
        reusable: Once done: the connection is good for another request.
    """

    __slots__ = (
        "_body_read",
        "_buffer",
        "_head_read",
        "_left",
        "_state",
        "retry_after",
        "reusable",
        "status",
    )

    def __init__(self) -> None:
        self.status: int | None = None
        self.retry_after: str | None = None
        self.reusable = False
        self._state = _State.HEAD
        self._buffer = b""
        self._head_read = 0
        self._body_read = 0
        self._left = 0

    @property
    def done(self) -> bool:
        """Nothing more is wanted."""
        return self._state is _State.DONE

    @property
    def begun(self) -> bool:
        """Whether any byte has come."""
        return bool(self._buffer) or self._head_read > 0 or self.status is not None

    def feed(self, received: bytes) -> None:
        """Take in what was received. Raises BadAnswer."""
        self._buffer = self._buffer + received if self._buffer else received
        while self._step():
            pass
        if self._state is _State.DONE and self._buffer:
            # More than one answer to one request: nothing on this connection can be trusted.
            self.reusable = False

    def end(self) -> None:
        """The peer has closed. Raises BadAnswer when that cuts the answer short in its head."""
        self.reusable = False
        if self.status is None:
            raise BadAnswer("the connection was closed before the answer was complete")
        self._state = _State.DONE

    def _step(self) -> bool:
        """Go on by one state; False when that needs more bytes, or there is no need."""
        match self._state:
            case _State.HEAD:
                return self._head()
            case _State.BODY | _State.CHUNK | _State.UNTIL_CLOSE:
                return self._body()
            case _State.CHUNK_SIZE:
                return self._chunk_size()
            case _State.TRAILER:
                return self._trailer()
            case _State.DONE:
                return False

    # The head

    def _head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end + 4 + self._head_read > HEAD_MAX or (end < 0 and len(self._buffer) > HEAD_MAX):
            raise BadAnswer(f"the head of the answer is over {HEAD_MAX} bytes")
        if end < 0:
            if not b"HTTP/1.".startswith(self._buffer[:7]):
                raise BadAnswer("the answer is not HTTP/1.1")
            return False
        head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
        self._head_read += end + 4
        first, *lines = head.split(b"\r\n")
        match = _STATUS.fullmatch(first)
        if match is None:
            raise BadAnswer("the answer is not HTTP/1.1")
        status = int(match[2])
        if status == 101:
            raise BadAnswer("the endpoint wants to switch protocols")
        if status >= 200:
            self._begin_body(status, _fields(lines), keeps=match[1] == b"1")
        return True

    def _begin_body(self, status: int, fields: dict[bytes, bytes], *, keeps: bool) -> None:
        """Find out where the body ends (RFC 9112 §6.3)."""
        tokens = {token.strip() for token in fields.get(b"connection", b"").lower().split(b",")}
        self.reusable = b"close" not in tokens and (keeps or b"keep-alive" in tokens)
        coding, length = fields.get(b"transfer-encoding"), fields.get(b"content-length")
        if coding is not None and length is not None:
            self.reusable = False  # RFC 9112 §6.1: may be an attempt to smuggle
        if status in (204, 304):
            self._state = _State.DONE
        elif coding is not None:
            chunked = coding.lower().split(b",")[-1].strip() == b"chunked"
            self._state = _State.CHUNK_SIZE if chunked else _State.UNTIL_CLOSE
        elif length is not None:
            self._left = _content_length(length)
            self._state = _State.BODY
        else:
            self._state = _State.UNTIL_CLOSE
        self.status = status
        retry_after = fields.get(b"retry-after")
        if retry_after is not None:
            self.retry_after = retry_after[:100].decode("latin-1")

    # The body

    def _body(self) -> bool:
        """Count body bytes; enough is enough."""
        until_close = self._state is _State.UNTIL_CLOSE
        taken = len(self._buffer) if until_close else min(self._left, len(self._buffer))
        self._buffer = self._buffer[taken:]
        self._body_read += taken
        if self._body_read > BODY_MAX:
            return self._enough()
        if until_close:
            return False
        self._left -= taken
        if self._left > BODY_MAX - self._body_read:
            return self._enough()
        if self._left:
            return False
        self._state = _State.DONE if self._state is _State.BODY else _State.CHUNK_SIZE
        return True

    def _chunk_size(self) -> bool:
        line = self._line()
        if line is None:
            return False
        if not line and self._body_read:
            return True  # The line end behind a chunk's bytes.
        match = _CHUNK.fullmatch(line)
        if match is None:
            return self._enough()
        self._left = int(match[1], 16)
        if self._left > BODY_MAX - self._body_read:
            return self._enough()
        self._state = _State.CHUNK if self._left else _State.TRAILER
        return True

    def _trailer(self) -> bool:
        line = self._line()
        if line is None:
            return False
        if not line:
            self._state = _State.DONE
        return True

    def _line(self) -> bytes | None:
        """The next line, or None when it is not all there."""
        line, separator, rest = self._buffer.partition(b"\r\n")
        if not separator:
            if len(self._buffer) > HEAD_MAX - self._head_read:
                self._enough()
            return None
        self._buffer = rest
        self._head_read += len(line) + 2
        if self._head_read > HEAD_MAX + BODY_MAX:
            self._enough()
            return None
        return line

    def _enough(self) -> bool:
        """The rest is not wanted: too much of it, or nonsense."""
        self._buffer = b""
        self.reusable = False
        self._state = _State.DONE
        return False


def _fields(lines: list[bytes]) -> dict[bytes, bytes]:
    """Header fields by lower-case name; of a repeated one all values. Raises BadAnswer."""
    fields: dict[bytes, bytes] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise BadAnswer("the answer has a damaged header")
        name = match[1].lower()
        fields[name] = fields[name] + b"," + match[2] if name in fields else match[2]
    return fields


def _content_length(value: bytes) -> int:
    """The length; one that is repeated must be the same (RFC 9112 §6.3). Raises BadAnswer."""
    values = {part.strip() for part in value.split(b",")}
    if len(values) != 1 or not _LENGTH.fullmatch(min(values)):
        raise BadAnswer("the answer has no valid Content-Length")
    return int(min(values))
