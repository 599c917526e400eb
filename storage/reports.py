"""What an import has come to, as people and programs read it: the market, and what looks wrong in it by rule."""

from datetime import date, datetime
from typing import Self

from pydantic import BaseModel, ConfigDict

from storage.quality import EVERYBODY, RULES, Finding, Quality, Severity
from storage.snapshot import Snapshot


class RuleSummary(BaseModel):
    """How often the bars of a version break a rule.

    Attributes:
        rule: its name.
        severity: whether factors would be wrong, or might be.
        says: what it means, in words.
        findings: how many there are; ``None`` where the rule says nothing.
        unsaid: why it says nothing, else ``None``.
        symbols: of how many instruments, of those that are told; 0 where it is the market as a whole.
        first_date: of the first; ``None`` without any.
        last_date: of the last.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: str
    severity: Severity
    says: str
    findings: int | None
    unsaid: str | None
    symbols: int
    first_date: date | None
    last_date: date | None


class ImportReport(BaseModel):
    """What an import has come to; counts and dates are of the bars in sample.

    Attributes:
        market: its name.
        snapshot: id of the version, which is the current one now.
        rows: bars.
        instruments: symbols with a bar.
        first_date: of the first bar.
        last_date: of the last bar.
        train_end: the last day of train.
        valid_end: the last day of valid.
        has_holdout: whether what comes after is kept, sealed.
        fields: the numeric columns.
        universes: the indices, then ``all``.
        trading_rules: how its instruments trade.
        accepted: rules whose errors it has, which were accepted.
        rules: each rule of quality, errors first, see :func:`summary`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    market: str
    snapshot: str
    rows: int
    instruments: int
    first_date: date
    last_date: date
    train_end: date
    valid_end: date
    has_holdout: bool
    fields: tuple[str, ...]
    universes: tuple[str, ...]
    trading_rules: str
    accepted: tuple[str, ...]
    rules: tuple[RuleSummary, ...]

    @classmethod
    def of(cls, snapshot: Snapshot, found: Quality) -> Self:
        """The report on a version."""
        facts = {name: getattr(snapshot, name) for name in cls.model_fields if hasattr(snapshot, name)}
        return cls(**facts | {"snapshot": snapshot.id, "rules": summary(found)})


def summary(found: Quality) -> tuple[RuleSummary, ...]:
    """How often each rule is broken, the rules of errors first."""
    return tuple(
        _summary(rule.name, rule.severity, rule.says, found)
        for rule in sorted(RULES, key=lambda rule: rule.severity)  # which is also their order by letters
    )


def _summary(name: str, severity: Severity, says: str, found: Quality) -> RuleSummary:
    broken: list[Finding] = [one for one in found.findings if one.rule == name]
    return RuleSummary(
        rule=name,
        severity=severity,
        says=says,
        findings=None if name in found.unsaid else len(broken) + found.more.get(name, 0),
        unsaid=found.unsaid.get(name),
        symbols=len({one.symbol for one in broken} - {EVERYBODY}),
        first_date=min((_day(one.date) for one in broken), default=None),
        last_date=max((_day(one.date) for one in broken), default=None),
    )


def _day(moment: date) -> date:
    return moment.date() if isinstance(moment, datetime) else moment
