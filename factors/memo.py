"""Arrays that are used again: a pool of those that are free, a memo of values that recur."""

import math
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable

import numpy as np

from factors.expression import Call, Expr, distinct
from factors.kernels.elementwise import Values

REMEMBERED = 10_000  # sub-expressions whose past uses are known


class Pool:
    """Free arrays of one shape; safe to share between threads.

    A fresh array costs a page fault every 4 KiB, often more than the kernel that fills it.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._free: deque[Values] = deque()

    def take(self) -> Values:
        """An array with anything in it."""
        try:
            return self._free.pop()
        except IndexError:
            return np.empty(self._shape)

    def give(self, array: Values) -> None:
        """Return an array that nobody reads any more."""
        self._free.append(array)


class Memo:
    """Arrays to compute in, and in those that nobody computes in, values that were or will be asked for again.

    There are as many arrays as fit in ``limit`` bytes, and more only where one formula needs more at once. Values stay
    until their array is needed: first goes what is not announced, and of that the least recently used.
    """

    def __init__(self, limit: int, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._room = limit // (np.dtype(np.float64).itemsize * math.prod(shape))
        self.clear()
        self._ahead: Counter[Expr] = Counter()
        self._behind: OrderedDict[Expr, int] = OrderedDict()

    def clear(self) -> None:
        """Forget all values and arrays, those lent as well."""
        self._made = 0
        self._free: list[Values] = []
        self._kept: OrderedDict[Expr, Values] = OrderedDict()

    def expect(self, formulas: Iterable[Expr]) -> None:
        """Announce formulas."""
        for formula in formulas:
            self._ahead.update(_calls(formula))

    def begin(self, formula: Expr) -> None:
        """Take note that a formula is computed now."""
        for node in _calls(formula):
            if self._ahead[node] > 1:
                self._ahead[node] -= 1
            else:
                del self._ahead[node]
            self._behind[node] = self._behind.pop(node, 0) + 1
        while len(self._behind) > REMEMBERED:
            self._behind.popitem(last=False)

    def uses(self, node: Expr) -> int:
        """How often a sub-expression came up before the current formula, or is announced to."""
        return self._ahead[node] + self._behind.get(node, 1) - 1

    def __contains__(self, node: object) -> bool:
        return node in self._kept

    def take(self, node: Expr) -> Values:
        """The values of a sub-expression, out of the memo until they are put back."""
        return self._kept.pop(node)

    def lend(self) -> Values:
        """An array with anything in it."""
        if self._free:
            return self._free.pop()
        if self._kept and self._made >= self._room:
            unannounced = (kept for kept in self._kept if not self._ahead[kept])
            return self._kept.pop(next(unannounced, next(iter(self._kept))))
        self._made += 1
        return np.empty(self._shape)

    def put(self, node: Expr, values: Values) -> None:
        """Return a lent array that holds a sub-expression; its values are kept if they recur."""
        if self.uses(node) and self._made <= self._room:
            self._kept[node] = values
        else:
            self.give(values)

    def give(self, array: Values) -> None:
        """Return a lent array whose values nobody wants."""
        self._free.append(array)


def _calls(formula: Expr) -> list[Expr]:
    return [node for node in distinct(formula) if isinstance(node, Call)]
