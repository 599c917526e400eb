import numpy as np
import pytest

from benchmarks.driver import RefusedError, Worker
from benchmarks.engine import UnsupportedError
from benchmarks.floor import Floor
from benchmarks.market import FIELDS, Size, store, synthetic
from benchmarks.ours import MARKET, Ours, lay_out
from benchmarks.results import OURS
from benchmarks.worker import TASKS
from factors.expression import Call
from factors.parse import parse

FORMULA = "RANK(TS_MEAN($close, 5)) - $ret"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("market")
    market = synthetic(Size(70, 60))
    market.save(folder)
    store(market, folder, MARKET)
    lay_out(folder)
    return folder


def test_our_engine_gives_days_by_instruments(root):
    [values] = Ours(root).values([parse("$close", FIELDS)])
    np.testing.assert_array_equal(values, synthetic(Size(70, 60)).fields["close"])


def test_a_worker_answers_as_its_engine_does(root):
    with Worker(OURS) as worker:
        worker.open(root)
        assert worker.about.startswith("AlphaAgent")
        values, other = worker.values([FORMULA, "$open"])
        np.testing.assert_array_equal(values, Ours(root).values([parse(FORMULA, FIELDS)])[0])
        assert other.shape == (60, 70)
        timing = worker.time([FORMULA])
        assert timing.run > 0
        assert timing.total == pytest.approx(timing.values + timing.metrics)
        assert worker.peak([FORMULA]) > 1 << 20


def test_a_worker_outlives_what_it_refuses(root):
    with Worker(OURS) as worker:
        worker.open(root)
        with pytest.raises(RefusedError, match="TS_NOTHING"):
            worker.time(["TS_NOTHING($close)"])
        assert worker.time([FORMULA]).total > 0
        with pytest.raises(RefusedError, match="nowhere"):
            worker.open(root / "nowhere")


class Half:
    """An engine that can compute nothing but fields."""

    def values(self, formulas):
        if any(isinstance(formula, Call) for formula in formulas):
            raise UnsupportedError("no calls")
        return [np.zeros((2, 3)) for _ in formulas]


def test_one_formula_that_an_engine_lacks_costs_it_no_other(tmp_path):
    formulas = [parse("$close", FIELDS), parse("ABS($close)", FIELDS), parse("$open", FIELDS)]
    answer = TASKS["values"](Half(), formulas, {"to": str(tmp_path)})
    assert answer == {"formulas_refused": {1: "no calls"}}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.npy", "2.npy"]


def test_the_floor_counts_each_distinct_call_once():
    floor = Floor(elementwise=1e-9, window=2e-9, sort=10e-9, bandwidth=8e9)
    mean = "TS_MEAN($close, 5)"
    assert floor.compute_seconds(parse(f"RANK({mean}) + {mean} / $open"), 1000) == pytest.approx(
        (10 + 2 + 2 + 10) / 2 * 1e-6
    )
    assert floor.memory_seconds(parse(f"{mean} / $open"), 1000) == pytest.approx(3e-6)
