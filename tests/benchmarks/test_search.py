import json
from collections import Counter
from dataclasses import replace
from itertools import islice
from random import Random

import numpy as np
import polars as pl
import pytest

from app.panels import load_panel
from benchmarks import search
from benchmarks.arms import ARMS, OPEN, Found, Outcome, outcome
from benchmarks.genetic import (
    MAX_LEVELS,
    POPULATION,
    GeneticResearcher,
    RandomResearcher,
    children,
    crossed,
    fitness,
    point_mutated,
)
from benchmarks.holdout import demo, published, us
from benchmarks.intervals import ratio
from benchmarks.random_grammar import FUNCTIONS, Grammar, slots, stands
from factors.errors import ResearcherError
from factors.evaluation import Evaluation, SplitMetrics
from factors.evaluator import evaluate
from factors.expression import Call, Field, distinct, is_sequence
from factors.hypothesis import Candidate, Hypothesis
from factors.operators import Kind
from factors.parse import parse
from factors.regularization import Structure
from factors.verdict import Verdict
from factors.zoo import Zoo
from graphs.researcher import Brief, Trial

FIELDS = ("open", "high", "low", "close", "volume", "return")
HYPOTHESIS = Hypothesis(
    id="h1", statement="a", observation="", knowledge="", justification="", specification="", horizon_days=1
)


@pytest.fixture(scope="module")
def drawn():
    """Many random formulas."""
    return list(islice(Grammar(FIELDS).formulas(Random(3)), 1500))


@pytest.fixture(scope="module")
def pair(tmp_path_factory, small):
    """The small market twice, and its home."""
    home = tmp_path_factory.mktemp("search")
    return published(demo(small, "small"), home), home


def trial(number, formula, rank_icir):
    """A measured trial; only what the genetic search reads is not made up."""
    candidate = Candidate(id=f"1.{number}.0", hypothesis_id="h1", name="a", description="a", formula=formula)
    names = dict.fromkeys(SplitMetrics.model_fields)
    split = SplitMetrics.model_construct(**{**names, "rank_icir": rank_icir})
    evaluation = Evaluation.model_construct(splits={"train": split, "valid": split})
    verdict = Verdict(candidate_id=candidate.id, checks=(), penalty=0.5)
    return Trial.model_construct(round=1, candidate=candidate, verdict=verdict, evaluation=evaluation, admission=())


def brief(seed=1, number=1, trials=()):
    return Brief.model_construct(direction="a", seed=seed, round=number, fields=FIELDS, trials=tuple(trials))


@pytest.fixture(scope="module")
def population(drawn):
    return [trial(k, str(formula), k / 100) for k, formula in enumerate(drawn[:POPULATION])]


def test_random_formulas_are_legal_and_of_every_operator(drawn):
    used = Counter(node.op for formula in drawn for node in distinct(formula) if isinstance(node, Call))
    assert all(parse(str(formula), FIELDS) is formula for formula in drawn)
    assert {op.kind for op in used} == set(Kind)
    assert set(FUNCTIONS) <= set(used)
    assert any(is_sequence(node) for formula in drawn for node in distinct(formula))
    assert {node.name for formula in drawn for node in distinct(formula) if isinstance(node, Field)} >= set(FIELDS)
    assert max(formula.depth for formula in drawn) <= 9, "seven levels, a condition and the window of a sequence"


def test_the_open_gate_refuses_none_of_them(drawn):
    zoo = Zoo()
    assert all(check.passed for formula in drawn[:200] for check in Structure.of(formula, zoo).checks(OPEN))


@pytest.mark.parametrize("researcher", [RandomResearcher(), GeneticResearcher()])
def test_drafts_follow_from_the_seed_and_the_brief(researcher, population):
    def formulas(**what):
        return [draft.formula for draft in researcher.draft(brief(trials=population, **what), HYPOTHESIS, 8)]

    assert len(formulas()) == 8
    assert formulas() == formulas()
    assert formulas() != formulas(seed=2)
    assert formulas() != formulas(number=2)


def test_random_draws_take_no_notice_of_results_and_genetic_ones_do(population):
    drafts = [
        [draft.formula for draft in researcher.draft(brief(trials=trials), HYPOTHESIS, 8)]
        for researcher in (RandomResearcher(), GeneticResearcher())
        for trials in ((), population[:-1], population)
    ]
    assert drafts[0] == drafts[1] == drafts[2]
    assert drafts[3] == drafts[4] != drafts[5]


def test_children_are_legal_and_come_of_the_fit():
    grammar, draw = Grammar(FIELDS), Random(5)
    fit = parse("RANK(TS_CORR($high, $volume, 10)) * TS_MEAN($close, 5)", FIELDS)
    bred = list(islice(children(lambda: fit, grammar, draw), 300))
    assert all(grammar.legal(child) and child.depth <= MAX_LEVELS and child is not fit for child in bred)
    kept = {node for child in bred for node in distinct(child)}
    assert parse("TS_CORR($high, $volume, 10)", FIELDS) in kept


def test_a_crossing_puts_a_part_of_the_other_in_one_place():
    one, other = parse("$close + $close", FIELDS), parse("$open", FIELDS)
    found = {str(crossed(one, other, Random(seed))) for seed in range(40)}
    assert found == {"$open", "$open + $close", "$close + $open"}


def test_a_point_mutation_changes_nodes_to_others_of_their_kind():
    expr = parse("TS_CORR($high, $volume, 10)", FIELDS)
    found = {str(point_mutated(expr, Grammar(FIELDS), Random(seed))) for seed in range(2000)}
    assert {"TS_COV($high, $volume, 10)", "TS_CORR($low, $volume, 10)", "TS_CORR($high, $volume, 20)"} <= found
    assert all(parse(text, FIELDS).op.pairs for text in found)


def test_conditions_stand_where_one_is_asked_for_and_constants_beside_a_series(drawn):
    for node in distinct(*drawn):
        if isinstance(node, Call) and not is_sequence(node):
            for slot, arg in zip(slots(node.op), node.args, strict=True):
                assert slot is None or is_sequence(arg) or stands(slot, arg), node


def test_fitness_is_the_reward_without_the_penalty():
    measured = trial(1, "$close", 0.07)
    assert fitness(measured) == 0.07
    assert fitness(measured.model_copy(update={"evaluation": None})) == float("-inf")
    assert fitness(trial(1, "$close", None)) == 0


def test_an_interval_is_the_bootstrap_over_runs():
    # One run of two is drawn twice in a quarter of the draws, so both ends are those of single runs.
    assert ratio([(1, 4), (3, 4)]) == (0.5, 0.25, 0.75)
    assert ratio([(2, 4)] * 5) == (0.5, 0.5, 0.5)
    assert ratio([(0, 0), (3, 4)]) == (0.75, 0.75, 0.75)
    assert ratio([(0, 0), (0, 0)]) == (None, None, None)
    normal = [(value, 1) for value in np.random.default_rng(1).standard_normal(400)]
    value, low, high = ratio(normal)
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.1)
    assert low < value < high


def test_a_hit_keeps_the_sign_and_half_of_the_size():
    assert Found(0.02, 0.01).hit
    assert Found(-0.02, -0.03).hit
    assert not Found(0.02, 0.009).hit
    assert not Found(0.02, -0.02).hit
    assert not Found(0.0, 0.02).hit


def test_the_valid_split_of_the_truth_is_the_hold_out(pair, small):
    (markets, _), days = pair, np.sort(small.bars["date"].unique().to_numpy())
    mined, _ = load_panel(markets.mined, markets.mined.universe(None))
    truth, _ = load_panel(markets.truth, markets.truth.universe(None))
    sealed = days[days > np.datetime64(small.valid_end)]
    assert len(sealed)
    np.testing.assert_array_equal(truth.dates[slice(*truth.splits["valid"])], sealed)
    np.testing.assert_array_equal(truth.dates[slice(*truth.splits["train"])], mined.dates)
    assert markets.mined.has_holdout
    assert not markets.truth.has_holdout


@pytest.mark.parametrize("formula", ["RANK(-TS_PCTCHANGE($close, 5))", "EMA($volume, 10) * GROUP_RANK($low, $sector)"])
def test_in_sample_values_are_the_same_in_both_markets(pair, formula):
    frames = []
    for snapshot in (pair[0].mined, pair[0].truth):
        panel, _ = load_panel(snapshot, snapshot.universe(None))
        values = panel.frame(evaluate(parse(formula, tuple(panel.fields)), panel))
        frames.append(values.filter(pl.col("date") <= pair[0].mined.valid_end))
    assert frames[0].select("date", "symbol").equals(frames[1].select("date", "symbol"))
    one, other = (frame["value"].to_numpy() for frame in frames)
    np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.usefixtures("endurance")
def test_every_arm_runs_on_a_small_market_and_repeats_itself(pair, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.genetic.POPULATION", 6)
    markets, home = pair

    def run(name, folder):
        return outcome(ARMS[name], markets, home, tmp_path / folder, seed=1, evaluations=10)

    runs = {name: run(name, name) for name in ARMS}
    assert {one.evaluations for one in runs.values()} == {10}
    assert all(one.drafted >= 10 for one in runs.values())
    for one in runs.values():
        assert 0 < len(one.found) <= 10
        assert one.accepted <= one.evaluations
    assert replace(run("genetic", "again"), seconds=0) == replace(runs["genetic"], seconds=0)


def test_a_run_that_fails_is_an_error(pair, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.arms.ROUNDS", 1)

    class Silent(RandomResearcher):
        def propose(self, _brief):
            raise ResearcherError("nothing to say")

    markets, home = pair
    with pytest.raises(RuntimeError, match="nothing to say"):
        outcome(replace(ARMS["random"], researcher=Silent()), markets, home, tmp_path, seed=1, evaluations=1)


def test_the_command_prints_one_document_and_leaves_out_data_that_are_absent(monkeypatch, capsys, small, tmp_path):
    run = Outcome((Found(0.02, 0.02),), accepted=1, drafted=20, duplicates=5, evaluations=10, seconds=2.0)
    monkeypatch.setattr(search, "demo_market", lambda: small)
    monkeypatch.setattr(search, "us", lambda: us(tmp_path))
    monkeypatch.setattr(search, "outcomes", lambda *_, **__: {name: [run] for name in ARMS})
    monkeypatch.setattr("sys.argv", ["search", "--quick", "--json"])
    search.main()
    found = json.loads(capsys.readouterr().out)
    assert found["demo"]["random"]["duplicates"] == {"value": 0.25, "low": 0.25, "high": 0.25}
    assert list(found) == ["demo"]
    assert [source.name for source in search.sources(quick=False)] == ["demo"]
    assert "us is left out: its files are not in" in capsys.readouterr().err


def test_the_figures_pool_runs_and_leave_out_those_that_put_none_forward():
    good = Outcome(
        (Found(0.02, 0.02), Found(0.03, 0.0)), accepted=2, drafted=20, duplicates=5, evaluations=10, seconds=2.0
    )
    bad = Outcome((), accepted=0, drafted=20, duplicates=0, evaluations=10, seconds=4.0)
    results = {"demo": {"genetic": [good, bad], "random": [bad, bad]}}
    found = search.figures(results)["demo"]
    assert {name: one.value for name, one in found["genetic"].items()} == {
        "hit_ratio": 0.5,
        "holdout_rank_ic_mean": 0.01,
        "holdout_rank_ic_best": 0.02,
        "holdout_rank_ic_chosen": 0.0,
        "duplicates": 0.125,
        "accepted": 1.0,
        "evaluations": 10.0,
        "seconds": 3.0,
    }
    assert found["random"]["hit_ratio"].value is None
    text = search.page(results, 10)
    assert "| `hit_ratio` | 0.5 [0.5, 0.5] | none |" in text
    assert "- genetic: 2 factors accepted, in 1 of 2 runs; 3 s a run" in text
