"""Every promise and every mitigation in the pages leads to a test that exists."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
LINK = re.compile(r"\]\((\.\./tests/[^)#\s]+)(?:#(\w+))?\)")
PAGES = ["guarantees.md", "threat-model.md", "errors.md"]


def claims(page: str) -> list[str]:
    """List items and table rows; tables of assets have no tests."""
    text = (DOCS / page).read_text()
    if page == "threat-model.md":
        text = text[text.index("## Attackers") : text.index("## Out of scope")]
    rows = [line for line in text.splitlines() if line.startswith(("- ", "| "))]
    heads = {
        "| Tries to",
        "| Mistake",
        "| Limit |",
        "| What happens |",
        "| Status |",
        "| Condition |",
        "| ---",
    }
    return [row for row in rows if not row.startswith(tuple(heads))]


@pytest.mark.parametrize("page", PAGES)
def test_every_claim_links_to_a_test(page):
    assert claims(page)
    assert [row for row in claims(page) if not LINK.search(row)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_names_a_test_that_exists(page):
    missing = [
        (target, name)
        for target, name in LINK.findall((DOCS / page).read_text())
        if not (DOCS / target).exists()
        or (name and not re.search(rf"def {name}\(", (DOCS / target).read_text()))
    ]

    assert missing == []
