"""The factor language in Polars alone: an oracle that shares no kernel with the evaluator, and a peer to time.

How a formula is lowered:

1. Bars are spread over the full grid of dates and symbols, so that a window of rows is one of the market's calendar.
2. ELEMENTWISE calls are expressions over columns.
3. A windowed call is ``….over(…)`` of columns only, and becomes a column of the next ``with_columns``: one ``over``
   inside another gives silently wrong values in Polars 2.1.
4. The whole is one lazy query.

Polars has no rolling product and no deviation from a moving mean: ``TS_PROD`` and ``TS_MAD`` are not lowered, nor is a
window over a constant. Ranks tie only where values are equal. ``+ - *`` do not look for overflow before the result, and
squares of values beyond 1e150 are lost. Rolling sums are updated as the window moves, and a division by one number for
all is by its reciprocal: the last digits differ.
"""

from collections.abc import Callable
from typing import NamedTuple

import polars as pl

from factors.expression import Call, Expr, Field, Number, distinct
from factors.operators import Kind, ParameterKind

KEYS = ("date", "symbol", "suspended", "member", "sector")
BY_INSTRUMENT, BY_DATE, BY_SECTOR = ("lane",), ("row",), ("row", "sector")


def grid(bars: pl.DataFrame) -> pl.DataFrame:
    """Bars on every date and symbol, sorted by symbol and date.

    Adds ``lane`` and ``row`` (positions of symbol and date), ``bar``, ``age`` (rows since the symbol's first bar) and
    ``return`` where the market has none. Fields are Float64, null where not finite.
    """
    dates = bars.select(pl.col("date").unique().sort()).with_row_index("row")
    symbols = bars.select(pl.col("symbol").unique().sort()).with_row_index("lane")
    names = [name for name in bars.columns if name not in KEYS]
    frame = (
        symbols.join(dates, how="cross")
        .join(bars.with_columns(bar=True), on=["date", "symbol"], how="left", maintain_order="left")
        .with_columns(
            *(finite(pl.col(name).cast(pl.Float64)).alias(name) for name in names),
            pl.col("row").cast(pl.Int64),
            pl.col("bar", "member").fill_null(value=False),
        )
        .with_columns(age=pl.col("row") - pl.col("row").filter(pl.col("bar")).min().over("lane"))
    )
    if "return" not in names:
        close = pl.col("close")
        frame = frame.with_columns(finite((close / close.shift(1) - 1).over("lane")).alias("return"))
    return frame.with_columns(pl.col("lane").set_sorted())


def lower(expr: Expr) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """A function from :func:`grid`'s frame to ``(date, symbol, value)``, one row a bar in the grid's order.

    Raises:
        NotImplementedError: the formula uses what Polars cannot express.
    """
    plan = _Plan()
    value = plan.column(expr)
    seasoned = pl.col("bar") & (pl.col("age") >= expr.look_back)
    result = pl.when(seasoned).then(finite(value.expr)).cast(pl.Float64).alias("value")

    def evaluate(frame: pl.DataFrame) -> pl.DataFrame:
        query = frame.lazy()
        for stage in plan.stages:
            query = query.with_columns(stage)
        return query.filter("bar").select("date", "symbol", result).collect()

    return evaluate


def finite(x: pl.Expr) -> pl.Expr:
    """NaN and infinities become null."""
    return pl.when(x.is_finite()).then(x)


class _Column(NamedTuple):
    """An expression that can be evaluated once this many stages are there."""

    expr: pl.Expr
    stage: int


class _Plan:
    """The stages of one query, filled while its expression is lowered."""

    def __init__(self) -> None:
        self.stages: list[list[pl.Expr]] = []

    def keep(self, expr: pl.Expr, *reads: _Column) -> _Column:
        """Make the expression a column of the first stage at which what it reads is there."""
        stage = max(column.stage for column in reads)
        if stage == len(self.stages):
            self.stages.append([])
        name = f"stage {stage} column {len(self.stages[stage])}"
        self.stages[stage].append(expr.alias(name))
        return _Column(pl.col(name), stage + 1)

    def column(self, root: Expr) -> _Column:
        """The lowered expression, its windowed parts kept."""
        known: dict[Expr, _Column] = {}
        for node in distinct(root):
            if isinstance(node, Field):
                known[node] = _Column(pl.col(node.name), 0)
            elif isinstance(node, Number):
                known[node] = _Column(pl.lit(node.value), 0)
            elif isinstance(node, Call) and node.op.name == "SEQUENCE":
                known[node] = _Column(pl.col("row"), 0)  # its readers do not depend on where the numbers start
            elif isinstance(node, Call):
                known[node] = self._call(node, known)
        return known[root]

    def _call(self, node: Call, known: dict[Expr, _Column]) -> _Column:
        args = [known[arg] for arg in node.args]
        if node.op.kind is Kind.ELEMENTWISE:
            return _Column(ELEMENTWISE[node.op.name](*(arg.expr for arg in args)), max(arg.stage for arg in args))
        kinds = [parameter.kind for parameter in node.op.parameters]
        series = [
            self._materialised(child, arg)
            for kind, child, arg in zip(kinds, node.args, args, strict=True)
            if kind is ParameterKind.SERIES
        ]
        literals = [
            child.value
            for kind, child in zip(kinds, node.args, strict=True)
            if isinstance(child, Number) and kind is not ParameterKind.SERIES
        ]
        if node.op.name not in WINDOWED:
            raise NotImplementedError(str(node))
        return WINDOWED[node.op.name](self, *series, *literals)

    def _materialised(self, node: Expr, column: _Column) -> _Column:
        """Windows read columns: an element-wise argument is computed once, and before."""
        plain = isinstance(node, Field) or (isinstance(node, Call) and node.op.kind is not Kind.ELEMENTWISE)
        if not plain and not any(isinstance(part, Field) for part in distinct(node)):
            raise NotImplementedError(f"a window over the constant {node}")
        return column if plain else self.keep(column.expr, column)


# Element-wise ---------------------------------------------------------------------------------------------


def _number(condition: pl.Expr) -> pl.Expr:
    return condition.cast(pl.Float64)


def _larger(x: pl.Expr, y: pl.Expr) -> pl.Expr:
    """Null where either is: a comparison with null takes neither branch."""
    return pl.when(x >= y).then(x).when(x < y).then(y)


def _smaller(x: pl.Expr, y: pl.Expr) -> pl.Expr:
    return pl.when(x <= y).then(x).when(x > y).then(y)


ELEMENTWISE: dict[str, Callable[..., pl.Expr]] = {
    "ABS": lambda x: x.abs(),
    "SIGN": lambda x: x.sign(),
    "LOG": lambda x: finite(x.log()),
    "LOG1P": lambda x: finite(x.log1p()),
    "SQRT": lambda x: finite(x.sqrt()),
    "EXP": lambda x: finite(x.exp()),
    "INV": lambda x: finite(1 / x),
    "POW": lambda x, y: finite(x.pow(y)),
    "SIGNEDPOWER": lambda x, y: finite(x.sign() * x.abs().pow(y)),
    "FLOOR": lambda x: x.floor(),
    "MAX": _larger,
    "MIN": _smaller,
    "ADD": lambda x, y: x + y,
    "SUBTRACT": lambda x, y: x - y,
    "MULTIPLY": lambda x, y: x * y,
    "DIVIDE": lambda x, y: finite(x / y),
    "NEGATE": lambda x: -x,
    "LT": lambda x, y: _number(x < y),
    "GT": lambda x, y: _number(x > y),
    "LE": lambda x, y: _number(x <= y),
    "GE": lambda x, y: _number(x >= y),
    "EQ": lambda x, y: _number(x == y),
    "NE": lambda x, y: _number(x != y),
    "AND": lambda x, y: _number(x != 0) * _number(y != 0),  # Polars' own holds null && false to be false
    "OR": lambda x, y: 1 - _number(x == 0) * _number(y == 0),
    "NOT": lambda x: _number(x == 0),
    "WHERE": lambda c, x, y: pl.when(c != 0).then(x).when(c == 0).then(y),
    "CLIP": lambda x, low, high: x.clip(lower_bound=low).clip(upper_bound=high),
}

# Windowed -------------------------------------------------------------------------------------------------


def _rolling(statistic: Callable[..., pl.Expr]) -> Callable[..., _Column]:
    """Lift a rolling expression of one column with the window and further literals."""

    def lowering(plan: _Plan, x: _Column, d: float, *more: float) -> _Column:
        return plan.keep(statistic(x.expr, int(d), *more).over(BY_INSTRUMENT), x)

    return lowering


def _varied(x: pl.Expr, d: int) -> pl.Expr:
    """The window's values are not all equal: an updated variance seldom comes back to exactly 0."""
    return x.rolling_max(d, min_samples=1) > x.rolling_min(d, min_samples=1)


def _spread(x: pl.Expr, d: int, moment: pl.Expr) -> pl.Expr:
    """A dispersion: 0 where all values are equal, null with fewer than two."""
    return pl.when(_varied(x, d)).then(moment).otherwise(moment * 0)


def _zscore(x: pl.Expr, d: int) -> pl.Expr:
    score = (x - x.rolling_mean(d, min_samples=1)) / x.rolling_std(d, min_samples=2)
    return pl.when(_varied(x, d)).then(finite(score))


def _shape(moment: pl.Expr, x: pl.Expr, d: int) -> pl.Expr:
    return pl.when(_varied(x, d)).then(finite(moment))


def _total(x: pl.Expr, d: int) -> pl.Expr:
    return x.rolling_sum(d, min_samples=1)


def _faded(x: pl.Expr, **fading: float) -> pl.Expr:
    """Between known values the last mean stays, as in pandas."""
    return x.ewm_mean(adjust=True, ignore_nulls=False, min_samples=1, **fading).forward_fill()


def _rank(x: pl.Expr, d: int) -> pl.Expr:
    return x.rolling_rank(d, "average", min_samples=1) / _total(_number(x.is_not_null()), d)


def _decay_linear(x: pl.Expr, d: int) -> pl.Expr:
    """Row ``k`` weighs ``d - t + k`` at row t: two plain sums."""
    row, known = pl.col("row"), _number(x.is_not_null())
    weighted, weights = (_total(row * v, d) - (row - d) * _total(v, d) for v in (x, known))
    return finite(weighted / weights)


def _position(extreme: Callable[[pl.Expr, int], pl.Expr]) -> Callable[..., _Column]:
    """Rows since the extreme: compare it with each row of the window, the oldest first."""

    def lowering(plan: _Plan, x: _Column, d: float) -> _Column:
        window = int(d)
        best = plan.keep(extreme(x.expr, window).over(BY_INSTRUMENT), x)
        ages = (pl.when(x.expr.shift(k) == best.expr).then(float(k)) for k in reversed(range(window)))
        return plan.keep(pl.coalesce(*ages).over(BY_INSTRUMENT), best)

    return lowering


def _paired(statistic: Callable[[pl.Expr, pl.Expr, int], pl.Expr]) -> Callable[..., _Column]:
    """Lift a statistic of the rows where both are known, each less its own mean, on which it does not depend."""

    def lowering(plan: _Plan, x: _Column, y: _Column, d: float) -> _Column:
        known = x.expr.is_not_null() & y.expr.is_not_null()
        both = [plan.keep(pl.when(known).then(side.expr), x, y) for side in (x, y)]
        a, b = (plan.keep((side.expr - side.expr.mean()).over(BY_INSTRUMENT), side) for side in both)
        return plan.keep(statistic(a.expr, b.expr, int(d)).over(BY_INSTRUMENT), a, b)

    return lowering


def _cov(x: pl.Expr, y: pl.Expr, d: int) -> pl.Expr:
    moment = pl.rolling_cov(x, y, window_size=d, min_samples=2)
    return pl.when(_varied(x, d) & _varied(y, d)).then(moment).otherwise(moment * 0)


def _corr(x: pl.Expr, y: pl.Expr, d: int) -> pl.Expr:
    moment = finite(pl.rolling_corr(x, y, window_size=d, min_samples=2)).clip(-1, 1)
    return pl.when(_varied(x, d) & _varied(y, d)).then(moment)


def _slope(y: pl.Expr, x: pl.Expr, d: int) -> pl.Expr:
    return pl.when(_varied(x, d)).then(finite(_cov(x, y, d) / x.rolling_var(d, min_samples=2)))


def _residual(y: pl.Expr, x: pl.Expr, d: int) -> pl.Expr:
    own_y, own_x = (v - v.rolling_mean(d, min_samples=1) for v in (y, x))
    return own_y - _slope(y, x, d) * own_x


def _across(statistic: Callable[..., pl.Expr], by: tuple[str, ...] = BY_DATE) -> Callable[..., _Column]:
    """Lift a statistic of one day's members (of one sector)."""

    def lowering(plan: _Plan, x: _Column, *literals: float) -> _Column:
        inside = pl.col("member") if by is BY_DATE else pl.col("member") & pl.col("sector").is_not_null()
        seen = plan.keep(pl.when(inside).then(x.expr), x)
        return plan.keep(statistic(seen.expr, *literals).over(by), seen)

    return lowering


def _for_each(statistic: Callable[[pl.Expr], pl.Expr]) -> Callable[[pl.Expr], pl.Expr]:
    """A statistic of all values, for each that is known."""
    return lambda x: pl.when(x.is_not_null()).then(finite(statistic(x)))


def _standard(x: pl.Expr) -> pl.Expr:
    return pl.when(x.max() > x.min()).then(finite((x - x.mean()) / x.std()))


def _varied_day(moment: Callable[[pl.Expr], pl.Expr], least: int) -> Callable[..., _Column]:
    """Lift a moment of one day's members, null where all are equal or too few."""
    return _across(_for_each(lambda x: pl.when((x.max() > x.min()) & (x.count() >= least)).then(moment(x))))


def _bucket(x: pl.Expr, n: float) -> pl.Expr:
    """The first k with quantile k/n not below the value."""
    below = x.rank("min").cast(pl.Int64) - 1
    last = pl.max_horizontal(x.count().cast(pl.Int64) - 1, 1)
    return ((below * int(n) + last - 1) // last).clip(lower_bound=1).cast(pl.Float64)


WINDOWED: dict[str, Callable[..., _Column]] = {
    "DELAY": _rolling(lambda x, d: x.shift(d)),
    "DELTA": _rolling(lambda x, d: x - x.shift(d)),
    "TS_PCTCHANGE": _rolling(lambda x, d: finite(x / x.shift(d) - 1)),
    "TS_SUM": _rolling(_total),
    "TS_COUNT": _rolling(lambda x, d: _total(_number(x != 0), d)),
    "TS_MEAN": _rolling(lambda x, d: x.rolling_mean(d, min_samples=1)),
    "TS_MIN": _rolling(lambda x, d: x.rolling_min(d, min_samples=1)),
    "TS_MAX": _rolling(lambda x, d: x.rolling_max(d, min_samples=1)),
    "TS_MEDIAN": _rolling(lambda x, d: x.rolling_median(d, min_samples=1)),
    "TS_QUANTILE": _rolling(lambda x, d, q: x.rolling_quantile(q, "linear", d, min_samples=1)),
    "TS_STD": _rolling(lambda x, d: _spread(x, d, x.rolling_std(d, min_samples=2))),
    "TS_VAR": _rolling(lambda x, d: _spread(x, d, x.rolling_var(d, min_samples=2))),
    "TS_ZSCORE": _rolling(_zscore),
    "TS_SKEW": _rolling(lambda x, d: _shape(x.rolling_skew(d, bias=False, min_samples=3), x, d)),
    "TS_KURT": _rolling(lambda x, d: _shape(x.rolling_kurtosis(d, bias=False, min_samples=4), x, d)),
    "TS_RANK": _rolling(_rank),
    "DECAYLINEAR": _rolling(_decay_linear),
    "TS_ARGMAX": _position(lambda x, d: x.rolling_max(d, min_samples=1)),
    "TS_ARGMIN": _position(lambda x, d: x.rolling_min(d, min_samples=1)),
    "EMA": _rolling(lambda x, d: _faded(x, span=d)),
    "SMA": _rolling(lambda x, n, m: _faded(x, alpha=m / n)),
    "TS_COV": _paired(_cov),
    "TS_CORR": _paired(_corr),
    "REGBETA": _paired(_slope),
    "REGRESI": _paired(_residual),
    "REGRSQ": _paired(lambda y, x, d: _corr(y, x, d) ** 2),
    "RANK": _across(lambda x: x.rank("average") / x.count()),
    "ZSCORE": _across(_standard),
    "SCALE": _across(lambda x: finite(x / x.abs().sum())),
    "DEMEAN": _across(lambda x: x - x.mean()),
    "MEAN": _across(_for_each(lambda x: x.mean())),
    "MEDIAN": _across(_for_each(lambda x: x.median())),
    "STD": _across(_for_each(lambda x: x.std())),
    "SKEW": _varied_day(lambda x: x.skew(bias=False), 3),
    "KURT": _varied_day(lambda x: x.kurtosis(bias=False), 4),
    "WINSORIZE": _across(lambda x, q: x.clip(x.quantile(q, "linear"), x.quantile(1 - q, "linear"))),
    "QUANTILE_BUCKET": _across(_bucket),
    "GROUP_RANK": _across(lambda x: x.rank("average") / x.count(), BY_SECTOR),
    "GROUP_ZSCORE": _across(_standard, BY_SECTOR),
    "GROUP_NEUTRALIZE": _across(lambda x: x - x.mean(), BY_SECTOR),
    "GROUP_MEAN": _across(_for_each(lambda x: x.mean()), BY_SECTOR),
}
