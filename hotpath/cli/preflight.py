"""What can be found wrong before the service starts, each as one sentence with what to do.

Starting finds the same faults; here they get the name of the option that is to blame.
"""

import errno
import os
import socket
import ssl
from contextlib import suppress
from pathlib import Path

from hotpath.auth.keys import read_public_keys
from hotpath.cli.running import Failure
from hotpath.config import Endpoint, Settings


def check(settings: Settings) -> None:
    """Raise Failure for the first thing that cannot work."""
    _check_listeners(settings)
    _check_directory(settings.data_dir)
    _check_tls(settings)
    if settings.jwt_public_key is not None:
        _check_public_key(settings.jwt_public_key)


def _check_listeners(settings: Settings) -> None:
    if not (settings.http or settings.https):
        raise Failure("nobody could call: both --http and --https are off; give one an address")
    if not (settings.amqp or settings.amqps):
        raise Failure("nobody could attach: both --amqp and --amqps are off; give one an address")
    taken: dict[str, str] = {}
    for name in ("http", "https", "amqp", "amqps", "metrics"):
        endpoint: Endpoint | None = getattr(settings, name)
        if endpoint is None:
            continue
        if endpoint.port and endpoint in taken:
            raise Failure(f"--{name} and --{taken[endpoint]} are both {endpoint}; change one")
        taken[endpoint] = name
        _check_free(name, endpoint)


def _check_free(name: str, endpoint: Endpoint) -> None:
    """Bind for a moment, as the listener will."""
    try:
        found = socket.getaddrinfo(
            endpoint.host, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError) as error:
        raise Failure(
            f"--{name} {endpoint}: the host cannot be resolved ({error}); use an address of this "
            f"machine, such as 127.0.0.1"
        ) from None
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind(address)
            except OSError as error:
                raise Failure(bind_failure(name, endpoint, error)) from None


def bind_failure(name: str, endpoint: Endpoint, error: OSError) -> str:
    """Why an address cannot be listened on, and what to do."""
    start = f"--{name} {endpoint}:"
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"{start} the port is in use; stop what listens there, or choose another "
                f"(port 0 takes a free one)"
            )
        case errno.EACCES | errno.EPERM:
            return f"{start} not allowed to listen there; choose a port from 1024 on"
        case errno.EADDRNOTAVAIL:
            return f"{start} this machine has no such address; try 127.0.0.1 or 0.0.0.0"
        case _:
            return f"{start} cannot listen there: {error.strerror or error}"


def _check_directory(path: Path) -> None:
    advice = "give a directory that this user may write to with --data-dir"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = path / f".probe-{os.getpid()}"
        probe.touch()
        with suppress(OSError):
            probe.unlink()
    except (FileExistsError, NotADirectoryError):
        raise Failure(f"--data-dir {path}: there is a file of that name; {advice}") from None
    except OSError as error:
        raise Failure(f"--data-dir {path}: {error.strerror}; {advice}") from None


def _check_tls(settings: Settings) -> None:
    cert, key = settings.tls_cert, settings.tls_key
    if cert is not None and key is not None:
        _check_readable("--tls-cert", cert)
        _check_readable("--tls-key", key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # An empty password instead of a question on the terminal.
            context.load_cert_chain(cert, key, password="")
        except ssl.SSLError as error:
            raise Failure(_tls_failure(cert, key, error)) from None
    if settings.tls_client_ca is not None:
        _check_readable("--tls-client-ca", settings.tls_client_ca)
        try:
            ssl.create_default_context(cafile=settings.tls_client_ca)
        except ssl.SSLError:
            raise Failure(
                f"--tls-client-ca {settings.tls_client_ca}: no certificate of an authority in it; "
                f"give a PEM file with at least one"
            ) from None


def _tls_failure(cert: Path, key: Path, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"--tls-key {key} is not the key of --tls-cert {cert}; give the matching pair"
    return (
        f"--tls-cert {cert} with --tls-key {key}: not a certificate chain and an unencrypted "
        f"private key in PEM form ({error.reason or error})"
    )


def _check_public_key(path: Path) -> None:
    _check_readable("--jwt-public-key", path)
    try:
        read_public_keys(path.read_bytes())
    except ValueError as error:
        raise Failure(
            f"--jwt-public-key {path}: {error}; give a PEM file with the identity provider's "
            f"public key or certificate"
        ) from None


def _check_readable(flag: str, path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise Failure(f"{flag} {path}: {error.strerror}; give a readable PEM file") from None
