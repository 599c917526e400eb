"""Where a run goes next, beside planted worths of its arms."""

from collections import Counter
from random import Random

from factors.hypothesis import Feedback, Hypothesis
from graphs.bandit import NOISE, Step, next_steps, trajectories, worth
from graphs.researcher import LAMBDA
from tests.graphs.test_offline import trial_of

WORDS = dict.fromkeys(("statement", "observation", "knowledge", "justification", "specification"), "-")
GO_ON = Feedback(supported=True, lesson="-", action="refine")


def hypothesis(name, move="new", *parents):
    return Hypothesis(id=name, move=move, parents=parents, horizon_days=1, **WORDS)


def trial(name, reward, **options):
    """A measured trial of that reward, which is ten times the rank IC on valid less a tenth of the penalty."""
    return trial_of("RANK($close)", 0.01, (reward + LAMBDA * 0.5) / 10, hypothesis_id=name, **options)


def test_one_direction_goes_on_while_eval_says_so():
    known = [hypothesis("h1"), hypothesis("h2")]
    for action, step in (("refine", Step("refine", ("h2",))), ("pivot", Step("new")), ("stop", Step("new"))):
        told = {"h1": GO_ON, "h2": GO_ON.model_copy(update={"action": action})}
        assert next_steps(known, told, [], 1, 1, Random(1)) == [step]
    assert next_steps(known, {"h1": GO_ON}, [], 1, 1, Random(1)) == [Step("new")]
    assert next_steps([], {}, [], 1, 1, Random(1)) == [Step("new")]


def test_all_directions_begin_anew():
    assert next_steps([], {}, [], 4, 4, Random(1)) == [Step("new")] * 4


def test_a_hypothesis_is_worth_its_best_candidate_that_is_not_known_already():
    trials = [trial("h1", 0.05), trial("h1", 0.2, admission=("redundancy",)), trial("h2", 0.3)]
    trials.append(trial("h1", 0.4, admission=("coverage",)))
    assert round(worth(hypothesis("h1"), trials), 9) == 0.05
    assert worth(hypothesis("h3"), trials) == -LAMBDA
    refused = trial_of("RANK($close)", None, None, hypothesis_id="h4", failed=(("originality", 8),))
    assert worth(hypothesis("h4"), [refused]) == -LAMBDA


def test_refinements_belong_to_the_trajectory_that_they_refine_and_crossings_begin_one():
    known = [
        hypothesis("h1"), hypothesis("h2"), hypothesis("h3", "refine", "h1"), hypothesis("h4", "cross", "h3", "h2"),
        hypothesis("h5", "refine", "h3"), hypothesis("h6", "refine", "h4"),
    ]  # fmt: skip
    trials = [trial(f"h{n}", n / 100) for n in range(1, 7)]
    told = {"h6": GO_ON.model_copy(update={"action": "stop"})}
    found = trajectories(known, told, trials)
    assert [(one.last, one.crossed, one.action) for one in found] == [
        ("h5", False, "refine"), ("h2", False, "refine"), ("h6", True, "stop")
    ]  # fmt: skip
    assert [[round(reward, 9) for reward in one.rewards] for one in found] == [[0.01, 0.03, 0.05], [0.02], [0.04, 0.06]]


def played(known, trials, told=None, rounds=400):
    draw = Random(3)
    steps = [step for _ in range(rounds) for step in next_steps(known, told or {}, trials, 2, 4, draw)]
    return Counter(f"{step.move} {' '.join(step.parents)}".strip() for step in steps)


def test_what_was_worth_more_is_played_more_and_nothing_is_given_up():
    known = [hypothesis("h1"), hypothesis("h2"), hypothesis("h3")]
    counts = played(known, [trial("h1", 0.2), trial("h2", 0.05), trial("h3", 0.0)])
    assert counts["refine h1"] > 3 * counts["refine h2"] > 3 * counts["refine h3"]
    assert counts["refine h3"] > 0
    assert counts["new"] > 0
    assert counts["cross h1 h2"] > counts["cross h2 h3"]
    even = played(known, [trial(name, 0.1) for name in ("h1", "h2", "h3")])
    assert max(even[f"refine {name}"] for name in ("h1", "h2", "h3")) < 2 * min(
        even[f"refine {name}"] for name in ("h1", "h2", "h3")
    )


def test_more_rounds_of_a_trajectory_make_it_surer():
    """Of two with equal means the one that was tried often is drawn nearer to it."""
    known = [hypothesis("h1"), hypothesis("h2")] + [
        hypothesis(f"h{n}", "refine", f"h{n - 1 if n > 3 else 1}") for n in range(3, 30)
    ]
    trials = [trial(one.id, -NOISE) for one in known]
    counts = played(known, trials)
    assert counts["refine h2"] > counts["refine h29"]


def test_a_stopped_trajectory_is_neither_refined_nor_crossed_and_one_to_pivot_from_is_crossed_alone():
    known = [hypothesis("h1"), hypothesis("h2"), hypothesis("h3")]
    trials = [trial("h1", 0.5), trial("h2", 0.05), trial("h3", 0.04)]
    counts = played(known, trials, {"h1": GO_ON.model_copy(update={"action": "stop"})})
    assert not any("h1" in step for step in counts)
    counts = played(known, trials, {"h1": GO_ON.model_copy(update={"action": "pivot"})})
    assert counts["refine h1"] == 0
    assert counts["cross h1 h2"] > 0
    everything = {name: GO_ON.model_copy(update={"action": "stop"}) for name in ("h1", "h2", "h3")}
    assert set(played(known, trials, everything)) == {"new"}


def test_no_trajectory_is_refined_twice_at_once_and_the_same_seed_gives_the_same_steps():
    known = [hypothesis(f"h{n}") for n in range(1, 5)]
    trials = [trial(f"h{n}", n / 50) for n in range(1, 5)]
    for seed in range(50):
        steps = next_steps(known, {}, trials, 8, 8, Random(seed))
        old = [step for step in steps if step.move != "new"]
        assert len({frozenset(step.parents) for step in old}) == len(old)
        assert steps == next_steps(known, {}, trials, 8, 8, Random(seed))
