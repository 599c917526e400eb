"""The zoo: known alphas, and how like them a formula is.

Similarity s(f, g) is the size in nodes of the largest common isomorphic subtree of two canonical forms, and S(f) the
largest over the zoo (Tang et al. 2025, arXiv 2502.16789, section 4.2). Of two chains, sums for example, whose parts
have no order, the parts that both hold are a common subtree as well: ``a + c`` of ``a + b + c`` and ``a + c + d``.
*Exact* similarity compares canonical forms. In *parametric* similarity two subtrees are isomorphic where their patterns
are one, all numbers being alike; the smaller counts, as one may have a factor that the other has not.

An index by sub-expression gives s against every alpha at once; :func:`similarity` gives it for a pair.
"""

import gc
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from factors.alphas import Alpha
from factors.canonical import Canonical, canonical, canonicalised, pattern, ranking
from factors.chains import chain, is_chain, order, parts
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
        share: ``nodes`` over the size of the smaller of the two, in [0, 1].
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
        same_as: the name of what ranks as it does, or the other way round; a known alpha or a tried formula.
        varied_from: the name of a known alpha of which that is true but for numbers.
        variation: the largest share of the formula that one of the nearest alphas has but for its numbers, in [0, 1].
        exact: the nearest alphas by exact similarity, the most alike first.
        parametric: the same by parametric similarity.
    """

    same_as: str | None
    varied_from: str | None
    variation: float
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
        self._exact, self._patterns = _Index(), _Index()
        self._rankings: dict[Expr, str] = {}
        self._variations: dict[Expr, str] = {}
        with _uncollected():
            for alpha in alphas:
                self.add(alpha.name, alpha.expr)

    def add(self, name: str, expr: Expr) -> None:
        """Make an alpha known."""
        form, ranked = canonical(expr), ranking(expr)
        exact, varied = _anatomies(form)
        self._exact.add(name, exact)
        self._patterns.add(name, varied)
        self._rankings.setdefault(ranked, name)
        self._variations.setdefault(pattern(ranked), name)

    def add_tried(self, name: str, expr: Expr) -> None:
        """Make a formula known as tried: to try it again is a duplicate, other numbers and its parts stay free."""
        self._rankings.setdefault(ranking(expr), name)

    def likeness(self, expr: Expr) -> Likeness:
        """How like the known alphas a formula is."""
        own = canonicalised(expr)
        form, shape = _anatomies(own.form)
        exact = self._nearest(form, lambda zoo: zoo._exact)  # noqa: SLF001 - another of this class
        varied = self._nearest(shape, lambda zoo: zoo._patterns)  # noqa: SLF001 - as above
        return Likeness(
            same_as=self._named(own.ranking, lambda zoo: zoo._rankings),  # noqa: SLF001 - as above
            varied_from=self._named(pattern(own.ranking), lambda zoo: zoo._variations),  # noqa: SLF001 - as above
            variation=max((common.part.size for _, common, _ in varied), default=0) / own.form.size,
            exact=tuple(_match(*found, own) for found in exact),
            parametric=tuple(_match(*found, own) for found in varied),
        )

    def _lineage(self) -> "Iterator[Zoo]":
        zoo: Zoo | None = self
        while zoo is not None:
            yield zoo
            zoo = zoo._parent  # noqa: SLF001 - another of this class

    def _named(self, ranked: Expr, names: "Callable[[Zoo], dict[Expr, str]]") -> str | None:
        return next((names(zoo)[ranked] for zoo in self._lineage() if ranked in names(zoo)), None)

    def _nearest(self, own: "_Anatomy", index: "Callable[[Zoo], _Index]") -> "list[tuple[str, _Common, Expr]]":
        """Names of the nearest alphas, what they have in common with the form, and their own forms."""
        found = [one for zoo in self._lineage() for one in index(zoo).nearest(own, NEAREST)]
        found.sort(key=lambda one: -one[0])
        return [(name, _common(own, other), other.form) for _, name, other in found[:NEAREST]]


def _match(name: str, common: "_Common", other: Expr, own: Canonical) -> Match:
    share = common.nodes / min(own.form.size, other.size)
    return Match(name, common.nodes, share, str(_as_written(common.part, own.origins)))


class _Common(NamedTuple):
    """Size of the largest subtree that two forms have in common, and the first one's."""

    nodes: int
    part: Expr


@dataclass(frozen=True, slots=True)
class _Anatomy:
    """A canonical form by the shapes of its parts: themselves, or their patterns.

    Attributes:
        form: the canonical form.
        nodes: by shape, its largest sub-expression of that shape.
        chains: of each, its operator and by shape its parts of that shape, the largest first.
    """

    form: Expr
    nodes: dict[Expr, Expr]
    chains: tuple[tuple[Operator, dict[Expr, list[Expr]]], ...]

    @property
    def outline(self) -> Hashable:
        """What forms have in common that are as like any other form as each other."""
        sizes = [part.size for part in self.nodes.values()]
        for _, found in self.chains:
            sizes += [part.size for alike in found.values() for part in alike]
        return next(reversed(self.nodes)), *sizes


def _anatomies(form: Expr) -> tuple[_Anatomy, _Anatomy]:
    """A canonical form by its parts themselves, and by their patterns."""
    nodes = distinct(form)
    patterns: dict[Expr, Expr] = {}
    # A chain that begins a longer one at its place is a part of that one.
    tops = {form: None} if is_chain(form) else {}
    for node in nodes:
        alike = pattern(node)
        if alike not in patterns or patterns[alike].size < node.size:
            patterns[alike] = node
        if isinstance(node, Call):
            for place, child in enumerate(node.args):
                if is_chain(child) and (place or not is_chain(node, child.op)):
                    tops[child] = None
    chains = [(node.op, sorted(parts(node), key=_larger_first)) for node in tops]
    return (
        _Anatomy(form, {node: node for node in nodes}, tuple((op, _grouped(held, held)) for op, held in chains)),
        _Anatomy(form, patterns, tuple((op, _grouped(map(pattern, held), held)) for op, held in chains)),
    )


def _larger_first(part: Expr) -> int:
    return -part.size


def _grouped(shapes: Iterable[Expr], held: list[Expr]) -> dict[Expr, list[Expr]]:
    groups: dict[Expr, list[Expr]] = {}
    for shape, part in zip(shapes, held, strict=True):
        groups.setdefault(shape, []).append(part)
    return groups


class _Index:
    """Which forms have a part of a shape, and of what size; forms of one outline are looked at together."""

    def __init__(self) -> None:
        self._names: defaultdict[Hashable, list[str]] = defaultdict(list)
        self._forms: list[tuple[_Anatomy, list[str]]] = []
        self._nodes: defaultdict[Expr, _Sized] = defaultdict(_Sized)
        self._chains: defaultdict[tuple[Operator, Expr, int], _Sized] = defaultdict(_Sized)
        self._owners = _numbers()

    def add(self, name: str, form: _Anatomy) -> None:
        """Make a form known."""
        names = self._names[form.outline]
        names.append(name)
        if len(names) > 1:
            return
        number = len(self._forms)
        self._forms.append((form, names))
        for shape, node in form.nodes.items():
            self._nodes[shape].add(number, node.size)
        for op, found in form.chains:
            for shape, alike in found.items():
                for nth, part in enumerate(alike):
                    self._chains[op, shape, nth].add(len(self._owners), part.size)
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
        found = ((int(sizes[k]), *self._forms[k]) for k in ordered)
        return [(size, name, form) for size, form, names in found for name in names[:count]][:count]

    def sizes(self, own: _Anatomy) -> Sizes:
        """``[forms]`` size of the largest subtree that each has in common with the form."""
        sizes = np.zeros(len(self._forms), np.int64)
        for shape, node in own.nodes.items():
            if shape in self._nodes:
                holders, common = self._nodes[shape].at_most(node.size)
                sizes[holders] = np.maximum(sizes[holders], common)
        for op, found in own.chains:
            total = np.zeros(len(self._owners), np.int64)
            for shape, alike in found.items():
                for nth, part in enumerate(alike):
                    if (op, shape, nth) in self._chains:
                        holders, common = self._chains[op, shape, nth].at_most(part.size)
                        total[holders] += common + 1
            some = np.flatnonzero(total)
            np.maximum.at(sizes, np.frombuffer(self._owners, np.int64)[some], total[some] - 1)
        return sizes


class _Sized:
    """Numbers and, of each, a size."""

    def __init__(self) -> None:
        self._numbers, self._sizes = _numbers(), _numbers()

    def add(self, number: int, size: int) -> None:
        """One more."""
        self._numbers.append(number)
        self._sizes.append(size)

    def at_most(self, size: int) -> tuple[Sizes, Sizes]:
        """The numbers, and their sizes where they are smaller than this one."""
        sizes = np.frombuffer(self._sizes, np.int64)
        return np.frombuffer(self._numbers, np.int64), np.minimum(sizes, size)


def similarity(form: Expr, other: Expr) -> int:
    """s(f, g) of two canonical forms, exact; the method by pairs."""
    return _common(_anatomies(form)[0], _anatomies(other)[0]).nodes


def parametric_similarity(form: Expr, other: Expr) -> int:
    """s(f, g) of two canonical forms where all numbers are alike; the method by pairs."""
    return _common(_anatomies(form)[1], _anatomies(other)[1]).nodes


def _common(own: _Anatomy, other: _Anatomy) -> _Common:
    best = _Common(0, own.form)
    both = [
        (min(node.size, other.nodes[shape].size), node) for shape, node in own.nodes.items() if shape in other.nodes
    ]
    if both:
        nodes = max(size for size, _ in both)
        best = _Common(nodes, min((node for size, node in both if size == nodes), key=str))
    for op, found in own.chains:
        for other_op, other_found in other.chains:
            if op is other_op:
                pairs = [
                    pair
                    for shape in found.keys() & other_found.keys()
                    for pair in zip(found[shape], other_found[shape], strict=False)
                ]
                nodes = sum(min(part.size, as_well.size) + 1 for part, as_well in pairs) - 1
                if nodes > best.nodes:
                    best = _Common(nodes, chain(op, sorted((part for part, _ in pairs), key=order)))
    return best


def recurrent(formulas: Iterable[Expr], count: int = 8, nodes: int = 4) -> list[Expr]:
    """The parts of at least so many nodes that more than one formula holds, those that take up most of them first.

    A part is left out where a larger one holds it each time.
    """
    held = Counter(node for formula in formulas for node in distinct(formula))
    common = [node for node, times in held.items() if times > 1 and node.size >= nodes]
    inner = {child for node in common for child in distinct(node)[:-1] if held[child] == held[node]}
    ranked = sorted((node for node in common if node not in inner), key=lambda node: -held[node] * node.size)
    return ranked[:count]


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without garbage collection, which would walk through all that a large zoo keeps, again and again as it grows."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _numbers() -> "array[int]":
    return array("q")


def _as_written(part: Expr, written: dict[Expr, Expr]) -> Expr:
    if part in written:
        return written[part]
    if isinstance(part, Call):
        return Call(part.op, tuple(_as_written(arg, written) for arg in part.args))
    return part
