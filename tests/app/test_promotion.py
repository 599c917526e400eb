"""Factors beside the hold-out: what is measured there, who may ask, and how often, in one process and in several."""

import json
import logging
import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial
from statistics import NormalDist

import numpy as np
import polars as pl
import pytest

from app.panels import load_panel
from app.promotion import promote
from app.service import create_service
from app.settings import Settings
from factors.evaluator import evaluate
from factors.labels import forward_returns
from factors.metrics import daily_metrics, split_metrics
from factors.parse import parse
from storage.ingest import import_market
from storage.markets import open_market, publish
from storage.openings import SealedError
from storage.principal import Principal
from storage.records import Records
from tests.library import accepted
from tests.local import local_client
from tests.traces import mined

PRICES = ("open", "high", "low", "close")
FORMULAS = ["-TS_PCTCHANGE($close, 5)", "-TS_CORR($high, $volume, 10)", "RANK($volume) * TS_MEAN($return, 60)"]


@pytest.fixture(scope="module")
def library(new_home, cli):
    """A home with factors that two runs have accepted; not to be changed."""
    home = new_home()
    for seed in ("1", "7"):
        mined(cli, home, "--rounds", "3", "--seed", seed)
    return home


@pytest.fixture
def home(library, tmp_path, monkeypatch):
    """A copy of that home, which the settings name."""
    shutil.copytree(library, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("ALPHAAGENT_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def client(home):  # noqa: ARG001 - the settings name it
    with local_client(create_service(Settings())) as opened:
        yield opened


def ids(home):
    with Records.open(f"sqlite:///{home}/records.sqlite") as records:
        return [factor.id for factor in records.library("small")]


def asked(home, factor_id):
    """How the hold-out is opened for a factor."""
    settings = Settings(home=home)
    with Records.open(settings.records_url) as records:
        return promote(settings, records, factor_id, Principal("ada", "admin"))


# the figures


def measured_apart(truth, universe, formula):
    """Metrics of one day's returns and the daily rank ICs where the hold-out is the valid split of another market."""
    panel, _ = load_panel(truth, universe)
    labels, values = forward_returns(panel, (1,)), evaluate(parse(formula, tuple(panel.fields)), panel)
    first, stop = panel.splits["valid"]
    series = daily_metrics(values, labels, panel).rank_ic[0, first : stop - 2]
    return split_metrics(values, labels, panel)["valid"], series[~np.isnan(series)]


def newey_west(series):
    """The t of a mean, term by term."""
    n, lags = len(series), int(4 * (len(series) / 100) ** (2 / 9))
    centred = [value - math.fsum(series) / n for value in series]
    total = math.fsum(value * value for value in centred) / n
    for lag in range(1, lags + 1):
        total += 2 * (1 - lag / (lags + 1)) * math.fsum(centred[k] * centred[k - lag] for k in range(lag, n)) / n
    return math.fsum(series) / n / math.sqrt(total / n)


def assert_the_same(opening, truth):
    metrics, series = measured_apart(truth, opening.evaluation.universe, opening.evaluation.formula)
    [found] = opening.evaluation.splits.values()
    assert found == metrics
    evidence = opening.evaluation.evidence
    assert evidence.days == found.days == len(series)
    assert evidence.rank_ic == pytest.approx(series.mean(), rel=1e-9)
    assert evidence.t_stat == pytest.approx(newey_west(series.tolist()), rel=1e-9)
    assert evidence.p_value == pytest.approx(NormalDist().cdf(-evidence.t_stat), rel=1e-9)
    assert evidence.sharpe == pytest.approx(series.mean() / series.std(ddof=1), rel=1e-9)


def changed(small):
    """The small market with a split of one instrument in the hold-out, and another listed only there, as its sector."""
    split = pl.col("symbol").is_in(["SYN005", "SYN057"]) & (pl.col("date") > date(2015, 8, 3))
    prices = (pl.when(split).then(pl.col(name) / 2).otherwise(pl.col(name)).alias(name) for name in PRICES)
    factor = pl.when(split).then(pl.col("adj_factor") * 2).otherwise(pl.col("adj_factor"))
    divided = small.bars.with_columns(*prices, factor.alias("adj_factor"))
    late = divided.filter(pl.col("symbol") == "SYN001", pl.col("date") > date(2015, 5, 1))
    bars = pl.concat([divided, late.with_columns(pl.lit("NEW").alias("symbol"), pl.col("close") * 1.01)])
    listed = pl.DataFrame({"index": ["synthetic200"], "symbol": ["NEW"], "start": [date(2015, 6, 1)], "end": [None]})
    sectors = pl.concat([small.sectors, pl.DataFrame({"symbol": ["NEW"], "sector": ["Canals"]})])
    return bars, {"membership": pl.concat([small.membership, listed]), "sectors": sectors}


@pytest.mark.parametrize("formula", [*FORMULAS, "GROUP_RANK($close / $open, $sector)"])
@pytest.mark.parametrize("universe", ["synthetic200", "all"])
def test_figures_on_the_hold_out_are_those_of_a_market_that_has_none(tmp_path, small, formula, universe):
    bars, tables = changed(small)
    sealed = publish(tmp_path, "small", bars, **tables, train_end=small.train_end, valid_end=small.valid_end)
    truth = publish(tmp_path, "truth", bars, **tables, train_end=small.valid_end, holdout=False)
    after = pl.col("date") > small.valid_end
    assert bars.filter(after).group_by("symbol").agg(pl.col("adj_factor").n_unique())["adj_factor"].max() > 1
    for name in ("start", "end"):
        assert tables["membership"].filter(pl.col(name) > small.valid_end).height > 1
    with Records.open(f"sqlite:///{tmp_path}/records.sqlite") as records:
        factor = accepted(records, sealed, formula, universe)
    assert_the_same(asked(tmp_path, factor.id), truth)


@pytest.mark.usefixtures("endurance")
@pytest.mark.parametrize(
    ("market", "index", "sectors"), [("us", "sp500", "us_sectors"), ("cn", "csi300", "cn_industry")]
)
def test_figures_on_a_real_hold_out_are_those_of_a_market_that_has_none(
    tmp_path, real_markets, shared_data, market, index, sectors
):
    (tmp_path / "markets").mkdir()
    (tmp_path / "markets" / market).symlink_to(real_markets / "markets" / market)
    truth = import_market(
        tmp_path,
        "truth",
        shared_data / f"{market}_daily_dev.parquet",
        membership=shared_data / f"{market}_membership.parquet",
        sectors=shared_data / f"{sectors}.parquet",
        train_end=date(2018, 12, 31),
        holdout=False,
        rules=market,
        accept=["adjustment"],
    )
    sealed = open_market(tmp_path, market)
    assert (sealed.valid_end, sealed.has_holdout) == (date(2018, 12, 31), True)
    with Records.open(f"sqlite:///{tmp_path}/records.sqlite") as records:
        factors = [accepted(records, sealed, formula, index) for formula in FORMULAS[:2]]
    for factor in factors:
        opening = asked(tmp_path, factor.id)
        assert opening.evaluation.splits["holdout"].days > 200
        assert_the_same(opening, truth)


def test_what_a_model_had_read_is_told_apart_on_the_hold_out(tmp_path, small, market_home, monkeypatch):
    shutil.copytree(market_home, tmp_path, dirs_exist_ok=True)
    models = {"reader": {"training_cutoff": "2015-06-30"}}
    monkeypatch.setenv("ALPHAAGENT_MODELS", json.dumps(models))
    with Records.open(f"sqlite:///{tmp_path}/records.sqlite") as records:
        factor = accepted(records, open_market(tmp_path, "small"), FORMULAS[0], model="reader")
    evaluation = asked(tmp_path, factor.id).evaluation
    before, after = evaluation.memory
    # A label ends two days after its own.
    read = small.bars["date"].unique().sort()
    read = read.filter((read > small.valid_end) & (read <= date(2015, 6, 30)))
    assert before.days == len(read) - 2
    assert before.days + after.days == evaluation.evidence.days


# over HTTP and at the command line


def assert_problem(answer, status, words):
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"]


def test_a_factor_is_promoted_once_over_http(client, home):
    factor, other, *_ = ids(home)
    assert client.get(f"/factors/{factor}/promotion").json() is None
    before = client.get(f"/factors/{factor}").json()
    shown = client.post(f"/factors/{factor}/promote").json()
    assert shown["status"] in {"live", "rejected"}
    assert (shown["status"] == "live") is all(check["passed"] for check in shown["checks"])
    assert list(shown["evaluation"]["splits"]) == ["holdout"]
    assert client.get(f"/factors/{factor}/promotion").json() == shown
    assert_problem(client.post(f"/factors/{factor}/promote"), 409, "a second look would not be out of sample")
    assert client.get(f"/factors/{factor}").json() == {**before, "status": shown["status"]}
    assert client.get(f"/factors/{other}/promotion").json() is None
    [ledger] = client.get("/ledger").json()
    assert (ledger["openings_spent"], ledger["openings_left"]) == (1, 9)


def test_nothing_is_promoted_beyond_the_budget_of_the_quarter(home, monkeypatch):
    first, second, *_ = ids(home)
    monkeypatch.setenv("ALPHAAGENT_OPENINGS", "1")
    with local_client(create_service(Settings())) as client:
        assert client.post(f"/factors/{first}/promote").status_code == 200
        assert_problem(client.post(f"/factors/{second}/promote"), 409, "openings of this quarter")
        assert client.get(f"/factors/{second}/promotion").json() is None
        assert client.get("/ledger").json()[0]["openings_left"] == 0


def test_what_cannot_be_promoted_says_why_and_spends_nothing(client, home):
    factor, *_ = ids(home)
    assert_problem(client.post("/factors/nope/promote"), 404, "no factor 'nope'")
    assert_problem(client.get("/factors/nope/promotion"), 404, "no factor 'nope'")
    [sealed] = home.rglob("holdout.duckdb")
    content = sealed.read_bytes()
    sealed.write_bytes(b"")
    assert_problem(client.post(f"/factors/{factor}/promote"), 422, "damaged")
    sealed.unlink()
    assert_problem(client.post(f"/factors/{factor}/promote"), 422, "damaged")
    assert client.get("/ledger").json()[0]["openings_spent"] == 0
    sealed.write_bytes(content)
    assert client.post(f"/factors/{factor}/promote").status_code == 200


def test_a_factor_of_a_market_without_a_hold_out_is_not_promoted(tmp_path, small, cli):
    publish(tmp_path, "open", small.bars, train_end=small.train_end, holdout=False)
    with Records.open(f"sqlite:///{tmp_path}/records.sqlite") as records:
        factor = accepted(records, open_market(tmp_path, "open"))
    answer = cli(tmp_path, "factors", "promote", factor.id)
    assert (answer.status, answer.out) == (2, "")
    assert "market 'open' was imported without a hold-out" in answer.err
    assert cli(tmp_path, "ledger", "--json").json[0]["openings_spent"] == 0


def test_the_exit_status_tells_live_from_rejected_from_sealed(home, cli):
    first, second, *_ = ids(home)
    promoted = cli(home, "factors", "promote", first, "--json")
    assert (promoted.status, promoted.json["status"]) == (0, "live")
    again = cli(home, "factors", "promote", first, "--json")
    assert (again.status, again.out) == (2, "")
    assert "a second look would not be out of sample" in again.err
    strict = cli(home, "factors", "promote", second, "--json", ALPHAAGENT_THRESHOLDS__HOLDOUT_T_STAT="50")
    assert (strict.status, strict.json["status"]) == (1, "rejected")
    assert [check["name"] for check in strict.json["checks"] if not check["passed"]] == ["t_stat"]
    assert cli(home, "factors", "promote", "nope").status == 2


# at once


def attempt(home, factor_id):
    try:
        return asked(home, factor_id)
    except SealedError as error:
        return str(error)


def test_eight_threads_promote_one_factor_and_one_is_shown_anything(home):
    factor, *_ = ids(home)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(partial(attempt, home), [factor] * 8))
    shown = [one for one in found if not isinstance(one, str)]
    with Records.open(f"sqlite:///{home}/records.sqlite") as records:
        assert shown == [records.openings.of_factor(factor)]
        assert records.openings.spent("small") == 1


@pytest.mark.parametrize("different", [False, True], ids=["one factor", "two factors and a budget of one"])
def test_two_processes_promote_at_once_and_one_is_shown_anything(home, start, different):
    first, second, *_ = ids(home)
    budget = {"ALPHAAGENT_OPENINGS": "1"} if different else {}
    wanted = [first, second] if different else [first] * 2
    processes = [start(home, "factors", "promote", factor, "--json", **budget) for factor in wanted]
    answers = [process.communicate(timeout=60) for process in processes]
    assert sorted(process.returncode for process in processes)[1] == 2
    [shown] = [json.loads(out) for out, _ in answers if out]
    with Records.open(f"sqlite:///{home}/records.sqlite") as records:
        assert records.openings.spent("small") == 1
        assert records.openings.of_factor(shown["factor_id"]).model_dump(mode="json") == shown


def test_factors_are_promoted_while_a_run_goes_on_in_the_same_process(client, home, caplog):
    caplog.set_level(logging.WARNING)
    body = {"direction": "volume", "market": "small", "seed": 3, "budget": {"rounds": 4, "candidates": 6}}
    run = client.post("/runs", json=body).json()["id"]
    answers = [client.post(f"/factors/{factor}/promote") for factor in ids(home)]
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    events = client.get(f"/runs/{run}/events").text
    assert "run.succeeded" in events
    assert caplog.records == []
    again = client.post("/runs", json=body).json()["id"]
    client.get(f"/runs/{again}/events")
    one, other = (client.get(f"/runs/{number}").json() for number in (run, again))
    assert (one["accepted"], one["evaluations"]) == (other["accepted"], other["evaluations"])


def test_a_retired_factor_is_not_promoted(home, cli):
    factor_id = ids(home)[0]
    told = cli(home, "factors", "retire", factor_id)
    assert (told.status, told.err) == (0, "")
    assert told.out.startswith(f"{factor_id} was retired by ")
    again = cli(home, "factors", "retire", factor_id, "--json").json
    assert (again["factor_id"], told.out.strip().endswith(again["retired_at"][:10])) == (factor_id, True)
    refused = cli(home, "factors", "promote", factor_id)
    assert (refused.status, "retired" in refused.err) == (2, True)
    unknown = cli(home, "factors", "retire", "nope")
    assert (unknown.status, unknown.out) == (2, "")
