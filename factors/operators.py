"""The registry of operators: each defined once, everything else derived from it.

The parser, the evaluator, the prompts' operator table, ``GET /operators``, ``alphaagent operators`` and the property
tests read this table. To add an operator, write its kernel in ``factors/kernels`` and one entry here.
"""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, NamedTuple

from factors.errors import FormulaError
from factors.kernels import cross_section, elementwise, rolling

MAX_WINDOW = 1000


class Kind(Enum):
    """What an operator looks at."""

    ELEMENTWISE = "elementwise"  #: one cell, e.g. ``LOG($volume)``
    TIME_SERIES = "time series"  #: one instrument's last rows, e.g. ``TS_MEAN($close, 20)``
    CROSS_SECTION = "cross-section"  #: the universe's members on one date, e.g. ``RANK($close)``
    GROUP = "group"  #: the members of one sector on one date, e.g. ``GROUP_RANK($close, $sector)``


class ParameterKind(Enum):
    """What a parameter accepts."""

    SERIES = "series"  #: any sub-expression
    WINDOW = "window"  #: an integer literal, in rows
    NUMBER = "number"  #: a literal
    GROUP = "group"  #: ``$sector``


@dataclass(frozen=True, slots=True)
class Parameter:
    """A named parameter; ``low`` and ``high`` bound literals, inclusive."""

    name: str
    kind: ParameterKind = ParameterKind.SERIES
    low: float = float("-inf")
    high: float = float("inf")

    def fault(self, literal: float | None, *, grouped: bool) -> str:
        """What is expected instead of an argument, or nothing where it fits.

        Args:
            literal: the argument's value where it is a number.
            grouped: whether the argument is ``$sector``.
        """
        if self.kind is ParameterKind.SERIES:
            return f"{self.name} must be a series of numbers" if grouped else ""
        if self.kind is ParameterKind.GROUP:
            return "" if grouped else f"{self.name} must be $sector"
        whole = self.kind is ParameterKind.WINDOW
        fits = literal is not None and self.low <= literal <= self.high
        if fits and literal is not None and (not whole or literal.is_integer()):
            return ""
        what = "an integer literal" if whole else "a literal"
        return f"{self.name} must be {what} from {self.low:g} to {self.high:g}"

    def __str__(self) -> str:
        bounded = self.kind in {ParameterKind.WINDOW, ParameterKind.NUMBER}
        return f"{self.name}: {self.low:g}..{self.high:g}" if bounded else self.name


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
        shifts: it reads exactly the row a window ago (``DELAY``) rather than the window's rows.
        aliases: other spellings that parse to it.
    """

    name: str
    kind: Kind
    parameters: tuple[Parameter, ...]
    kernel: Kernel
    doc: str
    source: str = "elementary"
    shifts: bool = False
    aliases: tuple[str, ...] = ()

    @property
    def signature(self) -> str:
        """For example ``TS_MEAN(x, d: 1..1000)``."""
        return f"{self.name}({', '.join(map(str, self.parameters))})"

    @property
    def symbol(self) -> str | None:
        """The infix or prefix sign that canonical text uses, if any."""
        return _SYMBOL.get(self.name)

    @property
    def precedence(self) -> int:
        """How tightly ``symbol`` binds."""
        return UNARY_PRECEDENCE if self.name == "NEGATE" else INFIX[_SYMBOL[self.name]].precedence

    def look_back(self, window: int) -> int:
        """Rows of history that it needs beyond those its arguments need."""
        if self.kind is not Kind.TIME_SERIES:
            return 0
        return window if self.shifts else window - 1


X = Parameter("x")
Y = Parameter("y")
D = Parameter("d", ParameterKind.WINDOW, 1, MAX_WINDOW)
SECTOR = Parameter("group", ParameterKind.GROUP)
QLIB = "qlib rolling operators"
KAKUSHADZE = "Kakushadze 2016, 101 Formulaic Alphas"


def _elementwise() -> Iterable[Operator]:
    def op(name: str, kernel: Kernel, doc: str, *parameters: Parameter) -> Operator:
        return Operator(name, Kind.ELEMENTWISE, parameters or (X,), kernel, doc)

    yield op("ABS", elementwise.absolute, "absolute value")
    yield op("SIGN", elementwise.sign, "-1, 0 or 1")
    yield op("LOG", elementwise.log, "natural logarithm; null at x <= 0")
    yield op("LOG1P", elementwise.log1p, "log(1 + x); null at x <= -1")
    yield op("SQRT", elementwise.sqrt, "square root; null below 0")
    yield op("EXP", elementwise.exp, "e to the power x")
    yield op("INV", elementwise.invert, "1 / x; null at 0")
    yield op("FLOOR", elementwise.floor, "largest integer not above x")
    yield op("NEGATE", elementwise.negate, "-x")
    yield op("NOT", elementwise.logical_not, "1 where x is 0, else 0")
    yield op("POW", elementwise.power, "x to the power y", X, Y)
    yield op("SIGNEDPOWER", elementwise.signed_power, "sign(x) * |x| to the power y", X, Y)
    yield op("MAX", elementwise.maximum, "the larger of x and y", X, Y)
    yield op("MIN", elementwise.minimum, "the smaller of x and y", X, Y)
    yield op("ADD", elementwise.add, "x + y", X, Y)
    yield op("SUBTRACT", elementwise.subtract, "x - y", X, Y)
    yield op("MULTIPLY", elementwise.multiply, "x * y", X, Y)
    yield op("DIVIDE", elementwise.divide, "x / y; null where y is 0", X, Y)
    yield op("LT", elementwise.less, "1 where x < y, else 0", X, Y)
    yield op("GT", elementwise.greater, "1 where x > y, else 0", X, Y)
    yield op("LE", elementwise.less_equal, "1 where x <= y, else 0", X, Y)
    yield op("GE", elementwise.greater_equal, "1 where x >= y, else 0", X, Y)
    yield op("EQ", elementwise.equal, "1 where x = y, else 0", X, Y)
    yield op("NE", elementwise.not_equal, "1 where x differs from y, else 0", X, Y)
    yield op("AND", elementwise.logical_and, "1 where neither x nor y is 0, else 0", X, Y)
    yield op("OR", elementwise.logical_or, "1 where x or y is not 0, else 0", X, Y)
    low, high = Parameter("low", ParameterKind.NUMBER), Parameter("high", ParameterKind.NUMBER)
    yield op("CLIP", elementwise.clip, "x held between low and high", X, low, high)
    condition = Parameter("condition")
    yield op("WHERE", elementwise.where, "x where the condition is not 0, else y", condition, X, Y)


def _time_series() -> Iterable[Operator]:
    def op(
        name: str, kernel: Kernel, doc: str, *parameters: Parameter,
        source: str = QLIB, shifts: bool = False, aliases: tuple[str, ...] = (),
    ) -> Operator:  # fmt: skip
        return Operator(
            name, Kind.TIME_SERIES, parameters or (X, D), kernel, doc, source, shifts=shifts, aliases=aliases
        )

    yield op("DELAY", rolling.delay, "x d rows ago", source=KAKUSHADZE, shifts=True)
    yield op("DELTA", rolling.delta, "x minus x d rows ago", source=KAKUSHADZE, shifts=True)
    yield op("TS_PCTCHANGE", rolling.pct_change, "x over x d rows ago, minus 1", shifts=True)
    yield op("TS_PROD", rolling.product, "product of the last d rows")
    yield op("TS_COUNT", rolling.count, "number of the last d rows other than 0")
    yield op("TS_SUM", rolling.total, "sum over the last d rows")
    yield op("TS_MEAN", rolling.mean, "mean of the last d rows")
    yield op("TS_STD", rolling.std, "standard deviation (ddof 1) of the last d rows")
    yield op("TS_VAR", rolling.var, "variance (ddof 1) of the last d rows")
    yield op("TS_ZSCORE", rolling.zscore, "x less its mean over d rows, over its standard deviation")
    yield op("TS_MIN", rolling.minimum, "smallest of the last d rows")
    yield op("TS_MAX", rolling.maximum, "largest of the last d rows")
    yield op("TS_ARGMIN", rolling.argmin, "rows since the oldest smallest of the last d", source=KAKUSHADZE)
    yield op("TS_ARGMAX", rolling.argmax, "rows since the oldest largest of the last d", source=KAKUSHADZE)
    yield op("TS_RANK", rolling.rank, "percentile rank in (0, 1] of x among its last d rows")
    yield op("TS_MEDIAN", rolling.median, "median of the last d rows")
    q = Parameter("q", ParameterKind.NUMBER, 0, 1)
    yield op("TS_QUANTILE", rolling.quantile, "quantile q of the last d rows, linear between neighbours", X, D, q)
    yield op("TS_MAD", rolling.mean_deviation, "mean absolute deviation from the mean of the last d rows")
    yield op("TS_SKEW", rolling.skew, "adjusted skewness G1 of the last d rows")
    yield op("TS_KURT", rolling.kurt, "adjusted excess kurtosis G2 of the last d rows")
    yield op(
        "TS_CORR",
        rolling.corr,
        "Pearson correlation of x and y over the last d rows",
        X,
        Y,
        D,
        source=KAKUSHADZE,
    )
    yield op("TS_COV", rolling.cov, "covariance (ddof 1) of x and y over d rows", X, Y, D,
             source=KAKUSHADZE, aliases=("TS_COVARIANCE",))  # fmt: skip
    yield op("REGBETA", rolling.regression_slope, "slope of y on x over the last d rows", Y, X, D)
    yield op("REGRESI", rolling.regression_residual, "y less the line fitted on x over the last d rows", Y, X, D)
    yield op("DECAYLINEAR", rolling.decay_linear, "mean of the last d rows with weights d, d-1, …, 1",
             source=KAKUSHADZE, aliases=("WMA", "TS_DECAY_LINEAR"))  # fmt: skip


def _cross_section() -> Iterable[Operator]:
    def op(name: str, kernel: Kernel, doc: str, kind: Kind = Kind.CROSS_SECTION) -> Operator:
        parameters = (X,) if kind is Kind.CROSS_SECTION else (X, SECTOR)
        return Operator(name, kind, parameters, kernel, doc, KAKUSHADZE)

    yield op("RANK", cross_section.rank, "percentile rank in (0, 1] among the members, ties averaged")
    yield op("ZSCORE", cross_section.zscore, "x less the members' mean, over their standard deviation (ddof 1)")
    yield op("SCALE", cross_section.scale, "x over the sum of the members' absolute values")
    yield op("DEMEAN", cross_section.demean, "x less the members' mean")
    yield op("GROUP_NEUTRALIZE", cross_section.demean, "x less the mean of its sector", Kind.GROUP)
    yield op("GROUP_MEAN", cross_section.mean, "mean of its sector", Kind.GROUP)
    yield op("GROUP_RANK", cross_section.rank, "percentile rank in (0, 1] within the sector", Kind.GROUP)
    yield op("GROUP_ZSCORE", cross_section.zscore, "z-score (ddof 1) within the sector", Kind.GROUP)


OPERATORS: dict[str, Operator] = {
    op.name: op for family in (_elementwise(), _time_series(), _cross_section()) for op in family
}


@cache
def _spellings() -> dict[str, Operator]:
    return OPERATORS | {alias: op for op in OPERATORS.values() for alias in op.aliases}


def operator(name: str) -> Operator:
    """The operator of this name or alias.

    Raises:
        FormulaError: no such operator; the message names the nearest ones.
    """
    known = _spellings()
    if name in known:
        return known[name]
    nearest = nearest_names(name.upper(), known)
    raise FormulaError(f"unknown operator {name[:40]}{nearest}")


def nearest_names(name: str, known: Iterable[str]) -> str:
    """``; did you mean A or B?`` for the names most like this one, empty where none is."""
    near = difflib.get_close_matches(name[:40], list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""
