from datetime import date, timedelta

import polars as pl
import pytest

from factors.errors import DataError, SettingError
from storage.ingest import import_market
from storage.markets import open_market

HEADER = "date,symbol,open,high,low,close,volume"


def make_bars(days=10):
    rows = [(date(2020, 1, 1) + timedelta(days=t), symbol, t) for t in range(days) for symbol in ("A", "B")]
    price = pl.Series("open", [10 + t / 7 for _, _, t in rows])
    return pl.DataFrame({"date": [row[0] for row in rows], "symbol": [row[1] for row in rows]}).with_columns(
        open=price, high=price * 1.01, low=price / 1.01, close=price + 0.005, volume=pl.lit(1e6)
    )


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, pl.DataFrame):
        content.write_parquet(path) if path.suffix == ".parquet" else content.write_csv(path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content, encoding="utf-8")
    return path


def load(folder, content, name="bars.csv", **options):
    source = write(folder / "in" / name, content)
    return import_market(folder / "root", "demo", source, **({"holdout": False} | options))


def text(frame, **replaced):
    """CSV of the frame with the cells ``column={row: text}`` replaced; rows count from 1."""
    lines = [line.split(",") for line in frame.write_csv().splitlines()]
    for column, cells in replaced.items():
        for row, cell in cells.items():
            lines[row][lines[0].index(column)] = cell
    return "\n".join(map(",".join, lines)) + "\n"


def test_csv_and_parquet_of_the_same_rows_are_the_same_version(tmp_path):
    bars = make_bars().with_columns(
        suspended=pl.col("symbol") == "A",
        adj_factor=pl.lit(1.1),
        vwap=pl.col("close") * 0.999,
        note=pl.lit("x"),
    )
    holes = bars.with_columns(volume=pl.when(pl.col("symbol") == "B").then("volume"))
    for frame in (bars, holes):
        one = load(tmp_path, frame, "bars.parquet")
        two = load(tmp_path, frame, "bars.CSV" if frame is bars else "bars.csv")
        assert one == two
        assert one.fields == ("open", "high", "low", "close", "volume", "vwap")
    assert open_market(tmp_path / "root", "demo").bars("all")["volume"].null_count() == 10


def test_values_survive_the_way_through_the_file(tmp_path):
    bars = make_bars()
    for name in ("bars.csv", "bars.parquet"):
        read = load(tmp_path, bars, name).bars("all")
        assert read.select(bars.columns).equals(bars.sort("date", "symbol"))


def test_a_float32_is_read_at_its_exact_value(tmp_path):
    bars = make_bars().cast({"close": pl.Float32, "volume": pl.Int64, "open": pl.Decimal(18, 6)})
    read = load(tmp_path, bars, "bars.parquet").bars("all")
    assert read["close"].equals(bars["close"].cast(pl.Float64))
    assert read["volume"].dtype == pl.Float64


def test_names_of_columns_in_any_case_and_order(tmp_path):
    bars = make_bars()
    shouted = bars.select(reversed(bars.columns)).rename(str.upper)
    one = load(tmp_path, bars)
    for name in ("bars.csv", "bars.parquet"):
        assert load(tmp_path, shouted, name) == one


def test_spreadsheet_habits_are_understood(tmp_path):
    bars = make_bars()
    plain = load(tmp_path, bars)
    body = bars.write_csv()
    assert load(tmp_path, b"\xef\xbb\xbf" + body.replace("\n", "\r\n").encode()) == plain
    assert load(tmp_path, body.replace("A", '"A"').replace(",B,", ", B ,") + "\n\n") == plain
    assert load(tmp_path, body.rstrip("\n")) == plain


@pytest.mark.parametrize("form", ["%Y/%m/%d", "%Y-%m-%d 00:00:00", "%Y-%m-%dT00:00:00Z", "%Y-%m-%d 00:00:00-05:00"])
def test_dates_in_other_words(tmp_path, form):
    bars = make_bars()
    assert load(tmp_path, bars.with_columns(pl.col("date").dt.strftime(form))) == load(tmp_path, bars)


@pytest.mark.parametrize("kind", [pl.Datetime("us"), pl.Datetime("ns"), pl.Datetime("ms", "UTC"), pl.String])
def test_dates_of_other_parquet_types(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("TZ", "America/New_York")
    bars = make_bars()
    assert load(tmp_path, bars.cast({"date": kind}), "bars.parquet") == load(tmp_path, bars)


@pytest.mark.parametrize(("yes", "no"), [("1", "0"), ("TRUE", "False"), ("1.0", ""), ("true", "0.0")])
def test_suspended_in_other_words(tmp_path, yes, no):
    bars = make_bars().with_columns(suspended=pl.when(pl.col("symbol") == "A").then(pl.lit(yes)).otherwise(pl.lit(no)))
    read = load(tmp_path, bars).bars("all")
    assert read.filter("suspended")["symbol"].unique().to_list() == ["A"]


def test_nan_and_empty_cells_are_null(tmp_path):
    words = {1: "nan", 2: "NaN", 3: "inf", 4: "-Infinity", 5: "", 6: " "}
    assert load(tmp_path, text(make_bars(), close=words)).bars("all")["close"].null_count() == 6


def test_text_columns_are_ignored_and_columns_of_numbers_are_fields(tmp_path):
    bars = make_bars().with_columns(
        name=pl.lit("Some, Inc."),
        amount=pl.lit(3),
        code=pl.col("symbol").replace("A", "1"),
        empty=pl.lit(None),
    )
    bars = bars.with_columns(pl.lit("2.5").alias("pe ratio"), pl.Series("return", ["n/a"] + ["0.1"] * 19))
    snapshot = load(
        tmp_path,
        bars.with_columns(code=pl.when(pl.int_range(20) < 9).then(pl.lit("1")).otherwise(pl.lit("x"))),
    )
    assert snapshot.fields == ("open", "high", "low", "close", "volume", "amount")


def test_a_symbol_that_looks_like_a_number_keeps_its_zeros(tmp_path):
    bars = make_bars().with_columns(pl.col("symbol").replace({"A": "000001", "B": "1e5"}))
    assert load(tmp_path, bars).bars("all")["symbol"].unique().sort().to_list() == ["000001", "1e5"]


@pytest.mark.parametrize("name", ["it's.csv", "a[1].csv", "b*.parquet", "q?.csv", 'x";--.parquet', "ü {0} %s.csv"])
def test_a_file_name_is_only_a_name(tmp_path, name):
    write(tmp_path / "in" / "bb.parquet", make_bars(3))
    write(tmp_path / "in" / "a1.csv", make_bars(3))
    assert load(tmp_path, make_bars(), name).rows == 20


def test_a_column_name_is_only_a_name(tmp_path):
    bars = make_bars().with_columns(pl.lit(1.0).alias('x" FROM bars; DROP TABLE bars; --'))
    for name in ("bars.parquet", "bars.csv"):
        assert load(tmp_path, bars, name).fields == ("open", "high", "low", "close", "volume")


def test_membership_and_sectors_are_read_from_either_format(tmp_path):
    membership = pl.DataFrame(
        {
            "Index": ["x", "x", None],
            "Symbol": ["A", "B", "B"],
            "Start": [None, date(2020, 1, 3), date(2020, 1, 1)],
        }
    ).with_columns(End=pl.Series([date(2020, 1, 3), None, None], dtype=pl.Date))
    sectors = pl.DataFrame({"symbol": ["A", "B"], "industry": ["wrong", "wrong"], "industry_l1": ["Food", None]})
    found = []
    for suffix in ("csv", "parquet"):
        options = {
            "membership": write(tmp_path / f"m.{suffix}", membership),
            "sectors": write(tmp_path / f"s.{suffix}", sectors),
        }
        found.append(load(tmp_path, make_bars(), **options))
    assert found[0] == found[1]
    assert found[0].universes == ("x", "members", "all")
    bars = found[0].bars("x")
    assert bars.filter("member", symbol="A")["date"].to_list() == [date(2020, 1, 1), date(2020, 1, 2)]
    assert bars.filter("member", symbol="B")["date"].min() == date(2020, 1, 3)
    assert bars.filter(symbol="A")["sector"].unique().to_list() == ["Food"]
    assert bars.filter(symbol="B")["sector"].unique().to_list() == [None]


BAD_BARS = {
    "empty.csv: the file is empty": "",
    "empty.parquet: the file is empty": "",
    "header.csv: no rows below the column names": HEADER + "\n",
    "header.parquet: no rows below the column names": make_bars().clear(),
    "data.txt: expected a file that ends in .parquet or .csv": make_bars().write_csv(),
    "text.parquet: cannot be read: .*magic": make_bars().write_csv(),
    "ragged.csv: cannot be read: .*Line: 3.*Expected Number of Columns: 7 Found: 3": (
        f"{HEADER}\n2020-01-01,A,1,1,1,1,1\n2020-01-02,A,1\n"
    ),
    "no.csv: no column 'volume'; found date, symbol, open, high, low, close": make_bars().drop("volume"),
    "no.parquet: no column 'symbol', 'low'; found date, open, high, close, volume": make_bars().drop("symbol", "low"),
    "twice.csv: more than one column is named 'close'": HEADER + ",Close\n2020-01-01,A,1,1,1,1,1,1\n",
    "dup.csv?: 1 pairs of date and symbol occur more than once, the first is 2020-01-01 A": text(
        make_bars(), date={3: "2020-01-01"}
    ),
    "d.csv: row 3: date is '2020-02-30', expected a date like 2020-12-31$": text(make_bars(), date={3: "2020-02-30"}),
    "d2.csv: row 4: date is 'soon', expected a date like 2020-12-31 .and 1 more.": text(
        make_bars(), date={4: "soon", 7: "later"}
    ),
    "d4.csv: row 1: date is 'infinity'": text(make_bars(), date={1: "infinity"}),
    "d5.csv: row 1: date is '294000-01-01'": text(make_bars(), date={1: "294000-01-01"}),
    "d6.parquet: row 1: date is '20200101'": make_bars().with_columns(date=pl.lit(20200101)),
    "d7.csv: row 2: date is '02-01-20', expected a date like 2020-12-31": text(make_bars(), date={2: "02-01-20"}),
    "d8.csv: row 2: date is '2020-01-01 02:30 PM'": text(make_bars(), date={2: "2020-01-01 02:30 PM"}),
    "d9.csv: row 2: date is '2020-01-01 09:30 EST'": text(make_bars(), date={2: "2020-01-01 09:30 EST"}),
    "n.csv: row 20: close is '1,5', expected a number": text(make_bars(), close={20: '"1,5"'}),
    "n2.csv: row 2: volume is 'N/A', expected a number": text(make_bars(), volume={2: "N/A"}),
    "n3.csv: row 5: extra is '-', expected a number": text(
        make_bars().with_columns(extra=pl.lit(1)), extra={5: "-", 6: "-"}
    ),
    "n4.parquet: column 'close' holds BOOLEAN values, expected numbers": make_bars().with_columns(
        close=pl.lit(value=True)
    ),
    "n5.parquet: row 1: close is 'x', expected a number": make_bars().with_columns(close=pl.lit("x")),
    "s.csv: row 2: suspended is 'maybe', expected true, false, 1 or 0": text(
        make_bars().with_columns(suspended=pl.lit(0)), suspended={2: "maybe"}
    ),
    "null.csv: row 2: symbol is '', expected a name .and 1 more.": text(make_bars(), symbol={2: "", 3: " "}),
    "blank.csv: row 2: date is '', expected a date like 2020-12-31": text(make_bars(), date={2: ""}),
    "f.csv?: 1 rows have an adj_factor that is missing or not positive, the first is 2020-01-03 A": text(
        make_bars().with_columns(adj_factor=pl.lit(1)), adj_factor={5: "-1"}
    ),
    "c.csv?: 2 rows that are not suspended have a close that is not positive": text(
        make_bars(), close={5: "-1", 6: "0"}
    ),
}


@pytest.mark.parametrize("message", BAD_BARS)
def test_bars_that_cannot_be_read_are_refused_in_one_line_and_leave_nothing_behind(tmp_path, message):
    name, _, rest = message.partition(":")
    pattern = rest.strip() if name.endswith("?") else message
    with pytest.raises(DataError, match=pattern) as refusal:
        load(tmp_path, BAD_BARS[message], name.rstrip("?"))
    assert "\n" not in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


BAD_EXTRAS = {
    "m.csv: no column 'start'; found symbol, end": ("membership", "symbol,end\nA,2020-01-01\n"),
    "m.csv: row 2: end is 'never', expected a date": (
        "membership",
        "symbol,start,end\nA,2020-01-01,\nB,2020-01-01,never\n",
    ),
    "no symbol of the membership has a bar": ("membership", "symbol,start,end\na,2020-01-01,\n"),
    "m.csv: no rows below": ("membership", "symbol,start,end\n"),
    "m.csv: no column 'sector'; found symbol, group": ("sectors", "symbol,group\nA,1\n"),
    "1 symbols have more than one sector on one day, the first is A": (
        "sectors",
        "symbol,sector\nA,x\nA,y\nB,x\nB,x\n",
    ),
}


@pytest.mark.parametrize("message", BAD_EXTRAS)
def test_bad_membership_and_sectors_are_refused(tmp_path, message):
    option, content = BAD_EXTRAS[message]
    with pytest.raises(DataError, match=message):
        load(tmp_path, make_bars(), **{option: write(tmp_path / "m.csv", content)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "m.csv"]


def test_a_file_that_is_not_there_is_named(tmp_path):
    for option in ({"membership": tmp_path / "gone.csv"}, {"sectors": tmp_path / "gone.csv"}):
        with pytest.raises(DataError, match=r"gone\.csv: no such file"):
            load(tmp_path, make_bars(), **option)
    with pytest.raises(DataError, match="no such file"):
        import_market(tmp_path, "demo", tmp_path / "gone", holdout=False)


def test_a_hold_out_needs_both_dates(tmp_path):
    with pytest.raises(SettingError, match="the data run from 2020-01-01 to 2020-01-10, 10 dates"):
        load(tmp_path, make_bars(), holdout=True)
    snapshot = load(tmp_path, make_bars(), holdout=True, train_end=date(2020, 1, 4), valid_end=date(2020, 1, 7))
    assert snapshot.rows == 14


def test_a_damaged_parquet_file_is_refused(tmp_path):
    content = bytearray(write(tmp_path / "good.parquet", make_bars(2000)).read_bytes())
    content[100:4000] = bytes(3900)
    with pytest.raises(DataError, match=r"bars\.parquet: cannot be read"):
        load(tmp_path, bytes(content), "bars.parquet")
    assert not (tmp_path / "root").exists()


def test_a_time_of_day_on_daily_bars_is_refused(tmp_path):
    odd = text(make_bars(), date={1: "2020-01-01 09:30:00"})
    with pytest.raises(DataError, match="1 bars have a time of day though no symbol has two bars on a day"):
        load(tmp_path, odd)
