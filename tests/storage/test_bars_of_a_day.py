"""Bars of less than a day, from files to panels: rows are bars, and splits, parts and reference data are of days."""

from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import polars as pl
import pytest

from app.panels import load_panel
from factors.errors import DataError
from factors.evaluator import evaluate
from factors.panel import Panel
from factors.parse import parse
from storage.ingest import import_market
from storage.markets import publish
from storage.quality import examine
from tests.app.test_panels import same
from tests.traded import table, weekdays
from tests.versions import columns, content, rows

DAYS = weekdays(15, date(2020, 8, 3))
A_DAY = 78
TIMES = [(datetime.combine(DAYS[0], time(9, 35)) + timedelta(minutes=5 * n)).time() for n in range(A_DAY)]
SYMBOLS = ("SH600000", "SZ000001", "SH688001")
TERMS = {"train_end": DAYS[5], "valid_end": DAYS[9]}
SPAN = {"symbol": pl.String, "start": pl.Date, "end": pl.Date}


def bars(seed=0):
    """Five-minute bars in cents that start each day where the one before ended; the first symbol is split once."""
    draw, cells = np.random.default_rng(seed), []
    for lane, symbol in enumerate(SYMBOLS):
        price, factor = 2000 * (lane + 1), 1.0
        for number, day in enumerate(DAYS):
            if lane == 0 and number == 4:
                price, factor = price // 2, 2.0
            for place, moment in enumerate(TIMES):
                first = price
                price = max(price + int(draw.normal(0, 0.01) * price), 100)
                opened, close = first / 100, price / 100
                high, low = max(opened, close), min(opened, close)
                volume = 100.0 * (place + 1) + number
                moment_of_day = datetime.combine(day, moment)
                cells.append((moment_of_day, symbol, opened, high, low, close, volume, factor, 0.0))
    names = ["date", "symbol", "open", "high", "low", "close", "volume", "adj_factor", "st"]
    return pl.DataFrame(cells, schema=names, orient="row")


BARS = bars()


def until(day):
    return BARS.filter(pl.col("date").dt.date() <= day)


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    """A market of five-minute bars with a hold-out; not to be changed."""
    return publish(
        tmp_path_factory.mktemp("intraday"),
        "demo",
        BARS,
        membership=table((SYMBOLS[0], DAYS[2], DAYS[4]), (SYMBOLS[1], None, None), **SPAN),
        sectors=table(
            (SYMBOLS[1], "a", None, DAYS[3]), (SYMBOLS[1], "b", DAYS[3], None),
            symbol=pl.String, sector=pl.String, start=pl.Date, end=pl.Date,
        ),
        **TERMS,
    )  # fmt: skip


def test_files_of_either_kind_are_the_same_version_and_have_no_row_between_sessions(tmp_path):
    sources = tmp_path / "bars.csv", tmp_path / "bars.parquet"
    BARS.sample(fraction=1, shuffle=True, seed=2).write_csv(sources[0])
    BARS.write_parquet(sources[1])
    one, other = (import_market(tmp_path / path.suffix[1:], "demo", path, **TERMS) for path in sources)
    assert one.id == other.id
    assert (one.first_date, one.last_date, one.train_end, one.valid_end) == (DAYS[0], DAYS[9], DAYS[5], DAYS[9])
    calendar = sorted(moment for (moment,) in rows(one.path, "insample", "calendar"))
    assert calendar == [datetime.combine(day, moment) for day in DAYS[:10] for moment in TIMES]
    assert one.rows == 10 * A_DAY * len(SYMBOLS)


def test_stamps_of_milliseconds_keep_their_time(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for (symbol,), part in BARS.group_by("symbol"):
        stamps = part.with_columns(timestamp=pl.col("date").dt.epoch("ms"), turnover=pl.col("volume"))
        stamps.drop("date", "symbol").write_csv(source / f"{symbol}.csv")
    version = import_market(tmp_path, "demo", source, layout="bybit", **TERMS)
    expected = BARS.filter(pl.col("date").dt.date() <= DAYS[9]).sort("date", "symbol")
    assert version.bars("all").select("date", "symbol").equals(expected.select("date", "symbol"))


def test_files_hold_whole_days_and_the_hold_out_is_sealed(tmp_path):
    canary = bars(1).with_columns(volume=pl.when(pl.col("date").dt.date() > DAYS[9]).then(31337.25).otherwise("volume"))
    version = publish(tmp_path, "demo", canary, **TERMS)
    for side, expected in (("insample", DAYS[:10]), ("holdout", DAYS[10:])):
        assert {row[0].date() for row in rows(version.path, side, "bars")} == set(expected)
        listed = rows(version.path, side, "days")
        assert [(day, count) for _, day, count, _ in sorted(listed, key=lambda row: row[1])] == [
            (day, A_DAY * len(SYMBOLS)) for day in expected
        ]
        months = {part: {day.month for other, day, *_ in listed if other == part} for part, *_ in listed}
        assert {len(known) for known in months.values()} == {1}
    canaries = np.float64(31337.25).tobytes()
    assert canaries not in content(version.path, "insample")
    assert max(row[0] for row in rows(version.path, "insample", "bars")) < datetime.combine(DAYS[10], time())


def test_windows_count_bars_and_splits_end_with_days(version):
    panel, labels = load_panel(version, "all")
    assert panel.splits == {"train": (0, 6 * A_DAY), "valid": (6 * A_DAY, 10 * A_DAY)}
    close = version.bars("all").sort("symbol", "date").select("date", "symbol", "close")
    window = close.with_columns(value=pl.col("close").rolling_mean(100).over("symbol")).sort("date", "symbol")
    found = panel.frame(evaluate(parse("TS_MEAN($close, 100)"), panel))
    assert found["value"].is_null().equals(window["value"].is_null())
    np.testing.assert_allclose(found["value"].drop_nulls(), window["value"].drop_nulls(), rtol=1e-12)
    later = close.with_columns(
        value=pl.col("close").shift(-11).over("symbol") / pl.col("close").shift(-1).over("symbol") - 1
    ).sort("date", "symbol")
    place = labels.horizons.index(10)
    mine = labels.returns[place, :, : len(SYMBOLS)].ravel()
    np.testing.assert_allclose(mine, later["value"].fill_null(np.nan).to_numpy(), rtol=1e-12)


def test_a_split_over_night_is_no_move(version):
    own = version.bars("all").filter(symbol=SYMBOLS[0]).sort("date")
    first = own.filter(pl.col("date").dt.date() == DAYS[4])["open"][0]
    last = own.filter(pl.col("date").dt.date() == DAYS[3])["close"][-1]
    assert first == pytest.approx(last, rel=0.002)


def test_reference_data_are_of_all_bars_of_a_day(version):
    found = version.bars("members")
    for symbol, days in ((SYMBOLS[0], DAYS[2:4]), (SYMBOLS[1], DAYS[:10]), (SYMBOLS[2], [])):
        own = found.filter(pl.col("member"), symbol=symbol)
        assert own["date"].dt.date().value_counts().sort("date").rows() == [(day, A_DAY) for day in days]
    own = found.filter(symbol=SYMBOLS[1])
    sectors = dict(own.group_by(pl.col("date").dt.date()).agg(pl.col("sector").unique()).iter_rows())
    assert sectors == {day: ["a" if day < DAYS[3] else "b"] for day in DAYS[:10]}


@pytest.mark.parametrize("universe", ["members", "all"])
def test_cells_and_bars_give_the_same_panel(version, universe):
    with version.cells(universe) as cells:
        panel = Panel.from_cells(cells, version.train_end)
    same(panel, Panel.from_bars(version.bars(universe), version.train_end))
    assert panel.dates.dtype == "datetime64[us]"


@pytest.mark.parametrize("rules", ["none", "cn"])
def test_a_day_that_follows(tmp_path, rules):
    whole = publish(tmp_path / "whole", "demo", BARS, rules=rules, **TERMS)
    version = publish(tmp_path, "demo", until(DAYS[12]), rules=rules, **TERMS)
    for day in DAYS[13:]:
        known = {path.relative_to(version.path): path.stat().st_ino for path in version.path.rglob("*.parquet")}
        version = publish(tmp_path, "demo", until(day).filter(pl.col("date").dt.date() == day), append=True)
        now = {path.relative_to(version.path): path.stat().st_ino for path in version.path.rglob("*.parquet")}
        assert now.items() > known.items()
        assert {path.name for path in now.keys() - known.keys()} == {f"{day}.parquet"}
    assert version.id == whole.id
    part = until(DAYS[14]).filter(pl.col("date") >= datetime.combine(DAYS[14], TIMES[40]))
    assert publish(tmp_path, "demo", part, append=True).id == whole.id
    more = part.with_columns(pl.col("date") + timedelta(minutes=1))
    with pytest.raises(DataError, match="bars are not as they are in the market"):
        publish(tmp_path, "demo", more, append=True)


def test_days_cannot_follow_bars_of_a_day(tmp_path):
    publish(tmp_path, "demo", until(DAYS[12]), **TERMS)
    daily = BARS.filter(pl.col("date").dt.date() > DAYS[12]).filter(pl.col("date").dt.time() == TIMES[0])
    with pytest.raises(DataError, match="bars are of days where those of the market have a time of day"):
        publish(tmp_path, "demo", daily.with_columns(pl.col("date").dt.date()), append=True)


def test_limits_are_of_the_close_of_the_day_before(tmp_path):
    """On some days the price jumps at noon to its limit, and stays."""
    day = pl.col("date").dt.date()
    closes = {(s, d): c for s, d, c in BARS.group_by("symbol", day).agg(pl.col("close").last()).iter_rows()}
    jumps, at = [], {}
    for symbol, number, side, width in (
        (SYMBOLS[1], 3, 1, "0.1"),
        (SYMBOLS[2], 6, -1, "0.2"),
        (SYMBOLS[0], 4, 1, "0.1"),
    ):
        before = Decimal(repr(closes[symbol, DAYS[number - 1]])) / (2 if (symbol, number) == (SYMBOLS[0], 4) else 1)
        before = before.quantize(Decimal("0.01"), ROUND_HALF_UP)
        limit = float((before * (1 + side * Decimal(width))).quantize(Decimal("0.01"), ROUND_HALF_UP))
        jumps.append(((day == DAYS[number]) & (pl.col("symbol") == symbol) & (pl.col("date").dt.hour() >= 12), limit))
        at[symbol, DAYS[number]] = limit
    changed = BARS
    for when, limit in jumps:
        price = [
            pl.when(when).then(limit).otherwise(pl.col(name)).alias(name) for name in ("open", "high", "low", "close")
        ]
        changed = changed.with_columns(price)
    version = publish(tmp_path, "demo", changed, holdout=False, rules="cn")
    names = columns(version.path, "insample")
    places = [names.index(name) for name in ("date", "symbol", "limited")]
    found = [tuple(row[place] for place in places) for row in rows(version.path, "insample", "bars")]
    limited = {(moment, symbol) for moment, symbol, yes in found if yes and (symbol, moment.date()) in at}
    assert limited == {
        (moment, symbol) for moment, symbol, _ in found if (symbol, moment.date()) in at and moment.hour >= 12
    }


@pytest.mark.usefixtures("calendars")
def test_bars_are_looked_at_by_hours_and_sessions(tmp_path):
    clean = publish(tmp_path, "clean", BARS, rules="us", **TERMS)
    assert examine(clean).findings == ()
    assert "hours" not in examine(clean).unsaid
    early = BARS.with_columns(
        pl.when(pl.col("symbol") == SYMBOLS[1]).then(pl.col("date") - timedelta(hours=1)).otherwise("date")
    )
    found = examine(publish(tmp_path, "early", early, rules="us", **TERMS)).findings
    assert ("hours", SYMBOLS[1], datetime.combine(DAYS[0], time(8, 35))) in {
        (one.rule, one.symbol, one.date) for one in found
    }
    weekend = BARS.with_columns(
        pl.when(pl.col("symbol") == SYMBOLS[1]).then(pl.col("date") - timedelta(days=1)).otherwise("date")
    )
    with pytest.raises(DataError, match=rf"session .*{DAYS[5] - timedelta(days=1)} 09:35:00 {SYMBOLS[1]}"):
        publish(tmp_path, "weekend", weekend, rules="us", **TERMS)
