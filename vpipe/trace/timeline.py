"""A trace file, read: one lane a worker, with its spans and the cores it took."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpipe.errors import UsageError

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class Lane:
    """One thread of the trace; spans in order of time, seconds since the trace began."""

    name: str
    starts: Floats
    ends: Floats
    labels: tuple[str, ...]
    """What each span was for."""
    arguments: tuple[dict[str, Any], ...]

    def share(self, label: str, edges: Floats) -> Floats:
        """Return which share of each cell between two `edges` went into spans of one label, 0 to 1."""
        mine = np.array([each == label for each in self.labels], bool)
        if not mine.any():
            return np.zeros(len(edges) - 1)
        starts, ends = self.starts[mine], self.ends[mine]
        # The time spent up to t grows along each span and stays level between them.
        knots = np.stack([starts, ends], 1).ravel()
        spent = np.cumsum(np.stack([np.zeros(len(starts)), ends - starts], 1).ravel())
        shares: Floats = np.diff(np.interp(edges, knots, spent)) / np.diff(edges)
        return np.clip(shares, 0.0, 1.0)


@dataclasses.dataclass(frozen=True, slots=True)
class Counter:
    """A value over time: `values[i]` holds from `times[i]` on."""

    times: Floats
    values: Floats

    def mean(self, edges: Floats) -> Floats:
        """Return the mean value in each cell between two `edges`."""
        if len(self.times) == 0:
            return np.zeros(len(edges) - 1)
        total = np.concatenate([[0.0], np.cumsum(self.values[:-1] * np.diff(self.times))])
        # Beyond the ends the value is taken as 0: nothing was there yet, or any more.
        means: Floats = np.diff(np.interp(edges, self.times, total)) / np.diff(edges)
        return means


@dataclasses.dataclass(frozen=True, slots=True)
class Worker:
    """A worker, with all processes that were it, one after the other."""

    name: str
    own: Lane
    """Its own doing; spans never overlap."""
    batches: tuple[Lane, ...]
    """What went on beside it; spans of one lane never overlap."""
    cores: Counter


@dataclasses.dataclass(frozen=True, slots=True)
class Timeline:
    """A whole trace."""

    workers: tuple[Worker, ...]
    """From top to bottom, the supervisor's process first."""
    rings: dict[str, Counter]
    """Slots in use, by ring."""
    facts: dict[str, Any]
    """`otherData` of the file."""

    @property
    def end_s(self) -> float:
        """Return when the last span ended."""
        lanes = [lane for worker in self.workers for lane in (worker.own, *worker.batches)]
        return max((float(lane.ends.max()) for lane in lanes if len(lane.ends)), default=0.0)

    @property
    def ready_s(self) -> float:
        """Return when the last worker was ready for the first time."""
        firsts = [next((i for i, label in enumerate(w.own.labels) if label == "setup"), -1) for w in self.workers]
        return max((float(w.own.ends[i]) for w, i in zip(self.workers, firsts, strict=True) if i >= 0), default=0.0)


def load(path: Path) -> Timeline:
    """Read a trace that `--trace` wrote.

    Raises:
        UsageError: The file cannot be read, or is no such trace.
    """
    try:
        values = json.loads(path.read_bytes())
        return _timeline(values["traceEvents"], values["otherData"])
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path}: is not a trace of vpipe ({type(error).__name__}: {error}); --trace FILE writes one"
        ) from None


def _timeline(events: list[dict[str, Any]], facts: dict[str, Any]) -> Timeline:
    names: dict[int, str] = {}
    ranks: dict[str, int] = {}
    threads: dict[tuple[str, int], str] = {}
    spans: dict[tuple[str, int], list[dict[str, Any]]] = {}
    cores: dict[str, list[tuple[float, float]]] = {}
    rings: dict[str, list[tuple[float, float]]] = {}
    for event in events:
        if event["ph"] == "M" and event["name"] == "process_name":
            names[event["pid"]] = event["args"]["name"]
    for event in events:
        worker = names[event["pid"]]
        match event["ph"], event["name"]:
            case "M", "process_sort_index":
                ranks[worker] = event["args"]["sort_index"]
            case "M", "thread_name":
                threads[worker, event["tid"]] = event["args"]["name"]
            case "X", _:
                spans.setdefault((worker, event["tid"]), []).append(event)
            case "C", "cores":
                cores.setdefault(worker, []).append((event["ts"], event["args"]["cores"]))
            case "C", name:
                rings.setdefault(name.removeprefix("ring "), []).append((event["ts"], event["args"]["slots"]))
    workers = [
        Worker(
            name,
            _lane(name, spans.get((name, 0), [])),
            tuple(_lane(threads[key], spans[key]) for key in sorted(spans) if key[0] == name and key[1] > 0),
            _counter(cores.get(name, [])),
        )
        for name in sorted(ranks, key=lambda each: ranks[each])
    ]
    return Timeline(tuple(workers), {name: _counter(rings[name]) for name in sorted(rings)}, facts)


def _lane(name: str, events: list[dict[str, Any]]) -> Lane:
    events = sorted(events, key=lambda event: float(event["ts"]))
    starts = np.array([event["ts"] for event in events], np.float64) * 1e-6
    lengths = np.array([event["dur"] for event in events], np.float64) * 1e-6
    return Lane(
        name,
        starts,
        starts + lengths,
        tuple(event["name"] for event in events),
        tuple(event["args"] for event in events),
    )


def _counter(values: list[tuple[float, float]]) -> Counter:
    ordered = sorted(values)
    return Counter(np.array([at for at, _ in ordered]) * 1e-6, np.array([value for _, value in ordered], np.float64))
