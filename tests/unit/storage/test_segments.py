"""Which segments retention takes, and when one is full."""

import pytest

from hotpath.storage.segments import Segment, SegmentLimits, choose_expired
from tests.support.logs import ALARMS, VARIABLES


def segment(number, topic, last_ms, byte_size=10):
    return Segment(number, topic, number, first_ms=0, last_ms=last_ms, byte_size=byte_size)


TOPICS = {
    VARIABLES: [segment(1, VARIABLES, 10), segment(3, VARIABLES, 30), segment(5, VARIABLES, 50)],
    ALARMS: [segment(2, ALARMS, 20), segment(4, ALARMS, 40)],
}


@pytest.mark.parametrize(
    ("before_ms", "bytes_max", "expected"),
    [
        (0, None, []),
        (10, None, []),
        (11, None, [1]),
        (31, None, [1, 2, 3]),
        (99, None, [1, 2, 3]),
        (0, 50, []),
        (0, 49, [1]),
        (0, 40, [1]),
        (0, 30, [1, 2]),
        (0, 0, [1, 2, 3]),
        (21, 40, [1, 2]),
        (11, 30, [1, 2]),
    ],
)
def test_the_oldest_go_first_and_the_newest_of_each_topic_stays(before_ms, bytes_max, expected):
    chosen = choose_expired(TOPICS, before_ms=before_ms, bytes_max=bytes_max)

    assert [found.id for found in chosen] == expected


@pytest.mark.parametrize(
    ("byte_size", "now_ms", "full"),
    [(99, 0, False), (100, 0, True), (0, 999, False), (0, 1000, True)],
)
def test_a_segment_is_full_by_size_or_age(byte_size, now_ms, full):
    limits = SegmentLimits(bytes_max=100, age_ms_max=1000)

    assert segment(1, ALARMS, 0, byte_size).is_full(limits, now_ms) is full
