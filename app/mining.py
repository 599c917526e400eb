"""Mining from the command line: the engine works on the run while this shows its events."""

import time

from rich.console import Console

from app.engine import RunEngine
from app.progress import RunProgress
from app.runner import operator
from factors.hypothesis import Factor
from storage.runs import TERMINAL, Run, RunEvent, RunRequest

POLL_SECONDS = 0.1


def mine_and_follow(engine: RunEngine, request: RunRequest, *, quiet: bool) -> tuple[Run, list[Factor]]:
    """Execute a run and show its progress on standard error; Ctrl-C cancels it and keeps what it had accepted.

    Args:
        engine: of the home to mine in.
        request: what to mine.
        quiet: show nothing.

    Returns:
        The finished run and its accepted factors as this run measured them, in order of acceptance.
    """
    records = engine.runner.records
    run = engine.runner.submit(request, engine.executor)
    events: list[RunEvent] = []
    with RunProgress(Console(stderr=True, quiet=quiet), run) as progress:
        engine.work_on(run.id)
        finished = False
        while True:
            try:
                fresh = records.events(run.id, after=len(events))
                events.extend(fresh)
                progress.show(fresh)
                if finished and not fresh:
                    break
                finished = records.run(run.id).status in TERMINAL
                if not finished and not fresh:
                    time.sleep(POLL_SECONDS)
            except KeyboardInterrupt:
                records.queue.cancel(run.id, operator())
                engine.wake()
    accepted = [Factor.model_validate(event.data["factor"]) for event in events if event.type == "factor.accepted"]
    return records.run(run.id), accepted
