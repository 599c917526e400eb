import pytest

from factors.evaluation import Evaluation, SplitMetrics
from factors.hypothesis import Candidate
from factors.verdict import Verdict
from graphs.researcher import LAMBDA, Trial


def trial(icir, gross, net, penalty=0.0):
    figures = dict.fromkeys(("ic", "icir", "rank_ic", "t_stat", "rank_t_stat", "hit_rate", "turnover"), 0.1)
    metrics = SplitMetrics(days=500, coverage=1.0, rank_icir=icir, long_short=gross, long_short_net=net, **figures)
    splits = {"train": metrics, "valid": metrics}
    return Trial(
        round=1,
        candidate=Candidate(id="1.1.0", hypothesis_id="h1", name="n", description="d", formula="$close"),
        verdict=Verdict(candidate_id="1.1.0", checks=(), penalty=penalty),
        evaluation=Evaluation(
            candidate_id="1.1.0", formula="$close", snapshot="s", universe="u", horizon=1, splits=splits
        ),
    )


@pytest.mark.parametrize(
    ("icir", "gross", "net", "reward"),
    [
        (0.1, 0.0010, 0.0005, 0.05),
        (0.1, 0.0010, 0.0, 0.0),
        (0.1, 0.0010, -0.0005, -0.05),
        (0.1, 0.0010, -0.0050, -0.1),
        (0.1, -0.0010, -0.0015, -0.1),
        (-0.1, 0.0010, 0.0005, -0.1),
        (0.1, None, None, 0.1),
        (None, 0.0010, 0.0005, 0.0),
    ],
)
def test_a_trial_is_worth_what_costs_leave_of_it(icir, gross, net, reward):
    found = trial(icir, gross, net)
    assert found.reward == found.fitness == pytest.approx(reward)
    assert trial(icir, gross, net, penalty=0.5).reward == pytest.approx(reward - LAMBDA * 0.5)


def test_of_two_as_strong_the_one_that_trades_less_is_preferred():
    still, busy = trial(0.1, 0.001, 0.0008), trial(0.1, 0.001, 0.0001)
    assert still.reward > busy.reward
