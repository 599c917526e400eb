"""A run's tools on the small market, for tests of the whole state machine."""

import time

import numpy as np
import pytest

from factors.alphas import Alpha
from factors.labels import forward_returns
from factors.panel import Panel
from factors.parse import parse
from factors.redundancy import Sample
from factors.zoo import Zoo
from graphs import chat
from graphs.laboratory import PanelLaboratory
from graphs.machine import mine
from graphs.notebook import Notebook
from graphs.workbench import Workbench
from storage.markets import open_market
from storage.records import Records
from storage.runs import Budget, RunRequest


@pytest.fixture(scope="module")
def snapshot(market_home):
    return open_market(market_home, "small")


@pytest.fixture(scope="module")
def panel(snapshot):
    return Panel.from_bars(snapshot.bars("synthetic200"), snapshot.train_end)


@pytest.fixture
def records(tmp_path):
    with Records.open(f"sqlite:///{tmp_path}/records.sqlite") as opened:
        yield opened


@pytest.fixture
def bench_of(records, panel, snapshot):
    """A workbench for a new run: ``bench_of(researcher, rounds=2, ...)``, or one of a researcher made for the run."""

    def make(researcher, *, library=(), cancelled=lambda: False, deadline=None, **budget):
        request = RunRequest(direction="volume", market="small", budget=Budget(**{"rounds": 1, **budget}))
        run = records.create_run(
            request, universe="synthetic200", snapshot=snapshot.id, seed=7, model="scripted", executor="test"
        )
        journal = records.journal(run.id, "test")
        return Workbench(
            run=journal.start(),
            researcher=researcher(run) if callable(researcher) else researcher,
            laboratory=PanelLaboratory(
                panel,
                forward_returns(panel),
                lambda _: Sample((), np.empty((0, *panel.shape), np.float32)),
                market="small",
                snapshot=snapshot.id,
                universe="synthetic200",
            ),
            library=tuple(library),
            known=Zoo(Alpha(one.name, parse(one.formula), "library") for one in library),
            records=records,
            journal=journal,
            notebook=Notebook(),
            cancelled=cancelled,
            deadline=time.monotonic() + 600 if deadline is None else deadline,
        )

    return make


@pytest.fixture
def forget():
    """What endpoints of earlier tests could do is not known any more; ports come again."""
    chat._known.clear()


@pytest.fixture(scope="session")
def mined():
    """The final state of a run, what it names by id in full: ``mined(bench)``."""

    def full(bench):
        state, notebook = mine(bench), bench.notebook
        return {
            **state,
            "trials": notebook.tried(state["trials"]),
            "hypotheses": [notebook.hypotheses[one] for one in state["hypotheses"]],
            "feedback": {one: notebook.feedback[one] for one in state["lessons"]},
        }

    return full
