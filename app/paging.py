"""Pages of a list."""

from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, ConfigDict

Item = TypeVar("Item")
Limit = Annotated[int, Query(ge=1, le=200)]


class Page(BaseModel, Generic[Item]):
    """A page of a list; ``next_cursor`` is null on the last."""

    model_config = ConfigDict(frozen=True)

    items: list[Item]
    next_cursor: str | None
