"""Small parts of commands: when the reaper looks again, what the demonstration counts."""

import sys

import pytest
from rich.console import Console

from hotpath.cli.demo_feeds import FEEDS, Board, Watched, canonical
from hotpath.cli.demo_view import LiveView, final_table, progress_line, summary_lines
from hotpath.cli.reaper import SLEEP_MAX, SLEEP_MIN, sleep_seconds
from hotpath.cli.running import Failure
from hotpath.cli.serve import loop_factory
from hotpath.client.message import FeedMessage
from hotpath.model.names import Topic
from hotpath.simulate import Plant
from qel import compile_filter

NOW_MS = 1_767_225_600_000


@pytest.mark.parametrize(
    ("next_at", "seconds"),
    [
        (None, SLEEP_MAX),
        ("soon", SLEEP_MAX),
        ("2026-01-01T00:00:10Z", 10),
        ("2026-01-01T00:00:10.500+00:00", 10.5),
        ("2026-01-01T05:00:00Z", SLEEP_MAX),
        ("2025-01-01T00:00:00Z", SLEEP_MIN),
    ],
)
def test_reaper_sleeps_until_the_next_time_within_bounds(next_at, seconds):
    assert sleep_seconds(next_at, now_ms=NOW_MS) == pytest.approx(seconds)


@pytest.mark.parametrize("spec", FEEDS, ids=lambda spec: spec.title)
def test_filter_and_predicate_of_the_demonstration_mean_the_same(spec):
    matches = compile_filter(spec.filter, spec.topic.value).matches
    plant = Plant(seed=7, objects=25, rate=400, start_ms=NOW_MS, speed=120)
    seen = {True: 0, False: 0}

    for _, emission in zip(range(8_000), plant.messages(), strict=False):
        if emission.topic is spec.topic:
            wanted = spec.wanted(emission.message)
            assert matches(emission.message) is wanted
            seen[wanted] += 1

    assert all(seen.values())


class FeedStandIn:
    renewed = 1
    token_end_ms = 0


@pytest.fixture
def board():
    board = Board(seconds=20)
    board.feeds = [Watched(spec, FeedStandIn()) for spec in FEEDS]
    plant = Plant(seed=7, objects=25, rate=400, start_ms=NOW_MS, speed=120)
    for _, emission in zip(range(8_000), plant.messages(), strict=False):
        board.publish(emission)
        for watched in board.feeds:
            if watched.spec.topic is emission.topic and watched.spec.wanted(emission.message):
                watched.received.append(canonical(emission.message))
                watched.latest.append(FeedMessage(emission.message))
    return board


def test_board_agrees_when_exactly_the_matching_ones_came(board):
    assert board.all_agree
    assert board.published[Topic.VARIABLES] > 5_000


def swap(received):
    received[0], received[1] = received[1], received[0]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda received: received.pop(), id="one missing"),
        pytest.param(lambda received: received.append("{}"), id="one too many"),
        pytest.param(lambda received: received.append(received[-1]), id="one twice"),
        pytest.param(swap, id="another order"),
        pytest.param(lambda received: received.clear(), id="none at all"),
    ],
)
def test_board_disagrees_otherwise(board, spoil):
    spoil(board.feeds[1].received)

    assert not board.all_agree


def test_board_disagrees_when_a_feed_was_never_tried(board):
    board.feeds[0].received.clear()
    board.feeds[0].expected.clear()

    assert not board.all_agree


@pytest.mark.parametrize("height", [24, 40])
def test_live_view_fits_the_terminal(board, height):
    console = Console(width=80, height=height, record=True, force_terminal=True, file=None)
    with console.capture() as captured:
        console.print(LiveView(board))
    text = captured.get()

    assert len(text.splitlines()) <= height - 1
    assert "renewed 1x" in text


def test_summary_says_whether_each_feed_agrees(board):
    board.feeds[2].received.pop()

    lines = summary_lines(board)

    assert ["DO NOT AGREE" in line for line in lines] == [False, False, True, False]
    assert final_table(board).row_count == 4
    assert "published 8000" in progress_line(board)


def test_an_event_loop_that_is_not_installed_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvloop", None)

    with pytest.raises(Failure, match=r"--event-loop uvloop .* pip install 'hotpath\[uvloop\]'"):
        loop_factory("uvloop")
    assert loop_factory("asyncio") is None
