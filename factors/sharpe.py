"""What a Sharpe ratio is worth: its error under skewed and fat-tailed values, and after many trials.

Ratios are per period and never annualised; kurtosis is raw, 3 for a normal distribution. The variance of an estimated
ratio that all of this rests on assumes independent values; where they are serially correlated, give
:func:`effective_observations` as the number of values.

Sources: Bailey and Lopez de Prado 2012, "The Sharpe ratio efficient frontier"; 2014, "The deflated Sharpe ratio".
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from factors.kernels.elementwise import Values
from factors.significance import long_run_variance, varies

EULER_GAMMA = 0.5772156649015329
NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Moments:
    """Moments of a series: number of values, mean, standard deviation (ddof 1), skewness, raw kurtosis."""

    n: int
    mean: float
    deviation: float
    skew: float
    kurtosis: float

    @property
    def sharpe(self) -> float:
        """Mean over standard deviation."""
        return self.mean / self.deviation


def moments(values: Values) -> Moments | None:
    """Moments of ``[n]`` values without nulls; None for fewer than two or no variation.

    Skewness and kurtosis are the plain moment ratios, without small-sample correction.
    """
    if not varies(values):
        return None
    n, mean = len(values), float(values.mean())
    # In units of the largest deviation no power of it can underflow or overflow.
    scale = float(np.abs(values - mean).max())
    deviation = (values - mean) / scale
    second, third, fourth = (float((deviation**power).mean()) for power in (2, 3, 4))
    return Moments(
        n=n,
        mean=mean,
        deviation=scale * math.sqrt(second * n / (n - 1)),
        skew=third / second**1.5,
        kurtosis=fourth / second**2,
    )


def effective_observations(values: Values, lags: int) -> float:
    """Number of independent values whose mean would be as uncertain as that of ``[n]`` correlated ones, at most n.

    It is n times the plain variance over the Newey-West variance with ``lags`` lags; n where values do not vary.
    """
    if not varies(values):
        return float(len(values))
    plain = long_run_variance(values, 0)
    return len(values) * plain / max(plain, long_run_variance(values, lags))


def expected_maximum(trials: float) -> float:
    """Expected largest of ``trials`` independent standard normal values; 0 for fewer than two.

    Source: Bailey and Lopez de Prado 2014, the false strategy theorem.
    """
    if trials < 2:  # noqa: PLR2004 - one trial has no best
        return 0.0
    quantile = NORMAL.inv_cdf
    return (1 - EULER_GAMMA) * quantile(1 - 1 / trials) + EULER_GAMMA * quantile(1 - 1 / (trials * math.e))


def probabilistic_sharpe(sharpe: float, benchmark: float, n: float, skew: float, kurtosis: float) -> float:
    """Probability that the true ratio exceeds ``benchmark`` where ``n`` values show ``sharpe``, in [0, 1].

    Half for one value, which says nothing.

    Source: Bailey and Lopez de Prado 2012, equation 11.
    """
    return NORMAL.cdf((sharpe - benchmark) * math.sqrt(max(n - 1, 0) / _spread(sharpe, skew, kurtosis)))


def deflated_sharpe(sharpe: float, n: float, skew: float, kurtosis: float, trials: float, variance: float) -> float:
    """Probability that the true ratio of the best of ``trials`` is positive, in [0, 1].

    The benchmark is the best ratio that luck alone would show: ``sqrt(variance) * expected_maximum(trials)``, with
    ``variance`` that of the ratios of all trials.

    Source: Bailey and Lopez de Prado 2014, equations 1 and 2.
    """
    return probabilistic_sharpe(sharpe, math.sqrt(variance) * expected_maximum(trials), n, skew, kurtosis)


def minimum_track_record(
    sharpe: float, benchmark: float, skew: float, kurtosis: float, confidence: float = 0.95
) -> float:
    """Number of values that ``sharpe`` takes to exceed ``benchmark`` with ``confidence`` > 0.5; infinite if below it.

    Source: Bailey and Lopez de Prado 2012, equation 13.
    """
    if sharpe <= benchmark:
        return math.inf
    return 1 + _spread(sharpe, skew, kurtosis) * (NORMAL.inv_cdf(confidence) / (sharpe - benchmark)) ** 2


def _spread(sharpe: float, skew: float, kurtosis: float) -> float:
    """Variance of an estimated ratio times n - 1."""
    # No distribution has a kurtosis below 1 + skew^2, which makes this a square; rounding may take it to 0 or below.
    return max(1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe**2, 1e-12)
