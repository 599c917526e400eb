"""Mining from the command line: the run works in a thread while this one shows its events."""

import time
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console

from app.progress import RunProgress
from app.runner import Runner
from factors.hypothesis import Factor
from storage.runs import Run, RunEvent, RunRequest

POLL_SECONDS = 0.1


def mine_and_follow(runner: Runner, request: RunRequest, *, quiet: bool) -> tuple[Run, list[Factor]]:
    """Execute a run and show its progress on standard error; Ctrl-C cancels it and keeps what it had accepted.

    Args:
        runner: of the home to mine in.
        request: what to mine.
        quiet: show nothing.

    Returns:
        The finished run and its accepted factors as this run measured them, in order of acceptance.
    """
    run = runner.submit(request)
    events: list[RunEvent] = []
    with ThreadPoolExecutor(1) as worker, RunProgress(Console(stderr=True, quiet=quiet), run) as progress:
        working = worker.submit(runner.execute, run.id)
        finished = False
        while True:
            try:
                fresh = runner.records.events(run.id, after=len(events))
                events.extend(fresh)
                progress.show(fresh)
                if finished and not fresh:
                    break
                finished = working.done()
                if not finished and not fresh:
                    time.sleep(POLL_SECONDS)
            except KeyboardInterrupt:
                runner.cancel_all()
        run = working.result()
    accepted = [Factor.model_validate(event.data["factor"]) for event in events if event.type == "factor.accepted"]
    return run, accepted
