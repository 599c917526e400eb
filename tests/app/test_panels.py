"""Panels kept beside their snapshot are those that would be laid out anew."""

import shutil
from dataclasses import fields

import numpy as np
import pytest

from app import panels
from app.panels import load_panel
from factors.panel import Panel
from storage.markets import open_market


@pytest.fixture
def snapshot(new_home):
    """A market whose panels nobody has laid out yet."""
    snapshot = open_market(new_home(), "small")
    shutil.rmtree(snapshot.path.parent / ".panels", ignore_errors=True)
    return snapshot


@pytest.fixture
def fresh(monkeypatch):
    """Forget what this process has loaded, and count what it lays out."""
    laid_out = []
    original = Panel.from_cells.__func__

    def counted(cls, *args):
        laid_out.append(args)
        return original(cls, *args)

    monkeypatch.setattr(Panel, "from_cells", classmethod(counted))

    def load(snapshot):
        load_panel.cache_clear()
        return load_panel(snapshot, snapshot.universes[0]), len(laid_out)

    yield load
    load_panel.cache_clear()


def same(one, other):
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name == "fields":
            assert list(a) == list(b)
            for name in a:
                np.testing.assert_array_equal(a[name], b[name])
        elif isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b, field.name


@pytest.mark.usefixtures("endurance")
@pytest.mark.parametrize("part", [1, 1000, 1 << 20])
def test_cells_and_bars_give_the_same_panel_however_many_are_read_at_a_time(snapshot, part, monkeypatch):
    monkeypatch.setattr("storage.snapshot.PART", part)
    for universe in snapshot.universes:
        with snapshot.cells(universe) as cells:
            panel = Panel.from_cells(cells, snapshot.train_end)
        same(panel, Panel.from_bars(snapshot.bars(universe), snapshot.train_end))


def test_a_second_process_maps_what_the_first_laid_out(snapshot, fresh):
    (panel, labels), laid_out = fresh(snapshot)
    assert laid_out == 1
    (mapped, mapped_labels), laid_out = fresh(snapshot)
    assert laid_out == 1
    same(mapped, panel)
    assert mapped_labels.horizons == labels.horizons
    for name in ("returns", "ranks", "counts"):
        np.testing.assert_array_equal(getattr(mapped_labels, name), getattr(labels, name))


def test_a_panel_that_other_code_wrote_is_laid_out_again_and_the_old_one_goes(snapshot, fresh, monkeypatch):
    fresh(snapshot)
    monkeypatch.setattr(panels, "_sources", lambda: "0123456789abcdef")
    assert fresh(snapshot)[1] == 2
    kept = list((snapshot.path.parent / ".panels").glob("*/*"))
    assert [folder.name for folder in kept] == ["0123456789abcdef"]


@pytest.mark.parametrize("damage", ["truncate", "remove"])
def test_a_damaged_file_is_written_again(snapshot, fresh, damage):
    (panel, _), _ = fresh(snapshot)
    [path] = (snapshot.path.parent / ".panels").glob("*/*/field-0.npy")
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:1000])
    (again, _), laid_out = fresh(snapshot)
    assert laid_out == 2
    same(again, panel)
    assert fresh(snapshot)[1] == 2
