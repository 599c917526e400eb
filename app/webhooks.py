"""Routes of webhooks: who outside is told of accepted factors and of a run's end."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from app.dependencies import Shared
from app.egress import Egress
from app.paging import Limit, Page
from app.runner import current_user
from storage.webhooks import CreatedWebhook, Delivery, Webhook, WebhookRequest

CHECK_SECONDS = 5  # that a name may take to resolve

routes = APIRouter(prefix="/webhooks")

User = Annotated[str, Depends(current_user)]


def _egress(request: Request) -> Egress:
    egress = request.app.state.egress
    assert isinstance(egress, Egress)
    return egress


@routes.post("", status_code=201)
async def post_webhook(
    body: WebhookRequest, user: User, runner: Shared, egress: Annotated[Egress, Depends(_egress)]
) -> CreatedWebhook:
    """Have events posted to an https URL on a public address; the secret of their signatures is shown this once."""
    url = await egress.check(body.url, CHECK_SECONDS)
    normal = body.model_copy(update={"url": str(url)})
    return await asyncio.to_thread(runner.records.webhooks.create, normal, user)


@routes.get("")
def get_webhooks(user: User, runner: Shared) -> list[Webhook]:
    """Your webhooks, oldest first."""
    return runner.records.webhooks.of_user(user)


@routes.delete("/{webhook_id}", status_code=204)
def delete_webhook(webhook_id: str, user: User, runner: Shared) -> None:
    """Forget a webhook of yours, with what it is owed."""
    runner.records.webhooks.delete(webhook_id, user)


@routes.get("/{webhook_id}/deliveries")
def get_deliveries(
    webhook_id: str, user: User, runner: Shared, limit: Limit = 50, cursor: str | None = None
) -> Page[Delivery]:
    """What a webhook of yours was sent or is owed, newest first."""
    items, following = runner.records.webhooks.deliveries(webhook_id, user, limit, cursor)
    return Page(items=items, next_cursor=following)
