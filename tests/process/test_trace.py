"""A traced run, as it is: real workers, and what they noted against what they counted."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.browser import Browser, require_browser
from tests.engine import ROOT, environment, short_clip, started, until, workers_of, write_pipeline
from tests.engine import command as run_command
from tests.live import PIPELINE as LIVE
from tests.live import Outlet
from vpipe import Pipeline
from vpipe.metrics import Snapshot
from vpipe.trace.timeline import Timeline, load


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Timeline, dict[str, Snapshot], Path]:
    folder = tmp_path_factory.mktemp("traced")
    path = folder / "trace.json"
    pipeline = Pipeline.load(write_pipeline(folder / "small.toml"))
    clips = [str(short_clip("a", 4.0)), str(short_clip("b", 4.0, tone=1))]
    with pipeline.run(clips, folder / "out", trace=path) as run:
        assert [row["status"] for row in run] == ["done", "done"]
    return load(path), run.counters(), path


def test_every_worker_has_a_lane(traced: tuple[Timeline, dict[str, Snapshot], Path]) -> None:
    timeline, counters, _ = traced
    assert [worker.name for worker in timeline.workers] == ["supervisor", *counters]
    assert timeline.facts["lost_records"] == 0
    assert timeline.facts["pipeline"] == "small"


def test_slices_do_not_overlap_within_a_track_and_lie_within_the_run(
    traced: tuple[Timeline, dict[str, Snapshot], Path],
) -> None:
    timeline, _, path = traced
    events = json.loads(path.read_text())["traceEvents"]
    tracks: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for event in events:
        if event["ph"] == "X":
            tracks.setdefault((event["pid"], event["tid"]), []).append((event["ts"], event["ts"] + event["dur"]))
    assert len(tracks) >= 5
    last = timeline.end_s * 1e6
    for slices in tracks.values():
        assert all(0 <= start <= end <= last + 1 for start, end in slices)
        for (_, end), (start, _) in itertools.pairwise(sorted(slices)):
            assert start >= end - 0.002  # three decimals


def test_sums_agree_with_the_counters(traced: tuple[Timeline, dict[str, Snapshot], Path]) -> None:
    timeline, counters, _ = traced
    for worker in timeline.workers[1:]:
        counted = counters[worker.name]
        lengths = worker.own.ends - worker.own.starts
        waits = np.array([label.startswith("wait") for label in worker.own.labels])
        began = np.array([label == "start" for label in worker.own.labels])
        assert lengths[waits].sum() == pytest.approx(counted.wait_ns * 1e-9, rel=0.03)
        # The trace also has what a worker did before it could count, while it got ready.
        assert lengths[~waits & ~began].sum() >= counted.work_ns * 1e-9 * 0.97
        beside = sum(float((lane.ends - lane.starts).sum()) for lane in worker.batches)
        if worker.batches:
            assert beside == pytest.approx(counted.observed_ns * 1e-9, rel=0.03)


def test_every_unit_of_work_is_a_slice(traced: tuple[Timeline, dict[str, Snapshot], Path]) -> None:
    timeline, counters, _ = traced
    lanes = {worker.name: worker for worker in timeline.workers}
    for name, lane in lanes.items():
        if name.startswith("decode"):
            for label in ("decode", "view"):  # a frame a slice, or a turn of frames that take little time each
                told = [more for each, more in zip(lane.own.labels, lane.own.arguments, strict=True) if each == label]
                assert sum(more.get("frames", 1) for more in told) == counters[name].frames
    frames = [told["frames"] for told in lanes["preprocess.view"].own.arguments if "frames" in told]
    assert (len(frames), sum(frames)) == (counters["preprocess.view"].items, counters["preprocess.view"].frames)
    batches = [told["frames"] for batch in lanes["infer.view"].batches for told in batch.arguments]
    assert (len(batches), sum(batches)) == (counters["infer.view"].items, counters["infer.view"].frames)
    assert lanes["postprocess"].own.labels.count("task") == counters["postprocess"].items
    committed = {(t["stream"], t["segment"]) for t in lanes["postprocess"].own.arguments if "segment" in t}
    assert len(committed) == lanes["postprocess"].own.labels.count("commit") > 1


def test_worker_that_was_killed_and_its_successor_share_a_lane(tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    pipeline = write_pipeline(tmp_path / "small.toml")
    clip = short_clip("long", 60.0)
    with started(run_command(pipeline, [clip], tmp_path / "out", "--trace", str(trace))) as process:
        until(lambda: len(workers_of(process.pid)) == 5, "all workers")
        first = workers_of(process.pid)["infer.view"]
        first.kill()
        assert process.wait(120) == 0
    numbers = {
        event["pid"]
        for event in json.loads(trace.read_text())["traceEvents"]
        if event["name"] == "process_name" and event["args"]["name"] == "infer.view"
    }
    assert len(numbers) <= 2  # one where it died before its first word
    timeline = load(trace)
    (lane,) = (worker for worker in timeline.workers if worker.name == "infer.view")
    assert (lane.own.ends[:-1] <= lane.own.starts[1:] + 2e-9).all()


def test_page_of_a_trace_opens_in_a_browser_and_asks_for_nothing(
    traced: tuple[Timeline, dict[str, Snapshot], Path], tmp_path: Path
) -> None:
    require_browser()
    _, _, path = traced
    page = tmp_path / "timeline.html"
    line = ["-m", "vpipe", "trace", str(path), "-o", str(page)]

    subprocess.run([sys.executable, *line], check=True, env=environment(), cwd=ROOT)
    with Browser() as browser:
        browser.open(page)
        names = browser.evaluate("[...document.querySelectorAll('text')].map(e => e.textContent)")
        assert {"decode[0]", "decode[1]", "preprocess.view", "infer.view", "postprocess"} <= set(names)
        assert browser.evaluate("document.querySelectorAll('rect title').length") > 10
        _, _, width, height = browser.box("svg")
        assert width > 1000
        assert height > 300
        assert [url for url in browser.requests if not url.startswith(("file:", "about:"))] == []
        assert browser.complaints == []


def test_live_run_is_traced_from_decoding_to_the_message(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    pipeline = tmp_path / "live.toml"
    pipeline.write_text(LIVE)
    with Outlet() as outlet:
        with Pipeline.load(pipeline).live(str(short_clip("a", 2.0)), outlet=outlet.fd, trace=path) as run:
            assert [event["event"] for event in run][-1] == "ended"
        lanes = {worker.name: worker for worker in load(path).workers}
        (decode,) = (worker for name, worker in lanes.items() if name.startswith("decode"))
        frames = sum(told["frames"] for told in lanes["publish"].own.arguments if "frames" in told)
        # A busy machine drops frames of a live stream: each that went all the way is in the trace.
        assert 0 < frames <= decode.own.labels.count("view") <= 50
        until(lambda: len(outlet.messages) == frames, "all messages")
