"""Labels: what a factor is asked to predict."""

import numpy as np

from factors.kernels.elementwise import Values
from factors.panel import Panel

DELAY = 1
HORIZON = 1


def forward_return(panel: Panel, horizon: int = HORIZON) -> Values:
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


def within(panel: Panel, split: str, horizon: int = HORIZON) -> tuple[int, int]:
    """Half-open rows of a split whose labels end inside it, so that no split sees prices of the next."""
    start, stop = panel.splits[split]
    return start, max(start, stop - DELAY - horizon)


def _carried(values: Values) -> Values:
    """Each null replaced by the last known value before it."""
    rows = np.arange(values.shape[1])[None, :, None]
    last_known = np.maximum.accumulate(np.where(np.isfinite(values), rows, 0), axis=1)
    return np.take_along_axis(values, last_known, axis=1)
