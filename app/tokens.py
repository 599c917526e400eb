"""Tokens and the audit log over HTTP, for admins."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from app.auth import Admin
from app.dependencies import Shared
from app.paging import Limit, Page
from app.problems import refusals
from storage.audit import AuditEntry
from storage.people import Name, NewToken, Token
from storage.principal import Role

routes = APIRouter()

MAX_DAYS = 3650


class TokenRequest(BaseModel):
    """A token to make; without ``days`` it does not expire."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: Name
    role: Role
    days: int | None = Field(default=None, ge=1, le=MAX_DAYS)


@routes.post("/tokens", status_code=201)
def post_token(body: TokenRequest, principal: Admin, runner: Shared) -> NewToken:
    """Make a token; its key is told here and never again."""
    return runner.records.people.create_token(principal, body.user, body.role, body.days)


@routes.get("/tokens")
def get_tokens(_: Admin, runner: Shared) -> list[Token]:
    """All tokens without their keys, newest first."""
    return runner.records.people.tokens()


@routes.delete("/tokens/{token_id}", status_code=204)
def delete_token(token_id: str, principal: Admin, runner: Shared) -> None:
    """Revoke a token, and end its sessions."""
    runner.records.people.revoke_token(principal, token_id)


@routes.get("/audit", responses=refusals(404))
def get_audit(_: Admin, runner: Shared, limit: Limit = 50, cursor: str | None = None) -> Page[AuditEntry]:
    """Who has done what, newest first."""
    items, following = runner.records.audit.page(limit, cursor)
    return Page(items=items, next_cursor=following)
