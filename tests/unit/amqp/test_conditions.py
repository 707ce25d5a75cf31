"""One mapping from errors to conditions."""

import pytest

from hotpath.amqp.conditions import condition_of, lock_lost, status_of
from hotpath.model import errors
from hotpath.model.errors import HotpathError, Violation


def leaves(base: type = HotpathError) -> list[type]:
    found = [base]
    for below in base.__subclasses__():
        if below.__module__ == errors.__name__:
            found += leaves(below)
    return found


def build(kind: type) -> HotpathError:
    match kind.__name__:
        case "Invalid":
            return kind([Violation("a fault")])
        case "TooLarge":
            return kind("a text", limit_bytes=5)
        case "TooMany":
            return kind("a text", retry_after_s=1.5)
        case "Forbidden":
            return kind("a text", scope="hotpath.publish")
        case _:
            return kind("a text")


@pytest.mark.parametrize("kind", leaves(), ids=lambda kind: kind.__name__)
def test_every_error_has_a_condition_a_description_and_an_info(kind):
    condition = condition_of(build(kind))

    assert condition.name.startswith(("amqp:", "com.microsoft:"))
    assert condition.description
    assert condition.info
    assert 400 <= status_of(build(kind)) <= 599


def test_the_conditions_clients_act_on():
    assert condition_of(errors.Unauthorized("x")).name == "amqp:unauthorized-access"
    assert condition_of(errors.NotFound("x")).name == "amqp:not-found"
    assert condition_of(errors.LimitReached("x")).name == "amqp:resource-limit-exceeded"
    assert condition_of(errors.Unsupported("x")).name == "amqp:not-implemented"
    assert lock_lost().name == "com.microsoft:message-lock-lost"


def test_limits_and_waits_are_in_the_info():
    assert condition_of(errors.TooLarge("x", limit_bytes=9)).info["limit-bytes"] == 9
    assert condition_of(errors.TooMany("x", retry_after_s=0.25)).info["retry-after-ms"] == 250
    assert condition_of(errors.Forbidden("x", scope="s")).info["scope"] == "s"
