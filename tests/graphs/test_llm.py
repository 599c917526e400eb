"""The language-model researcher through the real client, against a loopback server that speaks the OpenAI protocol."""

import json
import time

import pytest
from pydantic import SecretStr

from factors.errors import ResearcherError
from factors.hypothesis import Candidate, Hypothesis
from factors.operators import OPERATORS
from factors.parse import parse
from factors.regularization import Limits
from factors.verdict import Check, Verdict
from graphs import chat
from graphs.answers import METHODS
from graphs.chat import Endpoint
from graphs.llm import LanguageModelResearcher
from graphs.metering import Meter
from graphs.prompts import render
from graphs.researcher import Brief, Trial
from storage.runs import Budget
from tests.chat_server import ChatServer, Fault, asked_by, completion

IDEA = {
    "statement": "Stocks that rise on falling volume fall back.",
    "observation": "o",
    "knowledge": "k",
    "justification": "j",
    "specification": "s",
    "horizon_days": 5,
}
FORMULA = {"name": "n", "description": "d", "formula": "RANK($close)"}
ALIGNMENT = {
    "hypothesis_description": 0.5,
    "hypothesis_reason": "say which volume",
    "description_formula": 1.0,
    "formula_reason": "it does",
}
FEEDBACK = {"supported": True, "lesson": "it holds", "action": "refine"}
BRIEF = Brief(direction="volume and price apart", seed=1, round=1, fields=("close", "volume"))
HYPOTHESIS = Hypothesis(id="h1", **IDEA)
CANDIDATE = Candidate(id="1.1.0", hypothesis_id="h1", name="n", description="d", formula="RANK($close)")
CHECK = Check(name="originality", value=9, limit=8, passed=False, hint="change the inner term")
REFUSED = Trial(round=1, candidate=CANDIDATE, verdict=Verdict(candidate_id="1.1.0", checks=(CHECK,), penalty=1))
KEY = "sk-canary-5301"
SECONDS = 1.0

AGENTS = {
    "idea": (lambda one: one.propose(BRIEF), IDEA),
    "factor": (lambda one: one.draft(BRIEF, HYPOTHESIS, 3), {"candidates": [FORMULA]}),
    "revise": (lambda one: one.revise(BRIEF, HYPOTHESIS, [REFUSED]), {"candidates": [FORMULA]}),
    "judge": (lambda one: one.judge(HYPOTHESIS, CANDIDATE, parse("RANK($close)")), ALIGNMENT),
    "feedback": (lambda one: one.reflect(BRIEF, HYPOTHESIS, [REFUSED]), FEEDBACK),
}
FAULTS = {
    "401": (Fault(401), "authentication", 1),
    "403": (Fault(403), "permission", 1),
    "404": (Fault(404), "unknown_model", 1),
    "429": (Fault(429), "rate_limit", 3),
    "429 with Retry-After": (Fault(429, {"Retry-After": "1000"}), "rate_limit", 1),
    "500": (Fault(500), "server", 3),
    "502": (Fault(502, body=b"<html>bad gateway</html>"), "server", 3),
    "503": (Fault(503), "server", 3),
    "reset": (Fault(way="reset"), "connection", 3),
    "hang": (Fault(way="hang"), "timeout", 1),
    "drip": (Fault(way="drip"), "timeout", 1),
    "50 MB": (Fault(way="huge"), "too_large", 1),
    "endless": (Fault(way="endless"), "too_large", 1),
    "body cut off": (Fault(body=b'{"id": "x", "choices": [{"ind'), "malformed", 1),
    "no completion": (Fault(body=b"{}"), "malformed", 1),
    "a list": (Fault(body=b"[1, 2]"), "malformed", 1),
    "no choice": ({**completion("x"), "choices": []}, "malformed", 1),
    "null content": (completion(None), "empty", 1),
    "cut off": (completion(None, finish="length"), "truncated", None),
    "refusal": (completion(None, refusal="I cannot help with that"), "refusal", 1),
    "filter": (completion(None, finish="content_filter"), "content_filter", None),
    "words": (completion("I am sorry"), "malformed", 2),
    "JSON cut off": (completion('{"statement": "half of'), "malformed", 2),
    "empty object": (completion("{}"), "schema", 2),
    "another shape": (completion('{"statement": 7, "candidates": {}, "supported": "maybe"}'), "schema", 2),
    "deep": (completion('{"a":' * 100_000), "malformed", 2),
}


@pytest.fixture
def serve():
    servers = []

    def start(play, **options):
        server = ChatServer(play, **options)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def researcher(serve):
    """A server that plays answers in turn, the last one for ever, and a researcher that asks it."""

    def make(*answers, seconds=10.0, budget=None, **options):
        waiting = list(answers)
        server = serve(lambda _: waiting.pop(0) if len(waiting) > 1 else waiting[0], **options)
        calls = []
        endpoint = Endpoint("test-model", SecretStr(KEY), server.url, seconds=seconds, backoff=0.001)
        return server, LanguageModelResearcher(endpoint, Meter(budget or Budget(), calls.append)), calls

    return make


def prompt_of(server):
    return server.requests[-1]["messages"][-1]["content"]


def test_idea_sees_the_direction_and_answers_a_hypothesis(researcher):
    server, one, _ = researcher(IDEA)
    assert one.propose(BRIEF).model_dump() == IDEA
    assert "volume and price apart" in prompt_of(server)
    assert "$close, $volume" in prompt_of(server)


def test_factor_sees_every_operator_and_answers_candidates(researcher):
    drafts = [{"name": f"n{i}", "description": "d", "formula": f"TS_MEAN($close, {i})"} for i in range(2, 6)]
    server, one, _ = researcher({"candidates": drafts})
    assert [draft.formula for draft in one.draft(BRIEF, HYPOTHESIS, 3)] == [draft["formula"] for draft in drafts[:3]]
    for op in OPERATORS.values():
        assert op.symbol is not None or op.signature in prompt_of(server)


def test_a_rewrite_answers_each_refusal_in_order_and_gives_up_the_rest(researcher):
    server, one, _ = researcher({"candidates": [{**FORMULA, "formula": "ABS($close)"}]})
    first, second = one.revise(BRIEF, HYPOTHESIS, [REFUSED, REFUSED])
    assert (first.formula, second) == ("ABS($close)", None)
    assert "change the inner term" in prompt_of(server)


def test_idea_reads_why_candidates_were_refused_and_factor_what_is_mined_out_and_its_own_limits(researcher):
    part = "TS_CORR($close, $volume, 17)"
    brief = BRIEF.model_copy(update={"trials": (REFUSED, REFUSED), "avoid": (part,), "limits": Limits(length=33)})
    server, one, _ = researcher(IDEA)
    one.propose(brief)
    assert "originality: 2" in prompt_of(server)
    for ask in (lambda one: one.draft(brief, HYPOTHESIS, 1), lambda one: one.revise(brief, HYPOTHESIS, [REFUSED])):
        server, one, _ = researcher({"candidates": [FORMULA]})
        ask(one)
        assert part in prompt_of(server)
        assert "at most 33 nodes" in prompt_of(server)


def test_judge_and_eval_answer_in_their_shapes(researcher):
    server, one, _ = researcher(ALIGNMENT)
    found = one.judge(HYPOTHESIS, CANDIDATE, parse("RANK(TS_MEAN($close, 5))"))
    assert found.agreement == 0.75
    assert found.reason.startswith("description against hypothesis: say which volume; formula against description")
    assert "percentile rank in (0, 1] of (mean of close over the last 5 rows) among the members" in prompt_of(server)
    assert CANDIDATE.formula not in prompt_of(server)
    _, one, _ = researcher(FEEDBACK)
    assert one.reflect(BRIEF, HYPOTHESIS, []).model_dump() == FEEDBACK


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_each_agent_is_one_typed_failure_in_bounded_time_and_the_next_answer_is_used(
    researcher, agent, fault
):
    broken, kind, requests = FAULTS[fault]
    ask, answer = AGENTS[agent]
    server, one, calls = researcher(broken, seconds=SECONDS)
    started = time.monotonic()
    with pytest.raises(ResearcherError) as caught:
        ask(one)
    assert time.monotonic() - started < 10 * SECONDS
    assert caught.value.kind == kind
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert requests is None or len(server.requests) == requests
    assert [call.failure for call in calls] == [None if requests == 2 else kind] * len(calls)
    server.play = lambda _: answer
    assert ask(one)
    assert calls[-1].failure is None


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("known", METHODS)
def test_a_shape_is_asked_for_in_the_strictest_way_that_the_endpoint_knows_which_is_found_out_once(
    researcher, agent, known
):
    ask, answer = AGENTS[agent]
    server, one, _ = researcher(answer, methods=(known,))
    ask(one)
    tried = [asked_by(body) for body in server.requests]
    assert tried == list(METHODS[: METHODS.index(known) + 1])
    ask(one)
    assert [asked_by(body) for body in server.requests[len(tried) :]] == [known]


@pytest.mark.parametrize(
    "said",
    [
        json.dumps(IDEA),
        f"```json\n{json.dumps(IDEA, indent=2)}\n```",
        f"Here is {{my}} idea:\n{json.dumps(IDEA)}\nI hope it helps.",
        json.dumps({**IDEA, "confidence": 0.9, "notes": {"a": 1}}),
    ],
    ids=["plain", "fenced", "among words", "with more keys"],
)
def test_an_object_is_found_wherever_it_stands(researcher, said):
    _, one, _ = researcher(completion(said))
    assert one.propose(BRIEF).model_dump() == IDEA


def test_an_answer_that_does_not_fit_is_shown_to_the_model_once_with_what_is_wrong(researcher):
    server, one, calls = researcher(completion(json.dumps({**IDEA, "horizon_days": 1000})), IDEA)
    assert one.propose(BRIEF).horizon_days == 5
    assert "horizon_days: Input should be less than or equal to 60" in prompt_of(server)
    assert [call.agent for call in calls] == ["idea", "repair"]


def test_one_candidate_that_cannot_be_used_does_not_cost_the_others(researcher):
    drafts = [
        {**FORMULA, "formula": "$close + " * 2000},
        {"name": "", "description": "d", "formula": "$open"},
        "$close",
        {**FORMULA, "name": '../../etc\n"passwd"\x00'},
        FORMULA,
    ]
    _, one, _ = researcher({"candidates": drafts})
    assert [draft.name for draft in one.draft(BRIEF, HYPOTHESIS, 8)] == ['../../etc "passwd"', "n"]


def test_a_passing_fault_is_tried_again_and_what_was_used_is_counted(researcher):
    server, one, calls = researcher(Fault(500), Fault(429), IDEA)
    assert one.propose(BRIEF).horizon_days == 5
    assert len(server.requests) == 3
    assert [(call.input_tokens, call.output_tokens, call.failure) for call in calls] == [(100, 20, None)]


@pytest.mark.parametrize(
    ("budget", "calls"), [({"model_calls": 2}, 2), ({"input_tokens": 2000}, 0), ({"output_tokens": 40}, 2)]
)
def test_no_call_begins_that_the_budget_has_no_room_for(researcher, budget, calls):
    """A prompt of Idea has more than a thousand characters; the server counts a hundred tokens, and twenty written."""
    server, one, _ = researcher(IDEA, budget=Budget(**budget))
    for _ in range(calls):
        one.propose(BRIEF)
    big = BRIEF.model_copy(update={"library": ("RANK($close)",) * 500})
    with pytest.raises(ResearcherError) as caught:
        one.propose(big)
    assert caught.value.kind == "budget"
    assert next(iter(budget)) in str(caught.value)
    assert len(server.requests) == calls


def test_a_server_that_asks_to_be_left_alone_is(researcher):
    _, one, _ = researcher(Fault(429, {"Retry-After": "1"}), IDEA)
    started = time.monotonic()
    one.propose(BRIEF)
    assert time.monotonic() - started >= 1


def test_a_model_without_a_temperature_is_sent_none(researcher):
    server, one, _ = researcher(IDEA)
    one.propose(BRIEF)
    assert "temperature" not in server.requests[-1]


def test_a_prompt_is_strict_about_its_slots_and_never_fills_twice():
    filled = {"hypothesis": "{{formula}}", "specification": "s", "description": "d", "formula": "$close"}
    text = render("judge", **filled)
    assert "Hypothesis: {{formula}}" in text
    assert "from the formula itself: $close" in text
    with pytest.raises(KeyError):
        render("judge", **filled, extra=1)
    with pytest.raises(KeyError):
        render("judge", hypothesis="h")


@pytest.fixture(autouse=True)
def forget():
    """What endpoints of earlier tests could do; ports come again."""
    chat._methods.clear()
