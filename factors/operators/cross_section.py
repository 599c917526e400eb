"""Operators that look at the members of the universe, or of a sector, on one date."""

import math
from collections.abc import Iterable

from factors.kernels import aggregates, cross_section
from factors.operators.definition import KAKUSHADZE, Kernel, Kind, Operator, Parameter, ParameterKind, X


def rows() -> Iterable[Operator]:
    """The registry's rows."""
    yield from _members()
    yield from _sectors()


def _members() -> Iterable[Operator]:
    def op(name: str, kernel: Kernel, doc: str, *more: Parameter, source: str = "elementary") -> Operator:
        return Operator(name, Kind.CROSS_SECTION, (X, *more), kernel, doc, source)

    rank = "percentile rank in (0, 1] of x among the members, ties averaged"
    yield op("RANK", cross_section.rank, rank, source=KAKUSHADZE)
    zscore = "x less the members' mean, over their standard deviation (ddof 1)"
    yield op("ZSCORE", cross_section.zscore, zscore, source=KAKUSHADZE)
    scale = "x over the sum of the members' absolute values"
    yield op("SCALE", cross_section.scale, scale, source=KAKUSHADZE)
    yield op("DEMEAN", cross_section.demean, "x less the members' mean", source=KAKUSHADZE)
    yield op("MEAN", cross_section.mean, "the members' mean of x, for each that has a value")
    yield op("STD", aggregates.std, "the members' standard deviation (ddof 1) of x, for each that has a value")
    yield op("SKEW", aggregates.skew, "the members' adjusted skewness G1 of x, for each that has a value")
    yield op("KURT", aggregates.kurt, "the members' adjusted excess kurtosis G2 of x, for each that has a value")
    yield op("MEDIAN", aggregates.median, "the members' median of x, for each that has a value")
    q = Parameter("q", ParameterKind.NUMBER, 0, math.nextafter(0.5, 0))
    yield op("WINSORIZE", aggregates.winsorize, "x held between the members' quantiles q and 1 - q", q)
    n = Parameter("n", ParameterKind.INTEGER, 2, 100)
    bucket = "number, 1 to n, of the members' quantile bucket that holds x, ties together"
    yield op("QUANTILE_BUCKET", aggregates.bucket, bucket, n, source="pandas qcut")


def _sectors() -> Iterable[Operator]:
    sector = Parameter("group", ParameterKind.GROUP)

    def op(name: str, kernel: Kernel, doc: str) -> Operator:
        return Operator(name, Kind.GROUP, (X, sector), kernel, doc, KAKUSHADZE)

    yield op("GROUP_NEUTRALIZE", cross_section.demean, "x less its mean in the sector")
    yield op("GROUP_MEAN", cross_section.mean, "mean of x in the sector")
    yield op("GROUP_RANK", cross_section.rank, "percentile rank in (0, 1] of x within the sector")
    yield op("GROUP_ZSCORE", cross_section.zscore, "z-score (ddof 1) of x within the sector")
