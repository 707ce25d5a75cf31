"""The options of `serve` and `config`: one a field of `Settings`, made from the fields."""

import os
import types
from pathlib import Path
from typing import Final, Union, get_args, get_origin

import click
from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from hotpath.cli.configfile import SettingOption, read_file
from hotpath.config import CONFIG_FILE_VARIABLE, Endpoint, Settings

_METAVARS: Final = {
    Endpoint: "HOST:PORT",
    Path: "FILE",
    int: "N",
    float: "NUMBER",
    str: "TEXT",
    SecretStr: "SECRET",
    tuple: "A,B,…",
}


def settings_options() -> list[click.Parameter]:
    """All options, in the order of the fields; not given means None."""
    options: list[click.Parameter] = []
    for name, field in Settings.model_fields.items():
        options += _options_of(name, field)
    return options


def _options_of(name: str, field: FieldInfo) -> list[click.Parameter]:
    flag = "--" + name.replace("_", "-")
    kind, nullable = _kind_of(field)
    text = f"{field.description}.  [{_facts(name, field)}]"
    if kind is bool:
        negative = "--no-" + flag.removeprefix("--")
        return [SettingOption([f"{flag}/{negative}", name], default=None, help=text)]
    metavar = "DIR" if name.endswith("_dir") else _metavar(name, kind)
    options: list[click.Parameter] = [SettingOption([flag, name], metavar=metavar, help=text)]
    if nullable:
        is_on = field.default is not None
        options.append(
            SettingOption(
                ["--no-" + flag.removeprefix("--"), f"no_{name}"],
                is_flag=True,
                hidden=not is_on,
                help=f"Turn {flag} off.",
            )
        )
    return options


def _metavar(name: str, kind: type) -> str:
    if name.endswith("_seconds") or name == "minute":
        return "SECONDS"
    if name.endswith("_bytes") or "_bytes_" in name:
        return "BYTES"
    return _METAVARS.get(kind, "VALUE")


def _kind_of(field: FieldInfo) -> tuple[type, bool]:
    """The type behind an annotation, and whether None is one of its values."""
    annotation = field.annotation
    if get_origin(annotation) in (Union, types.UnionType):
        members = [each for each in get_args(annotation) if each is not type(None)]
        return _plain(members[0]), len(members) < len(get_args(annotation))
    return _plain(annotation), False


def _plain(annotation: object) -> type:
    origin = get_origin(annotation) or annotation
    return origin if isinstance(origin, type) else object


def _facts(name: str, field: FieldInfo) -> str:
    facts = [f"env: {variable(name)}"]
    default = field.default
    if default is not None and default is not PydanticUndefined:
        facts.append(f"default: {show(default) or 'none'}")
    return "; ".join(facts)


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"HOTPATH_{name.upper()}"


def show(value: object) -> str:
    """A setting's value as one writes it; a secret as stars."""
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return "********"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(map(show, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def given_flags(values: dict[str, object]) -> dict[str, object]:
    """From what click parsed to the fields that flags set; `--no-x` sets None."""
    flags: dict[str, object] = {}
    for name in Settings.model_fields:
        if values.get(f"no_{name}"):
            if values.get(name) is not None:
                dashed = name.replace("_", "-")
                raise click.UsageError(f"--{dashed} and --no-{dashed} exclude each other")
            flags[name] = None
        elif values.get(name) is not None:
            flags[name] = values[name]
    return flags


def read_settings(flags: dict[str, object], config: Path | None = None) -> Settings:
    """The effective settings of flags, environment and file. Raises click.UsageError."""
    if config is not None:
        read_file(config)
        os.environ[CONFIG_FILE_VARIABLE] = str(config)
    try:
        return Settings(**flags)  # type: ignore[arg-type]  # checked by the model
    except ValidationError as error:
        raise click.UsageError(_complaint(error, flags)) from None


def _complaint(error: ValidationError, flags: dict[str, object]) -> str:
    lines: list[str] = []
    for each in error.errors():
        name = str(each["loc"][0]) if each["loc"] else ""
        text = each["msg"].removeprefix("Value error, ")
        given = "" if each["type"] == "value_error" else f", not {str(each['input'])[:60]!r}"
        lines.append(f"{_named(name, flags)}: {text}{given}" if name else _dashed(text))
    return "\n".join(lines)


def _dashed(text: str) -> str:
    """Field names in a sentence as the flags that users know."""
    for name in ("tls_cert", "tls_key"):
        text = text.replace(name, "--" + name.replace("_", "-"))
    return text


def _named(name: str, flags: dict[str, object]) -> str:
    """What the user wrote: a flag, a variable, or a key of the file."""
    if name in flags:
        return "--" + name.replace("_", "-")
    return variable(name) if in_environment(name) else f"{name} in the configuration file"


def in_environment(name: str) -> bool:
    """Whether the environment sets a setting; an empty variable does not."""
    wanted = variable(name).lower()
    return any(key.lower() == wanted and value for key, value in os.environ.items())
