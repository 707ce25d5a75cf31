"""`hotpath revoke`: take back the tokens of subscriptions or publishers."""

import click

from hotpath.cli.configfile import config_option
from hotpath.cli.options import Target, json_option, option, target_options
from hotpath.cli.output import to_line
from hotpath.cli.running import Failure, run
from hotpath.client.errors import Refused
from hotpath.model.names import Topic


@click.command("revoke")
@config_option
@click.argument("identities", metavar="ID...", nargs=-1, required=True)
@option(
    "--publisher",
    metavar="TYPE",
    type=click.Choice([topic.value for topic in Topic]),
    help="The IDs are publishers of this type, which are deleted.",
)
@target_options
@json_option
def command(
    *, identities: tuple[str, ...], publisher: str | None, target: Target, as_json: bool
) -> None:
    """Make every token given out so far for own subscriptions worthless.

    Who is attached with one is detached. The subscription and its messages stay; its owner gets
    a fresh token by PUT.
    """
    if publisher is None:
        run(_revoke_subscriptions(target, identities))
    else:
        run(_delete_publishers(target, publisher, identities))
    for identity in identities:
        click.echo(to_line({"revoked": identity}) if as_json else f"revoked {identity}")


async def _revoke_subscriptions(target: Target, identities: tuple[str, ...]) -> None:
    async with target.rest() as rest:
        types = {str(each["subscriptionId"]): str(each["type"]) for each in await rest.list_all()}
        unknown = [identity for identity in identities if identity not in types]
        if unknown:
            raise Failure(f"there is no subscription {', '.join(unknown)}; nothing was revoked")
        for identity in identities:
            try:
                await rest.revoke(types[identity], identity)
            except Refused as error:
                raise Failure(f"{identity}: {error}") from error


async def _delete_publishers(target: Target, topic: str, identities: tuple[str, ...]) -> None:
    async with target.rest() as rest:
        for identity in identities:
            try:
                await rest.delete_publisher(topic, identity)
            except Refused as error:
                raise Failure(f"{identity}: {error}") from error
