"""Whether mining finds what was planted in the demo market, and leaves what was not."""

import pytest

from app.panels import load_panel
from app.runner import Runner
from app.settings import Settings
from factors.admission import train_ranks
from factors.demo_market import demo_market
from factors.evaluator import evaluate
from factors.kernels import daily
from factors.metrics import split_metrics
from factors.parse import parse
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
    with Records.open(settings.database_url) as records:
        runner = Runner(settings, records)
        request = RunRequest(
            direction="daily patterns in price and volume",
            market="demo",
            seed=7,
            model="offline",
            budget=Budget(rounds=15, candidates=8),
        )
        run = runner.execute(runner.submit(request).id)
        factors = records.library("demo")
    assert run.status == "succeeded"
    panel, _ = load_panel(snapshot, snapshot.universe(None))
    return market.plants, panel, factors


def likeness(plant, panel, factors):
    """Largest mean daily rank correlation of a planted formula with an accepted factor, sign included."""
    ranks = train_ranks(evaluate(parse(plant.formula), panel), panel)
    others = (train_ranks(evaluate(parse(factor.formula), panel), panel) for factor in factors)
    return max(daily.mean_correlation(ranks, other) for other in others)


def test_both_persistent_plants_are_found(mined):
    plants, panel, factors = mined
    persistent = [plant for plant in plants if plant.kind == "persistent"]
    assert len(persistent) == 2
    for plant in persistent:
        assert likeness(plant, panel, factors) > 0.7, plant.formula


def test_no_decoy_is_taken_for_a_factor(mined):
    plants, panel, factors = mined
    for plant in plants:
        if plant.kind == "decoy":
            assert likeness(plant, panel, factors) < 0.9, plant.formula


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
