"""A killed run ends as an uninterrupted one, on both databases, played by a search and by a model."""

from random import Random

import pytest
from sqlalchemy import text

from benchmarks.service.__main__ import rounds
from benchmarks.service.kills import Kills, at_commits, at_moments, gaps, graveyard, trace
from benchmarks.service.model import Model
from storage.engine import connect, writing

KILLS, PLAYED = 12, 6  # thirty in all; python -m benchmarks.service has 300


@pytest.fixture
def played():
    model = Model()
    yield model
    model.close()


def test_a_run_killed_at_commits_ends_as_one_that_nobody_touched(market_home, tmp_path):
    with graveyard(market_home, "small", tmp_path) as yard:
        done = rounds(yard, KILLS, lambda commits: at_commits(Random(1), commits))
    assert done == Kills(kills=KILLS)


def test_a_run_killed_at_moments_on_postgres_does_as_well(market_home, tmp_path, postgres):
    with graveyard(market_home, "small", tmp_path, postgres) as yard:
        done = rounds(yard, KILLS, lambda _: at_moments(Random(2), 4.0))
    assert done == Kills(kills=KILLS)


def test_a_run_of_a_model_repeats_at_most_one_call_for_each_kill(market_home, tmp_path, played):
    with graveyard(market_home, "small", tmp_path) as yard:
        done = rounds(yard, PLAYED, lambda commits: at_commits(Random(3), commits), played)
    assert done.repeated_calls <= 1
    assert done == Kills(kills=PLAYED, repeated_calls=done.repeated_calls)


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
