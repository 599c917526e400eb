"""Factors that the team uses no more; they stay in the library, and known to the gate."""

from datetime import UTC, datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import Engine, insert, select

from storage import audit
from storage.engine import reading, writing
from storage.principal import Principal
from storage.schema import retirements


class Retirement(BaseModel):
    """That a factor was retired, by whom and when, UTC."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    factor_id: str
    user: str
    retired_at: AwareDatetime


class Retirements:
    """The retirements in the records, which can be added to and not changed; thread-safe."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def retire(self, factor_id: str, by: Principal) -> Retirement:
        """Retire a factor of the library, for good; one that is retired stays so since when it was."""
        known = select(retirements).where(retirements.c.factor_id == factor_id)
        # The lock of the openings: a factor that is being promoted is retired before or after that.
        with writing(self._engine, "openings") as connection:
            row = connection.execute(known).one_or_none()
            if row is not None:
                return Retirement.model_validate(row._asdict())
            retirement = Retirement(factor_id=factor_id, user=by.user, retired_at=datetime.now(UTC))
            connection.execute(insert(retirements).values(retirement.model_dump()))
            audit.append(connection, by, "factor.retired", factor_id)
        return retirement

    def of_factor(self, factor_id: str) -> Retirement | None:
        """The retirement of a factor, ``None`` where it has not been."""
        with reading(self._engine) as connection:
            row = connection.execute(select(retirements).where(retirements.c.factor_id == factor_id)).one_or_none()
        return None if row is None else Retirement.model_validate(row._asdict())

    def ids(self) -> set[str]:
        """The factors that were retired."""
        with reading(self._engine) as connection:
            return set(connection.scalars(select(retirements.c.factor_id)))
