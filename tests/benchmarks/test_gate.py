"""The gate on markets in which nothing can be found, and in which something can."""

import json
from itertools import islice

import numpy as np
import pytest

from app.panels import load_panel
from benchmarks import gate
from benchmarks.calibration import (
    SMOOTH,
    Stream,
    admitted,
    candidates,
    naive,
    noise_streams,
    passes,
    power,
    rare_events,
    uncounted,
)
from benchmarks.intervals import share
from benchmarks.noise import correlated, planted, ranked, shuffled
from factors import measurement
from factors.evaluation import Evaluation, Evidence, SplitMetrics, Standing
from factors.evaluator import evaluate
from factors.labels import forward_return
from factors.measurement import measure
from factors.parse import parse
from storage.markets import open_market

STREAMS, CANDIDATES, NOMINAL = 4, 1000, 0.05
UNSUSPECTING = {"t_stat", "false_discovery", "deflated_sharpe", "persistence", "coverage", "turnover", "net_return"}


@pytest.fixture(scope="module")
def panel(market_home):
    found, _ = load_panel(open_market(market_home, "small"), "synthetic200")
    return found


@pytest.fixture(scope="module")
def parts(panel):
    """Different candidates for each stream."""
    found = list(islice(candidates(panel.fields, 1), CANDIDATES))
    return [found[number::STREAMS] for number in range(STREAMS)]


def rate(streams, way):
    return sum(one.passing(way) for one in streams) / sum(len(one.evaluations) for one in streams)


def significant(evaluation):
    return evaluation.evidence.p_value <= 0.05


@pytest.mark.parametrize("noise", [shuffled, correlated])
def test_where_there_is_nothing_to_find_the_gate_admits_no_more_than_its_rate(request, panel, parts, noise):
    if noise is correlated:
        request.getfixturevalue("endurance")
    streams = list(noise_streams(panel, noise, parts, seed=1))
    assert sum(len(one.evaluations) for one in streams) == CANDIDATES
    taken = sum(one.passing(admitted) for one in streams)
    assert share(taken, CANDIDATES)[2] <= NOMINAL
    assert taken <= NOMINAL * STREAMS  # a stream has any with a probability of 5 %
    # Each statistic by itself keeps its promise, and would not if it forgot how much was tried.
    assert 0.015 < rate(streams, significant) < 0.06
    assert rate(streams, lambda one: passes(one, {"deflated_sharpe"})) < 0.005
    assert rate(streams, uncounted) > 0.015
    assert sum(one.passing(lambda found: passes(found, {"false_discovery"})) > 0 for one in streams) <= 2
    # And the usual rule is taken in.
    assert rate(streams, naive) > 0.02


@pytest.mark.usefixtures("endurance")
def test_days_that_hang_together_are_not_counted_as_so_many(panel, monkeypatch):
    """Formulas that change slowly, on labels that persist: without the lags of Newey and West p-values would lie."""
    formulas = [[parse(text, tuple(panel.fields)) for text in SMOOTH]] * 40
    assert 0.02 < rate(list(noise_streams(panel, correlated, formulas, seed=1)), significant) < 0.08
    monkeypatch.setattr(measurement, "newey_west_lags", lambda *_: 0)
    assert rate(list(noise_streams(panel, correlated, formulas, seed=1)), significant) > 0.08


@pytest.mark.usefixtures("endurance")
def test_what_happens_on_few_days_is_not_admitted(panel):
    events = rare_events(panel)
    streams = list(noise_streams(panel, shuffled, [events] * 20, seed=1))
    assert sum(one.passing(admitted) for one in streams) == 0
    # Without a look at how many days there are, two streams in five would admit luck.
    assert sum(one.passing(lambda found: passes(found, UNSUSPECTING)) > 0 for one in streams) > 4


def test_what_is_there_is_found_the_more_the_stronger_it_is(panel):
    shares = [power(panel, strength, before=100, draws=2, seed=1)[0] for strength in (0.0, 0.02, 0.05)]
    assert shares[0] == 0.0
    assert 0.0 < shares[1] < shares[2]
    assert shares[2] >= 0.9


def test_dealt_out_returns_are_the_day_s_own(panel):
    label, dealt = forward_return(panel), shuffled(panel, np.random.default_rng(1))
    assert np.array_equal(np.isfinite(label), np.isfinite(dealt))
    for day in (10, 300, 800):
        assert np.array_equal(np.sort(label[:, day], axis=None), np.sort(dealt[:, day], axis=None), equal_nan=True)
    assert not np.array_equal(label, dealt, equal_nan=True)


def test_correlated_noise_has_parts_in_common_and_persists(panel):
    label = correlated(panel, np.random.default_rng(1))
    rows = label[0][np.isfinite(label[0]).any(axis=1)]
    between = np.corrcoef(np.nan_to_num(rows[:, np.isfinite(rows).mean(axis=0) > 0.7]).T)
    assert np.abs(between[np.triu_indices_from(between, 1)]).mean() > 0.1  # of independent ones it would be 0.03
    first, second = rows[:-1].ravel(), rows[1:].ravel()
    both = np.isfinite(first) & np.isfinite(second)
    assert 0.2 < np.corrcoef(first[both], second[both])[0, 1] < 0.4


@pytest.mark.parametrize("strength", [0.0, 0.05, 0.2])
def test_a_planted_signal_has_the_rank_ic_that_was_wanted(panel, strength):
    values = evaluate(parse(SMOOTH[0]), panel)
    found = measure(values, ranked(panel, planted(panel, values, strength, np.random.default_rng(1))), panel)
    assert found.evidence.rank_ic == pytest.approx(strength, abs=0.02)


def evaluation(sharpe=0.0, p_value=0.5, rank_t_stat=0.0, level=0.0):
    figures = dict.fromkeys(("ic", "icir", "rank_ic", "rank_icir", "t_stat", "hit_rate", "turnover"), 0.1)
    split = SplitMetrics(days=500, coverage=1.0, active=1.0, rank_t_stat=rank_t_stat, **figures)
    evidence = Evidence(
        days=1000, rank_ic=0.1, t_stat=9.0, p_value=p_value, sharpe=sharpe, skew=0.0, kurtosis=3.0, observations=1000.0,
        long_short=1.0, turnover=0.1,
    )  # fmt: skip
    place = Standing(trial=9, level=level, discovery=False, expected_maximum=0.0, deflated_sharpe=1.0)
    return Evaluation(
        candidate_id="", formula="$close", snapshot="s", universe="u", horizon=1, evidence=evidence, standing=place,
        splits={"train": split, "valid": split},
    )  # fmt: skip


def test_figures_count_what_the_streams_hold():
    taken, refused = evaluation(level=0.9, rank_t_stat=2.5), evaluation()
    streams = [Stream((taken, taken, *[refused] * 98)), Stream((refused,) * 100)]
    results = gate.Results({"shuffled": streams, "rare": streams}, [(0.01, 0.5, 0.6)])
    found = gate.figures(results)
    assert (found["false_admission_rate"], found["naive_false_rate"], found["candidates"]) == (0.01, 0.01, 400)
    assert found["streams_with_a_false_admission"] == 0.5
    assert found["false_admission_upper"] == pytest.approx(0.02546, abs=1e-4)  # Clopper and Pearson, 4 of 400
    assert found["power"] == [{"strength": 0.01, "share": 0.5, "share_costs_apart": 0.6}]
    assert json.loads(json.dumps(found)) == found
    row = "| shuffled | 2 | 200 | 1.00% [0.12%, 3.57%] | 1.00% [0.12%, 3.57%] | 50.00% [1.26%, 98.74%] |"
    assert row in gate.page(results)
