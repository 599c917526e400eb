"""Imports that the service is asked for: from one folder alone, told to their end whatever becomes of the server."""

import fcntl
import os
import signal
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from socket import socketpair

import httpx
import polars as pl
import pytest

from app import importer
from app.importer import WORD, Order
from app.messages import receive, send
from app.service import create_service
from app.settings import Settings
from storage.imports import INTERRUPTED, ImportRequest
from storage.markets import open_market, versions
from storage.records import Records
from tests.local import local_client
from tests.problems import assert_problem
from tests.processes import content, status, until

DAYS = {"train_end": "2020-02-10", "valid_end": "2020-03-10"}


def bars(days=90, symbols=("A", "B")):
    dates = [date(2020, 1, 1) + timedelta(days=k) for k in range(days)]
    rows = [(day, symbol, 10.0, 11.0, 9.0, 10.5, 1e6) for day in dates for symbol in symbols]
    return pl.DataFrame(rows, ["date", "symbol", "open", "high", "low", "close", "volume"], orient="row")


@pytest.fixture
def folder(home):
    """The import folder of a home: bars as a file and as a folder, and what may stand beside them."""
    folder = home / "imports"
    (folder / "vendor").mkdir(parents=True)
    bars().write_parquet(folder / "daily.parquet")
    for symbol in "AB":
        bars(symbols=[symbol]).drop("symbol").write_csv(folder / "vendor" / f"{symbol}.csv")
    (folder / "index.csv").write_text("symbol,start,end,index\nA,,,big\n")
    (folder / "sectors.csv").write_text("symbol,sector\nA,energy\nB,food\n")
    (folder / "twice.csv").write_text(bars().write_csv() + "2020-01-01,A,10.0,11.0,9.0,10.5,1000000.0\n")
    (folder / "wrong.csv").write_text("date,symbol,open,high,low,close,volume\n2020-01-01,A,1,2,0,one,1\n")
    return folder


@pytest.fixture
def client(home, folder):  # noqa: ARG001 - the service finds it
    with local_client(create_service(Settings(home=home))) as opened:
        yield opened


def ended(client, answer):
    """The import that a POST has begun, once it has ended."""
    assert answer.status_code == 202, answer.text

    def over():
        found = client.get(answer.headers["location"]).json()
        return found["status"] != "running" and found

    return until(over)


@contextmanager
def held(home, market):
    """Nobody can publish the market meanwhile."""
    folder = home / "markets" / market
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def importers(server):
    """The processes that a server has import."""
    found = (int(path.name) for path in Path("/proc").glob("[0-9]*") if status(path.name).get("PPid") == str(server))
    return {pid for pid in found if b"app.importer" in content(pid, "cmdline")}


# what becomes of it


def test_an_import_is_told_to_its_end_and_makes_the_market(client, home):
    body = {"dataset": "twice", "membership": "index", "sectors": "sectors", **DAYS}
    answer = client.post("/markets/fresh/imports", json=body)
    begun = answer.json()
    assert answer.headers["location"] == f"/markets/fresh/imports/{begun['id']}"
    done = ended(client, answer)
    snapshot = open_market(home, "fresh")
    assert (done["status"], done["error"], done["snapshot"]) == ("done", None, snapshot.id)
    assert done["request"]["dataset"] == "twice"
    assert done["told"] == ["1 rows are there more than once, and count once"]
    assert done["rows_done"] == done["rows_total"] == 180
    assert done["created_at"] < done["finished_at"]
    report = done["report"]
    assert (report["rows"], report["instruments"], report["valid_end"]) == (140, 2, "2020-03-10")
    assert (report["universes"], report["has_holdout"]) == (["big", "all"], True)
    assert snapshot.columns[-1] == "sector"
    found = {rule["rule"]: rule["findings"] for rule in client.get("/markets/fresh/quality").json()["rules"]}
    assert found == {rule["rule"]: rule["findings"] for rule in report["rules"]}
    with Records.open(Settings(home=home).records_url) as records:
        [entry] = [one for one in records.audit.page()[0] if one.act == "market.imported"]
    assert (entry.subject, entry.client) == (snapshot.id, "127.0.0.1")


def test_rows_are_counted_up_and_once(home, folder, monkeypatch):
    monkeypatch.setattr(importer, "COUNT_SECONDS", -1.0)
    few = {name: value for name, value in ImportRequest(dataset="x").model_dump().items() if name in Order.model_fields}
    order = Order(**few | {"holdout": False}, home=home, market="fresh", source=folder / "daily.parquet", reference={})
    ours, theirs = socketpair()
    with ours, theirs:
        done = importer._outcome(order, theirs)
        send(theirs, done, lambda: None)
        told = [WORD.validate_json(receive(ours, lambda: None))]
        while told[-1].kind != "done":
            told.append(WORD.validate_json(receive(ours, lambda: None)))
    counted = [(one.rows_done, one.rows_total) for one in told if one.kind == "counted"]
    assert counted == [(62, 180), (120, 180), (180, 180)]  # month by month


def test_a_folder_is_a_data_set_too(client, home):
    done = ended(client, client.post("/markets/fresh/imports", json={"dataset": "vendor", "holdout": False}))
    assert done["status"] == "done"
    assert "layout folder" in done["told"][0]
    assert open_market(home, "fresh").rows == 180


def test_an_import_that_cannot_be_has_failed_and_leaves_the_market(client, home, listing):
    before = listing(home / "markets")
    done = ended(client, client.post("/markets/small/imports", json={"dataset": "wrong", "holdout": False}))
    assert (done["status"], done["report"], done["snapshot"]) == ("failed", None, None)
    assert done["error"] == "wrong.csv: row 1: close is 'one', expected a number"
    assert listing(home / "markets") == before
    done = ended(client, client.post("/markets/small/imports", json={"dataset": "daily", "train_end": "2020-02-10"}))
    assert done["status"] == "failed"
    assert "valid" in done["error"]


# what may be named


def test_what_is_no_id_is_refused(client):
    others = ("vendor/A", "daily.parquet", "daily\0", "daily\n", ".daily", "-x", "a" * 65, "d\u0430ily", "daily*")
    for field in ("dataset", "membership", "sectors"):
        for name in ("..", ".", "", "../daily", "/etc/passwd", "~root", *others):
            answer = client.post("/markets/fresh/imports", json={"dataset": "daily", field: name})
            assert_problem(answer, 422, f"/{field}")


def test_an_unknown_data_set_is_told_with_those_there_are(client):
    answer = client.post("/markets/fresh/imports", json={"dataset": "dayly"})
    assert_problem(answer, 404, "'dayly'", "daily, index, sectors, twice, vendor, wrong")
    answer = client.post("/markets/fresh/imports", json={"dataset": "daily", "sectors": "vendor"})
    assert_problem(answer, 404, "no file 'vendor'")


def test_without_a_folder_there_is_nothing(home):
    with local_client(create_service(Settings(home=home, imports=home / "elsewhere"))) as client:
        answer = client.post("/markets/fresh/imports", json={"dataset": "daily"})
    assert_problem(answer, 404, "holds nothing")


def test_a_data_set_that_leads_elsewhere_is_refused(client, home, folder):
    outside = home / "outside"
    outside.mkdir()
    bars().write_csv(outside / "secret.csv")
    os.mkfifo(home / "pipe")
    for k, (entry, target, words) in enumerate(
        [
            (".csv", outside / "secret.csv", "leads out"),
            ("", outside, "leads out"),
            ("/A.csv", outside / "secret.csv", "A.csv is a link that leads out"),
            ("/A.csv", "../../outside/secret.csv", "A.csv is a link that leads out"),
            ("/A.csv", folder / ".." / "outside" / "secret.csv", "A.csv is a link that leads out"),
            ("/sub", outside, "link to a folder"),
            ("/sub", "../vendor", "link to a folder"),
            ("/A.csv", "nothing.csv", "neither a file nor a folder"),
            ("/A.csv", "A.csv", "neither a file nor a folder"),
            ("/A.csv", home / "pipe", "neither a file nor a folder"),
        ]
    ):
        link = folder / f"out{k}{entry}"
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(target)
        assert_problem(client.post("/markets/fresh/imports", json={"dataset": f"out{k}"}), 422, words)
    assert not (home / "markets" / "fresh").exists()


def test_a_pipe_is_no_data(client, folder):
    (folder / "pipes").mkdir()
    os.mkfifo(folder / "pipes" / "A.csv")
    assert_problem(client.post("/markets/fresh/imports", json={"dataset": "pipes"}), 422, "neither a file")


def test_a_link_within_the_folder_is_followed(client, folder):
    (folder / "latest.parquet").symlink_to("daily.parquet")
    done = ended(client, client.post("/markets/fresh/imports", json={"dataset": "latest", **DAYS}))
    assert done["status"] == "done"


def test_an_id_of_two_data_sets_is_refused(client, folder):
    (folder / "daily.csv").write_text("date\n")
    answer = client.post("/markets/fresh/imports", json={"dataset": "daily"})
    assert_problem(answer, 422, "more than once: daily.csv, daily.parquet")


def test_a_request_that_cannot_be_is_refused(client):
    for market in ("Fresh", "a.b", "1"):
        assert_problem(client.post(f"/markets/{market}/imports", json={"dataset": "daily"}), 422, "market name")
    for more in ({"layout": "odd"}, {"accept": ["odd"]}, {"train_end": "soon"}, {"path": "/etc"}):
        assert_problem(client.post("/markets/fresh/imports", json={"dataset": "daily", **more}), 422)


def test_an_import_is_its_market_s(client):
    done = ended(client, client.post("/markets/fresh/imports", json={"dataset": "daily", **DAYS}))
    assert_problem(client.get(f"/markets/small/imports/{done['id']}"), 404, "no import")
    assert_problem(client.get("/markets/fresh/imports/none"), 404, "no import 'none'")


# once, and one at a time


def test_a_key_is_heeded_once(client, home):
    body, key = {"dataset": "daily", **DAYS}, {"Idempotency-Key": "one"}
    first = client.post("/markets/fresh/imports", json=body, headers=key)
    done = ended(client, first)
    again = client.post("/markets/fresh/imports", json=body, headers=key)
    assert (again.status_code, again.json()) == (202, done)
    for path, other in (("fresh", {**body, "holdout": False}), ("another", body)):
        assert_problem(client.post(f"/markets/{path}/imports", json=other, headers=key), 422, "Idempotency-Key")
    assert len(versions(home, "fresh")) == 1


def test_one_import_of_a_market_runs_at_a_time_and_hinders_nothing_else(client, home):
    body = {"dataset": "daily", **DAYS}
    with held(home, "fresh"):
        first = client.post("/markets/fresh/imports", json=body)
        assert_problem(client.post("/markets/fresh/imports", json=body), 409, first.json()["id"])
        other = ended(client, client.post("/markets/another/imports", json=body))
        assert other["status"] == "done"
        assert client.get("/markets/small/quality").status_code == 200
        assert client.get(first.headers["location"]).json()["status"] == "running"
    assert ended(client, first)["status"] == "done"
    assert ended(client, client.post("/markets/fresh/imports", json=body))["status"] == "done"


# servers that end


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_an_import_whose_server_ended_has_failed_and_can_be_asked_for_again(request, home, folder, serve, how):  # noqa: ARG001
    if how is signal.SIGTERM:
        request.getfixturevalue("endurance")
    body = {"dataset": "daily", **DAYS}
    with held(home, "fresh"):
        served = serve(home)
        place = httpx.post(f"{served.url}/markets/fresh/imports", json=body).headers["location"]
        [importer] = until(lambda: importers(served.process.pid))
        served.process.send_signal(how)
        served.process.wait()
        until(lambda: not status(importer))
    with httpx.Client(base_url=serve(home).url) as client:
        failed = until(lambda: (found := client.get(place).json())["status"] != "running" and found)
        assert (failed["status"], failed["error"]) == ("failed", INTERRUPTED)
        assert versions(home, "fresh") == []
        assert ended(client, client.post("/markets/fresh/imports", json=body))["status"] == "done"


def test_an_import_whose_process_is_killed_has_failed(home, folder, serve):  # noqa: ARG001
    served = serve(home)
    with held(home, "fresh"), httpx.Client(base_url=served.url) as client:
        begun = client.post("/markets/fresh/imports", json={"dataset": "daily", **DAYS})
        [importer] = until(lambda: importers(served.process.pid))
        os.kill(importer, signal.SIGKILL)
        done = ended(client, begun)
    assert (done["status"], done["error"]) == ("failed", "the process that worked on it was ended by SIGKILL")
