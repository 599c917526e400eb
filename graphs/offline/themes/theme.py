"""Theme: one market hypothesis with the grammar of the formulas that test it."""

from collections.abc import Mapping
from dataclasses import dataclass


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
