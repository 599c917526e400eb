"""Formulas from grammars.

A grammar maps nonterminals such as ``<move>`` to productions. Within one production a nonterminal that is written twice
stands for the same text both times, so ``TS_MAX($high, <d>) - TS_MIN($low, <d>)`` has one window.
"""

import re
from collections.abc import Mapping
from random import Random

START = "<alpha>"
WINDOWS: Mapping[str, tuple[str, ...]] = {
    "<lag>": ("1", "2", "3", "5"),
    "<short>": ("3", "5", "10"),
    "<mid>": ("10", "20", "40"),
    "<long>": ("40", "60", "120"),
    "<d>": ("5", "10", "20", "40", "60"),
}
_NONTERMINAL = re.compile(r"<[a-z]+>")
_ATOM = re.compile(r"[\w.$]+")


def expand(grammar: Mapping[str, tuple[str, ...]], draw: Random, symbol: str = START) -> str:
    """One formula text drawn from the grammar; the windows of ``WINDOWS`` are known to every grammar.

    Raises:
        KeyError: a production names a nonterminal that neither the grammar nor ``WINDOWS`` defines.
    """
    productions = grammar[symbol] if symbol in grammar else WINDOWS[symbol]
    bound: dict[str, str] = {}

    def text_of(match: re.Match[str]) -> str:
        name = match.group()
        if name not in bound:
            text = expand(grammar, draw, name)
            bound[name] = text if _ATOM.fullmatch(text) else f"({text})"
        return bound[name]

    return _NONTERMINAL.sub(text_of, draw.choice(productions))
