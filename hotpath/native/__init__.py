"""The loops of the hot path in C, where the helper has been built; without it Python runs them.

`_native` is optional: whoever uses it asks `ENABLED` first and has the same in Python. It is the
faster twin, never another behaviour. What it is given from outside it either handles exactly as
the Python code would, or leaves to it.

`HOTPATH_NATIVE=0` in the environment switches it off.
"""

import os
from importlib.util import find_spec
from typing import Final

VARIABLE: Final = "HOTPATH_NATIVE"


def is_enabled() -> bool:
    """Whether the C helper has been built and is not switched off."""
    if os.environ.get(VARIABLE, "").strip() == "0":
        return False
    return find_spec("hotpath.native._native") is not None


ENABLED: Final = is_enabled()

if ENABLED:
    from hotpath.native._native import learn as learn
