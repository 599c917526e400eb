"""The oracle itself, held against values worked out by hand and against NumPy and SciPy."""

import math

import numpy as np
import polars as pl
import pytest
from scipy import stats

from factors.operators import OPERATORS
from tests.reference import (
    CROSS_SECTION,
    DAYS,
    GROUP,
    INSTRUMENTS,
    KINDS,
    LAGGED,
    LITERALS,
    PAIRED,
    REFERENCE,
    ROLLING,
    daily_ic,
    daily_rank_ic,
    evaluate,
    factor_values,
    forward_return,
    look_back,
    newey_west_t,
    sample_fields,
    turnover,
)

N = math.nan
INF = math.inf
CLOSE, VOLUME, SECTOR = ("field", "close"), ("field", "volume"), ("field", "sector")


def column(*values):
    return np.array(values, dtype=float)[:, None]


def row(*values):
    return np.array([values], dtype=float)


def same(actual, expected, rtol=1e-14, atol=0.0):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol, equal_nan=True)


def number(value):
    return ("number", float(value))


def call(name, *arguments):
    return ("call", name, list(arguments))


def test_every_operator_has_a_reference():
    spellings = OPERATORS.keys() | {alias for op in OPERATORS.values() for alias in op.aliases}
    assert OPERATORS.keys() <= REFERENCE.keys() | {"SEQUENCE"} <= spellings


ELEMENTWISE_CASES = [
    ("ABS", [(-2, 0, N)], (2, 0, N)),
    ("SIGN", [(-2, 0, 3, N)], (-1, 0, 1, N)),
    ("LOG", [(1, math.e**2, 0, -1, N)], (0, 2, N, N, N)),
    ("LOG1P", [(0, math.e - 1, -1, -2, N)], (0, 1, N, N, N)),
    ("SQRT", [(4, 0, -1, N)], (2, 0, N, N)),
    ("EXP", [(0, 1, 1000, -1000, N)], (1, math.e, N, 0, N)),
    ("INV", [(4, 0, 1e-320, N)], (0.25, N, N, N)),
    ("POW", [(2, -2, -8, 0, 1e200, N, 1), (3, 2, 1 / 3, -1, 2, 0, N)], (8, 4, N, N, N, N, N)),
    ("SIGNEDPOWER", [(-9, 9, 0, 0, N), (0.5, 0.5, 0.5, -1, 2)], (-3, 3, 0, N, N)),
    ("FLOOR", [(1.5, -1.5, 2, N)], (1, -2, 2, N)),
    ("MAX", [(1, 2, N, 1), (2, 1, 1, N)], (2, 2, N, N)),
    ("MIN", [(1, 2, N, 1), (2, 1, 1, N)], (1, 1, N, N)),
    ("ADD", [(1, 1e308, N, 1), (2, 1e308, 1, N)], (3, N, N, N)),
    ("SUBTRACT", [(1, N, 1), (3, 1, N)], (-2, N, N)),
    ("MULTIPLY", [(2, 1e200, 0, N), (3, 1e200, -1, 0)], (6, N, 0, N)),
    ("DIVIDE", [(1, 1, 0, 1e300, N, 1), (4, 0, 0, 1e-300, 1, N)], (0.25, N, N, N, N, N)),
    ("NEGATE", [(1, -2, N)], (-1, 2, N)),
    ("LT", [(1, 2, 3, N, 1), (2, 2, 2, 2, N)], (1, 0, 0, N, N)),
    ("GT", [(1, 2, 3, N, 1), (2, 2, 2, 2, N)], (0, 0, 1, N, N)),
    ("LE", [(1, 2, 3, N, 1), (2, 2, 2, 2, N)], (1, 1, 0, N, N)),
    ("GE", [(1, 2, 3, N, 1), (2, 2, 2, 2, N)], (0, 1, 1, N, N)),
    ("EQ", [(1, 2, N, 1, N), (2, 2, 2, N, N)], (0, 1, N, N, N)),
    ("NE", [(1, 2, N, 1, N), (2, 2, 2, N, N)], (1, 0, N, N, N)),
    ("AND", [(2, -1, 0, 0, N, 0), (3, 0, 5, 0, 1, N)], (1, 0, 0, 0, N, N)),
    ("OR", [(2, -1, 0, 0, N, 1), (3, 0, 5, 0, 1, N)], (1, 1, 1, 0, N, N)),
    ("NOT", [(0, 2, -1, N)], (1, 0, 0, N)),
    ("WHERE", [(1, 0, N, -2, 1, 0), (5, N, 5, 5, N, 5), (N, 6, 6, 6, 6, N)], (5, 6, N, 5, N, N)),
]


@pytest.mark.parametrize(("name", "arguments", "expected"), ELEMENTWISE_CASES)
def test_elementwise_by_hand(name, arguments, expected):
    same(REFERENCE[name](*(row(*argument) for argument in arguments)), row(*expected), rtol=1e-15)


def test_clip_by_hand():
    same(REFERENCE["CLIP"](row(-3, 0.5, 3, N), -1, 2), row(-1, 0.5, 2, N))


# Windows of three rows over 1, 3, -, 2, 2: {1} {1 3} {1 3 -} {3 - 2} {- 2 2}.
X = (1, 3, N, 2, 2)
R2 = math.sqrt(2)
TIME_SERIES_CASES = [
    ("DELAY", X, (2,), (N, N, 1, 3, N)),
    ("DELAY", X, (9,), (N, N, N, N, N)),
    ("DELTA", X, (1,), (N, 2, N, N, 0)),
    ("TS_PCTCHANGE", (1, 3, 0, 2, N), (1,), (N, 2, -1, N, N)),
    ("TS_SUM", X, (3,), (1, 4, 4, 5, 4)),
    ("TS_MEAN", X, (3,), (1, 2, 2, 2.5, 2)),
    ("TS_PROD", X, (3,), (1, 3, 3, 6, 4)),
    ("TS_MIN", X, (3,), (1, 1, 1, 2, 2)),
    ("TS_MAX", X, (3,), (1, 3, 3, 3, 2)),
    ("TS_MEDIAN", X, (3,), (1, 2, 2, 2.5, 2)),
    ("TS_MEDIAN", (5, 1, 3, 9), (3,), (5, 3, 3, 3)),
    ("TS_STD", X, (3,), (N, R2, R2, 1 / R2, 0)),
    ("TS_VAR", X, (3,), (N, 2, 2, 0.5, 0)),
    ("TS_ZSCORE", X, (3,), (N, 1 / R2, N, -1 / R2, N)),
    ("TS_SKEW", (1, 1, 4, N, 1), (3,), (N, N, math.sqrt(3), N, N)),
    ("TS_SKEW", (1, 1, 4, N, 1, 1, 1), (4,), (N, N, *[math.sqrt(3)] * 4, N)),
    ("TS_KURT", (1, 1, 1, 5, N, 1), (4,), (N, N, N, 4, N, N)),
    ("TS_KURT", (2, 2, 2, 2, 2), (4,), (N, N, N, N, N)),
    ("TS_RANK", X, (3,), (1, 1, N, 0.5, 0.75)),
    ("TS_RANK", (1, 1 + 5e-13, 1 - 5e-13, 1 + 2e-12), (3,), (1, 0.75, 0.5, 1)),
    ("TS_ARGMAX", X, (3,), (0, 0, 1, 2, 1)),
    ("TS_ARGMIN", X, (3,), (0, 1, 2, 0, 1)),
    ("TS_QUANTILE", X, (3, 0.25), (1, 1.5, 1.5, 2.25, 2)),
    ("TS_QUANTILE", X, (3, 0), (1, 1, 1, 2, 2)),
    ("TS_QUANTILE", X, (3, 1), (1, 3, 3, 3, 2)),
    ("TS_MAD", X, (3,), (N, 1, 1, 0.5, 0)),
    ("TS_MAD", (0, 0, 3), (3,), (N, 0, 4 / 3)),
    ("TS_COUNT", (0, 2, N, N, N, -1), (2,), (0, 1, 1, N, N, 1)),
    ("DECAYLINEAR", X, (3,), (1, 11 / 5, 7 / 3, 9 / 4, 2)),
    ("WMA", X, (3,), (1, 11 / 5, 7 / 3, 9 / 4, 2)),
    ("EMA", X, (3,), (1, 7 / 3, 7 / 3, 2.875 / 1.375, 3.4375 / 1.6875)),
    ("EMA", (N, 1, N, 3, N), (1,), (N, 1, 1, 3, 3)),
    ("SMA", X, (4, 1), (1, 15 / 7, 15 / 7, (2 + 27 / 16 + 27 / 64) / (1 + 9 / 16 + 27 / 64), 1301 / 637)),
    ("SMA", X, (3, 2.25), (1, 2.6, 2.6, 2 + 3 / 69, 653 / 325)),
]


@pytest.mark.parametrize(("name", "values", "literals", "expected"), TIME_SERIES_CASES)
def test_time_series_by_hand(name, values, literals, expected):
    same(REFERENCE[name](column(*values), *literals), column(*expected), rtol=1e-15)


PAIR_CASES = [
    ("TS_CORR", (1, 2, 3), (1, 3, 2), (N, 1, 0.5)),
    ("TS_CORR", (1, 2, N, 4), (3, 1, 5, 5), (N, -1, -1, 1)),
    ("TS_CORR", (1, 1, 2, N), (1, 2, 2, 9), (N, N, 0.5, N)),
    ("TS_CORR", (1, 2, 3), (7, 7, 7), (N, N, N)),
    ("TS_COV", (1, 2, N, 4), (3, 1, 5, 5), (N, -1, -1, 4)),
    ("TS_COV", (1, 2, 3), (7, 7, 7), (N, 0, 0)),
    ("REGBETA", (1, 5, 3), (1, 2, 3), (N, 4, 1)),
    ("REGBETA", (1, 2, 3), (1, 5, 3), (N, 0.25, 0.25)),
    ("REGBETA", (1, 5, 3), (2, 2, 2), (N, N, N)),
    ("REGRESI", (1, 5, 3, N, 4), (1, 2, 3, 4, N), (N, 0, -1, N, N)),
    ("REGRESI", (1, 5, 3), (2, 2, 2), (N, N, N)),
    ("REGRESI", (7, 7, 7), (1, 2, 4), (N, 0, 0)),
    ("REGRSQ", (1, 2, 3), (1, 3, 2), (N, 1, 0.25)),
    ("REGRSQ", (1, 5, 3), (2, 2, 2), (N, N, N)),
    ("REGRSQ", (7, 7, 7), (1, 2, 4), (N, N, N)),
]


@pytest.mark.parametrize(("name", "first", "second", "expected"), PAIR_CASES)
def test_paired_time_series_by_hand(name, first, second, expected):
    same(REFERENCE[name](column(*first), column(*second), 3), column(*expected), rtol=1e-15)


MEMBERS = np.array([[True, True, True, True, False, True]])
SECTORS = np.array([0, 0, 0, 1, 0, -1])
CROSS_SECTION_CASES = [
    ("RANK", (3, 1, 3, N, 0, 9), (2.5 / 4, 1 / 4, 2.5 / 4, N, N, 1)),
    ("RANK", (1 + 1.6e-12, 1, 1 + 8e-13, 2, 0, N), (0.5, 0.5, 0.5, 1, N, N)),
    ("RANK", (1, 1 + 2e-12, N, N, 0, -1), (2 / 3, 1, N, N, N, 1 / 3)),
    ("ZSCORE", (1, 2, 3, N, 9, N), (-1, 0, 1, N, N, N)),
    ("ZSCORE", (2, 2, N, N, 9, N), (N, N, N, N, N, N)),
    ("ZSCORE", (2, N, N, N, 9, N), (N, N, N, N, N, N)),
    ("SCALE", (-1, 2, 0, N, 9, 5), (-1 / 8, 1 / 4, 0, N, N, 5 / 8)),
    ("SCALE", (0, 0, N, N, 9, 0), (N, N, N, N, N, N)),
    ("DEMEAN", (-1, 2, 0, N, 9, 5), (-2.5, 0.5, -1.5, N, N, 3.5)),
    ("MEAN", (-1, 2, 0, N, 9, 5), (1.5, 1.5, 1.5, N, N, 1.5)),
    ("STD", (1, 3, N, N, 9, N), (R2, R2, N, N, N, N)),
    ("STD", (0.1, 0.1, 0.1, N, 9, N), (0, 0, 0, N, N, N)),
    ("STD", (1, N, N, N, 9, N), (N, N, N, N, N, N)),
    ("SKEW", (1, 1, 4, N, 9, N), (math.sqrt(3), math.sqrt(3), math.sqrt(3), N, N, N)),
    ("SKEW", (1, N, 4, N, 9, N), (N, N, N, N, N, N)),
    ("KURT", (1, 1, 1, 5, 9, N), (4, 4, 4, 4, N, N)),
    ("KURT", (2, 2, 2, 2, 9, N), (N, N, N, N, N, N)),
    ("MEDIAN", (1, 9, 4, N, 9, 5), (4.5, 4.5, 4.5, N, N, 4.5)),
    ("GROUP_NEUTRALIZE", (1, 2, 6, 5, 9, 5), (-2, -1, 3, 0, N, N)),
    ("GROUP_RANK", (2, 1, 2, 5, 0, 5), (2.5 / 3, 1 / 3, 2.5 / 3, 1, N, N)),
    ("GROUP_ZSCORE", (1, 2, 3, 5, 9, 5), (-1, 0, 1, N, N, N)),
    ("GROUP_MEAN", (1, N, 6, 5, 9, 5), (3.5, N, 3.5, 5, N, N)),
]


@pytest.mark.parametrize(("name", "values", "expected"), CROSS_SECTION_CASES)
def test_cross_section_and_group_by_hand(name, values, expected):
    groups = {"sector": SECTORS} if name in GROUP else {}
    same(REFERENCE[name](row(*values), member=MEMBERS, **groups), row(*expected), rtol=1e-15)


@pytest.mark.parametrize(
    ("name", "literal", "values", "expected"),
    [
        ("WINSORIZE", 0.25, (0, 8, 1, 2, -9, 4), (1, 4, 1, 2, N, 4)),
        ("WINSORIZE", 0.1, (0, 8, 1, 2, -9, 4), (0.4, 6.4, 1, 2, N, 4)),
        ("WINSORIZE", 0.0, (0, 8, 1, N, -9, 4), (0, 8, 1, N, N, 4)),
        ("WINSORIZE", 0.25, (N, N, 7, N, -9, N), (N, N, 7, N, N, N)),
        ("QUANTILE_BUCKET", 2, (0, 8, 1, 2, -9, 4), (1, 2, 1, 1, N, 2)),
        ("QUANTILE_BUCKET", 4, (0, 8, 1, 2, -9, 4), (1, 4, 1, 2, N, 3)),
        ("QUANTILE_BUCKET", 10, (0, 8, 1, 2, -9, 4), (1, 10, 3, 5, N, 8)),
        ("QUANTILE_BUCKET", 4, (5, 5, 1 + 5e-13, 1, -9, 5), (2, 2, 1, 1, N, 2)),
        ("QUANTILE_BUCKET", 4, (N, N, 7, N, -9, N), (N, N, 1, N, N, N)),
    ],
)
def test_cross_section_with_a_literal_by_hand(name, literal, values, expected):
    same(REFERENCE[name](row(*values), literal, member=MEMBERS), row(*expected), rtol=1e-15)


def test_a_sequence_is_counted_in_each_window():
    trend = call("REGBETA", CLOSE, call("SEQUENCE", number(3)), number(3))
    closes = {"close": column(7, 1, 3, 2, 6, N, 0)}
    values = evaluate(trend, closes, np.ones((7, 1), bool), np.array([0]))
    same(values, column(N, -6, -2, 0.5, 1.5, 4, -3), rtol=1e-15)


@pytest.mark.parametrize("kind", ["complete", "suspended", "sparse"])
def test_fading_means_agree_with_polars(kind):
    x = sample_fields(np.random.default_rng(3), kind)[0]["close"][:, :4]
    for name, literals, alpha in (("EMA", (9,), 0.2), ("SMA", (12, 1), 1 / 12), ("SMA", (20, 5), 0.25)):
        values = REFERENCE[name](x, *literals)
        for i in range(x.shape[1]):
            series = pl.Series(x[:, i]).fill_nan(None).ewm_mean(alpha=alpha, adjust=True, ignore_nulls=False)
            same(values[:, i], series.forward_fill().fill_null(N).to_numpy(), rtol=1e-10)


@pytest.mark.parametrize("buckets", [2, 5, 7, 100])
def test_buckets_are_bounded_by_quantiles(buckets):
    x = np.random.default_rng(4).normal(size=(30, 43))
    values = REFERENCE["QUANTILE_BUCKET"](x, buckets, member=np.ones(x.shape, bool))
    edges = np.quantile(x, np.arange(1, buckets) / buckets, axis=1)
    # An edge may itself be a value, and NumPy rounds it.
    inside = np.abs(x - edges[:, :, None]).min(axis=0) > 1e-12
    above = 1 + (x > edges[:, :, None]).sum(axis=0)
    assert (values == above)[inside].all()
    assert inside.mean() > 0.5


def test_each_date_is_its_own_cross_section():
    member = np.array([[True, True], [False, True]])
    same(REFERENCE["RANK"](np.array([[1.0, 2.0], [9.0, 2.0]]), member=member), [[0.5, 1], [N, 1]])


# What the sums must survive: overflow, underflow and cancellation inside an operator.
EXACT_CASES = [
    ("TS_SUM", (1e300, 1, -1e300), 1),
    ("TS_SUM", (1.7e308, 1.7e308, 0), N),
    ("TS_MEAN", (0.1, 0.1, 0.1), 0.1),
    ("TS_MEDIAN", (1.7e308, 1.7e308, N), 1.7e308),
    ("TS_PROD", (1e300, 1e300, 1e-300), 1e300),
    ("TS_STD", (1e300, 3e300, N), R2 * 1e300),
    ("TS_STD", (1e-300, 3e-300, N), R2 * 1e-300),
    ("TS_STD", (1 + 2**-50, 1, 1 - 2**-50), 2**-50),
    ("TS_STD", (0.1, 0.1, 0.1), 0),
    ("TS_VAR", (1e300, 3e300, N), N),
    ("TS_VAR", (1e8 + 1, 1e8 + 2, 1e8 + 3), 1),
    ("TS_ZSCORE", (1e-300, 2e-300, 3e-300), 1),
    ("TS_SKEW", (1e9 + 1, 1e9 + 1, 1e9 + 4), math.sqrt(3)),
    ("TS_MAD", (1e300, -1e300, N), 1e300),
    ("TS_ZSCORE", (0.1, 0.1, 0.1), N),
]


@pytest.mark.parametrize(("name", "window", "expected"), EXACT_CASES)
def test_only_the_result_is_rounded(name, window, expected):
    same(REFERENCE[name](column(*window), 3)[-1, 0], expected, rtol=1e-15)


def test_products_of_many_magnitudes_agree_with_logarithms():
    values = 10.0 ** np.random.default_rng(0).integers(-20, 20, 40)
    same(np.log(REFERENCE["TS_PROD"](column(*values), 12)[:, 0])[20:],
         [np.log(values[t - 11 : t + 1]).sum() for t in range(20, 40)], rtol=1e-12, atol=1e-11)  # fmt: skip


def g1(values):
    return stats.skew(values, bias=False)


def g2(values):
    return stats.kurtosis(values, bias=False)


LIBRARY = {
    "TS_SUM": (np.sum, 1),
    "TS_MEAN": (np.mean, 1),
    "TS_PROD": (np.prod, 1),
    "TS_MIN": (np.min, 1),
    "TS_MAX": (np.max, 1),
    "TS_MEDIAN": (np.median, 1),
    "TS_STD": (lambda v: np.std(v, ddof=1), 2),
    "TS_VAR": (lambda v: np.var(v, ddof=1), 2),
    "TS_SKEW": (g1, 3),
    "TS_KURT": (g2, 4),
    "TS_MAD": (lambda v: np.abs(v - v.mean()).mean(), 2),
    "TS_COUNT": (np.count_nonzero, 1),
}


@pytest.mark.parametrize("kind", ["complete", "suspended", "sparse"])
@pytest.mark.parametrize("name", LIBRARY)
def test_rolling_agrees_with_numpy_and_scipy(name, kind):
    fields, _, _, _ = sample_fields(np.random.default_rng(3), kind)
    statistic, least = LIBRARY[name]
    x = fields["close"][:, :4]
    expected = np.full(x.shape, N)
    for t, i in np.ndindex(*x.shape):
        window = x[max(0, t - 6) : t + 1, i]
        window = window[~np.isnan(window)]
        if len(window) >= least:
            expected[t, i] = statistic(window)
    same(REFERENCE[name](x, 7), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("q", [0, 0.1, 0.5, 0.9, 1])
def test_quantile_agrees_with_numpy(q):
    x = sample_fields(np.random.default_rng(4), "complete")[0]["close"]
    same(
        REFERENCE["TS_QUANTILE"](x, 9, q)[8:],
        np.quantile(np.lib.stride_tricks.sliding_window_view(x, 9, 0), q, -1),
    )


@pytest.mark.parametrize("kind", ["complete", "sparse"])
def test_pairs_agree_with_numpy_and_scipy(kind):
    fields, _, _, _ = sample_fields(np.random.default_rng(5), kind)
    y, x = fields["close"], fields["open"]
    values = {name: REFERENCE[name](y, x, 10) for name in PAIRED}
    for t, i in np.ndindex(DAYS, 3):
        rows = slice(max(0, t - 9), t + 1)
        both = ~np.isnan(y[rows, i]) & ~np.isnan(x[rows, i])
        b, a = y[rows, i][both], x[rows, i][both]
        got = {name: value[t, i] for name, value in values.items()}
        if len(a) < 2:
            assert all(math.isnan(value) for value in got.values())
            continue
        fit = stats.linregress(a, b)
        same([got["TS_CORR"], got["TS_COV"], got["REGBETA"]], [fit.rvalue, np.cov(a, b)[0, 1], fit.slope], 1e-8)
        same(got["REGRSQ"], fit.rvalue**2, 1e-8)
        residual = y[t, i] - fit.intercept - fit.slope * x[t, i] if both[-1] else N
        same(got["REGRESI"], residual, atol=1e-9)


@pytest.mark.parametrize("kind", ["complete", "ties", "sparse"])
def test_ranks_agree_with_scipy(kind):
    fields, member, sector, _ = sample_fields(np.random.default_rng(6), kind)
    x = fields["close"]
    seen = np.where(member, x, N)
    expected = stats.rankdata(seen, axis=1, nan_policy="omit") / np.sum(~np.isnan(seen), axis=1, keepdims=True)
    same(REFERENCE["RANK"](x, member=member), expected)
    for name in range(3):
        inside = np.where(sector == name, seen, N)
        with np.errstate(invalid="ignore"):
            expected = stats.rankdata(inside, axis=1, nan_policy="omit") / np.sum(~np.isnan(inside), 1, keepdims=True)
        same(
            REFERENCE["GROUP_RANK"](x, member=member, sector=sector)[:, sector == name],
            expected[:, sector == name],
        )
    for t, i in np.ndindex(DAYS, INSTRUMENTS):
        window = x[max(0, t - 9) : t + 1, i]
        ranks = stats.rankdata(window, nan_policy="omit") / np.sum(~np.isnan(window)) if not np.isnan(x[t, i]) else [N]
        same(REFERENCE["TS_RANK"](window[:, None], 10)[-1, 0], ranks[-1])


def operator_value(name, fields, member, sector, window=5):
    """The operator on close, then on close and volume if it takes two series."""
    series = {"WHERE": 3, "NOT": 1, "NEGATE": 1} | dict.fromkeys(PAIRED, 2)
    count = series.get(name, 2 if name in {case[0] for case in ELEMENTWISE_CASES if len(case[1]) == 2} else 1)
    literals = {"TS_QUANTILE": (window, 0.3), "CLIP": (-1.0, 20.0), "SMA": (window, 2), "WINSORIZE": (0.1,)}
    literals = literals.get(name, (window,) if name in LITERALS else ())
    tail = [SECTOR] if name in GROUP else [number(value) for value in literals]
    return evaluate(call(name, *[CLOSE, VOLUME, CLOSE][:count], *tail), fields, member, sector)


@pytest.mark.parametrize("kind", KINDS)
def test_every_operator_on_every_kind_is_finite_or_null_and_causal(kind):
    fields, member, sector, _ = sample_fields(np.random.default_rng(7), kind)
    half = {name: grid[:60] for name, grid in fields.items()}
    for name in REFERENCE:
        value = operator_value(name, fields, member, sector)
        assert value.shape == (DAYS, INSTRUMENTS)
        assert value.dtype == np.float64
        assert not np.isinf(value).any()
        same(operator_value(name, half, member[:60], sector), value[:60], rtol=0)


@pytest.mark.parametrize("name", [*LAGGED, *ROLLING])
def test_time_series_reads_no_row_before_its_window(name):
    fields, member, sector, _ = sample_fields(np.random.default_rng(8), "complete")
    depth = look_back(
        call(name, CLOSE, *([VOLUME] if name in PAIRED else []), *map(number, [5, 0.3][: LITERALS[name]]))
    )
    late = {key: np.where(np.arange(DAYS)[:, None] >= 50 - depth, grid, -grid[::-1]) for key, grid in fields.items()}
    same(
        operator_value(name, late, member, sector)[50:],
        operator_value(name, fields, member, sector)[50:],
        rtol=0,
    )


@pytest.mark.parametrize("name", [*CROSS_SECTION, *GROUP])
def test_cross_section_reads_members_only(name):
    fields, member, sector, _ = sample_fields(np.random.default_rng(9), "complete")
    value = operator_value(name, fields, member, sector)
    assert np.isnan(value[~member]).all()
    outside = {"close": np.where(member, fields["close"], -1e6)}
    same(operator_value(name, outside, member, sector), value, rtol=0)


EVERYONE = np.ones((4, 2), dtype=bool)
PRICES = {
    "close": np.array([[1, N], [2, 4], [4, 2], [INF, 3]]),
    "volume": np.array([[1.0, N], [1, 0], [3, 0], [0, 1]]),
}


def value_of(tree):
    return evaluate(tree, PRICES, EVERYONE, np.array([0, -1]))


def test_fields_numbers_and_returns():
    same(value_of(CLOSE), [[1, N], [2, 4], [4, 2], [N, 3]])
    same(value_of(number(3)), np.full((4, 2), 3))
    same(value_of(("field", "return")), [[N, N], [1, N], [1, -0.5], [N, 0.5]])


def test_nested_calls():
    positive = call("GT", call("DELTA", CLOSE, number(1)), number(0))
    same(value_of(call("WHERE", positive, CLOSE, call("NEGATE", CLOSE))), [[N, N], [2, N], [4, -2], [N, 3]])
    same(
        value_of(call("RANK", call("CLIP", CLOSE, number(2), number(3)))),
        [[1, N], [0.5, 1], [1, 0.5], [N, 1]],
    )
    same(value_of(call("TS_QUANTILE", VOLUME, number(2), number(0.5))), [[1, N], [1, 0], [2, 0], [1.5, 0.5]])
    same(value_of(call("GROUP_MEAN", CLOSE, SECTOR)), [[1, N], [2, N], [4, N], [N, N]])


def test_infinity_inside_a_formula_is_null_at_its_operator():
    same(value_of(call("TS_SUM", call("INV", VOLUME), number(4))), [[1, N], [2, N], [7 / 3, N], [7 / 3, 1]])


LOOK_BACKS = [
    (CLOSE, 0),
    (number(1), 0),
    (("field", "return"), 1),
    (call("ADD", CLOSE, ("field", "return")), 1),
    (call("DELAY", CLOSE, number(5)), 5),
    (call("TS_MEAN", CLOSE, number(1)), 0),
    (call("TS_MEAN", ("field", "return"), number(20)), 20),
    (call("TS_QUANTILE", CLOSE, number(9), number(0.5)), 8),
    (call("TS_CORR", call("DELTA", CLOSE, number(3)), VOLUME, number(10)), 12),
    (call("EMA", call("SMA", CLOSE, number(3), number(2)), number(10)), 11),
    (call("REGRSQ", call("SEQUENCE", number(7)), CLOSE, number(7)), 6),
    (call("QUANTILE_BUCKET", call("DELAY", CLOSE, number(3)), number(7)), 3),
    (call("GROUP_RANK", call("CLIP", call("TS_STD", CLOSE, number(4)), number(0), number(50)), SECTOR), 3),
]


@pytest.mark.parametrize(("tree", "expected"), LOOK_BACKS)
def test_look_back_by_hand(tree, expected):
    assert look_back(tree) == expected


def test_only_the_final_value_waits_for_look_back():
    mean = call("TS_MEAN", CLOSE, number(2))
    masked = factor_values(mean, PRICES, EVERYONE, np.array([0, -1]), np.array([0, 1]))
    same(masked, [[N, N], [1.5, N], [3, 3], [4, 2.5]])
    unlisted = factor_values(number(1), PRICES, EVERYONE, np.array([0, -1]), np.array([2, 4]))
    same(unlisted, [[N, N], [N, N], [1, N], [1, N]])


def test_daily_ic_by_hand():
    value = np.array([[1, 2, 3, N], [1, 2, 3, 9], [1, 1, N, N], [1, N, 2, 3], [0.1, 0.1, 0.1, N], [1, 2, N, N]])
    label = np.array([[1, 3, 2, 5], [2, 4, 6, N], [1, 2, 3, 4], [4, 4, N, N], [1, 2, 3, 4], [5, 3, 1, 1]])
    same(daily_ic(value, label), [0.5, 1, N, N, N, -1])


def test_daily_rank_ic_by_hand():
    value = np.array([[1, 2, 30, N], [1, 1 + 5e-13, 2, N], [1, 2, 3, 4], [1, 1 + 5e-13, N, N]])
    label = np.array([[1, 300, 2, 5], [1, 2, 3, 0], [1, 1 + 5e-13, 3, 3], [1, 2, 3, 4]])
    # Second: ranks 1.5 1.5 3 with 1 2 3. Third: ranks 1 2 3 4 with 1.5 1.5 3.5 3.5.
    same(daily_rank_ic(value, label), [0.5, 1.5 / math.sqrt(3), 4 / math.sqrt(5 * 4), N])


def test_daily_ics_agree_with_scipy():
    rng = np.random.default_rng(10)
    value, label = rng.normal(size=(2, 20, 30)).round(1)
    value[rng.random(value.shape) < 0.1] = N
    for t, both in enumerate(~np.isnan(value)):
        same(daily_ic(value, label)[t], stats.pearsonr(value[t, both], label[t, both])[0], rtol=1e-12)
        same(daily_rank_ic(value, label)[t], stats.spearmanr(value[t, both], label[t, both])[0], rtol=1e-12)


CLOSES = (10, 11, N, 12, 15, 18)


@pytest.mark.parametrize(
    ("horizon", "delay", "untradable", "expected"),
    [
        (1, 1, None, (0, N, 0.25, 0.2, N, N)),
        (2, 1, None, (1 / 11, N, 0.5, N, N, N)),
        (1, 0, None, (0.1, 0, N, 0.25, 0.2, N)),
        (1, 1, 3, (0, N, N, N, N, N)),
        (1, 1, 4, (0, N, 0.25, N, N, N)),
        (9, 1, None, (N, N, N, N, N, N)),
    ],
)
def test_forward_return_by_hand(horizon, delay, untradable, expected):
    tradable = np.arange(6)[:, None] != untradable
    same(forward_return(column(*CLOSES), tradable, horizon, delay), column(*expected), rtol=1e-14, atol=1e-15)


def test_forward_return_leaves_at_the_last_known_close():
    delisted = column(10, 8, 4, N, N, N)
    same(forward_return(delisted, np.ones((6, 1), dtype=bool), 3), column(-0.5, 0, N, N, N, N))


@pytest.mark.parametrize(
    ("x", "lags", "expected"),
    [
        ((1, 2, 3), 0, 3 * R2),
        ((1, 2, 3), 1, 3 * R2),
        ((1, 1, 3, 3), 1, 8 / math.sqrt(5)),
        ((1, 1, N, 3, 3), 1, 8 / math.sqrt(5)),
        ((-1, -1, -3, -3), 0, -4),
        ((0.1, 0.1, 0.1), 1, N),
        ((5,), 3, N),
        ((N, N), 1, N),
    ],
)
def test_newey_west_by_hand(x, lags, expected):
    same(newey_west_t(np.array(x, dtype=float), lags), expected, rtol=1e-14)


def test_newey_west_agrees_with_the_bartlett_matrix_form():
    x = np.random.default_rng(11).normal(0.1, 1, 50).cumsum()
    u = x - x.mean()
    weight = np.clip(1 - np.abs(np.subtract.outer(np.arange(50), np.arange(50))) / 6, 0, None)
    same(newey_west_t(x, 5), x.mean() / math.sqrt(u @ weight @ u / 50**2), rtol=1e-12)


def test_turnover_by_hand():
    tradable = np.ones((6, 3), dtype=bool)
    tradable[5, 2] = False
    # Books: (-1/2 0 1/2) (1/2 0 -1/2) (1/2 -1/2 0) none (-1/2 0 1/2) (-1/2 1/2 0)
    value = np.array([[1, 2, 30], [3, 2, 1], [3, 2, N], [7, 7, 7 + 1e-13], [1, 2, 3], [1, 2, 3]])
    same(turnover(value, tradable), (1 + 0.5 + 0.5) / 3)
    same(turnover(value[2:4], tradable[2:4]), N)
    same(turnover(value[:2], tradable[:2]), 1)


def test_turnover_shares_rank_between_ties():
    value = np.array([[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 1.0, 2.0]])
    # Ranks 1.5 1.5 3.5 3.5, then 2 2 2 4: books -1/4 -1/4 1/4 1/4, then -1/6 -1/6 -1/6 1/2.
    same(turnover(value, np.ones((2, 4), dtype=bool)), 0.5 * (1 / 12 + 1 / 12 + 5 / 12 + 1 / 4))


def test_sample_markets_are_what_they_say():
    markets = {kind: sample_fields(np.random.default_rng(12), kind) for kind in KINDS}
    null = {kind: np.isnan(fields["close"]) for kind, (fields, *_) in markets.items()}
    assert not any(null[kind].any() for kind in ("complete", "constant", "ties", "huge"))
    assert null["ragged"][0].any()
    assert null["ragged"][-1].any()
    assert null["suspended"].any(axis=0).sum() > 5
    assert 0.25 < null["sparse"].mean() < 0.35
    assert null["all_null"].all(axis=0).sum() == 1
    assert (np.ptp(markets["constant"][0]["close"], axis=0) == 0).sum() >= 3
    assert all(len(np.unique(day)) < INSTRUMENTS for day in markets["ties"][0]["close"])
    magnitudes = np.log10(markets["huge"][0]["close"])
    assert magnitudes.max() > 299
    assert magnitudes.min() < -299
    for kind, (fields, member, sector, first_row) in markets.items():
        assert list(fields) == ["open", "high", "low", "close", "volume"]
        assert member.all(axis=0).any()
        assert (~member).all(axis=0).any()
        assert sorted(sector) == [-1, -1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2]
        never = np.all([np.isnan(grid) for grid in fields.values()], axis=0).all(axis=0)
        assert ((first_row == DAYS) == never).all(), kind
