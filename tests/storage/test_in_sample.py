"""What begins after the end of valid is not known by name either."""

from datetime import date, timedelta

import polars as pl
import pytest

from storage.markets import publish
from tests.versions import columns, content

DAYS = [date(2020, 1, 1) + timedelta(number) for number in range(30)]
SEALED = {"train_end": DAYS[9], "valid_end": DAYS[19]}


@pytest.fixture
def bars():
    """Thirty days of one instrument; each extra column has one value, on the day in its name."""
    frame = pl.DataFrame({"date": DAYS, "symbol": "A"} | dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0))
    extras = [pl.when(pl.col("date") == DAYS[number]).then(0.5).alias(f"day_{number}") for number in (3, 19, 20, 29)]
    return frame.with_columns(*extras)


def fields(snapshot):
    return [name for name in snapshot.fields if name.startswith("day_")]


def test_a_column_without_a_value_in_sample_is_no_field(tmp_path, bars):
    sealed = publish(tmp_path, "m", bars, **SEALED)
    assert fields(sealed) == ["day_19", "day_3"]
    assert {"day_20", "day_29"}.isdisjoint(sealed.bars("all").columns)
    for part in ("insample", "holdout"):
        assert [name for name in columns(sealed.path, part) if name.startswith("day_")] == ["day_19", "day_3"]
    assert b"day_2" not in content(sealed.path, "insample")
    whole = publish(tmp_path, "whole", bars, train_end=DAYS[9], holdout=False)
    assert fields(whole) == ["day_19", "day_20", "day_29", "day_3"]


def test_an_index_that_begins_after_the_end_is_no_universe(tmp_path, bars):
    starts = {"early": DAYS[3], "last": DAYS[19], "next": DAYS[20], "late": DAYS[29], "always": None}
    membership = pl.DataFrame(
        {"index": list(starts), "symbol": "A", "start": list(starts.values()), "end": None},
        schema_overrides={"end": pl.Date},
    )
    sealed = publish(tmp_path, "m", bars, membership=membership, **SEALED)
    assert sealed.universes == ("early", "last", "always", "all")
    assert b"late" not in content(sealed.path, "insample")
    whole = publish(tmp_path, "whole", bars, membership=membership, train_end=DAYS[9], holdout=False)
    assert whole.universes == ("early", "last", "next", "late", "always", "all")
