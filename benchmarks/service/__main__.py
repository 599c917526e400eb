"""What a team relies on when it leaves the service running, in figures.

Processes that work on runs are killed, at commits and at moments, on SQLite and on PostgreSQL, played by the search and
by a model on loopback; a server of two is killed, then one falls silent; a thousand subscribers follow twenty runs; and
a server is asked whether it lives while it evaluates. It takes about half an hour, with ``--quick`` some minutes.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from random import Random

from benchmarks.holdout import demo
from benchmarks.service.fanout import fanout
from benchmarks.service.health import health
from benchmarks.service.kills import Graveyard, Kills, Strike, at_commits, at_moments, graveyard, trace
from benchmarks.service.model import Model
from benchmarks.service.takeover import takeover, undisturbed
from factors.demo_market import demo_market
from tests import postgres

MARKET = "small"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="30 kills for 300, shorter times")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="alphaagent-service-") as folder:
        found = figures(Path(folder), quick=options.quick)
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if options.json else _table(found))


def figures(folder: Path, *, quick: bool) -> dict[str, float]:
    """All figures, by name."""
    home = folder / "market"
    source = demo(demo_market(7, instruments=60, years=4), MARKET)
    source.publish(home, source.name, train_end=source.train_end, valid_end=source.valid_end)
    server = postgres.start()  # type: ignore[no-untyped-call]
    try:
        done = killed(home, folder, server.database, 10 if quick else 100)
        expected = undisturbed(_home(folder, "first", home), MARKET, server.database())
        lost = [
            takeover(_home(folder, f"lost {silent}", home), MARKET, server.database(), expected, silent=silent)
            for silent in (False, True)
        ]
    finally:
        server.close()
    heard = fanout(seconds=10 if quick else 60)
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


def killed(home: Path, folder: Path, database: Callable[[], str], count: int) -> Kills:
    """What so many kills of each kind have done to runs."""
    model, done = Model(), Kills()
    draw = Random(1)  # noqa: S311 - kills that can be repeated, not a secret
    try:
        with graveyard(home, MARKET, folder / "sqlite") as yard:
            done += rounds(yard, count, lambda commits: at_commits(draw, commits))
            done += rounds(yard, count, lambda commits: at_commits(draw, commits), model)
        with graveyard(home, MARKET, folder / "postgres", database) as yard:
            done += rounds(yard, count, lambda _: at_moments(draw, 4.0))
    finally:
        model.close()
    return done


def rounds(
    yard: Graveyard, count: int, strikes: Callable[[int], Iterator[Strike]], model: Model | None = None
) -> Kills:
    """What kills have done to runs beside one that nobody touched, until there were so many.

    Args:
        yard: where.
        count: of kills.
        strikes: given the commits of a run that nobody touches, when processes are killed.
        model: who plays the agents.
    """
    quiet = yard.home(model)
    _, commits = yard.work(quiet)
    expected, done, drawn = trace(quiet.url), Kills(), strikes(commits)
    while done.kills < count:
        done += yard.end(yard.home(model), expected, islice(drawn, count - done.kills))
    return done


def _home(folder: Path, name: str, market_home: Path) -> Path:
    home = folder / name
    home.mkdir()
    (home / "markets").symlink_to(market_home / "markets")
    return home


def _table(found: dict[str, float]) -> str:
    return "".join(f"{name:22} {value:,.1f}\n" for name, value in found.items())


if __name__ == "__main__":
    main()
