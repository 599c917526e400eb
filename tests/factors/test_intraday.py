"""Bars that have a time: rows are bars as ever, and what is told by days ends with days."""

from datetime import date, datetime, timedelta
from itertools import islice

import numpy as np
import polars as pl
import pytest

from factors.causality import prove
from factors.certificate import Certificate
from factors.evaluator import evaluate, evaluate_frame
from factors.labels import exits, forward_return, forward_returns, within
from factors.mapping import array_bytes, bytes_array, read_mapping, write_mapping
from factors.measurement import around, measure
from factors.metrics import daily_metrics, split_metrics
from factors.panel import Panel, rows_through
from factors.parse import parse
from factors.robustness import Robustness, robustness
from tests.panels import bars_of, eventful, spread
from tests.prove_random import formulas, refuted

A_DAY = 4
ROWS = 400
FIRST = date(2015, 1, 1)
FACTS = {"market": "m", "snapshot": "s", "universe": "u"}
FORMULA = parse("RANK(TS_PCTCHANGE($close, 3)) - TS_RANK($volume, 10)")


@pytest.fixture(scope="module")
def bars():
    return bars_of(*eventful(ROWS))


@pytest.fixture(scope="module")
def daily(bars):
    return Panel.from_bars(bars, FIRST + timedelta(days=239))


@pytest.fixture(scope="module")
def intraday(bars):
    return Panel.from_bars(spread(bars, A_DAY), FIRST + timedelta(days=59))


def test_the_panel_is_that_of_daily_bars_but_for_its_calendar(daily, intraday):
    assert (daily.dates.dtype, intraday.dates.dtype) == ("datetime64[D]", "datetime64[us]")
    first = ["2015-01-01T09:30", "2015-01-01T09:34", "2015-01-01T09:38", "2015-01-01T09:42", "2015-01-02T09:30"]
    assert intraday.dates[:5].astype(object).tolist() == [*map(datetime.fromisoformat, first)]
    assert intraday.splits == daily.splits == {"train": (0, 240), "valid": (240, 400)}
    for name in ("bar", "tradable", "eligible", "universe", "sectors", "first_row", "delisting"):
        np.testing.assert_array_equal(getattr(intraday, name), getattr(daily, name))


def test_values_labels_and_coefficients_are_those_of_daily_bars_row_for_row(daily, intraday):
    labels = forward_returns(daily)
    np.testing.assert_array_equal(forward_returns(intraday).returns, labels.returns)
    for expr in islice(formulas(daily, seed=3), 60):
        values = evaluate(expr, intraday)
        np.testing.assert_array_equal(values, evaluate(expr, daily))
        series, same = (daily_metrics(values, labels, panel) for panel in (intraday, daily))
        for name in series.__slots__:
            np.testing.assert_array_equal(getattr(series, name), getattr(same, name))


def test_a_summary_is_that_of_daily_bars_but_for_its_years(daily, intraday):
    found, same = (measure(evaluate(FORMULA, panel), forward_returns(panel), panel) for panel in (intraday, daily))
    assert found.evidence == same.evidence
    for split in ("train", "valid"):
        assert found.splits[split].model_copy(update={"years": ()}) == same.splits[split].model_copy(
            update={"years": ()}
        )


def test_a_day_ends_a_split_with_all_its_bars(intraday):
    assert intraday.held_out(date(2015, 3, 1)).splits == {"holdout": (60 * A_DAY, ROWS)}
    assert intraday.held_out(date.max).splits == {"holdout": (ROWS, ROWS)}
    assert rows_through(intraday.dates, date(2014, 12, 31)) == rows_through(intraday.dates, date.min) == 0


def test_midnight_is_the_first_bar_of_its_day():
    times = np.array(["2020-01-01T23:00", "2020-01-02T00:00", "2020-01-02T23:59:59.999999", "2020-01-03"], "M8[us]")
    assert [rows_through(times, date(2020, 1, day)) for day in (1, 2, 3)] == [1, 3, 4]


def test_years_are_calendar_years():
    rng = np.random.default_rng(0)
    close = np.exp(np.cumsum(rng.normal(0, 0.02, (1600, 20)), axis=0))
    bars = spread(bars_of({"close": close}, np.ones(close.shape, bool), np.zeros(20, int)), A_DAY)
    panel = Panel.from_bars(bars, date.max)
    values, labels = evaluate(parse("$close"), panel), forward_returns(panel)
    rank_ic, train = daily_metrics(values, labels, panel).rank_ic[0], split_metrics(values, labels, panel)["train"]
    assert [(year.year, year.days) for year in train.years] == [(2015, 365 * A_DAY), (2016, 35 * A_DAY - 2)]
    assert train.years[0].rank_ic == pytest.approx(rank_ic[: 365 * A_DAY].mean())


@pytest.mark.parametrize("settlement", [0, 1, 2])
@pytest.mark.parametrize("horizon", [1, 5])
def test_a_bar_is_before_the_cut_off_exactly_if_its_label_ends_on_that_day_at_the_latest(intraday, horizon, settlement):
    rank_ic = np.arange(float(ROWS))
    ends = exits(intraday.dates, horizon, settlement)
    days = [moment.date() for moment in intraday.dates.astype(object)] + [None]
    for cutoff in (date.min, *(FIRST + timedelta(days=day) for day in (0, 1, 2, 50, 98, 99)), date.max):
        before, after = around(rank_ic, intraday.dates, cutoff, horizon, settlement)
        assert before.days == sum(days[end] is not None and days[end] <= cutoff for end in ends)
        assert before.days + after.days == ROWS


def test_a_table_of_values_has_the_times(bars):
    times = spread(bars, A_DAY)
    found, same = (evaluate_frame("TS_MEAN($close, 3)", one) for one in (times, bars))
    assert found["date"].dtype == pl.Datetime("us")
    expected = times.select("date", "symbol").sort("date", "symbol")
    assert found.select("date", "symbol").equals(expected)
    assert found["value"].equals(same["value"])


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_times_of_any_unit_are_the_same(bars, intraday, unit):
    panel = Panel.from_bars(spread(bars, A_DAY).with_columns(pl.col("date").dt.cast_time_unit(unit)), date(2015, 3, 1))
    np.testing.assert_array_equal(panel.dates, intraday.dates)
    assert panel.dates.dtype == intraday.dates.dtype


def test_times_of_another_place_are_refused(bars):
    zoned = spread(bars, A_DAY).with_columns(pl.col("date").dt.replace_time_zone("Asia/Shanghai"))
    with pytest.raises(ValueError, match="without a time zone"):
        Panel.from_bars(zoned, date(2015, 3, 1))


def test_files_and_messages_keep_the_times(intraday, tmp_path):
    assert bytes_array(array_bytes(intraday.dates)).tolist() == intraday.dates.tolist()
    write_mapping(tmp_path, intraday, forward_returns(intraday, (1,)))
    panel, _ = read_mapping(tmp_path)
    assert panel.dates.dtype == intraday.dates.dtype
    np.testing.assert_array_equal(panel.dates, intraday.dates)


@pytest.mark.parametrize("settlement", [0, 1])
def test_formulas_are_proven_at_times(bars, settlement):
    panel = Panel.from_bars(spread(bars, A_DAY), date(2015, 3, 1), settlement)
    certificate = prove(FORMULA, panel, seed=1, threads=1, **FACTS)
    assert certificate.proven, certificate
    assert {type(moment) for moment in certificate.dates} == {datetime}
    for seed in range(10):
        assert not refuted(prove(next(formulas(panel, seed)), panel, seed=seed, threads=1, **FACTS))


@pytest.mark.parametrize("seed", range(6))
def test_the_label_is_tried_where_it_can_still_be_sold(bars, seed):
    """Two days of 200 bars: what is bought on the second cannot, and the end of the first may be far."""
    panel = Panel.from_bars(spread(bars, 200), FIRST, settlement=1)
    certificate = prove(FORMULA, panel, seed=seed, threads=1, dates=1, **FACTS)
    assert certificate.proven, certificate
    [moment] = certificate.dates
    assert moment < panel.dates[199].astype(object)


def test_a_label_that_is_sold_before_it_settles_is_refuted(bars, monkeypatch):
    panel = Panel.from_bars(spread(bars, A_DAY), date(2015, 3, 1), settlement=1)
    monkeypatch.setattr("factors.labels.exits", lambda dates, horizon, _: exits(dates, horizon, 0))
    [check] = [one for one in prove(FORMULA, panel, seed=1, threads=1, **FACTS).checks if not one.passed]
    assert check.name == "label_lag"
    assert isinstance(check.refuted, datetime)


def test_a_certificate_keeps_midnight_apart_from_the_day(bars):
    midnight = bars.with_columns(pl.col("date").cast(pl.Datetime("us")))
    for panel, kind in ((Panel.from_bars(bars, FIRST), date), (Panel.from_bars(midnight, FIRST), datetime)):
        certificate = prove(FORMULA, panel, seed=1, threads=1, **FACTS)
        for copy in (
            Certificate.model_validate_json(certificate.model_dump_json()),
            Certificate.model_validate(certificate.model_dump(mode="json")),
            Certificate.model_validate(certificate.model_dump()),
        ):
            assert copy == certificate
            assert copy.genuine()
            assert {type(moment) for moment in copy.dates} == {kind}


def test_a_change_is_told_by_its_bar(intraday):
    found = measure(evaluate(FORMULA, intraday), forward_returns(intraday), intraday)
    noise = np.random.default_rng(1).normal(0, 0.05, ROWS)
    broken = np.where(np.isfinite(found.rank_ic), noise + np.where(np.arange(ROWS) < 200, 0.1, -0.1), np.nan)
    look = robustness(broken, found.evidence, found.splits, intraday, 1)
    assert look.change.significant
    assert isinstance(look.change.day, datetime)
    assert abs(look.change.day - intraday.dates[200].astype(object)) < timedelta(days=5)
    assert Robustness.model_validate_json(look.model_dump_json()) == look


def test_no_split_reads_a_price_of_the_next_when_it_must_settle(bars):
    wild = bars.with_columns(
        pl.when(pl.col("date") > FIRST + timedelta(days=239))
        .then(pl.col("close") * 1e6)
        .otherwise("close")
        .alias("close")
    )
    found = []
    for version in (bars, wild):
        panel = Panel.from_bars(spread(version, A_DAY), FIRST + timedelta(days=59), settlement=1)
        start, stop = within(panel, "train")
        assert (start, stop) == (0, 240 - A_DAY - 1), "what is bought on the last day is sold on the next"
        found.append((forward_return(panel)[:, start:stop].tobytes(), measure(
            evaluate(FORMULA, panel), forward_returns(panel), panel
        ).splits["train"]))  # fmt: skip
    assert found[0] == found[1]
