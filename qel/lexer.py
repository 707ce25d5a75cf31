"""Text to lexemes, and lexemes to the values they stand for.

Owns everything about single words: keywords in any case, quoted names, escapes, numbers,
and the limits that can be checked before anything is built. No input takes more than linear
time here: the pattern's loops are possessive, they cannot backtrack.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from qel.errors import Fault, QelLimitError


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a filter text may be."""

    characters: int = 4096
    """Length of the text, in characters."""
    leaves: int = 256
    """Predicates in one filter; a whole IN list is one."""
    nesting: int = 64
    """Parentheses and NOTs around a predicate, counted as they are written."""


DEFAULT_LIMITS = Limits()


class Lexeme(NamedTuple):
    """One word of a filter text."""

    type: str
    """Name of the terminal in the grammar."""
    text: str
    """The word as written."""
    at: int
    """Offset of its first character."""


KEYWORDS = {
    "AND": "AND",
    "OR": "OR",
    "NOT": "NOT",
    "IN": "IN",
    "TRUE": "TRUE",
    "FALSE": "FALSE",
    "NULL": "NULL",
    "HAS": "TEXT_OPERATOR",
    "STARTS_WITH": "TEXT_OPERATOR",
    "ENDS_WITH": "TEXT_OPERATOR",
}
"""Keyword in capitals to its terminal."""

FOREIGN_OPERATORS = {
    "===": "=",
    "==": "=",
    "=>": ">=",
    "=<": "<=",
    "!==": "!=",
    "<>": "!=",
    "&&": "AND",
    "&": "AND",
    "||": "OR",
    "|": "OR",
    "!": "NOT",
}
"""Operators that people bring from other languages, and what they are called here."""

PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")

_LEXEME = re.compile(
    r"""
      (?P<BLANK>\s+)
    | (?P<NAME>[A-Za-z_][A-Za-z0-9_-]*+)
    | (?P<QUOTED_NAME>`(?:[^`]++|``)*+`)
    | (?P<STRING>'(?:[^'\\]++|''|\\.)*+'|"(?:[^"\\]++|""|\\.)*+")
    | (?P<NUMBER>-?[0-9]++(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)
    | (?P<FOREIGN>===?|=>|=<|!==|<>|&&?|\|\|?|!(?!=))
    | (?P<COMPARE><=|>=|!=|=|<|>)
    | (?P<LPAR>\() | (?P<RPAR>\)) | (?P<LSQB>\[) | (?P<RSQB>\])
    | (?P<COMMA>,) | (?P<DOT>\.)
    | (?P<STRAY>.)
    """,
    re.VERBOSE | re.DOTALL,
)

_ESCAPE = re.compile(r"\\u[0-9A-Fa-f]{4}|\\.|''|\"\"", re.DOTALL)
_ESCAPED = {
    "\\\\": "\\",
    "\\n": "\n",
    "\\r": "\r",
    "\\t": "\t",
    "\\'": "'",
    '\\"': '"',
}
_UNTERMINATED = {"'": "string", '"': "string", "`": "name"}


def tokenize(text: str, limits: Limits = DEFAULT_LIMITS) -> list[Lexeme]:
    """Cut a text into lexemes.

    Raises:
        Fault: the text is past a limit, no valid Unicode, empty, or holds something that is
            no word of the language.
    """
    _check_text(text, limits)
    lexemes: list[Lexeme] = []
    for found in _LEXEME.finditer(text):
        kind, word = found.lastgroup or "", found.group()
        if kind == "NAME":
            kind = KEYWORDS.get(word.upper(), kind)
        elif kind == "BLANK":
            continue
        elif kind in ("FOREIGN", "STRAY"):
            raise _stray(word, found.start())
        lexemes.append(Lexeme(kind, word, found.start()))
    if not lexemes:
        raise Fault("the filter is empty", 0)
    _check_shape(lexemes, limits)
    return lexemes


def name_value(lexeme: Lexeme) -> str:
    """Give the property name that a name in backquotes stands for.

    Raises:
        Fault: the name is empty.
    """
    name = lexeme.text[1:-1].replace("``", "`")
    if not name:
        raise Fault("a property name cannot be empty", lexeme.at)
    return name


def string_value(lexeme: Lexeme) -> str:
    """Give the string that a quoted literal stands for.

    Raises:
        Fault: an unknown escape, or an escape that leaves half a surrogate pair.
    """
    quote, body = lexeme.text[0], lexeme.text[1:-1]
    if "\\" not in body and quote not in body:
        return body
    value = _ESCAPE.sub(lambda found: _unescape(found, quote, lexeme.at), body)
    if "\\u" not in body:
        return value
    try:
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        raise Fault("an escape in this string is half a surrogate pair", lexeme.at) from None


def number_value(lexeme: Lexeme) -> int | float:
    r"""Give the number that a literal stands for.

    Digits alone are an exact integer of any size; with a point or an exponent they are a
    64-bit float. Each value then has one representation: integral and within 64 bits, an
    `int`; beyond, a `float` if one is exactly equal, else an `int`. So ``1.0`` is ``1``.

    Raises:
        Fault: the number is beyond the largest float (about 1.8e308).
    """
    approximate = float(lexeme.text)
    if math.isinf(approximate):
        raise Fault("this number is too large", lexeme.at)
    digits = lexeme.text.lstrip("-")
    if digits.isdigit():
        # Leading zeros go first: Python refuses to read thousands of digits.
        exact = int(digits.lstrip("0") or "0") * (-1 if digits != lexeme.text else 1)
        if exact != approximate:
            return exact
    if abs(approximate) < 2**64 and approximate.is_integer():
        return int(approximate)
    return approximate


def _check_text(text: str, limits: Limits) -> None:
    if len(text) > limits.characters:
        raise Fault(
            f"the filter has {len(text)} characters, the limit is {limits.characters} characters",
            limits.characters,
            kind=QelLimitError,
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        # Such a text could neither be stored nor sent, and no valid message could match it.
        raise Fault("half a surrogate pair is no character", error.start) from None


def _check_shape(lexemes: list[Lexeme], limits: Limits) -> None:
    """Check the number of predicates and the nesting before any tree is built."""
    kinds = [lexeme.type for lexeme in lexemes]
    # In a valid expression every AND and OR adds one predicate to the first.
    if kinds.count("AND") + kinds.count("OR") >= limits.leaves:
        raise Fault(
            f"the filter has too many predicates, the limit is {limits.leaves} leaf predicates",
            _last_connective(lexemes, limits.leaves),
            kind=QelLimitError,
        )
    if kinds.count("LPAR") + kinds.count("NOT") > limits.nesting:
        _check_nesting(lexemes, limits.nesting)


def _last_connective(lexemes: list[Lexeme], allowed: int) -> int:
    connectives = [lexeme.at for lexeme in lexemes if lexeme.type in ("AND", "OR")]
    return connectives[max(0, allowed - 1)]


def _check_nesting(lexemes: list[Lexeme], limit: int) -> None:
    for lexeme, depth in _depths(lexemes):
        if depth > limit:
            raise Fault(
                f"the filter is nested too deeply, the limit is {limit} levels of nesting",
                lexeme.at,
                kind=QelLimitError,
            )


def _depths(lexemes: list[Lexeme]) -> Iterator[tuple[Lexeme, int]]:
    """Count open parentheses, and the NOTs that still wait for the end of their predicate."""
    waiting = [0]  # NOTs, one entry for each open parenthesis
    is_list, before = False, ""
    depth = 0
    for lexeme in lexemes:
        match lexeme.type:
            case "NOT":
                waiting[-1] += 1
                depth += 1
            case "LPAR":
                is_list = before == "IN"
                waiting.extend(() if is_list else (0,))
                depth += not is_list
            case "RPAR":
                depth -= 0 if is_list or len(waiting) == 1 else 1 + waiting.pop()
                is_list = False
            case "AND" | "OR":
                depth -= waiting[-1]
                waiting[-1] = 0
            case _:
                pass
        before = lexeme.type
        yield lexeme, depth


def _unescape(found: re.Match[str], quote: str, at: int) -> str:
    word = found.group()
    if word[0] != "\\":
        return quote if word[0] == quote else word
    if len(word) == 6:
        return chr(int(word.removeprefix("\\u"), base=16))
    try:
        return _ESCAPED[word]
    except KeyError:
        raise Fault(
            f"{word!r} is no escape in a string",
            at + 1 + found.start(),
            suggestion="a backslash itself is written twice",
        ) from None


def _stray(word: str, at: int) -> Fault:
    if word in FOREIGN_OPERATORS:
        meant = FOREIGN_OPERATORS[word]
        return Fault(f"{word} is no operator", at, suggestion=f"did you mean {meant}?")
    if word in _UNTERMINATED:
        return Fault(f"this {_UNTERMINATED[word]} has no closing {word}", at)
    return Fault(f"unexpected character {word!r}", at)
