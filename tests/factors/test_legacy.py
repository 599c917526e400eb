"""The older spelling of published formulas, and what became of each of them."""

import csv
from datetime import date

import numpy as np
import polars as pl
import pytest

from factors.errors import FormulaError
from factors.evaluator import evaluate
from factors.legacy import parse_legacy
from factors.panel import Panel
from factors.parse import parse
from storage.markets import open_market

# The third rank of Alpha#83 is divided by $close - $close.
NOWHERE_KNOWN = {"Alpha#83"}


@pytest.mark.parametrize(
    ("older", "today"),
    [
        ("CORR($close, $volume, 10)", "TS_CORR($close, $volume, 10)"),
        ("COVARIANCE($close, $volume, 10)", "TS_COV($close, $volume, 10)"),
        ("STD($close, 9) / MEAN($close, 9)", "TS_STD($close, 9) / TS_MEAN($close, 9)"),
        ("STD($close) / MEAN($close)", "STD($close) / MEAN($close)"),
        ("SUM($close, 9) - MEDIAN($close, 9)", "TS_SUM($close, 9) - TS_MEDIAN($close, 9)"),
        ("MEDIAN(VAR($close, 9))", "MEDIAN(TS_VAR($close, 9))"),
        ("SKEW($close, 9) + KURT($close, 9)", "TS_SKEW($close, 9) + TS_KURT($close, 9)"),
        ("LOG($volume)", "LOG1P($volume)"),
        ("SMA($volume, 20)", "TS_MEAN($volume, 20)"),
        ("SMA($volume, 20, 1)", "SMA($volume, 20, 1)"),
        ("TS_ZSCORE($close)", "TS_ZSCORE($close, 5)"),
        ("TS_ZSCORE($close, 9)", "TS_ZSCORE($close, 9)"),
        ("HIGHDAY($close, 9) - LOWDAY($low, 9)", "TS_ARGMAX($close, 9) + 1 - (TS_ARGMIN($low, 9) + 1)"),
        ("DELTA(TS_ARGMIN($close, 8.62571), 2.25164)", "DELTA(TS_ARGMIN($close, 8), 2)"),
        ("CORR($close, $open, 6.40374)", "TS_CORR($close, $open, 6)"),
        ("SMA($close, 14.9, 1.5)", "SMA($close, 14, 1.5)"),
        ("RANK(LOG(EMA($volume, 10)", "RANK(LOG1P(EMA($volume, 10)))"),
        ("COUNT($close > $open, 5)", "TS_COUNT($close > $open, 5)"),
        ("BB_UPPER($close, 20) - BB_LOWER($close, 20)",
         "TS_MEAN($close, 20) + TS_STD($close, 20) - (TS_MEAN($close, 20) - TS_STD($close, 20))"),
        ("MACD($close, 5, 9)", "EMA($close, 5) - EMA($close, 9)"),
        ("RSI($close, 9)", "100 * EMA(MAX(DELTA($close, 1), 0), 9) / EMA(ABS(DELTA($close, 1)), 9)"),
    ],
)  # fmt: skip
def test_the_older_spelling_is_read_as_today_s(older, today):
    assert str(parse_legacy(older)) == today
    assert parse_legacy(older) is parse(today)


@pytest.mark.parametrize(
    ("older", "says", "position"),
    [
        ("1 + WMA($close, 5)", "WMA: in this spelling its weights are 0.9^k", 4),
        ("TS_MAD($close, 5)", "TS_MAD: in this spelling it is the median", 0),
        ("DELTA($close, 0.9)", "DELTA(x, d: 1..1000): d must be an integer literal from 1 to 1000, not 0", 0),
        ("CORR($close, 5)", "CORR(x, y, d: 1..1000) takes 3 arguments, not 2", 0),
        ("CORREL($close, $open, 5)", "did you mean CORR", 0),
        ("STD($close, 5, 1)", "STD(x, d: 1..1000) takes 2 arguments or STD(x) takes 1 argument, not 3", 0),
        ("RANK($close) )", "expected an operator sign or the end", 13),
        ("RANK($close, ", "expected a field, a number", 12),
        ("QUANTILE_BUCKET($close, 2.5)", "n must be an integer literal", 0),
    ],
)
def test_what_the_older_spelling_does_not_allow(older, says, position):
    with pytest.raises(FormulaError) as caught:
        parse_legacy(older)
    assert says in str(caught.value)
    assert caught.value.position == position


def test_today_s_spelling_forgives_nothing():
    for formula in ("RANK($close", "DELTA($close, 2.5)", "SUM($close, 5)"):
        parse_legacy(formula)
        with pytest.raises(FormulaError):
            parse(formula)
    assert str(parse("LOG($close)")) == "LOG($close)"
    assert str(parse("WMA($close, 5)")) == "DECAYLINEAR($close, 5)"


def published(shared_data):
    """Name and text of every published formula; one of the files has no header."""
    for name, skipped in (("alpha101", 0), ("alphaagent_cn", 1), ("alphaagent_us", 1)):
        with (shared_data / "zoo" / f"{name}.csv").open(newline="") as file:
            yield from list(csv.reader(file))[skipped:]


def test_every_published_formula_is_read_and_evaluated(shared_data, real_markets):
    snapshot = open_market(real_markets, "us")
    bars = snapshot.bars(snapshot.universes[0]).filter(pl.col("date") >= date(2017, 1, 1))
    panel = Panel.from_bars(bars, date(2017, 12, 31))
    columns = (*snapshot.fields, "return")
    formulas = {name: parse_legacy(text, columns) for name, text in published(shared_data)}
    assert len(formulas) == 123
    known = {}
    for name, expr in formulas.items():
        assert parse(str(expr), columns) is expr
        known[name] = np.isfinite(evaluate(expr, panel))[:, -20:][panel.universe[:, -20:] >= 0].mean()
    assert {name for name, share in known.items() if share == 0} == NOWHERE_KNOWN
    assert min(share for share in known.values() if share) > 0.5


def test_a_misprint_is_read_as_it_was_meant(shared_data):
    printed = dict(published(shared_data))["Alpha#78"]
    blend = "TS_SUM($low * 0.352233 + $close * (1 - 0.352233), 20)"
    volume = "TS_SUM(TS_MEAN($volume, 40), 20)"
    meant = f"POW(RANK(TS_CORR({blend}, {volume}, 7)), RANK(TS_CORR(RANK($close), RANK($volume), 6)))"
    assert parse_legacy(printed) is parse(meant)
