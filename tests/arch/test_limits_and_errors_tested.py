"""Every limit and every error that a client can meet stands in a page, beside a test of it.

That each row links to a test that exists is checked in `test_promises_linked.py`.
"""

import re
from http import HTTPStatus
from pathlib import Path

from hotpath.amqp import conditions
from hotpath.config import Settings
from hotpath.rest.problems import STATUSES

DOCS = Path(__file__).parents[2] / "docs"
#: Settings that bound nothing a client can fill or wait for: where, who, how; webhooks have a page.
NO_LIMITS = {
    *("data_dir", "http", "https", "amqp", "amqps", "metrics", "public_host", "console"),
    *("cluster", "node_id"),
    *("tls_cert", "tls_key", "tls_client_ca", "tls_reload_seconds"),
    *("minute", "reap", "expired_to_dead_letter", "segment_bytes", "log_sync"),
    *("log_level", "log_json", "trace_endpoint", "trace_ratio", "event_loop"),
}
ELSEWHERE = re.compile(
    "cluster_|jwt_|claim_|webhook_|.*stream.*points|points?_|.*streams?_per|max_stream_"
)


def named(page: str, pattern: str) -> set[str]:
    rows = [line for line in (DOCS / page).read_text().splitlines() if line.startswith("| ")]
    return {name for row in rows for name in re.findall(pattern, row.split(" | ")[0])}


def test_every_limit_stands_among_the_guarantees():
    limits = {
        name
        for name in Settings.model_fields
        if name not in NO_LIMITS and not ELSEWHERE.match(name)
    }

    found = {name.lower() for name in named("guarantees.md", r"HOTPATH_([A-Z_0-9]+)")}

    assert found == limits


def test_every_status_stands_among_the_errors():
    # What aiohttp answers by itself, and a defect.
    own = {HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.INTERNAL_SERVER_ERROR}

    found = {int(status) for status in named("errors.md", r"^\| (\d{3})")}

    assert found == {int(status) for status in {*STATUSES.values(), *own}}


def test_every_condition_stands_among_the_errors():
    ours = {
        value
        for value in vars(conditions).values()
        if isinstance(value, str) and value.startswith(("amqp:", "com.microsoft:"))
    }

    assert named("errors.md", r"`((?:amqp|com\.microsoft):[a-z:-]+)`") == ours
