from datetime import date

import pytest

from factors.admission import (
    Thresholds,
    admission_checks,
    causality_check,
    marginal_check,
    promotion_checks,
    redundancy_check,
)
from factors.certificate import Certificate, Comparison
from factors.evaluation import Evaluation, Evidence, SplitMetrics, Standing
from factors.metrics import COST

SPLIT = {
    "days": 500,
    "coverage": 0.9,
    "active": 0.9,
    "ic": 0.03,
    "icir": 0.2,
    "rank_ic": 0.03,
    "rank_icir": 0.2,
    "t_stat": 4.0,
    "rank_t_stat": 4.0,
    "hit_rate": 0.55,
    "turnover": 0.3,
}
EVIDENCE = {
    "days": 1000,
    "rank_ic": 0.03,
    "t_stat": 6.0,
    "p_value": 1e-9,
    "sharpe": 0.2,
    "skew": 0.0,
    "kurtosis": 3.0,
    "observations": 1000.0,
    "long_short": 0.002,
    "turnover": 0.3,
}
STANDING = {"trial": 40, "level": 1e-4, "discovery": True, "expected_maximum": 0.07, "deflated_sharpe": 0.99}


def evaluation(train=(), valid=(), evidence=(), standing=()):
    return Evaluation(
        candidate_id="",
        formula="$close",
        snapshot="s",
        universe="u",
        horizon=1,
        splits={
            "train": SplitMetrics(**{**SPLIT, **dict(train)}),
            "valid": SplitMetrics(**{**SPLIT, **dict(valid)}),
        },
        evidence=Evidence(**{**EVIDENCE, **dict(evidence)}),
        standing=Standing(**{**STANDING, **dict(standing)}),
    )


def failed(checks):
    assert all(check.hint for check in checks if not check.passed)
    assert not any(check.hint for check in checks if check.passed)
    return [check.name for check in checks if not check.passed]


@pytest.mark.parametrize(
    ("changed", "fails"),
    [
        ({}, []),
        ({"evidence": {"t_stat": 2.99}}, ["t_stat"]),
        ({"evidence": {"t_stat": 3.0}}, []),
        ({"evidence": {"t_stat": -6.0}}, ["t_stat"]),
        ({"evidence": {"p_value": 1.1e-4}}, ["false_discovery"]),
        ({"standing": {"level": 0.0}}, ["false_discovery"]),
        ({"standing": {"deflated_sharpe": 0.949}}, ["deflated_sharpe"]),
        ({"valid": {"rank_ic": -0.01}}, ["persistence"]),
        ({"valid": {"rank_ic": 0.007}}, ["persistence"]),
        ({"train": {"rank_ic": -0.03}}, ["persistence"]),
        ({"train": {"rank_ic": None}, "valid": {"rank_ic": None}}, ["persistence"]),
        ({"valid": {"coverage": 0.5}}, ["coverage"]),
        ({"valid": {"active": 0.49}}, ["active"]),
        ({"train": {"active": None}}, ["active"]),
        ({"train": {"turnover": 0.8}}, ["turnover"]),
        ({"evidence": {"long_short": 0.00119}}, ["net_return"]),
        ({"evidence": {"turnover": 0.51}}, ["net_return"]),
    ],
)
def test_each_check_refuses_by_itself(changed, fails):
    assert failed(admission_checks(evaluation(**changed), Thresholds())) == fails


def test_what_trading_costs_is_the_team_s_to_say():
    poor = evaluation(evidence={"long_short": 0.0006})
    assert Thresholds().cost == COST
    assert failed(admission_checks(poor, Thresholds())) == ["net_return"]
    assert failed(admission_checks(poor, Thresholds(cost=0.0005))) == []


def test_a_wrong_sign_is_told_to_turn():
    wrong = admission_checks(evaluation(evidence={"t_stat": -4.0}), Thresholds())
    assert "negate the formula" in next(check.hint for check in wrong if check.name == "t_stat")


def test_only_what_the_ledger_holds_can_be_admitted():
    with pytest.raises(ValueError, match="only what the ledger holds is admitted"):
        admission_checks(evaluation().model_copy(update={"standing": None}), Thresholds())


@pytest.mark.parametrize(
    ("evidence", "in_sample", "fails"),
    [
        ({}, 0.03, []),
        ({"t_stat": 1.6}, 0.03, ["t_stat"]),
        ({"rank_ic": 0.007}, 0.03, ["persistence"]),
        ({"rank_ic": -0.03, "t_stat": -6.0}, 0.03, ["t_stat", "persistence"]),
        ({"long_short": 0.001}, 0.03, ["net_return"]),
    ],
)
def test_the_hold_out_must_confirm(evidence, in_sample, fails):
    found = evaluation(evidence=evidence)
    found = found.model_copy(update={"splits": {"holdout": found.splits["valid"]}})
    assert failed(promotion_checks(found, in_sample, Thresholds())) == fails


def test_redundancy_is_the_largest_correlation_either_way():
    check = redundancy_check({"one": 0.3, "other": -0.8}, Thresholds())
    assert (check.value, check.passed) == (0.8, False)
    assert "other" in check.hint
    assert redundancy_check({"one": 0.7}, Thresholds()).passed
    assert redundancy_check({}, Thresholds()).passed


def test_what_adds_nothing_is_refused():
    assert marginal_check(0.001, Thresholds()).passed
    assert failed([marginal_check(0.0, Thresholds())]) == ["marginal"]


def test_a_formula_with_a_refuted_claim_is_refused():
    held = Comparison(name="later_cut", passed=True, cells=9, worst=0.0, refuted=None, detail="d")
    broken = held.model_copy(update={"name": "later_noise", "passed": False, "refuted": date(2020, 1, 2)})
    told = {"formula": "$close", "market": "m", "snapshot": "s", "universe": "u", "seed": 1, "dates": ()}
    assert causality_check(Certificate(**told, checks=(held,), proven=True)).passed
    check = causality_check(Certificate(**told, checks=(held, broken), proven=False))
    assert (check.passed, check.value) == (False, 1)
    assert "later_noise" in check.hint
