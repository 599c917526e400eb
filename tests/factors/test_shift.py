"""A symbol that was shifted by a known number of days is found, with that number."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from factors.shift import _correlations, shifts

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


@pytest.mark.parametrize("days", [1, -1, 3, 250, -400])
def test_a_shift_is_found_with_its_days(days):
    [one] = shifts(moves({"S3": days}))
    assert (one.symbol, one.days) == ("S3", days)
    assert one.correlation > 0.5
    assert abs(one.as_dated) < 0.3


def test_symbols_that_are_dated_right_are_not_found():
    assert [shifts(moves({}, seed=seed)) for seed in range(20)] == [[]] * 20


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
        assert shifts(frame) == []


def test_what_does_not_move_with_the_market_at_all_is_not_taken_for_shifted():
    for seed in range(20):
        frame = moves({}, seed=seed)
        noise = pl.Series(np.random.default_rng(seed).normal(0, 0.01, len(frame)))
        assert shifts(frame.with_columns(move=pl.when(pl.col("symbol") == "S1").then(noise).otherwise("move"))) == []


def test_few_days_or_one_symbol_say_nothing():
    assert shifts(moves({"S3": 1}, days=150)) is None
    assert shifts(moves({}, symbols=1)) is None


def test_correlations_are_those_of_each_pair_of_days():
    draw = np.random.default_rng(1)
    own, market = (np.where(draw.random(40) < 0.2, np.nan, draw.normal(3, 2, 40)) for _ in range(2))
    found, shared = _correlations(own, market)
    for lag in range(-30, 31):
        pairs = [(own[t], market[t + lag]) for t in range(40) if 0 <= t + lag < 40]
        pairs = [(one, other) for one, other in pairs if np.isfinite(one) and np.isfinite(other)]
        assert shared[39 + lag] == len(pairs)
        if len(pairs) > 3:
            assert found[39 + lag] == pytest.approx(np.corrcoef(np.array(pairs).T)[0, 1], abs=1e-9)
