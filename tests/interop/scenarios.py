"""What every client is asked to do, who the clients are, and what a client itself cannot do."""

import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TOOLS = Path(os.environ.get("HOTPATH_INTEROP_TOOLS", ROOT / ".tools" / "interop"))

SCENARIOS = {
    "complete": "peek-lock, three messages in order, completed",
    "abandon": "the message comes again, its delivery count one higher",
    "dead-letter": "reason and description are kept",
    "dead-letter queue": "looked at, received, renewed, completed",
    "defer": "received by sequence number, renewed, completed; what is settled is not found",
    "renew": "the lock ends later",
    "properties": "given with abandon, they come with the message from then on",
    "receive and delete": "settled by the taking",
    "peek": "in order, locked ones too, nothing is taken; nothing more: an empty answer",
    "rules": "the filter is shown as one rule, rules cannot be changed",
    "stream": "subscribe or iterate while messages come",
    "reconnect after a close": "the connection is closed by force while streaming",
    "reconnect after a restart": "the service is stopped and started while streaming",
    "reconnect after a detach": "the link is detached by force while streaming",
    "token renewal": "messages go on coming over the end of the first tokens",
    "token expiry": "the end of the token is told; with a new one messages come again",
    "send": "with a publisher's token",
    "send a batch": "fifty messages in one transfer, a sequence number each",
    "send scheduled": "they come when they are due; a cancelled one does not",
    "send 900 KB": "and receive it again",
    "TLS": "a private authority",
    "WebSocket": "over TLS, a private authority",
    "WebSocket without TLS": "on the HTTP port",
    "prefetch": "two hundred messages in order",
    "ten receivers": "on one subscription, each message once",
    "a thousand subscriptions": "on one connection, a message on each",
}

#: How long a scenario may take on a busy machine, seconds, and those that may take longer.
SECONDS = 60
LONGER = {"a thousand subscriptions": 220, "token renewal": 90}

#: Without the full run: what shows most in least time.
QUICK = (
    "complete", "abandon", "dead-letter queue", "defer", "peek", "reconnect after a restart",
    "send a batch", "send scheduled", "send 900 KB", "TLS", "WebSocket",
)  # fmt: skip
SPEEDY = tuple(
    name for name in SCENARIOS if name not in {"token renewal", "a thousand subscriptions"}
)


@dataclass(frozen=True)
class Implementation:
    """A client of another project."""

    name: str
    command: tuple[str, ...]
    needs: Path
    """Must be there, or its tests are skipped."""
    quick: tuple[str, ...]
    unsupported: dict[str, str] = field(default_factory=dict)
    """Scenarios that the client itself has no means for, and why."""
    seconds: dict[str, int] = field(default_factory=dict)
    """Scenarios that take longer than with others, because the client does."""


_ONE_EACH = "each receiver has a connection of its own"
_NO_RULES = "rules are managed over HTTP in this library"
_NO_PROPERTIES = "its outcomes take no properties"
_NO_FORMAT = "the message-format of a transfer cannot be set"
_NO_WEBSOCKET = "has no WebSocket transport"
_SEGMENTS = (
    "on the loopback only: it sets TCP_MAXSEG to what it has read after the handshake, "
    "which Linux refuses above 32,767; cured in 7.15"
)
_ALWAYS_TLS = "its WebSocket is always one over TLS"
_AZURE_PYTHON = {
    "a thousand subscriptions": _ONE_EACH,
    "rules": _NO_RULES,
    "properties": _NO_PROPERTIES,
}

#: Clients that docs/clients.md tells of and that nobody has run, and why.
DOCUMENTED = dict.fromkeys(
    ("Azure.Messaging.ServiceBus (.NET)", "AMQP.NET Lite"),
    "the .NET SDK and the packages of NuGet are in none of the registries that these tests install "
    "from (Debian, PyPI, npm, Maven, Go)",
)


def _azure_python(version: str, quick: tuple[str, ...]) -> list[Implementation]:
    """Both clients of a release: the one under test here, or one in an environment of its own."""
    python = Path(sys.executable)
    if version != "newest":
        python = TOOLS / f"servicebus-{version}" / "bin" / "python"
    found = []
    for flavour in ("sync", "aio"):
        script = HERE / "clients" / f"servicebus_{flavour}.py"
        name = f"azure-servicebus {version} {flavour}"
        command = (str(python), str(script))
        unsupported = dict(_AZURE_PYTHON)
        if flavour == "aio" and version != "newest":
            unsupported["TLS"] = _SEGMENTS
        if version == "7.12.3":
            unsupported["WebSocket without TLS"] = "it has no connection without TLS"
        found.append(Implementation(name, command, python, quick, unsupported))
    return found


def _node(
    name: str, script: str, *arguments: str, unsupported: dict[str, str], quick
) -> Implementation:
    node = shutil.which("node") or "node"
    command = (node, str(HERE / "node" / script), *arguments)
    needs = HERE / "node" / "node_modules" / name
    return Implementation(name, command, needs, quick, unsupported)


_OLD = ("complete", "defer", "peek", "send 900 KB", "reconnect after a close")

IMPLEMENTATIONS = [
    *_azure_python("newest", QUICK),
    *_azure_python("7.14.3", _OLD),
    *_azure_python("7.12.3", _OLD),
    _node(
        "@azure/service-bus",
        "servicebus.mjs",
        unsupported={"WebSocket without TLS": _ALWAYS_TLS},
        quick=SPEEDY,
    ),
    _node("rhea", "rhea.mjs", unsupported={}, quick=SPEEDY),
    _node("rhea-promise", "rhea.mjs", "promise", unsupported={}, quick=QUICK),
    Implementation(
        "Qpid Proton Python",
        (sys.executable, str(HERE / "clients" / "proton_python.py")),
        Path(sys.executable),
        QUICK,
        {
            "renew": "its delivery tags must be text, so the lock token cannot be read",
            "send a batch": _NO_FORMAT,
            "WebSocket": _NO_WEBSOCKET,
            "WebSocket without TLS": _NO_WEBSOCKET,
        },
    ),
    Implementation(
        "Qpid Proton C++",
        (str(TOOLS / "proton_cpp"),),
        TOOLS / "proton_cpp",
        QUICK,
        {
            "send a batch": _NO_FORMAT,
            "WebSocket": _NO_WEBSOCKET,
            "WebSocket without TLS": _NO_WEBSOCKET,
        },
    ),
    Implementation(
        "azservicebus (Go)",
        (str(TOOLS / "go_clients"), "azservicebus"),
        TOOLS / "go_clients",
        QUICK,
        {"rules": _NO_RULES},
        {"token renewal": 220},
    ),
    Implementation("go-amqp", (str(TOOLS / "go_clients"), "go-amqp"), TOOLS / "go_clients", QUICK),
    Implementation(
        "azure-messaging-servicebus (Java)",
        ("java", "-cp", f"{TOOLS}/java/classes:{TOOLS}/java/lib/*", "ServiceBusClients"),
        TOOLS / "java" / "classes" / "ServiceBusClients.class",
        QUICK,
        {"WebSocket without TLS": _ALWAYS_TLS},
    ),
    Implementation(
        "Qpid JMS",
        ("java", "-cp", f"{TOOLS}/java/classes:{TOOLS}/java/lib/*", "JmsClients"),
        TOOLS / "java" / "classes" / "JmsClients.class",
        QUICK,
        {
            "renew": "its API does not tell the delivery tag, which is the lock token",
            "properties": _NO_PROPERTIES,
            "send a batch": _NO_FORMAT,
            "send scheduled": "it names the time in an annotation of its own, and cannot read the "
            "array that a request is answered with",
        },
    ),
]
