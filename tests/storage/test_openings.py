import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from threading import Barrier

import duckdb
import polars as pl
import pytest
from sqlalchemy import text

from factors.errors import DataError, NotFoundError
from factors.verdict import at_least
from storage import openings as openings_module
from storage.markets import open_market, publish
from storage.openings import Opening, SealedError
from storage.principal import Principal
from storage.records import Records
from tests.library import accepted, evaluation_of
from tests.versions import rewrite

ROOT = Path(__file__).parents[2]
START = date(2020, 1, 1)
ADA, BOB = Principal("ada", "admin"), Principal("bob", "admin")
PASSED, FAILED = at_least("t_stat", 2.0, 1.0, "too weak"), at_least("t_stat", 0.0, 1.0, "too weak")


def day(number):
    return START + timedelta(days=number)


def source(seed=0):
    """Bars of thirty days, index membership and sectors; hold-out from day 20, with all that may change there."""
    draw = Random(seed)
    rows = []
    for symbol, first, last in (("A", 0, 30), ("B", 0, 24), ("C", 5, 30), ("D", 0, 18), ("LATE", 22, 30)):
        ratio, split_on = draw.choice([2.0, 3.0, 0.5]), draw.choice([7, 19, 20, 23, 25])
        for number in range(first, last):
            price, factor = 10 + 5 * draw.random(), ratio if number >= split_on else 1.0
            suspended = draw.random() < 0.1
            rows.append((day(number), symbol, *[price] * 4, 1000 * draw.random(), factor, suspended))
    columns = ["date", "symbol", "open", "high", "low", "close", "volume", "adj_factor", "suspended"]
    intervals = []
    for symbol in ("A", "B", "C", "D", "LATE"):
        for index in ("big", "small"):
            cuts = sorted(draw.sample([None, *range(31), 20, 21], 4), key=lambda cut: -1 if cut is None else cut)
            pairs = [cuts[:2], [cuts[2], draw.choice([cuts[3], None])]]
            intervals += [(index, symbol, *(None if cut is None else day(cut) for cut in pair)) for pair in pairs]
    membership = pl.DataFrame(
        intervals, schema={"index": pl.String, "symbol": pl.String, "start": pl.Date, "end": pl.Date}, orient="row"
    )
    sectors = pl.DataFrame({"symbol": ["A", "B", "LATE"], "sector": ["Energy", "Health", "Shipping"]})
    return pl.DataFrame(rows, schema=columns, orient="row"), {"membership": membership, "sectors": sectors}


ODD = ("range", "adjustment")  # what prices that are drawn are not


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A home with the market ``m``; not to be changed."""
    home = tmp_path_factory.mktemp("published")
    bars, tables = source()
    publish(home, "m", bars, **tables, accept=ODD, train_end=day(9), valid_end=day(19))
    return home


@pytest.fixture
def snapshot(tmp_path, published):
    shutil.copytree(published, tmp_path, dirs_exist_ok=True)
    return open_market(tmp_path, "m")


@pytest.fixture
def factor(records, snapshot):
    return accepted(records, snapshot)


@pytest.fixture
def ask(records, snapshot):
    """Open the hold-out for a factor: ``ask(factor, judge)``; what is judged passes where nobody judges."""

    def opened(factor, judge=None, *, budget=10, user="ada"):
        judge = judge or (lambda *_: (evaluation_of(factor), [PASSED]))
        return records.openings.open(snapshot, factor, judge, by=Principal(user, "admin"), budget=budget)

    return opened


def logged(url, columns="*"):
    with Records.open(url) as records, records._engine.begin() as connection:
        return connection.execute(text(f"SELECT {columns} FROM openings")).all()


# what is seen


@pytest.mark.parametrize("seed", range(6))
def test_the_judge_sees_what_a_market_without_a_hold_out_would_show(tmp_path, records, seed):
    """Splits, suspensions, members, sectors and a listing after the end, put together again from the two files."""
    bars, tables = source(seed)
    sealed = publish(tmp_path, "m", bars, **tables, accept=ODD, train_end=day(9), valid_end=day(19))
    whole = publish(tmp_path, "whole", bars, **tables, accept=ODD, train_end=day(19), holdout=False)
    assert sealed.bars("all").height < whole.bars("all").height
    for number, universe in enumerate(sealed.universes):
        seen = []
        factor = accepted(records, sealed, f"DELAY($close, {number + 1})", universe)

        def judge(frame, _, factor=factor, seen=seen):
            seen.append(frame)
            return evaluation_of(factor), [PASSED]

        records.openings.open(sealed, factor, judge, by=ADA, budget=10)
        [frame] = seen
        assert frame.equals(whole.bars(universe), null_equal=True)
        assert frame["date"].max() == day(29)
        assert set(frame.filter(pl.col("symbol") == "LATE")["sector"]) == {"Shipping"}


def test_what_is_shown_is_what_is_logged(ask, factor, snapshot, url):
    before = datetime.now(UTC)
    opening = ask(factor, lambda *_: (evaluation_of(factor), [PASSED, FAILED]))
    assert opening == Opening(
        factor_id=factor.id,
        snapshot=snapshot.id,
        market="m",
        user="ada",
        opened_at=opening.opened_at,
        evaluation=evaluation_of(factor),
        checks=(PASSED, FAILED),
        status="rejected",
    )
    assert before <= opening.opened_at <= datetime.now(UTC)
    with Records.open(url) as others:
        assert others.openings.of_factor(factor.id) == opening
        assert (others.openings.spent("m"), others.openings.spent("n")) == (1, 0)


def test_a_factor_is_live_where_all_checks_pass(records, ask, snapshot):
    found = []
    for formula, checks in (("RANK($open)", [PASSED, PASSED]), ("RANK($low)", [FAILED]), ("RANK($high)", [PASSED])):
        factor = accepted(records, snapshot, formula)
        verdict = evaluation_of(factor), checks
        found.append(ask(factor, lambda *_, verdict=verdict: verdict).status)
    assert found == ["live", "rejected", "live"]


def test_nothing_that_was_read_stays_in_the_temporary_folder(ask, factor, tmp_path, monkeypatch):
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with pytest.raises(ZeroDivisionError):
        ask(factor, lambda *_: 1 / 0)
    ask(factor)
    assert list(folder.iterdir()) == []


def test_the_in_sample_file_may_be_read_before_while_and_after(ask, factor, snapshot):
    """Files that are open in one process already, with other settings, are no obstacle either way."""

    def judge(*_):
        assert snapshot.bars("all").height > 0
        return evaluation_of(factor), [PASSED]

    with snapshot.cells("all") as cells:
        assert ask(factor, judge).status == "live"
        assert sum(table.height for table in cells.tables) == snapshot.bars("all").height


# once


def test_a_factor_has_one_opening_and_a_second_look_reads_nothing(ask, factor, snapshot, url):
    opening = ask(factor)
    (snapshot.path / "holdout.duckdb").unlink()
    with pytest.raises(SealedError, match=rf"by ada on {opening.opened_at:%Y-%m-%d}; a second look"):
        ask(factor, lambda *_: pytest.fail("judged again"), user="bob")
    assert logged(url, '"user"') == [("ada",)]


@pytest.mark.parametrize("budget", [10, 1])
def test_of_eight_who_judge_one_factor_at_once_one_is_shown_anything(ask, factor, url, budget):
    together = Barrier(8)

    def judge(*_):
        together.wait(20)
        return evaluation_of(factor), [PASSED]

    def look(_):
        try:
            return ask(factor, judge, budget=budget)
        except SealedError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(look, range(8)))
    assert sum(isinstance(one, Opening) for one in found) == len(logged(url)) == 1


def test_of_two_factors_judged_at_once_a_budget_of_one_opens_one(records, ask, snapshot, url):
    together, pair = Barrier(2), [accepted(records, snapshot, formula) for formula in ("RANK($open)", "RANK($low)")]

    def look(factor):
        def judge(*_):
            together.wait(20)
            return evaluation_of(factor), [PASSED]

        try:
            return ask(factor, judge, budget=1)
        except SealedError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(look, pair))
    assert sum(isinstance(one, Opening) for one in found) == len(logged(url)) == 1
    assert any("the team's 1 openings of this quarter are spent" in str(one) for one in found)


# the budget of a quarter


class Clock(datetime):
    """A clock that stands at ``at``, and moves by ``tick`` whenever it is read."""

    at, tick = datetime(2026, 1, 1, tzinfo=UTC), timedelta(0)

    @classmethod
    def now(cls, tz=None):
        read, cls.at = cls.at, cls.at + cls.tick
        return read.astimezone(tz)


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(openings_module, "datetime", Clock)
    monkeypatch.setattr(Clock, "tick", timedelta(0))
    return Clock


@pytest.mark.parametrize(
    ("first", "second", "counts"),
    [
        ("2026-01-01T00:00:00", "2026-03-31T23:59:59.999999", True),
        ("2026-03-31T23:59:59.999999", "2026-04-01T00:00:00", False),
        ("2026-04-01T00:00:00", "2026-06-30T23:59:59", True),
        ("2026-09-30T23:59:59", "2026-10-01T00:00:00", False),
        ("2026-10-01T00:00:00", "2026-12-31T23:59:59", True),
        ("2026-12-31T23:59:59.999999", "2027-01-01T00:00:00", False),
        ("2025-05-05T00:00:00", "2026-05-05T00:00:00", False),
    ],
)
def test_openings_are_counted_by_the_quarter_of_the_calendar_in_utc(
    records, ask, snapshot, clock, monkeypatch, first, second, counts
):
    monkeypatch.setenv("TZ", "Pacific/Auckland")  # where a quarter begins half a day earlier
    time.tzset()
    one, other = (accepted(records, snapshot, formula) for formula in ("RANK($open)", "RANK($low)"))
    clock.at = datetime.fromisoformat(f"{first}+00:00")
    assert ask(one, budget=1).opened_at == clock.at
    clock.at = datetime.fromisoformat(f"{second}+00:00")
    assert records.openings.spent("m") == counts
    if counts:
        with pytest.raises(SealedError, match="of this quarter"):
            ask(other, budget=1)
    assert ask(other, budget=1 + counts).opened_at == clock.at
    monkeypatch.delenv("TZ")
    time.tzset()


def test_the_budget_is_the_team_s_whatever_the_market(tmp_path, records, ask, snapshot):
    bars, tables = source()
    other = publish(tmp_path, "n", bars, **tables, accept=ODD, train_end=day(9), valid_end=day(18))
    ask(accepted(records, snapshot), budget=1)
    factor = accepted(records, other)

    def look(budget):
        return records.openings.open(other, factor, lambda *_: (evaluation_of(factor), [PASSED]), by=ADA, budget=budget)

    with pytest.raises(SealedError, match="the team's 1 openings"):
        look(1)
    look(2)
    assert (records.openings.spent("m"), records.openings.spent("n"), records.openings.spent()) == (1, 1, 2)


def test_the_same_data_under_another_name_are_not_opened_again(tmp_path, records, ask, snapshot):
    bars, tables = source()
    other = publish(tmp_path, "n", bars, **tables, accept=ODD, train_end=day(9), valid_end=day(19))
    assert other.id == snapshot.id
    ask(accepted(records, snapshot))
    factor = accepted(records, other)
    with pytest.raises(SealedError, match="was opened for this factor by ada"):
        records.openings.open(other, factor, lambda *_: pytest.fail("judged"), by=BOB, budget=10)
    different = accepted(records, other, "RANK($low)")
    records.openings.open(other, different, lambda *_: (evaluation_of(different), [PASSED]), by=BOB, budget=10)


def test_a_budget_of_nothing_opens_nothing(ask, factor, url):
    with pytest.raises(SealedError, match="the team's 0 openings"):
        ask(factor, lambda *_: pytest.fail("judged"), budget=0)
    assert logged(url) == []


def test_no_quarter_gets_more_than_its_budget_while_it_turns(records, ask, snapshot, clock, url):
    """While one factor is judged in the last second of a quarter, another takes the quarter's only opening."""
    slow, fast = (accepted(records, snapshot, formula) for formula in ("RANK($open)", "RANK($low)"))
    clock.at = datetime(2026, 3, 31, 23, 59, 55, tzinfo=UTC)

    def judge(*_):
        ask(fast, budget=1)
        clock.at, clock.tick = datetime(2026, 3, 31, 23, 59, 59, tzinfo=UTC), timedelta(seconds=1)
        return evaluation_of(slow), [PASSED]

    with pytest.raises(SealedError):
        ask(slow, judge, budget=1)
    assert logged(url, "factor_id") == [(fast.id,)]


# what fails leaves no row


def test_a_judge_that_fails_shows_and_logs_nothing_and_can_be_asked_again(ask, factor, url):
    for error in (ValueError, KeyboardInterrupt, MemoryError):

        def judge(frame, _, error=error):
            raise error(str(frame["close"].max()))

        with pytest.raises(error):
            ask(factor, judge)
    assert logged(url) == []
    assert ask(factor).status == "live"


KILLED = """
import os, signal, sys
from pathlib import Path
from storage.markets import open_market
from storage.principal import Principal
from storage.records import Records
with Records.open(sys.argv[2]) as records:
    factor = records.factor(sys.argv[3])
    judge = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    records.openings.open(open_market(Path(sys.argv[1]), "m"), factor, judge, by=Principal("ada", "admin"), budget=10)
"""


def test_a_process_killed_while_it_judges_leaves_the_hold_out_sealed(tmp_path, ask, factor, url):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), url, factor.id], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert logged(url) == []
    assert ask(factor).status == "live"


def _forget(statement):
    def damage(path):
        with duckdb.connect(path) as con:
            con.execute(statement)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no database" * 1000),
        lambda path: os.truncate(path, path.stat().st_size // 2),
        lambda path: path.write_bytes(path.read_bytes()[:13_000] + os.urandom(200_000)),
        _forget("DROP TABLE sectors"),
        lambda path: rewrite(path.parent, "holdout", "ALTER TABLE bars DROP COLUMN close"),
        lambda path: shutil.rmtree(path.with_suffix("")),
    ],
    ids=["missing", "empty", "no database", "truncated", "overwritten", "no sectors", "no close", "no bars"],
)
def test_a_hold_out_that_cannot_be_read_is_named_with_what_helps(tmp_path, ask, factor, snapshot, url, damage):
    damage(snapshot.path / "holdout.duckdb")
    with pytest.raises(DataError, match=f"'m' is damaged: {snapshot.path} cannot be read; remove it and import again"):
        ask(factor, lambda *_: pytest.fail("judged"))
    assert logged(url) == []
    shutil.rmtree(snapshot.path)
    bars, tables = source()
    assert publish(tmp_path, "m", bars, **tables, accept=ODD, train_end=day(9), valid_end=day(19)) == snapshot
    assert ask(factor).status == "live"


def test_a_market_without_a_hold_out_promotes_nothing(tmp_path, records, url):
    bars, tables = source()
    open_ended = publish(tmp_path, "open", bars, **tables, accept=ODD, train_end=day(9), holdout=False)
    factor = accepted(records, open_market(tmp_path, "open"))
    with pytest.raises(NotFoundError, match="imported without a hold-out"):
        records.openings.open(open_ended, factor, lambda *_: pytest.fail("judged"), by=ADA, budget=10)
    assert logged(url) == []
