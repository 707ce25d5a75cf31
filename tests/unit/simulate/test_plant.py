"""The plant: the same for the same seed, and believable in what follows from what."""

from collections import defaultdict
from itertools import islice, pairwise

import pytest

from hotpath.client.message import encode_message
from hotpath.model.names import Topic
from hotpath.simulate import Plant

START_MS = 1_767_225_600_000


def take(count, **changes):
    arguments = {"seed": 3, "objects": 15, "rate": 50.0, "start_ms": START_MS, **changes}
    return list(islice(Plant(**arguments).messages(), count))


def of_topic(emissions, topic):
    return [emission.message for emission in emissions if emission.topic is topic]


@pytest.fixture(scope="module")
def long_run():
    return take(15_000)


def test_same_seed_gives_the_same_messages():
    assert take(2_000) == take(2_000)


def test_another_seed_gives_other_messages():
    assert take(200) != take(200, seed=4)


def test_start_changes_only_the_times():
    times = ("timestamp", "eventTime")
    here, later = take(500), take(500, start_ms=START_MS + 86_400_000)

    for one, other in zip(here, later, strict=True):
        assert one.topic is other.topic
        assert {k: v for k, v in one.message.items() if k not in times} == {
            k: v for k, v in other.message.items() if k not in times
        }


def test_messages_are_due_evenly_at_the_rate():
    due = [emission.at_ms - START_MS for emission in take(101, rate=20.0)]

    assert due[0] == 0
    assert due[100] == pytest.approx(5_000)


def test_time_stamp_is_when_the_message_is_due():
    (message,) = of_topic(take(1), Topic.VARIABLES)

    assert message["timestamp"] == "2026-01-01T00:00:00.000Z"


def test_objects_are_as_many_as_asked_for():
    plant = Plant(seed=1, objects=7, rate=1, start_ms=0)

    assert len(set(plant.object_names)) == 7


@pytest.mark.parametrize("wrong", [{"objects": 0}, {"rate": 0}, {"speed": -1}], ids=str)
def test_plant_without_objects_rate_or_speed_is_refused(wrong):
    with pytest.raises(ValueError, match="above zero"):
        take(1, **wrong)


def test_every_message_can_be_published(long_run):
    for emission in long_run[:3_000]:
        assert encode_message(emission.topic, emission.message, now=pytest.fail)


def test_all_topics_occur_and_variables_are_the_most(long_run):
    counts = {topic: len(of_topic(long_run, topic)) for topic in Topic if topic != Topic.POINTS}

    assert all(counts.values())
    assert counts[Topic.VARIABLES] > 0.8 * len(long_run)


def test_values_move_but_not_wildly_from_one_to_the_next(long_run):
    series = defaultdict(list)
    for message in of_topic(long_run, Topic.VARIABLES):
        if message["quality"] == 192:
            series[message["objectId"], message["variable"]].append(message["value"])
    flow = series["pump-01", "temperature"]
    steps = sorted(abs(b - a) for a, b in pairwise(flow))

    assert len(set(flow)) > len(flow) / 4
    assert steps[len(steps) // 2] < 2.5


def test_quality_dips_now_and_then(long_run):
    qualities = [message["quality"] for message in of_topic(long_run, Topic.VARIABLES)]

    assert set(qualities) == {192, 64, 0}
    assert qualities.count(192) > 0.9 * len(qualities)


def test_dead_sensor_repeats_its_last_value(long_run):
    last, dead = {}, 0
    for message in of_topic(long_run, Topic.VARIABLES):
        key = message["objectId"], message["variable"]
        if message["quality"] == 0 and key in last:
            assert message["value"] == last[key]
            dead += 1
        last[key] = message["value"]
    assert dead


def test_alarm_is_raised_and_cleared_in_turns(long_run):
    states = defaultdict(list)
    for message in of_topic(long_run, Topic.ALARMS):
        states[message["alarmKey"]].append(message["value"]["state"])

    assert any("cleared" in each for each in states.values())
    for each in states.values():
        assert each == [("raised", "cleared")[index % 2] for index in range(len(each))]


def test_alarm_follows_from_the_value_just_measured(long_run):
    previous = None
    for emission in long_run:
        message = emission.message
        if emission.topic is Topic.VARIABLES:
            previous = message
        elif emission.topic is Topic.ALARMS:
            detail = message["value"]
            assert detail["measured"] == previous["value"]
            assert (message["objectId"], detail["variable"]) == (
                previous["objectId"],
                previous["variable"],
            )


def test_tripped_machine_stops_and_starts_again(long_run):
    running = defaultdict(lambda: True)
    stops = 0
    for message in of_topic(long_run, Topic.EVENTS):
        if message["event"] in ("started", "stopped"):
            is_start = message["event"] == "started"
            assert running[message["objectId"]] is not is_start
            running[message["objectId"]] = is_start
            stops += not is_start
    assert stops


def test_batches_are_finished_with_rising_numbers(long_run):
    numbers = defaultdict(list)
    for message in of_topic(long_run, Topic.EVENTS):
        if message["event"] == "batchFinished":
            numbers[message["objectId"]].append(int(message["value"]["batch"].rsplit("-")[-1]))

    assert numbers
    for each in numbers.values():
        assert each == list(range(each[0], each[0] + len(each)))


def test_deleted_object_was_created_and_falls_silent(long_run):
    alive, gone = set(), set()
    for emission in long_run:
        message = emission.message
        match message.get("eventType"):
            case "objectModel.created":
                alive.add(message["objectId"])
            case "objectModel.deleted":
                alive.remove(message["objectId"])
                gone.add(message["objectId"])
        if emission.topic is Topic.VARIABLES and message["model"] == "plant.portableSensor":
            assert message["objectId"] in alive
    assert gone


def test_versions_of_an_object_model_rise(long_run):
    versions = defaultdict(list)
    for message in of_topic(long_run, Topic.PLATFORM_EVENTS):
        if "objectId" in message:
            versions[message["objectId"]].append(message["version"])

    for each in versions.values():
        assert each == sorted(set(each))


def test_platform_events_have_severity_and_properties_of_their_type(long_run):
    events = of_topic(long_run, Topic.PLATFORM_EVENTS)
    kinds = {event["eventType"] for event in events}

    assert kinds == {
        "objectModel.created",
        "objectModel.updated",
        "objectModel.deleted",
        "typeDefinition.updated",
    }
    assert {event["severity"] for event in events} == {"info", "warning", "critical"}
    assert all("changed" in e for e in events if e["eventType"] == "objectModel.updated")
    assert all("breaking" in e for e in events if e["eventType"] == "typeDefinition.updated")
