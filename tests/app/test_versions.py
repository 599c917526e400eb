"""Several versions of one market: what one of them holds out, another may have shown."""

from datetime import timedelta

import pytest

from app.promotion import promote
from app.runner import Runner, mine_here
from app.settings import Settings
from storage.markets import prune, publish
from storage.openings import SealedError
from storage.principal import Principal
from storage.records import Records
from storage.runs import Budget, RunRequest

REQUEST = RunRequest(
    direction="volume shocks that overshoot",
    market="small",
    seed=2,
    model="offline",
    budget=Budget(rounds=3, candidates=4),
)


@pytest.fixture
def settings(home):
    return Settings(home=home, openai_api_key=None)


@pytest.fixture
def runner(settings):
    with Records.open(settings.records_url) as records:
        yield Runner(settings, records)


def version(settings, small, days):
    """Make the version current whose valid split ends so many days later than that of ``small``."""
    return publish(
        settings.home,
        "small",
        small.bars,
        membership=small.membership,
        sectors=small.sectors,
        train_end=small.train_end,
        valid_end=small.valid_end + timedelta(days=days),
        synthetic=True,
    )


def mined(runner, **changed):
    run = mine_here(runner, REQUEST.model_copy(update=changed))
    assert run.status == "succeeded"
    return run


def test_a_run_knows_no_factor_that_was_chosen_by_days_it_holds_out(settings, runner, small):
    early, late = (version(settings, small, days).id for days in (0, 100))
    later = mined(runner)
    assert later.snapshot == late
    assert later.accepted
    version(settings, small, 0)
    fresh = runner.submit(REQUEST.model_copy(update={"seed": 5}))
    assert fresh.snapshot == early
    bench = runner.workbench(fresh, runner.records.journal(fresh.id, "here"))
    assert bench.library == ()
    formulas = [runner.records.factor(one).formula for one in later.accepted]
    zoo = bench.zoo([])
    assert not any(zoo.likeness(bench.parsed(formula)).same_as for formula in formulas)


def test_a_run_knows_the_factors_of_earlier_days(settings, runner, small):
    earlier = mined(runner)
    version(settings, small, 100)
    fresh = runner.submit(REQUEST.model_copy(update={"seed": 5}))
    assert fresh.snapshot != earlier.snapshot
    assert {factor.id for factor in runner.workbench(fresh, runner.records.journal(fresh.id, "here")).library} == set(
        earlier.accepted
    )


def test_a_run_knows_the_factors_of_a_version_that_was_pruned_by_its_days_alone(settings, runner, small):
    later = version(settings, small, 100)
    chosen_later = mined(runner)
    earlier = version(settings, small, 0)
    chosen_earlier = mined(runner, seed=5)
    current = version(settings, small, 50)
    for pruned in (earlier, later):
        prune(settings.home, "small", pruned.id)
    fresh = runner.submit(REQUEST.model_copy(update={"seed": 6}))
    assert fresh.snapshot == current.id
    known = {factor.id for factor in runner.workbench(fresh, runner.records.journal(fresh.id, "here")).library}
    first_found = set(chosen_earlier.accepted) - set(chosen_later.accepted)
    assert first_found
    assert known == first_found


def test_a_hold_out_that_formulas_were_measured_on_since_is_not_opened(settings, runner, small):
    factor = mined(runner).accepted[0]
    late = version(settings, small, 100).id
    mined(runner, seed=5)
    with pytest.raises(SealedError, match=f"in sample to .* in version {late}, where formulas were measured"):
        promote(settings, runner.records, factor, Principal("ada", "admin"))
    assert runner.records.openings.of_factor(factor) is None


def test_nor_is_it_once_that_version_was_pruned(settings, runner, small):
    factor = mined(runner).accepted[0]
    late = version(settings, small, 100).id
    mined(runner, seed=5)
    version(settings, small, 0)
    prune(settings.home, "small", late)
    with pytest.raises(SealedError, match=f"in sample to .* in version {late}, where formulas were measured"):
        promote(settings, runner.records, factor, Principal("ada", "admin"))


def test_a_version_on_which_nothing_was_tried_shows_nothing(settings, runner, small):
    factor = mined(runner).accepted[0]
    version(settings, small, 100)
    assert promote(settings, runner.records, factor, Principal("ada", "admin")).factor_id == factor
