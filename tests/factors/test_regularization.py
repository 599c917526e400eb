"""The gate: what it measures of a formula, and what it refuses."""

import numpy as np
import pytest

from factors.admission import Thresholds, admission_checks, redundancy_check, train_ranks
from factors.evaluation import SplitMetrics
from factors.evaluator import evaluate
from factors.expression import distinct
from factors.parse import parse
from factors.regularization import Limits, Zoo, alignment_check, penalty, structural_checks
from factors.significance import expected_best_t
from tests.panels import panel_of
from tests.reference import sample_fields

KNOWN = parse("RANK(TS_CORR($close, $volume, 20)) - TS_ZSCORE(DELTA($close, 5) / $close, 60)")


def failed(formula, zoo=None, limits=None):
    checks = structural_checks(parse(formula), zoo or Zoo(), limits or Limits())
    return {check.name: check for check in checks if not check.passed}


def test_a_plain_formula_passes_every_check():
    checks = structural_checks(parse("RANK($close)"), Zoo(), Limits())
    assert all(check.passed and not check.hint for check in checks)
    assert [check.name for check in checks] == [
        "length",
        "parameters",
        "fields",
        "depth",
        "look_back",
        "duplicate",
        "originality",
    ]


@pytest.mark.parametrize(
    ("formula", "name", "value"),
    [
        ("$close" + " + $open" * 30, "length", 61),
        (" + ".join(f"DELAY($close, {d})" for d in range(1, 14)), "parameters", 13),
        ("TS_MEAN(" * 14 + "$close" + ", 2)" * 14, "depth", 15),
        ("TS_MEAN($close, 262)", "look_back", 261),
        ("TS_MEAN(TS_MEAN($close, 200), 100)", "look_back", 298),
    ],
)
def test_complexity_is_refused_with_a_hint(formula, name, value):
    check = failed(formula)[name]
    assert check.value == value
    assert str(value) in check.hint
    assert str(int(check.limit)) in check.hint


def test_thirty_nested_means_and_long_sums_are_refused():
    assert "depth" in failed("TS_MEAN(" * 30 + "$close" + ", 2)" * 30)
    assert failed(" + ".join(["$close"] * 31))


def test_too_many_fields():
    six = "$open + $high + $low + $close + $volume + $return"
    assert failed(six)["fields"].value == 6


def test_a_known_formula_is_a_duplicate_however_it_is_spelled():
    zoo = Zoo([("card", KNOWN)])
    spelled = "RANK(TS_CORR($close,$volume,20))-(TS_ZSCORE(DELTA($close,5)/$close,60))"
    check = failed(spelled, zoo)["duplicate"]
    assert "card" in check.hint


def test_a_shared_subtree_is_named_with_its_owner():
    zoo = Zoo([("card", KNOWN)])
    formula = "ABS(RANK(TS_CORR($close, $volume, 20)) - TS_ZSCORE(DELTA($close, 5) / $close, 60))"
    check = failed(formula, zoo)["originality"]
    assert check.value == KNOWN.size == 13
    assert "card" in check.hint
    assert str(KNOWN) in check.hint
    assert "originality" not in failed("ABS(TS_ZSCORE(DELTA($close, 5) / $close, 60))", zoo)


def test_the_index_equals_pairwise_matching():
    """s(f, g) by brute force over every pair of subtrees, against the index, for a zoo of small formulas."""
    texts = ["RANK($close)", "TS_MEAN($close, 5) / $open", "-RANK($close) * $volume", "TS_MEAN($close, 5) - $open"]
    exprs = [parse(text) for text in texts]
    for expr in exprs:
        for others in ([other] for other in exprs):
            zoo = Zoo((str(other), other) for other in others)
            common = {node for node in distinct(expr) if node.children} & set(distinct(*others))
            match = zoo.nearest(expr)
            assert (match.nodes if match else 0) == max((node.size for node in common), default=0)


def test_a_tried_formula_is_a_duplicate_but_its_parts_stay_free():
    zoo = Zoo()
    zoo.add_tried("candidate 1.2.0", KNOWN)
    assert "candidate 1.2.0" in failed(str(KNOWN), zoo)["duplicate"].hint
    assert not failed(f"ABS({KNOWN})", zoo)


def test_alignment_below_its_limit_is_refused_with_the_judge_s_reason():
    assert alignment_check(0.5, "reason", Limits()).passed
    check = alignment_check(0.49, "say which volume", Limits())
    assert (check.passed, check.hint) == (False, "say which volume")


def test_the_penalty_rises_with_length_numbers_fields_likeness_and_misalignment():
    zoo, limits = Zoo([("card", KNOWN)]), Limits()
    plain = penalty(parse("RANK($open)"), zoo, limits)
    assert 0 < plain < penalty(parse("RANK($open + $high)"), zoo, limits)
    assert plain < penalty(parse("RANK($open + 1)"), zoo, limits)
    assert plain < penalty(parse("RANK($open)"), zoo, limits, alignment=0.5)
    assert penalty(parse("ABS(DELTA($close, 5) / $close)"), zoo, limits) > penalty(
        parse("ABS(DELTA($close, 5) / $close)"), Zoo(), limits
    )
    assert penalty(parse(" + ".join(["DELAY($close, 300)"] * 30)), zoo, limits, alignment=0.0) <= 1


def metrics(**changed):
    figures = {
        "days": 500,
        "coverage": 0.9,
        "ic": 0.03,
        "icir": 0.2,
        "rank_ic": 0.03,
        "rank_icir": 0.2,
        "t_stat": 4.0,
        "rank_t_stat": 4.0,
        "hit_rate": 0.55,
        "turnover": 0.3,
    }
    return SplitMetrics(**figures | changed)


@pytest.mark.parametrize(
    ("train", "valid", "fails"),
    [
        ({}, {}, []),
        ({"rank_t_stat": 1.6}, {}, ["t_stat"]),
        ({"rank_t_stat": -4.0, "rank_ic": -0.03}, {"rank_ic": -0.03}, ["t_stat"]),
        ({}, {"rank_ic": -0.01}, ["persistence"]),
        ({}, {"rank_ic": 0.007}, ["persistence"]),
        ({}, {"coverage": 0.5}, ["coverage"]),
        ({"turnover": 0.8}, {}, ["turnover"]),
        ({"rank_t_stat": None, "rank_ic": None}, {"rank_ic": None}, ["t_stat", "persistence"]),
    ],
)
def test_admission(train, valid, fails):
    checks = admission_checks({"train": metrics(**train), "valid": metrics(**valid)}, Thresholds())
    assert [check.name for check in checks if not check.passed] == fails
    assert all(check.hint for check in checks if not check.passed)


def test_a_wrong_sign_is_told_to_turn():
    wrong = metrics(rank_t_stat=-4.0, rank_ic=-0.03)
    checks = admission_checks({"train": wrong, "valid": wrong}, Thresholds())
    assert "negate the formula" in next(check.hint for check in checks if check.name == "t_stat")


def test_redundancy_finds_the_same_ranking_in_other_words():
    fields, member, sector, _ = sample_fields(np.random.default_rng(0), "complete")
    panel = panel_of(fields, member, sector, train_rows=90)

    def ranks(formula):
        return train_ranks(evaluate(parse(formula), panel), panel)

    twin = redundancy_check(ranks("LOG($volume)"), [("$volume", ranks("$volume"))], Thresholds())
    assert twin.value == pytest.approx(1)
    assert not twin.passed
    assert "$volume" in twin.hint
    opposite = redundancy_check(ranks("-$volume"), [("$volume", ranks("$volume"))], Thresholds())
    assert opposite.value == pytest.approx(1)
    other = redundancy_check(ranks("$return"), [("$volume", ranks("$volume"))], Thresholds())
    assert other.passed
    assert redundancy_check(ranks("$return"), [], Thresholds()).passed


def test_what_luck_alone_shows():
    """Against the mean of simulated maxima."""
    draws = np.random.default_rng(0).normal(size=(4000, 100)).max(axis=1)
    assert expected_best_t(100) == pytest.approx(draws.mean(), rel=0.02)
    assert expected_best_t(1) == 0.0
