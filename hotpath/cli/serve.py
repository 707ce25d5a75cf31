"""`hotpath serve`: runs the service until SIGTERM or SIGINT."""

import asyncio
import importlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import click

from hotpath.app import App
from hotpath.cli.configfile import config_option
from hotpath.cli.options import ADDRESS_FILE
from hotpath.cli.preflight import check
from hotpath.cli.running import Failure, LoopFactory, check_missing, run, until_signalled
from hotpath.cli.settings_options import given_flags, read_settings, settings_options
from hotpath.config import Settings
from hotpath.ports import LogFailure
from hotpath.telemetry import set_up_logging
from hotpath.timeslices import ask_for_short_slices


@click.command("serve", context_settings={"max_content_width": 100})
@config_option
@click.pass_context
def command(ctx: click.Context, /, **values: object) -> None:
    """Run the service.

    When it accepts work it says so in one line of JSON on stdout, with its addresses; logs go to
    stderr. SIGTERM and Ctrl-C finish what is under way and end it with exit code 0.
    """
    settings = read_settings(given_flags(values), ctx.meta.get("hotpath.config"))
    # Whatever is made from here on is nobody else's to read.
    os.umask(0o077)
    check(settings)
    set_up_logging(settings.log_level, as_json=settings.log_json)
    run(_serve(settings), loop_factory=loop_factory(settings.event_loop))


command.params += settings_options()


def loop_factory(name: str) -> LoopFactory | None:
    """What makes the event loop; None for asyncio's own. Raises Failure when it is not there."""
    if name == "asyncio":
        return None
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise Failure(
            f"--event-loop {name} needs a package that is not there: pip install 'hotpath[{name}]'"
        ) from error
    return cast("LoopFactory", module.new_event_loop)


def make_app(settings: Settings) -> App:
    """The service alone, or as a node of a cluster. Raises Failure."""
    if settings.cluster is None:
        return App(settings)
    try:
        clustered = importlib.import_module("hotpath.clustered")
    except ModuleNotFoundError as error:
        check_missing(error)
        raise
    try:
        return cast("App", clustered.ClusterApp(settings))
    except (LogFailure, ValueError) as failure:
        raise Failure(f"--cluster: {failure}") from failure


async def _serve(settings: Settings) -> None:
    # Before there are other threads: they have what this one has.
    ask_for_short_slices()
    app = make_app(settings)
    stopping = asyncio.Event()

    async def job() -> None:
        try:
            with reloading(app):
                announce(settings.data_dir, await app.start())
                await stopping.wait()
        finally:
            with suppress(OSError):
                (settings.data_dir / ADDRESS_FILE).unlink(missing_ok=True)
            await app.stop()

    try:
        await until_signalled(job(), stop=stopping.set)
    except LogFailure as failure:
        if settings.cluster is not None:
            raise Failure(f"--cluster: {failure.detail}") from failure
        raise Failure(storage_failure(settings.data_dir, failure)) from failure
    except (OSError, ValueError) as failure:
        # The check before the start names what it can; this is what changed since, or is rarer.
        raise Failure(f"cannot start: {failure}") from failure


@contextmanager
def reloading(app: App) -> Iterator[None]:
    """Read the TLS files again on SIGHUP."""
    loop = asyncio.get_running_loop()
    under_way: set[asyncio.Task[None]] = set()

    def on_signal() -> None:
        task = asyncio.ensure_future(app.reload())
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    loop.add_signal_handler(signal.SIGHUP, on_signal)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def storage_failure(data_dir: Path, failure: LogFailure) -> str:
    """Why a data directory cannot be used, and what to do."""
    if "in use" in failure.detail:
        advice = "stop that process, or give another directory"
    elif "newer release" in failure.detail:
        advice = "run that release or a later one, or give another directory"
    elif failure.full:
        advice = "make room on its disk"
    else:
        advice = "see that the directory and its disk are well"
    return f"--data-dir {data_dir}: {failure.detail}; {advice}"


def announce(data_dir: Path, urls: dict[str, str]) -> None:
    """Print the ready line, and leave it for commands on this machine."""
    line = json.dumps({"event": "ready", **urls}, separators=(",", ":"))
    leave_address(data_dir, line)
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def leave_address(data_dir: Path, line: str) -> None:
    """Write the addresses where `--data-dir` finds them, for this user only.

    That is a convenience: a service that cannot write it runs all the same.
    """
    with suppress(OSError):
        draft = data_dir / f".{ADDRESS_FILE}.{os.getpid()}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(line + "\n")
        draft.replace(data_dir / ADDRESS_FILE)
