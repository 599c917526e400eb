import math
import os
import resource
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from factors.errors import DataError, NotFoundError, SettingError
from storage.markets import list_markets, open_market, publish
from storage.snapshot import Snapshot
from tests.versions import content, rows

START = date(2020, 1, 1)


def day(number):
    return START + timedelta(days=number)


def make_bars(days=20, symbols=("A", "B", "C"), **columns):
    rows = [(day(t), symbol, t, i) for t in range(days) for i, symbol in enumerate(symbols)]
    price = pl.Series("close", [10.0 + 0.1 * t + i for _, _, t, i in rows])
    frame = pl.DataFrame(
        {
            "date": [row[0] for row in rows],
            "symbol": [row[1] for row in rows],
            "open": price - 0.05,
            "high": price + 0.2,
            "low": price - 0.2,
            "close": price,
            "volume": [1000.0 * (i + 1) + t for _, _, t, i in rows],
        }
    )
    return frame.with_columns(**columns)


def publish_demo(root, bars=None, **options):
    options = {"train_end": day(9), "valid_end": day(14)} | options
    return publish(root, "demo", make_bars() if bars is None else bars, **options)


def listing(folder):
    return sorted(
        (str(path.relative_to(folder)), path.stat().st_mtime_ns if path.is_file() else 0) for path in folder.rglob("*")
    )


def test_a_published_market_can_be_opened_listed_and_read(tmp_path):
    snapshot = publish_demo(tmp_path, synthetic=True)
    assert snapshot == open_market(tmp_path, "demo") == list_markets(tmp_path)[0]
    assert snapshot == Snapshot(
        market="demo",
        id=snapshot.id,
        path=tmp_path / "markets" / "demo" / snapshot.id,
        train_end=day(9),
        valid_end=day(14),
        first_date=day(0),
        last_date=day(14),
        has_holdout=True,
        fields=("open", "high", "low", "close", "volume"),
        universes=("all",),
        synthetic=True,
        trading_rules="none",
        accepted=(),
        bars_per_year=pytest.approx(365, abs=1),
        instruments=3,
        rows=45,
    )
    expected = make_bars().filter(pl.col("date") <= day(14)).sort("date", "symbol")
    bars = snapshot.bars("all")
    assert bars.columns == [*expected.columns, "suspended", "member", "sector"]
    assert bars.select(expected.columns).equals(expected)
    assert bars["member"].all()
    assert not bars["suspended"].any()
    assert bars["sector"].dtype == pl.String
    assert bars["sector"].null_count() == bars.height


def test_the_market_folder_holds_the_version_and_the_pointer_only(tmp_path):
    snapshot = publish_demo(tmp_path)
    names = {name for name, _ in listing(tmp_path / "markets" / "demo")}
    assert names == {
        snapshot.id,
        f"{snapshot.id}/holdout",
        f"{snapshot.id}/holdout.duckdb",
        f"{snapshot.id}/holdout/{day(15)}.parquet",
        f"{snapshot.id}/insample",
        f"{snapshot.id}/insample.duckdb",
        f"{snapshot.id}/insample/{day(0)}.parquet",
        "current",
    }
    assert (tmp_path / "markets" / "demo" / "current").read_text() == f"{snapshot.id}\n"


def test_no_trace_of_the_hold_out_is_in_the_in_sample_file(tmp_path):
    bars = pl.concat([make_bars(), make_bars(symbols=("IPO",)).filter(pl.col("date") > day(14))])
    membership = pl.DataFrame(
        {
            "index": ["x"] * 4,
            "symbol": ["A", "B", "C", "A"],
            "start": [day(0), day(15), None, day(14)],
            "end": [day(14), None, day(16), day(15)],
        }
    )
    sectors = pl.DataFrame({"symbol": ["A", "IPO"], "sector": ["Energy", "Secret"]})
    snapshot = publish_demo(tmp_path, bars, membership=membership, sectors=sectors)
    assert (snapshot.instruments, snapshot.rows, snapshot.last_date) == (3, 45, day(14))
    assert max(row[0] for row in rows(snapshot.path, "insample", "bars")) == day(14)
    assert min(row[0] for row in rows(snapshot.path, "holdout", "bars")) == day(15)
    assert len(rows(snapshot.path, "holdout", "bars")) == 4 * 5
    assert sorted(rows(snapshot.path, "insample", "membership"), key=str) == [
        ("x", "A", day(0), day(14)),
        ("x", "A", day(14), None),
        ("x", "C", None, None),
    ]
    assert rows(snapshot.path, "insample", "sectors") == [("A", "Energy", None, None)]
    assert ("x", "B", day(15), None) in rows(snapshot.path, "holdout", "membership")
    assert ("IPO", "Secret", None, None) in rows(snapshot.path, "holdout", "sectors")
    assert {b"Secret" in content(snapshot.path, side) for side in ("insample", "holdout")} == {False, True}


def test_rows_and_columns_in_any_order_are_the_same_version(tmp_path):
    membership = pl.DataFrame({"symbol": ["A", "B"], "start": [day(0), day(3)], "end": [None, day(9)]})
    sectors = pl.DataFrame({"symbol": ["A", "B"], "sector": ["x", "y"]})
    bars = make_bars(vwap=pl.col("close") + 0.01, amount=pl.lit(5.0))
    first = publish_demo(tmp_path / "one", bars, membership=membership, sectors=sectors)
    for seed in range(3):
        shuffled = bars.sample(fraction=1, shuffle=True, seed=seed).select(sorted(bars.columns, reverse=seed % 2 == 0))
        again = publish_demo(tmp_path / f"{seed}", shuffled, membership=membership.reverse(), sectors=sectors.reverse())
        assert again.id == first.id
        assert again.bars("members").equals(first.bars("members"))


@pytest.mark.parametrize(
    ("column", "row"),
    [
        ("open", 0),
        ("high", 59),
        ("low", 30),
        ("close", 0),
        ("close", 59),
        ("volume", 1),
        ("adj_factor", 7),
        ("extra", 44),
    ],
)
def test_one_unit_in_the_last_place_is_another_version(tmp_path, column, row):
    bars = make_bars(adj_factor=pl.lit(1.25), extra=pl.lit(0.1))
    changed = bars[column].to_list()
    changed[row] = math.nextafter(changed[row], math.inf)
    one = publish_demo(tmp_path, bars)
    two = publish_demo(tmp_path, bars.with_columns(pl.Series(column, changed)))
    assert one.id != two.id
    assert open_market(tmp_path, "demo") == two


@pytest.mark.parametrize(
    "change",
    [
        {"train_end": day(8)},
        {"valid_end": day(15)},
        {"holdout": False, "valid_end": None},
        {"synthetic": True},
        {"bars": make_bars().with_columns(suspended=pl.col("symbol") == "A")},
        {"bars": make_bars().with_columns(symbol=pl.col("symbol").replace("A", "a"))},
        {"bars": make_bars().with_columns(close=pl.when(pl.col("symbol") != "A").then("close"))},
        {"bars": make_bars().rename({"volume": "open", "open": "volume"})},
        {"bars": make_bars(extra=pl.lit(1.0))},
        {"sectors": pl.DataFrame({"symbol": ["A"], "sector": ["x"]})},
        {"membership": pl.DataFrame({"symbol": ["A"], "start": [START], "end": [None]})},
    ],
)
def test_whatever_a_run_could_notice_is_another_version(tmp_path, change):
    assert publish_demo(tmp_path).id != publish_demo(tmp_path, **change).id


def test_the_same_content_again_rewrites_nothing(tmp_path):
    publish_demo(tmp_path)
    before = listing(tmp_path)
    publish_demo(tmp_path, make_bars().reverse())
    assert listing(tmp_path) == before


def test_old_versions_stay_and_become_current_again(tmp_path):
    one = publish_demo(tmp_path)
    old = listing(one.path)
    two = publish_demo(tmp_path, train_end=day(5))
    assert open_market(tmp_path, "demo") == two
    assert listing(one.path) == old
    assert one.bars("all").height == 45
    assert publish_demo(tmp_path) == one == open_market(tmp_path, "demo")


def test_an_old_version_is_opened_by_its_id_and_nothing_else_is(tmp_path):
    old = publish_demo(tmp_path)
    publish_demo(tmp_path, make_bars(symbols=("A", "B")))
    assert open_market(tmp_path, "demo").id != old.id
    assert open_market(tmp_path, "demo", old.id) == old
    for version in ("0" * 16, "../demo", ""):
        with pytest.raises(NotFoundError, match="has no version"):
            open_market(tmp_path, "demo", version)


def test_the_same_content_has_the_same_id_in_another_market(tmp_path):
    ids = {publish(tmp_path, name, make_bars(), holdout=False).id for name in ("one", "two")}
    assert len(ids) == 1
    assert [snapshot.market for snapshot in list_markets(tmp_path)] == ["one", "two"]


def test_membership_starts_on_its_start_and_ends_before_its_end(tmp_path):
    membership = pl.DataFrame(
        {
            "index": ["b", "b", "b", "a", "a", "a"],
            "symbol": ["A", "B", "Z", "A", "A", "C"],
            "start": [day(2), day(5), day(0), day(1), day(3), None],
            "end": [day(5), None, None, day(4), day(6), day(1)],
        }
    )
    snapshot = publish_demo(tmp_path, membership=membership)
    assert snapshot.universes == ("b", "a", "all")

    def days(universe, symbol):
        bars = snapshot.bars(universe)
        assert bars.height == 45
        return [(row - START).days for row in bars.filter(pl.col("member"), symbol=symbol)["date"]]

    assert days("b", "A") == [2, 3, 4]
    assert days("b", "B") == list(range(5, 15))
    assert days("b", "C") == []
    assert days("a", "A") == [1, 2, 3, 4, 5]
    assert days("a", "C") == [0]
    assert days("all", "C") == list(range(15))


def test_adjusted_prices_are_continuous_over_a_split(tmp_path):
    raw = pl.when(pl.col("date") >= day(7)).then(50.0).otherwise(100.0)
    factor = pl.when(pl.col("date") >= day(7)).then(6.0).otherwise(3.0)
    shares = pl.when(pl.col("date") >= day(7)).then(2000.0).otherwise(1000.0)
    prices = dict.fromkeys(("open", "high", "low", "close", "vwap"), raw)
    bars = make_bars(**prices, adj_factor=factor, volume=shares, amount=raw)
    read = publish_demo(tmp_path, bars).bars("all")
    assert "adj_factor" not in read.columns
    for name in prices:
        assert read[name].unique().to_list() == [100.0]
    assert read["volume"].unique().to_list() == [1000.0]
    assert read["amount"].unique().sort().to_list() == [50.0, 100.0]


def test_each_symbol_is_adjusted_to_its_own_first_factor(tmp_path):
    bars = make_bars(adj_factor=pl.col("symbol").replace_strict({"A": 2.0, "B": 4.0, "C": 8.0}))
    assert (
        publish_demo(tmp_path, bars)
        .bars("all")["close"]
        .equals(make_bars().filter(pl.col("date") <= day(14)).sort("date", "symbol")["close"])
    )


def test_values_that_are_not_finite_are_null_and_empty_columns_are_no_fields(tmp_path):
    bars = make_bars(
        close=pl.when(pl.col("symbol") == "A").then(math.nan).otherwise("close"),
        open=pl.when(pl.col("symbol") == "B").then(-math.inf).otherwise("open"),
        hollow=pl.lit(math.nan),
        vacant=pl.lit(None, pl.Float64),
        label=pl.lit("text"),
        member=pl.lit(7.0),
        spaced=pl.lit(1),
    ).rename({"spaced": "not a field"})
    snapshot = publish_demo(tmp_path, bars)
    assert snapshot.fields == ("open", "high", "low", "close", "volume")
    read = snapshot.bars("all")
    assert read.filter(symbol="A")["close"].null_count() == 15
    assert read.filter(symbol="B")["open"].null_count() == 15
    assert read.null_count().select("open", "close").row(0) == (15, 15)


def test_a_suspended_day_without_a_price_has_null_prices(tmp_path):
    halted = (pl.col("symbol") == "A") & (pl.col("date") == day(3))
    bars = make_bars(suspended=pl.when(halted).then(statement=True), close=pl.when(halted).then(0.0).otherwise("close"))
    read = publish_demo(tmp_path, bars).bars("all")
    assert read.filter("suspended").select("symbol", "date", "close").rows() == [("A", day(3), None)]
    assert read["close"].null_count() == 1


def test_without_a_hold_out_all_days_are_in_sample(tmp_path):
    snapshot = publish(tmp_path, "demo", make_bars(), holdout=False)
    assert (snapshot.train_end, snapshot.valid_end) == (day(13), day(19))
    assert not snapshot.has_holdout
    assert snapshot.rows == 60
    assert [path.name for path in snapshot.path.iterdir()] == ["insample.duckdb", "insample"]
    assert publish(tmp_path, "demo", make_bars(), holdout=False, train_end=day(13)) == snapshot
    two = publish(tmp_path, "two", make_bars(days=2), holdout=False)
    assert (two.train_end, two.valid_end) == (day(0), day(1))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"train_end": None}, SettingError),
        ({"valid_end": None}, SettingError),
        ({"holdout": False}, SettingError),
        ({"train_end": day(-1)}, DataError),
        ({"train_end": day(14)}, DataError),
        ({"valid_end": day(19)}, DataError),
        ({"train_end": day(15)}, DataError),
        ({"holdout": False, "valid_end": None, "train_end": day(19)}, DataError),
        ({"bars": make_bars().filter(~pl.col("date").is_between(day(10), day(14)))}, DataError),
        ({"bars": make_bars(days=1), "holdout": False, "train_end": None, "valid_end": None}, DataError),
    ],
)
def test_split_dates_that_leave_a_split_empty_are_refused(tmp_path, options, error):
    with pytest.raises(error, match=r"the data run from 2020-01-01 to 2020-01-\d\d, \d+ dates"):
        publish_demo(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_the_tightest_splits_are_accepted(tmp_path):
    snapshot = publish_demo(tmp_path, make_bars(days=3), train_end=day(0), valid_end=day(1))
    assert snapshot.rows == 6


BAD = {
    "no bars": {"bars": make_bars().clear()},
    "3 pairs of date and symbol occur more than once, the first is 2020-01-01 A": {
        "bars": pl.concat([make_bars(), make_bars(days=1).with_columns(volume=pl.col("volume") + 1)])
    },
    "20 rows have no symbol": {"bars": make_bars(symbol=pl.when(pl.col("symbol") != "A").then("symbol"))},
    "1 rows have no date, the first is of B": {
        "bars": make_bars(
            date=pl.when(~((pl.col("symbol") == "B") & (pl.col("date") == day(4)))).then("date"),
        )
    },
    "20 rows have an adj_factor .*, the first is 2020-01-01 B": {
        "bars": make_bars(adj_factor=pl.when(pl.col("symbol") == "B").then(0.0).otherwise(1.0))
    },
    "20 rows have an adj_factor .*, the first is 2020-01-01 C": {
        "bars": make_bars(adj_factor=pl.when(pl.col("symbol") == "C").then(math.nan).otherwise(1.0))
    },
    "20 rows that are not suspended have a close that is not positive": {
        "bars": make_bars(close=pl.when(pl.col("symbol") == "C").then(-1.0).otherwise("close"))
    },
    "no symbol of the membership has a bar": {
        "membership": pl.DataFrame({"symbol": ["a"], "start": [START], "end": [None]})
    },
    "an index named 'all'": {
        "membership": pl.DataFrame({"index": ["all"], "symbol": ["A"], "start": [START], "end": [None]})
    },
    "1 rows of the membership have no symbol": {
        "membership": pl.DataFrame({"symbol": ["A", None], "start": [START] * 2, "end": [None] * 2})
    },
    "1 symbols have more than one sector on one day, the first is A": {
        "sectors": pl.DataFrame({"symbol": ["A", "B", "A", "B"], "sector": ["x", "y", "z", "y"]})
    },
}


@pytest.mark.parametrize("message", BAD)
def test_rows_that_cannot_be_a_market_are_refused_and_leave_nothing_behind(tmp_path, message):
    with pytest.raises(DataError, match=message) as refusal:
        publish_demo(tmp_path / "fresh" / "root", **BAD[message])
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []
    publish_demo(tmp_path)
    before = listing(tmp_path)
    with pytest.raises(DataError):
        publish_demo(tmp_path, **BAD[message])
    assert listing(tmp_path) == before


@pytest.mark.parametrize("step", ["rename", "replace"])
def test_a_failure_on_disk_leaves_nothing_behind(tmp_path, monkeypatch, step):
    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, step, fail)
        with pytest.raises(OSError, match="disk full"):
            publish_demo(tmp_path)
    assert list(tmp_path.iterdir()) == []
    old = publish_demo(tmp_path)
    before = listing(tmp_path)
    monkeypatch.setattr(Path, step, fail)
    with pytest.raises(OSError, match="disk full"):
        publish_demo(tmp_path, train_end=day(5))
    assert listing(tmp_path) == before
    assert open_market(tmp_path, "demo") == old


@pytest.mark.parametrize("most", [0, 3_000, 100_000, 600_000])
def test_a_disk_that_is_full_is_told_and_leaves_the_market(tmp_path, most):
    """As the system tells it of a file that may not grow on: of bars, of a database, or of its last tables."""
    old = publish_demo(tmp_path)
    before = listing(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    try:
        with pytest.raises(OSError, match=r"(?s)^market 'demo' stays as it was: .*File too large"):
            publish_demo(tmp_path, make_bars(extra=pl.lit(1.0)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert listing(tmp_path) == before
    assert open_market(tmp_path, "demo") == old


@pytest.mark.parametrize("name", ["", "Us", "1us", "us/x", "..", "../us", "us\n", "u" * 41, "ü", "u s", ".import"])
def test_a_name_that_could_be_a_path_is_refused(tmp_path, name):
    for act in (
        lambda: open_market(tmp_path, name),
        lambda: publish(tmp_path, name, make_bars(), holdout=False),
    ):
        with pytest.raises(SettingError, match="expected a lower-case letter"):
            act()
    assert list(tmp_path.iterdir()) == []


def test_names_at_the_limit_are_accepted(tmp_path):
    for name in ("u", "u" * 40, "us-sp_500"):
        assert publish(tmp_path, name, make_bars(), holdout=False).market == name


def test_an_unknown_market_names_the_nearest_and_how_to_make_one(tmp_path):
    with pytest.raises(NotFoundError, match=r"no market 'demo'; Markets: none.*alphaagent data import"):
        open_market(tmp_path, "demo")
    publish_demo(tmp_path)
    with pytest.raises(NotFoundError, match="did you mean 'demo'"):
        open_market(tmp_path, "dem")


def test_an_unknown_universe_names_the_known_ones(tmp_path):
    membership = pl.DataFrame({"index": ["top"], "symbol": ["A"], "start": [START], "end": [None]})
    snapshot = publish_demo(tmp_path, membership=membership)
    with pytest.raises(NotFoundError, match="'nope'; it has top, all"):
        snapshot.bars("nope")


@pytest.mark.parametrize("pointer", ["", "0123456789abcdef", "../../../etc", "ÿ"])
def test_a_damaged_pointer_is_named(tmp_path, pointer):
    publish_demo(tmp_path)
    (tmp_path / "markets" / "demo" / "current").write_text(pointer)
    with pytest.raises(DataError, match="damaged"):
        open_market(tmp_path, "demo")


def test_a_killed_import_leaves_the_old_version_current_and_the_next_one_cleans_up(tmp_path):
    old = publish_demo(tmp_path)
    script = textwrap.dedent(
        f"""
        import sys, time
        from datetime import date
        from pathlib import Path
        import polars as pl
        from storage.markets import publish

        class Slow:
            def __arrow_c_stream__(self, requested_schema=None):
                print("reading", flush=True)
                time.sleep(60)

        publish(Path({str(tmp_path)!r}), "demo", Slow(), holdout=False)
        """
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "reading\n"
        os.kill(process.pid, signal.SIGKILL)
    assert (tmp_path / "markets" / "demo" / ".import").exists()
    assert list_markets(tmp_path) == [old]
    publish_demo(tmp_path, train_end=day(5))
    assert not (tmp_path / "markets" / "demo" / ".import").exists()


def test_what_a_killed_import_had_written_is_not_trusted(tmp_path):
    version = publish_demo(tmp_path / "elsewhere").id
    torn = tmp_path / "markets" / "demo" / ".import" / version / "insample.duckdb"
    torn.parent.mkdir(parents=True)
    torn.write_bytes(b"half")
    assert publish_demo(tmp_path).bars("all").height == 45
    assert not torn.parent.exists()


def test_two_imports_at_once_both_succeed(tmp_path):
    script = textwrap.dedent(
        """
        import sys
        from datetime import date
        from pathlib import Path
        import polars as pl
        from storage.markets import publish

        days = pl.date_range(date(2020, 1, 1), date(2020, 3, 1), eager=True)
        bars = pl.DataFrame({"date": days, "symbol": "A", "close": float(sys.argv[2])})
        bars = bars.with_columns(open=1.0, high=1.0, low=1.0, volume=1.0)
        print(publish(Path(sys.argv[1]), "demo", bars, holdout=False).id)
        """
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), price], stdout=subprocess.PIPE, text=True)
        for price in ("1", "2", "3")
    ]
    ids = {process.communicate()[0].strip() for process in processes}
    folder = tmp_path / "markets" / "demo"
    assert len(ids) == 3
    assert {path.name for path in folder.iterdir()} == ids | {"current"}
    assert open_market(tmp_path, "demo").id in ids


def test_a_version_is_read_in_several_threads_at_once(tmp_path):
    snapshot = publish_demo(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        heights = [bars.height for bars in pool.map(snapshot.bars, ["all"] * 32)]
    assert heights == [45] * 32
