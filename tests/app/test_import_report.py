"""What the command line tells of an import."""

import io
from datetime import date

import polars as pl
import pytest
from rich.console import Console

from app.progress import ImportProgress
from storage.quality import RULES


def bars():
    """Bars of five instruments; one has a factor that jumps alone, and ranges that are upside down."""
    days = pl.date_range(date(2020, 1, 1), date(2020, 2, 29), eager=True).alias("date")
    frame = days.to_frame().join(pl.DataFrame({"symbol": [*"ABCDE"]}), how="cross")
    price, moved = 10 + (pl.int_range(pl.len()) % 7) / 10, (pl.col("symbol") == "A") & (pl.col("date").dt.month() == 2)
    prices = frame.with_columns(open=price, high=price + 1, low=price - 1, close=price + 0.5, volume=price * 1000)
    return prices.with_columns(
        adj_factor=pl.when(moved).then(2.0).otherwise(1.0),
        high=pl.when(moved & (pl.col("date").dt.day() < 5)).then(1.0).otherwise(pl.col("high")),
    )


ACCEPT = ("--accept", "range", "--accept", "adjustment")


def test_an_import_tells_what_it_has_come_to(tmp_path, cli):
    home, source = tmp_path / "home", tmp_path / "bars.csv"
    frame = bars()
    pl.concat([frame, frame.head(3)]).write_csv(source)
    answer = cli(home, "data", "import", source, "--market", "mine", "--no-holdout", *ACCEPT)
    assert (answer.status, answer.err) == (0, "3 rows are there more than once, and count once\n")
    lines = [" ".join(line.split()) for line in answer.out.splitlines()]
    assert lines[1] == "5 instruments, 300 bars, universes all"
    says = {rule.name: rule.says for rule in RULES}
    assert lines[3] == f"error, accepted range 4 of 1 symbol, 2020-02-01 to 2020-02-04: {says['range']}"
    assert lines[4] == f"error, accepted adjustment 1 of 1 symbol, 2020-02-01: {says['adjustment']}"
    first, *unsaid = lines[-1].split("; ")
    assert first == "one by one: alphaagent data check mine"
    assert unsaid == [
        "no telling of shifted: too few days or symbols",
        "no telling of session, closed, calendar, hours: no exchange is named",
    ]
    [document] = cli(home, "data", "import", source, "--market", "mine", "--no-holdout", *ACCEPT, "--json").json
    assert (document["rows"], document["accepted"]) == (300, ["adjustment", "range"])
    assert document["told"] == ["3 rows are there more than once, and count once"]
    counts = {rule["rule"]: rule["findings"] for rule in document["rules"]}
    assert (counts["range"], counts["adjustment"], counts["shifted"]) == (4, 1, None)


def test_a_rule_that_is_none_is_not_accepted(tmp_path, cli):
    source = tmp_path / "bars.csv"
    bars().write_csv(source)
    answer = cli(tmp_path / "home", "data", "import", source, "--market", "mine", "--no-holdout", "--accept", "odd")
    assert (answer.status, answer.out) == (2, "")
    assert "no rule 'odd'; expected one of price, range" in answer.err


def test_nothing_wrong_is_told_as_well(tmp_path, cli):
    source = tmp_path / "bars.csv"
    bars().filter(pl.col("symbol") != "A").write_csv(source)
    answer = cli(tmp_path / "home", "data", "import", source, "--market", "mine", "--no-holdout")
    assert "nothing looks wrong in the bars" in answer.out


def test_what_vendors_write_is_no_command_to_the_terminal(tmp_path, cli):
    home, folder, hostile = tmp_path / "home", tmp_path / "bars", "\x1b]0;ours\x07\x1b[2J[red]"
    folder.mkdir()
    for (symbol,), rows in bars().group_by("symbol"):
        rows.drop("symbol").write_csv(folder / f"{hostile}{symbol}.csv")
    (folder / f"{hostile}.csv").write_text("")
    (tmp_path / "index.csv").write_text(f"symbol,start,end,index\n{hostile}A,,,{hostile}\n")
    command = ("data", "import", folder, "--market", "mine", "--membership", tmp_path / "index.csv", "--no-holdout")
    imported, checked = cli(home, *command, *ACCEPT), cli(home, "data", "check", "mine")
    assert "]0;ours" in imported.out
    assert "]0;ours" in imported.err
    assert "]0;ours [2J[red]A" in checked.out
    assert "\x1b" not in imported.out + imported.err + checked.out


COUNTED = {"37 % read": ("read", 37, 100), "1,234 of 5,000 rows hashed": ("hash", 1234, 5000)}


@pytest.mark.parametrize("words", COUNTED)
def test_a_terminal_shows_how_much_of_a_stage_is_done_and_a_file_does_not(words):
    shown = {}
    for is_terminal in (True, False):
        out = io.StringIO()
        with ImportProgress(Console(file=out, force_terminal=is_terminal, width=100), "us[1]") as progress:
            progress.count(*COUNTED[words])
            progress.tell("layout [yahoo] " + "x" * 200)
        shown[is_terminal] = out.getvalue()
    assert shown[False] == "layout [yahoo] " + "x" * 200 + "\n"
    assert words in shown[True]
    assert "us[1]" in shown[True]
    assert "layout [yahoo] " + "x" * 200 in shown[True]
