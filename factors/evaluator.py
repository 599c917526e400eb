"""Formula in, values out.

How a formula is computed:

1. Its distinct sub-expressions are listed, arguments first; hash-consing has made equal ones one object.
2. It is cut into whole arrays, where all instruments must be known at once: the arguments and results of CROSS_SECTION
   and GROUP calls, and windows that several of these, or several formulas, read.
3. What leads to a whole array, ELEMENTWISE and TIME_SERIES calls, is computed tile by tile, every step of one tile
   while it is in cache.
4. CROSS_SECTION and GROUP calls are computed row by row among the universe's members or their sectors.
5. Tiles, and ranges of rows, are shared out to threads; the kernels hold no lock.
6. Arrays come from a memo bounded in bytes and return to it after their last use; there they keep their values until
   they are needed again.
7. The result is null where the instrument has no bar or fewer rows of history than the formula looks back.

An elementwise kernel is called with tiles ``[rows, 64]`` or floats, its literals and ``out``; a time-series kernel with
tiles, its literals and ``out``; a cross-sectional one with an array ``[tiles, rows, 64]``, the groups, its literals,
``out`` and a range of rows. Each leaves NaN, never an infinity, for null.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import date

import numpy as np
import polars as pl

from factors.expression import Call, Expr, Field, Number
from factors.kernels.elementwise import Values
from factors.kernels.history import hide_unseasoned
from factors.memo import Memo, Pool
from factors.operators import LITERAL_KINDS, Kind, ParameterKind
from factors.panel import Panel
from factors.parse import parse
from factors.plan import Task, in_sharing_order, plan, series
from factors.team import Team

MEMO_BYTES = 448 << 20


class Evaluator:
    """Computes formulas over one panel; for one caller at a time, who brings threads along.

    Args:
        panel: the market.
        threads: how many compute; as many as the process may use cores where it is None.
        memo_bytes: what arrays may take together, those computed in and the values kept in the others.
        stop: asked before each tile and range of rows; once it is true, the evaluation is given up.
    """

    def __init__(
        self,
        panel: Panel,
        threads: int | None = None,
        memo_bytes: int = MEMO_BYTES,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.panel = panel
        self.team = Team(threads, stop)
        self._tiles = Pool(panel.shape[1:])
        self._memo = Memo(memo_bytes, panel.shape)

    def expect(self, formulas: Iterable[Expr]) -> list[Expr]:
        """Announce formulas that will be asked for, so that what they share is computed once.

        Returns:
            The formulas in the order in which the memo serves them best.
        """
        ordered = in_sharing_order(formulas)
        self._memo.expect(ordered)
        return ordered

    @contextmanager
    def values(self, expr: Expr) -> Iterator[Values]:
        """Values of a formula, ``[tiles, rows, 64]``; null (NaN) without a bar or before its look-back is filled.

        Only rows up to a value's own are read, and for each instrument the market's own calendar counts the rows. The
        array is lent: another formula's values may be in it after the ``with`` block.

        Raises:
            EvaluationStoppedError: ``stop`` said so.
        """
        try:
            out = self._compute(expr)
        except BaseException:
            self._memo.clear()  # nobody knows any more which arrays were lent
            raise
        yield out
        self._memo.give(out)  # as a part of another formula it would not be null before its look-back

    def _compute(self, root: Expr) -> Values:
        self._memo.begin(root)
        tasks = plan(root, self._memo, self._memo.uses)
        left = Counter(node for task in tasks for node in task.inputs)
        arrays = {node: self._memo.take(node) for node in left if node in self._memo}
        for task in tasks:
            target = self._target(task, arrays, left)
            if task.by_day:
                self._by_day(task, arrays, target)
            elif task.calls:
                self._by_tile(task, arrays, target, season=task.target is root)
            else:
                target[:] = self._array(root, arrays)
            left.subtract(task.inputs)
            for node in task.inputs:
                if not left[node] and node in arrays:
                    ended = arrays.pop(node)
                    if ended is not target:
                        self._memo.put(node, ended)
            arrays[task.target] = target
        if tasks[-1].by_day or not tasks[-1].calls:
            self.team.each(lambda tile: self._season(root, arrays[root], tile), range(self.panel.shape[0]))
        return arrays[root]

    def _season(self, root: Expr, out: Values, tile: int) -> None:
        hide_unseasoned(out[tile], self.panel.bar[tile], self.panel.first_row[tile], root.look_back)

    def _target(self, task: Task, arrays: dict[Expr, Values], left: Counter[Expr]) -> Values:
        """An array for a task's result: an input's that nobody needs any more, or another one."""
        for node in task.inputs if task.calls else ():
            if node in arrays and left[node] == 1 and not self._memo.uses(node):
                return arrays[node]
        return self._memo.lend()

    def _by_day(self, task: Task, arrays: dict[Expr, Values], target: Values) -> None:
        call = task.calls[0]
        x = series(call)[0]
        values = np.full(target.shape, x.value) if isinstance(x, Number) else self._array(x, arrays)
        groups = self.panel.universe if call.op.kind is Kind.CROSS_SECTION else self.panel.sectors
        literals = _literals(call)
        self.team.days(
            lambda start, stop: call.op.kernel(values, groups, *literals, target, start, stop), self.panel.shape[1]
        )

    def _by_tile(self, task: Task, arrays: dict[Expr, Values], target: Values, *, season: bool) -> None:
        # Elementwise kernels look at a cell before they write it, windows look back at what they would have written.
        aside = task.calls[-1].op.kind is Kind.TIME_SERIES and any(arrays.get(node) is target for node in task.inputs)

        def compute(tile: int) -> None:
            tiles: dict[Expr, Values] = {}
            for call in task.calls:
                out = target[tile] if call is task.target and not aside else self._tiles.take()
                operands = [
                    tiles[node] if node in tiles else self._operand(node, call, arrays, tile) for node in series(call)
                ]
                call.op.kernel(*operands, *_literals(call), out)
                tiles[call] = out
                for ended in task.ended.get(call, ()):
                    self._tiles.give(tiles.pop(ended))
            if aside:
                target[tile] = out
                self._tiles.give(out)
            if season:
                self._season(task.target, target, tile)

        self.team.each(compute, range(len(target)))

    def _operand(self, node: Expr, call: Call, arrays: dict[Expr, Values], tile: int) -> Values | float:
        if isinstance(node, Number):
            return node.value if call.op.kind is Kind.ELEMENTWISE else np.full(self.panel.shape[1:], node.value)
        values: Values = self._array(node, arrays)[tile]
        return values

    def _array(self, node: Expr, arrays: dict[Expr, Values]) -> Values:
        return self.panel.fields[node.name] if isinstance(node, Field) else arrays[node]


def evaluate(expr: Expr, panel: Panel) -> Values:
    """Values of one formula as :meth:`Evaluator.values` gives them, in an array of their own."""
    with Evaluator(panel, threads=1, memo_bytes=0).values(expr) as values:
        return values


def evaluate_frame(formula: str, bars: pl.DataFrame) -> pl.DataFrame:
    """Values of a formula as ``(date, symbol, value)``, one row a bar.

    Args:
        formula: text of the factor language.
        bars: as in :meth:`Panel.from_bars`.

    Raises:
        FormulaError: the text is not a formula over the frame's columns.
    """
    panel = Panel.from_bars(bars, date.max)
    return panel.frame(evaluate(parse(formula, tuple(panel.fields)), panel))


def _literals(call: Call) -> list[int | float]:
    return [
        arg.value if parameter.kind is ParameterKind.NUMBER else int(arg.value)
        for parameter, arg in zip(call.op.parameters, call.args, strict=True)
        if isinstance(arg, Number) and parameter.kind in LITERAL_KINDS
    ]
