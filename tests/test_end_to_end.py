"""A team's day: a service mines over HTTP, its events are followed, and the command line reads the same library."""

import json


def test_what_the_service_mines_the_command_line_can_check(new_home, serve, cli, alphaagent):
    home = new_home()
    service = serve(home)
    assert service.get("/healthz").json() == {"status": "ok"}

    budget = {"rounds": 3, "candidates": 4}
    answer = service.post(direction="volume shocks that overshoot", market="small", seed=3, budget=budget)
    assert answer.status_code == 202
    place = answer.headers["location"]
    events = [
        json.loads(line.removeprefix("data: "))
        for line in service.lines(answer.json()["id"])
        if line.startswith("data: ")
    ]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["type"] == "run.succeeded"

    run = service.get(place).json()
    assert run["status"] == "succeeded"
    assert (run["rounds"], run["evaluations"]) == (3, sum(event["type"] == "candidate.evaluated" for event in events))

    library = service.get("/factors").json()["items"]
    accepted = [event["data"]["factor"] for event in events if event["type"] == "factor.accepted"]
    assert library
    told = [{**factor, "status": "lead"} for factor in accepted]
    assert sorted(library, key=lambda factor: factor["id"]) == sorted(told, key=lambda factor: factor["id"])

    listed = alphaagent(home, "factors", "list", "--json")  # while the service runs
    assert (listed.status, listed.err) == (0, "")
    assert listed.json == library

    best = library[0]
    measured = cli(home, "eval", best["formula"], "--market", "small", "--json").json["evaluation"]
    assert (measured["snapshot"], measured["splits"]) == (best["snapshot"], best["splits"])
    again = cli(home, "check", best["formula"], "--market", "small", "--json")
    assert again.status == 1
    assert "duplicate" in [check["name"] for check in again.json["checks"] if not check["passed"]]

    repeated = service.post(direction="volume shocks that overshoot", market="small", seed=3, budget=budget).json()
    list(service.lines(repeated["id"]))
    assert service.get(f"/runs/{repeated['id']}").json()["accepted"] == run["accepted"]
    assert service.get("/factors").json()["items"] == library
