"""Counters as Prometheus text over HTTP.

Whoever scrapes reads the workers' pages at that moment; no worker is asked, and nothing is kept between scrapes.

    vpipe_frames_total{stage,worker}            handled
    vpipe_items_total{stage,worker}             units of work: batches, segments
    vpipe_corrupt_frames_total{stage,worker}    found damaged by the decoder
    vpipe_carried_frames_total{stage,worker}    that the model was not run on
    vpipe_dropped_total{stage,worker,reason}    frames not used
    vpipe_work_seconds_total{stage,worker}      at work
    vpipe_wait_seconds_total{stage,worker}      waiting for a peer or for work
    vpipe_cpu_seconds_total{stage,worker}       CPU time
    vpipe_own_cpu_seconds_total{stage,worker}   of it, vpipe's own code: all but decoder and views, model and task
    vpipe_unit_seconds{stage,worker,quantile}   time of one unit of work: p50, p95, p99, with _sum and _count;
                                                of postprocess and publish: the age of a batch when it is done
    vpipe_restarts_total{stage,worker}          starts after the first
    vpipe_worker_state{stage,worker,state}      1 for the state it is in
    vpipe_silent_seconds{stage,worker}          since its last sign of life
    vpipe_ring_fill{ring}                       share of the slots in use, 0 to 1
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from vpipe.errors import ResourceError, UsageError
from vpipe.metrics import Snapshot, State

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

LOOPBACK = "127.0.0.1"
QUANTILES = (0.5, 0.95, 0.99)


@dataclasses.dataclass(frozen=True, slots=True)
class StageSnapshot:
    """One worker at one moment."""

    stage: str
    worker: str
    """Unique within its stage."""
    counters: Snapshot
    restarts: int = 0
    rings: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Share of the slots in use, of each ring that this worker reads."""


Collect = Callable[[], Iterable[StageSnapshot]]


def parse_address(text: str) -> tuple[str, int]:
    """Read `HOST:PORT`, or a port alone, which is served on the loopback.

    Raises:
        UsageError: It is neither.
    """
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise UsageError(f"--metrics: '{text}' is not HOST:PORT; for example 9400 or 127.0.0.1:9400")
    return host.strip("[]") or LOOPBACK, int(port)


class MetricsServer:
    """Serves until it is closed, in threads of its own.

    Args:
        host: Address to listen on; anything but the loopback shows the figures to the network.
        port: 0 for any that is free.
        collect: Called at every scrape, in another thread.

    Raises:
        ResourceError: The address or the port is not to be had.
    """

    def __init__(self, host: str, port: int, collect: Collect) -> None:
        # Not at the top: most runs serve no metrics.
        from prometheus_client import CollectorRegistry, start_http_server

        registry = CollectorRegistry()
        registry.register(_Collector(collect))
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise ResourceError(
                f"--metrics: cannot listen on {host}:{port}: {error.strerror}; choose another port, or end what uses it"
            ) from None
        self.address = (host, self._server.server_port)
        """Host and port in use."""

    def close(self) -> None:
        """Stop serving and give the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve(host: str, port: int, collect: Collect) -> MetricsServer:
    """Serve what `collect` returns; see `MetricsServer`."""
    return MetricsServer(host, port, collect)


class _Collector:
    """Turns snapshots into metric families at every scrape."""

    def __init__(self, collect: Collect) -> None:
        self._collect = collect

    def describe(self) -> Iterable[Metric]:
        """Promise nothing, so that registering does not collect."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        workers = list(self._collect())
        yield from _totals(workers)
        yield from _states(workers)


def _totals(workers: list[StageSnapshot]) -> Iterator[Metric]:
    from prometheus_client.metrics_core import CounterMetricFamily, Metric

    names = ("stage", "worker")
    totals: tuple[tuple[str, str, Callable[[StageSnapshot], float]], ...] = (
        ("frames", "Frames handled.", lambda w: w.counters.frames),
        ("items", "Units of work done.", lambda w: w.counters.items),
        ("corrupt_frames", "Frames that the decoder found damaged.", lambda w: w.counters.corrupt),
        ("carried_frames", "Frames that the model was not run on.", lambda w: w.counters.carried),
        ("work_seconds", "Time at work.", lambda w: w.counters.work_ns * 1e-9),
        ("wait_seconds", "Time waiting for a peer or for work.", lambda w: w.counters.wait_ns * 1e-9),
        ("cpu_seconds", "CPU time.", lambda w: w.counters.cpu_ns * 1e-9),
        ("own_cpu_seconds", "CPU time of vpipe's own code.", lambda w: w.counters.own_ns * 1e-9),
        ("restarts", "Starts after the first.", lambda w: w.restarts),
    )
    for name, text, value in totals:
        family = CounterMetricFamily(f"vpipe_{name}", text, labels=names)
        for worker in workers:
            family.add_metric((worker.stage, worker.worker), value(worker))
        yield family
    dropped = CounterMetricFamily("vpipe_dropped", "Frames not used.", labels=(*names, "reason"))
    for worker in workers:
        for reason, count in worker.counters.dropped.items():
            dropped.add_metric((worker.stage, worker.worker, reason), count)
    yield dropped
    units = Metric("vpipe_unit_seconds", "Time of one unit of work.", "summary")
    for worker in workers:
        labels = {"stage": worker.stage, "worker": worker.worker}
        for q in QUANTILES:
            units.add_sample("vpipe_unit_seconds", {**labels, "quantile": str(q)}, worker.counters.quantile(q))
        units.add_sample("vpipe_unit_seconds_sum", labels, worker.counters.observed_ns * 1e-9)
        units.add_sample("vpipe_unit_seconds_count", labels, worker.counters.observed)
    yield units


def _states(workers: list[StageSnapshot]) -> Iterator[Metric]:
    from prometheus_client.metrics_core import GaugeMetricFamily

    now = time.monotonic_ns()
    state = GaugeMetricFamily("vpipe_worker_state", "1 for the present state.", labels=("stage", "worker", "state"))
    silent = GaugeMetricFamily("vpipe_silent_seconds", "Since the last sign of life.", labels=("stage", "worker"))
    fill = GaugeMetricFamily("vpipe_ring_fill", "Share of the slots in use.", labels=("ring",))
    for worker in workers:
        for each in State:
            state.add_metric((worker.stage, worker.worker, each.name.lower()), each is worker.counters.state)
        if worker.counters.beat_ns:
            silent.add_metric((worker.stage, worker.worker), (now - worker.counters.beat_ns) * 1e-9)
        for ring, share in worker.rings.items():
            fill.add_metric((ring,), share)
    yield from (state, silent, fill)
