"""The service on three nodes, behind a load balancer, for clients of other projects."""

import base64
import itertools
import json
import os
import time
from pathlib import Path

from tests.interop.harness import LISTENERS, START_SECONDS, Program, Service, usual_port
from tests.support.cluster import node_ports
from tests.support.cluster_server import shared_servers
from tests.support.ways import Ways


class ClusterService(Service):
    """Three nodes: each connection comes to the next of them.

    A command is carried out by one of the nodes, or by all of them.
    """

    #: Whose numbers are added up.
    EVERYWHERE = frozenset({"receivers", "close", "detach", "restart"})

    def __init__(self, directory: Path, *, usual_ports: bool = False) -> None:
        self.ca = directory / "ca.pem"
        certificate, key = self._certify(directory)
        ports = node_ports(3, LISTENERS)
        usual = {}
        self._claim = None
        if usual_ports:
            self._claim, usual["amqps"] = usual_port()
        self._ways = Ways({name: [at[name] for at in ports] for name in LISTENERS}, usual)
        self.ports = self._ways.ports
        sealing = directory / "sealing"
        sealing.write_text(base64.b64encode(bytes(32)).decode())
        shared = {
            "tls_cert": str(certificate),
            "tls_key": str(key),
            "lock_seconds": 30,
            "drain_seconds": 2,
            "public_host": "localhost",
            "cluster": ",".join(shared_servers().urls),
            "cluster_prefix": f"interop-{os.getpid()}",
            "webhook_secret_key_file": str(sealing),
            "jwt_hs256_secret": "only for these tests, and long enough",
        }
        self._programs = []
        for number, at in enumerate(ports):
            own = {name: f"127.0.0.1:{port}" for name, port in at.items()}
            own |= {"data_dir": str(directory / f"data-{number}"), "node_id": f"node-{number}"}
            log = directory / f"node-{number}.log"
            self._programs.append(self._launch({**shared, **own}, log))
        for program in self._programs:
            program.hear(time.monotonic() + START_SECONDS)
        self._turns = itertools.cycle(self._programs)

    def ask(self, command: str, fields: dict[str, object]) -> dict[str, object]:
        line = json.dumps({"command": command, **fields})
        if command in self.EVERYWHERE:
            for program in self._programs:
                program.say(line)
            return _sum([_heard(program) for program in self._programs])
        answer: dict[str, object] = {}
        # A node that does not serve a subscription knows nothing of its state.
        for _ in self._programs:
            program = next(self._turns)
            program.say(line)
            answer = _heard(program)
            if answer["ok"]:
                break
        return answer

    def stop(self) -> None:
        for program in self._programs:
            program.stop()
        self._ways.stop()
        if self._claim is not None:
            self._claim.close()


def _heard(program: Program) -> dict[str, object]:
    answer: dict[str, object] = json.loads(program.hear(time.monotonic() + START_SECONDS))
    return answer


def _sum(answers: list[dict[str, object]]) -> dict[str, object]:
    """What failed, or numbers added up, and of all else what the first says."""
    total = next((answer for answer in answers if not answer["ok"]), dict(answers[0]))
    for name, value in total.items():
        if isinstance(value, int) and not isinstance(value, bool):
            total[name] = sum(int(str(answer[name])) for answer in answers)
    return total
