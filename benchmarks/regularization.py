"""How the gate treats known cases, and how long it takes: ``python -m benchmarks.regularization [--json]``.

1. Formulas drawn from the offline researcher's grammars, alone and crossed, fill a zoo of 10,000 beside the published
   alphas. Fresh ones are judged against it by the index, a few by the method of pairs, which gives the same sizes.
2. Every one of the 101 Alphas is disguised, its values kept, or its windows moved, all or one; and judged with all
   known, or all others: *absent*, by the checks of originality alone and by all that ask nobody.
3. S, SL and PC of published and of drawn formulas.

Tables go to ``benchmarks/regularization.md``; ``--json`` prints figures.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random

from benchmarks.report import table
from factors.alphas import Alpha, published, read_alphas
from factors.canonical import canonical
from factors.errors import FormulaError
from factors.expression import Expr, call
from factors.legacy import parse_legacy
from factors.parse import parse
from factors.regularization import Limits, Structure
from factors.zoo import Zoo, parametric_similarity, similarity
from graphs.offline.grammar import expand
from graphs.offline.themes import THEMES
from tests.disguises import disguised, rewindowed, window_moves

KNOWN = 10_000
DRAWN = 1_000
QUERIES = 400
BY_PAIRS = 5
DISGUISES = 10
SEED = 7
LIMITS = Limits()
ORIGINALITY = frozenset({"duplicate", "originality", "variation"})
PLAIN = ("RANK($close)", "$close / $open", "TS_CORR($high - $low, $volume, 20)")


def drawn(draw: Random, count: int, known: Iterable[Expr] = ()) -> list[Expr]:
    """So many different formulas of the offline researcher's grammars, every second one joined from two."""
    found: dict[Expr, None] = dict.fromkeys(known)
    before = len(found)
    while len(found) < before + count:
        one, other = (parse(expand(draw.choice(THEMES).grammar, draw)) for _ in range(2))
        found[one] = None
        found[call(draw.choice(("ADD", "MULTIPLY")), call("RANK", one), call("RANK", other))] = None
    return list(found)[before : before + count]


def refused(expr: Expr, zoo: Zoo) -> set[str]:
    """Names of the checks that a formula fails."""
    return {check.name for check in Structure.of(expr, zoo).checks(LIMITS) if not check.passed}


def speed() -> dict[str, float]:
    """Building the index, a verdict by the index, a verdict by pairs."""
    draw = Random(SEED)  # noqa: S311 - a benchmark that repeats
    fill = drawn(draw, KNOWN - len(published()))
    alphas = [*published(), *(Alpha(str(k), expr, "drawn") for k, expr in enumerate(fill))]
    started = time.perf_counter()
    zoo = Zoo(alphas)
    index_seconds = time.perf_counter() - started
    forms = [canonical(alpha.expr) for alpha in alphas]
    seconds, by_pairs = [], []
    for number, expr in enumerate(drawn(draw, QUERIES, fill)):
        started = time.perf_counter()
        structure = Structure.of(expr, zoo)
        structure.checks(LIMITS)
        structure.penalty(LIMITS)
        seconds.append(time.perf_counter() - started)
        if number < BY_PAIRS:
            started = time.perf_counter()
            form = canonical(expr)
            exact = max(similarity(form, known) for known in forms)
            parametric = max(parametric_similarity(form, known) for known in forms)
            by_pairs.append(time.perf_counter() - started)
            if (exact, parametric) != (structure.likeness.nodes, structure.likeness.parametric_nodes):
                raise AssertionError(f"the index and the pairs differ on {expr}")
    return {
        "verdict_ms_median_at_10000": 1e3 * statistics.median(seconds),
        "verdict_ms_worst_at_10000": 1e3 * max(seconds),
        "pairwise_ms_median_at_10000": 1e3 * statistics.median(by_pairs),
        "index_seconds_at_10000": index_seconds,
    }


def cases() -> dict[str, float]:
    """Shares of known cases that are refused or accepted as they should be."""
    draw = Random(SEED)  # noqa: S311 - as above
    alphas = [alpha for alpha in published() if alpha.name.startswith("Alpha#")]
    zoo = Zoo(published())
    copies = [disguised(alpha.expr, draw) for alpha in alphas for _ in range(DISGUISES)]
    moved = [rewindowed(disguised(alpha.expr, draw)) for alpha in alphas for _ in range(DISGUISES)]
    single = [move for alpha in alphas for move in window_moves(alpha.expr)]
    absent = [refused(alpha.expr, Zoo(other for other in published() if other is not alpha)) for alpha in alphas]
    apart = [refused(alpha.expr, Zoo(other for other in alphas if other is not alpha)) for alpha in alphas]
    held = [Zoo([*published(), Alpha("held", parse(text), "here")]) for text in PLAIN]
    return {
        "disguised_refused": _share(bool(refused(copy, zoo) & ORIGINALITY) for copy in copies),
        "rewindowed_refused": _share(bool(refused(copy, zoo) & ORIGINALITY) for copy in moved),
        "one_window_moved_refused": _share(bool(refused(copy, zoo) & ORIGINALITY) for copy in single),
        "absent_accepted": _share(not checks & ORIGINALITY for checks in absent),
        "absent_accepted_beside_the_101": _share(not checks & ORIGINALITY for checks in apart),
        "absent_accepted_by_all_checks": _share(not checks for checks in absent),
        "plain_accepted": _share(not refused(parse(text), zoo) for text in PLAIN),
        "plain_refused_where_held": _share(
            "duplicate" in refused(parse(text), of) for text, of in zip(PLAIN, held, strict=True)
        ),
        "long_refused": _share(map(_is_refused, ("279-node sum", "30 nested TS_MEAN"))),
    }


def _is_refused(case: str) -> bool:
    text = " + ".join(["$close"] * 140) if case == "279-node sum" else "TS_MEAN(" * 30 + "$close" + ", 2)" * 30
    try:
        return bool(refused(parse(text), Zoo()))
    except FormulaError:
        return True  # longer than the language itself allows


def distributions(shared_data: Path | None) -> list[list[str]]:
    """Rows of quantiles: each file's formulas beside the published ones other than themselves."""
    sources: dict[str, list[Expr]] = {
        "101 Alphas": [alpha.expr for alpha in published() if alpha.name.startswith("Alpha#")],
        "Alpha158": [alpha.expr for alpha in published() if not alpha.name.startswith("Alpha#")],
        f"{DRAWN:,} drawn": drawn(Random(SEED), DRAWN),  # noqa: S311 - as above
    }
    for file in ("alpha101", "alphaagent_us", "alphaagent_cn"):
        path = shared_data / "zoo" / f"{file}.csv" if shared_data else None
        if path is not None and path.exists():
            read = read_alphas(path.read_text(encoding="utf-8").splitlines(), path.name, parse_legacy)
            sources[path.name] = [alpha.expr for alpha in read]
    rows = []
    whole, itself = Zoo(published()), {alpha.expr for alpha in published()}
    for name, exprs in sources.items():
        structures = [
            Structure.of(expr, Zoo(one for one in published() if one.expr is not expr) if expr in itself else whole)
            for expr in exprs
        ]
        accepted = _share(all(check.passed for check in one.checks(LIMITS)) for one in structures)
        rows.append(
            [
                name,
                str(len(exprs)),
                _quantiles([one.likeness.nodes for one in structures]),
                _quantiles([one.likeness.parametric_nodes for one in structures]),
                _quantiles([one.complexity.length for one in structures]),
                _quantiles([one.complexity.parameters for one in structures]),
                f"{accepted:.0%}",
            ]
        )
    return rows


def page(figures: dict[str, float], rows: list[list[str]]) -> str:
    """The report, Markdown."""
    times = {name: value for name, value in figures.items() if "_ms_" in name or "_seconds_" in name}
    shares = {name: value for name, value in figures.items() if name not in times}
    parts = [
        "# The gate on known cases",
        "Generated by `python -m benchmarks.regularization`, which says in its first lines what is measured.",
        "## Shares",
        table(["case", "share"], [[name.replace("_", " "), f"{value:.1%}"] for name, value in shares.items()]),
        "## Speed beside 10,000 known alphas",
        table(["figure", "value"], [[name.replace("_", " "), f"{value:.3g}"] for name, value in times.items()]),
        "## Formulas beside the published alphas, themselves left out",
        "Median, 90 % quantile and largest.",
        table(["formulas", "number", "S exact", "S parametric", "SL", "PC", "accepted"], rows),
    ]
    return "\n\n".join(parts) + "\n"


def _share(cases: Iterable[bool]) -> float:
    return statistics.fmean(cases)


def _quantiles(values: Sequence[float]) -> str:
    ordered = sorted(values)
    return " / ".join(f"{ordered[round(q * (len(ordered) - 1))]:g}" for q in (0.5, 0.9, 1.0))


def main() -> None:
    """Measure, write the report, print."""
    parser = argparse.ArgumentParser(description="Measure the gate on known cases.")
    parser.add_argument("--json", action="store_true", help="print figures rather than tables")
    chosen = parser.parse_args()
    folder = os.environ.get("ALPHAAGENT_SHARED_DATA")
    figures = {**speed(), **cases()}
    text = page(figures, distributions(Path(folder) if folder else None))
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")
    sys.stdout.write(json.dumps(figures, indent=2) + "\n" if chosen.json else text)


if __name__ == "__main__":
    main()
