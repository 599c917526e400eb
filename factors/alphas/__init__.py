"""Published alphas, transcribed into the factor language, each file with its source.

A name with ``{d}`` stands for one formula a window. Industry classifications of any level are ``$sector``; an average
daily dollar volume is that of close times volume.
"""

import csv
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

from factors.columns import COLUMNS
from factors.errors import DataError, FormulaError
from factors.expression import SECTOR, Expr, distinct, fields
from factors.parse import parse

FIELDS = tuple(COLUMNS)  #: columns that published formulas read
_SOURCES = {
    "alpha101.csv": "Kakushadze 2016, 101 Formulaic Alphas, arXiv 1601.00991",
    "alpha158.csv": "qlib, Alpha158",
}
_WINDOWS = (5, 10, 20, 30, 60)
_LONGEST_NAME = 120
_HEADERS = frozenset({"name", "factor_name"})


@dataclass(frozen=True, slots=True)
class Alpha:
    """A known formula: ``name`` tells it apart, ``source`` says where it comes from."""

    name: str
    expr: Expr
    source: str

    @property
    def needs(self) -> frozenset[str]:
        """The columns that it reads, ``sector`` among them."""
        return fields(self.expr) | ({SECTOR.name} if SECTOR in distinct(self.expr) else set())


@cache
def published() -> tuple[Alpha, ...]:
    """The 101 formulaic alphas and the 158 features of Alpha158."""
    return tuple(
        Alpha(name, parse(formula, FIELDS), source)
        for file, source in _SOURCES.items()
        for name, formula in _expanded(csv.reader(resources.files(__name__).joinpath(file).read_text().splitlines()))
    )


def _expanded(rows: Iterable[list[str]]) -> Iterator[tuple[str, str]]:
    for name, formula in list(rows)[1:]:
        for d in map(str, _WINDOWS if "{d}" in name else ("",)):
            yield name.replace("{d}", d), formula.replace("{d}", d)


def read_alphas(
    lines: Iterable[str], source: str, parse_formula: Callable[[str, Collection[str]], Expr] = parse
) -> list[Alpha]:
    """Alphas from CSV lines of name and formula, below a header or not.

    Args:
        lines: of the file.
        source: where they come from.
        parse_formula: the spelling, ``parse`` or ``parse_legacy``.

    Raises:
        DataError: lines that are no alphas; the message gives the fault of each.
    """
    found: dict[str, Alpha] = {}
    faults = []
    for line, row in _rows(lines, source):
        if not row or (line == 1 and row[0].strip().lower() in _HEADERS):
            continue
        try:
            name, text = _name_and_formula(row, found)
            found[name] = Alpha(name, parse_formula(text, FIELDS), source)
        except (DataError, FormulaError) as error:
            faults.append(f"line {line}: {error}")
    if faults or not found:
        raise DataError(f"{source}: " + ("; ".join(faults) or "it holds no alpha"))
    return list(found.values())


def _rows(lines: Iterable[str], source: str) -> Iterator[tuple[int, list[str]]]:
    """Each row and the number of its last line."""
    reader = csv.reader(lines)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{source}: line {reader.line_num}: {error}") from error


def _name_and_formula(row: list[str], taken: Collection[str]) -> tuple[str, str]:
    if len(row) != 2:  # noqa: PLR2004 - name and formula
        raise DataError(f"expected a name and a formula (in quotes where it holds commas), found {len(row)} cells")
    name = row[0].strip()
    if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable():
        raise DataError(f"a name has 1 to {_LONGEST_NAME} printable characters")
    if name in taken:
        raise DataError(f"the name {name} is taken by an earlier line")
    return name, row[1]
