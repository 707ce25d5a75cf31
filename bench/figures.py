"""Figures of a results file as tables of the documentation; nobody types them.

A page marks the place of a table with ``<!-- figures: NAME -->`` and ``<!-- end of figures -->``;
what is between is replaced. A stage that the results lack leaves its places as they are.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench import plot
from bench.errors import UsageError
from bench.peers import BROKERS, OURS

Section = Mapping[str, Any]
Table = Sequence[Sequence[str]]

PAGES = ("docs/performance.md", "docs/operations.md")
PICTURE = "docs/images/performance.png"
_PLACE = re.compile(r"(<!-- figures: ([\w-]+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def markdown(rows: Table) -> str:
    """A table; the first row is the heading, all but the first column to the right."""
    first, *others = ["| " + " | ".join(row) + " |" for row in rows]
    rule = "| --- |" + " ---: |" * (len(rows[0]) - 1)
    return "\n".join((first, rule, *others))


def number(value: float) -> str:
    """Three figures that count, thousands apart; no more than is known."""
    if value >= 1_000:
        digits = len(str(int(value))) - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:.3g}"


def spread_of(rate: Mapping[str, float]) -> str:
    """A median, and half the range around it in percent if there was more than one round."""
    if rate["low"] == rate["high"]:
        return number(rate["median"])
    half = 50 * (rate["high"] - rate["low"]) / rate["median"] if rate["median"] else 0
    return f"{number(rate['median'])} ±{half:.0f} %"


def _name(line: Section, versions: Mapping[str, str]) -> str:
    broker = str(line["broker"])
    version = versions.get(broker, "").partition("-")[0]
    title = BROKERS[broker].title
    return f"**{title}**" if broker == OURS else f"{title} ({version})"


def _versions(section: Section) -> Mapping[str, str]:
    found: Mapping[str, str] = section["environment"]["peers"]
    return found


def _load(line: Section) -> str:
    """A workload in words that fit a column."""
    parts = [f"fan-out {line['fan_out']}"]
    if line["selective"]:
        parts = [f"{line['subscriptions']:,} subscriptions"]
    if line["rate"] is not None:
        parts.append(f"{line['rate']:,.0f}/s")
    return ", ".join(parts)


def throughput(section: Section) -> str:
    """Rates, ratios, cost and memory of each workload and broker."""
    versions, ratios = _versions(section), section["ratios"]
    rows = [("workload", "broker", "published/s", "delivered/s", "hotpath is", "us/delivery", "peak MB")]  # fmt: skip
    for line in section["summary"]:
        ratio = ratios.get(line["broker"], {}).get(line["workload"])
        times = ""
        if ratio is not None:
            times = f"{ratio['median']:.1f} x ({ratio['low']:.1f} to {ratio['high']:.1f})"
        rows.append(
            (
                _load(line) + ("" if line["ok"] else " (incomplete)"),
                _name(line, versions),
                spread_of(line["publish_rate"]),
                spread_of(line["deliver_rate"]),
                times,
                f"{line['us_per_delivery']:.1f}",
                f"{line['broker_peak_rss_bytes']['high'] / 1e6:,.0f}",
            )
        )
    return markdown(rows)


def filters(section: Section) -> str:
    """Rates with selective filters."""
    rows = [("subscriptions", "messages/s", "us/message", "peak MB")]
    rows += [
        (
            f"{line['subscriptions']:,}" + ("" if line["ok"] else " (incomplete)"),
            spread_of(line["deliver_rate"]),
            f"{line['us_per_delivery']:.1f}",
            f"{line['broker_peak_rss_bytes']['high'] / 1e6:,.0f}",
        )
        for line in section["summary"]
    ]
    return markdown(rows)


def latency(section: Section) -> str:
    """Percentiles at fixed rates."""
    versions = _versions(section)
    names = ("p50", "p90", "p99", "p99_9", "max")
    rows = [("messages/s", "broker", *(f"{name.replace('_', '.')} ms" for name in names))]
    for line in section["summary"]:
        values = [f"{line['latency_us'][name] / 1e3:.2f}" for name in names]
        rate = f"{line['rate']:,.0f}" + ("" if line["ok"] else " (incomplete)")
        rows.append((rate, _name(line, versions), *values))
    return markdown(rows)


def _median(section: Section, field: str) -> float:
    return float(median(run[field] for run in section["runs"]))


def standing(section: Section) -> str:
    """Memory at rest."""
    rows = [("at rest", "measured", "promised")]
    rows += [
        ("a subscription that nobody reads", f"{_median(section, 'subscription_bytes'):,.0f} bytes", "< 4,096 bytes"),
        ("a connection with a link, on top", f"{_median(section, 'link_bytes') / 1e3:.1f} KB", "< 60 KB"),
        ("the service before them", f"{_median(section, 'start_bytes') / 1e6:.0f} MB", ""),
    ]  # fmt: skip
    return markdown(rows)


def behind(section: Section) -> str:
    """Start and catch-up."""
    rows = [("with a full log", "measured", "promised")]
    rows += [
        ("ready after a start", f"{_median(section, 'start_s'):.1f} s", "< 5 s"),
        ("messages/s while catching up", number(_median(section, "catch_up_rate")), "≥ 100,000"),
        ("memory that it takes", f"{_median(section, 'growth_bytes') / 1e6:.0f} MB", "< 200 MB"),
        ("another client's p99, quiet", f"{_median(section, 'quiet_ms'):.1f} ms", ""),
        ("another client's p99, beside it", f"{_median(section, 'beside_ms'):.1f} ms", ""),
    ]
    return markdown(rows)


def control(section: Section) -> str:
    """REST calls."""
    rows = [("creating subscriptions", "measured", "promised")]
    rows += [
        ("creates/s on one core", number(_median(section, "rate")), "≥ 1,000"),
        ("processor time of the service for each", f"{_median(section, 'service_ms'):.2f} ms", ""),
        ("p50, 16 at a time", f"{_median(section, 'p50_ms'):.1f} ms", ""),
        ("p99, 16 at a time", f"{_median(section, 'p99_ms'):.1f} ms", ""),
    ]
    return markdown(rows)


def clients(section: Section) -> str:
    """What the load clients do without a broker."""
    rows = [("message", "messages/s, sender straight to receiver")]
    rows += [(f"{run['message_bytes']} B", number(run["rate"])) for run in section["runs"]]
    return markdown(rows)


def machine(section: Section) -> str:
    """What the figures were taken on, in a sentence."""
    about = section["environment"]
    rounds = "one round" if section["rounds"] == 1 else f"{section['rounds']} rounds"
    peers = [
        f"{BROKERS[name].title} {version.partition('-')[0]}"
        for name, version in about["peers"].items()
    ]
    return (
        f"{about['processors']} processors of {about['processor']}, Linux {about['kernel']}, "
        f"{about['file_system']}, Python {about['python']}; {rounds} of "
        f"{section['seconds']:.0f} s, begun {about['at'][:10]} at a load average of "
        f"{about['load_before']:.1f}. Peers: {', '.join(peers) or 'none was installed'}."
    )


def sizing(sections: Mapping[str, Section]) -> str:
    """What one needs to know to choose a machine, as a list."""
    return "\n".join(f"- {text}" for text in _sizing_lines(sections))


def _sizing_lines(sections: Mapping[str, Section]) -> Iterator[str]:
    for line in sections["fan-out"]["summary"]:
        if line["broker"] == OURS:
            yield (
                f"fan-out {line['fan_out']}: {line['us_per_delivery']:.1f} µs of processor for a "
                f"delivery, so one core carries some "
                f"{number(1e6 / line['us_per_delivery'] / line['fan_out'])} messages a second; "
                f"{line['broker_peak_rss_bytes']['high'] / 1e6:.0f} MB at the most."
            )
    at_rest = sections["idle"]
    yield (
        f"at rest: {_median(at_rest, 'subscription_bytes') / 1e3:.1f} KB for a subscription, "
        f"{_median(at_rest, 'link_bytes') / 1e3:.0f} KB for a connection with a link: "
        f"{(1e4 * (_median(at_rest, 'subscription_bytes') + _median(at_rest, 'link_bytes')) + _median(at_rest, 'start_bytes')) / 1e6:.0f} MB "
        "for 10,000 of both."
    )
    yield (
        f"a start with a million messages and 10,000 subscriptions takes "
        f"{_median(sections['backlog'], 'start_s'):.1f} s; a client that was away catches up with "
        f"{number(_median(sections['backlog'], 'catch_up_rate'))} messages a second."
    )
    yield (
        f"creating a subscription takes {_median(sections['rest'], 'service_ms'):.2f} ms of "
        "processor, audit line included."
    )


#: Which stages a place needs, and what is put there.
PLACES: Mapping[str, tuple[tuple[str, ...], Callable[[Mapping[str, Section]], str]]] = {
    "machine": (("fan-out",), lambda all_of: machine(all_of["fan-out"])),
    "clients": (("clients",), lambda all_of: clients(all_of["clients"])),
    "fan-out": (("fan-out",), lambda all_of: throughput(all_of["fan-out"])),
    "large": (("large",), lambda all_of: throughput(all_of["large"])),
    "filters": (("filters",), lambda all_of: filters(all_of["filters"])),
    "latency": (("latency",), lambda all_of: latency(all_of["latency"])),
    "idle": (("idle",), lambda all_of: standing(all_of["idle"])),
    "backlog": (("backlog",), lambda all_of: behind(all_of["backlog"])),
    "rest": (("rest",), lambda all_of: control(all_of["rest"])),
    "sizing": (("fan-out", "idle", "backlog", "rest"), sizing),
}


def fill(text: str, sections: Mapping[str, Section]) -> str:
    """A page with the figures of all stages that there are.

    Raises:
        UsageError: If it has a place of an unknown name.
    """

    def put(found: re.Match[str]) -> str:
        if found[2] not in PLACES:
            raise UsageError(f"there are no figures by the name {found[2]!r}")
        needed, render = PLACES[found[2]]
        if any(stage not in sections for stage in needed):
            return found[0]
        return f"{found[1]}\n{render(sections)}\n\n{found[3]}"

    return _PLACE.sub(put, text)


def write_pages(document: Mapping[str, Any], root: Path) -> None:
    """Put figures and plot into the pages below a checkout's root.

    Raises:
        UsageError: If a page is missing, or the plotting library.
    """
    sections: Mapping[str, Section] = document["sections"]
    for name in PAGES:
        page = root / name
        if not page.is_file():
            raise UsageError(f"{page} is not there; name the checkout with --root")
        page.write_text(fill(page.read_text(), sections))
        print(f"written: {page}", file=sys.stderr)
    lines = [
        line for stage in ("fan-out", "latency") for line in sections.get(stage, {}).get("summary", ())
    ]  # fmt: skip
    if lines:
        plot.draw(lines, root / PICTURE)
        print(f"written: {root / PICTURE}", file=sys.stderr)
