"""The registry of operators: each defined once, everything else derived from it.

The parser, the evaluator, the prompts' operator table, ``GET /operators``, ``alphaagent operators`` and the property
tests read this table. To add an operator, write its kernel in ``factors/kernels`` and one row in its family here.
"""

import difflib
from collections.abc import Iterable
from functools import cache

from factors.errors import FormulaError
from factors.operators import cross_section, elementwise, time_series
from factors.operators.composites import COMPOSITES
from factors.operators.definition import (
    INFIX,
    LITERAL_KINDS,
    MAX_WINDOW,
    UNARY_PRECEDENCE,
    Composite,
    Form,
    Kind,
    LookBack,
    Operator,
    Parameter,
    ParameterKind,
    takes,
)

__all__ = [
    "COMPOSITES",
    "INFIX",
    "LITERAL_KINDS",
    "MAX_WINDOW",
    "OPERATORS",
    "UNARY_PRECEDENCE",
    "Composite",
    "Form",
    "Kind",
    "LookBack",
    "Operator",
    "Parameter",
    "ParameterKind",
    "misfit",
    "nearest_names",
    "operator",
    "spellings",
    "unknown",
]

OPERATORS: dict[str, Operator] = {
    op.name: op for family in (elementwise, time_series, cross_section) for op in family.rows()
}


@cache
def spellings() -> dict[str, Operator]:
    """Every operator by its name and each of its aliases."""
    return OPERATORS | {alias: op for op in OPERATORS.values() for alias in op.aliases}


def operator(name: str) -> Operator:
    """The operator of this name or alias.

    Raises:
        FormulaError: no such operator; the message names the nearest ones.
    """
    known = spellings()
    if name in known:
        return known[name]
    raise unknown(name, [*known, *(composite.name for composite in COMPOSITES)])


def unknown(name: str, known: Iterable[str]) -> FormulaError:
    """No operator has this name; the message names the nearest ones of ``known``."""
    over_time = spellings().get(f"TS_{name.upper()}")
    near = f"; did you mean {over_time.signature}?" if over_time else nearest_names(name.upper(), known)
    return FormulaError(f"unknown operator {name[:40]}{near}")


def misfit(forms: list[Form], given: int) -> FormulaError:
    """No form of a name takes so many arguments; the message names a time-series operator that does."""
    over_time = spellings().get(f"TS_{forms[0].name}")
    meant = over_time is not None and len(over_time.parameters) == given
    return FormulaError(takes(forms, given) + (f"; did you mean {over_time.signature}?" if over_time and meant else ""))


def nearest_names(name: str, known: Iterable[str]) -> str:
    """``; did you mean A or B?`` for the names most like this one, empty where none is."""
    near = difflib.get_close_matches(name[:40], list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""
