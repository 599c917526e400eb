"""Imports that are killed: a process that forks one of them for each order, and kills it as it is told.

Run as a script, it reads orders from standard input and answers each by how the import ended. It starts no thread and
opens no database itself, or those that it forks would not be able to.
"""

import json
import os
import shutil
import signal
import sys
import time
from datetime import date
from pathlib import Path

from app.cli import main
from storage.ingest import import_market

STEPS = ((os, "fsync"), (os, "link"), (Path, "rename"), (Path, "replace"), (Path, "mkdir"), (shutil, "rmtree"))


def list_steps(kill_at=None):
    """List what is done to files from here on, and die before one of these steps, counted from 1."""
    seen = []

    def counted(original):
        def step(*args, **keywords):
            seen.append(original.__name__)
            if len(seen) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **keywords)

        return step

    for owner, name in STEPS:
        setattr(owner, name, counted(getattr(owner, name)))
    return seen


def run(order):
    """Import what an order says; ``argv`` by the command line, else ``home``, ``source`` and options."""
    if "argv" in order:
        os.environ["ALPHAAGENT_HOME"] = order["home"]
        sys.argv = ["alphaagent", *order["argv"]]
        main()
        return
    options = {name: date.fromisoformat(order[name]) for name in ("train_end", "valid_end") if name in order}
    import_market(Path(order["home"]), "demo", Path(order["source"]), append=order.get("append", False), **options)


def fork(order):
    """The status of an import, its steps, and how many seconds it took."""
    begun = time.monotonic()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - lives as long as the process
            seen = list_steps(order.get("step"))
            run(order)
        except SystemExit as end:
            code = 1 if end.code else 0
        except BaseException:  # noqa: BLE001 - or the child would go on with the orders
            code = 1
        else:
            code = 0
        os.write(writing, " ".join(seen).encode())
        os._exit(code)
    if "after" in order:
        time.sleep(order["after"])
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as told:
        steps = told.read().split()
    return {
        "status": os.waitstatus_to_exitcode(status),
        "steps": steps,
        "seconds": time.monotonic() - begun,
    }


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(fork(json.loads(line))) + "\n")
        sys.stdout.flush()
