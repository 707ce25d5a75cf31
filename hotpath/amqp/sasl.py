"""What comes before AMQP: protocol headers and SASL, server side (AMQP 1.0 §2.2, §5.3).

Proton's own server side knows neither PLAIN nor MSSBCBS, so this is written out, without IO:

    HEADER ── SASL header ──> INIT ── sasl-init ──> CHECKING ── resolve ──> AMQP ── header ──> DONE
       └────── AMQP header (no SASL: no rights until a token is put) ────────────────────────────┘
    any ── anything else ──> REFUSED   (what `output` holds is sent, then the connection closes)

Clients may send everything up to their first attach without waiting; what is behind the AMQP
header's place is kept for the engine in `rest`, which starts with that header.
"""

from dataclasses import dataclass, field
from enum import Enum
from struct import Struct
from typing import Final, cast

from hotpath.wire.types import (
    Array,
    Described,
    Symbol,
    UByte,
    ULong,
    WireError,
    decode_exact,
    encode,
)

AMQP_HEADER: Final = b"AMQP\x00\x01\x00\x00"
SASL_HEADER: Final = b"AMQP\x03\x01\x00\x00"

#: A sasl-init may carry a whole token; no other frame of a client is larger.
FRAME_BYTES_MAX: Final = 32_768
#: Bytes of a client that does not wait for the outcome.
REST_BYTES_MAX: Final = 262_144

_MECHANISMS: Final = 0x40
_INIT: Final = 0x41
_OUTCOME: Final = 0x44
_OK: Final = 0
_AUTH_FAILED: Final = 1

_frame_head = Struct(">IBBH")


class Stage(Enum):
    """See the module."""

    HEADER = "header"
    INIT = "init"
    CHECKING = "checking"
    AMQP = "amqp"
    DONE = "done"
    REFUSED = "refused"


class Mechanism(Enum):
    """SASL mechanisms in the order in which they are offered."""

    MSSBCBS = "MSSBCBS"
    PLAIN = "PLAIN"
    ANONYMOUS = "ANONYMOUS"
    EXTERNAL = "EXTERNAL"


@dataclass(frozen=True, slots=True)
class Credential:
    """What a client says who it is; user and password are PLAIN's (RFC 4616)."""

    mechanism: Mechanism
    user: str = ""
    password: str = field(default="", repr=False)


class Prelude:
    """The prelude of one connection.

    Attributes:
        stage: Where it stands.
        credential: What must be checked while CHECKING; `resolve` goes on.
        rest: Unread bytes; for the engine when DONE.
        output: Bytes to send; the owner takes and clears them.
        reason: Why it is REFUSED.
    """

    __slots__ = ("_mechanisms", "credential", "output", "reason", "rest", "stage")

    def __init__(self, *, external: bool) -> None:
        self.stage = Stage.HEADER
        self.credential: Credential | None = None
        self.rest = b""
        self.output = b""
        self.reason = ""
        self._mechanisms = [
            each for each in Mechanism if external or each is not Mechanism.EXTERNAL
        ]

    def receive(self, chunk: bytes) -> None:
        """Take in bytes and go as far as they allow."""
        if self.stage is Stage.REFUSED:
            return
        self.rest += chunk
        if self.stage is Stage.CHECKING and len(self.rest) > REST_BYTES_MAX:
            self._refuse("too much was sent before the SASL outcome")
        self._advance()

    def resolve(self, *, accepted: bool) -> None:
        """The credential has been checked."""
        if self.stage is not Stage.CHECKING:
            return
        code = _OK if accepted else _AUTH_FAILED
        self.output += _sasl_frame(_OUTCOME, [UByte(code)])
        if not accepted:
            self._refuse("the credential is wrong")
            return
        self.stage = Stage.AMQP
        self._advance()

    def _advance(self) -> None:
        """Take steps until one lacks bytes or waits for something else."""
        while True:
            before = self.stage
            match self.stage:
                case Stage.HEADER:
                    self._read_first_header()
                case Stage.INIT:
                    self._read_init()
                case Stage.AMQP:
                    self._read_amqp_header()
                case _:
                    return
            if self.stage is before:
                return

    def _read_first_header(self) -> None:
        header = self.rest[:8]
        if header == SASL_HEADER:
            self.rest = self.rest[8:]
            names = Array(0xA3, tuple(Symbol(each.value) for each in self._mechanisms))
            self.output += SASL_HEADER + _sasl_frame(_MECHANISMS, [names])
            self.stage = Stage.INIT
        elif header == AMQP_HEADER:
            self.stage = Stage.DONE
        elif not (SASL_HEADER.startswith(header) or AMQP_HEADER.startswith(header)):
            # §2.2: say what is supported, then close.
            self.output += SASL_HEADER
            self._refuse("no protocol header that is supported")

    def _read_amqp_header(self) -> None:
        header = self.rest[:8]
        if header == AMQP_HEADER:
            self.stage = Stage.DONE
        elif not AMQP_HEADER.startswith(header):
            self.output += AMQP_HEADER
            self._refuse("no AMQP header after SASL")

    def _read_init(self) -> None:
        if len(self.rest) < 8:
            return
        size, doff, kind, _ = _frame_head.unpack_from(self.rest)
        if kind != 1 or doff < 2 or not doff * 4 <= size <= FRAME_BYTES_MAX:
            self._refuse("malformed SASL frame")
            return
        if len(self.rest) < size:
            return
        body, self.rest = self.rest[doff * 4 : size], self.rest[size:]
        try:
            self.credential = self._read_credential(body)
        except WireError as error:
            self.output += _sasl_frame(_OUTCOME, [UByte(_AUTH_FAILED)])
            self._refuse(error.detail)
            return
        self.stage = Stage.CHECKING

    def _read_credential(self, body: bytes) -> Credential:
        """Read a sasl-init (§5.3.3.2). Raises WireError."""
        value = decode_exact(body)
        if not isinstance(value, Described) or value.descriptor not in (
            _INIT,
            "amqp:sasl-init:list",
        ):
            raise WireError("sasl-init expected")
        if not isinstance(value.value, list):
            raise WireError("sasl-init is no list")
        fields = [*cast("list[object]", value.value), None, None]
        offered = {each.value: each for each in self._mechanisms}
        mechanism = offered.get(str(fields[0]))
        if mechanism is None:
            raise WireError("the SASL mechanism is not one of those offered")
        if mechanism is not Mechanism.PLAIN:
            return Credential(mechanism)
        return _read_plain(fields[1])

    def _refuse(self, reason: str) -> None:
        self.stage = Stage.REFUSED
        self.reason = reason
        self.rest = b""


def _read_plain(response: object) -> Credential:
    """Authorization identity, user and password, parted by NUL (RFC 4616). Raises WireError."""
    if not isinstance(response, bytes):
        raise WireError("PLAIN needs an initial response")
    parts = response.split(b"\x00")
    if len(parts) != 3:
        raise WireError("malformed PLAIN response")
    try:
        user, password = parts[1].decode(), parts[2].decode()
    except UnicodeDecodeError:
        raise WireError("PLAIN response is no UTF-8") from None
    return Credential(Mechanism.PLAIN, user, password)


def _sasl_frame(code: int, fields: list[object]) -> bytes:
    body = encode(Described(ULong(code), fields))
    return _frame_head.pack(8 + len(body), 2, 1, 0) + body
