import numpy as np
import pytest

from benchmarks.market import Size, synthetic
from benchmarks.peers.metrics import Metrics
from factors.labels import ranked_labels
from factors.metrics import daily_metrics
from tests.panels import panel_of


@pytest.fixture(scope="module")
def market():
    return synthetic(Size(60, 150))


@pytest.fixture(scope="module")
def metrics(market):
    return Metrics(market)


@pytest.fixture(scope="module")
def values(market):
    """Coarse, so that many are tied."""
    return np.round(market.fields["vwap"] / market.fields["open"], 2)


def test_numpy_and_polars_agree(metrics, values):
    for one, other in zip(metrics.numpy(values), metrics.polars(metrics.long(values)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_a_long_frame_may_be_in_any_order(metrics, values):
    frame = metrics.long(values)
    np.testing.assert_array_equal(metrics.dense(frame), np.where(np.isfinite(values), values, np.nan))
    for one, other in zip(metrics.of_long(frame.reverse()), metrics.of_dense(values), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_the_correlations_are_those_of_our_engine(market, metrics, values):
    panel = panel_of(dict(market.fields), np.ones(values.shape, bool), np.zeros(values.shape[1]))
    shape = panel.shape

    def tiles(grid):
        padded = np.full((shape[1], shape[0] * shape[2]), np.nan)
        padded[:, : grid.shape[1]] = grid
        return np.ascontiguousarray(padded.reshape(shape[1], shape[0], shape[2]).transpose(1, 0, 2))

    ours = daily_metrics(tiles(values), ranked_labels(panel, {1: tiles(market.label)}), panel)
    theirs = metrics.numpy(values)
    np.testing.assert_allclose(theirs.ic, ours.ic[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(theirs.rank_ic, ours.rank_ic[0], rtol=1e-9, atol=1e-12)


def test_deciles_hold_a_tenth_each_and_order_the_labels(market, metrics):
    found = metrics.numpy(np.array(market.label))
    days = np.isfinite(market.label).sum(axis=1) >= 20
    assert (np.diff(found.deciles[days], axis=1) > 0).all()
    np.testing.assert_allclose(found.rank_ic[days], 1)


def test_an_unchanged_order_trades_nothing(market, metrics):
    values = np.broadcast_to(np.arange(60.0), market.label.shape)
    same_names = (np.isfinite(market.label[1:]) == np.isfinite(market.label[:-1])).all(axis=1)
    traded = metrics.numpy(values).turnover[1:]
    assert same_names[:-2].any()
    np.testing.assert_allclose(traded[same_names & np.isfinite(traded)], 0, atol=1e-12)
    assert (traded[~same_names & np.isfinite(traded)] > 0).all()
