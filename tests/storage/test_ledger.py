import inspect
import json
import math
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from statistics import NormalDist
from threading import Barrier

import numpy as np
import pytest

from factors.discovery import level
from factors.effective_trials import effective_number
from factors.evaluation import Evidence, Standing
from factors.hypothesis import Candidate, factor_id
from factors.measurement import Measurement, standing
from factors.parse import parse
from storage.ledger import Ledger, Question
from storage.records import Records
from tests.library import EVIDENCE, METRICS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "records.sqlite"


@pytest.fixture
def records(path):
    with Records.open(f"sqlite:///{path}") as opened:
        yield opened


def question(formula="RANK($close)", **changed):
    how = {"market": "m", "snapshot": "s", "universe": "all", "horizon": 1} | changed
    return Question.of(parse(formula), **how)


def measured(p_value=0.5, sharpe=0.1, observations=200.0, series=None):
    evidence = EVIDENCE.model_copy(update={"p_value": p_value, "sharpe": sharpe, "observations": observations})
    return Measurement({"train": METRICS, "valid": METRICS}, evidence, np.zeros(3) if series is None else series)


def never():
    pytest.fail("measured again")


def rows(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM trials ORDER BY market, number")]


# one question, one trial


@pytest.mark.parametrize(
    ("spelt", "again"),
    [
        ("RANK($close)", "RANK(2 * RANK($close) + 1)"),
        ("$close / $open", "$close * INV($open)"),
        ("$open - $close", "-($close - $open)"),
        ("$volume + $close", "$close + $volume"),
    ],
)
def test_another_spelling_is_no_new_trial_and_is_told_as_asked(records, path, spelt, again):
    first = records.ledger.measured(question(spelt), measured, user="ada")
    with Records.open(f"sqlite:///{path}") as restarted:
        assert restarted.ledger.measured(question(f" {spelt} "), never, user="bob").standing == first.standing
        second = restarted.ledger.measured(question(again), measured, user="bob")
    assert (first.splits, first.evidence, first.standing) == (second.splits, second.evidence, second.standing)
    assert np.array_equal(first.rank_ic, second.rank_ic)
    [row] = rows(path)
    assert (row["formula"], row["user"], records.ledger.count("m")) == (str(parse(spelt)), "ada", 1)
    candidate = Candidate(id="1.2", hypothesis_id="h", name="n", description="d", formula=again, attempt=0, parents=())
    asked = second.evaluation(candidate)
    assert (asked.candidate_id, asked.formula, asked.standing) == ("1.2", again, first.standing)


@pytest.mark.parametrize("changed", [{"days": 99}, {"coverage": 0.5}, {"series": np.array([0.0, 0.002, 0.0])}])
def test_other_words_with_other_figures_are_a_trial_of_their_own(records, path, changed):
    """Canonical forms keep ranks, not nulls: `x + y - y` is x only where y is known."""
    plain, padded = "RANK($close)", "RANK(2 * RANK($close) + 1)"
    records.ledger.measured(question(plain), measured, user="ada")
    rank_ic = changed.get("series", np.zeros(3))
    metrics = METRICS.model_copy(update={name: value for name, value in changed.items() if name != "series"})
    other = Measurement({"train": METRICS, "valid": metrics}, EVIDENCE, rank_ic)
    entered = records.ledger.measured(question(padded), lambda: other, user="ada")
    assert (entered.standing.trial, entered.splits["valid"]) == (2, metrics)
    assert [row["formula"] for row in rows(path)] == [plain, str(parse(padded))]
    assert records.ledger.measured(question(padded), never, user="bob").splits["valid"] == metrics
    assert records.ledger.measured(question(plain), never, user="bob").splits["valid"] == METRICS


def test_one_bet_is_discovered_once_in_whatever_words_or_on_one_day_more(records):
    draw = np.random.default_rng(2)
    signal, other = draw.normal(0.05, 0.1, (2, 300))

    def levels(*tried):
        market = f"m{len(tried)}{tried[-1][0][0]:.3f}"
        for number, (series, snapshot) in enumerate(tried):
            asked = question(f"DELAY($close, {number + 1})", market=market, snapshot=snapshot)
            found = measured(1e-12, series=series)
            assert records.ledger.measured(asked, lambda found=found: found, user="ada").standing.discovery
        return records.ledger.market(market, 0, 10)

    nudged = signal + draw.normal(0, 0.01, 300)
    assert levels((signal, "s"), (other, "s")).discoveries == 2
    assert levels((signal, "s"), (nudged, "s"), (-nudged, "s")).discoveries == 1
    again = levels((signal, "s"), (np.append(nudged, 0.1), "t"), (np.append(other, 0.1), "t"), (signal, "u"))
    assert (again.discoveries, again.next_level) == (2, level(5, [1, 3]))


@pytest.mark.parametrize(
    "changed", [{"snapshot": "t"}, {"universe": "big"}, {"horizon": 5}, {"market": "n"}, {"formula": "RANK($open)"}]
)
def test_another_question_is_a_new_trial(records, path, changed):
    records.ledger.measured(question(), measured, user="ada")
    entered = records.ledger.measured(question(**changed), lambda: measured(sharpe=0.7), user="ada")
    assert entered.evidence.sharpe == 0.7
    assert len(rows(path)) == 2
    assert entered.standing.trial == (1 if "market" in changed else 2)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_was_not_measured_is_no_trial(records, path, error):
    def stopped():
        raise error

    with pytest.raises(error):
        records.ledger.measured(question(), stopped, user="ada")
    assert rows(path) == []
    assert records.ledger.measured(question("RANK($open)"), measured, user="ada").standing.trial == 1


def test_eight_who_ask_one_question_at_once_get_one_answer(records, path):
    together = Barrier(8)

    def ask(number):
        def measure():
            together.wait(20)
            return measured(sharpe=number / 100)

        return records.ledger.measured(question(), measure, user=f"user {number}")

    with ThreadPoolExecutor(8) as pool:
        entries = list(pool.map(ask, range(8)))
    [row] = rows(path)
    assert {entry.evidence.sharpe for entry in entries} == {json.loads(row["evidence"])["sharpe"]}
    assert {entry.standing.trial for entry in entries} == {1}


def test_an_answer_is_the_same_from_the_row_as_when_it_was_entered(records):
    """No figure is rounded on its way through the database."""
    draw = np.random.default_rng(5)
    for number in range(30):
        values = {name: float(draw.standard_normal() * 10.0 ** draw.integers(-8, 3)) for name in Evidence.model_fields}
        evidence = Evidence(**{**values, "days": number, "observations": 100 + number})
        found = Measurement({"train": METRICS.model_copy(update={"rank_ic": values["rank_ic"]})}, evidence, np.zeros(2))
        asked = question(f"DELAY($close, {number + 1})")
        entered = records.ledger.measured(asked, lambda found=found: found, user="ada")
        [read] = records.ledger.find([asked])
        assert entered.evidence == read.evidence == evidence
        assert entered.splits == read.splits == found.splits
        assert entered.standing == read.standing


def test_series_are_kept_to_three_digits(records):
    draw = np.random.default_rng(3)
    series = np.concatenate([draw.uniform(-1, 1, 2000), draw.normal(0, 0.03, 2000), [0.0, 1.0, -1.0, 1e-4, np.nan]])
    records.ledger.measured(question(), lambda: measured(series=series), user="ada")
    [entry] = records.ledger.find([question()])
    assert np.isnan(entry.rank_ic).tolist() == np.isnan(series).tolist()
    error = np.abs(entry.rank_ic - series)[:-1]
    # Below 6e-5 half floats have a fixed step.
    assert (error <= np.maximum(0.0005 * np.abs(series[:-1]), 3e-8)).all()
    assert error.max() > 1e-5


# numbers and levels


WRITER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from tests.storage.test_ledger import enter
with ThreadPoolExecutor(4) as pool:
    print(*pool.map(lambda name: enter(sys.argv[1], f"{sys.argv[2]}{name}"), range(4)))
"""
ENTERED = 12


def enter(path, writer):
    """Enter some trials of one's own and some that others enter too; how many."""
    draw = np.random.default_rng(sum(map(ord, writer)))
    with Records.open(f"sqlite:///{path}") as records:
        for number in range(ENTERED):
            asked = [
                (f"DELAY($close, {number + 1})", 10.0 ** -draw.uniform(3, 12)),
                (f"DELAY($open, {1 + number + ENTERED * (ord(writer[0]) % 2 * 4 + int(writer[1]))})", draw.uniform()),
            ]
            for formula, p_value in asked:
                found = measured(float(p_value), float(draw.normal(0, 0.1)), float(draw.uniform(50, 300)))
                records.ledger.measured(question(formula), lambda found=found: found, user=writer)
    return ENTERED


def test_two_processes_of_four_threads_number_without_gaps_and_spend_each_level_once(records, path):
    """Replayed one after another, every row's standing is what its number and the discoveries before it make of it."""
    assert records.ledger.count("m") == 0
    command = [sys.executable, "-W", "error", "-c", WRITER, str(path)]
    writers = [
        subprocess.Popen([*command, name], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for name in "ab"
    ]
    said = [writer.communicate(timeout=120) for writer in writers]
    assert [(err, out.split()) for out, err in said] == [("", [str(ENTERED)] * 4)] * 2
    found = rows(path)
    assert [row["number"] for row in found] == list(range(1, ENTERED * 9 + 1))
    discoveries = []
    for row in found:
        evidence, place = (kind.model_validate_json(row[name]) for kind, name in KINDS)
        assert place.level == level(row["number"], discoveries)
        assert place == standing(evidence, row["number"], discoveries)
        assert place.discovery == (evidence.p_value <= place.level) == bool(row["discovery"])
        discoveries += [row["number"]] if place.discovery else []
    assert 2 < len(discoveries) < len(found)
    assert len({row["user"] for row in found}) == 8
    told = records.ledger.market("m", 0, 10)
    assert (told.discoveries, told.next_level) == (len(discoveries), level(len(found) + 1, discoveries))


KINDS = ((Evidence, "evidence"), (Standing, "standing"))


def test_markets_have_streams_of_their_own(records, path):
    for number in range(4):
        for market in "mn":
            asked = question(f"DELAY($close, {number + 1})", market=market)
            records.ledger.measured(asked, lambda: measured(1e-9), user="ada")
    assert [(row["market"], row["number"]) for row in rows(path)] == [(name, n) for name in "mn" for n in (1, 2, 3, 4)]
    levels = [[json.loads(row["standing"])["level"] for row in rows(path) if row["market"] == name] for name in "mn"]
    assert levels[0] == levels[1]


def test_nobody_can_say_how_much_was_tried():
    """What callers pass names no number of trials, level or standing."""
    assert list(inspect.signature(Ledger.measured).parameters) == ["self", "question", "measure", "user", "run_id"]
    assert set(Question.__slots__) == {"market", "snapshot", "universe", "horizon", "factor_id", "formula"}
    assert set(Measurement.__slots__) == {"splits", "evidence", "rank_ic"}
    assert set(Evidence.model_fields) & {*Standing.model_fields, "trials", "number"} == set()
    public = {name for name in vars(Ledger) if not name.startswith("_")}
    assert public == {"measured", "count", "find", "market", "tried"}


def test_what_is_told_of_a_market_follows_from_its_rows(records, path):
    draw = np.random.default_rng(8)
    for number in range(15):
        series = draw.normal(0, 0.1, 80)
        for universe in ("all", "big")[: 1 + (number % 3 == 0)]:
            shown = (10.0 ** -draw.uniform(0, 5), draw.normal(0, 0.1), draw.uniform(60, 90) * (number != 4))
            found = measured(*map(float, shown), series=series)
            asked = question(f"DELAY($close, {number + 1})", universe=universe)
            records.ledger.measured(asked, lambda found=found: found, user="ada")
    records.ledger.measured(question(market="n"), measured, user="ada")
    kept = [row for row in rows(path) if row["market"] == "m"]
    evidence = [json.loads(row["evidence"]) for row in kept]
    scores, count = [one["sharpe"] for one in evidence], len(kept)
    mean = math.fsum(scores) / count
    told = records.ledger.market("m", 3, 7)
    assert told.trials == records.ledger.count("m") == count == 20
    assert told.score_variance == pytest.approx(math.fsum((one - mean) ** 2 for one in scores) / (count - 1))
    errors = [1 / one["observations"] for one in evidence if one["observations"]]
    assert len(errors) == 20 - 1
    assert told.null_variance == pytest.approx(math.fsum(errors) / len(errors))
    quantile, euler = NormalDist().inv_cdf, 0.5772156649015329
    best = (1 - euler) * quantile(1 - 1 / count) + euler * quantile(1 - 1 / (count * math.e))
    assert told.expected_maximum == pytest.approx(math.sqrt(told.null_variance) * best)
    assert told.discoveries == sum(row["discovery"] for row in kept)
    groups = [[np.frombuffer(r["rank_ic"], "<f2") for r in kept if r["universe"] == name] for name in ("all", "big")]
    assert told.effective_trials == pytest.approx(sum(effective_number(group) for group in groups))
    assert (told.openings_spent, told.openings_left) == (3, 7)


def test_a_market_without_trials_has_the_first_level_before_it(records):
    told = records.ledger.market("m", 0, 10)
    assert (told.trials, told.effective_trials, told.score_variance, told.expected_maximum) == (0, 0, 0, 0)
    assert told.next_level == level(1, [])


def test_a_trial_tells_who_asked_when_and_of_what(records, path):
    before = datetime.now(UTC)
    records.ledger.measured(question(), measured, user="ada")
    [row] = rows(path)
    assert (row["factor_id"], row["user"], row["run_id"]) == (factor_id("m", parse("RANK($close)")), "ada", None)
    assert before <= datetime.fromisoformat(row["created_at"]).replace(tzinfo=UTC) <= datetime.now(UTC)
