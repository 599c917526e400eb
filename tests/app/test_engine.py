"""Who is taken for dead, and runs whose database goes away for a while."""

import os
import socket
import subprocess
import sys
import time

import psycopg
import pytest

from app.engine import Heartbeats, is_gone, machine
from benchmarks.service.kills import gaps, trace
from benchmarks.service.servers import server

RUN = {"direction": "volume that comes with gains", "seed": 7, "model": "offline", "market": "small"}


@pytest.fixture(scope="module")
def gone():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_process_of_this_machine_is_gone_once_it_has_ended(gone):
    assert is_gone(f"{machine()}:{gone}:ab")
    assert is_gone(f"{machine()}:{os.getpid()}:another")  # its number is ours now
    assert not is_gone(f"{machine()}:{os.getppid()}:ab")
    assert not is_gone(f"elsewhere:{gone}:ab")
    assert not is_gone(f"{socket.gethostname()}:{gone}:ab")  # another machine of this name
    assert not is_gone("somebody")


def test_an_executor_is_dead_once_its_heart_has_stood_still_as_long_as_the_lease(gone):
    beats = Heartbeats("me:1:a", lease=0.2)
    owners = {"me:1:a", "still:1:a", "never:1:a", f"{machine()}:{gone}:a"}
    count = {"me:1:a": 3, "still:1:a": 5, "idle:1:a": 1, "lively:1:a": 1}
    assert beats.dead(owners, count) == {f"{machine()}:{gone}:a"}
    time.sleep(0.25)
    count["lively:1:a"] += 1
    assert beats.dead(owners, count) == {"still:1:a", "never:1:a", "idle:1:a", f"{machine()}:{gone}:a"}
    count["still:1:a"] += 1  # it was only asleep
    assert "still:1:a" not in beats.dead(owners, count)


@pytest.mark.usefixtures("endurance")
def test_a_run_waits_for_a_database_that_goes_away_and_ends_as_if_it_had_not(new_home, postgres):
    home, expected = new_home(), None
    for cut in (False, True):
        url = postgres()
        with server(home, ALPHAAGENT_DATABASE_URL=url) as only:
            run_id = only.ask("POST", "/runs", {**RUN, "budget": {"rounds": 2, "candidates": 3}})["id"]
            for rounds in (1,) if cut else ():
                only.until(run_id, rounds=rounds)
                with psycopg.connect(url, autocommit=True) as connection:
                    others = "datname = current_database() AND pid <> pg_backend_pid()"
                    connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
            assert only.until(run_id)["status"] == "succeeded"
        found = trace(url)
        expected = expected or found
        assert (found == expected, gaps(url)) == (True, 0)
