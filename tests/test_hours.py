"""A market of hours is mined as one of days is, row by row, and a model is told that its bars are no days."""

from datetime import datetime, time, timedelta

import polars as pl
import pytest

from storage.markets import publish
from tests.traces import mined

SESSION = [time(10), time(11), time(13), time(14)]
FORMULA = "-TS_SUM($return * TS_ZSCORE($volume, 60), 5)"


def hours(bars, ends):
    """The same bars as hours of a fourth as many days, and the days on which the given dates fall then."""
    dates = bars["date"].unique().sort().to_list()
    place = {day: number for number, day in enumerate(dates)}
    first = dates[0]
    day = {one: first + timedelta(days=place[one] // len(SESSION)) for one in dates}
    moment = {one: datetime.combine(day[one], SESSION[place[one] % len(SESSION)]) for one in dates}
    return bars.with_columns(pl.col("date").replace_strict(moment)), [day[one] for one in ends]


@pytest.fixture(scope="module")
def homes(tmp_path_factory, small):
    """Homes of a market of days and of the same as hours; the splits end at the same rows."""
    dates = small.bars["date"].unique().sort().to_list()
    ends = [next(one for one in dates[3::4] if one >= end) for end in (small.train_end, small.valid_end)]
    found = []
    for bars, (train_end, valid_end) in ((small.bars, ends), hours(small.bars, ends)):
        found.append(tmp_path_factory.mktemp("hours"))
        publish(found[-1], "small", bars, train_end=train_end, valid_end=valid_end, synthetic=True)
    return found


def test_a_formula_is_measured_row_by_row(homes, cli):
    measured = []
    for home in homes:
        answer = cli(home, "eval", FORMULA, "--market", "small", "--json")
        assert answer.status == 0, answer.err
        measured.append(answer.json["evaluation"]["splits"])
    days, hourly = measured
    for split in ("train", "valid"):
        assert hourly[split]["days"] == days[split]["days"]
        assert hourly[split]["rank_ic"] == days[split]["rank_ic"]
        assert hourly[split]["horizons"] == days[split]["horizons"]
    assert abs(days["train"]["rank_ic"]) > 0.01


def test_a_run_succeeds_and_its_model_is_told_of_bars(homes, cli):
    answer, prompts = mined(cli, homes[1], "--rounds", "2", "--seed", "1", model=True)
    assert answer.json["accepted"]
    told = b"\n".join(prompts)
    assert b"a value each bar" in told
    assert b"its horizon in bars" in told
    assert b"trading day" not in told
