"""The seam between a run and its market: all that is computed on a panel, in this process or in another one."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from factors.causality import prove
from factors.certificate import Certificate
from factors.evaluation import Evidence, SplitMetrics
from factors.evaluator import Evaluator
from factors.expression import Expr
from factors.kernels.elementwise import Values
from factors.labels import Labels
from factors.measurement import Measurement, measure
from factors.panel import Dates, Panel
from factors.redundancy import Ranks, Sample, correlation, marginal_rank_ic, train_ranks
from factors.robustness import Robustness, robustness

RANKS_KEPT = 128  # a few megabytes each
NEAR = 3  # published alphas that are compared on all days, out of those nearest on some


class Laboratory(Protocol):
    """Measures formulas on the in-sample bars of one snapshot, among the members of one universe.

    Every method may raise ``EvaluationStoppedError``, where whoever asks shall stop, and ``MeasurementError``, where
    the formula takes more than it may: that formula is given up then, and the next one can be asked about.
    """

    @property
    def fields(self) -> tuple[str, ...]:
        """The columns that formulas read as numbers, without the dollar sign."""

    @property
    def dates(self) -> Dates:
        """``[rows]`` the market's calendar."""

    @property
    def settlement(self) -> int:
        """Days after which what was bought there may be sold."""

    def expect(self, formulas: Sequence[Expr]) -> list[Expr]:
        """Announce formulas that will be measured, so that what they share is computed once; return the best order."""

    def measure(self, formula: Expr) -> Measurement:
        """What a formula's values come to against the labels."""

    def beside(self, formula: Expr, peers: Sequence[Expr]) -> tuple[dict[str, float], float]:
        """Rank correlations on train with peers and the nearest known alphas; and the rank IC of what peers leave."""

    def prove(self, formula: Expr, seed: int) -> Certificate:
        """Try whether a formula's values are causal."""

    def robustness(self, rank_ic: Values, evidence: Evidence, splits: Mapping[str, SplitMetrics]) -> Robustness:
        """Look at the daily rank ICs ``[rows]`` of a measured formula."""


class PanelLaboratory:
    """Computes in this process.

    Args:
        panel: the market's in-sample bars.
        labels: their forward returns.
        sample: ranks of known alphas on some days, given the evaluator; asked for once, when first needed.
        market: the market's name, for certificates, as are ``snapshot`` and ``universe``.
        snapshot: id of its version.
        universe: whose members the panel tells.
    """

    def __init__(
        self,
        panel: Panel,
        labels: Labels,
        sample: Callable[[Evaluator], Sample],
        *,
        market: str,
        snapshot: str,
        universe: str,
    ) -> None:
        self._panel, self._labels, self._evaluator = panel, labels, Evaluator(panel)
        self._sample = sample
        self._prove = partial(prove, panel=panel, market=market, snapshot=snapshot, universe=universe)
        self._sampled: Sample | None = None
        self._ranks: dict[Expr, Ranks] = {}

    @property
    def fields(self) -> tuple[str, ...]:
        """See :class:`Laboratory`, as for the rest."""
        return tuple(self._panel.fields)

    @property
    def dates(self) -> Dates:
        """The panel's."""
        return self._panel.dates

    @property
    def settlement(self) -> int:
        """The panel's."""
        return self._panel.settlement

    def expect(self, formulas: Sequence[Expr]) -> list[Expr]:
        """In the order that serves the evaluator's memo best."""
        return self._evaluator.expect(formulas)

    def measure(self, formula: Expr) -> Measurement:
        """Measured anew."""
        with self._evaluator.values(formula) as values:
            return measure(values, self._labels, self._panel, self._evaluator.team)

    def beside(self, formula: Expr, peers: Sequence[Expr]) -> tuple[dict[str, float], float]:
        """By daily ranks, of which the last used are kept, as each new factor meets all peers."""
        own = self._train_ranks(formula)
        others = {str(peer): self._train_ranks(peer) for peer in peers}
        if self._sampled is None:
            self._sampled = self._sample(self._evaluator)
        nearest = self._sampled.nearest(own, NEAR)
        near = {f"{alpha.name}: {alpha.expr}": self._train_ranks(alpha.expr) for alpha in nearest}
        correlations = {name: correlation(own, ranks) for name, ranks in (others | near).items()}
        marginal = marginal_rank_ic(own, list(others.values()), self._labels, self._panel, self._evaluator.team)
        return correlations, marginal

    def prove(self, formula: Expr, seed: int) -> Certificate:
        """By perturbing the panel at dates drawn by the seed."""
        return self._prove(formula, seed=seed)

    def robustness(self, rank_ic: Values, evidence: Evidence, splits: Mapping[str, SplitMetrics]) -> Robustness:
        """By the panel's days."""
        return robustness(rank_ic, evidence, splits, self._panel, self._labels.horizons[0])

    def _train_ranks(self, formula: Expr) -> Ranks:
        if formula not in self._ranks:
            while len(self._ranks) >= RANKS_KEPT:
                del self._ranks[next(iter(self._ranks))]
            with self._evaluator.values(formula) as values:
                self._ranks[formula] = train_ranks(values, self._panel)
        return self._ranks[formula]
