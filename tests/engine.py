"""What tests of whole runs share: small pipelines, and how two runs are compared."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tests.media import encode, folder
from vpipe import Columns, Pipeline, Run

ROOT = Path(__file__).resolve().parents[1]
DEADLINE_S = 120.0
"""Of every wait for something that must happen; far more than it takes on a busy machine."""

PIPELINE = """
name = "small"
[source]
sample = "every"
[decode]
workers = 2
[[branches]]
name = "view"
[branches.view]
kind = "resize"
width = 32
height = 32
histogram = true
[branches.batch]
max_size = 4
max_wait_ms = 10
[branches.infer]
model = "null"
requests = 2
[branches.postprocess]
task = "tests.faults:Record"
[[sinks]]
kind = "jsonl"
path = "rows.jsonl"
[[sinks]]
kind = "parquet"
path = "frames.parquet"
[run]
"""


def write_pipeline(path: Path, text: str = PIPELINE, **run: float) -> Path:
    """Write a pipeline file; `run` are values of its `[run]` table."""
    path.write_text(text + "".join(f"{name} = {value}\n" for name, value in run.items()))
    return path


def short_clip(name: str, seconds: float = 2.0, group: int = 10, tone: int = 0) -> Path:
    """Return a clip of 160x90, 25 frames a second; clips of different `tone` differ."""
    path = folder() / f"short-{name}-{seconds:g}-{group}-{tone}.mp4"
    if path.exists():
        return path
    source = f"testsrc2=size=160x90:rate=25:duration={seconds:g},hue=h={tone * 7 % 360}"
    options = f"-c:v libx264 -preset ultrafast -g {group} -pix_fmt yuv420p -threads 1 -bf 1"
    return encode(path, source, options)


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until `condition` holds, and return what it gave."""
    end = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {DEADLINE_S:g} s in vain for {what}"
        time.sleep(0.01)
    return found


Result = tuple[dict[str, Any], Columns | None]


def plain_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without what may differ from run to run."""
    return {name: value for name, value in row.items() if name not in ("timings", "reused")}


def results(run: Run) -> dict[str, Result]:
    """Take a run to its end; rows and columns by path."""
    return {row["path"]: (plain_row(row), run.columns(row)) for row in run}


def run_all(pipeline: Path, sources: Iterable[str | Path], out: Path, **overrides: Any) -> dict[str, Result]:
    """Run a pipeline to its end; override names have `__` for their dots."""
    dotted = {name.replace("__", "."): value for name, value in overrides.items()}
    with Pipeline.load(pipeline, dotted).run([os.fspath(source) for source in sources], out) as run:
        return results(run)


def assert_equal(found: dict[str, Result], expected: dict[str, Result]) -> None:
    """Check that two runs gave the same rows and the same columns, bit by bit."""
    assert sorted(found) == sorted(expected)
    for path, (row, columns) in expected.items():
        other_row, other_columns = found[path]
        assert other_row == row
        assert (columns is None) == (other_columns is None)
        if columns is not None and other_columns is not None:
            assert sorted(columns) == sorted(other_columns)
            for name, values in columns.items():
                np.testing.assert_array_equal(other_columns[name], values, err_msg=f"{path}: {name}")


# --- runs as processes of their own ---


def environment(*first: Path) -> dict[str, str]:
    """Return an environment whose import path begins with `first` and holds this repository."""
    path = [*map(str, first), str(ROOT), str(ROOT / "pipelines"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}


def command(pipeline: Path, sources: Iterable[str | Path], out: Path, *options: str) -> list[str]:
    """Return the command line of `vpipe run`."""
    return [sys.executable, "-m", "vpipe", "-v", "run", str(pipeline), *map(os.fspath, sources), "-o", str(out),
            *options]  # type: ignore[list-item]  # fmt: skip


@contextlib.contextmanager
def started(arguments: list[str], *first: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command in a process group of its own, and see to it that nothing of it is left."""
    process = subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env=environment(*first),
        start_new_session=True,
        **options,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def workers_of(pid: int) -> dict[str, psutil.Process]:
    """Return the workers of a process by name."""
    found = {}
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                line = [word for word in child.cmdline() if word]
                if line[:1] == ["vpipe.worker"]:
                    found[line[-1]] = child
    return found


def fork_server_of(pid: int) -> psutil.Process | None:
    """Return what the workers of a process are forked off, if it is there."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "vpipe.forkserver" in child.cmdline():
                    return child
    return None


def gone(processes: Iterable[psutil.Process]) -> bool:
    """Say whether none of these processes is left (one that only waits for its parent's look counts as gone)."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                return False
    return True


def rows_of(output: bytes) -> list[dict[str, Any]]:
    """Return the rows that `vpipe run` printed."""
    return [json.loads(line) for line in output.splitlines()]
