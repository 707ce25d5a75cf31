"""Every broker that can be measured, and which of them are installed."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import artemis_broker, cluster_broker, rabbitmq_broker
from bench.clients import Endpoint
from bench.errors import RunError, UsageError
from bench.hotpath_broker import hotpath
from bench.workload import Workload

Start = Callable[[Workload, Path], AbstractContextManager[Endpoint]]

OURS: Final = "hotpath"
#: hotpath too, as a node of a cluster of one server, and of three.
NODE: Final = "hotpath-node"
NODE_OF_THREE: Final = "hotpath-node-3"
OWN: Final = (OURS, NODE, NODE_OF_THREE)


@dataclass(frozen=True, slots=True)
class Broker:
    """One broker under test."""

    title: str
    """What tables and plots call it, its version left out."""
    start: Start
    version: Callable[[], str]
    """Raises RunError where it is not installed."""
    filters: bool = False
    """Whether a workload with selective filters can be put to it."""


def _our_version() -> str:
    return "this checkout"


#: By the name that options use; ours first.
BROKERS: Final[Mapping[str, Broker]] = {
    OURS: Broker("hotpath", hotpath, _our_version, filters=True),
    NODE: Broker("hotpath, one nats-server", cluster_broker.clustered, _our_version, filters=True),
    NODE_OF_THREE: Broker(
        "hotpath, three nats-servers",
        cluster_broker.clustered_of_three,
        _our_version,
        filters=True,
    ),
    "rabbitmq": Broker(
        "RabbitMQ 3, AMQP 1.0 plug-in", rabbitmq_broker.rabbitmq, rabbitmq_broker.version
    ),
    "rabbitmq4": Broker(
        "RabbitMQ 4, classic queues", rabbitmq_broker.rabbitmq4, rabbitmq_broker.version4
    ),
    "rabbitmq4-quorum": Broker(
        "RabbitMQ 4, quorum queues", rabbitmq_broker.rabbitmq4_quorum, rabbitmq_broker.version4
    ),
    "artemis": Broker("Artemis", artemis_broker.artemis, artemis_broker.version),
}

PEERS: Final = tuple(name for name in BROKERS if name not in OWN)


def installed() -> tuple[dict[str, str], dict[str, str]]:
    """Versions of the peers that are here, and of the others why not."""
    there, missing = {}, {}
    for name in PEERS:
        try:
            there[name] = BROKERS[name].version()
        except RunError as error:
            missing[name] = str(error)
    return there, missing


def check_filters(name: str, workload: Workload) -> None:
    """Refuse what a broker has no counterpart for.

    Raises:
        UsageError: If the workload has selective filters and the broker none.
    """
    if workload.selective and not BROKERS[name].filters:
        raise UsageError(f"{name} does not filter: subscriptions must equal fan-out")
