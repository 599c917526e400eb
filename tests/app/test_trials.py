"""Whatever anybody measures is one trial of the team's: runs, requests over HTTP and the command line alike."""

import json
import os
import sqlite3
from contextlib import closing
from datetime import date, timedelta

import polars as pl
import pytest

from app.service import create_service
from app.settings import Settings
from factors.evaluator import Evaluator
from factors.hypothesis import factor_id
from factors.parse import parse
from storage.markets import publish
from storage.records import Records
from tests.local import local_client
from tests.telling import documented
from tests.traces import mined

FORMULA, SPELT = "RANK($close - DELAY($close, 7))", "RANK(2 * RANK($close - DELAY($close, 7)) + 1)"
RECIPE = ("--rounds", "2", "--seed", "1")


@pytest.fixture
def client(home):  # noqa: ARG001 - the settings name it
    with local_client(create_service(Settings())) as opened:
        yield opened


def rows(home, table="trials", order="number"):
    with closing(sqlite3.connect(home / "records.sqlite")) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY {order}")]


def ask(client, formula, **how):
    answer = client.post("/evaluations", json={"formula": formula, "market": "small", **how})
    assert answer.status_code == 200, answer.text
    return answer.json()


def told_of_run(home, run_id):
    with Records.open(f"sqlite:///{home}/records.sqlite") as records:
        found, _ = records.candidates(run_id, limit=None)
        return found, documented(records.events(run_id))


@pytest.mark.parametrize("model", [False, True], ids=["offline", "language model"])
def test_every_evaluated_candidate_is_one_row_and_a_refused_one_is_none(new_home, cli, model):
    home = new_home()
    answer, _ = mined(cli, home, *RECIPE, "--attempts", "1", model=model)
    run = answer.json["run_id"]
    candidates, events = told_of_run(home, run)
    tried = [one for one in candidates if one.evaluation]
    refused = [one for one in candidates if not one.verdict.accepted]
    ids = [factor_id("small", parse(one.evaluation.formula)) for one in tried]
    found = rows(home)
    assert sorted(row["factor_id"] for row in found) == sorted(ids)
    assert [row["number"] for row in found] == list(range(1, len(ids) + 1))
    assert {row["run_id"] for row in found} == {run}
    assert any(one.accepted for one in tried)
    assert not all(one.accepted for one in tried)
    parsed = [one.candidate.formula for one in refused if one.verdict.checks[0].passed]
    assert not {factor_id("small", parse(formula)) for formula in parsed} & set(ids)
    assert bool(refused) is model  # the offline researcher drafts within the limits
    by_id = {row["factor_id"]: row for row in found}
    for one, number in zip(tried, ids, strict=True):
        for name in ("splits", "evidence", "standing"):
            assert one.evaluation.model_dump(mode="json")[name] == json.loads(by_id[number][name])
    told = [event.data["evaluation"] for event in events if event.type == "candidate.evaluated"]
    assert {one["candidate_id"]: one for one in told} == {
        one.candidate.id: one.evaluation.model_dump(mode="json") for one in tried
    }
    for factor in answer.json["accepted"]:
        assert factor["standing"] == json.loads(by_id[factor["id"]]["standing"])
        assert factor["evidence"] == json.loads(by_id[factor["id"]]["evidence"])


def test_a_formula_measured_by_hand_is_one_trial_and_is_computed_once(home, client, cli, monkeypatch):
    first = ask(client, FORMULA)
    [row] = rows(home)
    assert (row["number"], row["run_id"], row["formula"]) == (1, None, FORMULA)
    assert first["evaluation"]["splits"] == json.loads(row["splits"])

    def computed(*_):
        pytest.fail("computed again")

    again = ask(client, SPELT)  # which is computed, and found to have the same figures
    monkeypatch.setattr(Evaluator, "values", computed)
    assert again["evaluation"].pop("formula") == SPELT
    assert first["evaluation"].pop("formula") == FORMULA
    assert again == first
    typed = cli(home, "eval", FORMULA, "--market", "small", "--json").json
    assert {**typed["evaluation"], "formula": ""} == {**first["evaluation"], "formula": ""}
    assert typed["checks"] == first["checks"]
    assert rows(home) == [row]


def test_what_was_tried_by_hand_is_no_new_trial_of_a_run_nor_the_other_way_round(new_home, cli):
    home, alone = new_home(), new_home()
    answer, _ = mined(cli, alone, *RECIPE)
    candidates, _ = told_of_run(alone, answer.json["run_id"])
    formulas = [one.evaluation.formula for one in candidates if one.evaluation]
    for formula in formulas[:3]:
        assert cli(home, "eval", formula, "--market", "small", "--json").status == 0
    mined(cli, home, *RECIPE)
    found = rows(home)
    assert len(found) == len(rows(alone)) == len(formulas)
    assert [row["run_id"] is None for row in found] == [True] * 3 + [False] * (len(formulas) - 3)
    assert cli(home, "eval", formulas[-1], "--market", "small").status == 0
    assert rows(home) == found


def test_another_universe_or_snapshot_is_a_new_trial(home, client, small):
    ask(client, FORMULA)
    ask(client, FORMULA, universe="all")
    ask(client, FORMULA, universe="synthetic200")
    assert len(rows(home)) == 2
    options = {"membership": small.membership, "sectors": small.sectors, "synthetic": True}
    later = small.valid_end + timedelta(days=40)
    publish(home, "small", small.bars, **options, train_end=small.train_end, valid_end=later)
    ask(client, FORMULA)
    assert [row["number"] for row in rows(home)] == [1, 2, 3]
    assert len({(row["snapshot"], row["universe"]) for row in rows(home)}) == 3


def test_what_is_no_formula_is_no_trial(home, client):
    answer = client.post("/evaluations", json={"formula": "RANK($clsoe)", "market": "small"})
    assert answer.status_code == 422
    assert client.post("/evaluations", json={"formula": FORMULA, "market": "none"}).status_code == 404
    assert client.post("/evaluations", json={"formula": FORMULA, "market": "small", "trial": 1}).status_code == 422
    assert rows(home) == []


def test_a_stopped_candidate_is_no_trial(new_home, cli):
    home = new_home()
    answer = cli(home, "mine", "d", "--market", "small", "--rounds", "500", "--seconds", "2", "--seed", "1", "--json")
    candidates, _ = told_of_run(home, answer.json["run_id"])
    tried = [one for one in candidates if one.evaluation]
    assert answer.json["stopped"] == "seconds"
    assert 0 <= len(rows(home)) - len({factor_id("small", parse(one.evaluation.formula)) for one in tried}) <= 8
    assert [row["number"] for row in rows(home)] == list(range(1, len(rows(home)) + 1))


def test_the_ledger_is_told_alike_everywhere_and_adds_up(home, client, cli, small):
    publish(home, "empty", small.bars, train_end=small.train_end, valid_end=small.valid_end)
    for formula in (FORMULA, "RANK($volume)", "-TS_CORR($close, $volume, 9)", SPELT):
        ask(client, formula)
    told = client.get("/ledger").json()
    assert told == cli(home, "ledger", "--json").json
    assert [one["market"] for one in told] == ["empty", "small"]
    assert client.get("/ledger", params={"market": "small"}).json() == told[1:]
    assert cli(home, "ledger", "--market", "small", "--json").json == told[1:]
    found = [json.loads(row["evidence"]) for row in rows(home)]
    mean = sum(one["sharpe"] for one in found) / 3
    assert (told[0]["trials"], told[1]["trials"]) == (0, 3)
    assert told[1]["score_variance"] == pytest.approx(sum((one["sharpe"] - mean) ** 2 for one in found) / 2)
    assert told[1]["null_variance"] == pytest.approx(sum(1 / one["observations"] for one in found) / 3)
    assert told[1]["discoveries"] == sum(row["discovery"] for row in rows(home))
    assert client.get("/ledger", params={"market": "none"}).status_code == 404


def test_a_run_repeated_after_others_have_tried_accepts_the_same_with_the_same_standings(new_home, cli):
    home = new_home()
    one, _ = mined(cli, home, *RECIPE)
    mined(cli, home, "--rounds", "2", "--seed", "7")
    cli(home, "eval", FORMULA, "--market", "small")
    tried = rows(home)
    other, _ = mined(cli, home, *RECIPE)
    assert rows(home) == tried
    strip = {"run_id", "created_at"}
    plain = [
        [{name: value for name, value in factor.items() if name not in strip} for factor in answer.json["accepted"]]
        for answer in (one, other)
    ]
    assert plain[0] == plain[1]
    assert plain[0]
    runs = [told_of_run(home, answer.json["run_id"])[0] for answer in (one, other)]
    assert [run.evaluation for run in runs[0]] == [run.evaluation for run in runs[1]]
    assert len(tried) > len([run for run in runs[0] if run.evaluation])


def test_a_run_of_a_model_tells_what_came_before_and_after_the_end_of_its_training(new_home, cli, small):
    home, cutoff = new_home(), date(2013, 6, 28)
    models = json.dumps({"gpt-5-mini": {"training_cutoff": cutoff.isoformat()}})
    answer, _ = mined(cli, home, *RECIPE, model=True, ALPHAAGENT_MODELS=models)
    candidates, events = told_of_run(home, answer.json["run_id"])
    days = small.bars["date"].unique().sort()
    read = days.filter(days <= cutoff).len() - 2
    tried = [one.evaluation for one in candidates if one.evaluation]
    assert len(tried) > 2
    for evaluation in tried:
        before, after = evaluation.memory
        assert before.days == read - parse(evaluation.formula).look_back
        assert before.days + after.days == evaluation.evidence.days
    told = [event.data["evaluation"]["memory"] for event in events if event.type == "candidate.evaluated"]
    assert [len(memory) for memory in told] == [2] * len(tried)
    offline, _ = mined(cli, home, *RECIPE, ALPHAAGENT_MODELS=models)
    candidates, _ = told_of_run(home, offline.json["run_id"])
    assert {one.evaluation.memory for one in candidates if one.evaluation} == {()}


def test_a_run_of_another_user_adds_to_the_same_ledger(new_home, cli, monkeypatch):
    home = new_home()
    for user, seed in (("ada", "1"), ("bob", "7")):
        monkeypatch.setitem(os.environ, "LOGNAME", user)
        mined(cli, home, "--rounds", "1", "--seed", seed)
    found = rows(home)
    assert {row["user"] for row in found} == {"ada", "bob"}
    assert [row["number"] for row in found] == list(range(1, len(found) + 1))


def test_looking_at_a_factor_of_the_library_is_no_new_trial(new_home, cli):
    home = new_home()
    answer, _ = mined(cli, home, "--rounds", "3", "--seed", "1")
    tried = rows(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALPHAAGENT_HOME", str(home))
        with local_client(create_service(Settings())) as client:
            for factor in answer.json["accepted"]:
                shown = client.get(f"/factors/{factor['id']}/appraisal").json()
                assert shown["evaluation"]["standing"] == factor["standing"]
            assert client.get(f"/runs/{answer.json['run_id']}/overfitting").status_code == 200
    assert rows(home) == tried
    assert pl.DataFrame(tried).height > len(answer.json["accepted"]) > 0
