"""The zoo: known alphas, and how like them a formula is.

Similarity s(f, g) is the size in nodes of the largest common isomorphic subtree of two canonical forms, and S(f) the
largest over the zoo (Tang et al. 2025, arXiv 2502.16789, section 4.2). Of two chains, sums for example, whose parts
have no order, the parts that both hold are a common subtree as well: ``a + c`` of ``a + b + c`` and ``a + c + d``.
*Exact* similarity compares canonical forms, *parametric* similarity their patterns, in which all numbers are alike.

An index by sub-expression gives s against every alpha at once; :func:`shared` gives it for a pair.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from factors.alphas import Alpha
from factors.canonical import canonicalised, pattern, ranking
from factors.chains import NEGATIVE, WILDCARD, chain, is_chain, parts
from factors.expression import Call, Expr, distinct
from factors.operators import Operator

NEAREST = 5

Sizes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Match:
    """What a formula shares with a known alpha.

    Attributes:
        alpha: the alpha's name.
        nodes: size of the largest common subtree of the two.
        share: ``nodes`` over the size of the smaller canonical form, in [0, 1].
        subtree: that part as the formula writes it, else in canonical form.
    """

    alpha: str
    nodes: int
    share: float
    subtree: str


@dataclass(frozen=True, slots=True)
class Likeness:
    """How like the known alphas a formula is.

    Attributes:
        size: nodes of its canonical form.
        known_as: the name of what ranks as it does: a tried formula, or an alpha of whatever numbers.
        exact: the nearest alphas by exact similarity, the most alike first.
        parametric: the same by parametric similarity.
    """

    size: int
    known_as: str | None
    exact: tuple[Match, ...]
    parametric: tuple[Match, ...]

    @property
    def nodes(self) -> int:
        """S(f), exact."""
        return self.exact[0].nodes if self.exact else 0

    @property
    def parametric_nodes(self) -> int:
        """S(f), parametric; never less than the exact one."""
        return self.parametric[0].nodes if self.parametric else 0


class Zoo:
    """Known alphas; ``parent`` is a zoo whose alphas are known too, and which may be shared."""

    def __init__(self, alphas: Iterable[Alpha] = (), parent: "Zoo | None" = None) -> None:
        self._parent = parent
        self._exact, self._parametric = _Index(), _Index()
        self._rankings: dict[Expr, str] = {}
        self._tried: dict[Expr, str] = {}
        for alpha in alphas:
            self.add(alpha.name, alpha.expr)

    def add(self, name: str, expr: Expr) -> None:
        """Make an alpha known."""
        known, patterns = canonicalised(expr), dict[Expr, Expr]()
        self._exact.add(name, _Anatomy.of(known.form))
        self._parametric.add(name, _Anatomy.of(pattern(known.form, patterns)))
        self._rankings.setdefault(pattern(known.ranking, patterns), name)

    def add_tried(self, name: str, expr: Expr) -> None:
        """Make a formula known as tried: to try it again is a duplicate, other numbers and its parts stay free."""
        self._tried.setdefault(ranking(expr), name)

    def likeness(self, expr: Expr) -> Likeness:
        """How like the known alphas a formula is."""
        own, patterns = canonicalised(expr), dict[Expr, Expr]()
        form = pattern(own.form, patterns)
        written = {pattern(part, patterns): original for part, original in own.origins.items()}
        return Likeness(
            size=own.form.size,
            known_as=self._known_as(own.ranking, pattern(own.ranking, patterns)),
            exact=tuple(self._nearest(_Anatomy.of(own.form), own.origins, lambda zoo: zoo._exact)),  # noqa: SLF001
            parametric=tuple(self._nearest(_Anatomy.of(form), written, lambda zoo: zoo._parametric)),  # noqa: SLF001
        )

    def _known_as(self, order: Expr, shape: Expr) -> str | None:
        found = self._tried.get(order) or self._rankings.get(shape)
        if found is not None or self._parent is None:
            return found
        return self._parent._known_as(order, shape)  # noqa: SLF001 - another of this class

    def _nearest(self, own: "_Anatomy", written: dict[Expr, Expr], index: "Callable[[Zoo], _Index]") -> Iterator[Match]:
        found: list[tuple[int, str, _Anatomy]] = []
        zoo: Zoo | None = self
        while zoo is not None:
            found += index(zoo).nearest(own, NEAREST)
            zoo = zoo._parent  # noqa: SLF001 - another of this class
        found.sort(key=lambda one: -one[0])
        for nodes, name, other in found[:NEAREST]:
            subtree = _common(own, other)[1]
            text = str(_as_written(subtree, written)).replace(str(NEGATIVE), "-?").replace(str(WILDCARD), "?")
            yield Match(name, nodes, nodes / min(own.form.size, other.form.size), text)


@dataclass(frozen=True, slots=True)
class _Anatomy:
    """A canonical form or a pattern, its distinct nodes, and its chains with their parts counted."""

    form: Expr
    nodes: frozenset[Expr]
    chains: tuple[tuple[Operator, Counter[Expr]], ...]

    @classmethod
    def of(cls, form: Expr) -> "_Anatomy":
        nodes = distinct(form)
        # A chain that begins a longer one at its place is a part of that one.
        tops = {form: None} if is_chain(form) else {}
        for node in nodes:
            for place, child in enumerate(node.children):
                if is_chain(child) and not (place == 0 and isinstance(child, Call) and is_chain(node, child.op)):
                    tops[child] = None
        chains = tuple((node.op, Counter(parts(node))) for node in tops if isinstance(node, Call))
        return cls(form, frozenset(nodes), chains)


class _Index:
    """Which alphas hold a sub-expression, and which chains a part."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._alphas: list[_Anatomy] = []
        self._holders: defaultdict[Expr, array[int]] = defaultdict(_numbers)
        self._chains: defaultdict[tuple[Operator, Expr, int], array[int]] = defaultdict(_numbers)
        self._owners = _numbers()

    def add(self, name: str, alpha: _Anatomy) -> None:
        """Make a form known."""
        number = len(self.names)
        self.names.append(name)
        self._alphas.append(alpha)
        for node in alpha.nodes:
            self._holders[node].append(number)
        for op, counted in alpha.chains:
            for part, times in counted.items():
                for nth in range(times):
                    self._chains[op, part, nth].append(len(self._owners))
            self._owners.append(number)

    def nearest(self, own: _Anatomy, count: int) -> list[tuple[int, str, _Anatomy]]:
        """Size of the largest common subtree, name and form of the most alike, the first added first among equals."""
        sizes = self.sizes(own)
        if not sizes.any():
            return []
        at_least = np.cumsum(np.bincount(sizes)[::-1])[::-1]  # how many are as large
        least = max(int(np.flatnonzero(at_least >= min(count, at_least[1]))[-1]), 1)
        large = np.flatnonzero(sizes >= least)
        ordered = large[np.argsort(-sizes[large], kind="stable")][:count]
        return [(int(sizes[k]), self.names[k], self._alphas[k]) for k in ordered]

    def sizes(self, own: _Anatomy) -> Sizes:
        """``[alphas]`` size of the largest subtree that each has in common with the form."""
        sizes = np.zeros(len(self.names), np.int64)
        for node in own.nodes:
            if node in self._holders:
                holders = np.frombuffer(self._holders[node], np.int64)
                sizes[holders] = np.maximum(sizes[holders], node.size)
        for op, counted in own.chains:
            common = np.zeros(len(self._owners), np.int64)
            for part, times in counted.items():
                for nth in range(times):
                    if (op, part, nth) in self._chains:
                        common[np.frombuffer(self._chains[op, part, nth], np.int64)] += part.size + 1
            some = np.flatnonzero(common)
            np.maximum.at(sizes, np.frombuffer(self._owners, np.int64)[some], common[some] - 1)
        return sizes


def shared(form: Expr, other: Expr) -> tuple[int, Expr | None]:
    """s(f, g) of two canonical forms or two patterns, and the common subtree; the method by pairs."""
    return _common(_Anatomy.of(form), _Anatomy.of(other))


def _common(own: _Anatomy, other: _Anatomy) -> tuple[int, Expr | None]:
    best = max(own.nodes & other.nodes, key=lambda node: (node.size, str(node)), default=None)
    nodes = best.size if best else 0
    for op, counted in own.chains:
        for other_op, other_counted in other.chains:
            common = counted & other_counted if op is other_op else Counter[Expr]()
            size = sum((part.size + 1) * times for part, times in common.items()) - 1
            if size > nodes:
                nodes, best = size, chain(op, list(common.elements()))
    return nodes, best


def recurrent(formulas: Iterable[Expr], count: int = 8, nodes: int = 4) -> list[Expr]:
    """The parts of at least so many nodes that more than one formula holds, those that take up most of them first.

    A part is left out where a larger one holds it each time.
    """
    held = Counter(node for formula in formulas for node in distinct(formula))
    common = [node for node, times in held.items() if times > 1 and node.size >= nodes]
    inner = {child for node in common for child in distinct(node)[:-1] if held[child] == held[node]}
    ranked = sorted((node for node in common if node not in inner), key=lambda node: -held[node] * node.size)
    return ranked[:count]


def _numbers() -> "array[int]":
    return array("q")


def _as_written(part: Expr | None, written: dict[Expr, Expr]) -> Expr | None:
    if part in written:
        return written[part]
    if isinstance(part, Call):
        return Call(part.op, tuple(_as_written(arg, written) or arg for arg in part.args))
    return part
