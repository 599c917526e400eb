"""alphalens-reloaded: metrics of values that are given, here ours, against prices.

Its information coefficient is the rank correlation. The day of delay is in the prices: they are tomorrow's.
"""

import contextlib
import io
import time
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import alphalens
import numpy as np
import pandas as pd

from benchmarks.engine import Timing
from benchmarks.market import Dense, calendar, load
from benchmarks.ours import Ours
from benchmarks.peers.metrics import DECILES
from factors.expression import Expr


class Alphalens:
    """Factor values as a Series, closes as a wide frame."""

    def __init__(self, folder: Path) -> None:
        market = load(folder)
        self._ours = Ours(folder)
        self._days = pd.DatetimeIndex(calendar(market.size.days), name="date")
        self._prices = pd.DataFrame(market.fields["close"], self._days).shift(-1)

    @property
    def about(self) -> str:
        """Versions."""
        return f"alphalens-reloaded {version('alphalens-reloaded')} on pandas {version('pandas')}"

    def values(self, formulas: Sequence[Expr]) -> list[Dense]:
        """Ours."""
        return self._ours.values(formulas)

    def time(self, formulas: Sequence[Expr]) -> Timing:
        """Only the metrics: rank IC, mean return and turnover of deciles, rank autocorrelation."""
        measuring = 0.0
        for values in self._ours.values(formulas):
            row, asset = np.nonzero(np.isfinite(values))
            index = pd.MultiIndex.from_arrays([self._days[row], asset], names=["date", "asset"])
            factor = pd.Series(values[row, asset], index)
            started = time.perf_counter()
            self._measure(factor)
            measuring += time.perf_counter() - started
        return Timing(0.0, 0.0, measuring)

    def _measure(self, factor: "pd.Series[float]") -> None:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            data = alphalens.utils.get_clean_factor_and_forward_returns(
                factor, self._prices, quantiles=DECILES, periods=(1,), max_loss=1.0
            )
            alphalens.performance.factor_information_coefficient(data)
            alphalens.performance.mean_return_by_quantile(data, by_date=True)
            for decile in (1, DECILES):
                alphalens.performance.quantile_turnover(data["factor_quantile"], decile)
            alphalens.performance.factor_rank_autocorrelation(data)
