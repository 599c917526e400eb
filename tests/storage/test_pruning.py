"""Versions that are removed: whole or not at all, and never forgotten."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from factors.errors import NotFoundError
from storage.markets import InUseError, ends, open_market, prune, publish, published_files, versions

ROOT = Path(__file__).parents[2]
KILLED = """
import os, shutil, sys
from pathlib import Path
from storage import markets
def killed(path, **_):
    if Path(path).is_dir() and any(Path(path).iterdir()):
        os._exit(9)
shutil.rmtree = killed
markets.prune(Path(sys.argv[1]), "small", sys.argv[2])
"""


@pytest.fixture
def home(new_home, small):
    """A home whose market has a version that is not the current one, laid out by the name of it."""
    home = new_home()
    old = open_market(home, "small")
    publish(
        home,
        "small",
        small.bars,
        train_end=small.train_end,
        valid_end=small.valid_end + timedelta(days=50),
    )
    assert {path.name.partition("-")[0] for path in (old.path.parent / ".panels").iterdir()} == {old.id}
    return home


def ids(home):
    return {one.id for one in versions(home, "small")}


def old_and_new(home):
    new = open_market(home, "small").id
    [old] = ids(home) - {new}
    return open_market(home, "small", old), open_market(home, "small")


def test_a_pruned_version_is_gone_with_what_was_laid_out_of_it_and_its_end_is_known(home):
    old, new = old_and_new(home)
    prune(home, "small", old.id)
    assert ids(home) == {new.id}
    folder = new.path.parent
    assert {path.name for path in folder.iterdir()} == {new.id, "current", ".panels", ".pruned"}
    assert list((folder / ".panels").iterdir()) == []
    assert ends(home, "small") == {old.id: old.valid_end, new.id: new.valid_end}
    with pytest.raises(NotFoundError, match=f"no version '{old.id}' any more: it was pruned"):
        open_market(home, "small", old.id)
    with pytest.raises(NotFoundError):
        prune(home, "small", old.id)
    assert folder / ".pruned" / old.id in set(published_files(home))  # and so in backups


def test_a_version_that_is_pruned_can_be_imported_again(home, small):
    old, new = old_and_new(home)
    before = old.bars("all")
    prune(home, "small", old.id)
    sources = {"membership": small.membership, "sectors": small.sectors, "synthetic": True}
    again = publish(home, "small", small.bars, train_end=old.train_end, valid_end=old.valid_end, **sources)
    assert again == old
    assert again.bars("all").equals(before)
    assert ids(home) == {old.id, new.id}


def test_what_is_current_or_in_use_or_not_there_stays(home, listing):
    old, new = old_and_new(home)
    before = listing(home)

    def used():
        raise InUseError("a run works on it")

    with pytest.raises(InUseError, match="is the current one"):
        prune(home, "small", new.id)
    with pytest.raises(InUseError, match="a run works on it"):
        prune(home, "small", old.id, used)
    for market, version in (("small", "0" * 16), ("small", f"../small/{old.id}"), ("none", old.id), ("small", "")):
        with pytest.raises(NotFoundError):
            prune(home, market, version)
    assert listing(home) == before


def test_a_process_that_is_killed_leaves_a_version_whole_or_gone(home, small):
    old, new = old_and_new(home)
    command = [sys.executable, "-c", KILLED, str(home), old.id]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(command, env=environment, cwd=ROOT, timeout=60, check=False).returncode == 9
    assert ids(home) == {new.id}
    assert ends(home, "small")[old.id] == old.valid_end
    left = new.path.parent / ".import" / old.id
    assert left.is_dir()
    publish(home, "small", small.bars, train_end=new.train_end, valid_end=new.valid_end)
    assert not left.parent.exists()
