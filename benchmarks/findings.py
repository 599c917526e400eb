"""The part of the report on market data that tells of real bars."""

from collections.abc import Iterator, Mapping

from benchmarks.defects import KNOWN, Examined, matching
from benchmarks.report import table
from storage.reports import summary

NAMES = {"us": "S&P 500, 2010 to 2021", "cn": "CSI 300, 2010 to 2021", "qlib": "a qlib tree of five symbols"}


def real_pages(real: Mapping[str, Examined]) -> Iterator[str]:
    """Paragraphs and tables, Markdown; none where no real bars are at hand."""
    if not real:
        return
    yield "## What is wrong with real bars"
    yield (
        "Imported with their membership and nothing held out, so that all years are looked at. Errors stop an import "
        "unless they are accepted, as here; warnings are told. `-` is a rule that has nothing to go by."
    )
    yield table(["rule", "", "it means", *(NAMES[name] for name in real)], _rules(real))
    yield "What is known to be wrong, and what was found:"
    yield table(["known", "rule", "findings", "the first"], _known(real))
    for name, one in real.items():
        if one.limited and name == "cn":
            rules = one.snapshot.trading_rules
            yield f"Bars that open or close at a price limit by the rules `{rules}`, and cannot be traded:"
            yield table(["year", "limited", "bars", "share"], _limited(one))


def _rules(real: Mapping[str, Examined]) -> Iterator[list[str]]:
    for told in zip(*(summary(one.quality) for one in real.values()), strict=True):
        counts = ["-" if one.findings is None else f"{one.findings:,}" for one in told]
        yield [f"`{told[0].rule}`", told[0].severity, told[0].says, *counts]


def _known(real: Mapping[str, Examined]) -> Iterator[list[str]]:
    for defect in KNOWN:
        if defect.market in real:
            found = matching(defect, real[defect.market].quality.findings)
            first = f"{found[0].date} {found[0].symbol}: {found[0].detail}" if found else "not found"
            yield [f"{defect.market}: {defect.says}", f"`{defect.rule}`", str(len(found)), first]


def _limited(one: Examined) -> Iterator[list[str]]:
    for year, limited, bars in one.limited:
        yield [str(year), f"{limited:,}", f"{bars:,}", f"{limited / bars:.2%}"]
