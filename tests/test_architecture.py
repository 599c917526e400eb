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
    "alembic": "storage",
    "langgraph": "graphs",
    "langchain_core": "graphs",
    "langchain_openai": "graphs",
    "openai": "graphs",
    "httpx2": "graphs",
    "tenacity": "graphs",
    "anyio": "app",
    "fastapi": "app",
    "fastapi_offline": "app",
    "starlette": "app",
    "uvicorn": "app",
    "typer": "app",
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
            assert LIBRARIES[name] == room, f"{path} imports {name}, which belongs to {LIBRARIES[name]}"


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


def test_langgraph_s_tools_can_describe_the_graph():
    assert "hypotheses" in graph.get_input_jsonschema()["properties"]
    assert graph.get_output_jsonschema()
    graph.get_context_jsonschema()


def test_the_readme_shows_the_state_machine_as_it_is():
    picture = graph.get_graph().draw_mermaid().strip()
    assert f"```mermaid\n{picture}\n```" in (ROOT / "README.md").read_text()
