"""What the servers must allow a node, and no more than that."""

import pytest

from tests.cluster.service.nodes import Nodes, message, until
from tests.support.nats import MISSING, nats_server

pytestmark = pytest.mark.slow

PREFIX = "limited"
ALLOWED = f"""
authorization {{ users: [ {{
  user: node, password: sesame, permissions: {{
    publish: ["{PREFIX}.>", "$KV.{PREFIX}-nodes.>", "$JS.API.>", "$JS.FC.>"]
    subscribe: ["_INBOX.>", "{PREFIX}.node.>", "{PREFIX}.back.>", "{PREFIX}.ctl.>"]
  }}
}} ] }}
"""


async def test_a_user_with_just_the_rights_that_are_named_is_enough_for_a_cluster(tmp_path):
    if MISSING:
        pytest.skip(MISSING)
    password = tmp_path / "password"
    password.write_text("sesame\n")
    who = {"cluster_user": "node", "cluster_password_file": password}
    with nats_server(tmp_path / "nats", extra=ALLOWED) as server:
        nodes = Nodes(server, tmp_path, **who)
        nodes.settings = nodes.settings.model_copy(update={"cluster_prefix": PREFIX})
        try:
            a, b = await nodes.start("a", "b")
            spec = await a.create()
            await b.publish(1)
            reader = b.read(spec)
            await until(lambda: reader.values == [message(1)])
            reader.complete()
            await until(lambda: reader.confirmed == 1)
        finally:
            for node in list(nodes.nodes.values()):
                await nodes.stop(node)
