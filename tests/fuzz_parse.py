"""Texts that try to break the parser: token soup, formulas, formulas damaged, and raw Unicode.

Run as ``python -m tests.fuzz_parse [texts] [seed]`` for as many as there is time for; a million take a few minutes.
"""

import random
import sys
import time
from collections.abc import Callable

from factors.errors import FormulaError
from factors.expression import MAX_CHARACTERS, MAX_DEPTH, MAX_NODES, Expr, fields
from factors.legacy import parse_legacy
from factors.operators import COMPOSITES, INFIX, Form, Parameter, ParameterKind, spellings
from factors.parse import STANDARD_FIELDS, parse

FORMS: list[tuple[str, Form]] = [*spellings().items(), *((form.name, form) for form in COMPOSITES)]
NUMBERS = (
    "0", "1", "5", "20", "1000", "1001", "0.5", ".5", "5.", "1e3", "1e-8", "1e308", "1e309", "1e-400", "00012", "2.5",
    "9223372036854775808", "1" * 400, "0x10", "1_000", "1e", "1e+", "nan", "1.2.3", "\u0661\u0662", "\uff15", "-0",
)  # fmt: skip
SIGNS = (*INFIX, "&", "|", "?", ":", "(", ")", ",", "-", "=", "!", "~", "^", "**", "//", "$", "%", "@", "#", "{", "[")
WORDS = (
    "close",
    "RANK",
    "TS_MEAN",
    "SEQUENCE",
    "lambda",
    "__import__",
    "None",
    "rank",
    "R\u0391NK",
    "TS_",
    "_",
    "$sector",
)
BLANKS = (" ", "  ", "\t", "\n", "\r\n", "\f", "\v", "\u00a0", "\u2003", "\u200b", "\ufeff", "\0", "\x1c", "\x85")
ODD = "\0\x07\x1b\x7f$_'\"\\`;%@#\u00b2\u0130\u0410\u0663\u200d\u202e\u2212\u2260\uff04\uff11\ud800\U0001f4c8\U00010400"


def formula(rng: random.Random, depth: int) -> str:
    """A text that is mostly a formula: calls by every name, signs, ternaries, spare parentheses and blanks."""
    kind = rng.random()
    if depth == 0 or kind < 0.15:
        return f"${rng.choice(STANDARD_FIELDS)}" if rng.random() < 0.7 else rng.choice(NUMBERS)
    if kind < 0.55:
        name, form = rng.choice(FORMS)
        return f"{name}({', '.join(_argument(rng, parameter, depth) for parameter in form.parameters)})"
    if kind < 0.85:
        sign = rng.choice([*INFIX, "&", "|"])
        return f"{_operand(rng, depth)}{_blank(rng)}{sign}{_blank(rng)}{_operand(rng, depth)}"
    if kind < 0.92:
        return f"-{_operand(rng, depth)}"
    return f"{_operand(rng, depth)} ? {formula(rng, depth - 1)} : {formula(rng, depth - 1)}"


def _operand(rng: random.Random, depth: int) -> str:
    inner = formula(rng, depth - 1)
    return f"({inner})" if rng.random() < 0.6 else inner


def _blank(rng: random.Random) -> str:
    return rng.choice(("", " ", " ", "\n "))


def _argument(rng: random.Random, parameter: Parameter, depth: int) -> str:
    if rng.random() < 0.02:
        return formula(rng, depth - 1)
    if parameter.kind is ParameterKind.SERIES:
        return "SEQUENCE(5)" if rng.random() < 0.05 else formula(rng, depth - 1)
    if parameter.kind is ParameterKind.GROUP:
        return "$sector"
    if parameter.kind is ParameterKind.NUMBER:
        return repr(round(rng.random(), rng.randrange(1, 17)))
    return rng.choice(("2", "5", "5", "5", "20", "100", "1000"))


def soup(rng: random.Random) -> str:
    """Tokens in any order."""
    tokens = (
        lambda: f"${rng.choice(STANDARD_FIELDS)}",
        lambda: rng.choice(NUMBERS),
        lambda: rng.choice(SIGNS),
        lambda: rng.choice(SIGNS),
        lambda: f"{rng.choice(FORMS)[0]}(",
        lambda: rng.choice(WORDS),
        lambda: rng.choice(BLANKS),
    )
    return "".join(rng.choice(tokens)() for _ in range(rng.randrange(40)))


def raw(rng: random.Random) -> str:
    """Characters in any order, of all of Unicode with its surrogates or of a few that matter."""
    if rng.random() < 0.5:
        return "".join(chr(rng.randrange(sys.maxunicode + 1)) for _ in range(rng.randrange(60)))
    return "".join(rng.choice("$()+-*/?:,.<>=&|!eE09TS_azRANK \n" + ODD) for _ in range(rng.randrange(60)))


def damaged(rng: random.Random) -> str:
    """A formula with a few edits."""
    text = formula(rng, rng.randrange(1, 5))
    for _ in range(rng.randrange(1, 4)):
        at, to = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
        edits: tuple[Callable[[], str], ...] = (
            lambda text=text, at=at: text[:at] + text[at + 1 :],
            lambda text=text, at=at, to=to: text[:at] + text[to:],
            lambda text=text, at=at, to=to: text[:to] + text[at:to] * rng.randrange(1, 8) + text[to:],
            lambda text=text, at=at: text[:at] + rng.choice(ODD) + text[at:],
            lambda text=text, at=at: text[:at] + rng.choice(SIGNS + NUMBERS + WORDS + BLANKS) + text[at:],
            lambda text=text: "(" * (n := rng.randrange(40)) + text + ")" * (n - rng.randrange(2)),
            lambda text=text: "-" * rng.randrange(40) + text,
            lambda text=text: f"MACD({text}, 2, 5)",
            lambda text=text: text.swapcase(),
            lambda text=text: text + rng.choice(BLANKS),
        )
        text = rng.choice(edits)()[: MAX_CHARACTERS + 100]
    return text


def long(rng: random.Random) -> str:
    """A text near the limits of length, nesting and nodes."""
    part = formula(rng, 1)
    return rng.choice(
        (
            lambda: f" {rng.choice([*INFIX])} ".join([part] * rng.randrange(1, 40)),
            lambda: part + " ? 1 : ".join([""] + [part] * rng.randrange(35)),
            lambda: "ABS(" * (n := rng.randrange(28, 36)) + part + ")" * n,
            lambda: f"BB_UPPER({part}, 5)" + f" + BB_UPPER({part}, 5)" * rng.randrange(28),
            lambda: part + " " * rng.randrange(1900, 2050),
            lambda: part * (2000 // len(part)),
        )
    )()


def text(rng: random.Random) -> str:
    """One text of any kind."""
    kinds: tuple[Callable[[], str], ...] = (
        lambda: formula(rng, rng.randrange(1, 6)),
        lambda: damaged(rng),
        lambda: damaged(rng),
        lambda: soup(rng),
        lambda: raw(rng),
        lambda: long(rng),
    )
    return rng.choices(kinds, (4, 4, 4, 3, 2, 1))[0]()


def check(given: str) -> bool:
    """Whether a text is a formula of either spelling; it must parse to a sound tree or be refused in one line."""
    accepted = False
    for reader in (parse, parse_legacy):
        try:
            expr = reader(given)
        except FormulaError as error:
            _clear(error, given)
        else:
            accepted = True
            _sound(expr)
    return accepted


def _clear(error: FormulaError, given: str) -> None:
    assert str(error)
    assert str(error).isprintable()
    assert len(str(error)) < 1000
    assert 0 <= error.position <= len(given)


def _sound(expr: Expr) -> None:
    assert expr.size <= MAX_NODES
    assert expr.depth <= MAX_DEPTH
    assert expr.look_back >= 0
    assert fields(expr) <= set(STANDARD_FIELDS)
    canonical = str(expr)
    assert canonical.isascii()
    # Blanks around signs and numbers in full can make the canonical text longer than what a text may be.
    if len(canonical) <= MAX_CHARACTERS:
        assert parse(canonical) is expr, canonical


def main() -> None:
    """Check random texts until one fails."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(2**32)
    rng, accepted, start = random.Random(seed), 0, time.monotonic()
    for number in range(1, count + 1):
        given = text(rng)
        try:
            accepted += check(given)
        except Exception:
            sys.stdout.write(f"\nseed {seed}, text {number}: {given!a}\n")
            raise
        if number % 10_000 == 0 or number == count:
            elapsed = time.monotonic() - start
            sys.stdout.write(f"\rseed {seed}: {number:,} texts, {accepted:,} formulas, {elapsed:.0f} s")
            sys.stdout.flush()
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
