"""`hotpath why` and `hotpath top` against a running service."""

import json


def publish(service, *values) -> None:
    body = [{"objectId": "p1", "variable": "t", "value": value} for value in values]
    service.call("POST", "/messages/variables", body)


def subscribe(service, text: str) -> str:
    body = {"subscriptionTTL": 43_000, "sasTokenTTL": 5, "filter": text}
    return service.call("POST", "/subscriptions/variables", body)["subscriptionId"]


def test_why_tells_what_became_of_a_message(service) -> None:
    identity = subscribe(service, "value > 3 AND objectId = 'p1'")
    publish(service, 1, 5)

    unmatched = service.run("why", identity, 1, "--json")
    waiting = service.run("why", identity, 2, "--json")

    assert (unmatched.returncode, waiting.returncode) == (0, 0)
    told = json.loads(unmatched.stdout)
    assert (told["state"], told["because"]) == ("notMatched", "value > 3 is false, value is 1")
    assert json.loads(waiting.stdout)["state"] == "waiting"


def test_why_of_an_unknown_subscription_fails_in_words(service) -> None:
    for name in ("nobody", "../topics", "a b", ""):
        answer = service.run("why", name, 1)

        assert answer.returncode == 1
        assert "there is no subscription" in answer.stderr


def test_why_wants_a_sequence_number(service) -> None:
    for number in ("0", "x", "-3"):
        assert service.run("why", "s1", "--", number).returncode == 2


def test_top_looks_once(service) -> None:
    subscribe(service, "value > 3")
    publish(service, 1, 5, 9)

    lines = service.run("top", "--once", "--json")
    text = service.run("top", "--once")

    assert lines.returncode == text.returncode == 0
    [told] = map(json.loads, lines.stdout.splitlines())
    topics = {topic["type"]: topic for topic in told["topics"]}
    assert topics["variables"]["messages"] == 3
    assert topics["variables"]["ratePerSecond"] > 0
    [subscription] = told["subscriptions"]
    assert (subscription["backlog"], subscription["clients"]) == (2, 0)
    assert "variables" in text.stdout
    assert "value > 3" in text.stdout


def test_top_goes_on_and_works_out_rates(service) -> None:
    subscribe(service, "true")
    process = service.spawn("top", "--interval", "0.2", "--json")
    try:
        found = [json.loads(process.stdout.readline()) for _ in range(2)]
    finally:
        process.terminate()
        process.communicate(timeout=20)

    assert process.returncode == 0
    assert found[0]["subscriptions"][0]["deliveriesPerSecond"] is None
    assert found[1]["subscriptions"][0]["deliveriesPerSecond"] == 0.0
