"""What the look at quality says of real bars, beside the defects that are known of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from benchmarks.holdout import SHARED_DATA
from storage.acceptance import recorded
from storage.ingest import import_market
from storage.quality import EVERYBODY, Finding, Quality
from storage.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Defect:
    """A defect that is known of a source.

    Attributes:
        market: whose bars have it.
        says: what it is.
        rule: by which it should be found.
        symbol: of which instrument; of any where ``None``.
        day: of which day; of any where ``None``.
        detail: what the finding says, or begins with.
    """

    market: str
    says: str
    rule: str
    symbol: str | None = None
    day: date | None = None
    detail: str = ""


KNOWN: Final = (
    Defect("us", "DHR 2016-07-05, spin-off not adjusted for", "gap", "DHR", date(2016, 7, 5)),
    Defect("us", "EXPE 2011-12-21, the same", "gap", "EXPE", date(2011, 12, 21)),
    Defect("us", "VTR 2015-08-18, the same", "gap", "VTR", date(2015, 8, 18)),
    Defect("us", "TMUS 2013-05-01, the same", "gap", "TMUS", date(2013, 5, 1)),
    Defect("us", "SW, no volume", "volume", "SW"),
    Defect("us", "AMCR, no volume", "volume", "AMCR"),
    Defect("us", "members of mid-2025 only", "survivors", EVERYBODY, detail="sp500"),
    Defect("cn", "factors that jump by themselves", "adjustment"),
    Defect("cn", "CSI 500 not reliable before 2022", "survivors", EVERYBODY, detail="csi500"),
    Defect("qlib", "SH603056, dates shifted at the source", "shifted", "SH603056"),
)
"""The defects that the shared data tells of its bars."""


@dataclass(frozen=True, slots=True)
class Examined:
    """A real market, and what was found wrong in it; ``limited`` is bars at a price limit, and all, by year."""

    snapshot: Snapshot
    quality: Quality
    limited: tuple[tuple[int, int, int], ...]


def examined(home: Path, data: Path = SHARED_DATA) -> dict[str, Examined]:
    """The real markets that are at hand, imported whole, with nothing held out."""
    found = {}
    for name, bars, sectors, accept in (
        ("us", data / "us_daily_dev.parquet", data / "us_sectors.parquet", ()),
        ("cn", data / "cn_daily_dev.parquet", data / "cn_industry.parquet", ("adjustment",)),
        ("qlib", data / "raw_samples" / "cn_qlib_bin", None, ("adjustment", "shifted")),
    ):
        if not bars.exists():
            continue
        membership = None if sectors is None else data / f"{name}_membership.parquet"
        snapshot = import_market(
            home,
            name,
            bars,
            membership=membership,
            sectors=sectors,
            holdout=False,
            rules="cn" if name == "qlib" else name,
            accept=accept,
        )
        found[name] = Examined(snapshot, recorded(snapshot), _limited(snapshot))
    return found


def _limited(snapshot: Snapshot) -> tuple[tuple[int, int, int], ...]:
    if not snapshot.limited:
        return ()
    with snapshot.connect() as con:
        query = "SELECT year(date), count(*) FILTER (limited), count(*) FROM bars GROUP BY ALL ORDER BY ALL"
        return tuple(con.execute(query).fetchall())


def matching(defect: Defect, findings: Iterable[Finding]) -> list[Finding]:
    """The findings that tell of a defect."""
    return [
        one
        for one in findings
        if one.rule == defect.rule
        and defect.symbol in {None, one.symbol}
        and defect.day in {None, one.date}
        and one.detail.startswith(defect.detail)
    ]
