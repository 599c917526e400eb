"""Whether mining finds what was planted in the demo market, and leaves what was not."""

import numpy as np
import pytest

from app.panels import load_panel
from app.runner import Runner, mine_here
from app.settings import Settings
from factors.demo_market import demo_market
from factors.evaluator import evaluate
from factors.metrics import split_metrics
from factors.parse import parse
from factors.redundancy import correlation, train_ranks
from storage.markets import publish
from storage.records import Records
from storage.runs import Budget, RunRequest


@pytest.fixture(scope="module")
def mined(tmp_path_factory):
    """The demo market mined with seed 7: its plants, panel and accepted factors."""
    home = tmp_path_factory.mktemp("home")
    market = demo_market()
    snapshot = publish(
        home,
        "demo",
        market.bars,
        membership=market.membership,
        sectors=market.sectors,
        train_end=market.train_end,
        valid_end=market.valid_end,
        synthetic=True,
    )
    settings = Settings(home=home, openai_api_key=None)
    with Records.open(settings.records_url) as records:
        runner = Runner(settings, records)
        for direction in ("volume that comes with gains", "closes near the top of the day's range reverse"):
            budget = Budget(rounds=8, candidates=8)
            request = RunRequest(direction=direction, market="demo", seed=7, model="offline", budget=budget)
            assert mine_here(runner, request).status == "succeeded"
        factors = records.library("demo")
    panel, _ = load_panel(snapshot, snapshot.universe(None))
    return market.plants, panel, factors


def ranks_of(formula, panel):
    return train_ranks(evaluate(parse(formula), panel), panel)


def likeness(plant, panel, factors):
    """Largest mean daily rank correlation of a planted formula with an accepted factor, sign included."""
    ranks = ranks_of(plant.formula, panel)
    return max(correlation(ranks, ranks_of(factor.formula, panel)) for factor in factors)


def explained(plant, panel, factors):
    """Mean daily multiple correlation of a planted formula's ranks with those of all accepted factors.

    Once a relative of a plant is accepted its redundancy keeps better ones out, so the library has it in parts.
    """
    ranks = ranks_of(plant.formula, panel)
    others = [ranks_of(factor.formula, panel) for factor in factors]
    found = []
    for day in range(200, ranks.shape[1], 10):
        known = np.isfinite(ranks[:, day])
        target = ranks[:, day][known] - ranks[:, day][known].mean()
        columns = np.stack(
            [np.nan_to_num(other[:, day][known] - np.nanmean(other[:, day])) for other in others], axis=1
        )
        weights, *_ = np.linalg.lstsq(columns, target)
        rest = target - columns @ weights
        found.append(np.sqrt(1 - rest @ rest / (target @ target)))
    return np.mean(found)


def test_both_persistent_plants_are_found(mined):
    plants, panel, factors = mined
    persistent = [plant for plant in plants if plant.kind == "persistent"]
    assert len(persistent) == 2
    for plant in persistent:
        assert explained(plant, panel, factors) > 0.7, plant.formula
        assert likeness(plant, panel, factors) > 0.5, plant.formula


def test_no_decoy_is_taken_for_a_factor(mined):
    plants, panel, factors = mined
    for plant in plants:
        if plant.kind == "decoy":
            assert explained(plant, panel, factors) < 0.5, plant.formula


def test_what_was_accepted_holds_on_days_the_search_never_saw(mined, tmp_path):
    """The hold-out days, read here from the generator, stand as the valid split of another market."""
    _, _, factors = mined
    market = demo_market()
    whole = publish(
        tmp_path, "whole", market.bars, membership=market.membership, train_end=market.valid_end, holdout=False
    )
    panel, labels = load_panel(whole, whole.universe(None))
    unseen = [split_metrics(evaluate(parse(f.formula), panel), labels, panel)["valid"].rank_ic for f in factors]
    assert len(unseen) >= 3
    assert sum(unseen) / len(unseen) > 0.01
    assert max(unseen) > 0.03
