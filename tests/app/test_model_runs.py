"""Whole runs whose agents a scripted model on loopback plays, through the real client, with and without faults."""

import json
from itertools import cycle
from pathlib import Path
from random import Random
from threading import Barrier

import pytest

from factors.parse import parse
from factors.prose import on_one_line
from graphs.prompts import version
from storage.records import Records
from tests.chat_server import ChatServer, Fault, completion
from tests.telling import documented

INJECTIONS = json.loads((Path(__file__).parents[1] / "injections.json").read_text())
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

    def run(play, *arguments, direction="volume {direction} {{library}}", **environment):
        server = ChatServer(play)
        servers.append(server)
        home = new_home()
        answer = cli(
            home, "mine", direction, "--market", "small", "--rounds", "3", "--attempts", "1",
            "--json", *arguments,
            **{"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.url, "ALPHAAGENT_MODELS": MODELS, **environment},
        )  # fmt: skip
        with Records.open(f"sqlite:///{home}/records.sqlite") as records:
            [newest], _ = records.runs(limit=1)
            events = documented(records.events(newest.id))
        return answer, events, home, server

    yield run
    for server in servers:
        server.close()


def files(home):
    return {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}


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


class Hostile(Competent):
    """Puts payloads, each in turn, wherever a model may write; its formulas are sound ones and payloads."""

    def __init__(self):
        super().__init__()
        self._payloads = cycle(INJECTIONS)

    def __call__(self, body):
        shape = body["response_format"]["json_schema"]["name"]
        if shape != "formulas":
            return self._poisoned(ANSWERS[shape])
        formulas = [f"RANK(TS_MEAN($close, {5 + next(self._windows)}))", next(self._payloads)[:4000]]
        return {
            "candidates": [
                {
                    "name": on_one_line(next(self._payloads))[:120],
                    "description": next(self._payloads),
                    "formula": formula,
                    "variables": [{"name": next(self._payloads)[:200], "role": next(self._payloads)[:500]}],
                }
                for formula in formulas * 4
            ]
        }

    _windows = cycle(range(90))

    def _poisoned(self, answer):
        if isinstance(answer, dict):
            return {key: self._poisoned(value) if key != "action" else value for key, value in answer.items()}
        if isinstance(answer, list):
            return [self._poisoned(item) for item in answer]
        return next(self._payloads)[:1000] if isinstance(answer, str) else answer


FREE = {"statement", "observation", "knowledge", "justification", "specification", "name", "role", "description",
        "formula", "hint", "lesson", "focus", "hypothesis", "direction", "message"}  # fmt: skip


def written(document, key=""):
    """Every text of a JSON document with the key it stands under."""
    if isinstance(document, dict):
        for name, value in document.items():
            yield name, "key of an object"
            yield from written(value, name)
    elif isinstance(document, list):
        for item in document:
            yield from written(item, key)
    elif isinstance(document, str):
        yield document, key


def test_payloads_stay_in_the_fields_that_people_and_models_write(mine):
    """What is not free text is the same as in a run of harmless words, and nothing but the records is written."""
    direction = "x " + " ".join(INJECTIONS[::40])
    harmless, _, clean, _ = mine(Competent(), "--rounds", "8", "--directions", "2")
    answer, events, home, server = mine(Hostile(), "--rounds", "8", "--directions", "2", direction=direction)
    assert (answer.status, answer.json["status"], answer.json["rounds"]) == (0, "succeeded", 8)
    assert harmless.json["status"] == "succeeded"
    lines = {on_one_line(payload)[:60] for payload in INJECTIONS if len(on_one_line(payload)) > 12}
    seen = set()
    for event in events:
        for text, key in written(event.data):
            found = {line for line in lines if on_one_line(text).startswith(line)}
            assert not found or key in FREE, (event.type, key, text)
            seen |= found
    assert len(seen) > 100
    drafted = [event.data["candidate"] for event in events if event.type == "candidate.drafted"]
    for event in events:
        if event.type == "candidate.evaluated":
            parse(event.data["evaluation"]["formula"])
    assert all(one["name"].isprintable() and one["description"].isprintable() for one in drafted)
    assert files(home) <= files(clean)
    assert not leaks(home, answer.out, answer.err)
    assert "\x1b" not in answer.out + answer.err
    prompts = [body["messages"][-1]["content"] for body in server.requests]
    assert not any(KEY in prompt for prompt in prompts)


def test_a_run_of_several_directions_asks_its_models_side_by_side(mine):
    """Three rounds begin before any ends, and each costs what it would alone."""
    answer, events, _, server = mine(Competent(), "--directions", "3")
    kinds = [(event.type, event.data.get("round")) for event in events]
    first_end = next(k for k, (kind, _) in enumerate(kinds) if kind == "round.completed")
    assert {number for kind, number in kinds[:first_end] if kind == "hypothesis.proposed"} == {1, 2, 3}
    assert answer.json["model_calls"] == len(server.requests)
    assert answer.json["rounds"] == 3


def test_no_direction_waits_for_a_thread(mine):
    """The model answers its eight first questions only once all of them have come."""
    competent, together = Competent(), Barrier(8)

    def play(body):
        if body["response_format"]["json_schema"]["name"] == "idea":
            together.wait(timeout=20)
        return competent(body)

    answer, events, _, _ = mine(play, "--rounds", "8", "--directions", "8", "--attempts", "0")
    assert answer.json["status"] == "succeeded"
    assert not any(event.type == "agent.failed" for event in events)


def test_what_calls_cost_is_counted_where_the_price_is_known(mine):
    models = {"gpt-5-mini": {"input_price": 2.0, "output_price": 10.0}, "small": {}}
    answer, _, _, server = mine(Competent(), ALPHAAGENT_MODELS=json.dumps(models), ALPHAAGENT_CHAT="small")
    asked = [body["model"] for body in server.requests]
    priced, unpriced = asked.count("gpt-5-mini"), asked.count("small")
    assert answer.json["usd"] == pytest.approx(priced * (100 * 2 + 20 * 10) / 1e6)
    assert (answer.json["unpriced_calls"], priced > 0) == (unpriced, True)
    models = {"gpt-5-mini": {"input_price": 2.0, "output_price": 10.0, "max_output_tokens": 1000}}
    answer, events, _, _ = mine(Competent(), "--usd", "0.017", ALPHAAGENT_MODELS=json.dumps(models))
    assert (events[-1].type, events[-1].data["limit"]) == ("run.succeeded", "usd")
    assert 0 < answer.json["usd"] <= 0.017


def test_a_budget_without_room_for_the_first_call_ends_the_run_as_succeeded(mine):
    answer, events, _, server = mine(Competent(), "--input-tokens", 10)
    assert (answer.status, answer.json["status"], answer.json["error"]) == (0, "succeeded", None)
    assert (events[-1].data["reason"], events[-1].data["limit"]) == ("budget", "input_tokens")
    assert not server.requests


def test_a_user_s_allowance_ends_the_run_and_refuses_the_next(new_home, cli):
    server = ChatServer(Competent())
    home = new_home()
    environment = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.url, "ALPHAAGENT_QUOTA__MODEL_CALLS": "4"}
    mined = cli(home, "mine", "d", "--market", "small", "--rounds", "3", "--json", **environment)
    assert (mined.status, mined.json["status"], mined.json["model_calls"]) == (0, "succeeded", 4)
    refused = cli(home, "mine", "d", "--market", "small", "--json", **environment)
    assert (refused.status, len(server.requests)) == (2, 4)
    assert "user model calls" in refused.err
    offline = cli(
        home, "mine", "d", "--market", "small", "--rounds", "1", "--model", "offline", "--json", **environment
    )
    assert offline.status == 2
    server.close()


def test_a_run_names_a_model_of_the_server_s_list(mine, new_home, cli):
    models = json.dumps({"large": {"name": "vendor/large-1", "temperature": 0.3}})
    answer, events, _, server = mine(Competent(), "--model", "large", ALPHAAGENT_MODELS=models)
    assert answer.json["status"] == "succeeded"
    assert {body["model"] for body in server.requests} == {"vendor/large-1"}
    assert events[0].data["model"] == "large"
    refused = cli(new_home(), "mine", "d", "--market", "small", "--model", "huge", OPENAI_API_KEY=KEY)
    assert refused.status == 2
    assert "model 'huge' is not one of this server's: gpt-5-mini, offline" in refused.err


def test_each_result_names_the_prompts_that_led_to_it(mine):
    answer, events, _, _ = mine(Competent())
    templates = {agent: version(agent) for agent in ("idea", "factor", "revise", "judge", "feedback")}
    for event in events:
        if event.type == "hypothesis.proposed":
            assert event.data["prompt"] == templates["idea"]
        elif event.type == "candidate.drafted":
            rewritten = event.data["candidate"]["attempt"]
            assert event.data["prompt"] == templates["revise" if rewritten else "factor"]
        elif event.type == "candidate.judged":
            judged = "alignment" in {check["name"] for check in event.data["verdict"]["checks"]}
            assert event.data["prompt"] == (templates["judge"] if judged else None)
        elif event.type == "round.completed":
            assert event.data["prompt"] == templates["feedback"]
        elif event.type == "model.called":
            assert event.data["call"]["template"] == templates[event.data["call"]["agent"]]
    for factor in answer.json["accepted"]:
        writer = "revise" if factor["lineage"]["candidate"].endswith("1") else "factor"
        assert factor["lineage"]["prompts"] == {agent: templates[agent] for agent in ("idea", writer, "judge")}
