"""Significance of a mean under serial correlation."""

import math

from factors.kernels.elementwise import Values


def newey_west_lags(n: int, horizon: int) -> int:
    """Bartlett lags for n values: ``floor(4 (n/100)^(2/9))``, and at least h-1, as labels that are held h bars overlap.

    Source: Newey and West 1994, the rule of thumb for the Bartlett kernel.
    """
    return max(horizon - 1, int(4 * (n / 100) ** (2 / 9)), 0)


def varies(values: Values) -> bool:
    """Whether ``[n]`` values, no nulls, are two at least and not all equal: what a variance needs."""
    return len(values) > 1 and bool(values.min() < values.max())


def long_run_variance(values: Values, lags: int) -> float:
    """Variance of the sum of ``[n]`` values a value, n >= 1, no nulls: their variance plus weighted autocovariances.

    Bartlett weights, no small-sample correction; with no lags the plain variance (ddof 0).
    Source: Newey and West 1987.
    """
    n = len(values)
    deviation = values - values.mean()
    variance = deviation @ deviation / n
    for lag in range(1, min(lags, n - 1) + 1):
        variance += 2 * (1 - lag / (lags + 1)) * (deviation[lag:] @ deviation[:-lag]) / n
    return float(variance)


def newey_west_t(values: Values, lags: int) -> float | None:
    """T statistic of the mean of ``[n]`` values, no nulls, robust to heteroskedasticity and autocorrelation.

    None for fewer than two values or no variation. Source: Newey and West 1987.
    """
    if not varies(values):
        return None
    variance = long_run_variance(values, lags)
    return float(values.mean()) / math.sqrt(variance / len(values)) if variance > 0 else None
