"""Live sources that answer oddly: what cannot be is told of its symbol, hinders no other, and costs no bar."""

from datetime import UTC
from types import SimpleNamespace

import pytest

from storage.sources.fetch import Patience, fetch
from storage.sources.source import open_source
from tests.vendors import NEW_YORK, SHANGHAI, Share, redirect, serving

AT_ONCE = Patience(pause=0.0, wait=0.0, attempts=2)
# by library: two symbols, the vendor's names of them, the zone, the exchange
CASES = {
    "yfinance": (("AAA", "BB-B"), ("AAA", "BB-B"), NEW_YORK, None),
    "akshare": (("600000", "000001"), ("600000", "000001"), SHANGHAI, None),
    "baostock": (("sh.600000", "sz.000001"), ("sh.600000", "sz.000001"), SHANGHAI, None),
    "ccxt": (("BTC/USDT", "ETH/USDT"), ("BTCUSDT", "ETHUSDT"), UTC, "binance"),
}
ODD = {
    "yfinance": ['{"chart": {"result": [{}], "error": null}}', '{"chart": {"result": [null], "error": null}}', "[]"],
    "akshare": ['{"data": {"klines": ["-,-,-,-,-,-,-,-,-,-,-"]}}', '{"data": {"klines": [7]}}', "null"],
    "ccxt": ['{"retCode": 0}', "[7]", '"busy"'],
}


@pytest.fixture
def case(request, tmp_path, monkeypatch):
    """Two shares at a vendor, and how they are fetched: ``case.fetch()`` gives what became of each, by symbol."""
    request.getfixturevalue("sources")
    symbols, keys, zone, exchange = CASES[request.param]
    with serving() as (vendors, ports):
        redirect(*ports, tmp_path / "cookies", monkeypatch.setattr)
        vendors.shares = {key: Share(zone, seed=seed) for seed, key in enumerate(keys)}
        share = vendors.shares[keys[0]]
        first, folder = share.days[0], tmp_path / "in"
        folder.mkdir()

        def run():
            source = open_source(request.param, exchange)
            return {one.symbol: one for one in fetch(source, folder, symbols, first, patience=AT_ONCE)}

        path = folder / f"{symbols[0].replace('/', '-')}.csv"
        yield SimpleNamespace(vendors=vendors, symbols=symbols, key=keys[0], share=share, fetch=run, path=path)


@pytest.mark.parametrize(("case", "answer"), [(name, one) for name in ODD for one in ODD[name]], indirect=["case"])
def test_an_answer_that_cannot_be_read_hinders_no_other(case, monkeypatch, answer):
    told = case.vendors.bars

    def odd(host, symbol, *more):
        return (200, {}, answer) if symbol == case.key else told(host, symbol, *more)

    monkeypatch.setattr(case.vendors, "bars", odd)
    found = case.fetch()
    assert found[case.symbols[0]].error
    assert (found[case.symbols[1]].bars, found[case.symbols[1]].error) == (59, None)
    assert not case.path.exists()


@pytest.mark.parametrize("case", ["akshare"], indirect=True)
@pytest.mark.parametrize("places", [[0, 1, 2, 2, 3], [0, 2, 1, 3]])
def test_a_day_that_is_told_twice_or_too_late_is_no_answer(case, monkeypatch, places):
    told = case.vendors.eastmoney

    def odd(symbol, first):
        lines = told(symbol, first)["data"]["klines"]
        return {"data": {"klines": [lines[place] for place in places] if symbol == case.key else lines}}

    monkeypatch.setattr(case.vendors, "eastmoney", odd)
    assert "a day twice, or days out of order" in case.fetch()[case.symbols[0]].error
    assert len([symbol for _, symbol, _ in case.vendors.asked if symbol == case.key]) == AT_ONCE.attempts


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_days_that_the_vendor_has_lost_in_the_middle_are_kept(case):
    """It tells a late bar otherwise, so that the symbol is fetched anew."""
    case.fetch()
    before, share = case.path.read_bytes(), case.share
    del share.days[5:8], share.rows[5:8]
    share.shown -= 3
    share.rows[-2][3] += 0.05
    assert "days that the source no longer has" in case.fetch()[case.symbols[0]].error
    assert case.path.read_bytes() == before


@pytest.mark.parametrize("case", ["ccxt"], indirect=True)
def test_days_that_begin_at_another_hour_are_refused(case, monkeypatch):
    """In Singapore a day begins at 16:00 in UTC, so that its bar is not over at midnight."""
    told = case.vendors.klines

    def shifted(*asked):
        return [[stamp - 8 * 3_600_000, *cells] for stamp, *cells in told(*asked)]

    monkeypatch.setattr(case.vendors, "klines", shifted)
    found = case.fetch()[case.symbols[0]]
    assert found.error == "the days of binance begin at another hour than midnight in UTC"
