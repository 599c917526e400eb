"""Rules find what was planted, on the day on which it was, and nothing else."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from storage.ingest import import_market
from storage.markets import publish
from storage.quality import RULES, examine

DAYS = [date(2020, 1, 1) + timedelta(days=day) for day in range(120)]
SYMBOLS = [f"S{number}" for number in range(12)]
DAY = DAYS[60]


def bars(days=DAYS):
    """A market whose symbols move by 2 % a day, half of it together."""
    draw = np.random.default_rng(5)
    moves = draw.normal(0, 0.014, (len(days), len(SYMBOLS))) + draw.normal(0, 0.014, (len(days), 1))
    close = 50 * np.exp(moves.cumsum(axis=0))
    before = np.vstack([close[:1], close[:-1]])
    opened = before * np.exp(0.3 * moves)
    frame = pl.DataFrame({"date": [day for day in days for _ in SYMBOLS], "symbol": SYMBOLS * len(days)})
    high, low = np.maximum(opened, close) * 1.01, np.minimum(opened, close) * 0.99
    prices = {"open": opened, "high": high, "low": low, "close": close}
    volume = draw.integers(1000, 2000, close.size).astype(float)
    return frame.with_columns(
        **{name: pl.Series(values.ravel()) for name, values in prices.items()}, volume=volume, adj_factor=pl.lit(1.0)
    )


AT = (pl.col("symbol") == "S3") & (pl.col("date") == DAY)
SINCE = (pl.col("symbol") == "S3") & (pl.col("date") >= DAY)
WEEK = (pl.col("symbol") == "S3") & pl.col("date").is_between(DAY, DAYS[66])
ALIKE = ("open", "high", "low", "close")


def where(condition, **columns):
    return [pl.when(condition).then(value).otherwise(pl.col(name)).alias(name) for name, value in columns.items()]


PLANTS = {
    "range": (where(AT, high=pl.col("low") * 0.99), DAY, "below low"),
    "outside": (where(AT, close=pl.col("high") * 1.001), DAY, " of "),
    "print": (where(AT, **{name: pl.col(name) * 1.4 for name in ALIKE}), DAY, "then"),
    "gap": (where(SINCE, **{name: pl.col(name) * 0.5 for name in ALIKE}), DAY, "%"),
    "adjustment": (where(SINCE, adj_factor=pl.lit(1.1)), DAY, "factor 1 to 1.1"),
    "volume": (where(WEEK, volume=pl.lit(0.0)), DAY, "7 days"),
    "stale": (where(WEEK, **{name: pl.lit(50.0) for name in ALIKE}), DAYS[61], "6 days of 50"),
    "absent": (None, DAY, "1 of 120 days"),
}


def found(tmp_path, frame):
    snapshot = publish(tmp_path, "m", frame, holdout=False)
    return [(one.rule, one.symbol, one.date, one.detail) for one in examine(snapshot).findings]


def test_each_rule_has_a_plant_and_a_clean_market_breaks_none(tmp_path):
    assert {rule.name for rule in RULES} == {*PLANTS, "shifted"}
    assert found(tmp_path, bars()) == []


@pytest.mark.parametrize("rule", PLANTS)
def test_what_was_planted_is_found_where_it_was(tmp_path, rule):
    change, day, words = PLANTS[rule]
    frame = bars().filter(~AT) if change is None else bars().with_columns(change)
    [(name, symbol, at, detail)] = found(tmp_path, frame)
    assert (name, symbol, at) == (rule, "S3", day)
    assert words in detail


def test_dates_that_are_shifted_are_found_with_the_days(tmp_path):
    days = [date(2020, 1, 1) + timedelta(days=day) for day in range(400)]
    early = dict(zip(days[7:], days, strict=False))
    own = pl.col("symbol") == "S3"
    frame = bars(days)
    shifted = frame.filter(own).with_columns(pl.col("date").replace_strict(early, default=None)).drop_nulls()
    [(name, symbol, first, detail)] = found(tmp_path, pl.concat([frame.filter(~own), shifted]))
    assert (name, symbol, first) == ("shifted", "S3", days[0])
    assert "as the market does 7 days later" in detail


def test_a_split_that_is_adjusted_for_breaks_no_rule(tmp_path):
    halved = {name: pl.col(name) * 0.5 for name in ALIKE}
    assert found(tmp_path, bars().with_columns(where(SINCE, **halved, adj_factor=pl.lit(2.0)))) == []


def test_what_the_whole_market_does_breaks_no_rule(tmp_path):
    crash = {name: pl.col(name) * 0.6 for name in ALIKE}
    assert found(tmp_path, bars().with_columns(where(pl.col("date") >= DAY, **crash))) == []


def test_days_on_which_it_is_suspended_are_none_to_look_at(tmp_path):
    change = where(WEEK, volume=pl.lit(0.0), close=pl.lit(50.0))
    frame = bars().with_columns(change).with_columns(suspended=WEEK)
    assert [rule for rule, *_ in found(tmp_path, frame) if rule not in {"outside", "range"}] == []


def test_nothing_of_the_hold_out_is_told(tmp_path):
    frame = bars().with_columns(PLANTS["gap"][0])
    snapshot = publish(tmp_path, "m", frame, train_end=DAYS[30], valid_end=DAYS[59])
    assert examine(snapshot).findings == ()


def test_the_shifted_dates_of_a_real_tree_are_found(tmp_path, shared_data):
    tree = import_market(tmp_path, "q", shared_data / "raw_samples" / "cn_qlib_bin", holdout=False)
    told = [(one.symbol, one.detail) for one in examine(tree).findings if one.rule == "shifted"]
    [(symbol, detail)] = told
    assert symbol == "SH603056"
    assert detail.startswith("as the market does 1456 days later")


def test_the_known_defects_of_real_bars_are_among_the_findings(tmp_path, shared_data):
    us, cn = (
        import_market(tmp_path, name, shared_data / f"{name}_daily_dev.parquet", holdout=False) for name in ("us", "cn")
    )
    told = {(one.rule, one.symbol, str(one.date)) for one in examine(us).findings}
    spun_off = [("DHR", "2016-07-05"), ("EXPE", "2011-12-21"), ("VTR", "2015-08-18"), ("TMUS", "2013-05-01")]
    assert {("gap", *one) for one in spun_off} <= told
    assert {symbol for rule, symbol, _ in told if rule == "volume"} >= {"SW", "AMCR"}
    adjusted = [one for one in examine(cn).findings if one.severity == "error"]
    assert {one.rule for one in adjusted} == {"adjustment"}
    assert ("SZ000001", date(2020, 12, 31)) in {(one.symbol, one.date) for one in adjusted}
    assert len(adjusted) < 30
