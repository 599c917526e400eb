"""Labels that must settle, that end after the last bar, and that nothing else moves."""

from dataclasses import replace
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from factors.evaluator import evaluate
from factors.labels import HORIZONS, exits, forward_return, forward_returns, longest_held, within
from factors.mapping import read_mapping, write_mapping
from factors.measurement import measure, weigh
from factors.metrics import COST, daily_metrics, split_metrics
from factors.panel import Panel
from factors.parse import parse
from factors.perturbation import cut
from factors.significance import newey_west_lags, newey_west_t
from tests.panels import bars_of, eventful, grid_of, spread

FIRST = date(2015, 1, 1)
LAST = FIRST + timedelta(days=239)


def calendar(seed, days=30):
    """Times of some days, each with as many bars as it happens to have, weekends left out."""
    draw, start = np.random.default_rng(seed), datetime.fromisoformat("2024-03-01T09:30")
    times = [
        start + timedelta(days=day, minutes=5 * int(bar))
        for day in range(days)
        if (start + timedelta(days=day)).weekday() < 5
        for bar in np.sort(draw.choice(48, draw.integers(1, 7), replace=False))
    ]
    return np.array(times, "datetime64[us]")


# settlement


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("settlement", [0, 1, 2])
@pytest.mark.parametrize("horizon", [1, 3, 10])
def test_an_exit_is_the_first_bar_that_is_late_enough_and_settled(seed, settlement, horizon):
    dates = calendar(seed)
    days = [moment.date() for moment in dates.astype(object)]
    order = sorted(set(days))
    expected = []
    for t in range(len(days)):
        late = [
            row
            for row in range(t + 1 + horizon, len(days))
            if order.index(days[row]) >= order.index(days[t + 1]) + settlement
        ]
        expected.append(late[0] if late else len(days))
    found = exits(dates, horizon, settlement)
    assert found.tolist() == expected
    assert longest_held(dates, horizon, settlement) == max(
        end - t - 1 for t, end in enumerate(expected) if end < len(days)
    )


@pytest.mark.parametrize("horizon", HORIZONS)
def test_on_daily_bars_one_day_of_settlement_is_no_constraint(horizon):
    dates = np.unique(calendar(0, days=90).astype("datetime64[D]"))
    np.testing.assert_array_equal(exits(dates, horizon, 1), exits(dates, horizon, 0))
    assert longest_held(dates, horizon, 1) == horizon
    np.testing.assert_array_equal(
        exits(dates, horizon, 3), np.minimum(np.arange(len(dates)) + 1 + max(horizon, 3), len(dates))
    )


@pytest.mark.parametrize("dates", [np.array([], "M8[D]"), np.array(["2020-01-01"], "M8[D]"), calendar(0, days=1)])
@pytest.mark.parametrize("settlement", [0, 1])
def test_a_calendar_too_short_for_a_label_has_none(dates, settlement):
    assert (exits(dates, 10, settlement) == len(dates)).all()
    assert longest_held(dates, 10, settlement) == 10


def test_what_must_settle_is_worth_the_close_of_the_next_day_s_first_bar():
    close = np.array([[1.0, 2.0, 4.0, 8.0, 10.0, 20.0, 30.0, 60.0, 90.0]]).T
    bars = spread(bars_of({"close": close}, np.ones(close.shape, bool), np.array([0])), a_day=3)
    panel = Panel.from_bars(bars, date.max, settlement=1)
    # Days are rows 0-2, 3-5 and 6-8. Bought on rows 1 and 2, sold on row 3; bought on rows 3 to 5, sold on row 6.
    expected = [8 / 2, 8 / 4, 30 / 8, 30 / 10, 30 / 20, *[np.nan] * 4]
    np.testing.assert_array_equal(forward_return(panel)[0, :, 0] + 1, expected)
    expected = [10 / 2, 20 / 4, 30 / 8, 60 / 10, 90 / 20, *[np.nan] * 4]
    np.testing.assert_array_equal(forward_return(panel, 3)[0, :, 0] + 1, expected)


def test_a_day_on_which_an_instrument_does_not_trade_settles_all_the_same():
    close = np.array([[1.0, 2.0, np.nan, np.nan, 5.0, 6.0], [1.0] * 6]).T
    panel = Panel.from_bars(
        spread(bars_of({"close": close}, np.ones(close.shape, bool), np.array([0, 0])), 2), date.max, 1
    )
    np.testing.assert_array_equal(forward_return(panel)[0, :, 0], [0.0, *[np.nan] * 5])


def test_lags_cover_all_labels_that_overlap():
    a_day = 40
    bars = spread(bars_of(*eventful()), a_day)
    panel = Panel.from_bars(bars, FIRST + timedelta(days=5), settlement=1)
    labels, values = forward_returns(panel), evaluate(parse("TS_MEAN($volume, 5)"), panel)
    series, found = daily_metrics(values, labels, panel), measure(values, labels, panel)
    assert longest_held(panel.dates, 1, 1) == a_day
    start, stop = within(panel, "train")
    rank_ic = series.rank_ic[0, start:stop]
    rank_ic = rank_ic[np.isfinite(rank_ic)]
    assert newey_west_lags(len(rank_ic), 1) < a_day - 1
    train = found.splits["train"]
    assert train.rank_t_stat == train.horizons[0].rank_t_stat == newey_west_t(rank_ic, a_day - 1)
    rows = np.concatenate([np.arange(*within(panel, split)) for split in panel.splits])
    assert found.evidence == weigh(series, rows, panel, 1)


def test_what_is_held_for_days_is_charged_what_it_may_trade_meanwhile():
    a_day = 4
    bars = spread(bars_of(*eventful()), a_day)
    values = evaluate(parse("TS_MEAN($volume, 60)"), Panel.from_bars(bars, FIRST + timedelta(days=50)))
    free, settled = (Panel.from_bars(bars, FIRST + timedelta(days=50), days) for days in (0, 1))
    found = measure(values, forward_returns(settled), settled)
    series, (start, stop) = daily_metrics(values, forward_returns(settled), settled), within(settled, "train")
    rows = np.arange(start, stop)
    # Bought on the first bar of a day it is held for four, on the last for one; the signal is a bar older.
    held = np.array([3, 2, 1, 4])[rows % a_day]
    cost = 4 * COST * np.minimum(np.nan_to_num(series.turnover[rows]) * held, 1.0)
    train = found.splits["train"]
    assert train.long_short_net == pytest.approx(np.nanmean(series.long_short[rows] - cost))
    assert train.held == pytest.approx(held.mean())
    assert 0 < train.turnover < 0.3
    assert 1.5 * train.turnover < found.evidence.turnover < 3 * train.turnover
    unbound = measure(values, forward_returns(free), free)
    assert unbound.splits["train"].held == 1.0
    assert unbound.evidence.turnover == pytest.approx(train.turnover, rel=0.2)


# delisting


def delisted(close, returns, **more):
    bars = bars_of({"close": close}, np.ones(close.shape, bool), np.zeros(close.shape[1], int), **more)
    return Panel.from_bars(bars, date.max, delisting=returns)


def test_after_its_last_bar_an_instrument_is_worth_its_last_close_and_the_delisting_return():
    close = np.array([[1.0, 2.0, 4.0, np.nan, np.nan], [1.0, 1.0, 1.0, 1.0, 1.0]]).T
    panel = delisted(close, {"S000": -0.75, "S001": -0.5, "unknown": 9.0})
    np.testing.assert_array_equal(forward_return(panel)[0, :, 0], [1.0, 0.25 - 1, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(
        forward_return(panel, 2)[0, :, 0], [4 * 0.25 / 2 - 1, 0.25 - 1, np.nan, np.nan, np.nan]
    )
    np.testing.assert_array_equal(forward_return(panel)[0, :, 1], [0.0, 0.0, 0.0, np.nan, np.nan])
    np.testing.assert_array_equal(panel.delisting[0, :3], [-0.75, -0.5, np.nan])


def test_a_gap_is_no_delisting_and_a_total_loss_is_one():
    close = np.array([[1.0, 2.0, np.nan, 4.0, np.nan, np.nan], [1.0] * 6]).T
    panel = delisted(close, {"S000": -1.0})
    np.testing.assert_array_equal(forward_return(panel)[0, :, 0], [0.0, np.nan, np.nan, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(forward_return(panel, 2)[0, :, 0], [1.0, np.nan, np.nan, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(forward_return(panel, 3)[0, :, 0], [-1.0, np.nan, np.nan, np.nan, np.nan, np.nan])


def test_the_last_bar_counts_though_it_is_suspended_and_without_a_close():
    close, volume = (
        np.array([[1.0, 2.0, np.nan, np.nan], [1.0] * 4]).T,
        np.array([[1.0, 1.0, 1.0, np.nan], [1.0] * 4]).T,
    )
    suspended = np.zeros(close.shape, bool)
    suspended[2, 0] = True
    bars = bars_of({"close": close, "volume": volume}, np.ones(close.shape, bool), np.zeros(2, int), suspended)
    panel = Panel.from_bars(bars, date.max, delisting={"S000": -0.5})
    np.testing.assert_array_equal(forward_return(panel)[0, :, 0], [0.0, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(forward_return(panel, 2)[0, :, 0], [-0.5, np.nan, np.nan, np.nan])


def test_none_of_zero_and_of_nothing_known_changes_anything():
    bars = bars_of(*eventful())
    plain, zero = Panel.from_bars(bars, LAST), Panel.from_bars(bars, LAST, delisting=dict.fromkeys(bars["symbol"], 0.0))
    np.testing.assert_array_equal(forward_returns(plain).returns, forward_returns(zero).returns)
    assert np.isnan(plain.delisting).all()


def test_delistings_move_the_labels_that_end_after_them_and_no_other():
    """Against a plain loop over eventful bars, and through all that is made of labels."""
    fields, member, sector, suspended = eventful()
    bars = bars_of(fields, member, sector, suspended)
    draw, symbols = np.random.default_rng(0), bars["symbol"].unique().sort().to_list()
    returns = {symbol: float(draw.uniform(-1, 0.5)) for symbol in symbols}
    plain, panel = Panel.from_bars(bars, LAST), Panel.from_bars(bars, LAST, delisting=returns)
    names, rows = 70, len(member)
    moved = 0
    for horizon in (1, 5, 20):
        before, after = (grid_of(forward_return(one, horizon), one, names, rows) for one in (plain, panel))
        expected = before.copy()
        for symbol in symbols:
            n = int(symbol[1:])
            last = int(np.flatnonzero(np.any([~np.isnan(grid[:, n]) for grid in fields.values()], axis=0))[-1])
            for t in range(rows - 1 - horizon):
                if t + 1 + horizon > last and np.isfinite(before[t, n]):
                    expected[t, n] = (1 + before[t, n]) * (1 + returns[symbol]) - 1
                    moved += 1
        np.testing.assert_allclose(after, expected, rtol=1e-12)
    assert moved > 50
    values = evaluate(parse("$volume"), panel)
    ranks, label = (np.where(panel.eligible, one, np.nan) for one in (values, forward_return(panel)))
    series, other = (daily_metrics(values, forward_returns(one), one) for one in (panel, plain))
    for t in np.flatnonzero(series.long_short != other.long_short)[:5]:
        row, known = ranks[:, t].ravel(), np.isfinite(ranks[:, t].ravel())
        weight = np.argsort(np.argsort(row[known])) - (known.sum() - 1) / 2
        if len(np.unique(row[known])) == known.sum():
            book = 2 * weight / np.abs(weight).sum()
            assert series.long_short[t] == pytest.approx(np.nansum(book * label[:, t].ravel()[known]), abs=1e-12)
    np.testing.assert_array_equal(series.turnover, other.turnover)


def test_files_and_cuts_keep_what_settles_and_who_was_delisted(tmp_path):
    close = np.array([[1.0, 2.0, 4.0, np.nan, np.nan], [1.0, 1.0, 1.0, 1.0, 1.0]]).T
    panel = replace(delisted(close, {"S000": -0.75, "S001": -0.5}), settlement=2)
    write_mapping(tmp_path, panel, forward_returns(panel, (1,)))
    mapped, _ = read_mapping(tmp_path)
    assert mapped.settlement == 2
    np.testing.assert_array_equal(mapped.delisting, panel.delisting)
    ends = cut(panel, ("close",), 1, 4, tiles=1)
    np.testing.assert_array_equal(ends.delisting[:, :2], [[-0.75, np.nan], [np.nan, np.nan]])
    assert ends.settlement == 2


# what may not be traded


@pytest.mark.parametrize("settlement", [0, 1])
@pytest.mark.parametrize("wild", [1e6, -1e6, np.nan])
def test_values_that_may_not_be_traded_on_move_no_measure(settlement, wild):
    bars = spread(bars_of(*eventful(seed=settlement)))
    panel = Panel.from_bars(bars, FIRST + timedelta(days=59), settlement)
    may = bars.filter(pl.col("member") & ~pl.col("suspended") & pl.col("close").is_finite())
    row, symbol = pl.Series(panel.dates).search_sorted(may["date"]), np.searchsorted(panel.symbols, may["symbol"])
    eligible = np.zeros(panel.shape, bool)
    eligible[symbol // 64, row, symbol % 64] = True
    assert min(np.count_nonzero(eligible), np.count_nonzero(panel.bar & ~eligible)) > 1000
    values, labels = evaluate(parse("TS_MEAN($volume, 3)"), panel), forward_returns(panel)
    moved = np.where(eligible, values, wild)
    series, same = daily_metrics(values, labels, panel), daily_metrics(moved, labels, panel)
    for name in series.__slots__:
        np.testing.assert_array_equal(getattr(series, name), getattr(same, name))
    assert split_metrics(values, labels, panel) == split_metrics(moved, labels, panel)


@pytest.mark.parametrize("settlement", [0, 1])
@pytest.mark.parametrize("wild", [1e6, -1e6])
def test_prices_at_which_no_position_is_held_move_no_label(settlement, wild):
    """Until an instrument may first be held nothing of it is in a label; who never may be has none."""
    bars = spread(bars_of(*eventful()))
    panel = Panel.from_bars(bars, FIRST + timedelta(days=59), settlement)
    unheld = np.logical_not(np.logical_or.accumulate(panel.eligible, axis=1)) & panel.bar
    rows, symbols = pl.Series(panel.dates), pl.Series(panel.symbols)
    tile, row, lane = np.nonzero(unheld)
    cells = pl.DataFrame({"date": rows.gather(row), "symbol": symbols.gather(tile * 64 + lane), "unheld": True})
    given = bars.join(cells, on=["date", "symbol"], how="left", maintain_order="left")
    changed = given.with_columns(
        pl.when("unheld").then(wild).otherwise(name).alias(name) for name in ("open", "high", "low", "close", "volume")
    ).drop("unheld")
    other = Panel.from_bars(changed, FIRST + timedelta(days=59), settlement)
    assert len(cells) > 1000
    assert not np.array_equal(other.fields["close"], panel.fields["close"], equal_nan=True)
    np.testing.assert_array_equal(other.eligible, panel.eligible)
    np.testing.assert_array_equal(forward_returns(other).returns, forward_returns(panel).returns)
    np.testing.assert_array_equal(forward_returns(other).ranks, forward_returns(panel).ranks)


def test_the_flag_closes_a_bar_to_signals_and_to_purchases_but_its_close_values_an_exit():
    close = np.array([[1.0, 2.0, 4.0, 8.0, 16.0, 32.0], [1.0] * 6]).T
    flag = np.zeros(close.shape, bool)
    flag[2, 0] = True
    bars = bars_of({"close": close}, np.ones(close.shape, bool), np.zeros(2, int), flag)
    panel = Panel.from_bars(bars, date.max)
    np.testing.assert_array_equal(panel.tradable[0, :, 0], ~flag[:, 0])
    # The signal of row 0 is bought on row 1 and sold on row 2; row 1 cannot be bought; row 2 gives no signal.
    np.testing.assert_array_equal(forward_return(panel)[0, :, 0], [1.0, np.nan, np.nan, 1.0, np.nan, np.nan])
