"""How the values of a message get into slots: by one function that is made for all of them.

A loop over the slots costs three times as much as the same steps written out. The source text
is made of the fixed templates below and of numbers; the names of properties are bound as
variables and never become source. Columns of the same form share one code object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, TypeAlias, cast

from qel.datetimes import DateTime, parse_datetime
from qel.index.atoms import View
from qel.values import Message, child, normalise

Values: TypeAlias = list[object]
Path: TypeAlias = tuple[str, ...]
Column: TypeAlias = tuple[Path, View]
Take: TypeAlias = Callable[[Message], Values]

TYPES: Final[dict[View, frozenset[type]]] = {
    View.PLAIN: frozenset((str, int, float, bool, type(None), DateTime, list, dict)),
    View.NUMBER: frozenset((int, float)),
    View.MOMENT: frozenset((DateTime,)),
}
"""Types of values that a slot shows as they are."""

_FORMS_MAX = 128
_TEXT_CACHED_MAX = 48
_NAN = float("nan")

_FUNCTION = """\
def bind(careful, {names}):
    def take(m):
        if type(m) is not dict:
            return careful(m)
        try:
            get = m.get
{steps}
        except Exception:  # a key, or a class, that raises when it is compared
            return careful(m)
        return [{slots}]
    return take
"""
_ROOT = "r{root} = get(n{root})"
_BELOW = "v = descend(r{root}, p{slot})"
_TYPE = "t = type({value})"
_SHOWN = {
    View.PLAIN: "v{slot} = {value} if t is str or t in plain else show({value}, plain)",
    View.NUMBER: "v{slot} = {value} if t is float or t is int "
    "else nan if t in plain else show({value}, number)",
    View.MOMENT: "v{slot} = {value} if t is DateTime else show({value}, moment)",
}


def make_take(columns: Sequence[Column | None], careful: Take) -> Take:
    """Make the function that takes the values of all slots from a message, and never raises.

    Args:
        columns: what each slot shows; None for one that shows nothing.
        careful: does the same, slowly, for messages that are no dictionaries, and should one
            hold anything that raises.
    """
    paths: dict[Path, list[tuple[int, View]]] = {}
    for slot, column in enumerate(columns):
        if column is not None:
            paths.setdefault(column[0], []).append((slot, column[1]))
    roots = {path[0]: number for number, path in enumerate(paths)}
    form = tuple(
        [(roots[path[0]], len(path) > 1, tuple(slots)) for path, slots in sorted(paths.items())]
    )
    names: list[object] = list(roots)
    names += [path[1:] for path in sorted(paths) if len(path) > 1]
    return _compile_form(form, len(columns), tuple(roots.values()))(careful, *names)


@lru_cache(maxsize=_FORMS_MAX)
def _compile_form(
    form: tuple[tuple[int, bool, tuple[tuple[int, View], ...]], ...],
    size: int,
    roots: tuple[int, ...],
) -> Callable[..., Take]:
    steps = [_ROOT.format(root=root) for root in roots]
    names = [f"n{root}" for root in roots]
    for root, is_nested, slots in form:
        value = f"r{root}"
        if is_nested:
            value = "v"
            names.append(f"p{slots[0][0]}")
            steps.append(_BELOW.format(root=root, slot=slots[0][0]))
        steps.append(_TYPE.format(value=value))
        steps += [_SHOWN[view].format(slot=slot, value=value) for slot, view in slots]
    shown = {slot for _, _, slots in form for slot, _ in slots}
    source = _FUNCTION.format(
        names=", ".join(names),
        steps="\n".join(" " * 12 + step for step in steps),
        slots=", ".join(f"v{slot}" if slot in shown else "None" for slot in range(size)),
    )
    scope: dict[str, object] = {
        "DateTime": DateTime, "descend": descend, "show": show, "nan": _NAN,
        "plain": TYPES[View.PLAIN], "number": TYPES[View.NUMBER], "moment": TYPES[View.MOMENT],
    }  # fmt: skip
    exec(compile(source, "<qel columns>", "exec"), scope)  # noqa: S102 -- holds no caller's text
    return cast("Callable[..., Take]", scope["bind"])


def show(value: object, types: frozenset[type]) -> object:
    """Show a value in a slot for certain types."""
    normal = normalise(value)
    if type(normal) in types or types is TYPES[View.PLAIN]:
        return normal
    return _read_moment(normal) if types is TYPES[View.MOMENT] else _NAN


def descend(value: object, below: Path) -> object:
    """Follow names into nested mappings; None if there is nothing."""
    for name in below:
        if type(value) is dict:
            value = value.get(name)
        elif value is None:
            return None
        else:
            value = child(value, name)
    return value


def _read_moment(value: object) -> object:
    """Read what stands in a property declared dateTime."""
    if type(value) is not str:
        return _NAN
    # Messages of the same time share a text, and timestamps are short.
    parse = _parse_cached if len(value) <= _TEXT_CACHED_MAX else parse_datetime
    moment = parse(value)
    return _NAN if moment is None else moment


@lru_cache(maxsize=256)
def _parse_cached(text: str) -> DateTime | None:
    return parse_datetime(text)
