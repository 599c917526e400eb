"""Labels: what a factor is asked to predict."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from factors.kernels import daily
from factors.kernels.elementwise import Values
from factors.panel import Panel
from factors.team import Team

DELAY = 1
HORIZONS = (1, 2, 5, 10, 20)


@dataclass(frozen=True, slots=True)
class Labels:
    """Forward returns over several horizons, and their ranks, which every factor's are compared with.

    Attributes:
        horizons: days held, the one that factors are judged by first.
        returns: ``[horizons, rows, tiles * 64]`` a fraction, NaN for null.
        ranks: ``[horizons, rows, tiles * 64]`` float32, from 1 among the day's, ties averaged, NaN for null.
        counts: ``[horizons, rows]`` how many there are.
    """

    horizons: tuple[int, ...]
    returns: Values
    ranks: NDArray[np.float32]
    counts: NDArray[np.int64]


def forward_returns(panel: Panel, horizons: tuple[int, ...] = HORIZONS, team: Team | None = None) -> Labels:
    """The labels of a market, by :func:`forward_return`."""
    return ranked_labels(panel, {horizon: forward_return(panel, horizon) for horizon in horizons}, team)


def ranked_labels(panel: Panel, labels: dict[int, Values], team: Team | None = None) -> Labels:
    """Labels ``[tiles, rows, 64]`` by horizon, ranked."""
    tiles, rows, lanes = panel.shape
    shape = (len(labels), rows, tiles * lanes)
    found = Labels(tuple(labels), np.empty(shape), np.empty(shape, np.float32), np.empty(shape[:2], np.int64))
    for label, *ranked in zip(labels.values(), found.returns, found.ranks, found.counts, strict=True):
        (team or Team(1)).days(partial(daily.rank_labels, label, *ranked), rows)
    return found


def forward_return(panel: Panel, horizon: int = HORIZONS[0]) -> Values:
    """``close[t+1+h] / close[t+1] - 1``, ``[tiles, rows, 64]``: a signal of day t is traded at the close of t+1.

    Null where the instrument is not a tradable member at t or cannot be bought at t+1, and where the data end before
    t+1+h. The exit is valued at the last known close, so an instrument that is suspended or delisted meanwhile keeps
    its label: dropping it would condition on the future.
    """
    rows = panel.shape[1]
    label = np.full(panel.shape, np.nan)
    last = rows - DELAY - horizon
    if last <= 0:
        return label
    close = panel.fields["close"]
    entered = panel.eligible[:, :last] & panel.tradable[:, DELAY : DELAY + last]
    entry = close[:, DELAY : DELAY + last]
    leave = _carried(close)[:, DELAY + horizon :]
    with np.errstate(all="ignore"):
        value = leave / entry - 1.0
    label[:, :last] = np.where(entered & np.isfinite(value), value, np.nan)
    return label


def within(panel: Panel, split: str, horizon: int = HORIZONS[0]) -> tuple[int, int]:
    """Half-open rows of a split whose labels end inside it, so that no split sees prices of the next."""
    start, stop = panel.splits[split]
    return start, max(start, stop - DELAY - horizon)


def _carried(values: Values) -> Values:
    """Each null replaced by the last known value before it."""
    rows = np.arange(values.shape[1])[None, :, None]
    last_known = np.maximum.accumulate(np.where(np.isfinite(values), rows, 0), axis=1)
    return np.take_along_axis(values, last_known, axis=1)
