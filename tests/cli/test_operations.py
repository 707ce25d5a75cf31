"""list, delete, simulate, reaper and demo against running services."""

import json
import signal
import subprocess
from collections import Counter

from tests.cli.conftest import FREE_PORTS
from tests.cli.service import HOTPATH, bare_environment, read_line, until


def test_list_shows_filter_and_reader(service):
    process = service.spawn("subscribe", "alarms", "--filter", "alarm = 'high'")

    service.until_subscribed()
    listed = service.run("list", "--json")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)

    (found,) = map(json.loads, listed.stdout.splitlines())
    assert (found["type"], found["filter"], found["clients"]) == ("alarms", "alarm = 'high'", 1)


def test_unknown_subscription_is_not_deleted(service):
    result = service.run("delete", "no-such-id")

    assert result.returncode == 1
    assert "there is no subscription no-such-id; nothing was deleted" in result.stderr


def test_simulated_plant_is_published_and_the_same_for_the_same_seed(service):
    arguments = ("simulate", "--seconds", "1.5", "--rate", "200", "--objects", "5", "--seed", "4")
    runs = []
    for tenant in ("plant-a", "plant-b"):
        result = service.run(*arguments, "--json", HOTPATH_TENANT=tenant)
        assert result.returncode == 0, result.stderr
        counts = json.loads(result.stdout)["published"]
        assert sum(counts.values()) == 300
        seen = service.run(
            *("subscribe", "variables", "--start-from", "earliest"),
            *("--count", counts["variables"]),
            HOTPATH_TENANT=tenant,
        )
        messages = [json.loads(line) for line in seen.stdout.splitlines()]
        assert len(messages) == counts["variables"]
        runs.append([{k: v for k, v in m.items() if k != "timestamp"} for m in messages])

    assert runs[0] == runs[1]
    assert len(Counter(message["objectId"] for message in runs[0])) >= 5


def test_simulation_ends_cleanly_on_a_signal(service):
    body = {"subscriptionTTL": 3000, "sasTokenTTL": 5, "filter": "true"}
    identity = service.call("POST", "/subscriptions/variables", body)["subscriptionId"]
    process = service.spawn("simulate", "--rate", "50")
    until("message", lambda: backlog(service, identity) > 10)

    process.send_signal(signal.SIGTERM)
    out, said = process.communicate(timeout=20)

    assert process.returncode == 0, said
    assert sum(json.loads(out)["published"].values()) > 10


def test_reaper_deletes_what_the_service_leaves(own_service):
    # Ten API minutes are a tenth of a second here.
    service = own_service(*FREE_PORTS, "--no-reap", "--minute", "0.01")
    create(service)

    def reaped():
        assert len(service.subscriptions()) == 1
        once = service.run("reaper", "--once", "--json")
        assert once.returncode == 0, once.stderr
        return json.loads(once.stdout)["reaped"]

    assert until("end", reaped) == 1
    assert service.subscriptions() == []

    create(service)
    process = service.spawn("reaper", "--json")
    assert json.loads(read_line(process, 30))["reaped"] == 1
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 0


def test_reaper_needs_the_right(service):
    token = service.run("token", "--scope", "hotpath.subscribe").stdout.strip()

    result = service.run("reaper", "--token", token)

    assert result.returncode == 1
    assert "hotpath.admin" in result.stderr


def backlog(service, identity):
    (found,) = [each for each in service.subscriptions() if each["subscriptionId"] == identity]
    return found["backlog"]


def create(service):
    body = {"subscriptionTTL": 10, "sasTokenTTL": 5, "filter": "true"}
    assert service.call("POST", "/subscriptions/variables", body)["subscriptionId"]


def test_demonstration_agrees_with_itself_and_leaves_nothing(tmp_path):
    result = subprocess.run(
        [*HOTPATH, "demo"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env=bare_environment(HOTPATH_DEMO_SECONDS="6", TMPDIR=str(tmp_path)),
    )

    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count(": agree ") == 4
    assert "token renewed in time" in result.stdout
    assert "service stopped with exit code 0" in result.stdout
    assert list(tmp_path.iterdir()) == []
