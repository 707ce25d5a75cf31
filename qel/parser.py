"""Text to tree: the one home of Lark.

The steps are separate on purpose: `tokenize` (qel/lexer.py) cuts and checks the limits,
`build_tree` drives Lark's LALR automaton over the lexemes. The automaton keeps its own stack,
so the depth of an expression costs memory and never recursion.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from typing import Protocol, TypeVar, cast

from lark import Lark, Token, Transformer, UnexpectedToken, v_args
from lark.lexer import Lexer, LexerState
from typing_extensions import override

from qel import hints
from qel.errors import Fault
from qel.lexer import (
    DEFAULT_LIMITS,
    Lexeme,
    Limits,
    name_value,
    number_value,
    string_value,
    tokenize,
)
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
    Operator,
    Or,
    Property,
    TextOperator,
    TextTest,
)

T = TypeVar("T")


def parse(text: str, limits: Limits = DEFAULT_LIMITS) -> Node:
    """Read a filter text.

    Raises:
        QelError: the text is no expression, or past a limit; anything else is a bug.
    """
    try:
        return build_tree(tokenize(text, limits), len(text))
    except Fault as fault:
        raise fault.to_error(text) from None


def build_tree(lexemes: list[Lexeme], end: int) -> Node:
    """Build the tree of an expression from its lexemes; `end` is the length of its text.

    Raises:
        Fault: the lexemes are no expression.
    """
    machine = cast("_Machine", _LALR.parse_interactive())
    try:
        for lexeme in lexemes:
            machine.feed_token(lexeme)
        return machine.feed_token(Lexeme("$END", "", end))
    except UnexpectedToken as error:
        found = cast("Lexeme", error.token)
        raise hints.explain_syntax(lexemes, found, expected=error.expected) from None


class _Machine(Protocol):
    """What is used of Lark's InteractiveParser: it looks at nothing but a token's type."""

    def feed_token(self, token: Lexeme) -> Node: ...


class _NoLexer(Lexer):
    """Stands where Lark wants a lexer; lexemes are fed by hand."""

    def __init__(self, conf: object) -> None: ...

    @override
    def lex(self, lexer_state: LexerState, parser_state: object) -> Iterator[Token]:
        raise NotImplementedError  # pragma: no cover -- the automaton is only ever fed


@v_args(inline=True)
class _TreeBuilder(Transformer[Lexeme, Node]):
    """One method for each rule of the grammar; Lark calls them as it reduces."""

    def start(self, expression: Node) -> Node:
        return expression

    def disjunction(self, first: Node, *rest: Node | Lexeme) -> Node:
        return Or((first, *cast("tuple[Node, ...]", rest[1::2])))

    def conjunction(self, first: Node, *rest: Node | Lexeme) -> Node:
        return And((first, *cast("tuple[Node, ...]", rest[1::2])))

    def negation(self, _not: Lexeme, part: Node) -> Node:
        return Not(part)

    def group(self, _open: Lexeme, expression: Node, _close: Lexeme) -> Node:
        return expression

    def comparison(self, left: Operand, sign: Lexeme, right: Operand) -> Leaf:
        return Comparison(Operator(sign.text), left, right, sign.at)

    def membership(
        self, operand: Operand, sign: Lexeme, choices: tuple[Literal, ...] | Property
    ) -> Leaf:
        return Membership(operand, choices, sign.at)

    def text_test(self, operand: Operand, sign: Lexeme, text: Lexeme) -> Leaf:
        return TextTest(TextOperator(sign.text.upper()), operand, string_value(text), sign.at)

    def bare(self, operand: Operand) -> Leaf:
        return Bare(operand)

    def choices(self, _open: Lexeme, *rest: Literal | Lexeme) -> tuple[Literal, ...]:
        return cast("tuple[Literal, ...]", rest[::2])

    def property(self, *names: tuple[str, int]) -> Operand:
        return Property(tuple(name for name, _ in names[::2]), names[0][1])

    def name(self, lexeme: Lexeme) -> tuple[str, int]:
        return lexeme.text, lexeme.at

    def quoted_name(self, lexeme: Lexeme) -> tuple[str, int]:
        return name_value(lexeme), lexeme.at

    def true(self, lexeme: Lexeme) -> Operand:
        return Literal(value=True, at=lexeme.at)

    def false(self, lexeme: Lexeme) -> Operand:
        return Literal(value=False, at=lexeme.at)

    def null(self, lexeme: Lexeme) -> Operand:
        return Literal(None, lexeme.at)

    def string(self, lexeme: Lexeme) -> Operand:
        return Literal(string_value(lexeme), lexeme.at)

    def number(self, lexeme: Lexeme) -> Operand:
        return Literal(number_value(lexeme), lexeme.at)


_LALR = Lark(
    resources.files("qel").joinpath("grammar.lark").read_text(encoding="utf-8"),
    parser="lalr",
    lexer=_NoLexer,
    transformer=_TreeBuilder(),
)
