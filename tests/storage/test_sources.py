"""Live sources: what is fetched is what was traded, whatever comes later and whatever goes wrong on the way."""

import random
import signal
import subprocess
import sys
import time
from datetime import UTC, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factors.errors import SettingError
from storage.ingest import import_market
from storage.sources import fetch as fetching
from storage.sources.fetch import OVERLAP, Patience, claim, fetch
from storage.sources.source import open_source
from tests.conftest import ROOT
from tests.processes import until
from tests.vendors import NEW_YORK, SHANGHAI, Share, redirect, serving, single

AT_ONCE = Patience(pause=0.0, wait=0.0, attempts=3)
EVENTS = {"splits": {20: 4, 40: 0.5}, "dividends": {10: 0.5, 20: 0.2, 30: 1.25}}
# by library: a symbol, another, one that is unknown; the vendor's names of them; the zone, what happens, the exchange
CASES = {
    "yfinance": (("AAA", "BB-B", "NONE"), ("AAA", "BB-B"), NEW_YORK, EVENTS, None),
    "akshare": (("600000", "000001", "600009"), ("600000", "000001"), SHANGHAI, EVENTS, None),
    "baostock": (("sh.600000", "sz.000001", "sh.600009"), ("sh.600000", "sz.000001"), SHANGHAI, EVENTS, None),
    "ccxt": (("BTC/USDT", "ETH/USDT", "NO/USDT"), ("BTCUSDT", "ETHUSDT"), UTC, {}, "binance"),
}


@pytest.fixture
def vendors(request, tmp_path, monkeypatch):
    request.getfixturevalue("sources")
    with serving() as (there, ports):
        redirect(*ports, tmp_path / "cookies", monkeypatch.setattr)
        there.ports = ports
        yield there


@pytest.fixture(params=CASES)
def case(request, vendors, tmp_path):
    """Two shares at a vendor, and how they are fetched: ``case.fetch(*symbols)``."""
    symbols, keys, zone, events, exchange = CASES[request.param]
    shares = [Share(zone, seed=seed, **events) for seed in (1, 2)]
    vendors.shares = dict(zip(keys, shares, strict=True))
    folder = tmp_path / "in"
    folder.mkdir()

    def run(*wanted, into=folder, patience=AT_ONCE, end=None):
        into.mkdir(exist_ok=True)
        source = open_source(request.param, exchange)
        return list(fetch(source, into, wanted or symbols[:2], shares[0].days[0], end, patience))

    def path(symbol, into=folder):
        return into / f"{symbol.replace('/', '-')}.csv"

    return SimpleNamespace(
        library=request.param, symbols=symbols, keys=keys, shares=shares, folder=folder, fetch=run, path=path
    )


def imported(folder, root):
    """Bars by symbol of the market that a folder is imported as."""
    read = import_market(root, "live", folder, holdout=False).bars("all")
    return {symbol: rows.sort("date") for (symbol,), rows in read.group_by("symbol")}


def test_what_is_imported_is_what_was_traded(case, tmp_path):
    for share in case.shares:
        share.shown = len(share.days)  # and the day that is not over yet
    found = case.fetch()
    assert [(one.bars, one.added, one.unfinished, one.error) for one in found] == [(59, 59, True, None)] * 2
    bars = imported(case.folder, tmp_path / "root")
    for symbol, share in zip(case.symbols, case.shares, strict=False):
        days, *raw, factor = map(np.array, zip(*share.truth(59), strict=True))
        rows = bars[case.path(symbol).stem]
        assert list(map(str, rows["date"])) == list(days)
        for name, values in zip(("open", "high", "low", "close"), raw, strict=False):
            assert np.allclose(rows[name].to_numpy(), values * factor, rtol=1e-9), name
        assert np.allclose(rows["volume"].to_numpy(), raw[4] / factor, rtol=1e-9)


def test_the_adjusted_returns_of_yahoo_are_its_own(vendors, tmp_path):
    """Its adjusted close is made another way, from the last day back."""
    share = vendors.shares["AAA"] = Share(NEW_YORK, **EVENTS)
    told = vendors.yahoo("AAA", share.days[0])["chart"]["result"][0]["indicators"]["adjclose"][0]["adjclose"]
    (tmp_path / "in").mkdir()
    list(fetch(open_source("yfinance"), tmp_path / "in", ["AAA"], share.days[0]))
    close = imported(tmp_path / "in", tmp_path / "root")["AAA"]["close"].to_numpy()
    assert np.allclose(close[1:] / close[:-1], np.divide(told[1:], told[:-1]), rtol=1e-6)


def test_later_days_change_nothing_of_the_earlier_ones(case, vendors, tmp_path):
    before, last = dict.fromkeys(case.symbols[:2], b""), 0
    for shown in (15, 35, 36, 59):  # splits and dividends come in between
        for share in case.shares:
            share.shown = shown
        vendors.asked.clear()
        found = case.fetch()
        assert {one.bars for one in found} == {shown}
        assert not any(one.anew for one in found)
        for symbol, text in before.items():
            now = case.path(symbol).read_bytes()
            assert now.startswith(text), f"{shown}"
            before[symbol] = now
        if last:
            since = case.shares[0].days[last - OVERLAP]
            assert {first for _, _, first in vendors.asked if first < case.shares[0].days[last - 1]} == {since}
        last = shown
    case.fetch(into=tmp_path / "at once")
    for symbol, text in before.items():
        assert case.path(symbol, tmp_path / "at once").read_bytes() == text


def test_volumes_that_yahoo_rounds_for_a_reverse_split_stay_as_they_were(vendors, tmp_path):
    share = vendors.shares["AAA"] = Share(NEW_YORK, splits={30: 0.125})
    for place, row in enumerate(share.rows):
        row[4] += place  # so that it is no multiple of eight
    source, first, share.shown = open_source("yfinance"), share.days[0], 29
    [_] = fetch(source, tmp_path, ["AAA"], first, patience=AT_ONCE)
    before, share.shown = (tmp_path / "AAA.csv").read_text(), 35
    [found] = fetch(source, tmp_path, ["AAA"], first, patience=AT_ONCE)
    assert (found.added, found.anew) == (6, False)
    assert (tmp_path / "AAA.csv").read_text().startswith(before)


def test_nothing_new_leaves_the_files_alone(case):
    case.fetch()
    stamps = [case.path(symbol).stat().st_mtime_ns for symbol in case.symbols[:2]]
    assert [(one.added, one.anew) for one in case.fetch()] == [(0, False)] * 2
    assert [case.path(symbol).stat().st_mtime_ns for symbol in case.symbols[:2]] == stamps


@pytest.mark.parametrize("column", [0, 3, 4])
def test_a_bar_that_is_told_otherwise_has_its_symbol_fetched_anew(case, tmp_path, column):
    for share in case.shares:
        share.shown = 30
    case.fetch()
    share = case.shares[0]
    share.rows[28][column] = share.rows[28][column] * 2
    share.rows[3][3] = share.rows[3][2]
    share.shown = 31
    first, second = sorted(case.fetch(), key=lambda one: case.symbols.index(one.symbol))
    assert (first.anew, first.bars, second.anew, second.bars) == (True, 31, False, 30)
    case.fetch(into=tmp_path / "fresh")
    assert case.path(first.symbol).read_bytes() == case.path(first.symbol, tmp_path / "fresh").read_bytes()


@pytest.mark.parametrize("case", ["yfinance", "akshare"], indirect=True)  # the others' files hold no factor
def test_a_dividend_that_is_told_late_has_its_symbol_fetched_anew(case):
    share = case.shares[0]
    share.shown = 30
    case.fetch(case.symbols[0])
    share.dividends = {**share.dividends, 28: 2.5}
    [found] = case.fetch(case.symbols[0])
    assert (found.anew, found.added) == (True, 0)
    last = case.path(case.symbols[0]).read_text().splitlines()[-1]
    assert float(last.split(",")[-1]) == pytest.approx(share.factor(29), rel=1e-12)


def test_days_that_the_vendor_has_no_longer_are_kept(case):
    case.fetch()
    before = case.path(case.symbols[0]).read_bytes()
    share = case.shares[0]
    share.days, share.rows, share.shown = share.days[20:], share.rows[20:], 39
    share.splits = {at - 20: k for at, k in share.splits.items() if at > 20}
    share.dividends = {at - 20: paid for at, paid in share.dividends.items() if at > 20}
    share.rows[-2][3] += 1.0
    [found] = case.fetch(case.symbols[0])
    assert "days that the source no longer has" in found.error
    assert case.path(case.symbols[0]).read_bytes() == before


def test_up_to_an_end_whose_prices_are_as_they_were_traded_then(case, vendors):
    """Of the splits that have come since, a vendor tells only who asks beyond it."""
    end = case.shares[0].days[29]
    assert {one.bars for one in case.fetch(end=end)} == {30}
    factors = [row.split(",")[-1] for row in case.path(case.symbols[0]).read_text().splitlines()]
    if case.library == "yfinance":
        assert case.path("AAA").read_text().splitlines()[1].startswith(f"{case.shares[0].days[0]},106.93,")
        assert float(factors[-1]) == pytest.approx(case.shares[0].factor(29), rel=1e-12)
    vendors.asked.clear()
    assert {one.bars for one in case.fetch(end=end)} == {30}
    assert vendors.asked == []


@pytest.mark.parametrize("fault", ["status", "stall"])
def test_failures_that_pass_cost_nothing_but_time(case, vendors, monkeypatch, fault):
    module = sys.modules[f"storage.sources.{case.library}"]
    if case.library == "ccxt":
        monkeypatch.setattr(module, "_MILLISECONDS", 500)
    else:
        monkeypatch.setattr(module, "_SECONDS", 0.5)
    again = 2 if case.library == "yfinance" else 1  # what is refused it asks for once more by itself
    vendors.faults.extend([429] * again + [500] * again if fault == "status" else ["stall", "stall"])
    found = case.fetch()
    assert [(one.bars, one.error) for one in found] == [(59, None)] * 2
    assert not vendors.faults


@pytest.mark.parametrize(("library", "symbol"), [("yfinance", "ZONE"), ("akshare", "600001")])
def test_what_goes_before_the_bars_or_after_them_may_fail_too(vendors, tmp_path, monkeypatch, library, symbol):
    """The zone of a share that Yahoo was not asked for yet, and Sina's factors."""
    waits = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=waits.append))
    share = vendors.shares[symbol] = Share(CASES[library][2], **EVENTS)
    vendors.stumbles = [503] * (2 if library == "yfinance" else 1)  # what is refused it asks for once more by itself
    [found] = fetch(open_source(library), tmp_path, [symbol], share.days[0], patience=AT_ONCE)
    assert (found.bars, found.error, vendors.stumbles) == (59, None, [])
    assert waits == [7.0 if library == "akshare" else 0.0]


@pytest.mark.usefixtures("vendors")
def test_a_vendor_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("baostock.common.contants.BAOSTOCK_SERVER_PORT", 1)
    [found] = fetch(open_source("baostock"), tmp_path, ["sh.600000"], Share(SHANGHAI).days[0], patience=AT_ONCE)
    assert "baostock cannot be reached: [Errno 111]" in found.error


def test_pages_of_an_exchange_before_the_first_bar_and_after(vendors, tmp_path):
    share = vendors.shares["BTCUSDT"] = Share(UTC, days=250)
    source = open_source("ccxt", "binance")
    [found] = fetch(source, tmp_path, ["BTC/USDT"], share.days[0] - timedelta(days=150), patience=AT_ONCE)
    assert (found.bars, found.last) == (249, str(share.days[-2]))


def test_a_pause_of_many_pages_is_not_the_end(vendors, tmp_path):
    share = vendors.shares["BTCUSDT"] = Share(UTC, days=400)
    del share.days[50:280], share.rows[50:280]
    share.shown = len(share.days) - 1
    [found] = fetch(open_source("ccxt", "binance"), tmp_path, ["BTC/USDT"], share.days[0], patience=AT_ONCE)
    assert (found.bars, found.last) == (169, str(share.days[-2]))


def test_failures_that_stay_are_told_and_hinder_no_other(case, vendors):
    for share in case.shares:
        share.shown = 30
    case.fetch()
    before = case.path(case.symbols[0]).read_bytes()
    for share in case.shares:
        share.shown = 40
    vendors.down.add(case.keys[0])
    first, second, unknown = sorted(case.fetch(*case.symbols), key=lambda one: case.symbols.index(one.symbol))
    assert first.error
    assert unknown.error
    assert (second.bars, second.error) == (40, None)
    assert case.path(case.symbols[0]).read_bytes() == before
    assert not case.path(case.symbols[2]).exists()
    assert len([symbol for _, symbol, _ in vendors.asked if symbol == case.symbols[2]]) <= 1  # as it would be no use
    vendors.down.clear()
    assert {one.bars for one in case.fetch()} == {40}


def test_a_page_of_baostock_s_that_is_lost_is_no_end(vendors, tmp_path):
    share = vendors.shares["sh.600000"] = Share(SHANGHAI, days=2500)
    vendors.faults.extend([None, "lost"])
    [found] = fetch(open_source("baostock"), tmp_path, ["sh.600000"], share.days[0], patience=AT_ONCE)
    assert (found.bars, len(vendors.asked)) == (2499, 4)


@pytest.mark.parametrize(("asked", "attempts"), [("7", 2), ("3600", 1)])
def test_a_vendor_that_asks_to_be_left_alone_is(vendors, tmp_path, monkeypatch, asked, attempts):
    waits = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=waits.append))
    vendors.shares["BTCUSDT"] = Share(UTC)
    vendors.faults.append((429, {"Retry-After": asked}))
    source = open_source("ccxt", "binance")
    [found] = fetch(source, tmp_path, ["BTC/USDT"], vendors.shares["BTCUSDT"].days[40], patience=AT_ONCE)
    assert waits == [float(asked)] * (attempts - 1)
    assert (found.error is None) == (attempts == 2)


def test_waits_grow_and_are_drawn(vendors, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=waits.append))
    vendors.shares["600000"] = Share(SHANGHAI)
    vendors.faults.extend([500] * 64)
    for number in range(16):
        [_] = fetch(open_source("akshare"), tmp_path, ["600000"], Share(SHANGHAI).days[0], None, Patience(attempts=4))
        assert len(vendors.asked) == 4 * (number + 1)
    for number in range(3):
        drawn = waits[number::3]
        assert 0 <= min(drawn) < max(drawn) <= 2.0 * 2**number
    assert max(waits[2::3]) > 2.0


def test_a_kill_in_the_middle_of_writing_leaves_the_file_as_it_was(case):
    for share in case.shares:
        share.shown = 30
    case.fetch()
    path = case.path(case.symbols[0])
    before = path.read_bytes()
    code = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from storage.sources import fetch\n"
        "write = fetch._write\n"
        "def half(path, columns, rows):\n"
        "    write(path, columns, rows[:7])\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "fetch._write = half\n"
        f"fetch._replace(Path({str(path)!r}), lambda part: fetch._write(part, ['date'], [{{'date': 'x'}}] * 9))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    [left] = [each.name for each in case.folder.iterdir() if each.name.startswith(".")]
    for share in case.shares:
        share.shown = 40
    assert {one.bars for one in case.fetch()} == {40}
    assert left not in {each.name for each in case.folder.iterdir()}


def test_killed_again_and_again_it_comes_to_the_same(vendors, tmp_path):
    symbols = [f"S{number}/USDT" for number in range(20)]
    vendors.shares = {symbol.replace("/", ""): Share(UTC, seed=number) for number, symbol in enumerate(symbols)}
    first, (whole, folder) = vendors.shares["S0USDT"].days[0], (tmp_path / "whole", tmp_path / "in")
    whole.mkdir()
    folder.mkdir()
    list(fetch(open_source("ccxt", "binance"), whole, symbols, first, patience=AT_ONCE))
    code = (
        "from datetime import date\nfrom pathlib import Path\nfrom tests.vendors import redirect\n"
        "from storage.sources.fetch import Patience, fetch\nfrom storage.sources.source import open_source\n"
        f"redirect(*{vendors.ports}, {str(tmp_path / 'others')!r})\nsource = open_source('ccxt', 'binance')\n"
        f"list(fetch(source, Path({str(folder)!r}), {symbols}, date.fromisoformat('{first}'), None, Patience(0.02)))\n"
    )
    chance, there = random.Random(7), set()
    for _ in range(3):
        process, asked = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT), len(vendors.asked)
        until(lambda asked=asked: len(vendors.asked) > asked + 5)
        time.sleep(chance.uniform(0.0, 0.2))
        process.kill()
        assert process.wait() == -signal.SIGKILL
        before, there = there, {path.name for path in folder.glob("*.csv")}
        assert before <= there
        assert all((folder / name).read_bytes() == (whole / name).read_bytes() for name in there)
    assert there
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
    assert {path.name: path.read_bytes() for path in folder.glob("*.csv")} == {
        path.name: path.read_bytes() for path in whole.iterdir()
    }


def test_what_is_written_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(fetching, "sync", lambda path: done.append((path.name, (tmp_path / "A.csv").exists())))
    fetching._replace(tmp_path / "A.csv", lambda part: part.write_text("bars"))
    assert done == [(".A.csv.part", False), (tmp_path.name, True)]


def test_a_folder_is_carried_on_as_it_was_begun(tmp_path):
    claim(tmp_path / "in", source="ccxt", exchange="binance", start="2020-01-01")
    claim(tmp_path / "in", source="ccxt", exchange="binance", start="2020-01-01")
    with pytest.raises(SettingError, match="was begun with source ccxt, exchange binance, start 2020-01-01; fetch"):
        claim(tmp_path / "in", source="ccxt", exchange="kraken", start="2020-01-01")


@pytest.mark.usefixtures("sources")
@pytest.mark.parametrize("symbol", ["../etc", ".hidden", "_aside", "", "A B", "-x", "A\\B"])
def test_no_symbol_leads_out_of_the_folder_or_is_left_out_at_import(tmp_path, symbol):
    with pytest.raises(SettingError, match="is no symbol"):
        list(fetch(open_source("yfinance"), tmp_path, [symbol], Share(UTC).days[0]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("sources")
def test_symbols_whose_files_would_be_one_are_refused(tmp_path):
    with pytest.raises(SettingError, match="would both be in"):
        list(fetch(open_source("ccxt", "binance"), tmp_path, ["BTC/USDT", "BTC-USDT"], Share(UTC).days[0]))


@pytest.mark.usefixtures("sources")
@pytest.mark.parametrize(
    ("name", "exchange", "words"),
    [
        ("yahoo", None, "no source 'yahoo'; expected one of yfinance, baostock, akshare, ccxt"),
        ("ccxt", None, "ccxt takes an exchange"),
        ("yfinance", "binance", "ccxt takes an exchange"),
        ("ccxt", "nowhere", "ccxt knows no exchange 'nowhere'"),
    ],
)
def test_sources_that_cannot_be(name, exchange, words):
    with pytest.raises(SettingError, match=words):
        open_source(name, exchange)


@pytest.mark.usefixtures("sources")
@given(
    cents=st.integers(1, 8_000_000),
    ratios=st.lists(st.sampled_from([2, 3, 4, 7, 10, 20, 1.5, 0.1, 0.125, 1.281]), max_size=3),
)
def test_prices_come_back_from_yahoo_s_numbers_to_the_cent(cents, ratios):
    module = open_source("yfinance") and sys.modules["storage.sources.yfinance"]
    later = np.prod([1.0, *ratios]).item()
    assert module._as_traded(single(cents / 100 / later) * later) == cents / 100
