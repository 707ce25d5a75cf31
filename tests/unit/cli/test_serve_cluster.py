"""`hotpath serve --cluster`: what is refused before anything is started, and that it says why."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from hotpath.auth.keys import load_development_key
from hotpath.cli.serve import command


def serve(tmp_path, *arguments):
    data = tmp_path / "data"
    listeners = ("--http", "127.0.0.1:0", "--amqp", "127.0.0.1:0")
    return CliRunner().invoke(command, ["--data-dir", str(data), *listeners, *arguments])


def keys(tmp_path):
    """What the nodes of a cluster share."""
    (tmp_path / "data").mkdir()
    load_development_key(tmp_path / "data")
    path = tmp_path / "sealing"
    path.write_text("A" * 43 + "=")
    return ("--webhook-secret-key-file", str(path))


def test_a_service_that_is_alone_imports_nothing_of_a_cluster():
    look = (
        "import sys, hotpath.app, hotpath.cli.serve; "
        "print([name for name in sys.modules if name.split('.')[0] in ('nats', 'nkeys') "
        "or name.startswith(('hotpath.cluster', 'hotpath.storage.jetstream'))])"
    )
    found = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.strip() == "[]"


@pytest.fixture
def not_there(monkeypatch):
    """Makes a module one that cannot be imported, as whatever error."""

    def take_away(error):
        def refuse(name):
            raise error

        monkeypatch.setattr("hotpath.cli.serve.importlib.import_module", refuse)

    return take_away


@pytest.mark.parametrize("name", ["nats", "nats.aio.client", "nkeys", "nacl.signing"])
def test_a_missing_package_is_named_and_how_to_get_it(tmp_path, not_there, name):
    not_there(ModuleNotFoundError(f"No module named {name!r}", name=name))
    result = serve(tmp_path, "--cluster", "nats://127.0.0.1:1", *keys(tmp_path))
    assert result.exit_code == 1
    assert "pip install 'hotpath[cluster]'" in result.output
    assert name in result.output


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ImportError("cannot import name 'x'", name="nats"), id="a-broken-import"),
        pytest.param(ModuleNotFoundError("m", name="hotpath.cluster.x"), id="a-module-of-our-own"),
    ],
)
def test_any_other_error_of_an_import_shows_as_it_is(tmp_path, not_there, error):
    not_there(error)
    result = serve(tmp_path, "--cluster", "nats://127.0.0.1:1", *keys(tmp_path))
    assert result.exception is error
    assert "pip install" not in result.output


@pytest.mark.parametrize(
    ("servers", "said"),
    [
        ("http://127.0.0.1:1", "is not like nats://HOST:PORT"),
        ("127.0.0.1:4222", "is not like nats://HOST:PORT"),
        ("nats://127.0.0.1:1,nats://", "is not like nats://HOST:PORT"),
        ("nats://someone:sesame@127.0.0.1:1", "an address has no user in it"),
    ],
)
def test_what_is_no_server_is_refused(tmp_path, servers, said):
    result = serve(tmp_path, "--cluster", servers)
    assert result.exit_code == 2
    assert said in result.output
    assert "sesame" not in result.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--cluster-fence-ms", "600"), "cluster_fence_ms"),
        (("--cluster-takeover-ms", "2000"), "cluster_takeover_ms"),
        (("--node-id", "a b"), "--node-id"),
        (("--cluster-prefix", "a.b"), "--cluster-prefix"),
    ],
)
def test_what_cannot_work_together_is_refused(tmp_path, options, said):
    result = serve(tmp_path, "--cluster", "nats://127.0.0.1:1", *options)
    assert result.exit_code == 2
    assert said in result.output


def test_nodes_must_be_given_the_same_key_for_webhook_secrets(tmp_path):
    result = serve(tmp_path, "--cluster", "nats://127.0.0.1:1")
    assert result.exit_code == 1
    assert "--webhook-secret-key-file" in result.output


def test_nodes_must_accept_the_same_tokens(tmp_path):
    path = tmp_path / "sealing"
    path.write_text("A" * 43 + "=")
    options = ("--cluster", "nats://127.0.0.1:1", "--webhook-secret-key-file", str(path))
    result = serve(tmp_path, *options)
    assert result.exit_code == 1
    assert "dev-jwt.pem" in result.output


def test_two_ways_to_say_who_asks_are_one_too_many(tmp_path):
    token = tmp_path / "token"
    token.write_text("t")
    options = ("--cluster-user", "u", "--cluster-token-file", str(token))
    result = serve(tmp_path, "--cluster", "nats://127.0.0.1:1", *keys(tmp_path), *options)
    assert result.exit_code == 1
    assert "not several" in result.output


def test_a_file_with_a_secret_that_is_not_there_is_named(tmp_path):
    options = ("--cluster-user", "u", "--cluster-password-file", str(tmp_path / "none"))
    result = serve(tmp_path, "--cluster", "nats://127.0.0.1:1", *keys(tmp_path), *options)
    assert result.exit_code == 1
    assert "none cannot be read" in result.output
