import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from random import Random

import pytest

from factors.errors import FormulaError, ResearcherError
from factors.evaluation import Evaluation, SplitMetrics
from factors.expression import Number, call, walk
from factors.hypothesis import Candidate, Factor, Hypothesis, factor_id
from factors.parse import parse
from factors.verdict import Check, Verdict
from graphs.offline import OfflineResearcher
from graphs.offline.breeding import crossed, flipped, mutated, shortened, simplified, uprooted
from graphs.offline.choice import nearest
from graphs.offline.concepts import STEMS, describe, fidelity, named, overlap
from graphs.offline.drafting import MAX_SIZE, spoken
from graphs.offline.grammar import expand
from graphs.offline.results import wrong_way
from graphs.offline.themes import THEMES, joined
from graphs.researcher import Brief, Trial

FIELDS = ("open", "high", "low", "close", "volume", "return")
RESEARCHER = OfflineResearcher()
BY_KEY = {theme.key: theme for theme in THEMES}
DIVERGENCE = "-TS_CORR($close, $volume, 20)"


def brief_of(**changes):
    return Brief(**{"direction": "", "seed": 7, "round": 1, "fields": FIELDS, **changes})


def hypothesis_of(key, hypothesis_id="h1"):
    theme = BY_KEY[key]
    return Hypothesis(
        id=hypothesis_id,
        statement=theme.statement,
        observation=theme.observation,
        knowledge=theme.knowledge,
        justification=theme.justification,
        specification=theme.specification,
        horizon_days=theme.horizon_days,
    )


def metrics(rank_ic, rank_icir):
    values = {"days": 250, "coverage": 1.0, "ic": rank_ic, "icir": rank_icir, "hit_rate": 0.5, "turnover": 0.3}
    return SplitMetrics(**values, rank_ic=rank_ic, rank_icir=rank_icir, t_stat=0.0, rank_t_stat=0.0)


def trial_of(formula, train, valid, *, failed=(), admission=(), trial_id="c1", hypothesis_id="h1", description="x"):
    """A trial with these rank ICs, ten times as large as ICIR; not measured where ``train`` is None."""
    checks = tuple(Check(name=name, value=99, limit=limit, passed=False, hint="less") for name, limit in failed)
    evaluation = train is not None and Evaluation(
        candidate_id=trial_id,
        formula=formula,
        snapshot="s",
        universe="all",
        horizon=1,
        splits={"train": metrics(train, train * 10), "valid": metrics(valid, valid * 10)},
    )
    return Trial(
        round=1,
        candidate=Candidate(
            id=trial_id, hypothesis_id=hypothesis_id, name="Parent", description=description, formula=formula
        ),
        verdict=Verdict(candidate_id=trial_id, checks=checks, penalty=0.5),
        evaluation=evaluation or None,
        admission=tuple(Check(name=name, value=0, limit=1, passed=False, hint="more") for name in admission),
    )


def factor_of(formula):
    """A factor of the team's library."""
    return Factor(
        id=factor_id("m", parse(formula)),
        market="m",
        name="known",
        description="d",
        formula=formula,
        hypothesis="h",
        run_id="r",
        snapshot="s",
        universe="u",
        horizon=1,
        penalty=0.3,
        splits={"train": metrics(0.02, 0.2), "valid": metrics(0.01, 0.1)},
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def candidate_of(draft):
    return Candidate(id="1.1.0", hypothesis_id="h1", **draft.model_dump())


def test_the_library_has_distinct_themes_that_name_their_own_concepts():
    assert len(THEMES) >= 36
    assert len({theme.key for theme in THEMES}) == len({theme.statement for theme in THEMES}) == len(THEMES)
    for theme in THEMES:
        assert theme.concepts, theme.key
        assert set(theme.concepts) <= named(f"{theme.statement} {theme.specification}"), theme.key
        assert set(theme.concepts) <= STEMS.keys()
        assert 1 <= theme.horizon_days <= 60


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.key)
def test_every_grammar_gives_many_legal_formulas_about_its_theme(theme):
    draw = Random(3)
    texts = [expand(theme.grammar, draw) for _ in range(200)]
    assert not [text for text in texts if re.search(r"<\w+>", text)]
    formulas = {parse(text) for text in texts}
    assert len(formulas) >= 20
    spoken = named(f"{theme.statement} {theme.specification}")
    texts_of = {expr: f"{theme.title}. {describe(expr, theme.concepts)}" for expr in formulas}
    aligned = [expr for expr, text in texts_of.items() if overlap(text, spoken) >= 0.6 and fidelity(text, expr) >= 0.6]
    assert len(aligned) > len(formulas) / 2
    assert max(expr.size for expr in formulas) <= MAX_SIZE
    assert max(expr.look_back for expr in formulas) <= 260


def test_every_production_of_every_grammar_is_reached():
    for theme in THEMES:
        reached = set(re.findall(r"<\w+>", " ".join(theme.grammar["<alpha>"])))
        for _ in theme.grammar:
            reached |= {
                name
                for symbol in reached & theme.grammar.keys()
                for name in re.findall(r"<\w+>", " ".join(theme.grammar[symbol]))
            }
        assert theme.grammar.keys() - reached == {"<alpha>"}, theme.key


def test_a_nonterminal_written_twice_takes_one_text_and_keeps_its_parentheses():
    grammar = {"<alpha>": ("<x> * <x> / <d>",), "<x>": ("$open - $close", "$high - $low")}
    texts = {expand(grammar, Random(seed)) for seed in range(60)}
    assert texts == {f"({x}) * ({x}) / {d}" for x in grammar["<x>"] for d in (5, 10, 20, 40, 60)}


def test_the_same_brief_gives_the_same_answer_and_another_seed_another():
    hypothesis = hypothesis_of("volume-price-divergence")
    trials = (trial_of(DIVERGENCE, 0.02, 0.02),)
    brief = brief_of(round=2, trials=trials, hypotheses=(hypothesis,))
    assert RESEARCHER.draft(brief, hypothesis, 8) == OfflineResearcher().draft(brief, hypothesis, 8)
    other = brief.model_copy(update={"seed": 8})
    assert RESEARCHER.draft(brief, hypothesis, 8) != RESEARCHER.draft(other, hypothesis, 8)
    assert RESEARCHER.propose(brief) == OfflineResearcher().propose(brief)
    assert len({RESEARCHER.propose(brief_of(seed=seed)).statement for seed in range(12)}) > 3


def test_the_answer_does_not_depend_on_the_process():
    script = (
        "from tests_offline import *\n"
        "h = hypothesis_of('overnight-gap')\n"
        "b = brief_of(round=3, trials=(trial_of(DIVERGENCE, 0.02, 0.02, hypothesis_id='other'),"
        " trial_of('-($open / DELAY($close, 1) - 1)', 0.03, 0.02, trial_id='c2')), hypotheses=(h,))\n"
        "print(RESEARCHER.draft(b, h, 6), RESEARCHER.propose(b))\n"
    )
    loader = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('tests_offline', {__file__!r})\n"
        "module = importlib.util.module_from_spec(spec); sys.modules['tests_offline'] = module\n"
        "spec.loader.exec_module(module)\n"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", loader + script],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(answers) == 1


def test_no_draft_repeats_a_tried_formula_the_library_or_the_batch():
    hypothesis = hypothesis_of("overnight-gap")
    first = RESEARCHER.draft(brief_of(), hypothesis, 10)
    assert len(first) == 10
    tried = tuple(trial_of(draft.formula, 0.02, 0.01, trial_id=f"c{i}") for i, draft in enumerate(first) if i % 2 == 0)
    library = tuple(factor_of(draft.formula) for i, draft in enumerate(first) if i % 2)
    second = RESEARCHER.draft(brief_of(trials=tried, library=library), hypothesis, 10)
    formulas = [draft.formula for draft in second]
    assert len(formulas) == len(set(formulas)) == 10
    assert not set(formulas) & {draft.formula for draft in first}
    names = [draft.name for draft in second]
    assert len(set(names)) == len(names)
    assert all(str(parse(formula)) == formula for formula in formulas)


def test_a_strongly_negative_candidate_is_turned_first():
    hypothesis = hypothesis_of("volume-price-divergence")
    weaker = trial_of("-TS_CORR($high, $volume, 20)", -0.01, -0.02, trial_id="c2")
    mixed = trial_of("-TS_CORR($low, $volume, 10)", -0.05, 0.02, trial_id="c3")
    brief = brief_of(round=2, trials=(mixed, weaker, trial_of(DIVERGENCE, -0.04, -0.03)), hypotheses=(hypothesis,))
    drafts = RESEARCHER.draft(brief, hypothesis, 6)
    assert [draft.formula for draft in drafts[:2]] == ["TS_CORR($close, $volume, 20)", "TS_CORR($high, $volume, 20)"]
    assert drafts[0].parents == ("c1",)
    assert "TS_CORR($low, $volume, 10)" not in {draft.formula for draft in drafts}


def test_half_of_the_second_round_and_most_of_later_ones_is_bred_from_good_trials():
    hypothesis = hypothesis_of("volume-price-divergence")
    trials = (trial_of(DIVERGENCE, 0.03, 0.03), trial_of("-TS_CORR($open, $volume, 10)", 0.02, 0.03, trial_id="c2"))
    bred = {
        number: sum(
            bool(draft.parents) for draft in RESEARCHER.draft(brief_of(round=number, trials=trials), hypothesis, 10)
        )
        for number in (2, 5, 9)
    }
    assert bred == {2: 5, 5: 8, 9: 8}
    bad = (trial_of(DIVERGENCE, 0.001, 0.05),)
    assert not [d for d in RESEARCHER.draft(brief_of(round=2, trials=bad), hypothesis, 10) if d.parents]


def test_valid_which_is_to_choose_is_not_bred_for():
    """What is drafted does not depend on valid, but where the sign of a candidate does."""
    hypothesis = hypothesis_of("volume-price-divergence")
    drafts = [
        RESEARCHER.draft(brief_of(round=5, trials=tuple(
            trial_of(f"-TS_CORR($close, $volume, {days})", days / 1000, valid, trial_id=f"c{days}")
            for days, valid in zip((20, 30, 40, 50, 60, 70), values, strict=True)
        )), hypothesis, 8)
        for values in ((0.05, 0.04, 0.03, 0.02, 0.01, 0.0), (0.0, 0.01, 0.02, 0.03, 0.04, 0.05))
    ]  # fmt: skip
    assert drafts[0] == drafts[1]


@pytest.mark.parametrize("fault", ["turnover", "net_return"])
def test_a_good_candidate_that_trades_too_much_is_smoothed(fault):
    hypothesis = hypothesis_of("volume-price-divergence")
    trials = (trial_of(DIVERGENCE, 0.03, 0.03, admission=(fault,)),)
    first = RESEARCHER.draft(brief_of(round=2, trials=trials), hypothesis, 6)[0]
    assert first.parents == ("c1",)
    assert re.fullmatch(rf"(TS_MEAN|DECAYLINEAR)\({re.escape(DIVERGENCE)}, \d+\)", first.formula)


def test_a_candidate_that_costs_what_it_earns_is_smoothed_though_nothing_is_bred_from_it():
    hypothesis = hypothesis_of("volume-price-divergence")
    costly = trial_of(DIVERGENCE, 0.03, 0.03, admission=("net_return",))
    splits = {
        name: split.model_copy(update={"long_short": 0.001, "long_short_net": -0.002})
        for name, split in costly.evaluation.splits.items()
    }
    costly = costly.model_copy(update={"evaluation": costly.evaluation.model_copy(update={"splits": splits})})
    assert costly.fitness < 0
    drafts = RESEARCHER.draft(brief_of(round=2, trials=(costly,)), hypothesis, 6)
    assert [draft.parents for draft in drafts] == [("c1",), *[()] * 5]
    assert re.fullmatch(rf"(TS_MEAN|DECAYLINEAR)\({re.escape(DIVERGENCE)}, \d+\)", drafts[0].formula)


def test_only_kin_of_the_hypothesis_is_bred():
    foreign = trial_of(DIVERGENCE, 0.03, 0.03, hypothesis_id="other")
    brief = brief_of(round=3, trials=(foreign,), hypotheses=(hypothesis_of("volume-price-divergence", "other"),))
    assert not [d for d in RESEARCHER.draft(brief, hypothesis_of("overnight-gap"), 8) if d.parents]
    assert [d for d in RESEARCHER.draft(brief, hypothesis_of("volume-price-divergence", "h9"), 8) if d.parents]


def test_what_is_bred_stays_about_the_hypothesis():
    hypothesis = hypothesis_of("traded-value")
    trials = (trial_of("-TS_MEAN($volume * $close, 20)", 0.05, 0.05),)
    for seed in range(10):
        for draft in RESEARCHER.draft(brief_of(round=6, seed=seed, trials=trials), hypothesis, 10):
            assert not draft.parents or overlap(draft.description, spoken(hypothesis)) >= 0.6


def test_changes_to_formulas_stay_in_the_language():
    legal = 0
    for number, theme in enumerate(THEMES * 4):
        draw = Random(number)
        one, other = (parse(expand(theme.grammar, draw)) for _ in range(2))
        changes = (mutated, uproot, crossed, lambda a, _, rng: simplified(a, rng))
        for change in changes:
            try:
                child = change(one, other, draw)
            except FormulaError:
                continue
            assert parse(str(child)) is child
            legal += 1
        assert parse(str(shortened(one))).look_back <= one.look_back
        assert flipped(flipped(one)) is one
    assert legal > 0.95 * 4 * len(THEMES) * 4


def uproot(one, other, draw):
    child = uprooted(one, [one.children[0]], other, draw)
    largest = max((n for n in walk(one.children[0]) if n.children), key=lambda n: n.size, default=None)
    if largest is not None and largest is not one and largest not in set(walk(other)):
        assert largest not in set(walk(child))
    return child


def test_a_mutated_and_crossed_batch_respects_size_and_columns():
    hypothesis = hypothesis_of("up-down-volume")
    drafts = RESEARCHER.draft(brief_of(), hypothesis, 10)
    trials = tuple(trial_of(draft.formula, 0.02, 0.02, trial_id=f"c{i}") for i, draft in enumerate(drafts))
    for seed in range(20):
        for draft in RESEARCHER.draft(brief_of(round=6, seed=seed, trials=trials), hypothesis, 10):
            assert 3 <= parse(draft.formula).size <= MAX_SIZE
    closes = brief_of(fields=("close", "return"))
    for draft in RESEARCHER.draft(closes, hypothesis_of("short-reversal"), 10):
        parse(draft.formula, {"close", "return"})
    assert RESEARCHER.draft(closes, hypothesis_of("volume-season"), 10) == []


@pytest.mark.parametrize(
    ("check", "limit", "size"),
    [
        ("length", 9, lambda expr: expr.size),
        ("depth", 4, lambda expr: expr.depth),
        ("parameters", 1, lambda expr: sum(isinstance(node, Number) for node in walk(expr))),
        ("look_back", 30, lambda expr: expr.look_back),
        ("fields", 1, lambda expr: len({str(node) for node in walk(expr) if str(node).startswith("$")})),
    ],
)
def test_a_rewrite_meets_the_limit_that_was_broken(check, limit, size):
    formula = "RANK(TS_MEAN(-TS_CORR($close, LOG($volume), 60), 10)) + RANK(TS_CORR($high, $volume, 40))"
    refused = trial_of(formula, None, None, failed=((check, limit),))
    [draft] = RESEARCHER.revise(brief_of(), hypothesis_of("short-reversal"), [refused])
    assert size(parse(formula)) > limit
    assert size(parse(draft.formula)) <= limit


def test_a_rewrite_for_originality_drops_the_part_that_is_known():
    known = "TS_CORR($close, LOG($volume), 60)"
    formula = f"RANK($close) - TS_MEAN({known}, 10)"
    refused = trial_of(formula, None, None, failed=(("originality", 3),))
    hypothesis = hypothesis_of("volume-price-divergence")
    [draft] = RESEARCHER.revise(brief_of(library=(factor_of(known),)), hypothesis, [refused])
    assert known not in draft.formula
    assert "RANK($close)" in draft.formula


def test_rewrites_of_a_batch_differ_and_what_does_not_parse_is_drawn_anew():
    refused = [trial_of("nonsense(", None, None, failed=(("parse", 0),)) for _ in range(5)]
    drafts = RESEARCHER.revise(brief_of(), hypothesis_of("skewness"), refused)
    assert len({draft.formula for draft in drafts}) == 5
    impossible = [trial_of("RANK($close)", None, None, failed=(("length", 1),))]
    assert RESEARCHER.revise(brief_of(), hypothesis_of("skewness"), impossible) == [None]


def test_a_rewrite_for_alignment_describes_the_formula_and_raises_its_score():
    hypothesis = hypothesis_of("volume-price-divergence")
    refused = trial_of(DIVERGENCE, None, None, failed=(("alignment", 0.5),), description="Drawdown of peaks.")
    [draft] = RESEARCHER.revise(brief_of(), hypothesis, [refused])
    assert draft.formula == DIVERGENCE
    before = judged(hypothesis, refused.candidate)
    after = judged(hypothesis, refused.candidate.model_copy(update={"description": draft.description}))
    assert before.hypothesis_description + before.description_formula == 0
    assert min(after.hypothesis_description, after.description_formula) >= 0.6
    again = trial_of(DIVERGENCE, None, None, failed=(("alignment", 0.5),), description=draft.description)
    [other] = RESEARCHER.revise(brief_of(), hypothesis, [again])
    assert other.formula != DIVERGENCE


def judged(hypothesis, candidate):
    [alignment] = RESEARCHER.judge(hypothesis, [(candidate, parse(candidate.formula))])
    return alignment


def test_the_judge_scores_aligned_above_misaligned_and_says_what_it_is():
    hypothesis = hypothesis_of("overnight-gap")
    for draft in RESEARCHER.draft(brief_of(), hypothesis, 10):
        candidate = Candidate(id="c", hypothesis_id="h1", **draft.model_dump(exclude={"parents"}))
        own = judged(hypothesis, candidate)
        foreign = judged(hypothesis_of("volume-stability"), candidate)
        assert own.hypothesis_description > foreign.hypothesis_description
        assert own.description_formula >= 0.6
        swapped = judged(hypothesis, candidate.model_copy(update={"formula": "TS_STD($volume, 20)"}))
        assert own.description_formula > swapped.description_formula
        assert "not a judgement by a language model" in own.reason


def test_a_direction_about_volume_gives_a_theme_about_volume():
    for seed in range(30):
        theme = nearest(RESEARCHER.propose(brief_of(seed=seed, direction="volume")).statement)
        assert "volume" in theme.concepts
        theme = nearest(RESEARCHER.propose(brief_of(seed=seed, direction="overnight gaps")).statement)
        assert "gap" in theme.concepts


def test_refine_keeps_the_hypothesis_and_a_new_one_leaves_it():
    hypothesis = hypothesis_of("kurtosis")
    for seed in range(20):
        brief = brief_of(seed=seed, round=2, direction="kurtosis of tails", hypotheses=(hypothesis,))
        refine = brief.model_copy(update={"move": "refine", "parents": ("h1",)})
        assert RESEARCHER.propose(refine).statement == hypothesis.statement
        assert RESEARCHER.propose(brief).statement != hypothesis.statement


def test_rounds_that_begin_together_part_ways():
    for seed in range(5):
        briefs = [brief_of(seed=seed, round=4 + k, abreast=k, direction="volume") for k in range(8)]
        assert len({RESEARCHER.propose(brief).statement for brief in briefs}) == 8


def test_a_crossing_claims_both_and_its_formulas_rank_by_both():
    one, other = hypothesis_of("kurtosis", "h1"), hypothesis_of("overnight-gap", "h2")
    brief = brief_of(round=3, hypotheses=(one, other), move="cross", parents=("h1", "h2"))
    idea = RESEARCHER.propose(brief)
    assert one.statement in idea.statement
    assert other.statement in idea.statement
    hypothesis = Hypothesis(id="h3", move="cross", parents=("h1", "h2"), **idea.model_dump())
    drafts = RESEARCHER.draft(brief, hypothesis, 8)
    assert len(drafts) == 8
    for draft in drafts:
        assert re.search("KURT|DELAY.*open|open", draft.formula)
        assert RESEARCHER.judge(hypothesis, [(candidate_of(draft), parse(draft.formula))])[0].agreement > 0.5
    again = brief_of(round=4, hypotheses=(hypothesis,), move="refine", parents=("h3",))
    assert RESEARCHER.propose(again).statement == idea.statement
    both = {concept for theme in (BY_KEY["kurtosis"], BY_KEY["overnight-gap"]) for concept in theme.concepts}
    assert set(nearest(idea.statement).concepts) == both


def test_every_pair_of_themes_can_be_crossed():
    """What a joined grammar draws is legal, but for what each of its halves draws wrong by itself."""
    draw = Random(1)
    pairs = [(one, other) for one in THEMES for other in THEMES if one is not other]
    for one, other in draw.sample(pairs, 200):
        theme = joined(one, other)
        assert nearest(theme.statement).statement == joined(*sorted((one, other), key=THEMES.index)).statement
        expr = parse(expand(theme.grammar, draw), FIELDS)
        assert expr.op.name in {"ADD", "MULTIPLY"}


def test_a_theme_that_did_well_comes_back_before_one_that_did_badly():
    keys = [theme.key for theme in THEMES]
    hypotheses = tuple(hypothesis_of(key, key) for key in keys)
    good = trial_of("$close", 0.02, 0.02, hypothesis_id="kurtosis")
    brief = brief_of(round=60, hypotheses=hypotheses, trials=(good,))
    for seed in range(10):
        assert nearest(RESEARCHER.propose(brief.model_copy(update={"seed": seed})).statement).key == "kurtosis"


def test_a_market_without_prices_has_no_hypothesis():
    with pytest.raises(ResearcherError, match="price columns"):
        RESEARCHER.propose(brief_of(fields=("sentiment",)))


def test_the_sign_is_wrong_only_where_every_split_says_so():
    assert wrong_way(trial_of(DIVERGENCE, -0.01, -0.02))
    assert not wrong_way(trial_of(DIVERGENCE, -0.03, -0.001))
    assert not wrong_way(trial_of(DIVERGENCE, None, None))


def test_reflection_gives_figures_and_refines_what_promises():
    hypothesis = hypothesis_of("volume-price-divergence")
    brief = brief_of(hypotheses=(hypothesis,))
    best, worst = trial_of(DIVERGENCE, 0.03, 0.02), trial_of("RANK($close)", 0.01, -0.02, trial_id="c2")
    refused = trial_of("RANK($open)", None, None, failed=(("originality", 1),), trial_id="c3")
    answer = RESEARCHER.reflect(brief, hypothesis, [worst, refused, best])
    assert answer.supported
    assert answer.action == "refine"
    for part in ("3 trials 2 were measured", f"Best: {DIVERGENCE}", "+0.0200 on valid", "originality 1"):
        assert part in answer.lesson
    assert RESEARCHER.reflect(brief, hypothesis, [refused]).action == "pivot"
    hopeless = trial_of(DIVERGENCE, 0.02, -0.02, admission=("persistence",))
    answer = RESEARCHER.reflect(brief, hypothesis, [hopeless])
    assert (answer.supported, answer.action) == (False, "pivot")
    assert "persistence 1" in answer.lesson
    backward = trial_of(DIVERGENCE, -0.02, -0.02, admission=("t_stat",))
    answer = RESEARCHER.reflect(brief, hypothesis, [backward])
    assert (answer.supported, answer.action) == (False, "refine")
    assert "turn the sign" in answer.lesson


def test_a_hypothesis_has_three_rounds_of_patience():
    hypothesis = hypothesis_of("momentum")
    brief = brief_of(hypotheses=tuple(hypothesis_of("momentum", f"h{n}") for n in range(3)))
    good = trial_of("TS_PCTCHANGE($close, 60)", 0.05, 0.05)
    assert RESEARCHER.reflect(brief, hypothesis, [good]).action == "pivot"


def test_an_unknown_hypothesis_is_played_by_the_nearest_theme():
    stranger = hypothesis_of("momentum").model_copy(update={"statement": "Skewed lottery returns disappoint."})
    assert "asymmetry" in nearest(stranger.statement).concepts
    assert len(RESEARCHER.draft(brief_of(), stranger, 5)) == 5


def test_a_bare_column_or_a_series_against_itself_is_not_drafted():
    hypothesis = hypothesis_of("short-reversal")
    trials = (trial_of("-(RANK($open - $close) + RANK($return))", 0.05, 0.05),)
    for seed in range(40):
        for draft in RESEARCHER.draft(brief_of(round=9, seed=seed, trials=trials), hypothesis, 10):
            for node in walk(parse(draft.formula)):
                assert len(node.children) < 2 or node.children[0] is not node.children[1] or node.op.name == "MULTIPLY"
            assert parse(draft.formula).size >= 3
    assert call("NEGATE", parse("$close")).size < 3
