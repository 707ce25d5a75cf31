"""`hotpath config`: values, where they come from, and what is said about wrong ones."""

import json
import os

import click
import pytest
from click.testing import CliRunner

from hotpath.cli import cli
from hotpath.cli.config import command
from hotpath.cli.group import load
from hotpath.config import Settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith("HOTPATH_"):
            monkeypatch.delenv(name)
    # The command sets it for the settings to read; put back what was there.
    monkeypatch.setenv("HOTPATH_CONFIG", "")


def run(*arguments, env=None):
    return CliRunner().invoke(cli, ["config", *arguments], env=env)


def setting(name, *arguments, env=None):
    result = run(*arguments, "--json", env=env)
    assert result.exit_code == 0, result.output
    rows = {row["name"]: row for row in map(json.loads, result.stdout.splitlines())}
    return rows[name]["value"], rows[name]["origin"]


@pytest.fixture
def toml(tmp_path):
    path = tmp_path / "hotpath.toml"

    def write(text):
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_an_option_with_its_variable(name):
    (option,) = [each for each in command.params if each.name == name]

    assert option.opts == ["--" + name.replace("_", "-")]
    assert f"HOTPATH_{name.upper()}" in option.help


def test_every_setting_is_shown():
    rows = [json.loads(line)["name"] for line in run("--json").stdout.splitlines()]

    assert rows == list(Settings.model_fields)


def test_table_shows_value_and_origin():
    lines = run("--lock-seconds", "5").stdout.splitlines()

    assert any(line.split() == ["lock_seconds", "5", "flag"] for line in lines)


def test_default_environment_file_and_flag_win_in_this_order(toml):
    env = {"HOTPATH_LOCK_SECONDS": "7"}
    file = ("--config", toml("lock_seconds = 6"))

    assert setting("lock_seconds") == (60.0, "default")
    assert setting("lock_seconds", *file) == (6.0, "file")
    assert setting("lock_seconds", *file, env=env) == (7.0, "env")
    assert setting("lock_seconds", *file, "--lock-seconds", "8", env=env) == (8.0, "flag")


def test_file_may_be_named_by_the_environment(toml):
    env = {"HOTPATH_CONFIG": toml("max_deliveries = 3")}

    assert setting("max_deliveries", env=env) == (3, "file")


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--no-http"], "http", None),
        (["--http", ""], "http", None),
        (["--http", "off"], "http", None),
        (["--no-public-host"], "public_host", None),
        (["--no-reap"], "reap", False),
        (["--reap"], "reap", True),
        (["--log-json"], "log_json", True),
        (["--amqps", "127.0.0.1:0", "--tls-cert", "c", "--tls-key", "k"], "amqps", "127.0.0.1:0"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else None,
)
def test_forms_of_flags(arguments, name, value):
    assert setting(name, *arguments) == (value, "flag")


def test_negative_flag_wins_over_the_environment():
    assert setting("http", "--no-http", env={"HOTPATH_HTTP": "127.0.0.1:1"}) == (None, "flag")


@pytest.mark.parametrize(
    ("arguments", "env", "complaint"),
    [
        (["--lock-seconds", "0"], {}, "--lock-seconds: Input should be greater"),
        (["--http", "nonsense"], {}, "--http: 'nonsense' is not HOST:PORT"),
        (["--http", "1.2.3.4:99999"], {}, "--http: '1.2.3.4:99999' is not HOST:PORT"),
        ([], {"HOTPATH_MAX_DELIVERIES": "many"}, "HOTPATH_MAX_DELIVERIES: Input should be a valid"),
        (["--https", "127.0.0.1:0"], {}, "need --tls-cert and --tls-key"),
        (["--no-http", "--http", "a:1"], {}, "--http and --no-http exclude each other"),
        (["--lok-seconds", "5"], {}, "No such option"),
        (["--config", "/nowhere/x.toml"], {}, "there is no file /nowhere/x.toml"),
    ],
)
def test_wrong_usage_says_what_and_exits_with_2(arguments, env, complaint):
    result = run(*arguments, env=env)

    assert result.exit_code == 2
    assert complaint in result.output


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("lock_second = 5", "unknown key 'lock_second'; did you mean 'lock_seconds'?"),
        ("lock_seconds = ", "is no TOML"),
        ("lock_seconds = 'x'", "lock_seconds in the configuration file: Input should be"),
    ],
)
def test_wrong_file_says_what_and_exits_with_2(toml, text, complaint):
    result = run("--config", toml(text))

    assert result.exit_code == 2
    assert complaint in result.output


def test_options_of_other_commands_may_stand_in_the_same_file(toml):
    assert run("--config", toml('url = "http://x"\nfilter = "true"\nrate = 5')).exit_code == 0


def test_file_gives_defaults_to_client_commands(toml):
    # A token stands in the file, so the next thing that is missing is the service.
    file = toml('token = "a.b.c"\nurl = "http://127.0.0.1:1"')

    result = CliRunner().invoke(cli, ["list", "--config", file])

    assert result.exit_code == 1
    assert "cannot reach http://127.0.0.1:1" in result.output


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["table", "json"])
def test_secrets_are_hidden(form):
    env = {
        "HOTPATH_JWT_HS256_SECRET": "hush-hush",
        "HOTPATH_JWT_JWKS_URL": "https://user:hush-hush@idp.example/keys",
    }

    result = run(*form, env=env)

    assert "********" in result.stdout
    assert "https://***@idp.example/keys" in result.stdout
    assert "hush" not in result.stdout


def test_options_are_made_once_for_serve_and_config():
    names = {option.name for option in load("serve").params if isinstance(option, click.Option)}
    assert set(Settings.model_fields) <= names
