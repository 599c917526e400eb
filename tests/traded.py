"""Bars as an exchange trades them: in ticks, at price limits, with splits, suspensions, late listings and ends."""

from datetime import date, timedelta

import numpy as np
import polars as pl

CODES = ("SH600000", "SZ000001", "SH688001", "SZ300001", "BJ830001", "SH600519", "SZ002001", "SH601398", "SZ301001")
FIRST = date(2020, 7, 1)  # before ChiNext was reformed


def weekdays(count, first=FIRST):
    """So many days from this one on that are no weekends."""
    days = (first + timedelta(days=number) for number in range(2 * count))
    return [day for day in days if day.weekday() < 5][:count]


def traded(days, seed=0, symbols=CODES):
    """Bars of these days: what cannot be traded has its price of the day before, and some days are missing.

    The moves of a day do not depend on how many days follow.
    """
    draw = np.random.default_rng(seed)
    begin = np.where(draw.random(len(symbols)) < 0.3, draw.integers(1, 30, len(symbols)), 0)
    close, factor = draw.uniform(3, 40, len(symbols)).round(2), np.ones(len(symbols))
    rows = []
    for number, day in enumerate(days):
        moves = draw.normal(0, 0.05, len(symbols)).clip(-0.3, 0.3)
        split, halted, absent, treated = (draw.random((4, len(symbols))).T < (0.02, 0.04, 0.03, 0.2)).T
        opened, high, low = draw.random((3, len(symbols)))
        for lane, symbol in enumerate(symbols):
            before = close[lane]
            if split[lane] and not halted[lane]:
                factor[lane] *= 2.0
                before = round(before / 2, 2)
            price = before if halted[lane] else max(round(before * (1 + moves[lane]), 2), 0.5)
            first = before if halted[lane] else max(round(before + (price - before) * opened[lane], 2), 0.5)
            volume = 0.0 if halted[lane] else float(1000 * (lane + 1) + number)
            close[lane] = price
            if number >= begin[lane] and not absent[lane]:
                top, bottom = max(price, first) + high[lane], min(price, first) * (1 - low[lane] / 50)
                mean = (price + first) / 2
                cells = (first, top, bottom, price, volume, mean, mean * volume, factor[lane], bool(halted[lane]))
                rows.append((day, symbol, *cells, float(treated[lane])))
    columns = ("open", "high", "low", "close", "volume", "vwap", "amount", "adj_factor", "suspended", "st")
    return pl.DataFrame(rows, schema=["date", "symbol", *columns], orient="row")


def table(*rows, **columns):
    """Rows of reference data, each column of a polars type: ``table(("A", day), symbol=pl.String, start=pl.Date)``."""
    return pl.DataFrame(list(rows), schema=columns, orient="row")
