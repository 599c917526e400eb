"""The prover: nothing in the language is refuted, whatever looks where it must not is, and by the check that should."""

import json
from itertools import product

import numpy as np
import pytest

import factors.evaluator
import factors.labels
from factors.causality import AFTER, prove
from factors.certificate import Certificate
from factors.errors import EvaluationStoppedError
from factors.evaluator import evaluate
from factors.expression import SECTOR, Call, Expr, Field, Number, call
from factors.kernels import cross_section, rolling
from factors.operators import LITERAL_KINDS, OPERATORS, Kind, LookBack, Operator, ParameterKind
from factors.operators.definition import D, Parameter, X
from factors.parse import parse
from factors.perturbation import cut, make_up
from tests.panels import eventful_panel, panel_of
from tests.prove_random import formulas, refuted

FIELDS = (Field("close"), Field("volume"), Field("open"))
UNBOUNDED = 3.0  # stands for the ends of a literal that has none
CLOSE = Field("close")


@pytest.fixture(scope="module")
def panel():
    return eventful_panel()


@pytest.fixture(scope="module")
def long_panel():
    """As many rows as the longest window and some."""
    return eventful_panel(rows=1100, seed=1)


def certified(expr, panel, seed=0, **more) -> Certificate:
    formula = expr if isinstance(expr, Expr) else parse(expr)
    return prove(formula, panel, market="m", snapshot="s", universe="u", seed=seed, threads=1, **more)


def failed(certificate):
    return {check.name for check in certificate.checks if not check.passed}


# every operator


def ends(parameter):
    if parameter.low == -np.inf:
        return -UNBOUNDED, UNBOUNDED
    return parameter.low, parameter.high


def corners():
    """Each operator on plain fields with each combination of its literals' least and greatest values."""
    for op in OPERATORS.values():
        literals = [parameter for parameter in op.parameters if parameter.kind in LITERAL_KINDS]
        for values in product(*map(ends, literals)):
            given = {parameter.name: value for parameter, value in zip(literals, values, strict=True)}
            if all(given[one.name] <= given[one.at_most] for one in literals if one.at_most):
                yield pytest.param(op, given, id=f"{op.name} {' '.join(f'{value:g}' for value in values)}".strip())


def applied(op, given):
    if op.name == "SEQUENCE":
        return call("REGRESI", CLOSE, call(op.name, *given.values()), *given.values())
    series = iter(FIELDS)
    plain = {ParameterKind.SERIES: lambda: next(series), ParameterKind.GROUP: lambda: SECTOR}
    return call(op.name, *(
        given[parameter.name] if parameter.name in given else plain[parameter.kind]() for parameter in op.parameters
    ))  # fmt: skip


@pytest.mark.parametrize(("op", "given"), list(corners()))
def test_every_operator_is_proven_at_every_corner(op, given, long_panel):
    """Of one row there is no dispersion, no correlation and no line: then there is nothing to prove."""
    expr = applied(op, given)
    certificate = certified(expr, long_panel)
    if np.isfinite(evaluate(expr, long_panel)).any():
        assert certificate.proven, certificate
        assert len(certificate.dates) == 3
    else:
        assert given["d"] == 1
        assert not certificate.dates
        assert failed(certificate) == {check.name for check in certificate.checks}


@pytest.mark.parametrize("seed", range(40))
def test_random_formulas_are_proven(seed, panel):
    certificate = certified(next(formulas(panel, seed)), panel, seed)
    assert not refuted(certificate), certificate


# what looks where it must not


def over_time(kernel, look_back=LookBack.WINDOW):
    """A formula over a time-series operator of this kernel and a window of 5."""
    op = Operator(f"LEAKY_{kernel.__name__}", Kind.TIME_SERIES, (X, D), kernel, "", look_back=look_back)
    return Call(op, (CLOSE, Number(5)))


def by_day(kernel, kind=Kind.CROSS_SECTION):
    more = (Parameter("group", ParameterKind.GROUP),) if kind is Kind.GROUP else ()
    op = Operator(f"LEAKY_{kernel.__name__}", kind, (X, *more), kernel, "")
    return Call(op, (CLOSE, SECTOR)[: 1 + len(more)])


def tomorrow(x, _d, out):
    rolling.delay(x[::-1].copy(), 1, out)
    out[:] = out[::-1].copy()


def wild_tomorrow(x, d, out):
    """What nothing in the panel's own future shows."""
    tomorrow(x, d, out)
    out[:] = np.where(np.abs(out) > 1e6, 0.0, x)


def whole_sample(x, _d, out):
    out[:] = x - np.nansum(x, axis=0)


def centred_window(x, d, out):
    rolling.total(x, d, out)
    out[: -(d // 2)] = out[d // 2 :].copy()


def last_row(x, _d, out):
    out[:] = x + len(x)


def all_history(x, _d, out):
    out[:] = np.cumsum(np.nan_to_num(x), axis=0)


def one_row_more(x, d, out):
    rolling.total(x, d + 1, out)


def shift(x, d, out):
    rolling.delay(x, d, out)


def row_number(x, _d, out):
    out[:] = x * np.arange(1.0, len(x) + 1)[:, None]


def mixed_lanes(x, _d, out):
    out[:] = x + np.nansum(x, axis=1, keepdims=True)


def neighbour(x, _d, out):
    out[:] = np.roll(x, 1, axis=1)


def everybody(x, group, out, start, stop):
    cross_section.rank(x, np.zeros_like(group), out, start, stop)


def members_of_tomorrow(x, group, out, start, stop):
    cross_section.rank(x, np.roll(group, -1, axis=1), out, start, stop)


def members_some_day(x, group, out, start, stop):
    ever = np.repeat(group.max(axis=1, keepdims=True), group.shape[1], axis=1)
    cross_section.rank(x, ever, out, start, stop)


def no_sector_as_one(x, group, out, start, stop):
    cross_section.mean(x, group + np.int16(1), out, start, stop)


LATER, EARLIER, LANES, STRANGERS = {"later_noise", "later_cut"}, {"earlier_cut"}, {"other_instruments"}, {"non_members"}
LEAKS = [
    (over_time(tomorrow), LATER | EARLIER),
    (over_time(wild_tomorrow), {"later_noise"}),
    (over_time(whole_sample), LATER | EARLIER),
    (over_time(centred_window), LATER | EARLIER),
    (over_time(last_row), LATER | EARLIER),
    (over_time(all_history), EARLIER),
    (over_time(one_row_more), EARLIER),
    (over_time(shift), EARLIER),
    (over_time(row_number), EARLIER),
    (over_time(mixed_lanes), LANES),
    (over_time(neighbour), LANES),
    (by_day(everybody), STRANGERS),
    (by_day(members_of_tomorrow), LATER | EARLIER),
    (by_day(members_some_day), LATER | EARLIER),
    (by_day(no_sector_as_one, Kind.GROUP), STRANGERS),
]
WRAPPINGS = {
    "alone": lambda leak: leak,
    "ranked": lambda leak: call("RANK", leak),
    "averaged": lambda leak: call("TS_MEAN", leak, 10),
    "compared": lambda leak: call("LT", leak, call("TS_MEDIAN", leak, 20)),
    "faded": lambda leak: call("EMA", leak, 3),
}


@pytest.mark.parametrize(("leak", "checks"), [pytest.param(*case, id=case[0].op.name) for case in LEAKS])
def test_a_leak_is_refuted_by_the_checks_that_should(leak, checks, panel):
    certificate = certified(leak, panel)
    assert failed(certificate) == checks, certificate
    assert not certificate.proven


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("kernel", [tomorrow, whole_sample, one_row_more, shift])
def test_a_leak_is_refuted_inside_a_formula(kernel, wrapping, panel):
    certificate = certified(WRAPPINGS[wrapping](over_time(kernel)), panel)
    assert refuted(certificate), certificate


def test_who_is_left_out_is_seen_where_no_instrument_is_a_stranger():
    """All of a full tile belong to the universe: strangers are made up beside them."""
    draw = np.random.default_rng(0)
    close = np.exp(np.cumsum(draw.normal(0, 0.02, (120, 64)), axis=0))
    full = panel_of({"close": close}, np.ones((120, 64), bool), np.zeros(64, int))
    assert certified("RANK(TS_MEAN($close, 5))", full).proven
    assert failed(certified(by_day(everybody), full)) == STRANGERS


def test_a_listing_that_hides_who_will_be_delisted_is_refuted(panel, monkeypatch):
    def survivors(values, bar, _first_row, _look_back):
        values[:, ~bar[-1]] = np.nan
        values[~bar] = np.nan

    monkeypatch.setattr(factors.evaluator, "hide_unseasoned", survivors)
    assert failed(certified("TS_MEAN($close, 5)", panel)) >= LATER


def test_a_season_shorter_than_the_look_back_is_refuted(panel, monkeypatch):
    def unseasoned(values, bar, _first_row, _look_back):
        values[~bar] = np.nan

    monkeypatch.setattr(factors.evaluator, "hide_unseasoned", unseasoned)
    assert failed(certified("TS_MEAN($close, 100)", panel)) == EARLIER


@pytest.mark.parametrize("delay", [0, 2])
def test_a_label_that_begins_on_another_day_is_refuted(delay, panel, monkeypatch):
    monkeypatch.setattr(factors.labels, "DELAY", delay)
    assert failed(certified("$close", panel)) == {"label_lag"}


def test_a_label_that_is_more_than_that_day_s_return_is_refuted(panel, monkeypatch):
    monkeypatch.setattr(factors.labels, "_carried", lambda close: close * close)
    assert failed(certified("$close", panel)) == {"label_lag"}


def test_a_label_that_is_alike_on_all_days_proves_no_lag():
    close = np.exp(np.linspace(-0.01, 0.01, 30) * np.arange(200)[:, None])
    steady = panel_of({"close": close}, np.ones(close.shape, bool), np.zeros(30, int))
    assert failed(certified("$close", steady)) == {"label_lag"}


def test_a_return_that_does_not_count_the_row_before_is_refuted(panel, monkeypatch):
    node = Field("return")
    monkeypatch.setattr(node, "look_back", 0)
    assert failed(certified(node, panel)) == EARLIER


# what is no leak


@pytest.mark.parametrize(
    "formula",
    [
        "SIGN(TS_CORR(RANK($high), RANK($volume), 4))",  # exactly 0 but for rounding, now and then
        "TS_STD($volume, 20) / TS_STD($close, 30)",
        "GROUP_RANK(TS_SKEW($return, 10), $sector)",
        "EMA(EMA(TS_MEAN($close, 5), 4) / $close, 9)",  # a memory in a memory
        "SMA(RANK($close), 10, 3) - DELAY(EMA($close, 5), 5)",
        "TS_RANK(REGRESI($close, SEQUENCE(20), 20), 10)",
        "$return",
        "WHERE($return > 0, RANK($volume), TS_MEAN($return, 3))",
    ],
)
def test_a_formula_of_known_ways_is_proven(formula, panel):
    certificate = certified(formula, panel)
    assert certificate.proven, certificate


@pytest.mark.parametrize(
    ("formula", "seed"),
    [
        ("DELTA(REGRSQ($low, LOG($close), 3), 1)", 0),  # two equal shares less each other
        ("SIGNEDPOWER(FLOOR($open), REGRESI($open, $close, 3))", 5),  # an exponent that is 0 where two rows are known
    ],
)
def test_what_cancels_is_no_leak(formula, seed, panel):
    certificate = certified(formula, panel, seed)
    assert certificate.proven, certificate


@pytest.mark.parametrize(
    "formula",
    ["TS_ARGMIN(REGRESI($open, $open, 3), 3)", "GROUP_MEAN(GROUP_ZSCORE(TS_STD($high, 40), $sector), $sector)"],
)
def test_nothing_but_rounding_is_neither_proven_nor_refuted(formula, panel):
    certificate = certified(formula, panel)
    assert failed(certificate) == EARLIER
    assert not refuted(certificate)
    assert "left out" in certificate.checks[2].detail


def test_a_fading_memory_is_told_as_the_exception_that_it_is(panel):
    _, _, earlier, *_ = certified("EMA(TS_MEAN($close, 5), 4) / SMA($close, 9, 2)", panel).checks
    assert earlier.passed
    assert "EMA, SMA read all rows, so their values are kept and their arguments are cut on their own" in earlier.detail
    assert "read all rows" not in certified("TS_MEAN($close, 5)", panel).checks[2].detail


# certificates


def test_a_certificate_is_the_same_again_and_on_any_number_of_threads(panel):
    formula = parse("RANK(TS_MEAN($close, 5))")
    facts = {"market": "m", "snapshot": "s", "universe": "u"}
    first, again = (prove(formula, panel, seed=3, threads=threads, **facts) for threads in (1, 2))
    assert first == again
    assert first.dates != prove(formula, panel, seed=4, **facts).dates


def test_dates_are_spread_with_history_to_cut_and_rows_to_follow(panel):
    rows = panel.shape[1]
    found = certified("TS_MEAN($close, 50)", panel, dates=7).dates
    places = np.searchsorted(panel.dates, np.array(found, "datetime64[D]"))
    assert len(found) == 7
    assert 49 < places[0] < 49 + rows / 7
    assert rows - AFTER - rows / 7 < places[-1] < rows - AFTER
    assert (np.diff(places) > 0).all()


@pytest.mark.parametrize("formula", ["LOG(-ABS($close))", "TS_MEAN($close, 400)"])
def test_a_formula_without_a_value_is_not_proven(formula, panel):
    certificate = certified(formula, panel)
    assert not certificate.proven
    assert not refuted(certificate)
    assert {(check.cells, check.passed) for check in certificate.checks} == {(0, False)}
    assert all("no value to compare" in check.detail for check in certificate.checks)


def test_a_certificate_travels_as_json_and_shows_where_it_was_changed(panel):
    certificate = certified("RANK($close)", panel)
    text = certificate.model_dump_json()
    assert Certificate.model_validate_json(text) == certificate
    assert certificate.genuine()
    document = json.loads(text)
    changes = {
        "formula": "$close",
        "market": "n",
        "seed": 1,
        "dates": [],
        "checks": [],
        "proven": False,
        "hash": "0" * 16,
    }
    for name, value in changes.items():
        assert not Certificate.model_validate(document | {name: value}).genuine(), name
    check = document["checks"][0] | {"cells": 1}
    assert not Certificate.model_validate(document | {"checks": [check, *document["checks"][1:]]}).genuine()


def test_a_verdict_that_its_checks_do_not_bear_is_not_genuine(panel):
    refuted_one = certified(over_time(tomorrow), panel)
    assert refuted_one.genuine()
    assert not refuted_one.model_copy(update={"proven": True}).sealed().genuine()


def test_a_proof_stops_when_it_is_told_to(panel):
    with pytest.raises(EvaluationStoppedError):
        certified("RANK($close)", panel, stop=lambda: True)


def test_proving_changes_nothing_in_the_panel(panel):
    before = {name: values.copy() for name, values in panel.fields.items()}
    masks = [array.copy() for array in (panel.bar, panel.universe, panel.sectors, panel.first_row)]
    certified("GROUP_RANK(EMA($close, 3), $sector)", panel)
    for name, values in before.items():
        np.testing.assert_array_equal(panel.fields[name], values)
    for old, array in zip(masks, (panel.bar, panel.universe, panel.sectors, panel.first_row), strict=True):
        np.testing.assert_array_equal(array, old)


# the panels that it is tried on


def test_a_cut_panel_is_what_the_rows_say(panel):
    window = cut(panel, ["close", "return"], 100, 300, tiles=1)
    assert window.shape == (3, 200, 64)
    assert set(window.fields) == {"close", "return"}
    np.testing.assert_array_equal(window.fields["close"][:2], panel.fields["close"][:, 100:300])
    assert np.isnan(window.fields["return"][:, 0]).all()
    np.testing.assert_array_equal(window.first_row[:2], np.minimum(panel.first_row, 300) - 100)
    assert not window.bar[2].any()
    assert (window.universe[2] == -1).all()


@pytest.mark.parametrize("members", [True, False])
def test_what_is_made_up_could_be_a_market(members, panel):
    made_up = cut(panel, ["close"], 0, 300)
    cells = np.zeros(made_up.shape, bool)
    cells[:, 200:] = True
    make_up(made_up, cells, np.random.default_rng(0), members=members)
    close, bar, member = made_up.fields["close"][cells], made_up.bar[cells], made_up.universe[cells] == 0
    assert 0.8 < bar.mean() < 1
    assert np.isnan(close[~bar]).all()
    assert 0 < np.isnan(close[bar]).mean() < 0.2
    assert np.nanmax(np.abs(close)) > 1e12
    assert (np.abs(close - 1) < 2).mean() > 0.4
    assert member.any() == members
    assert bar[member].all()
    assert (made_up.sectors[cells][~member] == -1).all()
    first = np.where(made_up.bar.any(axis=1), made_up.bar.argmax(axis=1), 300)
    np.testing.assert_array_equal(made_up.first_row, first)
    np.testing.assert_array_equal(made_up.bar[:, :200], panel.bar[:, :200])
