"""An interval of a mean under serial correlation of unknown form: the stationary block bootstrap.

Blocks of random length, geometrically distributed, begin anywhere and go on from the end to the beginning, so that a
resample of a stationary series is stationary.

Source: Politis and Romano 1994, "The stationary bootstrap".
"""

import math

import numpy as np
from numpy.typing import NDArray

from factors.kernels.elementwise import Values
from factors.significance import varies

QUIET = 5  # lags in succession without correlation, after which none is looked for
CHUNK = 2**22  # positions drawn at a time: some 100 MB


def block_length(values: Values) -> float:
    """Mean block length that estimates the variance of the mean of ``[n]`` values, no nulls, best; at least 1.

    Sources: Politis and White 2004; Patton, Politis and White 2009, its correction, for the stationary bootstrap.
    """
    n = len(values)
    if not varies(values):
        return 1.0
    deviation = values - values.mean()
    farthest = min(math.ceil(math.sqrt(n)) + QUIET, n - 1)
    covariance = np.array([deviation[lag:] @ deviation[: n - lag] / n for lag in range(farthest + 1)])
    band = 2 * math.sqrt(math.log10(n) / n) * covariance[0]
    quiet = np.abs(covariance[1:]) < band
    starts = [lag for lag in range(1, farthest - QUIET + 1) if quiet[lag - 1 : lag - 1 + QUIET].all()]
    width = min(2 * starts[0], farthest) if starts else farthest
    lags = np.arange(1, width + 1)
    weighted = 2 * np.minimum(1, 2 * (1 - lags / width)) * covariance[1 : width + 1]
    variance = covariance[0] + weighted.sum()
    longest = math.ceil(min(3 * math.sqrt(n), n / 3))
    if variance == 0:
        return float(longest)
    return float(np.clip((((weighted @ lags) / variance) ** 2 * n) ** (1 / 3), 1, longest))


def positions(n: int, length: float, resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions ``[resamples, n]`` of the values that each resample of n values takes, in blocks of mean ``length``."""
    begins = rng.random((resamples, n)) < 1 / length
    begins[:, 0] = True
    steps = np.arange(n)
    since = steps - np.maximum.accumulate(np.where(begins, steps, 0), axis=1)
    starts = np.zeros((resamples, n), np.int64)
    starts[begins] = rng.integers(n, size=int(begins.sum()))
    first = np.take_along_axis(starts, steps - since, axis=1)
    return (first + since) % n


def mean_interval(
    values: Values, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """Percentile interval of the mean of ``[n]`` values without nulls; None for fewer than two or no variation.

    Blocks are as long as :func:`block_length` says. The same seed gives the same interval.
    """
    if not varies(values):
        return None
    n, length, rng = len(values), block_length(values), np.random.default_rng(seed)
    chunk = max(CHUNK // n, 1)
    means = [
        values[positions(n, length, min(chunk, resamples - done), rng)].mean(axis=1)
        for done in range(0, resamples, chunk)
    ]
    low, high = np.quantile(np.concatenate(means), ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(low), float(high)
