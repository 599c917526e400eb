"""Formula text to expression: one linear tokenizer, one precedence-climbing parser, no ``eval``.

ternary := or ['?' ternary ':' ternary]
or, and, equality, relation, sum, product := left-associative infix, precedence as in C
unary   := '-' unary | primary
primary := number | '$' field | NAME '(' [ternary {',' ternary}] ')' | '(' ternary ')'

A composite is written out here: its expansion is parsed with the parameters' names standing for the arguments.
"""

import math
import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from factors.columns import STANDARD_FIELDS
from factors.dialect import ALPHAAGENT, Dialect
from factors.errors import FormulaError
from factors.expression import (
    MAX_CHARACTERS,
    MAX_DEPTH,
    MAX_NODES,
    SECTOR,
    SEQUENCE_RULE,
    Expr,
    Field,
    Number,
    call,
    check_arguments,
    fields,
    is_sequence,
)
from factors.operators import INFIX, Composite, ParameterKind, nearest_names

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|\$(?P<field>[A-Za-z_]\w*)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign>\|\||&&|==|!=|<=|>=|\*(?!\*)|[-+/<>?:(),&|]))",
    re.ASCII,
)
_SAME_SIGN = {"&": "&&", "|": "||"}
_FOREIGN = {
    "*": "a power is POW(x, y)",
    "^": "a power is POW(x, y)",
    "=": "equality is ==",
    "!": "negation is NOT(x)",
    "~": "negation is NOT(x)",
    "$": "a field is $ and its name, such as $close",
}
_END = "end of text"
_BLANKS = " \t\n\r\f\v"
_TOO_DEEP = f"a formula has at most {MAX_DEPTH} levels of nesting, this one has more"


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


class _MisreadError(Exception):
    """Why a text is no formula, and at which character, counted from 0."""

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(reason)
        self.position = position


def parse(text: str, known_fields: Collection[str] = STANDARD_FIELDS, dialect: Dialect = ALPHAAGENT) -> Expr:
    """Parse a formula.

    Args:
        text: the formula, at most 2,000 ASCII characters; written out, 32 levels and 256 nodes.
        known_fields: columns that it may read, without the dollar sign.
        dialect: how it is spelt.

    Raises:
        FormulaError: anything else than one formula of the language; the message says where and what was expected.
    """
    if len(text) > MAX_CHARACTERS:
        raise FormulaError(f"a formula has at most {MAX_CHARACTERS:,} characters, this one has {len(text):,}")
    try:
        expr = _Parser(_tokens(text, dialect), known_fields, dialect).formula()
    except _MisreadError as error:
        raise FormulaError(f"at character {error.position + 1}: {error}", error.position) from None
    if expr.size > MAX_NODES:
        raise FormulaError(f"a formula has at most {MAX_NODES} nodes, this one has {expr.size}")
    if is_sequence(expr):
        raise FormulaError(SEQUENCE_RULE)
    if not fields(expr):
        raise FormulaError("a formula reads at least one field, such as $close")
    written = len(str(expr))
    if written > MAX_CHARACTERS:
        raise FormulaError(f"written out, a formula has at most {MAX_CHARACTERS:,} characters, this one {written:,}")
    return expr


def _tokens(text: str, dialect: Dialect) -> list[_Token]:
    tokens = []
    position = 0
    end = len(text.rstrip(_BLANKS))
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            at = len(text) - len(text[position:].lstrip(_BLANKS))
            sign = "**" if text[at] == "*" else text[at]
            hint = f"; {_FOREIGN[text[at]]}" if text[at] in _FOREIGN else ""
            raise _MisreadError(f"{sign!a} has no meaning in a formula{hint}", at)
        kind = str(match.lastgroup)
        tokens.append(_Token(kind, match[kind], match.start(kind) - (kind == "field")))
        position = match.end()
    if dialect.forgiving:
        signs = [token.text for token in tokens if token.kind == "sign"]
        tokens += [_Token("sign", ")", end)] * (signs.count("(") - signs.count(")"))
    return [*tokens, _Token(_END, "the end of the formula", end)]


class _Parser:
    def __init__(
        self,
        tokens: list[_Token],
        known_fields: Collection[str],
        dialect: Dialect,
        bound: Mapping[str, Expr] | None = None,
    ) -> None:
        """``bound`` gives what the names of a composite's parameters stand for."""
        self._tokens = tokens
        self._next = 0
        self._known_fields = known_fields
        self._dialect = dialect
        self._bound = bound or {}

    def formula(self) -> Expr:
        """The whole text as one expression."""
        expr = self._ternary(0)
        if self._token.kind != _END:
            raise self._fault("an operator sign or the end of the formula", self._token)
        return expr

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        self._next += 1
        return token

    def _at(self, sign: str) -> bool:
        return self._token.kind == "sign" and self._token.text == sign

    def _fault(self, expected: str, token: _Token) -> _MisreadError:
        found = f"${token.text[:40]}" if token.kind == "field" else token.text[:40]
        return _MisreadError(f"expected {expected}, found {found}", token.position)

    def _expect(self, sign: str, expected: str) -> None:
        """Consume this sign, or fail with what was expected."""
        if not self._at(sign):
            raise self._fault(expected, self._token)
        self._take()

    def _ternary(self, depth: int) -> Expr:
        if depth > MAX_DEPTH:
            raise _MisreadError(f"nested more than {MAX_DEPTH} deep", self._token.position)
        start = self._token
        condition = self._infix(2, depth)
        if not self._at("?"):
            return condition
        self._take()
        chosen = self._ternary(depth + 1)
        self._expect(":", "':' and the other branch of '?'")
        return self._applied("WHERE", [condition, chosen, self._ternary(depth + 1)], start)

    def _infix(self, least: int, depth: int) -> Expr:
        left = self._unary(depth)
        while self._token.kind == "sign":
            sign = _SAME_SIGN.get(self._token.text, self._token.text)
            if sign not in INFIX or INFIX[sign].precedence < least:
                break
            token = self._take()
            right = self._infix(INFIX[sign].precedence + 1, depth)
            left = self._applied(INFIX[sign].name, [left, right], token)
        return left

    def _unary(self, depth: int) -> Expr:
        if self._at("-"):
            token = self._take()
            if depth > MAX_DEPTH:
                raise _MisreadError(_TOO_DEEP, token.position)
            return self._applied("NEGATE", [self._unary(depth + 1)], token)
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
        if token.kind == "name" and token.text in self._bound and not self._at("("):
            return self._bound[token.text]
        if token.kind == "name":
            return self._call(token, depth)
        if token.text == "(" and token.kind == "sign":
            inner = self._ternary(depth + 1)
            self._expect(")", f"')' for the '(' at character {token.position + 1}")
            return inner
        raise self._fault("a field, a number, a call or '('", token)

    def _field(self, token: _Token) -> Expr:
        if token.text == SECTOR.name:
            return SECTOR
        if token.text in self._known_fields:
            return Field(token.text)
        near = nearest_names(f"${token.text}", [f"${name}" for name in self._known_fields])
        known = ", ".join(f"${name}" for name in self._known_fields)
        raise _MisreadError(f"unknown field ${token.text[:40]}{near} (fields here: {known})", token.position)

    def _call(self, name: _Token, depth: int) -> Expr:
        self._expect("(", f"'(' after {name.text[:40]} (a field is written ${name.text.lower()[:40]})")
        args = [] if self._at(")") else [self._ternary(depth + 1)]
        while self._at(","):
            self._take()
            args.append(self._ternary(depth + 1))
        self._expect(")", f"',' or ')' in {name.text[:40]}(…)")
        return self._applied(name.text, args, name)

    def _applied(self, name: str, args: list[Expr], token: _Token) -> Expr:
        try:
            expr = self._built(name, args, token)
        except FormulaError as error:
            raise _MisreadError(str(error), token.position) from None
        if expr.depth > MAX_DEPTH:
            raise _MisreadError(_TOO_DEEP, token.position)
        return expr

    def _built(self, name: str, args: list[Expr], token: _Token) -> Expr:
        form = self._dialect.form(name, len(args))
        if self._dialect.forgiving:
            args = [
                Number(math.floor(arg.value))
                if parameter.kind is ParameterKind.WINDOW and isinstance(arg, Number)
                else arg
                for parameter, arg in zip(form.parameters, args, strict=True)
            ]
        if not isinstance(form, Composite):
            return call(form.name, *args)
        check_arguments(form, args)
        bound = {parameter.name: arg for parameter, arg in zip(form.parameters, args, strict=True)}
        try:
            return _Parser(_tokens(form.expansion, ALPHAAGENT), (), ALPHAAGENT, bound).formula()
        except _MisreadError as error:
            raise _MisreadError(f"{form.signature}: {error}", token.position) from None
