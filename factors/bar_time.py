"""When a bar was, as results tell it: its day, or its time where there are several bars a day."""

from datetime import date, datetime
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator


def _told(value: object) -> object:
    """What text stands for: midnight is a time of its own, which a union would take for a day."""
    if isinstance(value, str):
        return datetime.fromisoformat(value) if "T" in value else date.fromisoformat(value)
    return value


BarTime: TypeAlias = Annotated[date | datetime, BeforeValidator(_told)]
