"""An import that is killed at any moment leaves the version of before or its own, whole, and stands in nobody's way."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from storage.ingest import import_market
from storage.markets import open_market, publish, versions
from tests.traded import traded, weekdays

ROOT = Path(__file__).parents[2]
DAYS = weekdays(60)
TERMS = {"train_end": DAYS[19], "valid_end": DAYS[29]}
OLD = traded(DAYS).filter(pl.col("date") <= DAYS[39])
KINDS = {
    "whole": {"source": "other.parquet", **TERMS},
    "append": {"source": "later.parquet", "append": True},
    "command": {
        "argv": ["data", "import", "other.parquet", "--market", "demo", "--no-holdout"],
        "source": "other.parquet",
    },
}


@pytest.fixture(scope="module")
def forks():
    """How an import by an order ended: ``forks(**order)``."""
    command = [sys.executable, "-m", "tests.killed"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:

        def fork(**order):
            server.stdin.write(json.dumps(order, default=str) + "\n")
            server.stdin.flush()
            return json.loads(server.stdout.readline())

        yield fork
        server.stdin.close()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A home with a version of the market, and sources of others; not to be changed."""
    home = tmp_path_factory.mktemp("base")
    publish(home, "demo", OLD, **TERMS)
    traded(DAYS, seed=1).write_parquet(home / "other.parquet")
    traded(DAYS).filter(pl.col("date") > DAYS[39]).write_parquet(home / "later.parquet")
    return home


@pytest.fixture
def new(base, tmp_path):
    """A copy of the home: ``new()``."""

    def copy():
        home = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        shutil.copytree(base, home)
        return home

    return copy


def order(kind, home):
    known = {name: value for name, value in KINDS[kind].items() if name != "argv"}
    known["source"] = str(home / known["source"])
    if "argv" in KINDS[kind]:
        known["argv"] = [str(home / word) if word.endswith("parquet") else word for word in KINDS[kind]["argv"]]
    return {"home": str(home), **known}


def read(version):
    return version.id, version.bars("all").rows()


def check(home, kind, old, finished):
    """What a killed import has left: one of two whole versions, and nothing that the next import cannot clean."""
    folder = home / "markets" / "demo"
    current = open_market(home, "demo")
    assert read(current) in (old, finished)
    left = {path.name for path in folder.iterdir()} - {old[0], finished[0]}
    assert {"current"} <= left <= {"current", ".import"}
    for version in versions(home, "demo"):
        assert read(version) in (old, finished)
    again = order(kind, home)
    if kind == "command":
        import_market(home, "demo", Path(again["source"]), holdout=False)
    elif kind == "append":
        import_market(home, "demo", Path(again["source"]), append=True)
    else:
        import_market(home, "demo", Path(again["source"]), **TERMS)
    assert read(open_market(home, "demo")) == finished
    assert {path.name for path in folder.iterdir()} == {"current", old[0], finished[0]}
    return current.id


@pytest.mark.parametrize("kills", [2, 30])
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_import_leaves_one_version_or_the_other(request, forks, new, kind, kills):
    if kills > 2:
        request.getfixturevalue("endurance")
    home = new()
    old = read(open_market(home, "demo"))
    done = forks(**order(kind, home))
    assert done["status"] == 0
    finished = read(open_market(home, "demo"))
    assert old != finished
    steps = done["steps"]
    placed, pointed = (len(steps) - steps[::-1].index(name) for name in ("rename", "replace"))
    spread = np.linspace(1, len(steps), kills).astype(int).tolist()
    at = {*spread, placed, placed + 1, pointed, pointed + 1}
    ends = set()
    for step in sorted(at):
        home = new()
        assert forks(**order(kind, home), step=step)["status"] == -9
        ends.add(check(home, kind, old, finished))
    assert ends == {old[0], finished[0]}
    for part in np.linspace(0.1, 0.95, kills):
        home = new()
        assert forks(**order(kind, home), after=done["seconds"] * part)["status"] in {-9, 0}
        check(home, kind, old, finished)
