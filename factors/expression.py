"""The syntax tree of a formula: ``Expr = Field | Number | Call``.

Trees are hash-consed: building the same tree twice gives the same object, so equality is identity, a set of nodes is a
set of distinct sub-expressions, and a formula that repeats a part holds it once. ``str`` gives canonical text, which
parses back to the same object.
"""

import math
import weakref
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import ClassVar, Self

from factors.errors import FormulaError
from factors.operators import (
    INFIX,
    OPERATORS,
    UNARY_PRECEDENCE,
    Form,
    LookBack,
    Operator,
    ParameterKind,
    misfit,
    operator,
)

MAX_CHARACTERS = 2000
MAX_DEPTH = 32
MAX_NODES = 256

_ATOM_PRECEDENCE = UNARY_PRECEDENCE + 1
_LARGEST_PLAIN_INTEGER = 1e15


class Expr:
    """A node. ``size`` counts nodes with shared ones repeated, ``depth`` levels, ``look_back`` rows of history."""

    __slots__ = ("__weakref__", "depth", "look_back", "size")

    _lock: ClassVar[Lock] = Lock()
    _known: ClassVar[weakref.WeakValueDictionary[tuple[object, ...], "Expr"]] = weakref.WeakValueDictionary()

    size: int
    depth: int
    look_back: int

    @property
    def children(self) -> tuple["Expr", ...]:
        """Direct sub-expressions, in order of writing."""
        return ()

    @classmethod
    def _existing(cls, *key: object) -> Self | None:
        """The node of this key, if there is one."""
        known = Expr._known.get((cls, *key))
        return known if isinstance(known, cls) else None

    def _interned(self, *key: object) -> Self:
        """The one node for this key: the one known already, else this one."""
        with Expr._lock:
            known = Expr._known.setdefault((type(self), *key), self)
        if not isinstance(known, type(self)):
            raise TypeError("a key names nodes of its own type")
        return known

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("an expression travels as its text")


class Field(Expr):
    """A column of the market, ``name`` without the dollar sign."""

    __slots__ = ("name",)
    name: str

    def __new__(cls, name: str) -> Self:
        """The node of this column."""
        node = super().__new__(cls)
        node.name, node.size, node.depth = name, 1, 1
        node.look_back = 1 if name == "return" else 0
        return node._interned(name)

    def __str__(self) -> str:
        return f"${self.name}"


class Number(Expr):
    """A finite literal; windows are numbers too."""

    __slots__ = ("value",)
    value: float

    def __new__(cls, value: float) -> Self:
        """The node of this value; minus zero is zero."""
        value = float(value) + 0.0
        if not math.isfinite(value):
            raise FormulaError("a literal must be a finite number")
        node = super().__new__(cls)
        node.value, node.size, node.depth, node.look_back = value, 1, 1, 0
        return node._interned(value)

    def __str__(self) -> str:
        plain = self.value.is_integer() and abs(self.value) < _LARGEST_PLAIN_INTEGER
        return str(int(self.value)) if plain else repr(self.value)


class Call(Expr):
    """An operator applied to arguments; infix signs and ``?:`` are calls as well."""

    __slots__ = ("args", "op")
    op: Operator
    args: tuple[Expr, ...]

    def __new__(cls, op: Operator, args: tuple[Expr, ...]) -> Self:
        """The node of this application; arguments are checked by :func:`call`, not here."""
        known = cls._existing(op.name, args)
        if known is not None:
            return known
        node = super().__new__(cls)
        node.op, node.args = op, args
        node.size = 1 + sum(arg.size for arg in args)
        node.depth = 1 + max(arg.depth for arg in args)
        rows = 0 if op.look_back is LookBack.NONE else op.look_back.rows(window(node))
        node.look_back = max(arg.look_back for arg in args) + rows
        return node._interned(op.name, args)

    @property
    def children(self) -> tuple[Expr, ...]:
        """The arguments."""
        return self.args

    def __str__(self) -> str:
        if self.op.symbol is None:
            return f"{self.op.name}({', '.join(map(str, self.args))})"
        if len(self.args) == 1:
            return f"{self.op.symbol}{_wrapped(self.args[0], UNARY_PRECEDENCE)}"
        left, right = self.args
        precedence = INFIX[self.op.symbol].precedence
        return f"{_wrapped(left, precedence)} {self.op.symbol} {_wrapped(right, precedence + 1)}"


def _wrapped(expr: Expr, least: int) -> str:
    """The text of ``expr``, in parentheses where it binds more loosely than ``least``."""
    precedence = _ATOM_PRECEDENCE
    if isinstance(expr, Call) and expr.op.symbol is not None:
        precedence = expr.op.precedence
    return f"({expr})" if precedence < least else str(expr)


def window(expr: Call) -> int:
    """The window of a time-series call in rows; 0 for calls that have none."""
    for parameter, arg in zip(expr.op.parameters, expr.args, strict=False):
        if parameter.kind is ParameterKind.WINDOW and isinstance(arg, Number):
            return int(arg.value)
    return 0


def call(name: str, *args: Expr | float) -> Expr:
    """Build a checked call.

    Args:
        name: the operator's name or alias, upper-case.
        args: sub-expressions; plain numbers become literals.

    Raises:
        FormulaError: unknown operator, wrong number or kind of arguments, or a parameter out of range.
    """
    op = operator(name)
    nodes = tuple(arg if isinstance(arg, Expr) else Number(arg) for arg in args)
    if op.name == "NEGATE" and len(nodes) == 1 and isinstance(nodes[0], Number):
        return Number(-nodes[0].value)
    if len(nodes) != len(op.parameters):
        raise misfit([op], len(nodes))
    check_arguments(op, nodes)
    for node in nodes:
        if is_sequence(node) and not (op.pairs and _windows(op, nodes) == _windows(SEQUENCE, node.children)):
            raise FormulaError(f"{op.signature}: {SEQUENCE_RULE}")
    return Call(op, nodes)


def check_arguments(form: Form, nodes: Sequence[Expr]) -> None:
    """Check that arguments, as many as there are parameters, are of the right kind and range.

    Raises:
        FormulaError: the first that is not; the message gives the signature and what was expected.
    """
    given = list(zip(form.parameters, nodes, strict=True))
    literals = {parameter.name: node.value for parameter, node in given if isinstance(node, Number)}
    for parameter, node in given:
        ceiling = literals.get(parameter.at_most, float("inf"))
        fault = parameter.fault(literals.get(parameter.name), grouped=node is SECTOR, ceiling=ceiling)
        if fault:
            raise FormulaError(f"{form.signature}: {fault}, not {_short(node)}")


def is_sequence(node: Expr) -> bool:
    """Whether a node is ``SEQUENCE(d)``, which has no value of its own."""
    return isinstance(node, Call) and node.op is SEQUENCE


def _windows(op: Operator, nodes: Sequence[Expr]) -> list[Expr]:
    return [
        node for parameter, node in zip(op.parameters, nodes, strict=True) if parameter.kind is ParameterKind.WINDOW
    ]


SECTOR = Field("sector")
SEQUENCE = OPERATORS["SEQUENCE"]
SEQUENCE_RULE = (
    "SEQUENCE(d) may stand only as a direct argument of "
    f"{', '.join(name for name, op in OPERATORS.items() if op.pairs)} with the same window d, "
    "as in REGBETA($close, SEQUENCE(20), 20)"
)


def _short(node: Expr, width: int = 40) -> str:
    if node.size > width and isinstance(node, Call):
        return f"{node.op.name}(…)"
    text = str(node)
    return text if len(text) <= width else f"{text[:width]}…"


def walk(expr: Expr) -> Iterator[Expr]:
    """Every node of the tree in order of writing, a shared one as often as it is written."""
    stack = [expr]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(node.children))


def distinct(*roots: Expr) -> list[Expr]:
    """Every distinct node of the trees, arguments before the calls that use them."""
    order: dict[Expr, None] = {}
    for root in roots:
        _visit(root, order)
    return list(order)


def _visit(node: Expr, order: dict[Expr, None]) -> None:
    if node not in order:
        for child in node.children:
            if child not in order:
                _visit(child, order)
        order[node] = None


def fields(expr: Expr) -> frozenset[str]:
    """Names of the columns that the formula reads, ``sector`` not among them."""
    return frozenset(node.name for node in distinct(expr) if isinstance(node, Field) and node is not SECTOR)
