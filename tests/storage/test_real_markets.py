"""Real bars as they are imported: what is there, and what is known to be wrong with them."""

import math
from datetime import date

import polars as pl
import pytest

from storage.acceptance import recorded
from storage.ingest import import_market
from storage.markets import list_markets, open_market
from tests.versions import rows


@pytest.fixture(scope="module")
def found(real_markets, tmp_path_factory, shared_data):
    """What was found as the markets were imported, by market."""
    home = tmp_path_factory.mktemp("crypto")
    path = shared_data / "crypto_daily_dev.parquet"
    crypto = import_market(home, "crypto", path, holdout=False, rules="crypto", accept=["price"])
    return {
        snapshot.market: (snapshot, recorded(snapshot).findings) for snapshot in (*list_markets(real_markets), crypto)
    }


def test_real_markets_are_imported_whole(real_markets):
    cn, us = list_markets(real_markets)
    assert (us.instruments, us.rows, us.last_date) == (483, 1042368, date(2018, 12, 31))
    assert (cn.instruments, cn.rows, cn.last_date) == (798, 1544389, date(2018, 12, 28))
    assert us.universes == ("sp500", "all")
    assert cn.universes == ("csi300", "csi500", "all")
    for snapshot, total in ((us, 1414836), (cn, 2153898)):
        held_out = rows(snapshot.path, "holdout", "bars")
        assert min(day for day, *_ in held_out) == date(2019, 1, 2)
        assert len(held_out) + snapshot.rows == total


def test_a_real_index_keeps_its_size_when_members_are_replaced(real_markets):
    bars = open_market(real_markets, "cn").bars("csi300")
    sizes = bars.filter("member").group_by("date").len()["len"]
    assert (sizes.min(), sizes.max()) == (279, 289)
    assert bars.select("date", "symbol").is_unique().all()
    assert bars.filter("member")["sector"].null_count() < 0.1 * bars["member"].sum()


def test_real_prices_are_continuous_over_a_split(real_markets, shared_data):
    split = date(2016, 5, 23)  # 10 shares became 20
    raw = pl.read_parquet(shared_data / "cn_daily_dev.parquet").filter(symbol="SH600008").sort("date")
    adjusted = open_market(real_markets, "cn").bars("all").filter(symbol="SH600008")

    def moved(bars, column):
        return bars.with_columns(pl.col(column).pct_change()).filter(date=split)[column].item()

    assert moved(raw, "close") < -0.49
    assert abs(moved(adjusted, "close")) < 0.03
    assert adjusted["close"][0] == raw["close"][0]
    ratio = raw.filter(date=split)["adj_factor"].item() / raw["adj_factor"][0]
    shares = raw.filter(date=split)["volume"].item()
    assert math.isclose(adjusted.filter(date=split)["volume"].item(), shares / ratio, rel_tol=1e-6)


@pytest.mark.usefixtures("calendars")
def test_real_markets_keep_the_sessions_of_their_exchanges(found):
    for market, (snapshot, findings) in found.items():
        assert {one.rule for one in findings} & {"session", "closed", "calendar"} == set()
        assert [one.symbol for one in findings if one.rule == "price"] == ["BCHUSDT"] * (market == "crypto")
        ends = [one.detail for one in findings if one.rule == "survivors" and one.detail.startswith("none of")]
        assert ends == [f"none of {snapshot.instruments} instruments ends before {snapshot.last_date}"]


def test_the_known_defects_of_real_bars_are_among_the_findings(found):
    _, us = found["us"]
    told = {(one.rule, one.symbol, str(one.date)) for one in us}
    missed = {one.detail for one in us if one.rule == "survivors"}
    assert "sp500: 291 of 538 members have bars in 2010" in missed
    assert len(missed) == 10
    spun_off = [("DHR", "2016-07-05"), ("EXPE", "2011-12-21"), ("VTR", "2015-08-18"), ("TMUS", "2013-05-01")]
    assert {("gap", *one) for one in spun_off} <= told
    assert {symbol for rule, symbol, _ in told if rule == "volume"} >= {"SW", "AMCR"}
    snapshot, cn = found["cn"]
    errors = [one for one in cn if one.severity == "error"]
    assert {one.rule for one in errors} == set(snapshot.accepted) == {"adjustment"}
    assert len(errors) == 12
    assert "csi500: 210 of 500 members have bars in 2010" in {one.detail for one in cn}
