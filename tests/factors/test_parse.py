"""The factor language: what it accepts, what it refuses, and that canonical text is canonical."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factors.errors import FormulaError
from factors.expression import SECTOR, Call, Field, Number, call, distinct, fields, walk
from factors.operators import MAX_WINDOW, OPERATORS, ParameterKind
from factors.parse import STANDARD_FIELDS, parse


def text_of(formula):
    return str(parse(formula))


@pytest.mark.parametrize(
    ("formula", "canonical"),
    [
        ("RANK( $close )", "RANK($close)"),
        ("$close-$open-$low", "$close - $open - $low"),
        ("$close-($open-$low)", "$close - ($open - $low)"),
        ("($close*$open)*$low", "$close * $open * $low"),
        ("-$close*2", "-$close * 2"),
        ("-($close*2)", "-($close * 2)"),
        ("-(5)*$close", "-5 * $close"),
        ("$close - -5", "$close - -5"),
        ("$close > 1 & $open < 2 | $low == 3", "$close > 1 && $open < 2 || $low == 3"),
        ("$close > 1 ? $open : $low", "WHERE($close > 1, $open, $low)"),
        (
            "$open > 1 ? $low : $high > 2 ? 3 : $close",
            "WHERE($open > 1, $low, WHERE($high > 2, 3, $close))",
        ),
        ("ADD($close, 1e-8)", "$close + 1e-08"),
        ("TS_COVARIANCE($close, $open, 5)", "TS_COV($close, $open, 5)"),
        (".5*$close + 1.50", "0.5 * $close + 1.5"),
        ("$close / $open * $low", "$close / $open * $low"),
        ("$close / ($open * $low)", "$close / ($open * $low)"),
        ("GROUP_RANK($close, $sector)", "GROUP_RANK($close, $sector)"),
    ],
)
def test_canonical_text(formula, canonical):
    assert text_of(formula) == canonical
    assert parse(canonical) is parse(formula)


def test_precedence_is_that_of_c():
    assert parse("$open + $low * $high") is parse("$open + ($low * $high)")
    assert parse("$open < $low == $high < $close") is parse("($open < $low) == ($high < $close)")
    assert parse("$open || $low && $high") is parse("$open || ($low && $high)")
    assert parse("$open == 1 && $low") is parse("($open == 1) && $low")


@pytest.mark.parametrize(
    ("formula", "says", "position"),
    [
        ("TS_MEEN($close, 5)", "did you mean TS_MEAN", 0),
        ("1 + RNK($close)", "unknown operator RNK; did you mean RANK", 4),
        ("$clos", "unknown field $clos; did you mean $close", 0),
        ("TS_MEAN($close)", "takes 2 arguments, not 1", 0),
        ("RANK($close, 5)", "takes 1 argument, not 2", 0),
        ("TS_MEAN($close, 0)", "d must be an integer literal from 1 to 1000, not 0", 0),
        ("TS_MEAN($close, 1001)", "from 1 to 1000, not 1001", 0),
        ("TS_MEAN($close, 9223372036854775808)", "from 1 to 1000", 0),
        ("TS_MEAN($close, 2.5)", "integer literal", 0),
        ("DELAY($close, -1)", "from 1 to 1000, not -1", 0),
        ("DELAY($close, 2 * 3)", "integer literal", 0),
        ("$close $open", "expected an operator sign or the end", 7),
        ("$close)", "expected an operator sign or the end", 6),
        ("($close", "expected ')'", 7),
        ("RANK($close", "expected ',' or ')'", 11),
        ("$close + ", "expected a field, a number", 8),
        ("", "expected a field, a number", 0),
        ("close", "a field is written $close", 5),
        ("1 + 2", "reads at least one field", 0),
        ("$close ? 1", "expected ':'", 10),
        ("$close + 1e999", "within the range", 9),
        ("RANK($sector)", "must be a series of numbers", 0),
        ("GROUP_RANK($close, $open)", "must be $sector", 0),
        ("$close + \u0410", "no meaning", 9),
        ("$close ^ 2", "no meaning", 7),
        ("__import__('os')", "no meaning", 11),
        ("(" * 40 + "$close" + ")" * 40, "32 deep", 33),
        ("-" * 40 + "$close", "32 levels", 33),
        ("RANK(" * 40 + "$close" + ")" * 40, "32 deep", 165),
        ("$close" + " + $close" * 200, "at most 32 levels", None),
        ("$close" + " " * 1995, "at most 2,000 characters", None),
    ],
)
def test_refusals_say_what_was_expected_and_where(formula, says, position):
    with pytest.raises(FormulaError) as caught:
        parse(formula)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    if position is not None:
        assert caught.value.position == position


def test_a_formula_has_at_most_256_nodes():
    part = "$close"
    for _ in range(7):
        part = f"({part} + {part})"
    assert parse(part).size == 255
    with pytest.raises(FormulaError, match="at most 256 nodes"):
        parse(f"-{part} + 1")


def test_only_the_markets_fields_are_known():
    assert parse("$vwap", ("close", "vwap")) is Field("vwap")
    with pytest.raises(FormulaError, match="unknown field"):
        parse("$vwap")


def test_equal_trees_are_one_object():
    one, other = parse("RANK($close) + RANK($close)"), parse("RANK($close)+RANK($close)")
    assert one is other
    assert isinstance(one, Call)
    assert one.args[0] is one.args[1]
    assert len(list(walk(one))) == one.size == 5
    assert len(distinct(one)) == 3


def test_doubling_twenty_times_is_measured_without_being_written_out():
    expr = Field("close")
    for _ in range(20):
        expr = call("ADD", expr, expr)
    assert expr.size == 2**21 - 1
    assert len(distinct(expr)) == 21


@pytest.mark.parametrize(
    ("formula", "rows"),
    [
        ("$close", 0),
        ("$return", 1),
        ("DELAY($close, 5)", 5),
        ("TS_MEAN($close, 20)", 19),
        ("TS_MEAN(DELTA($close, 5), 20)", 24),
        ("RANK(TS_CORR($close, DELAY($volume, 3), 10)) + TS_MAX($high, 4)", 12),
    ],
)
def test_look_back(formula, rows):
    assert parse(formula).look_back == rows


def test_fields_of_a_formula():
    assert fields(parse("GROUP_RANK($close * $volume, $sector) + $close")) == {"close", "volume"}


def expressions():
    """Random expressions over the whole registry, numbers of every magnitude."""
    numbers = st.floats(allow_nan=False, allow_infinity=False).map(Number)
    leaves = st.sampled_from(STANDARD_FIELDS).map(Field) | numbers

    def calls(children):
        def arguments(op):
            kinds = {
                ParameterKind.SERIES: lambda _: children,
                ParameterKind.GROUP: lambda _: st.just(SECTOR),
                ParameterKind.WINDOW: lambda _: st.integers(1, MAX_WINDOW).map(Number),
                ParameterKind.NUMBER: lambda p: st.floats(p.low, p.high).map(Number),
            }
            return st.tuples(*(kinds[p.kind](p) for p in op.parameters)).map(lambda args: call(op.name, *args))

        return st.sampled_from(list(OPERATORS.values())).flatmap(arguments)

    return st.recursive(leaves, calls, max_leaves=12)


@given(expressions())
@settings(max_examples=500, deadline=None)
def test_canonical_text_parses_back_to_the_same_object(expr):
    text = str(expr)
    if len(text) > 2000 or expr.depth > 20 or not fields(expr):
        return
    assert parse(text) is expr


TOKENS = st.sampled_from(
    ["$close", "RANK", "TS_MEAN", "(", ")", ",", "+", "-", "*", "/", "?", ":", "&&", "|", "<", "==", "5", "1e3", " "]
)


@given(st.text(max_size=100) | st.lists(TOKENS, max_size=40).map("".join))
@settings(max_examples=2000, deadline=None)
def test_any_text_parses_or_is_refused(text):
    try:
        expr = parse(text)
    except FormulaError:
        return
    assert parse(str(expr)) is expr
