"""The audit log of the AMQP side: one wide line for each login, put token and attach.

They stand beside the control calls of the REST side on the same logger, refused ones too: who,
from where, what, with which result. No token and no secret is in them.
"""

from collections.abc import Mapping
from typing import Final

from hotpath.amqp.terminus import Attach
from hotpath.auth.rights import Grant
from hotpath.telemetry import get_logger

#: Longest text of a peer's that is written down.
TEXT_MAX: Final = 512

_audit = get_logger("hotpath.audit")


def note(
    operation: str,
    *,
    peer: str,
    container: str,
    grant: Grant | None = None,
    reason: str | None = None,
    **about: object,
) -> None:
    """Write one line.

    Args:
        operation: `login`, `putToken` or `attach`.
        peer: The address it came from.
        container: What the peer calls itself, once it has said so.
        grant: What it was allowed by.
        reason: Why it was refused; None when it was not.
        about: What it was about; an attach as a whole.
    """
    origin = None if grant is None else grant.origin
    fields = {
        "operation": operation,
        "remote": peer,
        "container": container[:TEXT_MAX] or None,
        "tenant": None if grant is None else grant.tenant,
        "key_name": None if origin is None else origin.key.name,
        "result": "accepted" if reason is None else "refused",
        "reason": None if reason is None else reason[:TEXT_MAX],
        **_flat(about),
    }
    _audit.info("amqp call", extra=fields)


def _flat(about: Mapping[str, object]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for name, value in about.items():
        if isinstance(value, Attach):
            fields |= {"link": value.name[:TEXT_MAX], "incoming": value.incoming}
            fields["address"] = (value.address or "")[:TEXT_MAX]
        else:
            fields[name] = value[:TEXT_MAX] if isinstance(value, str) else value
    return fields
