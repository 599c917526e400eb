"""Theme: one market hypothesis with the grammar of the formulas that test it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from graphs.offline.grammar import START, WINDOWS


@dataclass(frozen=True, slots=True)
class Theme:
    """A market hypothesis and its formulas.

    Attributes:
        key: short name in lower case with hyphens, unique in the library.
        statement: the claim; unique in the library.
        observation: what is seen in markets.
        knowledge: what the literature calls it.
        justification: why it should hold.
        specification: how a formula measures it; a higher value expects a higher return.
        horizon_days: trading days over which the effect is expected.
        concepts: keys of ``graphs.offline.concepts.STEMS`` that the claim is about, the most telling first.
        grammar: productions by nonterminal such as ``<move>``; it starts from ``<alpha>``.
    """

    key: str
    statement: str
    observation: str
    knowledge: str
    justification: str
    specification: str
    horizon_days: int
    concepts: tuple[str, ...]
    grammar: Mapping[str, tuple[str, ...]]

    @property
    def title(self) -> str:
        """The key as people write it, ``Short reversal``."""
        return self.key.replace("-", " ").capitalize()


def joined(one: Theme, other: Theme) -> Theme:
    """Both hypotheses as one, whose formulas rank by the two together."""
    grammar = {START: ("RANK(<onealpha>) + RANK(<otheralpha>)", "RANK(<onealpha>) * RANK(<otheralpha>)")}
    return Theme(
        key=f"{one.key}-with-{other.key}",
        statement=f"{one.statement} {other.statement}",
        observation=f"{one.observation} {other.observation}",
        knowledge=f"{one.knowledge} {other.knowledge}",
        justification=f"{one.justification} {other.justification}",
        specification=f"{one.specification} {other.specification}",
        horizon_days=min(one.horizon_days, other.horizon_days),
        concepts=tuple(dict.fromkeys([*one.concepts, *other.concepts])),
        grammar=grammar | _renamed(one.grammar, "one") | _renamed(other.grammar, "other"),
    )


def _renamed(grammar: Mapping[str, tuple[str, ...]], prefix: str) -> dict[str, tuple[str, ...]]:
    def renamed(text: str) -> str:
        return re.sub("<([a-z]+)>", lambda name: name[0] if name[0] in own_windows else f"<{prefix}{name[1]}>", text)

    own_windows = WINDOWS.keys() - grammar.keys()
    return {renamed(name): tuple(map(renamed, texts)) for name, texts in grammar.items()}
