"""The arrows between the rooms run one way, and no room grows beyond what a reader can hold."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted([*(ROOT / "monitor").rglob("*.py"), *(ROOT / "probes").rglob("*.py")])
PROBES = [path for path in FILES if path.is_relative_to(ROOT / "probes")]
PURE = [
    ROOT / "monitor" / "policy.py",
    ROOT / "monitor" / "gate.py",
    ROOT / "monitor" / "judge.py",
    ROOT / "monitor" / "freeze.py",
    ROOT / "monitor" / "grid.py",
    *sorted((ROOT / "monitor" / "criteria").glob("*.py")),
]
I_O = {
    "aiohttp",
    "asyncio",
    "httpx",
    "os",
    "pathlib",
    "random",
    "socket",
    "sqlite3",
    "subprocess",
    "threading",
    "time",
}
HEAVY = {
    "pydantic",
    "numpy",
    "scipy",
    "httpx",
    "aiohttp",
    "apscheduler",
    "sqlite3",
    "asyncio",
    "starlette",
    "uvicorn",
    "prometheus_client",
    "ruamel",
    "jinja2",
    "bokeh",
    "torch",
    "sentence_transformers",
}
DRIVERS = {"psycopg", "pymysql", "pymysqlreplication", "redis", "aio_pika", "aiormq", "nats", "mcp", "boto3"}
LINES, FUNCTION = 400, 60
LONG_FILES: dict[str, int] = {}
"""Files that may be longer, each with its own limit."""
LONG_FUNCTIONS: dict[str, int] = {}
"""Functions that may be longer (`file:name`), each with its own limit: that one is a list of metrics."""


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path, *, at_load: bool = False) -> Iterator[str]:
    """Every module that a file imports, in full; with `at_load` not those that only a function imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno}: relative imports hide where an arrow points"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        if not (at_load and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            todo.extend(ast.iter_child_nodes(node))


def roots(path: Path) -> set[str]:
    return {module.partition(".")[0] for module in imports(path)}


def importers(of: str) -> list[str]:
    return [name(path) for path in FILES if of in roots(path)]


@pytest.mark.parametrize("path", PROBES, ids=name)
def test_probes_never_import_monitor(path: Path) -> None:
    assert "monitor" not in roots(path)


def test_only_the_schedule_imports_apscheduler() -> None:
    assert importers("apscheduler") == ["monitor/schedule.py"]


@pytest.mark.parametrize("heavy", ["sentence_transformers", "torch"])
def test_only_the_worker_imports_the_model(heavy: str) -> None:
    assert importers(heavy) == ["monitor/drift/worker.py"]


@pytest.mark.parametrize("path", PURE, ids=name)
def test_judging_imports_no_clock_and_no_io(path: Path) -> None:
    assert roots(path) & I_O == set()


@pytest.mark.parametrize("path", PURE, ids=name)
def test_judging_imports_no_room_that_does_io(path: Path) -> None:
    doing = (
        "monitor.ledger",
        "monitor.watch",
        "monitor.clock",
        "monitor.schedule",
        "monitor.web",
        "probes.http",
    )

    assert [module for module in imports(path) if module.startswith(doing)] == []


def test_nothing_imports_the_demo_but_its_own_command() -> None:
    outside = [path for path in FILES if not path.is_relative_to(ROOT / "monitor" / "demo")]

    found = {name(path) for path in outside for module in imports(path) if module.startswith("monitor.demo")}
    assert found <= {"monitor/cli.py"}


def test_nothing_but_the_command_line_imports_its_commands() -> None:
    inside = ("monitor/commands/", "monitor/cli.py", "monitor/demo/run.py")

    found = {name(p) for p in FILES for module in imports(p) if module.startswith("monitor.commands")}
    assert {path for path in found if not path.startswith(inside)} == set()


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    code = "import json, sys; import monitor.cli; print(json.dumps(sorted(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)

    loaded = {module.partition(".")[0] for module in json.loads(done.stdout)}
    assert loaded & HEAVY == set()


def test_importing_the_table_of_kinds_loads_no_driver() -> None:
    """Drivers are extras: who watches PostgreSQL alone installs nothing for Redis."""
    code = "import json, sys; import probes.kinds; print(json.dumps(sorted(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)

    loaded = {module.partition(".")[0] for module in json.loads(done.stdout)}
    assert loaded & DRIVERS == set()


@pytest.mark.parametrize("path", FILES, ids=name)
def test_file_can_be_held_in_the_head(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())

    assert lines <= LONG_FILES.get(name(path), LINES)


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """(`file:Class.name`, lines) of every function."""

    def inside(node: ast.AST, prefix: str) -> Iterator[tuple[str, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name(path)}:{prefix}{child.name}", (child.end_lineno or 0) - child.lineno + 1
            deeper = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            yield from inside(child, f"{prefix}{child.name}." if deeper else prefix)  # type: ignore[attr-defined]

    yield from inside(ast.parse(path.read_text(encoding="utf-8")), "")


@pytest.mark.parametrize("path", FILES, ids=name)
def test_function_can_be_seen_at_once(path: Path) -> None:
    long = {which: lines for which, lines in functions(path) if lines > LONG_FUNCTIONS.get(which, FUNCTION)}

    assert long == {}


def test_no_exception_is_left_that_nobody_needs() -> None:
    lines = {name(path): len(path.read_text("utf-8").splitlines()) for path in FILES}
    spans = dict(found for path in FILES for found in functions(path))

    assert [path for path in LONG_FILES if lines.get(path, 0) <= LINES] == []
    assert [which for which in LONG_FUNCTIONS if spans.get(which, 0) <= FUNCTION] == []
