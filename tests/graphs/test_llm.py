"""The language-model researcher through the real client, against a loopback server that speaks the OpenAI protocol."""

import gzip
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.utils import formatdate
from itertools import cycle

import pytest
from pydantic import SecretStr

from factors.errors import ResearcherError
from factors.hypothesis import Candidate, Hypothesis
from factors.operators import OPERATORS
from factors.parse import parse
from factors.regularization import Limits
from factors.verdict import Check, Verdict
from graphs import chat, transport
from graphs.answers import METHODS
from graphs.endpoint import Endpoint
from graphs.llm import LanguageModelResearcher
from graphs.machine import SuspendedError
from graphs.metering import Meter
from graphs.researcher import Brief, Trial
from storage.journal import Journal
from storage.records import Records
from storage.runs import Budget, RunRequest
from tests.chat_faults import IN_PIECES, WHOLE
from tests.chat_server import ChatServer, Fault, asked_by, completion
from tests.telling import documented

pytestmark = pytest.mark.usefixtures("forget")
IDEA = {
    "statement": "Stocks that rise on falling volume fall back.",
    "observation": "o",
    "knowledge": "k",
    "justification": "j",
    "specification": "s",
    "horizon_days": 5,
}
FORMULA = {"name": "n", "description": "d", "formula": "RANK($close)", "variables": [{"name": "$close", "role": "r"}]}
ALIGNMENT = {
    "hypothesis_description": 0.5,
    "hypothesis_reason": "say which volume",
    "description_formula": 1.0,
    "formula_reason": "it does",
}
FEEDBACK = {"supported": True, "lesson": "it holds", "action": "refine", "focus": "longer windows"}
BRIEF = Brief(direction="volume and price apart", seed=1, round=1, fields=("close", "volume"))
HYPOTHESIS = Hypothesis(id="h1", **IDEA)
CANDIDATE = Candidate(id="1.1.0", hypothesis_id="h1", name="n", description="d", formula="RANK($close)")
CHECK = Check(name="originality", value=9, limit=8, passed=False, hint="change the inner term")
REFUSED = Trial(round=1, candidate=CANDIDATE, verdict=Verdict(candidate_id="1.1.0", checks=(CHECK,), penalty=1))
PAIR = (CANDIDATE, parse("RANK($close)"))
KEY = "sk-canary-5301"
SECONDS = 1.5

AGENTS = {
    "idea": (lambda one: one.propose(BRIEF), IDEA),
    "factor": (lambda one: one.draft(BRIEF, HYPOTHESIS, 3), {"candidates": [FORMULA]}),
    "revise": (lambda one: one.revise(BRIEF, HYPOTHESIS, [REFUSED]), {"candidates": [FORMULA]}),
    "judge": (lambda one: one.judge(HYPOTHESIS, [PAIR]), {"judgements": [{"number": 1, **ALIGNMENT}]}),
    "feedback": (lambda one: one.reflect(BRIEF, HYPOTHESIS, [REFUSED]), FEEDBACK),
}
# Each fault of each agent in an answer that comes whole; of answers in pieces each fault, of the agents in turn.
FAULTS = [
    *((agent, name, *case, False) for name, case in WHOLE.items() for agent in AGENTS),
    *((agent, name, *case, True) for agent, (name, case) in zip(cycle(AGENTS), IN_PIECES.items(), strict=False)),
]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    with Records.open(f"sqlite:///{tmp_path_factory.mktemp('llm')}/records.sqlite") as opened:
        yield opened


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
def researcher(serve, records):
    """A server that plays answers in turn, the last one for ever, a researcher that asks it, and its run's calls."""

    def make(*answers, budget=None, run=None, meter=None, chat=None, **options):
        waiting = list(answers)
        known = {name: options.pop(name) for name in ("methods", "counts") if name in options}
        server = serve(lambda _: waiting.pop(0) if len(waiting) > 1 else waiting[0], **known)
        if run is None:
            request = RunRequest(direction="d", market="m", budget=budget or Budget())
            queued = records.create_run(request, universe="u", snapshot="s", seed=1, model="m")
            run = records.journal(queued.id, "host").start()
        terms = {"timeout": 10.0, "backoff": 0.001, "base_url": server.url, "api_key": SecretStr(KEY), **options}
        reasoning = Endpoint(name="test-model", **terms)
        judge = reasoning.model_copy(update={"name": "chat-model"}) if chat is None else chat
        one = LanguageModelResearcher(reasoning, judge, meter or Meter(records.journal(run.id, "host")))

        def calls():
            told = documented(records.events(run.id))
            return [event.data["call"] for event in told if event.type == "model.called"]

        calls.run = run
        return server, one, calls

    return make


def prompt_of(server):
    return server.requests[-1]["messages"][-1]["content"]


def test_idea_sees_the_direction_and_answers_a_hypothesis(researcher):
    server, one, _ = researcher(IDEA)
    assert one.propose(BRIEF).model_dump() == IDEA
    assert 'The team\'s direction: "volume and price apart"' in prompt_of(server)
    assert '"$close": last price of the bar' in prompt_of(server)
    assert '"$volume": shares traded in the bar' in prompt_of(server)
    assert "$open" not in prompt_of(server)


def test_factor_sees_every_operator_and_answers_candidates(researcher):
    drafts = [{**FORMULA, "formula": f"TS_MEAN($close, {i})"} for i in range(2, 6)]
    server, one, _ = researcher({"candidates": drafts})
    found = one.draft(BRIEF, HYPOTHESIS, 3)
    assert [draft.formula for draft in found] == [draft["formula"] for draft in drafts[:3]]
    assert [[one.model_dump() for one in draft.variables] for draft in found] == [FORMULA["variables"]] * 3
    for op in OPERATORS.values():
        assert op.symbol is not None or f"{op.name}(" in prompt_of(server)
        assert op.symbol is not None or op.doc.partition(" over ")[0] in prompt_of(server)


def test_a_rewrite_answers_each_refusal_in_order_and_gives_up_the_rest(researcher):
    server, one, _ = researcher({"candidates": [{**FORMULA, "formula": "ABS($close)"}]})
    first, second = one.revise(BRIEF, HYPOTHESIS, [REFUSED, REFUSED])
    assert (first.formula, second) == ("ABS($close)", None)
    assert "change the inner term" in prompt_of(server)
    assert OPERATORS["RANK"].doc in prompt_of(server)
    assert "TS_MEAN(x, d):" not in prompt_of(server)
    assert "TS_MEAN(x, d)" in prompt_of(server)


def test_idea_reads_why_candidates_were_refused_and_factor_what_is_mined_out_and_its_own_limits(researcher):
    part = "TS_CORR($close, $volume, 17)"
    brief = BRIEF.model_copy(update={"trials": (REFUSED, REFUSED), "avoid": (part,), "limits": Limits(length=33)})
    server, one, _ = researcher(IDEA)
    one.propose(brief)
    assert '"originality": 2' in prompt_of(server)
    for ask in (lambda one: one.draft(brief, HYPOTHESIS, 1), lambda one: one.revise(brief, HYPOTHESIS, [REFUSED])):
        server, one, _ = researcher({"candidates": [FORMULA]})
        ask(one)
        assert part in prompt_of(server)
        assert "at most 33 nodes" in prompt_of(server)


def test_all_candidates_are_judged_in_one_call_by_what_they_compute(researcher):
    other = CANDIDATE.model_copy(update={"id": "1.2.0", "description": "another"})
    third = CANDIDATE.model_copy(update={"id": "1.3.0"})
    judgements = [{"number": 2, **ALIGNMENT}, {"number": 1, **ALIGNMENT, "description_formula": 0.0}, {"number": 9}]
    server, one, calls = researcher({"judgements": judgements})
    pairs = [(c, parse("RANK(TS_MEAN($close, 5))")) for c in (CANDIDATE, other, third)]
    first, second, unjudged = one.judge(HYPOTHESIS, pairs)
    assert (first.agreement, second.agreement, unjudged) == (0.25, 0.75, None)
    assert second.reason.startswith("description against hypothesis: say which volume; formula against description")
    assert "percentile rank in (0, 1] of (mean of close over the last 5 rows) among the members" in prompt_of(server)
    assert CANDIDATE.formula not in prompt_of(server)
    assert [call["agent"] for call in calls()] == ["judge"]


def test_eval_answers_in_its_shape(researcher):
    _, one, _ = researcher(FEEDBACK)
    assert one.reflect(BRIEF, HYPOTHESIS, []).model_dump() == FEEDBACK


@pytest.mark.parametrize(
    ("agent", "fault", "broken", "kind", "requests", "stream"),
    FAULTS,
    ids=[f"{agent}-{name}, {'in pieces' if stream else 'whole'}" for agent, name, *_, stream in FAULTS],
)
def test_each_fault_of_each_agent_is_one_typed_failure_in_bounded_time_and_the_next_answer_is_used(
    researcher, agent, fault, broken, kind, requests, stream
):
    ask, answer = AGENTS[agent]
    server, one, calls = researcher(broken, timeout=SECONDS, stream=stream)
    started = time.monotonic()
    with pytest.raises(ResearcherError) as caught:
        ask(one)
    assert time.monotonic() - started < 5 * SECONDS, fault
    assert caught.value.kind == kind
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(server.requests) == requests
    assert [call["failure"] for call in calls()] == [None if requests == 2 else kind] * len(calls())
    server.play = lambda _: answer
    # A step whose answer could not be used is not asked again: the run takes the next one.
    assert ask(researcher(answer, stream=stream)[1])
    if requests != 2:
        assert ask(one)
        assert calls()[-1]["failure"] is None


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("known", METHODS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_shape_is_asked_for_in_the_strictest_way_that_the_endpoint_knows_which_is_found_out_once(
    researcher, agent, known, stream
):
    ask, answer = AGENTS[agent]
    server, one, calls = researcher(answer, methods=(known,), stream=stream)
    ask(one)
    tried = [asked_by(body) for body in server.requests]
    assert tried == list(METHODS[: METHODS.index(known) + 1])
    assert [call["failure"] for call in calls()] == ["request"] * (len(tried) - 1) + [None]
    assert (calls()[-1]["input_tokens"], calls()[-1]["output_tokens"]) == (100, 20)
    options = {"base_url": server.url, "stream": stream}
    _, other, _ = researcher(answer, **options)
    ask(other)
    assert [asked_by(body) for body in server.requests[len(tried) :]] == [known]


@pytest.mark.parametrize(
    ("agent", "said", "kind"),
    [
        ("idea", json.dumps(IDEA)[:-30], "truncated"),
        ("feedback", json.dumps(FEEDBACK)[:-40], "truncated"),
        ("factor", json.dumps({"candidates": [FORMULA]})[:60], "truncated"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_what_was_cut_at_its_longest_is_never_taken_for_the_whole(researcher, agent, said, kind, stream, method):
    """Pieces of a tool call can be put together to an object that is less than what was meant."""
    ask, answer = AGENTS[agent]
    server, one, _ = researcher(answer, stream=stream, methods=(method,))
    ask(one)
    for finish, failed in (("length", kind), ("stop", "malformed")):
        tool = "x" if method == "tool" else None
        server.play = lambda _, t=tool, f=finish: completion(said, tool=t, finish=f)
        _, other, _ = researcher(answer, stream=stream, base_url=server.url, methods=(method,))
        with pytest.raises(ResearcherError) as caught:
            ask(other)
        assert caught.value.kind == failed


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": -5_000_000, "completion_tokens": 20}, False),
        ({"prompt_tokens": 100, "completion_tokens": 10**19}, False),
        ({"prompt_tokens": None, "completion_tokens": None}, False),
        ({"prompt_tokens": 100, "completion_tokens": 20}, True),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_only_credible_counts_of_tokens_are_booked(researcher, usage, counted, stream):
    answer = completion(IDEA)
    answer["usage"] = {**usage, "total_tokens": 120}
    _, one, calls = researcher(answer, stream=stream)
    with suppress(ResearcherError):
        one.propose(BRIEF)
    call = calls()[0]
    assert ((call["input_tokens"], call["output_tokens"]) == (100, 20)) is counted
    assert counted or 300 < call["input_tokens"] < 5000
    assert counted or 30 < call["output_tokens"] <= 16_000


def test_a_usage_that_is_told_with_each_piece_is_counted_once(researcher):
    server, one, calls = researcher(IDEA, stream=True)
    server.running_usage = True
    one.propose(BRIEF)
    assert [(call["input_tokens"], call["output_tokens"]) for call in calls()] == [(100, 20)]


@pytest.mark.parametrize("stream", [False, True])
def test_text_that_cannot_be_encoded_ends_no_run(researcher, stream):
    _, one, calls = researcher(completion(json.dumps({**IDEA, "statement": "a \ud800 b"})), stream=stream)
    assert one.propose(BRIEF).statement == "a b"
    refusing, one, calls = researcher(completion("\ud800 said \x1b]0;title\x07"), stream=stream)
    with pytest.raises(ResearcherError) as caught:
        one.propose(BRIEF)
    assert caught.value.kind == "malformed"
    refusing.play = lambda _: Fault(400, names="\ud800\x1b[2J")
    with pytest.raises(ResearcherError) as caught:
        one.propose(BRIEF.model_copy(update={"round": 2}))
    assert str(caught.value).isprintable()
    assert len(calls()) >= 2


def test_a_body_that_is_nested_without_end_or_packed_is_a_failure_like_others(researcher):
    packed = Fault(headers={"Content-Encoding": "gzip"}, body=gzip.compress(b" " * 50_000_000))
    for fault in (Fault(body=b'{"a":' * 100_000), packed):
        for stream in (False, True):
            _, one, _ = researcher(fault, stream=stream)
            with pytest.raises(ResearcherError) as caught:
                one.propose(BRIEF)
            assert caught.value.kind in {"malformed", "connection"}


def test_an_endpoint_that_takes_a_format_and_never_heeds_it_is_asked_in_words(researcher):
    server, one, _ = researcher("Let me think about it.", IDEA, "Hm, what about volume?", IDEA, IDEA)
    for number in (1, 2, 3):
        one.propose(BRIEF.model_copy(update={"round": number}))
    assert [asked_by(body) for body in server.requests] == ["json_schema"] * 4 + ["tool"]
    repairs = [body["messages"][-1]["content"] for body in server.requests[1:4:2]]
    assert all('"horizon_days": {"type": "integer"}' in prompt for prompt in repairs)


def test_a_request_that_is_too_long_or_filtered_says_nothing_of_the_endpoint(researcher):
    """Such a fault may name an argument, as one server's does."""
    words = "maximum context length is 4096 tokens: reduce max_completion_tokens"
    for fault, kind in ((Fault(400, names=words), "request"), (Fault(400, names="x content_filter"), "content_filter")):
        server, one, _ = researcher(fault)
        with pytest.raises(ResearcherError) as caught:
            one.propose(BRIEF)
        assert (caught.value.kind, len(server.requests)) == (kind, 1)
        server.play = lambda _: IDEA
        one.propose(BRIEF.model_copy(update={"round": 2}))
        assert asked_by(server.requests[-1]) == "json_schema"
        assert "max_completion_tokens" in server.requests[-1]


def test_the_older_name_of_the_largest_answer_is_tried_before_none(researcher):
    server, one, _ = researcher(IDEA, max_output_tokens=321)
    server.play = lambda body: Fault(400, names="max_completion_tokens") if "max_completion_tokens" in body else IDEA
    one.propose(BRIEF)
    one.propose(BRIEF.model_copy(update={"round": 2}))
    assert [body.get("max_tokens") for body in server.requests] == [None, 321, 321]


def test_a_call_waits_for_those_under_way_where_only_their_estimates_leave_no_room(researcher):
    server, one, calls = researcher(IDEA, budget=Budget(output_tokens=1100), max_output_tokens=1000)

    def slowly(_):
        time.sleep(0.2)
        return IDEA

    server.play = slowly
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda n: one.propose(BRIEF.model_copy(update={"round": n})), range(4)))
    assert len(found) == len(server.requests) == len(calls()) == 4


def test_nothing_is_asked_after_the_run_was_cancelled(researcher, records):
    server, one, calls = researcher(IDEA)
    meter = Meter(records.journal(calls.run.id, "host"), cancelled=lambda: True)
    server, one, calls = researcher(IDEA, run=calls.run, meter=meter)
    with pytest.raises(ResearcherError) as caught:
        one.propose(BRIEF)
    assert (caught.value.kind, len(server.requests), len(calls())) == ("interrupted", 0, 0)


@pytest.mark.parametrize("where", ["in the call", "in a call in pieces", "between two tries"])
@pytest.mark.parametrize("how", ["cancelled", "suspended"])
def test_a_call_is_given_up_at_once_when_its_run_is_stopped(researcher, records, where, how):
    asked, answered = threading.Event(), threading.Event()
    _, _, calls = researcher(IDEA)

    def stop():
        if asked.is_set() and how == "suspended":
            raise SuspendedError("the process is about to end")
        return asked.is_set()

    options = {"stream": where == "in a call in pieces", "backoff": 20.0 if where == "between two tries" else 0.001}
    meter = Meter(records.journal(calls.run.id, "host"), cancelled=stop)
    server, one, calls = researcher(IDEA, run=calls.run, meter=meter, timeout=60.0, attempts=3, **options)

    def play(_):
        if where == "between two tries":
            threading.Timer(0.3, asked.set).start()
            return Fault(503)
        asked.set()
        answered.wait(30)
        return IDEA

    server.play, began = play, time.monotonic()
    with pytest.raises(ResearcherError if how == "cancelled" else SuspendedError) as caught:
        one.propose(BRIEF)
    assert time.monotonic() - began < 10
    answered.set()
    assert getattr(caught.value, "kind", "interrupted") == "interrupted"
    [call] = calls()
    assert call["failure"] == "interrupted" if where != "between two tries" else "server"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "said",
    ["the set {} is empty: OBJECT", '<think>{"a": 1}</think>OBJECT', 'first {"statement": 3}, then OBJECT'],
)
def test_the_first_object_that_fits_is_taken(researcher, said):
    server, one, _ = researcher(completion(said.replace("OBJECT", json.dumps(IDEA))))
    assert one.propose(BRIEF).model_dump() == IDEA
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", ["temperature", "max_completion_tokens", "stream_options"])
def test_an_argument_that_the_model_does_not_take_is_left_out_from_then_on(researcher, name):
    server, one, _ = researcher(IDEA, temperature=0.5, stream=True)
    server.play = lambda body: Fault(400, names=name) if name in body else IDEA
    one.propose(BRIEF)
    one.propose(BRIEF.model_copy(update={"round": 2}))
    assert [name in body for body in server.requests] == [True, False, False]
    assert {asked_by(body) for body in server.requests} == {"json_schema"}


def test_a_request_that_is_wrong_however_it_is_asked_fails_and_is_asked_in_the_strictest_way_again(researcher):
    server, one, calls = researcher(Fault(400))
    with pytest.raises(ResearcherError):
        one.propose(BRIEF)
    assert [call["failure"] for call in calls()] == ["request"] * 4
    server.play = lambda _: IDEA
    one.propose(BRIEF)
    assert asked_by(server.requests[-1]) == "json_schema"


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
@pytest.mark.parametrize("stream", [False, True])
def test_an_object_is_found_wherever_it_stands(researcher, said, stream):
    _, one, _ = researcher(completion(said), stream=stream)
    assert one.propose(BRIEF).model_dump() == IDEA


def test_an_answer_that_does_not_fit_is_shown_once_to_the_chat_model_with_what_is_wrong(researcher):
    server, one, calls = researcher(completion(json.dumps({**IDEA, "horizon_days": 1000})), IDEA)
    assert one.propose(BRIEF).horizon_days == 5
    assert "horizon_days: Input should be less than or equal to 60" in prompt_of(server)
    assert [(call["agent"], call["model"], call["step"]) for call in calls()] == [
        ("idea", "test-model", "idea 1"), ("repair", "chat-model", "idea 1 repair")
    ]  # fmt: skip
    assert [body["model"] for body in server.requests] == ["test-model", "chat-model"]


def test_idea_and_factor_ask_the_reasoning_model_judge_and_eval_the_other_each_on_its_own_terms(researcher, serve):
    answers = {"idea": IDEA, "formulas": {"candidates": [FORMULA]}, "feedback": FEEDBACK}
    answers["judgements"] = {"judgements": [{"number": 1, **ALIGNMENT}]}
    other = serve(lambda body: answers[body["response_format"]["json_schema"]["name"]])
    judge = Endpoint(name="small", base_url=other.url, api_key=SecretStr("k2"), temperature=0.1, stream=True)
    server, one, _ = researcher(None, chat=judge, max_output_tokens=900)
    server.play = other.play
    for ask, _ in AGENTS.values():
        ask(one)
    assert [body["model"] for body in server.requests] == ["test-model"] * 3
    assert [body["model"] for body in other.requests] == ["small"] * 2
    assert all("temperature" not in body and not body.get("stream") for body in server.requests)
    assert {body["max_completion_tokens"] for body in server.requests} == {900}
    assert all(body["temperature"] == 0.1 and body["stream"] for body in other.requests)
    assert (set(server.keys), set(other.keys)) == ({f"Bearer {KEY}"}, {"Bearer k2"})


def test_one_candidate_that_cannot_be_used_does_not_cost_the_others(researcher):
    drafts = [
        {**FORMULA, "formula": "$close + " * 2000},
        {"name": "", "description": "d", "formula": "$open"},
        "$close",
        ["name", "description"],
        None,
        {**FORMULA, "name": '../../etc\n"passwd"\x00', "notes": "more"},
        {**FORMULA, "variables": [{"name": "$close", "role": "r" * 5000}]},
        FORMULA,
    ]
    _, one, _ = researcher({"candidates": drafts})
    assert [draft.name for draft in one.draft(BRIEF, HYPOTHESIS, 8)] == ['../../etc "passwd"', "n"]


def test_a_passing_fault_is_tried_again_and_what_was_used_is_counted(researcher):
    server, one, calls = researcher(Fault(500), Fault(429), IDEA)
    assert one.propose(BRIEF).horizon_days == 5
    assert len(server.requests) == 3
    assert [(call["input_tokens"], call["output_tokens"], call["failure"]) for call in calls()] == [
        (0, 0, "server"), (0, 0, "rate_limit"), (100, 20, None)
    ]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
def test_where_an_endpoint_counts_no_tokens_they_are_estimated_from_above(researcher, stream):
    server, one, calls = researcher(IDEA, counts=False, stream=stream)
    one.propose(BRIEF)
    [call] = calls()
    assert call["input_tokens"] > len(prompt_of(server)) / 4
    assert call["output_tokens"] > len(json.dumps(IDEA)) / 4


@pytest.mark.parametrize(
    ("fault", "paid"), [(Fault(401), False), (Fault(500), False), (Fault(way="hang"), True), (Fault(way="reset"), True)]
)
def test_a_call_that_failed_counts_where_it_may_have_been_paid(researcher, fault, paid):
    _, one, calls = researcher(fault, timeout=0.5, max_output_tokens=700, input_price=1.0, output_price=10.0)
    with pytest.raises(ResearcherError):
        one.propose(BRIEF)
    call = calls()[-1]
    assert (call["output_tokens"], call["input_tokens"] > 300) == ((700, True) if paid else (0, False))
    assert call["usd"] == pytest.approx((call["input_tokens"] + 10 * call["output_tokens"]) / 1e6)


@pytest.mark.parametrize(
    ("budget", "calls"),
    [({"model_calls": 2}, 2), ({"input_tokens": 1500}, 2), ({"output_tokens": 530}, 2), ({"usd": 0.0063}, 2)],
)
def test_no_call_begins_that_the_budget_has_no_room_for(researcher, budget, calls):
    """An Idea call is expected to read some 1,300 tokens and to write 500; the server counts 100 and 20."""
    server, one, told = researcher(
        IDEA, budget=Budget(**budget), max_output_tokens=500, input_price=1.0, output_price=10.0
    )
    for number in range(1, calls + 1):
        one.propose(BRIEF.model_copy(update={"round": number}))
    big = BRIEF.model_copy(update={"round": 9, "direction": "词" * 1500})
    with pytest.raises(ResearcherError) as caught:
        one.propose(big)
    assert caught.value.kind == "budget"
    assert next(iter(budget)).replace("_", " ") in str(caught.value)
    assert len(server.requests) == len(told()) == calls


def test_a_question_that_was_answered_is_not_asked_again_after_a_crash(researcher, records):
    """Another process, which knows nothing but the records, goes through the same steps."""
    server, one, calls = researcher(IDEA, completion("no object"), FEEDBACK)
    first = one.propose(BRIEF), one.reflect(BRIEF, HYPOTHESIS, [])
    assert len(server.requests) == 3
    other, again, _ = researcher(Fault(500), run=calls.run, meter=Meter(records.journal(calls.run.id, "host")))
    assert (again.propose(BRIEF), again.reflect(BRIEF, HYPOTHESIS, [])) == first
    assert (len(other.requests), len(calls())) == (0, 3)
    with pytest.raises(ResearcherError):
        again.propose(BRIEF.model_copy(update={"direction": "something else"}))


def test_a_call_that_was_cut_off_counts_and_is_sent_again_under_the_same_key(researcher, records, monkeypatch):
    keys = []
    monkeypatch.setattr(Journal, "end_call", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    server, one, calls = researcher(IDEA, max_output_tokens=700)
    with pytest.raises(KeyboardInterrupt):
        one.propose(BRIEF)
    monkeypatch.undo()
    found = records.run(calls.run.id)
    assert (found.model_calls, found.output_tokens) == (1, 700)
    one.propose(BRIEF)
    keys = server.idempotency
    assert len(keys) == 2
    assert keys[0] == keys[1] != ""
    one.propose(BRIEF.model_copy(update={"round": 2}))
    assert server.idempotency[2] != keys[0]


@pytest.mark.parametrize("asked", ["1", "1.5", "a date"])
def test_a_server_that_asks_to_be_left_alone_is(researcher, asked):
    now = time.time()
    until = int(now) + 2 if asked == "a date" else now + float(asked)
    later = formatdate(until, usegmt=True) if asked == "a date" else asked
    _, one, _ = researcher(Fault(429, {"Retry-After": later}), IDEA)
    one.propose(BRIEF)
    assert time.time() >= until


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_has_begun_may_not_fall_silent_for_long(researcher, monkeypatch, stream):
    monkeypatch.setattr(transport, "LONGEST_SILENCE", 0.3)
    _, one, _ = researcher(Fault(way="stall"), timeout=20, stream=stream)
    started = time.monotonic()
    with pytest.raises(ResearcherError) as caught:
        one.propose(BRIEF)
    assert caught.value.kind == "timeout"
    assert time.monotonic() - started < 10


def test_no_call_begins_or_lasts_when_the_run_s_time_is_up(researcher, records):
    server, one, calls = researcher(Fault(way="hang"))
    meter = Meter(records.journal(calls.run.id, "host"), deadline=time.monotonic() + 0.5)
    server, one, calls = researcher(Fault(way="hang"), run=calls.run, meter=meter)
    started = time.monotonic()
    for number in (1, 2):
        with pytest.raises(ResearcherError) as caught:
            one.propose(BRIEF.model_copy(update={"round": number}))
        assert caught.value.kind == "timeout"
    assert time.monotonic() - started < 3
    assert len(server.requests) == len(calls()) == 1


def test_an_empty_address_in_the_environment_is_none(monkeypatch, records):
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    request = RunRequest(direction="d", market="m")
    queued = records.create_run(request, universe="u", snapshot="s", seed=1, model="m")
    meter = Meter(records.journal(queued.id, "host"))
    client = chat.Chat(Endpoint(name="test-model", api_key=SecretStr(KEY)), meter)._client
    assert str(client.root_client.base_url) == "https://api.openai.com/v1/"
