"""A process whose children work on runs until they are killed, on order, at a commit or at a moment.

It reads a JSON line for each child: ``environment`` that names the home, and the number of a ``commit`` before which it
dies, or ``seconds`` after which it does. It answers with a line when the child is gone: ``killed``, and ``commits``,
how many there were if it has worked on all runs to their end. Children are forks, as the imports of a process take
longer than a run.
"""

import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from sqlalchemy import Connection, Engine, event

from app.engine import run_engine
from app.settings import Settings
from storage.runs import TERMINAL

Order = dict[str, Any]
_CHANGES = re.compile(r"(INSERT INTO|DELETE FROM) (?!executors\b|\S*dbos_migrations\b)")


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


class Commits:
    """Counts the commits that add or remove something of the work on runs: not heartbeats, nor what only reads.

    Args:
        last: the one before which the process dies, if there is one.
    """

    def __init__(self, last: int | None) -> None:
        self.count = 0
        self._last, self._one_by_one = last, threading.Lock()

    def attend(self) -> None:
        """Count those of all databases of this process from now on."""
        event.listen(Engine, "before_cursor_execute", self._note)
        event.listen(Engine, "commit", self._commit)
        event.listen(Engine, "rollback", lambda connection: connection.info.pop("changed", False))
        for saver in (SqliteSaver, PostgresSaver):
            for name in ("put", "put_writes", "delete_thread"):
                setattr(saver, name, self._counted(getattr(saver, name)))

    def _note(self, connection: Connection, _: object, statement: str, *__: object) -> None:
        if _CHANGES.match(statement):
            connection.info["changed"] = True

    def _commit(self, connection: Connection) -> None:
        if connection.info.pop("changed", False):
            self._next()

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as the method that it stands for
            self._next()
            return method(*arguments, **named)

        return counted

    def _next(self) -> None:
        with self._one_by_one:
            self.count += 1
            if self.count == self._last:
                os.kill(os.getpid(), signal.SIGKILL)


def _work(order: Order) -> int:
    """Work on all runs of the home; how many commits that took."""
    os.environ.update(order["environment"])
    commits = Commits(order.get("commit"))
    commits.attend()
    if "seconds" in order:
        # Its action is to end the process on the spot: no handler is there to be run.
        signal.setitimer(signal.ITIMER_REAL, order["seconds"])
    with run_engine(Settings(), room=4) as engine:
        records = engine.runner.records
        while any(run.status not in TERMINAL for run in records.runs()[0]):
            time.sleep(0.02)
        os.environ.clear()
        return commits.count


if __name__ == "__main__":
    main()
