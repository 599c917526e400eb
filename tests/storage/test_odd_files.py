"""Files as people have them: what vendors write beside what they document, and what nobody should guess at."""

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import polars as pl
import pytest

from factors.errors import DataError
from storage.ingest import import_market

DAYS = [date(2020, 1, 6) + timedelta(days=day) for day in range(5)]
HOURS = [timedelta(hours=hour) for hour in (10, 11)]
PRICED = ("open", "high", "low", "close", "volume")


@pytest.fixture
def load(tmp_path):
    """Import a folder of these files, and what was told of it: ``load({name: text}, ...)``."""

    def read(files, **options):
        folder, told = tmp_path / "in", []
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)
        return import_market(tmp_path / "root", "demo", folder, holdout=False, tell=told.append, **options), told

    return read


def test_special_treatment_as_baostock_tells_it_narrows_the_limit(load):
    """Two stocks of the main board rise by 5 %, one of them under special treatment: at its limit."""
    head = "date,code,tradestatus,preclose,adjustflag,open,high,low,close,volume,isST\n"

    def written(code, treated):
        closes = [10.0, 10.0, 10.0, 10.5, 10.5]
        cells = zip(DAYS, [10.0, *closes], closes, strict=False)
        return head + "".join(
            f"{day},{code},1,{before},3,{last},{last},{last},{last},9,{treated}\n" for day, before, last in cells
        )

    files = {"a.csv": written("sh.600000", 0), "b.csv": written("sh.600001", 1)}
    snapshot, told = load(files, rules="cn")
    assert not [line for line in told if "no column st" in line]
    shut = snapshot.bars("all").filter("suspended")
    assert list(zip(shut["date"], shut["symbol"], strict=True)) == [(DAYS[3], "sh.600001")]


def test_columns_that_are_not_read_are_named(load):
    """An adjusted close that no formula can spell, and amounts whose commas make them text."""
    head = "Date,Open,High,Low,Close,Adj Close,Volume,Amount,turn\n"
    rows = "".join(f'{day},10,11,9,10,5,100,"1,000",0.5\n' for day in DAYS)
    snapshot, told = load({"A.csv": head + rows})
    assert snapshot.fields == ("open", "high", "low", "close", "volume", "turn")
    assert told[1:] == ["columns not read: adj close, amount"]


def test_times_that_have_a_zone_in_a_table_are_said_to_be_taken_as_utc(tmp_path):
    told = []
    frame = pl.DataFrame({"date": DAYS, "symbol": "A", **dict.fromkeys(PRICED, 1.0)})
    timed = pl.concat([frame.with_columns(pl.col("date").cast(pl.Datetime("us")) + hour) for hour in HOURS])
    timed.with_columns(pl.col("date").dt.replace_time_zone("UTC")).write_parquet(tmp_path / "b.parquet")
    import_market(tmp_path / "root", "demo", tmp_path / "b.parquet", holdout=False, tell=told.append)
    assert told == ["times of the column date, which has a zone, are taken as those of UTC"]


def test_hours_of_milliseconds_are_hours(load):
    """Two quiet hours of a day are alike but for their stamps: they are no rows that are there twice."""
    stamps = [datetime(day.year, day.month, day.day, tzinfo=UTC) + hour for day in DAYS for hour in HOURS]
    rows = "".join(f"{int(stamp.timestamp() * 1000)},1,1,1,1,0,0\n" for stamp in stamps)
    snapshot, told = load({"BTCUSDT.csv": "timestamp,open,high,low,close,volume,turnover\n" + rows})
    assert snapshot.bars("all")["date"].to_list() == [stamp.replace(tzinfo=None) for stamp in stamps]
    assert told[1:] == []


def as_yahoo(symbol, label, stamps):
    head = f"Price,Close,High,Low,Open,Volume\nTicker{5 * f',{symbol}'}\n{label},,,,,\n"
    return head + "".join(f"{stamp},1,1,1,1,1\n" for stamp in stamps)


def test_hours_below_three_header_lines_are_hours(load):
    times = [datetime.combine(day, time.min) + hour for day in DAYS for hour in HOURS]
    snapshot, _ = load({"A.csv": as_yahoo("A", "Datetime", [f"{moment}+00:00" for moment in times])})
    assert snapshot.bars("all")["date"].to_list() == times


def test_a_file_of_another_ticker_than_its_name_is_told(load):
    files = {"A.csv": as_yahoo("A", "Date", DAYS), "A (1).csv": as_yahoo("A", "Date", DAYS)}
    snapshot, told = load(files)
    assert snapshot.instruments == 2
    assert told[1:] == ["1 files are of another ticker than their name, which is taken for the symbol"]


def test_a_plain_file_among_those_of_a_vendor_does_not_make_them_plain(load):
    """As of an index, which baostock tells without the columns that its stocks are adjusted by."""
    head = "date,code,tradestatus,preclose,adjustflag,open,high,low,close,volume\n"
    stock = head + "".join(f"{day},sh.600000,1,1,3,1,1,1,1,1\n" for day in DAYS)
    index = "date,code,open,high,low,close,volume\n" + "".join(f"{day},sh.000001,1,1,1,1,1\n" for day in DAYS)
    with pytest.raises(DataError, match=r"sh\.000001\.csv: no column 'adjustflag', .* which the layout baostock has"):
        load({"sh.000001.csv": index, "sh.600000.csv": stock})


def test_a_volume_below_zero_is_refused(load):
    rows = "".join(f"{day},1,1,1,1,{volume}\n" for volume, day in zip([3, -1, 2, -2, 0], DAYS, strict=True))
    with pytest.raises(DataError, match="2 rows have a volume below zero, the first is 2020-01-07 A"):
        load({"A.csv": "date,open,high,low,close,volume\n" + rows})


def test_a_split_on_the_day_after_one_without_a_close_is_adjusted_for(load):
    """The share rests for a day, of which no price is told, and is split two for one when it goes on."""
    head = "date,code,tradestatus,preclose,adjustflag,open,high,low,close,volume\n"
    rests = f"{DAYS[2]},sh.600000,0,8.0,3,,,,,\n"
    days = [(DAYS[0], 8.0, 8.0), (DAYS[1], 8.0, 8.0), (DAYS[3], 4.0, 4.0), (DAYS[4], "", 4.0)]
    rows = "".join(f"{day},sh.600000,1,{before},3,{last},{last},{last},{last},9\n" for day, before, last in days)
    snapshot, told = load({"a.csv": head + rests + rows})
    assert snapshot.bars("all")["close"].to_list() == [8.0, 8.0, None, 8.0, 8.0]
    assert told[1:] == [
        "1 rows follow days that are missing, or do not tell the close before: no adjustment is known for them"
    ]


@pytest.mark.parametrize("way", ["in", "./in/../in", "link"])
def test_the_line_is_told_however_the_folder_is_named(tmp_path, monkeypatch, way):
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for name, close in (("A", "1"), ("B", "?")):
        rows = "".join(f"{day},1,1,1,{close},1\n" for day in DAYS)
        (tmp_path / "in" / f"{name}.csv").write_text("date,open,high,low,close,volume\n" + rows)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"^B\.csv: line 2: close is '\?', expected a number"):
        import_market(tmp_path / "root", "demo", Path(way), holdout=False)


def test_a_symbol_is_the_name_in_the_folder_wherever_a_link_leads(tmp_path, load):
    rows = "".join(f"{day},1,1,1,1,1\n" for day in DAYS)
    (tmp_path / "5f3a.csv").write_text("date,open,high,low,close,volume\n" + rows)
    (tmp_path / "in").mkdir()
    for name in ("A", "B"):
        (tmp_path / "in" / f"{name}.csv").symlink_to(tmp_path / "5f3a.csv")
    snapshot, told = load({})
    assert snapshot.bars("all")["symbol"].unique().sort().to_list() == ["A", "B"]
    assert told[1:] == []
