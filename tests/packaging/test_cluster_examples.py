"""What is in `examples/cluster/` fits the service and the servers that are there."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from hotpath.config import CONFIG_FILE_VARIABLE, Settings
from tests.support.nats import MISSING, server_binary

EXAMPLES = Path(__file__).parents[2] / "examples" / "cluster"
VARIABLE = re.compile(r"\bHOTPATH_([A-Z_0-9]+)")


def documents():
    return list(yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text()))


def the(kind, name):
    [found] = [d for d in documents() if (d["kind"], d["metadata"]["name"]) == (kind, name)]
    return found


@pytest.mark.parametrize("file", ["compose.yaml", "kubernetes.yaml"])
def test_the_settings_that_are_named_exist(file):
    named = {name.lower() for name in VARIABLE.findall((EXAMPLES / file).read_text())}

    assert "cluster" in named
    # Said in comments as the bound of a stop.
    assert named - {"drain_seconds"} <= set(Settings.model_fields)


def test_the_configuration_of_a_node_is_one(monkeypatch):
    monkeypatch.setenv(CONFIG_FILE_VARIABLE, str(EXAMPLES / "hotpath.toml"))
    keys = re.findall(r"^(\w+) =", (EXAMPLES / "hotpath.toml").read_text(), re.MULTILINE)

    settings = Settings()

    assert set(keys) == settings.model_fields_set
    assert len(settings.cluster_servers) == 3
    assert settings.uses_dev_key is False


def test_the_containers_of_a_kind_differ_in_their_names_only():
    compose = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())
    nodes = [compose["services"][f"hotpath-{n}"] for n in range(3)]

    differing = {
        name
        for name in nodes[0]["environment"]
        if len({node["environment"][name] for node in nodes}) > 1
    }

    assert differing == {"HOTPATH_NODE_ID", "HOTPATH_PUBLIC_HOST"}
    assert {node["image"] for node in nodes} == {"hotpath"}
    for service in compose["services"].values():
        for mounted in service["volumes"]:
            source = mounted.partition(":")[0]
            assert source in compose["volumes"] or (EXAMPLES / source).exists()


def test_a_majority_of_servers_is_never_taken_away_on_purpose():
    assert the("PodDisruptionBudget", "nats")["spec"]["maxUnavailable"] == 1
    nats = the("StatefulSet", "nats")["spec"]
    assert nats["replicas"] == 3
    apart = nats["template"]["spec"]["affinity"]["podAntiAffinity"]
    assert apart["requiredDuringSchedulingIgnoredDuringExecution"]


def test_a_stop_has_the_time_it_may_take():
    spec = the("StatefulSet", "hotpath")["spec"]["template"]["spec"]

    assert spec["terminationGracePeriodSeconds"] > Settings().drain_seconds


@pytest.mark.parametrize("name", ["nats", "hotpath"])
def test_services_find_their_pods_and_volumes_are_there(name):
    found = the("StatefulSet", name)["spec"]
    template = found["template"]
    pod = template["spec"]

    assert found["selector"]["matchLabels"] == template["metadata"]["labels"] == {"app": name}
    assert the("Service", found["serviceName"])["spec"]["selector"] == {"app": name}
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    volumes |= {claim["metadata"]["name"] for claim in found.get("volumeClaimTemplates", [])}
    assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == volumes


@pytest.mark.skipif(bool(MISSING), reason=MISSING or "nats-server is there")
def test_the_configuration_of_a_server_is_one():
    environment = {
        **os.environ,
        "NATS_NAME": "nats-0",
        "NATS_ROUTES": '["nats://nats-1:6222"]',
        "NATS_PASSWORD": "secret",
    }

    checked = subprocess.run(
        [server_binary(), "-t", "-c", str(EXAMPLES / "nats.conf")],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )

    assert checked.returncode == 0, checked.stderr


def test_the_unit_is_one_that_systemd_takes(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on this machine")
    unit = tmp_path / "nats-server.service"
    text = (EXAMPLES / "nats-server.service").read_text()
    unit.write_text(text.replace("/usr/local/bin/nats-server", "/bin/true"))

    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert "nats-server.service" not in verified.stderr, verified.stderr
