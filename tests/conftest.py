"""A small synthetic market, the command line in this process and in one of its own, and a running service."""

import contextlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from rich.console import Console

from app.cli import main
from app.panels import laboratory
from factors.alphas import published
from factors.demo_market import demo_market
from factors.expression import Field
from storage.ingest import import_market
from storage.markets import publish
from storage.sources.source import SourceName
from tests import postgres as postgresql

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-W", "error", "-c", "from app.start import main; main()")


SHARED_DATA = Path(os.environ.get("ALPHAAGENT_SHARED_DATA", ROOT / ".." / "shared" / "data"))


def pytest_collection_modifyitems(items):
    """Begin with the few long tests, or the last of them would keep one core waiting for the other."""
    items.sort(key=lambda item: item.path.parent != ROOT / "tests")


@dataclass(frozen=True)
class Answer:
    """What the command line gave back."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


class Process(subprocess.Popen):
    """A process whose standard error goes to a file: a pipe that nobody reads would hold up a service that logs."""

    def __init__(self, *arguments: Any, log: Path, **keywords: Any) -> None:
        self._log = log
        with log.open("w") as written:
            super().__init__(*arguments, stderr=written, **keywords)

    def communicate(self, *arguments: Any, **keywords: Any) -> tuple[str, str]:
        out, _ = super().communicate(*arguments, **keywords)
        return out, self.noise

    @property
    def noise(self) -> str:
        return self._log.read_text()


@dataclass(frozen=True)
class Service:
    """A service in a process of its own."""

    process: Process
    url: str
    home: Path

    def post(self, **body: Any) -> httpx.Response:
        return httpx.post(f"{self.url}/runs", json=body)

    def post_to(self, path: str, **body: Any) -> httpx.Response:
        return httpx.post(self.url + path, json=body or None)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path)

    def evaluate(self, formula: str, market: str = "small") -> httpx.Response:
        return httpx.post(f"{self.url}/evaluations", json={"formula": formula, "market": market}, timeout=60)

    def lines(self, run_id: str, **headers: str) -> Iterator[str]:
        """The lines of a run's event stream as they come."""
        with httpx.stream("GET", f"{self.url}/runs/{run_id}/events", headers=headers, timeout=60) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            yield from stream.iter_lines()


def _environment(home: Path, **more: str) -> dict[str, str]:
    ours = ("ALPHAAGENT_", "OPENAI_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "ALPHAAGENT_HOME": str(home), "COLUMNS": "200", **more}


def _unavailable(requirement: str, reason: str) -> None:
    """Skip the test, or fail it where ``ALPHAAGENT_REQUIRE`` names the requirement."""
    (pytest.fail if requirement in os.environ.get("ALPHAAGENT_REQUIRE", "") else pytest.skip)(reason)


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real market data; tests that need it skip without it, or fail where it is required."""
    if not (SHARED_DATA / "us_daily_dev.parquet").is_file():
        _unavailable("shared-data", f"real market data is not in {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def postgres():
    """The URL of a new empty database on a server of these tests' own: ``postgres()``."""
    server = None

    def database():
        nonlocal server
        if postgresql.binaries() is None:
            _unavailable("postgres", "PostgreSQL is not installed")
        server = server or postgresql.start()
        return server.database()

    yield database
    if server:
        server.close()


@pytest.fixture(scope="session")
def endurance():
    """Whether tests are to be run that show at length what others show in short; they skip otherwise."""
    if not os.environ.get("ALPHAAGENT_ENDURANCE"):
        pytest.skip("takes long: make endurance")


@pytest.fixture(scope="session")
def chromium():
    """Where Chromium is."""
    found = shutil.which("chromium")
    if found is None:
        _unavailable("browser", "Chromium is not installed")
    return found


@pytest.fixture(scope="session")
def peer():
    """Import another project's library, ``peer("pandas")``; a test that needs it skips, or fails where required."""

    def load(name):
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            _unavailable("peers", f"{name} is not installed (pip install alphaagent[peers])")
        return importlib.import_module(name)

    return load


@pytest.fixture(scope="session")
def calendars():
    """Calendars of exchanges are there."""
    if importlib.util.find_spec("exchange_calendars") is None:
        _unavailable("calendars", "exchange_calendars is not installed (pip install alphaagent[calendars])")


@pytest.fixture(scope="session")
def sources():
    """The names of the libraries of live market data, all of which are installed."""
    names = get_args(SourceName)
    for name in names:
        if importlib.util.find_spec(name) is None:
            _unavailable("sources", f"{name} is not installed (pip install alphaagent[sources])")
    return names


@pytest.fixture(scope="session")
def real_markets(tmp_path_factory, shared_data):
    """A home with the real markets ``us`` and ``cn``, hold-out from 2019; not to be changed."""
    home = tmp_path_factory.mktemp("real")
    for name, sectors in (("us", "us_sectors"), ("cn", "cn_industry")):
        import_market(
            home,
            name,
            shared_data / f"{name}_daily_dev.parquet",
            membership=shared_data / f"{name}_membership.parquet",
            sectors=shared_data / f"{sectors}.parquet",
            train_end=date(2016, 12, 31),
            valid_end=date(2018, 12, 31),
            rules=name,
            accept=["adjustment"],
        )
    return home


@pytest.fixture(scope="session")
def small():
    """The demo market with fewer instruments and years."""
    return demo_market(7, instruments=60, years=4)


@pytest.fixture(scope="session")
def market_home(tmp_path_factory, small):
    """A home that holds the market ``small``, laid out for mining, and no records; not to be changed."""
    home = tmp_path_factory.mktemp("market")
    snapshot = publish(
        home,
        "small",
        small.bars,
        membership=small.membership,
        sectors=small.sectors,
        train_end=small.train_end,
        valid_end=small.valid_end,
        synthetic=True,
    )
    laboratory(snapshot, snapshot.universe(None), published()).beside(Field("close"), [])
    return home


@pytest.fixture(scope="session")
def new_home(tmp_path_factory, market_home):
    """A function that gives a home of its own with the market ``small``."""

    def copy():
        home = tmp_path_factory.mktemp("home")
        shutil.copytree(market_home, home, dirs_exist_ok=True)
        return home

    return copy


@pytest.fixture
def home(new_home, monkeypatch):
    """A home of this test's own, which the settings name."""
    fresh = new_home()
    monkeypatch.setattr("os.environ", _environment(fresh))
    return fresh


@pytest.fixture(scope="session")
def cli():
    """The command line in this process: ``cli(home, *arguments)``."""

    def run(home, *arguments, **environment):
        out, err, environ = io.StringIO(), io.StringIO(), _environment(home, **environment)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["alphaagent", *map(str, arguments)])
            patch.setattr(os, "environ", environ)
            patch.setattr(Console, "_environ", environ)  # Rich would go on with the one that it was imported with
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    main()
                except SystemExit as end:
                    status = end.code
        return Answer(status, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def alphaagent():
    """The command line in a process of its own: ``alphaagent(home, *arguments)``."""

    def run(home, *arguments, **environment):
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)],
            cwd=ROOT,
            env=_environment(home, **environment),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def listing():
    """Every file below a folder with a digest of its content: ``listing(folder)``."""

    def read(folder):
        return {path: path.is_file() and sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*"))}

    return read


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Begin ``alphaagent`` in a process that ends with the tests at the latest: ``start(home, *arguments)``."""
    processes = []

    def begin(home, *arguments, **environment):
        process = Process(
            [*COMMAND, *arguments],
            cwd=ROOT,
            env=_environment(home, **environment),
            stdout=subprocess.PIPE,
            text=True,
            log=tmp_path_factory.mktemp("log") / "stderr",
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def serve(start):
    """Start the service on a free port: ``serve(home)``."""

    def begin(home, **environment):
        process = start(home, "serve", "--port", "0", **environment)
        words = process.stdout.readline().split()
        assert words[:2] == ["AlphaAgent", "serves"], process.noise
        return Service(process, words[2], home)

    return begin
