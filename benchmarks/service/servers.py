"""Processes of the service itself, on loopback, for those who measure or kill them."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from storage.records import Records
from storage.runs import TERMINAL

COMMAND = (sys.executable, "-c", "from app.start import main; main()")


@dataclass(frozen=True, slots=True)
class Server:
    """A server that listens on a port of loopback."""

    process: subprocess.Popen[str]
    port: int

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - any JSON
        """The JSON that a request is answered with.

        Raises:
            RuntimeError: it was refused.
        """
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if answer.status >= 300:  # noqa: PLR2004 - what HTTP calls success
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")
        return json.loads(text)

    def run(self, run_id: str) -> dict[str, Any]:
        """A run as it stands."""
        found: dict[str, Any] = self.ask("GET", f"/runs/{run_id}")
        return found

    def until(self, run_id: str, *, rounds: int | None = None, seconds: float = 120.0) -> dict[str, Any]:
        """A run once it has ended, or has completed so many rounds.

        Raises:
            TimeoutError: it has not after so long.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            run = self.run(run_id)
            if run["status"] in TERMINAL or (rounds is not None and run["rounds"] >= rounds):
                return run
            time.sleep(0.02)
        raise TimeoutError(f"run {run_id} has not got so far in {seconds:g} seconds")


@contextmanager
def beating(url: str, executor: str) -> Iterator[None]:
    """Show that an executor is alive, or a server would take its runs over."""
    ended = threading.Event()

    def beat() -> None:
        with Records.open(url) as records:
            while not ended.wait(1.0):
                records.queue.beat(executor)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def server(home: Path, **environment: str) -> Iterator[Server]:
    """A server of a home on a free port; it is told to stop at the end of the block, if it has not been ended."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ALPHAAGENT_", "OPENAI_"))}
    with (
        (home / "server.log").open("a") as log,
        subprocess.Popen(  # noqa: S603 - our own command
            [*COMMAND, "serve", "--port", "0"],
            env={**kept, "ALPHAAGENT_HOME": str(home), **environment},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        line = process.stdout.readline() if process.stdout else ""
        try:
            yield Server(process, int(re.findall(r":(\d+) ", line)[0]))
        finally:
            if process.poll() is None:
                process.terminate()
