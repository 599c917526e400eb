import math

import numpy as np
import pytest

from benchmarks import report
from benchmarks.agreement import Agreement, compare
from benchmarks.engine import Timing
from benchmarks.figures import PEERS, figures, limits
from benchmarks.results import ALONE, BATCH, OURS, SINGLE, Results, Sample, run, total, values

KEYS = {
    "kunquant_total",
    "kunquant_run",
    "kunquant_batch",
    "py_alpha_lib_values",
    "py_alpha_lib_total",
    "polars_over_total",
    "polars_ta_total",
    "pandas_total",
    "alphalens_metrics",
}


@pytest.fixture
def results():
    """Ours takes 1 + 2 + 3 s on w01 and half of that on w02, at M four times as long; a peer knows w01 alone."""
    found = Results()
    for size, factor in (("S", 1), ("M", 4)):
        for name, share in (("w01", factor), ("w02", factor / 2)):
            ours = [Timing(share, 2 * share, 3 * share)] * 2 + [Timing(99, 99, 99)]
            found.times[size, OURS, name] = Sample(ours)
            found.times[size, ALONE, name] = Sample([Timing(0, 6 * share, 0)])
            found.times[size, SINGLE, name] = Sample([Timing(0, 9 * share, 0)])
        found.times[size, "kunquant_64", "w01"] = Sample([Timing(50, 6, 4)])
        found.times[size, "kunquant_64", "w02"] = Sample([Timing(10, 3, 2)])
        found.times[size, "py_alpha_lib", "w01"] = Sample([Timing(0, 30, 6)])
        found.times[size, "py_alpha_lib", "w02"] = Sample()
        found.times[size, OURS, BATCH] = Sample([Timing(0, 15, 5)])
        found.times[size, "kunquant_64", BATCH] = Sample([Timing(10, 20, 30)])
    found.peak_bytes = 1 << 30
    found.cold_start_seconds = 0.5
    found.load_seconds = 2.0
    return found


@pytest.fixture
def grid():
    """Skewed values, days by names."""
    return np.random.default_rng(3).standard_normal((50, 40)) ** 3


def test_a_ratio_is_their_time_for_the_shared_formulas_over_ours(results):
    assert results.ratio("S", "kunquant_64", total) == (60 + 15) / (6 + 3)
    assert results.ratio("S", "py_alpha_lib", total) == 36 / 6
    assert results.ratio("S", "py_alpha_lib", values) == 30 / 3
    assert results.ratio("S", "pandas", total) is None


def test_a_bare_run_is_compared_formula_by_formula(results):
    assert results.run_ratio("S", "kunquant_64") == pytest.approx(math.sqrt(6 / 3 * 3 / 1.5))
    assert [name for name, _, _ in results.pairs("S", "py_alpha_lib", run, values)] == ["w01"]


def test_the_median_round_counts(results):
    assert results.seconds("S", OURS, "w01") == 6
    assert results.seconds("S", OURS, "w01", values) == 3


def test_the_figures_have_the_names_that_others_read(results):
    found = figures(results)
    assert set(found) == {"S", "M", "peak_bytes", "growth", "two_threads", "cold_start_seconds", "load_seconds"}
    assert set(found["S"]) == set(found["M"]) == KEYS | {"total_seconds_median", "batch_per_second"}
    assert {peer.key for peer in PEERS} == KEYS
    assert found["S"]["total_seconds_median"] == 4.5
    assert found["S"]["batch_per_second"] == 5
    assert found["S"]["kunquant_batch"] == 3
    assert found["growth"] == 4
    assert found["two_threads"] == {"S": 1.5, "M": 1.5}


def test_what_was_not_measured_is_none(results):
    small = Results(times={key: value for key, value in results.times.items() if key[0] == "S"})
    found = figures(small)
    assert "M" not in found
    assert found["growth"] is found["peak_bytes"] is found["load_seconds"] is None
    assert found["S"]["pandas_total"] is None


def test_limits_are_kept_or_missed(results):
    kept = {line.title: line.kept for line in limits(results)}
    assert kept["most memory during B100 at M"] is True
    assert kept["DuckDB to evaluator at M"] is False
    assert kept["two threads over one, S"] is True
    assert kept["two threads over one, M"] is False
    assert kept["slowest formula over KunQuant's bare run, S"] is True
    assert kept["slowest formula over KunQuant's bare run, M"] is False


def test_the_page_tells_what_was_reached_and_what_was_left_out(results):
    results.refused["py_alpha_lib", "w02"] = "its values differ from ours"
    results.agreements["complete", "py_alpha_lib", "w01"] = Agreement(1.0, 0.995, 2e-7, 0.9999)
    page = report.page(results)
    assert "| KunQuant, total | 8.33 | 38 | 60 | 14% |" in page
    assert "- py_alpha_lib, w02: its values differ from ours" in page
    assert "| w01 | 100.0%, 99.5%, 2e-07, 1.000 |" in page
    assert "| DuckDB to evaluator at M | 2 s | <= 1.5 s | missed |" in page


def test_values_agree_when_they_are_near_or_ordered_alike(grid):
    assert compare(grid, grid * (1 + 1e-9)).right
    almost = grid.copy()
    almost[:, :3] *= 1.01
    assert compare(grid, almost).right
    assert not compare(grid, -grid).right
    assert not compare(grid, grid**3).right


def test_an_engine_that_knows_too_little_does_not_agree(grid):
    sparse = grid.copy()
    sparse[: len(grid) // 10] = float("nan")
    found = compare(grid, sparse)
    assert found.shared == pytest.approx(0.9)
    assert found.near == 1
    assert not found.right
    assert not compare(grid, grid * float("nan")).right
