"""Panels for tests, built from ``[T, N]`` grids through the same door as real bars."""

from dataclasses import replace
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl

from factors.evaluator import evaluate
from factors.expression import Call, Expr, Field, Number
from factors.panel import Panel


def bars_of(fields, member, sector, suspended=None):
    """Bars of the cells in which any field is known, one business-like day a row."""
    known = np.any([~np.isnan(grid) for grid in fields.values()], axis=0)
    row, lane = np.nonzero(known)
    start = date(2015, 1, 1)
    return pl.DataFrame(
        {
            "date": [start + timedelta(days=int(t)) for t in row],
            "symbol": [f"S{i:03d}" for i in lane],
            **{name: grid[row, lane] for name, grid in fields.items()},
            "suspended": np.zeros(len(row), bool) if suspended is None else suspended[row, lane],
            "member": member[row, lane],
            "sector": [None if sector[i] < 0 else f"sector {sector[i]}" for i in lane],
        },
        schema_overrides={"sector": pl.String},
    )


def panel_of(fields, member, sector, suspended=None, train_rows=None):
    """A panel whose first ``train_rows`` rows are train; an instrument without any bar is left out."""
    rows = len(member) if train_rows is None else train_rows
    return Panel.from_bars(bars_of(fields, member, sector, suspended), date(2015, 1, 1) + timedelta(days=rows - 1))


def spread(bars, a_day=4):
    """The same bars with so many rows a day: each date becomes a time of a day, all in order."""
    dates = bars["date"].unique().sort()
    first = datetime.fromisoformat("2015-01-01T09:30")
    times = [first + timedelta(days=i // a_day, minutes=4 * (i % a_day)) for i in range(len(dates))]
    return bars.with_columns(pl.Series(times).gather(dates.search_sorted(bars["date"])).alias("date"))


def eventful_panel(rows=400, instruments=70, seed=0):
    """A panel of :func:`eventful` bars."""
    return panel_of(*eventful(rows, instruments, seed))


def eventful(rows=400, instruments=70, seed=0):
    """What bars are made of: a random walk around 1 on two tiles.

    With late listings, gaps, suspensions, nulls, and membership that comes and goes.
    """
    draw = np.random.default_rng(seed)
    shape = rows, instruments
    close = np.exp(np.cumsum(draw.normal(0, 0.02, shape), axis=0) / 4)
    fields = {
        "open": close * np.exp(draw.normal(0, 0.01, shape)),
        "high": close * np.exp(np.abs(draw.normal(0, 0.01, shape))),
        "low": close * np.exp(-np.abs(draw.normal(0, 0.01, shape))),
        "close": close,
        "volume": np.round(np.exp(draw.normal(11, 1, shape))),
    }
    row = np.arange(rows)[:, None]
    listed = np.where(draw.random(instruments) < 0.3, draw.integers(1, rows, instruments), 0)
    delisted = np.where(draw.random(instruments) < 0.2, draw.integers(1, rows, instruments), rows)
    missing = (row < listed) | (row >= delisted) | (draw.random(shape) < 0.02)
    for grid in fields.values():
        grid[missing | (draw.random(shape) < 0.01)] = np.nan
    joined, left = np.sort(draw.integers(-rows, 2 * rows, (2, instruments)), axis=0)
    member = ((row >= joined) & (row < left)) | (np.arange(instruments) % 5 == 0)
    member[:, 3::8] = False
    return fields, member, draw.integers(-1, 4, instruments), draw.random(shape) < 0.03


def grid_of(values, panel, names, days):
    """``[T, N]`` from tiles: NaN for instruments and days that the panel does not hold."""
    grid = np.full((days, names), np.nan)
    rows = (panel.dates - np.datetime64("2015-01-01")).astype(int)
    for lane, symbol in enumerate(panel.symbols):
        grid[rows, int(symbol[1:])] = values[lane // 64, :, lane % 64]
    return grid


def unmasked(expr, panel):
    """Values of a sub-expression as those around it see them: neither the missing bar nor the look-back is masked."""
    everywhere = replace(panel, bar=np.ones(panel.shape, bool), first_row=np.full_like(panel.first_row, -10_000))
    return evaluate(expr, everywhere)


def tree_of(expr: Expr):
    """The reference's nested tuples of an expression."""
    if isinstance(expr, Field):
        return ("field", expr.name)
    if isinstance(expr, Number):
        return ("number", expr.value)
    assert isinstance(expr, Call)
    return ("call", expr.op.name, [tree_of(arg) for arg in expr.args])
