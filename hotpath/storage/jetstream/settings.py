"""From the service's settings to what a link and a log take."""

from pathlib import Path
from typing import Final

from hotpath.config import Settings
from hotpath.ports import LogFailure
from hotpath.storage.jetstream.options import LinkOptions, LogOptions

#: Copies that are kept where nothing else is said, if there are as many servers.
REPLICAS: Final = 3


def link_options(settings: Settings, *, name: str = "hotpath") -> LinkOptions:
    """Which servers, and who asks. Raises LogFailure for files that cannot be read."""
    options = LinkOptions(
        servers=settings.cluster_servers,
        name=name,
        tls_ca=settings.cluster_tls_ca,
        tls_certificate=settings.cluster_tls_cert,
        tls_key=settings.cluster_tls_key,
        credentials=settings.cluster_credentials,
        nkey=settings.cluster_nkey,
        user=settings.cluster_user,
        password=_secret(settings.cluster_password_file),
        token=_secret(settings.cluster_token_file),
    )
    options.check()
    return options


def log_options(settings: Settings) -> LogOptions:
    """Where and how often everything is kept. Raises LogFailure."""
    replicas = settings.cluster_replicas or min(REPLICAS, len(settings.cluster_servers))
    options = LogOptions(
        prefix=settings.cluster_prefix, shards=settings.cluster_shards, replicas=replicas
    )
    options.check()
    return options


def _secret(path: Path | None) -> str | None:
    """What a file holds, without the line's end."""
    if path is None:
        return None
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LogFailure(f"{path} cannot be read: {error}") from error
