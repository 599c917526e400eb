"""How alike formulas are: the index against pairs, pairs against their definition."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factors.alphas import FIELDS, Alpha, published, read_alphas
from factors.canonical import canonical, pattern
from factors.chains import is_chain, parts
from factors.errors import DataError
from factors.expression import distinct, fields
from factors.legacy import parse_legacy
from factors.parse import parse
from factors.zoo import Zoo, parametric_similarity, recurrent, similarity
from tests.disguises import disguised, rewindowed, window_moves
from tests.factors.test_canonical import SEEDS, random_formula


def s(one, other):
    return similarity(canonical(one), canonical(other))


def s_parametric(one, other):
    return parametric_similarity(canonical(one), canonical(other))


def by_definition(one, other, shape=str):
    """Every subtree beside every one of the other, and of chains what both hold, on the texts of the nodes' shapes."""
    best = 0
    for a in distinct(one):
        for b in distinct(other):
            if shape(a) == shape(b):
                best = max(best, min(a.size, b.size))
            if is_chain(a) and is_chain(b) and a.op is b.op:
                left, right = ([(shape(part), part.size) for part in parts(whole)] for whole in (a, b))
                common = 0
                for text in {text for text, _ in left}:
                    sizes = (
                        sorted((size for own, size in side if own == text), reverse=True) for side in (left, right)
                    )
                    common += sum(min(pair) + 1 for pair in zip(*sizes, strict=False))
                best = max(best, common - 1)
    return best


@given(SEEDS, SEEDS)
@settings(max_examples=150, deadline=None)
def test_similarity_is_symmetric_bounded_and_by_definition(seed, other):
    one, two = random_formula(seed), random_formula(other)
    assert s(one, two) == s(two, one) == by_definition(canonical(one), canonical(two))
    parametric = by_definition(canonical(one), canonical(two), lambda part: str(pattern(part)))
    assert s_parametric(one, two) == s_parametric(two, one) == parametric >= s(one, two)
    assert s_parametric(one, two) <= min(canonical(one).size, canonical(two).size)
    assert s(one, one) == s_parametric(one, one) == canonical(one).size


@given(SEEDS, SEEDS, SEEDS)
@settings(max_examples=150, deadline=None)
def test_a_disguise_never_lowers_similarity(seed, other, how):
    one, two = random_formula(seed), random_formula(other)
    hidden = disguised(one, Random(how))
    assert s(hidden, two) == s(one, two)
    assert s_parametric(hidden, two) == s_parametric(one, two)
    if "1000" not in str(one):
        assert s_parametric(rewindowed(hidden), two) == s_parametric(one, two)


def test_no_single_window_that_moves_lowers_parametric_similarity():
    """But where a term then is another one that it is taken from, and both are gone."""
    moves = 0
    for alpha in published():
        form = canonical(alpha.expr)
        for moved in window_moves(alpha.expr):
            if canonical(moved).size >= form.size:
                assert s_parametric(moved, alpha.expr) == form.size, f"{alpha.name}: {moved}"
                moves += 1
    assert moves > 1000


@given(st.lists(SEEDS, min_size=1, max_size=25), SEEDS)
@settings(max_examples=60, deadline=None)
def test_the_index_is_the_method_by_pairs(seeds, query):
    alphas = [Alpha(str(k), random_formula(seed), "here") for k, seed in enumerate(seeds)]
    expr, half = random_formula(query), len(alphas) // 2
    for zoo in (Zoo(alphas), Zoo(alphas[half:], parent=Zoo(alphas[:half]))):
        likeness = zoo.likeness(expr)
        for found, size in ((likeness.exact, s), (likeness.parametric, s_parametric)):
            expected = sorted((size(expr, alpha.expr) for alpha in alphas), reverse=True)[:5]
            assert [match.nodes for match in found] == [nodes for nodes in expected if nodes]
            for match in found:
                alpha = alphas[int(match.alpha)]
                assert match.nodes == size(expr, alpha.expr)
                assert match.share == match.nodes / min(canonical(expr).size, canonical(alpha.expr).size)


def test_a_sum_shares_the_terms_that_it_shares():
    zoo = Zoo([Alpha("sum", parse("TS_MEAN($close, 5) + RANK($open)"), "here")])
    [match] = zoo.likeness(parse("TS_MEAN($close, 5) + $high + RANK($open)")).exact
    assert (match.nodes, match.subtree, match.share) == (6, "TS_MEAN($close, 5) + RANK($open)", 1.0)


def test_what_is_quoted_is_what_the_candidate_wrote():
    zoo = Zoo(published())
    match = zoo.likeness(parse("$low + TS_CORR(RANK($open), RANK($volume), 12)")).parametric[0]
    assert (match.alpha, match.nodes) == ("Alpha#3", 6)
    assert match.subtree == "TS_CORR(RANK($open), RANK($volume), 12)"


def test_the_published_alphas_are_all_there_and_say_what_they_need():
    alphas = {alpha.name: alpha for alpha in published()}
    assert {f"Alpha#{k}" for k in range(1, 102)} < alphas.keys()
    assert len(alphas) == 101 + 158
    assert all(parse(str(alpha.expr), FIELDS) is alpha.expr and alpha.source for alpha in alphas.values())
    assert fields(alphas["Alpha#41"].expr) == {"high", "low", "vwap"}
    assert "$sector" in str(alphas["Alpha#48"].expr)
    assert fields(alphas["VWAP0"].expr) == {"vwap", "close"}


def test_the_older_files_agree_with_the_transcription_but_for_their_deviations(shared_data):
    """They have close for vwap and volume for its dollar average; of what has neither, all but misprints agree."""
    lines = (shared_data / "zoo" / "alpha101.csv").read_text().splitlines()
    older = {alpha.name: alpha.expr for alpha in read_alphas(lines, "alpha101.csv", parse_legacy)}
    same = 0
    for alpha in published():
        plain = alpha.name in older and not {"vwap", "cap", "return"} & fields(alpha.expr)
        if plain and "$close * $volume" not in str(alpha.expr) and "$sector" not in str(alpha.expr):
            same += pattern(canonical(older[alpha.name])) is pattern(canonical(alpha.expr))
    assert same >= 20


def test_a_file_with_broken_lines_gives_nothing_and_names_each():
    lines = ["name,formula", "good,RANK($close)", "bad,RANK($clsoe)", "three,a,b", "good,RANK($open)", ",RANK($open)"]
    with pytest.raises(DataError) as caught:
        read_alphas(lines, "mine.csv")
    text = str(caught.value)
    assert "mine.csv" in text
    assert "line 3: at character 6: unknown field $clsoe" in text
    assert "line 4: expected a name and a formula" in text
    assert "line 5: the name good is taken" in text
    assert "line 6: a name has 1 to 120" in text
    with pytest.raises(DataError, match=r"long.csv: line 1: field larger"):
        read_alphas(["a," + "x" * 200_000], "long.csv")
    with pytest.raises(DataError, match="no alpha"):
        read_alphas(["name,formula"], "empty.csv")


def test_the_older_spelling_is_read_where_it_is_asked_for():
    [alpha] = read_alphas(['one,"CORR($close, LOG($volume), 6.5)"'], "old.csv", parse_legacy)
    assert str(alpha.expr) == "TS_CORR($close, LOG1P($volume), 6)"


def test_parts_that_recur_are_found_largest_first():
    common = "TS_CORR(RANK($close), RANK($volume), 5)"
    exprs = [parse(text) for text in (f"{common} * $open", f"RANK({common})", "TS_MEAN($low, 5)", "-TS_MEAN($low, 5)")]
    assert [str(part) for part in recurrent(exprs, nodes=3)] == [common, "TS_MEAN($low, 5)"]
    assert recurrent(exprs[:1]) == []
