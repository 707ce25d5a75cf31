"""Pictures of what was measured: deliveries a second of each broker, and latencies."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.measure import Result
from bench.peers import BROKERS
from bench.report import summary

Line = Mapping[str, Any]

PERCENTILES = ("p50", "p90", "p99", "p99_9")
SIZE = (10.0, 5.4)


def _pyplot() -> Any:
    """The plotting library, without a screen. Raises UsageError when it is not installed."""
    try:
        import matplotlib  # noqa: PLC0415 -- only this needs it

        matplotlib.use("Agg")
        from matplotlib import pyplot  # noqa: PLC0415
    except ImportError as error:
        raise UsageError("the plot needs matplotlib: pip install 'hotpath[bench]'") from error
    return pyplot


def draw_results(results: Sequence[Result], path: Path) -> None:
    """Write a PNG of a run of `compare`. Raises UsageError."""
    draw(summary(results), path)


def draw(lines: Sequence[Line], path: Path) -> None:
    """Write a PNG of the lines of a summary.

    Raises:
        UsageError: matplotlib is not installed (extra `bench`).
    """
    pyplot = _pyplot()
    rates = [line for line in lines if line["rate"] is None and not line["selective"]]
    timed = [line for line in lines if line["rate"] is not None]
    panels = [part for part in (rates, timed) if part]
    figure, axes = pyplot.subplots(1, max(1, len(panels)), figsize=SIZE, dpi=110, squeeze=False)
    for place, part in zip(axes[0], panels, strict=False):
        if part is rates:
            _draw_rates(place, part)
        else:
            _draw_latencies(place, part)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)


def _draw_rates(axes: Any, lines: Sequence[Line]) -> None:
    """Bars in groups: a group a workload, a bar a broker."""
    groups = list(dict.fromkeys(line["workload"] for line in lines))
    names = [name for name in BROKERS if any(line["broker"] == name for line in lines)]
    width = 0.8 / len(names)
    for position, name in enumerate(names):
        mine = {line["workload"]: line["deliver_rate"] for line in lines if line["broker"] == name}
        there = [(index, mine[group]) for index, group in enumerate(groups) if group in mine]
        middles = [rate["median"] for _, rate in there]
        reach = [
            [rate["median"] - rate["low"] for _, rate in there],
            [rate["high"] - rate["median"] for _, rate in there],
        ]
        places = [index - 0.4 + width * (position + 0.5) for index, _ in there]
        axes.bar(places, middles, width, yerr=reach, capsize=2, label=BROKERS[name].title)
    axes.set_yscale("log")
    axes.set_xticks(range(len(groups)), [group.replace(", ", "\n") for group in groups])
    axes.set_ylabel("deliveries a second")
    axes.set_title("Durable messages, each confirmed and settled")
    axes.grid(visible=True, axis="y", which="major", alpha=0.3)
    _legend(axes)


def _draw_latencies(axes: Any, lines: Sequence[Line]) -> None:
    """A line a broker and rate, over the percentiles."""
    for line in lines:
        values = [line["latency_us"][name] / 1e3 for name in PERCENTILES]
        label = f"{BROKERS[line['broker']].title}, {line['rate']:,.0f}/s"
        axes.plot(range(len(PERCENTILES)), values, marker="o", label=label)
    axes.set_yscale("log")
    axes.set_xticks(range(len(PERCENTILES)), [name.replace("_", ".") for name in PERCENTILES])
    axes.set_ylabel("publish to receive, milliseconds")
    axes.set_title("Latency at fixed rates")
    axes.grid(visible=True, which="major", alpha=0.3)
    _legend(axes)


def _legend(axes: Any) -> None:
    """Below the panel, where it hides nothing."""
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncol=2, frameon=False)
