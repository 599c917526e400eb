"""A symbol that was shifted by a known number of days is found, with that number."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from scipy.stats import norm

from factors import shift
from factors.shift import Batch, _certain, _correlations, _spectra, shifts

DAYS = 700


def moves(shifted, days=DAYS, symbols=8, seed=3):
    """Half of each symbol's moves are the market's; ``shifted`` says whose dates are how many days early."""
    draw = np.random.default_rng(seed)
    market = draw.normal(0, 0.01, days + 800)
    rows = []
    for number in range(symbols):
        late = shifted.get(f"S{number}", 0)
        own = market[400 + late : 400 + late + days] + draw.normal(0, 0.01, days)
        holes = draw.random(days) < 0.05
        rows += [
            (date(2015, 1, 1) + timedelta(days=day), f"S{number}", None if hole else float(move))
            for day, (move, hole) in enumerate(zip(own, holes, strict=True))
        ]
    return pl.DataFrame(rows, {"date": pl.Date, "symbol": pl.String, "move": pl.Float64}, orient="row").sample(
        fraction=1.0, shuffle=True, seed=seed
    )


def found(frame, size=3):
    """What is found in long moves, given in batches of some symbols."""
    frame = frame.with_columns(day=pl.col("date").rank("dense") - 1)
    market = frame.group_by("day").agg(pl.col("move").median()).sort("day")
    symbols = frame["symbol"].unique().sort().to_list()
    batches = (symbols[first : first + size] for first in range(0, len(symbols), size))
    return shifts(
        market,
        (
            Batch(
                some,
                frame.filter(pl.col("symbol").is_in(some)).select(
                    "day", "move", place=pl.col("symbol").rank("dense") - 1
                ),
            )
            for some in batches
        ),
        len(symbols),
    )


@pytest.mark.parametrize("days", [1, -1, 3, 250, -400])
def test_a_shift_is_found_with_its_days(days):
    [one] = found(moves({"S3": days}))
    assert (one.symbol, one.days) == ("S3", days)
    assert one.correlation > 0.5
    assert abs(one.as_dated) < 0.3


def test_symbols_that_are_dated_right_are_not_found():
    assert [found(moves({}, seed=seed)) for seed in range(20)] == [[]] * 20


def test_great_days_of_a_symbol_and_of_the_market_are_not_taken_for_a_shift():
    """Heavy tails, a day on which the market falls, and symbols that hardly move with it and fall on other days."""
    for seed in range(10):
        draw = np.random.default_rng(seed)
        market = draw.standard_t(4, 1000) * 0.007
        market[draw.integers(1000)] -= 0.12
        own = np.array([0.2, 0.3] + [1.0] * 28)[:, None] * market + draw.standard_t(4, (30, 1000)) * 0.012
        own[0, draw.integers(1000)] -= 0.6
        own[1, draw.integers(1000)] -= 0.7
        days = [date(2015, 1, 1) + timedelta(days=day) for day in range(1000)]
        frame = pl.DataFrame(
            {
                "date": days * 30,
                "symbol": [f"S{number}" for number in range(30) for _ in days],
                "move": own.ravel(),
            }
        )
        assert found(frame) == []


def test_what_does_not_move_with_the_market_at_all_is_not_taken_for_shifted():
    for seed in range(20):
        frame = moves({}, seed=seed)
        noise = pl.Series(np.random.default_rng(seed).normal(0, 0.01, len(frame)))
        assert found(frame.with_columns(move=pl.when(pl.col("symbol") == "S1").then(noise).otherwise("move"))) == []


def lives(seed):
    """Symbols of short lives, many holes, times of great and of small moves, some shifted and some of noise."""
    draw = np.random.default_rng(seed)
    market = draw.normal(0, 0.01, 2000) * np.exp(np.cumsum(draw.normal(0, 0.05, 2000)))
    frames = []
    for number in range(12):
        first, length = draw.integers(0, 700), draw.integers(220, 700)
        late = int(draw.choice([0, 0, 0, 1, -5, 60]))
        own = draw.uniform(0, 2) * market[400 + late + first :][:length] + draw.normal(0, 0.01, length)
        days = [date(2015, 1, 1) + timedelta(days=int(first) + day) for day in range(length)]
        frame = pl.DataFrame({"date": days, "symbol": f"S{number}", "move": own})
        frames.append(frame.filter(pl.Series(draw.random(length) > draw.uniform(0, 0.4))))
    return pl.concat(frames)


def test_the_rough_look_spares_none_that_an_exact_one_finds(monkeypatch):
    quick = [found(lives(seed), size=5) for seed in range(30)]
    monkeypatch.setattr(shift, "_perhaps", lambda table, *_: np.full(len(table), fill_value=True))
    exact = [found(lives(seed), size=12) for seed in range(30)]
    assert [[one.symbol for one in some] for some in quick] == [[one.symbol for one in some] for some in exact]
    assert sum(map(len, exact)) > 30


@pytest.mark.parametrize("symbols", [5000, 20_000])
def test_chance_finds_a_shift_in_one_market_of_ten_thousand_however_many_symbols_it_has(symbols):
    correlations = symbols * 4999
    assert norm.sf(_certain(correlations)) * correlations == pytest.approx(1e-4)
    assert _certain(5 * 999) == 6.0


def test_few_days_or_one_symbol_say_nothing():
    assert found(moves({"S3": 1}, days=150)) is None
    assert found(moves({}, symbols=1)) is None


def test_correlations_are_those_of_each_pair_of_days():
    draw = np.random.default_rng(1)
    own, market = (np.where(draw.random(40) < 0.2, np.nan, draw.normal(3, 2, 40)) for _ in range(2))
    correlations, shared = _correlations(_spectra(own), _spectra(market), 40)
    for lag in range(-30, 31):
        pairs = [(own[t], market[t + lag]) for t in range(40) if 0 <= t + lag < 40]
        pairs = [(one, other) for one, other in pairs if np.isfinite(one) and np.isfinite(other)]
        assert shared[39 + lag] == len(pairs)
        if len(pairs) > 3:
            assert correlations[39 + lag] == pytest.approx(np.corrcoef(np.array(pairs).T)[0, 1], abs=1e-9)
