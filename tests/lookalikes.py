"""Markets that look as real ones do, for defects to be planted in."""

from datetime import date, timedelta

import duckdb
import numpy as np
import polars as pl

from factors.frame import PlainStream
from storage.quality import inspect

DAYS = [date(2020, 1, 1) + timedelta(days=day) for day in range(120)]
SYMBOLS = [f"S{number}" for number in range(12)]
ALIKE = ("open", "high", "low", "close")


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


def where(condition, **columns):
    return [pl.when(condition).then(value).otherwise(pl.col(name)).alias(name) for name, value in columns.items()]


def connected(frame, **tables):
    """A connection with these bars, none suspended and nobody a member unless that is given."""
    con = duckdb.connect(config={"threads": 2})
    nobody = pl.DataFrame(schema={"universe": pl.String, "symbol": pl.String, "start": pl.Date, "end": pl.Date})
    whole = frame if "suspended" in frame.columns else frame.with_columns(suspended=pl.lit(value=False))
    for name, table in {"bars": whole, "membership": nobody, **tables}.items():
        con.register("source", PlainStream(table))
        con.execute(f"CREATE TABLE {name} AS FROM source")
        con.unregister("source")
    return con


def told(frame, exchange=None, **tables):
    with connected(frame, **tables) as con:
        return [(one.rule, one.symbol, one.date, one.detail) for one in inspect(con, exchange).findings]
