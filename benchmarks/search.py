"""Ways of searching at the same number of measured candidates: ``python -m benchmarks.search [--quick] [--json]``.

Arms: our offline researcher with the default gate (*offline*), the same with four directions side by side under the
bandit (*directions*), and with a gate that refuses duplicates alone (*unregularized*), plain genetic programming
(*genetic*) and independent random trees (*random*), both without a gate.
All go through the same state machine and the same admission checks, 8 candidates a round, each run with an empty
library. Seeds are the same for all arms.

What a run puts forward, its ten candidates of the largest rank ICIR on valid, accepted or not, is measured on the
hold-out after the run has ended, see :mod:`benchmarks.holdout`: searches are compared here, and :mod:`benchmarks.gate`
says what the library's checks are worth.

Tables go to ``benchmarks/search.md``; ``--json`` prints figures. ``--quick`` searches the demo market alone, with fewer
seeds and evaluations, and writes nothing. Progress goes to standard error.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.arms import ARMS, CANDIDATES, Found, Outcome, outcome
from benchmarks.holdout import SHARED_DATA, Source, demo, published, us
from benchmarks.intervals import Interval, ratio
from benchmarks.report import table
from factors.demo_market import demo_market

SEEDS, EVALUATIONS = 5, 200
QUICK_SEEDS, QUICK_EVALUATIONS = 3, 80

METHOD = (
    "In brackets the 95 % interval: percentile bootstrap over whole runs, seeded; narrow for so few runs. Figures "
    "of candidates pool all runs of an arm."
)

Outcomes = Mapping[str, Mapping[str, Sequence[Outcome]]]
"""By market and arm, one a seed."""

Figures = Mapping[str, Mapping[str, Mapping[str, Interval]]]
"""By market, arm and metric."""

METRICS: Mapping[str, tuple[str, Callable[[Outcome], tuple[float, float]]]] = {
    "hit_ratio": (
        "share of those put forward whose rank IC on the hold-out has the sign of that on valid and half of it or more",
        lambda run: (sum(one.hit for one in run.found), len(run.found)),
    ),
    "holdout_rank_ic_mean": (
        "mean rank IC on the hold-out of those put forward",
        lambda run: (sum(one.holdout for one in run.found), len(run.found)),
    ),
    "holdout_rank_ic_best": (
        "that of a run's best on the hold-out, which nobody could have known",
        lambda run: _of_the_best(run, lambda one: one.holdout),
    ),
    "holdout_rank_ic_chosen": (
        "that of a run's best on valid",
        lambda run: _of_the_best(run, lambda one: one.valid),
    ),
    "duplicates": (
        "share of the candidates judged by the gate, rewritten ones included, that are duplicates",
        lambda run: (run.duplicates, run.drafted),
    ),
    "accepted": ("factors that the library took from a run", lambda run: (run.accepted, 1)),
    "evaluations": ("candidates measured in a run", lambda run: (run.evaluations, 1)),
    "seconds": ("wall time of a run", lambda run: (run.seconds, 1)),
}
"""Each metric in words, and what a run adds to the sums above and below the line."""


def _of_the_best(run: Outcome, by: Callable[[Found], float]) -> tuple[float, float]:
    return (max(run.found, key=by).holdout, 1) if run.found else (0, 0)


def sources(*, quick: bool) -> Iterator[Source]:
    """The markets to search; one that is left out is told on standard error."""
    yield demo(demo_market())
    if quick:
        return
    source = us()
    if source is None:
        _say(f"us is left out: its files are not in {SHARED_DATA}")
    else:
        yield source


def outcomes(source: Source, home: Path, *, seeds: int, evaluations: int) -> dict[str, list[Outcome]]:
    """By arm, one outcome a seed, from 1 on; the arms take turns."""
    pair = published(source, home)
    found: dict[str, list[Outcome]] = {name: [] for name in ARMS}
    for seed in range(1, seeds + 1):
        for name, arm in ARMS.items():
            folder = home / "runs" / f"{source.name}-{name}-{seed}"
            one = outcome(arm, pair, home, folder, seed=seed, evaluations=evaluations)
            _say(
                f"{source.name}, seed {seed} of {seeds}, {name}: {one.evaluations} evaluations, "
                f"{one.accepted} accepted, {sum(each.hit for each in one.found)} hits, {one.seconds:.0f} s"
            )
            found[name].append(one)
    return found


def figures(results: Outcomes) -> Figures:
    """Every metric with its interval."""
    return {
        market: {
            arm: {metric: ratio([terms(run) for run in runs]) for metric, (_, terms) in METRICS.items()}
            for arm, runs in arms.items()
        }
        for market, arms in results.items()
    }


def page(results: Outcomes, evaluations: int) -> str:
    """The report, Markdown."""
    parts = [
        "# Ways of searching at the same number of measured candidates",
        "Generated by `python -m benchmarks.search`, which says in its first lines what is compared.",
        f"{evaluations} evaluations a run, {CANDIDATES} candidates a round. {METHOD}",
        "\n".join(f"- `{metric}`: {words}" for metric, (words, _) in METRICS.items()),
        *(_section(market, results[market], arms) for market, arms in figures(results).items()),
    ]
    return "\n\n".join(parts) + "\n"


def _section(market: str, results: Mapping[str, Sequence[Outcome]], arms: Mapping[str, Mapping[str, Interval]]) -> str:
    rows = [[f"`{metric}`", *(_cell(arms[arm][metric]) for arm in arms)] for metric in METRICS]
    lines = (
        f"- {arm}: {sum(run.accepted for run in runs)} factors accepted, in {sum(run.accepted > 0 for run in runs)} "
        f"of {len(runs)} runs; {statistics.median(run.seconds for run in runs):.0f} s a run"
        for arm, runs in results.items()
    )
    return "\n\n".join([f"## {market}", table(["", *arms], rows), "\n".join(lines)])


def _cell(interval: Interval) -> str:
    value, low, high = interval
    if value is None or low is None or high is None:
        return "none"
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main() -> None:
    """Search, write the report, print."""
    parser = argparse.ArgumentParser(description="Compare ways of searching.")
    parser.add_argument("--quick", action="store_true", help="the demo market alone and fewer runs; writes nothing")
    parser.add_argument("--json", action="store_true", help="print figures rather than tables")
    chosen = parser.parse_args()
    seeds, evaluations = (QUICK_SEEDS, QUICK_EVALUATIONS) if chosen.quick else (SEEDS, EVALUATIONS)
    results: dict[str, Mapping[str, Sequence[Outcome]]] = {}
    with tempfile.TemporaryDirectory(prefix="alphaagent-search-") as home:
        for source in sources(quick=chosen.quick):
            results[source.name] = outcomes(source, Path(home), seeds=seeds, evaluations=evaluations)
    text = page(results, evaluations)
    if not chosen.quick:
        Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")
    plain = {
        market: {arm: {metric: one._asdict() for metric, one in metrics.items()} for arm, metrics in arms.items()}
        for market, arms in figures(results).items()
    }
    sys.stdout.write(json.dumps(plain, indent=2) + "\n" if chosen.json else text)


if __name__ == "__main__":
    main()
