"""Every REST route of the OpenAPI document is on a page, and every documented one exists."""

import re
from pathlib import Path

import pytest

from tests.support.process import running_server

DOCS = Path(__file__).parents[2] / "docs"
STREAMING = "/streaming/v1/partitions/{}"
ROW = re.compile(r"^\| (`(?:GET|POST|PUT|DELETE|PATCH) /.*?) \|", re.MULTILINE)
CALL = re.compile(r"(?:(GET|POST|PUT|DELETE|PATCH) )?(/[^\s?`\[]*)")


def shape(path: str) -> str:
    """A path whatever its parameters are called."""
    return re.sub(r"\{[^}]*\}", "{}", path)


def calls_of(page: str, prefix: str = "") -> set[tuple[str, str]]:
    """The calls that the first cells of a page's tables name in code."""
    found = set()
    for cell in ROW.findall((DOCS / page).read_text()):
        method = ""
        for code in re.findall(r"`([^`]*)`", cell):
            call = CALL.match(code)
            assert call is not None, code
            # `GET /a`, `/b`: both by the same method.
            method = call[1] or method
            found.add((method, prefix + shape(call[2])))
    return found


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The calls that a running service tells of."""
    with running_server(tmp_path_factory.mktemp("routes") / "data") as service:
        document = service.call("GET", "/openapi.json").body
    return {
        (method.upper(), shape(path))
        for path, calls in document["paths"].items()
        for method in calls
        if method in {"get", "post", "put", "delete", "patch"}
    }


@pytest.mark.slow
def test_every_route_is_documented_and_no_other(served):
    documented = calls_of("rest.md") | calls_of("webhooks.md", STREAMING)

    assert len(served) > 25
    assert sorted(served - documented) == []
    assert sorted(documented - served) == []
