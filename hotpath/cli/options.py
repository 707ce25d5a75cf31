"""Options that commands share, and what follows from them: which service, with which token."""

import functools
import json
import math
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from hotpath.auth.jwt import TokenRules, mint
from hotpath.auth.keys import DEVELOPMENT_KEY_FILE, load_development_key
from hotpath.cli.settings_options import read_settings
from hotpath.client.rest import RestClient, TokenSource
from hotpath.client.times import wall_ms
from hotpath.model.names import SUBSCRIBABLE, Topic

_CommandT = TypeVar("_CommandT", bound=Callable[..., Any])

DEFAULT_URL: Final = "http://127.0.0.1:8080"
#: Left in the data directory by a running service, for commands on the same machine.
ADDRESS_FILE: Final = "service.json"
#: Life of a token that the command line mints for itself, minutes.
MINTED_MINUTES: Final = 60.0
ALL_SCOPES: Final = ("hotpath.subscribe", "hotpath.publish", "hotpath.admin")


def option(flag: str, *names: str, **facts: Any) -> Callable[[_CommandT], _CommandT]:
    """A click option that is also the environment variable of its flag."""
    variable = "HOTPATH_" + flag.removeprefix("--").replace("-", "_").upper()
    return click.option(flag, *names, envvar=variable, show_envvar=True, **facts)


topic_argument = click.argument(
    "topic",
    metavar="TYPE",
    type=click.Choice([topic.value for topic in SUBSCRIBABLE]),
    callback=lambda _ctx, _param, value: Topic(value),
)

json_option = option("--json", "as_json", is_flag=True, help="JSON lines instead of text.")

data_dir_option = option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data"),
    show_default=True,
    help="Data directory of a service on this machine.",
)


@dataclass(frozen=True, slots=True)
class Target:
    """A service, as the options describe it."""

    url: str
    token: TokenSource
    tls: ssl.SSLContext | None

    def rest(self) -> RestClient:
        """A client for its REST side; the token is fetched for each call."""
        return RestClient(self.url, self.token, tls=self.tls)


def target_options(command: _CommandT) -> _CommandT:
    """Add the options that say which service; the command gets `target`."""

    @functools.wraps(command)
    def with_target(
        *args: object,
        url: str | None,
        token: str | None,
        data_dir: Path,
        tenant: str,
        ca_file: Path | None,
        **values: object,
    ) -> object:
        target = Target(
            url=url or find_url(data_dir),
            token=_constant(token) if token else minting(data_dir, tenant),
            tls=client_tls(ca_file),
        )
        return command(*args, target=target, **values)

    for option in reversed(_TARGET_OPTIONS):
        with_target = option(with_target)
    return with_target  # type: ignore[return-value]  # wraps keeps what click looks at


_TARGET_OPTIONS: Final = (
    option(
        "--url",
        help=f"The service.  [default: the one of --data-dir, else {DEFAULT_URL}]",
    ),
    option(
        "--token",
        metavar="JWT",
        help="Token for the REST calls.  [default: one of the development key in --data-dir]",
    ),
    data_dir_option,
    option(
        "--tenant",
        default="demo",
        show_default=True,
        help="Tenant of a token from --data-dir.",
    ),
    option(
        "--ca-file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="PEM file with the authorities to trust for TLS.",
    ),
)


def find_url(data_dir: Path) -> str:
    """The address that a service left in its data directory, else the default one."""
    try:
        left = json.loads((data_dir / ADDRESS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return DEFAULT_URL
    if not isinstance(left, dict):
        return DEFAULT_URL
    return str(left.get("http") or left.get("https") or DEFAULT_URL)


def minting(data_dir: Path, tenant: str) -> TokenSource:
    """Tokens of the development key, each used for half its life. Raises click.UsageError."""
    if not (data_dir / DEVELOPMENT_KEY_FILE).exists():
        raise click.UsageError(
            f"no token: give --token or HOTPATH_TOKEN, or the --data-dir of a local service "
            f"(there is no development key in {data_dir})"
        )
    try:
        key = load_development_key(data_dir)
    except (OSError, ValueError) as error:
        raise click.UsageError(f"no token: the development key cannot be read: {error}") from None
    rules = TokenRules.of(read_settings({}))
    minted = ("", -math.inf)

    def fetch() -> str:
        nonlocal minted
        now_ms = wall_ms()
        if now_ms - minted[1] > MINTED_MINUTES * 30_000:
            text = mint(
                key,
                rules,
                tenant=tenant,
                scopes=ALL_SCOPES,
                subject="command-line",
                now_ms=now_ms,
                minutes=MINTED_MINUTES,
            )
            minted = (text, now_ms)
        return minted[0]

    return fetch


def _constant(token: str) -> TokenSource:
    return lambda: token


def client_tls(ca_file: Path | None) -> ssl.SSLContext | None:
    """Whom to trust for TLS, None for the usual authorities. Raises click.BadParameter."""
    if ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise click.BadParameter(f"{ca_file}: {error}", param_hint="--ca-file") from None
