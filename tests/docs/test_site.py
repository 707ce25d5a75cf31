"""The site: every page is in its navigation, and it builds without a warning."""

import re
import subprocess
import sys

import pytest
import yaml

from tests.docs.blocks import ROOT

DOCS = ROOT / "docs"
PARTS = ["Tutorial", "How-to guides", "Reference", "Explanation"]


def configuration():
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text())


def pages_of(nav):
    for entry in nav:
        for target in entry.values():
            yield from [target] if isinstance(target, str) else pages_of(target)


def test_navigation_has_every_page_once():
    named = list(pages_of(configuration()["nav"]))

    assert sorted(named) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_navigation_tells_learning_doing_looking_up_and_understanding_apart():
    names = [name for entry in configuration()["nav"] for name in entry]

    assert [name for name in names if name in PARTS] == PARTS


def test_site_builds_without_a_warning_and_asks_for_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("mkdocs", reason="mkdocs is not installed (the extra `docs`)")

    options = ["--strict", "--quiet", "--config-file", ROOT / "mkdocs.yml", "--site-dir", tmp_path]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", *options],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    page = (tmp_path / "tutorial.html").read_text()
    assert "A first feed" in page
    loaded = re.findall(r'<(?:script|img)[^>]* src="([^"]*)|<link[^>]* href="([^"]*)', page)
    assert loaded
    assert [each for pair in loaded for each in pair if re.match(r"(https?:)?//", each)] == []
