"""``alphaagent token``: keys for people and programs."""

import json
from typing import Annotated, get_args

import typer
from rich.console import Console
from rich.table import Table

from app.commands.options import Json
from app.runner import operator
from app.settings import Settings
from app.tokens import MAX_DAYS, TokenRequest
from storage.principal import Role
from storage.records import Records

tokens = typer.Typer(no_args_is_help=True, help="Keys of the service; without any it answers this machine alone.")


@tokens.command("create")
def create_token(
    user: Annotated[str, typer.Argument(metavar="NAME", help="Whom it stands for; they may have several.")],
    role: Annotated[Role, typer.Option(help=f"What they may do with it: {', '.join(get_args(Role))}.")],
    days: Annotated[int | None, typer.Option(min=1, max=MAX_DAYS, help="Until it ends; never by default.")] = None,
    as_json: Json = False,
) -> None:
    """Make a token and print its key, this once."""
    request = TokenRequest(user=user, role=role, days=days)
    with Records.open(Settings().records_url) as records:
        token = records.people.create_token(operator(), request.user, request.role, request.days)
    if as_json:
        typer.echo(token.model_dump_json(indent=2))
    else:
        typer.echo(token.key)
        typer.echo(f"Keep the key of token {token.id}: it cannot be shown again.", err=True)


@tokens.command("list")
def list_tokens(as_json: Json = False) -> None:
    """The tokens, newest first, without their keys."""
    with Records.open(Settings().records_url) as records:
        found = records.people.tokens()
    if as_json:
        typer.echo(json.dumps([token.model_dump(mode="json") for token in found], indent=2))
        return
    table = Table("token", "user", "role", "made", "ends", "revoked", "last used")
    for token in found:
        times = (token.created_at, token.expires_at, token.revoked_at, token.used_at)
        table.add_row(token.id, token.user, token.role, *(f"{at:%Y-%m-%d %H:%M}" if at else "-" for at in times))
    Console().print(table)


@tokens.command("revoke")
def revoke_token(token_id: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id, not its key.")]) -> None:
    """End a token and the sessions that were opened with it."""
    with Records.open(Settings().records_url) as records:
        records.people.revoke_token(operator(), token_id)
