"""Running a command: its event loop, its signals, and its failures as one line each."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Final, TypeVar

import click

from hotpath.client.errors import ClientError, Refused, Unreachable

#: One wish may come as two signals, from the terminal and from whoever started us.
REPEAT_SECONDS: Final = 1.0

#: What the extra `cluster` installs, by the names of imports.
CLUSTER_PACKAGES: Final = frozenset({"nats", "nkeys", "nacl"})

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

_ResultT = TypeVar("_ResultT")


class Failure(click.ClickException):
    """The command failed: what, and what to do. Exit code 1."""

    exit_code = 1


def check_missing(error: ModuleNotFoundError) -> None:
    """Raises Failure when what a cluster's import misses is a package that can be installed.

    Anything else that cannot be imported is a fault, and shows as it is.
    """
    if (error.name or "").partition(".")[0] in CLUSTER_PACKAGES:
        raise Failure(
            f"--cluster needs a package that is not there ({error.name}): "
            "pip install 'hotpath[cluster]'"
        ) from error


def run(
    job: Coroutine[object, object, _ResultT], *, loop_factory: LoopFactory | None = None
) -> _ResultT:
    """Run a command's coroutine. Raises Failure for what a service or the machine refuses."""
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(job)
    except ClientError as error:
        raise Failure(explain(error)) from error
    except KeyboardInterrupt:
        raise Failure("interrupted") from None


def explain(error: ClientError) -> str:
    """A client's error, with what helps."""
    match error:
        case Unreachable():
            return f"{error}\nIs the service running? Start one with: hotpath serve"
        case Refused(status=401):
            return f"{error}\nGive a valid token with --token or HOTPATH_TOKEN."
        case Refused() if error.status >= 500 and error.request_id:
            return f"{error}\nThe service's log has more under request {error.request_id}."
    return str(error)


async def until_signalled(
    job: Coroutine[object, object, None], *, stop: Callable[[], None] | None = None
) -> bool:
    """Run `job` until it ends, or until SIGINT or SIGTERM; whether a signal ended it.

    The first signal cancels the job, or calls `stop` if there is one, and the job's cleaning up
    is waited for; a second one ends the process at once.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(job)
    signalled: float | None = None

    def on_signal() -> None:
        nonlocal signalled
        if signalled is not None:
            if loop.time() - signalled < REPEAT_SECONDS:
                return
            sys.stderr.write("hotpath: stopped at once\n")
            sys.stderr.flush()
            loop.call_soon(_leave)
            return
        signalled = loop.time()
        (stop or task.cancel)()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        await task
    except asyncio.CancelledError:
        if signalled is None:
            raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    return signalled is not None


def _leave() -> None:
    """End without cleaning up: the user asked twice."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.raise_signal(signal.SIGINT)
