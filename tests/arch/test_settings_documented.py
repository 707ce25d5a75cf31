"""docs/configuration.md lists every setting with its variable and default, and no other."""

import re
from pathlib import Path

from hotpath.config import Settings

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
ROW = re.compile(r"^\| `HOTPATH_([A-Z0-9_]+)` \| (.*?) \| (.*) \|$", re.MULTILINE)


def documented():
    return {
        name.lower(): (default, meaning) for name, default, meaning in ROW.findall(PAGE.read_text())
    }


def shown(default):
    if default is None or default == "":
        return "none"
    if isinstance(default, bool):
        return f"`{int(default)}`"
    return f"`{default}`"


def test_every_setting_is_documented_and_no_other():
    assert documented().keys() == set(Settings.model_fields)


def test_documented_defaults_are_the_real_ones():
    rows = documented()

    wrong = {
        name: (rows[name][0], shown(field.default))
        for name, field in Settings.model_fields.items()
        if rows[name][0] != shown(field.default)
    }

    assert wrong == {}


def test_every_setting_says_what_it_means():
    rows = documented()

    assert {name for name, field in Settings.model_fields.items() if not field.description} == set()
    assert {name for name, (_, meaning) in rows.items() if len(meaning) < 8} == set()
