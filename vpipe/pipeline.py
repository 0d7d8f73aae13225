"""A pipeline that can be run: what the command line and the Python API share.

with vpipe.Pipeline.load("score").run(["a.mp4", "clips/"], out="out") as run:
    for row in run:
        print(row["path"], row["score"])
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import queue
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vpipe.config import PipelineConfig, load_toml, parse_pipeline
from vpipe.errors import ConfigError, MediaError
from vpipe.host import Host
from vpipe.ledger import Ledger
from vpipe.live import LiveRun
from vpipe.metrics import Snapshot
from vpipe.plan import Plan, resolve
from vpipe.plugin import find_pipeline
from vpipe.profile import Profile, find_profile
from vpipe.sinks import Sink, write_jsonl, write_parquet
from vpipe.sources import is_url, resolve_sources
from vpipe.supervisor import Books, Supervisor
from vpipe.task import Columns, loading
from vpipe.trace import Tracer

if TYPE_CHECKING:
    from vpipe.metrics_http import MetricsServer

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """A checked pipeline file."""

    config: PipelineConfig
    """As the file and the overrides have it."""
    base: Path
    """Directory that model paths are relative to."""
    profile: Profile | None = None
    """What `vpipe tune` found for it on this machine; runs over files use it."""
    tuned: PipelineConfig | None = None
    """`config` with the profile's settings."""

    @classmethod
    def load(
        cls, name: str | os.PathLike[str], overrides: dict[str, Any] | None = None, *, profile: bool = True
    ) -> Pipeline:
        """Read a pipeline by its file or by the name that a plugin registered.

        Args:
            name: A path that ends in `.toml`, or a plugin's name such as `score`.
            overrides: Values that replace those of the file, by dotted path, for example
                `{"source.sample": "every", "decode.workers": 2, "branches.0.batch.max_size": 4}`.
            profile: Use the profile that `vpipe tune` wrote, where there is one and no override sets a knob.

        Raises:
            ConfigError: No such pipeline, or a bad value.
        """
        values, base = pipeline_values(name, overrides or {})
        config = parse_pipeline(values, str(pipeline_path(name)))
        found = find_profile(values, base, overrides or {}) if profile else None
        if found is None:
            return cls(config, base)
        for dotted, value in found.settings.items():
            _override(values, dotted, value)
        return cls(config, base, found, parse_pipeline(values, str(found.path)))

    def plan(self, host: Host | None = None) -> Plan:
        """Resolve for this machine; starts nothing.

        Raises:
            ConfigError: A view does not fit its model.
            ModelError: A model's manifest is missing or broken.
        """
        return resolve(self.tuned or self.config, self.base, host)

    def run(
        self,
        sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        out: str | os.PathLike[str] | None = None,
        *,
        fresh: bool = False,
        progress: bool = False,
        metrics: str | None = None,
        convert: Callable[[Row], Row] | None = None,
        together: bool = False,
        trace: str | os.PathLike[str] | None = None,
    ) -> Run:
        """Start a run; iterate over it for rows as files end.

        Args:
            sources: Files, directories, globs, URLs, or `-`.
            out: The output directory; what is done there already is not done again. None: a temporary one.
            fresh: Forget earlier results in `out`.
            progress: Show a progress bar on standard error.
            metrics: `HOST:PORT` (or a port of the loopback) to serve Prometheus metrics on while the run lasts.
            convert: How the product words a row in the sinks.
            together: Start no work before every worker is ready (for measuring).
            trace: A file for what every worker was at, for Perfetto, Chrome and `vpipe trace`.

        Raises:
            SourceError: The sources name nothing.
            ResourceError: `out` cannot be written or is in use, or memory is short.
            VpipeError: As `plan` raises.
        """
        _refuse_nested()
        named = [sources] if isinstance(sources, (str, os.PathLike)) else sources
        inputs = resolve_sources(named)
        return Run(self.plan(), inputs, out, RunOptions(fresh, progress, metrics, convert or dict, together, trace))

    def live(
        self,
        sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
        *,
        outlet: int | None = None,
        metrics: str | None = None,
        stay: bool = False,
        trace: str | os.PathLike[str] | None = None,
    ) -> LiveRun:
        """Start a live run; iterate over it for events. Nothing is kept: the task's messages go to `outlet`.

        Args:
            sources: URLs (rtmp, rtsp, srt, udp, http with HLS), cameras (`/dev/video0`), and files, which are played at
                their own pace. More may come and go while it runs.
            outlet: Descriptor of one end of a `SOCK_SEQPACKET` pair. Each packet is the stream's number (u32, little
                endian) and a message of the task; what the other end does not take in time is dropped and counted.
            metrics: `HOST:PORT` (or a port of the loopback) to serve Prometheus metrics on while the run lasts.
            stay: Go on when no stream is left.
            trace: A file for what every worker was at; it is complete when the run has ended.

        Raises:
            SourceError: A source is of no kind that can be taken.
            ResourceError: There are more than `live.max_streams`, or memory is short.
            VpipeError: As `plan` raises.
        """
        _refuse_nested()
        named = [sources] if isinstance(sources, (str, os.PathLike)) else sources
        plan = resolve(self.config, self.base, live=True)
        urls = [os.fspath(each) for each in named]
        return LiveRun(plan, urls, outlet=outlet, metrics=metrics, stay=stay, trace=trace)


def _refuse_nested() -> None:
    if loading:
        # Otherwise every worker that imports the task would start a run, whose workers would import it in turn.
        raise ConfigError(
            f"task {loading[-1]}: importing its module starts a run; put the task into a module of its own, "
            "or the run behind `if __name__ == '__main__':`"
        )


def pipeline_path(name: str | os.PathLike[str]) -> Path:
    """Return the pipeline file of a path that ends in `.toml`, or of a plugin's name.

    Raises:
        UsageError: No plugin has that name.
    """
    text = os.fspath(name)
    return Path(text) if text.endswith(".toml") else find_pipeline(text)


def pipeline_values(name: str | os.PathLike[str], overrides: dict[str, Any]) -> tuple[dict[str, Any], Path]:
    """Return a pipeline's values, not checked yet, with overrides in place, and the directory of its file.

    Raises:
        ConfigError: The file cannot be read, or an override has no place in it.
        UsageError: No plugin has that name.
    """
    path = pipeline_path(name)
    values = load_toml(path)
    for dotted, value in overrides.items():
        _override(values, dotted, value)
    return values, path.parent


def _override(values: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    at: Any = values
    try:
        for part in parents:
            at = at[int(part)] if isinstance(at, list) else at.setdefault(part, {})
        at[int(last) if isinstance(at, list) else last] = value
    except (IndexError, ValueError, AttributeError, TypeError):
        raise ConfigError(f"override {dotted}: the pipeline has no such place") from None


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


class Run:
    """A run under way: an iterator of rows, and a context manager that ends it.

    The workers are bound to this object's thread. Leaving the `with`, or dropping the iterator, ends them.
    """

    def __init__(
        self,
        plan: Plan,
        inputs: list[tuple[str, int]],
        out: str | os.PathLike[str] | None,
        options: RunOptions,
    ) -> None:
        self.plan = plan
        self.inputs = inputs
        self._names = file_names([path for path, _ in inputs])
        self._positions = {path: position for position, (path, _) in enumerate(inputs)}
        self._rows: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        self._convert = options.convert
        self._ended: dict[str, Row] = {}
        self._entered = False
        self._error: BaseException | None = None
        self._old_handlers: dict[signal.Signals, Any] = {}
        self.started = time.time()
        self._began = time.monotonic()
        self.seconds: float | None = None
        """Wall time of the run, once it has ended."""
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
            tracer = None
            if options.trace is not None:
                tracer = Tracer(options.trace, plan.facts())
                stack.callback(tracer.close)
            self.supervisor = Supervisor(
                plan,
                inputs,
                ledger,
                str(self.out),
                emit=self._rows.put,
                progress=options.progress,
                together=options.together,
                tracer=tracer,
            )
            stack.callback(self.supervisor.close)
            if tracer is not None:
                tracer.start()
            if options.metrics is not None:
                stack.callback(self._serve_metrics(options.metrics).close)
            self._things = stack.pop_all()
        self._thread = threading.Thread(target=self._work, name="vpipe-supervisor", daemon=True)
        self._thread.start()

    def _serve_metrics(self, address: str) -> MetricsServer:
        from vpipe.metrics_http import parse_address, serve

        return serve(*parse_address(address), self.supervisor.stage_snapshots)

    def _work(self) -> None:
        try:
            self.supervisor.run()
        except BaseException as error:
            self._error = error
        finally:
            self.seconds = time.monotonic() - self._began
            self._rows.put(None)

    def __iter__(self) -> Iterator[Row]:
        """Yield rows as files end.

        Raises:
            Interrupted: The run was stopped.
            RunError: The run itself failed.
        """
        try:
            while (row := self._rows.get()) is not None:
                self._write_own(row)
                self._ended[row["path"]] = row
                yield row
            self._rows.put(None)
            self._thread.join()
            if self._error is not None:
                raise self._error
            self._write_sinks()
        finally:
            # In a `with` the run can still be asked for columns and its summary; without one, this is its end.
            if self._entered:
                self.stop(now=True)
            else:
                self.close()

    def rows(self) -> list[Row]:
        """Return the rows that were yielded so far, in the order of the inputs."""
        return [self._ended[path] for path, _ in self.inputs if path in self._ended]

    def columns(self, row: Row, branch: str | None = None) -> Columns | None:
        """Return the per-frame columns behind a row; None where its file failed.

        Args:
            row: One that this run yielded.
            branch: Whose; the first branch when not given.
        """
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

    def stop(self, *, now: bool = False) -> None:
        """Ask the run to end: work in flight is finished first, or, with `now`, is not."""
        if self._thread.is_alive():
            for _ in range(2 if now else 1):
                self.supervisor.stop()

    def handle_signals(self) -> None:
        """Let SIGINT and SIGTERM stop this run: the first drains, the second ends it (main thread only)."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._old_handlers[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.supervisor.stop()

    def counters(self) -> dict[str, Snapshot]:
        """Return every worker's counters, by name."""
        return self.supervisor.snapshots()

    def close(self) -> None:
        """End the run if it is under way, and let go of the output directory."""
        self.stop(now=True)
        self._thread.join()
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        self._old_handlers.clear()
        self._things.close()

    def __enter__(self) -> Run:
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
