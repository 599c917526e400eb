"""What looks wrong in a market, as the service, its page and an import's report tell it."""

import html
import re
from collections import Counter
from datetime import date, timedelta
from itertools import pairwise

import polars as pl
import pytest

from app import pages
from app.pages.timeline import HEIGHT, LEFT, RIGHT, ROW, TALLEST, TOP, WIDTH, timeline
from app.service import create_service
from app.settings import Settings
from storage.coverage import Month, coverage
from storage.markets import open_market, publish
from storage.quality import RULES, Finding, Quality, examine
from storage.reports import summary
from tests.local import local_client
from tests.problems import assert_problem

JUMPS = {"S0007": date(2013, 5, 6), "S0011": date(2014, 2, 3)}  # the adjustment factor's, which no price follows
CROSSED = "S0003"  # whose highest price is below its lowest on the days of a month
MONTH = (date(2012, 8, 1), date(2012, 8, 31))
SCRIPT = "<script>alert(1)</script>"


def spoilt(bars):
    """The small market's bars with faults that are known."""
    symbol, day = pl.col("symbol"), pl.col("date")
    factor = pl.col("adj_factor")
    for name, since in JUMPS.items():
        factor = pl.when((symbol == name) & (day >= since)).then(factor * 2).otherwise(factor)
    crossed = (symbol == CROSSED) & day.is_between(*MONTH)
    high = pl.when(crossed).then(pl.col("low") * 0.9).otherwise(pl.col("high"))
    return bars.with_columns(adj_factor=factor, high=high)


@pytest.fixture(scope="module")
def spoilt_home(new_home, small):
    home = new_home()
    names = sorted(small.bars["symbol"].unique())
    renamed = {name: f"S{k:04}" for k, name in enumerate(names)}
    bars = small.bars.with_columns(pl.col("symbol").replace(renamed))
    if "adj_factor" not in bars.columns:
        bars = bars.with_columns(adj_factor=pl.lit(1.0))
    publish(
        home,
        "spoilt",
        spoilt(bars),
        accept=["range", "adjustment"],
        train_end=small.train_end,
        valid_end=small.valid_end,
    )
    return home


@pytest.fixture(scope="module")
def client(spoilt_home):
    with local_client(create_service(Settings(home=spoilt_home))) as opened:
        yield opened


def pages_of(client, address):
    """All items of a list, a page after the other."""
    items, cursor = [], ""
    while cursor is not None:
        document = client.get(f"{address}{cursor}").json()
        items += document["items"]
        cursor = document["next_cursor"] and f"&cursor={document['next_cursor']}"
    return items


# over HTTP


def test_the_summary_counts_what_was_planted(client, spoilt_home):
    found = client.get("/markets/spoilt/quality").json()
    days = examine(open_market(spoilt_home, "spoilt")).findings
    assert (found["market"], found["version"]) == ("spoilt", open_market(spoilt_home, "spoilt").id)
    assert [rule["rule"] for rule in found["rules"]] == [rule.name for rule in RULES]
    rules = {rule["rule"]: rule for rule in found["rules"]}
    jumps = rules["adjustment"]
    assert (jumps["severity"], jumps["findings"], jumps["symbols"]) == ("error", 2, 2)
    assert (jumps["first_date"], jumps["last_date"]) == ("2013-05-06", "2014-02-03")
    assert jumps["says"] == next(rule.says for rule in RULES if rule.name == "adjustment")
    crossed = rules["range"]
    assert 15 < crossed["findings"] == sum(one.rule == "range" for one in days) < 25
    assert crossed["symbols"] == 1
    assert found["symbols"][0] == {
        "symbol": CROSSED,
        "errors": crossed["findings"],
        "warnings": found["symbols"][0]["warnings"],
    }
    counts = Counter(one.symbol for one in days)
    assert {one["symbol"]: one["errors"] + one["warnings"] for one in found["symbols"]} == counts


def test_findings_come_page_by_page_errors_first(client, spoilt_home):
    items = pages_of(client, "/markets/spoilt/quality?limit=7")
    expected = examine(open_market(spoilt_home, "spoilt")).findings
    assert [(one["rule"], one["symbol"], one["date"]) for one in items] == [
        (one.rule, one.symbol, str(one.date)) for one in expected
    ]
    severities = [one["severity"] for one in items]
    assert severities == sorted(severities)


def test_findings_are_asked_for_by_rule_and_symbol(client):
    jumps = pages_of(client, "/markets/spoilt/quality?rule=adjustment&limit=1")
    assert {one["symbol"]: one["date"] for one in jumps} == {name: str(day) for name, day in JUMPS.items()}
    [one] = [one for one in pages_of(client, "/markets/spoilt/quality?symbol=S0007") if one["rule"] == "adjustment"]
    assert one["date"] == "2013-05-06"
    assert pages_of(client, "/markets/spoilt/quality?symbol=nobody") == []
    both = client.get("/markets/spoilt/quality?symbol=S0011&rule=range").json()
    assert (both["items"], both["next_cursor"]) == ([], None)
    assert both["rules"] == client.get("/markets/spoilt/quality").json()["rules"]


def test_what_is_not_there_is_told(client):
    for query, status, words in (
        ("version=0123456789abcdef", 404, "no version"),
        ("version=..", 404, "no version"),
        ("version=%00", 404, "no version"),
        ("rule=odd", 422, "no rule 'odd'; expected one of price, range"),
        ("cursor=99999", 404, "no cursor"),
        ("cursor=-1", 404, "no cursor"),
        ("cursor=%D9%A1", 404, "no cursor"),
        (f"cursor={'9' * 5000}", 404, "no cursor"),
        ("limit=0", 422, "limit"),
    ):
        assert_problem(client.get(f"/markets/spoilt/quality?{query}"), status, words)
    assert_problem(client.get("/markets/none/quality"), 404, "no market 'none'")
    assert_problem(client.get("/markets/No/quality"), 422, "market name")


def test_an_older_version_has_its_own_quality(client, spoilt_home, small):
    clean = open_market(spoilt_home, "small")
    publish(spoilt_home, "small", small.bars.head(20_000), holdout=False)
    found = client.get(f"/markets/small/quality?version={clean.id}").json()
    assert found["version"] == clean.id
    assert client.get("/markets/small/quality").json()["version"] != clean.id
    assert f"{clean.instruments:,}" in client.get(f"/markets/small?version={clean.id}").text
    assert "This is not the current version" in client.get(f"/markets/small?version={clean.id}").text


# on the page


def rows_of(page, table):
    body = re.search(rf'<table class="listing {table}">.*?<tbody>(.*?)</tbody>', page, re.DOTALL)[1]
    cell = r"<t[hd][^>]*>(.*?)</t[hd]>"
    return [
        [re.sub(r"<[^>]*>", "", one).strip() for one in re.findall(cell, row, re.DOTALL)]
        for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    ]


def test_the_page_shows_what_the_service_tells(client):
    page = client.get("/markets/spoilt").text
    found = client.get("/markets/spoilt/quality").json()
    for row, rule in zip(rows_of(page, "rules"), found["rules"], strict=True):
        assert row[:4] == [
            rule["rule"],
            rule["severity"],
            "not told" if rule["unsaid"] else f"{rule['findings']:,}",
            str(rule["symbols"]),
        ]
        assert html.unescape(row[6]) == rule["says"] + (f" ({rule['unsaid']})" if rule["unsaid"] else "")
    shown = [(one["symbol"], one["date"], one["rule"], one["detail"]) for one in found["items"]]
    assert [tuple(row) for row in rows_of(page, "findings")] == shown
    errors = sum(rule["findings"] for rule in found["rules"] if rule["severity"] == "error" and not rule["unsaid"])
    assert f'<span class="bad">{errors} errors</span>: factors that read these bars would be wrong' in page
    assert 'href="/markets/spoilt"' in client.get("/").text


def test_the_page_shows_further_findings_and_those_that_were_asked_for(client, monkeypatch):
    monkeypatch.setattr(pages, "SHOWN", 5)
    address, seen = "/markets/spoilt?rule=range", []
    while address:
        page = client.get(address).text
        seen += rows_of(page, "findings")
        more = re.search(r'href="([^"]*)">more', page)
        address = more and more[1].replace("&amp;", "&")
    assert len(seen) == len({tuple(row) for row in seen}) > 15
    assert {(row[0], row[2]) for row in seen} == {(CROSSED, "range")}
    assert "There is none of these." in client.get("/markets/spoilt?symbol=nobody&rule=&version=").text


def test_what_people_and_vendors_write_is_text_on_the_page(client, spoilt_home, small):
    bars = small.bars.with_columns(symbol=pl.concat_str(pl.lit(SCRIPT), "symbol"), high=pl.col("low") * 0.9)
    publish(spoilt_home, "written", bars, holdout=False, accept=["range"])
    page = client.get("/markets/written", params={"symbol": SCRIPT}).text
    assert SCRIPT not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 5
    refused = client.get("/markets/written", params={"rule": SCRIPT})
    assert refused.status_code == 422
    assert SCRIPT not in refused.text


def test_what_is_not_there_is_a_page_too(client):
    for address, status in (("none", 404), ("spoilt?version=0123456789abcdef", 404), ("spoilt?rule=odd", 422)):
        answer = client.get(f"/markets/{address}")
        assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")


# the drawing


def drawn(first, months, found=(), unsaid=(), instruments=lambda k: 10.0 + k):
    """A drawing of so many months on from a first one."""
    ordinals = [first.year * 12 + first.month - 1 + k for k in range(months)]
    there = [Month(date(n // 12, n % 12 + 1, 1), instruments(k), 1.0) for k, n in enumerate(ordinals)]
    rules = summary(Quality(tuple(found), {}, dict.fromkeys(unsaid, "too few")))
    return timeline(there, there[len(there) // 2].first, rules, found)


@pytest.mark.parametrize("months", [1, 2, 13, 120, 121, 500, 1500, 4000])
def test_findings_stand_in_their_rows_within_the_plot(months):
    first = date(1700, 3, 1)
    days = [first + timedelta(days=30 * k) for k in range(months)]
    found = [Finding("gap", "warning", "A", day, "") for day in days] + [Finding("range", "error", "A", days[-1], "")]
    one = drawn(first, months, found)
    rows = {row.rule: row for row in one.rows}
    assert sum(int(spike.words.split()[-1]) for spike in rows["gap"].spikes) == months
    assert (rows["gap"].count, rows["range"].count, rows["stale"].count) == (f"{months:,}", "1", "none")
    assert max(spike.height for spike in rows["gap"].spikes) == TALLEST
    for row in one.rows:
        for spike in row.spikes:
            assert spike.y + spike.height == pytest.approx(row.y)
            assert row.y - ROW <= spike.y < row.y
            assert LEFT <= spike.x < WIDTH - RIGHT
    assert len(rows["gap"].spikes) <= 120 or one.span == "decade"
    marks = [mark.at for mark in one.years]
    assert all(b - a > 20 for a, b in pairwise(marks))


def test_the_outline_holds_each_month_s_count_and_falls_where_there_is_none():
    one = drawn(date(2020, 1, 1), 4)
    points = [tuple(map(float, point.split(","))) for point in one.there.split()]
    assert points[0][1] == points[-1][1] == TOP + HEIGHT
    top = {mark.at: mark.text for mark in one.scale}
    assert min(top) == TOP
    heights = [TOP + HEIGHT - y for _, y in points[1:-1:2]]
    assert heights == pytest.approx([(10 + k) / float(top[TOP]) * HEIGHT for k in range(4)], abs=0.1)
    there = [Month(date(2020, month, 1), 10.0, 0.0) for month in (1, 2, 6)]
    gap = timeline(there, date(2020, 2, 1), summary(Quality((), {}, {})), ())
    assert gap.there.count(f",{TOP + HEIGHT:.1f}") == 4
    assert not gap.halts


def test_a_rule_that_says_nothing_is_told_so():
    rows = {row.rule: row.count for row in drawn(date(2020, 1, 1), 3, unsaid=["shifted"]).rows}
    assert (rows["shifted"], rows["gap"]) == ("not told", "none")


def test_coverage_is_the_mean_of_a_month_s_days(spoilt_home):
    snapshot = open_market(spoilt_home, "spoilt")
    bars = snapshot.bars("all").group_by("date").agg(pl.len(), pl.col("suspended").sum())
    expected = bars.group_by(pl.col("date").dt.truncate("1mo")).agg(pl.col("len", "suspended").mean()).sort("date")
    found = coverage(snapshot)
    assert [month.first for month in found] == expected["date"].to_list()
    assert [month.instruments for month in found] == pytest.approx(expected["len"].to_list())
    assert [month.suspended for month in found] == pytest.approx(expected["suspended"].to_list())
