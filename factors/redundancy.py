"""What a measured factor adds to those that are known: how its values rank beside theirs, and what is left of its own.

Both look at ranks among tradable members over the train split, float32 ``[tiles, rows, 64]``, null where a value is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from factors.alphas import Alpha
from factors.evaluator import Evaluator
from factors.expression import fields
from factors.kernels import daily
from factors.kernels.elementwise import Values
from factors.labels import Labels, within
from factors.metrics import daily_metrics
from factors.panel import Panel
from factors.team import Team

Ranks: TypeAlias = NDArray[np.float32]

SAMPLED = 128  # rows that say which of many alphas are worth a look at all of them


def train_ranks(values: Values, panel: Panel) -> Ranks:
    """Ranks of a factor's values, bar by bar, ``[tiles, rows, 64]``."""
    start, stop = within(panel, "train")
    ranks = np.empty((values.shape[0], stop - start, values.shape[2]), np.float32)
    daily.ranks(values, panel.eligible, ranks, start, 0, stop - start)
    return ranks


def correlation(one: Ranks, other: Ranks) -> float:
    """Mean over bars of the rank correlation of two factors, in [-1, 1]; 0 where no bar has one."""
    return float(daily.mean_correlation(one, other))


@dataclass(frozen=True, slots=True)
class Sample:
    """Ranks of alphas on evenly spaced train bars, so that the few that move with a candidate are found at once.

    Attributes:
        alphas: those whose columns the market has.
        ranks: ``[alphas, tiles, rows, 64]`` float32.
    """

    alphas: tuple[Alpha, ...]
    ranks: Ranks

    def nearest(self, ranks: Ranks, count: int) -> list[Alpha]:
        """The alphas that correlate most with a factor's ranks, either way, on the sampled bars."""
        here = np.ascontiguousarray(ranks[:, sampled_days(ranks.shape[1])])
        likeness = [-abs(correlation(here, other)) for other in self.ranks]
        return [self.alphas[k] for k in np.argsort(likeness, kind="stable")[:count]]


def sampled_days(days: int) -> slice:
    """Evenly spaced bars, at most as many as are sampled."""
    return slice(None, None, max(1, -(-days // SAMPLED)))


def readable(alphas: Iterable[Alpha], panel: Panel) -> tuple[Alpha, ...]:
    """The alphas whose columns the market has."""
    return tuple(alpha for alpha in alphas if fields(alpha.expr) <= panel.fields.keys())


def sample(alphas: Sequence[Alpha], evaluator: Evaluator) -> Sample:
    """Compute alphas and keep their ranks on the sampled bars.

    Raises:
        EvaluationStoppedError: the evaluator's ``stop`` said so.
    """
    panel = evaluator.panel
    start, stop = within(panel, "train")
    days = len(range(stop - start)[sampled_days(stop - start)])
    by_expr = {alpha.expr: k for k, alpha in enumerate(alphas)}
    ranks = np.empty((len(alphas), panel.shape[0], days, panel.shape[2]), np.float32)
    for expr in evaluator.expect(by_expr):
        with evaluator.values(expr) as values:
            ranks[by_expr[expr]] = train_ranks(values, panel)[:, sampled_days(stop - start)]
    return Sample(tuple(alphas), ranks)


def marginal_rank_ic(ranks: Ranks, others: Sequence[Ranks], labels: Labels, panel: Panel, team: Team) -> float:
    """Mean train rank IC of what the other factors do not explain of a factor's ranks; 0 where no bar has one.

    On each bar the ranks are regressed on the others', all centred; where another has no value it is taken to be in
    the middle. What remains is measured as a factor is.
    """
    start, stop = within(panel, "train")
    rest = np.full(panel.shape, np.nan)
    for day in range(stop - start):
        own = ranks[:, day]
        known = np.isfinite(own)
        target = own[known].astype(np.float64)
        if len(target):
            target -= target.mean()
        if others and len(target):
            columns = np.stack([_centred(other[:, day][known]) for other in others], axis=1)
            weights, *_ = np.linalg.lstsq(columns.T @ columns, columns.T @ target)
            target -= columns @ weights
            # What is explained to the last digits is explained; its rest would be ranked all the same.
            target[np.abs(target) < len(target) * _NOTHING] = 0.0
        rest[:, start + day][known] = target
    rank_ic = daily_metrics(rest, labels, panel, team).rank_ic[0, start:stop]
    found = rank_ic[np.isfinite(rank_ic)]
    return float(found.mean()) if len(found) else 0.0


_NOTHING = 1e-9


def _centred(ranks: Ranks) -> Values:
    values = ranks.astype(np.float64)
    known = np.isfinite(values)
    return np.where(known, values - (values[known].mean() if known.any() else 0.0), 0.0)
