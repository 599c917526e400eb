"""A formula in words: every part is told, and nothing of what its author says."""

import re

import pytest

from factors.alphas import published
from factors.expression import Field, Number, walk
from factors.operators import OPERATORS, ParameterKind
from factors.parse import parse
from factors.wording import in_words


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("$close", "close"),
        ("$close / $open - 1", "(close / open) - 1"),
        ("TS_MEAN($close / $open, 5)", "mean of (close / open) over the last 5 rows"),
        ("-RANK($volume)", "-(percentile rank in (0, 1] of volume among the members, ties averaged)"),
        ("LOG($volume)", "natural logarithm of volume"),
        ("$close > $open ? $high : 0", "high where the (1 where close > open, else 0) is not 0, else 0"),
    ],
)
def test_a_formula_in_words(formula, words):
    assert in_words(parse(formula)) == words


def test_each_operator_names_each_of_its_parameters():
    for op in OPERATORS.values():
        clause = op.doc.partition(";")[0]
        for parameter in op.parameters:
            if parameter.name != "group":  # always the sector
                assert re.search(rf"\b{parameter.name}\b", clause), f"{op.name}: {clause}"


def test_words_grow_with_the_formula_and_no_faster():
    """A doc line that named a series twice would double the text at each level."""
    for op in OPERATORS.values():
        for parameter in op.parameters:
            if parameter.kind is ParameterKind.SERIES:
                clause = op.doc.partition(";")[0]
                assert len(re.findall(rf"\b{parameter.name}\b", clause)) == 1, f"{op.name}: {clause}"
    assert len(in_words(parse("DELTA(" * 30 + "$close" + ", 1)" * 30))) < 2000


def test_every_field_and_number_of_a_formula_is_told():
    for alpha in published():
        told = in_words(alpha.expr)
        for node in walk(alpha.expr):
            if isinstance(node, Number) or (isinstance(node, Field) and node.name != "sector"):
                assert str(node).removeprefix("$") in told, alpha.name
