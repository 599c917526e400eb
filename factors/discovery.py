"""Online control of the false discovery rate: at which level to test the next hypothesis of an endless stream.

Two guarantees, by how the p-values depend on each other:

- :func:`level` (LORD++) keeps the false discovery rate at or below alpha where the p-values of true nulls are
  independent of each other and of the rest. Where each is but valid given the decisions before it, it keeps the
  marginal rate, expected false discoveries over expected discoveries. Under arbitrary dependence, such as that of tests
  on the same days, nothing is proven of it.
- :func:`dependent_level` keeps the false discovery rate at or below alpha under any dependence, at the price of levels
  that fall with the number of tests: a discovery adds to the wealth but does not bring the first weights back.

Levels depend on the decisions so far alone. A hypothesis is a discovery where its p-value is at or below its level.

Sources: Ramdas, Yang, Wainwright and Jordan 2017, "Online control of the false discovery rate with decaying memory";
Javanmard and Montanari 2018, "Online rules for control of false discovery rate and false discovery exceedance".
"""

import math
from collections.abc import Sequence

WEALTH = 0.1  # share of alpha to begin with, as in the package onlineFDR


def level(index: int, discoveries: Sequence[int], alpha: float = 0.05) -> float:
    """Level of LORD++ of test number ``index``, from 1, given the numbers of the ``discoveries`` before it, ascending.

    ``w0 gamma(t) + (alpha - w0) gamma(t - tau_1) + alpha sum_{j>1} gamma(t - tau_j)`` for test t and discoveries tau.

    Source: Ramdas et al. 2017, section 4; gamma as in Javanmard and Montanari 2018, equation 31. Raises ``ValueError``
    where the discoveries are not ascending numbers from 1 to ``index`` - 1.
    """
    _check(index, discoveries)
    start = WEALTH * alpha
    payouts = [alpha - start, *[alpha] * len(discoveries)]
    earned = sum(payout * _gamma(index - tau) for payout, tau in zip(payouts, discoveries, strict=False))
    return start * _gamma(index) + earned


def dependent_level(index: int, discoveries: Sequence[int], alpha: float = 0.05) -> float:
    """Level under any dependence of test number ``index``, given the ``discoveries`` before it; as :func:`level`.

    ``xi(t) W(tau)`` for test t, where W is the wealth at the last discovery tau, or the first w0: what is not spent on
    levels, and ``alpha - w0`` for each discovery.

    Source: Javanmard and Montanari 2018, theorem 3.7 and example 3.8, whose condition is that the sum of
    ``xi(i) (1 + log i)`` is at most ``alpha / (alpha - w0)``; this one's is 1.
    """
    _check(index, discoveries)
    wealth, done = WEALTH * alpha, 0
    for tau in discoveries:
        spent = wealth * sum(_xi(i) for i in range(done + 1, tau + 1))
        wealth += alpha - WEALTH * alpha - spent
        done = tau
    return _xi(index) * wealth


def _gamma(index: int) -> float:
    """Decreasing weights that sum to 0.98."""
    return 0.07720838 * math.log(max(index, 2)) / (index * math.exp(math.sqrt(math.log(index))))


def _xi(index: int) -> float:
    """Decreasing weights w for which the sum of ``w(i) (1 + log i)`` is 1."""
    return 0.139307 / (index * math.log(max(index, 2)) ** 3)


def _check(index: int, discoveries: Sequence[int]) -> None:
    if list(discoveries) != sorted(set(discoveries)) or not all(0 < tau < index for tau in discoveries) or index < 1:
        raise ValueError(f"discoveries before test {index} are ascending numbers from 1 to {index - 1}")
