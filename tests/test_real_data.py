"""Real markets: figures against another computation from the raw files, and mining them."""

import json
import shutil
from datetime import date

import numpy as np
import polars as pl
import pytest
from scipy.stats import pearsonr, spearmanr

from app.panels import load_panel
from factors.evaluator import evaluate
from factors.metrics import split_metrics
from factors.parse import parse
from storage.markets import open_market


def limited(band):
    """Whether a bar opens or closes at its price limit, all of one band until 2018; bars by symbol and date."""
    price, factor, day = pl.col("close").cast(pl.Float64), pl.col("adj_factor").cast(pl.Float64), pl.col("date")
    before = (price.shift(1) * factor.shift(1)).over("symbol") / factor
    known = (day - day.shift(1).over("symbol")).dt.total_days() <= 30
    cents = (before * 100 + 1e-6).round(0)
    upper, lower = ((cents * (1 + way * band) + 1e-6).round(0) / 100 for way in (1, -1))
    slack = cents * band / 1000 + 0.005
    prices = pl.col("open").cast(pl.Float64), price
    highest, lowest = pl.max_horizontal(*prices), pl.min_horizontal(*prices)
    at = highest.is_between(upper - 0.005, upper + slack) | lowest.is_between(lower - slack, lower + 0.005)
    return (known & at).fill_null(value=False)


def weekly_reversal(shared_data, market, index):
    """Daily IC and rank IC of ``-TS_PCTCHANGE($close, 5)`` in 2010-2016, from the raw files by Polars and SciPy.

    Wide tables of adjusted closes; the label enters at the next close and leaves at the last known one a day later.
    """
    bars = pl.read_parquet(shared_data / f"{market}_daily_dev.parquet").filter(pl.col("date") <= date(2018, 12, 31))
    adjusted = pl.col("close").cast(pl.Float64) * (pl.col("adj_factor").cast(pl.Float64) if market == "cn" else 1)
    live = ~pl.col("suspended") & ~limited(0.1) if market == "cn" else pl.lit(value=True)
    bars = bars.sort("symbol", "date").select("date", "symbol", close=adjusted, live=live)
    symbols = sorted(bars["symbol"].unique())

    def wide(column):
        return bars.pivot(on="symbol", index="date", values=column).sort("date").select(symbols)

    close = wide("close").to_numpy()
    live = wide("live").fill_null(value=False).to_numpy().astype(bool)
    carried = wide("close").fill_null(strategy="forward").to_numpy()
    days = bars["date"].unique().sort().to_numpy()
    member = np.zeros(close.shape, bool)
    intervals = pl.read_parquet(shared_data / f"{market}_membership.parquet").filter(pl.col("index") == index)
    for symbol, start, end in intervals.select("symbol", "start", "end").iter_rows():
        if symbol in symbols:
            inside = days >= np.datetime64(start or date.min)
            member[:, symbols.index(symbol)] |= inside & (days < np.datetime64(end or date.max))
    first = np.array([np.flatnonzero(~np.isnan(column))[0] for column in close.T])
    ics, rank_ics = [], []
    for t in range(5, int((days <= np.datetime64("2016-12-31")).sum()) - 2):
        value = 1 - close[t] / close[t - 5]
        label = carried[t + 2] / close[t + 1] - 1
        known = member[t] & live[t] & live[t + 1] & (t - first >= 5) & ~np.isnan(value) & ~np.isnan(label)
        if known.sum() > 1:
            ics.append(pearsonr(value[known], label[known]).statistic)
            rank_ics.append(spearmanr(np.round(value[known], 13), label[known]).statistic)
    return ics, rank_ics


@pytest.mark.parametrize(("market", "index"), [("us", "sp500"), ("cn", "csi300")])
def test_a_factor_s_figures_equal_another_computation(real_markets, shared_data, market, index):
    snapshot = open_market(real_markets, market)
    panel, labels = load_panel(snapshot, index)
    train = split_metrics(evaluate(parse("-TS_PCTCHANGE($close, 5)"), panel), labels, panel)["train"]
    ics, rank_ics = weekly_reversal(shared_data, market, index)
    assert train.days == len(rank_ics)
    assert train.ic == pytest.approx(np.mean(ics), abs=1e-9)
    assert train.icir == pytest.approx(np.mean(ics) / np.std(ics, ddof=1), abs=1e-9)
    assert train.rank_ic == pytest.approx(np.mean(rank_ics), abs=1e-6)


@pytest.mark.usefixtures("endurance")
@pytest.mark.parametrize("market", ["us", "cn"])
def test_a_real_market_is_mined_alike_twice(real_markets, tmp_path, cli, market):
    found, ledgers = [], []
    for home in (tmp_path / "one", tmp_path / "other"):
        shutil.copytree(real_markets, home)
        budget = ("--rounds", "5", "--candidates", "8", "--seed", "7")
        answer = cli(home, "mine", "volume and price moving apart", "--market", market, *budget, "--json")
        found.append(json.loads(answer.out))
        ledgers.append(cli(home, "ledger", "--market", market, "--json").json)
    assert found[0]["status"] == "succeeded"
    assert found[0]["evaluations"] > 30
    # What is found on US bars does not pay for its trades.
    assert len(found[0]["accepted"]) >= (market == "cn")
    assert ledgers[0] == ledgers[1]
    assert [(f["id"], f["formula"], f["splits"]) for f in found[0]["accepted"]] == [
        (f["id"], f["formula"], f["splits"]) for f in found[1]["accepted"]
    ]
