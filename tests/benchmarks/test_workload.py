import csv

from benchmarks.market import FIELDS
from benchmarks.workload import MAX_LOOK_BACK, MAX_NODES, W12, batch, replaced, workload
from factors.expression import distinct, fields
from factors.parse import parse


def test_the_twelve_formulas_are_the_shared_ones(shared_data):
    rows = csv.DictReader((shared_data / "w12.csv").read_text().splitlines())
    shared = {row["name"].split("_")[0]: parse(row["formula"], FIELDS) for row in rows}
    assert shared == workload(FIELDS)


def test_the_twelve_formulas_read_every_field():
    assert list(W12) == [f"w{number:02}" for number in range(1, 13)]
    assert frozenset().union(*(fields(expr) for expr in workload(FIELDS).values())) == set(FIELDS)


def test_a_batch_is_a_hundred_distinct_formulas_that_parse():
    formulas = batch(FIELDS)
    assert len(set(formulas.values())) == len(formulas) == 100
    assert not set(formulas.values()) & set(workload(FIELDS).values())
    for expr in formulas.values():
        assert parse(str(expr), FIELDS) is expr
        assert expr.size <= MAX_NODES
        assert expr.look_back <= MAX_LOOK_BACK


def test_candidates_of_a_batch_share_most_of_their_parts():
    formulas = batch(FIELDS).values()
    assert len(distinct(*formulas)) < 0.4 * sum(len(distinct(expr)) for expr in formulas)


def test_the_seed_decides_the_batch():
    texts = [str(expr) for expr in batch(FIELDS).values()]
    assert texts == [str(expr) for expr in batch(FIELDS).values()]
    assert texts != [str(expr) for expr in batch(FIELDS, seed=12).values()]


def test_every_occurrence_of_a_part_is_replaced():
    expr = parse("TS_MEAN($close, 5) / (1 + TS_MEAN($close, 5))")
    part, new = parse("TS_MEAN($close, 5)"), parse("RANK($open)")
    assert str(replaced(expr, part, new)) == "RANK($open) / (1 + RANK($open))"
