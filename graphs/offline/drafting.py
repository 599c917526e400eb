"""Drafting: formulas of a theme become candidates that are new, legal, small and about the hypothesis."""

from collections.abc import Iterator, Mapping
from random import Random

from factors.errors import FormulaError
from factors.expression import Call, Expr, Number, distinct, fields, walk
from factors.hypothesis import Candidate, Hypothesis
from factors.parse import parse
from graphs.offline.concepts import describe, named, overlap, windows
from graphs.offline.grammar import expand
from graphs.offline.themes import Theme
from graphs.researcher import Brief, Draft, Trial

MIN_SIZE = 3
MAX_SIZE = 40
KINSHIP = 0.6
_DRAWS = 20


def spoken(hypothesis: Hypothesis) -> set[str]:
    """Concepts that a hypothesis names where it says what it claims and how that is measured."""
    return named(f"{hypothesis.statement} {hypothesis.specification}")


def legible(formula: str, brief: Brief) -> Expr | None:
    """The expression of a formula that reads only the market's columns, else ``None``."""
    try:
        return parse(formula, brief.fields)
    except FormulaError:
        return None


def fresh(theme: Theme, brief: Brief, draw: Random, tries: int = _DRAWS) -> Iterator[Expr]:
    """Formulas from the theme's grammar that the market's columns allow, out of ``tries`` draws."""
    for _ in range(tries):
        expr = legible(expand(theme.grammar, draw), brief)
        if expr is not None:
            yield expr


def kin(trial: Trial, brief: Brief, hypothesis: Hypothesis) -> Expr | None:
    """The measured trial's expression if its formula is about the hypothesis, else ``None``."""
    expr = legible(trial.candidate.formula, brief) if trial.evaluation else None
    same = {earlier.id for earlier in brief.hypotheses if earlier.statement == hypothesis.statement}
    if expr is None or trial.candidate.hypothesis_id in {hypothesis.id, *same}:
        return expr
    concepts = spoken(hypothesis)
    return expr if overlap(describe(expr, sorted(concepts)), concepts) >= KINSHIP else None


def exceeds(expr: Expr, limits: Mapping[str, float]) -> bool:
    """True where the formula is above one of the gate's limits, given by the check's name; other names are ignored."""
    sizes = {
        "length": expr.size,
        "parameters": sum(isinstance(node, Number) for node in walk(expr)),
        "fields": len(fields(expr)),
        "depth": expr.depth,
        "look_back": expr.look_back,
    }
    return any(size > limits.get(name, size) for name, size in sizes.items())


def _idle(expr: Expr) -> bool:
    """True where a part compares or joins a series with itself; a square is the exception."""
    pairs = (node for node in distinct(expr) if isinstance(node, Call) and node.op.name != "MULTIPLY")
    return any(len(node.args) > 1 and node.args[0] is node.args[1] for node in pairs)


class Batch:
    """Drafts of one answer, none of them tried before, in the library, or twice in the batch."""

    def __init__(self, brief: Brief, theme: Theme, hypothesis: Hypothesis) -> None:
        self.drafts: list[Draft] = []
        self._brief = brief
        self._theme = theme
        self._spoken = spoken(hypothesis)
        self._formulas = {trial.candidate.formula for trial in brief.trials} | {
            known.formula for known in brief.library
        }
        self._names = {trial.candidate.name for trial in brief.trials}

    def offer(self, expr: Expr, parents: tuple[str, ...] = (), note: str = "") -> bool:
        """Add the formula as a draft if it belongs; ``note`` ends its description. True when it was added."""
        formula = str(expr)
        if not MIN_SIZE <= expr.size <= MAX_SIZE or _idle(expr) or formula in self._formulas:
            return False
        if legible(formula, self._brief) is not expr:
            return False
        description = f"{self._headline(expr)} {note}".strip()
        self._formulas.add(formula)
        self.drafts.append(Draft(name=self._name(expr), description=description, formula=formula, parents=parents))
        return True

    def about(self, expr: Expr) -> bool:
        """True where most of what the formula's description names is named by the hypothesis."""
        return overlap(self._headline(expr), self._spoken) >= KINSHIP

    def redescribed(self, candidate: Candidate, expr: Expr) -> Draft | None:
        """The same formula with a description made from it alone; ``None`` where it has that already."""
        description = describe(expr, [concept for concept in self._theme.concepts if concept in self._spoken])
        if description == candidate.description:
            return None
        return Draft(name=candidate.name, description=description, formula=candidate.formula, parents=candidate.parents)

    def _headline(self, expr: Expr) -> str:
        return f"{self._theme.title}. {describe(expr, self._theme.concepts)}"

    def _name(self, expr: Expr) -> str:
        days = "/".join(map(str, windows(expr)[:3]))
        stem = f"{self._theme.title} {days}d" if days else self._theme.title
        name, number = stem, 1
        while name in self._names:
            number += 1
            name = f"{stem} ({number})"
        self._names.add(name)
        return name
