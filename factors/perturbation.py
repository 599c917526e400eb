"""Panels that differ from a market's own where that must not matter: cut shorter, in part made up or blank, blurred."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from factors.kernels.elementwise import Values
from factors.panel import Mask, Panel

PRESENT = 0.9  # share of made-up cells with a bar, of those with a bar that trade, belong, and have a value
PLAUSIBLE = 0.5  # share of made-up values on their column's own scale
SPREAD = 0.5  # standard deviation of the logarithm of those
ROUNDING = 1e-13  # relative; a sum over a long window may be rounded by as much
EXTREME = 40.0  # largest size of that of the others, a factor of 1e17
_LONG_LISTED = -(1 << 40)  # rows


def cut(panel: Panel, columns: Iterable[str], start: int, stop: int, tiles: int = 0) -> Panel:
    """Copies of the rows ``start`` to ``stop``, as if the data began and ended there, with the named columns alone.

    Instruments keep their listing dates: ``first_row`` is negative where it lies before the cut. The first row has no
    ``return``, which needs the row before. An instrument with a bar after the cut is not delisted in it. ``tiles`` more
    of 64 lanes each hold no instrument.
    """
    rows = slice(start, stop)

    def copy(array: NDArray[Any], absent: float) -> NDArray[Any]:
        return np.pad(array[:, rows], ((0, tiles), (0, 0), (0, 0)), constant_values=absent)

    fields = {name: copy(panel.fields[name], np.nan) for name in columns}
    if start and "return" in fields:
        fields["return"][:, 0] = np.nan
    known = np.where(panel.bar[:, stop:].any(axis=1), np.nan, panel.delisting)
    listed = np.pad(panel.first_row, ((0, tiles), (0, 0)), constant_values=stop)
    return replace(
        panel,
        dates=panel.dates[rows],
        fields=fields,
        bar=copy(panel.bar, absent=False),
        tradable=copy(panel.tradable, absent=False),
        eligible=copy(panel.eligible, absent=False),
        universe=copy(panel.universe, -1),
        sectors=copy(panel.sectors, -1),
        first_row=np.minimum(listed, stop) - start,
        splits={},
        delisting=np.pad(known, ((0, tiles), (0, 0)), constant_values=np.nan),
    )


def bare(panel: Panel, more: Mapping[str, Values] | None = None) -> Panel:
    """The panel with a bar in every cell and long histories, so that no value is hidden, and with ``more`` columns."""
    return replace(
        panel,
        fields={**panel.fields, **(more or {})},
        bar=np.ones_like(panel.bar),
        first_row=np.full_like(panel.first_row, _LONG_LISTED),
    )


def blank(panel: Panel, stop: int) -> Panel:
    """A panel that :func:`cut` gave with no value before the row ``stop``, nor a return in it, and with no member."""
    for name, values in panel.fields.items():
        values[:, : stop + (name == "return")] = np.nan
    panel.universe[:, :stop] = panel.sectors[:, :stop] = -1
    return panel


def blurred(panel: Panel, draw: Generator) -> Panel:
    """A panel that :func:`cut` gave with every value off by what rounding may come to."""
    for values in panel.fields.values():
        np.multiply(values, 1 + draw.uniform(-ROUNDING, ROUNDING, values.shape), out=values)
    return panel


def make_up(panel: Panel, cells: Mask, draw: Generator, *, members: bool = True) -> None:
    """Overwrite cells of a panel that :func:`cut` gave from row 0 on: columns, bars, suspensions, membership, sectors.

    Values are of a plausible or of an extreme scale, with nulls among them; without ``members`` the cells belong to no
    universe.
    """
    size = int(np.count_nonzero(cells))

    def coins() -> Mask:
        return draw.random(size) < PRESENT

    bar = coins()
    for values in panel.fields.values():
        values[cells] = np.where(bar & coins(), _noise(values, size, draw), np.nan)
    tradable, member = bar & coins(), bar & coins() & members
    panel.bar[cells], panel.tradable[cells], panel.eligible[cells] = bar, tradable, tradable & member
    panel.universe[cells] = np.where(member, 0, -1)
    panel.sectors[cells] = np.where(member, draw.integers(-1, panel.sectors.max() + 2, size), -1)
    panel.first_row[:] = np.where(panel.bar.any(axis=1), panel.bar.argmax(axis=1), panel.shape[1])


def _noise(values: Values, size: int, draw: Generator) -> Values:
    """Values on the column's own scale, negative only where it has such values, and values far off it."""
    known = values[np.isfinite(values)]
    plausible = draw.random(size) < PLAUSIBLE
    logarithm = np.where(plausible, draw.normal(0, SPREAD, size), draw.uniform(-EXTREME, EXTREME, size))
    signed = ~plausible | bool((known < 0).any())
    sign = np.where(signed & (draw.random(size) < 1 / 2), -1.0, 1.0)
    with np.errstate(over="ignore"):
        made_up: Values = sign * (np.median(np.abs(known)) if len(known) else 1.0) * np.exp(logarithm)
    return np.where(np.isfinite(made_up), made_up, np.nan)
