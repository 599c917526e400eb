"""Labels: what a factor is asked to predict."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from factors.kernels import daily
from factors.kernels.elementwise import Values
from factors.panel import Dates, Panel
from factors.team import Team

DELAY = 1
HORIZONS = (1, 2, 5, 10, 20)


@dataclass(frozen=True, slots=True)
class Labels:
    """Forward returns over several horizons, and their ranks, which every factor's are compared with.

    Attributes:
        horizons: bars held, the one that factors are judged by first.
        returns: ``[horizons, rows, tiles * 64]`` a fraction, NaN for null.
        ranks: ``[horizons, rows, tiles * 64]`` float32, from 1 among the bar's, ties averaged, NaN for null.
        counts: ``[horizons, rows]`` how many there are.
    """

    horizons: tuple[int, ...]
    returns: Values
    ranks: NDArray[np.float32]
    counts: NDArray[np.int64]


def forward_returns(panel: Panel, horizons: tuple[int, ...] = HORIZONS, team: Team | None = None) -> Labels:
    """The labels of a market, by :func:`forward_return`."""
    worth = _worth(panel)
    return ranked_labels(panel, {horizon: _forward_return(panel, horizon, worth) for horizon in horizons}, team)


def ranked_labels(panel: Panel, labels: dict[int, Values], team: Team | None = None) -> Labels:
    """Labels ``[tiles, rows, 64]`` by horizon, ranked."""
    tiles, rows, lanes = panel.shape
    shape = (len(labels), rows, tiles * lanes)
    found = Labels(tuple(labels), np.empty(shape), np.empty(shape, np.float32), np.empty(shape[:2], np.int64))
    for label, *ranked in zip(labels.values(), found.returns, found.ranks, found.counts, strict=True):
        (team or Team(1)).days(partial(daily.rank_labels, label, *ranked), rows)
    return found


def forward_return(panel: Panel, horizon: int = HORIZONS[0]) -> Values:
    """``close[t+1+h] / close[t+1] - 1``, ``[tiles, rows, 64]``: a signal of bar t is traded at the close of t+1.

    Where what was bought must settle first the exit may be later, see :func:`exits`. Null where the instrument is not a
    tradable member at t or cannot be bought at t+1, and where the data end before the exit. The exit is valued at the
    last known close, so an instrument that is suspended or delisted meanwhile keeps its label: dropping it would
    condition on the future. After its last bar that close earns the delisting return where one is known.
    """
    return _forward_return(panel, horizon, _worth(panel))


def exits(dates: Dates, horizon: int, settlement: int) -> NDArray[np.int64]:
    """Row at whose close each row's label ends, ``[rows]``, ascending; ``rows`` where the data end before.

    What is bought at the close of t+1 is sold at that of t+1+h, but no sooner than on the first bar of the day that
    comes ``settlement`` days of the calendar after that of t+1. On daily bars one day is no more than any horizon.
    """
    rows, entry = len(dates), _entries(dates)
    found = entry + horizon
    if settlement:
        days = dates.astype("datetime64[D]")
        opening = np.flatnonzero(np.append(True, days[1:] != days[:-1]))
        day = np.searchsorted(opening, entry, side="right") - 1
        found = np.maximum(found, np.append(opening, [rows] * settlement)[day + settlement])
    return np.minimum(found, rows)


def bars_held(dates: Dates, horizon: int, settlement: int) -> NDArray[np.int64]:
    """Bars that each row's label is held, ``[rows]``; of rows whose label ends with the data or later what is left."""
    return exits(dates, horizon, settlement) - _entries(dates)


def longest_held(dates: Dates, horizon: int, settlement: int) -> int:
    """Bars that the longest label is held, so many of which overlap; ``horizon`` where nothing has to settle."""
    ends = exits(dates, horizon, settlement)
    return int((ends - _entries(dates))[ends < len(dates)].max(initial=horizon))


def _entries(dates: Dates) -> NDArray[np.int64]:
    """Row at whose close what each row's label is of is bought, ``[rows]``; beyond the data for the last."""
    return np.arange(DELAY, len(dates) + DELAY)


def within(panel: Panel, split: str, horizon: int = HORIZONS[0]) -> tuple[int, int]:
    """Half-open rows of a split whose labels end inside it, so that no split sees prices of the next."""
    start, stop = panel.splits[split]
    return start, max(start, int(np.searchsorted(exits(panel.dates, horizon, panel.settlement), stop)))


def _forward_return(panel: Panel, horizon: int, worth: Values) -> Values:
    label = np.full(panel.shape, np.nan)
    ends = exits(panel.dates, horizon, panel.settlement)
    ends = ends[ends < panel.shape[1]]
    last = len(ends)
    entered = panel.eligible[:, :last] & panel.tradable[:, DELAY : DELAY + last]
    value = worth[:, ends]
    with np.errstate(all="ignore"):
        value /= panel.fields["close"][:, DELAY : DELAY + last]
        value -= 1.0
    np.copyto(label[:, :last], value, where=entered & np.isfinite(value))
    return label


def _worth(panel: Panel) -> Values:
    """What an instrument's holder has, as prices ``[tiles, rows, 64]``: its last known close, and what came of it."""
    worth = _carried(panel.fields["close"])
    for tile, lane in np.argwhere(np.isfinite(panel.delisting)):
        after = panel.shape[1] - int(np.argmax(panel.bar[tile, ::-1, lane]))
        worth[tile, after:, lane] *= 1.0 + panel.delisting[tile, lane]
    return worth


def _carried(values: Values) -> Values:
    """Each null replaced by the last known value before it."""
    rows = np.arange(values.shape[1])[None, :, None]
    last_known = np.maximum.accumulate(np.where(np.isfinite(values), rows, 0), axis=1)
    return np.take_along_axis(values, last_known, axis=1)
