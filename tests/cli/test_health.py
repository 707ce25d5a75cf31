"""`hotpath health`: an exit code for supervisors, and a sentence for people."""

import json

from tests.cli.conftest import FREE_PORTS


def test_a_running_service_is_alive_and_ready(service):
    alive = service.run("health")
    ready = service.run("health", "--ready", "--json")

    assert (alive.returncode, alive.stdout) == (0, f"{service.urls['http']} is alive\n")
    assert json.loads(ready.stdout) == {"url": service.urls["http"], "status": "ready"}


def test_one_that_cannot_check_tokens_is_alive_and_says_why_it_is_not_ready(own_service):
    nobody = "http://127.0.0.1:9/keys"
    service = own_service(*FREE_PORTS, "--jwt-jwks-url", nobody)

    alive, ready = service.run("health"), service.run("health", "--ready")

    assert alive.returncode == 0
    assert ready.returncode == 1
    assert "readyz" in ready.stderr
    assert "key set" in ready.stderr
    assert "Traceback" not in ready.stderr


def test_no_service_is_a_failure_that_names_the_address(service):
    nowhere = service.run("health", "--url", "http://127.0.0.1:9")

    assert nowhere.returncode == 1
    assert nowhere.stderr.startswith("Error: http://127.0.0.1:9/healthz does not answer:")
