"""The service answers as its OpenAPI document says, to what the document allows and to what it does not.

The document cannot say which formulas parse, which names resolve and what a run's state allows, so that such refusals
are among the answers. ``status_code_conformance`` and the others look at every answer, whatever was asked.
"""

import contextlib
from datetime import timedelta
from itertools import cycle

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks

from app.runner import operator
from app.service import create_service
from app.settings import Settings
from storage.markets import publish
from storage.principal import ROLES
from storage.records import Records
from storage.runs import RunRequest
from storage.webhooks import WebhookRequest

DOCUMENT = create_service(Settings()).openapi()
STREAMS = r"/events$"  # what they tell is in tests/app/test_streams.py
WHOLE = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = [found.ok() for found in WHOLE.exclude(path_regex=STREAMS).get_all_operations()]
STREAMING = [found.ok() for found in WHOLE.include(path_regex=STREAMS).get_all_operations()]
OPERATIONS.sort(key=lambda operation: operation.method == "delete")  # when the others have seen what is there
CASES = 200  # of each operation
STEPS = range(150, 3000)  # of all conversations together: more than the fewest until they have followed the links
LINKED = {"GET /runs/{run_id} 200", "GET /factors/{factor_id} 200"}
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.missing_required_header,
    checks.unsupported_method,
    checks.use_after_free,
]
RUN = {"direction": "volume shocks that overshoot", "market": "small", "seed": 2}


@pytest.fixture(scope="module")
def home(new_home, small):
    """A home with a webhook that is owed something, and a market with two versions."""
    home = new_home()
    dates = {"train_end": small.train_end, "valid_end": small.valid_end}
    publish(home, "small", small.bars, **dates | {"valid_end": small.valid_end - timedelta(days=30)})
    publish(home, "small", small.bars, membership=small.membership, sectors=small.sectors, **dates, synthetic=True)
    with Records.open(f"sqlite:///{home}/records.sqlite") as records:
        records.webhooks.create(WebhookRequest(url="https://hooks.invalid/"), operator())
        run = records.create_run(RunRequest(**RUN), universe="all", snapshot="s", seed=2, model="offline")
        records.queue.cancel(run.id, operator())
    return home


@pytest.fixture(scope="module")
def served(home, serve):
    """A service whose users may spend little, so that what is asked of it at random keeps no core busy."""
    return serve(home, ALPHAAGENT_QUOTA__CANDIDATES="40")


@pytest.fixture(scope="module")
def known(served):
    """What is there by the names of parameters: a run that has succeeded, and one that was cancelled."""
    done = served.post(**RUN, budget={"rounds": 2, "candidates": 3}).json()["id"]
    list(served.lines(done))
    (cancelled,) = (run["id"] for run in served.get("/runs").json()["items"] if run["id"] != done)
    factor_id = served.get("/factors").json()["items"][0]["id"]
    webhook_id = served.get("/webhooks").json()[0]["id"]
    [version_id] = (one["id"] for one in served.get("/markets/small/versions").json() if not one["current"])
    here = {"factor_id": factor_id, "webhook_id": webhook_id, "version_id": version_id, "market": "small"}
    return [{"run_id": done, **here}, {"run_id": cancelled, **here}]


@pytest.fixture(scope="module")
def credentials(home, known):  # noqa: ARG001 - known was asked for as one who works on the machine, before there was a token
    """The headers of each role that asks, the admin's first."""
    with Records.open(f"sqlite:///{home}/records.sqlite") as records:
        keys = [records.people.create_token(operator(), role, role, None).key for role in reversed(ROLES)]
    return [{"Authorization": f"Bearer {key}"} for key in keys]


def unhurried(**options):
    return settings(deadline=None, database=None, suppress_health_check=list(HealthCheck), **options)


def lead_home(case, known):
    """Let a valid body name what is there."""
    if case.meta.generation.mode == GenerationMode.POSITIVE and isinstance(case.body, dict):
        case.body = {**case.body, **{name: value for name, value in known[0].items() if name in case.body}}


def cases_of(operation, known):
    """Requests of what is there and of what is not, well formed and ill formed."""
    named = [{name: one[name] for name in one if f"{{{name}}}" in operation.path} for one in known]
    return st.one_of(
        *(operation.as_strategy(path_parameters=there or None) for there in named),
        *(operation.as_strategy(generation_mode=mode) for mode in GenerationMode),
    )


def test_the_document_names_each_status():
    told = {
        status
        for operations in DOCUMENT["paths"].values()
        for operation in operations.values()
        for status in operation["responses"]
    }
    assert all(status.isdigit() and status < "500" for status in told - {"503"}), told
    assert "ValidationError" not in str(DOCUMENT)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_each_operation_answers_as_the_document_says(served, known, credentials, operation):
    @unhurried(max_examples=CASES, derandomize=True)
    @given(case=cases_of(operation, known), headers=st.sampled_from(credentials), at_home=st.booleans())
    def answers(case, headers, at_home):
        if at_home:
            lead_home(case, known)
        case.call_and_validate(base_url=served.url, headers=headers, checks=CHECKS, timeout=60)

    answers()


@pytest.mark.parametrize("operation", STREAMING, ids=lambda operation: operation.label)
def test_each_stream_begins_as_the_document_says(served, known, credentials, operation):
    documented = operation.definition.raw["responses"]
    begun = set()

    @unhurried(max_examples=CASES, derandomize=True)
    @given(case=cases_of(operation, known), headers=st.sampled_from(credentials))
    def begins(case, headers):
        asked = case.as_transport_kwargs(base_url=served.url, headers=headers)
        with requests.request(**asked, stream=True, timeout=60) as response:
            begun.add(response.status_code)
            told = documented[str(response.status_code)]
            kind, _, _ = response.headers.get("content-type", "").partition(";")
            assert kind in told.get("content", {""})

    begins()
    assert {200, 422} <= begun


def test_operations_answer_as_the_document_says_one_after_another(served, known, credentials):
    # What an operation answers is asked of others, as long as STEPS say. The service remembers what was asked before,
    # which Hypothesis takes for a flaw of the test and stops: it is begun anew, and what was found is kept here.
    document = schemathesis.openapi.from_url(f"{served.url}/openapi.json").exclude(path_regex=STREAMS)
    failures, steps, turn = [], [], cycle(credentials)

    class Conversation(document.as_state_machine()):
        def setup(self):
            self.headers = next(turn)

        def before_call(self, case):
            lead_home(case, known)

        def get_call_kwargs(self, _):
            return {"headers": self.headers, "timeout": 60}

        def validate_response(self, response, case, **_):
            steps.append(f"{case.operation.label} {response.status_code}")
            try:
                case.validate_response(response, checks=CHECKS)
            except FailureGroup as failure:
                failures.append(f"{steps[-1]}: {failure.exceptions}")

    while not failures and len(steps) < (STEPS.start if set(steps) >= LINKED else STEPS.stop):
        with contextlib.suppress(Flaky):
            Conversation.run(settings=unhurried(max_examples=40, stateful_step_count=8, derandomize=False))
    assert failures == []
    assert set(steps) >= LINKED
