"""Labels that no formula predicts, and labels that one does as well as is wanted, on the cells of a real panel."""

import numpy as np
from numpy.random import Generator

from factors.kernels.elementwise import Values
from factors.labels import Labels, forward_return, ranked_labels
from factors.panel import Panel

COMMON = 3  #: what moves all instruments at once
PERSISTENCE = 0.3  #: lag-1 correlation of each part, over days
DEVIATION = 0.02  #: of a label across instruments, a usual day's


def shuffled(panel: Panel, draw: Generator) -> Values:
    """The market's own labels ``[tiles, rows, 64]``, on each day dealt out anew to the instruments that have one."""
    label = forward_return(panel)
    for day in range(label.shape[1]):
        cells = np.isfinite(label[:, day])
        label[:, day][cells] = draw.permutation(label[:, day][cells])
    return label


def correlated(panel: Panel, draw: Generator) -> Values:
    """Labels of common parts, in which instruments have fixed shares, and one of their own; each AR(1) over days."""
    tiles, rows, lanes = panel.shape
    common = _autoregressive(draw.standard_normal((rows, COMMON)))
    shares = draw.standard_normal((COMMON, tiles * lanes)) / COMMON**0.5
    own = _autoregressive(draw.standard_normal((rows, tiles * lanes)))
    noise = DEVIATION * (common @ shares + own) / 2**0.5
    laid = noise.reshape(rows, tiles, lanes).transpose(1, 0, 2)
    return np.where(np.isfinite(forward_return(panel)), laid, np.nan)


def planted(panel: Panel, values: Values, strength: float, draw: Generator) -> Values:
    """Shuffled labels, of each of which the ranks of ``values`` tell a part: a rank IC of about ``strength``."""
    noise = shuffled(panel, draw)
    both = np.isfinite(noise) & np.isfinite(values)
    for day in range(noise.shape[1]):
        cells = both[:, day]
        count = int(cells.sum())
        if count > 1:
            ranks = values[:, day][cells].argsort(kind="stable").argsort(kind="stable")
            signal = (ranks - (count - 1) / 2) / (count / 12**0.5)
            own = noise[:, day][cells]
            noise[:, day][cells] = (1 - strength**2) ** 0.5 * own + strength * own.std() * signal
    return noise


def ranked(panel: Panel, label: Values) -> Labels:
    """Labels of one day as factors are measured against them."""
    return ranked_labels(panel, {1: label})


def _autoregressive(shocks: Values) -> Values:
    """AR(1) of unit variance from ``[rows, n]`` standard normal shocks."""
    values = shocks.copy()
    for day in range(1, len(values)):
        values[day] = PERSISTENCE * values[day - 1] + (1 - PERSISTENCE**2) ** 0.5 * shocks[day]
    return values
