"""One form for the many ways to write a formula: the values stay, the disguises go."""

from random import Random

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from factors.alphas import published
from factors.canonical import canonical, canonicalised, pattern, ranking
from factors.errors import FormulaError
from factors.evaluator import evaluate
from factors.expression import fields, walk
from factors.parse import parse
from tests.disguises import disguised, rewindowed
from tests.fuzz_parse import formula
from tests.panels import panel_of

SEEDS = st.integers(0, 2**32)


def random_formula(seed):
    """A formula of the language, drawn from a seed; formulas that only look like one are drawn again."""
    draw = Random(seed)
    while True:
        try:
            return parse(formula(draw, 4))
        except FormulaError:
            continue


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
        ("TS_QUANTILE(-$close, 9, 0.8)", "-TS_QUANTILE($close, 9, 0.8)"),
        ("WHERE($close > $open, $high, $low)", "WHERE($close > $open, $low, $high)"),
    ],
)
def test_what_differs_stays_apart(one, other):
    assert canonical(parse(one)) is not canonical(parse(other))


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
