"""What an operator is: its parameters, what it looks at, how far it looks back.

A :class:`Composite` is one that is no more than a formula over others.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

MAX_WINDOW = 1000


class Kind(Enum):
    """What an operator looks at."""

    ELEMENTWISE = "elementwise"  #: one cell, e.g. ``LOG($volume)``
    TIME_SERIES = "time series"  #: one instrument's last rows, e.g. ``TS_MEAN($close, 20)``
    CROSS_SECTION = "cross-section"  #: the universe's members on one date, e.g. ``RANK($close)``
    GROUP = "group"  #: the members of one sector on one date, e.g. ``GROUP_RANK($close, $sector)``


class LookBack(Enum):
    """Rows of history that an operator needs beyond those its arguments need, by its window d."""

    NONE = "0"
    WINDOW = "{d} - 1"  #: the window's rows, e.g. ``TS_MEAN``
    SHIFT = "{d}"  #: exactly the row a window ago, e.g. ``DELAY``
    FADING = "{d} - 1, fading"  #: as a window, but older rows count as well, ever less, e.g. ``EMA``

    def rows(self, window: int) -> int:
        """The number of rows for a window."""
        if self is LookBack.NONE:
            return 0
        return window if self is LookBack.SHIFT else window - 1


class ParameterKind(Enum):
    """What a parameter accepts."""

    SERIES = "series"  #: any sub-expression
    WINDOW = "window"  #: an integer literal, in rows
    INTEGER = "integer"  #: an integer literal
    NUMBER = "number"  #: a literal
    GROUP = "group"  #: ``$sector``


_WHOLE = frozenset({ParameterKind.WINDOW, ParameterKind.INTEGER})
LITERAL_KINDS = _WHOLE | {ParameterKind.NUMBER}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A named parameter.

    Attributes:
        name: lower-case.
        kind: what it accepts.
        low: least value of a literal.
        high: greatest value of a literal.
        at_most: name of another literal parameter that it may not exceed either.
    """

    name: str
    kind: ParameterKind = ParameterKind.SERIES
    low: float = float("-inf")
    high: float = float("inf")
    at_most: str = ""

    def fault(self, literal: float | None, *, grouped: bool, ceiling: float = float("inf")) -> str:
        """What is expected instead of an argument, or nothing where it fits.

        Args:
            literal: the argument's value where it is a number.
            grouped: whether the argument is ``$sector``.
            ceiling: the value of the parameter that ``at_most`` names.
        """
        if self.kind is ParameterKind.SERIES:
            return f"{self.name} must be a series of numbers" if grouped else ""
        if self.kind is ParameterKind.GROUP:
            return "" if grouped else f"{self.name} must be $sector"
        whole = self.kind in _WHOLE
        fits = literal is not None and self.low <= literal <= min(self.high, ceiling)
        if fits and literal is not None and (not whole or literal.is_integer()):
            return ""
        what = "an integer literal" if whole else "a literal"
        if self._unbounded:
            return f"{self.name} must be {what}"
        limit = f"below {self._limit}" if self._exclusive else self._limit
        return f"{self.name} must be {what} from {self.low:g} to {limit}"

    @property
    def _unbounded(self) -> bool:
        return self.low == float("-inf")

    @property
    def _limit(self) -> str:
        return self.at_most or f"{self.high:g}"

    @property
    def _exclusive(self) -> bool:
        """Whether ``high`` is the last number below a round one, so that it is written as that."""
        return float(f"{self.high:g}") > self.high

    def __str__(self) -> str:
        if self.kind not in LITERAL_KINDS:
            return self.name
        if self._unbounded:
            return f"{self.name}: number"
        return f"{self.name}: {self.low:g}..{'<' if self._exclusive else ''}{self._limit}"


Kernel = Callable[..., Any]


class Infix(NamedTuple):
    """An infix sign: the operator it stands for, and how tightly it binds (C's order)."""

    name: str
    precedence: int


INFIX = {
    "||": Infix("OR", 2),
    "&&": Infix("AND", 3),
    "==": Infix("EQ", 4),
    "!=": Infix("NE", 4),
    "<": Infix("LT", 5),
    ">": Infix("GT", 5),
    "<=": Infix("LE", 5),
    ">=": Infix("GE", 5),
    "+": Infix("ADD", 6),
    "-": Infix("SUBTRACT", 6),
    "*": Infix("MULTIPLY", 7),
    "/": Infix("DIVIDE", 7),
}
UNARY_PRECEDENCE = 8
_SYMBOL = {infix.name: symbol for symbol, infix in INFIX.items()} | {"NEGATE": "-"}


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """One operator.

    Attributes:
        kernel: how it is computed; the evaluator's docstring gives the calling convention of each kind.
        doc: one line in words.
        source: where the definition comes from.
        look_back: which earlier rows it needs.
        aliases: other spellings that parse to it.
        qlib: qlib's operator with the same arguments and, once the window is full, the same values; or an expression
            of qlib's operators in this one's parameters.
    """

    name: str
    kind: Kind
    parameters: tuple[Parameter, ...]
    kernel: Kernel
    doc: str
    source: str = "elementary"
    look_back: LookBack = LookBack.NONE
    aliases: tuple[str, ...] = ()
    qlib: str | None = None

    @property
    def signature(self) -> str:
        """For example ``TS_MEAN(x, d: 1..1000)``."""
        return _signature(self.name, self.parameters)

    @property
    def symbol(self) -> str | None:
        """The infix or prefix sign that canonical text uses, if any."""
        return _SYMBOL.get(self.name)

    @property
    def precedence(self) -> int:
        """How tightly ``symbol`` binds."""
        return UNARY_PRECEDENCE if self.name == "NEGATE" else INFIX[_SYMBOL[self.name]].precedence

    @property
    def look_back_rule(self) -> str:
        """The look-back in words, for example ``d - 1``."""
        windows = [parameter.name for parameter in self.parameters if parameter.kind is ParameterKind.WINDOW]
        return self.look_back.value.format(d=windows[0] if windows else "")

    @property
    def pairs(self) -> bool:
        """Whether it looks at pairs of values in a window, as ``TS_CORR`` does."""
        series = [parameter for parameter in self.parameters if parameter.kind is ParameterKind.SERIES]
        return self.kind is Kind.TIME_SERIES and len(series) > 1


@dataclass(frozen=True, slots=True)
class Composite:
    """A formula over other operators that has a name; the parser writes it out, so no tree ever holds one.

    Attributes:
        expansion: text of the language in which the parameters' names stand for the arguments.
        doc: one line in words.
        source: where the definition comes from.
    """

    name: str
    parameters: tuple[Parameter, ...]
    expansion: str
    doc: str
    source: str

    @property
    def signature(self) -> str:
        """For example ``MACD(x, fast: 1..1000, slow: 1..1000)``."""
        return _signature(self.name, self.parameters)


Form = Operator | Composite


def _signature(name: str, parameters: Iterable[Parameter]) -> str:
    return f"{name}({', '.join(map(str, parameters))})"


def takes(forms: Sequence[Form], given: int) -> str:
    """How many arguments the forms of a name take, and that so many were given."""
    counts = (
        f"{form.signature} takes {len(form.parameters)} argument{'s' if len(form.parameters) > 1 else ''}"
        for form in forms
    )
    return f"{' or '.join(counts)}, not {given}"


X = Parameter("x")
Y = Parameter("y")
D = Parameter("d", ParameterKind.WINDOW, 1, MAX_WINDOW)
QLIB = "qlib rolling operators"
KAKUSHADZE = "Kakushadze 2016, 101 Formulaic Alphas"
