"""Each fault of each agent in a whole run: one typed event, a valid end, and the next healthy answer is used."""

import time
from itertools import cycle

import pytest
from pydantic import SecretStr

from graphs.endpoint import Endpoint
from graphs.llm import LanguageModelResearcher
from graphs.metering import Meter
from graphs.workbench import Workbench
from tests.chat_faults import IN_PIECES, WHOLE
from tests.chat_server import ChatServer

pytestmark = pytest.mark.usefixtures("forget")
KEY = "sk-canary-5301"
SECONDS = 2.0
AGENTS = ("idea", "factor", "revise", "judge", "feedback")
FAULTS = [
    *((f"{name}, whole", *case[:2], False) for name, case in WHOLE.items()),
    *((f"{name}, in pieces", *case[:2], True) for name, case in IN_PIECES.items() if name not in WHOLE),
]
# Each fault meets one agent in a whole run, the agents in turn; tests/graphs/test_llm.py has each fault of each agent.
CASES = [
    pytest.param(agent, *case, id=f"{agent}-{name}")
    for agent, (name, *case) in zip(cycle(AGENTS), FAULTS, strict=False)
]
WORDS = dict.fromkeys(("statement", "observation", "knowledge", "justification", "specification"), "volume is spent")
JUDGED = {"hypothesis_description": 1, "hypothesis_reason": "-", "description_formula": 1, "formula_reason": "-"}
DIFFERENT = ("RANK($open)", "TS_STD($close, 20)", "$high / $low", "TS_SKEW($return, 20)", "TS_ARGMAX($volume, 9)")
TOO_FAR = "TS_MEAN($close, 300)"  # looks back further than the gate allows, so that it is rewritten


class Model:
    """Answers every agent well, but for one of them whose answers are a fault until the run has told of its failure."""

    def __init__(self, agent, fault):
        self._agent, self._fault, self._fresh = agent, fault, iter(DIFFERENT)
        self.has_failed = lambda: False

    def __call__(self, body):
        shape, prompt = body["response_format"]["json_schema"]["name"], body["messages"][-1]["content"]
        agent = {"formulas": "factor", "judgements": "judge"}.get(shape, shape)
        if shape == "formulas" and "The gate refused" in prompt:
            agent = "revise"
        if agent == self._agent and not self.has_failed():
            return self._fault
        return self._answer(agent, prompt)

    def _answer(self, agent, prompt):
        if agent == "idea":
            return {**WORDS, "horizon_days": 1}
        if agent == "feedback":
            return {"supported": True, "lesson": "l", "action": "refine", "focus": "f"}
        if agent == "judge":
            return {"judgements": [{"number": n, **JUDGED} for n in range(1, 1 + prompt.count('{"number":'))]}
        fresh = next(self._fresh)
        formulas = [fresh] if agent == "revise" else [fresh, TOO_FAR]
        return {"candidates": [{"name": "n", "description": "d", "formula": f, "variables": []} for f in formulas]}


@pytest.fixture
def run_of(bench_of, records):
    servers = []

    def start(model, *, stream):
        server = ChatServer(model)
        servers.append(server)

        def researcher(run):
            terms = {"base_url": server.url, "timeout": SECONDS, "stream": stream, "backoff": 0.001}
            endpoint = Endpoint(name="m", api_key=SecretStr(KEY), **terms)
            return LanguageModelResearcher(endpoint, endpoint, Meter(records.journal(run.id, "test")))

        bench = bench_of(researcher, rounds=2, candidates=2, attempts=1)
        model.has_failed = lambda: any(event.type == "agent.failed" for event in records.events(bench.run.id))
        return bench

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize(("agent", "fault", "kind", "stream"), CASES)
def test_a_run_takes_note_of_the_fault_and_goes_on(run_of, agent, fault, kind, stream, mined):
    bench = run_of(Model(agent, fault), stream=stream)
    assert isinstance(bench, Workbench)
    started = time.monotonic()
    state = mined(bench)
    assert time.monotonic() - started < 10 * SECONDS
    assert (state["stopped"], state["round"]) == ("rounds", 2)
    events = bench.records.events(bench.run.id)
    [failed] = [event.data for event in events if event.type == "agent.failed"]
    assert (failed["round"], failed["agent"], failed["kind"]) == (1, agent, kind)
    assert failed["message"].isprintable()
    assert KEY not in "".join(event.model_dump_json() for event in events)
    assert [event.data["round"] for event in events if event.type == "round.completed"] == [1, 2]
    measured = [event.data["round"] for event in events if event.type == "candidate.evaluated"]
    assert 2 in measured
    assert (1 in measured) is (agent not in {"idea", "factor"})
    assert len(state["hypotheses"]) == (1 if agent == "idea" else 2)
    assert set(state["feedback"]) == {"h2"} if agent in {"idea", "feedback"} else {"h1", "h2"}
    calls = [event.data["call"] for event in events if event.type == "model.called"]
    assert len(calls) == bench.records.run(bench.run.id).model_calls
