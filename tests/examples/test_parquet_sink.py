"""The Parquet sink settles what is on disk and nothing else, over a kill too."""

import pytest

from tests.examples.running import finished, reading, started, subscriptions
from tests.support.process import eventually

pd = pytest.importorskip("pandas", reason="pandas is not installed (the extra `examples`)")
pytest.importorskip("pyarrow", reason="pyarrow is not installed (the extra `examples`)")

pytestmark = pytest.mark.slow

SINK = "parquet_sink.py"


def rows(directory):
    """Everything that is on disk."""
    return pd.read_parquet(directory).sort_values("sequence", ignore_index=True)


def wait_for_subscription(service, directory):
    eventually((directory / "_subscription.json").exists, seconds=30)
    eventually(lambda: any(each["clients"] for each in subscriptions(service)), seconds=30)


@pytest.fixture(autouse=True)
def _clean(service):
    yield
    for each in subscriptions(service):
        service.call("DELETE", f"/subscriptions/variables/{each['subscriptionId']}")


def test_what_matches_is_kept_and_settled(service, tmp_path):
    with started(
        service, SINK, tmp_path, "value > 90", 25, BATCH_ROWS="10", BATCH_SECONDS="1"
    ) as sink:
        wait_for_subscription(service, tmp_path)
        service.publish([reading(float(value)) for value in [*range(91, 116), 20]])
        finished(sink)

    kept = rows(tmp_path)
    assert sorted(kept["number"]) == [float(value) for value in range(91, 116)]
    assert set(kept["object_id"]) == {"boiler-1"}
    assert not kept["sequence"].duplicated().any()
    assert [each["backlog"] for each in subscriptions(service)] == [0]
    assert list(tmp_path.glob(".*.part")) == []


def test_values_that_are_no_numbers_are_kept_as_they_are(service, tmp_path):
    values = ["open", True, {"a": 1}, 7]
    with started(service, SINK, tmp_path, "true", 4, BATCH_ROWS="4", BATCH_SECONDS="20") as sink:
        wait_for_subscription(service, tmp_path)
        service.publish([reading(value) for value in values])
        finished(sink)

    kept = rows(tmp_path)
    assert list(kept["value"]) == ['"open"', "true", '{"a": 1}', "7"]
    assert list(kept["number"].isna()) == [True, True, True, False]


def test_a_kill_loses_nothing_and_the_next_start_goes_on(service, tmp_path):
    with started(service, SINK, tmp_path, "true", BATCH_ROWS="10", BATCH_SECONDS="30") as sink:
        wait_for_subscription(service, tmp_path)
        service.publish([reading(value) for value in range(15)])
        eventually(lambda: list(tmp_path.glob("*.parquet")), seconds=30)
        sink.kill()

    # Five have been received and are not on disk; more come while nobody reads.
    service.publish([reading(value) for value in range(15, 20)])
    [known] = subscriptions(service)
    assert known["backlog"] >= 10
    with started(service, SINK, tmp_path, "true", known["backlog"], BATCH_SECONDS="1") as sink:
        finished(sink)

    assert [each["subscriptionId"] for each in subscriptions(service)] == [known["subscriptionId"]]
    assert set(rows(tmp_path)["number"]) == {float(value) for value in range(20)}
    assert subscriptions(service)[0]["backlog"] == 0
