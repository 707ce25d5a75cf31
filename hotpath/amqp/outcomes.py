"""What a receiver says about deliveries, and what it is answered (amqp-core-messaging §3.4).

An outcome comes from Proton's delivery or from the bytes of a disposition, as the variant of the
link ends has it (`hotpath.amqp.ends`), and is the same value either way.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, cast

from hotpath.amqp import capi, codec
from hotpath.amqp.conditions import Condition
from hotpath.wire.types import Described, Symbol, UInt, ULong, WireError, decode, encode

_DISPOSITION: Final = 0x15
_ERROR: Final = ULong(0x1D)
#: Bytes of an encoded outcome: with it a disposition fits the smallest frame that a peer may ask
#: for (512, §2.7.1).
ENCODED_MAX: Final = 470

#: Outcomes that end a delivery's way, whether its receiver has settled it or waits for us.
TERMINAL: Final = frozenset((capi.ACCEPTED, capi.REJECTED, capi.RELEASED, capi.MODIFIED))
#: The same, encoded without a field.
ENCODED: Final = {state: encode(Described(ULong(state), [])) for state in TERMINAL}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One outcome."""

    state: int
    """The code of the delivery state; 0 for none."""
    settled: bool
    """The receiver has settled, and waits for no answer."""
    error: Condition | None = None
    """Why it was rejected."""
    undeliverable: bool = False
    """Of `modified`: undeliverable-here."""
    annotations: Mapping[str, object] = field(default_factory=dict)
    """Of `modified`: message-annotations."""

    @property
    def is_final(self) -> bool:
        """Whether something is to be done about it."""
        return self.settled or self.state in TERMINAL


class Answered(Protocol):
    """A link end that hears outcomes."""

    def on_outcome(self, reference: object, held: tuple[int, int], outcome: Outcome) -> None:
        """A message (sequence number, serial of its lock) has another outcome than accepted."""
        ...


@dataclass(frozen=True, slots=True)
class Disposition:
    """What a receiver says about its deliveries from one delivery-id to another."""

    first: int
    last: int
    outcome: Outcome


def read_disposition(frame: bytes) -> Disposition | None:
    """A disposition frame (§2.7.6); None for one of a sender.

    Raises:
        WireError: It cannot be decoded.
    """
    performative, _ = decode(frame, 4 * frame[4])
    fields = _fields_of(performative, _DISPOSITION)
    if fields is None:
        raise WireError("no disposition")
    role, first, last, settled, state = [*fields, *[None] * 5][:5]
    last = first if last is None else last
    settled = False if settled is None else settled
    if not isinstance(role, bool) or not isinstance(settled, bool):
        raise WireError("role and settled of a disposition must be booleans")
    if not isinstance(first, UInt) or not isinstance(last, UInt):
        raise WireError("first and last of a disposition must be delivery-ids")
    return Disposition(first, last, outcome_of(state, settled=settled)) if role else None


def outcome_of(state: object, *, settled: bool) -> Outcome:
    """The outcome that a delivery state is; what it should not have is left out."""
    if not isinstance(state, Described) or not isinstance(state.descriptor, ULong):
        return Outcome(0, settled)
    code = int(state.descriptor)
    fields = [*(_fields_of(state, code) or []), None, None, None]
    if code == capi.REJECTED:
        return Outcome(code, settled, error=_error_of(fields[0]))
    if code == capi.MODIFIED:
        return Outcome(
            code, settled, undeliverable=fields[1] is True, annotations=_texts(fields[2])
        )
    return Outcome(code, settled)


def delivery_outcome(delivery: capi.DeliveryPtr) -> Outcome:
    """What Proton knows of a delivery."""
    state, settled = capi.delivery_remote_state(delivery), capi.delivery_settled(delivery)
    remote = capi.delivery_remote(delivery)
    if state == capi.REJECTED:
        condition = capi.disposition_condition(remote)
        name = capi.condition_name(condition)
        description = capi.condition_description(condition)
        error = Condition(name, description, _map_of(capi.condition_info(condition)))
        return Outcome(state, settled, error=error)
    if state == capi.MODIFIED:
        return Outcome(
            state,
            settled,
            undeliverable=capi.disposition_is_undeliverable(remote),
            annotations=_map_of(capi.disposition_annotations(remote)),
        )
    return Outcome(state, settled)


def rejection(condition: Condition) -> bytes:
    """The outcome `rejected` with an error, encoded; a description that is too long is cut."""
    text = condition.description.encode("utf-8", "replace")
    info = {Symbol(key): value for key, value in condition.info.items()}
    while True:
        error = Described(_ERROR, [Symbol(condition.name), text.decode("utf-8", "ignore"), info])
        encoded = encode(Described(ULong(capi.REJECTED), [error]))
        excess = len(encoded) - ENCODED_MAX
        if excess <= 0 or not (text or info):
            return encoded
        if not text:
            info = {}
        text = text[: max(0, len(text) - excess)]


def read_outcome(encoded: bytes) -> Outcome:
    """What has been encoded as an answer."""
    return outcome_of(decode(encoded)[0], settled=True)


def _fields_of(value: object, code: int) -> list[object] | None:
    """The fields of a list that is described by a code."""
    if isinstance(value, Described) and value.descriptor == code:
        return cast("list[object]", value.value) if isinstance(value.value, list) else None
    return None


def _error_of(value: object) -> Condition | None:
    fields = _fields_of(value, _ERROR)
    if not fields:
        return None
    name, description, info = [*fields, None, None][:3]
    return Condition(
        name if isinstance(name, str) else "",
        description if isinstance(description, str) else "",
        _texts(info),
    )


def _texts(value: object) -> dict[str, object]:
    """The entries of a map whose keys are text."""
    if not isinstance(value, dict):
        return {}
    entries = cast("dict[object, object]", value)
    return {str(key): item for key, item in entries.items() if isinstance(key, str)}


def _map_of(tree: capi.DataPtr) -> dict[str, object]:
    try:
        return codec.read_map(tree)
    except WireError:
        return {}
