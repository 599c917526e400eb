"""Days that follow: a market that came day by day is the one that came whole."""

from datetime import timedelta
from itertools import pairwise

import polars as pl
import pytest

from factors.errors import DataError, NotFoundError, SettingError
from storage.markets import open_market, publish
from storage.snapshot import Snapshot
from tests.traded import CODES, table, traded, weekdays
from tests.versions import columns, content, rows

DAYS = weekdays(60)
BARS = traded(DAYS)
HELD_OUT = {"train_end": DAYS[19], "valid_end": DAYS[29]}
OPEN = {"train_end": DAYS[19], "holdout": False}
REFERENCE = {
    # In an order that is neither that of names nor that of begins.
    "membership": table(
        ("late", CODES[1], DAYS[45], None),
        ("top", CODES[0], None, DAYS[31]),
        ("top", CODES[1], DAYS[5], None),
        ("early", CODES[2], DAYS[3], DAYS[10]),
        ("later", CODES[3], DAYS[50], None),
        ("top", "gone", DAYS[2], DAYS[4]),
        index=pl.String,
        symbol=pl.String,
        start=pl.Date,
        end=pl.Date,
    ),
    "sectors": table(
        (CODES[0], "bank", None, DAYS[25]),
        (CODES[0], "steel", DAYS[25], None),
        ("IPO", "tech", None, None),
        ("IPO2", "tech", DAYS[0], DAYS[9]),
        (CODES[3], "bank", None, DAYS[44]),
        symbol=pl.String,
        sector=pl.String,
        start=pl.Date,
        end=pl.Date,
    ),
    "delistings": table(
        ("gone", DAYS[4], -1.0),
        ("gone too", DAYS[55], -0.5),
        **{"symbol": pl.String, "date": pl.Date, "return": pl.Float64},
    ),
    "benchmark": table(
        *((name, day, 100.0 + number) for name in ("b", "a") for number, day in enumerate(DAYS)),
        index=pl.String,
        date=pl.Date,
        close=pl.Float64,
    ),
}
NEW = traded(DAYS, seed=9, symbols=("IPO", "IPO2")).filter(pl.col("date") >= DAYS[42])


def between(bars, start, stop):
    """The bars of some of the days."""
    return bars.filter(pl.col("date").is_in(DAYS[start:stop]))


def append(root, bars, **options):
    return publish(root, "demo", bars, append=True, **options)


def described(snapshot):
    """What a version tells of itself, but for where it is."""
    return {name: getattr(snapshot, name) for name in Snapshot.__slots__ if name not in {"path", "market"}}


def told(version):
    """All rows of all tables of both sides, but for how the bars are cut into files."""
    sides = ("insample", "holdout") if version.has_holdout else ("insample",)
    found = {}
    for side in sides:
        names = columns(version.path, side)
        order = sorted(range(len(names)), key=names.__getitem__)
        bars = sorted(tuple(row[place] for place in order) for row in rows(version.path, side, "bars"))
        found[side] = [sorted(names), bars]
        for name in ("calendar", "instruments", *REFERENCE):
            found[side].append(sorted(rows(version.path, side, name), key=repr))
        found[side].append(sorted((day, count, digest) for _, day, count, digest in rows(version.path, side, "days")))
    return found


def files(version):
    """The inode of each file of bars."""
    return {path.relative_to(version.path): path.stat().st_ino for path in version.path.rglob("*.parquet")}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A home with the first 40 days; not to be changed."""
    home = tmp_path_factory.mktemp("begun")
    publish(home, "demo", between(BARS, 0, 40), **HELD_OUT)
    return home


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Markets that came whole, by their options: ``whole(**options)``."""
    known = {}

    def of(bars=BARS, **options):
        key = repr((id(bars), sorted(options.items(), key=lambda one: one[0])))
        if key not in known:
            known[key] = publish(tmp_path_factory.mktemp("whole"), "demo", bars, **options)
        return known[key]

    return of


@pytest.mark.parametrize(
    ("terms", "rules", "cuts"),
    [(HELD_OUT, "cn", (40, 41, 42, 60)), (OPEN, "cn", (30, 31, 60)), (HELD_OUT, "none", (35, 60))],
)
def test_a_market_in_pieces_is_the_one_that_came_whole(tmp_path, whole, terms, rules, cuts):
    bars = pl.concat([BARS, NEW])
    options = {**terms, **REFERENCE, "rules": rules}
    version = publish(tmp_path, "demo", between(bars, 0, cuts[0]), **options)
    for start, stop in pairwise(cuts):
        known = files(version)
        version = append(tmp_path, between(bars, start, stop))
        assert files(version).items() >= known.items()
        added = {path.stem for path in files(version)} - {path.stem for path in known}
        assert min(added) == str(DAYS[start])
        assert version == open_market(tmp_path, "demo")
    assert described(version) == described(whole(bars, **options))
    assert told(version) == told(whole(bars, **options))
    assert version.universes == (
        ("top", "early", "all") if version.has_holdout else ("late", "top", "early", "later", "all")
    )
    for universe in version.universes:
        assert version.bars(universe).equals(whole(bars, **options).bars(universe))


def test_days_that_overlap_as_they_were_are_left_out(tmp_path, whole):
    publish(tmp_path, "demo", between(BARS, 0, 40), **HELD_OUT)
    said = []
    version = append(tmp_path, between(BARS, 33, 60).sample(fraction=1, shuffle=True, seed=1), tell=said.append)
    assert version.id == whole(**HELD_OUT).id
    assert said == [f"{between(BARS, 33, 40).height} bars are in the market already"]


def test_nothing_new_is_the_version_that_is_there(tmp_path):
    version = publish(tmp_path, "demo", BARS, **HELD_OUT)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert append(tmp_path, between(BARS, 50, 60)) == version
    assert append(tmp_path, BARS) == version
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("column", ["open", "close", "volume", "amount", "adj_factor", "suspended", "symbol"])
def test_a_day_that_was_restated_is_refused_and_nothing_changes(begun, listing, column):
    before = listing(begun)
    value = pl.col(column)
    change = {"suspended": ~value, "symbol": pl.lit("NEW")}.get(column, value * (1 + 2**-52))
    last = between(BARS, 39, 40).row(1, named=True)
    changed = between(BARS, 38, 60).with_columns(
        pl.when((pl.col("date") == last["date"]) & (pl.col("symbol") == last["symbol"]))
        .then(change)
        .otherwise(value)
        .alias(column)
    )
    with pytest.raises(DataError, match=rf"1 bars are not as they are in the market, the first is {last['date']}"):
        append(begun, changed)
    assert listing(begun) == before


def test_the_hold_out_grows_and_what_is_in_sample_stays_byte_for_byte(tmp_path):
    first = publish(tmp_path, "demo", between(BARS, 0, 40), **REFERENCE, **HELD_OUT)
    canary = between(BARS, 40, 60).with_columns(symbol=pl.lit("Canary") + pl.col("symbol"), amount=pl.lit(31337.25))
    second = append(tmp_path, canary)
    assert (second.train_end, second.valid_end, second.last_date) == (DAYS[19], DAYS[29], first.last_date)
    assert max(row[0] for row in rows(second.path, "holdout", "calendar")) == DAYS[59]
    assert second.bars("top").equals(first.bars("top"))
    assert {b"Canary" in content(second.path, side) for side in ("insample", "holdout")} == {False, True}
    assert {path: node for path, node in files(second).items() if path.parts[0] == "insample"} == {
        path: node for path, node in files(first).items() if path.parts[0] == "insample"
    }


def test_without_a_hold_out_valid_grows(tmp_path):
    first = publish(tmp_path, "demo", between(BARS, 0, 40), holdout=False)
    second = append(tmp_path, between(BARS, 40, 60))
    assert (second.train_end, second.valid_end, second.last_date) == (first.train_end, DAYS[59], DAYS[59])
    assert not second.has_holdout


@pytest.mark.parametrize("terms", [HELD_OUT, OPEN])
def test_reference_data_that_are_given_replace_those_of_before(tmp_path, whole, terms):
    old = {name: rows.head(1) for name, rows in REFERENCE.items()}
    publish(tmp_path, "demo", between(BARS, 0, 40), **old, **terms)
    version = append(tmp_path, between(BARS, 40, 60), **REFERENCE)
    assert described(version) == described(whole(**REFERENCE, **terms))
    assert told(version) == told(whole(**REFERENCE, **terms))


@pytest.mark.parametrize("day", [25, 39, 45])
def test_a_delisting_before_bars_is_refused_whichever_of_them_were_there(begun, listing, day):
    before = listing(begun)
    delisted = table((CODES[0], DAYS[day], -1.0), **{"symbol": pl.String, "date": pl.Date, "return": pl.Float64})
    with pytest.raises(DataError, match="1 delisted symbols have a bar after it"):
        append(begun, between(BARS, 40, 60).filter(pl.col("date") > DAYS[45]), delistings=delisted)
    assert listing(begun) == before


def test_bars_after_a_delisting_that_is_known_are_refused(tmp_path, listing):
    bars = between(BARS, 0, 40).filter((pl.col("symbol") != CODES[0]) | (pl.col("date") < DAYS[35]))
    delisted = table((CODES[0], DAYS[37], -1.0), **{"symbol": pl.String, "date": pl.Date, "return": pl.Float64})
    publish(tmp_path, "demo", bars, delistings=delisted, **HELD_OUT)
    before = listing(tmp_path)
    with pytest.raises(DataError, match="1 delisted symbols have a bar after it"):
        append(tmp_path, between(BARS, 40, 60))
    assert listing(tmp_path) == before
    append(tmp_path, between(BARS, 40, 60).filter(pl.col("symbol") != CODES[0]))


@pytest.mark.parametrize("gap", [20, 31, 400])
def test_limits_are_those_of_the_whole_whatever_lies_between(tmp_path, whole, gap):
    first = between(BARS, 0, 31)
    later = between(BARS, 31, 60).with_columns(pl.col("date") + timedelta(days=gap - 1))
    bars = pl.concat([first, later])
    publish(tmp_path, "demo", first, rules="cn", **HELD_OUT)
    version, same = append(tmp_path, later), whole(bars, rules="cn", **HELD_OUT)
    place = columns(version.path, "holdout").index("limited")
    assert {row[place] for row in rows(version.path, "holdout", "bars")} == {False, True}
    assert version.id == same.id
    assert told(version) == told(same)


def test_columns_are_those_of_the_market(tmp_path):
    publish(tmp_path, "demo", between(BARS, 0, 40).drop("vwap"), **HELD_OUT)
    said = []
    version = append(tmp_path, between(BARS, 40, 60).drop("amount"), tell=said.append)
    assert said == [
        "left out: column vwap, which the market does not have",
        "no column amount, which the market has: it is empty on these days",
    ]
    place = columns(version.path, "holdout").index("amount")
    assert {row[place] is None for row in rows(version.path, "holdout", "bars") if row[0] >= DAYS[40]} == {True}


def test_a_factor_that_begins_anew_is_refused_also_where_nobody_may_look(begun, listing):
    """As where a source of nothing but new days has factors of its own: 1 on the first of them."""
    before = listing(begun)
    last = between(BARS, 0, 40).group_by("symbol").agg(pl.col("adj_factor").sort_by("date").last().alias("own"))
    assert (last["own"] > 1).any()
    anew = between(BARS, 40, 60).join(last, on="symbol").with_columns(pl.col("adj_factor") / pl.col("own")).drop("own")
    with pytest.raises(DataError, match=r"\d instruments go on with another adj_factor .*, the first is"):
        append(begun, anew)
    assert listing(begun) == before


def test_a_factor_that_begins_anew_may_be_accepted(tmp_path):
    publish(tmp_path, "demo", between(BARS, 0, 40), **HELD_OUT)
    anew = between(BARS, 40, 60).with_columns(pl.lit(1.0).alias("adj_factor"))
    assert append(tmp_path, anew, accept=["adjustment"]) == open_market(tmp_path, "demo")


def test_how_many_symbols_are_new_is_told(tmp_path):
    said = []
    later = between(BARS, 40, 60).with_columns(pl.col("symbol").replace(CODES[0], "RENAMED"))
    publish(tmp_path, "demo", between(BARS, 0, 40), **HELD_OUT)
    append(tmp_path, later, tell=said.append)
    assert said == ["1 symbols are new to the market"]


def test_bars_that_can_follow_nothing_are_refused(tmp_path, begun, listing):
    with pytest.raises(NotFoundError, match="has no version that bars could follow"):
        append(tmp_path, BARS)
    assert list(tmp_path.iterdir()) == []
    before = listing(begun)
    timed = between(BARS, 40, 60).with_columns(pl.col("date").cast(pl.Datetime("us")))
    hours = pl.concat([timed.with_columns(pl.col("date") + timedelta(hours=hour)) for hour in (10, 11)])
    with pytest.raises(DataError, match="bars are of days where those of the market have a time of day"):
        append(begun, hours)
    with pytest.raises(SettingError, match="no rule 'x'"):
        append(begun, between(BARS, 40, 60), accept=["x"])
    with pytest.raises(DataError, match="no bars"):
        append(begun, BARS.clear())
    assert listing(begun) == before


@pytest.mark.parametrize("other", [{"rules": "cn"}, {"train_end": DAYS[18]}, {"holdout": False}])
def test_terms_that_are_not_those_of_the_market_are_refused(begun, listing, other):
    before = listing(begun)
    with pytest.raises(
        SettingError, match=rf"bars that follow keep .* the market's: give no other {next(iter(other))}"
    ):
        append(begun, between(BARS, 40, 60), **other)
    assert listing(begun) == before
    assert append(begun, between(BARS, 38, 40), rules="none", **HELD_OUT) == open_market(begun, "demo")


def test_a_day_between_those_of_the_market_is_refused(tmp_path):
    publish(tmp_path, "demo", pl.concat([between(BARS, 0, 30), between(BARS, 31, 40)]), **HELD_OUT)
    with pytest.raises(DataError, match="bars are not as they are in the market"):
        append(tmp_path, between(BARS, 30, 60))
