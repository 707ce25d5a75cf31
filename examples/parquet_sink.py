"""Keep a feed as Parquet files: `parquet_sink.py DIRECTORY [FILTER [COUNT]]`.

A file is written when BATCH_ROWS messages are there or the oldest has waited for BATCH_SECONDS. They
are settled once their file is on disk, and not before: a kill at any moment loses none, and what was
written but not settled comes again (the column `sequence` tells a repeated row). The subscription is
remembered in DIRECTORY: the next start goes on where this one ended.

Reads HOTPATH_TOKEN, HOTPATH_URL (http://127.0.0.1:8080), BATCH_ROWS (1000) and BATCH_SECONDS (10;
it must be less than the lock of a message). Needs python-qpid-proton, pandas and pyarrow.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, cast
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pandas as pd
from proton import Message, Timeout
from proton.utils import BlockingConnection, BlockingReceiver, LinkDetached

SERVICE = os.environ.get("HOTPATH_URL", "http://127.0.0.1:8080")
TOKEN = os.environ["HOTPATH_TOKEN"]
BATCH = int(os.environ.get("BATCH_ROWS", "1000"))
SECONDS = float(os.environ.get("BATCH_SECONDS", "10"))
FOLDER = "/subscriptions/variables"

Row = dict[str, Any]


def call(method: str, path: str, body: Row | None = None) -> Row:
    """Make a REST call and return the JSON of its answer."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    content = None if body is None else json.dumps(body).encode()
    request = Request(SERVICE + path, method=method, data=content, headers=headers)
    with urlopen(request) as answer:
        text = answer.read()
    return dict(json.loads(text)) if text else {}


def write(path: Path, content: bytes) -> None:
    """Put a file there whole, and return when it is on disk."""
    draft = path.with_name(f".{path.name}.part")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def access(directory: Path, wanted: str) -> Row:
    """The subscription of this directory with a fresh token, or a new one."""
    note = directory / "_subscription.json"  # readers of Parquet pass over such names
    if note.exists():
        try:
            return call("PUT", f"{FOLDER}/{json.loads(note.read_text())['subscriptionId']}")
        except HTTPError as error:
            if error.code != 404:
                raise
            print("the subscription has ended; a new one begins", file=sys.stderr)
    ask = {"filter": wanted, "subscriptionTTL": 7 * 24 * 60, "sasTokenTTL": 60}
    made = call("POST", FOLDER, ask)
    write(note, json.dumps({"subscriptionId": made["subscriptionId"], "filter": wanted}).encode())
    return made


def row_of(message: Message) -> Row:
    """A line of the table; `value` may be anything, so it is kept as JSON beside the number."""
    reading = json.loads(bytes(cast("bytes", message.body)))
    value = reading["value"]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    annotations = cast("dict[str, Any]", message.annotations)
    return {
        "sequence": annotations["x-opt-sequence-number"],
        "timestamp": pd.Timestamp(reading["timestamp"]),
        "object_id": reading["objectId"],
        "variable": reading["variable"],
        "number": float(value) if is_number else None,
        "value": json.dumps(value),
        "quality": reading.get("quality"),
    }


def gather(receiver: BlockingReceiver, most: int) -> list[Row]:
    """Rows of the next messages: up to `most`, or what has come SECONDS after the first."""
    rows: list[Row] = []
    until = 0.0
    while len(rows) < most:
        left = until - time.monotonic() if rows else None
        if left is not None and left <= 0:
            break
        try:
            rows.append(row_of(receiver.receive(timeout=left)))
        except Timeout:
            break
        until = until or time.monotonic() + SECONDS
    return rows


def keep(directory: Path, rows: list[Row]) -> None:
    """Write the rows to a file that is named by its first and last message."""
    table = pd.DataFrame(rows).astype({"number": "float64", "quality": "float64"})
    first, last = table["sequence"].min(), table["sequence"].max()
    write(directory / f"variables-{first:012}-{last:012}.parquet", table.to_parquet(index=False))
    print(f"{len(rows)} rows are on disk", flush=True)


def drain(directory: Path, made: Row, left: int) -> int:
    """Gather, keep, settle; how many are left when the link's token has ended, or all are done."""
    feed = urlsplit(made["connectionURL"])
    connection = BlockingConnection(
        f"{feed.scheme}://{feed.netloc}",
        user="any",
        password=made["sasToken"],
        allowed_mechs="PLAIN",
        allow_insecure_mechs=True,  # plain TCP on this machine; not needed with amqps
    )
    try:
        receiver = connection.create_receiver(feed.path.lstrip("/"), credit=BATCH)
        while left:
            rows = gather(receiver, min(BATCH, left))
            keep(directory, rows)
            for _ in rows:
                receiver.accept()
            left -= len(rows)
    except LinkDetached as error:
        print(f"{error}; again with a fresh token", file=sys.stderr)
    finally:
        connection.close()
    return left


def main() -> None:
    """Go on until killed, or until so many messages are kept."""
    directory = Path(sys.argv[1])
    wanted = sys.argv[2] if len(sys.argv) > 2 else "true"
    left = int(sys.argv[3]) if len(sys.argv) > 3 else sys.maxsize
    directory.mkdir(parents=True, exist_ok=True)
    while left:
        left = drain(directory, access(directory, wanted), left)


if __name__ == "__main__":
    main()
