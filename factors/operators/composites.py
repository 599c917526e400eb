"""Indicators that are formulas over the operators; writing one out leaves only operators in the tree."""

from factors.operators.definition import MAX_WINDOW, Composite, D, Parameter, ParameterKind, X

_WILDER = "Wilder 1978, New Concepts in Technical Trading Systems"
_BOLLINGER = "Bollinger 2001, Bollinger on Bollinger Bands"
_PUBLISHED = "AlphaAgent, Tang et al. 2025"

_Q = Parameter("q", ParameterKind.NUMBER, 0, 1)
_CONDITION, _HIGH, _LOW, _CLOSE, _VOLUME = map(Parameter, ("condition", "high", "low", "close", "volume"))
_FAST, _SLOW = (Parameter(name, ParameterKind.WINDOW, 1, MAX_WINDOW) for name in ("fast", "slow"))

COMPOSITES: tuple[Composite, ...] = (
    Composite("SMA", (X, D), "TS_MEAN(x, d)", "plain moving average", _PUBLISHED),
    Composite("PERCENTILE", (X, _Q, D), "TS_QUANTILE(x, d, q)", "quantile q of the last d rows", _PUBLISHED),
    Composite(
        "SUMIF",
        (X, D, _CONDITION),
        "TS_SUM(WHERE(condition, x, 0), d)",
        "sum over those of the last d rows where the condition is not 0",
        _PUBLISHED,
    ),
    Composite(
        "FILTER", (X, _CONDITION), "WHERE(condition, x, 0)", "x where the condition is not 0, else 0", _PUBLISHED
    ),
    Composite(
        "MACD",
        (X, _FAST, _SLOW),
        "EMA(x, fast) - EMA(x, slow)",
        "moving average convergence and divergence",
        "Appel 2005, Technical Analysis: Power Tools for Active Investors",
    ),
    Composite(
        "RSI",
        (X, D),
        # Rises and falls together are the absolute changes.
        "100 * SMA(MAX(DELTA(x, 1), 0), d, 1) / SMA(ABS(DELTA(x, 1)), d, 1)",
        "relative strength index: share of rises in all changes, in percent",
        _WILDER,
    ),
    Composite("BB_MIDDLE", (X, D), "TS_MEAN(x, d)", "middle Bollinger band", _BOLLINGER),
    Composite(
        "BB_UPPER",
        (X, D),
        "TS_MEAN(x, d) + 2 * TS_STD(x, d)",
        "upper Bollinger band, two sample standard deviations (ddof 1) above the mean",
        _BOLLINGER,
    ),
    Composite(
        "BB_LOWER",
        (X, D),
        "TS_MEAN(x, d) - 2 * TS_STD(x, d)",
        "lower Bollinger band, two sample standard deviations (ddof 1) below the mean",
        _BOLLINGER,
    ),
    Composite(
        "ATR",
        (_HIGH, _LOW, _CLOSE, D),
        # The largest of high - low and both distances from the last close.
        "SMA(MAX(high, DELAY(close, 1)) - MIN(low, DELAY(close, 1)), d, 1)",
        "average true range",
        _WILDER,
    ),
    Composite(
        "OBV",
        (_CLOSE, _VOLUME, D),
        "TS_SUM(SIGN(DELTA(close, 1)) * volume, d)",
        "on-balance volume gained over d rows (its level would depend on where the data begin)",
        "Granville 1963, New Key to Stock Market Profits",
    ),
)
