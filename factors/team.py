"""Team: a caller and its threads share out a piece of work; the kernels they run hold no lock."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

from factors.errors import EvaluationStoppedError

T = TypeVar("T")
RANGES = 4  # ranges of rows a thread, so that one that is held up does not hold up the rest


class Team:
    """Threads that take the items of a task one by one.

    Args:
        size: how many work, the caller among them; as many as the process may use cores where it is None.
        stop: asked before each item; once it is true, no item is begun.
    """

    def __init__(self, size: int | None = None, stop: Callable[[], bool] = lambda: False) -> None:
        self.size = size or _cores()
        self.stop = stop
        self._helpers = ThreadPoolExecutor(self.size - 1, "kernels") if self.size > 1 else None

    def each(self, work: Callable[[T], None], items: Iterable[T]) -> None:
        """Do the work for every item.

        Raises:
            EvaluationStoppedError: ``stop`` said so before the last item.
        """
        waiting = iter(list(items))
        helpers = self._helpers
        others = [helpers.submit(self._take, work, waiting) for _ in range(self.size - 1)] if helpers else []
        try:
            self._take(work, waiting)
        finally:
            for other in others:
                other.result()

    def days(self, work: Callable[[int, int], None], rows: int) -> None:
        """Do the work for ranges of rows that together are ``0`` to ``rows``."""
        cuts = [rows * k // (self.size * RANGES) for k in range(self.size * RANGES + 1)]
        self.each(lambda days: work(*days), pairwise(cuts) if self.size > 1 else [(0, rows)])

    def _take(self, work: Callable[[T], None], waiting: Iterator[T]) -> None:
        for item in waiting:
            if self.stop():
                raise EvaluationStoppedError("the evaluation was stopped")
            work(item)


def _cores() -> int:
    """How many cores the process may use, where the platform tells, else how many there are."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1
