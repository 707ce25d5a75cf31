"""Questions about many stored messages at once."""

from collections.abc import Sequence

from hotpath import native
from hotpath.wire.stored import is_plain, may_expire

if native.ENABLED:
    from hotpath.native._native import all_plain, any_may_expire
else:

    def all_plain(payloads: Sequence[bytes]) -> bool:
        """Whether every message starts with its bare message."""
        return all(map(is_plain, payloads))

    def any_may_expire(payloads: Sequence[bytes]) -> bool:
        """Whether some message may have an end; False for nearly all batches."""
        return any(map(may_expire, payloads))


__all__ = ["all_plain", "any_may_expire"]
