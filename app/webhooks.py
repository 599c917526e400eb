"""Routes of webhooks: who outside is told of accepted factors and of a run's end."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from app.auth import Researcher
from app.dependencies import Shared
from app.egress import Egress
from app.paging import Limit, Page
from storage.webhooks import CreatedWebhook, Delivery, Webhook, WebhookRequest

CHECK_SECONDS = 5  # that a name may take to resolve

routes = APIRouter(prefix="/webhooks")


def _egress(request: Request) -> Egress:
    egress = request.app.state.egress
    assert isinstance(egress, Egress)
    return egress


@routes.post("", status_code=201)
async def post_webhook(
    body: WebhookRequest, principal: Researcher, runner: Shared, egress: Annotated[Egress, Depends(_egress)]
) -> CreatedWebhook:
    """Have events posted to an https URL on a public address; the secret of their signatures is shown this once."""
    url = await egress.check(body.url, CHECK_SECONDS)
    normal = body.model_copy(update={"url": str(url)})
    return await asyncio.to_thread(runner.records.webhooks.create, normal, principal)


@routes.get("")
def get_webhooks(principal: Researcher, runner: Shared) -> list[Webhook]:
    """Your webhooks, an admin's all, oldest first."""
    return runner.records.webhooks.seen_by(principal)


@routes.delete("/{webhook_id}", status_code=204)
def delete_webhook(webhook_id: str, principal: Researcher, runner: Shared) -> None:
    """Forget a webhook of yours, with what it is owed."""
    runner.records.webhooks.delete(webhook_id, principal)


@routes.get("/{webhook_id}/deliveries")
def get_deliveries(
    webhook_id: str, principal: Researcher, runner: Shared, limit: Limit = 50, cursor: str | None = None
) -> Page[Delivery]:
    """What a webhook of yours was sent or is owed, newest first."""
    items, following = runner.records.webhooks.deliveries(webhook_id, principal, limit, cursor)
    return Page(items=items, next_cursor=following)
