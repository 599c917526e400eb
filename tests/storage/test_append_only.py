"""What was tried and seen stays so, whatever statement somebody sends to the database."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from factors.measurement import Measurement
from factors.parse import parse
from factors.verdict import at_least
from storage.ledger import Question
from storage.markets import publish
from storage.principal import Principal
from storage.records import Records
from tests.library import EVIDENCE, METRICS, accepted, evaluation_of

COLUMNS = {
    "audit": "id, at, user, token, act, subject, client, request_id",
    "retirements": "factor_id, user, retired_at",
    "openings": "factor_id, snapshot, market, user, opened_at, evaluation, checks, status",
    "trials": (
        "market, number, factor_id, formula, snapshot, universe, horizon, splits, evidence, standing, discovery, "
        "rank_ic, user, run_id, created_at"
    ),
}
KEYS = {
    "audit": ("id",),
    "retirements": ("factor_id",),
    "openings": ("factor_id",),
    "trials": ("number", "factor_id"),
}


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Records with one trial, one opening and one retirement."""
    home = tmp_path_factory.mktemp("home")
    days = [date(2020, 1, 1) + timedelta(number) for number in range(20)]
    bars = pl.DataFrame({"date": days, "symbol": "A"} | dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0))
    snapshot = publish(home, "m", bars, train_end=days[9], valid_end=days[14])
    question = Question.of(parse("RANK($close)"), market="m", snapshot=snapshot.id, universe="all", horizon=1)
    with Records.open(f"sqlite:///{home}/records.sqlite") as opened:
        factor = accepted(opened, snapshot)
        failed = evaluation_of(factor), [at_least("t_stat", 0.0, 1.0, "too weak")]
        opened.openings.open(snapshot, factor, lambda *_: failed, by=Principal("ada", "admin"), budget=10)
        opened.retirements.retire(factor.id, Principal("ada", "admin"))
        series = np.array([0.1, np.nan])
        opened.ledger.measured(question, lambda: Measurement({"train": METRICS}, EVIDENCE, series), user="ada")
        yield opened


def rows(records, table):
    with records._engine.begin() as connection:
        return connection.execute(text(f"SELECT rowid, * FROM {table}")).all()


def statements(table):
    columns = COLUMNS[table]
    yield f"UPDATE {table} SET user = 'other'"
    yield f"UPDATE OR REPLACE {table} SET user = 'bob'"
    yield f"DELETE FROM {table}"
    yield f"INSERT INTO {table} SELECT * FROM {table} WHERE true ON CONFLICT DO UPDATE SET user = 'bob'"
    yield f"INSERT OR REPLACE INTO {table} SELECT {columns.replace('user', repr('bob'))} FROM {table}"
    for key in KEYS[table]:
        other = columns.replace(key, "'7'", 1)
        yield f"REPLACE INTO {table} (rowid, {columns}) SELECT rowid, {other} FROM {table}"
        yield f"INSERT OR REPLACE INTO {table} (rowid, {columns}) SELECT 99, {columns} FROM {table}"
    if table == "trials":
        yield f"REPLACE INTO trials SELECT {columns.replace('number', '7', 1)} FROM trials"
        yield f"REPLACE INTO trials SELECT {columns.replace('factor_id', repr('f'), 1)} FROM trials"


@pytest.mark.parametrize("statement", [one for table in COLUMNS for one in statements(table)])
def test_no_statement_changes_or_removes_a_row(records, statement):
    before = {table: rows(records, table) for table in COLUMNS}
    table = next(name for name in COLUMNS if name in statement)
    with pytest.raises(DatabaseError, match=f"{table} can only be added to"), records._engine.begin() as connection:
        connection.execute(text(statement))
    assert {table: rows(records, table) for table in COLUMNS} == before
    assert all(before.values())


def test_the_tables_are_those_of_the_schema(records):
    for table, columns in COLUMNS.items():
        with records._engine.begin() as connection:
            found = [row.name for row in connection.execute(text(f"PRAGMA table_info({table})"))]
        assert found == columns.split(", ")
