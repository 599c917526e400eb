"""A formula in words, from the registry's own: what a judge reads, so that nobody describes his formula for himself."""

import re

from factors.expression import Call, Expr, Field


def in_words(expr: Expr) -> str:
    """What a formula computes, for example ``mean of (close / open) over the last 5 rows``.

    Each operator is told by the first clause of its line in the registry, with its parameters' names replaced.
    """
    if isinstance(expr, Field):
        return expr.name
    if not isinstance(expr, Call):
        return str(expr)
    told = {at.name: _part(arg) for at, arg in zip(expr.op.parameters, expr.args, strict=True)}
    clause = expr.op.doc.partition(";")[0]
    return re.sub(r"\b[a-z]+\b", lambda word: told.get(word[0], word[0]), clause)


def _part(expr: Expr) -> str:
    return f"({in_words(expr)})" if isinstance(expr, Call) else in_words(expr)
