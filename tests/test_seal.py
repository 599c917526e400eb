"""Nothing that people or agents see in sample depends on the hold-out, nor on what it said of a factor."""

import logging
import shutil
import struct
import tempfile
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from storage.markets import publish
from storage.records import Records
from tests.traces import files_without_the_hold_out, mined, spoil, traces
from tests.versions import content, rewrite, rows

SEARCH = ("--rounds", "3", "--seed", "1")
# Odd enough to be told from any other number: the low digits of the mantissa are drawn.
PRICES = [13717.421062573, 23717.421062573, 33717.421062573, 43717.421062573, 8675309.125062573]
IN_SAMPLE = 53717.421062573
ODD = "ZQXCANARY"


def unseal(home):
    for path in home.rglob("holdout.duckdb"):
        path.unlink()
        shutil.rmtree(path.with_suffix(""))


@pytest.fixture(scope="module")
def untouched(new_home, cli):
    """What a run leaves with the hold-out as it is: ``untouched(model)``."""
    found = {}
    for model in (False, True):
        home = new_home()
        _, prompts = mined(cli, home, *SEARCH, model=model)
        found[model] = traces(home), prompts
    return found


@pytest.mark.parametrize("change", [spoil, unseal], ids=["noise", "no file"])
@pytest.mark.parametrize("model", [False, True], ids=["offline", "language model"])
def test_a_run_leaves_the_same_bytes_whatever_the_hold_out_holds(request, new_home, cli, untouched, change, model):
    if change is unseal:
        request.getfixturevalue("endurance")
    home = new_home()
    change(home)
    _, prompts = mined(cli, home, *SEARCH, model=model)
    expected, expected_prompts = untouched[model]
    assert traces(home) == expected
    assert prompts == expected_prompts
    assert bool(prompts) is model
    assert expected["factors"]
    assert len(expected["trials"]) > 5
    assert len(expected["events"]) > 20


def test_two_homes_would_be_told_apart_by_one_value_in_sample(new_home, cli, untouched):
    """What the comparison above can see: a single close of one instrument."""
    home = new_home()
    [path] = home.rglob("insample.duckdb")
    shutil.rmtree(path.parents[1] / ".panels")
    change = "UPDATE bars SET close = close * 1.2 WHERE symbol = 'SYN001' AND date = DATE '2013-05-06'"
    rewrite(path.parent, "insample", change)
    mined(cli, home, *SEARCH)
    expected, _ = untouched[False]
    assert traces(home)["trials"] != expected["trials"]


@pytest.fixture
def planted(tmp_path, small):
    """A home whose market has odd prices, an instrument, its sector, a column and an index after the end alone."""
    after = pl.col("date") > small.valid_end
    bars = small.bars.cast({"volume": pl.Float64})
    last = bars.filter(pl.col("symbol") == "SYN001", after)
    odd = pl.col("symbol").eq("SYN001") & pl.col("date").eq(last["date"][20])
    names = ["open", "high", "low", "close", "volume"]
    bars = bars.with_columns(
        pl.when(odd).then(value).otherwise(pl.col(name)).alias(name) for name, value in zip(names, PRICES, strict=True)
    )
    early = pl.col("symbol").eq("SYN005") & pl.col("date").eq(date(2013, 5, 6))
    bars = bars.with_columns(high=pl.when(early).then(IN_SAMPLE).otherwise(pl.col("high")))
    bars = bars.with_columns(zqxcanary=pl.when(after).then(1.5))
    bars = pl.concat([bars, last.with_columns(symbol=pl.lit(ODD), zqxcanary=pl.lit(2.5))])
    listed = {"symbol": [ODD, ODD], "start": [last["date"][5]] * 2, "end": [None, last["date"][30]]}
    membership = pl.concat([small.membership, pl.DataFrame({"index": ["synthetic200", f"{ODD}50"], **listed})])
    sectors = pl.concat([small.sectors, pl.DataFrame({"symbol": [ODD], "sector": [f"{ODD} Mining"]})])
    options = {"train_end": small.train_end, "valid_end": small.valid_end, "synthetic": True}
    publish(tmp_path, "small", bars, membership=membership, sectors=sectors, **options)
    return tmp_path


def marks():
    """The canaries as files may hold them."""
    yield ODD.lower().encode()
    for value in PRICES:
        yield from (struct.pack("<d", value), struct.pack("<f", value), repr(value).encode())


def found_in(data):
    """The canaries in some bytes, whatever the case of their letters."""
    folded = data.lower()
    return [mark for mark in marks() if mark in data or mark in folded]


def test_canaries_of_the_hold_out_are_found_nowhere_else(planted, cli, monkeypatch, caplog, capfd):
    temporary = planted / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    caplog.set_level(logging.DEBUG)
    said = []
    answer, prompts = mined(cli, planted, *SEARCH, model=True)
    said += [answer.out.encode(), answer.err.encode(), *prompts]
    factors = [one["id"] for one in answer.json["accepted"]]
    assert len(factors) >= 2
    for number, factor in enumerate(factors):
        answer = cli(planted, "factors", "promote", factor, *(["--json"] if number else []))
        assert answer.status in {0, 1}, answer.err
        said += [answer.out.encode(), answer.err.encode()]
    for arguments in (("ledger", "--json"), ("data", "list", "--json"), ("factors", "list", "--json")):
        answer = cli(planted, *arguments)
        assert answer.status == 0
        said += [answer.out.encode(), answer.err.encode()]
    said += [caplog.text.encode(), *(text.encode() for text in capfd.readouterr())]
    for text in said:
        assert found_in(text) == []
    files = files_without_the_hold_out(planted)
    kinds = {path.name for path in files}
    assert {"insample.duckdb", "current", "records.sqlite"} <= kinds
    assert any(path.suffix == ".npy" for path in files)
    for path, data in files.items():
        assert found_in(data) == [], path
    # What is looked for would be found: one value in sample is, and the hold-out holds what was planted.
    assert any(struct.pack("<d", IN_SAMPLE) in data for data in files.values())
    [sealed] = planted.rglob("holdout.duckdb")
    held_out = rows(sealed.parent, "holdout", "bars")
    assert sum(ODD in row for row in held_out) > 100
    assert sum(set(PRICES) <= set(row) for row in held_out) == 1


def test_no_memory_of_the_hold_out_is_left_in_in_sample_files(tmp_path):
    """Blocks that are not full may hold what memory held before; so files of the same rows are to be the same."""
    days = [date(2010, 1, 1) + timedelta(number) for number in range(800)]
    rows = [
        (day, f"{kind}{number:03d}")
        for day in days
        for number in range(200)
        for kind in (("E",) if day < days[400] else ("E", ODD))
    ]
    frame = pl.DataFrame(rows, schema=["date", "symbol"], orient="row")
    late, noise = pl.col("date") >= days[400], pl.Series(np.random.default_rng(1).random(len(frame)))
    written = []
    for number, price in enumerate(PRICES):
        values = pl.when(late).then(price).otherwise(noise)
        bars = frame.with_columns(values.alias(name) for name in ("open", "high", "low", "close", "volume"))
        snapshot = publish(tmp_path, f"m{number}", bars, train_end=days[199], valid_end=days[399])
        written.append(content(snapshot.path, "insample"))
        assert found_in(written[-1]) == []
    first, *others = (np.frombuffer(data, np.uint8) for data in written)
    assert [len(data) for data in others] == [len(first)] * 4
    # The random id of the file, checksums, and some bytes that pad strings.
    assert max(int((data != first).sum()) for data in others) < 300
    assert found_in(content(snapshot.path, "holdout"))


def test_what_the_hold_out_said_of_factors_is_in_nothing_that_follows(new_home, cli):
    """One factor live, one rejected, and runs of both researchers go on as where nobody had asked."""
    found = {}
    for asked in (False, True):
        home = new_home()
        answer, _ = mined(cli, home, *SEARCH)
        live, rejected = (one["id"] for one in answer.json["accepted"])
        if asked:
            assert cli(home, "factors", "promote", live).status == 0
            assert cli(home, "factors", "promote", rejected, ALPHAAGENT_THRESHOLDS__HOLDOUT_T_STAT="99").status == 1
        mined(cli, home, "--rounds", "2", "--seed", "7")
        _, prompts = mined(cli, home, "--rounds", "3", "--seed", "7", model=True)
        mined(cli, home, *SEARCH)
        cli(home, "eval", "RANK($close - $low)", "--market", "small")
        found[asked] = traces(home, without={"openings", "audit"}), prompts
        with closing(Records.open(f"sqlite:///{Path(home)}/records.sqlite")) as records:
            assert records.openings.spent("small") == 2 * asked
    assert found[True] == found[False]
    rows, prompts = found[True]
    assert len(prompts) > 5
    assert len(rows["runs"]) == 4
