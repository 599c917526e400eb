"""Alpha158 as pyqlib 0.9.7 computed it, reproduced by formulas of the language: all 157 features of 30 symbols in 2020.

What the golden values show of qlib. The inputs are float32, and every operator returns float32; its rolling operators
run in float64 between. Where no intermediate result loses digits, our float64 value is therefore qlib's but for the
rounding of the last operation. Of equal maxima, ``IdxMax`` takes the oldest, as ``TS_ARGMAX`` does, and ``Rank``
averages ties. ``Corr`` and ``Rsquare`` are null over a constant window (qlib: a standard deviation under 2e-5),
``Slope`` and ``Resi`` there are 0. ``Mean($close > Ref($close, 1), d)`` takes a comparison as 1 or 0, and a ratio to a
volume of 0 is left out of its window.

What they do not show. All symbols have every day since 2017-06-01 and the features begin 634 rows later, so neither the
first rows of a history nor a missing price is among them.
"""

import json
import re
from datetime import date

import numpy as np
import polars as pl
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from factors.evaluator import evaluate
from factors.panel import Panel
from factors.parse import parse

SAME = {
    "Ref": "DELAY", "Mean": "TS_MEAN", "Std": "TS_STD", "Sum": "TS_SUM", "Max": "TS_MAX", "Min": "TS_MIN",
    "Quantile": "TS_QUANTILE", "Rank": "TS_RANK", "Corr": "TS_CORR",
    "Log": "LOG", "Abs": "ABS", "Greater": "MAX", "Less": "MIN",
}  # fmt: skip
# Defined otherwise in qlib: positions count from 1 at the window's oldest row, and regressions are on the row number.
CONVERTED = {
    "IdxMax": "({d} - TS_ARGMAX({x}, {d}))",
    "IdxMin": "({d} - TS_ARGMIN({x}, {d}))",
    "Slope": "REGBETA({x}, SEQUENCE({d}), {d})",
    "Rsquare": "REGRSQ({x}, SEQUENCE({d}), {d})",
    "Resi": "REGRESI({x}, SEQUENCE({d}), {d})",
}
ROUNDING = 2.0**-24  # float32: largest relative error of one rounding

WINDOWS = (5, 10, 20, 30, 60)
PLAIN = ("KMID", "KLEN", "KMID2", "KUP", "KUP2", "KLOW", "KLOW2", "KSFT", "KSFT2", "OPEN0", "HIGH0", "LOW0")
ROLLING = (
    "ROC", "MA", "STD", "BETA", "RSQR", "RESI", "MAX", "MIN", "QTLU", "QTLD", "RANK", "RSV", "IMAX", "IMIN", "IMXD",
    "CORR", "CORD", "CNTP", "CNTN", "CNTD", "SUMP", "SUMN", "SUMD", "VMA", "VSTD", "WVMA", "VSUMP", "VSUMN", "VSUMD",
)  # fmt: skip
FEATURES = {**{name: [name] for name in PLAIN}, **{name: [f"{name}{d}" for d in WINDOWS] for name in ROLLING}}

# Families in which an intermediate result is rounded to float32 before its error is magnified: absolute tolerance at
# each cell, as a formula of the language with the window {d}.
LOSSY = {
    # A logarithm of a volume is about 17 and rounded by half of 2**-19; a correlation moves by at most twice an
    # argument's error over that argument's standard deviation.
    "CORR": "2 * 1e-6 / TS_STD(LOG($volume + 1), {d})",
    # Ratios are near 1, and rounded when they are divided, the volume's again when its logarithm is taken.
    "CORD": "2 * 6e-8 / TS_STD($close / DELAY($close, 1), {d})"
            " + 4 * 6e-8 / TS_STD(LOG($volume / DELAY($volume, 1) + 1), {d})",
    # A ratio near 1 is rounded and 1 taken off: a return is wrong by 6e-8, a weighted one by that times volume.
    "WVMA": "3 * 6e-8 * TS_MEAN($volume, {d}) / TS_MEAN(ABS($return) * $volume, {d})"
            " * (1 + TS_STD(ABS($return) * $volume, {d}) / TS_MEAN(ABS($return) * $volume, {d}))",
    # A change of two volumes far apart is rounded, and the ratio is of sums of those.
    "VSUMP": "6e-8", "VSUMN": "6e-8", "VSUMD": "6e-8",
}  # fmt: skip


def translated(expression):
    """A formula of ours for one of qlib's."""
    for name, ours in CONVERTED.items():
        expression = re.sub(
            rf"\b{name}\((\$\w+), (\d+)\)", lambda call, ours=ours: ours.format(x=call[1], d=call[2]), expression
        )
    return re.sub(r"\b[A-Z][a-z]+(?=\()", lambda name: SAME[name[0]], expression)


@pytest.fixture(scope="module")
def golden(shared_data):
    """qlib's features and expressions, and the bars of their symbols as a panel."""
    features = pl.read_parquet(shared_data / "golden_qlib_alpha158.parquet").sort("date", "symbol")
    expressions = json.loads((shared_data / "golden_qlib_alpha158_expressions.json").read_text())
    bars = pl.read_parquet(shared_data / "golden_qlib_inputs.parquet").drop("factor")
    bars = bars.filter(pl.col("symbol").is_in(features["symbol"].unique().implode())).with_columns(
        suspended=pl.lit(value=False), member=pl.lit(value=True), sector=pl.lit(None, pl.String)
    )
    return features, expressions, Panel.from_bars(bars, date(2020, 12, 31))


def ours(formula, golden):
    """Values of a formula at the golden rows."""
    features, _, panel = golden
    return (
        features.select("date", "symbol")
        .join(panel.frame(evaluate(parse(formula), panel)), on=["date", "symbol"], how="left", maintain_order="left")
        .get_column("value")
        .fill_null(np.nan)
        .to_numpy()
    )


def test_the_families_are_all_of_alpha158(golden):
    features, expressions, _ = golden
    names = [name for family in FEATURES.values() for name in family]
    assert len(names) == 157
    assert sorted(names) == sorted(expressions) == sorted(set(features.columns) - {"date", "symbol"})
    assert features.height == 7290


@pytest.mark.parametrize("family", FEATURES)
def test_features_are_qlib_s(golden, family):
    features, expressions, _ = golden
    for name in FEATURES[family]:
        expected = features[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        actual = ours(translated(expressions[name]), golden)
        known = np.isfinite(expected)
        np.testing.assert_array_equal(np.isfinite(actual), known, name)
        assert known.mean() > 0.99
        tolerance = ROUNDING * np.abs(expected) * (1 + 1e-6) + 1e-15  # a residual that is 0 is so to float64's digits
        if family in LOSSY:
            window = name.removeprefix(family)
            tolerance += np.nan_to_num(ours(f"0 * $close + {LOSSY[family]}".format(d=window), golden))
        excess = (np.abs(actual - expected) / np.maximum(tolerance, 1e-300))[known]
        assert excess.max() <= 1, f"{name}: {excess.max():.3g} times the tolerance"


@pytest.mark.parametrize("d", WINDOWS)
def test_the_golden_windows_hold_ties(golden, d):
    """So that agreement on IMAX, IMIN and RANK is agreement on ties."""
    features, _, panel = golden
    rows = np.searchsorted(panel.dates, features["date"].unique().sort().to_numpy().astype("datetime64[D]"))
    for name, tied in (("high", np.max), ("low", np.min), ("close", lambda window, **_: window[..., -1:])):
        windows = sliding_window_view(panel.fields[name][0], d, axis=0)[rows - d + 1, : len(panel.symbols)]
        ties = (windows == tied(windows, axis=-1, keepdims=True)).sum(axis=-1) > 1
        assert ties.sum() > 300
