"""The group: help on everything, quick, and exit code 2 for what is not there."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from hotpath.cli import cli
from hotpath.cli.group import COMMANDS, load


def run(*arguments, env=None):
    return CliRunner().invoke(cli, arguments, env=env)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name):
    result = run(name, "--help")

    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: cli {name}")
    assert "--help" in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_also_an_environment_variable(name):
    command = load(name)
    for option in command.params:
        flags = [flag for flag in option.opts if flag.startswith("--")]
        if not flags or "negative" in flags[0] or flags[0].startswith("--no-"):
            continue
        variable = "HOTPATH_" + flags[0].removeprefix("--").replace("-", "_").upper()
        assert (option.envvar or "") in (variable, "HOTPATH_DEMO_SECONDS") or (
            f"env: {variable}" in (option.help or "")
        ), flags


def test_group_help_lists_all_commands():
    result = run("--help")

    assert all(f"  {name} " in result.output for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["no-such"], "there is no command 'no-such'; there are serve, token"),
        (["list", "--no-such"], "No such option"),
        (["subscribe"], "Missing argument 'TYPE'"),
        (["subscribe", "Variables", "--token", "x"], "'Variables' is not one of"),
        (["subscribe", "variables", "--token", "x", "--count", "0"], "0 is not in the range"),
        (["delete", "--token", "x"], "Missing argument 'ID...'"),
        (["simulate", "--token", "x", "--rate", "0"], "0.0 is not in the range"),
        (["simulate", "--token", "x", "--objects", "many"], "not a valid integer"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else None,
)
def test_wrong_usage_exits_with_2(arguments, complaint):
    result = run(*arguments)

    assert result.exit_code == 2
    assert complaint in result.output


@pytest.mark.parametrize("arguments", [["list"], ["subscribe", "variables"], ["reaper", "--once"]])
def test_without_a_token_the_ways_to_one_are_told(arguments, tmp_path):
    result = run(*arguments, "--data-dir", str(tmp_path))

    assert result.exit_code == 2
    assert "give --token or HOTPATH_TOKEN, or the --data-dir of a local service" in result.output


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["delete", "x"], ["subscribe", "alarms"], ["publish", "events"], ["reaper"]],
    ids=lambda arguments: arguments[0],
)
def test_service_that_is_not_there_is_named_and_exits_with_1(arguments, unused_tcp_port):
    url = f"http://127.0.0.1:{unused_tcp_port}"
    source = {"HOTPATH_URL": url, "HOTPATH_TOKEN": "a.b.c"}

    result = subprocess.run(
        [sys.executable, "-m", "hotpath", *arguments],
        env=source,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=30,
        check=False,
    )

    assert result.returncode == 1
    assert f"cannot reach {url}: Connection refused" in result.stderr
    assert "hotpath serve" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_of_the_group_waits_for_no_heavy_library():
    probe = (
        "import sys, hotpath.cli as c\n"
        "try: c.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'aiohttp', 'proton', 'cproton', 'rich', 'lark', 'cryptography'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )

    result = subprocess.run(
        [sys.executable, "-c", probe, "--help"], capture_output=True, text=True, check=True
    )

    assert "Commands:" in result.stdout
    assert result.stderr.strip() == "[]"


def test_module_and_script_are_the_same():
    result = subprocess.run(
        [sys.executable, "-m", "hotpath", "--version"], capture_output=True, text=True, check=True
    )

    assert result.stdout.startswith("hotpath ")
