"""Certificate: what was tried of a formula's causality, and what it came to."""

import hashlib
import json
from typing import Self

from pydantic import BaseModel, ConfigDict

from factors.bar_time import BarTime


class Comparison(BaseModel):
    """What one claim came to.

    Attributes:
        name: ``later_noise``, ``later_cut``, ``earlier_cut``, ``other_instruments``, ``non_members`` or ``label_lag``.
        passed: it holds in every cell, there was one, and few were left out.
        cells: how many had a value on either side.
        worst: largest distance of two values over the larger one's size, at most 1, which also stands for a null
            beside a value; of the label, of its IC from 1.
        refuted: the first of the bars at which it does not hold; none where too few cells tell.
        detail: what was compared.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    passed: bool
    cells: int
    worst: float
    refuted: BarTime | None
    detail: str


class Certificate(BaseModel):
    """A formula's causality on one snapshot; the same request gives the same certificate.

    Attributes:
        formula: canonical text.
        seed: of the dates and of all that is made up.
        dates: the bars at which the panel was changed; none where the formula has no value to compare.
        proven: all checks passed.
        hash: first 16 hexadecimal digits of the SHA-256 of the rest as JSON with sorted keys and no blanks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    formula: str
    market: str
    snapshot: str
    universe: str
    seed: int
    dates: tuple[BarTime, ...]
    checks: tuple[Comparison, ...]
    proven: bool
    hash: str = ""

    def sealed(self) -> Self:
        """The certificate with its hash."""
        return self.model_copy(update={"hash": self._digest()})

    def genuine(self) -> bool:
        """Whether nothing was changed since it was sealed, and its verdict is that of its checks."""
        return self.hash == self._digest() and self.proven == all(check.passed for check in self.checks)

    def _digest(self) -> str:
        rest = self.model_dump(mode="json", exclude={"hash"})
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
