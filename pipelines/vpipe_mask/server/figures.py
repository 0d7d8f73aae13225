"""Figures of the feeds as Prometheus text.

vpipe_mask_stream_state{stream,state}     1 for the state it is in
vpipe_mask_masks_total{stream}            messages taken in
vpipe_mask_bytes_total{stream}            their bytes
vpipe_mask_orphans_total{stream}          deltas whose key never came
vpipe_mask_lag_seconds{stream,quantile}   from the packet's arrival to the message's, over the last seconds
vpipe_mask_rate{stream}                   masks a second
vpipe_mask_silent_seconds{stream}         since the newest mask
vpipe_mask_engine{stream,figure}          what the engine tells of the stream
vpipe_mask_clients                        WebSocket clients
vpipe_mask_damaged_total                  packets that were no message
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from vpipe_mask.server.hub import Hub

__all__ = ["CONTENT_TYPE", "exposition"]

STATES = ("connecting", "live", "down", "ended")


def exposition(hub: Hub, *, clients: int) -> bytes:
    """Return all figures at this moment."""
    registry = CollectorRegistry()
    registry.register(_Collector(hub, clients))
    return generate_latest(registry)


class _Collector:
    def __init__(self, hub: Hub, clients: int) -> None:
        self._hub = hub
        self._clients = clients

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        state = GaugeMetricFamily("vpipe_mask_stream_state", "1 for the present state.", labels=("stream", "state"))
        masks = CounterMetricFamily("vpipe_mask_masks", "Messages taken in.", labels=("stream",))
        size = CounterMetricFamily("vpipe_mask_bytes", "Their bytes.", labels=("stream",))
        orphans = CounterMetricFamily("vpipe_mask_orphans", "Deltas whose key never came.", labels=("stream",))
        lag = GaugeMetricFamily("vpipe_mask_lag_seconds", "Arrival to message.", labels=("stream", "quantile"))
        rate = GaugeMetricFamily("vpipe_mask_rate", "Masks a second.", labels=("stream",))
        silent = GaugeMetricFamily("vpipe_mask_silent_seconds", "Since the newest mask.", labels=("stream",))
        engine = GaugeMetricFamily("vpipe_mask_engine", "Told by the engine.", labels=("stream", "figure"))
        for name, stream in self._hub.streams.items():
            now = stream.feed.figures()
            for each in STATES:
                state.add_metric((name, each), each == stream.state)
            masks.add_metric((name,), now["masks"])
            size.add_metric((name,), now["bytes"])
            orphans.add_metric((name,), stream.feed.orphans)
            rate.add_metric((name,), now["masks_per_s"])
            for quantile, value in (("0.5", now["lag_ms_p50"]), ("0.99", now["lag_ms_p99"])):
                if value is not None:
                    lag.add_metric((name, quantile), value / 1000)
            if now["silent_s"] is not None:
                silent.add_metric((name,), now["silent_s"])
            for figure, value in stream.engine.items():
                engine.add_metric((name, figure), value)
        yield from (state, masks, size, orphans, lag, rate, silent, engine)
        yield GaugeMetricFamily("vpipe_mask_clients", "WebSocket clients.", value=self._clients)
        yield CounterMetricFamily("vpipe_mask_damaged", "Packets that were no message.", value=self._hub.damaged)
