"""Tree to canonical text.

One text for one tree: keywords in capitals, one blank around operators, single quotes, lists
in brackets, numbers in their shortest exact form, only the parentheses that are needed.
Nothing is reordered or simplified, and `parse(to_text(tree)) == tree`.
"""

from __future__ import annotations

import re

from qel.lexer import KEYWORDS, PLAIN_NAME
from qel.nodes import (
    And,
    Bare,
    Comparison,
    Leaf,
    Literal,
    Membership,
    Node,
    Not,
    Operand,
    Or,
    Property,
    Scalar,
    TextTest,
)

# Control characters and line separators: a canonical text is one line on every terminal.
# Half a surrogate pair is in no filter, but in a message that an explanation quotes.
_SPECIAL = re.compile(r"['\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SHORT = {"'": "\\'", "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def to_text(root: Node | Operand) -> str:
    """Write a tree, a predicate or an operand as canonical text."""
    written: list[str] = []
    pending: list[str | Node | Operand] = [root]
    while pending:
        item = pending.pop()
        match item:
            case str():
                written.append(item)
            case And(parts):
                pending.extend(reversed(_between(parts, " AND ", inside=Or)))
            case Or(parts):
                pending.extend(reversed(_between(parts, " OR ", inside=None)))
            case Not(And() | Or() as part):
                pending.extend((")", part, "NOT ("))
            case Not(part):
                pending.extend((part, "NOT "))
            case Property() | Literal():
                written.append(_operand(item))
            case _:
                written.append(_leaf(item))
    return "".join(written)


def string_text(value: str) -> str:
    """Write a string literal."""
    return f"'{_SPECIAL.sub(_escape, value)}'"


def path_text(path: tuple[str, ...]) -> str:
    """Write a property's path, each name in backquotes if it needs them."""
    return ".".join(map(_name, path))


def number_text(value: float) -> str:
    """Write a finite number in the shortest form that reads back as exactly this value."""
    if isinstance(value, int):
        if abs(value) < 2**64 or float(value) != value:
            return str(value)
        value = float(value)
    if value.is_integer() and abs(value) < 2**64:
        return str(int(value))
    mantissa, _, exponent = repr(value).partition("e")
    mantissa = mantissa.removesuffix(".0")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def _between(parts: tuple[Node, ...], sign: str, *, inside: type[Or] | None) -> list[str | Node]:
    """Put a connective between parts, and parentheses around those that bind less."""
    items: list[str | Node] = []
    for part in parts:
        if items:
            items.append(sign)
        if inside is not None and isinstance(part, inside):
            items.extend(("(", part, ")"))
        else:
            items.append(part)
    return items


def _leaf(leaf: Leaf) -> str:
    match leaf:
        case Bare(operand):
            return _operand(operand)
        case Comparison(operator, left, right):
            return f"{_operand(left)} {operator.value} {_operand(right)}"
        case Membership(operand, choices):
            return f"{_operand(operand)} IN {_choices(choices)}"
        case TextTest(text_operator, operand, text):  # pragma: no branch -- exhaustive
            return f"{_operand(operand)} {text_operator.value} {string_text(text)}"


def _choices(choices: tuple[Literal, ...] | Property) -> str:
    if isinstance(choices, Property):
        return _operand(choices)
    return f"[{', '.join(map(_operand, choices))}]"


def _operand(operand: Operand) -> str:
    if isinstance(operand, Property):
        return path_text(operand.path)
    return _literal(operand.value)


def _literal(value: Scalar) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return string_text(value)
        case _:
            return number_text(value)


def _name(name: str) -> str:
    if PLAIN_NAME.fullmatch(name) and name.upper() not in KEYWORDS:
        return name
    return f"`{name.replace('`', '``')}`"


def _escape(found: re.Match[str]) -> str:
    character = found.group()
    return _SHORT.get(character) or f"\\u{ord(character):04x}"
