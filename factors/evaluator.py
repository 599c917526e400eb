"""Formula in, values out.

How a formula is computed:

1. Its distinct sub-expressions are listed, arguments first; hash-consing has made equal ones one object.
2. A field is the panel's array, a number stays a float.
3. An ELEMENTWISE kernel takes arrays or floats and returns an array.
4. A TIME_SERIES kernel fills one tile at a time from its series arguments and literal parameters.
5. A CROSS_SECTION or GROUP kernel fills all tiles from its series, the universe's members or their sectors, and its
   literal parameters, day by day.
6. An array is dropped after its last use.
7. The result is null where the instrument has no bar or fewer rows of history than the formula looks back.
"""

from collections import Counter
from datetime import date

import numpy as np
import polars as pl

from factors.expression import Call, Expr, Field, Number, distinct
from factors.kernels.elementwise import Values
from factors.operators import LITERAL_KINDS, Kind, ParameterKind
from factors.panel import Panel
from factors.parse import parse


def evaluate(expr: Expr, panel: Panel) -> Values:
    """Values of a formula, ``[tiles, rows, 64]``; null (NaN) without a bar or before its look-back is filled.

    Only rows up to a value's own are read, and for each instrument the market's own calendar counts the rows.
    """
    values = _compute(expr, panel)
    rows = np.arange(panel.shape[1])[None, :, None]
    seasoned = rows - panel.first_row[:, None, :] >= expr.look_back
    return np.where(seasoned & panel.bar, values, np.nan)


def evaluate_frame(formula: str, bars: pl.DataFrame) -> pl.DataFrame:
    """Values of a formula as ``(date, symbol, value)``, one row a bar.

    Args:
        formula: text of the factor language.
        bars: as in :meth:`Panel.from_bars`.

    Raises:
        FormulaError: the text is not a formula over the frame's columns.
    """
    panel = Panel.from_bars(bars, date.max)
    return panel.frame(evaluate(parse(formula, tuple(panel.fields)), panel))


def _compute(root: Expr, panel: Panel) -> Values:
    order = distinct(root)
    uses = Counter(child for node in order for child in node.children)
    uses[root] += 1
    results: dict[Expr, Values | float] = {}
    for node in order:
        results[node] = _node(node, results, panel)
        uses.subtract(node.children)
        for child in node.children:
            if not uses[child]:
                results.pop(child, None)
    return np.broadcast_to(np.asarray(results[root], dtype=np.float64), panel.shape)


def _node(node: Expr, results: dict[Expr, Values | float], panel: Panel) -> Values | float:
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Field):
        return panel.fields.get(node.name, np.nan)
    if not isinstance(node, Call):
        raise TypeError(f"not an expression: {node!r}")
    if node.op.kind is Kind.ELEMENTWISE:
        return node.op.kernel(*(results[arg] for arg in node.args))  # type: ignore[no-any-return]
    out = np.empty(panel.shape)
    series = [
        np.broadcast_to(results[arg], panel.shape)
        for parameter, arg in zip(node.op.parameters, node.args, strict=True)
        if parameter.kind is ParameterKind.SERIES
    ]
    literals = [
        arg.value if parameter.kind is ParameterKind.NUMBER else int(arg.value)
        for parameter, arg in zip(node.op.parameters, node.args, strict=True)
        if isinstance(arg, Number) and parameter.kind in LITERAL_KINDS
    ]
    if node.op.kind is Kind.TIME_SERIES:
        for tile in range(panel.shape[0]):
            node.op.kernel(*(np.ascontiguousarray(values[tile]) for values in series), *literals, out[tile])
    else:
        groups = panel.universe if node.op.kind is Kind.CROSS_SECTION else panel.sectors
        node.op.kernel(np.ascontiguousarray(series[0]), groups, *literals, out)
    out[np.isinf(out)] = np.nan
    return out
