import json
import os
import re
import socket
import time
from datetime import date
from signal import SIGINT

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from app.inspection import read
from app.settings import Settings
from factors.columns import PRICES
from factors.evaluation import SplitMetrics
from factors.evaluator import evaluate_frame
from factors.hypothesis import Factor, factor_id
from factors.operators import COMPOSITES, OPERATORS
from storage.markets import open_market
from storage.records import Records
from storage.runs import RunRequest

DIVERGENCE = "-TS_CORR($close, $volume, 20)"
MINE = ("mine", "volume shocks that overshoot", "--market", "small", "--rounds", "2", "--candidates", "4", "--json")


def nested(levels):
    return "ABS(" * levels + "$close" + ")" * levels


def bars(rows=30, symbols=("A", "B"), start=date(2020, 1, 1)):
    """A file's worth of bars, one row a symbol and calendar day."""
    days = pl.date_range(start, start.replace(day=rows), eager=True).alias("date")
    frame = days.to_frame().join(pl.DataFrame({"symbol": symbols}), how="cross")
    price = 10 + (pl.int_range(pl.len()) % 7) / 10
    return frame.with_columns(open=price, high=price + 1, low=price - 1, close=price + 0.5, volume=price * 1000)


def result(answer):
    """What mining found, without what is a run's own."""
    own = {"run_id", "created_at"}
    return [{key: value for key, value in factor.items() if key not in own} for factor in answer.json["accepted"]]


def assert_refused(answer, *words):
    assert answer.status == 2, answer
    assert re.fullmatch(r"error: [^\n]+\n", answer.err), answer.err
    assert answer.out == ""
    for word in words:
        assert word in answer.err


@pytest.fixture(scope="module")
def kept(new_home, cli):
    """A home with the market and empty records that no test may change."""
    home = new_home()
    assert cli(home, "factors", "list", "--json").json == []
    return home


@pytest.fixture(scope="module")
def mined(new_home, cli, alphaagent):
    """A home, and what mining it twice with one seed printed: in this process, then in another."""
    home = new_home()
    return home, cli(home, *MINE, "--seed", "3"), alphaagent(home, *MINE, "--seed", "3")


# eval


def test_eval_tells_the_formula_as_it_was_understood(kept, cli):
    answer = cli(kept, "eval", " RANK( $close )-$open*.5", "--market", "small", "--json")
    assert answer.json["evaluation"]["formula"] == "RANK($close) - $open * 0.5"


def test_eval_reads_the_older_spelling_and_tells_today_s(kept, cli):
    formula, today = "CORR(LOG($volume), SMA($close, 5.7), 9", "TS_CORR(LOG1P($volume), TS_MEAN($close, 5), 9)"
    older, newer = (
        cli(kept, "eval", text, "--market", "small", "--json", *more)
        for text, more in ((formula, ("--dialect", "legacy")), (today, ()))
    )
    assert older.json["evaluation"]["formula"] == today
    assert older.json == newer.json
    assert today in cli(kept, "eval", formula, "--market", "small", "--dialect", "legacy").out
    refused = cli(kept, "eval", formula, "--market", "small")
    assert (refused.status, refused.out) == (2, "")
    assert "SMA(x, d: 1..1000): d must be an integer literal from 1 to 1000, not 5.7" in refused.err
    unknown = cli(kept, "eval", formula, "--market", "small", "--dialect", "qlib")
    assert unknown.status == 2
    assert "'alphaagent', 'legacy'" in unknown.err


def test_eval_prints_one_document_and_nothing_else(kept, alphaagent):
    answer = alphaagent(kept, "eval", DIVERGENCE, "--market", "small", "--json")
    assert (answer.status, answer.err) == (0, "")
    document = answer.json["evaluation"]
    assert document["formula"] == DIVERGENCE
    assert document["snapshot"] == open_market(kept, "small").id
    assert set(document["splits"]) == {"train", "valid"}
    for metrics in document["splits"].values():
        assert set(metrics) == set(SplitMetrics.model_fields)
        assert metrics["days"] > 100
        assert 0.8 < metrics["coverage"] <= 1
        assert all(-1 < metrics[name] < 1 for name in ("ic", "rank_ic", "turnover"))


def test_eval_of_a_constant_is_json_without_figures(kept, cli):
    found = cli(kept, "eval", "$close - $close", "--market", "small", "--json").json
    splits = found["evaluation"]["splits"]
    assert {splits["train"]["rank_ic"], splits["valid"]["t_stat"], found["robustness"]["interval"]} == {None}
    assert (found["evaluation"]["evidence"]["p_value"], found["accepted"]) == (1.0, False)


def test_eval_values_are_the_evaluator_s_and_end_before_the_hold_out(kept, cli, small, tmp_path):
    out = tmp_path / "values.parquet"
    formula = "GROUP_RANK(TS_ZSCORE($return, 10), $sector)"
    assert cli(kept, "eval", formula, "--market", "small", "--values", out, "--json").status == 0
    snapshot = open_market(kept, "small")
    values = pl.read_parquet(out)
    assert_frame_equal(values, evaluate_frame(formula, snapshot.bars(snapshot.universes[0])), check_exact=True)
    assert dict(values.schema) == {"date": pl.Date, "symbol": pl.String, "value": pl.Float64}
    assert values["date"].max() == snapshot.last_date <= small.valid_end < small.bars["date"].max()
    assert values["value"].count() > 10_000
    assert list(tmp_path.iterdir()) == [out]


def test_eval_in_another_universe_is_another_measurement(kept, cli):
    first, every = (
        cli(kept, "eval", "RANK($volume)", "--market", "small", "--json", *more).json["evaluation"]
        for more in ((), ("--universe", "all"))
    )
    assert (first["universe"], every["universe"]) == ("synthetic200", "all")
    assert first["splits"] != every["splits"]


def test_people_get_tables(kept, cli):
    for command in (["eval", DIVERGENCE, "--market", "small"], ["check", DIVERGENCE], ["operators"]):
        answer = cli(kept, *command)
        assert (answer.status, answer.err) == (0, "")
        assert "│" in answer.out


def test_people_read_of_a_market_what_it_holds(kept, cli, small):
    answer = cli(kept, "data", "list")
    assert (answer.status, answer.err) == (0, "")
    assert "small (synthetic), snapshot " in answer.out
    assert f"valid to {small.valid_end}, hold-out sealed" in answer.out


def test_the_operator_table_is_complete(kept, cli):
    table = cli(kept, "operators").out
    assert all(op.signature in table for op in OPERATORS.values())
    assert all(one.signature in table and one.expansion in table for one in COMPOSITES)
    assert re.search(r"TS_MEAN\(x, d: 1\.\.1000\) +│ mean of x over the last d rows +│ d - 1 +│ Mean ", table)


def test_the_operator_table_fits_a_terminal(kept, cli):
    table = cli(kept, "operators", COLUMNS="100").out
    assert max(map(len, table.splitlines())) == 100
    assert all(op.signature in table for op in OPERATORS.values())
    assert "…" not in table.replace("1, 2, …, d", "").replace("d, d-1, …, 1", "")


# check


def test_check_accepts_a_plain_formula(kept, cli):
    answer = cli(kept, "check", DIVERGENCE, "--json")
    assert (answer.status, answer.err) == (0, "")
    document = answer.json
    assert (document["formula"], document["accepted"]) == (DIVERGENCE, True)
    assert all(set(check) == {"name", "value", "limit", "passed", "hint"} for check in document["checks"])
    assert all(check["passed"] and not check["hint"] for check in document["checks"])


def test_check_shows_the_nearest_alphas_and_what_the_penalty_is_made_of(kept, cli):
    found = cli(kept, "check", "-2 * TS_CORR(RANK($open), RANK($volume), 12)", "--json").json
    assert (found["accepted"], found["same_as"], found["varied_from"]) == (False, None, "Alpha#3")
    assert (found["similarity"], found["parametric_similarity"]) == (2, 8)
    assert [len(found[kind]) for kind in ("exact", "parametric")] == [5, 5]
    assert found["parametric"][0] == {
        "alpha": "Alpha#3",
        "nodes": 8,
        "share": 1.0,
        "subtree": "-2 * TS_CORR(RANK($open), RANK($volume), 12)",
    }
    assert found["complexity"] == {"length": 8, "parameters": 2, "fields": 2, "depth": 4, "look_back": 11}
    assert set(found["terms"]) == {"length", "parameters", "similarity", "misalignment", "fields"}
    assert 0 < found["penalty"] < 1


def test_alphas_are_imported_all_or_none_and_hold_candidates_back(kept, cli, tmp_path):
    formula = "TS_CORR($high - $low, $volume, 20)"
    assert cli(kept, "check", formula).status == 0
    source = tmp_path / "mine.csv"
    source.write_text(f'name,formula\nmine,"{formula}"\nbroken,RANK($clsoe)\n')
    assert_refused(cli(kept, "zoo", "import", source), "line 3", "$clsoe")
    assert cli(kept, "check", formula).status == 0
    source.write_text(f'name,formula\nmine,"{formula}"\n')
    assert cli(kept, "zoo", "import", source).status == 0
    answer = cli(kept, "check", formula.replace("20", "30"), "--json")
    assert (answer.status, answer.json["varied_from"]) == (1, "mine")
    assert_refused(cli(kept, "zoo", "import", source), "mine", "already")
    assert_refused(cli(kept, "zoo", "import", tmp_path / "none.csv"), "none.csv")
    source.write_bytes(b"\xff\xfe\x00")
    assert_refused(cli(kept, "zoo", "import", source), "UTF-8")


def test_the_zoo_lists_what_is_known_and_what_a_market_lacks_for_it(kept, cli, tmp_path):
    source = tmp_path / "old.csv"
    source.write_text('older,"CORR($close, LOG($volume), 6.5)"\n')
    assert cli(kept, "zoo", "import", source, "--dialect", "legacy").status == 0
    entries = {entry["name"]: entry for entry in cli(kept, "zoo", "list", "--market", "small", "--json").json}
    assert len(entries) >= 101 + 158 + 1
    assert entries["older"]["formula"] == "TS_CORR($close, LOG1P($volume), 6)"
    assert entries["Alpha#41"]["needs"] == ["vwap"]
    assert entries["KMID"]["needs"] == []
    anywhere = {entry["name"]: entry for entry in cli(kept, "zoo", "list", "--json").json}
    assert anywhere["Alpha#48"]["needs"] == ["sector"]
    assert entries["Alpha#48"]["needs"] == []
    assert "│" in cli(kept, "zoo", "list").out


def test_a_run_may_have_limits_of_its_own_within_the_server_s(kept, cli):
    run = ("mine", "volume", "--market", "small", "--rounds", "1", "--candidates", "4", "--seed", "3", "--json")
    assert_refused(cli(kept, *run, "--limit", "length=500"), "length", "256")
    assert_refused(cli(kept, *run, "--limit", "length=200"), "limits.length must be at most 120 on this server")
    assert_refused(cli(kept, *run, "--limit", "size=5"), "size")
    assert cli(kept, *run, "--limit", "length=3", "--limit", "parameters=1").status == 0


def test_check_refuses_a_formula_of_about_a_hundred_nodes_with_a_hint(kept, cli):
    answer = cli(kept, "check", " + ".join(["(ABS($close) + ABS($open))"] * 16) + " + $low * $high", "--json")
    assert (answer.status, answer.err) == (1, "")
    assert answer.json["accepted"] is False
    failed = {check["name"]: check for check in answer.json["checks"] if not check["passed"]}
    assert (failed["length"]["value"], failed["length"]["limit"]) == (99, 60)
    assert "at most 60 nodes" in failed["length"]["hint"]


def test_check_against_a_market_knows_its_columns_and_its_library(mined, cli):
    home, answer, _ = mined
    formula = answer.json["accepted"][0]["formula"]
    again = cli(home, "check", formula, "--market", "small", "--json")
    assert again.status == 1
    assert next(check["name"] for check in again.json["checks"] if not check["passed"]) == "duplicate"
    assert cli(home, "check", formula, "--json").status == 0


def test_check_survives_a_library_whose_columns_the_market_has_lost(new_home, cli):
    home = new_home()
    accepted = cli(home, *MINE, "--seed", "3").json
    formula = "RANK($vwap)"
    lost = Factor(**{**accepted["accepted"][0], "id": factor_id("small", read(formula)), "formula": formula})
    with Records.open(Settings(home=home).records_url) as records:
        request = RunRequest(direction="vwap", market="small")
        run = records.create_run(request, universe="all", snapshot=lost.snapshot, seed=1, model="offline")
        journal = records.journal(run.id, "host")
        journal.start()
        assert journal.accept_factor(lost.model_copy(update={"run_id": run.id}))
    assert cli(home, "check", "RANK($close)", "--market", "small").status == 0


# mine and the library


def test_mine_tells_the_run_and_what_it_accepted(mined):
    home, answer, other = mined
    assert (answer.status, answer.err) == (other.status, other.err) == (0, "")
    document = answer.json
    assert (document["status"], document["rounds"], document["seed"]) == ("succeeded", 2, 3)
    assert 0 < document["evaluations"] <= 8
    assert document["snapshot"] == open_market(home, "small").id
    assert document["accepted"]
    for factor in document["accepted"]:
        assert {"id", "name", "formula", "hypothesis", "splits"} <= set(factor)
        assert set(factor["splits"]) == {"train", "valid"}
        assert factor["run_id"] == document["run_id"]


def test_mine_again_finds_the_same(mined):
    _, answer, other = mined
    assert answer.json["run_id"] != other.json["run_id"]
    assert answer.json["evaluations"] == other.json["evaluations"]
    assert result(answer) == result(other) != []


@pytest.mark.usefixtures("endurance")
def test_mine_in_another_home_finds_the_same(mined, new_home, alphaagent):
    assert result(alphaagent(new_home(), *MINE, "--seed", "3", PYTHONHASHSEED="77")) == result(mined[1])


def test_mine_with_another_seed_searches_elsewhere(mined, new_home, cli):
    assert result(cli(new_home(), *MINE, "--seed", "4")) != result(mined[1])


@pytest.mark.usefixtures("endurance")
def test_mine_without_a_seed_draws_one_that_repeats_the_run(new_home, cli):
    first = cli(new_home(), *MINE)
    assert result(cli(new_home(), *MINE, "--seed", first.json["seed"])) == result(first)


def test_the_library_holds_each_factor_once_with_its_first_run(mined, cli):
    home, answer, _ = mined
    listed = cli(home, "factors", "list", "--json").json
    assert len(listed) == len({factor["id"] for factor in listed})
    assert {factor["id"]: factor for factor in listed} == {
        factor["id"]: {**factor, "status": "lead"} for factor in answer.json["accepted"]
    }
    assert cli(home, "factors", "list", "--market", "small", "--json").json == listed
    assert cli(home, "factors", "list", "--market", "other", "--json").status == 2


def test_what_was_accepted_measures_the_same_by_eval(mined, cli):
    home, answer, _ = mined
    factor = answer.json["accepted"][-1]
    measured = cli(home, "eval", factor["formula"], "--market", "small", "--json").json["evaluation"]
    assert {name: measured[name] for name in ("splits", "evidence", "standing")} == {
        name: factor[name] for name in ("splits", "evidence", "standing")
    }


def test_mine_shows_progress_on_standard_error_and_a_leaderboard_on_standard_output(new_home, cli):
    answer = cli(new_home(), *MINE[:-1], "--seed", "3")
    assert answer.status == 0
    assert "accepted" in answer.err
    assert "Accepted factors" in answer.out
    assert "Next:" in answer.out


def test_a_run_that_fails_is_told_in_the_document_and_in_one_line(new_home, cli):
    home = new_home()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
    answer = cli(home, *MINE, "--model", "gpt-5-mini", OPENAI_API_KEY="secret-key", OPENAI_BASE_URL=address)
    assert answer.status == 2
    assert re.fullmatch(r"error: model gpt-5-mini failed [^\n]+\n", answer.err)
    assert answer.json["status"] == "failed"
    assert f"error: {answer.json['error']}\n" == answer.err
    assert "secret-key" not in answer.out + answer.err


def test_an_interrupt_cancels_the_run_and_keeps_what_it_had_accepted(new_home, start):
    home = new_home()
    process = start(home, "mine", "volume", "--market", "small", "--rounds", "1000", "--seed", "3", "--json")
    with Records.open(Settings(home=home).records_url) as records:
        while not records.factors()[0]:
            assert process.poll() is None
            time.sleep(0.05)
    process.send_signal(SIGINT)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (0, "")
    document = json.loads(out)
    assert document["status"] == "cancelled"
    assert document["rounds"] < 1000
    with Records.open(Settings(home=home).records_url) as records:
        assert tuple(factor["id"] for factor in document["accepted"]) == records.run(document["run_id"]).accepted


# import


@pytest.mark.parametrize(
    ("change", "status", "rule"),
    [({}, 0, None), ({"adj_factor": 2.0}, 1, "adjustment"), (dict.fromkeys(PRICES[:4], 0.5), 0, "gap")],
)
def test_bars_that_look_wrong_are_told_by_rule(tmp_path, cli, change, status, rule):
    home, source = tmp_path / "home", tmp_path / "bars.csv"
    since = (pl.col("symbol") == "A") & (pl.col("date") >= date(2020, 1, 15))
    frame = bars(symbols=[*"ABCDE"]).with_columns(adj_factor=pl.lit(1.0))
    changes = {name: pl.col(name) * pl.when(since).then(factor).otherwise(1.0) for name, factor in change.items()}
    frame.with_columns(**changes).write_csv(source)
    wanted = (home, "data", "import", source, "--market", "mine", "--no-holdout")
    if status:
        refused = cli(*wanted)
        assert (refused.status, refused.out) == (2, "")
        assert f"{rule} (" in refused.err
        assert refused.err.endswith(f"To accept: {rule}\n")
        assert "no market" in cli(home, "data", "check", "mine").err
    assert cli(*wanted, "--accept", "adjustment").status == 0
    answer, document = cli(home, "data", "check", "mine"), cli(home, "data", "check", "mine", "--json")
    assert (answer.status, answer.err, document.status) == (status, "", status)
    assert "150 bars in sample looked at" in answer.out
    words = " ".join(answer.out.split())
    assert "no telling of shifted: too few days or symbols; no telling of session, closed, calendar, hours: no" in words
    assert document.json["unsaid"]["shifted"] == "too few days or symbols"
    told = {(one["rule"], one["symbol"], one["date"]) for one in document.json["findings"]}
    assert told >= ({(rule, "A", "2020-01-15")} if rule else set())
    assert all(one[1:] == ("A", "2020-01-15") for one in told)
    assert ("2020-01-15 A: " in answer.out) is (rule is not None)


def test_import_without_a_hold_out_leaves_all_days_in_train_and_valid(tmp_path, cli):
    source, out = tmp_path / "bars.csv", tmp_path / "values.parquet"
    bars().write_csv(source)
    home = tmp_path / "home"
    answer = cli(home, "data", "import", source, "--market", "mine", "--no-holdout", "--json")
    assert (answer.status, answer.err) == (0, "")
    [facts] = answer.json
    assert (facts["first_date"], facts["last_date"], facts["valid_end"]) == ("2020-01-01", "2020-01-30", "2020-01-30")
    assert facts["has_holdout"] is False
    with Records.open(Settings(home=home).records_url) as records:
        [entry] = records.audit.page()[0]
    assert (entry.act, entry.subject) == ("market.imported", open_market(home, "mine").id)
    [listed] = cli(home, "data", "list", "--json").json
    assert {**facts, **listed} == facts
    assert cli(home, "eval", "RANK($close)", "--market", "mine", "--values", out, "--json").status == 0
    assert pl.read_parquet(out)["date"].n_unique() == 30


def test_import_with_a_hold_out_measures_nothing_after_it(tmp_path, cli):
    source, out = tmp_path / "bars.parquet", tmp_path / "values.parquet"
    bars().write_parquet(source)
    home = tmp_path / "home"
    dates = ("--train-end", "2020-01-14", "--valid-end", "2020-01-22")
    assert cli(home, "data", "import", source, "--market", "mine", *dates).status == 0
    assert cli(home, "eval", "RANK($close)", "--market", "mine", "--values", out, "--json").status == 0
    assert pl.read_parquet(out)["date"].max() == date(2020, 1, 22)


# what is wrong with a request is one line, and nothing changes


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("TS_MEEN($close, 5)", ["unknown operator TS_MEEN", "TS_MEAN"]),
        ("RANK($clsoe)", ["unknown field $clsoe", "close"]),
        ("TS_MEAN($close)", ["TS_MEAN"]),
        ("TS_MEAN($close, 5, 6)", ["TS_MEAN"]),
        ("TS_MEAN($close, 0)", ["1 to 1000, not 0"]),
        ("TS_MEAN($close, 1001)", ["1 to 1000, not 1001"]),
        ("TS_MEAN($close, 2.5)", ["integer", "2.5"]),
        ("DELAY($close, -1)", ["DELAY"]),
        ("DELAY($close, $volume)", ["DELAY"]),
        ("RANK($close) $open", ["end of the formula"]),
        ("RANK($close", ["')'"]),
        ("$close +\n\n$", ["character"]),
        ("$close" + " " * 1995, ["2,000 characters"]),
        (nested(40), ["nest"]),
        ("-" * 40 + "$close", ["nest"]),
        ("", ["expected"]),
        ("1 + 2", ["field"]),
        ("__import__('os')", ["character"]),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_what_is_no_formula_is_refused(kept, cli, listing, formula, words):
    before = listing(kept)
    assert_refused(cli(kept, "eval", formula, "--market", "small", "--json"), *words)
    assert_refused(cli(kept, "check", formula, "--json"), *words)
    assert listing(kept) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["eval", "RANK($close)", "--market", "smal"], ["no market 'smal'", "did you mean 'small'?"]),
        (["eval", "RANK($close)", "--market", "../small"], ["market name"]),
        (["eval", "RANK($close)", "--market", "small", "--universe", "csi300"], ["csi300", "synthetic200, all"]),
        (["eval", "RANK($close)", "--market", "small", "--values", "{tmp}/no/such.parquet"], ["no folder"]),
        (["eval", "RANK($close)", "--market", "small", "--values", "{tmp}"], ["directory"]),
        (["check", "RANK($close)", "--market", "smal"], ["no market 'smal'"]),
        (["mine", "momentum", "--market", "smal"], ["no market 'smal'"]),
        (["mine", "", "--market", "small"], ["direction"]),
        (["mine", "  ", "--market", "small"], ["direction"]),
        (["mine", "x" * 2001, "--market", "small"], ["direction", "2000"]),
        (["mine", "momentum", "--market", "small", "--universe", "csi300"], ["csi300"]),
        (["mine", "momentum", "--market", "small", "--model", "gpt-5-mini"], ["OPENAI_API_KEY", "offline"]),
        (["mine", "momentum", "--market", "small", "--model", "gpt-9"], ["gpt-5-mini, offline", "ALPHAAGENT_MODELS"]),
        (["mine", "momentum", "--market", "small", "--model", "two\nlines"], ["gpt-5-mini"]),
        (["data", "import", "{tmp}/none.csv", "--market", "new"], ["no such file"]),
        (["data", "import", "{tmp}", "--market", "new"], ["no CSV file with bars"]),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
@pytest.mark.parametrize("with_records", [True, False])
def test_a_request_that_cannot_be_leaves_no_trace(
    kept, market_home, cli, listing, tmp_path, arguments, words, with_records
):
    home = kept if with_records else market_home
    before = listing(home)
    assert_refused(cli(home, *(text.replace("{tmp}", str(tmp_path)) for text in arguments), "--json"), *words)
    assert listing(home) == before
    assert list(tmp_path.iterdir()) == []


def text_of(frame):
    return frame.write_csv()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["empty"]),
        ("date,symbol,open,high,low,close,volume\n", ["no rows"]),
        (text_of(bars().drop("close")), ["no column 'close'"]),
        (
            text_of(pl.concat([bars(), bars().tail(1).with_columns(close=pl.lit(1.0))])),
            ["2020-01-30 B", "more than once"],
        ),
        (text_of(bars().with_columns(date=pl.lit("someday"))), ["row 1", "'someday'", "a date like"]),
        (text_of(bars().with_columns(close=pl.lit("much"))), ["row 1", "'much'", "a number"]),
        (text_of(bars().with_columns(close=pl.lit(-1.0))), ["close", "not positive"]),
    ],
    ids=["empty", "header only", "no close", "duplicates", "no dates", "no numbers", "negative"],
)
def test_a_file_that_is_no_market_is_refused(tmp_path, cli, listing, text, words):
    source = tmp_path / "bars.csv"
    source.write_text(text)
    before = listing(tmp_path)
    assert_refused(cli(tmp_path / "home", "data", "import", source, "--market", "new", "--no-holdout"), *words)
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    "dates",
    [
        [],
        ["--train-end", "2020-01-10"],
        ["--valid-end", "2020-01-20"],
        ["--train-end", "2019-12-31", "--valid-end", "2020-01-20"],
        ["--train-end", "2020-01-10", "--valid-end", "2020-01-30"],
        ["--train-end", "2020-01-20", "--valid-end", "2020-01-10"],
        ["--train-end", "2020-02-20", "--valid-end", "2020-02-25"],
        ["--no-holdout", "--train-end", "2020-01-30"],
        ["--no-holdout", "--train-end", "2020-01-10", "--valid-end", "2020-01-20"],
    ],
    ids=" ".join,
)
def test_split_dates_that_cannot_be_are_refused_with_the_span(tmp_path, cli, listing, dates):
    source = tmp_path / "bars.parquet"
    bars().write_parquet(source)
    before = listing(tmp_path)
    answer = cli(tmp_path / "home", "data", "import", source, "--market", "new", *dates)
    assert_refused(answer, "2020-01-01 to 2020-01-30")
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate"],
        ["eval", "RANK($close)"],
        ["eval", "RANK($close)", "--market", "small", "--jsno"],
        ["check", "RANK($close)", "-x"],
        ["mine", "momentum", "--market", "small", "--rounds", "0"],
        ["mine", "momentum", "--market", "small", "--seed", "-1"],
        ["mine", "momentum", "--market", "small", "--seed", "x"],
        ["data", "import", "x.csv", "--market", "new", "--train-end", "2020-13-01"],
        ["serve", "--port", "70000"],
    ],
    ids=" ".join,
)
def test_misuse_of_the_command_line_ends_with_status_2(kept, cli, listing, arguments):
    before = listing(kept)
    answer = cli(kept, *arguments)
    assert (answer.status, answer.out) == (2, "")
    assert answer.err
    assert listing(kept) == before


def test_an_error_is_one_line_in_a_process_of_its_own(kept, alphaagent, listing):
    before = listing(kept)
    answer = alphaagent(kept, "eval", "TS_MEEN($close, 5)", "--market", "small", "--json")
    assert_refused(answer, "TS_MEAN")
    assert listing(kept) == before


def test_a_busy_port_is_refused(kept, cli, listing):
    before = listing(kept)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert_refused(cli(kept, "serve", "--port", port), f"127.0.0.1:{port}", "--port")
    assert listing(kept) == before


def test_a_home_that_cannot_be_is_refused(tmp_path, cli):
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    assert_refused(cli(blocker / "home", "factors", "list"), "Not a directory")
    assert_refused(cli(blocker / "home", "data", "demo"), "Not a directory")


def test_records_that_are_no_database_are_refused(new_home, cli, listing):
    home = new_home()
    (home / "records.sqlite").write_text("this is not a database at all")
    before = listing(home)
    for command in (["factors", "list"], ["mine", "momentum", "--market", "small"], ["serve", "--port", "0"]):
        assert_refused(cli(home, *command), "records", "not a database")
    assert listing(home) == before


def test_a_damaged_market_is_refused(new_home, cli):
    home = new_home()
    [file] = home.glob("markets/small/*/insample.duckdb")
    os.truncate(file, 5000)
    for command in (["data", "list"], ["eval", "RANK($close)", "--market", "small"]):
        assert_refused(cli(home, *command), "market 'small' is damaged")


def test_a_setting_that_cannot_be_is_refused(kept, cli):
    models = '{"gpt-5": {"timeout": "soon"}}'
    assert_refused(cli(kept, "data", "list", ALPHAAGENT_MODELS=models), "models.gpt-5.timeout")
    secret = '{"large": {"api_key": "secret-key"'
    assert_refused(cli(kept, "data", "list", ALPHAAGENT_MODELS=secret), "models", "JSON")


def test_a_home_may_be_named_from_the_user_s_own(tmp_path, cli):
    cli("~/mine", "factors", "list", HOME=str(tmp_path))
    assert (tmp_path / "mine" / "records.sqlite").is_file()
    assert Settings(home="~").home.is_absolute()


def test_the_documents_are_plain_json(mined):
    assert json.dumps(mined[1].json, indent=2) + "\n" == mined[1].out
