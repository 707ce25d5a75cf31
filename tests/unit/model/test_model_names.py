"""Addresses as clients write them."""

import pytest

from hotpath.model.names import (
    Address,
    AddressKind,
    Topic,
    publisher_path,
    resource_segments,
    split_path,
    subscription_path,
)

KIND = AddressKind


@pytest.mark.parametrize(
    ("text", "kind", "path", "management"),
    [
        ("variables", KIND.TOPIC, "variables", False),
        ("/Variables/", KIND.TOPIC, "variables", False),
        ("amqps://host:5671/PLATFORMEVENTS", KIND.TOPIC, "platformEvents", False),
        ("points", KIND.TOPIC, "points", False),
        ("variables/$management", KIND.TOPIC, "variables", True),
        ("events/Subscriptions/AbC", KIND.SUBSCRIPTION, "events/Subscriptions/abc", False),
        ("//events//subscriptions//abc", KIND.SUBSCRIPTION, "events/Subscriptions/abc", False),
        (
            "sb://h/events/subscriptions/abc/$Management",
            KIND.SUBSCRIPTION,
            "events/Subscriptions/abc",
            True,
        ),
        (
            "events/Subscriptions/abc/$deadletterqueue",
            KIND.DEAD_LETTER,
            "events/Subscriptions/abc/$DeadLetterQueue",
            False,
        ),
        (
            "events/Subscriptions/abc/$DeadLetterQueue/$management",
            KIND.DEAD_LETTER,
            "events/Subscriptions/abc/$DeadLetterQueue",
            True,
        ),
        ("$cbs", KIND.CBS, "$cbs", False),
        ("amqps://host/$CBS", KIND.CBS, "$cbs", False),
        ("", KIND.NAMESPACE, "", False),
        ("amqps://host", KIND.NAMESPACE, "", False),
        ("$management", KIND.UNKNOWN, "$management", False),
        ("queues/a", KIND.UNKNOWN, "queues/a", False),
        ("events/subscriptions", KIND.UNKNOWN, "events/subscriptions", False),
        ("events/other/abc", KIND.UNKNOWN, "events/other/abc", False),
        ("events/subscriptions/a/b", KIND.UNKNOWN, "events/Subscriptions/a/b", False),
        ("events/subscriptions/a/b/c", KIND.UNKNOWN, "events/subscriptions/a/b/c", False),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_an_address_is_read_as_clients_write_it(text, kind, path, management):
    address = Address.parse(text)
    assert (address.kind, address.path, address.management) == (kind, path, management)


def test_a_parsed_path_parses_to_itself():
    for text in ("variables", "events/Subscriptions/a", "alarms/Subscriptions/x/$DeadLetterQueue"):
        assert Address.parse(Address.parse(text).path) == Address.parse(text)


@pytest.mark.parametrize(
    ("encoded", "segments"),
    [
        ("sb%3A%2F%2Fh%2Fevents%2FSubscriptions%2Fa", ["events", "subscriptions", "a"]),
        ("sb%3A%2F%2Fh%2FMy+Topic%2F", ["my topic"]),
        ("events%252Fx", ["events%2fx"]),
    ],
)
def test_a_resource_is_decoded_once(encoded, segments):
    assert resource_segments(encoded) == segments


def test_paths_are_built_as_they_are_shown():
    assert subscription_path(Topic.EVENTS, "a") == "events/Subscriptions/a"
    assert publisher_path(Topic.EVENTS, "a") == "events/Publishers/a"
    assert split_path("amqps://h:1/A/b/") == ["a", "b"]
