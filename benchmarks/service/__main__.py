"""What a team relies on when it leaves the service running, in figures.

Processes that work on runs are killed, once at each commit and then at random commits and moments, on SQLite and on
PostgreSQL, with one direction and with two, played by the search and by a model on loopback; a server of two is killed,
then one falls silent; a thousand subscribers follow twenty runs; and a server is asked whether it lives while it
evaluates. It takes half an hour, with ``--quick`` some minutes.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from random import Random

from benchmarks.holdout import demo
from benchmarks.service.fanout import fanout
from benchmarks.service.health import health
from benchmarks.service.kills import Graveyard, Kills, at_random, graveyard, trace
from benchmarks.service.model import Model
from benchmarks.service.takeover import takeover, undisturbed
from factors.demo_market import demo_market
from tests import postgres

MARKET = "small"
PROMISES = {
    "kills": ("processes killed while they worked on a run", ""),
    "divergences": ("runs that ended otherwise than one that nobody touched", "0"),
    "lost": ("accepted factors that were lost", "0"),
    "duplicates": ("accepted factors that were there twice", "0"),
    "gaps": ("numbers missing among a run's events", "0"),
    "repeated_calls": ("most model calls that a kill had made again", "at most 1"),
    "takeover_seconds": ("from the loss of a server of two to the end of its run on the other", "at most 30"),
    "takeover_divergences": ("of those runs, that ended otherwise", "0"),
    "fanout_p99_ms": ("from an event's time in its row to a subscriber, 99 of 100, 1,000 subscribers", "at most 150"),
    "fanout_gaps": ("events that a subscriber missed", "0"),
    "fanout_duplicates": ("events that a subscriber was told twice", "0"),
    "fanout_rss_bytes": ("memory of the server at most", "at most 400 MB"),
    "healthz_p99_ms": ("`/healthz` while two runs evaluate, 99 of 100", "below 100"),
}
"""What each figure is, and what is promised of it."""


def main() -> None:
    """Measure, print, and write the report unless it is the quick one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="30 kills for some 300, shorter times, no report")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="alphaagent-service-") as folder:
        found = figures(Path(folder), quick=options.quick)
    if not options.quick:
        Path(__file__).parent.with_suffix(".md").write_text(page(found), encoding="utf-8")
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if options.json else page(found))


def figures(folder: Path, *, quick: bool) -> dict[str, float]:
    """All figures, by name."""
    home = folder / "market"
    source = demo(demo_market(7, instruments=60, years=4), MARKET)
    source.publish(home, source.name, train_end=source.train_end, valid_end=source.valid_end)
    server = postgres.start()  # type: ignore[no-untyped-call]
    try:
        done = killed(home, folder, server.database, quick=quick)
        _say("servers that are lost")
        expected = undisturbed(_home(folder, "first", home), MARKET, server.database())
        lost = [
            takeover(_home(folder, f"lost {silent}", home), MARKET, server.database(), expected, silent=silent)
            for silent in (False, True)
        ]
    finally:
        server.close()
    _say("a thousand subscribers")
    heard = fanout(seconds=10 if quick else 60)
    _say("health under load")
    alive = health(_home(folder, "busy", home), MARKET, 10 if quick else 60)
    return {
        **asdict(done),
        "takeover_seconds": max(one.seconds for one in lost),
        "takeover_divergences": sum(one.divergences for one in lost),
        "fanout_p99_ms": heard.fanout_p99_ms,
        "fanout_gaps": heard.gaps,
        "fanout_duplicates": heard.duplicates,
        "fanout_rss_bytes": heard.fanout_rss_bytes,
        "healthz_p99_ms": alive.p99_ms,
    }


def killed(home: Path, folder: Path, database: Callable[[], str], *, quick: bool) -> Kills:
    """What kills have done to runs on both databases, and to runs of a model."""
    model, done = Model(), Kills()
    draw = Random(1)  # noqa: S311 - kills that can be repeated, not a secret
    try:
        for name, where in (("SQLite", None), ("PostgreSQL", database)):
            with graveyard(home, MARKET, folder / name, where) as yard:
                if not quick:
                    _say(f"a kill at each commit, on {name}")
                    done += each_commit(yard)
                _say(f"kills at random, on {name}")
                done += rounds(yard, 10 if quick else 40, draw)
                _say(f"kills of runs of two directions, on {name}")
                done += rounds(yard, 2 if quick else 20, draw, directions=2, rounds=4)
                _say(f"kills at random of a model's runs, on {name}")
                done += rounds(yard, 3 if quick else 20, draw, model)
    finally:
        model.close()
    return done


def each_commit(yard: Graveyard) -> Kills:
    """What kills have done to runs, one at each of the commits that a run takes."""
    quiet = yard.home()
    _, commits = yard.work(quiet)
    expected = trace(quiet.url)
    struck = (yard.end(yard.home(), expected, iter([{"commit": number}])) for number in range(1, commits + 1))
    return sum(struck, Kills())


def rounds(yard: Graveyard, count: int, draw: Random, model: Model | None = None, **budget: int) -> Kills:
    """What kills at random have done to runs beside one that nobody touched, until there were so many.

    Args:
        yard: where.
        count: of kills.
        draw: when processes are killed.
        model: who plays the agents.
        budget: of each run.
    """
    quiet, began = yard.home(model, **budget), time.monotonic()
    _, commits = yard.work(quiet)
    expected, done, strikes = trace(quiet.url), Kills(), at_random(draw, commits, time.monotonic() - began)
    while done.kills < count:
        done += yard.end(yard.home(model, **budget), expected, islice(strikes, count - done.kills))
    return done


def _home(folder: Path, name: str, market_home: Path) -> Path:
    home = folder / name
    home.mkdir()
    (home / "markets").symlink_to(market_home / "markets")
    return home


def page(found: dict[str, float]) -> str:
    """The report."""
    rows = [f"| `{name}` | {what} | {_short(found[name])} | {promise} |" for name, (what, promise) in PROMISES.items()]
    head = [
        "# The service, left running",
        "",
        "Generated by `python -m benchmarks.service`, which says in its first lines what is done to it.",
        "",
        "| figure | what it is | measured | promised |",
        "| --- | --- | --- | --- |",
    ]
    return "\n".join([*head, *rows]) + "\n"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or value >= 1000 else f"{value:.3g}"  # noqa: PLR2004


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")


if __name__ == "__main__":
    main()
