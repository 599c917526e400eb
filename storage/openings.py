"""The seal of the hold-out: the one place that reads it, and the log of who did.

:meth:`Openings.open` is the only way to hold-out bars. What it shows and that it was shown are one row, written in one
transaction: nobody sees a figure that the log does not hold, and the log cannot be changed.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

import duckdb
from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import Connection, Engine, func, insert, select

from factors.errors import AlphaAgentError, DataError, NotFoundError
from factors.evaluation import Evaluation
from factors.frame import Frame, to_frame
from factors.hypothesis import Factor, factor_id
from factors.parse import parse
from factors.verdict import Check
from storage import audit
from storage.engine import reading, writing
from storage.principal import Principal
from storage.reference import SIDES, TABLES, whole
from storage.schema import openings, retirements
from storage.snapshot import ALL, LIMITS, Snapshot, bars_of, bars_query, literal, quoted

Judgement = tuple[Evaluation, Sequence[Check]]
Judge = Callable[[Frame, Mapping[str, float]], Judgement]


class SealedError(AlphaAgentError):
    """A hold-out that stays sealed: opened for this factor already, which may be retired, or the openings are spent."""


class Opening(BaseModel):
    """A look at the hold-out for one factor, and what was shown.

    Attributes:
        factor_id: the factor.
        snapshot: of whose hold-out.
        market: of that snapshot.
        user: who asked.
        opened_at: when, UTC.
        evaluation: what was measured there; its one split is ``holdout``.
        checks: what it was held to.
        status: ``live`` where all checks passed, else ``rejected``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    factor_id: str
    snapshot: str
    market: str
    user: str
    opened_at: AwareDatetime
    evaluation: Evaluation
    checks: tuple[Check, ...]
    status: Literal["live", "rejected"]


class Openings:
    """The log of openings in the records; thread-safe."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def open(self, snapshot: Snapshot, factor: Factor, judge: Judge, *, by: Principal, budget: int) -> Opening:
        """Open a snapshot's hold-out for a factor, once, and log what is found.

        Args:
            snapshot: the factor's.
            factor: of the library.
            judge: measures the factor on bars as :meth:`Snapshot.bars` gives them, here without end, and on the returns
                of delistings by symbol, and checks it.
            by: who asks.
            budget: openings that the team has in a quarter of the calendar, UTC, whatever the market.

        Raises:
            SealedError: it was opened for this formula, which may be retired, or the budget is spent; nothing was read.
            NotFoundError: the market has no hold-out.
            DataError: its file is missing or damaged.
        """
        if not snapshot.has_holdout:
            raise NotFoundError(f"market {snapshot.market!r} was imported without a hold-out: nothing can be promoted")
        with reading(self._engine) as connection:
            _check(connection, snapshot, factor, budget, datetime.now(UTC))
        evaluation, checks = judge(*_sealed_bars(snapshot, factor.universe))
        with writing(self._engine, "openings") as connection:
            # One time for both, or an opening could count in the quarter whose budget it was not checked against.
            now = datetime.now(UTC)
            _check(connection, snapshot, factor, budget, now)  # somebody else may have opened it meanwhile
            opening = Opening(
                factor_id=factor.id,
                snapshot=snapshot.id,
                market=snapshot.market,
                user=by.user,
                opened_at=now,
                evaluation=evaluation,
                checks=tuple(checks),
                status="live" if all(check.passed for check in checks) else "rejected",
            )
            connection.execute(insert(openings).values(opening.model_dump()))
            audit.append(connection, by, "factor.promoted", factor.id)
        return opening

    def of_factor(self, factor_id: str) -> Opening | None:
        """What the hold-out said of a factor, ``None`` while nobody has asked."""
        query = select(openings).where(openings.c.factor_id == factor_id).order_by(openings.c.opened_at.desc()).limit(1)
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else Opening.model_validate(row._asdict())

    def statuses(self) -> dict[str, Literal["live", "rejected"]]:
        """What each factor that the hold-out was opened for has become, by its id."""
        query = select(openings.c.factor_id, openings.c.status).order_by(openings.c.opened_at)
        with reading(self._engine) as connection:
            return {row.factor_id: row.status for row in connection.execute(query)}

    def spent(self, market: str | None = None) -> int:
        """Openings in this quarter, of a market's hold-outs or, where none is named, of all."""
        with reading(self._engine) as connection:
            return _spent(connection, market, datetime.now(UTC))


def _check(connection: Connection, snapshot: Snapshot, factor: Factor, budget: int, now: datetime) -> None:
    # The same data may have been imported under other names: a snapshot's id is of its content alone.
    expr = parse(factor.formula, snapshot.series)
    told = select(openings.c.market, openings.c.factor_id, openings.c.user, openings.c.opened_at)
    for known in connection.execute(told.where(openings.c.snapshot == snapshot.id)):
        if known.factor_id == factor_id(known.market, expr):
            raise SealedError(
                f"the hold-out was opened for this factor by {known.user} on {known.opened_at:%Y-%m-%d}; "
                "a second look would not be out of sample"
            )
    if connection.scalar(select(retirements.c.factor_id).where(retirements.c.factor_id == factor.id)) is not None:
        raise SealedError("the factor is retired: it is not promoted any more")
    if _spent(connection, None, now) >= budget:
        raise SealedError(f"the team's {budget} openings of this quarter are spent; each look wears a hold-out out")


def _spent(connection: Connection, market: str | None, now: datetime) -> int:
    begun = datetime(now.year, now.month - (now.month - 1) % 3, 1, tzinfo=UTC)
    query = select(func.count()).select_from(openings).where(openings.c.opened_at >= begun)
    return connection.scalar(query if market is None else query.where(openings.c.market == market)) or 0


def _sealed_bars(snapshot: Snapshot, universe: str) -> tuple[Frame, Mapping[str, float]]:
    """All bars and delistings of a snapshot, in sample and after, as :class:`Snapshot` gives those in sample."""
    try:
        # What is spilled is sealed as well: two that read at once must not share a folder, nor others read it.
        with (
            tempfile.TemporaryDirectory(prefix="alphaagent-") as spill,
            duckdb.connect(":memory:", config={**LIMITS, "temp_directory": spill}) as con,
        ):
            for part in SIDES:
                con.execute(f"ATTACH {literal(snapshot.path / f'{part}.duckdb')} AS {part} (READ_ONLY)")
            con.execute(_joined(snapshot))
            bars = to_frame(con.sql(bars_query(snapshot), params=[snapshot.universe(universe), ALL]))
            return bars, dict(con.execute('SELECT symbol, "return" FROM delistings').fetchall())
    except duckdb.Error as error:
        raise DataError(
            f"the hold-out of market {snapshot.market!r} is damaged: {snapshot.path} cannot be read; "
            "remove it and import again"
        ) from error


def _joined(snapshot: Snapshot) -> str:
    """The tables of both sides as one; each column by its name, or a file that lacks one would be taken for nulls."""
    listed = ("date", "symbol", *snapshot.fields, "adj_factor", "suspended", *(["limited"] if snapshot.limited else []))
    columns = ", ".join(map(quoted, listed))
    bars = " UNION ALL ".join(f"SELECT {columns} {bars_of(snapshot.path, side)}" for side in SIDES)
    return f"""
        CREATE TEMP VIEW bars AS {bars};
        CREATE TEMP TABLE instruments AS
            SELECT symbol, arg_min(adj_factor, date) AS adj_factor FROM bars GROUP BY symbol;
        {"".join(f"CREATE TEMP VIEW {name} AS {whole(name)};" for name in TABLES)}
    """  # noqa: S608 - only quoted column names are spliced in
