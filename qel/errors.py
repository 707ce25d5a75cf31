"""Errors of the filter language, each with its place in the text.

The tree::

    QelError
      QelSyntaxError   the text is no expression
      QelLimitError    the text is longer, wider or deeper than the limits allow
      QelSchemaError   a name, operator or literal that the topic's types forbid

All are the fault of whoever wrote the filter. Inside the package the stages raise `Fault`,
which knows an offset but not the text; the entry points turn it into a `QelError`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from typing_extensions import override

ERRORS_MAX = 20
"""A broken filter reports at most this many problems."""

_EXCERPT_REACH = 60
"""Characters of the offending line that are shown on either side of the caret."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a filter text."""

    detail: str
    """What is wrong, in one sentence without a final stop."""
    line: int
    """Line of the offending text, from 1."""
    column: int
    """Column of the offending text in characters, from 1."""
    suggestion: str | None = None
    """What was probably meant, for example ``did you mean objectId?``."""
    excerpt: str = ""
    """The offending line with a caret below the offending place."""

    @override
    def __str__(self) -> str:
        """Render the problem for people: place, detail, suggestion, line and caret."""
        hint = f" ({self.suggestion})" if self.suggestion else ""
        return f"line {self.line}, column {self.column}: {self.detail}{hint}\n{self.excerpt}"


class QelError(ValueError):
    """A filter text that cannot be used.

    Attributes:
        errors: everything that is wrong, in the order of the text, at most `ERRORS_MAX`.
    """

    errors: tuple[Problem, ...]

    def __init__(self, errors: Iterable[Problem]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(map(str, self.errors)))


class QelSyntaxError(QelError):
    """The text is no expression of the language."""


class QelLimitError(QelError):
    """The text is past one of the limits on its size; the detail says which."""


class QelSchemaError(QelError):
    """The expression does not fit the properties and types of its topic."""


class Fault(Exception):
    """A problem at an offset, found by a stage that does not hold the text."""

    def __init__(
        self,
        detail: str,
        at: int,
        *,
        suggestion: str | None = None,
        kind: type[QelError] = QelSyntaxError,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.at = at
        self.suggestion = suggestion
        self.kind = kind

    def locate(self, text: str) -> Problem:
        """Give the problem its line, column and excerpt in `text`."""
        at = max(0, min(self.at, len(text)))
        start = text.rfind("\n", 0, at) + 1
        return Problem(
            detail=self.detail,
            line=text.count("\n", 0, at) + 1,
            column=at - start + 1,
            suggestion=self.suggestion,
            excerpt=_excerpt(text, start=start, at=at),
        )

    def to_error(self, text: str) -> QelError:
        """Give the error that callers of the package see."""
        return self.kind([self.locate(text)])


def _excerpt(text: str, *, start: int, at: int) -> str:
    """Cut the line around `at` and put a caret below it."""
    end = text.find("\n", at)
    end = len(text) if end < 0 else end
    left, right = max(start, at - _EXCERPT_REACH), min(end, at + _EXCERPT_REACH)
    before = "…" if left > start else ""
    after = "…" if right < end else ""
    # A tab or a control character would move the caret away from what it points at.
    shown = "".join(c if c.isprintable() else " " for c in text[left:right])
    caret = " " * (len(before) + at - left) + "^"
    return f"  {before}{shown}{after}\n  {caret}"
