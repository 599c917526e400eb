"""Made-up bars, the process that imports them, and the report."""

import json
from datetime import date

import polars as pl
import pytest

from benchmarks import bars, data
from benchmarks.data import Results, Streamed, figures, page, run
from benchmarks.defects import KNOWN, matching
from benchmarks.intake import Usage, measured
from benchmarks.market import Size, calendar
from storage.ingest import import_market
from storage.markets import open_market
from storage.quality import Finding

SIZE = Size(40, 300)


@pytest.fixture(scope="module")
def made():
    return pl.concat(bars.chunks(SIZE))


@pytest.fixture(scope="module")
def few(tmp_path_factory, endurance):  # noqa: ARG001
    """What a run of small sizes has found."""
    sizes, folders = [Size(30, 200)], {"folder": (2e-4, 4e-4), "baostock": (2e-4,), "qlib": (2e-4,)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "examined", lambda _: {})
        return run(tmp_path_factory.mktemp("run"), sizes, folders)


def test_made_up_bars_look_like_a_vendor_s(made):
    assert 0.98 < made.height / SIZE.cells < 1.0
    assert made.select("date", "symbol").is_unique().all()
    prices = made.select("open", "high", "low", "close")
    assert (prices - prices.select(pl.all().round(2))).select(pl.all().abs().max()).row(0) == (0,) * 4
    low, high = pl.min_horizontal("open", "close"), pl.max_horizontal("open", "close")
    assert made.filter((pl.col("low") > low) | (pl.col("high") < high)).is_empty()
    assert made["volume"].dtype.is_integer()


def test_a_split_moves_the_price_and_not_its_worth():
    made = pl.concat(bars.chunks(Size(100, 1000)))
    step = pl.col("adj_factor") / pl.col("adj_factor").shift(1).over("symbol")
    price = pl.col("close") / pl.col("close").shift(1).over("symbol")
    split = made.select(step=step, price=price).filter((pl.col("step") - 1).abs() > 0.5)
    assert split.height > 4
    assert ((split["step"] * split["price"] - 1).abs() < 0.3).all()
    paid = made.select(step=step).filter((pl.col("step") - 1).abs().is_between(0.001, 0.01))
    assert paid.height > 500


def test_chunks_are_as_one_and_the_seed_decides(made, monkeypatch):
    assert pl.concat(bars.chunks(SIZE)).equals(made)
    assert not pl.concat(bars.chunks(SIZE, seed=8)).equals(made)
    monkeypatch.setattr(bars, "CHUNK", 15)
    assert [part["symbol"].n_unique() for part in bars.chunks(SIZE)] == [15, 15, 10]


def test_a_long_file_ends_before_the_day_that_follows(made, tmp_path):
    days = calendar(SIZE.days)
    size = bars.write_long(bars.chunks(SIZE), tmp_path / "bars.parquet", days[-2], tmp_path / "day.parquet")
    long, day = pl.read_parquet(tmp_path / "bars.parquet"), pl.read_parquet(tmp_path / "day.parquet")
    assert pl.concat([long, day]).sort("symbol", "date").equals(made)
    assert day["date"].unique().to_list() == [days[-1]]
    assert size == pytest.approx(long.estimated_size(), rel=0.01)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("layout", ["folder", "baostock", "qlib"])
def test_each_layout_is_imported_as_the_bars_that_were_made(made, tmp_path, layout):
    source, parts = tmp_path / "source", bars.chunks(SIZE)
    if layout == "qlib":
        bars.write_qlib(parts, source, calendar(SIZE.days), stop=10**9)
    else:
        write = bars.write_csv if layout == "folder" else bars.write_baostock
        write(parts, source, stop=10**9)
    told = []
    found = import_market(tmp_path, "m", source, holdout=False, tell=told.append, accept=["adjustment"])
    assert any(f"layout {layout}" in line for line in told)
    stored = found.bars("all").select("date", "symbol", "close").sort("symbol", "date")
    assert stored["symbol"].equals(made["symbol"])
    assert stored["date"].equals(made["date"])
    first = pl.col("adj_factor").first().over("symbol")
    close = made.select(pl.col("close") * pl.col("adj_factor") / first)["close"]
    if layout == "baostock":  # whose adjustments are not known over days that are missing
        assert (stored["close"] / close - 1).abs().median() < 0.05
    else:
        assert ((stored["close"] / close - 1).abs() < 1e-5).all()


def test_a_folder_is_filled_up_to_a_size(tmp_path):
    size = bars.write_csv(bars.chunks(SIZE), tmp_path / "source", stop=50_000)
    files = [path.stat().st_size for path in (tmp_path / "source").iterdir()]
    assert size == sum(files)
    assert 50_000 <= size < 50_000 + max(files)


def test_a_run_measures_what_it_has_done(few):
    [one] = few.stored
    assert 0.97 < one.bars / one.size.cells < 1
    assert 40 * one.bars < one.memory_bytes < 120 * one.bars
    assert 0 < one.fresh_bytes < one.version_bytes * 1.1
    assert 0 < one.fresh_files < one.files
    assert set(one.imported.stages) == {"read", "hash", "write", "check"}
    assert sum(one.imported.stages.values()) == pytest.approx(one.imported.seconds, rel=0.1)
    for usage in (one.imported, one.loaded, one.appended, *(each.imported for each in few.streamed)):
        assert 50e6 < usage.peak_bytes < data.CEILING
        assert usage.seconds > 0
        assert usage.cpu_seconds > 0
    assert [each.layout for each in few.streamed] == ["folder", "folder", "baostock", "qlib"]
    assert few.streamed[1].source_bytes > 1.5 * few.streamed[0].source_bytes
    found = figures(few)
    assert found["within_ceiling"]
    assert json.loads(json.dumps(found, default=str))["left_out"] == []
    assert "| 30 | " in page(few)


def test_what_the_disk_has_no_room_for_is_left_out_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "ROOM", {"long": 10**15, "folder": 10**18})
    monkeypatch.setattr(data, "examined", lambda _: {})
    found = run(tmp_path, [Size(30, 200)], {"folder": (1.0,)})
    assert (found.stored, found.streamed) == ([], [])
    assert [line.partition(":")[0] for line in found.left_out] == ["30 instruments x 200 days", "folder, 1 GB"]
    assert "Left out:" in page(found)


def test_memory_is_seen_from_outside_and_failures_are_told(tmp_path):
    with pytest.raises(RuntimeError, match="no such file"):
        measured("import", tmp_path / "home", tmp_path / "nothing.parquet")
    assert [path.name for path in (tmp_path / "home").iterdir() if path.name.startswith("tmp-")] == []


def usage(peak):
    return Usage(10.0, 12.0, peak, 3 * 10**9, 0, 0, {})


def test_a_target_is_kept_or_missed():
    kept, missed = (Results(streamed=[Streamed("folder", 10**9, 57, usage(peak))]) for peak in (3 << 30, 5 << 30))
    assert "| a folder of any size within 4 GiB | 3.00 GiB | kept |" in page(kept)
    assert "| a folder of any size within 4 GiB | 5.00 GiB | missed |" in page(missed)
    assert "| folder | 1 | 57 | 3.00 | 10 | 10 | 3.0 |" in page(kept)
    assert figures(missed)["within_ceiling"] is False


def test_a_known_defect_is_told_by_rule_symbol_and_day():
    [spin_off] = [one for one in KNOWN if one.symbol == "DHR"]
    found = [
        Finding("gap", "warning", symbol, day, "")
        for symbol, day in (("DHR", date(2016, 7, 5)), ("DHR", date(2016, 7, 6)), ("VTR", date(2016, 7, 5)))
    ]
    assert matching(spin_off, found) == found[:1]


@pytest.mark.usefixtures("endurance")
def test_every_known_defect_of_real_bars_is_found(tmp_path, shared_data):
    real = data.examined(tmp_path, shared_data)
    for defect in KNOWN:
        assert matching(defect, real[defect.market].quality.findings), defect.says
    shares = {year: limited / count for year, limited, count in real["cn"].limited}
    assert max(shares, key=shares.get) == 2015  # when shares fell, and were suspended
    assert open_market(tmp_path, "us").universes == ("sp500", "all")
    text = "\n".join(data.real_pages(real))
    assert "| us: SW, no volume | `volume` |" in text
