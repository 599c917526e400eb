"""Researchers without hypotheses, to compare ours with: random trees, and plain genetic programming.

Both say the same sentence for every formula, vouch for all of them and rewrite none. Settings are textbook ones:

- ramped half and half for the first trees, see :mod:`benchmarks.random_grammar`;
- tournaments of 7 (Koza's later work; Poli, Langdon and McPhee 2008, A Field Guide to Genetic Programming);
- crossover nine times in ten (Koza 1992; gplearn's ``p_crossover=0.9``). Koza's tenth is reproduction, which here is a
  duplicate that the gate refuses: it goes to subtree and point mutation, half each, and instead no measured trial ever
  leaves the population;
- a call is nine times as likely to be cut at as a leaf (gplearn, after Koza 1992);
- subtree mutation is crossover with a random tree, point mutation changes each node with probability 0.05 to another of
  its kind (gplearn's ``p_point_replace=0.05``);
- no tree of more than 17 levels (Koza 1992).

The population that comes first is a fifth of 200 evaluations; gplearn's 1,000 and Koza's 500 would never be bred from.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from random import Random

from benchmarks.random_grammar import FITTING, Grammar, Slot, literal, slots, stands
from factors.errors import FormulaError
from factors.expression import Call, Expr, Number, call, is_sequence
from factors.hypothesis import Candidate, Feedback, Hypothesis
from factors.operators import LITERAL_KINDS, Operator, ParameterKind
from factors.parse import parse
from graphs.researcher import LAMBDA, Alignment, Brief, Draft, Idea, Trial

POPULATION = 40  #: random trees that are measured before any is bred from
TOURNAMENT = 7
CROSSOVER = 0.9
CUT_AT_CALL = 0.9
POINT_REPLACE = 0.05
MAX_LEVELS = 17

_SAYING = "a formula"
_Place = tuple[tuple[int, ...], Expr, Slot]
"""The positions of arguments on the way to a part, the part, and what may stand there."""


class RandomResearcher:
    """A :class:`graphs.researcher.Researcher` that draws each formula by itself, whatever was measured before."""

    name = "random"  #: what draws are seeded with

    @property
    def prompts(self) -> Mapping[str, str]:
        """None."""
        return {}

    def propose(self, _brief: Brief) -> Idea:
        """The same words always."""
        return Idea(statement=_SAYING, observation="", knowledge="", justification="", specification="", horizon_days=1)

    def draft(self, brief: Brief, _hypothesis: Hypothesis, count: int) -> list[Draft]:
        """So many formulas; those of one seed and round are the same whenever they are asked for."""
        draw = Random(f"{self.name}:{brief.seed}:{brief.round}")  # noqa: S311 - a search that repeats
        formulas = islice(self._formulas(brief, draw), count)
        return [Draft(name=_SAYING, description=_SAYING, formula=str(formula)) for formula in formulas]

    def revise(self, _brief: Brief, _hypothesis: Hypothesis, refused: list[Trial]) -> list[Draft | None]:
        """Nothing."""
        return [None for _ in refused]

    def judge(self, _hypothesis: Hypothesis, candidates: Sequence[tuple[Candidate, Expr]]) -> list[Alignment | None]:
        """Full agreement, as nothing is said."""
        full = Alignment(hypothesis_description=1, hypothesis_reason="", description_formula=1, formula_reason="")
        return [full for _ in candidates]

    def reflect(self, _brief: Brief, _hypothesis: Hypothesis, _trials: list[Trial]) -> Feedback:
        """Nothing is learnt from a round as a whole."""
        return Feedback(supported=False, lesson="", action="pivot")

    def _formulas(self, brief: Brief, draw: Random) -> Iterator[Expr]:
        return Grammar(brief.fields).formulas(draw)


class GeneticResearcher(RandomResearcher):
    """Random trees first, then children of the fittest by what our search breeds by, but for its penalty."""

    name = "genetic"

    def _formulas(self, brief: Brief, draw: Random) -> Iterator[Expr]:
        grammar = Grammar(brief.fields)
        measured = [(fitness(trial), trial.candidate.formula) for trial in brief.trials if trial.evaluation]
        if len(measured) < POPULATION:
            return grammar.formulas(draw)
        population = [(merit, parse(formula, brief.fields)) for merit, formula in measured]

        def parent() -> Expr:
            return max(draw.choices(population, k=TOURNAMENT), key=lambda one: one[0])[1]

        return children(parent, grammar, draw)


def fitness(trial: Trial) -> float:
    """What our search breeds by, without the penalty; the rounding keeps equal ones equal."""
    return round(trial.fitness + LAMBDA * trial.verdict.penalty, 12)


def children(parent: Callable[[], Expr], grammar: Grammar, draw: Random) -> Iterator[Expr]:
    """Legal formulas without end, each bred from selected parents and other than its first."""
    fresh = grammar.formulas(draw)
    while True:
        one, way = parent(), draw.random()
        try:
            if way < CROSSOVER:
                child = crossed(one, parent(), draw)
            elif way < (1 + CROSSOVER) / 2:
                child = crossed(one, next(fresh), draw)
            else:
                child = point_mutated(one, grammar, draw)
        except FormulaError:
            continue  # the change broke a rule of the language
        if child is not one and child.depth <= MAX_LEVELS and grammar.legal(child):
            yield child


def crossed(one: Expr, other: Expr, draw: Random) -> Expr:
    """``one`` with one of its subtrees replaced by one of the other's that may stand there.

    Raises:
        FormulaError: the other has none, or the language does not allow it.
    """
    path, _, slot = _cut(list(_places(one)), draw)
    parts = [place for place in _places(other) if stands(slot, place[1])]
    if not parts:
        raise FormulaError("no part of the other may stand there")
    return _planted(one, path, _cut(parts, draw)[1])


def point_mutated(expr: Expr, grammar: Grammar, draw: Random, slot: Slot = Slot.SERIES) -> Expr:
    """``expr`` with some of its nodes changed: an operator to one of like arguments, a leaf or literal to another.

    Raises:
        FormulaError: a new operator does not take its arguments.
    """
    change = draw.random() < POINT_REPLACE
    if not isinstance(expr, Call) or is_sequence(expr):
        return draw.choice(grammar.leaves(draw, slot)) if change else expr
    wanted, kinds = slots(expr.op), _kinds(expr.op)
    alike = [op for op in FITTING[slot] if slots(op) == wanted and _kinds(op) == kinds]
    op = draw.choice(alike) if change else expr.op
    args = []
    for parameter, arg, of_arg in zip(op.parameters, expr.args, wanted, strict=True):
        if of_arg:
            args.append(point_mutated(arg, grammar, draw, of_arg))
        elif parameter.kind in LITERAL_KINDS and draw.random() < POINT_REPLACE:
            args.append(Number(literal(parameter, draw)))
        else:
            args.append(arg)
    return call(op.name, *args)


def _kinds(op: Operator) -> list[ParameterKind]:
    return [parameter.kind for parameter in op.parameters]


def _cut(places: list[_Place], draw: Random) -> _Place:
    weights = [CUT_AT_CALL if isinstance(node, Call) else 1 - CUT_AT_CALL for _, node, _ in places]
    return draw.choices(places, weights)[0]


def _places(expr: Expr, path: tuple[int, ...] = (), slot: Slot = Slot.SERIES) -> Iterator[_Place]:
    """Every part that has a value by itself, as often as it is written."""
    if is_sequence(expr):
        return
    yield path, expr, slot
    if isinstance(expr, Call):
        for position, (arg, wanted) in enumerate(zip(expr.args, slots(expr.op), strict=True)):
            if wanted:
                yield from _places(arg, (*path, position), wanted)


def _planted(expr: Expr, path: tuple[int, ...], part: Expr) -> Expr:
    if not path or not isinstance(expr, Call):
        return part
    args = list(expr.args)
    args[path[0]] = _planted(args[path[0]], path[1:], part)
    return call(expr.op.name, *args)
