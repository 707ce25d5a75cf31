"""Link ends where the events of a connection are taken in and messages are sent: the hot loops.

There are two of each, with the same behaviour: in C (`hotpath.native`) and in Python
(`hotpath.amqp.plain_ends`). Which ones are here is decided once, when the process starts: C if it
has been built, is not switched off, and Proton is the one it was written for.

A *reference* names a link, delivery, collector or transport to them: an address for those in C,
the pointer itself for those in Python. That of a message which was sent is its delivery-id for
those in C: they keep what is open themselves, and Proton forgets it when it is written. Those in
Python leave it with Proton.
"""

from typing import TYPE_CHECKING, Final

from hotpath import native
from hotpath.amqp import capi


def _bind() -> bool:
    """Hand Proton's functions to the C helper; whether it can be used."""
    if not native.ENABLED:
        return False
    from hotpath.native import _native  # noqa: PLC0415  # it may not be there

    table = capi.helper_table()
    if table is not None:
        _native.bind(table)
    return table is not None


IN_C: Final = _bind()

if TYPE_CHECKING or IN_C:
    from hotpath.native._native import Ends, Handles, Inlet, Outlet, Waker, confirm_all, pump_all
else:
    from hotpath.amqp.plain_ends import Ends, Handles, Inlet, Outlet
    from hotpath.amqp.pumping import Waker, confirm_all, pump_all


def refer(pointer: object) -> object:
    """The reference to what a pointer points to."""
    return capi.address_of(pointer) if IN_C else pointer


def delivery_of(reference: object) -> capi.DeliveryPtr:
    """The delivery that a reference names."""
    return capi.delivery_at(reference) if IN_C else reference  # type: ignore[arg-type,return-value]  # see the module


__all__ = [
    "IN_C",
    "Ends",
    "Handles",
    "Inlet",
    "Outlet",
    "Waker",
    "confirm_all",
    "delivery_of",
    "pump_all",
    "refer",
]
