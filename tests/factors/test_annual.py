"""A year is as long for any span of days and any number of bars in each."""

from datetime import date, timedelta

import pytest

from factors.annual import bars_a_year


@pytest.mark.parametrize("years", [1, 2, 10])
def test_days_of_trading_are_counted_per_year_of_the_calendar(years):
    first, last = date(2010, 1, 4), date(2010, 1, 3).replace(year=2010 + years)
    every = [first + timedelta(days=day) for day in range((last - first).days + 1)]
    weekdays = [day for day in every if day.weekday() < 5]
    assert bars_a_year(first, last, len(every)) == 365
    assert bars_a_year(first, last, len(weekdays)) == pytest.approx(365.25 * 5 / 7, abs=0.6)
    assert bars_a_year(first, last, len(weekdays), 48.0) == 48 * bars_a_year(first, last, len(weekdays))


def test_a_span_of_one_day_and_one_of_hardly_any_bars_have_a_length():
    assert bars_a_year(date(2020, 1, 1), date(2020, 1, 1), 1) == 365
    assert bars_a_year(date(2000, 1, 1), date(2020, 1, 1), 1) == 1
