"""The plot of the documentation: messages a second over the number of filters."""

from collections.abc import Sequence
from pathlib import Path

from bench.errors import UsageError
from bench.index.measure import Cost

SHOWN = ("plant", "plant 0 %", "plant 1 %", "routing")


def draw(costs: Sequence[Cost], path: Path) -> None:
    """Write a PNG.

    Raises:
        UsageError: matplotlib is not installed (extra `bench`).
    """
    try:
        import matplotlib  # noqa: PLC0415 -- only this needs it

        matplotlib.use("Agg")
        from matplotlib import pyplot  # noqa: PLC0415
    except ImportError as error:
        raise UsageError("--plot needs matplotlib: pip install 'hotpath[bench]'") from error
    figure, axes = pyplot.subplots(figsize=(8, 5), dpi=110)
    names = [name for name in SHOWN if any(cost.workload == name for cost in costs)]
    for colour, name in enumerate(names or sorted({cost.workload for cost in costs})):
        rows = [cost for cost in costs if cost.workload == name]
        sizes = [cost.filters for cost in rows]
        shade = f"C{colour}"
        rates = [cost.events_per_s for cost in rows]
        axes.plot(sizes, rates, color=shade, marker="o", label=name)
        scans = [1e6 / cost.scan_us for cost in rows]
        axes.plot(sizes, scans, color=shade, marker="o", linestyle=":", alpha=0.6)
    axes.set(xscale="log", yscale="log", xlabel="filters", ylabel="messages a second")
    axes.set_title("One message against many filters (dotted: asking each filter)")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)
