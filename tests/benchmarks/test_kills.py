"""A killed run ends as an uninterrupted one, on both databases, played by a search and by a model."""

from random import Random

import pytest
from sqlalchemy import text

from benchmarks.service.__main__ import rounds
from benchmarks.service.kills import Kills, gaps, graveyard, trace
from benchmarks.service.model import Model
from storage.engine import connect, writing


@pytest.fixture
def played():
    model = Model()
    yield model
    model.close()


@pytest.fixture(params=["sqlite", "postgres"])
def yard(request, market_home, tmp_path):
    database = request.getfixturevalue("postgres") if request.param == "postgres" else None
    with graveyard(market_home, "small", tmp_path, database) as opened:
        yield opened


# thirty in all; python -m benchmarks.service has ten times as many, one at each commit among them


def test_a_run_that_is_killed_ends_as_one_that_nobody_touched(yard):
    assert rounds(yard, 10, Random(1)) == Kills(kills=10)


def test_a_run_of_two_directions_does_as_well(yard):
    assert rounds(yard, 2, Random(2), directions=2, rounds=4) == Kills(kills=2)


def test_a_run_of_a_model_repeats_at_most_one_call_for_each_kill(yard, played):
    done = rounds(yard, 3, Random(3), played)
    assert done.repeated_calls <= 1
    assert done == Kills(kills=3, repeated_calls=done.repeated_calls)


def test_what_was_lost_doubled_or_left_out_would_be_seen(market_home, tmp_path):
    with graveyard(market_home, "small", tmp_path) as yard:
        home = yard.home()
        yard.work(home)
        expected = trace(home.url)
        engine = connect(home.url)
        with writing(engine) as connection:
            connection.execute(text("DELETE FROM run_factors WHERE position = 1"))
            connection.execute(text("DELETE FROM events WHERE seq = 3"))
            again = "SELECT run_id, 10000, at, type, data, NULL FROM events WHERE seq = 5"
            connection.execute(text(f"INSERT INTO events (run_id, seq, at, type, data, key) {again}"))
        engine.dispose()
        done = yard.end(home, expected, iter(()))
    assert (done.kills, done.divergences, done.duplicates) == (0, 1, 1)
    assert done.gaps > 0
    assert gaps(home.url) == done.gaps
