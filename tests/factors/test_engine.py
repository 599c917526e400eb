"""What the evaluator may do for speed changes no value: threads, the pool, the memo, an interruption."""

import threading
import time

import numpy as np
import pytest

from factors.errors import EvaluationStoppedError
from factors.evaluator import Evaluator, evaluate
from factors.expression import Call, distinct
from factors.labels import forward_returns
from factors.memo import Memo
from factors.metrics import split_metrics
from factors.parse import parse
from factors.plan import plan
from tests.panels import panel_of

DAYS, NAMES = 150, 200  # four tiles

FORMULAS = [
    "RANK(TS_CORR($close, $volume, 10)) - TS_ZSCORE(DELTA($close, 2), 20)",
    "TS_CORR($close, $volume, 10) * RANK($volume)",
    "RANK(TS_CORR($close, $volume, 10)) + RANK(TS_MEAN($volume, 5))",
    "TS_MEAN(RANK($volume), 5) / TS_MEAN($volume, 5)",
    "GROUP_RANK(TS_MEAN($volume, 5), $sector) - RANK(TS_MEAN($volume, 5))",
    "$close",
    "RANK($volume)",
    "1 - RANK(1) + $close * 0",
    "TS_MEAN($volume, 5)",
]


@pytest.fixture(scope="module")
def panel():
    rng = np.random.default_rng(5)
    fields = {name: np.exp(rng.normal(3, 1, (DAYS, NAMES))) for name in ("close", "volume")}
    absent = rng.random((DAYS, NAMES)) < 0.1
    for grid in fields.values():
        grid[absent] = np.nan
    return panel_of(fields, rng.random((DAYS, NAMES)) < 0.9, rng.integers(0, 4, NAMES), train_rows=100)


def test_threads_pool_and_memo_change_no_bit(panel):
    alone = {text: evaluate(parse(text), panel) for text in FORMULAS}
    for threads, memo_bytes in [(1, 0), (3, 0), (1, 1 << 30), (3, 1 << 30), (2, 3 * panel.bar.nbytes * 8)]:
        evaluator = Evaluator(panel, threads, memo_bytes)
        evaluator.expect(map(parse, FORMULAS))
        for text in [*FORMULAS, *reversed(FORMULAS)]:  # what is announced may come in any order
            with evaluator.values(parse(text)) as values:
                np.testing.assert_array_equal(values, alone[text], err_msg=f"{text} {threads} {memo_bytes}")


def test_formulas_that_share_costly_parts_become_neighbours(panel):
    mean, rank = "TS_MEAN($volume, 5)", "RANK($close)"
    texts = [f"{mean} + 1", f"{rank} + 1", f"{mean} * {rank} + TS_STD($close, 5)", f"{rank} - TS_STD($close, 5)", mean]
    ordered = Evaluator(panel).expect(map(parse, texts))
    assert [texts.index(str(formula)) for formula in ordered] == [0, 2, 3, 1, 4]


def test_metrics_are_the_same_however_many_threads(panel):
    values, labels = evaluate(parse(FORMULAS[0]), panel), forward_returns(panel)
    one = split_metrics(values, labels, panel)
    assert one == split_metrics(values, labels, panel, Evaluator(panel, 3).team)
    assert one["train"].rank_ic is not None


def test_a_window_that_formulas_share_is_computed_once(panel):
    shared, asking = parse("TS_CORR($close, $volume, 10)"), [parse(text) for text in FORMULAS[:3]]
    memo = Memo(1 << 30, panel.shape)
    memo.expect(asking)
    memo.begin(asking[0])
    targets = [task.target for task in plan(asking[0], memo, memo.uses)]
    assert shared in targets
    memo.put(shared, memo.lend())
    assert shared in memo
    again = [call for task in plan(asking[1], memo, memo.uses) for call in task.calls]
    assert shared not in again


def test_the_memo_stays_within_its_bytes_and_lets_the_announced_stay(panel):
    size = panel.bar.nbytes * 8
    memo = Memo(3 * size, panel.shape)
    nodes = [parse(f"TS_MEAN($volume, {d})") for d in (2, 3, 4)]
    memo.expect(nodes[:1])
    for _ in range(2):
        for node in nodes[1:]:
            memo.begin(node)
    lent = [memo.lend() for _ in nodes]
    for node, values in zip(nodes, lent, strict=True):
        memo.put(node, values)
    assert all(node in memo for node in nodes)
    assert memo.lend() is lent[1]
    assert [node in memo for node in nodes] == [True, False, True]
    assert memo.lend() is lent[2]
    assert memo.lend() is lent[0]
    assert not any(memo.lend() is values for values in lent)


def test_a_formula_that_needs_more_arrays_than_fit_gets_them_and_leaves_nothing_behind(panel):
    evaluator = Evaluator(panel, 1, memo_bytes=panel.bar.nbytes * 8)
    expr = parse("RANK(TS_MEAN($close, 5)) * TS_CORR(RANK($close), RANK($volume), 5)")
    evaluator.expect([expr, expr])
    with evaluator.values(expr) as values:
        np.testing.assert_array_equal(values, evaluate(expr, panel))
    assert not any(node in evaluator._memo for node in distinct(expr))


def test_a_sub_expression_that_comes_up_once_is_not_kept(panel):
    memo = Memo(1 << 30, panel.shape)
    node = parse("TS_MEAN($volume, 7)")
    memo.begin(node)
    memo.put(node, memo.lend())
    assert node not in memo


def test_every_call_is_in_one_task_and_after_its_arguments():
    root = parse("RANK(TS_MEAN($close, 5) + TS_STD($close, 5)) - TS_MEAN($close, 5) / TS_MEAN(RANK($close), 3)")
    seen: set[Call] = set()
    for task in plan(root, (), lambda _: 0):
        for call in task.calls:
            assert call not in seen
            assert all(not isinstance(arg, Call) or arg in seen for arg in call.args)
            seen.add(call)
    assert root in seen
    assert len(seen) == 8


def test_an_evaluation_stops_between_kernels(panel):
    stopping = threading.Event()
    evaluator = Evaluator(panel, 2, stop=stopping.is_set)
    expr = parse(FORMULAS[0])
    with evaluator.values(expr) as values:
        before = values.copy()
    stopping.set()
    with pytest.raises(EvaluationStoppedError), evaluator.values(expr):
        pass
    stopping.clear()
    with evaluator.values(expr) as values:
        np.testing.assert_array_equal(values, before)


def test_a_deadline_ends_a_long_evaluation_early(panel):
    calls = 0

    def late():
        nonlocal calls
        calls += 1
        return calls > 3

    expr = parse("+".join(f"RANK(TS_RANK($volume, {d}))" for d in range(100, 120)))
    started = time.monotonic()
    evaluate(expr, panel)
    whole = time.monotonic() - started
    started = time.monotonic()
    with pytest.raises(EvaluationStoppedError), Evaluator(panel, 1, stop=late).values(expr):
        pass
    assert time.monotonic() - started < whole / 2
    assert calls == 4


def test_an_error_in_a_thread_reaches_the_caller(panel):
    team = Evaluator(panel, 3).team

    def fail(item):
        if item == 5:
            raise ValueError(item)

    with pytest.raises(ValueError, match="5"):
        team.each(fail, range(10))
