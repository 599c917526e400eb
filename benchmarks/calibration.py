"""What the gate admits where there is nothing to find, and where something is.

Candidates come in streams, each with a ledger of its own.

A candidate counts as admitted when every check that its evaluation and the ledger decide has passed. Those that come
after them, of what the library explains already and of causality, only ever admit less.
"""

import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from numpy.random import Generator, default_rng

from benchmarks.noise import planted, ranked
from benchmarks.random_grammar import Grammar
from factors.admission import Thresholds, admission_checks
from factors.evaluation import Evaluation, Standing
from factors.evaluator import Evaluator
from factors.expression import Expr
from factors.kernels.elementwise import Values
from factors.labels import Labels
from factors.measurement import Measurement, measure, standing
from factors.panel import Panel
from factors.parse import parse
from factors.regularization import Limits, Structure
from factors.zoo import Zoo
from storage.ledger import Ledger, Question
from storage.records import Records

NAIVE = 2.0  #: |t| on valid that many call significant
SMOOTH = (
    "TS_MEAN($return, 60)",
    "TS_STD($return, 60)",
    "TS_MEAN($volume, 20) / TS_MEAN($volume, 120)",
    "$close / TS_MAX($high, 120)",
    "TS_CORR($close, $volume, 60)",
    "TS_SKEW($return, 120)",
    "TS_MEAN(($high - $low) / $close, 60)",
    "TS_MEAN(TS_RANK($volume, 120), 20)",
    "TS_MEAN(RANK($return), 40)",
    "TS_MAX($return, 60)",
)
"""What signals are planted for: formulas whose books trade little, as costs would hide what is measured here."""

STATISTICAL = frozenset({"t_stat", "false_discovery", "deflated_sharpe", "persistence"})
EVENTS = ("$return", "TS_PCTCHANGE($close, 2)", "TS_PCTCHANGE($close, 5)", "$volume / TS_MEAN($volume, 20)")
TAILS = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
CONFIDENCE = Thresholds().deflated_sharpe

Noise = Callable[[Panel, Generator], Values]
Way = Callable[[Evaluation], bool]


@dataclass(frozen=True, slots=True)
class Stream:
    """Evaluations of candidates in the order in which a team tried them."""

    evaluations: tuple[Evaluation, ...]

    def passing(self, way: Way) -> int:
        """How many it lets through."""
        return sum(map(way, self.evaluations))


def candidates(fields: Iterable[str], seed: int) -> Iterator[Expr]:
    """Random formulas that pass the structural gate, each unlike those before, without end."""
    tried, limits = Zoo(()), Limits()
    for expr in Grammar(tuple(fields)).formulas(Random(seed)):  # noqa: S311 - a draw that repeats
        if all(check.passed for check in Structure.of(expr, tried).checks(limits)):
            tried.add_tried("earlier", expr)
            yield expr


def rare_events(panel: Panel) -> list[Expr]:
    """Comparisons that hold on few days: thresholds that a column passes once in so many cells, whatever follows."""
    found = []
    for text in EVENTS:
        with Evaluator(panel).values(parse(text, tuple(panel.fields))) as values:
            known = values[panel.eligible & np.isfinite(values)]
            for tail in TAILS:
                low, high = np.quantile(known, [tail, 1 - tail])
                found += [parse(f"{text} {sign} {limit:.6f}") for sign, limit in ((">", high), ("<", low))]
    return found


def noise_streams(panel: Panel, noise: Noise, parts: Iterable[Iterable[Expr]], *, seed: int) -> Iterator[Stream]:
    """A stream of each part of the formulas, with labels drawn anew and a ledger of its own."""
    evaluator = Evaluator(panel)
    for number, formulas in enumerate(parts):
        labels, found = ranked(panel, noise(panel, default_rng([seed, number]))), []
        with tempfile.TemporaryDirectory() as folder, Records.open(f"sqlite:///{Path(folder) / 'l.sqlite'}") as records:
            for expr in formulas:
                with evaluator.values(expr) as values:
                    found.append(entered(records.ledger, expr, values, labels, panel))
        yield Stream(tuple(found))


def power(panel: Panel, strength: float, *, before: int, draws: int, seed: int) -> tuple[float, float]:
    """Shares of planted signals that are found, by all checks and by the statistical ones.

    Each is the next trial of a team that has tried ``before`` formulas in vain; ``draws`` are planted for each formula.
    """
    evaluator = Evaluator(panel)
    whole, statistical = [], []
    for number, text in enumerate(SMOOTH):
        with evaluator.values(parse(text, tuple(panel.fields))) as values:
            for draw in range(draws):
                label = planted(panel, values, strength, default_rng([seed, number, draw]))
                found = measure(values, ranked(panel, label), panel)
                evaluation = _evaluation(text, found, standing(found.evidence, before + 1, []))
                whole.append(admitted(evaluation))
                statistical.append(passes(evaluation, STATISTICAL))
    return float(np.mean(whole)), float(np.mean(statistical))


def _evaluation(formula: str, found: Measurement, place: Standing) -> Evaluation:
    return Evaluation(
        candidate_id="",
        formula=formula,
        snapshot="s",
        universe="u",
        horizon=1,
        splits=dict(found.splits),
        evidence=found.evidence,
        standing=place,
    )


def entered(
    ledger: Ledger, expr: Expr, values: Values, labels: Labels, panel: Panel, market: str = "noise"
) -> Evaluation:
    """The evaluation of a formula's values that a ledger has entered as a trial."""
    question = Question.of(expr, market=market, snapshot="s", universe="u", horizon=labels.horizons[0])
    return ledger.measured(question, lambda: measure(values, labels, panel), user="benchmark").evaluation()


def admitted(evaluation: Evaluation) -> bool:
    """Whether the gate lets it in."""
    return passes(evaluation)


def passes(evaluation: Evaluation, names: Collection[str] | None = None) -> bool:
    """Whether it passes these checks of admission, all of them where none are named."""
    checks = admission_checks(evaluation, Thresholds())
    return all(check.passed for check in checks if names is None or check.name in names)


def naive(evaluation: Evaluation) -> bool:
    """Whether its valid rank IC would be called significant."""
    return abs(evaluation.splits["valid"].rank_t_stat or 0.0) >= NAIVE


def uncounted(evaluation: Evaluation) -> bool:
    """Whether its score would be deflated enough if nothing else had been tried."""
    return evaluation.evidence is not None and standing(evaluation.evidence, 1, []).deflated_sharpe >= CONFIDENCE
