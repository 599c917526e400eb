"""A worker process: ``python -m app.worker END LIFE`` computes on one panel for the process that has started it.

It is one of :mod:`app.processes`, and may be killed at any time. It ends with the other process, or when it was asked
nothing for a while.
"""

import logging
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from socket import socket

from app import logs
from app.inspection import read
from app.messages import (
    IDLE_SECONDS,
    OPENING,
    REQUEST,
    Answer,
    Compare,
    Compared,
    Examine,
    Examined,
    Exhausted,
    Expect,
    Expected,
    Measure,
    Measured,
    Opened,
    Prove,
    Proven,
    Ranking,
    Request,
    receive,
    send,
)
from app.panels import laboratory
from app.processes import end_with, give_way, leave
from factors.alphas import Alpha
from factors.expression import Expr, Field
from factors.mapping import array_bytes, bytes_array
from factors.parse import parse
from graphs.laboratory import Laboratory

logger = logging.getLogger(__name__)

_UNTIL_UNASKED = IDLE_SECONDS + 60  # the other process must be sure that it still waits for what it is asked


def main() -> None:
    """Serve the process that has started this one."""
    end, life = (socket(fileno=int(descriptor)) for descriptor in sys.argv[1:])
    end_with(life)
    logs.configure(logging.WARNING)
    give_way()
    end.settimeout(_UNTIL_UNASKED)
    try:
        serve(end)
    except ConnectionError:  # the other process has closed its end
        leave()
    except Exception:
        logger.exception("a worker process failed")
        os._exit(1)  # libraries would tell at length what they had not cleared away


def serve(end: socket) -> None:
    """Open a market and answer what is asked about it; once memory did not suffice, all is thrown away."""
    opening = OPENING.validate_json(receive(end, leave))
    found = laboratory(
        opening.snapshot,
        opening.universe,
        [Alpha(name, read(formula), source) for name, formula, source in opening.alphas],
        lambda count: send(end, Ranking(alphas=count), leave),
    )
    found.measure(Field("close"))  # threads and kernels that all formulas need are there before memory is limited
    limit_memory(opening.memory)
    send(end, Opened(dates=array_bytes(found.dates), settlement=found.settlement), leave)
    while True:
        request = REQUEST.validate_json(receive(end, leave))
        try:
            answer = answered(found, request)
        except MemoryError:
            return send(end, Exhausted(), leave)
        send(end, answer, leave)


def answered(found: Laboratory, request: Request) -> Answer:
    """What a laboratory finds."""

    def parsed(formula: str) -> Expr:
        return parse(formula, found.fields)

    match request:
        case Expect(formulas=formulas):
            found.expect([*map(parsed, formulas)])
            return Expected()
        case Measure(formula=formula):
            one = found.measure(parsed(formula))
            return Measured(splits=one.splits, evidence=one.evidence, rank_ic=array_bytes(one.rank_ic))
        case Compare(formula=formula, peers=peers):
            correlations, marginal = found.beside(parsed(formula), [*map(parsed, peers)])
            return Compared(correlations=correlations, marginal=marginal)
        case Prove(formula=formula, seed=seed):
            return Proven(certificate=found.prove(parsed(formula), seed))
        case Examine(rank_ic=rank_ic, evidence=evidence, splits=splits):
            return Examined(robustness=found.robustness(bytes_array(rank_ic), evidence, splits))


def limit_memory(more: int) -> None:
    """Let this process take so many bytes more than it has; more than that is a ``MemoryError``, or its end.

    Private memory that can be written is counted, mapped files of the market included: what is reserved and never
    touched is not. Where the platform does not tell what the process has, there is no limit.
    """
    with suppress(FileNotFoundError):
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        [has] = [int(line.split()[1]) << 10 for line in lines if line.startswith("VmData:")]
        resource.setrlimit(resource.RLIMIT_DATA, (has + more, has + more))


if __name__ == "__main__":
    main()
