"""A seeded search that plays the three agents where no language model is at hand.

Idea picks a hypothesis from a fixed library; Factor draws formulas from its grammar and, once there are results, breeds
the best ones; Eval compares figures and words. It understands nothing: its alignment is a word overlap, and says so.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, repeat
from random import Random

from factors.errors import FormulaError
from factors.expression import Expr
from factors.hypothesis import Candidate, Feedback, Hypothesis
from graphs.offline.breeding import crossed, flipped, mutated, shortened, simplified, smoothed, uprooted
from graphs.offline.choice import PATIENCE, choose, crossing, nearest
from graphs.offline.concepts import fidelity, implied, named, overlap
from graphs.offline.drafting import Batch, exceeds, fresh, kin, legible, spoken
from graphs.offline.results import figures, wrong_way
from graphs.offline.themes import Theme
from graphs.researcher import Alignment, Brief, Draft, Idea, Trial, ranked

SUPPORT = 0.1
"""Reward, a daily rank ICIR, above which a hypothesis counts as supported without an accepted candidate."""

PROMISE = 0.02
"""Reward above which a hypothesis is refined rather than left, and fitness above which a candidate is bred from."""

_OVERLAP = "word overlap, not a judgement by a language model:"
_PATIENCE = 3
_PARENTS = 5
_TRIES_EACH = 15


class OfflineResearcher:
    """A :class:`graphs.researcher.Researcher` without a language model; the same brief gives the same answer."""

    @property
    def prompts(self) -> Mapping[str, str]:
        """None."""
        return {}

    def propose(self, brief: Brief) -> Idea:
        """The themes that the round goes on from; else one that fits the direction, is untried or has done well.

        Raises:
            ResearcherError: no theme can be written with the market's columns.
        """
        together = brief.model_copy(update={"round": brief.round - brief.abreast})
        theme = crossing(brief) if brief.ancestors else choose(brief, _draw(together, "propose"))
        return Idea(
            statement=theme.statement,
            observation=theme.observation,
            knowledge=theme.knowledge,
            justification=theme.justification,
            specification=theme.specification,
            horizon_days=theme.horizon_days,
        )

    def draft(self, brief: Brief, hypothesis: Hypothesis, count: int) -> list[Draft]:
        """Sign turns, then mutations and crossings of the best trials, then fresh formulas; fewer if they run out."""
        draw = _draw(brief, "draft")
        theme = nearest(hypothesis.statement)
        batch = Batch(brief, theme, hypothesis)
        # Half of a batch is bred in the second round, four in five from the fifth on.
        tenths = min(8, 3 + brief.round)
        _breed(batch, brief, hypothesis, draw, -(-count * tenths // 10))
        _fill(batch, fresh(theme, brief, draw, _TRIES_EACH * count), count)
        return batch.drafts

    def revise(self, brief: Brief, hypothesis: Hypothesis, refused: list[Trial]) -> list[Draft | None]:
        """A rewrite of each refused candidate that answers its failed checks, ``None`` where none was found."""
        theme = nearest(hypothesis.statement)
        batch = Batch(brief.model_copy(update={"trials": (*brief.trials, *refused)}), theme, hypothesis)
        return [
            _revised(batch, brief, theme, trial, _draw(brief, "revise", trial.candidate.attempt, index))
            for index, trial in enumerate(refused)
        ]

    def judge(self, hypothesis: Hypothesis, candidates: Sequence[tuple[Candidate, Expr]]) -> list[Alignment | None]:
        """Word-overlap scores of hypothesis, description and formula, see :mod:`graphs.offline.concepts`."""
        return [self._judged(hypothesis, candidate, expr) for candidate, expr in candidates]

    def _judged(self, hypothesis: Hypothesis, candidate: Candidate, expr: Expr) -> Alignment:
        described = _listed(named(candidate.description))
        idea = overlap(candidate.description, spoken(hypothesis))
        formula = fidelity(candidate.description, expr)
        meant = "; ".join(" or ".join(part) for part in implied(expr))
        return Alignment(
            hypothesis_description=idea,
            hypothesis_reason=(
                f"{_OVERLAP} the hypothesis names {_listed(spoken(hypothesis))}, the description {described}"
            ),
            description_formula=formula,
            formula_reason=f"{_OVERLAP} the description names {described}, the formula can stand for {meant}",
        )

    def reflect(self, brief: Brief, hypothesis: Hypothesis, trials: list[Trial]) -> Feedback:
        """Figures of the round; ``refine`` while the hypothesis promises more and has had fewer than three rounds."""
        measured = ranked(trials)
        accepted = sum(trial.accepted for trial in trials)
        best = max((trial.reward for trial in trials), default=float("-inf"))
        turnable = [trial for trial in measured if wrong_way(trial)]
        rounds = sum(earlier.statement == hypothesis.statement for earlier in brief.hypotheses)
        failures = sum(not feedback.supported for feedback in brief.feedback.values())
        promising = accepted > 0 or bool(turnable) or (best > PROMISE and failures < PATIENCE)
        return Feedback(
            supported=accepted > 0 or best > SUPPORT,
            lesson=_lesson(trials, measured, turnable, accepted),
            action="refine" if promising and rounds < _PATIENCE else "pivot",
        )


def _draw(brief: Brief, *purpose: object) -> Random:
    key = ":".join(map(str, (brief.seed, brief.round, *purpose)))
    return Random(key)  # noqa: S311 - a search that must replay, not a secret


def _fill(batch: Batch, proposals: Iterator[Expr], count: int) -> None:
    while len(batch.drafts) < count:
        expr = next(proposals, None)
        if expr is None:
            return
        batch.offer(expr)


def _breed(batch: Batch, brief: Brief, hypothesis: Hypothesis, draw: Random, count: int) -> None:
    """Fill the batch up to ``count`` with the offspring of trials that are about the hypothesis."""
    theme = nearest(hypothesis.statement)
    pool = [(trial, expr) for trial in brief.trials if (expr := kin(trial, brief, hypothesis)) is not None]
    pool.sort(key=lambda pair: pair[0].fitness)
    for trial, expr in pool:
        if len(batch.drafts) < count and wrong_way(trial):
            note = "Sign turned, for an earlier candidate ranked the wrong way on train and valid."
            batch.offer(flipped(expr), (trial.candidate.id,), note)
    best = [pair for pair in reversed(pool) if pair[0].fitness > PROMISE][:_PARENTS]
    for trial, expr in sorted(filter(_is_restless, pool), key=_strength, reverse=True)[:_PARENTS]:
        if len(batch.drafts) < count:
            note = "Smoothed, for an earlier candidate traded too much."
            batch.offer(smoothed(expr, draw), (trial.candidate.id,), note)
    for _ in range(_TRIES_EACH * count if best else 0):
        if len(batch.drafts) >= count:
            return
        parents = draw.sample(best, k=min(len(best), draw.choice((1, 1, 2))))
        _offer_child(batch, parents, next(fresh(theme, brief, draw), None), draw)


def _is_restless(pair: tuple[Trial, Expr]) -> bool:
    """Whether a trial tells something on train and would trade too much for it."""
    trial, _ = pair
    costly = any(check.name in {"turnover", "net_return"} and not check.passed for check in trial.admission)
    return costly and _strength(pair) > PROMISE


def _strength(pair: tuple[Trial, Expr]) -> float:
    evaluation = pair[0].evaluation
    return (evaluation.splits["train"].rank_icir or 0.0) if evaluation else 0.0


def _offer_child(batch: Batch, parents: list[tuple[Trial, Expr]], graft: Expr | None, draw: Random) -> None:
    (_, one), *others = parents
    try:
        if others:
            child, note = crossed(one, others[0][1], draw), "Joined from two earlier candidates."
        else:
            child, note = mutated(one, graft or one, draw), "Varied from an earlier candidate."
    except FormulaError:
        return  # the change broke a rule of the language
    if batch.about(child):
        batch.offer(child, tuple(trial.candidate.id for trial, _ in parents), note)


def _revised(batch: Batch, brief: Brief, theme: Theme, trial: Trial, draw: Random) -> Draft | None:
    failed = {check.name: check.limit for check in trial.verdict.checks if not check.passed}
    expr = legible(trial.candidate.formula, brief)
    if failed.keys() == {"alignment"} and expr is not None:
        reworded = batch.redescribed(trial.candidate, expr)
        if reworded is not None:
            return reworded
    changed = _changed(brief, theme, expr, set(failed), draw) if expr is not None else iter(())
    anew = fresh(theme, brief, draw, _TRIES_EACH)
    for rewrite, parents in chain(zip(changed, repeat(trial.candidate.parents)), zip(anew, repeat(()))):
        if not exceeds(rewrite, failed) and batch.offer(rewrite, parents):
            return batch.drafts[-1]
    return None


def _changed(brief: Brief, theme: Theme, expr: Expr, failed: set[str], draw: Random) -> Iterator[Expr]:
    """Changes of a formula that answer its failed checks; none for checks that only another formula can meet."""
    known = [root for text in _known(brief) if (root := legible(text, brief)) is not None]
    for new in fresh(theme, brief, draw, _TRIES_EACH):
        try:
            if failed & {"originality", "duplicate"}:
                yield uprooted(expr, known, new, draw)
            elif failed & {"length", "depth", "parameters", "fields"}:
                expr = simplified(expr, draw)
                yield expr
            elif "look_back" in failed:
                expr = shortened(expr)
                yield expr
        except FormulaError:
            continue  # the change broke a rule of the language


def _known(brief: Brief) -> list[str]:
    return [
        *(factor.formula for factor in brief.library),
        *(trial.candidate.formula for trial in brief.trials if trial.accepted),
    ]


def _lesson(trials: list[Trial], measured: list[Trial], turnable: list[Trial], accepted: int) -> str:
    failed = Counter(
        check.name for trial in trials for check in (*trial.verdict.checks, *trial.admission) if not check.passed
    )
    words = [f"Of {len(trials)} trials {len(measured)} were measured and {accepted} accepted."]
    if measured:
        words.append(f"Best: {figures(measured[0])}.")
    if turnable:
        words.append(f"Wrong way, turn the sign: {figures(turnable[-1])}.")
    if failed:
        words.append(f"Failed checks: {', '.join(f'{name} {times}' for name, times in failed.most_common(4))}.")
    return " ".join(words)


def _listed(concepts: set[str]) -> str:
    return ", ".join(sorted(concepts)) or "no concept"
