"""Every error of the domain has a status of its own choosing."""

import pytest

from hotpath.model import errors
from hotpath.model.errors import HotpathError, Violation
from hotpath.rest.problems import STATUSES, problem_of

_EXTRA = {
    errors.Invalid: lambda: errors.Invalid([Violation("wrong", "/a"), Violation("worse")]),
    errors.TooLarge: lambda: errors.TooLarge("large", limit_bytes=1),
    errors.TooMany: lambda: errors.TooMany("many", retry_after_s=0.2),
}


def leaves(kind: type[HotpathError]) -> list[type[HotpathError]]:
    below = kind.__subclasses__()
    return [leaf for one in below for leaf in leaves(one)] if below else [kind]


LEAVES = [kind for kind in leaves(HotpathError) if kind.__module__ == errors.__name__]
KINDS = {*LEAVES, *(kind for kind in vars(errors).values() if isinstance(kind, type))}
DOMAIN = sorted(
    (kind for kind in KINDS if issubclass(kind, HotpathError) and kind is not HotpathError),
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", DOMAIN, ids=lambda kind: kind.__name__)
def test_error_is_mapped_and_says_what_is_wrong(kind: type[HotpathError]) -> None:
    error = _EXTRA.get(kind, lambda: kind("something is wrong"))()

    problem = problem_of(error)

    assert kind in STATUSES
    assert 400 <= problem.status < 600
    assert problem.status != 500
    assert all(violation.detail for violation in problem.violations)
    assert ("WWW-Authenticate" in problem.headers) == (problem.status in {401, 403})
    if problem.status in {429, 503}:
        assert int(problem.headers["Retry-After"]) >= 1


def test_kinds_below_a_mapped_one_are_treated_as_it_is() -> None:
    class Special(errors.NotFound):
        pass

    assert problem_of(Special("x")).status == 404


def test_there_are_errors_to_map() -> None:
    assert len(DOMAIN) >= 10
