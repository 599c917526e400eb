"""Causality: that a formula's values on a panel come from what was known, told by experiment and certified.

Each claim changes the panel where the formula must be blind and computes it again. Bit for bit means that both
computations begin at row 0, as kernels add in blocks that are counted from there. The columns are taken as the panel
gives them.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from factors.certificate import Certificate, Comparison
from factors.evaluator import Evaluator
from factors.expression import Call, Expr, Field, distinct, fields
from factors.kernels.elementwise import Values
from factors.labels import forward_return, ranked_labels
from factors.metrics import daily_metrics
from factors.operators import LookBack
from factors.panel import Mask, Panel
from factors.perturbation import bare, blank, blurred, cut, make_up
from factors.plan import BY_DAY, series
from factors.tally import TOLERANCE, Tally, close, gap

AFTER = 21  # rows that follow a bar at least
NOISE_ROWS = 64  # made-up rows that follow it, and as many more as the formula looks back
LABEL_ROWS = 63  # rows before and after it on which the label is tried, and more where that is sold later
UNRELATED = 0.5  # mean IC that the return of the bar before a label, or after it, stays below
BLURS = 4
AMPLIFIED = 10.0  # how many times further than these blurs rounding may move a value

Rows = NDArray[np.int64]


def prove(
    expr: Expr,
    panel: Panel,
    *,
    market: str,
    snapshot: str,
    universe: str,
    seed: int,
    dates: int = 3,
    threads: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Certificate:
    """Try a formula's causality at so many bars spread over those on which it has values.

    Args:
        expr: the formula.
        panel: the market; it is not changed.
        market: its name, for the certificate, as are ``snapshot`` and ``universe``.
        snapshot: the version of its data.
        universe: whose members the panel tells.
        seed: of the bars and of all that is made up.
        dates: how many.
        threads: as of :class:`Evaluator`.
        stop: as of :class:`Evaluator`.

    Raises:
        EvaluationStoppedError: ``stop`` said so.
    """
    trial = _Trial(expr, panel, default_rng(seed), threads, stop)
    rows = trial.rows(dates)
    by_day = any(isinstance(node, Call) and node.op.kind in BY_DAY for node in distinct(expr))
    apart = trial.non_members if by_day else trial.other_instruments
    claims = (trial.later_noise, trial.later_cut, trial.earlier_cut, apart, trial.label_lag)
    checks = tuple(claim(rows) for claim in claims)
    return Certificate(
        formula=str(expr),
        market=market,
        snapshot=snapshot,
        universe=universe,
        seed=seed,
        dates=tuple(panel.dates[row].astype(object) for row in rows),
        checks=checks,
        proven=all(check.passed for check in checks),
    ).sealed()


class _Trial:
    """A formula's values on a panel, and the claims about them, each tried at the rows t that it is given."""

    def __init__(
        self, expr: Expr, panel: Panel, draw: Generator, threads: int | None, stop: Callable[[], bool]
    ) -> None:
        self._expr, self._panel, self._draw, self._threads, self._stop = expr, panel, draw, threads, stop
        self._columns = fields(expr)
        self._whole = self._values(expr, panel)
        self._until: dict[int, Values] = {}

    def _values(self, expr: Expr, panel: Panel) -> Values:
        with Evaluator(panel, self._threads, 0, self._stop).values(expr) as values:
            return values

    def _values_until(self, row: int) -> Values:
        """Values of the panel that ends at a row."""
        if row not in self._until:
            self._until[row] = self._values(self._expr, cut(self._panel, self._columns, 0, row + 1))
        return self._until[row]

    def rows(self, count: int) -> list[int]:
        """One row drawn from each of so many equal parts of those with values, history to cut and rows to follow."""
        known, rows = np.flatnonzero(np.isfinite(self._whole).any(axis=(0, 2))), self._panel.shape[1]
        followed = (known < rows - AFTER) & (_ends(self._panel)[known] < rows)
        usable = known[(known > self._expr.look_back) & followed]
        return [int(self._draw.choice(part)) for part in np.array_split(usable, count) if len(part)]

    def later_noise(self, rows: Sequence[int]) -> Comparison:
        """Whatever comes after t, nothing up to t changes."""
        ahead = NOISE_ROWS + self._expr.look_back
        tally = Tally("later_noise", f"all values to t, bit for bit, when up to {ahead} rows after it are made up")
        for row in rows:
            panel = cut(self._panel, self._columns, 0, row + 1 + ahead)
            later = np.zeros(panel.shape, np.bool_)
            later[:, row + 1 :] = True
            make_up(panel, later, self._draw)
            tally.exactly(row, self._values(self._expr, panel)[:, : row + 1], self._whole[:, : row + 1])
        return tally.comparison(self._panel)

    def later_cut(self, rows: Sequence[int]) -> Comparison:
        """Whether anything comes after t, nothing up to t changes."""
        tally = Tally("later_cut", "all values to t, bit for bit, when the data end at t")
        for row in rows:
            tally.exactly(row, self._values_until(row), self._whole[:, : row + 1])
        return tally.comparison(self._panel)

    def earlier_cut(self, rows: Sequence[int]) -> Comparison:
        """No row before t and its look-back matters to a value at t.

        Operators with a fading memory do read all rows. Their own values are therefore taken as they are, as a column,
        and what they average is a formula of its own, of which the same is claimed.
        """
        parts, fading = _parts(self._expr)
        tally = Tally("earlier_cut", f"values at t, to {TOLERANCE:g}, when the data begin the look-back before t")
        if fading:
            names = ", ".join(sorted({call.op.name for call in fading}))
            tally.claim += f"; {names} read all rows, so their values are kept and their arguments are cut on their own"
        uncut = bare(self._panel)
        source = bare(self._panel, {column.name: self._values(call, uncut) for call, column in fading.items()})
        for part, windowed in parts.items():
            whole = self._whole if part is self._expr else self._values(part, self._panel)
            for row in rows:
                short = ~self._panel.bar[:, row] | (row - self._panel.first_row < part.look_back)
                found = self._at_end(windowed, cut(source, fields(windowed), row - windowed.look_back, row + 1), short)
                rounded = partial(self._rounded, windowed, source, row, short, found, whole[:, row])
                tally.closely(row, found, whole[:, row], rounded)
        return tally.comparison(self._panel)

    def _at_end(self, expr: Expr, panel: Panel, short: Mask) -> Values:
        """Values of the last row, null where ``short`` and nowhere else for want of a bar or of history."""
        values = self._values(expr, bare(panel))[:, -1].copy()
        values[short] = np.nan
        return values

    def _rounded(self, expr: Expr, source: Panel, row: int, short: Mask, found: Values, expected: Values) -> Mask:
        """Where the look-back alone gives another value for no more reason than rounding.

        Either that value moves as much when the columns are off in their last digits, or the row has the expected one
        when older rows are blank, not cut: sums over blocks are then rounded alike, and what a comparison or a rank
        makes of their last digits is the same.
        """
        start, columns = row - expr.look_back, fields(expr)
        moved = np.zeros(found.shape)
        for _ in range(BLURS):
            others = self._at_end(expr, blurred(cut(source, columns, start, row + 1), self._draw), short)
            moved = np.maximum(moved, gap(others, found))
        aligned = self._at_end(expr, blank(cut(source, columns, 0, row + 1), start), short)
        return (gap(found, expected) <= AMPLIFIED * moved) | close(aligned, expected)

    def other_instruments(self, rows: Sequence[int]) -> Comparison:
        """An instrument's values are its own; for formulas that no operator by date is part of."""
        claim = "all values to t of an instrument in each tile of 64, bit for bit, when all others are made up"
        tally = Tally("other_instruments", claim)
        for row in rows:
            panel = cut(self._panel, self._columns, 0, row + 1)
            values = self._values_until(row)
            kept = np.zeros(panel.first_row.shape, np.bool_)
            for tile, known in enumerate(np.any(np.isfinite(values), axis=1)):
                if known.any():
                    kept[tile, self._draw.choice(np.flatnonzero(known))] = True
            make_up(panel, _every_row(~kept, panel), self._draw)
            tally.exactly(row, _lanes(self._values(self._expr, panel), kept), _lanes(values, kept))
        return tally.comparison(self._panel)

    def non_members(self, rows: Sequence[int]) -> Comparison:
        """Who never belonged to the universe does not matter to those who did."""
        claim = "all values to t of members, bit for bit, when who never belonged by then, and 64 more, are made up"
        tally = Tally("non_members", claim)
        for row in rows:
            panel = cut(self._panel, self._columns, 0, row + 1, tiles=1)
            members: Mask = np.any(panel.universe >= 0, axis=1)
            make_up(panel, _every_row(~members, panel), self._draw, members=False)
            found = _lanes(self._values(self._expr, panel), members)
            tally.exactly(row, found, _lanes(self._values_until(row), members[:-1]))
        return tally.comparison(self._panel)

    def label_lag(self, rows: Sequence[int]) -> Comparison:
        """The label of t is the return from the close of t+1 to the close of t+2, and of no other bar.

        Where what was bought must settle it ends at the first close that it may be sold at.
        """
        end = "t+2" if not self._panel.settlement else "t+2, or the first once it may be sold,"
        claim = f"IC and rank IC of the return from close t+1 to close {end} are 1, below {UNRELATED} a bar off"
        tally = Tally("label_lag", claim)
        for row in rows:
            start, ends = max(row - LABEL_ROWS, 0), _ends(self._panel)[: row + LABEL_ROWS - 1]
            panel = cut(self._panel, ("close",), start, max(row + 1 + LABEL_ROWS, int(ends[-1]) + 1))
            signal, ends = np.arange(panel.shape[1]), _ends(panel)
            spans = (signal + 1, ends), (signal, signal + 1), (ends, ends + 1)
            declared, *off = (_ic_of_return(panel, *span) for span in spans)
            tally.cells += declared.size
            tally.worst = max(tally.worst, np.abs(declared - 1).max(initial=0.0))
            if tally.worst > TOLERANCE or any(np.mean(ic) >= UNRELATED for ic in off if ic.size):
                tally.refuted.append(row)
        return tally.comparison(self._panel)


def _parts(expr: Expr) -> tuple[dict[Expr, Expr], dict[Call, Field]]:
    """The formula and what its fading operators average, each with those as columns; and these columns."""
    parts: dict[Expr, Expr] = {}
    fading: dict[Call, Field] = {}
    stack = [expr]
    while stack:
        part = stack.pop()
        found: dict[Call, Field] = {}
        parts[part] = _windowed(part, found)
        fading |= found
        stack.extend(arg for call in found for arg in series(call) if isinstance(arg, Call) and arg not in parts)
    return parts, fading


def _windowed(node: Expr, fading: dict[Call, Field]) -> Expr:
    if not isinstance(node, Call):
        return node
    if node.op.look_back is LookBack.FADING:
        return fading.setdefault(node, Field(str(node)))
    return Call(node.op, tuple(_windowed(arg, fading) for arg in node.args))


def _ends(panel: Panel) -> Rows:
    """Row of the first close at which what is bought at that of t+1 may be sold, ``[rows]``, none where it is beyond.

    Told from the calendar anew, as labels are what is tried.
    """
    _, day = np.unique(panel.dates.astype("datetime64[D]"), return_inverse=True)
    bought = np.append(day[1:], day[-1:])
    settled = np.searchsorted(day, bought + panel.settlement)
    return np.maximum(settled, np.arange(2, len(day) + 2))


def _ic_of_return(panel: Panel, begin: Rows, end: Rows) -> Values:
    """IC and rank IC by bar, with its label, of the return from the close of ``begin[t]`` to that of ``end[t]``."""
    labels = ranked_labels(panel, {1: forward_return(panel, 1)})
    close, factor = panel.fields["close"], np.full(panel.shape, np.nan)
    inside = end < panel.shape[1]
    with np.errstate(all="ignore"):
        factor[:, inside] = close[:, end[inside]] / close[:, begin[inside]] - 1.0
    daily = daily_metrics(factor, labels, panel)
    both: Values = np.concatenate([daily.ic[0], daily.rank_ic[0]])
    return both[np.isfinite(both)]


def _every_row(lanes: Mask, panel: Panel) -> Mask:
    return np.broadcast_to(lanes[:, None, :], panel.shape)


def _lanes(values: Values, lanes: Mask) -> Values:
    """``[n, rows]`` of the lanes ``[tiles, 64]`` that are set."""
    return values.transpose(0, 2, 1)[lanes]
