"""How each release of azure-servicebus is told where the service is; see docs/clients.md."""

from importlib.metadata import version

from azure.core.credentials import AzureSasCredential
from azure.servicebus import TransportType

VERSION = tuple(int(part) for part in version("azure-servicebus").split(".")[:2])
#: Before 7.14 a custom endpoint is reached by WebSocket only, and there is no plain TCP.
HAS_PLAIN = VERSION >= (7, 14)
TOPIC = "variables"


def connection_string(options: dict, token: str, *, mode: str) -> tuple[str, dict]:
    """The connection string, and what goes beside it."""
    if mode == "plain" and not HAS_PLAIN:
        mode = "websocket"
    if mode == "plain":
        endpoint = f"sb://localhost:{options['amqp']}"
        text = f"Endpoint={endpoint};SharedAccessSignature={token};UseDevelopmentEmulator=true"
        return text, {}
    if mode == "websocket without TLS":
        # What a development emulator is reached by: without TLS.
        endpoint = f"sb://localhost:{options['http']}"
        text = f"Endpoint={endpoint};SharedAccessSignature={token};UseDevelopmentEmulator=true"
        return text, {
            "transport_type": TransportType.AmqpOverWebsocket,
            "custom_endpoint_address": endpoint,
        }
    return f"Endpoint=sb://localhost;SharedAccessSignature={token}", remote(options, mode)


def remote(options: dict, mode: str) -> dict:
    """Options for TLS: by TCP, or over WebSocket."""
    chosen: dict = {"connection_verify": options["ca"]}
    if mode == "websocket":
        chosen["transport_type"] = TransportType.AmqpOverWebsocket
        chosen["custom_endpoint_address"] = f"sb://localhost:{options['https']}"
    elif HAS_PLAIN:
        chosen["transport_type"] = TransportType.Amqp
        chosen["custom_endpoint_address"] = f"sb://localhost:{options['amqps']}"
    elif options["amqps"] != "5671":
        raise RuntimeError("port 5671 is taken on this machine, and this release knows no other")
    return chosen


def with_credential(options: dict, token: str) -> tuple[AzureSasCredential, dict]:
    """A credential whose token can be changed, and what goes beside it."""
    # The asyncio client before 7.15 cannot do TLS on the loopback: see scenarios.py.
    return AzureSasCredential(token), remote(options, "tls" if VERSION >= (7, 15) else "websocket")
