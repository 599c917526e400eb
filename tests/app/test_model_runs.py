"""Whole runs whose agents a scripted model on loopback plays, through the real client, with and without faults."""

import json
from random import Random

import pytest

from storage.records import Records
from tests.chat_server import ChatServer, Fault, completion

KEY = "sk-canary-5301"
MODELS = json.dumps({"gpt-5-mini": {"timeout": 5, "max_output_tokens": 1000}})
FORMULAS = [
    "-DECAYLINEAR($return * TS_RANK($volume, 40), 5)",
    "-TS_CORR($return, $volume, 20)",
    "RANK($open)",
    "TS_MEAN($close, 300)",
    "RANK($clsoe)",
    "DELAY($close, -1)",
    "__import__('os').system('true')",
    "{direction}",
]
ANSWERS = {
    "idea": {
        "statement": "Volume that comes with gains is spent.",
        "observation": "o",
        "knowledge": "k",
        "justification": "j",
        "specification": "s",
        "horizon_days": 1,
    },
    "judgements": {
        "judgements": [
            {
                "number": number,
                "hypothesis_description": 1.0,
                "hypothesis_reason": "it does",
                "description_formula": 1.0,
                "formula_reason": "it does",
            }
            for number in range(1, 9)
        ]
    },
    "feedback": {"supported": True, "lesson": "go on", "action": "refine", "focus": "shorter windows"},
}
FAULTS = (
    Fault(401), Fault(404), Fault(500), Fault(way="reset"), Fault(body=b"{"), completion(None), completion("no"),
    completion("{}"), completion(None, refusal="no"),
)  # fmt: skip


class Competent:
    """Answers what each agent is asked for; ``trouble`` is the share of requests that a fault is drawn for."""

    def __init__(self, trouble=0.0, seed=0):
        self._draw, self._trouble, self._left = Random(seed), trouble, list(FORMULAS)

    def __call__(self, body):
        if self._draw.random() < self._trouble:
            return self._draw.choice(FAULTS)
        shape = body["response_format"]["json_schema"]["name"]
        if shape != "formulas":
            return ANSWERS[shape]
        if "The gate refused" in body["messages"][-1]["content"]:
            batch = ["RANK($low)"]
        else:
            batch, self._left = self._left[:4] or ["RANK($high)"], self._left[4:]
        return {
            "candidates": [
                {"name": f"n {k}", "description": "d", "formula": text, "variables": []} for k, text in enumerate(batch)
            ]
        }


@pytest.fixture
def mine(new_home, cli):
    """Mines with a model that plays; gives the answer, the run's events and its home."""
    servers = []

    def run(play, *arguments, **environment):
        server = ChatServer(play)
        servers.append(server)
        home = new_home()
        answer = cli(
            home, "mine", "volume {direction} {{library}}", "--market", "small", "--rounds", "3", "--attempts", "1",
            "--json", *arguments, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=server.url, ALPHAAGENT_MODELS=MODELS,
            **environment,
        )  # fmt: skip
        with Records.open(f"sqlite:///{home}/records.sqlite") as records:
            [newest], _ = records.runs(limit=1)
            events = records.events(newest.id)
        return answer, events, home, server

    yield run
    for server in servers:
        server.close()


def leaks(home, *texts):
    """Whether the key stands in a file of the home or a text."""
    files = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    return any(KEY.encode() in data for data in files) or any(KEY in text for text in texts)


def test_a_competent_model_mines_and_what_is_no_formula_is_refused(mine):
    answer, events, home, server = mine(Competent())
    assert (answer.status, answer.json["status"]) == (0, "succeeded")
    assert "-TS_CORR($return, $volume, 20)" in [one["formula"] for one in answer.json["accepted"]]
    judged = {event.data["candidate_id"]: event.data["verdict"] for event in events if event.type == "candidate.judged"}
    unread = [one for one in judged.values() if one["checks"][0]["name"] == "parse"]
    assert len(unread) == 4
    calls = [event.data["call"] for event in events if event.type == "model.called"]
    assert {call["agent"] for call in calls} == {"idea", "factor", "revise", "judge", "feedback"}
    assert all((call["input_tokens"], call["output_tokens"], call["failure"]) == (100, 20, None) for call in calls)
    assert len(calls) == len(server.requests) == answer.json["model_calls"]
    assert (answer.json["input_tokens"], answer.json["output_tokens"]) == (100 * len(calls), 20 * len(calls))
    assert (events[-1].data["reason"], events[-1].data["limit"]) == ("rounds", "rounds")
    assert not any(event.type == "agent.failed" for event in events)
    assert not leaks(home, answer.out, answer.err)
    assert server.keys == [f"Bearer {KEY}"] * len(calls)


@pytest.mark.parametrize("seed", range(3))
def test_a_run_survives_a_model_that_fails_every_third_time(mine, seed):
    answer, events, home, _ = mine(Competent(trouble=0.33, seed=seed))
    assert answer.json["status"] in {"succeeded", "failed"}
    failed = [event.data for event in events if event.type == "agent.failed"]
    assert failed
    assert all(fault["kind"] != "unable" and fault["message"] for fault in failed)
    completed = [event for event in events if event.type == "round.completed"]
    assert [event.data["round"] for event in completed] == [1, 2, 3]
    proposed = [event for event in events if event.type == "hypothesis.proposed"]
    assert (answer.json["status"] == "failed") is (not proposed)
    assert not leaks(home, answer.out, answer.err, json.dumps([event.data for event in events]))


@pytest.mark.parametrize(
    ("option", "limit"), [("--model-calls", 4), ("--input-tokens", 3000), ("--output-tokens", 1070)]
)
def test_a_run_that_is_out_of_budget_ends_as_succeeded_and_says_so(mine, option, limit):
    answer, events, _, server = mine(Competent(), option, limit)
    assert (answer.status, answer.json["status"]) == (0, "succeeded")
    name = option.removeprefix("--").replace("-", "_")
    assert (events[-1].type, events[-1].data["reason"], events[-1].data["limit"]) == ("run.succeeded", "budget", name)
    assert 0 < len(server.requests) <= 14
    assert {event.data["kind"] for event in events if event.type == "agent.failed"} <= {"budget"}


def test_a_run_that_never_gets_a_hypothesis_fails_with_the_reason(mine):
    answer, events, home, server = mine(lambda _: Fault(401))
    assert answer.status == 2
    assert answer.json["status"] == "failed"
    assert "AuthenticationError" in answer.json["error"]
    assert [event.data["kind"] for event in events if event.type == "agent.failed"] == ["authentication"] * 3
    assert len(server.requests) == 3
    assert not leaks(home, answer.out, answer.err)
