"""The command line: `hotpath COMMAND`. Exit codes: 0 done, 1 failed, 2 wrong usage."""

import click

from hotpath import __version__
from hotpath.cli.group import CommandGroup


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hotpath", message="%(prog)s %(version)s")
def cli() -> None:
    """A filtered, live feed of industrial data with one REST call, read over AMQP 1.0.

    Every option of a command is also an environment variable HOTPATH_<NAME> and a key of the TOML
    file that --config or HOTPATH_CONFIG names. Flags win over the environment, the environment
    over the file.
    """


def main() -> None:
    """Run the command line and exit."""
    cli(prog_name="hotpath")
