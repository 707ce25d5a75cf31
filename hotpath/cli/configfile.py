"""The TOML file: options that stand in a file, for every command."""

import difflib
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from hotpath.cli.group import COMMANDS, load
from hotpath.config import CONFIG_FILE_VARIABLE, Settings

_CommandT = TypeVar("_CommandT", bound=Callable[..., Any])


class SettingOption(click.Option):
    """An option of `serve`: the settings read the file by themselves and remember the origin."""


def read_file(path: Path) -> dict[str, object]:
    """The keys of a TOML file, as option names. Raises click.UsageError."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise click.UsageError(f"--config: there is no file {path}") from None
    except OSError as error:
        raise click.UsageError(f"--config: cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--config: {path} is no TOML: {error}") from None
    for key in document:
        _check_key(key, path)
    return document


def _check_key(key: str, path: Path) -> None:
    if key in Settings.model_fields:
        return
    clients = {key_of(each) for name in COMMANDS for each in load(name).params}
    known = clients | set(Settings.model_fields)
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise click.UsageError(f"--config: {path} has an unknown key {key!r}{hint}")


def key_of(parameter: click.Parameter) -> str:
    """The key by which the file names an option: its flag, with underscores."""
    flags = [each for each in parameter.opts if each.startswith("--")]
    return flags[0].removeprefix("--").replace("-", "_") if flags else str(parameter.name)


def config_option(command: _CommandT) -> _CommandT:
    """Add `--config FILE`; its keys are defaults of the command's other options."""
    return click.option(
        "--config",
        metavar="FILE",
        envvar=CONFIG_FILE_VARIABLE,
        type=click.Path(path_type=Path, dir_okay=False),
        is_eager=True,
        expose_value=False,
        callback=_take_file,
        help="TOML file with options.",
        show_envvar=True,
    )(command)


def _take_file(ctx: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    if path is not None:
        ctx.meta["hotpath.config"] = path
        content = read_file(path)
        own = [each for each in ctx.command.params if not isinstance(each, SettingOption)]
        keys = {str(each.name): key_of(each) for each in own}
        found = {name: content[key] for name, key in keys.items() if key in content}
        ctx.default_map = {**found, **(ctx.default_map or {})}
    return path
