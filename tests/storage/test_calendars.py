"""Days that are missing and days that should not be are found by the sessions that an exchange is known to have had."""

import sys
from datetime import date, datetime, time, timedelta

import duckdb
import polars as pl
import pytest

from factors.errors import SettingError
from storage.calendars import bars_per_year, check_exchange, sessions
from storage.quality import inspect
from tests.lookalikes import bars, connected, told

pytestmark = pytest.mark.usefixtures("calendars")

S3 = pl.col("symbol") == "S3"


def days_of(exchange, first, last):
    return [day for day in sessions(exchange, first, last).days if first <= day <= last]


@pytest.fixture(scope="module")
def new_york():
    """From before Memorial Day to after Labor Day."""
    return days_of("XNYS", date(2019, 5, 20), date(2019, 9, 20))


def test_sessions_are_those_that_the_exchange_has_had(new_york):
    assert not {date(2019, 5, 27), date(2019, 7, 4), date(2019, 9, 2), date(2019, 8, 3)} & set(new_york)
    assert {date(2019, 7, 3), date(2019, 7, 5)} <= set(new_york)


def test_a_market_that_keeps_its_sessions_breaks_no_rule(new_york):
    assert told(bars(new_york), "XNYS") == []


def test_sessions_without_a_bar_are_told_of_the_market(new_york):
    gone = [*new_york[40:43], new_york[60]]
    assert told(bars([day for day in new_york if day not in gone]), "XNYS") == [
        ("calendar", "*", gone[0], f"3 sessions, to {gone[2]}"),
        ("calendar", "*", gone[3], f"1 sessions, to {gone[3]}"),
    ]


def test_bars_of_one_on_days_without_a_session_are_an_error(new_york):
    friday, fourth = date(2019, 6, 14), date(2019, 7, 4)
    moved = pl.when(S3 & (pl.col("date") == friday)).then(friday + timedelta(days=1)).otherwise("date")
    extra = bars(new_york).filter(S3 & (pl.col("date") == date(2019, 7, 3))).with_columns(date=fourth)
    frame = pl.concat([bars(new_york).with_columns(date=moved), extra])
    with connected(frame) as con:
        found = inspect(con, "XNYS").findings
    [one] = [one for one in found if one.rule != "absent"]
    assert (one.rule, one.severity, one.symbol, one.date) == ("session", "error", "S3", date(2019, 6, 15))
    assert one.detail == "2 days, to 2019-07-04"
    assert [(one.symbol, one.date) for one in found if one.rule == "absent"] == [("S3", friday)]


def test_days_without_a_session_on_which_the_market_trades_are_told_once_a_year():
    days = days_of("XNYS", date(2018, 12, 1), date(2019, 2, 28))
    holidays = [date(2018, 12, 25), date(2019, 1, 1), date(2019, 1, 21)]
    assert told(bars(sorted([*days, *holidays])), "XNYS") == [
        ("closed", "*", holidays[0], "1 days in 2018, to 2018-12-25"),
        ("closed", "*", holidays[1], "2 days in 2019, to 2019-01-21"),
    ]


def test_a_market_that_never_closes_is_told_by_its_weekends():
    days = [date(2020, 1, 1) + timedelta(days=day) for day in range(90)]
    assert told(bars(days), "24/7") == []
    [(rule, symbol, day, detail)] = told(bars(days), "XNYS")
    assert (rule, symbol, day, detail) == ("closed", "*", date(2020, 1, 1), "29 days in 2020, to 2020-03-29")


def test_days_of_which_nothing_is_known_are_said_to_be():
    before = [date(1990, 11, 1) + timedelta(days=day) for day in range(20)]
    days = [*before, *days_of("XSHG", date(1990, 12, 3), date(1991, 4, 1))]
    words = "20 days are not among 1990-12-03 to 2026-12-31, of which it is known"
    assert told(bars(days), "XSHG") == [("calendar", "*", before[0], words)]
    [(rule, _, _, words)] = told(bars([day.replace(year=1980) for day in before]), "XSHG")
    assert (rule, words) == ("calendar", "20 days are not among 1990-12-03 to 2026-12-31, of which it is known")


def test_an_exchange_that_is_not_known_is_named_with_those_that_are_near():
    check_exchange("24/7")
    for name, near in (("XSHE", "'XSHG'"), ("xnys", "'XNYS'"), ("", "such as XNYS or XSHG, or 24/7")):
        with pytest.raises(SettingError, match=near), connected(bars()) as con:
            inspect(con, name)


def test_without_the_library_it_is_said_how_to_have_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "exchange_calendars", None)
    with pytest.raises(SettingError, match=r"pip install 'alphaagent\[calendars\]'"):
        check_exchange("XNYS")
    asked = ["session", "closed", "calendar", "hours"]
    for exchange, reason in (("XNYS", "pip install 'alphaagent[calendars]'"), (None, "no exchange is named")):
        with connected(bars()) as con:
            unsaid = inspect(con, exchange).unsaid
        assert [name for name, why in unsaid.items() if reason in why] == asked


# bars of less than a day

HONG_KONG = [time(10), time(11), time(12), time(13), time(15), time(16)]  # its break is from 12 to 13


@pytest.fixture(scope="module")
def hong_kong():
    days = days_of("XHKG", date(2019, 5, 20), date(2019, 9, 20))
    return [datetime.combine(day, hour) for day in days for hour in HONG_KONG]


def test_bars_within_hours_break_no_rule(hong_kong):
    assert told(bars(hong_kong), "XHKG") == []


@pytest.mark.parametrize("hour", [time(8), time(9, 29), time(12, 30), time(16, 1), time(23)])
def test_a_bar_before_after_or_in_the_break_is_found(hong_kong, hour):
    day = hong_kong[60].date()
    near = hong_kong[60] if hour < time(10) else max(at for at in hong_kong if at < datetime.combine(day, hour))
    extra = bars(hong_kong).filter(S3 & (pl.col("date") == near)).with_columns(date=datetime.combine(day, hour))
    frame = pl.concat([bars(hong_kong), extra.cast({"date": pl.Datetime("us")})])
    assert told(frame, "XHKG") == [("hours", "S3", datetime.combine(day, hour), "1 bars")]


def test_hours_that_the_whole_market_keeps_are_told_of_it(hong_kong):
    early = [datetime.combine(at.date(), time(7)) for at in hong_kong if at.time() == time(10)]
    [(rule, symbol, at, detail)] = told(bars(sorted([*hong_kong, *early])), "XHKG")
    assert (rule, symbol, at) == ("hours", "*", early[0])
    assert detail == f"{12 * len(early)} bars of 12 symbols"


def test_bars_of_less_than_a_day_are_held_to_the_sessions_by_their_days(hong_kong):
    days = sorted({at.date() for at in hong_kong})
    kept = [at for at in hong_kong if at.date() != days[30]]
    assert told(bars(kept), "XHKG") == [("calendar", "*", days[30], f"1 sessions, to {days[30]}")]
    saturdays = [datetime.combine(date(2019, 6, 15), hour) for hour in HONG_KONG]
    assert told(bars(sorted({*hong_kong, *saturdays})), "XHKG") == [
        ("closed", "*", saturdays[0], "1 days in 2019, to 2019-06-15")
    ]


# how many bars make up a year


@pytest.mark.parametrize(("exchange", "days"), [("XNYS", 252), ("XSHG", 243), ("24/7", 365)])
def test_a_year_has_the_sessions_of_its_exchange_or_those_of_the_bars(exchange, days):
    held = days_of(exchange, date(2010, 1, 1), date(2019, 12, 31))
    with duckdb.connect() as con:
        con.execute("CREATE TABLE bars AS SELECT unnest(?::DATE[]) AS date", [held])
        assert bars_per_year(con, exchange) == days
        assert bars_per_year(con, None) == pytest.approx(days, abs=1)
        con.execute("DELETE FROM bars WHERE date > DATE '2010-03-01'")
        assert bars_per_year(con, exchange) == pytest.approx(days, abs=1)


def test_a_year_of_bars_of_less_than_a_day_has_those_of_each_day(hong_kong):
    with connected(bars(hong_kong)) as con:
        assert bars_per_year(con, "XHKG") == pytest.approx(246 * len(HONG_KONG), abs=2 * len(HONG_KONG))
