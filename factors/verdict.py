"""Check and Verdict: a refusal is a value, with a hint that a person or a model can act on."""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict


class Check(BaseModel):
    """One measured property of a candidate against its limit.

    ``hint`` is empty when the check passed; otherwise it says what to change.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    value: float
    limit: float
    passed: bool
    hint: str = ""


def at_most(name: str, value: float, limit: float, hint: str) -> Check:
    """A value that may not exceed its limit; ``hint`` is kept where it does."""
    passed = value <= limit
    return Check(name=name, value=value, limit=limit, passed=passed, hint="" if passed else hint)


def at_least(name: str, value: float, limit: float, hint: str) -> Check:
    """A value that may not fall below its limit; ``hint`` is kept where it does."""
    passed = value >= limit
    return Check(name=name, value=value, limit=limit, passed=passed, hint="" if passed else hint)


def more_than(name: str, value: float, limit: float, hint: str) -> Check:
    """A value that must exceed its limit; ``hint`` is kept where it does not."""
    passed = value > limit
    return Check(name=name, value=value, limit=limit, passed=passed, hint="" if passed else hint)


class Verdict(BaseModel):
    """All checks of one candidate and its regularization penalty R_g (dimensionless, lower is better)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidate_id: str
    checks: tuple[Check, ...]
    penalty: float

    @property
    def accepted(self) -> bool:
        """True when every check passed."""
        return all(check.passed for check in self.checks)

    def feedback(self) -> str:
        """The hints of the failed checks, one a line; empty for an accepted candidate."""
        return "\n".join(hints(self.checks))


def hints(checks: Iterable[Check]) -> list[str]:
    """``name: hint`` of each failed check, in order."""
    return [f"{check.name}: {check.hint}" for check in checks if not check.passed]
