"""The command group: names and one-line texts at hand, everything else loaded on use.

`hotpath --help` must not wait for libraries that only some command needs.
"""

import importlib
from typing import Final, cast

import click
from typing_extensions import override

#: Command, the module that holds it as `command`, and what it does in a line.
COMMANDS: Final = {
    "serve": ("hotpath.cli.serve", "Run the service."),
    "token": ("hotpath.cli.token", "Print a development token."),
    "subscribe": ("hotpath.cli.subscribe", "Open a filtered feed and print its messages."),
    "publish": ("hotpath.cli.publish", "Publish JSON messages over AMQP."),
    "list": ("hotpath.cli.subscriptions", "List own subscriptions."),
    "top": ("hotpath.cli.top", "Topics, rates, subscriptions and backlogs, live."),
    "why": ("hotpath.cli.why", "Why a message matched or not, and what became of it."),
    "delete": ("hotpath.cli.subscriptions", "Delete subscriptions."),
    "revoke": ("hotpath.cli.revoke", "Revoke the tokens of subscriptions or publishers."),
    "keys": ("hotpath.cli.keys", "List, add, retire and remove signing keys."),
    "backup": ("hotpath.cli.backup", "Copy a data directory, also while it is in use."),
    "migrate": ("hotpath.cli.migrate", "Move a stopped service's data into a cluster."),
    "simulate": ("hotpath.cli.simulate", "Publish what a plant would."),
    "demo": ("hotpath.cli.demo", "Show the whole way of a message, live."),
    "webhook-sink": ("hotpath.cli.webhook_sink", "Receive webhooks, for trying them out."),
    "bench": ("hotpath.cli.bench", "Run the benchmarks of a source checkout."),
    "health": ("hotpath.cli.health", "Ask whether a service is alive, or ready."),
    "config": ("hotpath.cli.config", "Show the effective settings and where they come from."),
    "reaper": ("hotpath.cli.reaper", "Delete idle subscriptions of a service run with --no-reap."),
}


def load(name: str) -> click.Command:
    """Import one of `COMMANDS`."""
    module = importlib.import_module(COMMANDS[name][0])
    special = f"{name}_command"
    return cast(
        "click.Command", getattr(module, special if hasattr(module, special) else "command")
    )


class CommandGroup(click.Group):
    """Looks commands up in `COMMANDS`."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return load(cmd_name) if cmd_name in COMMANDS else None

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            names = ", ".join(COMMANDS)
            ctx.fail(f"there is no command {args[0]!r}; there are {names}")
        return super().resolve_command(ctx, args)

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])
