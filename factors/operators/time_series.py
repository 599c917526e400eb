"""Operators that look at one instrument's last rows."""

from collections.abc import Iterable

from factors.kernels import exponential, rolling
from factors.operators.definition import (
    KAKUSHADZE,
    MAX_WINDOW,
    QLIB,
    D,
    Kernel,
    Kind,
    LookBack,
    Operator,
    Parameter,
    ParameterKind,
    X,
    Y,
)


def _op(
    name: str, kernel: Kernel, doc: str, *parameters: Parameter, source: str = QLIB,
    look_back: LookBack = LookBack.WINDOW, aliases: tuple[str, ...] = (), qlib: str | None = None,
) -> Operator:  # fmt: skip
    return Operator(name, Kind.TIME_SERIES, parameters or (X, D), kernel, doc, source, look_back, aliases, qlib)


def rows() -> Iterable[Operator]:
    """The registry's rows."""
    yield from _shifts()
    yield from _windows()
    yield from _fading()
    yield from _pairs()


def _shifts() -> Iterable[Operator]:
    shift = LookBack.SHIFT
    yield _op("DELAY", rolling.delay, "x d rows ago", source=KAKUSHADZE, look_back=shift, qlib="Ref")
    yield _op("DELTA", rolling.delta, "change of x over d rows", source=KAKUSHADZE, look_back=shift, qlib="Delta")
    yield _op("TS_PCTCHANGE", rolling.pct_change, "relative change of x over d rows", look_back=shift,
              qlib="x / Ref(x, d) - 1")  # fmt: skip


def _windows() -> Iterable[Operator]:
    yield _op("TS_PROD", rolling.product, "product of x over the last d rows", aliases=("PROD",))
    yield _op("TS_COUNT", rolling.count, "number of the last d rows of x other than 0", aliases=("COUNT",),
              qlib="Sum(Ne(x, 0), d)")  # fmt: skip
    yield _op("TS_SUM", rolling.total, "sum of x over the last d rows", aliases=("SUMAC",), qlib="Sum")
    yield _op("TS_MEAN", rolling.mean, "mean of x over the last d rows", qlib="Mean")
    yield _op("TS_STD", rolling.std, "standard deviation (ddof 1) of x over the last d rows", qlib="Std")
    yield _op("TS_VAR", rolling.var, "variance (ddof 1) of x over the last d rows", qlib="Var")
    yield _op("TS_ZSCORE", rolling.zscore, "x less its mean over d rows, over its standard deviation",
              qlib="(x - Mean(x, d)) / Std(x, d)")  # fmt: skip
    yield _op("TS_MIN", rolling.minimum, "smallest x of the last d rows", qlib="Min")
    yield _op("TS_MAX", rolling.maximum, "largest x of the last d rows", qlib="Max")
    yield _op("TS_ARGMIN", rolling.argmin, "rows since the oldest smallest x of the last d", source=KAKUSHADZE,
              aliases=("LOWDAY",), qlib="d - IdxMin(x, d)")  # fmt: skip
    yield _op("TS_ARGMAX", rolling.argmax, "rows since the oldest largest x of the last d", source=KAKUSHADZE,
              aliases=("HIGHDAY",), qlib="d - IdxMax(x, d)")  # fmt: skip
    yield _op("TS_RANK", rolling.rank, "percentile rank in (0, 1] of x among its last d rows", qlib="Rank")
    yield _op("TS_MEDIAN", rolling.median, "median of x over the last d rows", qlib="Med")
    q = Parameter("q", ParameterKind.NUMBER, 0, 1)
    yield _op("TS_QUANTILE", rolling.quantile, "quantile q of x over the last d rows, linear between neighbours",
              X, D, q, qlib="Quantile")  # fmt: skip
    yield _op(
        "TS_MAD", rolling.mean_deviation, "mean absolute deviation of x from its mean over the last d rows", qlib="Mad"
    )
    yield _op("TS_SKEW", rolling.skew, "adjusted skewness G1 of x over the last d rows", qlib="Skew")
    yield _op("TS_KURT", rolling.kurt, "adjusted excess kurtosis G2 of x over the last d rows", qlib="Kurt")
    yield _op("DECAYLINEAR", rolling.decay_linear, "mean of x over d rows with weights d, d-1, …, 1",
              source=KAKUSHADZE, aliases=("WMA", "TS_DECAY_LINEAR"))  # fmt: skip


def _fading() -> Iterable[Operator]:
    n = Parameter("n", ParameterKind.WINDOW, 1, MAX_WINDOW)
    m = Parameter("m", ParameterKind.NUMBER, 1, MAX_WINDOW, at_most="n")
    yield _op("EMA", exponential.ema, "mean of x over all rows with weights that fade by 1 - 2/(d+1) a row: "
              "older rows than d fade but count", look_back=LookBack.FADING, qlib="EMA")  # fmt: skip
    yield _op("SMA", exponential.sma, "mean of x over all rows with weights that fade by 1 - m/n a row: "
              "older rows than n fade but count", X, n, m, look_back=LookBack.FADING, qlib="EMA(x, m / n)")  # fmt: skip


def _pairs() -> Iterable[Operator]:
    yield _op("TS_CORR", rolling.corr, "Pearson correlation of x and y over the last d rows", X, Y, D,
              source=KAKUSHADZE, qlib="Corr")  # fmt: skip
    yield _op("TS_COV", rolling.cov, "covariance (ddof 1) of x and y over d rows", X, Y, D, source=KAKUSHADZE,
              aliases=("TS_COVARIANCE",), qlib="Cov")  # fmt: skip
    yield _op("REGBETA", rolling.regression_slope, "slope of y on x over the last d rows", Y, X, D,
              qlib="Slope(y, d) if x is SEQUENCE(d)")  # fmt: skip
    yield _op("REGRESI", rolling.regression_residual, "y less the line fitted on x over the last d rows", Y, X, D,
              qlib="Resi(y, d) if x is SEQUENCE(d)")  # fmt: skip
    yield _op("REGRSQ", rolling.regression_r_squared, "share of the variance of y that the line on x explains, over "
              "d rows", Y, X, D, qlib="Rsquare(y, d) if x is SEQUENCE(d)")  # fmt: skip
    yield _op("SEQUENCE", rolling.sequence, "1, 2, …, d over a window's rows; only as a direct argument of an operator "
              "of pairs with the same window, as in REGBETA($close, SEQUENCE(20), 20)", D,
              look_back=LookBack.NONE)  # fmt: skip
