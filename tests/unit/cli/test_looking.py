"""What `hotpath top` and `hotpath why` show on a terminal."""

from rich.console import Console

from hotpath.cli import why
from hotpath.cli.top import Sample, board

TOPIC = {
    "type": "variables",
    "ratePerSecond": 12.5,
    "messages": 1234,
    "nextSequenceNumber": 1235,
    "lastMessageAt": None,
}
SUBSCRIPTION = {
    "subscriptionId": "8d2c1f6e-0000-4000-8000-000000000000",
    "type": "variables",
    "filter": "objectId = '\x1b[31mred' AND value > 3",
    "backlog": 77,
    "locked": 1,
    "delivered": 100,
    "deadLettered": 2,
    "clients": 3,
}


def sample(at_s: float, **changes) -> Sample:
    return Sample(at_s, {"tenant": "acme"}, [TOPIC], [{**SUBSCRIPTION, **changes}], False)


def drawn(renderable, width: int = 160) -> str:
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_rates_are_worked_out_from_two_looks() -> None:
    first, second = sample(10.0), sample(12.0, delivered=150)

    second.compare(first)
    restarted = sample(14.0, delivered=0)
    restarted.compare(second)

    assert second.rates == {SUBSCRIPTION["subscriptionId"]: 25.0}
    assert restarted.rates == {SUBSCRIPTION["subscriptionId"]: 0.0}
    assert first.to_json()["subscriptions"][0]["deliveriesPerSecond"] is None


def test_the_board_shows_figures_and_no_control_characters() -> None:
    text = drawn(board(sample(1.0), "http://127.0.0.1:8080"))

    for expected in ("acme", "12.5", "1,234", "77", "value > 3"):
        assert expected in text
    assert "\x1b[31m" not in text


def test_the_board_says_what_to_do_when_it_is_empty_and_what_is_left_out() -> None:
    empty = Sample(1.0, {"tenant": "acme"}, [TOPIC], [], False)
    more = Sample(1.0, {"tenant": "acme"}, [TOPIC], [SUBSCRIPTION], True)

    assert "hotpath subscribe" in drawn(board(empty, ""))
    assert "more than these 1" in drawn(board(more, ""))


def test_why_draws_the_tree_of_truths(monkeypatch) -> None:
    console = Console(width=120, no_color=True)
    monkeypatch.setattr(why, "stdout_console", lambda: console)
    leaf = {"kind": "predicate", "expression": "value > 3", "truth": None, "parts": []}
    found = {
        "sequenceNumber": 7,
        "state": "deadLettered",
        "detail": "It was set aside [bold].",
        "deadLetterReason": "Broken",
        "explanation": {
            "kind": "and",
            "expression": "",
            "truth": None,
            "because": "",
            "parts": [{**leaf, "because": "value > 3 is unknown, value is missing or null"}],
        },
        "message": {"body": {"value": None}},
    }

    with console.capture() as capture:
        why._print(found)
    text = capture.get()

    assert "#7  deadLettered  It was set aside [bold]." in text
    assert "dead letter because Broken" in text
    assert "unknown all of" in text
    assert "unknown value > 3  value is missing or null" in text
