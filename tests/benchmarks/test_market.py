import numpy as np
import pytest

from benchmarks.market import FIELDS, Size, load, store, synthetic
from storage.markets import open_market

SIZE = Size(200, 300)


@pytest.fixture(scope="module")
def market():
    return synthetic(SIZE)


def bars(market):
    return np.isfinite(market.fields["close"])


def test_a_third_is_listed_late_and_an_eighth_is_delisted(market):
    # Two days, because a bar next to either end may be suspended.
    late = ~bars(market)[:2].any(axis=0)
    gone = ~bars(market)[-2:].any(axis=0)
    assert late.mean() == pytest.approx(0.35, abs=0.02)
    assert gone.mean() == pytest.approx(0.12, abs=0.03)


def test_one_bar_in_a_hundred_is_suspended_in_short_runs(market):
    known = bars(market)
    listed = np.logical_or.accumulate(known) & np.logical_or.accumulate(known[::-1])[::-1]
    missing = listed & ~known
    assert 0.005 < missing.sum() / listed.sum() < 0.015
    starts = missing & ~np.vstack([np.zeros((1, SIZE.instruments), bool), missing[:-1]])
    assert 2 < missing.sum() / starts.sum() < 8


def test_a_missing_bar_is_missing_in_every_field(market):
    assert tuple(market.fields) == FIELDS
    for name in set(FIELDS) - {"ret"}:
        assert (np.isfinite(market.fields[name]) == bars(market)).all(), name


def test_a_complete_market_has_every_bar():
    assert bars(synthetic(SIZE, complete=True)).all()


def test_the_day_s_prices_fit_together(market):
    with np.errstate(invalid="ignore"):
        for name in ("open", "close", "vwap"):
            assert not (market.fields[name] > market.fields["high"]).any()
            assert not (market.fields[name] < market.fields["low"]).any()


def test_returns_look_back_and_labels_ahead(market):
    close = market.fields["close"]
    np.testing.assert_array_equal(market.fields["ret"][5], close[5] / close[4] - 1)
    np.testing.assert_array_equal(market.label[5], close[7] / close[6] - 1)
    assert np.isnan(market.fields["ret"][0]).all()
    assert np.isnan(market.label[-2:]).all()


def test_the_seed_decides(market):
    again, other = synthetic(SIZE), synthetic(SIZE, seed=8)
    for name in FIELDS:
        np.testing.assert_array_equal(again.fields[name], market.fields[name])
        assert not np.array_equal(other.fields[name], market.fields[name], equal_nan=True)


def test_a_saved_market_is_the_same(market, tmp_path):
    market.save(tmp_path)
    found = load(tmp_path)
    assert found.size == SIZE
    np.testing.assert_array_equal(found.label, market.label)
    for name in FIELDS:
        np.testing.assert_array_equal(found.fields[name], market.fields[name])


def test_the_storage_keeps_every_bar(market, tmp_path):
    store(market, tmp_path, "bench")
    stored = open_market(tmp_path, "bench").bars("all")
    assert stored.height == bars(market).sum()
    assert stored["member"].all()
    assert stored["close"].equals(market.frame()["close"])
    assert stored["ret"].equals(market.frame()["ret"])
