"""How a formula is cut into tasks, each of which computes one whole array."""

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass

from factors.expression import Call, Expr, distinct
from factors.operators import Kind, LookBack, ParameterKind

BY_DAY = frozenset({Kind.CROSS_SECTION, Kind.GROUP})


@dataclass(frozen=True, slots=True)
class Task:
    """The calls that lead to one whole array.

    Attributes:
        target: the node that is computed.
        calls: what is computed tile by tile, arguments first, ``target`` last; ``target`` alone where it is computed by
            day; nothing where it is at hand.
        inputs: the whole arrays that are read.
        ended: by call, the calls whose tiles nobody reads after it.
    """

    target: Expr
    calls: tuple[Call, ...]
    inputs: frozenset[Expr]
    ended: dict[Call, tuple[Call, ...]]

    @property
    def by_day(self) -> bool:
        """Whether the target is computed day by day rather than tile by tile."""
        return isinstance(self.target, Call) and self.target.op.kind in BY_DAY and bool(self.calls)


def series(call: Call) -> tuple[Expr, ...]:
    """The arguments that are series of values."""
    pairs = zip(call.op.parameters, call.args, strict=True)
    return tuple(arg for parameter, arg in pairs if parameter.kind is ParameterKind.SERIES)


def plan(root: Expr, known: Container[Expr], uses: Callable[[Expr], int]) -> list[Task]:
    """The tasks of a formula in order, the root's last.

    Args:
        root: the formula.
        known: sub-expressions whose whole arrays are at hand.
        uses: how often other formulas ask for a sub-expression.
    """
    calls = _unknown_calls(root, known)
    if not calls:
        return [Task(root, (), frozenset({root}), {})]
    users: dict[Expr, list[Call]] = {}
    for call in calls:
        for argument in series(call):
            users.setdefault(argument, []).append(call)
    whole: set[Expr] = set()
    task_of: dict[Expr, Expr] = {}
    for call in reversed(calls):
        above = users.get(call, [])
        readers = {task_of[user] for user in above}
        must = call is root or call.op.kind in BY_DAY or any(user.op.kind in BY_DAY for user in above)
        if must or len(readers) > 1 or (_is_costly(call) and uses(call) > max(map(uses, above))):
            whole.add(call)
            task_of[call] = call
        else:
            task_of[call] = readers.pop()
    return [_task([call for call in calls if task_of[call] is target]) for target in calls if target in whole]


def in_sharing_order(formulas: Iterable[Expr]) -> list[Expr]:
    """The formulas, each followed by the one that shares the most costly calls with it, the first of those that tie.

    What neighbours share is still at hand where the memo has room for a few arrays alone.
    """
    waiting = {formula: frozenset(filter(_is_costly, distinct(formula))) for formula in formulas}
    ordered, last = [], frozenset[Expr]()
    while waiting:
        formula = max(waiting, key=lambda other: len(waiting[other] & last))
        last = waiting.pop(formula)
        ordered.append(formula)
    return ordered


def _unknown_calls(root: Expr, known: Container[Expr]) -> list[Call]:
    """The calls to compute, arguments first."""
    needed: set[Expr] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, Call) and node not in known and node not in needed:
            needed.add(node)
            stack.extend(series(node))
    return [node for node in distinct(root) if isinstance(node, Call) and node in needed]


def _is_costly(node: Expr) -> bool:
    """Whether reading its values back is cheaper than computing them again."""
    if not isinstance(node, Call) or node.op.kind is Kind.ELEMENTWISE:
        return False
    return node.op.look_back is not LookBack.SHIFT


def _task(calls: list[Call]) -> Task:
    arguments = {argument for call in calls for argument in series(call)}
    last_use = {argument: call for call in calls for argument in series(call)}
    ended: dict[Call, tuple[Call, ...]] = {}
    for call in calls[:-1]:
        ended[last_use[call]] = (*ended.get(last_use[call], ()), call)
    return Task(calls[-1], tuple(calls), frozenset(arguments.difference(calls)), ended)
