"""The language-model researcher through the real client, against a loopback server that speaks the OpenAI protocol."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import SecretStr

from factors.errors import ResearcherError
from factors.hypothesis import Candidate, Hypothesis
from factors.operators import OPERATORS
from factors.parse import parse
from factors.regularization import Limits
from factors.verdict import Check, Verdict
from graphs.llm import LanguageModelResearcher
from graphs.prompts import render
from graphs.researcher import Brief, Trial

IDEA = {
    "statement": "Stocks that rise on falling volume fall back.",
    "observation": "o",
    "knowledge": "k",
    "justification": "j",
    "specification": "s",
    "horizon_days": 5,
}
BRIEF = Brief(direction="volume and price apart", seed=1, round=1, fields=("close", "volume"))
HYPOTHESIS = Hypothesis(id="h1", **IDEA)
CANDIDATE = Candidate(id="1.1.0", hypothesis_id="h1", name="n", description="d", formula="RANK($close)")


class Endpoint(ThreadingHTTPServer):
    """Answers each chat completion with the next of ``answers``: a tool call's arguments, or a status to fail with."""

    def __init__(self, answers):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = list(answers)
        self.requests = []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        answer = self.server.answers.pop(0)
        if isinstance(answer, int):
            self._send(answer, {"error": {"message": "no", "type": "server_error"}})
            return
        message = {"role": "assistant", "content": None}
        if answer is not None:
            arguments = answer if isinstance(answer, str) else json.dumps(answer)
            name = body["tools"][0]["function"]["name"]
            call = {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}
            message["tool_calls"] = [call]
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if answer else "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        self._send(
            200,
            {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage},
        )

    def _send(self, status, document):
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def endpoint():
    servers = []

    def start(*answers):
        server = Endpoint(answers)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        url = f"http://127.0.0.1:{server.server_port}/v1"
        return server, LanguageModelResearcher("test-model", SecretStr("secret-key"), url, timeout=10)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def prompt_of(server):
    return server.requests[-1]["messages"][-1]["content"]


def test_idea_sees_the_direction_and_answers_a_hypothesis(endpoint):
    server, researcher = endpoint(IDEA)
    assert researcher.propose(BRIEF).model_dump() == IDEA
    assert "volume and price apart" in prompt_of(server)
    assert "$close, $volume" in prompt_of(server)


def test_factor_sees_every_operator_and_answers_candidates(endpoint):
    drafts = [{"name": f"n{i}", "description": "d", "formula": f"TS_MEAN($close, {i})"} for i in range(2, 6)]
    server, researcher = endpoint({"candidates": drafts})
    assert [draft.formula for draft in researcher.draft(BRIEF, HYPOTHESIS, 3)] == [
        draft["formula"] for draft in drafts[:3]
    ]
    for op in OPERATORS.values():
        assert op.symbol is not None or op.signature in prompt_of(server)


def test_a_rewrite_answers_each_refusal_in_order_and_gives_up_the_rest(endpoint):
    check = Check(name="originality", value=9, limit=8, passed=False, hint="change the inner term")
    trial = Trial(round=1, candidate=CANDIDATE, verdict=Verdict(candidate_id="1.1.0", checks=(check,), penalty=1))
    server, researcher = endpoint({"candidates": [{"name": "n", "description": "d", "formula": "ABS($close)"}]})
    first, second = researcher.revise(BRIEF, HYPOTHESIS, [trial, trial])
    assert (first.formula, second) == ("ABS($close)", None)
    assert "change the inner term" in prompt_of(server)


def test_idea_reads_why_candidates_were_refused_and_factor_what_is_mined_out_and_its_own_limits(endpoint):
    check = Check(name="originality", value=9, limit=8, passed=False, hint="change the inner term")
    refused = Trial(round=1, candidate=CANDIDATE, verdict=Verdict(candidate_id="1.1.0", checks=(check,), penalty=1))
    part = "TS_CORR($close, $volume, 17)"
    brief = BRIEF.model_copy(update={"trials": (refused, refused), "avoid": (part,), "limits": Limits(length=33)})
    server, researcher = endpoint(IDEA)
    researcher.propose(brief)
    assert "originality: 2" in prompt_of(server)
    for ask in (lambda one: one.draft(brief, HYPOTHESIS, 1), lambda one: one.revise(brief, HYPOTHESIS, [refused])):
        server, researcher = endpoint({"candidates": []})
        ask(researcher)
        assert part in prompt_of(server)
        assert "at most 33 nodes" in prompt_of(server)


def test_judge_and_eval_answer_in_their_shapes(endpoint):
    alignment = {
        "hypothesis_description": 0.5,
        "hypothesis_reason": "say which volume",
        "description_formula": 1.0,
        "formula_reason": "it does",
    }
    feedback = {"supported": True, "lesson": "it holds", "action": "refine"}
    server, researcher = endpoint(alignment, feedback)
    found = researcher.judge(HYPOTHESIS, CANDIDATE, parse("RANK(TS_MEAN($close, 5))"))
    assert found.agreement == 0.75
    assert found.reason.startswith("description against hypothesis: say which volume; formula against description")
    assert "percentile rank in (0, 1] of (mean of close over the last 5 rows) among the members" in prompt_of(server)
    assert CANDIDATE.formula not in prompt_of(server)
    assert researcher.reflect(BRIEF, HYPOTHESIS, []).model_dump() == feedback


@pytest.mark.parametrize(
    "answer",
    ["{not json", {"statement": "only this"}, None, {**IDEA, "horizon_days": 1000}, 401],
    ids=["broken", "incomplete", "no call", "out of range", "refused"],
)
def test_an_unusable_answer_is_one_clear_error_without_the_key(endpoint, answer):
    _, researcher = endpoint(answer)
    with pytest.raises(ResearcherError, match="test-model") as caught:
        researcher.propose(BRIEF)
    assert "\n" not in str(caught.value)
    assert "secret-key" not in str(caught.value)


def test_a_passing_fault_is_retried(endpoint):
    server, researcher = endpoint(500, IDEA)
    assert researcher.propose(BRIEF).horizon_days == 5
    assert len(server.requests) == 2


def test_a_prompt_is_strict_about_its_slots_and_never_fills_twice():
    filled = {"hypothesis": "{{formula}}", "specification": "s", "description": "d", "formula": "$close"}
    text = render("judge", **filled)
    assert "Hypothesis: {{formula}}" in text
    assert "from the formula itself: $close" in text
    with pytest.raises(KeyError):
        render("judge", **filled, extra=1)
    with pytest.raises(KeyError):
        render("judge", hypothesis="h")
