"""Words for people who mistyped: what was expected, and what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from qel.errors import Fault
from qel.lexer import KEYWORDS, Lexeme

_WORDS = {
    "NAME": "a property",
    "QUOTED_NAME": "a property",
    "STRING": "a string",
    "NUMBER": "a number",
    "TRUE": "true or false",
    "FALSE": "true or false",
    "NULL": "null",
    "COMPARE": "a comparison operator",
    "TEXT_OPERATOR": "HAS, STARTS_WITH or ENDS_WITH",
    "LPAR": "'('",
    "RPAR": "')'",
    "LSQB": "'['",
    "RSQB": "']'",
    "COMMA": "','",
    "DOT": "'.'",
    "$END": "the end of the filter",
}

_OTHER_LANGUAGES = {
    "CONTAINS": "HAS",
    "INCLUDES": "HAS",
    "LIKE": "HAS",
    "BEGINS_WITH": "STARTS_WITH",
    "EQ": "=",
    "EQUALS": "=",
    "IS": "=",
    "NE": "!=",
    "NEQ": "!=",
    "LT": "<",
    "LE": "<=",
    "LTE": "<=",
    "GT": ">",
    "GE": ">=",
    "GTE": ">=",
}


def suggest(wrong: str, known: Iterable[str]) -> str | None:
    """Suggest the known word that is closest to a wrong one, if one is close."""
    by_folded = {word.casefold(): word for word in known}
    close = get_close_matches(wrong.casefold(), by_folded, n=1, cutoff=0.6)
    return f"did you mean {by_folded[close[0]]}?" if close else None


def explain_syntax(lexemes: list[Lexeme], found: Lexeme, *, expected: Iterable[str]) -> Fault:
    """Say why a lexeme cannot stand where it does."""
    at_end = found.type == "$END"
    before = _lexeme_before(lexemes, found)
    possible = set(expected) - _closers_without_opener(lexemes, found)
    wanted = sorted({_WORDS.get(kind, kind) for kind in possible or expected})
    what = "the filter ends too early" if at_end else f"unexpected {_shorten(found.text)}"
    detail = f"{what}, expected {_join(wanted)}"
    return Fault(detail, found.at, suggestion=_suggest_syntax(before, found, set(expected)))


def _suggest_syntax(before: Lexeme | None, found: Lexeme, expected: set[str]) -> str | None:
    is_name_wanted = bool(expected & {"NAME", "QUOTED_NAME"})
    is_plausible = found.type not in ("AND", "OR") or (before and before.type in ("DOT", "COMPARE"))
    if found.text.upper() in KEYWORDS and is_name_wanted and is_plausible:
        return f"a property of that name is written in backquotes: `{found.text}`"
    if found.type == "COMPARE" and before is not None and before.type == "COMPARE":
        return "one comparison operator is enough"
    operators_fit = "COMPARE" in expected or "AND" in expected
    for lexeme in (found, before):
        if lexeme is not None and lexeme.type == "NAME" and operators_fit:
            meant = _suggest_keyword(lexeme.text)
            if meant:
                return meant
    return None


def _suggest_keyword(word: str) -> str | None:
    other = _OTHER_LANGUAGES.get(word.upper())
    return f"did you mean {other}?" if other else suggest(word, KEYWORDS)


def _lexeme_before(lexemes: list[Lexeme], found: Lexeme) -> Lexeme | None:
    earlier = [lexeme for lexeme in lexemes if lexeme.at < found.at]
    return earlier[-1] if earlier else None


def _closers_without_opener(lexemes: list[Lexeme], found: Lexeme) -> set[str]:
    """Give what the automaton would take somewhere, but that closes nothing here.

    An LALR automaton merges contexts, so that inside and outside of parentheses look alike.
    """
    kinds = [lexeme.type for lexeme in lexemes if lexeme.at < found.at]
    is_list_open = kinds.count("LSQB") > kinds.count("RSQB")
    opened = len(kinds) - 1 - kinds[::-1].index("LPAR") if "LPAR" in kinds else -1
    is_tuple_open = opened > 0 and kinds[opened - 1] == "IN" and "RPAR" not in kinds[opened:]
    useless = set() if is_list_open else {"RSQB"}
    if not (is_list_open or is_tuple_open):
        useless.add("COMMA")
    if kinds.count("LPAR") <= kinds.count("RPAR"):
        useless.add("RPAR")
    return useless


def _join(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _shorten(word: str) -> str:
    return word if len(word) <= 40 else f"{word[:39]}…"
