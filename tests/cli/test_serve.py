"""`hotpath serve`: its ready line, its end, and the ways in which it does not start."""

import json
import signal
import sqlite3
import stat
import subprocess
import urllib.request

import pytest
import trustme

from tests.cli.conftest import FREE_PORTS
from tests.cli.service import HOTPATH, bare_environment, ndjson, reading


def refused(*options, **environment):
    """A start that fails; what it says on stderr."""
    result = subprocess.run(
        [*HOTPATH, "serve", *map(str, options)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=bare_environment(**environment),
    )
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.returncode, result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_ready_line_address_file_and_clean_end(own_service, number):
    service = own_service()
    left = service.data_dir / "service.json"

    assert list(service.urls) == ["event", "http", "amqp"]
    assert service.urls["event"] == "ready"
    assert left.read_text() == service.line
    assert stat.S_IMODE(left.stat().st_mode) == 0o600
    with urllib.request.urlopen(service.urls["http"] + "/healthz") as answer:
        assert answer.status == 200

    assert service.stop(number) == (0, "")
    assert not left.exists()


def test_only_listeners_that_are_on_are_named(own_service, tmp_path):
    authority = trustme.CA()
    cert = authority.issue_cert("127.0.0.1", "localhost")
    cert.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    cert.private_key_pem.write_to_path(tmp_path / "key.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    service = own_service(
        *("--no-http", "--no-amqp", "--https", "127.0.0.1:0", "--amqps", "127.0.0.1:0"),
        *("--tls-cert", tmp_path / "cert.pem", "--tls-key", tmp_path / "key.pem"),
    )
    assert list(service.urls) == ["event", "https", "amqps"]

    # Over TLS from end to end, and not without knowing the authority.
    trusted = ("--ca-file", tmp_path / "ca.pem")
    published = service.run("publish", "variables", *trusted, "--json", stdin=ndjson([reading(1)]))
    assert json.loads(published.stdout)["accepted"] == 1, published.stderr
    seen = service.run(
        "subscribe", "variables", *trusted, "--count", "1", "--start-from", "earliest"
    )
    assert json.loads(seen.stdout) == reading(1)

    distrusted = service.run("list")
    assert distrusted.returncode == 1
    assert "certificate" in distrusted.stderr


def test_port_in_use(own_service, tmp_path):
    address = own_service().urls["http"].removeprefix("http://")

    code, said = refused("--http", address, "--amqp", "127.0.0.1:0", "--data-dir", tmp_path / "b")

    assert code == 1
    assert said.startswith(f"Error: --http {address}: the port is in use")


def test_data_directory_in_use(own_service):
    service = own_service()

    code, said = refused(*FREE_PORTS, "--data-dir", service.data_dir)

    assert code == 1
    assert "is in use by another process" in said
    assert "stop that process, or give another directory" in said
    assert service.stop() == (0, "")


def test_data_directory_of_a_newer_release(own_service):
    service = own_service()
    service.stop()
    with sqlite3.connect(service.data_dir / "hotpath.db") as database:
        database.execute("PRAGMA user_version = 4000")
    database.close()

    code, said = refused(*FREE_PORTS, "--data-dir", service.data_dir)

    assert code == 1
    assert "newer release" in said
    assert "run that release or a later one" in said


def test_data_directory_that_cannot_be_written():
    code, said = refused(*FREE_PORTS, "--data-dir", "/proc/nothing")

    assert code == 1
    assert said.startswith("Error: --data-dir /proc/nothing: ")


@pytest.mark.parametrize(
    ("options", "environment", "complaint"),
    [
        (["--no-such-option"], {}, "No such option"),
        (["--minute", "0"], {}, "--minute: "),
        ([], {"HOTPATH_RATE_LIMIT": "often"}, "HOTPATH_RATE_LIMIT: 'often' is not like 50/second"),
        (["--amqps", "127.0.0.1:0"], {}, "need --tls-cert and --tls-key"),
    ],
    ids=str,
)
def test_wrong_options_exit_with_2(tmp_path, options, environment, complaint):
    code, said = refused("--data-dir", tmp_path, *options, **environment)

    assert code == 2
    assert complaint in said


def test_bad_certificate_and_key(tmp_path):
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("hello")

    code, said = refused(
        *(*FREE_PORTS, "--data-dir", tmp_path / "data", "--amqps", "127.0.0.1:0"),
        *("--tls-cert", tmp_path / "cert.pem", "--tls-key", tmp_path / "key.pem"),
    )

    assert code == 1
    assert "PEM form" in said


def test_unreadable_token_key(tmp_path):
    code, said = refused(
        *FREE_PORTS, "--data-dir", tmp_path / "data", "--jwt-public-key", tmp_path / "none.pem"
    )

    assert code == 1
    assert said.startswith(f"Error: --jwt-public-key {tmp_path / 'none.pem'}: No such file")
