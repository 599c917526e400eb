"""What is found at an import, and what of it is accepted, by whom it concerns."""

from datetime import timedelta

import polars as pl
import pytest

from factors.errors import DataError, SettingError
from storage import acceptance, quality
from storage.acceptance import recorded
from storage.markets import open_market, publish
from storage.quality import examine
from tests.lookalikes import DAYS, bars

BAD = (pl.col("symbol") == "S3") & (pl.col("date") == DAYS[40])
WORSE = (pl.col("symbol") == "S5") & (pl.col("date") == DAYS[110])
TERMS = {"train_end": DAYS[30], "valid_end": DAYS[80]}


def crossed(*where):
    """Bars of which some have a high below the low."""
    frame = bars()
    for condition in where:
        frame = frame.with_columns(high=pl.when(condition).then(pl.col("low") * 0.5).otherwise(pl.col("high")))
    return frame


def until(frame, day):
    return frame.filter(pl.col("date") <= day), frame.filter(pl.col("date") > day)


def test_an_error_stops_an_import_until_its_rule_is_accepted(tmp_path):
    with pytest.raises(DataError, match=rf"range .*{DAYS[40]} S3: high .* To accept: range$"):
        publish(tmp_path, "m", crossed(BAD), **TERMS)
    assert not (tmp_path / "markets").exists()
    with pytest.raises(SettingError, match="no rule 'odd'"):
        publish(tmp_path, "m", crossed(BAD), **TERMS, accept=["odd"])
    snapshot = publish(tmp_path, "m", crossed(BAD), **TERMS, accept=["range", "price"])
    assert open_market(tmp_path, "m").accepted == ("range",)
    assert recorded(snapshot) == examine(snapshot)
    assert [(one.rule, one.symbol) for one in recorded(snapshot).findings if one.severity == "error"] == [
        ("range", "S3")
    ]


def test_a_refusal_tells_how_many_errors_there_are_also_where_not_all_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "MOST", 6)
    with pytest.raises(DataError, match=r"; and 26 more\. To accept: range$"):
        publish(tmp_path, "m", crossed((pl.col("symbol") == "S3") & (pl.col("date") <= DAYS[30])), **TERMS)


def test_an_error_stops_no_other_version_and_none_of_the_hold_out_is_told(tmp_path):
    old = publish(tmp_path, "m", bars(), **TERMS)
    with pytest.raises(DataError, match="nothing was published"):
        publish(tmp_path, "m", crossed(BAD), **TERMS)
    assert open_market(tmp_path, "m") == old
    assert publish(tmp_path, "m", crossed(WORSE), **TERMS).accepted == ()


@pytest.mark.parametrize("holdout", [True, False])
def test_what_was_accepted_stays_so_as_days_follow_and_what_is_new_does_not(tmp_path, monkeypatch, holdout):
    terms = TERMS if holdout else {"train_end": DAYS[30], "holdout": False}
    first, rest = until(crossed(BAD, WORSE), DAYS[100])
    base = publish(tmp_path, "m", first, **terms, accept=["range"])
    clean, bad = until(rest, DAYS[105])
    looked = []
    real = acceptance.inspect
    monkeypatch.setattr(acceptance, "inspect", lambda *given: looked.append(given) or real(*given))
    longer = publish(tmp_path, "m", clean, append=True)
    assert longer.accepted == base.accepted == ("range",)
    assert bool(looked) is not holdout  # what is in sample is as it was
    assert recorded(longer) == examine(longer)
    if holdout:
        assert recorded(publish(tmp_path, "m", bad, append=True)) == recorded(base)
        return
    with pytest.raises(DataError, match=rf"{DAYS[110]} S5"):
        publish(tmp_path, "m", bad, append=True)
    assert open_market(tmp_path, "m") == longer
    assert publish(tmp_path, "m", bad, append=True, accept=["range"]).last_date == DAYS[-1]


def test_an_accepted_shift_stays_so_though_its_figures_move_with_each_day(tmp_path):
    days = [DAYS[0] + timedelta(days=number) for number in range(420)]
    early, own = dict(zip(days[1:], days, strict=False)), pl.col("symbol") == "S3"
    frame = bars(days)
    shifted = frame.filter(own).with_columns(pl.col("date").replace_strict(early, default=None)).drop_nulls()
    first, rest = until(pl.concat([frame.filter(~own), shifted]), days[399])
    base = publish(tmp_path, "m", first, holdout=False, accept=["shifted"])
    longer = publish(tmp_path, "m", rest, append=True)
    both = [*recorded(base).findings, *recorded(longer).findings]
    before, after = [one.detail for one in both if one.rule == "shifted"]
    assert before != after
    assert longer.accepted == ("shifted",)


def test_a_year_has_the_bars_of_the_exchange_s_sessions(tmp_path, calendars):  # noqa: ARG001
    days = [day for day in (DAYS[0] + timedelta(days=number) for number in range(400)) if day.weekday() < 5]
    frame = bars(days)
    assert publish(tmp_path, "crypto", frame, holdout=False, rules="crypto").bars_per_year == 365
    assert publish(tmp_path, "us", frame, holdout=False, rules="us", accept=["session"]).bars_per_year == 252
    assert publish(tmp_path, "own", frame, holdout=False).bars_per_year == pytest.approx(261, abs=1)
