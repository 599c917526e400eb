"""Rules find what was planted, on the day on which it was, and nothing else."""

from datetime import date, datetime, time, timedelta

import duckdb
import polars as pl
import pytest

from storage import quality, rules
from storage.ingest import import_market
from storage.markets import publish
from storage.quality import RULES, examine, inspect
from tests.lookalikes import ALIKE, DAYS, SYMBOLS, bars, connected, told, where

ALL = [rule.name for rule in RULES]
DAY = DAYS[60]

AT = (pl.col("symbol") == "S3") & (pl.col("date") == DAY)
SINCE = (pl.col("symbol") == "S3") & (pl.col("date") >= DAY)
WEEK = (pl.col("symbol") == "S3") & pl.col("date").is_between(DAY, DAYS[66])
PLANTS = {
    "price": (where(AT, low=pl.lit(0.0)), DAY, "0"),
    "range": (where(AT, high=pl.col("low") * 0.99), DAY, "below low"),
    "outside": (where(AT, close=pl.col("high") * 1.001), DAY, " of "),
    "print": (where(AT, **{name: pl.col(name) * 1.4 for name in ALIKE}), DAY, "then"),
    "gap": (where(SINCE, **{name: pl.col(name) * 0.5 for name in ALIKE}), DAY, "%"),
    "adjustment": (where(SINCE, adj_factor=pl.lit(1.1)), DAY, "factor 1 to 1.1"),
    "volume": (where(WEEK, volume=pl.lit(0.0)), DAY, "7 days"),
    "stale": (where(WEEK, **{name: pl.lit(50.0) for name in ALIKE}), DAYS[61], "6 days of 50"),
    "absent": (~AT, DAY, "1 of 120 days"),
    "ended": ((pl.col("symbol") != "S3") | (pl.col("date") <= DAY), DAY, "59 days before the market"),
}
ELSEWHERE = {"shifted", "session", "closed", "calendar", "hours", "survivors"}  # have tests of their own


def found(tmp_path, frame):
    snapshot = publish(tmp_path, "m", frame, holdout=False, accept=ALL)
    return [(one.rule, one.symbol, one.date, one.detail) for one in examine(snapshot).findings]


def test_each_rule_has_a_plant_and_a_clean_market_breaks_none(tmp_path):
    assert {rule.name for rule in RULES} == {*PLANTS, *ELSEWHERE}
    assert found(tmp_path, bars()) == []


@pytest.mark.parametrize("rule", PLANTS)
def test_what_was_planted_is_found_where_it_was(tmp_path, rule):
    change, day, words = PLANTS[rule]
    frame = bars().filter(change) if isinstance(change, pl.Expr) else bars().with_columns(change)
    [(name, symbol, at, detail)] = found(tmp_path, frame)
    assert (name, symbol, at) == (rule, "S3", day)
    assert words in detail


@pytest.mark.parametrize("rule", ["gap", "print"])
def test_what_the_market_does_is_worked_out_some_bars_at_a_time(rule, monkeypatch):
    frame = bars().with_columns(PLANTS[rule][0])
    whole = told(frame)
    with connected(frame) as con:
        rules.lay_out(con)
        market = con.execute("FROM look.market ORDER BY row").fetchall()
    monkeypatch.setattr(rules, "_AT_ONCE", 5 * len(SYMBOLS))
    with connected(frame) as con:
        rules.lay_out(con)
        assert con.execute("FROM look.market ORDER BY row").fetchall() == market
    assert told(frame) == whole
    assert {name for name, *_ in whole} == {rule}
    assert len(market) == len(DAYS)


def test_dates_that_are_shifted_are_found_with_the_days(tmp_path):
    days = [date(2020, 1, 1) + timedelta(days=day) for day in range(400)]
    early = dict(zip(days[7:], days, strict=False))
    own = pl.col("symbol") == "S3"
    frame = bars(days)
    shifted = frame.filter(own).with_columns(pl.col("date").replace_strict(early, default=None)).drop_nulls()
    [(name, symbol, first, detail)] = found(tmp_path, pl.concat([frame.filter(~own), shifted]))
    assert (name, symbol, first) == ("shifted", "S3", days[0])
    assert "as the market does 7 days later" in detail


def test_what_ended_with_a_known_return_is_not_told():
    ended = bars().filter(PLANTS["ended"][0])
    assert [rule for rule, *_ in told(ended)] == ["ended"]
    delistings = pl.DataFrame({"symbol": ["S3"], "date": [DAY], "return": [-0.3]})
    assert told(ended, delistings=delistings) == []


def test_members_that_have_no_bars_are_counted_year_by_year():
    days = [date(2019, 12, 20) + timedelta(days=day) for day in range(60)]
    gone = [f"G{number}" for number in range(4)]
    rows = [("big", symbol, None, None) for symbol in SYMBOLS]
    rows += [("big", symbol, date(2010, 1, 1), date(2020, 1, 1)) for symbol in gone]
    rows += [("small", symbol, None, None) for symbol in SYMBOLS[:3]]
    membership = pl.DataFrame(
        rows, {"universe": pl.String, "symbol": pl.String, "start": pl.Date, "end": pl.Date}, orient="row"
    )
    assert told(bars(days), membership=membership) == [
        ("survivors", "*", days[0], "big: 12 of 16 members have bars in 2019")
    ]


def test_a_market_of_many_years_in_which_nothing_ends_is_told():
    days = [date(2010, 1, 4) + timedelta(days=day) for day in range(3100)]
    frame = bars(days).with_columns(where(pl.lit(value=True), high=pl.col("high") * 2))
    [(rule, symbol, day, detail)] = told(frame)
    assert (rule, symbol, day) == ("survivors", "*", days[0])
    assert detail == f"none of 12 instruments ends before {days[-1]}"
    ended = frame.filter((pl.col("symbol") != "S3") | (pl.col("date") <= days[3000]))
    assert [rule for rule, *_ in told(ended)] == ["ended"]


def test_what_one_has_alone_is_not_missing_from_the_others():
    frame = bars().filter((pl.col("symbol") == "S3") | (pl.col("date") != DAY))
    assert told(frame) == []
    more = pl.concat([bars(), bars().with_columns(symbol="T" + pl.col("symbol"))])
    last = more.filter(pl.col("symbol").is_in(["S3", "S4"]) | (pl.col("date") < DAYS[10])).filter(~AT)
    assert [one for one in told(last) if one[0] == "absent"] == [("absent", "S3", DAY, "1 of 120 days")]
    few = bars().filter(pl.col("symbol").is_in(["S3", "S4"]) | (pl.col("date") != DAY))
    assert [(rule, day, detail) for rule, _, day, detail in told(few)] == [("absent", DAY, "1 of 120 days")] * 10


def test_more_findings_than_are_told_are_counted(monkeypatch):
    monkeypatch.setattr(quality, "MOST", 3)
    with connected(bars().with_columns(high=pl.col("low") * 0.99)) as con:
        result = inspect(con, None)
    assert [(one.rule, one.symbol) for one in result.findings] == [("range", "S0")] * 3
    assert result.more == {"range": len(DAYS) * len(SYMBOLS) - 3}


def test_a_connection_is_left_as_it_was():
    with connected(bars()) as con:
        before = con.execute("SELECT database_name FROM duckdb_databases()").fetchall()
        assert inspect(con, None) == inspect(con, None)
        con.execute("ALTER TABLE bars RENAME low TO lowest")
        with pytest.raises(duckdb.Error):
            inspect(con, None)
        assert con.execute("SELECT database_name FROM duckdb_databases()").fetchall() == before
        assert con.execute("SELECT name FROM duckdb_variables()").fetchall() == []


# bars of less than a day

TIMES = [time(10), time(11), time(12), time(13), time(14)]
HOURS = [datetime.combine(day, hour) for day in DAYS for hour in TIMES]
AFTERWARDS = (pl.col("symbol") == "S3") & pl.col("date").is_between(HOURS[200], HOURS[230])


def test_bars_of_less_than_a_day_that_are_right_break_no_rule():
    assert told(bars(HOURS)) == []


@pytest.mark.parametrize(
    ("rule", "change", "at", "words"),
    [
        ("volume", {"volume": 0.0}, HOURS[200], "31 bars"),
        ("stale", dict.fromkeys(ALIKE, 58.0), HOURS[201], "30 bars of 58"),
    ],
)
def test_a_week_is_a_week_whatever_the_bars(rule, change, at, words):
    constants = {name: pl.lit(value) for name, value in change.items()}
    assert told(bars(HOURS).with_columns(where(AFTERWARDS, **constants))) == [(rule, "S3", at, words)]
    short = AFTERWARDS & (pl.col("date") < HOURS[224])
    assert told(bars(HOURS).with_columns(where(short, **constants))) == []


def test_a_bar_of_less_than_a_day_is_missing_when_others_have_one():
    gone = (pl.col("symbol") == "S3") & (pl.col("date") == HOURS[77])
    assert told(bars(HOURS).filter(~gone)) == [("absent", "S3", HOURS[77], "1 of 600 bars")]


def test_dates_of_bars_of_less_than_a_day_are_compared_by_the_day():
    days = [date(2020, 1, 1) + timedelta(days=day) for day in range(400)]
    frame = bars([datetime.combine(day, hour) for day in days for hour in TIMES[:2]])
    own = pl.col("symbol") == "S3"
    late = frame.filter(own).with_columns(pl.col("date") + pl.duration(days=7))
    late = late.filter(pl.col("date") < datetime(2021, 2, 4))  # noqa: DTZ001 - local
    planted = pl.concat([frame.filter(~own), late])
    [(rule, symbol, first, detail)] = told(planted)
    assert (rule, symbol, first) == ("shifted", "S3", datetime(2020, 1, 8, 10))  # noqa: DTZ001 - local
    assert "7 days earlier" in detail
    closes = planted.filter(pl.col("date").dt.hour() == 11).with_columns(pl.col("date").dt.date())
    assert [one[3] for one in told(closes) if one[0] == "shifted"] == [detail]


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


def test_prices_that_were_not_traded_may_be_anything():
    frame = bars().with_columns(where(AT, open=pl.lit(0.0), low=pl.lit(-1.0))).with_columns(suspended=AT)
    assert told(frame) == []


def test_prices_that_stay_as_nothing_is_traded_are_told_once():
    same = {name: pl.lit(50.0) for name in ALIKE}
    assert [rule for rule, *_ in told(bars().with_columns(where(WEEK, volume=pl.lit(0.0), **same)))] == ["volume"]


def test_a_last_price_alone_may_stay():
    assert "stale" not in {rule for rule, *_ in told(bars().with_columns(where(WEEK, close=pl.lit(50.0))))}


def test_nothing_of_the_hold_out_is_told(tmp_path):
    frame = bars().with_columns(PLANTS["gap"][0])
    snapshot = publish(
        tmp_path, "m", frame, train_end=DAYS[30], valid_end=DAYS[59], accept=[rule.name for rule in RULES]
    )
    assert examine(snapshot).findings == ()


def test_the_shifted_dates_of_a_real_tree_are_found(tmp_path, shared_data):
    tree = import_market(tmp_path, "q", shared_data / "raw_samples" / "cn_qlib_bin", holdout=False, accept=ALL)
    told = [(one.symbol, one.detail) for one in examine(tree).findings if one.rule == "shifted"]
    [(symbol, detail)] = told
    assert symbol == "SH603056"
    assert detail.startswith("as the market does 1456 days later")
