"""The other brokers: who is here, how each is set up, and that a failing one ends nothing."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench import artemis_broker, measure, peers, rabbitmq_broker
from bench.artemis_broker import Journal, configuration, read_journal
from bench.children import free_ports
from bench.errors import RunError
from bench.measure import in_turn
from bench.peers import BROKERS, OURS, PEERS, installed
from bench.places import peers_directory
from bench.rabbitmq_broker import V3, V4, V4_QUORUM, start_command, write_configuration
from tests.unit.bench.results import make_result, make_workload

CORE = "{urn:activemq:core}"


def test_a_peer_that_is_missing_is_named_with_what_would_help(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HOTPATH_BENCH_PEERS", str(tmp_path))
    monkeypatch.setenv("RABBITMQ_BENCH_SERVER", str(tmp_path / "nothing"))

    there, missing = installed()

    assert there == {}
    assert missing.keys() == set(PEERS)
    assert "rabbitmq-server" in missing["rabbitmq"]
    assert "bench/peers.sh" in missing["rabbitmq4"]
    assert "bench/peers.sh" in missing["artemis"]


def test_peers_that_were_fetched_are_found_where_they_were_put(monkeypatch, tmp_path) -> None:
    home = tmp_path / "apache-artemis-9.9.9"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "artemis").touch()
    monkeypatch.setenv("HOTPATH_BENCH_PEERS", str(tmp_path))
    monkeypatch.setattr(artemis_broker.shutil, "which", lambda _name: "/usr/bin/java")

    assert artemis_broker.version() == "9.9.9"


def test_without_a_setting_peers_are_kept_in_the_cache(monkeypatch) -> None:
    monkeypatch.delenv("HOTPATH_BENCH_PEERS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")

    assert peers_directory() == Path("/somewhere/hotpath-bench")


def test_artemis_flushes_its_journal_and_has_a_durable_queue_a_subscriber() -> None:
    text = configuration(4711, 3, data=Path("/place"), journal=Journal("NIO", 16_000))

    core = ET.fromstring(text)[0]
    assert core.findtext(f"{CORE}journal-datasync") == "true"
    assert core.findtext(f"{CORE}persistence-enabled") == "true"
    assert core.findtext(f"{CORE}journal-type") == "NIO"
    assert core.findtext(f"{CORE}journal-buffer-timeout") == "16000"
    assert len(list(core.iter(f"{CORE}queue"))) == 3
    assert (core.find(f".//{CORE}acceptor").text or "").startswith("tcp://127.0.0.1:4711?")


def test_the_journal_is_what_artemis_tuned() -> None:
    text = "<journal-type>ASYNCIO</journal-type>\n<journal-buffer-timeout>16000</journal-buffer-timeout>"

    assert read_journal(text) == Journal("ASYNCIO", 16_000)
    with pytest.raises(RunError, match="no journal settings"):
        read_journal("<broker/>")


@pytest.mark.parametrize(
    ("kind", "plugin", "arguments"),
    [
        pytest.param(V3, "rabbitmq_amqp1_0", "{}", id="3.10"),
        pytest.param(V4, "[]", "{}", id="4, classic"),
        pytest.param(V4_QUORUM, "[]", '{"x-queue-type": "quorum"}', id="4, quorum"),
    ],
)
def test_a_node_is_set_up_for_its_generation(tmp_path, kind, plugin, arguments) -> None:
    seen = write_configuration(tmp_path, 4711, 2, kind=kind)

    assert plugin in (tmp_path / "enabled_plugins").read_text()
    assert f'"arguments": {arguments}' in (tmp_path / "definitions.json").read_text()
    assert f"load_definitions = {seen}/definitions.json" in (tmp_path / "rabbitmq.conf").read_text()


def test_a_node_in_a_tree_sees_its_directory_where_it_is_mounted(monkeypatch, tmp_path) -> None:
    server = tmp_path / rabbitmq_broker.SERVER.lstrip("/")
    server.parent.mkdir(parents=True)
    server.touch()
    monkeypatch.setenv("RABBITMQ4_BENCH_TREE", str(tmp_path))
    monkeypatch.setattr(rabbitmq_broker.os, "geteuid", lambda: 0)

    command = start_command(V4, tmp_path / "round")

    assert command[:2] == ["unshare", "--mount"]
    assert command[-3:] == [str(tmp_path / "round"), str(tmp_path), rabbitmq_broker.SERVER]


def test_ports_that_are_taken_together_differ() -> None:
    assert len(set(free_ports(20))) == 20


@pytest.fixture
def rounds(monkeypatch):
    """What `in_turn` asks for; peers fail in the second round."""
    asked: list[tuple[str, int, float]] = []

    def measured(broker, workload, *, round_number, **_):
        asked.append((broker, round_number, workload.seconds))
        if broker == "artemis" and round_number == 2:
            raise RunError("it did not start")
        return make_result(broker=broker, workload=workload, round=round_number)

    monkeypatch.setattr(measure, "measure", measured)
    return asked


def test_brokers_take_turns_within_a_round(rounds, tmp_path) -> None:
    in_turn([make_workload()], [OURS, "rabbitmq"], rounds=2, work_dir=tmp_path, peer_seconds=0.5)

    assert rounds == [(OURS, 1, 1.0), ("rabbitmq", 1, 0.5), (OURS, 2, 1.0), ("rabbitmq", 2, 0.5)]


def test_a_peer_that_fails_is_left_out_of_the_rest(rounds, tmp_path, capsys) -> None:
    results = in_turn(
        [make_workload()], [OURS, "artemis"], rounds=3, work_dir=tmp_path, lenient=True
    )

    assert [result.broker for result in results] == [OURS, "artemis", OURS, OURS]
    assert "artemis is left out: it did not start" in capsys.readouterr().err


def test_without_lenience_a_failure_ends_everything(rounds, tmp_path) -> None:
    with pytest.raises(RunError, match="did not start"):
        in_turn([make_workload()], [OURS, "artemis"], rounds=3, work_dir=tmp_path)


def test_peers_without_filters_take_no_part_in_selective_workloads(rounds, tmp_path) -> None:
    selective = make_workload(fan_out=1, subscriptions=10)

    results = in_turn([selective], [OURS, *PEERS], rounds=1, work_dir=tmp_path, lenient=True)

    assert [result.broker for result in results] == [OURS]


def test_every_broker_of_the_table_is_ours_or_a_peer() -> None:
    assert set(BROKERS) == {*peers.OWN, *PEERS}
    assert tuple(name for name, broker in BROKERS.items() if broker.filters) == peers.OWN
    assert peers.BROKERS[OURS].version() == "this checkout"
