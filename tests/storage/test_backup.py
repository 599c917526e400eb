"""A backup holds what there was, taken beside writers; it is there whole or not at all; a restored home is the same."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from benchmarks.service.kills import gaps, trace
from factors.errors import DataError, SettingError
from storage.backup import back_up, restore
from storage.markets import open_market
from storage.records import Records
from storage.runs import RunRequest
from tests.processes import until

ROOT = Path(__file__).parents[2]
# Counts in the records, and only then notes beside them how far it has come: as a run and its checkpoints do.
WRITE = """
import sqlite3, sys
records, notes = (sqlite3.connect(f"{sys.argv[1]}/{name}.sqlite", timeout=60) for name in ("records", "checkpoints"))
for database in (records, notes):
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = OFF")
    database.execute("CREATE TABLE steps (number INTEGER PRIMARY KEY, text TEXT)")
    database.commit()
print("writing", flush=True)
number = 0
while True:
    number += 1
    for database in (records, notes):
        database.execute("INSERT INTO steps VALUES (?, ?)", (number, "x" * 100))
        database.commit()
"""
BACK_UP = "import sys; from pathlib import Path; from storage.backup import back_up; \
home, target = map(Path, sys.argv[1:]); back_up(home, f'sqlite:///{home}/records.sqlite', target, '1')"


def url(home):
    return f"sqlite:///{home}/records.sqlite"


def saved(home, target):
    return back_up(home, url(home), target, "1")


def rows(database):
    """Every row of every table."""
    with closing(sqlite3.connect(database)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: sorted(connection.execute(f"SELECT * FROM {table}"), key=repr) for table in tables}


def steps(database):
    """How many steps were written, none of which is missing."""
    with closing(sqlite3.connect(database)) as connection:
        [(count, last)] = connection.execute("SELECT count(*), max(number) FROM steps")
    assert count == (last or 0)
    return count


def contents(home):
    """Digests of the market files, and the rows of the databases."""
    files = {path.relative_to(home): path for path in home.rglob("*") if path.is_file()}
    return {
        str(name): rows(path) if path.suffix == ".sqlite" else sha256(path.read_bytes()).hexdigest()
        for name, path in files.items()
        if not str(name).startswith("markets/small/.") and name.name != "manifest.json"
    }


@pytest.fixture
def home(new_home):
    """A home with a market, records with a run, and another database."""
    home = new_home()
    with Records.open(url(home)) as records:
        records.create_run(RunRequest(direction="d", market="small"), universe="all", snapshot="s", seed=1, model="m")
    with closing(sqlite3.connect(home / "dbos.sqlite")) as connection:
        connection.execute("CREATE TABLE workflows AS SELECT 'a' AS id, 'b' AS status")
    (home / "markets" / "small" / ".panels").mkdir(exist_ok=True)
    (home / "markets" / "small" / ".panels" / "cache").write_text("made again when it is missing")
    return home


@pytest.fixture
def backup(home, tmp_path):
    saved(home, tmp_path / "backup")
    return tmp_path / "backup"


def test_a_restored_home_is_as_it_was(home, backup, tmp_path):
    restore(backup, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(home)
    assert {"records.sqlite", "dbos.sqlite", "markets/small/current"} < set(contents(tmp_path / "again"))
    assert not list((tmp_path / "again").rglob(".panels"))
    assert not list((tmp_path / "again").glob("manifest.json"))
    assert open_market(tmp_path / "again", "small").id == open_market(home, "small").id
    with Records.open(url(tmp_path / "again")) as records:
        assert records.runs()[0][0].direction == "d"


def test_a_manifest_tells_each_file_and_nobody_else_may_read_the_backup(backup):
    told = json.loads((backup / "manifest.json").read_text())
    files = {str(path.relative_to(backup)) for path in backup.rglob("*") if path.is_file()}
    assert {file["name"] for file in told["files"]} == files - {"manifest.json"}
    for file in told["files"]:
        content = (backup / file["name"]).read_bytes()
        assert (file["size"], file["sha256"]) == (len(content), sha256(content).hexdigest())
    assert backup.stat().st_mode & 0o077 == 0


def test_what_is_noted_beside_the_records_never_runs_ahead_of_them(home, tmp_path):
    writer = subprocess.Popen([sys.executable, "-c", WRITE, home], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout.readline() == "writing\n"
        seen = []
        for number in range(5):
            target = tmp_path / str(number)
            before = steps(home / "records.sqlite")
            saved(home, target)
            results, notes = (steps(target / f"{name}.sqlite") for name in ("records", "checkpoints"))
            assert before <= results  # what was committed is there, also where it is in the write-ahead log yet
            assert notes <= results
            seen.append(results - notes)
        assert max(seen) > 1  # the writer did go on between the two copies
    finally:
        writer.kill()
        writer.communicate()


def test_a_backup_of_a_server_at_work_is_a_state_that_it_was_in(new_home, serve, cli, tmp_path):
    home = new_home()
    service = serve(home)
    budget = {"rounds": 1000, "candidates": 4}
    run = service.post(direction="volume shocks", market="small", seed=2, budget=budget).json()
    while service.get(f"/runs/{run['id']}").json()["rounds"] < 2:
        time.sleep(0.05)
    known = [line for line, _ in zip(service.lines(run["id"]), range(120), strict=False) if line.startswith("id: ")]
    made = cli(home, "backup", tmp_path / "backup")
    assert (made.status, made.err) == (0, "")
    while service.get(f"/runs/{run['id']}").json()["rounds"] < 4:
        time.sleep(0.05)
    service.process.send_signal(signal.SIGTERM)
    service.process.communicate(timeout=10)
    again = cli(tmp_path / "again", "restore", tmp_path / "backup")
    assert (again.status, again.err) == (0, "")
    then, now = rows(tmp_path / "again" / "records.sqlite"), rows(home / "records.sqlite")
    grow = ("events", "candidates", "evaluations", "factors", "run_factors", "trials", "model_calls")
    for table in grow:
        assert set(then[table]) <= set(now[table]), table
    events = sorted(row[1] for row in then["events"])
    assert events == list(range(1, len(events) + 1))
    assert len(known) <= len(events) < len(now["events"])
    told = [row[3] for row in then["events"]]
    assert told.count("factor.accepted") == len(then["run_factors"])
    assert len(then["evaluations"]) <= told.count("candidate.evaluated") <= len(then["trials"])
    restored, original = contents(tmp_path / "again"), contents(home)
    markets = [name for name in original if name.startswith("markets/")]
    assert markets
    assert [restored[name] for name in markets] == [original[name] for name in markets]
    with Records.open(url(tmp_path / "again")) as records:
        assert records.run(run["id"]).evaluations == len(then["evaluations"])


@pytest.mark.usefixtures("endurance")
def test_a_run_that_goes_on_from_a_backup_ends_as_one_that_was_not_cut_off(new_home, serve, cli, tmp_path):
    home, again = new_home(), tmp_path / "again"
    service = serve(home)
    budget = {"rounds": 4, "candidates": 4}
    run_id = service.post(direction="volume shocks", market="small", seed=2, budget=budget).json()["id"]
    until(lambda: service.get(f"/runs/{run_id}").json()["rounds"])
    assert cli(home, "backup", tmp_path / "backup").status == 0
    list(service.lines(run_id))
    service.process.kill()
    service.process.communicate()
    assert cli(again, "restore", tmp_path / "backup").status == 0
    with Records.open(url(again)) as records:
        assert (records.run(run_id).status, records.run(run_id).finished_at) == ("running", None)
    restored = serve(again)
    list(restored.lines(run_id))
    assert restored.get(f"/runs/{run_id}").json()["status"] == "succeeded"
    assert trace(url(again)) == trace(url(home))
    assert gaps(url(again)) == 0


def test_a_damaged_backup_leaves_no_trace(home, backup, tmp_path, listing):
    before, parent = listing(backup), sorted(tmp_path.iterdir())
    for file in json.loads((backup / "manifest.json").read_text())["files"]:
        path = backup / file["name"]
        content = path.read_bytes()
        middle = len(content) // 2
        for broken in (content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :], content[:-1]):
            path.write_bytes(broken)
            with pytest.raises(DataError, match=f"{path.name} is not what was backed up"):
                restore(backup, tmp_path / "again")
        path.unlink()
        with pytest.raises(DataError, match=f"{path.name} is missing"):
            restore(backup, tmp_path / "again")
        path.write_bytes(content)
        assert sorted(tmp_path.iterdir()) == parent
    assert listing(backup) == before
    assert home.is_dir()


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "", ".", "manifest.json", "a\0b"])
def test_a_manifest_cannot_write_outside_of_the_home(backup, tmp_path, name):
    told = json.loads((backup / "manifest.json").read_text())
    told["files"].append({**told["files"][0], "name": name})
    (backup / "manifest.json").write_text(json.dumps(told))
    parent = sorted(tmp_path.iterdir())
    with pytest.raises(DataError, match="is no backup of this version"):
        restore(backup, tmp_path / "again")
    assert sorted(tmp_path.iterdir()) == parent


def test_what_is_no_backup_is_refused(home, tmp_path):
    for source in (home, tmp_path / "nowhere", home / "records.sqlite"):
        with pytest.raises(DataError, match=r"is no backup: it has no manifest\.json"):
            restore(source, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_home_that_holds_anything_is_left_alone(home, backup, tmp_path, listing):
    before = listing(home)
    with pytest.raises(SettingError, match="is not empty"):
        restore(backup, home)
    assert listing(home) == before
    (tmp_path / "again").mkdir()
    restore(backup, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(home)


def test_a_home_that_somebody_fills_meanwhile_is_left_alone(backup, tmp_path, monkeypatch):
    again = tmp_path / "again"

    def copyfile(source, target):
        again.mkdir(exist_ok=True)
        (again / "records.sqlite").write_text("a server's that has started")
        return copy(source, target)

    copy = shutil.copyfile
    monkeypatch.setattr(shutil, "copyfile", copyfile)
    with pytest.raises(SettingError, match="cannot be made"):
        restore(backup, again)
    assert [path.name for path in again.iterdir()] == ["records.sqlite"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "backup"]


def test_a_backup_is_made_in_a_new_folder(home, backup, listing):
    before = listing(backup)
    with pytest.raises(SettingError, match="exists"):
        saved(home, backup)
    assert listing(backup) == before


def test_a_backup_that_fails_leaves_nothing_behind(home, tmp_path):
    version = open_market(home, "small").path
    os.mkfifo(version / "pipe")
    with pytest.raises(OSError, match="pipe"):
        saved(home, tmp_path / "backup")
    assert list(tmp_path.iterdir()) == []


def test_a_backup_that_is_killed_is_never_taken_for_one(home, tmp_path):
    with (open_market(home, "small").path / "large").open("wb") as large:
        large.truncate(2**31)
    command = [sys.executable, "-c", BACK_UP, home, tmp_path / "backup"]
    process = subprocess.Popen(command, cwd=ROOT)
    while not list(tmp_path.glob(".backup-*/markets/small/*/large")):
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    [partial] = tmp_path.iterdir()
    assert partial.name.startswith(".backup-")
    with pytest.raises(DataError, match="is no backup"):
        restore(partial, tmp_path / "again")


def test_a_home_without_records_is_not_backed_up(market_home, tmp_path):
    with pytest.raises(SettingError, match="it has no records"):
        saved(market_home, tmp_path / "backup")
    assert list(tmp_path.iterdir()) == []


def test_records_elsewhere_are_not_forgotten(home, tmp_path):
    with pytest.raises(SettingError, match="not in the home"):
        back_up(home, f"sqlite:///{tmp_path}/records.sqlite", tmp_path / "backup", "1")
    with pytest.raises(SettingError, match="pg_dump") as refused:
        back_up(home, "postgresql://ada:secret-word@db/alpha", tmp_path / "backup", "1")
    assert "postgresql://ada@db/alpha" in str(refused.value)
    assert "secret-word" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []
