"""Where a run goes next: each round refines a trajectory, crosses two, or begins a new one.

A trajectory is a hypothesis and its refinements. One direction at a time is the paper's loop: go on while Eval says so
(Tang et al. 2025, section 3). Several at a time are a bandit, by Thompson sampling (Thompson 1933; Russo et al. 2018):
what a round of each arm is worth is drawn from what its rounds were worth, and the largest draw is played.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from random import Random

from factors.hypothesis import Action, Feedback, Hypothesis, Move
from graphs.researcher import LAMBDA, Trial

NOISE = 0.05
"""Standard deviation of a round's reward about its trajectory's mean, and of these means; a good factor's is 0.1."""


@dataclass(frozen=True, slots=True)
class Step:
    """How a round's hypothesis comes about, and the ids of those that it goes on from."""

    move: Move
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A hypothesis and its refinements.

    Attributes:
        last: id of the newest.
        rewards: of its rounds, see :func:`worth`.
        crossed: whether it began as a crossing.
        action: what Eval has said to do with it: one to pivot from may still be crossed, one to stop may not.
    """

    last: str
    rewards: tuple[float, ...]
    crossed: bool
    action: Action


def next_steps(
    hypotheses: Sequence[Hypothesis],
    feedback: Mapping[str, Feedback],
    trials: Sequence[Trial],
    count: int,
    directions: int,
    draw: Random,
) -> list[Step]:
    """Steps of the next ``count`` rounds of a run that follows so many directions at once."""
    if not hypotheses:
        return [Step("new")] * count
    if directions == 1:
        last = hypotheses[-1].id
        going_on = last in feedback and feedback[last].action == "refine"
        return [Step("refine", (last,)) if going_on else Step("new")]
    known = trajectories(hypotheses, feedback, trials)
    steps: list[Step] = []
    for _ in range(count):
        arms = {arm: value for arm, value in _draws(known, draw) if arm.move == "new" or arm not in steps}
        steps.append(max(arms, key=arms.__getitem__))
    return steps


def trajectories(
    hypotheses: Sequence[Hypothesis], feedback: Mapping[str, Feedback], trials: Sequence[Trial]
) -> list[Trajectory]:
    """The trajectories of a run, in the order in which they began."""
    root: dict[str, str] = {}
    lines: dict[str, list[Hypothesis]] = {}
    for hypothesis in hypotheses:
        parent = hypothesis.parents[0] if hypothesis.move == "refine" else hypothesis.id
        root[hypothesis.id] = root.get(parent, hypothesis.id)
        lines.setdefault(root[hypothesis.id], []).append(hypothesis)
    return [
        Trajectory(
            last=line[-1].id,
            rewards=tuple(worth(one, trials) for one in line),
            crossed=line[0].move == "cross",
            action=feedback[line[-1].id].action if line[-1].id in feedback else "refine",
        )
        for line in lines.values()
    ]


def worth(hypothesis: Hypothesis, trials: Sequence[Trial]) -> float:
    """The best reward of a hypothesis' candidates; where there is none, that of a formula that tells nothing at all.

    What known factors do already earns none, nor does what is known on few cells, whose ratio means little.
    """
    own = (trial for trial in trials if trial.candidate.hypothesis_id == hypothesis.id and trial.evaluation)
    return max((trial.reward for trial in own if not _earns_nothing(trial)), default=-LAMBDA)


def _earns_nothing(trial: Trial) -> bool:
    return any(
        check.name in {"redundancy", "originality", "variation", "coverage"}
        for check in trial.admission
        if not check.passed
    )


def _draws(known: Sequence[Trajectory], draw: Random) -> Iterator[tuple[Step, float]]:
    """Each arm and a draw of what a round of it is worth: normal, from a normal prior about all first rounds' mean."""
    firsts = [one.rewards[0] for one in known if not one.crossed]
    prior = sum(firsts) / len(firsts)
    # The mean of a new trajectory, about a mean of which the first rounds tell with the noise of both.
    yield Step("new"), draw.gauss(prior, NOISE * sqrt(1 + 2 / len(firsts)))
    values = {}
    for one in known:
        if one.action != "stop":
            values[one.last] = _posterior(prior, one.rewards, draw)
        if one.action == "refine":
            yield Step("refine", (one.last,)), values[one.last]
    crossings = tuple(one.rewards[0] for one in known if one.crossed)
    best = sorted(values, key=values.__getitem__, reverse=True)[:3]
    for one_id, other_id in combinations(best, 2):
        between = (values[one_id] + values[other_id]) / 2
        yield Step("cross", tuple(sorted((one_id, other_id)))), _posterior(between, crossings, draw)


def _posterior(prior: float, rewards: Sequence[float], draw: Random) -> float:
    """A draw of a mean, of which the prior is worth one reward."""
    count = len(rewards) + 1
    return draw.gauss((prior + sum(rewards)) / count, NOISE / sqrt(count))
