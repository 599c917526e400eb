"""Price limits, beside a reference that is written from the rules of the exchanges and knows no floating point."""

from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from factors.labels import forward_return
from factors.panel import Panel
from storage.ingest import import_market
from storage.markets import open_market, publish
from tests.traded import weekdays
from tests.versions import columns, rows

REFORM = date(2020, 8, 24)
REGISTRATION = date(2023, 4, 10)
DAYS = weekdays(70)  # the reform is among them
LATER = weekdays(40, date(2023, 3, 20))  # and here the registration
CENT = Decimal("0.01")
# Boards and how vendors spell their codes.
SYMBOLS = {
    "SH600000": "main",
    "sz.000001": "main",
    "601398.SH": "main",
    "002001": "main",
    "SH900901": "main",
    "SH688001": "star",
    "sh.689009": "star",
    "688981.SH": "star",
    "SZ300001": "chinext",
    "301001.sz": "chinext",
    "BJ430047": "beijing",
    "bj.830799": "beijing",
    "920001.BJ": "beijing",
    "no code": "main",
}


def unbound(board, listed, age):
    """Whether a stock of this age in days is too new to have a limit."""
    since = {"star": date.min, "chinext": REFORM, "main": REGISTRATION, "beijing": date.max}
    return listed is not None and age <= 5 and listed >= since[board]


def width(board, day, treated):
    """The band in hundredths of the close before."""
    if board == "beijing":
        return 30
    if board == "star" or (board == "chinext" and day >= REFORM):
        return 20
    return 5 if treated else 10


def cents(value):
    return value.quantize(CENT, ROUND_HALF_UP)


def limits(before, hundredths):
    part = before * hundredths / 100
    return cents(before - part), cents(before + part)


def reference(bars):
    """Whether each bar opens or closes at a limit, by date and symbol: plain, slow and exact."""
    found = {}
    for (symbol,), own in bars.sort("date").group_by("symbol"):
        before, listed = None, own["date"].min()
        listed = None if listed == bars["date"].min() else listed
        for age, row in enumerate(own.iter_rows(named=True), start=1):
            close, factor = Decimal(repr(row["close"])), Decimal(repr(row["adj_factor"]))
            at = False
            new = unbound(SYMBOLS[symbol], listed, age)
            if before is not None and (row["date"] - before[0]).days <= 30 and not new:
                right = cents(before[1] * before[2] / factor)
                band = width(SYMBOLS[symbol], row["date"], bool(row["st"]))
                low, high = limits(right, band)
                slack = right * band / 1000
                prices = Decimal(repr(row["open"])), close
                at = high <= max(prices) <= high + slack or low - slack <= min(prices) <= low
            found[row["date"], symbol] = at
            before = row["date"], close, factor
    return found


def at_limits(seed, days=DAYS):
    """Bars that open and close at their limits, a tick inside or far inside, through splits and dividends.

    Every other symbol is listed on one of these days.
    """
    draw, found = np.random.default_rng(seed), []
    for number, (symbol, board) in enumerate(SYMBOLS.items()):
        before, factor = cents(Decimal(int(draw.integers(100, 9000))) / 100), Decimal(1)
        day_before = None
        for day in days[(seed + number) % 2 * int(draw.integers(1, len(days) - 10)) :]:
            if draw.random() < 0.03:
                continue
            treated = bool(draw.random() < 0.3)
            if draw.random() < 0.05:
                ratio = Decimal(str(draw.choice([1.25, 2, 1.015625])))
                factor, before = factor * ratio, cents(before / ratio)
            low, high = limits(before, width(board, day, treated))
            # A tick beyond is no price that there is; none is needed to tell a limit from what is not.
            choices = [low, low + CENT, high, high - CENT, before, cents((low + high) / 2), cents((before + high) / 2)]
            opened, close = (choices[number] for number in draw.choice(7, 2, p=[0.1, 0.1, 0.1, 0.1, 0.2, 0.2, 0.2]))
            top, bottom = max(opened, close), min(opened, close)
            prices = map(float, (opened, top, bottom, close, factor))
            if bottom > 0 and (day_before is None or (day - day_before).days <= 30):
                found.append((day, symbol, *prices, float(treated), 1000.0))
                before, day_before = close, day
            before = before if before > Decimal("0.5") else Decimal(50)
    names = ["date", "symbol", "open", "high", "low", "close", "adj_factor", "st", "volume"]
    return pl.DataFrame(found, schema=names, orient="row")


def publish_open(root, bars, rules="cn"):
    return publish(root, "demo", bars, holdout=False, rules=rules, accept=["adjustment"])


def marked(version):
    """Whether each bar of a version was found at a limit."""
    names = columns(version.path, "insample")
    places = [names.index(name) for name in ("date", "symbol", "limited")]
    return {
        (day, symbol): limited
        for day, symbol, limited in ([row[place] for place in places] for row in rows(version.path, "insample", "bars"))
    }


@pytest.mark.parametrize(("seed", "days"), [(0, DAYS), (1, DAYS), (2, LATER), (3, LATER)])
def test_limits_are_those_of_the_exchanges(tmp_path, seed, days):
    bars = at_limits(seed, days)
    expected = reference(bars)
    found = marked(publish_open(tmp_path, bars))
    assert 0.2 < sum(expected.values()) / len(expected) < 0.8
    wrong = [(key, found[key]) for key in expected if found[key] != expected[key]]
    assert wrong == []


@pytest.mark.parametrize("hundredths", [5, 10, 20, 30])
def test_a_limit_falls_on_its_tick_at_every_price(tmp_path, hundredths):
    """Halves of a tick are rounded up, which binary digits do not tell by themselves."""
    code, treated = {5: ("SH6", 1.0), 10: ("SH6", 0.0), 20: ("SH688", 0.0), 30: ("BJ8", 0.0)}[hundredths]
    befores = [Decimal(number) / 100 for number in range(101, 1200, 2 if hundredths == 5 else 7)]
    table, expected = [], {}
    for number, before in enumerate(befores):
        low, high = limits(before, hundredths)
        for side, at, within in ((0, low, low + CENT), (1, high, high - CENT)):
            for near, price in enumerate((at, within)):
                symbol = f"{code}{number * 4 + side * 2 + near:0{8 - len(code)}d}"
                for day, close in zip(DAYS, (before, price), strict=False):
                    table.append((day, symbol, *[float(close)] * 4, 1000.0, treated))
                expected[symbol] = not near
    names = ["date", "symbol", "open", "high", "low", "close", "volume", "st"]
    found = marked(publish_open(tmp_path, pl.DataFrame(table, schema=names, orient="row")))
    assert [symbol for symbol, limited in expected.items() if found[DAYS[1], symbol] != limited] == []
    assert not any(limited for (day, _), limited in found.items() if day == DAYS[0])


def one(symbol, *bars):
    """Bars of a symbol: day, open, close, factor."""
    cells = [
        (day, symbol, opened, max(opened, close), min(opened, close), close, 1000.0, factor)
        for day, opened, close, factor in bars
    ]
    names = ["date", "symbol", "open", "high", "low", "close", "volume", "adj_factor"]
    return pl.DataFrame(cells, schema=names, orient="row")


@pytest.mark.parametrize(
    ("bars", "limited"),
    [
        ([(0, 10.0, 10.0, 1.0), (1, 11.0, 10.5, 1.0)], True),  # it opens there
        ([(0, 10.0, 10.0, 1.0), (1, 10.5, 11.0, 1.0)], True),
        ([(0, 10.0, 10.0, 1.0), (1, 9.5, 9.0, 1.0)], True),
        ([(0, 10.0, 10.0, 1.0), (1, 10.9, 10.99, 1.0)], False),
        ([(0, 10.0, 10.0, 1.0), (1, 5.0, 5.1, 2.0)], False),  # a split
        ([(0, 10.0, 10.0, 1.0), (1, 5.0, 5.5, 2.0)], True),
        ([(0, 10.0, 10.0, 1.0), (1, 9.0, 9.1, 1.111111)], False),  # a tenth of dividend: it stands at no limit
        ([(0, 10.0, 10.0, 1.0), (1, 10.0, 13.0, 1.0)], False),  # beyond: there was no limit
        ([(0, 10.0, 10.0, 1.0), (1, 6.0, 7.0, 1.0)], False),
        ([(0, 10.0, 10.0, 1.0), (30, 11.0, 11.0, 1.0)], True),
        ([(0, 10.0, 10.0, 1.0), (31, 11.0, 11.0, 1.0)], False),  # after so long nobody knows
        ([(0, 10.0, None, 1.0), (1, 11.0, 11.0, 1.0)], False),
        ([(0, 10.0, 10.0, 1.0), (1, 10.0, None, 1.0), (2, 11.0, 11.0, 1.0)], True),
    ],
)
def test_what_stands_at_a_limit(tmp_path, bars, limited):
    dated = [(DAYS[0] + timedelta(days=day), opened, close or np.nan, factor) for day, opened, close, factor in bars]
    found = marked(publish_open(tmp_path, one("SH600000", *dated)))
    assert found[dated[-1][0], "SH600000"] == limited
    assert not any(list(found.values())[:-1])


def test_what_stands_at_a_limit_is_neither_bought_nor_held(tmp_path):
    version = publish_open(tmp_path, at_limits(0))
    expected = reference(at_limits(0))
    with version.cells("all") as cells:
        panel = Panel.from_cells(cells, version.train_end)
    label = forward_return(panel)
    for lane, symbol in enumerate(panel.symbols):
        for row, day in enumerate(panel.dates.tolist()):
            at = expected.get((day, symbol))
            assert panel.tradable[0, row, lane] == (at is False)
            if at:
                assert np.isnan(label[0, row, lane])
                assert row == 0 or np.isnan(label[0, row - 1, lane])
    bars = version.bars("all")
    assert {(day, symbol) for day, symbol, *_ in bars.filter("suspended").iter_rows()} == {
        key for key, at in expected.items() if at
    }


@pytest.mark.parametrize(
    ("board", "symbol", "days", "first", "limits"),
    [
        ("star", "SH688001", DAYS, 1, [False] * 5 + [True] * 3),
        ("star", "SH688001", DAYS, 0, [False] + [True] * 7),  # as the bars begin then, it may be an old one
        ("chinext", "SZ300001", DAYS, DAYS.index(REFORM) - 1, [False] + [True] * 7),
        ("chinext", "SZ300001", DAYS, DAYS.index(REFORM), [False] * 5 + [True] * 3),
        ("main", "SZ000001", DAYS, 1, [False] + [True] * 7),
        ("main", "SZ000001", LATER, LATER.index(REGISTRATION) - 1, [False] + [True] * 7),
        ("main", "SZ000001", LATER, LATER.index(REGISTRATION), [False] * 5 + [True] * 3),
        ("beijing", "BJ830001", LATER, LATER.index(REGISTRATION), [False] + [True] * 7),
    ],
)
def test_new_stocks_have_no_limit_for_five_days(tmp_path, board, symbol, days, first, limits):
    own = days[first : first + 8]
    bars, price = [], Decimal(10)
    for day in own:
        price = cents(price * (100 + width(board, day, treated=False)) / 100)
        bars.append((day, float(price), float(price), 1.0))
    old = one("SH600519", *((day, 10.0, 10.0, 1.0) for day in days))
    found = marked(publish_open(tmp_path, pl.concat([one(symbol, *bars), old])))
    assert [found[day, symbol] for day in own] == limits


def truths(path, bars):
    """Two files of the same bars, of which one tells of special treatment by truths, as tools write them."""
    bars.write_parquet(path / "numbers.parquet")
    truth = bars.with_columns(pl.col("st") > 0)
    truth.write_parquet(path / "truths.parquet")
    truth.with_columns(pl.col("st").replace_strict({True: "True", False: "False"})).write_csv(path / "truths.csv")
    return [path / "truths.parquet", path / "truths.csv"]


def test_special_treatment_is_told_by_truths_too(tmp_path):
    options = {"holdout": False, "rules": "cn", "accept": ["adjustment"]}
    files = truths(tmp_path, at_limits(0))
    version = import_market(tmp_path / "home", "demo", tmp_path / "numbers.parquet", **options)
    assert "st" in version.fields
    assert {import_market(tmp_path / "home", f"demo{path.suffix[1:]}", path, **options).id for path in files} == {
        version.id
    }


def test_special_treatment_that_is_known_in_the_hold_out_alone_counts_nowhere(tmp_path):
    bars, dates = at_limits(0), {"train_end": DAYS[20], "valid_end": DAYS[40], "accept": ["adjustment"]}
    late = bars.with_columns(st=pl.when(pl.col("date") > DAYS[40]).then("st"))
    ids = {
        publish(tmp_path, "without", bars.drop("st"), rules="cn", **dates).id,
        publish(tmp_path, "whole", late, rules="cn", **dates).id,
    }
    publish(tmp_path, "later", late.filter(pl.col("date") <= DAYS[50]), rules="cn", **dates)
    ids.add(publish(tmp_path, "later", late.filter(pl.col("date") > DAYS[50]), append=True).id)
    assert len(ids) == 1


@pytest.mark.parametrize("rules", ["us", "crypto", "none"])
def test_other_markets_have_no_limits(tmp_path, rules):
    version = publish_open(tmp_path, at_limits(0), rules)
    assert not version.limited
    assert "limited" not in columns(version.path, "insample")
    assert not version.bars("all")["suspended"].any()


def test_a_column_of_special_treatment_that_is_missing_is_told(tmp_path):
    said = []
    publish(tmp_path, "demo", at_limits(0).drop("st", "adj_factor"), holdout=False, rules="cn", tell=said.append)
    assert said == ["rules cn: no column st, so stocks under special treatment have the price limit of their board"]


def test_real_bars_stand_at_limits_when_markets_crash(real_markets):
    """In the crash of 2015 most of the market stood at a limit, and about one bar in a hundred in other years."""
    version = open_market(real_markets, "cn")
    names = columns(version.path, "insample")
    picked = ["date", "symbol", "open", "close", "adj_factor", "suspended", "limited"]
    bars = (
        pl.DataFrame(rows(version.path, "insample", "bars"), schema=names, orient="row")
        .select(picked)
        .sort("symbol", "date")
    )
    share = dict(bars.group_by(pl.col("date").dt.year()).agg(pl.col("limited").mean()).iter_rows())
    assert all(0.003 < part < 0.02 for year, part in share.items() if year != 2015)
    assert 0.05 < share[2015] < 0.1
    crash = bars.filter(date=date(2015, 8, 24)).filter(~pl.col("suspended"))
    assert crash["limited"].mean() > 0.85
    moves = bars.with_columns(
        move=(pl.col("close") * pl.col("adj_factor")).pct_change().over("symbol"),
    )
    # What moves further had no limit that day: it comes back from a reorganization, or its factor is wrong.
    beyond = moves.filter((pl.col("move").abs() > 0.12) & ~pl.col("suspended"))
    assert 10 < beyond.height < 40
    assert beyond["limited"].sum() == 0
    # What closes a tenth higher or lower, to the tick, stands at it.
    full = moves.filter((pl.col("move").abs() > 0.0995) & (pl.col("move").abs() < 0.1005) & ~pl.col("suspended"))
    assert full["limited"].mean() > 0.98


def test_the_days_are_as_they_should_be():
    assert DAYS[0] < REFORM < DAYS[-1]
    assert all(later > day for day, later in pairwise(DAYS))
