import hashlib
import io
from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest

from factors.demo_market import INDEX, DemoMarket, _draw, _membership, _simulate, demo_market
from factors.demo_plants import PLANTS
from factors.errors import SettingError

CLOSE, VOLUME, RETURN = pl.col("close"), pl.col("volume"), pl.col("return")
# The planted formulas once more, in Polars; a formula that changes has no entry here.
FORMULAS = {
    "-1 * TS_CORR($return, $volume, 20)": -pl.rolling_corr(RETURN, VOLUME, window_size=20, min_samples=20),
    "-1 * TS_MEAN(($close - $low) / ($high - $low), 5)": (
        -((CLOSE - pl.col("low")) / (pl.col("high") - pl.col("low"))).rolling_mean(5)
    ),
    "TS_PCTCHANGE(DELAY($close, 60), 60)": CLOSE.shift(60) / CLOSE.shift(120) - 1,
    "-1 * TS_MEAN(($high - $low) / $close, 20)": -((pl.col("high") - pl.col("low")) / CLOSE).rolling_mean(20),
    "-1 * TS_STD($volume, 20) / TS_MEAN($volume, 20)": -VOLUME.rolling_std(20) / VOLUME.rolling_mean(20),
    "TS_CORR($return, DELAY($return, 1), 20)": pl.rolling_corr(RETURN, RETURN.shift(1), window_size=20, min_samples=20),
}
UNPLANTED = {"TS_PCTCHANGE(DELAY($close, 10), 40)": CLOSE.shift(10) / CLOSE.shift(50) - 1, "RANK($volume)": VOLUME}


@pytest.fixture(scope="module")
def market() -> DemoMarket:
    return demo_market()


@pytest.fixture(scope="module")
def adjusted(market: DemoMarket) -> pl.DataFrame:
    factor = pl.col("adj_factor")
    return market.bars.with_columns(
        *(pl.col(name) * factor for name in ("open", "high", "low", "close")), VOLUME / factor
    ).with_columns((CLOSE / CLOSE.shift(1) - 1).over("symbol").alias("return"))


@pytest.fixture(scope="module")
def signals(market: DemoMarket, adjusted: pl.DataFrame) -> pl.DataFrame:
    """One row per traded cell: split, whether markets are turbulent, label and every formula's value."""
    turbulence = (
        adjusted.group_by("date")
        .agg(RETURN.mean())
        .sort("date")
        .select("date", (RETURN.rolling_std(20) > 0.01).alias("turbulent"))
    )
    label = (CLOSE.shift(-2) / CLOSE.shift(-1) - 1).over("symbol").alias("label")
    values = [value.over("symbol").alias(text) for text, value in (FORMULAS | UNPLANTED).items()]
    split = (
        pl.when(pl.col("date") <= market.train_end)
        .then(pl.lit("train"))
        .when(pl.col("date") <= market.valid_end)
        .then(pl.lit("valid"))
        .otherwise(pl.lit("holdout"))
        .alias("split")
    )
    return (
        adjusted.with_columns(label, split, *values)
        .filter(~pl.col("suspended"))
        .join(turbulence, on="date")
        .with_columns(pl.when(pl.col(text).is_finite()).then(pl.col(text)) for text in FORMULAS)
    )


def rank_ic(cells: pl.DataFrame, formula: str) -> float:
    daily = (
        cells.filter(pl.col(formula).is_not_null() & pl.col("label").is_not_null())
        .group_by("date")
        .agg(pl.corr(pl.col(formula).rank(), pl.col("label").rank()).alias("ic"))
    )
    return daily["ic"].mean()


def split_ics(signals: pl.DataFrame, formula: str) -> dict[str, float]:
    return {split: rank_ic(signals.filter(split=split), formula) for split in ("train", "valid", "holdout")}


def plants(kind: str) -> list:
    return [pytest.param(plant, id=plant.name) for plant in PLANTS if plant.kind == kind]


def digest(market: DemoMarket) -> str:
    frames = (market.bars, market.membership, market.sectors)
    return hashlib.sha256("".join(frame.write_csv() for frame in frames).encode()).hexdigest()


def ipc(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc(buffer)
    return buffer.getvalue()


def test_the_same_seed_gives_the_same_bytes(market):
    again = demo_market()
    for name in ("bars", "membership", "sectors"):
        assert getattr(market, name).equals(getattr(again, name))
        assert ipc(getattr(market, name)) == ipc(getattr(again, name))
    assert digest(market) == digest(again)


def test_the_bytes_are_the_same_on_every_machine():
    assert (
        digest(demo_market(seed=7, instruments=40, years=2))
        == "59adde33f81226ce6675a4697ebf6e59986ca0cfd09ef2451952ee21cec59ec0"
    )


def test_another_seed_gives_another_market():
    assert digest(demo_market(seed=1, instruments=20, years=1)) != digest(demo_market(seed=2, instruments=20, years=1))


@pytest.mark.parametrize("arguments", [{"seed": -1}, {"instruments": 19}, {"instruments": 1000}, {"years": 0}])
def test_arguments_outside_their_range_are_refused(arguments):
    with pytest.raises(SettingError, match="expected a seed"):
        demo_market(**arguments)


def test_calendar_and_counts(market):
    bars = market.bars
    dates = bars["date"].unique().sort()
    assert dates.to_list() == [
        day for day in pl.date_range(date(2012, 1, 2), date(2019, 12, 31), eager=True) if day.weekday() < 5
    ]
    assert (market.train_end, market.valid_end) == (date(2016, 12, 31), date(2018, 6, 29))
    assert bars.equals(bars.sort("symbol", "date"))
    assert not bars.select("symbol", "date").is_duplicated().any()
    assert bars.null_count().sum_horizontal().item() == 0
    assert market.sectors["symbol"].to_list() == [f"SYN{number:03d}" for number in range(1, 301)]
    assert bars["symbol"].unique().sort().equals(market.sectors["symbol"])
    assert market.sectors["sector"].value_counts()["count"].to_list() == [30] * 10


def test_instruments_come_and_go_without_holes(market):
    dates = market.bars["date"].unique().sort()
    lives = market.bars.group_by("symbol").agg(
        pl.col("date").min().alias("first"), pl.col("date").max().alias("last"), pl.len()
    )
    span = dates.search_sorted(lives["last"]) - dates.search_sorted(lives["first"]) + 1
    assert (span == lives["len"]).all()
    assert 40 <= (lives["first"] > dates[0]).sum() <= 120
    assert 15 <= (lives["last"] < dates[-1]).sum() <= 60


def test_prices_are_positive_and_in_order(market):
    bars = market.bars
    assert (bars["low"] > 0).all()
    assert (bars["low"] <= bars.select(pl.min_horizontal("open", "close")).to_series()).all()
    assert (bars["high"] >= bars.select(pl.max_horizontal("open", "close")).to_series()).all()
    for name in ("open", "high", "low", "close"):
        assert bars[name].equals(bars[name].round(4))


def test_volatility_is_realistic_clusters_and_moves_volume(adjusted):
    size = RETURN.abs()
    measured = (
        adjusted.filter(~pl.col("suspended"))
        .group_by("symbol")
        .agg(
            RETURN.std().alias("volatility"),
            pl.corr(size, size.shift(1)).alias("clustering"),
            pl.corr(VOLUME.log(), VOLUME.log().shift(1)).alias("memory"),
            pl.corr(size, VOLUME.log()).alias("activity"),
        )
        .mean()
    )
    assert 0.015 < measured["volatility"].item() < 0.03
    assert measured["clustering"].item() > 0.1
    assert measured["memory"].item() > 0.5
    assert measured["activity"].item() > 0.3


def test_suspended_rows_carry_the_price_and_no_volume(market):
    bars = market.bars.with_columns(CLOSE.shift(1).over("symbol").alias("carried"))
    suspended = bars.filter("suspended")
    assert suspended.height > 1000
    assert (suspended["volume"] == 0).all()
    for name in ("open", "high", "low", "close"):
        assert suspended[name].equals(suspended["carried"].alias(name))
    assert (bars.filter(~pl.col("suspended"))["volume"] > 0).all()


def test_splits_jump_raw_prices_and_leave_adjusted_bars_continuous(market, adjusted):
    factor = pl.col("adj_factor")
    ratio = (factor / factor.shift(1)).over("symbol").fill_null(1.0).alias("ratio")
    raw = market.bars.with_columns(ratio, (CLOSE.shift(1) / CLOSE).over("symbol").alias("drop"))
    splits = raw.filter(pl.col("ratio") != 1)
    assert splits.height > 20
    assert set(splits["ratio"]) == {2.0, 3.0}
    assert (splits["drop"] / splits["ratio"]).is_between(0.7, 1.4).all()
    assert (raw.group_by("symbol").agg(factor.first())["adj_factor"] == 1).all()
    assert adjusted["return"].drop_nulls().is_between(-0.3001, 0.3001).all()
    surge = (VOLUME / VOLUME.shift(1).rolling_mean(20)).over("symbol").alias("surge")
    around = adjusted.with_columns(surge, raw["ratio"]).filter(pl.col("ratio") != 1)
    assert 0.6 < around["surge"].median() < 1.5


def test_membership_is_dated_and_revised_twice_a_year(market):
    members = market.membership
    assert set(members["index"]) == {INDEX}
    assert members.equals(members.sort("symbol", "start"))
    ends = members["end"].fill_null(date.max)
    assert (members["start"] < ends).all()
    gap = members.with_columns(pl.col("end").shift(1).over("symbol").alias("before"), index=pl.int_range(pl.len()))
    later = gap.filter(pl.col("index") > pl.col("index").first().over("symbol"))
    assert (later["before"].is_not_null() & (later["before"] < later["start"])).all()
    held = market.bars.join(members, on="symbol").filter(
        (pl.col("date") >= pl.col("start")) & (pl.col("date") < pl.col("end").fill_null(date.max))
    )
    counts = held.group_by("date").len()
    assert counts["len"].max() == 200
    assert counts["len"].min() >= 190
    assert counts.height == market.bars["date"].n_unique()
    revisions = {start for start in members["start"] if start > date(2012, 1, 2)}
    assert {(day.month, day.day <= 4) for day in revisions} == {(1, True), (7, True)}
    last = market.bars.group_by("symbol").agg(pl.col("date").max().alias("last"))
    ended = members.join(last, on="symbol")
    assert (ended["last"] >= ended["start"]).all()
    assert ended.filter(pl.col("end").is_null())["last"].unique().to_list() == [date(2019, 12, 31)]


def test_the_future_leaves_the_past_as_it_was():
    turn = 400
    draws = _draw(np.random.default_rng(3), 600, 40)
    noise = np.where(np.arange(600)[:, None] < turn, draws.noise, -draws.noise)
    days = pl.date_range(date(2012, 1, 1), date(2013, 8, 22), eager=True)
    symbols = pl.Series([f"SYN{number:03d}" for number in range(40)])
    before, after = _simulate(draws, 300), _simulate(replace(draws, noise=noise), 300)
    np.testing.assert_array_equal(before.raw.close[:turn], after.raw.close[:turn])
    assert not np.array_equal(before.raw.close[turn], after.raw.close[turn], equal_nan=True)
    joined = [
        _membership(tape, draws, days, symbols).filter(pl.col("start") <= days[turn]).select("symbol", "start")
        for tape in (before, after)
    ]
    assert joined[0].equals(joined[1])


def test_the_index_holds_the_largest_at_yesterdays_close():
    draws = _draw(np.random.default_rng(3), 600, 40)
    tape = _simulate(draws, 300)
    days = pl.date_range(date(2012, 1, 1), date(2013, 8, 22), eager=True)
    members = _membership(tape, draws, days, pl.Series(range(40)))
    revision = days.index_of(date(2013, 1, 1))
    held = members.filter((pl.col("start") <= days[revision]) & (pl.col("end").fill_null(date.max) > days[revision]))[
        "symbol"
    ].to_list()
    size = (tape.raw.close * tape.adj_factor)[revision - 1] * draws.shares
    size = np.where(tape.present[revision], size, np.nan)
    dropped = [number for number in range(40) if number not in held]
    assert len(held) == 27
    assert size[held].min() > np.nanmax(size[dropped])


def test_splits_change_no_adjusted_return():
    draws = _draw(np.random.default_rng(5), 500, 40)
    draws = replace(draws, price=draws.price * 8)
    tapes = (_simulate(draws, 300), _simulate(replace(draws, split_chance=np.ones((500, 40))), 300))
    split, whole = (tape.raw.close * tape.adj_factor for tape in tapes)
    assert np.nanmax(tapes[0].adj_factor) > np.nanmax(tapes[1].adj_factor) == 1
    assert np.nanmax(np.abs(split[1:] / split[:-1] - whole[1:] / whole[:-1])) < 1e-3


def test_plants_are_of_every_kind():
    kinds = [plant.kind for plant in PLANTS]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "persistent": 2,
        "decaying": 1,
        "regime": 1,
        "decoy": 2,
    }
    assert [plant.formula for plant in PLANTS] == list(FORMULAS)


@pytest.mark.parametrize("plant", plants("persistent"))
def test_persistent_plants_live_in_every_split(signals, plant):
    for measured in split_ics(signals, plant.formula).values():
        assert measured == pytest.approx(plant.rank_ic, abs=0.011)


@pytest.mark.parametrize("plant", plants("decaying"))
def test_the_decaying_plant_fades(signals, plant):
    measured = split_ics(signals, plant.formula)
    assert rank_ic(signals.filter(pl.col("date") < date(2013, 6, 1)), plant.formula) > 0.8 * plant.rank_ic
    assert 0.5 * plant.rank_ic < measured["train"] < plant.rank_ic
    assert measured["train"] > 2 * measured["valid"] > 2 * measured["holdout"]
    assert abs(rank_ic(signals.filter(pl.col("date") >= date(2019, 1, 1)), plant.formula)) < 0.01


@pytest.mark.parametrize("plant", plants("regime"))
def test_the_regime_plant_lives_in_turbulent_markets_alone(signals, plant):
    turbulent = split_ics(signals.filter("turbulent"), plant.formula)
    calm = split_ics(signals.filter(~pl.col("turbulent")), plant.formula)
    for split in ("train", "valid", "holdout"):
        assert turbulent[split] == pytest.approx(plant.rank_ic, abs=0.015)
        assert abs(calm[split]) < 0.01


@pytest.mark.parametrize("plant", plants("decoy"))
def test_decoys_die_with_train(signals, plant):
    measured = split_ics(signals, plant.formula)
    assert measured["train"] == pytest.approx(plant.rank_ic, abs=0.006)
    assert abs(measured["valid"]) < 0.008
    assert abs(measured["holdout"]) < 0.008


@pytest.mark.parametrize("formula", UNPLANTED)
def test_signals_that_were_not_planted_predict_nothing(signals, formula):
    for measured in split_ics(signals, formula).values():
        assert abs(measured) < 0.01


def test_plants_are_distinct(signals):
    ranks = signals.select("date", *(pl.col(formula).rank().over("date") for formula in FORMULAS))
    pairs = [(left, right) for left in FORMULAS for right in FORMULAS if left < right]
    daily = ranks.group_by("date").agg(pl.corr(left, right).alias(f"{left} | {right}") for left, right in pairs)
    overlap = daily.select(pl.exclude("date").fill_nan(None).mean().abs())
    assert max(overlap.row(0)) < 0.2
