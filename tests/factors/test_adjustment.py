"""What must not matter to any formula: a split of shares, and rows that come later."""

from datetime import date, timedelta
from itertools import islice

import numpy as np
import polars as pl
import pytest

from factors.causality import BLURS
from factors.columns import PRICES
from factors.evaluator import evaluate
from factors.expression import SECTOR, Call, Field, Number, call, distinct
from factors.labels import forward_returns
from factors.operators import OPERATORS, ParameterKind
from factors.panel import Panel
from factors.perturbation import blurred, cut
from factors.plan import BY_DAY
from factors.tally import close
from tests.panels import bars_of, eventful, spread
from tests.prove_random import formulas

ROWS, TRAIN_END = 400, date(2015, 1, 1) + timedelta(days=239)
SPREAD_END = date(2015, 1, 1) + timedelta(days=59)
EXACT, ROUNDED = (2.0, 8.0, 0.25), (3.0, 10.0, 1.5, 1 / 7)  # of the former nothing is rounded


def example(op):
    """An operator on plain fields."""
    if op.name == "SEQUENCE":
        return call("REGRESI", Field("close"), call("SEQUENCE", Number(5)), Number(5))
    series = map(Field, ("close", "volume", "open"))
    argument = {
        ParameterKind.SERIES: lambda _: next(series),
        ParameterKind.GROUP: lambda _: SECTOR,
        ParameterKind.WINDOW: lambda one: Number(max(one.low, 5)),
        ParameterKind.INTEGER: lambda one: Number(max(one.low, 1)),
        ParameterKind.NUMBER: lambda one: Number(min(max(one.low, 0.5), one.high)),
    }
    return call(op.name, *(argument[parameter.kind](parameter) for parameter in op.parameters))


@pytest.fixture(scope="module")
def traded():
    """Bars as traded, with a factor that is raised now and then, as by dividends."""
    bars = bars_of(*eventful(ROWS)).sort("symbol", "date")
    raised = np.where(np.random.default_rng(1).random(len(bars)) < 0.01, 1.013, 1.0)
    return bars.with_columns(adj_factor=pl.Series(raised).cum_prod())


def split(traded, ratios, seed):
    """The same with a split of most instruments, each by one of these ratios from some bar after its first one on."""
    draw, parts = np.random.default_rng(seed), []
    for number, part in enumerate(traded.partition_by("symbol", maintain_order=True)):
        row = int(draw.integers(1, len(part))) if len(part) > 1 and number % 5 else len(part)
        k = pl.Series(np.where(np.arange(len(part)) < row, 1.0, draw.choice(ratios)))
        prices = [(pl.col(name) / k).alias(name) for name in PRICES if name in part.columns]
        parts.append(part.with_columns(*prices, pl.col("volume") * k, pl.col("adj_factor") * k))
    return pl.concat(parts)


def adjusted(traded):
    """Comparable over time, as bars are stored."""
    factor, first = pl.col("adj_factor"), pl.col("adj_factor").first().over("symbol")
    prices = [(pl.col(name) * factor / first).alias(name) for name in PRICES if name in traded.columns]
    return traded.with_columns(*prices, pl.col("volume") * first / factor).drop("adj_factor")


def every_formula(panel, seed, count):
    return [*map(example, OPERATORS.values()), *islice(formulas(panel, seed), count)]


@pytest.mark.parametrize("seed", range(3))
def test_a_split_changes_no_value_and_no_label(traded, seed):
    other = split(traded, EXACT, seed)
    assert not other.equals(traded)
    panel, same = (Panel.from_bars(adjusted(one), TRAIN_END) for one in (traded, other))
    np.testing.assert_array_equal(forward_returns(same).returns, forward_returns(panel).returns)
    for expr in every_formula(panel, seed, 100):
        np.testing.assert_array_equal(evaluate(expr, same), evaluate(expr, panel), err_msg=str(expr))


@pytest.mark.parametrize("seed", range(3))
def test_a_split_that_is_rounded_changes_them_by_no_more_than_rounding_does(request, traded, seed):
    if seed:
        request.getfixturevalue("endurance")
    panel, same = (Panel.from_bars(adjusted(one), TRAIN_END) for one in (traded, split(traded, ROUNDED, seed)))
    np.testing.assert_allclose(forward_returns(same).returns, forward_returns(panel).returns, rtol=1e-9, atol=1e-12)
    draw, told, tried = np.random.default_rng(seed), 0, every_formula(panel, seed, 100)

    def differ(values, expected):
        return any(not close(values[:, row], expected[:, row]).all() for row in range(ROWS))

    for expr in tried:
        expected, found = evaluate(expr, panel), evaluate(expr, same)
        if differ(found, expected):
            noisy = (blurred(cut(panel, panel.fields, 0, ROWS), draw) for _ in range(BLURS))
            leaps = any(differ(evaluate(expr, one), expected) for one in noisy)
            assert leaps, f"{expr} changes more than where its columns are off in their last digits"
        else:
            told += 1
    assert told > 0.8 * len(tried)


@pytest.mark.parametrize("a_day", [1, 4])
@pytest.mark.parametrize("rows", [60, 200, 399])
@pytest.mark.parametrize("in_order", [True, False])
def test_later_rows_change_no_value_before_them(a_day, rows, in_order):
    """Bit for bit, but for sums over a date where instruments listed later come between the others by symbol."""
    bars = spread(bars_of(*eventful(ROWS)), a_day)
    if in_order:
        listed = bars.group_by("symbol").agg(pl.col("date").min()).sort("date", "symbol").with_row_index("number")
        names = dict(zip(listed["symbol"], listed["number"].cast(pl.String).str.zfill(3), strict=True))
        bars = bars.with_columns(pl.col("symbol").replace_strict(names))
    earlier = bars.filter(pl.col("date") <= bars["date"].unique().sort()[rows - 1])
    whole, part = (Panel.from_bars(one, SPREAD_END) for one in (bars, earlier))
    known = np.isin(whole.symbols, part.symbols)
    assert part.shape[1] == rows

    def by_instrument(values, panel):
        return values.transpose(0, 2, 1).reshape(-1, panel.shape[1])[: len(panel.symbols), :rows]

    for expr in every_formula(whole, rows, 60):
        if not in_order and any(isinstance(node, Call) and node.op.kind in BY_DAY for node in distinct(expr)):
            continue
        found, expected = (by_instrument(evaluate(expr, panel), panel) for panel in (part, whole))
        np.testing.assert_array_equal(found, expected[known], err_msg=str(expr))
        assert np.isnan(expected[~known]).all()
