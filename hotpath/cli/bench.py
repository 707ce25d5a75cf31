"""`hotpath bench`: the benchmarks of the source checkout, which are not part of the package."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import click

import hotpath
from hotpath.cli.running import Failure

_CHECKOUT: Final = Path(hotpath.__file__).parents[1]


@click.command(
    "bench",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", metavar="[WHAT] [OPTIONS]...", nargs=-1, type=click.UNPROCESSED)
def command(*, arguments: tuple[str, ...]) -> None:
    """Measure throughput, latency, memory and more, as `python -m bench` does.

    Without arguments it lists what can be measured; `hotpath bench WHAT --help` shows the options.
    """
    if not (_CHECKOUT / "bench" / "__main__.py").is_file():
        raise Failure(
            "the benchmarks are not part of the installed package; run them in a checkout of the "
            "source, where `make run` works"
        )
    paths = [str(_CHECKOUT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    child = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "bench", *(arguments or ("--help",))], env=environment, check=False
    )
    raise SystemExit(child.returncode)
