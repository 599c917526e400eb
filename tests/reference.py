"""The formula language and its metrics, slow and obvious: the oracle that the fast code is checked against.

A float64 is an integer over a power of two, so sums, moments and regressions are taken in whole numbers and
rounded once, at the end. Nothing overflows or cancels on the way: a value is null only when the *result* is
not a finite number. Formulas of single cells (``x[t]/x[t-d]-1``) are float64 arithmetic as written.

A grid is float64 [T dates, N instruments]; NaN is null. A window is a list of one instrument's last ``d``
values, oldest first, today last, padded with nulls before the first row.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.float64]
Mask = NDArray[np.bool_]
Window = list[float]
Tree = tuple[Any, ...]
NULL = math.nan
TIE = 1e-12  # relative distance at which two factor values share a rank


def clean(x: Grid) -> Grid:
    """NaN and infinities become null."""
    return np.where(np.isfinite(x), x, NULL)


# Exact arithmetic -----------------------------------------------------------------------------------------


def quotient(numerator: int, denominator: int) -> float:
    """The nearest float64; null when it overflows or the denominator is 0."""
    try:
        return numerator / denominator
    except (OverflowError, ZeroDivisionError):
        return NULL


def root(numerator: int, denominator: int, sign: int = 1) -> float:
    """``sqrt(numerator / denominator)`` with the sign of ``sign`` (0 gives 0); null over 0."""
    if denominator == 0:
        return NULL
    if sign == 0:
        return 0.0
    shift = max(0, (denominator.bit_length() - numerator.bit_length()) // 2 + 66)  # at least 130 bits under the root
    size = quotient(math.isqrt((numerator << 2 * shift) // denominator), 1 << shift)
    return size if sign > 0 else -size


def whole(values: Sequence[float]) -> tuple[list[int], int]:
    """Integers and one scale such that ``value = integer / scale`` exactly."""
    ratios = [value.as_integer_ratio() for value in values]
    scale = max(denominator for _, denominator in ratios)
    return [numerator * (scale // denominator) for numerator, denominator in ratios], scale


def deviations(values: Sequence[float]) -> tuple[list[int], int]:
    """Integers and one scale such that ``value - mean = integer / scale`` exactly."""
    numbers, scale = whole(values)
    count, total = len(numbers), sum(numbers)
    return [count * number - total for number in numbers], count * scale


def dot(a: Sequence[int], b: Sequence[int]) -> int:
    return sum(p * q for p, q in zip(a, b, strict=True))


def correlation(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Pearson's; null when either side is constant."""
    (a, _), (b, _) = deviations(xs), deviations(ys)
    covariation = dot(a, b)
    return root(covariation**2, dot(a, a) * dot(b, b), covariation)


def tied(a: float, b: float, tolerance: float) -> bool:
    return abs(b - a) <= tolerance * max(abs(a), abs(b))


def average_ranks(values: Sequence[float], tolerance: float) -> list[float]:
    """Ranks from 1; a run of sorted values, each tied with the next, shares its average rank."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [NULL] * len(values)
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or not tied(values[order[end - 1]], values[order[end]], tolerance):
            for position in order[start:end]:
                ranks[position] = (start + 1 + end) / 2
            start = end
    return ranks


# Element-wise ---------------------------------------------------------------------------------------------


def elementwise(formula: Callable[..., Any]) -> Callable[..., Grid]:
    """Lift a NumPy formula: any null argument gives null."""

    def operator(*arguments: Any) -> Grid:
        null = np.any(np.broadcast_arrays(*(np.isnan(argument) for argument in arguments)), axis=0)
        with np.errstate(all="ignore"):
            return clean(np.where(null, NULL, formula(*arguments)))

    return operator


def where(c: Grid, a: Grid, b: Grid) -> Grid:
    """Null only where the condition or the selected branch is."""
    return clean(np.where(np.isnan(c), NULL, np.where(c != 0, a, b)))


ELEMENTWISE: dict[str, Callable[..., Grid]] = {
    "ABS": elementwise(np.abs),
    "SIGN": elementwise(np.sign),
    "LOG": elementwise(np.log),
    "LOG1P": elementwise(np.log1p),
    "SQRT": elementwise(np.sqrt),
    "EXP": elementwise(np.exp),
    "INV": elementwise(lambda x: 1 / x),
    "POW": elementwise(np.power),
    "SIGNEDPOWER": elementwise(lambda x, y: np.sign(x) * np.power(np.abs(x), y)),
    "FLOOR": elementwise(np.floor),
    "MAX": elementwise(np.maximum),
    "MIN": elementwise(np.minimum),
    "ADD": elementwise(lambda x, y: x + y),
    "SUBTRACT": elementwise(lambda x, y: x - y),
    "MULTIPLY": elementwise(lambda x, y: x * y),
    "DIVIDE": elementwise(lambda x, y: x / y),
    "NEGATE": elementwise(lambda x: -x),
    "LT": elementwise(lambda x, y: x < y),
    "GT": elementwise(lambda x, y: x > y),
    "LE": elementwise(lambda x, y: x <= y),
    "GE": elementwise(lambda x, y: x >= y),
    "EQ": elementwise(lambda x, y: x == y),
    "NE": elementwise(lambda x, y: x != y),
    "AND": elementwise(lambda x, y: (x != 0) & (y != 0)),
    "OR": elementwise(lambda x, y: (x != 0) | (y != 0)),
    "NOT": elementwise(lambda x: x == 0),
    "WHERE": where,
    "CLIP": elementwise(lambda x, lo, hi: np.minimum(np.maximum(x, lo), hi)),
}

# Time series ----------------------------------------------------------------------------------------------


def delay(x: Grid, d: int) -> Grid:
    out = np.full(x.shape, NULL)
    for t in range(d, len(x)):
        out[t] = x[t - d]
    return clean(out)


def delta(x: Grid, d: int) -> Grid:
    return ELEMENTWISE["SUBTRACT"](x, delay(x, d))


def ts_pctchange(x: Grid, d: int) -> Grid:
    return elementwise(lambda today, before: today / before - 1)(x, delay(x, d))


def present(window: Window) -> Window:
    return [value for value in window if not math.isnan(value)]


def rolling(statistic: Callable[..., float], least: int = 1) -> Callable[..., Grid]:
    """Lift a statistic of one window; null with fewer than ``least`` values in it."""

    def operator(x: Grid, d: int, *parameters: float) -> Grid:
        out = np.full(x.shape, NULL)
        for i in range(x.shape[1]):
            column = [NULL] * (d - 1) + x[:, i].tolist()
            for t in range(len(x)):
                window = column[t : t + d]
                if len(present(window)) >= least:
                    out[t, i] = statistic(window, *parameters)
        return clean(out)

    return operator


def ts_sum(window: Window) -> float:
    numbers, scale = whole(present(window))
    return quotient(sum(numbers), scale)


def ts_mean(window: Window) -> float:
    numbers, scale = whole(present(window))
    return quotient(sum(numbers), scale * len(numbers))


def ts_prod(window: Window) -> float:
    ratios = [value.as_integer_ratio() for value in present(window)]
    return quotient(math.prod(top for top, _ in ratios), math.prod(bottom for _, bottom in ratios))


def ts_min(window: Window) -> float:
    return min(present(window))


def ts_max(window: Window) -> float:
    return max(present(window))


def ts_median(window: Window) -> float:
    ordered = sorted(present(window))
    return ts_mean([ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]])


def ts_var(window: Window) -> float:
    c, scale = deviations(present(window))
    return quotient(dot(c, c), (len(c) - 1) * scale**2)


def ts_std(window: Window) -> float:
    c, scale = deviations(present(window))
    return root(dot(c, c), (len(c) - 1) * scale**2)


def ts_zscore(window: Window) -> float:
    if math.isnan(window[-1]):
        return NULL
    c, _ = deviations(present(window))
    return root(c[-1] ** 2 * (len(c) - 1), dot(c, c), c[-1])


def ts_skew(window: Window) -> float:
    """``sqrt(n(n-1))/(n-2) * m3/m2**1.5`` with central moments m."""
    c, _ = deviations(present(window))
    n, m2, m3 = len(c), dot(c, c), sum(own**3 for own in c)
    return root(n**2 * (n - 1) * m3**2, (n - 2) ** 2 * m2**3, m3)


def ts_kurt(window: Window) -> float:
    """``(n-1)/((n-2)(n-3)) * ((n+1)(m4/m2**2 - 3) + 6)`` with central moments m."""
    c, _ = deviations(present(window))
    squares = [own**2 for own in c]
    n, m2, m4 = len(c), sum(squares), dot(squares, squares)
    return quotient((n - 1) * ((n + 1) * n * m4 - 3 * (n - 1) * m2**2), (n - 2) * (n - 3) * m2**2)


def ts_rank(window: Window) -> float:
    today, values = window[-1], present(window)
    if math.isnan(today):
        return NULL
    ties = sum(tied(value, today, TIE) for value in values)
    less = sum(value < today and not tied(value, today, TIE) for value in values)
    return (less + (ties + 1) / 2) / len(values)


def ts_argmax(window: Window) -> float:
    return float(len(window) - 1 - window.index(ts_max(window)))


def ts_argmin(window: Window) -> float:
    return float(len(window) - 1 - window.index(ts_min(window)))


def ts_quantile(window: Window, q: float) -> float:
    ordered = sorted(present(window))
    position = (len(ordered) - 1) * q
    below, above = ordered[math.floor(position)], ordered[math.ceil(position)]
    share = Fraction(position) - math.floor(position)
    return float((1 - share) * Fraction(below) + share * Fraction(above))


def ts_mad(window: Window) -> float:
    c, scale = deviations(present(window))
    return quotient(sum(map(abs, c)), len(c) * scale)


def ts_count(window: Window) -> float:
    return float(sum(value != 0 for value in present(window)))


def decaylinear(window: Window) -> float:
    """Weights 1 (oldest row of a full window) to d (today), over the rows that have a value."""
    weights = [age for age, value in enumerate(window, start=1) if not math.isnan(value)]
    numbers, scale = whole(present(window))
    return quotient(dot(weights, numbers), scale * sum(weights))


def sequence(like: Grid, d: int) -> Callable[[int], Grid]:
    """1 to ``d`` over the rows of the window that ends at row t, which alone may be read."""

    def window_at(t: int) -> Grid:
        out = np.full(like.shape, NULL)
        for row in range(max(0, t - d + 1), t + 1):
            out[row] = row - (t - d)
        return out

    return window_at


def rolling_pair(statistic: Callable[[Window, Window], float]) -> Callable[..., Grid]:
    """Lift a statistic of two windows, cut to the rows where both have a value; null with fewer than 2.

    A side is a grid, or a function that gives the grid of the window that ends at row t.
    """

    def operator(x: Any, y: Any, d: int) -> Grid:
        out = np.full((y if callable(x) else x).shape, NULL)
        for t in range(len(out)):
            a, b = (side(t) if callable(side) else side for side in (x, y))
            both = ~np.isnan(a) & ~np.isnan(b)
            for i in range(out.shape[1]):
                rows = [row for row in range(max(0, t - d + 1), t + 1) if both[row, i]]
                if len(rows) > 1:
                    out[t, i] = statistic(a[rows, i].tolist(), b[rows, i].tolist())
        return clean(out)

    return operator


def ts_cov(xs: Window, ys: Window) -> float:
    (a, x_scale), (b, y_scale) = deviations(xs), deviations(ys)
    return quotient(dot(a, b), (len(a) - 1) * x_scale * y_scale)


def regbeta(ys: Window, xs: Window) -> float:
    (b, y_scale), (a, x_scale) = deviations(ys), deviations(xs)
    return quotient(dot(a, b) * x_scale, dot(a, a) * y_scale)


def last_residual(ys: Window, xs: Window) -> float:
    (b, y_scale), (a, _) = deviations(ys), deviations(xs)
    return quotient(b[-1] * dot(a, a) - dot(a, b) * a[-1], y_scale * dot(a, a))


def regresi(y: Any, x: Any, d: int) -> Grid:
    """Null where today has no pair: there the last pair is not today's."""
    today = [grid for grid in (y, x) if not callable(grid)]
    return np.where(np.isnan(today).any(axis=0), NULL, rolling_pair(last_residual)(y, x, d))


def regrsq(ys: Window, xs: Window) -> float:
    """Squared correlation; null when either side is constant."""
    (b, _), (a, _) = deviations(ys), deviations(xs)
    return quotient(dot(a, b) ** 2, dot(a, a) * dot(b, b))


def fading(alpha: Callable[..., Fraction]) -> Callable[..., Grid]:
    """Mean of all rows up to t, row t-k with weight ``(1 - alpha)^k``; the last known where none has any."""

    def operator(x: Grid, *literals: float) -> Grid:
        out = np.full(x.shape, NULL)
        decay = 1 - alpha(*literals)
        for i in range(x.shape[1]):
            column = x[:, i].tolist()
            for t in range(len(column)):
                rows = [row for row in range(t + 1) if not math.isnan(column[row])]
                if rows:
                    numbers, scale = whole([column[row] for row in rows])
                    # Weights over that of the last known row, so that one at least is not 0.
                    powers = [rows[-1] - row for row in rows]
                    top, bottom = decay.as_integer_ratio()
                    weights = [top**power * bottom ** (powers[0] - power) for power in powers]
                    out[t, i] = quotient(dot(weights, numbers), scale * sum(weights))
        return clean(out)

    return operator


LAGGED: dict[str, Callable[..., Grid]] = {"DELAY": delay, "DELTA": delta, "TS_PCTCHANGE": ts_pctchange}
ROLLING: dict[str, Callable[..., Grid]] = {
    "TS_SUM": rolling(ts_sum),
    "TS_MEAN": rolling(ts_mean),
    "TS_PROD": rolling(ts_prod),
    "TS_MIN": rolling(ts_min),
    "TS_MAX": rolling(ts_max),
    "TS_MEDIAN": rolling(ts_median),
    "TS_STD": rolling(ts_std, least=2),
    "TS_VAR": rolling(ts_var, least=2),
    "TS_ZSCORE": rolling(ts_zscore, least=2),
    "TS_SKEW": rolling(ts_skew, least=3),
    "TS_KURT": rolling(ts_kurt, least=4),
    "TS_RANK": rolling(ts_rank),
    "TS_ARGMAX": rolling(ts_argmax),
    "TS_ARGMIN": rolling(ts_argmin),
    "TS_QUANTILE": rolling(ts_quantile),
    "TS_MAD": rolling(ts_mad, least=2),
    "TS_CORR": rolling_pair(correlation),
    "TS_COV": rolling_pair(ts_cov),
    "TS_COUNT": rolling(ts_count),
    "DECAYLINEAR": rolling(decaylinear),
    "WMA": rolling(decaylinear),
    "REGBETA": rolling_pair(regbeta),
    "REGRESI": regresi,
    "REGRSQ": rolling_pair(regrsq),
}
FADING: dict[str, Callable[..., Grid]] = {
    "EMA": fading(lambda d: Fraction(2, int(d) + 1)),
    "SMA": fading(lambda n, m: Fraction(m) / Fraction(n)),
}
PAIRED = ("TS_CORR", "TS_COV", "REGBETA", "REGRESI", "REGRSQ")

# Cross-section and group ----------------------------------------------------------------------------------


def cross_section(statistic: Callable[..., list[float]]) -> Callable[..., Grid]:
    """Lift a statistic of one date's values; it sees, and gives a value to, members with a value only."""

    def operator(x: Grid, *literals: float, member: Mask) -> Grid:
        out = np.full(x.shape, NULL)
        for t in range(len(x)):
            chosen = np.flatnonzero(member[t] & ~np.isnan(x[t]))
            if len(chosen):
                out[t, chosen] = statistic(x[t, chosen].tolist(), *literals)
        return clean(out)

    return operator


def group(statistic: Callable[[Window], list[float]]) -> Callable[..., Grid]:
    """The same within each sector; an instrument without one (-1) gets null."""

    def operator(x: Grid, *, member: Mask, sector: NDArray[np.int_]) -> Grid:
        out = np.full(x.shape, NULL)
        for name in set(sector.tolist()) - {-1}:
            inside = sector == name
            out = np.where(inside, cross_section(statistic)(x, member=member & inside), out)
        return out

    return operator


def rank(values: Window) -> list[float]:
    return [own / len(values) for own in average_ranks(values, TIE)]


def zscores(values: Window) -> list[float]:
    """All null when there are fewer than 2 values or all are equal."""
    c, _ = deviations(values)
    square = dot(c, c)
    return [root(own**2 * (len(c) - 1), square, own) for own in c]


def scale(values: Window) -> list[float]:
    numbers, _ = whole(values)
    gross = sum(map(abs, numbers))
    return [quotient(number, gross) for number in numbers]


def demean(values: Window) -> list[float]:
    c, scale = deviations(values)
    return [quotient(own, scale) for own in c]


def for_each(statistic: Callable[[Window], float], least: int = 1) -> Callable[[Window], list[float]]:
    """A statistic of all the values, given to each of them; null with fewer than ``least``."""
    return lambda values: [statistic(values) if len(values) >= least else NULL] * len(values)


def winsorize(values: Window, q: float) -> list[float]:
    low, high = ts_quantile(values, q), ts_quantile(values, 1 - q)
    return [min(max(own, low), high) for own in values]


def quantile_bucket(values: Window, n: float) -> list[float]:
    """The first bucket k of n whose upper edge, quantile k/n, is not below a value; tied values share the lowest's."""
    order = sorted(range(len(values)), key=values.__getitem__)
    out = [NULL] * len(values)
    for position, own in enumerate(order):
        if position and tied(values[order[position - 1]], values[own], TIE):
            out[own] = out[order[position - 1]]
        else:
            edges = (Fraction(k * (len(values) - 1), int(n)) for k in range(1, int(n) + 1))
            out[own] = 1.0 + next(k for k, edge in enumerate(edges) if edge >= position)
    return out


CROSS_SECTION: dict[str, Callable[..., Grid]] = {
    "RANK": cross_section(rank),
    "ZSCORE": cross_section(zscores),
    "SCALE": cross_section(scale),
    "DEMEAN": cross_section(demean),
    "MEAN": cross_section(for_each(ts_mean)),
    "STD": cross_section(for_each(ts_std, least=2)),
    "SKEW": cross_section(for_each(ts_skew, least=3)),
    "KURT": cross_section(for_each(ts_kurt, least=4)),
    "MEDIAN": cross_section(for_each(ts_median)),
    "WINSORIZE": cross_section(winsorize),
    "QUANTILE_BUCKET": cross_section(quantile_bucket),
}
GROUP: dict[str, Callable[..., Grid]] = {
    "GROUP_NEUTRALIZE": group(demean),
    "GROUP_RANK": group(rank),
    "GROUP_ZSCORE": group(zscores),
    "GROUP_MEAN": group(for_each(ts_mean)),
}

# Formulas -------------------------------------------------------------------------------------------------

REFERENCE: dict[str, Callable[..., Grid]] = ELEMENTWISE | LAGGED | ROLLING | FADING | CROSS_SECTION | GROUP
LITERALS: dict[str, int] = dict.fromkeys([*LAGGED, *ROLLING, *FADING, "WINSORIZE", "QUANTILE_BUCKET"], 1) | {
    "TS_QUANTILE": 2,
    "CLIP": 2,
    "SMA": 2,
}  # trailing ones


def evaluate(tree: Tree, fields: dict[str, Grid], member: Mask, sector: NDArray[np.int_]) -> Grid:
    """Value of ("field", name), ("number", value) or ("call", name, [trees]), without the look-back mask."""
    kind, value, *rest = tree
    if kind == "number":
        return np.full(member.shape, float(value))
    if kind == "field":
        return ts_pctchange(clean(fields["close"]), 1) if value == "return" else clean(fields[value])
    (arguments,) = rest
    split = len(arguments) - LITERALS.get(value, 1 if value in GROUP else 0)
    series = [
        sequence(np.empty(member.shape), int(argument[2][0][1]))
        if argument[:2] == ("call", "SEQUENCE")
        else evaluate(argument, fields, member, sector)
        for argument in arguments[:split]
    ]
    if value in GROUP:
        return REFERENCE[value](*series, member=member, sector=sector)
    literals = [literal for _, literal in arguments[split:]]
    if value in CROSS_SECTION:
        return REFERENCE[value](*series, *literals, member=member)
    if value in LAGGED or value in ROLLING:
        literals[0] = int(literals[0])
    return REFERENCE[value](*series, *literals)


def look_back(tree: Tree) -> int:
    """Rows of history that a formula needs before today's."""
    kind, value, *rest = tree
    if kind != "call":
        return int(tree == ("field", "return"))
    (arguments,) = rest
    deepest = max(look_back(argument) for argument in arguments)
    if value in LAGGED:
        return deepest + int(arguments[-1][1])
    if value in ROLLING or value in FADING:
        return deepest + int(arguments[-LITERALS[value]][1]) - 1
    return deepest


def factor_values(
    tree: Tree,
    fields: dict[str, Grid],
    member: Mask,
    sector: NDArray[np.int_],
    first_row: NDArray[np.int_],
) -> Grid:
    """``evaluate``, null until an instrument has ``look_back`` rows since its first bar (T = never)."""
    age = np.arange(len(member))[:, None] - first_row
    return np.where(age >= look_back(tree), evaluate(tree, fields, member, sector), NULL)


# Metrics --------------------------------------------------------------------------------------------------


def daily_ic(value: Grid, label: Grid) -> Grid:
    """Pearson correlation of each date, shape [T]; null with fewer than 2 pairs or a side whose values all tie."""
    out = np.full(len(value), NULL)
    for t, both in enumerate(np.isfinite(value) & np.isfinite(label)):
        sides = value[t, both].tolist(), label[t, both].tolist()
        if both.sum() > 1 and all(len(set(average_ranks(side, TIE))) > 1 for side in sides):
            out[t] = correlation(*sides)
    return out


def daily_rank_ic(value: Grid, label: Grid) -> Grid:
    """Spearman correlation of each date, shape [T]; values and labels tie within 1e-12."""
    both = np.isfinite(value) & np.isfinite(label)
    value_ranks, label_ranks = np.full(value.shape, NULL), np.full(value.shape, NULL)
    for t, pairs in enumerate(both):
        value_ranks[t, pairs] = average_ranks(value[t, pairs].tolist(), TIE)
        label_ranks[t, pairs] = average_ranks(label[t, pairs].tolist(), TIE)
    return daily_ic(value_ranks, label_ranks)


def forward_return(close: Grid, tradable: Mask, horizon: int, delay: int = 1) -> Grid:
    """Return from ``close[t+delay]`` to the last known close ``horizon`` rows later.

    Null unless tradable at t and at the entry; null when the exit row is past the last one.
    """
    out = np.full(close.shape, NULL)
    for t in range(len(close) - delay - horizon):
        entry = t + delay
        for i in range(close.shape[1]):
            if tradable[t, i] and tradable[entry, i] and not math.isnan(close[entry, i]):
                last_known = present(close[entry : entry + horizon + 1, i].tolist())[-1]
                with np.errstate(all="ignore"):
                    out[t, i] = last_known / close[entry, i] - 1
    return clean(out)


def newey_west_t(x: Grid, lags: int) -> float:
    """``mean / sqrt(long-run variance / n)`` over non-null days, Bartlett kernel; null at zero variance."""
    days = [Fraction(value) for value in x.tolist() if math.isfinite(value)]
    n = len(days)
    if n == 0:
        return NULL
    average = sum(days) / n
    u = [day - average for day in days]
    long_run = sum((own**2 for own in u), Fraction(0)) / n
    for lag in range(1, lags + 1):
        autocovariance = sum((u[t] * u[t - lag] for t in range(lag, n)), Fraction(0)) / n
        long_run += 2 * (1 - Fraction(lag, lags + 1)) * autocovariance
    return float(average) / math.sqrt(long_run / n) if long_run else NULL


def turnover(value: Grid, tradable: Mask) -> float:
    """Mean over days of half the absolute change of the rank-weighted book; null without adjacent books."""
    books: list[Grid | None] = []
    for today, open_today in zip(value, tradable, strict=True):
        book = np.zeros(len(today))
        held = np.isfinite(today) & open_today
        book[held] = np.array(average_ranks(today[held].tolist(), TIE)) - (held.sum() + 1) / 2
        gross = np.abs(book).sum()
        books.append(book / gross if gross else None)
    traded = [
        0.5 * math.fsum(np.abs(now - before))
        for before, now in itertools.pairwise(books)
        if before is not None and now is not None
    ]
    return math.fsum(traded) / len(traded) if traded else NULL


# Sample markets -------------------------------------------------------------------------------------------

KINDS = ("complete", "ragged", "suspended", "sparse", "all_null", "constant", "ties", "huge")
DAYS, INSTRUMENTS = 120, 12
SHAPE = (DAYS, INSTRUMENTS)
FIELDS = ("open", "high", "low", "close", "volume")

Fields = dict[str, Grid]
Market = tuple[Fields, Mask, NDArray[np.int_], NDArray[np.int_]]


def random_walk(rng: np.random.Generator) -> Fields:
    close = 20 * np.exp(rng.normal(0, 0.02, SHAPE).cumsum(axis=0))
    start = close * np.exp(rng.normal(0, 0.01, SHAPE))
    high = np.maximum(start, close) * np.exp(np.abs(rng.normal(0, 0.005, SHAPE)))
    low = np.minimum(start, close) * np.exp(-np.abs(rng.normal(0, 0.005, SHAPE)))
    return {
        "open": start,
        "high": high,
        "low": low,
        "close": close,
        "volume": np.floor(rng.lognormal(12, 1, SHAPE)),
    }


def constant(rng: np.random.Generator) -> Fields:
    """Runs of one of four levels; three instruments keep 0.1 throughout, and on ten dates all have it."""
    fields = {}
    for name in FIELDS:
        grid = np.empty(SHAPE)
        for i in range(INSTRUMENTS):
            t = 0
            while t < DAYS:
                length = int(rng.integers(3, 30))
                grid[t : t + length, i] = rng.choice([0.1, 0.3, 1.1, 7.7])
                t += length
        grid[:, :3] = grid[50:60] = 0.1
        fields[name] = grid
    return fields


def ties(rng: np.random.Generator) -> Fields:
    """Half-unit prices, and a volume of 0 to 3 lots."""
    start, close = (20 + 0.5 * rng.integers(-3, 4, SHAPE) for _ in range(2))
    high = np.maximum(start, close) + 0.5 * rng.integers(0, 2, SHAPE)
    low = np.minimum(start, close) - 0.5 * rng.integers(0, 2, SHAPE)
    return {
        "open": start,
        "high": high,
        "low": low,
        "close": close,
        "volume": 100.0 * rng.integers(0, 4, SHAPE),
    }


def huge(rng: np.random.Generator) -> Fields:
    return {name: rng.choice([1e300, 1.0, 1e-300], SHAPE) * rng.uniform(0.1, 1, SHAPE) for name in FIELDS}


def missing_bars(rng: np.random.Generator, kind: str) -> Mask:
    missing = np.zeros(SHAPE, dtype=bool)
    if kind == "ragged":
        row = np.arange(DAYS)[:, None]
        listed, delisted = rng.integers(0, 60, INSTRUMENTS), rng.integers(61, DAYS + 1, INSTRUMENTS)
        listed[:2], delisted[1:3] = 0, DAYS
        missing |= (row < listed) | (row >= delisted)
    elif kind == "suspended":
        for start, length, i in zip(
            rng.integers(0, DAYS, 24), rng.integers(1, 25, 24), rng.integers(0, INSTRUMENTS, 24), strict=True
        ):
            missing[start : start + length, i] = True
    elif kind == "all_null":
        missing[:, rng.integers(INSTRUMENTS)] = True
    return missing


def sample_fields(rng: np.random.Generator, kind: str) -> Market:
    """One of KINDS: fields, membership [T, N], sector [N] (-1 = none), first row with a bar [N] (T = never).

    "sparse" drops 30 % of the cells of each field on its own; else a missing bar is missing in every field.
    One instrument is never a member, one always; one sector has one instrument, two instruments have none.
    """
    fields = {"constant": constant, "ties": ties, "huge": huge}.get(kind, random_walk)(rng)
    missing = missing_bars(rng, kind)
    for grid in fields.values():
        grid[missing | (rng.random(SHAPE) < 0.3 if kind == "sparse" else False)] = NULL
    row = np.arange(DAYS)[:, None]
    member = (row >= rng.integers(0, 30, INSTRUMENTS)) & (row < rng.integers(90, DAYS + 1, INSTRUMENTS))
    member[:, 3], member[:, 4] = False, True
    sector = rng.permutation(np.array([0] * 5 + [1] * 4 + [2] + [-1] * 2))
    bar = np.any([~np.isnan(grid) for grid in fields.values()], axis=0)
    first_row = np.where(bar.any(axis=0), bar.argmax(axis=0), DAYS)
    return fields, member, sector, first_row
