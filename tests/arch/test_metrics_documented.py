"""docs/metrics.md lists every metric with its labels and meaning, and no other."""

import re
from pathlib import Path

from hotpath.telemetry import Metrics

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(hotpath_\w+)` \| (.*?) \| (.*) \|$", re.MULTILINE)


def real():
    found = {}
    metrics = Metrics()
    metrics.add_cluster()
    for metric in metrics.registry.collect():
        name = metric.name + ("_total" if metric.type == "counter" else "")
        found[name] = metric.documentation
    return found


def test_a_service_that_is_alone_has_no_metrics_of_a_cluster():
    names = {metric.name for metric in Metrics().registry.collect()}

    assert not {name for name in names if "cluster" in name}


def test_every_metric_is_documented_and_no_other():
    documented = {name: meaning for name, _, meaning in ROW.findall(PAGE.read_text())}

    assert documented == real()
