"""The fast evaluator against the exact reference, and its causality."""

from functools import cache

import numpy as np
import pytest

from factors.evaluator import evaluate, evaluate_frame
from factors.expression import Call, Expr, Field, Number, call, is_sequence
from factors.operators import LITERAL_KINDS, OPERATORS, Kind, LookBack, ParameterKind
from factors.parse import parse
from tests.panels import bars_of, grid_of, panel_of, tree_of, unmasked
from tests.reference import DAYS, INSTRUMENTS, KINDS, factor_values, sample_fields
from tests.reference import evaluate as exact

WINDOWS = (2, 7, 30)
FIELDS = (Field("close"), Field("volume"), Field("open"))
# Values of these are differences of larger ones: near zero, only their distance on the inputs' scale has a meaning.
UNITLESS = {
    *("TS_ZSCORE", "TS_SKEW", "TS_KURT", "TS_CORR", "REGRSQ", "TS_PCTCHANGE"),
    *("ZSCORE", "SKEW", "KURT", "QUANTILE_BUCKET", "GROUP_ZSCORE"),
}


# Other literals, one for each window.
NUMBERS = {
    "q": (0.25, 0.0, 0.49),
    "low": (0.25, 0.0, 1.0),
    "high": (1.5, 1.0, 20.0),
    "m": (2, 1, 2.5),
    "n": (2, 5, 10),
}


def applied(op, window, case=0):
    """The operator on plain fields with this window and the case's other literals; ``SEQUENCE`` in a regression."""
    if op.name == "SEQUENCE":
        return call("REGRESI", FIELDS[0], call(op.name, window), window)
    series = iter(FIELDS)
    args = []
    for parameter in op.parameters:
        if parameter.kind is ParameterKind.SERIES:
            args.append(next(series))
        elif parameter.kind is ParameterKind.GROUP:
            args.append(Field("sector"))
        else:
            args.append(Number(window if parameter.kind is ParameterKind.WINDOW else NUMBERS[parameter.name][case]))
    return call(op.name, *args)


def assert_close(fast, slow, scale):
    known = np.isfinite(slow)
    np.testing.assert_array_equal(np.isfinite(fast), known)
    difference = np.abs(fast - slow)[known]
    allowed = 1e-9 * np.abs(slow) + scale
    assert (difference <= allowed[known]).all(), difference.max()


@cache
def market(kind: str, seed: int):
    """A sample market and its panel."""
    sampled = sample_fields(np.random.default_rng(seed), kind)
    return sampled, panel_of(*sampled[:3])


def both(expr: Expr, kind: str, seed: int):
    """Fast and exact values of a formula on one sample market, and that market."""
    (fields, member, sector, first_row), panel = market(kind, seed)
    fast = grid_of(evaluate(expr, panel), panel, INSTRUMENTS, DAYS)
    bar = np.any([~np.isnan(grid) for grid in fields.values()], axis=0)
    with np.errstate(all="ignore"):
        slow = factor_values(tree_of(expr), fields, member & bar, sector, first_row)
    return fast, np.where(bar, slow, np.nan), fields


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("op", OPERATORS.values(), ids=lambda op: op.name)
def test_operator_equals_the_reference(op, kind):
    literals = any(parameter.kind in LITERAL_KINDS for parameter in op.parameters)
    for case, window in enumerate(WINDOWS if literals else WINDOWS[:1]):
        fast, slow, fields = both(applied(op, window, case), kind, seed=window)
        size = 1.0 if op.name in UNITLESS else max(np.nanmax(np.abs(fields[f.name])) for f in FIELDS)
        if op.name in {"TS_COV", "TS_VAR"}:
            with np.errstate(over="ignore"):
                size = min(size * size, 1e300)
        # Mixed 1e300 and 1e-300: a difference of the large says nothing of the small.
        assert_close(fast, slow, 1e-12 * size if op.name not in UNITLESS else 1e-9)


def random_formula(rng, depth):
    """A random tree over the whole registry."""
    if depth == 0 or rng.random() < 0.15:
        return Field(str(rng.choice(["open", "high", "low", "close", "volume", "return"])))
    op = OPERATORS[str(rng.choice([name for name in OPERATORS if name != "SEQUENCE"]))]
    window = int(rng.integers(2, 15))
    args = []
    for parameter in op.parameters:
        if parameter.kind is ParameterKind.SERIES:
            args.append(random_formula(rng, depth - 1))
        elif parameter.kind is ParameterKind.GROUP:
            args.append(Field("sector"))
        elif parameter.kind is ParameterKind.WINDOW:
            args.append(Number(window))
        else:
            number = max(parameter.low, min(parameter.high, float(rng.normal())))
            args.append(Number(np.ceil(number) if parameter.kind is ParameterKind.INTEGER else number))
    if op.pairs and rng.random() < 0.3:
        args[int(rng.integers(2))] = call("SEQUENCE", window)
    return call(op.name, *args)


@pytest.mark.parametrize("seed", range(100))
def test_nested_formulas_equal_the_reference(seed):
    """Nesting, against the reference of the outermost operator fed with the evaluator's own arguments.

    Composing the reference all the way down would amplify last-digit differences through ranks and comparisons.
    A statistic without unit, such as skewness, of values that differ in their last digit alone is held to what blurring
    that digit makes of it.
    """
    rng = np.random.default_rng(seed)
    expr = random_formula(rng, 4)
    while not isinstance(expr, Call):
        expr = random_formula(rng, 4)
    fields, member, sector, _ = sample_fields(rng, str(rng.choice(["complete", "ragged", "suspended", "sparse"])))
    panel = panel_of(fields, member, sector)
    inner = {f"x{i}": arg for i, arg in enumerate(expr.args) if arg.children and not is_sequence(arg)}
    known = {name: grid_of(unmasked(arg, panel), panel, INSTRUMENTS, DAYS) for name, arg in inner.items()}
    outer = ("call", expr.op.name, [
        ("field", f"x{i}") if f"x{i}" in inner else tree_of(arg) for i, arg in enumerate(expr.args)
    ])  # fmt: skip
    bar = np.any([~np.isnan(grid) for grid in fields.values()], axis=0)
    with np.errstate(all="ignore"):
        slow = exact(outer, fields | known, member & bar, sector)
        blur = {name: grid * (1 + rng.uniform(-1e-13, 1e-13, grid.shape)) for name, grid in known.items()}
        blurred = exact(outer, fields | blur, member & bar, sector) if expr.op.name in UNITLESS else slow
    fast = grid_of(unmasked(expr, panel), panel, INSTRUMENTS, DAYS)
    read = [*known.values(), *(fields[arg.name] for arg in expr.args if isinstance(arg, Field) and arg.name in fields)]
    size = max([1.0, *(np.nanmax(np.abs(grid), initial=0.0) for grid in read)])
    scale = 1e-9 * size + 10 * np.nan_to_num(np.abs(blurred - slow))
    assert_close(np.where(bar, fast, np.nan), np.where(bar, slow, np.nan), scale)


@pytest.mark.parametrize("op", OPERATORS.values(), ids=lambda op: op.name)
def test_no_operator_sees_the_future(op):
    """Values up to a date are bit-identical when later data are randomised, and when they are cut off."""
    rng = np.random.default_rng(3)
    fields, member, sector, _ = sample_fields(rng, "ragged")
    expr, cut = applied(op, 9), 70
    whole = evaluate(expr, panel_of(fields, member, sector))
    perturbed = {name: grid.copy() for name, grid in fields.items()}
    for grid in perturbed.values():
        grid[cut:] *= rng.uniform(0.5, 2, grid[cut:].shape)
    other = evaluate(expr, panel_of(perturbed, member, sector))
    np.testing.assert_array_equal(whole[:, :cut], other[:, :cut])
    early = panel_of({name: grid[:cut] for name, grid in fields.items()}, member[:cut], sector)
    again = grid_of(evaluate(expr, early), early, INSTRUMENTS, cut)
    full = panel_of(fields, member, sector)
    np.testing.assert_array_equal(grid_of(whole, full, INSTRUMENTS, DAYS)[:cut], again)


@pytest.mark.parametrize("op", [op for op in OPERATORS.values() if op.kind is Kind.TIME_SERIES], ids=lambda op: op.name)
def test_no_time_series_operator_sees_other_instruments_or_older_rows(op):
    rng = np.random.default_rng(4)
    fields, member, sector, _ = sample_fields(rng, "complete")
    expr = applied(op, 9)
    values = grid_of(
        evaluate(expr, panel_of(fields, member, sector)), panel_of(fields, member, sector), INSTRUMENTS, DAYS
    )
    noisy = {name: grid.copy() for name, grid in fields.items()}
    for grid in noisy.values():
        grid[:, 1:] *= rng.uniform(0.5, 2, grid[:, 1:].shape)
        if op.look_back is not LookBack.FADING:
            grid[:40, 0] *= rng.uniform(0.5, 2, 40)
    other = grid_of(evaluate(expr, panel_of(noisy, member, sector)), panel_of(noisy, member, sector), INSTRUMENTS, DAYS)
    start = 40 + expr.look_back
    np.testing.assert_allclose(values[start:, 0], other[start:, 0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "op", [op for op in OPERATORS.values() if op.kind is Kind.CROSS_SECTION], ids=lambda op: op.name
)
def test_no_cross_section_sees_non_members(op):
    rng = np.random.default_rng(5)
    fields, member, sector, _ = sample_fields(rng, "complete")
    noisy = {name: np.where(member, grid, grid * 1e6) for name, grid in fields.items()}
    values = evaluate(applied(op, 1), panel_of(fields, member, sector))
    np.testing.assert_array_equal(values, evaluate(applied(op, 1), panel_of(noisy, member, sector)))


@pytest.mark.parametrize("formula", ["EMA($close, 9)", "SMA($close, 9, 2)", "MEAN($close)"])
def test_the_mean_of_one_level_is_that_level(formula):
    """Three instruments always close at 0.1; on ten days all do."""
    fields, member, sector, _ = sample_fields(np.random.default_rng(6), "constant")
    panel = panel_of(fields, member, sector)
    values = grid_of(evaluate(parse(formula), panel), panel, INSTRUMENTS, DAYS)
    level = values[50:60] if formula.startswith("MEAN") else values[:, :3]
    assert set(level[np.isfinite(level)].tolist()) == {0.1}


def test_a_value_waits_for_its_look_back():
    fields, member, sector, first_row = sample_fields(np.random.default_rng(6), "ragged")
    panel = panel_of(fields, member, sector)
    values = grid_of(evaluate(parse("TS_MEAN(DELAY($close, 5), 10)"), panel), panel, INSTRUMENTS, DAYS)
    for lane in range(INSTRUMENTS):
        known = np.flatnonzero(np.isfinite(values[:, lane]))
        assert not len(known) or known[0] == first_row[lane] + 14


def test_the_order_of_rows_does_not_matter():
    fields, member, sector, _ = sample_fields(np.random.default_rng(7), "ragged")
    bars = bars_of(fields, member, sector)
    formula = "RANK(TS_CORR($close, $volume, 10)) + GROUP_RANK($return, $sector)"
    straight = evaluate_frame(formula, bars)
    assert straight.equals(evaluate_frame(formula, bars.sample(fraction=1.0, shuffle=True, seed=1)))
    assert straight.columns == ["date", "symbol", "value"]
    assert straight.height == bars.height
    assert 0 < straight["value"].null_count() < bars.height


def test_a_spike_touches_only_its_own_windows():
    """A 1e9 spike leaves every window that does not hold it unchanged to 1e-9."""
    fields, member, sector, _ = sample_fields(np.random.default_rng(8), "complete")
    spiked = {name: grid.copy() for name, grid in fields.items()}
    spiked["close"][50, 0] = 1e9
    for formula in ("TS_STD($close, 10)", "TS_CORR($close, $volume, 10)", "TS_MEAN($close, 10)", "TS_SKEW($close, 10)"):
        before = evaluate(parse(formula), panel_of(fields, member, sector))[0, 60:, 0]
        after = evaluate(parse(formula), panel_of(spiked, member, sector))[0, 60:, 0]
        np.testing.assert_allclose(after, before, rtol=1e-9)


@pytest.mark.parametrize(("formula", "expected"), [("TS_ZSCORE($close, 2)", 2**-0.5), ("ZSCORE($close)", None)])
@pytest.mark.parametrize("gap", [1e-11, np.spacing(4.7) / 4.7])
def test_z_scores_of_values_a_hair_apart_keep_their_digits(formula, expected, gap):
    close = 4.7 * np.array([[1.0, 1.0 + gap], [1.0 + gap, 1.0]])
    panel = panel_of({"close": close}, np.ones((2, 2), bool), np.zeros(2, int))
    values = evaluate(parse(formula), panel)[0, 1, :2]
    wanted = [expected, -expected] if expected else [2**-0.5, -(2**-0.5)]
    np.testing.assert_allclose(values, wanted, rtol=1e-9)
