"""``alphaagent data fetch``: what a person sees of it."""

import fcntl
import os
import pty
import subprocess
import sys
from datetime import UTC

import pytest

from tests.conftest import ROOT, _environment
from tests.vendors import NEW_YORK, Share, redirect, serving


@pytest.fixture
def vendors(request, tmp_path, monkeypatch):
    request.getfixturevalue("sources")
    with serving() as (there, ports):
        redirect(*ports, tmp_path / "cookies", monkeypatch.setattr)
        there.ports = ports
        yield there


def test_fetched_and_imported(cli, vendors, tmp_path):
    vendors.shares = {"AAA": Share(NEW_YORK, splits={20: 4}), "BB-B": Share(NEW_YORK, seed=2)}
    for share in vendors.shares.values():
        share.shown = 60
    first = vendors.shares["AAA"].days[0]
    listed = tmp_path / "symbols.txt"
    listed.write_text("AAA\nBB-B\n\nAAA\n")
    folder = tmp_path / "in"
    done = cli(tmp_path, "data", "fetch", "yfinance", folder, "--symbols", f"@{listed}", "--start", first)
    last = vendors.shares["AAA"].days[58]
    assert (done.status, done.err) == (
        0,
        f"AAA: 59 bars to {last}, 59 new\nBB-B: 59 bars to {last}, 59 new\n",
    )
    assert done.out == (
        "left out, as the day is not over where they are traded: the last bar of AAA, BB-B\n"
        f"2 of 2 symbols are up to date in {folder}, with 118 new bars\n"
    )
    imported = cli(tmp_path, "data", "import", folder, "--market", "live", "--no-holdout")
    assert imported.status == 0, imported.err
    assert "2 files" in imported.err


def test_a_symbol_that_failed_is_told_and_the_exit_status_is_1(cli, vendors, tmp_path):
    vendors.shares = {"BTCUSDT": Share(UTC)}
    first = vendors.shares["BTCUSDT"].days[0]
    order = ("data", "fetch", "ccxt", tmp_path / "in", "--symbols", "NO/USDT,BTC/USDT", "--start", first)
    done = cli(tmp_path, *order, "--exchange", "binance")
    assert done.status == 1
    failed, fetched = done.err.splitlines()
    assert failed == "NO/USDT: failed: binance has no bars of it: binance does not have market symbol NO/USDT"
    assert fetched.startswith("BTC/USDT: 59 bars")
    assert done.out.splitlines()[-1] == "failed: NO/USDT; the same command again goes on with them"
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["BTC-USDT.csv", "source.json"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--symbols", " , "), "' , ' names no symbols"),
        (("--symbols", "@nowhere.txt"), "nowhere.txt"),
        (("--symbols", "A", "--end", "2019-12-31"), "--end 2019-12-31 is before --start 2020-01-01"),
        (("--symbols", "A", "--exchange", "binance"), "the other sources take none"),
        (("--symbols", "../A"), "'../A' is no symbol"),
    ],
)
@pytest.mark.usefixtures("sources")
def test_requests_that_cannot_be(cli, tmp_path, options, words):
    done = cli(tmp_path, "data", "fetch", "yfinance", tmp_path / "in", "--start", "2020-01-01", *options)
    assert done.status == 2
    assert words in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "in").exists()


def test_without_its_library_it_says_what_to_install(cli, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    done = cli(tmp_path, "data", "fetch", "akshare", tmp_path / "in", "--symbols", "600000", "--start", "2020-01-01")
    assert (done.status, done.err) == (2, "error: akshare is not installed: pip install 'alphaagent[sources]'\n")


def test_the_libraries_are_not_imported_before_they_are_asked():
    names = {"yfinance", "baostock", "akshare", "ccxt"}
    code = f"import sys, app.cli; sys.exit(bool({names} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_what_is_not_there_yet_comes_first(cli, vendors, tmp_path):
    vendors.shares = {name: Share(NEW_YORK) for name in ("AAA", "BBB")}
    order = ("data", "fetch", "yfinance", tmp_path / "in", "--start", vendors.shares["AAA"].days[0], "--symbols")
    assert cli(tmp_path, *order, "AAA").status == 0
    vendors.asked.clear()
    assert cli(tmp_path, *order, "AAA,BBB").status == 0
    assert [symbol for _, symbol, _ in vendors.asked] == ["BBB", "AAA"]


def test_two_at_once_do_not_fill_one_folder(cli, vendors, tmp_path):
    share = vendors.shares["AAA"] = Share(NEW_YORK)
    folder = tmp_path / "in"
    folder.mkdir()
    command = ("data", "fetch", "yfinance", folder, "--symbols", "AAA", "--start", share.days[0])
    other = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        refused = cli(tmp_path, *command)
    finally:
        os.close(other)
    assert refused.status == 2
    assert refused.err == f"error: {folder} is being filled by another process; wait for its end\n"
    assert vendors.asked == []
    assert cli(tmp_path, *command).status == 0


def test_on_a_terminal_there_is_a_bar(vendors, tmp_path):
    vendors.shares = {"AAA": Share(NEW_YORK), "BBB": Share(NEW_YORK)}
    ours, theirs = pty.openpty()
    first = vendors.shares["AAA"].days[0]
    code = (
        f"from tests.vendors import redirect; redirect(*{vendors.ports}, {str(tmp_path / 'others')!r})\n"
        "from app.start import main; main()"
    )
    order = ["data", "fetch", "yfinance", str(tmp_path / "in"), "--symbols", "AAA,BBB", "--start", str(first)]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *order],
        cwd=ROOT,
        env=_environment(tmp_path / "home"),
        stdout=subprocess.PIPE,
        stderr=theirs,
        timeout=120,
        check=False,
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            read = os.read(ours, 65536)
        except OSError:  # as the other end is closed
            break
        seen += read
    os.close(ours)
    assert done.returncode == 0, seen
    assert b"2/2" in seen
    assert b"118 new bars" in seen
    assert b"bars to" not in seen
    assert b"2 of 2 symbols are up to date" in done.stdout
