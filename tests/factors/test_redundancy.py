"""What a factor adds: correlation beside known ones, and what they leave of it, against slow computations."""

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from factors.alphas import Alpha, published
from factors.evaluator import Evaluator, evaluate
from factors.labels import forward_return, forward_returns, within
from factors.parse import parse
from factors.redundancy import correlation, marginal_rank_ic, readable, sample, sampled_days, train_ranks
from factors.team import Team
from tests.panels import grid_of, panel_of

DAYS, NAMES, TRAIN = 400, 70, 300


@pytest.fixture(scope="module")
def panel():
    rng = np.random.default_rng(11)
    close = np.exp(np.cumsum(rng.normal(0, 0.02, (DAYS, NAMES)), axis=0))
    columns = {name: close * np.exp(rng.normal(0, 0.01, close.shape)) for name in ("open", "high", "low")}
    columns |= {"close": close, "volume": np.exp(rng.normal(3, 1, close.shape))}
    absent = rng.random(close.shape) < 0.05
    for grid in columns.values():
        grid[absent] = np.nan
    return panel_of(columns, rng.random(close.shape) < 0.9, rng.integers(0, 4, NAMES), train_rows=TRAIN)


def ranks_of(formula, panel):
    return train_ranks(evaluate(parse(formula), panel), panel)


def test_redundancy_finds_the_same_ranking_in_other_words(panel):
    volume = ranks_of("$volume", panel)
    assert correlation(ranks_of("LOG($volume)", panel), volume) == pytest.approx(1)
    assert correlation(ranks_of("-$volume", panel), volume) == pytest.approx(-1)
    assert abs(correlation(ranks_of("$return", panel), volume)) < 0.1


def test_ranks_end_before_the_last_train_label_does(panel):
    start, stop = within(panel, "train")
    ranks = ranks_of("$volume", panel)
    assert ranks.shape[1] == stop - start < TRAIN
    later = panel.fields["volume"].copy()
    later[:, stop:] = 1.0
    np.testing.assert_array_equal(train_ranks(later, panel), ranks)


def test_the_sample_finds_the_alphas_that_move_most_with_a_factor(panel):
    alphas = readable(published(), panel)
    assert len(alphas) < len(published())  # this market has no vwap
    found = sample(alphas, Evaluator(panel))
    own = ranks_of("TS_STD($volume, 10) / $volume", panel)
    near = found.nearest(own, 3)
    assert near[0].name == "VSTD10"
    days = sampled_days(own.shape[1])
    exact = {alpha.name: ranks_of(str(alpha.expr), panel)[:, days] for alpha in alphas}
    sampled = {name: abs(correlation(own[:, days], ranks)) for name, ranks in exact.items()}
    assert [sampled[alpha.name] for alpha in near] == pytest.approx(sorted(sampled.values(), reverse=True)[:3])


def test_an_alpha_that_reads_what_the_market_lacks_is_left_out(panel):
    assert readable([Alpha("one", parse("$vwap", ("vwap",)), "here")], panel) == ()


def by_hand(own, others, label):
    """Mean over days of the rank correlation of label and residual, with NumPy and SciPy alone."""
    daily = []
    for day in range(len(own)):
        known = np.isfinite(own[day])
        if not known.any():
            continue
        columns = [np.ones(known.sum())]
        for other in others:
            column = other[day][known]
            there = np.isfinite(column)
            columns.append(np.where(there, column - column[there].mean() if there.any() else 0.0, 0.0))
        design, target = np.stack(columns, axis=1), own[day][known]
        rest = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
        both = np.isfinite(label[day][known])
        if both.sum() > 1 and np.ptp(rest[both]) > 1e-6:
            daily.append(spearmanr(rest[both], label[day][known][both]).statistic)
    return np.mean(daily)


@pytest.mark.parametrize("others", [[], ["$volume"], ["$volume", "TS_MEAN($return, 5)", "DELTA($close, 3)"]])
def test_what_is_left_is_measured_as_by_hand(panel, others):
    labels = forward_returns(panel)
    start, stop = within(panel, "train")
    candidate = "TS_MEAN($return, 3) * RANK($volume)"
    found = marginal_rank_ic(
        ranks_of(candidate, panel), [ranks_of(other, panel) for other in others], labels, panel, Team(1)
    )
    member = grid_of(np.where(panel.eligible, 1.0, np.nan), panel, NAMES, DAYS)[start:stop]

    def grid(formula):
        values = grid_of(evaluate(parse(formula), panel), panel, NAMES, DAYS)[start:stop] * member
        return np.array([rankdata(row, nan_policy="omit") for row in values])

    label = grid_of(forward_return(panel), panel, NAMES, DAYS)[start:stop]
    assert found == pytest.approx(by_hand(grid(candidate), [grid(other) for other in others], label), abs=1e-3)


def test_what_others_explain_altogether_leaves_nothing(panel):
    labels = forward_returns(panel)
    own = ranks_of("$volume", panel)
    assert marginal_rank_ic(own, [ranks_of("LOG($volume)", panel)], labels, panel, Team(1)) == 0.0
    assert marginal_rank_ic(own, [own, own], labels, panel, Team(1)) == 0.0
    signal = train_ranks(forward_return(panel), panel)
    assert marginal_rank_ic(signal, [own], labels, panel, Team(1)) > 0.9
