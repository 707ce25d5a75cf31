"""Faults found before the start: each names the option and what to do."""

import socket
import stat

import pytest
import trustme

from hotpath.cli.preflight import check
from hotpath.cli.running import Failure
from hotpath.config import Settings


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def pair(authority, tmp_path):
    cert = authority.issue_cert("localhost")
    cert.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    cert.private_key_pem.write_to_path(tmp_path / "key.pem")
    return {"tls_cert": tmp_path / "cert.pem", "tls_key": tmp_path / "key.pem"}


def settings(tmp_path, **changes):
    free = {"http": "127.0.0.1:0", "amqp": "127.0.0.1:0", "data_dir": tmp_path / "data"}
    return Settings(**{**free, **changes})


def complaint(tmp_path, **changes):
    with pytest.raises(Failure) as caught:
        check(settings(tmp_path, **changes))
    return caught.value.message


def test_all_well_makes_the_directory_for_its_owner(tmp_path, pair, authority):
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    check(settings(tmp_path, https="127.0.0.1:0", **pair, tls_client_ca=tmp_path / "ca.pem"))

    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert not list((tmp_path / "data").iterdir())


@pytest.mark.parametrize("name", ["http", "amqp", "metrics"])
def test_port_in_use(tmp_path, name):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = complaint(tmp_path, **{name: address})

    assert said.startswith(f"--{name} {address}: the port is in use")
    assert "choose another" in said


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"http": "203.0.113.7:0"}, "--http 203.0.113.7:0: this machine has no such address"),
        ({"http": None}, "nobody could call"),
        ({"amqp": None}, "nobody could attach"),
        ({"http": "127.0.0.1:1999", "amqp": "127.0.0.1:1999"}, "--amqp and --http are both"),
        ({"http": "bad host:1"}, "--http bad host:1: the host cannot be resolved"),
    ],
    ids=str,
)
def test_listeners(tmp_path, changes, start):
    assert complaint(tmp_path, **changes).startswith(start)


def test_data_directory_that_is_a_file(tmp_path):
    (tmp_path / "data").write_text("")

    said = complaint(tmp_path)

    assert "there is a file of that name; give a directory" in said


def test_data_directory_that_cannot_be_made(tmp_path):
    said = complaint(tmp_path, data_dir="/proc/hotpath")

    assert said.startswith("--data-dir /proc/hotpath: ")
    assert "give a directory that this user may write to" in said


@pytest.mark.parametrize("name", ["tls_cert", "tls_key"])
def test_missing_certificate_or_key(tmp_path, pair, name):
    pair[name].unlink()

    said = complaint(tmp_path, https="127.0.0.1:0", **pair)

    assert said.startswith(f"--{name.replace('_', '-')} {pair[name]}: No such file")


@pytest.mark.parametrize("name", ["tls_cert", "tls_key"])
def test_certificate_or_key_that_is_none(tmp_path, pair, name):
    pair[name].write_text("hello")

    said = complaint(tmp_path, https="127.0.0.1:0", **pair)

    assert "not a certificate chain and an unencrypted private key in PEM form" in said


def test_key_of_another_certificate(tmp_path, pair, authority):
    authority.issue_cert("other").private_key_pem.write_to_path(pair["tls_key"])

    said = complaint(tmp_path, https="127.0.0.1:0", **pair)

    assert "is not the key of --tls-cert" in said


@pytest.mark.parametrize("name", ["jwt_public_key", "tls_client_ca"])
@pytest.mark.parametrize("content", [None, "hello"], ids=["missing", "no pem"])
def test_other_pem_files(tmp_path, name, content):
    path = tmp_path / "some.pem"
    if content is not None:
        path.write_text(content)

    said = complaint(tmp_path, **{name: path})

    assert said.startswith(f"--{name.replace('_', '-')} {path}: ")
    assert "give a" in said
