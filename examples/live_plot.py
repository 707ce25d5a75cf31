"""Plot a variable live in the terminal: `live_plot.py [FILTER [COUNT]]`.

Each object and variable that the filter lets through is a line of its own. Ends with Ctrl-C, or
after COUNT messages. Reads HOTPATH_TOKEN and HOTPATH_URL (http://127.0.0.1:8080). Needs
python-qpid-proton and rich.
"""

import json
import os
import sys
from collections import deque
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from proton.utils import BlockingConnection, BlockingReceiver
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel

SERVICE = os.environ.get("HOTPATH_URL", "http://127.0.0.1:8080")
TOKEN = os.environ["HOTPATH_TOKEN"]
BARS = " ▁▂▃▄▅▆▇█"
SERIES_MAX = 6
ROWS = 5

Series = deque[float]


def call(method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Make a REST call and return the JSON of its answer."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    content = None if body is None else json.dumps(body).encode()
    request = Request(SERVICE + path, method=method, data=content, headers=headers)
    with urlopen(request) as answer:
        text = answer.read()
    return dict(json.loads(text)) if text else {}


def plot(values: Series) -> str:
    """A column for each value, between the lowest and the highest, in eighths of a row."""
    low, high = min(values), max(values)
    scale = (ROWS * 8 - 1) / (high - low) if high > low else 0.0
    heights = [1 + round((value - low) * scale) for value in values]
    return "\n".join(
        "".join(BARS[max(0, min(8, height - 8 * row))] for height in heights)
        for row in reversed(range(ROWS))
    )


def picture(series: dict[str, Series]) -> Group:
    """All plots, one below the other."""
    return Group(
        *(
            Panel(
                plot(values),
                title=f"{name} = {values[-1]:g}",
                subtitle=f"{min(values):g} to {max(values):g}",
            )
            for name, values in series.items()
        )
    )


def note(series: dict[str, Series], reading: dict[str, Any], *, width: int) -> None:
    """Add a reading to its series; what is no number, and one series too many, is passed over."""
    value = reading["value"]
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return
    name = f"{reading['objectId']} {reading['variable']}"
    if name in series or len(series) < SERIES_MAX:
        series.setdefault(name, deque(maxlen=width)).append(float(value))


def watch(receiver: BlockingReceiver, count: int | None) -> None:
    """Draw until so many messages have come."""
    console = Console()
    series: dict[str, Series] = {}
    come = 0
    with Live(console=console, refresh_per_second=8) as live:
        while count is None or come < count:
            message = receiver.receive(timeout=None)
            note(
                series,
                json.loads(bytes(cast("bytes", message.body))),
                width=max(10, console.width - 4),
            )
            receiver.accept()
            come += 1
            live.update(picture(series))


def main() -> None:
    """Subscribe, draw, delete."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else "variable = 'temperature'"
    count = int(sys.argv[2]) if len(sys.argv) > 2 else None
    ask = {"filter": wanted, "subscriptionTTL": 60, "sasTokenTTL": 30}
    made = call("POST", "/subscriptions/variables", ask)
    feed = urlsplit(made["connectionURL"])
    try:
        connection = BlockingConnection(
            f"{feed.scheme}://{feed.netloc}",
            user="any",
            password=made["sasToken"],
            allowed_mechs="PLAIN",
            allow_insecure_mechs=True,  # plain TCP on this machine; not needed with amqps
        )
        watch(connection.create_receiver(feed.path.lstrip("/"), credit=50), count)
        connection.close()
    except KeyboardInterrupt:
        pass
    finally:
        call("DELETE", f"/subscriptions/variables/{made['subscriptionId']}")


if __name__ == "__main__":
    main()
