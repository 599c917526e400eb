"""A process whose children work on runs until they are killed, on order, at a commit or at a moment.

It reads a JSON line for each child: ``environment`` that names the home, ``strike``, and of what: the number of a
``commit`` before which it dies, or ``seconds`` after which it does. It answers with a line when the child is gone:
``killed``, and ``commits``, how many there were if it has worked on all runs to their end. Children are forks, as the
imports of a process take longer than a run.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from itertools import count
from typing import Any

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from sqlalchemy import Engine, event

from app.engine import run_engine
from app.settings import Settings
from storage.runs import TERMINAL

Order = dict[str, Any]


def main() -> None:
    """Serve orders until there are no more."""
    for line in sys.stdin:
        order = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            os.write(writer, str(_work(order)).encode())
            os._exit(0)
        os.close(writer)
        _, status = os.waitpid(child, 0)
        said = os.read(reader, 100)
        os.close(reader)
        answer = {"killed": os.WIFSIGNALED(status), "commits": int(said or 0)}
        if not answer["killed"] and os.waitstatus_to_exitcode(status):
            answer = {"killed": False, "commits": -1}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _work(order: Order) -> int:
    """Work on all runs of the home; how many commits that took."""
    os.environ.update(order["environment"])
    commits = count(1)
    last = 0

    def strike(*_: object) -> None:
        nonlocal last
        last = next(commits)
        if last == order.get("commit"):
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "commit", strike)
    for saver in (SqliteSaver, PostgresSaver):
        for name in ("put", "put_writes", "delete_thread"):
            setattr(saver, name, _struck(getattr(saver, name), strike))
    if "seconds" in order:
        # Its action is to end the process on the spot: no handler is there to be run.
        signal.setitimer(signal.ITIMER_REAL, order["seconds"])
    with run_engine(Settings(), room=4) as engine:
        records = engine.runner.records
        while any(run.status not in TERMINAL for run in records.runs()[0]):
            time.sleep(0.02)
        os.environ.clear()
        return last


def _struck(method: Callable[..., Any], strike: Callable[[], None]) -> Callable[..., Any]:
    def struck(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as the method that it stands for
        strike()
        return method(*arguments, **named)

    return struck


if __name__ == "__main__":
    main()
