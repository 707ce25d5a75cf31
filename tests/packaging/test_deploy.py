"""What is in `deploy/`, the Dockerfile and compose.yaml fits the service that is there."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from hotpath.cli.group import COMMANDS
from hotpath.config import CONFIG_FILE_VARIABLE, Settings
from hotpath.telemetry import Metrics

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
METRIC = re.compile(r"\bhotpath_[a-z_]+")
VARIABLE = re.compile(r"\bHOTPATH_([A-Z_0-9]+)")


def exposed():
    """Every name under which Prometheus sees a metric."""
    names = set()
    for metric in Metrics().registry.collect():
        names.add(metric.name)
        names |= {f"{metric.name}_{end}" for end in ("total", "bucket", "sum", "count")}
    return names


@pytest.mark.parametrize("file", ["alerts.yml", "grafana/hotpath.json"])
def test_rules_and_dashboard_ask_for_metrics_that_exist(file):
    asked = set(METRIC.findall((DEPLOY / file).read_text()))

    assert asked
    assert asked <= exposed()


def test_the_dashboard_has_queries_and_meanings_in_every_panel():
    dashboard = json.loads((DEPLOY / "grafana" / "hotpath.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]

    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(panel["description"] and panel["targets"] for panel in panels)


def test_every_metric_is_on_the_dashboard():
    shown = set(METRIC.findall((DEPLOY / "grafana" / "hotpath.json").read_text()))

    for metric in Metrics().registry.collect():
        ends = ("", "_total", "_bucket")
        assert shown & {metric.name + end for end in ends}, f"{metric.name} is not shown"


def test_the_example_configuration_is_one(monkeypatch):
    monkeypatch.setenv(CONFIG_FILE_VARIABLE, str(DEPLOY / "hotpath.toml"))
    keys = re.findall(r"^(\w+) =", (DEPLOY / "hotpath.toml").read_text(), re.MULTILINE)

    settings = Settings()

    assert set(keys) <= set(Settings.model_fields)
    assert set(keys) == settings.model_fields_set
    assert (settings.amqp, settings.amqps.port, settings.uses_dev_key) == (None, 5671, False)


def test_containers_name_settings_that_exist():
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    service = compose["services"]["hotpath"]
    variables = set(VARIABLE.findall((ROOT / "Dockerfile").read_text()))
    variables |= {name.removeprefix("HOTPATH_") for name in service["environment"]}

    assert {name.lower() for name in variables} <= set(Settings.model_fields)
    for mounted in [each for part in compose["services"].values() for each in part["volumes"]]:
        source = mounted.partition(":")[0]
        assert source in compose["volumes"] or (ROOT / source).exists()


def test_the_image_is_small_unprivileged_and_watched():
    text = (ROOT / "Dockerfile").read_text()
    final = text[text.rindex("\nFROM ") :]
    steps = dict(re.findall(r"^([A-Z]+) (.*)$", final.replace("\\\n", " "), re.MULTILINE))

    assert "-slim" in final.splitlines()[1]
    assert steps["USER"] == "hotpath"
    assert "build-essential" not in final
    probe = json.loads(re.search(r"CMD (\[.*\])$", steps["HEALTHCHECK"])[1])
    assert probe[:1] == json.loads(steps["ENTRYPOINT"]) == ["hotpath"]
    assert probe[1] in COMMANDS
    assert json.loads(steps["CMD"])[0] in COMMANDS


def test_every_file_the_image_copies_is_sent_to_the_builder():
    copied = re.findall(
        r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE
    )
    sent = (ROOT / ".dockerignore").read_text().splitlines()

    for name in [each for line in copied for each in line.split()]:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in sent


def test_the_unit_is_one_that_systemd_takes_and_finds_well_confined(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on this machine")
    unit = tmp_path / "hotpath.service"
    text = (DEPLOY / "hotpath.service").read_text()
    unit.write_text(text.replace("/opt/hotpath/bin/hotpath", "/bin/true"))

    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert "hotpath.service" not in verified.stderr, verified.stderr
    assert rated.returncode == 0, rated.stdout[-500:]
