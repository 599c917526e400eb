"""Imports in the records: one of a market at a time, once for a key, and none that runs for ever."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest
from pydantic import ValidationError

from factors.errors import NotFoundError
from storage import imports
from storage.idempotency import IdempotencyError, Once
from storage.imports import INTERRUPTED, ImportRequest
from storage.principal import Principal
from storage.quality import Quality
from storage.reports import ImportReport, summary
from storage.runs import RunStateError

ADA, BOB = Principal("ada", "admin", "token", "203.0.113.9", "request"), Principal("bob", "admin")
REQUEST = ImportRequest(dataset="daily", train_end=date(2020, 1, 1), accept=("range",))
REPORT = ImportReport(
    market="us",
    snapshot="0123456789abcdef",
    rows=3,
    instruments=1,
    first_date=date(2020, 1, 1),
    last_date=date(2020, 1, 3),
    train_end=date(2020, 1, 1),
    valid_end=date(2020, 1, 3),
    has_holdout=False,
    fields=("close",),
    universes=("all",),
    trading_rules="none",
    accepted=("range",),
    rules=summary(Quality((), {}, {"shifted": "too few days or symbols"})),
)


def begin(records, name, market="us", by=ADA, executor="here", once=None, request=REQUEST):
    return records.imports.begin(name, market, request, by=by, executor=executor, once=once)


def test_an_import_is_told_as_it_goes_on(records):
    begun = begin(records, "one")
    assert (begun.status, begun.user, begun.request, begun.told) == ("running", "ada", REQUEST, ())
    records.imports.tell("one", "first")
    records.imports.tell("one", "second")
    records.imports.count("one", 5_000_000_000, None)
    found = records.imports.get("us", "one")
    assert (found.told, found.rows_done, found.rows_total) == (("first", "second"), 5_000_000_000, None)
    records.imports.finish("one", REPORT, ADA)
    found = records.imports.get("us", "one")
    assert (found.status, found.snapshot, found.report, found.error) == ("done", REPORT.snapshot, REPORT, None)
    [entry] = records.audit.page()[0]
    assert (entry.act, entry.subject) == ("market.imported", REPORT.snapshot)
    assert (entry.user, entry.token, entry.client, entry.request_id) == ("ada", "token", "203.0.113.9", "request")
    assert records.audit.last("market.imported") == {REPORT.snapshot: entry.at}
    for market, name in (("us", "two"), ("cn", "one")):
        with pytest.raises(NotFoundError):
            records.imports.get(market, name)


def test_of_very_many_lines_the_first_are_kept(records, monkeypatch):
    monkeypatch.setattr(imports, "MOST_TOLD", 2)
    begin(records, "one")
    for line in "abcd":
        records.imports.tell("one", line)
    assert records.imports.get("us", "one").told == ("a", "b")


def test_one_import_of_a_market_runs_at_a_time(records):
    def attempt(k):
        try:
            return begin(records, f"import-{k}").id
        except RunStateError:
            return None

    with ThreadPoolExecutor(8) as pool:
        [first] = [one for one in pool.map(attempt, range(8)) if one]
    assert begin(records, "other", "cn").status == "running"
    with pytest.raises(RunStateError, match=first):
        begin(records, "late")
    records.imports.fail(first, "no")
    assert begin(records, "late").status == "running"


def test_a_request_with_a_key_is_carried_out_once(records):
    once = Once.of("key", "import of us", REQUEST)
    assert begin(records, "one", once=once).id == "one"
    assert begin(records, "two", once=once).id == "one"  # also while it runs
    with pytest.raises(IdempotencyError):
        begin(records, "two", once=Once.of("key", "import of cn", REQUEST))
    records.imports.finish("one", REPORT, ADA)
    assert begin(records, "two", once=once).status == "done"
    assert begin(records, "three", by=BOB, once=once).id == "three"  # a key is a name among those of its user


def test_what_dead_executors_were_importing_has_failed(records):
    begin(records, "one", "us", executor="dead")
    begin(records, "two", "cn", executor="alive")
    begin(records, "three", "jp", executor="dead")
    records.imports.finish("three", REPORT, ADA)
    assert records.imports.owners() == {"dead", "alive"}
    records.imports.interrupt({"dead", "unknown"})
    told = {name: records.imports.get(market, name) for name, market in (("one", "us"), ("two", "cn"), ("three", "jp"))}
    assert {name: one.status for name, one in told.items()} == {"one": "failed", "two": "running", "three": "done"}
    assert told["one"].error == INTERRUPTED
    assert told["one"].finished_at is not None
    assert records.imports.owners() == {"alive"}
    # One that was taken for dead and was not tells what came of it all the same.
    records.imports.finish("one", REPORT, ADA)
    assert records.imports.get("us", "one").error is None


@pytest.mark.parametrize("name", ["", "..", "a/b", "a.b", "a\n", "a\0", "_a", "a" * 65, "é"])
def test_an_id_is_never_a_path(name):
    for field in ("dataset", "membership", "sectors"):
        with pytest.raises(ValidationError):
            ImportRequest.model_validate({"dataset": "a", field: name})
