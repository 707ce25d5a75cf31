"""Where a client should connect for a subscription: to the node that serves it."""

from collections.abc import Callable

from hotpath.cluster.ownership import Ownership
from hotpath.clusterports import shard_of


class OwnerUrls:
    """Public URLs of AMQP addresses; another node serves each of them all the same."""

    def __init__(self, ownership: Ownership, own: Callable[[str], str]) -> None:
        """Args.

        ownership: Who serves what.
        own: The URL of an address on this node.
        """
        self._ownership = ownership
        self._own = own

    def __call__(self, path: str) -> str:
        """The URL of an address: at the owner, if it is of a subscription and that is known."""
        _, _, behind = path.partition("/")
        kind, _, rest = behind.partition("/")
        identity, _, _ = rest.partition("/")
        if kind.lower() != "subscriptions" or not identity:
            return self._own(path)
        owner = self._ownership.owner(shard_of(identity, self._ownership.shards))
        if owner is None or not owner.amqp_url:
            return self._own(path)
        return f"{owner.amqp_url.rstrip('/')}/{path}"
