import json
import logging
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from app.deliverer import Deliverer, Pace
from app.egress import Egress
from app.service import create_service
from app.settings import Settings
from storage.principal import Principal
from storage.records import Records
from storage.runs import RunRequest
from storage.webhooks import WebhookRequest
from tests.local import local_client
from tests.receiver import HOST, URL, answer

ROOT = Path(__file__).parents[2]
QUICK = Pace(poll=0.02, answer=2, first_retry=0.05, attempts=4)
RUN = {
    "direction": "volume shocks that overshoot",
    "market": "small",
    "seed": 2,
    "budget": {"rounds": 2, "candidates": 3},
}


def researcher(user):
    return Principal(user, "researcher")


def hook(records, user="ann", url=URL):
    return records.webhooks.create(WebhookRequest(url=url), researcher(user))


def finish(records):
    """The last event of a run that has ended."""
    request = RunRequest(direction="d", market="m")
    run = records.create_run(request, universe="u", snapshot="s", seed=1, model="offline")
    records.queue.cancel(run.id, researcher("ann"))
    return records.events(run.id)[-1]


def owed(records, webhook):
    return records.webhooks.deliveries(webhook.id, researcher(webhook.user), 200)[0]


def wait(condition):
    deadline = time.monotonic() + 30
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def settled(records, webhook):
    """All of a webhook's deliveries once none waits."""
    return wait(lambda: all(one.status != "waiting" for one in owed(records, webhook)) and owed(records, webhook))


@pytest.fixture
def records(tmp_path):
    with Records.open(f"sqlite:///{tmp_path}/records.sqlite") as opened:
        yield opened


@pytest.fixture
def shared(url):
    """Records that processes share, on either database."""
    with Records.open(url) as opened:
        yield opened


@pytest.fixture
def is_genuine():
    """The function that the README gives receivers."""
    (source,) = re.findall(r"```python\n(import hashlib.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names = {}
    exec(source, names)
    return names["is_genuine"]


@pytest.fixture
def process(trusted):
    """Deliver in a process of its own: ``process(url, receiver, lease)``."""
    processes = []

    def begin(url, receiver, lease=60):
        command = [sys.executable, "-W", "error", "-m", "tests.app.deliver", url, trusted.certificate]
        started = subprocess.Popen(
            [*map(str, [*command, *receiver.address, lease])], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        processes.append(started)
        return started

    yield begin
    for started in processes:
        started.kill()
        started.communicate()


# what is posted


def test_an_event_is_posted_as_it_is_and_signed(records, receiver, egress, is_genuine):
    webhook, event = hook(records), finish(records)
    with Deliverer(records.webhooks.outbox, egress, QUICK).at_work():
        (delivery,) = settled(records, webhook)
    (post,) = receiver.posts
    assert json.loads(post.body) == event.model_dump(mode="json")
    assert (post.path, post.headers["host"], post.headers["content-type"]) == ("/events", HOST, "application/json")
    assert (post.headers["x-alphaagent-delivery"], post.headers["x-alphaagent-event"]) == (delivery.id, event.type)
    assert (delivery.status, delivery.attempts, delivery.error) == ("delivered", 1, None)
    header = post.headers["x-alphaagent-signature"]
    assert is_genuine(webhook.secret, header, post.body)
    assert not is_genuine(webhook.secret + "x", header, post.body)
    assert not is_genuine(webhook.secret, header, post.body + b" ")
    moment = int(header.removeprefix("t=").partition(",")[0])
    assert not is_genuine(webhook.secret, header.replace(str(moment), str(moment + 1)), post.body)
    assert abs(moment - time.time()) < 60


def test_what_is_taken_is_not_sent_again(records, receiver, egress):
    webhook = hook(records)
    receiver.behave = answer(299)
    events = [finish(records) for _ in range(5)]
    with Deliverer(records.webhooks.outbox, egress, QUICK).at_work():
        settled(records, webhook)
        time.sleep(0.3)  # many looks at the outbox
    assert [json.loads(post.body)["run_id"] for post in receiver.posts] == [event.run_id for event in events]


def test_what_is_not_taken_is_sent_again_later_and_later_under_its_id(records, receiver, egress, is_genuine):
    webhook = hook(records)
    statuses, times = [500, 302, 404, 200], []

    def behave(handler):
        times.append(time.monotonic())
        answer(statuses[len(times) - 1])(handler)

    receiver.behave = behave
    finish(records)
    with Deliverer(records.webhooks.outbox, egress, QUICK).at_work():
        (delivery,) = settled(records, webhook)
    assert (delivery.status, delivery.attempts, delivery.error) == ("delivered", 4, None)
    assert {post.headers["x-alphaagent-delivery"] for post in receiver.posts} == {delivery.id}
    assert all(is_genuine(webhook.secret, one.headers["x-alphaagent-signature"], one.body) for one in receiver.posts)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert [gap >= least for gap, least in zip(gaps, (0.045, 0.09, 0.18), strict=True)] == [True] * 3


def test_what_is_never_taken_is_given_up_and_shown(records, receiver, egress):
    webhook = hook(records)
    receiver.behave = answer(503)
    finish(records)
    with Deliverer(records.webhooks.outbox, egress, QUICK).at_work():
        (delivery,) = settled(records, webhook)
        time.sleep(0.3)
    assert (delivery.status, delivery.attempts, delivery.error) == ("dead", 4, "answered 503")
    assert len(receiver.posts) == 4
    assert records.webhooks.seen_by(researcher("ann"))[0].disabled_at is None


def test_retries_double_up_to_two_hours_and_end_within_about_a_day():
    pace, attempts = Pace(), range(1, 40)
    waits = [pace.retry(attempt) for attempt in attempts]
    given = [one for one in waits if one is not None]
    assert waits[len(given) :] == [None] * (len(waits) - len(given))
    assert 9 <= given[0] <= 11
    assert all(0.9 * 2**n * 10 <= one <= 1.1 * 2**n * 10 for n, one in enumerate(given[:9]))
    assert max(given) <= 1.1 * 7200
    assert 18 * 3600 < sum(given) < 26 * 3600
    assert len({pace.retry(1) for _ in range(20)}) > 1
    assert pace.lease > pace.answer


def test_a_receiver_that_is_gone_is_disabled_at_once(records, receiver, egress):
    webhook = hook(records)
    receiver.behave = answer(410)
    finish(records)
    finish(records)
    with Deliverer(records.webhooks.outbox, egress, QUICK).at_work():
        settled(records, webhook)
    assert len(receiver.posts) == 1
    assert "gone" in records.webhooks.seen_by(researcher("ann"))[0].disabled_because


def test_a_name_that_leads_inside_by_now_is_not_posted_to(records, receiver, trusted):
    # As an outbox may hold it whatever was checked before: the address is looked at at each attempt.
    webhook = hook(records)
    finish(records)
    egress = Egress(look_up=lambda *_: [receiver.address], certificates=trusted.trusted())
    with Deliverer(records.webhooks.outbox, egress, QUICK).at_work():
        (delivery,) = settled(records, webhook)
    assert (delivery.status, delivery.error) == ("dead", f"{HOST} has an address that is not public")
    assert receiver.posts == []


def test_a_slow_receiver_holds_up_itself_alone(records, receiver, egress):
    slow, quick = hook(records, url=f"{URL}/slow"), hook(records, user="bob")
    receiver.behave = lambda handler: time.sleep(5) if handler.path.endswith("slow") else answer(204)(handler)
    for _ in range(3):
        finish(records)
    with Deliverer(records.webhooks.outbox, egress, QUICK).at_work():
        assert {one.status for one in settled(records, quick)} == {"delivered"}
        assert {one.status for one in owed(records, slow)} == {"waiting"}


# processes


def test_what_a_killed_process_had_sent_and_not_settled_is_sent_again_under_its_id(url, shared, receiver, process):
    webhook, event = hook(shared), finish(shared)
    receiver.behave = lambda _: time.sleep(8)
    first = process(url, receiver, lease=1)
    wait(lambda: receiver.posts)
    first.send_signal(signal.SIGKILL)
    first.wait()
    receiver.behave = answer(204)
    process(url, receiver, lease=1)
    (delivery,) = settled(shared, webhook)
    before, after = receiver.posts
    assert before.headers["x-alphaagent-delivery"] == after.headers["x-alphaagent-delivery"] == delivery.id
    assert before.body == after.body
    assert json.loads(after.body)["seq"] == event.seq
    assert (delivery.status, delivery.attempts) == ("delivered", 2)


def test_two_processes_deliver_each_event_once_and_in_order(url, shared, receiver, process):
    hooks = [hook(shared, user=str(number), url=f"{URL}/{number}") for number in range(4)]
    started = [process(url, receiver), process(url, receiver)]
    assert [one.stdout.readline() for one in started] == ["delivering\n"] * 2
    run_ids = [finish(shared).run_id for _ in range(15)]
    for webhook in hooks:
        assert {one.attempts for one in settled(shared, webhook)} == {1}
    for number in range(4):
        got = [json.loads(post.body)["run_id"] for post in receiver.posts if post.path.endswith(f"/{number}")]
        assert got == run_ids


# the service


@pytest.fixture
def client(home, egress):  # noqa: ARG001 - the settings name the home
    with local_client(create_service(Settings(), egress)) as opened:
        yield opened


def test_a_run_s_accepted_factors_and_its_end_are_posted(client, receiver, is_genuine, caplog):
    caplog.set_level(logging.DEBUG)
    made = client.post("/webhooks", json={"url": URL + "?token=private"})
    assert made.status_code == 201
    webhook = made.json()
    run_id = client.post("/runs", json=RUN).json()["id"]
    client.get(f"/runs/{run_id}/events")
    told = [one for one in events_of(client, run_id) if one["type"] in webhook["events"]]
    assert [one["type"] for one in told][-1] == "run.succeeded"
    assert "factor.accepted" in [one["type"] for one in told]
    wait(lambda: len(receiver.posts) == len(told))
    assert [json.loads(post.body) for post in receiver.posts] == told
    for post in receiver.posts:
        assert is_genuine(webhook["secret"], post.headers["x-alphaagent-signature"], post.body)
    listed = client.get("/webhooks")
    deliveries = wait(lambda: all_delivered(client.get(f"/webhooks/{webhook['id']}/deliveries")))
    assert [one["seq"] for one in deliveries] == [one["seq"] for one in told][::-1]
    assert [one["id"] for one in listed.json()] == [webhook["id"]]
    logged = "\n".join(f"{record.getMessage()} {record.exc_text}" for record in caplog.records)
    for text in (listed.text, logged):
        assert webhook["secret"] not in text
    assert "token=private" not in logged
    assert client.delete(f"/webhooks/{webhook['id']}").status_code == 204
    assert client.get("/webhooks").json() == []
    assert client.delete(f"/webhooks/{webhook['id']}").status_code == 404
    assert client.get(f"/webhooks/{webhook['id']}/deliveries").status_code == 404


def events_of(client, run_id):
    text = client.get(f"/runs/{run_id}/events").text
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


def all_delivered(answered):
    items = answered.json()["items"]
    return all(one["status"] == "delivered" for one in items) and items


def test_the_service_ends_while_a_receiver_does_not_answer(home, egress, receiver):  # noqa: ARG001
    receiver.behave = lambda _: time.sleep(8)
    with local_client(create_service(Settings(), egress)) as client:
        client.post("/webhooks", json={"url": URL})
        client.post("/runs", json=RUN)
        wait(lambda: receiver.posts)
        begun = time.monotonic()
    assert time.monotonic() - begun < 8
    assert receiver.answered == 0


@pytest.fixture(scope="module")
def served(new_home, serve):
    return serve(new_home())


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"url": "http://hooks.example.com/"}, "https"),
        ({"url": "https://127.0.0.1/"}, "domain name"),
        ({"url": "https://localhost/"}, "domain name"),
        ({"url": "https://localhost.localdomain:6379/"}, "port"),
        ({"url": "https://no-such-host.invalid/"}, "does not resolve"),
        ({"url": "https://hooks.example.com/", "events": []}, "/events"),
        ({"url": "https://hooks.example.com/", "events": ["run.started"]}, "/events"),
        ({"url": "https://hooks.example.com/" + "a" * 2000}, "/url"),
        ({"url": "https://hooks.example.com/", "secret": "mine"}, "/secret"),
        ({}, "/url"),
    ],
)
def test_the_running_service_refuses_what_it_may_not_post_to(served, body, words):
    answered = httpx.post(f"{served.url}/webhooks", json=body)
    assert answered.status_code == 422
    assert answered.headers["content-type"] == "application/problem+json"
    assert words in answered.json()["detail"]
    assert served.get("/webhooks").json() == []


def test_a_form_of_another_site_makes_no_webhook(client):
    body = json.dumps({"url": URL})
    assert client.post("/webhooks", content=body, headers={"content-type": "text/plain"}).status_code == 422
    assert client.get("/webhooks").json() == []
