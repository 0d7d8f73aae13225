"""Imports go down only.

A module may import from its own layer's package and from the layers below it. Imports inside a function count as
well: a lazy import upwards is still one.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LAYERS = [
    {"__main__"},
    {"cli"},
    {"bench", "models", "tune"},
    {"pipeline", "__init__", "live", "run", "typed"},
    {"underway"},
    {"plugin", "sources", "diagram"},
    {"supervisor"},
    {"plan", "stages", "profile"},
    {"worker"},
    {"view", "film"},
    {"engine", "media"},
    {"ledger", "sinks", "metrics_http"},
    {"task", "ring", "metrics", "trace", "control", "database", "forkserver"},
    {"config", "viewconfig", "layout", "fragments", "frame", "memory", "host", "lock", "plain", "log", "errors"}
    | {"wakeup"},
    {"child"},
]
"""Names directly below `vpipe`, from the top down; those of one layer may import one another, but not in a circle.

A stage stands above `worker`, which is its context: the worker that starts it knows it by name only.
"""

DOORS = {
    "av": {"vpipe/media/container.py", "vpipe/media/ffmpeg_log.py"},
    "openvino": {"vpipe/engine/openvino.py"},
}
"""Heavy libraries, and the files of the engine that import them; nothing in the products does."""

PUBLIC = {
    "vpipe",
    "vpipe.child",
    "vpipe.config",
    "vpipe.control",
    "vpipe.errors",
    "vpipe.film",
    "vpipe.forkserver",
    "vpipe.fragments",
    "vpipe.frame",
    "vpipe.models",
    "vpipe.log",
    "vpipe.media.write",
    "vpipe.plugin",
    "vpipe.sinks",
    "vpipe.sources",
    "vpipe.task",
}
"""What a product may import of the engine."""

BASELINES = {
    "pipelines/vpipe_score/naive.py",
    "pipelines/vpipe_mask/naive.py",
    "pipelines/vpipe_mask/with_mediapipe.py",
}
"""What a product is measured against: it must use the libraries themselves, on the engine's own model and patches."""


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    """`vpipe/media/__init__.py` is `vpipe.media`; `pipelines/vpipe_score/task.py` is `vpipe_score.task`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "pipelines" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def imports(path: Path, *, lazy: bool = True) -> list[tuple[str, int]]:
    """Every module that a file imports, with the line; without `lazy`, only what importing it imports."""
    found: list[tuple[str, int]] = []
    for node in nodes(ast.parse(path.read_bytes(), str(path)), lazy):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; name the module in full"
            base = node.module or ""
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.append((whole if is_module(whole) else base, node.lineno))
    return found


def nodes(tree: ast.AST, lazy: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not lazy and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if not lazy and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from nodes(node, lazy)


def is_module(name: str) -> bool:
    for top in (ROOT, ROOT / "pipelines"):
        path = top.joinpath(*name.split("."))
        if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
            return True
    return False


def layer_of(module: str) -> int:
    """Rank from the top; 0 is the highest."""
    name = module.split(".")[1] if "." in module else "__init__"
    for rank, names in enumerate(LAYERS):
        if name in names:
            return rank
    pytest.fail(f"{module} has no layer: add {name!r} to LAYERS in {Path(__file__).name}, where it belongs")


@pytest.mark.parametrize("path", sources("vpipe"), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    here = layer_of(module_of(path))
    for name, line in imports(path):
        if name == "vpipe" or name.startswith("vpipe."):
            assert layer_of(name) >= here, f"{path.relative_to(ROOT)}:{line} imports {name}, which is above it"


def test_modules_do_not_import_in_circles() -> None:
    graph = {module_of(path): {name for name, _ in imports(path, lazy=False)} for path in sources("vpipe", "pipelines")}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module not in done:
            for name in sorted(graph[module] & graph.keys()):
                visit(name, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("library", sorted(DOORS))
def test_heavy_library_is_imported_by_its_doors_only(library: str) -> None:
    users = {
        str(path.relative_to(ROOT))
        for path in sources("vpipe", "pipelines")
        for name, _ in imports(path)
        if name.split(".")[0] == library and str(path.relative_to(ROOT)) not in BASELINES
    }
    assert users == DOORS[library]


@pytest.mark.parametrize("path", sources("pipelines"), ids=lambda path: str(path.relative_to(ROOT)))
def test_product_imports_public_names_of_engine_only(path: Path) -> None:
    if str(path.relative_to(ROOT)) in BASELINES:
        return
    for name, line in imports(path):
        if name.split(".")[0] == "vpipe":
            assert name in PUBLIC, f"{path.relative_to(ROOT)}:{line} imports {name}, which is the engine's own affair"


def test_engine_knows_no_product() -> None:
    products = {path.name for path in (ROOT / "pipelines").iterdir()}
    for path in sources("vpipe"):
        for name, line in imports(path):
            assert name.split(".")[0] not in products, f"{path.relative_to(ROOT)}:{line} imports {name}"


@pytest.mark.parametrize("module", ["vpipe", "vpipe.task", "vpipe.cli", "vpipe.pipeline", "vpipe_score"])
def test_importing_stays_light(module: str) -> None:
    heavy = {"av", "cv2", "openvino", "pyarrow", "jinja2"}
    code = f"import sys, {module}; print(*sorted({heavy} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
