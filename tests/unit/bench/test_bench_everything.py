"""`python -m bench all`: the stages, the time they take, and the pages written from the results."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from bench import everything, plot
from bench.backlog import Finding as Backlog
from bench.cli import main
from bench.errors import UsageError
from bench.everything import STAGES, Plan, estimate_s, fit, read_document
from bench.figures import PAGES, PLACES, fill, number, spread_of, write_pages
from bench.idle import Finding as Idle
from bench.report import section
from bench.rest import Finding as Rest
from tests.unit.bench.results import make_result, make_workload

PLAN = Plan(5, 60.0, 20.0, ("rabbitmq", "artemis"), Path("/tmp"))
ABOUT = {
    "at": "2026-01-02T03:04:05+00:00",
    "processor": "a processor",
    "processors": 2,
    "load_before": 0.5,
    "kernel": "6.1",
    "python": "3.11",
    "file_system": "ext4",
    "peers": {"rabbitmq": "3.10.8-1", "artemis": "2.44.0"},
}
MORE = {"environment": ABOUT, "rounds": 2, "seconds": 60.0}


def document() -> dict:
    """Results of all stages, small."""
    turns = section(
        [
            make_result(broker=broker, round=number, deliver_rate=rate + number)
            for number in (1, 2)
            for broker, rate in (("hotpath", 96_808.0), ("rabbitmq", 9_680.0))
        ]
    )
    timed = section([make_result(workload=make_workload(rate=1_000))])
    selective = section([make_result(workload=make_workload(subscriptions=10_000))])
    idle = Idle(10_000, 10_000, 50_000_000, 3_500.0, 41_000.0, 1.0, 2.0, True)
    backlog = Backlog(1_000_000, 10_000, 90_000.0, 3.25, 123_456.0, 80_000_000, 1.0, 2.5, True)
    rest = Rest(5_000, 1_212.0, 0.817, 0.05, 12.6, 26.9)
    found = {
        "clients": {"runs": [{"message_bytes": 323, "rate": 612_345.0}]},
        "fan-out": turns,
        "large": turns,
        "filters": selective,
        "latency": timed,
        "idle": {"runs": [asdict(idle)]},
        "backlog": {"runs": [asdict(backlog)]},
        "rest": {"runs": [asdict(rest)]},
    }
    return {"sections": {name: {**found[name], **MORE} for name in STAGES}}


def checkout(root: Path) -> Path:
    """Pages with every place there is."""
    for page in PAGES:
        (root / page).parent.mkdir(parents=True, exist_ok=True)
        places = "\n".join(
            f"<!-- figures: {name} -->\nold\n<!-- end of figures -->" for name in PLACES
        )
        (root / page).write_text(f"# Page\n{places}\nthe end\n")
    return root


def test_every_place_is_filled_and_the_picture_drawn(tmp_path) -> None:
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib (extra bench)")
    write_pages(document(), checkout(tmp_path))

    text = (tmp_path / PAGES[0]).read_text()
    assert "old" not in text
    assert "| fan-out 1 | RabbitMQ 3, AMQP 1.0 plug-in (3.10.8) |" in text
    assert "| 9,680 ±0 % |" in text
    assert "10.0 x (10.0 to 10.0)" in text
    assert "| 10,000 | 1,000 |" in text
    assert "| ready after a start | 3.2 s | < 5 s |" in text
    assert "| messages/s while catching up | 123,000 | ≥ 100,000 |" in text
    assert text.startswith("# Page\n")
    assert text.endswith("the end\n")
    assert (tmp_path / "docs/images/performance.png").read_bytes()[:4] == b"\x89PNG"


def test_what_is_filled_can_be_filled_again() -> None:
    sections = document()["sections"]
    page = "<!-- figures: idle -->\nold\n<!-- end of figures -->\n"

    once = fill(page, sections)

    assert fill(once, sections) == once


def test_a_stage_that_is_missing_leaves_its_place() -> None:
    page = "<!-- figures: rest -->\nkept\n<!-- end of figures -->\n"

    assert fill(page, {}) == page


def test_a_place_of_an_unknown_name_is_an_error() -> None:
    with pytest.raises(UsageError, match="'nonsense'"):
        fill("<!-- figures: nonsense -->\n<!-- end of figures -->", {})


def test_the_repositorys_pages_have_all_places_and_no_other() -> None:
    root = Path(__file__).parents[3]
    text = "".join((root / page).read_text() for page in PAGES)

    assert [name for name in PLACES if f"<!-- figures: {name} -->" not in text] == []
    assert fill(text, {}) == text


@pytest.mark.parametrize(
    ("value", "text"), [(96_808.0, "96,800"), (1_212.0, "1,210"), (83.44, "83.4"), (0.5, "0.5")]
)
def test_no_more_figures_are_shown_than_are_known(value: float, text: str) -> None:
    assert number(value) == text


def test_a_rate_of_nothing_has_no_spread() -> None:
    assert spread_of({"median": 0.0, "low": 0.0, "high": 0.0}) == "0"


def test_rounds_get_shorter_until_they_fit() -> None:
    stages = tuple(STAGES)
    shorter = fit(PLAN, stages, 90.0)

    assert sum(estimate_s(stage, shorter) for stage in stages) <= 90 * 60
    assert shorter.seconds < PLAN.seconds
    assert shorter.rounds == PLAN.rounds
    assert fit(PLAN, stages, None) == PLAN


def test_a_time_that_is_too_short_is_refused() -> None:
    with pytest.raises(UsageError, match="5 rounds take about"):
        fit(PLAN, tuple(STAGES), 1.0)


def test_stages_are_taken_up_into_the_file_that_is_there(tmp_path, monkeypatch) -> None:
    target = tmp_path / "all.json"
    target.write_text(json.dumps({"sections": {"rest": {"runs": ["kept"]}}}))
    monkeypatch.setattr(
        everything, "STAGES", {"clients": lambda *_: {"runs": ["new"]}, "rest": None}
    )

    status = main(["all", "--only", "clients", "--without-peers", "--out", str(target)])

    sections = read_document(target)["sections"]
    assert status == 0
    assert sections["rest"] == {"runs": ["kept"]}
    assert sections["clients"]["runs"] == ["new"]
    assert sections["clients"]["environment"]["processors"] >= 1


def test_a_round_that_was_not_complete_is_an_exit_status(tmp_path, monkeypatch) -> None:
    lossy = section([make_result(received=999)])
    monkeypatch.setattr(everything, "STAGES", {"clients": lambda *_: lossy})

    status = main(
        ["all", "--without-peers", "--only", "clients", "--out", str(tmp_path / "x.json")]
    )

    assert status == 1


@pytest.mark.parametrize("text", ["", "[]", '{"runs": []}'])
def test_a_file_without_results_is_refused(tmp_path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)

    with pytest.raises(UsageError, match=r"x\.json"):
        read_document(tmp_path / "x.json")


def test_half_of_the_maximum_follows_from_what_was_measured(monkeypatch) -> None:
    asked = []

    def turns(_plan, loads, peers):
        asked.extend((load.rate, bool(peers)) for load in loads)
        return {"summary": [], "ratios": {}}

    monkeypatch.setattr(everything, "_turns", turns)

    found = STAGES["latency"](PLAN, document())

    assert asked == [(1_000, True), (10_000, False)], "half of 1,000/s is below the lowest rate"
    assert found["half_of_maximum"] == 500


def test_a_picture_without_the_library_says_how_to_get_it(monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)

    with pytest.raises(UsageError, match="hotpath\\[bench\\]"):
        plot.draw([], tmp_path / "x.png")
