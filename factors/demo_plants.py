"""The alphas planted in the synthetic demo market: their formulas, and the drift they give to returns.

Each formula is in the factor language, on adjusted bars. The persistent ones are none that is published, nor do they
rank as one does: what a search finds of them is its own. The functions below are the generator's own evaluation of
them, one cross-section at a time, on the trailing window of bars that ends today.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MARKET_WINDOW = 20
_CALM_LIMIT = 0.01
# Common factors and ranks dilute a drift that is measured in idiosyncratic volatility.
_DILUTION = 1.15


@dataclass(frozen=True, slots=True)
class Plant:
    """A predictor built into the market.

    Attributes:
        name: a short identifier.
        kind: ``persistent`` works on every day, ``decaying`` fades linearly to nothing at the last day,
            ``regime`` works on days of high market volatility, ``decoy`` works in train alone.
        formula: in the factor language, on adjusted bars.
        rank_ic: designed mean daily Spearman correlation of the formula with the return from the close of t+1
            to the close of t+2 while the plant works; for a decaying plant on the first day.
        note: when it works, in words.
    """

    name: str
    kind: Literal["persistent", "decaying", "regime", "decoy"]
    formula: str
    rank_ic: float
    note: str


class Bars(NamedTuple):
    """Adjusted bars, each a float64 array of days x instruments; NaN where an instrument has no bar."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats


PLANTS = (
    Plant(
        "volume_on_gains",
        "persistent",
        "-1 * TS_CORR($return, $volume, 20)",
        0.045,
        "Every year: names whose volume comes with gains fall behind.",
    ),
    Plant(
        "close_location",
        "persistent",
        "-1 * TS_MEAN(($close - $low) / ($high - $low), 5)",
        0.045,
        "Every year: names that close near the top of their range for a week fall back.",
    ),
    Plant(
        "skipped_momentum",
        "decaying",
        "TS_PCTCHANGE(DELAY($close, 60), 60)",
        0.06,
        "Strong in the first year, fades linearly to nothing on the last day.",
    ),
    Plant(
        "narrow_range",
        "regime",
        "-1 * TS_MEAN(($high - $low) / $close, 20)",
        0.06,
        "Only while the 20-day standard deviation of the equal-weighted market return exceeds 1% a day.",
    ),
    Plant(
        "volume_instability",
        "decoy",
        "-1 * TS_STD($volume, 20) / TS_MEAN($volume, 20)",
        0.03,
        "In train alone: nothing is left after its last day.",
    ),
    Plant(
        "return_persistence",
        "decoy",
        "TS_CORR($return, DELAY($return, 1), 20)",
        0.03,
        "In train alone: nothing is left after its last day.",
    ),
)


def _mean(values: Floats) -> Floats:
    mean: Floats = values.mean(axis=0)
    return mean


def _deviation(values: Floats) -> Floats:
    centred = values - _mean(values)
    return np.sqrt(_mean(centred * centred))


def _correlation(left: Floats, right: Floats) -> Floats:
    covariance = _mean((left - _mean(left)) * (right - _mean(right)))
    return covariance / (_deviation(left) * _deviation(right))


def _volume_on_gains(bars: Bars) -> Floats:
    return -_correlation(bars.close[1:] / bars.close[:-1], bars.volume[1:])


def _close_location(bars: Bars) -> Floats:
    return -_mean((bars.close - bars.low) / (bars.high - bars.low))


def _skipped_momentum(bars: Bars) -> Floats:
    growth: Floats = bars.close[60] / bars.close[0]
    return growth - 1


def _narrow_range(bars: Bars) -> Floats:
    return -_mean((bars.high - bars.low) / bars.close)


def _volume_instability(bars: Bars) -> Floats:
    return -_deviation(bars.volume) / _mean(bars.volume)


def _return_persistence(bars: Bars) -> Floats:
    returns = bars.close[1:] / bars.close[:-1] - 1
    return _correlation(returns[1:], returns[:-1])


# Rows of the trailing window and the formula on it, up to a positive factor that ranks do not see.
_SIGNALS: dict[str, tuple[int, Callable[[Bars], Floats]]] = {
    "volume_on_gains": (21, _volume_on_gains),
    "close_location": (5, _close_location),
    "skipped_momentum": (121, _skipped_momentum),
    "narrow_range": (20, _narrow_range),
    "volume_instability": (20, _volume_instability),
    "return_persistence": (22, _return_persistence),
}


def planted_drift(bars: Bars, day: int, eligible: NDArray[np.bool_], *, elapsed: float, train: bool) -> Floats:
    """What the plants add to the return from the close of ``day + 1`` to the close of ``day + 2``.

    Args:
        bars: read up to row ``day`` alone.
        day: a row of ``bars``.
        eligible: the instruments traded on that day; all others get 0.
        elapsed: share of the market's days gone, in [0, 1).
        train: whether that return falls in train.

    Returns:
        One value per instrument, in units of its idiosyncratic volatility.
    """
    turbulent = _market_volatility(bars.close, day) > _CALM_LIMIT
    share = {"persistent": 1.0, "decaying": 1.0 - elapsed, "regime": float(turbulent), "decoy": float(train)}
    drift = np.zeros(eligible.size)
    for plant in PLANTS:
        if share[plant.kind]:
            drift += _DILUTION * plant.rank_ic * share[plant.kind] * _score(plant, bars, day, eligible)
    return drift


def _market_volatility(close: Floats, day: int) -> float:
    """Trailing standard deviation of the equal-weighted return; 0 before a full window."""
    if day < _MARKET_WINDOW:
        return 0.0
    returns = close[day - _MARKET_WINDOW + 1 : day + 1] / close[day - _MARKET_WINDOW : day] - 1
    known = np.isfinite(returns)
    return float((np.where(known, returns, 0.0).sum(axis=1) / known.sum(axis=1)).std(ddof=1))


def _score(plant: Plant, bars: Bars, day: int, eligible: NDArray[np.bool_]) -> Floats:
    """The plant's centred ranks, of unit variance; 0 for whoever is not eligible or lacks the full window."""
    rows, signal = _SIGNALS[plant.name]
    score = np.zeros(eligible.size)
    if day < rows - 1:
        return score
    window = (field[day - rows + 1 : day + 1] for field in bars)
    with np.errstate(divide="ignore", invalid="ignore"):  # a constant window has no value
        values = signal(Bars(*window))
    (ranked,) = np.nonzero(eligible & np.isfinite(values))
    # Only the stable sort orders ties alike on every processor.
    order = ranked[np.argsort(values[ranked], kind="stable")]
    score[order] = np.sqrt(12.0) * ((np.arange(order.size) + 0.5) / max(order.size, 1) - 0.5)
    return score
