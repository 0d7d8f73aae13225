"""A run over files: rows as files end, the columns behind them, and what the run did.

with vpipe.Pipeline.load("score").run(["a.mp4", "clips/"], out="out") as run:
    for row in run:
        print(row["path"], row["score"])
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from vpipe.errors import MediaError
from vpipe.ledger import Ledger
from vpipe.plan import Plan
from vpipe.sinks import Sink, write_jsonl, write_parquet
from vpipe.sources import is_url
from vpipe.supervisor import Books, Supervisor
from vpipe.task import Columns
from vpipe.underway import UnderWay

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is carried out; see `Pipeline.run`."""

    fresh: bool
    progress: bool
    metrics: str | None
    convert: Callable[[Row], Row]
    together: bool
    trace: str | os.PathLike[str] | None = None


def file_names(paths: Iterable[str]) -> list[str]:
    """Return a name for each input's files: its own without suffix, with a number where another has that already."""
    names: dict[str, None] = {}
    for path in paths:
        stem = Path(urlsplit(path).path if is_url(path) else path).stem or "stream"
        name, number = stem, 1
        while name in names:
            number += 1
            name = f"{stem}-{number}"
        names[name] = None
    return list(names)


class Run(UnderWay[Row]):
    """A run over files under way: an iterator of rows, and a context manager that ends it.

    Leaving the `with`, or dropping the iterator, ends the workers.
    """

    supervisor: Supervisor

    def __init__(
        self,
        plan: Plan,
        inputs: list[tuple[str, int]],
        out: str | os.PathLike[str] | None,
        options: RunOptions,
    ) -> None:
        super().__init__(plan)
        self.inputs = inputs
        self._names = file_names([path for path, _ in inputs])
        self._positions = {path: position for position, (path, _) in enumerate(inputs)}
        self._convert = options.convert
        self._ended: dict[str, Row] = {}
        self._entered = False
        self.started = time.time()
        with contextlib.ExitStack() as stack:
            if out is None:
                out = tempfile.mkdtemp(prefix="vpipe-")
                stack.callback(shutil.rmtree, out, ignore_errors=True)
            self.out = Path(os.path.abspath(out))
            self._own_sinks = [Sink.load(sink.kind)(sink.options, self.out) for sink in plan.config.sinks if sink.own]
            ledger = stack.enter_context(Ledger.open(self.out, fresh=options.fresh))
            ledger.lock()
            ledger.clear_inputs()
            # The user's thread reads over a connection of its own: on the supervisor's, an unfinished read would hold
            # back its writes.
            self._books = Books(plan, stack.enter_context(Ledger.open(self.out)))
            tracer = self._tracer(options.trace, stack)
            self.supervisor = Supervisor(
                plan,
                inputs,
                ledger,
                str(self.out),
                emit=self._news.put,
                progress=options.progress,
                together=options.together,
                tracer=tracer,
            )
            stack.callback(self.supervisor.close)
            self._start(stack, tracer, options.metrics)

    def __iter__(self) -> Iterator[Row]:
        """Yield rows as files end.

        Raises:
            Interrupted: The run was stopped.
            RunError: The run itself failed.
        """
        if any(sink.kind == "parquet" for sink in self.plan.config.sinks):
            # While the workers work: at the end all would wait for it, and before, what hands out the first work does.
            self.supervisor.at_work.wait()
            for name in ("pyarrow.parquet", "numpy.ma"):  # the first table needs the second one: 15 ms
                importlib.import_module(name)
        try:
            for row in self._hear():
                self._write_own(row)
                self._ended[row["path"]] = row
                yield row
                if len(self._ended) == len(self.inputs):  # the workers end beside what follows
                    break
            self._write_sinks()
            for _ in self._hear():
                pass
        finally:
            # In a `with` the run can still be asked for columns and its summary; without one, this is its end.
            if self._entered:
                self.stop(now=True)
            else:
                self.close()

    def rows(self) -> list[Row]:
        """Return the rows that were yielded so far, in the order of the inputs."""
        return [self._ended[path] for path, _ in self.inputs if path in self._ended]

    def columns(self, row: Row | str, branch: str | None = None) -> Columns | None:
        """Return the per-frame columns behind a row; None where its file failed.

        Args:
            row: One that this run yielded, or its path.
            branch: Whose; the first branch when not given.
        """
        row = self._ended[row] if isinstance(row, str) else row
        return None if row["status"] == "failed" else self._columns(row, branch)

    def _columns(self, row: Row, branch: str | None) -> Columns | None:
        file = self.supervisor.work.files[self._positions[row["path"]]]
        return self._books.columns(file.source, branch)

    def summary(self) -> dict[str, Any]:
        """Return what the run did so far: counts, wall time, rates, and each worker's shares of work and wait."""
        counters = self.counters()
        seconds = self.seconds if self.seconds is not None else time.monotonic() - self._began
        decode = [snapshot for name, snapshot in counters.items() if name.startswith("decode")]
        taken = sum(snapshot.frames for snapshot in decode)
        return {
            "pipeline": self.plan.config.name,
            "started": self.started,
            "seconds": round(seconds, 3),
            "files": len(self.inputs),
            "failed": sum(row["status"] == "failed" for row in self._ended.values()),
            "reused": sum(bool(row.get("reused")) for row in self._ended.values()),
            "frames": taken,
            "fps": round(taken / seconds, 2) if seconds else 0.0,
            "host": {"cpu": self.plan.host.cpu, "cores": self.plan.host.cores},
            "stages": {
                name: {
                    "frames": snapshot.frames,
                    "cpu_s": round(snapshot.cpu_ns * 1e-9, 3),
                    "work_s": round(snapshot.work_ns * 1e-9, 3),
                    "wait_s": round(snapshot.wait_ns * 1e-9, 3),
                    "p50_ms": round(snapshot.quantile(0.5) * 1e3, 3),
                    "p95_ms": round(snapshot.quantile(0.95) * 1e3, 3),
                    "p99_ms": round(snapshot.quantile(0.99) * 1e3, 3),
                    "restarts": self.supervisor.restarts()[name],
                }
                for name, snapshot in counters.items()
            },
        }

    def _write_own(self, row: Row) -> None:
        """Let the products' own sinks write what a file gives."""
        try:
            for sink in self._own_sinks:
                if row["status"] != "failed":
                    position = self._positions[row["path"]]
                    row |= sink.write(row, self._names[position], functools.partial(self._columns, row))
        except MediaError as error:
            row |= {"status": "failed", "error": {"kind": error.kind, "message": str(error)}}

    def _write_sinks(self) -> None:
        for sink in self.plan.config.sinks:
            if sink.own:
                continue
            path = self.out / sink.path
            if sink.kind == "jsonl":
                write_jsonl(path, (self._convert(row) for row in self.rows()))
                continue
            for branch in self.plan.branches:
                # One table a branch: they need not have the same frames, let alone the same columns.
                several = len(self.plan.branches) > 1
                write_parquet(
                    path.with_stem(f"{path.stem}-{branch.name}") if several else path, self._frames(branch.name)
                )

    def _frames(self, branch: str) -> Iterator[tuple[Row, Columns]]:
        for row in self.rows():
            columns = self.columns(row, branch)
            if columns is not None:
                yield row, columns

    def __enter__(self) -> Self:
        self._entered = True
        return self
