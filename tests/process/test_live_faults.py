"""Live runs when things break: servers, streams and workers; the feed goes on, and nobody else notices."""

from __future__ import annotations

import os
import random
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.engine import gone, until
from tests.faults import saboteurs
from tests.live import (
    PIPELINE,
    Message,
    Outlet,
    Sender,
    Watch,
    free_port,
    live_clip,
    pipeline,
    rtmp,
    serving,
    srt,
    steady,
    ts_clip,
)
from vpipe import LiveRun, Pipeline

SECONDS = 20.0
"""Of the clips that are sent."""


WRAP_S = 2**33 / 90000
"""Seconds after which the times of MPEG-TS begin anew."""


@contextmanager
def awaited(tmp_path: Path, **live: Any) -> Iterator[tuple[LiveRun, Watch, Outlet, Sender]]:
    """A run on one stream over UDP, of which nothing has come yet."""
    with (
        Outlet() as outlet,
        Sender(free_port(socket.SOCK_DGRAM)) as sender,
        Pipeline.load(pipeline(tmp_path, **live)).live(sender.url, outlet=outlet.fd) as run,
    ):
        watch = Watch(run)
        watch.wait_for("connecting")
        yield run, watch, outlet, sender


@contextmanager
def sent(tmp_path: Path, **live: Any) -> Iterator[tuple[LiveRun, Watch, Outlet, Sender]]:
    """A run on one stream over UDP that is live."""
    with awaited(tmp_path, **live) as (run, watch, outlet, sender):
        sender.send(ts_clip("plain"), SECONDS)
        watch.wait_for("live")
        steady(outlet, 1)
        yield run, watch, outlet, sender


def rising(messages: list[Message]) -> bool:
    """Say whether these came in order, each epoch from its first frame on in order of pts."""
    marks = [(m.epoch, m.index) for m in messages]
    times = [(m.epoch, m.pts) for m in messages]
    return marks == sorted(set(marks)) and times == sorted(set(times))


def test_a_server_that_is_killed_and_started_again_twenty_times_is_found_again(tmp_path: Path) -> None:
    clip = live_clip()
    (url, feeder), (other, steadily) = rtmp(clip, free_port()), rtmp(clip, free_port())
    with (
        Outlet() as outlet,
        serving(feeder, steadily),
        Pipeline.load(pipeline(tmp_path)).live(outlet=outlet.fd, stay=True) as run,
    ):
        watch = Watch(run)
        run.add(url, "breaks")
        run.add(other, "steady")
        number = watch.wait_for("live", "breaks")["stream"]
        watch.wait_for("live", "steady")
        worker = psutil.Process(run.supervisor.processes()["decode[0]"])
        held = []
        for epoch in range(2, 22):
            steady(outlet, number, 5, epoch - 1)
            heard = len(watch.events)
            feeder.stop()
            down = watch.wait_for("down", "breaks", after=heard)
            assert down["reason"]
            assert down["retry_s"] > 0
            feeder.start()
            live = watch.wait_for("live", "breaks", after=heard, epoch=epoch)
            assert live["reason"] == "connected"
            held.append((worker.num_fds(), worker.memory_info().rss))
        steady(outlet, number, 5, 21)
        assert rising(outlet.of(number))
        assert worker.is_running()
        assert held[-1][0] == held[4][0], "descriptors leak"
        assert held[-1][1] - held[4][1] < 24 << 20, "memory leaks"
        assert not [event for event in watch.events if event["id"] == "steady" and event["event"] == "down"]
        assert run.stats()["restarts"] == {}


def test_a_source_that_falls_silent_is_down_and_comes_back_in_a_new_epoch(tmp_path: Path) -> None:
    with sent(tmp_path, stall_s=1, open_s=30) as (_, watch, outlet, sender):
        sender.pause()
        assert "has sent nothing for 1 s" in watch.wait_for("down")["reason"]
        sender.send(ts_clip("plain"), SECONDS)
        assert watch.wait_for("live", epoch=2)["reason"] == "connected"
        steady(outlet, 1, epoch=2)
        assert rising(outlet.of(1))


def test_garbage_is_survived(tmp_path: Path) -> None:
    noise = random.Random(5).randbytes(400 * Sender.DATAGRAM)
    with sent(tmp_path, stall_s=3, open_s=30) as (run, watch, outlet, sender):
        sender.send(noise, 0.5)
        until(lambda: len(outlet.of(1)) > 20, "what came before")
        sender.send(ts_clip("plain"), SECONDS)
        count = len(outlet.of(1))
        steady(outlet, 1, count + 30)
        assert rising(outlet.of(1))
        assert run.stats()["restarts"] == {}
        assert watch.error is None


@pytest.mark.parametrize(
    ("name", "size", "start_s", "why"),
    [
        ("later", "320x180", 3610, "time went forward by"),
        ("earlier", "320x180", 1, "time went back by"),
        ("larger", "480x270", 13, "the picture changed from 320x180 to 480x270"),
    ],
)
def test_a_break_in_time_or_picture_begins_an_epoch(
    name: str, size: str, start_s: float, why: str, tmp_path: Path
) -> None:
    with sent(tmp_path) as (run, watch, outlet, sender):
        sender.send(ts_clip(name, size, start_s=start_s), SECONDS)
        live = watch.wait_for("live", epoch=2)
        assert why in live["reason"]
        assert [live["info"]["width"], live["info"]["height"]] == [int(side) for side in size.split("x")]
        messages = steady(outlet, 1, epoch=2)
        assert messages[0].index == 0
        assert messages[0].pts == live["info"]["start_pts"]
        assert {m.width for m in messages} == {live["info"]["width"]}
        assert rising(outlet.of(1))
        assert not [event for event in watch.events if event["event"] == "down"]
        assert run.stats()["restarts"] == {}


def test_time_that_wraps_around_goes_on(tmp_path: Path) -> None:
    with awaited(tmp_path) as (_, watch, outlet, sender):
        sender.send(ts_clip("wraps", seconds=6, start_s=WRAP_S - 2), 6)
        watch.wait_for("live")
        # Frames from before and from after the wrap: what the feed must not do is to stop, or to go back unannounced.
        messages = steady(outlet, 1, 120)
        assert rising(messages)
        assert not [event for event in watch.events if event["event"] == "down"]


def test_time_that_has_wrapped_around_goes_on_where_the_source_was_opened(tmp_path: Path) -> None:
    with awaited(tmp_path) as (_, watch, outlet, sender):
        # FFmpeg takes times below 40 s, a minute before what it meets first, for those after a wrap, and no others.
        sender.send(ts_clip("first", seconds=30, start_s=100), 30)
        watch.wait_for("live")
        sender.send(ts_clip("wraps", seconds=6, start_s=WRAP_S - 2), 6)
        steady(outlet, watch.wait_for("live", epoch=2)["stream"], 120, epoch=2)
        sender.send(ts_clip("passes", start_s=36), SECONDS)
        watch.wait_for("live", epoch=3)
        messages = steady(outlet, 1, 210, epoch=3)
        assert messages[-1].pts - messages[0].pts == 209 * 3000
        assert rising(outlet.of(1))
        assert [event["event"] for event in watch.events if event["event"] != "connecting"] == ["live"] * 3


@pytest.mark.parametrize("stage", ["decode[0]", "preprocess.view", "infer.view", "publish"])
def test_any_worker_may_be_killed_and_the_feed_goes_on(stage: str, tmp_path: Path) -> None:
    clip = live_clip()
    (first, one), (second, two) = rtmp(clip, free_port()), rtmp(clip, free_port())
    with (
        Outlet() as outlet,
        serving(two),
        Pipeline.load(pipeline(tmp_path)).live(outlet=outlet.fd, stay=True) as run,
    ):
        watch = Watch(run)
        with one:
            run.add(first, "hit")
            hit = watch.wait_for("live", "hit")["stream"]
            run.add(second, "other")
            other = watch.wait_for("live", "other")["stream"]
            steady(outlet, hit)
            steady(outlet, other)
            os.kill(run.supervisor.processes()[stage], signal.SIGKILL)
            if stage.startswith("decode"):  # its server has lost its only client, and leaves
                assert "SIGKILL" in watch.wait_for("down", "hit")["reason"]
                one.stop()
                one.start()
                live = watch.wait_for("live", "hit", epoch=2)
                assert live["stream"] == hit
                steady(outlet, hit, epoch=2)
            else:
                until(lambda: run.stats()["restarts"].get(stage) == 1, f"{stage} to be replaced")
                steady(outlet, hit, len(outlet.of(hit)) + 20)
            if stage == "publish":  # what it had sent is not known any more: nothing may seem to go on
                for id in ("hit", "other"):
                    assert watch.wait_for("live", id, epoch=2)["reason"] == "publish was started again"
            steady(outlet, other, len(outlet.of(other)) + 20)
        assert rising(outlet.of(hit))
        assert rising(outlet.of(other))
        assert {m.epoch for m in outlet.of(other)} == ({1, 2} if stage == "publish" else {1})
        assert not [event for event in watch.events if event["id"] == "other" and event["event"] == "down"]
        assert run.stats()["restarts"] == {stage: 1}


def test_twenty_deaths_of_a_worker_leave_nothing_behind(tmp_path: Path) -> None:
    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(psutil.Process().children())

    clip = ts_clip("long", seconds=120)
    with sent(tmp_path, retry_max_s=0.1) as (run, watch, outlet, sender):
        sender.send(clip, 120)
        before = held()
        for epoch in range(2, 22):
            heard = len(watch.events)
            os.kill(run.supervisor.processes()["decode[0]"], signal.SIGKILL)
            live = watch.wait_for("live", after=heard)
            assert live["epoch"] >= epoch
            steady(outlet, 1, 1, live["epoch"])
        assert held() == before
        assert run.stats()["restarts"] == {"decode[0]": 20}
        assert rising(outlet.of(1))


def test_the_program_that_speaks_srt_does_not_outlive_its_worker(tmp_path: Path) -> None:
    url, feeder = srt(live_clip(), free_port(socket.SOCK_DGRAM))
    with Outlet() as outlet, feeder, Pipeline.load(pipeline(tmp_path)).live(url, outlet=outlet.fd, stay=True) as run:
        watch = Watch(run)
        live = watch.wait_for("live")
        worker = psutil.Process(run.supervisor.processes()["decode[0]"])
        programs = worker.children()
        assert len(programs) == 1
        worker.kill()
        until(lambda: gone(programs), "the program to end")
        watch.wait_for("down")
        run.remove(live["id"])
        watch.wait_for("removed")


def test_a_worker_that_hangs_is_replaced(tmp_path: Path) -> None:
    with sent(tmp_path, hang_s=2) as (run, watch, outlet, _):
        os.kill(run.supervisor.processes()["decode[0]"], signal.SIGSTOP)
        assert "showed no life for 2 s" in watch.wait_for("down")["reason"]
        watch.wait_for("live", epoch=2)
        steady(outlet, 1, epoch=2)
        assert rising(outlet.of(1))


def test_a_stream_whose_worker_keeps_dying_ends_and_others_go_on(tmp_path: Path) -> None:
    clip = live_clip()
    url, feeder = rtmp(clip, free_port())
    text = PIPELINE.replace("[run]", "[run]\nrestarts = 1")
    with (
        Outlet() as outlet,
        serving(feeder),
        Pipeline.load(pipeline(tmp_path, text, retries=5)).live(outlet=outlet.fd, stay=True) as run,
    ):
        watch = Watch(run)
        run.add(url, "good")
        good = watch.wait_for("live", "good")["stream"]
        run.add(str(clip), "bad")
        for _ in range(2):
            pid = until(lambda: run.supervisor.processes().get("decode[1]"), "the worker")
            os.kill(pid, signal.SIGSEGV)
            until(lambda dead=pid: run.supervisor.processes().get("decode[1]") != dead, "its end")
        assert "SIGSEGV" in watch.wait_for("ended", "bad")["reason"]
        steady(outlet, good, len(outlet.of(good)) + 10)
        assert list(run.streams()) == ["good"]


def test_streams_that_break_their_worker_are_down_with_the_reason_and_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(str(saboteurs(tmp_path / "site")))
    paths = {}
    for name in ("hangs", "babbles", "crashes"):
        paths[name] = tmp_path / f"{name}.mp4"
        paths[name].write_bytes(live_clip().read_bytes())
    url, feeder = rtmp(live_clip(), free_port())
    with (
        Outlet() as outlet,
        serving(feeder),
        Pipeline.load(pipeline(tmp_path, stall_s=1)).live(url, outlet=outlet.fd) as run,
    ):
        watch = Watch(run)
        watch.wait_for("live", "stream")
        for name, path in paths.items():
            run.add(str(path), name)
        assert "does not come back" in watch.wait_for("down", "hangs")["reason"]
        assert "it sent something that makes no sense" in watch.wait_for("down", "babbles")["reason"]
        assert "SIGSEGV" in watch.wait_for("down", "crashes")["reason"]
        for name in paths:
            run.remove(name)
            watch.wait_for("removed", name)
        steady(outlet, 1, len(outlet.of(1)) + 20)
        assert {m.epoch for m in outlet.of(1)} == {1}


def test_a_task_that_is_too_slow_costs_frames_and_no_delay(tmp_path: Path) -> None:
    text = PIPELINE.replace("tests.live:Echo", "tests.live:Sluggish").replace("max_size = 4", "max_size = 1")
    with Outlet() as outlet, Pipeline.load(pipeline(tmp_path, text)).live(live_clip(), outlet=outlet.fd) as run:
        watch = Watch(run)
        watch.wait_for("live")
        steady(outlet, 1, 80)
        status = run.streams()[live_clip().name]
        behind = status["frames"] - outlet.messages[-1].index
        assert status["dropped"]["late"] > 20
        # Between decoding and the task there are 9 slots, half a second of such a task: 14 frames; the rest is leeway.
        assert behind < 50
        assert rising(outlet.of(1))


def test_decoding_that_lags_leaves_frames_out_and_says_how_many(tmp_path: Path) -> None:
    clip = live_clip(b_frames=2)
    path = pipeline(tmp_path, max_lag_ms=0.05)
    with Outlet() as outlet, Pipeline.load(path).live(clip, outlet=outlet.fd) as run:
        watch = Watch(run)
        watch.wait_for("live")
        until(lambda: run.stats()["dropped"]["skipped"] > 5, "frames to be left out")
        steady(outlet, 1, len(outlet.of(1)) + 10)
        assert rising(outlet.of(1))


def test_publish_repeats_nothing_and_says_nothing_of_streams_that_left(tmp_path: Path) -> None:
    clip = live_clip()
    with Outlet() as outlet, Pipeline.load(pipeline(tmp_path)).live(outlet=outlet.fd, stay=True) as run:
        watch = Watch(run)
        for round_ in range(3):
            run.add(str(clip), f"s{round_}")
            number = watch.wait_for("live", f"s{round_}")["stream"]
            steady(outlet, number, 10)
            os.kill(run.supervisor.processes()["infer.view"], signal.SIGKILL)
            run.remove(f"s{round_}")
            watch.wait_for("removed", f"s{round_}")
            count = len(outlet.of(number))
            until(lambda: "infer.view" in run.supervisor.processes(), "infer to be replaced")
            assert len(outlet.of(number)) == count
            assert rising(outlet.of(number))
