"""What every measured engine offers: values of a formula, and the seconds that formulas take it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from benchmarks.market import Dense
from factors.expression import Expr


class Timing(NamedTuple):
    """Seconds by stage: from the formula to something that runs, running it, and the metrics of its values."""

    compile: float
    run: float
    metrics: float

    @property
    def values(self) -> float:
        """Formula to values."""
        return self.compile + self.run

    @property
    def total(self) -> float:
        """Formula to metrics."""
        return self.compile + self.run + self.metrics


class UnsupportedError(Exception):
    """An engine has neither an operator nor the primitives to compose it from; the text names it."""


class Engine(Protocol):
    """An engine with a market laid out as suits it best, which no time counts."""

    @property
    def about(self) -> str:
        """Version, number type, layout and threads, for the report."""

    def values(self, formulas: Sequence[Expr]) -> list[Dense]:
        """Values of each formula, NaN where null.

        Raises:
            UnsupportedError: the engine cannot express one of them.
        """

    def time(self, formulas: Sequence[Expr]) -> Timing:
        """Evaluate formulas together, as one batch where the engine has batches, and measure it.

        Raises:
            UnsupportedError: the engine cannot express one of them.
        """
