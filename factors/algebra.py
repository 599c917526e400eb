"""Arithmetic that puts equal parts together: sums, products, powers, logarithms, extremes, each a factor and its rest.

Like terms of a sum are added and like factors of a product multiplied, so ``f + f - f``, ``f * f / f`` for a positive
f and ``MAX(f, f)`` are ``f``. The largest factor of a sum's terms leaves it: ``2 * a - 2 * b`` is ``2 * (a - b)``. What
an operator of the language stands for is that operator: ``x - DELAY(x, d)`` is ``DELTA(x, d)``,
``(x - TS_MEAN(x, d)) / TS_STD(x, d)`` is ``TS_ZSCORE(x, d)``.

Nothing is put together that would have a value where it had none, see :mod:`factors.canonical`. Rankings are made of
this; similarity is not, as parts that are equal at one window are not at another.
"""

import math
from collections import defaultdict

from factors.arithmetic import number_power
from factors.chains import (
    ADD,
    MULTIPLY,
    ONE,
    Scaled,
    bounded,
    chain,
    is_chain,
    multiplied,
    order,
    orientation,
    parts,
    split,
    term_order,
    written,
)
from factors.expression import Call, Expr, Number
from factors.operators import OPERATORS, Operator
from factors.positivity import is_positive

_ABS, _INV, _LOG, _LOG1P, _POW, _SQRT = map(OPERATORS.__getitem__, ("ABS", "INV", "LOG", "LOG1P", "POW", "SQRT"))
_EXP, _DELAY, _DELTA, _CHANGE = map(OPERATORS.__getitem__, ("EXP", "DELAY", "DELTA", "TS_PCTCHANGE"))
_LESS = {
    OPERATORS[level]: OPERATORS[change]
    for level, change in (("DELAY", "DELTA"), ("MEAN", "DEMEAN"), ("GROUP_MEAN", "GROUP_NEUTRALIZE"))
}  # what is left of x without its level
_LEVELS = {change: level for level, change in _LESS.items()}
_MAX, _MIN = OPERATORS["MAX"], OPERATORS["MIN"]
_SCORES = {
    OPERATORS[score]: (OPERATORS[mean], OPERATORS[deviation])
    for score, mean, deviation in (("TS_ZSCORE", "TS_MEAN", "TS_STD"), ("ZSCORE", "MEAN", "STD"))
}
_DEVIATIONS = {deviation: score for score, (_, deviation) in _SCORES.items()}
_ZERO = Number(0)
_WRITTEN_OUT = 64  # nodes of the largest change that is written out, as each doubles what it is of
_NOTHING = 1e-9  # what is left of numbers that cancel, relative to them

Weights = dict[Expr, float]  #: factor by term of a sum, or power by factor of a product


def sum_of(*given: Scaled) -> Scaled:
    """Like terms together, by their order and turned to their orientation; a constant comes last."""
    found: defaultdict[Expr, list[float]] = defaultdict(list)
    for factor, rest in given:
        for own, core in map(split, parts(rest, ADD)):
            _write_out(multiplied(factor, own), core, found)
    terms = {core: total for core, weights in found.items() if (total := _total(weights))}
    constant = terms.pop(ONE, 0.0)
    _fold_changes(terms)
    if not terms:
        return constant, ONE
    if len(terms) == 1 and not constant:
        [(core, factor)] = terms.items()
        return factor, core
    scale = max(map(abs, terms.values()))
    kept = [(bounded(factor / scale), core) for core, factor in terms.items()]
    turn = orientation(kept)
    ordered = sorted(((turn * factor, core) for factor, core in kept), key=term_order)
    constants = [written((turn * constant / scale, ONE))] if constant else []
    return turn * scale, chain(ADD, [*map(written, ordered), *constants])


def _write_out(weight: float, core: Expr, found: defaultdict[Expr, list[float]]) -> None:
    """Add a term, a change as what it is the difference of."""
    if isinstance(core, Call) and core.op in _LEVELS and core.size <= _WRITTEN_OUT:
        for own, part in map(split, parts(core.args[0], ADD)):
            _write_out(multiplied(weight, own), part, found)
        found[Call(_LEVELS[core.op], core.args)].append(-weight)
    else:
        found[core].append(weight)


def _total(weights: list[float]) -> float:
    if len(weights) == 1:
        return weights[0]
    total = bounded(sum(sorted(weights)))
    return total if abs(total) > _NOTHING * max(map(abs, weights)) else 0.0


def _fold_changes(terms: Weights) -> None:
    """Write x less its levels as changes where they weigh as much as it does, x a sum or not."""
    levels: defaultdict[Expr, list[Call]] = defaultdict(list)
    for core in terms:
        if isinstance(core, Call) and core.op in _LESS:
            levels[core.args[0]].append(core)
    for inner in sorted(levels, key=order, reverse=True):
        found = levels[inner]
        held = [level for level in found if level in terms]  # what is a level may have been an x before
        weight = -_total([0.0, *(terms[level] for level in held)])
        shares = [(part, multiplied(weight, own)) for own, part in map(split, parts(inner, ADD))]
        if held and all(math.isclose(terms.get(part, 0.0), share, rel_tol=_NOTHING) for part, share in shares):
            for part, _ in shares:
                terms.pop(part, None)
            for level in held:
                change = Call(_LESS[level.op], level.args)
                terms[change] = terms.get(change, 0.0) - terms.pop(level)
    for core in [core for core, weight in terms.items() if not weight]:
        del terms[core]


def product_of(*given: Scaled) -> Scaled:
    """Like factors together, by their order, where that takes no null away."""
    number, found = 1.0, defaultdict[Expr, list[float]](list)
    for factor, rest in given:
        own, weights = factors_of(rest) if rest is not ONE else (1.0, {})
        number = multiplied(number, factor, own)
        for base, power in weights.items():
            found[base].append(power)
    powers: defaultdict[Expr, float] = defaultdict(float)
    for base, its in found.items():
        if len(its) == 1 or is_positive(base) or all(power > 0 and power.is_integer() for power in its):
            powers[base] += sum(its)
        else:
            for power in its:
                powers[_raised(base, power)] += 1
    return _product(number, powers) if number else (0.0, ONE)


def factors_of(rest: Expr) -> tuple[float, Weights]:
    """A number and the powers of all that a product consists of, scores and relative changes written out."""
    if not isinstance(rest, Call):
        return 1.0, {rest: 1.0} if rest is not ONE else {}
    number, powers = 1.0, defaultdict[Expr, float](float)
    for part in parts(rest, MULTIPLY):
        base, power = _as_power(part)
        sign, quotient = _quotient(base) if power.is_integer() else (1.0, {base: 1.0})
        number *= sign**power
        for one, own in quotient.items():
            powers[one] += own * power
    return number, powers


def _quotient(base: Expr) -> tuple[float, Weights]:
    """A sign and the powers of what a score, a relative change or a growth is a quotient of; else of itself."""
    if not isinstance(base, Call):
        return 1.0, {base: 1.0}
    inner = base.args[0] if base.op is ADD and base.args[1] is ONE else base
    if base.op in _SCORES:
        turn, deviation = _deviation(base)
        if abs(turn) == 1:
            return turn, {deviation: 1.0, Call(_SCORES[base.op][1], base.args): -1.0}
    elif isinstance(inner, Call) and inner.op is _CHANGE:
        change: Weights = {Call(_DELTA, inner.args): 1.0}
        above = change if inner is base else factors_of(inner.args[0])[1]
        return 1.0, {**above, Call(_DELAY, inner.args): -1.0}
    return 1.0, {base: 1.0}


def _deviation(score: Call) -> Scaled:
    """What a score is a multiple of: x less its mean."""
    return sum_of(split(score.args[0]), (-1.0, Call(_SCORES[score.op][0], score.args)))


def _product(number: float, powers: Weights) -> Scaled:
    """What :func:`factors_of` wrote out, by its order."""
    kept = {base: power for base, power in powers.items() if power}
    if _ZERO in kept:
        return (0.0, ONE) if kept[_ZERO] > 0 else (number, Call(_INV, (_ZERO,)))
    for base in sorted(kept, key=order):
        if base not in kept or not isinstance(base, Call) or not kept[base].is_integer():
            continue
        power = kept[base]
        if base.op in _DEVIATIONS:
            score = Call(_DEVIATIONS[base.op], base.args)
            sign, deviation = _deviation(score)
            number *= sign**power if _fold(kept, base, {deviation: 1.0}, score) else 1.0
        elif base.op is _DELAY:
            change = Call(_CHANGE, base.args)
            if not _fold(kept, base, {Call(_DELTA, base.args): 1.0}, change):
                _fold(kept, base, factors_of(base.args[0])[1], chain(ADD, [change, ONE]))
    factors = [_raised(base, power) for base, power in kept.items()]
    return number, chain(MULTIPLY, sorted(factors, key=order)) if factors else ONE


def _fold(powers: Weights, divisor: Expr, dividend: Weights, quotient: Expr) -> bool:
    """Write a quotient as one where its parts have one power."""
    power = -powers[divisor]
    if any(powers.get(part) != own * power for part, own in dividend.items()) or not dividend:
        return False
    for part in (*dividend, divisor):
        del powers[part]
    powers[quotient] = powers.get(quotient, 0.0) + power
    return True


def _as_power(part: Expr) -> tuple[Expr, float]:
    if isinstance(part, Call):
        if part.op is _INV:
            return part.args[0], -1.0
        if part.op is _SQRT:
            return part.args[0], 0.5
        if part.op is _POW and isinstance(part.args[1], Number):
            return part.args[0], part.args[1].value
    return part, 1.0


def _raised(base: Expr, power: float) -> Expr:
    plain = {1.0: None, -1.0: _INV, 0.5: _SQRT}
    if power not in plain:
        return Call(_POW, (base, written((power, ONE))))
    op = plain[power]
    return Call(op, (base,)) if op else base


def power_of(base: Scaled, exponent: Scaled) -> Scaled:
    """A power, out of which a number comes where the exponent is literal and its own power is a number."""
    (factor, rest), (power, literal) = base, exponent
    if literal is not ONE:
        return 1.0, Call(_POW, (written(base), written(exponent)))
    if not factor:
        return _product(1.0, {_ZERO: power})
    number = number_power(factor, power) if factor > 0 or power.is_integer() else 0.0
    if not number:
        return 1.0, _raised(written(base), power)
    own, powers = factors_of(rest)
    if not _distributes(powers, power):
        return number, _raised(rest, power)
    if own != 1:
        number *= own**power
    return product_of((number, ONE), *(_power_power(one, its, power) for one, its in powers.items()))


def _distributes(powers: Weights, power: float) -> bool:
    """Whether the power of a product is that of its factors, with the same nulls."""
    if power.is_integer():
        return all(its.is_integer() or is_positive(one) for one, its in powers.items())
    return len(powers) <= 1 and all(its % 2 == 0 or is_positive(one) for one, its in powers.items())


def _power_power(base: Expr, its: float, power: float) -> Scaled:
    """``base`` to the power of both."""
    both = its * power
    if its % 2 == 0 and not power.is_integer():
        return 1.0, _raised(Call(_ABS, (base,)), both)
    if is_chain(base, MULTIPLY) and both.is_integer():
        return power_of((1.0, base), (both, ONE))
    return (1.0, _raised(base, both)) if both else (1.0, ONE)


def signed_power_of(base: Scaled, exponent: Scaled) -> Scaled:
    """``SIGNEDPOWER``: a sign, and a number's literal power, leave it."""
    (factor, rest), (power, literal) = base, exponent
    if literal is ONE and power == 1:
        return base
    op = OPERATORS["SIGNEDPOWER"]
    size = number_power(abs(factor), power) if literal is ONE and rest is not ONE and factor else 0.0
    if not size:
        return 1.0, Call(op, (written(base), written(exponent)))
    return math.copysign(size, factor), Call(op, (rest, written(exponent)))


def log_of(scaled: Scaled) -> Scaled:
    """The logarithm of a positive product is a sum, and that of a delayed value a delayed logarithm."""
    factor, rest = scaled
    number, powers = factors_of(rest)
    powers = {Call(_ABS, (base,)) if power % 2 == 0 else base: power for base, power in powers.items()}
    whole = list(powers.values()) == [1.0] or all(map(is_positive, powers))
    if factor * number <= 0 or not whole:
        return 1.0, Call(_LOG, (written(scaled),))
    return sum_of((math.log(factor * number), ONE), *(_power_log(base, power) for base, power in powers.items()))


def _power_log(base: Expr, power: float) -> Scaled:
    if isinstance(base, Call) and base.op is _EXP:
        own, inner = split(base.args[0])
        return multiplied(power, own), inner
    if isinstance(base, Call) and base.op is _DELAY:
        own, inner = log_of(split(base.args[0]))
        return multiplied(power, own), Call(_DELAY, (inner, base.args[1]))
    if is_chain(base, MULTIPLY):
        own, inner = log_of((1.0, base))
        return multiplied(power, own), inner
    *terms, last = parts(base, ADD)
    return power, Call(_LOG1P, (chain(ADD, terms),)) if terms and last is ONE else Call(_LOG, (base,))


def ranked_as(powers: Weights) -> Scaled:
    """The simplest that rises with a product of positive numbers, or falls if it is one over one of them."""
    least = min(map(abs, powers.values()))
    if len(powers) == 1:
        [(base, power)] = powers.items()
        return math.copysign(1.0, power), base
    return _product(1.0, {one: own / least for one, own in powers.items()})


def antilog(rest: Expr) -> Weights | None:
    """The powers of what a logarithm or a sum of them is the logarithm of; ``None`` for anything else."""
    powers: defaultdict[Expr, float] = defaultdict(float)
    for factor, term in map(split, parts(rest, ADD)):
        level = term.args[1:] if isinstance(term, Call) and term.op in {_DELAY, _DELTA} else ()
        inner = term.args[0] if isinstance(term, Call) and level else term
        if not (isinstance(term, Call) and isinstance(inner, Call) and inner.op in {_LOG, _LOG1P}):
            return None
        base = written(sum_of(split(inner.args[0]), (1.0, ONE))) if inner.op is _LOG1P else inner.args[0]
        if not level or term.op is _DELTA:
            powers[base] += factor
        if level:
            powers[Call(_DELAY, (base, *level))] += -factor if term.op is _DELTA else factor
    return powers


def exp_of(scaled: Scaled) -> Scaled:
    """``EXP(LOG(x))`` is ``x`` where that is never negative."""
    factor, rest = scaled
    if factor == 1 and isinstance(rest, Call) and rest.op is _LOG and is_positive(rest.args[0]):
        return split(rest.args[0])
    return 1.0, Call(_EXP, (written(scaled),))


def extreme_of(op: Operator, *given: Scaled) -> Scaled:
    """``MAX`` or ``MIN`` of all that nested ones compare; the largest factor leaves them, and a sign exchanges them."""
    terms: set[Scaled] = set()
    numbers: list[float] = []
    for factor, rest in given:
        for own, core in map(split, parts(rest, op if factor > 0 else _other(op))):
            weight = multiplied(factor, own)
            numbers += [weight] if core is ONE else []
            terms |= set() if core is ONE else {(weight, core)}
    limits = [(max(numbers) if op is _MAX else min(numbers), ONE)] if numbers else []
    if len(terms) + len(limits) == 1:
        return (*terms, *limits)[0]
    scale = max(abs(factor) for factor, _ in terms)
    turn = orientation([(factor / scale, core) for factor, core in terms])
    inner = [written((turn * factor / scale, core)) for factor, core in (*terms, *limits)]
    return turn * scale, chain(op if turn > 0 else _other(op), sorted(inner, key=order))


def _other(op: Operator) -> Operator:
    return _MIN if op is _MAX else _MAX
