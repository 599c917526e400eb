"""One form for the many ways to write a formula: the values stay, the disguises go."""

from contextlib import suppress
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from factors.alphas import published
from factors.canonical import canonical, canonicalised, pattern, ranking
from factors.errors import FormulaError
from factors.evaluator import evaluate
from factors.expression import Number, fields, walk
from factors.parse import parse
from tests.disguises import disguised, rewindowed
from tests.fuzz_parse import formula
from tests.panels import panel_of

HUGE = 1e15
SEEDS = st.integers(0, 2**32)


def random_formula(seed):
    """A formula of the language, drawn from a seed; what only looks like one, or has huge numbers, is drawn again."""
    draw = Random(seed)
    while True:
        with suppress(FormulaError):
            expr = parse(formula(draw, 4))
            numbers = [node.value for node in walk(expr) if isinstance(node, Number)]
            if max(numbers, default=0) < HUGE and "INV(0)" not in str(canonical(expr)):  # which never has a value
                return expr


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("$close - $open", "$close + -1 * $open"),
        ("$close - $open", "-($open - $close)"),
        ("-(-$close)", "$close"),
        ("$close * 1 + 0", "$close"),
        ("$close / $open", "INV($open) * $close"),
        ("$close / ($open * $high)", "$close / $open / $high"),
        ("1 / (1 / $close)", "$close"),
        ("2 * $close * 3", "6 * $close"),
        ("$close - ($open - $high)", "$high - $open + $close"),
        ("$close > $open", "$open < $close"),
        ("$close >= $open", "$open <= $close"),
        ("MAX($close, MAX($open, $high))", "MAX(MAX($high, $close), $open)"),
        ("-MAX(-$close, -$open)", "MIN($open, $close)"),
        ("TS_CORR($close, $volume, 20)", "-TS_CORR(-2 * $volume, $close, 20)"),
        ("TS_COV($close, $volume, 20)", "0.5 * TS_COV($volume, 2 * $close, 20)"),
        ("TS_MEAN(-2 * $close, 5)", "-2 * TS_MEAN($close, 5)"),
        ("TS_STD(-2 * $close, 5)", "2 * TS_STD($close, 5)"),
        ("TS_VAR(3 * $close, 5)", "9 * TS_VAR($close, 5)"),
        ("TS_KURT(-3 * $close, 5)", "TS_KURT($close, 5)"),
        ("TS_MAX(-$low, 5)", "-TS_MIN($low, 5)"),
        ("TS_ARGMAX(-$low, 5)", "TS_ARGMIN($low, 5)"),
        ("ABS($close - $open)", "ABS($open - $close)"),
        ("ABS(ABS($return))", "ABS(-$return)"),
        ("ZSCORE(3 * ZSCORE($close))", "ZSCORE($close)"),
        ("POW(-2 * $close, 3)", "-8 * POW($close, 3)"),
        ("POW($close, -1)", "1 / $close"),
        ("SIGNEDPOWER(-4 * $return, 0.5)", "-2 * SIGNEDPOWER($return, 0.5)"),
        ("RANK(RANK($close))", "RANK($close)"),
        ("RANK(2 * LOG($volume) + 1)", "RANK($volume)"),
        ("RANK(-EXP($return))", "RANK(-1 * $return)"),
        ("TS_RANK(3 * $close - 1, 9)", "TS_RANK($close, 9)"),
        ("WHERE(1, $close, 0)", "$close"),
        ("WHERE($close >= $open, 0, 1)", "WHERE($close < $open, 1, 0)"),
        ("NOT($close < $open)", "$open <= $close"),
        ("NOT(NOT($close < $open))", "$close < $open"),
        ("$close - $open > 0", "$open < $close"),
        ("TS_CORR($close + 1, $volume - 3, 5)", "TS_CORR($close, $volume, 5)"),
        ("TS_STD($close - 3, 5)", "TS_STD($close, 5)"),
        ("TS_MEAN($close + 1, 5)", "1 + TS_MEAN($close, 5)"),
        ("RANK(LOG($close / $open))", "RANK($close / $open)"),
    ],
)
def test_two_ways_to_write_the_same(one, other):
    assert canonical(parse(one)) is canonical(parse(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("$close - $open", "$close + $open"),
        ("$close / $open", "$open / $close"),
        ("RANK($close)", "RANK(-$close)"),
        ("RANK(LOG1P(DELTA($close, 5)))", "RANK(DELTA($close, 5))"),
        ("RANK(LOG($return))", "RANK($return)"),  # a logarithm has no value where a return is negative
        ("TS_RANK(RANK($close), 9)", "TS_RANK($close, 9)"),
        ("TS_MEAN($close, 5)", "TS_MEAN($close, 6)"),
        ("MAX($close, $open)", "MIN($close, $open)"),
        ("REGBETA($close, $open, 9)", "REGBETA($open, $close, 9)"),
        ("TS_VAR(3 * $close, 5)", "3 * TS_VAR($close, 5)"),
        ("SIGNEDPOWER($return, 2)", "POW($return, 2)"),
        ("DELAY($close, 1) - $close", "DELAY($open, 1) - $close"),
        ("POW(1 - $close, 0.5)", "POW($close - 1, 0.5)"),
        ("$close - DELAY($open, 5)", "DELTA($close, 5)"),
        ("$close - 2 * DELAY($close, 5)", "DELTA($close, 5)"),
        ("($close - TS_MEAN($close, 9)) / TS_STD($close, 8)", "TS_ZSCORE($close, 9)"),
        ("SQRT($return * $return)", "$return"),
        ("TS_VAR($close + $open, 5)", "TS_VAR($close, 5)"),
        ("TS_PROD($close + 1, 5)", "TS_PROD($close, 5)"),
        ("RANK($open / $close)", "RANK($close / $open)"),
        ("WHERE($close < $open, 1, 0)", "WHERE($close <= $open, 1, 0)"),
        ("TS_QUANTILE(-$close, 9, 0.8)", "-TS_QUANTILE($close, 9, 0.8)"),
        ("WHERE($close > $open, $high, $low)", "WHERE($close > $open, $low, $high)"),
    ],
)
def test_what_differs_stays_apart(one, other):
    assert canonical(parse(one)) is not canonical(parse(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("$close * $close / $close", "$close"),
        ("($close + $close) / 2", "$close"),
        ("2 * $close - $close", "$close"),
        ("$close + $close", "2 * $close"),
        ("MAX($close, $close)", "$close"),
        ("EXP(LOG($close))", "$close"),
        ("SQRT(POW($return, 2))", "ABS($return)"),
        ("-MAX(-$return, 0)", "MIN($return, 0)"),
        ("MAX(2 * $close, 2 * MAX($open, $high))", "2 * MAX($high, MAX($close, $open))"),
        ("2 * $close - 2 * $open", "2 * ($close - $open)"),
        ("2 * ($close + $open) + $high", "2 * $close + (2 * $open + $high)"),
        ("$close - DELAY($close, 5)", "DELTA($close, 5)"),
        ("$close + $open - DELAY($close + $open, 5)", "DELTA($open + $close, 5)"),
        ("$close - MEAN($close)", "DEMEAN($close)"),
        ("$close / DELAY($close, 5) - 1", "TS_PCTCHANGE($close, 5)"),
        ("DELTA($close, 5) / DELAY($close, 5)", "TS_PCTCHANGE($close, 5)"),
        ("($close - TS_MEAN($close, 9)) / TS_STD($close, 9)", "TS_ZSCORE($close, 9)"),
        ("($close - MEAN($close)) / STD($close)", "ZSCORE($close)"),
        ("POW($close / $open, 2)", "$close * $close / $open / $open"),
        ("($close - $open) * ($close - $open)", "POW($open - $close, 2)"),
        ("LOG(1 + $volume)", "LOG1P($volume)"),
        ("LOG($close / DELAY($close, 1))", "DELTA(LOG($close), 1)"),
        ("LOG($close) - LOG(DELAY($close, 1))", "DELTA(LOG($close), 1)"),
        ("RANK(DELTA(LOG($close), 5))", "RANK(TS_PCTCHANGE($close, 5))"),
        ("RANK(-1 / $close)", "RANK($close)"),
        ("RANK(2 * $close - 2 * $open)", "RANK($close - $open)"),
        ("6 * $close + $high - $high", "$close"),
        ("3 * $volume + 0.7 * $high + 2 * $open + 9 * $close", "9 * $close + (2 * $open + 0.7 * $high) + 3 * $volume"),
        ("7 * $close + $high - DELAY($high, 3)", "7 * $close + DELTA($high, 3)"),
        ("LOG(SQRT($close / $open))", "LOG($close) - LOG($open)"),
        ("POW(SQRT($close / $open), -2)", "$open / $close"),
        ("DELTA(DELTA($close, 1), 2) - DELTA($close, 1)", "-DELTA($close, 1) + DELTA(DELTA($close, 1), 2)"),
        ("RANK($close) * RANK($open) / RANK($open)", "$close"),
    ],
)
def test_two_ways_to_rank_the_same(one, other):
    assert ranking(parse(one)) is ranking(parse(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("WHERE($close == $close, $open, $high)", "$high"),
        ("WHERE($close != $close, $open, $high)", "$open"),
        ("-DELTA($close, 1) + DELTA(DELTA($close, 1), 2)", "DELAY(DELTA($close, 1), 2) + DELTA($close, 1)"),
        ("TS_MEAN(EXP(LOG($return)), 5)", "TS_MEAN($return, 5)"),
        ("TS_SUM(POW(SQRT($return), 2), 20)", "TS_SUM($return, 20)"),
        ("TS_SUM(LOG($return / DELAY($return, 1)), 10)", "TS_SUM(DELTA(LOG($return), 1), 10)"),
        ("TS_MEAN(WHERE(LOG($return), $close, $close), 5)", "TS_MEAN($close, 5)"),
        ("TS_MEAN($return * MAX($return, 0) / MAX($return, 0), 5)", "TS_MEAN($return, 5)"),
        ("POW(POW($return, 3), 1 / 3)", "$return"),
        ("RANK(LOG($return))", "RANK($return)"),
        ("$close - TS_MEAN($close, 9)", "$close"),
        ("TS_ZSCORE($close, 9)", "$close"),
    ],
)
def test_what_ranks_otherwise_stays_apart(one, other):
    assert ranking(parse(one)) is not ranking(parse(other))


@pytest.mark.parametrize(
    "formula",
    [
        "INV(DELAY(TS_STD($close, 5), 5)) * TS_STD($close, 5)",
        "$open / DELAY(DELAY($close, 1), 1) * DELAY($close, 1)",
        "MEAN($close) / DELAY(STD($close), 5) * STD($close)",
        "GROUP_NEUTRALIZE(GROUP_MEAN($low, $sector), $sector) - $low",
        "LOG(-TS_ZSCORE($close, 100)) + SQRT(0.5) * $low",
        "DELTA(" * 15 + "$close" + "".join(f", {d}) + $open" for d in range(1, 16)),
    ],
)
def test_what_is_put_together_in_odd_places_is_no_surprise(formula):
    known = canonicalised(parse(formula))
    assert canonical(known.form) is known.form
    assert known.ranking.size < 10_000


@pytest.mark.parametrize(
    "same", ["RANK($volume)", "-$volume", "ZSCORE(2 * $volume)", "3 - LOG($volume)", "$volume + 1"]
)
def test_what_ranks_alike_or_the_other_way_round_is_one_ranking(same):
    assert ranking(parse(same)) is ranking(parse("$volume"))


@given(SEEDS, SEEDS)
@settings(max_examples=400, deadline=None)
def test_no_disguise_changes_the_canonical_form(seed, other):
    expr = random_formula(seed)
    assert canonical(disguised(expr, Random(other))) is canonical(expr)


@given(SEEDS)
@settings(max_examples=400, deadline=None)
def test_a_canonical_form_is_its_own(seed):
    form = canonical(random_formula(seed))
    assert canonical(form) is form


@given(SEEDS)
@settings(max_examples=400, deadline=None)
def test_windows_do_not_change_the_pattern(seed):
    expr = random_formula(seed)
    assume("1000" not in str(expr))  # the longest window there is
    changed = rewindowed(expr)
    assert pattern(canonical(changed)) is pattern(canonical(expr))
    assert pattern(ranking(changed)) is pattern(ranking(expr))


@pytest.mark.parametrize("number", ["1e155", "1e308", "1.7976931348623157e308", "1e-200", "1e-320", "5e-324", "0"])
@pytest.mark.parametrize(
    "formula",
    [
        "TS_VAR(-($volume * {n}), 5)",
        "INV(-($low / {n}))",
        "{n} * ({n} * $close) / ({n} * $open)",
        "POW({n} * $close, 3) + {n} + {n} - {n} * 3",
        "RANK({n} * ({n} * EXP({n} * $close)))",
        "TS_COV({n} * $close, -{n} * $open, 9)",
        "SIGNEDPOWER({n} * $close, {n})",
    ],
)
def test_numbers_at_the_ends_of_their_range_are_no_surprise(formula, number):
    known = canonicalised(parse(formula.replace("{n}", number)))
    assert canonical(known.form) is known.form
    assert pattern(known.form).size <= known.form.size


def test_every_published_alpha_keeps_its_form_in_disguise():
    draw = Random(1)
    for alpha in published():
        for _ in range(5):
            assert canonical(disguised(alpha.expr, draw)) is canonical(alpha.expr), alpha.name


def test_a_canonical_form_has_the_values_of_its_formula():
    """On positive prices, wherever both are known; a rounding may move a comparison, but not many."""
    rng = np.random.default_rng(0)
    columns = {name: np.exp(rng.normal(0, 0.3, (60, 40))) for name in ("open", "high", "low", "close", "volume")}
    panel = panel_of(columns, np.ones((60, 40), bool), rng.integers(0, 3, 40))
    compared = 0
    for seed in range(600):
        expr = random_formula(seed)
        form = canonical(expr)
        if not fields(form):
            continue  # it cancels
        ours, theirs = evaluate(form, panel), evaluate(expr, panel)
        known = np.isfinite(ours) & np.isfinite(theirs)
        if known.sum() < 100 or "FLOOR" in str(expr):
            continue
        size = np.abs(theirs[known]).max() or 1.0
        near = np.abs(ours - theirs)[known] <= 1e-7 * np.maximum(np.abs(theirs[known]), 1e-6 * size)
        assert near.mean() > 0.97, f"{expr} as {canonical(expr)}"
        compared += len(list(walk(expr))) > 3
    assert compared > 150
