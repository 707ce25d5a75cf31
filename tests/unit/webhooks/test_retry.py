"""When an event is tried again, and when it is given up."""

import random

import pytest

from hotpath.webhooks.retry import Outcome, Schedule, Verdict, parse_retry_after, read_steps

NOW_MS = 1_704_164_645_000  # Tue, 02 Jan 2024 03:04:05 GMT
DEFAULT = Schedule(read_steps("5,30,120,600,1800,7200,18000,36000"), retry_after_max_ms=3_600_000)


@pytest.mark.parametrize(
    ("attempts", "seconds"),
    [(1, 5), (2, 30), (3, 120), (4, 600), (5, 1800), (6, 7200), (7, 18000), (8, 36000)],
)
def test_each_delay_is_drawn_from_20_percent_around_its_step(attempts, seconds):
    draw = random.Random(attempts).random

    delays = [DEFAULT.delay_ms(attempts, draw=draw()) / 1000 for _ in range(200)]

    assert seconds * 0.8 <= min(delays) < seconds * 0.85
    assert seconds * 1.15 < max(delays) <= seconds * 1.2
    assert DEFAULT.delay_ms(attempts, draw=0.5) == seconds * 1000


def test_there_is_one_attempt_more_than_delays():
    assert DEFAULT.attempts_max == 9
    assert not DEFAULT.exhausted(8)
    assert DEFAULT.exhausted(9)
    assert Schedule((), retry_after_max_ms=0).exhausted(1)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        *((code, "delivered") for code in (200, 204, 299)),
        *((code, "retry") for code in (199, 300, 301, 302, 304, 307, 308, 401, 403, 404, 408)),
        *((code, "retry") for code in (409, 425, 429, 500, 501, 503, 599, 999, None)),
        *((code, "hopeless") for code in (400, 413, 422)),
        (410, "gone"),
    ],
)
def test_what_an_answer_means(status, verdict):
    assert Outcome(status, "").verdict is Verdict(verdict)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("999999999", 999_999_999),
        ("9" * 50, 10**9),
        ("Tue, 02 Jan 2024 03:05:05 GMT", 60),
        ("Tuesday, 02-Jan-24 03:05:05 GMT", 60),
        ("Tue Jan  2 03:05:05 2024", 60),
        ("Mon, 01 Jan 2024 00:00:00 GMT", 0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("١", None),
        ("Tue, 99 Jan 2024 03:05:05 GMT", None),
        ("Tue, 02 Jan 99999 03:05:05 GMT", None),
    ],
    ids=repr,
)
def test_retry_after_is_seconds_or_an_http_date(header, seconds):
    read = parse_retry_after(header, now_ms=NOW_MS)

    assert read == (None if seconds is None else seconds * 1000)


@pytest.mark.parametrize(
    ("header", "draw", "asked_ms"),
    [
        ("10", 0.0, 10_000),
        ("10", 0.999, 11_998),
        ("3600", 0.5, 3_600_000),
        ("86400", 0, 3_600_000),
        ("0", 0.5, None),
        ("soon", 0.5, None),
        (None, 0.5, None),
    ],
)
def test_retry_after_is_heeded_within_its_bound_and_never_early(header, draw, asked_ms):
    assert DEFAULT.asked_ms(header, now_ms=NOW_MS, draw=draw) == asked_ms


@pytest.mark.parametrize(
    ("attempts", "age_s", "wait_s"),
    [
        (0, 0, 0),
        (1, 0, 5),
        (1, 3, 2),
        (1, 60, 0),
        (2, 0, 30),
        (2, 10, 25),
        (3, 100, 55),
        (8, 3600, 36_000),
        (9, 0, 0),
    ],
)
def test_after_a_restart_the_wait_is_what_is_left_of_the_schedule(attempts, age_s, wait_s):
    wait_ms = DEFAULT.resumed_ms(attempts, enqueued_ms=NOW_MS - age_s * 1000, now_ms=NOW_MS)

    assert wait_ms == wait_s * 1000


@pytest.mark.parametrize(("text", "steps"), [("", ()), ("0.05", (50,)), ("1, 2,", (1000, 2000))])
def test_a_schedule_is_read(text, steps):
    assert read_steps(text) == steps
