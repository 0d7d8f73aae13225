import itertools
import mmap
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from vpipe.errors import ResourceError, UsageError, VpipeError
from vpipe.memory import create_memory
from vpipe.metrics import BUCKETS, PAGE_BYTES, Counters, Drop, Snapshot, State, edges_ns, read
from vpipe.metrics_http import MetricsServer, StageSnapshot, parse_address, serve


@pytest.fixture
def page() -> Iterator[mmap.mmap]:
    with mmap.mmap(-1, PAGE_BYTES) as memory:
        yield memory


@pytest.fixture
def counters(page: mmap.mmap) -> Iterator[Counters]:
    counters = Counters(page)
    yield counters
    counters.close()


def test_untouched_page_reads_as_starting_and_zeros(page: mmap.mmap) -> None:
    snapshot = read(page)
    assert snapshot.state is State.STARTING
    assert (snapshot.beat_ns, snapshot.frames, snapshot.observed, snapshot.quantile(0.5)) == (0, 0, 0, 0.0)
    assert snapshot.dropped == {"late": 0, "skipped": 0, "outlet": 0, "lost": 0, "repeat": 0}


def test_what_is_counted_is_read(page: mmap.mmap, counters: Counters) -> None:
    counters.beat(State.WORKING)
    counters.add("frames", 3)
    counters.add("frames")
    counters.add("items", 2)
    counters.add("corrupt")
    counters.drop(Drop.SKIPPED, 5)
    counters.observe(3_000_000)
    snapshot = read(page)
    assert (snapshot.frames, snapshot.items, snapshot.corrupt, snapshot.state) == (4, 2, 1, State.WORKING)
    assert snapshot.dropped["skipped"] == 5
    assert snapshot.observed == 1
    assert snapshot.observed_ns == 3_000_000
    assert snapshot.beat_ns > 0
    assert snapshot.cpu_ns > 0


def test_beat_without_a_state_keeps_the_state(page: mmap.mmap, counters: Counters) -> None:
    counters.beat(State.IDLE)
    before = read(page)
    counters.beat()
    after = read(page)
    assert after.state is State.IDLE
    assert after.beat_ns > before.beat_ns


def test_what_a_part_takes_is_not_vpipes_own(page: mmap.mmap, counters: Counters) -> None:
    burn_s(0.03)
    with counters.part:
        before = read(page)
        burn_s(0.05)
        counters.beat(State.STOPPED)
        during = read(page)
    burn_s(0.02)
    counters.beat(State.STOPPED)
    after = read(page)
    assert before.own_ns >= 30e6
    assert during.own_ns == before.own_ns
    assert during.cpu_ns >= during.own_ns + 50e6
    assert 20e6 <= after.own_ns - during.own_ns < 50e6


def burn_s(seconds: float) -> None:
    """Compute for so long of this thread's CPU time."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_cpu_time_is_brought_up_to_date_when_the_worker_stops(page: mmap.mmap, counters: Counters) -> None:
    counters.beat()
    before = read(page).cpu_ns
    sum(range(100_000))
    counters.beat(State.STOPPED)
    assert read(page).cpu_ns > before


def test_worker_started_again_goes_on_counting() -> None:
    code = (
        "import mmap, sys; from vpipe.metrics import *; c = Counters(mmap.mmap(int(sys.argv[1]), 0));"
        "c.add('frames', 7); c.beat(State.STOPPED)"
    )
    fd = create_memory("test", PAGE_BYTES)
    seen = []
    with mmap.mmap(fd, PAGE_BYTES) as shared:
        for _ in range(2):
            subprocess.run([sys.executable, "-c", code, str(fd)], check=True, pass_fds=[fd])
            seen.append(read(shared))
    os.close(fd)
    assert [snapshot.frames for snapshot in seen] == [7, 14]
    assert seen[1].cpu_ns > seen[0].cpu_ns > 0
    assert seen[1].state is State.STOPPED


def test_page_that_is_too_small_is_refused() -> None:
    with pytest.raises(VpipeError, match=f"a page of 100 bytes is too small; {PAGE_BYTES} are needed"):
        Counters(bytearray(100))


def test_difference_is_what_happened_between(page: mmap.mmap, counters: Counters) -> None:
    counters.add("frames", 5)
    counters.observe(2000)
    before = read(page)
    counters.add("frames", 2)
    counters.observe(8_000_000_000)
    counters.drop(Drop.LOST)
    counters.beat(State.IDLE)
    between = read(page) - before
    assert (between.frames, between.observed, between.dropped["lost"], between.state) == (2, 1, 1, State.IDLE)
    assert between.quantile(0.5) == pytest.approx(8, rel=0.07)


def test_sum_has_the_beat_of_the_worker_heard_of_longer_ago(page: mmap.mmap, counters: Counters) -> None:
    counters.beat(State.IDLE)
    counters.add("frames", 5)
    first = read(page)
    counters.beat(State.WORKING)
    second = read(page)
    for total in (first + second, second + first):
        assert (total.frames, total.beat_ns, total.state) == (10, first.beat_ns, State.IDLE)


@given(st.integers(0, 1 << 41))
def test_every_time_lies_between_the_edges_of_its_bucket(ns: int) -> None:
    counters = Counters(memory := bytearray(PAGE_BYTES))
    counters.observe(ns)
    (bucket,) = (i for i, count in enumerate(read(memory).histogram) if count)
    low, high = edges_ns(bucket)
    assert low <= ns
    assert ns < high or bucket == BUCKETS - 1


def test_buckets_leave_no_gap() -> None:
    edges = [edges_ns(bucket) for bucket in range(BUCKETS)]
    assert edges[0][0] == 0
    assert all(left[1] == right[0] for left, right in itertools.pairwise(edges))


@given(st.lists(st.integers(1_000, 10**12), min_size=1, max_size=60), st.sampled_from([0.0, 0.5, 0.95, 0.99, 1.0]))
def test_quantile_is_right_to_within_a_bucket(times: list[int], q: float) -> None:
    counters = Counters(memory := bytearray(PAGE_BYTES))
    for ns in times:
        counters.observe(ns)
    rank = max(0, -(-int(q * len(times) * 1000) // 1000) - 1)
    exact = sorted(times)[rank] * 1e-9
    assert read(memory).quantile(q) == pytest.approx(exact, rel=0.13, abs=1.1e-6)


# ---- over HTTP


def snapshot_of(frames: int) -> Snapshot:
    counters = Counters(memory := bytearray(PAGE_BYTES))
    counters.beat(State.WORKING)
    counters.add("frames", frames)
    counters.drop(Drop.LATE, 2)
    counters.observe(5_000_000)
    return read(memory)


@pytest.fixture
def workers() -> list[StageSnapshot]:
    return [
        StageSnapshot("decode", "0", snapshot_of(10), restarts=1),
        StageSnapshot("infer", "score", snapshot_of(8), rings={"tensors.score": 0.25}),
    ]


@pytest.fixture
def server(workers: list[StageSnapshot]) -> Iterator[MetricsServer]:
    server = serve("127.0.0.1", 0, lambda: workers)
    yield server
    server.close()


def scrape(server: MetricsServer) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    host, port = server.address
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_scrape_shows_every_workers_counters(server: MetricsServer) -> None:
    found = scrape(server)

    def value(name: str, **labels: str) -> float:
        return found[name, frozenset(labels.items())]

    decode, infer = {"stage": "decode", "worker": "0"}, {"stage": "infer", "worker": "score"}
    assert value("vpipe_frames_total", **decode) == 10
    assert value("vpipe_frames_total", **infer) == 8
    assert value("vpipe_restarts_total", **decode) == 1
    assert value("vpipe_dropped_total", **decode, reason="late") == 2
    assert value("vpipe_unit_seconds", **infer, quantile="0.99") == pytest.approx(0.005, rel=0.07)
    assert value("vpipe_unit_seconds_sum", **infer) == pytest.approx(0.005)
    assert value("vpipe_unit_seconds_count", **infer) == 1
    assert value("vpipe_worker_state", **infer, state="working") == 1
    assert value("vpipe_worker_state", **infer, state="idle") == 0
    assert value("vpipe_silent_seconds", **infer) >= 0
    assert value("vpipe_ring_fill", ring="tensors.score") == 0.25
    for name in ("items", "corrupt_frames", "work_seconds", "wait_seconds", "cpu_seconds"):
        assert value(f"vpipe_{name}_total", **decode) >= 0


def test_scrape_is_of_this_moment(server: MetricsServer, workers: list[StageSnapshot]) -> None:
    key = ("vpipe_frames_total", frozenset({("stage", "decode"), ("worker", "0")}))
    assert scrape(server)[key] == 10
    workers[0] = StageSnapshot("decode", "0", snapshot_of(99))
    assert scrape(server)[key] == 99


def test_serving_collects_nothing_until_it_is_scraped() -> None:
    def never() -> list[StageSnapshot]:
        raise AssertionError("collected")

    serve("127.0.0.1", 0, never).close()


def test_port_that_is_taken_is_a_resource_error_with_a_remedy(server: MetricsServer) -> None:
    host, port = server.address
    with pytest.raises(ResourceError, match=rf"--metrics: cannot listen on {host}:{port}: .*choose another port"):
        serve(host, port, list)


def test_address_that_is_not_ours_is_a_resource_error() -> None:
    with pytest.raises(ResourceError, match=r"cannot listen on 192\.0\.2\.1:0: "):
        serve("192.0.2.1", 0, list)


def test_port_is_free_after_closing() -> None:
    server = serve("127.0.0.1", 0, list)
    server.close()
    with socket.socket() as probe:
        assert probe.connect_ex(server.address) != 0
    serve(*server.address, list).close()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9400", ("127.0.0.1", 9400)),
        (":9400", ("127.0.0.1", 9400)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:9400", ("::1", 9400)),
    ],
)
def test_address_is_host_and_port_and_the_loopback_by_default(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "host", "host:", "host:port", "1:70000", "-1", "1.5", "1:²"])
def test_bad_address_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="is not HOST:PORT"):
        parse_address(text)
