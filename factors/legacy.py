"""The older spelling of published formulas: one name for a function of a window and one of a date.

Definitions are those of the function library that AlphaAgent's authors published; formulas of the 101 Alphas come in
the same spelling.
"""

from collections.abc import Collection

from factors.columns import STANDARD_FIELDS
from factors.dialect import Dialect
from factors.expression import Expr
from factors.operators import COMPOSITES, MAX_WINDOW, Composite, Parameter, ParameterKind
from factors.parse import parse

_SOURCE = "AlphaAgent's published function library"
_X, _Y = Parameter("x"), Parameter("y")
_D = Parameter("d", ParameterKind.WINDOW, 1, MAX_WINDOW)

_OVER_TIME = {
    "SUM": "TS_SUM",
    "MEAN": "TS_MEAN",
    "MEDIAN": "TS_MEDIAN",
    "STD": "TS_STD",
    "VAR": "TS_VAR",
    "SKEW": "TS_SKEW",
    "KURT": "TS_KURT",
}
_OF_PAIRS = {"CORR": "TS_CORR", "COV": "TS_COV", "COVARIANCE": "TS_COV"}


def _composite(name: str, parameters: tuple[Parameter, ...], expansion: str) -> Composite:
    return Composite(name, parameters, expansion, "", _SOURCE)


_OWN = (
    *(_composite(name, (_X, _D), f"{today}(x, d)") for name, today in _OVER_TIME.items()),
    *(_composite(name, (_X, _Y, _D), f"{today}(x, y, d)") for name, today in _OF_PAIRS.items()),
    _composite("LOG", (_X,), "LOG1P(x)"),
    _composite("TS_ZSCORE", (_X,), "TS_ZSCORE(x, 5)"),
    _composite("HIGHDAY", (_X, _D), "TS_ARGMAX(x, d) + 1"),
    _composite("LOWDAY", (_X, _D), "TS_ARGMIN(x, d) + 1"),
    _composite("RSI", (_X, _D), "100 * EMA(MAX(DELTA(x, 1), 0), d) / EMA(ABS(DELTA(x, 1)), d)"),
    _composite("BB_UPPER", (_X, _D), "TS_MEAN(x, d) + TS_STD(x, d)"),
    _composite("BB_LOWER", (_X, _D), "TS_MEAN(x, d) - TS_STD(x, d)"),
)
_REFUSED = {
    "WMA": "in this spelling its weights are 0.9^k, which no operator has; DECAYLINEAR(x, d) weighs d, d-1, …, 1",
    "TS_MAD": "in this spelling it is the median of deviations from the median, which no operator computes",
}
_MISPRINTS = {
    # Alpha#78 as published closes its first sum before the window.
    "(1 - 0.352233))),20),SUM(SMA($volume,40),20),7))": "(1 - 0.352233)),20),SUM(SMA($volume,40),20),7)))",
}
_overridden = {(composite.name, len(composite.parameters)) for composite in _OWN}

LEGACY = Dialect(
    composites=(*_OWN, *(one for one in COMPOSITES if (one.name, len(one.parameters)) not in _overridden)),
    refused=_REFUSED,
    forgiving=True,
)


def parse_legacy(text: str, known_fields: Collection[str] = STANDARD_FIELDS) -> Expr:
    """Parse a formula of the older spelling; its text is then today's.

    Fractional windows are floored (Kakushadze 2016), parentheses missing at the very end of the text are closed, and a
    known misprint is read as it was meant.

    Args:
        text: the formula.
        known_fields: columns that it may read, without the dollar sign.

    Raises:
        FormulaError: not a formula of this spelling, or one whose function has no counterpart today.
    """
    for printed, meant in _MISPRINTS.items():
        text = text.replace(printed, meant)
    return parse(text, known_fields, LEGACY)
