"""The demo market: SYNTHETIC daily bars with planted alphas of known formula, strength and life.

No bar is real. The market shows what an honest search finds and what it must not believe. How it is made:

1. The calendar is every weekday from 2012-01-02. Instruments are listed at different times; some are
   delisted, on a drawn day or after a close below 1.00. Train ends after 5/8 of the years, valid after about
   13/16.
2. Volatility clusters: the logarithms of market and of idiosyncratic volatility are autoregressions, and
   market turbulence raises all others.
3. A return is beta x market factor + sector factor + own volatility x (noise + planted drift). All shocks are
   symmetric in simple returns, so that volatility alone predicts no rank.
4. At the close of each day t the planted formulas (:mod:`factors.demo_plants`) are evaluated on adjusted bars
   up to t. The centred rank of each among the instruments traded that day, times its strength, drifts the
   return from the close of t+1 to the close of t+2. Persistent plants drift always; the decaying one fades
   linearly to nothing; the regime plant drifts while trailing market volatility exceeds 1% a day; decoys
   drift in train alone. A formula that correlates with a plant inherits that share of its predictive power.
5. The overnight gap takes a part of the return; the intraday range scales with volatility. Volume follows
   shares outstanding, volatility, the size of the day's move and its own autoregression.
6. Now and then an instrument is suspended: its rows stay, with the last close as every price and volume 0.
7. A raw price beyond 150 is sooner or later split 2:1 or 3:1. ``adj_factor`` starts at 1 and multiplies by
   the ratio: adjusted price = raw x adj_factor, adjusted volume = raw / adj_factor.
8. Index ``synthetic200`` holds the largest two thirds of the instruments (200 of 300) by capitalisation,
   revised each January and July; fewer are left between a delisting and the next revision.

The same arguments give the same bytes. Prices are rounded to 4 decimals and volumes to whole shares before
they feed back, and so is all that comes out of an exponential, so processors that differ in its last bit
agree on the market; sums and products are elementwise, never a matrix product.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from math import sqrt

import numpy as np
import polars as pl
from numpy.typing import NDArray

from factors.demo_plants import PLANTS, Bars, Floats, Plant, planted_drift
from factors.errors import SettingError

INDEX = "synthetic200"
SECTORS = (
    "Communication",
    "Discretionary",
    "Energy",
    "Financials",
    "Health",
    "Industrials",
    "Materials",
    "Staples",
    "Technology",
    "Utilities",
)

_FIRST_YEAR = 2012
# Shares of the calendar that end eight years' train on 2016-12-31 and valid on 2018-06-29.
_TRAIN_SHARE, _VALID_SHARE = 0.625, 0.8115
_LATE_LISTINGS, _DELISTINGS, _SUSPENSIONS = 0.25, 0.1, 0.0005
_SPLIT_PRICE, _SPLIT_CHANCE, _THREE_FOR_ONE = 150.0, 0.02, 0.25
_PENNY = 1.0
_RETURN_LIMIT = 0.3

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class DemoMarket:
    """The synthetic market.

    Attributes:
        bars: date, symbol, open, high, low, close (raw, per share), volume (raw, shares), adj_factor
            (cumulative backward adjustment, 1.0 on an instrument's first day), suspended; sorted by symbol
            and date; no nulls.
        membership: index, symbol, start, end: the index holds the symbol on start <= date < end, and still
            holds it where end is null; sorted by symbol and start, intervals of a symbol never touch.
        sectors: symbol, sector; sorted by symbol.
        plants: what was planted.
        train_end: last calendar day of train.
        valid_end: last calendar day of valid; the rest is hold-out.
    """

    bars: pl.DataFrame
    membership: pl.DataFrame
    sectors: pl.DataFrame
    plants: tuple[Plant, ...]
    train_end: date
    valid_end: date


@dataclass(frozen=True, slots=True)
class _Draws:
    """All randomness of a market: arrays of days x instruments, or one value per instrument."""

    sector: NDArray[np.int64]
    price: Floats
    shares: Floats
    listed: Bools
    suspended: Bools
    common: Floats
    volatility: Floats
    noise: Floats
    gap: Floats
    upper: Floats
    lower: Floats
    activity: Floats
    split_chance: Floats
    split_ratio: Floats


@dataclass(frozen=True, slots=True)
class _Tape:
    """What the simulation writes: arrays of days x instruments, NaN or False where there is no bar."""

    raw: Bars
    adj_factor: Floats
    present: Bools


def demo_market(seed: int = 7, instruments: int = 300, years: int = 8) -> DemoMarket:
    """The synthetic demo market of a seed.

    Args:
        seed: at least 0; another seed is another market with the same plants.
        instruments: 20 to 999.
        years: 1 to 20 calendar years from 2012.

    Raises:
        SettingError: an argument outside its range.
    """
    if seed < 0 or not 20 <= instruments <= 999 or not 1 <= years <= 20:  # noqa: PLR2004  (the docstring's ranges)
        raise SettingError(
            "expected a seed of at least 0, 20 to 999 instruments and 1 to 20 years, "
            f"got seed {seed}, {instruments} instruments and {years} years"
        )
    first, last = date(_FIRST_YEAR, 1, 1), date(_FIRST_YEAR + years - 1, 12, 31)
    span = (last - first).days + 1
    train_end, valid_end = (first + timedelta(int(share * span)) for share in (_TRAIN_SHARE, _VALID_SHARE))
    weekday = pl.date_range(first, last, eager=True).alias("date")
    days = weekday.filter(weekday.dt.weekday() < 6)  # noqa: PLR2004  (Monday is 1)
    draws = _draw(np.random.default_rng(seed), len(days), instruments)
    tape = _simulate(draws, int((days <= train_end).sum()))
    symbols = pl.Series("symbol", [f"SYN{number:03d}" for number in range(1, instruments + 1)])
    return DemoMarket(
        bars=_bars(tape, draws, days, symbols),
        membership=_membership(tape, draws, days, symbols),
        sectors=pl.DataFrame({"symbol": symbols, "sector": [SECTORS[number] for number in draws.sector]}),
        plants=PLANTS,
        train_end=train_end,
        valid_end=valid_end,
    )


def _draw(rng: np.random.Generator, days: int, count: int) -> _Draws:
    def normal(*shape: int) -> Floats:
        return np.round(rng.standard_normal(shape), 6)

    shares = np.rint(6e7 * np.exp(1.4 * normal(count)))
    sector = rng.permutation(np.arange(count) % len(SECTORS))
    turbulence = _autoregression(normal(days, 1), 0.98, 0.45)
    market = np.round(0.009 * np.exp(turbulence), 6) * normal(days, 1) + 0.0003
    sectors = np.round(0.005 * np.exp(0.5 * turbulence), 6) * normal(days, len(SECTORS))
    beta = np.clip(1 + 0.25 * normal(count), 0.4, 1.6)
    level = np.clip(0.25 * normal(count), -0.4, 0.4)
    clusters = _autoregression(normal(days, count), 0.97, 0.3)
    volatility = np.minimum(np.round(0.018 * np.exp(level + clusters + 0.4 * turbulence), 6), 0.08)
    row = np.arange(days)[:, None]
    listing = np.where(rng.random(count) < _LATE_LISTINGS, rng.integers(0, days, count) * 4 // 5, 0)
    lifetime = np.where(rng.random(count) < _DELISTINGS, rng.integers(250, days + 250, count), days)
    return _Draws(
        sector=sector,
        price=np.round(40 * np.exp(0.5 * normal(count)), 2),
        shares=shares,
        listed=(row >= listing) & (row < listing + lifetime),
        suspended=_suspensions(rng, days, count) & (row > listing),
        common=beta * market + sectors[:, sector],
        volatility=volatility,
        noise=normal(days, count),
        gap=normal(days, count),
        upper=np.abs(normal(days, count)),
        lower=np.abs(normal(days, count)),
        activity=_autoregression(normal(days, count), 0.85, 0.4) + 0.25 * normal(days, count) + 0.8 * clusters,
        split_chance=rng.random((days, count)),
        split_ratio=np.where(rng.random((days, count)) < _THREE_FOR_ONE, 3.0, 2.0),
    )


def _autoregression(shocks: Floats, persistence: float, deviation: float) -> Floats:
    """A stationary AR(1) along the days with the given standard deviation."""
    path = deviation * shocks
    innovation = sqrt(1 - persistence * persistence)
    for day in range(1, len(path)):
        path[day] = persistence * path[day - 1] + innovation * path[day]
    return path


def _suspensions(rng: np.random.Generator, days: int, count: int) -> Bools:
    """Spells of 1 to 20 days."""
    spell = np.where(rng.random((days, count)) < _SUSPENSIONS, rng.integers(1, 21, (days, count)), 0)
    left = np.zeros(count, dtype=np.int64)
    suspended = np.zeros((days, count), dtype=np.bool_)
    for day in range(days):
        left = np.maximum(left - 1, spell[day])
        suspended[day] = left > 0
    return suspended


def _simulate(draws: _Draws, train_days: int) -> _Tape:
    days, count = draws.noise.shape
    raw, adjusted = (Bars(*np.full((len(Bars._fields), days, count), np.nan)) for _ in range(2))
    adj_factor, present = np.full((days, count), np.nan), np.zeros((days, count), dtype=np.bool_)
    drift = np.zeros((days + 2, count))
    price, factor, failed = draws.price, np.ones(count), np.zeros(count, dtype=np.bool_)
    for day in range(days):
        alive = draws.listed[day] & ~failed
        moving = alive & ~draws.suspended[day]
        split = moving & (price > _SPLIT_PRICE) & (draws.split_chance[day] < _SPLIT_CHANCE)
        ratio = np.where(split, draws.split_ratio[day], 1.0)
        factor = factor * ratio
        bar = _bar(draws, day, base=price / ratio, factor=factor, moving=moving, drift=drift[day])
        present[day], adj_factor[day] = alive, np.where(alive, factor, np.nan)
        for name, value in bar._asdict().items():
            getattr(raw, name)[day] = np.where(alive, value, np.nan)
            scaled = value / factor if name == "volume" else value * factor
            getattr(adjusted, name)[day] = np.where(alive, scaled, np.nan)
        price = np.where(alive, bar.close, price)
        failed |= alive & (bar.close < _PENNY)
        drift[day + 2] = planted_drift(adjusted, day, moving, elapsed=day / days, train=day + 2 < train_days)
    return _Tape(raw, adj_factor, present)


def _bar(draws: _Draws, day: int, *, base: Floats, factor: Floats, moving: Bools, drift: Floats) -> Bars:
    """The raw bars of one day from yesterday's closes ``base``, repeated where nothing moves."""
    volatility = np.where(moving, draws.volatility[day], 0.0)
    move = np.clip(draws.common[day] + volatility * (draws.noise[day] + drift), -_RETURN_LIMIT, _RETURN_LIMIT)
    move = np.where(moving, move, 0.0)
    opening = base * (1 + 0.4 * move + 0.45 * volatility * draws.gap[day])
    close = base * (1 + move)
    high = np.maximum(opening, close) * (1 + 0.4 * volatility * draws.upper[day])
    low = np.minimum(opening, close) * (1 - 0.4 * volatility * draws.lower[day])
    busy = draws.activity[day] + 0.25 * np.abs(move) / draws.volatility[day]
    return Bars(
        open=np.round(opening, 4),
        high=np.round(high, 4),
        low=np.round(low, 4),
        close=np.round(close, 4),
        volume=np.where(moving, np.rint(0.003 * draws.shares * factor * np.exp(busy)), 0.0),
    )


def _bars(tape: _Tape, draws: _Draws, days: pl.Series, symbols: pl.Series) -> pl.DataFrame:
    column, row = np.nonzero(tape.present.T)
    prices = {name: getattr(tape.raw, name)[row, column] for name in ("open", "high", "low", "close")}
    return pl.DataFrame(
        {
            "date": days.gather(row),
            "symbol": symbols.gather(column),
            **prices,
            "volume": tape.raw.volume[row, column].astype(np.int64),
            "adj_factor": tape.adj_factor[row, column],
            "suspended": draws.suspended[row, column],
        }
    )


def _membership(tape: _Tape, draws: _Draws, days: pl.Series, symbols: pl.Series) -> pl.DataFrame:
    size = round(len(symbols) * 2 / 3)
    half_years = (days.dt.year() * 2 + days.dt.month() // 7).to_numpy()
    member = np.zeros_like(tape.present)
    for half_year in np.unique(half_years):
        (rows,) = np.nonzero(half_years == half_year)
        # A revision knows yesterday's closes; the first one has only its own day's.
        known = max(rows[0] - 1, 0)
        value = tape.raw.close[known] * tape.adj_factor[known] * draws.shares
        candidates = np.flatnonzero(tape.present[rows[0]] & np.isfinite(value))
        chosen = candidates[np.argsort(-value[candidates], kind="stable")[:size]]
        member[np.ix_(rows, chosen)] = tape.present[np.ix_(rows, chosen)]
    edges = np.diff(np.pad(member.astype(np.int8), ((1, 1), (0, 0))), axis=0).T
    column, start = np.nonzero(edges == 1)
    end = np.nonzero(edges == -1)[1]
    return pl.DataFrame(
        {
            "index": [INDEX] * len(start),
            "symbol": symbols.gather(column),
            "start": days.gather(start),
            "end": days.extend_constant(None, 1).gather(end),
        }
    )
