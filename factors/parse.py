"""Formula text to expression: one linear tokenizer, one precedence-climbing parser, no ``eval``.

ternary := or ['?' ternary ':' ternary]
or, and, equality, relation, sum, product := left-associative infix, precedence as in C
unary   := '-' unary | primary
primary := number | '$' field | NAME '(' ternary {',' ternary} ')' | '(' ternary ')'
"""

import math
import re
from collections.abc import Collection
from typing import NamedTuple

from factors.errors import FormulaError
from factors.expression import MAX_CHARACTERS, MAX_DEPTH, MAX_NODES, SECTOR, Expr, Field, Number, call, fields
from factors.operators import INFIX, nearest_names

STANDARD_FIELDS = ("open", "high", "low", "close", "volume", "return")

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|\$(?P<field>[A-Za-z_]\w*)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign>\|\||&&|==|!=|<=|>=|[-+*/<>?:(),&|]))",
    re.ASCII,
)
_SAME_SIGN = {"&": "&&", "|": "||"}
_END = "end of text"


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


def parse(text: str, known_fields: Collection[str] = STANDARD_FIELDS) -> Expr:
    """Parse a formula.

    Args:
        text: the formula, at most 2,000 ASCII characters, 32 levels and 256 nodes.
        known_fields: columns that it may read, without the dollar sign.

    Raises:
        FormulaError: anything else than one formula of the language; the message says where and what was expected.
    """
    if len(text) > MAX_CHARACTERS:
        raise FormulaError(f"a formula has at most {MAX_CHARACTERS:,} characters, this one has {len(text):,}")
    parser = _Parser(_tokens(text), known_fields)
    expr = parser.ternary(0)
    parser.expect(_END, "an operator sign or the end of the formula")
    if expr.size > MAX_NODES:
        raise FormulaError(f"a formula has at most {MAX_NODES} nodes, this one has {expr.size}")
    if not fields(expr):
        raise FormulaError("a formula reads at least one field, such as $close")
    return expr


def _tokens(text: str) -> list[_Token]:
    tokens = []
    position = 0
    end = len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            at = position + len(text[position:]) - len(text[position:].lstrip())
            raise FormulaError(f"at character {at + 1}: {text[at]!a} has no meaning in a formula", at)
        kind = str(match.lastgroup)
        tokens.append(_Token(kind, match[kind], match.start(kind) - (kind == "field")))
        position = match.end()
    return [*tokens, _Token(_END, "the end of the formula", end)]


class _Parser:
    def __init__(self, tokens: list[_Token], known_fields: Collection[str]) -> None:
        self._tokens = tokens
        self._next = 0
        self._known_fields = known_fields

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        self._next += 1
        return token

    def _at(self, sign: str) -> bool:
        return self._token.kind == "sign" and self._token.text == sign

    def _fault(self, expected: str, token: _Token) -> FormulaError:
        found = f"${token.text[:40]}" if token.kind == "field" else token.text[:40]
        return FormulaError(f"at character {token.position + 1}: expected {expected}, found {found}", token.position)

    def expect(self, sign_or_kind: str, expected: str) -> None:
        """Consume this sign or end, or fail with what was expected."""
        if not (self._at(sign_or_kind) or self._token.kind == sign_or_kind):
            raise self._fault(expected, self._token)
        self._take()

    def ternary(self, depth: int) -> Expr:
        if depth > MAX_DEPTH:
            raise FormulaError(
                f"at character {self._token.position + 1}: nested more than {MAX_DEPTH} deep",
                self._token.position,
            )
        start = self._token
        condition = self._infix(2, depth)
        if not self._at("?"):
            return condition
        self._take()
        chosen = self.ternary(depth + 1)
        self.expect(":", "':' and the other branch of '?'")
        return self._call("WHERE", [condition, chosen, self.ternary(depth + 1)], start)

    def _infix(self, least: int, depth: int) -> Expr:
        left = self._unary(depth)
        while self._token.kind == "sign":
            sign = _SAME_SIGN.get(self._token.text, self._token.text)
            if sign not in INFIX or INFIX[sign].precedence < least:
                break
            token = self._take()
            right = self._infix(INFIX[sign].precedence + 1, depth)
            left = self._call(INFIX[sign].name, [left, right], token)
        return left

    def _unary(self, depth: int) -> Expr:
        if self._at("-"):
            token = self._take()
            if depth > MAX_DEPTH:
                raise self._fault(f"at most {MAX_DEPTH} levels of nesting", token)
            return self._call("NEGATE", [self._unary(depth + 1)], token)
        return self._primary(depth)

    def _primary(self, depth: int) -> Expr:
        token = self._take()
        if token.kind == "number":
            value = float(token.text)
            if not math.isfinite(value):
                raise self._fault("a number within the range of a float", token)
            return Number(value)
        if token.kind == "field":
            return self._field(token)
        if token.kind == "name":
            self.expect("(", f"'(' after {token.text[:40]} (a field is written ${token.text.lower()[:40]})")
            args = [self.ternary(depth + 1)]
            while self._at(","):
                self._take()
                args.append(self.ternary(depth + 1))
            self.expect(")", "',' or ')'")
            return self._call(token.text, args, token)
        if token.text == "(" and token.kind == "sign":
            inner = self.ternary(depth + 1)
            self.expect(")", "')'")
            return inner
        raise self._fault("a field, a number, a call or '('", token)

    def _field(self, token: _Token) -> Expr:
        if token.text == SECTOR.name:
            return SECTOR
        if token.text in self._known_fields:
            return Field(token.text)
        near = nearest_names(f"${token.text}", [f"${name}" for name in self._known_fields])
        known = ", ".join(f"${name}" for name in self._known_fields)
        raise FormulaError(
            f"at character {token.position + 1}: unknown field ${token.text[:40]}{near} (fields here: {known})",
            token.position,
        )

    def _call(self, name: str, args: list[Expr], token: _Token) -> Expr:
        try:
            expr = call(name, *args)
        except FormulaError as error:
            raise FormulaError(f"at character {token.position + 1}: {error}", token.position) from None
        if expr.depth > MAX_DEPTH:
            raise self._fault(f"at most {MAX_DEPTH} levels of nesting", token)
        return expr
