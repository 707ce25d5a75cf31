"""`hotpath health`: is a service alive, or ready? For container and process supervisors."""

import ssl
from pathlib import Path
from typing import Final

import aiohttp
import click

from hotpath.cli.configfile import config_option
from hotpath.cli.options import client_tls, data_dir_option, find_url, json_option, option
from hotpath.cli.output import to_line
from hotpath.cli.running import Failure, run
from hotpath.client.rest import read_refusal

#: Time for the answer; supervisors ask again.
ANSWER_SECONDS: Final = 5.0


@click.command("health")
@config_option
@option("--url", help="The service.  [default: the one of --data-dir]")
@option(
    "--ca-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="PEM file with the authorities to trust for TLS.",
)
@option("--ready", is_flag=True, help="Ask whether it can accept and deliver, not just answer.")
@data_dir_option
@json_option
def health_command(
    *, url: str | None, ca_file: Path | None, ready: bool, data_dir: Path, as_json: bool
) -> None:
    """Ask a service whether it is alive (exit code 0) or not (1); needs no token."""
    base = (url or find_url(data_dir)).rstrip("/")
    wanted = "ready" if ready else "alive"
    path = "readyz" if ready else "healthz"
    run(_ask(f"{base}/{path}", client_tls(ca_file)))
    click.echo(to_line({"url": base, "status": wanted}) if as_json else f"{base} is {wanted}")


async def _ask(url: str, tls: ssl.SSLContext | None) -> None:
    """One call. Raises Failure when the answer is another than 200, or none."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, ssl=tls if tls is not None else True) as response,
        ):
            if response.status != 200:
                raise Failure(f"{url}: {read_refusal(response.status, await response.read())}")
    except (TimeoutError, aiohttp.ClientError, ValueError, OSError) as error:
        raise Failure(f"{url} does not answer: {str(error) or 'no answer in time'}") from error
