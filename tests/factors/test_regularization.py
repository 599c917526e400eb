"""The gate: what it measures of a formula, and what it refuses."""

import math

import pytest

from factors.alphas import Alpha, published
from factors.errors import SettingError
from factors.expression import Number, fields, walk
from factors.parse import parse
from factors.regularization import Complexity, Limits, Structure, agreement, alignment_check
from factors.zoo import Zoo

KNOWN = parse("RANK(TS_CORR($close, $volume, 20)) - TS_ZSCORE(DELTA($close, 5) / $close, 60)")


def zoo_of(*formulas):
    return Zoo(Alpha(f"card {k}", parse(formula), "here") for k, formula in enumerate(formulas))


def failed(formula, zoo=None, limits=None):
    checks = Structure.of(parse(formula), zoo or Zoo()).checks(limits or Limits())
    return {check.name: check for check in checks if not check.passed}


def penalty(formula, zoo=None, alignment=1.0):
    return Structure.of(parse(formula), zoo or Zoo()).penalty(Limits(), alignment)


def test_a_plain_formula_passes_every_check():
    checks = Structure.of(parse("RANK($close)"), Zoo()).checks(Limits())
    assert all(check.passed and not check.hint for check in checks)
    assert [check.name for check in checks] == [
        "length",
        "parameters",
        "fields",
        "depth",
        "look_back",
        "duplicate",
        "originality",
        "variation",
    ]


@pytest.mark.parametrize(
    ("formula", "name", "value"),
    [
        ("$close" + " + $open" * 30, "length", 61),
        (" + ".join(f"DELAY($close, {d})" for d in range(1, 14)), "parameters", 13),
        ("TS_MEAN(" * 14 + "$close" + ", 2)" * 14, "depth", 15),
        ("TS_MEAN($close, 262)", "look_back", 261),
        ("TS_MEAN(TS_MEAN($close, 200), 100)", "look_back", 298),
    ],
)
def test_complexity_is_refused_with_a_hint(formula, name, value):
    check = failed(formula)[name]
    assert check.value == value
    assert str(value) in check.hint
    assert str(int(check.limit)) in check.hint


def test_complexity_counts_what_is_written():
    for alpha in published():
        found, nodes = Complexity.of(alpha.expr), list(walk(alpha.expr))
        assert found.length == len(nodes)
        assert found.parameters == sum(isinstance(node, Number) for node in nodes)
        assert found.fields == len(fields(alpha.expr))
        assert found.depth <= found.length


def test_thirty_nested_means_and_a_sum_of_279_nodes_are_refused():
    assert "depth" in failed("TS_MEAN(" * 30 + "$close" + ", 2)" * 30)
    balanced = "$close"
    while parse(balanced).size < 127:
        balanced = f"({balanced} + {balanced})"
    long_sum = f"{balanced} + {balanced}"
    assert parse(long_sum).size == 255  # the language itself ends at 256 nodes
    assert "length" in failed(long_sum)


def test_too_many_fields():
    six = "$open + $high + $low + $close + $volume + $return"
    assert failed(six)["fields"].value == 6


@pytest.mark.parametrize(
    "spelled",
    [
        "RANK(TS_CORR($close,$volume,20))-(TS_ZSCORE(DELTA($close,5)/$close,60))",
        "RANK(TS_CORR($volume, $close, 20)) + -1 * TS_ZSCORE(DELTA($close, 5) * INV($close), 60)",
        "RANK(3 * (TS_ZSCORE(DELTA($close, 5) / $close, 60) - RANK(RANK(TS_CORR($close, $volume, 20)))) + 1)",
        "RANK(TS_CORR($close * $low / $low, $volume - 7, 20)) - TS_ZSCORE(DELTA($close, 5) / $close, 60)",
        "RANK(TS_CORR($close, $volume, 20)) * 2 / 2 - TS_ZSCORE(3 + ($close - DELAY($close, 5)) / $close, 60)",
    ],
)
def test_a_known_alpha_is_a_duplicate_however_it_is_spelled_or_scaled(spelled):
    check = failed(spelled, zoo_of(str(KNOWN)))["duplicate"]
    assert check.hint == "it ranks as card 0 does, or the other way round; propose another"


@pytest.mark.parametrize(
    ("known", "other"),
    [
        (str(KNOWN), "RANK(TS_CORR($close, $volume, 21)) - TS_ZSCORE(DELTA($close, 4) / $close, 59)"),
        (
            str(KNOWN),
            "RANK(TS_CORR($close, $volume, 20)) - 1.0001 * TS_ZSCORE(DELTA($close, 5) / ($close + 0.001), 60)",
        ),
        ("TS_MEAN($close, 20) / $close", "TS_SUM($close, 21) / $close"),
        ("$high / $low", "1.5 - $high / ($low + 1)"),
        ("POW($return, 2)", "POW($return, 3)"),
    ],
)
def test_other_numbers_are_no_other_idea(known, other):
    check = failed(other, zoo_of(known))
    assert set(check) == {"variation"}
    assert check["variation"].hint == "it is card 0 with other numbers at most; a new window is no new idea"


@pytest.mark.parametrize("formula", ["RANK($close)", "$close / $open", "TS_CORR($high - $low, $volume, 20)"])
def test_a_plain_formula_is_refused_only_if_the_zoo_holds_it(formula):
    assert not failed(formula, Zoo(published()))
    assert "duplicate" in failed(formula, Zoo([*published(), Alpha("held", parse(formula), "here")]))


@pytest.mark.parametrize(
    ("known", "other"),
    [
        ("($high - $low) / $open", "($high + 2 * $low) / $open"),
        ("TS_MEAN($close, 5) - TS_MEAN($close, 20)", "TS_MEAN($close, 5) + 3 * TS_MEAN($close, 20)"),
        ("POW($return, 2)", "POW($return, -3)"),
        ("$volume - TS_MEAN($volume, 5)", "$volume + TS_MEAN($volume, 5)"),
    ],
)
def test_a_sign_is_no_number(known, other):
    assert not failed(other, zoo_of(known)).keys() & {"duplicate", "variation"}


def test_a_shared_subtree_is_named_with_its_owner_as_the_candidate_writes_it():
    zoo = zoo_of(str(KNOWN))
    check = failed("$open * ABS(TS_ZSCORE(DELTA($close, 5) / $close, 60) - RANK(TS_CORR($close, $volume, 20)))", zoo)
    shared = "TS_ZSCORE(DELTA($close, 5) / $close, 60) - RANK(TS_CORR($close, $volume, 20))"
    assert check["originality"].value == 16
    assert check["originality"].hint == f"shares 16 nodes with card 0: {shared}; change that part"


def test_a_formula_that_is_mostly_a_known_one_with_other_numbers_is_a_variation():
    zoo = zoo_of(str(KNOWN))
    check = failed("TS_MEAN(RANK(TS_CORR($close, $volume, 15)) - TS_ZSCORE(DELTA($close, 6) / $close, 40), 3)", zoo)
    assert set(check) == {"variation"}
    assert check["variation"].value == pytest.approx(16 / 20)
    assert "card 0" in check["variation"].hint
    assert "originality" not in failed("TS_STD(TS_CORR($close, $volume, 15), 9) * $open * $high * $low", zoo)


def test_a_tried_formula_is_a_duplicate_but_its_numbers_and_parts_stay_free():
    zoo = Zoo()
    zoo.add_tried("candidate 1.2.0", KNOWN)
    assert "candidate 1.2.0" in failed(str(KNOWN), zoo)["duplicate"].hint
    assert "candidate 1.2.0" in failed(f"-2 * ({KNOWN})", zoo)["duplicate"].hint
    assert not failed(f"ABS({KNOWN})", zoo)
    assert not failed(str(KNOWN).replace("60", "40"), zoo)


def test_alignment_is_the_mean_of_both_agreements():
    assert agreement(0.2, 1.0) == pytest.approx(0.6)


def test_alignment_below_its_limit_is_refused_with_the_judge_s_reason():
    assert alignment_check(0.5, "reason", Limits()).passed
    check = alignment_check(0.49, "say which volume", Limits())
    assert (check.passed, check.hint) == (False, "say which volume")


def test_the_penalty_is_the_weighted_sum_of_its_terms():
    found = penalty("RANK(TS_CORR($close, $volume, 15)) - $open", zoo_of(str(KNOWN)), alignment=0.75)
    similarity, columns = 5 / 8, math.log(4) / math.log(6)
    assert found.similarity == similarity
    exploration = (similarity + 0.25 + columns) / 3
    assert found.total == pytest.approx((7 / 60 + 1 / 12 + exploration) / 3)


def test_the_penalty_rises_with_length_numbers_fields_likeness_and_misalignment():
    zoo = zoo_of(str(KNOWN))
    plain = penalty("RANK($open)", zoo).total
    assert 0 < plain < penalty("RANK($open + $high)", zoo).total
    assert plain < penalty("RANK($open + 1)", zoo).total
    assert plain < penalty("RANK($open)", zoo, alignment=0.5).total
    assert penalty("ABS(DELTA($close, 5) / $close)", zoo).total > penalty("ABS(DELTA($close, 5) / $close)").total
    assert penalty(" + ".join(["DELAY($close, 300)"] * 30), zoo, alignment=0.0).total <= 1


def test_limits_may_be_changed_within_what_the_server_allows():
    own, loosest = Limits(), Limits(length=120, alignment=0.3)
    changed = own.changed(Limits(length=100, alignment=0.4), loosest)
    assert (changed.length, changed.alignment, changed.depth) == (100, 0.4, own.depth)
    assert own.changed(Limits(length=20), loosest).length == 20
    with pytest.raises(SettingError, match=r"limits.length must be at most 120 on this server, not 121"):
        own.changed(Limits(length=121), loosest)
    with pytest.raises(SettingError, match=r"limits.alignment must be at least 0.3"):
        own.changed(Limits(alignment=0.2), loosest)
