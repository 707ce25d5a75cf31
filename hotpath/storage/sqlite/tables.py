"""sqlite-utils, without what it would bring along.

It imports pandas and numpy where they are installed, for the types of values that the service
never stores: 100 MB of memory and half a second of each start. While it is imported they are not
to be found; whoever else wants them finds them afterwards.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_UNUSED: Final = ("numpy", "pandas")


@contextmanager
def _hidden() -> Iterator[None]:
    hidden = [name for name in _UNUSED if name not in sys.modules]
    # An import of a name that stands for None fails as one of a module that is not there.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


with _hidden():
    from sqlite_utils import Database

__all__ = ["Database"]
