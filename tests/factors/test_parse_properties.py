"""What holds of every text and every expression: no surprise from the parser, and canonical text is read back."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factors.errors import FormulaError
from factors.expression import MAX_CHARACTERS, MAX_DEPTH, MAX_NODES, SECTOR, Expr, Field, Number, call, walk
from factors.operators import COMPOSITES, INFIX, OPERATORS, ParameterKind
from factors.parse import STANDARD_FIELDS, parse
from tests.fuzz_parse import check, formula, text


def test_any_text_is_a_formula_or_refused_in_one_line():
    rng, texts = random.Random(20250701), 10_000
    accepted = sum(check(text(rng)) for _ in range(texts))
    assert 0.1 * texts < accepted < 0.5 * texts


def test_the_fuzz_reaches_every_name_and_limit():
    """Or else its silence would say little."""
    rng, names, refusals = random.Random(1), set(), set()
    for _ in range(10_000):
        given = text(rng)
        try:
            names |= {node.op.name for node in walk(parse(given)) if hasattr(node, "op")}
        except FormulaError as error:
            refusals.add(str(error).partition(": ")[2] or str(error))
    assert names == set(OPERATORS)
    for limit in (f"{MAX_CHARACTERS:,} characters", f"{MAX_NODES} nodes", "levels of nesting", "at least one field"):
        assert any(limit in refusal for refusal in refusals), limit


@given(st.randoms(use_true_random=False), st.sampled_from(COMPOSITES), st.data())
@settings(max_examples=100, deadline=None)
def test_an_indicator_is_its_formula(rng, composite, data):
    """Written out by substitution of the arguments' text, in parentheses, for the parameters' names."""
    literals = {ParameterKind.WINDOW: "12", ParameterKind.INTEGER: "7", ParameterKind.NUMBER: "0.25"}
    args = {
        parameter.name: literals.get(parameter.kind) or f"({data.draw(st.just(formula(rng, 2)))})"
        for parameter in composite.parameters
    }
    words = [args.get(word, word) for word in _words(composite.expansion)]
    try:
        expected = parse("".join(words))
    except FormulaError:
        return
    assert parse(f"{composite.name}({', '.join(args.values())})") is expected


def _words(expansion):
    """Names and what stands between them."""
    out = [""]
    for character in expansion:
        if (character.isalnum() or character == "_") != (out[-1][-1:].isalnum() or out[-1][-1:] == "_"):
            out.append("")
        out[-1] += character
    return out


def _wrappings():
    """Ways to put one more level around an expression."""
    other = st.sampled_from(STANDARD_FIELDS).map(Field) | st.floats(allow_nan=False, allow_infinity=False).map(Number)
    plain = {
        ParameterKind.GROUP: lambda _: st.just(SECTOR),
        ParameterKind.SERIES: lambda _: other,
        ParameterKind.WINDOW: lambda _: st.just(Number(5)),
        ParameterKind.INTEGER: lambda p: st.integers(p.low, p.high).map(Number),
        ParameterKind.NUMBER: lambda p: st.floats(max(p.low, -5), min(p.high, 5)).map(Number),
    }
    forms = [
        (op, place)
        for op in OPERATORS.values()
        for place, parameter in enumerate(op.parameters)
        if parameter.kind is ParameterKind.SERIES
    ]
    signs = [form for form in forms if form[0].symbol]
    return (st.sampled_from(signs) | st.sampled_from(forms)).flatmap(
        lambda form: st.tuples(st.just(form), st.tuples(*(plain[p.kind](p) for p in form[0].parameters)))
    )


@given(st.lists(_wrappings(), min_size=1, max_size=MAX_DEPTH - 1))
@settings(max_examples=500, deadline=None)
def test_canonical_text_is_read_back_at_every_depth(wrappings):
    expr: Expr = Field("close")
    for (op, place), args in wrappings:
        expr = call(op.name, *args[:place], expr, *args[place + 1 :])
    canonical = str(expr)
    assert expr.depth == len(wrappings) + 1
    if expr.size <= MAX_NODES and len(canonical) <= MAX_CHARACTERS:
        assert parse(canonical) is expr


def test_a_formula_whose_canonical_text_is_too_long_is_refused():
    """Else what was accepted could not be read back from the records."""

    def tree(depth, leaf):
        if depth == 0:
            return leaf
        return f"({tree(depth - 1, leaf)}{'*+'[depth % 2]}{tree(depth - 1, '1e14')})"

    with pytest.raises(FormulaError, match="written out"):
        parse(tree(7, "$close"))
    expr = parse(tree(6, "$close"))
    assert parse(str(expr)) is expr


def test_every_infix_sign_takes_every_other_on_either_side():
    for outer in INFIX:
        for inner in INFIX:
            for written in (f"($open {inner} $low) {outer} $close", f"$close {outer} ($open {inner} $low)"):
                expr = parse(written)
                assert parse(str(expr)) is expr
                assert expr.size == 5
