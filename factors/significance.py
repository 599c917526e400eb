"""Significance of a mean under serial correlation."""

import math
from statistics import NormalDist

import numpy as np

from factors.kernels.elementwise import Values

EULER_GAMMA = 0.5772156649015329


def newey_west_lags(n: int, horizon: int) -> int:
    """Bartlett lags for n daily values: ``floor(4 (n/100)^(2/9))``, and at least h-1, as h-day labels overlap.

    Source: Newey and West 1994, the rule of thumb for the Bartlett kernel.
    """
    return max(horizon - 1, int(4 * (n / 100) ** (2 / 9)), 0)


def expected_best_t(trials: int) -> float:
    """Expected largest t among ``trials`` independent candidates without any skill; 0 for fewer than two.

    Source: Bailey and Lopez de Prado 2014, the expected maximum of N standard normal values.
    """
    if trials < 2:  # noqa: PLR2004 - one trial has no best
        return 0.0
    quantile = NormalDist().inv_cdf
    return (1 - EULER_GAMMA) * quantile(1 - 1 / trials) + EULER_GAMMA * quantile(1 - 1 / (trials * math.e))


def newey_west_t(values: Values, lags: int) -> float | None:
    """T statistic of the mean of ``[n]`` values, no nulls, robust to heteroskedasticity and autocorrelation.

    Bartlett weights, no small-sample correction. None for fewer than two values or no variation.
    Source: Newey and West 1987.
    """
    n = len(values)
    if n < 2 or values.min() == values.max():  # noqa: PLR2004 - a variance needs two
        return None
    deviation = values - values.mean()
    variance = deviation @ deviation / n
    for lag in range(1, min(lags, n - 1) + 1):
        variance += 2 * (1 - lag / (lags + 1)) * (deviation[lag:] @ deviation[:-lag]) / n
    if variance <= 0:
        return None
    return float(values.mean() / np.sqrt(variance / n))
