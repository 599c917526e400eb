"""What is known beside the bars holds on the days that it is of, under the names of those days, and tells no future."""

import struct
from collections import defaultdict
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from app.panels import load_panel
from factors.errors import DataError
from factors.labels import forward_return
from storage.markets import open_market, publish
from tests.traded import table, weekdays
from tests.versions import content, rows

DAYS = weekdays(40)
SPAN = {"symbol": pl.String, "start": pl.Date, "end": pl.Date}
DELISTED = {"symbol": pl.String, "date": pl.Date, "return": pl.Float64}
BENCHMARK = {"index": pl.String, "date": pl.Date, "close": pl.Float64}
HELD_OUT = {"train_end": DAYS[14], "valid_end": DAYS[24]}


def bars(symbols=("A", "B", "C", "D"), days=DAYS):
    """Rising closes, each another one."""
    cells = [(day, symbol, 10.0 + i + n / 8) for n, day in enumerate(days) for i, symbol in enumerate(symbols)]
    frame = pl.DataFrame(cells, schema=["date", "symbol", "close"], orient="row")
    return frame.with_columns(open="close", high="close", low="close", volume=pl.lit(100.0))


def held(start, end, day):
    return (start is None or start <= day) and (end is None or day < end)


def spans(draw, most):
    """Ranges of days in order, apart from each other, the first and the last perhaps open."""
    count = int(draw.integers(1, most + 1))
    places = sorted(draw.choice(np.arange(-3, 43), 2 * count, replace=False).tolist())
    days = [DAYS[0] + timedelta(days=int(place * 1.4)) for place in places]
    found = [list(pair) for pair in zip(days[::2], days[1::2], strict=True)]
    for one, after in pairwise(found):
        if draw.random() < 0.5:
            one[1] = after[0]  # what follows without a day between
    if draw.random() < 0.4:
        found[0][0] = None
    if draw.random() < 0.4:
        found[-1][1] = None
    return [tuple(span) for span in found if None in span or span[0] < span[1]]


def drawn(seed):
    """Random reference data of symbols that are used again: tickers, membership of two indices, sectors."""
    draw = np.random.default_rng(seed)
    symbols = ["A", "B", "C", "D"]
    tickers = [(s, f"{s}{n}", *span) for s in symbols[:3] for n, span in enumerate(spans(draw, 3))]
    members = [
        (index, s, *span)
        for index in ("x", "y")
        for s in symbols
        for _ in range(2)  # the second range may overlap the first
        for span in spans(draw, 2)
    ]
    draw.shuffle(members)
    sectors = [(s, f"sector {draw.integers(3)}", *span) for s in symbols for span in spans(draw, 3)]
    return tickers, [tuple(one) for one in members], sectors


@pytest.mark.parametrize("terms", [HELD_OUT, {"holdout": False}])
@pytest.mark.parametrize("seed", range(3))
def test_every_row_is_of_the_instrument_the_indices_and_the_sector_of_its_day(tmp_path, seed, terms):
    tickers, members, sectors = drawn(seed)
    version = publish(
        tmp_path,
        "demo",
        bars(),
        tickers=table(*tickers, symbol=pl.String, instrument=pl.String, start=pl.Date, end=pl.Date),
        membership=table(*members, index=pl.String, **SPAN),
        sectors=table(*sectors, symbol=pl.String, sector=pl.String, start=pl.Date, end=pl.Date),
        **terms,
    )
    for universe in {one[0] for one in members}:
        expected = []
        for day, symbol, close, *_ in bars().iter_rows():
            if day <= version.valid_end:
                named = [name for s, name, *span in tickers if s == symbol and held(*span, day)]
                member = any(u == universe and s == symbol and held(*span, day) for u, s, *span in members)
                sector = [name for s, name, *span in sectors if s == symbol and held(*span, day)]
                expected.append((day, *(named or [symbol]), close, member, *(sector or [None])))
        found = version.bars(universe).select("date", "symbol", "close", "member", "sector")
        assert found.rows() == sorted(expected, key=lambda row: row[:2])
        panel, _ = load_panel(version, universe)
        lanes, names = {symbol: lane for lane, symbol in enumerate(panel.symbols)}, defaultdict(set)
        at = {day: row for row, day in enumerate(panel.dates.tolist())}
        for day, symbol, _, member, sector in expected:
            code = panel.sectors[0, at[day], lanes[symbol]]
            assert panel.eligible[0, at[day], lanes[symbol]] == member
            if member:
                names[int(code)].add(sector)
            else:
                assert code == -1
        assert all(len(known) == 1 for known in names.values())
        assert len({next(iter(known)) for known in names.values()}) == len(names)
        assert names.get(-1, {None}) == {None}


def test_a_chain_of_symbols_is_one_series_and_a_symbol_used_again_is_two(tmp_path):
    """FB became META, and FB was given to somebody else a week later."""
    gap, again = DAYS[10], DAYS[15]
    given = pl.concat(
        [
            bars(("FB",), DAYS[:10]),
            bars(("META",), DAYS[10:]),
            bars(("FB",), DAYS[15:]).with_columns(close=pl.lit(3.0)),
            bars(("B",)),
        ]
    )
    chain = table(
        ("FB", "meta", None, gap),
        ("META", "meta", gap, None),
        ("FB", "fund", again, None),
        symbol=pl.String, instrument=pl.String, start=pl.Date, end=pl.Date,
    )  # fmt: skip
    options = {
        "membership": table(("FB", DAYS[2], DAYS[12]), ("META", DAYS[12], None), **SPAN),
        "delistings": table(("FB", DAYS[39] + timedelta(days=1), -0.5), **DELISTED),
    }
    version = publish(tmp_path, "demo", given, tickers=chain, holdout=False, **options)
    found = version.bars("members")
    series = {name: own for (name,), own in found.group_by("symbol", maintain_order=True)}
    assert {name: own.height for name, own in series.items()} == {"meta": 40, "fund": 25, "B": 40}
    assert set(series["fund"]["close"]) == {3.0}
    assert series["meta"]["member"].to_list() == [False] * 2 + [True] * 8 + [False] * 2 + [True] * 28
    assert version.delistings() == {"fund": -0.5}


def test_the_label_at_the_end_is_what_holders_got(tmp_path):
    last = DAYS[20]
    given = bars().filter((pl.col("symbol") != "A") | (pl.col("date") <= last))
    delisted = table(("A", DAYS[21], -0.75), ("B", DAYS[39] + timedelta(days=9), 0.123456789), **DELISTED)
    version = publish(tmp_path, "demo", given, delistings=delisted, **HELD_OUT)
    assert version.delistings() == {"A": -0.75}
    panel, _ = load_panel(version, "all")
    close = {row: 10.0 + row / 8 for row in range(25)}
    for horizon in (1, 2, 5):
        label = forward_return(panel, horizon)[0, :, 0]
        for row in range(25):
            end = row + 1 + horizon
            if row + 1 > 20 or end >= 25:
                assert np.isnan(label[row])
            else:
                worth = close[end] if end <= 20 else close[20] * 0.25
                assert label[row] == pytest.approx(worth / close[row + 1] - 1, rel=1e-12)
    assert np.isfinite(panel.delisting).sum() == 1


def test_nothing_that_is_dated_after_the_end_is_in_what_is_in_sample(tmp_path):
    secret, later = 0.123456789, HELD_OUT["valid_end"] + timedelta(days=1)
    given = pl.concat([bars(), bars(("Newcomer",), DAYS[30:])])
    given = given.filter((pl.col("symbol") != "A") | (pl.col("date") <= HELD_OUT["valid_end"]))
    version = publish(
        tmp_path,
        "demo",
        given,
        membership=table(
            ("Laterindex", "B", later, None), ("x", "B", DAYS[0], later), ("x", "Newcomer", None, None),
            index=pl.String, **SPAN,
        ),
        sectors=table(
            ("Newcomer", "Latersector", None, None), ("B", "Othersector", later, None), ("B", "now", None, later),
            ("Nobody", "Nosector", DAYS[0], DAYS[3]),
            symbol=pl.String, sector=pl.String, start=pl.Date, end=pl.Date,
        ),
        delistings=table(("A", later, secret), ("Unheard", DAYS[3], secret), **DELISTED),
        benchmark=table(
            *(("b", day, secret if day >= later else 5.0) for day in DAYS), ("Laterbench", DAYS[39], 1.0), **BENCHMARK
        ),
        **HELD_OUT,
    )  # fmt: skip
    open_file, sealed = (content(version.path, side) for side in ("insample", "holdout"))
    words = ("Laterindex", "Latersector", "Othersector", "Laterbench", "Nosector", "Unheard")
    for canary in (*(word.encode() for word in words), struct.pack("<d", secret)):
        assert canary not in open_file
        assert canary in sealed
    assert rows(version.path, "insample", "delistings") == []
    assert max(day for _, day, _ in rows(version.path, "insample", "benchmark")) == HELD_OUT["valid_end"]
    assert rows(version.path, "insample", "sectors") == [("B", "now", None, None)]
    # Newcomer is a member for ever; its name is told by nothing else.
    assert [row for row in rows(version.path, "insample", "membership") if row[1] == "B"] == [("x", "B", DAYS[0], None)]
    assert version.universes == ("x", "all")


def spanned(*found, **more):
    return table(*found, **{**more, **SPAN})


TICKERS = {"symbol": pl.String, "instrument": pl.String, "start": pl.Date, "end": pl.Date}
SECTORS = {"symbol": pl.String, "sector": pl.String, "start": pl.Date, "end": pl.Date}
BAD = {
    "1 symbols stand for two instruments on one day, the first is A": {
        "tickers": table(("A", "a", None, DAYS[9]), ("A", "b", DAYS[8], None), **TICKERS)
    },
    "1 rows of the tickers end before they start, the first is of A": {
        "tickers": table(("A", "a", DAYS[9], DAYS[8]), **TICKERS)
    },
    "40 pairs of date and symbol occur more than once, the first is 2020-07-01 a": {
        "tickers": table(("A", "a", None, None), ("B", "a", None, None), **TICKERS)
    },
    "1 rows of the membership end before they start, the first is of B": {
        "membership": spanned(("A", None, DAYS[1]), ("B", DAYS[9], DAYS[1]))
    },
    "1 rows of the sectors end before they start, the first is of B": {
        "sectors": table(("B", "x", DAYS[9], DAYS[8]), **SECTORS)
    },
    "1 symbols have more than one sector on one day, the first is A": {
        "sectors": table(("A", "x", None, DAYS[9]), ("A", "y", DAYS[8], DAYS[12]), **SECTORS)
    },
    "1 rows of the sectors have no symbol": {"sectors": table((None, "x", None, None), **SECTORS)},
    "1 rows of the delistings have no symbol": {"delistings": table((None, DAYS[9], 0.0), **DELISTED)},
    "1 delisted symbols have a bar after it, or two delistings, the first is A": {
        "delistings": table(("A", DAYS[38], 0.0), **DELISTED)
    },
    "1 delisted symbols have a bar after it, or two delistings, the first is Z": {
        "delistings": table(("Z", DAYS[38], 0.0), ("Z", DAYS[39], 0.1), **DELISTED)
    },
    "1 delistings have no date or no return of at least -1, the first is of Z": {
        "delistings": table(("Z", DAYS[38], -1.5), **DELISTED)
    },
    "1 delistings have no date or no return of at least -1, the first is of Y": {
        "tickers": table(("Y", "y", None, None), ("A", "a", None, None), **TICKERS),
        "delistings": table(("Y", None, 0.5), **DELISTED),
        "membership": spanned(("A", None, None)),
    },
    "1 days of a benchmark have no close, or two, the first is 2020-07-01 of b": {
        "benchmark": table(("b", DAYS[0], None), **BENCHMARK)
    },
    "2 days of a benchmark have no close, or two, the first is 2020-07-01 of b": {
        "benchmark": table(
            ("b", DAYS[0], 1.0), ("b", DAYS[0], 2.0), ("b", DAYS[1], 0.0), ("a", DAYS[1], 2.0), **BENCHMARK
        )
    },
}


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A home with a market; not to be changed."""
    home = tmp_path_factory.mktemp("there")
    publish(home, "demo", bars(days=DAYS[:30]), **HELD_OUT)
    return home


@pytest.mark.parametrize("message", BAD)
def test_what_cannot_be_is_refused_and_nothing_is_left_of_it(tmp_path, there, listing, message):
    before = listing(there)
    with pytest.raises(DataError, match=message):
        publish(tmp_path, "demo", bars(), holdout=False, **BAD[message])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match=message.replace("40 pairs", "(40|10) pairs").replace(f"{DAYS[0]} a", "")):
        publish(there, "demo", bars(days=DAYS[30:]), append=True, **BAD[message])
    assert listing(there) == before
    assert open_market(there, "demo").last_date == HELD_OUT["valid_end"]


def test_dates_at_the_ends_of_time_are_dates(tmp_path):
    first, last = date.min, date.max
    version = publish(
        tmp_path,
        "demo",
        bars(),
        tickers=table(("A", "a", first, last), **TICKERS),
        membership=spanned(("A", first, last), ("B", None, last)),
        delistings=table(("Z", first, 0.0), **DELISTED),
        **HELD_OUT,
    )
    members = version.bars("members").filter("member")
    assert members["symbol"].unique().sort().to_list() == ["B", "a"]
    assert members.height == 50
