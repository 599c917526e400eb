"""Random formulas, each proven causal on an eventful panel, until one is refuted.

Run as ``python -m tests.prove_random [--formulas N] [--seed S]``; 2,000 take a few minutes.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from itertools import islice
from random import Random

from benchmarks.random_grammar import Grammar
from factors.causality import prove
from factors.certificate import Certificate
from factors.expression import Expr
from factors.panel import Panel
from tests.panels import eventful_panel


def formulas(panel: Panel, seed: int) -> Iterator[Expr]:
    """Random formulas without end over a panel's columns."""
    return Grammar(tuple(panel.fields)).formulas(Random(seed))


def refuted(certificate: Certificate) -> bool:
    """Whether a check found a difference, rather than nothing to compare or nothing but rounding."""
    return any(check.refuted for check in certificate.checks)


def main() -> int:
    """Prove random formulas; 1 if one was refuted, whose certificate is printed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--formulas", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    panel, started, proven = eventful_panel(seed=given.seed), time.monotonic(), 0
    for number, expr in enumerate(islice(formulas(panel, given.seed), given.formulas), 1):
        certificate = prove(expr, panel, market="random", snapshot="", universe="", seed=given.seed + number)
        if refuted(certificate):
            sys.stdout.write(f"{certificate.model_dump_json(indent=2)}\n")
            return 1
        proven += certificate.proven
        if number % 20 == 0 or number == given.formulas:
            told = f"{number:,} formulas, {proven:,} proven, {number - proven:,} without enough to compare"
            sys.stderr.write(f"\r{told}, {time.monotonic() - started:.0f} s")
            sys.stderr.flush()
    sys.stderr.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
