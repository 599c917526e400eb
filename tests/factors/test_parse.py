"""The factor language: what it accepts, what it refuses, and that canonical text is canonical."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factors.errors import FormulaError
from factors.expression import SECTOR, Call, Field, Number, call, distinct, fields, walk
from factors.operators import COMPOSITES, MAX_WINDOW, OPERATORS, ParameterKind
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
        ("SMA($close, 20)", "TS_MEAN($close, 20)"),
        ("SMA($close, 20, 1)", "SMA($close, 20, 1)"),
        ("SMA($close, 3, 2.5)", "SMA($close, 3, 2.5)"),
        ("HIGHDAY($close, 5) - LOWDAY($close, 5)", "TS_ARGMAX($close, 5) - TS_ARGMIN($close, 5)"),
        ("COUNT($close > $open, 5)", "TS_COUNT($close > $open, 5)"),
        ("PROD($close, 5) + SUMAC($close, 5)", "TS_PROD($close, 5) + TS_SUM($close, 5)"),
        ("WMA($close, 5)", "DECAYLINEAR($close, 5)"),
        ("REGBETA($close, SEQUENCE(20), 20)", "REGBETA($close, SEQUENCE(20), 20)"),
        ("TS_CORR(SEQUENCE(20), $close, 20)", "TS_CORR(SEQUENCE(20), $close, 20)"),
        ("WINSORIZE($close, 0.05)", "WINSORIZE($close, 0.05)"),
        ("QUANTILE_BUCKET(STD($close), 10)", "QUANTILE_BUCKET(STD($close), 10)"),
        ("PERCENTILE($close, 0.2, 9)", "TS_QUANTILE($close, 9, 0.2)"),
        ("SUMIF($volume, 9, $close > $open)", "TS_SUM(WHERE($close > $open, $volume, 0), 9)"),
        ("FILTER($volume, $close > $open)", "WHERE($close > $open, $volume, 0)"),
        ("MACD($close, 12, 26)", "EMA($close, 12) - EMA($close, 26)"),
        ("RSI($close, 14)", "100 * SMA(MAX(DELTA($close, 1), 0), 14, 1) / SMA(ABS(DELTA($close, 1)), 14, 1)"),
        ("BB_MIDDLE($close, 20)", "TS_MEAN($close, 20)"),
        ("BB_UPPER($close, 20)", "TS_MEAN($close, 20) + 2 * TS_STD($close, 20)"),
        ("BB_LOWER($close, 20)", "TS_MEAN($close, 20) - 2 * TS_STD($close, 20)"),
        (
            "ATR($high, $low, $close, 14)",
            "SMA(MAX($high, DELAY($close, 1)) - MIN($low, DELAY($close, 1)), 14, 1)",
        ),
        ("OBV($close, $volume, 20)", "TS_SUM(SIGN(DELTA($close, 1)) * $volume, 20)"),
        ("2 / MACD($close - $open, 5, 9)", "2 / (EMA($close - $open, 5) - EMA($close - $open, 9))"),
        ("RSI(MACD($close, 2, 3), 4)", text_of("RSI(EMA($close, 2) - EMA($close, 3), 4)")),
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
        ("1 + RANK()", "RANK(x) takes 1 argument, not 0", 4),
        ("MEAN($close, 20)", "MEAN(x) takes 1 argument, not 2; did you mean TS_MEAN(x, d: 1..1000)?", 0),
        ("1 + SUM($close, 20)", "unknown operator SUM; did you mean TS_SUM(x, d: 1..1000)?", 4),
        ("CORR($close, $open, 20)", "did you mean TS_CORR(x, y, d: 1..1000)?", 0),
        ("MCD($close, 5, 9)", "did you mean MACD", 0),
        ("SMA($close)", "SMA(x, d: 1..1000) takes 2 arguments or SMA(x, n: 1..1000, m: 1..n) takes 3", 0),
        ("MACD($close, 5)", "MACD(x, fast: 1..1000, slow: 1..1000) takes 3 arguments, not 2", 0),
        ("1 + MACD($close, 5, 0)", "slow: 1..1000): slow must be an integer literal from 1 to 1000, not 0", 4),
        ("FILTER($sector, 1)", "FILTER(x, condition): x must be a series", 0),
        ("SMA($close, 5, 6)", "SMA(x, n: 1..1000, m: 1..n): m must be a literal from 1 to n, not 6", 0),
        ("SMA($close, 5, 0.5)", "m must be a literal from 1 to n, not 0.5", 0),
        ("WINSORIZE($close, 0.5)", "WINSORIZE(x, q: 0..<0.5): q must be a literal from 0 to below 0.5, not 0.5", 0),
        ("QUANTILE_BUCKET($close, 2.5)", "n must be an integer literal from 2 to 100, not 2.5", 0),
        ("QUANTILE_BUCKET($close, 101)", "from 2 to 100, not 101", 0),
        ("SEQUENCE(5)", "SEQUENCE(d) may stand only as a direct argument of TS_CORR", 0),
        ("1 + SEQUENCE(5)", "SEQUENCE(d) may stand only", 2),
        ("TS_MEAN(SEQUENCE(5), 5)", "TS_MEAN(x, d: 1..1000): SEQUENCE(d) may stand only", 0),
        ("REGBETA($close, SEQUENCE(5), 6)", "with the same window d", 0),
        ("REGBETA($close, -SEQUENCE(5), 5)", "SEQUENCE(d) may stand only", 16),
        ("1 * MACD(SEQUENCE(5), 5, 6)", "MACD(x, fast: 1..1000, slow: 1..1000): EMA(x, d: 1..1000): SEQUENCE(d)", 4),
        ("TS_COV(SEQUENCE(5), SEQUENCE(5), 5)", "reads at least one field", 0),
        ("RSI(" + "RANK(" * 29 + "$close" + ")" * 29 + ", 5)", "RSI(x, d: 1..1000): a formula has at most 32", 0),
        ("x + $close", "expected '(' after x (a field is written $x)", 2),
        ("$close ** 2", "'**' has no meaning in a formula; a power is POW(x, y)", 7),
        ("$close = 2", "'=' has no meaning in a formula; equality is ==", 7),
        ("!$close", "negation is NOT(x)", 0),
        ("$close + $", "a field is $ and its name", 9),
        ("($close", "expected ')' for the '(' at character 1, found the end of the formula", 7),
        ("TS_MEAN($close; 5)", "no meaning", 14),
        ("TS_MEAN($close 5)", "expected ',' or ')' in TS_MEAN(…), found 5", 15),
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


def test_a_composite_counts_as_what_it_stands_for():
    part = "RSI(RSI($close, 5), 5)"
    assert parse(part).size > 2 * parse("RSI($close, 5)").size
    with pytest.raises(FormulaError, match="at most 256 nodes"):
        parse("RSI(RSI(RSI(RSI(RSI($close, 5), 5), 5), 5), 5)")


@pytest.mark.parametrize("composite", COMPOSITES, ids=lambda composite: composite.signature)
def test_a_composite_is_what_its_expansion_says(composite):
    """Its expansion, with fields and literals written in by hand, is the same formula."""
    values = {"q": "0.3", "d": "7", "fast": "5", "slow": "9", "x": "$open", "condition": "$low"}
    texts = {p.name: values.get(p.name, f"${p.name}") for p in composite.parameters}
    written_out = re.sub(r"\b[a-z]+\b", lambda match: texts[match.group()], composite.expansion)
    assert parse(f"{composite.name}({', '.join(texts.values())})") is parse(written_out)


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
        ("EMA($return, 20)", 20),
        ("SMA($close, 14, 2)", 13),
        ("REGRSQ($close, SEQUENCE(20), 20)", 19),
        ("WINSORIZE(DELAY($close, 2), 0.1)", 2),
        ("QUANTILE_BUCKET($close, 10)", 0),
        ("RSI($close, 14)", 14),
    ],
)
def test_look_back(formula, rows):
    assert parse(formula).look_back == rows


def test_fields_of_a_formula():
    assert fields(parse("GROUP_RANK($close * $volume, $sector) + $close")) == {"close", "volume"}


def applied(op, args):
    """A call whose literals agree with each other; a constant in a pair becomes the regressor of a trend."""
    if op.name == "SMA":
        args = (*args[:2], Number(min(args[1].value, args[2].value)))
    if op.pairs and isinstance(args[1], Number):
        args = (args[0], call("SEQUENCE", args[2]), args[2])
    return call(op.name, *args)


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
                ParameterKind.INTEGER: lambda p: st.integers(p.low, p.high).map(Number),
                ParameterKind.NUMBER: lambda p: st.floats(p.low, p.high).map(Number),
            }
            return st.tuples(*(kinds[p.kind](p) for p in op.parameters)).map(lambda args: applied(op, args))

        return st.sampled_from([op for op in OPERATORS.values() if op.name != "SEQUENCE"]).flatmap(arguments)

    return st.recursive(leaves, calls, max_leaves=12)


@given(expressions())
@settings(max_examples=500, deadline=None)
def test_canonical_text_parses_back_to_the_same_object(expr):
    text = str(expr)
    if len(text) > 2000 or expr.depth > 20 or not fields(expr):
        return
    assert parse(text) is expr


TOKENS = st.sampled_from(
    [
        *("$close", "RANK", "TS_MEAN", "SMA", "MACD", "SEQUENCE", "REGBETA"),
        *("(", ")", ",", "+", "-", "*", "/", "?", ":", "&&", "|", "<", "==", "5", "1e3", " "),
    ]
)


@given(st.text(max_size=100) | st.lists(TOKENS, max_size=40).map("".join))
@settings(max_examples=2000, deadline=None)
def test_any_text_parses_or_is_refused(text):
    try:
        expr = parse(text)
    except FormulaError:
        return
    assert parse(str(expr)) is expr
