"""Sources as vendors lay them out: the same bars are the same version, whichever way they come."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from factors.errors import DataError, SettingError
from storage import layouts
from storage.ingest import import_market

DAYS = [date(2020, 1, 1) + timedelta(days=day) for day in range(12)]
SYMBOLS = ("AA", "BB-C", "DD")
COLUMNS = ["date", "symbol", "open", "high", "low", "close", "volume"]


def bars(**more):
    """Prices that float32 holds exactly."""
    rows = [(day, symbol, t + 12 * k) for k, symbol in enumerate(SYMBOLS) for t, day in enumerate(DAYS)]
    price = pl.Series("open", [16 + number / 8 for *_, number in rows])
    frame = pl.DataFrame({"date": [row[0] for row in rows], "symbol": [row[1] for row in rows]})
    return frame.with_columns(
        open=price, high=price + 1, low=price - 1, close=price + 0.25, volume=price * 1024
    ).with_columns(**more)


ODD = ("adjustment", "range", "price", "shifted")  # what is made up or sold may be


@pytest.fixture
def load(tmp_path):
    """Import a source, and what was told of it: ``load(source, ...)``."""

    def read(source, **options):
        told = []
        snapshot = import_market(
            tmp_path / "root", "demo", source, holdout=False, accept=ODD, tell=told.append, **options
        )
        return snapshot, told

    return read


@pytest.fixture
def long(tmp_path, load):
    """The version of a table of bars: ``long(frame)``."""

    def read(frame):
        path = tmp_path / "long.parquet"
        frame.write_parquet(path)
        return load(path)[0]

    return read


def one_each(folder, frame, text):
    """A file for each symbol, with what ``text(symbol, rows)`` says."""
    folder.mkdir(exist_ok=True)
    for (symbol,), rows in frame.group_by("symbol", maintain_order=True):
        (folder / f"{symbol}.csv").write_text(text(symbol, rows.drop("symbol")))
    return folder


def as_yahoo(symbol, rows):
    columns = ["close", "high", "low", "open", "volume"]
    names = ",".join(name.capitalize() for name in columns)
    head = f"Price,{names}\nTicker,{','.join([symbol] * 5)}\nDate,,,,,\n"
    return head + rows.select("date", *columns).write_csv(include_header=False)


def as_bybit(_, rows):
    stamps = [int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000) for day in rows["date"]]
    return rows.with_columns(timestamp=pl.Series(stamps), turnover=pl.col("amount")).drop("amount").write_csv()


def test_a_folder_of_plain_files_takes_its_symbols_from_their_names(tmp_path, load, long):
    folder = one_each(tmp_path / "in", bars(), lambda _, rows: rows.select(reversed(rows.columns)).write_csv())
    found, told = load(folder)
    assert found == long(bars())
    assert told == ["layout folder, told from a column date beside the prices: 3 files"]


def test_a_symbol_in_the_file_goes_before_the_file_s_name(tmp_path, load, long):
    folder = one_each(
        tmp_path / "in", bars(), lambda symbol, rows: rows.with_columns(symbol=pl.lit(f"X{symbol}")).write_csv()
    )
    assert load(folder)[0] == long(bars(symbol="X" + pl.col("symbol")))


@pytest.mark.parametrize("at_once", [1, 2])
def test_files_that_are_read_some_at_a_time_are_all_read(tmp_path, load, long, monkeypatch, at_once):
    """Three of the same columns, and one whose columns are in another order."""
    monkeypatch.setattr(layouts, "_AT_ONCE", at_once)
    frame = pl.concat([bars(), bars().filter(symbol="AA").with_columns(symbol=pl.lit("ZZ"))])
    folder = one_each(
        tmp_path / "in",
        frame,
        lambda symbol, rows: rows.select(reversed(rows.columns) if symbol == "BB-C" else rows.columns).write_csv(),
    )
    counted = []
    assert load(folder, progress=lambda stage, done, total: counted.append((stage, done, total)))[0] == long(frame)
    assert [one for one in counted if one[0] == "read"][: 4 if at_once == 1 else 3][-1] == ("read", 100, 100)


def test_files_with_three_header_lines_as_yahoo_s(tmp_path, load, long):
    folder = one_each(tmp_path / "in", bars(), as_yahoo)
    (folder / "NEW.csv").write_text("Price,Close,High,Low,Open,Volume\nTicker,NEW,NEW,NEW,NEW,NEW\nDate,,,,,\n")
    (folder / "EMPTY.csv").write_text("")
    (folder / "_metadata.csv").write_text("symbol,status\n")
    (folder / "notes.txt").write_text("not a table")
    (folder / "older").mkdir()
    found, told = load(folder)
    assert found == long(bars())
    assert told == [
        "not read: _metadata.csv, notes.txt, older",
        "empty: EMPTY.csv",
        "layout yahoo, told from a first line of prices and a second of tickers, as yfinance writes them: 4 files",
        "without bars: NEW.csv",
    ]


def test_files_of_milliseconds_and_turnover_with_rows_twice_as_bybit_s(tmp_path, load, long):
    frame = bars(amount=pl.col("volume") * 2)
    folder = one_each(tmp_path / "in", frame, lambda symbol, rows: as_bybit(symbol, pl.concat([rows, rows[:2]])))
    found, told = load(folder)
    assert found == long(frame)
    assert told[-1] == "6 rows are there more than once, and count once"


def test_files_of_raw_prices_with_the_close_before_as_baostock_s(tmp_path, load):
    """The second symbol is split two for one on the fifth day, and pays an eighth of its price on the eighth."""
    split, paid, stopped = DAYS[4], DAYS[7], DAYS[9]
    fall = pl.when(pl.col("date") >= paid).then(0.4375).when(pl.col("date") >= split).then(0.5).otherwise(1.0)
    right = pl.when(pl.col("date") == paid).then(0.875).when(pl.col("date") == split).then(0.5).otherwise(1.0)
    factor = pl.when(pl.col("symbol") == "BB-C").then(fall).otherwise(1.0)
    closed = pl.col("date") == stopped
    frame = bars().with_columns(pl.col("open", "high", "low", "close") * factor)

    def written(symbol, rows):
        before = pl.col("close").shift(1).fill_null(1.0)
        told = before * (right if symbol == "BB-C" else 1.0)
        return (
            rows.with_columns(
                code=pl.lit(f"sh.{symbol}"),
                preclose=told,
                adjustflag=pl.lit(3),
                tradestatus=pl.when(closed).then(0).otherwise(1),
                volume=pl.when(closed).then(None).otherwise("volume"),
                pctChg=pl.lit(0.0),
                turn=pl.lit(0.5),
            )
            .sample(fraction=1.0, shuffle=True, seed=1)
            .write_csv()
        )

    snapshot, _ = load(one_each(tmp_path / "in", frame, written))
    read = snapshot.bars("all")
    assert snapshot.fields == ("open", "high", "low", "close", "volume", "turn")
    expected = bars().sort("date", "symbol")
    assert read["symbol"].to_list() == [f"sh.{symbol}" for symbol in expected["symbol"]]
    for name in ("open", "high", "low", "close"):
        assert np.allclose(read[name].to_numpy(), expected[name].to_numpy(), rtol=1e-12)
    assert read.filter("suspended")["date"].unique().to_list() == [stopped]
    assert read.filter("suspended")["volume"].null_count() == len(SYMBOLS)


def as_qlib(folder, frame, calendar):
    """The tree, prices adjusted and volume inversely by the frame's ``adj_factor``."""
    (folder / "calendars").mkdir(parents=True)
    (folder / "instruments").mkdir()
    (folder / "calendars" / "day.txt").write_text("".join(f"{day}\n" for day in calendar))
    (folder / "instruments" / "all.txt").write_text("")
    for (symbol,), rows in frame.group_by("symbol", maintain_order=True):
        place = folder / "features" / symbol.lower()
        place.mkdir(parents=True)
        factor = rows["adj_factor"]
        fields = {name: rows[name] * factor for name in ("open", "high", "low", "close")}
        fields |= {"volume": rows["volume"] / factor, "factor": factor}
        for name, values in fields.items():
            laid = np.full(len(calendar), np.nan, np.float32)
            for day, value in zip(rows["date"], values, strict=True):
                laid[calendar.index(day)] = value
            first = calendar.index(rows["date"].min())
            np.concatenate([[first], laid[first:]]).astype("<f4").tofile(place / f"{name}.day.bin")
    return folder


def test_the_tree_of_a_qlib_data_set(tmp_path, load, long):
    factor = pl.when(pl.col("date") >= DAYS[6]).then(2.0).otherwise(0.5)
    frame = bars().with_columns(adj_factor=factor).filter(~((pl.col("symbol") == "DD") & (pl.col("date") < DAYS[3])))
    frame = frame.filter(~((pl.col("symbol") == "AA") & (pl.col("date") == DAYS[8])))
    calendar = [DAYS[0] - timedelta(days=1), *DAYS]
    tree = as_qlib(tmp_path / "tree", frame, calendar)
    found, told = load(tree)
    assert found == long(frame)
    [line] = told
    assert line.endswith("3 symbols, 13 days from 2019-12-31 to 2020-01-12, indices: none")
    members = f"AA\t{DAYS[2]}\t{DAYS[4]}\nAA\t{DAYS[7]}\t{DAYS[-1]}\nBB-C\t{DAYS[0]}\t{DAYS[-1]}\n"
    (tree / "instruments" / "csi3.txt").write_text(members)
    snapshot, _ = load(tree)
    assert snapshot.universes == ("csi3", "all")
    inside = snapshot.bars("csi3").filter("member")
    assert inside.filter(pl.col("symbol") == "AA")["date"].to_list() == [*DAYS[2:5], DAYS[7], *DAYS[9:]]
    assert inside["symbol"].unique().sort().to_list() == ["AA", "BB-C"]


BROKEN = {
    r"BB-C\.csv: line 4: close is 'n/a', expected a number": (
        "BB-C.csv",
        lambda text: text.replace("18.0,18176.0", "n/a,18176.0"),
    ),
    r"DD\.csv: line 2: date is '1st', expected a date": ("DD.csv", lambda text: text.replace("2020-01-01", "1st")),
    r"in: cannot be read: .*_file": ("AA.csv", lambda text: text.replace("volume", "volume,_file")),
    r"AA\.csv: cannot be read: .*Line: 14": ("AA.csv", lambda text: text + "2020-01-13,1,1,1,1,1,1,1\n"),
    r"DD\.csv: no column 'low'": ("DD.csv", lambda text: text.replace("low", "lowest")),
    r"AA\.csv: more than one column is named 'open'": ("AA.csv", lambda text: text.replace("high", "open", 1)),
    r"AA\.csv: no column 'date', which the layout folder has": ("AA.csv", lambda text: text.replace("date", "day")),
    "pairs of date and symbol occur more than once, the first is 2020-01-01 AA": (
        "AA.csv",
        lambda text: text + "2020-01-01,1,1,1,1,1\n",
    ),
}


@pytest.mark.parametrize("message", BROKEN)
def test_what_cannot_be_is_refused_with_the_file_and_the_line(tmp_path, load, message):
    folder = one_each(tmp_path / "in", bars(), lambda _, rows: rows.write_csv())
    name, change = BROKEN[message]
    text = (folder / name).read_text()
    assert change(text) != text
    (folder / name).write_text(change(text))
    with pytest.raises(DataError, match=message):
        load(folder)
    assert not (tmp_path / "root").exists()


def test_a_file_in_another_encoding_is_named(tmp_path, load):
    folder = one_each(tmp_path / "in", bars(), lambda _, rows: rows.write_csv())
    (folder / "BB-C.csv").write_bytes((folder / "BB-C.csv").read_bytes() + b"2020-01-13,\xff,1,1,1,1\n")
    with pytest.raises(DataError, match=r"BB-C\.csv: cannot be read: .*Line: 14.*not utf-8"):
        load(folder)


def test_lines_are_those_of_the_file_also_below_three_header_lines(tmp_path, load):
    folder = one_each(tmp_path / "in", bars(), as_yahoo)
    text = (folder / "AA.csv").read_text().replace("2020-01-03,", "2020-13-03,")
    (folder / "AA.csv").write_text(text)
    with pytest.raises(DataError, match=r"AA\.csv: line 6: date is '2020-13-03'"):
        load(folder)


BAOSTOCK = "date,code,tradestatus,preclose,adjustflag,open,high,low,close,volume\n"


def baostock(folder, *files):
    """Files of ``(day, code, preclose, close)``, with 1.0 and 3.0 for 1 and 3 as tools write that read holes."""
    folder.mkdir(exist_ok=True)
    for number, rows in enumerate(files):
        lines = [f"{day},{code},1.0,{before},3.0,{last},{last},{last},{last},9\n" for day, code, before, last in rows]
        (folder / f"{number}.csv").write_text(BAOSTOCK + "".join(lines))
    return folder


def closes(snapshot, symbol):
    return snapshot.bars("all").filter(pl.col("symbol") == symbol)["close"].to_list()


def test_the_close_before_is_that_of_the_same_symbol_whatever_file_it_is_in(tmp_path, load):
    """Two symbols in a file, one of them in two, a row that is there twice, and a split between the files."""
    days = DAYS[:6]
    flat = [(day, "B", 50.0, 50.0) for day in days]
    first = [(day, "A", 8.0, 8.0) for day in days[:3]]
    second = [(days[3], "A", 4.0, 4.0), (days[4], "A", 4.0, 5.0), (days[5], "A", 5.0, 5.0)]
    folder = baostock(tmp_path / "in", [*flat, *first, first[1], flat[4]], second)
    snapshot, told = load(folder)
    assert closes(snapshot, "A") == [8.0, 8.0, 8.0, 8.0, 10.0, 10.0]
    assert closes(snapshot, "B") == [50.0] * 6
    assert told[-1] == "2 rows are there more than once, and count once"
    assert not snapshot.bars("all")["suspended"].any()


def test_over_missing_days_no_adjustment_is_made_up(tmp_path, load):
    days = DAYS[:6]
    flat = [(day, "B", 50.0, 50.0) for day in days]
    gone = [(days[0], "A", 8.0, 8.0), (days[4], "A", 9.5, 10.0), (days[5], "A", 10.0, 10.0)]
    snapshot, told = load(baostock(tmp_path / "in", flat, gone))
    assert closes(snapshot, "A") == [8.0, 10.0, 10.0]
    assert (
        told[-1]
        == "1 rows follow days that are missing, or do not tell the close before: no adjustment is known for them"
    )


def test_a_stamp_in_another_unit_is_no_day_of_1970(tmp_path, load):
    folder = one_each(tmp_path / "in", bars(amount=pl.col("volume")), as_bybit)
    text = (folder / "AA.csv").read_text()
    stamp = text.splitlines()[3].split(",")[-2]
    for wrong in (stamp[:-3], stamp + "000000"):
        (folder / "AA.csv").write_text(text.replace(stamp, wrong))
        with pytest.raises(DataError, match=rf"AA\.csv: line 4: date is '{wrong}', expected a date"):
            load(folder)


def test_a_row_without_a_day_is_not_left_out(tmp_path, load):
    folder = one_each(tmp_path / "in", bars(), as_yahoo)
    text = (folder / "AA.csv").read_text()
    (folder / "AA.csv").write_text(text.replace("2020-01-03,", ",", 1))
    with pytest.raises(DataError, match=r"AA\.csv: line 6: date is '', expected a date"):
        load(folder)


def test_prices_that_later_splits_would_change_are_refused(tmp_path, load):
    head = "date,code,tradestatus,preclose,adjustflag,open,high,low,close,volume\n"
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.csv").write_text(head + "2020-01-01,sh.1,1,1,2,1,1,1,1,1\n")
    with pytest.raises(DataError, match=r"a\.csv: adjustflag must be 3.* change later"):
        load(folder)


def test_a_folder_of_nothing_is_refused(tmp_path, load):
    folder = tmp_path / "in"
    folder.mkdir()
    with pytest.raises(DataError, match="no CSV file with bars"):
        load(folder)
    (folder / "A.csv").write_text("day,open,high,low,close,volume\n")
    with pytest.raises(DataError, match=r"A\.csv: laid out as nothing that is known, with columns day, open"):
        load(folder)
    (folder / "A.csv").write_text("date,open,high,low,close,volume\n")
    with pytest.raises(DataError, match=r"no file holds a bar: A\.csv"):
        load(folder)


def test_a_layout_that_is_named_must_be_there(tmp_path, load):
    folder = one_each(tmp_path / "in", bars(), lambda _, rows: rows.write_csv())
    assert load(folder, layout="folder")[0] == load(folder)[0]
    with pytest.raises(DataError, match=r"AA\.csv: no column 'price', which the layout yahoo has"):
        load(folder, layout="yahoo")
    with pytest.raises(SettingError, match="no layout 'yaho'; expected one of auto, long, yahoo"):
        load(folder, layout="yaho")
    with pytest.raises(DataError, match="is that of a folder"):
        load(folder / "AA.csv", layout="yahoo")
    with pytest.raises(DataError, match="no such file"):
        load(folder, layout="long")


def test_symbols_of_a_tree_may_have_different_fields_and_a_day_without_a_factor_is_refused(tmp_path, load, long):
    frame = bars(adj_factor=pl.lit(1.0))
    tree = as_qlib(tmp_path / "tree", frame, DAYS)
    extra = np.arange(13, dtype="<f4")
    extra[0] = 0
    extra.tofile(tree / "features" / "bb-c" / "turn.day.bin")
    turned = frame.with_columns(turn=pl.when(pl.col("symbol") == "BB-C").then(pl.int_range(1, 13).over("symbol")))
    assert load(tree)[0] == long(turned.cast({"turn": pl.Float64}))
    (tree / "features" / "bb-c" / "factor.day.bin").unlink()
    (tree / "features" / "ee").mkdir()
    extra.tofile(tree / "features" / "ee" / "turn.day.bin")
    snapshot, told = load(tree)
    assert snapshot.instruments == len(SYMBOLS)
    assert told[1:] == ["left out, without a close: EE", "no factor, prices as traded: BB-C"]
    file = tree / "features" / "aa" / "factor.day.bin"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(DataError, match="2 rows have an adj_factor that is missing"):
        load(tree)


def cut(folder):
    file = folder / "features" / "aa" / "close.day.bin"
    file.write_bytes(file.read_bytes()[:-1])


def beyond(folder):
    file = folder / "features" / "aa" / "open.day.bin"
    file.write_bytes(file.read_bytes() + b"\0\0\0\0")


TREES = {
    "AA close: does not hold days of the calendar": cut,
    "AA open: does not hold days of the calendar": beyond,
    r"day\.txt: the days of the calendar do not ascend": lambda folder: (folder / "calendars" / "day.txt").write_text(
        "2020-01-02\n2020-01-01\n"
    ),
    r"day\.txt: line 2: 'x' is no date": lambda folder: (folder / "calendars" / "day.txt").write_text(
        "2020-01-02\nx\n"
    ),
    r"csi\.txt: line 1: expected a symbol": lambda folder: (folder / "instruments" / "csi.txt").write_text("AA 2020\n"),
}


@pytest.mark.parametrize("message", TREES)
def test_a_damaged_tree_is_refused_by_name(tmp_path, load, message):
    tree = as_qlib(tmp_path / "tree", bars(adj_factor=pl.lit(1.0)), DAYS)
    TREES[message](tree)
    with pytest.raises(DataError, match=message):
        load(tree)


SAMPLES = {
    "us_yahoo_multiheader": (18, 29_193, ("all",), "without bars: GEHC.csv, GEV.csv"),
    "cn_baostock": (16, 7_648, ("all",), "without bars: sh.600941.csv"),
    "crypto_bybit": (10, 10_589, ("all",), "10 rows are there more than once"),
    "cn_qlib_bin": (5, 11_606, ("csi300", "all"), "5 symbols, 2917 days"),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_files_as_vendors_sell_them(shared_data, load, name):
    snapshot, told = load(shared_data / "raw_samples" / name)
    instruments, rows, universes, words = SAMPLES[name]
    assert (snapshot.instruments, snapshot.rows, snapshot.universes) == (instruments, rows, universes)
    assert any(words in line for line in told), told


def test_adjustment_from_the_close_before_is_that_of_another_vendor(shared_data, load):
    """Two symbols are left out, whose factors jump in the other table on days on which the price does not."""
    snapshot, _ = load(shared_data / "raw_samples" / "cn_baostock")
    own = snapshot.bars("all").select(
        "date", pl.col("symbol").str.replace(".", "", literal=True).str.to_uppercase(), "close"
    )
    other = pl.read_parquet(shared_data / "cn_daily_dev.parquet").select(
        "date", "symbol", adjusted=pl.col("close").cast(pl.Float64) * pl.col("adj_factor").cast(pl.Float64)
    )
    both = own.join(other, on=["date", "symbol"]).sort("date").filter(~pl.col("symbol").is_in(["SZ000001", "SZ000002"]))
    own, other = (pl.col(name) / pl.col(name).first().over("symbol") for name in ("close", "adjusted"))
    ratio = both.select("symbol", ratio=own / other)
    assert ratio["symbol"].n_unique() == 13
    assert (ratio["ratio"] - 1).abs().max() < 2e-6
