import re
import shutil
import sqlite3
import subprocess
from collections import Counter
from contextlib import closing
from typing import get_args
from xml.etree import ElementTree as ET

import pytest

from app import pages
from app.pages.charts import bar_chart
from app.runner import Runner, mine_here
from app.service import create_service
from app.settings import Settings
from storage.records import Records
from storage.retention import Retention
from storage.runs import Budget, EventType, RunRequest
from tests.local import local_client

DASH = "\N{EN DASH}"
SCRIPT = "<script>alert('1')</script>"
ESCAPED = "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;"


@pytest.fixture(scope="module")
def mined(new_home):
    """A home whose library a short run has filled; not to be changed."""
    settings = Settings(home=new_home())
    with Records.open(settings.records_url) as records:
        runner = Runner(settings, records)
        request = RunRequest(direction="volume shocks that overshoot", market="small", seed=2, budget=Budget(rounds=3))
        assert len(mine_here(runner, request).accepted) > 1
    return settings.home


@pytest.fixture
def own(mined, tmp_path):
    """The same home for this test alone."""
    return shutil.copytree(mined, tmp_path / "home")


@pytest.fixture
def client(mined):
    with local_client(create_service(Settings(home=mined))) as opened:
        yield opened


def rewrite(home, **columns):
    """Set columns of every factor of a home."""
    assignments = ", ".join(f"{name} = ?" for name in columns)
    with closing(sqlite3.connect(home / "records.sqlite")) as connection, connection:
        connection.execute(f"UPDATE factors SET {assignments}", tuple(columns.values()))


def cells(page, head):
    """What the cells of the first row with this head say; a factor's row is known by its id."""
    for row in re.findall(r"<tr>.*?</tr>", page, re.DOTALL):
        found = re.search(r'<th scope="row"[^>]*>(.*?)</th>', row, re.DOTALL)
        if found and (found[1] == head or f'"/library/{head}"' in found[1]):
            return [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)]
    raise AssertionError(f"no row {head}")


def fact(page, label, nth=0):
    """What a page says under a label, the nth time."""
    return re.findall(rf"<dt>{re.escape(label)}</dt><dd>(.*?)</dd>", page)[nth]


def first_factor(client):
    return client.get("/factors").json()["items"][0]


# the library


def test_the_library_shows_each_factor_with_its_figures_and_its_page(client):
    page = client.get("/").text
    factors = client.get("/factors").json()["items"]
    assert re.findall(r'href="/library/(\w+)"', page) == [factor["id"] for factor in factors]
    for factor in factors:
        valid = factor["splits"]["valid"]
        assert factor["hypothesis"] in page
        assert cells(page, factor["id"]) == [
            f"{valid['rank_ic']:.4f}",
            f"{valid['rank_icir']:.3f}",
            f"{factor['evidence']['t_stat']:.1f}",
            f"{valid['turnover']:.1%}",
            "lead",
        ]


def test_the_library_shows_the_ledger_of_its_market(client):
    page = client.get("/").text
    ledger = client.get("/ledger").json()[0]
    assert fact(page, "trials N") == f"{ledger['trials']:,}"
    assert fact(page, "effective N") == f"{ledger['effective_trials']:,.0f}"
    assert fact(page, "variance of scores") == f"{ledger['score_variance']:.2e}"
    assert fact(page, "the same without skill") == f"{ledger['null_variance']:.2e}"
    assert fact(page, "expected maximum without skill") == f"{ledger['expected_maximum']:.3f}"
    assert fact(page, "discoveries") == f"{ledger['discoveries']:,}"
    assert fact(page, "next level of p") == f"{ledger['next_level']:.1e}"
    assert fact(page, "openings spent this quarter") == str(ledger["openings_spent"])
    assert fact(page, "openings left") == str(ledger["openings_left"])


def test_older_factors_are_a_page_further(client, monkeypatch):
    monkeypatch.setattr(pages, "SHOWN", 1)
    ids = [factor["id"] for factor in client.get("/factors").json()["items"]]
    address, seen = "/", []
    while address:
        page = client.get(address).text
        seen += re.findall(r'href="/library/(\w+)"', page)
        older = re.search(r'href="([^"]*)">older', page)
        address = older and older[1].replace("&amp;", "&")
    assert seen == ids
    assert 'href="/?market=small">newest' in page


def test_a_library_without_factors_or_markets_says_so(new_home, tmp_path):
    with local_client(create_service(Settings(home=new_home()))) as client:
        assert "No factor of this market is in the library yet." in client.get("/").text
    with local_client(create_service(Settings(home=tmp_path))) as client:
        assert "alphaagent data import" in client.get("/").text


# one factor


def test_a_factor_s_page_shows_what_the_api_says_of_it(client):
    factor = first_factor(client)
    page = client.get(f"/library/{factor['id']}").text
    appraisal = client.get(f"/factors/{factor['id']}/appraisal").json()
    evaluation, robustness = appraisal["evaluation"], appraisal["robustness"]
    splits, evidence, standing = (evaluation[name] for name in ("splits", "evidence", "standing"))
    for name in ("name", "description", "hypothesis", "run_id", "snapshot", "universe"):
        assert factor[name] in page
    assert factor["formula"].replace(">", "&gt;").replace("<", "&lt;") in page
    assert fact(page, "move") == factor["lineage"]["move"]
    assert fact(page, "candidate") == factor["lineage"]["candidate"]
    for label, field, spec in [
        ("days with a rank IC", "days", ",d"),
        ("rank IC", "rank_ic", ".4f"),
        ("rank ICIR, per day", "rank_icir", ".3f"),
        ("t of the rank IC, Newey-West", "rank_t_stat", ".1f"),
        ("long-short return", "long_short", ".3%"),
    ]:
        assert cells(page, label) == [format(splits[split][field], spec) for split in ("train", "valid")]
    assert fact(page, "t, Newey-West") == f"{evidence['t_stat']:.1f}"
    assert fact(page, "p, one-sided") == f"{evidence['p_value']:.2g}"
    assert fact(page, "trial") == str(standing["trial"])
    assert fact(page, "deflated Sharpe ratio") == f"{standing['deflated_sharpe']:.3f}"
    for check in appraisal["checks"]:
        outcome = "passed" if check["passed"] else "failed"
        figures = [f"{check['value']:.3g}", f"{check['limit']:.3g}", outcome]
        assert cells(page, check["name"].replace("_", " "))[:3] == figures
    assert fact(page, "95 % interval of the rank IC") == "{:.4f} to {:.4f}".format(*robustness["interval"])
    half_life, slope, change = (robustness[name] for name in ("half_life", "slope", "change"))
    assert fact(page, "half-life, days held") == (f"{half_life['days']:.1f}" if half_life else "unknown")
    assert fact(page, "slope a year") == (f"{slope['slope']:+.4f}" if slope else "unknown")
    assert change["day"] in fact(page, "most likely change point")
    for part in robustness["regimes"]:
        assert part["name"] in page
        assert f"{part['rank_ic']:.4f}" in page


def test_a_factor_s_page_draws_its_curves_and_tells_their_values(client):
    factor = first_factor(client)
    page = client.get(f"/library/{factor['id']}").text
    splits = client.get(f"/factors/{factor['id']}/appraisal").json()["evaluation"]["splits"]
    drawings = [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
    words = {svg.find("title").text: svg.find("desc").text for svg in drawings}
    assert list(words) == [
        "Rank IC by days held",
        "Rank IC by calendar year",
        "Mean return by decile of the factor, basis points over 1 day",
        "Rank IC by the market's state, train and valid",
    ]
    for split in splits.values():
        for at in split["horizons"]:
            assert f"{at['horizon']} {at['rank_ic']:.4f}" in words["Rank IC by days held"]
        for at in split["years"]:
            assert f"{at['year']} {at['rank_ic']:.4f}" in words["Rank IC by calendar year"]
        for k, mean in enumerate(split["deciles"], 1):
            assert f"{k} {mean * 1e4:.1f}" in words["Mean return by decile of the factor, basis points over 1 day"]
    for svg in drawings:
        assert svg.get("role") == "img"
        assert svg.get("aria-labelledby") == f"{svg.find('title').get('id')} {svg.find('desc').get('id')}"


def test_a_factor_s_page_shows_its_certificate(client):
    factor = first_factor(client)
    page = client.get(f"/library/{factor['id']}").text
    certificate = factor["certificate"]
    assert "Every claim holds." in page
    assert "does not match" not in page
    assert fact(page, "seed") == str(certificate["seed"])
    assert fact(page, "hash") == certificate["hash"]
    for day in certificate["dates"]:
        assert f"<time>{day}</time>" in page
    for claim in certificate["checks"]:
        outcome, count, *_ = cells(page, claim["name"].replace("_", " "))
        assert (outcome, count) == ("passed", f"{claim['cells']:,}")


def test_a_certificate_that_was_changed_is_told_of(own):
    with closing(sqlite3.connect(own / "records.sqlite")) as connection, connection:
        connection.execute("UPDATE factors SET certificate = json_set(certificate, '$.seed', 12345)")
    with local_client(create_service(Settings(home=own))) as client:
        assert "Its hash does not match" in client.get(f"/library/{first_factor(client)['id']}").text


def test_factors_older_than_evidence_lineage_and_certificates_have_pages(own):
    rewrite(own, evidence="null", standing="null", lineage="null", certificate="null")
    with local_client(create_service(Settings(home=own))) as client:
        factor = first_factor(client)
        assert cells(client.get("/").text, factor["id"])[2] == DASH
        answer = client.get(f"/library/{factor['id']}")
    assert answer.status_code == 200
    assert "It has none: it was accepted before certificates were made." in answer.text
    assert "Its place in the run was not recorded." in answer.text


def test_without_a_cut_off_the_page_says_that_none_is_set(client):
    page = client.get(f"/library/{first_factor(client)['id']}").text
    assert "No training cut-off is set for the model <code>offline</code>" in page


def test_with_a_cut_off_both_sides_of_it_stand_beside_each_other(mined, monkeypatch):
    monkeypatch.setenv("ALPHAAGENT_MODELS", '{"offline": {"training_cutoff": "2013-12-31"}}')
    with local_client(create_service(Settings(home=mined))) as client:
        factor = first_factor(client)
        page = client.get(f"/library/{factor['id']}").text
        memory = client.get(f"/factors/{factor['id']}/appraisal").json()["evaluation"]["memory"]
    section = page.split("<h2>Before and after the training cut-off</h2>")[1]
    assert "<time>2013-12-31</time>" in section
    assert [part["name"] for part in memory] == re.findall(r'<th scope="col">(.*?)</th>', section)[:2]
    assert all(part["days"] for part in memory)
    assert cells(section, "days") == [f"{part['days']:,}" for part in memory]
    assert cells(section, "rank IC") == [f"{part['rank_ic']:.4f}" for part in memory]
    assert f"{memory[0]['name']} {memory[0]['rank_ic']:.4f}, {memory[1]['name']}" in section


def test_the_hold_out_is_sealed_until_it_is_asked(own):
    with local_client(create_service(Settings(home=own))) as client:
        factor = first_factor(client)
        address = f"/library/{factor['id']}"
        sealed = client.get(address).text
        assert f"alphaagent factors promote {factor['id']}" in sealed
        assert f"POST /factors/{factor['id']}/promote" in sealed
        opening = client.post(f"/factors/{factor['id']}/promote").json()
        page = client.get(address).text
        library = client.get("/").text
    assert cells(library, factor["id"])[-1] == opening["status"]
    assert f'<span class="{opening["status"]}">{opening["status"]}</span></h1>' in page
    held_out = page.split("<h2>Hold-out</h2>")[1]
    assert f"Opened by {opening['user']}" in held_out
    assert "promote" not in held_out
    assert cells(held_out, "days with a rank IC") == [f"{opening['evaluation']['splits']['holdout']['days']:,}"]
    for check in opening["checks"]:
        assert cells(held_out, check["name"].replace("_", " "))[0] == f"{check['value']:.3g}"


# what is not there, and what may not be


def test_what_people_and_models_wrote_is_text(own):
    rewrite(own, name=SCRIPT, description=SCRIPT, hypothesis=SCRIPT)
    with local_client(create_service(Settings(home=own))) as client:
        library, page = (client.get(path).text for path in ("/", f"/library/{first_factor(client)['id']}"))
    assert "<script" not in library + page
    assert ESCAPED in library
    assert page.count(ESCAPED) == 4  # the title, the heading, the description and the hypothesis
    assert f"<title>{ESCAPED} - AlphaAgent</title>" in page


@pytest.mark.parametrize("path", ["/library/nope", f"/library/{SCRIPT[:8]}", "/?market=nope", "/?cursor=nope"])
def test_what_is_not_there_is_a_page_that_says_so(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "<h1>Not Found</h1>" in answer.text
    assert "<script" not in answer.text


def test_the_api_goes_on_answering_with_problems(client):
    assert client.get("/factors/nope").headers["content-type"] == "application/problem+json"
    assert not {"/", "/library/{factor_id}"} & set(client.get("/openapi.json").json()["paths"])


@pytest.mark.parametrize("path", ["/", "/library/{id}", "/library/nope"])
def test_a_page_loads_nothing_and_leaves_nothing(client, path):
    address = path.format(id=first_factor(client)["id"])
    first, second = client.get(address), client.get(address)
    policy = first.headers["content-security-policy"]
    nonce = re.search(r"style-src 'nonce-([\w-]{20,})'", policy)[1]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert first.headers["x-content-type-options"] == "nosniff"
    assert first.headers["referrer-policy"] == "same-origin"
    assert "set-cookie" not in first.headers
    assert re.findall(r"<style[^>]*>", first.text) == [f'<style nonce="{nonce}">']
    assert nonce not in second.text
    assert not re.search(r"://|src=|style=|<script|<link|@import|url\(", first.text)


# runs


def test_runs_are_listed_newest_first_and_each_has_its_page(own, monkeypatch):
    with Records.open(Settings(home=own).records_url) as records:
        runner = Runner(Settings(home=own), records)
        waiting = runner.submit(RunRequest(direction=SCRIPT, market="small"))
        [newest, mined], _ = records.runs()
    assert newest.id == waiting.id
    with local_client(create_service(Settings(home=own))) as client:
        page = client.get("/mining").text
        assert re.findall(r'href="/mining/([\w-]+)"', page) == [newest.id, mined.id]
        assert "3 of 3" in page
        assert ESCAPED in page
        assert "<script" not in page
        assert ESCAPED in client.get(f"/mining/{newest.id}").text
        monkeypatch.setattr(pages, "SHOWN", 1)
        older = re.search(r'href="([^"]*)">older', client.get("/mining").text)[1]
        assert f"/mining/{mined.id}" in client.get(older).text
        assert client.get("/mining/nope").status_code == 404
    with local_client(create_service(Settings(home=own / "none"))) as client:
        assert "No run is there yet" in client.get("/mining").text


def test_a_run_s_page_has_one_script_which_may_ask_nobody_but_us(client):
    run_id = client.get("/runs").json()["items"][0]["id"]
    first = client.get(f"/mining/{run_id}")
    policy = first.headers["content-security-policy"]
    nonce = re.search(r"script-src 'nonce-([\w-]{20,})'; connect-src 'self';", policy)[1]
    assert re.findall(r"<script[^>]*>", first.text) == [f'<script nonce="{nonce}">']
    assert "unsafe" not in policy
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|://|src=|style=| on\w+=", first.text)


def test_the_script_of_a_run_s_page_knows_every_type_of_event(client):
    run_id = client.get("/runs").json()["items"][0]["id"]
    handled = set(re.findall(r'^  "([a-z]+\.[a-z]+)": ', client.get(f"/mining/{run_id}").text, re.MULTILINE))
    assert handled == {*get_args(EventType), "run.progress"} - {"run.queued", "alphas.ranked"}


def test_a_browser_shows_the_run_as_text(own, serve, chromium):
    """The page after its script: what the log says, and what was written to be markup as text."""
    with Records.open(Settings(home=own).records_url) as records:
        [run], _ = records.runs()
        counts = Counter(event.type for event in records.events(run.id))
    with closing(sqlite3.connect(own / "records.sqlite")) as connection, connection:
        named = "UPDATE events SET data = json_set(data, '$.candidate.name', ?) WHERE type = 'candidate.drafted'"
        connection.execute(named, (SCRIPT,))
    expected = {
        "rounds": 3,
        "judged": counts["candidate.judged"],
        "evaluated": counts["candidate.evaluated"],
        "accepted": len(run.accepted),
    }
    page = browsed(own, serve, chromium, run.id)
    assert '<span id="status" class="succeeded">succeeded</span>' in page
    assert shown(page) == expected
    assert page.count("&lt;script&gt;alert('1')&lt;/script&gt;") == counts["candidate.drafted"]
    assert page.count("<script") == 1
    assert all(f'href="/library/{factor_id}"' in page for factor_id in run.accepted)
    with Records.open(Settings(home=own).records_url) as records:
        assert records.pruner.prune(Retention(days=0)) == [run.id]
    page = browsed(own, serve, chromium, run.id)
    assert "its events are not kept any more" in re.search(r'id="stage"[^>]*>([^<]*)<', page)[1]
    assert shown(page) == expected


def browsed(home, serve, chromium, run_id):
    """A run's page after its script."""
    served = serve(home)
    page = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom",
         f"{served.url}/mining/{run_id}"],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    served.process.terminate()
    served.process.communicate()
    return page


def shown(page):
    """The counts of a run's page."""
    names = ("rounds", "judged", "evaluated", "accepted")
    return {name: int(re.search(rf'id="{name}">(\d+)<', page)[1]) for name in names}


# bars


def test_bars_stand_on_the_axis_or_hang_from_it_by_their_value():
    chart = bar_chart("x", {"train": {"1": 0.02, "2": -0.01}, "valid": {"1": None, "2": 0.04}})
    up, down, unknown, double = chart.bars
    assert up.y + up.height == pytest.approx(chart.axis)
    assert down.y == pytest.approx(chart.axis)
    assert [bar.negative for bar in chart.bars] == [False, True, False, False]
    assert double.height == pytest.approx(2 * up.height) == pytest.approx(4 * down.height)
    assert (unknown.text, unknown.height) == ("", 0)
    assert up.middle < down.middle < unknown.middle < double.middle
    assert chart.words == "train: 1 0.0200, 2 -0.0100; valid: 1 unknown, 2 0.0400"
    assert [mark.text for mark in chart.scale] == ["-0.02", "0.00", "0.02", "0.04"]


@pytest.mark.parametrize("values", [{"1": 0.0}, {"1": -3e-5, "2": None}, {"1": 250.0}, {"1": 1e-9, "2": -1.0}])
def test_bars_of_any_size_stay_in_their_plot(values):
    chart = bar_chart("x", {"": values})
    for bar in chart.bars:
        assert 0 <= bar.y <= bar.y + bar.height <= chart.labels_y
    assert len({mark.text for mark in chart.scale}) == len(chart.scale)


def test_a_chart_without_values_has_no_bars():
    for groups in ({}, {"train": {}}, {"train": {"1": None}}):
        assert bar_chart("x", groups).bars == ()


def test_labels_thin_out_where_there_is_no_room():
    chart = bar_chart("x", {"": {str(year): 0.01 for year in range(1900, 2000)}})
    assert 10 < sum(bar.label_shown for bar in chart.bars) < 30
    assert not any(bar.text_shown for bar in chart.bars)
