"""The rules of the house: who imports whom, which room may use which library, how files are named."""

import ast
import sys
from pathlib import Path

import pytest

from graphs.machine import graph

ROOT = Path(__file__).parents[1]
ROOMS = ("app", "graphs", "storage", "factors")  # each may import only itself and the rooms behind it
LIBRARIES = {
    "polars": "factors",
    "numpy": "factors",
    "numba": "factors",
    "scipy": "factors",
    "duckdb": "storage",
    "sqlalchemy": "storage",
    "exchange_calendars": "storage",
    "alembic": "storage",
    "langgraph": "graphs",
    "langchain_core": "graphs",
    "langchain_openai": "graphs",
    "openai": "graphs",
    "httpx2": "app graphs",
    "tenacity": "graphs storage",
    "yfinance": "storage",
    "baostock": "storage",
    "akshare": "storage",
    "ccxt": "storage",
    "requests": "storage",
    "psycopg": "graphs storage",
    "psycopg_pool": "graphs",
    "dbos": "app",
    "anyio": "app",
    "fastapi": "app",
    "fastapi_offline": "app",
    "starlette": "app",
    "jinja2": "app",
    "uvicorn": "app",
    "typer": "app",
    "prometheus_client": "app",
    "structlog": "app",
    "opentelemetry": "app",
    "rich": "app",
}
SHAPELESS = {"utils", "helpers", "manager", "base", "common", "misc"}
MODULES = [(room, path) for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def imported(path):
    """Top-level names that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield str(node.module).split(".")[0]


def test_every_room_is_found():
    assert {room for room, _ in MODULES} == set(ROOMS)


@pytest.mark.parametrize(("room", "path"), MODULES, ids=lambda value: str(value).removeprefix(str(ROOT)))
def test_imports_point_rightward_and_libraries_stay_in_their_room(room, path):
    for name in imported(path):
        if name in ROOMS:
            assert ROOMS.index(name) >= ROOMS.index(room), f"{path} imports {name}"
        if name in LIBRARIES:
            assert room in LIBRARIES[name].split(), f"{path} imports {name}, which belongs to {LIBRARIES[name]}"


def test_only_declared_libraries_are_imported():
    known = (
        {"pydantic", "pydantic_core", "pydantic_settings", "platformdirs", "typing_extensions", "uuid_utils"}
        | set(LIBRARIES)
        | set(ROOMS)
        | {"prompts"}
    )
    for _, path in MODULES:
        foreign = set(imported(path)) - known - set(sys.stdlib_module_names)
        assert not foreign, f"{path} imports {foreign}"


def test_libraries_of_live_data_are_imported_where_one_is_opened_alone():
    libraries = {"yfinance", "baostock", "akshare", "ccxt", "requests"}
    for _, path in MODULES:
        if libraries & set(imported(path)):
            assert path.parent == ROOT / "storage" / "sources", path
            assert path.stem in libraries, path


def test_modules_are_nouns_or_verbs():
    for _, path in MODULES:
        assert path.stem not in SHAPELESS, path


def test_no_text_is_ever_executed():
    for _, path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "compile"}, f"{path}:{node.lineno}"


def test_the_lock_is_pinned_hashed_and_names_no_host():
    text = (ROOT / "requirements.lock").read_text()
    assert "http://" not in text
    assert "https://" not in text
    requirements = [line for line in text.splitlines() if line and line[0].isalpha()]
    assert requirements
    assert all("==" in line and line.endswith("\\") for line in requirements)
    assert text.count("--hash=sha256:") > len(requirements)


# the seal of the hold-out

WRITES, OPENS, KEEPS, ASKS = "storage/draft.py", "storage/openings.py", "storage/records.py", "app/promotion.py"
SEALED = {f"storage.{name}" for name in ("markets", "snapshot", "openings", "draft", "ingest")}
TOLD = {"of_factor", "spent", "statuses"}  # what the log of openings says of itself, to people alone


def texts(tree):
    """The text constants of a module but its docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def modules(tree):
    """Dotted names of the modules that a module imports, or may import names of."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def names_of_files(name, tree):
    """Texts that name the sealed file, or more files of its kind than the one in sample."""
    if name not in {WRITES, OPENS}:
        for text in texts(tree):
            if ("duckdb" in text and text != "insample.duckdb") or (text == "holdout" and name.startswith("app/")):
                yield f"names {text!r}"


def ways_to_openings(name, tree):
    """Where the log of openings is made, kept in hand, or asked for more than this module may."""
    told = set() if name.startswith("graphs/") else TOLD
    asked = {*told, "open"} if name == ASKS else told
    direct = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in asked}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "openings" and isinstance(node.ctx, ast.Load):
            if id(node) not in direct and "settings" not in ast.unparse(node):
                yield f"line {node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Openings") and name != KEEPS:
            yield f"line {node.lineno} makes a log of its own"
        elif isinstance(node, ast.Attribute | ast.alias) and "_sealed_bars" in ast.unparse(node):
            yield f"line {node.lineno} goes past the log"


def breaches(name, source):
    """How a module, by its path from the root, could reach the hold-out where it must not."""
    tree = ast.parse(source)
    if name.startswith("graphs/"):
        yield from (f"imports {module}" for module in modules(tree) if module in SEALED)
    yield from names_of_files(name, tree)
    yield from ways_to_openings(name, tree)


@pytest.mark.parametrize("path", [path for _, path in MODULES], ids=lambda path: str(path.relative_to(ROOT)))
def test_the_hold_out_is_reached_through_the_log_of_openings_alone(path):
    assert list(breaches(path.relative_to(ROOT).as_posix(), path.read_text())) == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("app/runner.py", "path = snapshot.path / 'holdout.duckdb'"),
        ("app/runner.py", "path = snapshot.path / f'{part}.duckdb'"),
        ("app/runner.py", "part = 'holdout'"),
        ("storage/snapshot.py", "con.execute('ATTACH ?', [f'{version}/holdout.duckdb'])"),
        ("storage/snapshot.py", "def bars():\n    for path in folder.glob('*.duckdb'):\n        yield path"),
        ("app/service.py", "records.openings.open(snapshot, factor, judge, by=ada, budget=9)"),
        ("app/service.py", "log = runner.records.openings\nlog.open(snapshot, factor, judge, by=ada, budget=9)"),
        ("app/service.py", "getattr(records.openings, 'open')(snapshot)"),
        ("app/promotion.py", "log = records.openings"),
        ("app/service.py", "Openings(engine).open(snapshot, factor, judge, by=ada, budget=9)"),
        ("app/service.py", "import storage.openings\nstorage.openings._sealed_bars(snapshot, 'all')"),
        ("graphs/workbench.py", "from storage.markets import open_market"),
        ("graphs/workbench.py", "def brief(self):\n    return self.records.openings.statuses()"),
        ("graphs/workbench.py", "from storage import openings"),
        ("graphs/nodes/idea.py", "def idea():\n    import storage.snapshot"),
    ],
)
def test_a_way_around_the_log_of_openings_would_be_seen(name, source):
    assert list(breaches(name, source))


def test_langgraph_s_tools_can_describe_the_graph():
    assert "hypotheses" in graph.get_input_jsonschema()["properties"]
    assert graph.get_output_jsonschema()
    graph.get_context_jsonschema()


def test_the_readme_shows_the_state_machine_as_it_is():
    picture = graph.get_graph().draw_mermaid().strip()
    assert f"```mermaid\n{picture}\n```" in (ROOT / "README.md").read_text()
