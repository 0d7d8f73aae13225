"""Live runs on real sources: what arrives goes out, in order; streams come and go; bad sources say why."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import urllib.request
from pathlib import Path

import pytest

from tests.engine import until, workers_of
from tests.live import (
    PIPELINE,
    Feeder,
    Outlet,
    Watch,
    free_port,
    live_clip,
    pipeline,
    rtmp,
    serving,
    slow_loris,
    srt,
    steady,
    udp,
    web,
)
from tests.media import encode, folder
from tests.rtsp import RtspServer
from vpipe import Pipeline, StreamInfo
from vpipe.errors import ConfigError, ResourceError, RunError, SourceError, TaskError, UsageError


def short_clip(seconds: float = 2, b_frames: int = 0) -> Path:
    return live_clip(seconds=seconds, b_frames=b_frames)


@pytest.mark.parametrize("b_frames", [0, 2])
def test_a_file_is_played_at_its_own_pace_and_every_frame_of_it_is_heard_of(b_frames: int, tmp_path: Path) -> None:
    clip = short_clip(b_frames=b_frames)
    with Outlet() as outlet, Pipeline.load(pipeline(tmp_path)).live(clip, outlet=outlet.fd) as run:
        events = list(run)
    messages = until(lambda: len(outlet.messages) >= 60 and outlet.of(1), "all messages")
    assert [event["event"] for event in events] == ["connecting", "live", "ended"]
    assert {event["id"] for event in events} == {clip.name}
    info = StreamInfo.from_dict(events[1]["info"])
    assert (info.width, info.height, info.codec) == (320, 180, "h264")
    assert events[1]["epoch"] == events[2]["epoch"] == 1
    assert events[2]["reason"] is None
    assert [m.index for m in messages] == list(range(60))
    assert [round(info.seconds(m.pts) * 30) for m in messages] == list(range(60))
    # At its own pace: the last packet came as much after the first as its time says, about.
    took_s = (messages[-1].arrival_ns - messages[0].arrival_ns) * 1e-9
    assert took_s > 1.5
    assert not any(run.stats()["dropped"].values())


def test_frames_that_the_model_leaves_out_are_heard_of_in_their_place(tmp_path: Path) -> None:
    path = Pipeline.load(pipeline(tmp_path), {"branches.0.infer.every": 3, "live.max_wait_ms": 100, "live.slots": 6})
    with Outlet() as outlet, path.live(short_clip(), outlet=outlet.fd) as run:
        list(run)
    assert [m.index for m in outlet.messages] == list(range(60))


@pytest.mark.parametrize(
    ("task", "most", "leaves_out"),
    [("Slow", 3, True), ("Slow", 1, False), ("SlowAndPlain", 3, False)],
    ids=["carries", "told not to", "cannot carry"],
)
def test_the_model_leaves_frames_out_when_there_is_too_much_to_do(
    task: str, most: int, leaves_out: bool, tmp_path: Path
) -> None:
    overrides = {"branches.0.postprocess.task": f"tests.live:{task}", "live.max_every": most}
    path = Pipeline.load(pipeline(tmp_path), overrides)
    with Outlet() as outlet, path.live(short_clip(), outlet=outlet.fd) as run:
        list(run)
    assert (run.stats()["carried"] > 0) == leaves_out
    assert outlet.messages[0].index == 0


@pytest.mark.parametrize(
    ("overrides", "ranks"),
    [
        ({"source.sample": "10/s"}, range(0, 60, 3)),
        ({"branches.0.sample": "keyframes"}, range(0, 60, 15)),
    ],
    ids=["rate", "keyframes"],
)
def test_a_live_stream_is_sampled_as_a_file_is(overrides: dict[str, str], ranks: range, tmp_path: Path) -> None:
    path = Pipeline.load(pipeline(tmp_path), overrides)
    with Outlet() as outlet, path.live(short_clip(), outlet=outlet.fd) as run:
        list(run)
    assert [m.index for m in outlet.messages] == list(ranks)


@pytest.mark.parametrize("feed", [rtmp, udp, srt], ids=["rtmp", "udp", "srt"])
def test_what_a_server_sends_goes_out_in_order_with_its_time_of_arrival(feed, tmp_path: Path) -> None:
    url, feeder = feed(live_clip(), free_port(socket.SOCK_DGRAM if feed is not rtmp else socket.SOCK_STREAM))
    with Outlet() as outlet, feeder, Pipeline.load(pipeline(tmp_path)).live(url, outlet=outlet.fd) as run:
        watch = Watch(run)
        live = watch.wait_for("live")
        messages = steady(outlet, live["stream"], 40)
        assert live["reason"] == "connected"
        status = run.streams()[live["id"]]
        assert status["state"] == "live"
        assert status["frames"] >= 40
        until(lambda: run.streams()[live["id"]]["messages"] >= 40, "publish to tell what it sent")
        assert run.stats()["latency_ms"]["count"] >= 40
        run.stop()
        watch.join()
        assert watch.error is None
    assert [m.index for m in messages] == sorted({m.index for m in messages})
    pts = [m.pts for m in messages]
    assert pts == sorted(set(pts))
    for message in messages:
        assert 0 < message.came_ns - message.arrival_ns < 10e9


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_rtsp_comes_over_the_transport_that_is_asked_for(transport: str, tmp_path: Path) -> None:
    path = pipeline(tmp_path, PIPELINE + f'rtsp_transport = "{transport}"\n')
    with Outlet() as outlet, RtspServer(live_clip(), tmp_path) as server:
        with Pipeline.load(path).live(server.url, outlet=outlet.fd) as run:
            messages = steady(outlet, Watch(run).wait_for("live")["stream"], 40)
        assert server.transport == transport
    pts = [m.pts for m in messages]
    assert pts == sorted(set(pts))


def test_hls_is_played_at_its_own_pace(tmp_path: Path) -> None:
    playlist = tmp_path / "live.m3u8"
    options = ["-f", "hls", "-hls_time", "0.5", "-hls_list_size", "4", "-hls_flags", "delete_segments", playlist]
    feeder = Feeder("-re", "-stream_loop", "-1", "-i", live_clip(), "-c", "copy", *options)
    with Outlet() as outlet, web(tmp_path) as base, feeder:
        until(playlist.exists, "the playlist")
        with Pipeline.load(pipeline(tmp_path)).live(f"{base}live.m3u8", outlet=outlet.fd) as run:
            watch = Watch(run)
            live = watch.wait_for("live")
            messages = steady(outlet, live["stream"], 60)
    # Segments come at once, frames one after the other.
    gaps_ms = [(b.arrival_ns - a.arrival_ns) / 1e6 for a, b in itertools.pairwise(messages)]
    assert sorted(gaps_ms)[len(gaps_ms) // 2] > 20


def test_streams_come_and_go_while_others_go_on(tmp_path: Path) -> None:
    clip = live_clip()
    first, second = rtmp(clip, free_port()), rtmp(clip, free_port())
    with (
        Outlet() as outlet,
        serving(first[1], second[1]),
        Pipeline.load(pipeline(tmp_path)).live(stay=True, outlet=outlet.fd) as run,
    ):
        watch = Watch(run)
        assert run.add(first[0], "one") == "one"
        one = watch.wait_for("live", "one")["stream"]
        assert run.add(second[0]) == "stream"
        two = watch.wait_for("live", "stream")["stream"]
        steady(outlet, two)
        with pytest.raises(UsageError, match="there is a stream 'one' already"):
            run.add(second[0], "one")
        with pytest.raises(UsageError, match="no id for a stream"):
            run.add(second[0], "../one")
        run.remove("stream")
        watch.wait_for("removed", "stream")
        with pytest.raises(UsageError, match="there is no stream 'stream'"):
            run.remove("stream")
        assert list(run.streams()) == ["one"]
        count = len(outlet.of(two))
        steady(outlet, one, len(outlet.of(one)) + 20)
        assert len(outlet.of(two)) == count
        indices = [m.index for m in outlet.of(one)]
        assert indices == sorted(set(indices))
        # A seat is given again, a number is not.
        third, feeder = rtmp(clip, free_port())
        with feeder:
            run.add(third, "three")
            three = watch.wait_for("live", "three")["stream"]
            assert three not in (one, two)
            assert steady(outlet, three)[0].index == 0
        assert not [event for event in watch.events if event["id"] == "one" and event["event"] == "down"]


def test_a_stream_may_be_removed_before_it_has_begun(tmp_path: Path) -> None:
    with Pipeline.load(pipeline(tmp_path)).live(live_clip(), stay=True) as run:
        watch = Watch(run)
        run.remove(live_clip().name)  # the stages behind are not there yet
        watch.wait_for("removed")
        run.add(f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}", "silent")
        until(lambda: "decode[0]" in run.supervisor.processes(), "its worker")
        run.remove("silent")
        watch.wait_for("removed", "silent")
        assert run.streams() == {}


def test_a_signal_ends_a_run_and_its_metrics_are_served_until_then(tmp_path: Path) -> None:
    port, before = free_port(), signal.getsignal(signal.SIGTERM)
    with Pipeline.load(pipeline(tmp_path)).live(live_clip(), stay=True, metrics=f"127.0.0.1:{port}") as run:
        run.handle_signals()
        for event in run:
            if event["event"] == "live":
                until(lambda: run.stats()["latency_ms"]["count"] > 5, "messages")
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                    page = answer.read().decode()
                os.kill(os.getpid(), signal.SIGTERM)
    assert 'vpipe_unit_seconds{quantile="0.99",stage="publish",worker="publish"}' in page
    assert 'vpipe_dropped_total{reason="late",stage="live_decode",worker="decode[0]"} ' in page
    assert signal.getsignal(signal.SIGTERM) == before


def test_there_are_as_many_streams_as_seats(tmp_path: Path) -> None:
    path = pipeline(tmp_path, PIPELINE.replace("max_streams = 4", "max_streams = 1"))
    run = Pipeline.load(path).live(live_clip(), stay=True)
    with run, pytest.raises(ResourceError, match=r"all 1 seats are taken; raise live\.max_streams"):
        run.add("rtmp://127.0.0.1/live/x")
    with pytest.raises(ResourceError, match="all 1 seats"):
        Pipeline.load(path).live([live_clip(), live_clip()])
    with pytest.raises(RunError, match="the run has ended"):
        run.add("rtmp://127.0.0.1/live/x")


def test_sources_of_no_known_kind_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"gopher:// sources are not supported; use a file, .*rtmp://"):
        Pipeline.load(pipeline(tmp_path)).live("gopher://host/x")
    with pytest.raises(ConfigError, match="n=N is for files"):
        Pipeline.load(pipeline(tmp_path), {"source.sample": "n=8"}).live(live_clip())


def ended(tmp_path: Path, url: str, **live: float) -> dict[str, object]:
    """Run one source that is not to be tried again, and return its last event."""
    values = {"retries": 0, "open_s": 2, "stall_s": 1, **live}
    with Pipeline.load(pipeline(tmp_path, **values)).live(url) as run:
        events = list(run)
    assert events[-1]["event"] == "ended"
    return events[-1]


def test_a_refused_connection_is_told(tmp_path: Path) -> None:
    found = ended(tmp_path, f"rtmp://me:secret@127.0.0.1:{free_port()}/live/x?key=secret")
    assert "Connection refused" in str(found["reason"])
    assert "secret" not in str(found)


def test_a_missing_file_and_a_wrong_path_are_told(tmp_path: Path) -> None:
    assert "does not exist" in str(ended(tmp_path, "/nowhere/clip.mp4")["reason"])
    with web(tmp_path) as base:
        assert "404" in str(ended(tmp_path, f"{base}nothing.m3u8")["reason"])


def test_a_stream_without_video_is_told(tmp_path: Path) -> None:
    sound = encode(folder() / "live-sound.flv", "testsrc2=size=64x64:rate=5:duration=1", "-f lavfi -i sine=d=1 -map 1")
    assert "holds sound but no picture" in str(ended(tmp_path, str(sound))["reason"])


def test_a_playlist_that_names_a_local_file_is_refused_and_not_tried_again(tmp_path: Path) -> None:
    for name, target in (("ts", f"file://{live_clip()}"), ("txt", "file:///etc/passwd")):
        text = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n"
        (tmp_path / f"{name}.m3u8").write_text(text)
        with web(tmp_path) as base:
            found = ended(tmp_path, f"{base}{name}.m3u8", retries=1000)
            assert "not opened here" in str(found["reason"])


@pytest.mark.parametrize(
    ("open_s", "why"), [(30, "has ended without one picture"), (0.5, "not one picture can be decoded; it is encrypted")]
)
def test_a_stream_of_which_nothing_can_be_decoded_is_told(open_s: float, why: str, tmp_path: Path) -> None:
    data = short_clip().read_bytes()
    begin = data.index(b"mdat") + 4
    (tmp_path / "rubbish.mp4").write_bytes(data[:begin] + bytes(len(data) - begin))
    if data.index(b"moov") > begin:  # the index comes last, and must stay
        (tmp_path / "rubbish.mp4").write_bytes(
            data[:begin] + bytes(data.index(b"moov") - 4 - begin) + data[data.index(b"moov") - 4 :]
        )
    assert why in str(ended(tmp_path, str(tmp_path / "rubbish.mp4"), open_s=open_s)["reason"])


def test_encrypted_media_is_told(tmp_path: Path) -> None:
    key = "-encryption_scheme cenc-aes-ctr -encryption_key 76a6c65c5ea762046bd749a2e632ccbb"
    options = f"-c:v libx264 -preset ultrafast {key} -encryption_kid a7e61c373e219033c21091fa607bf3b8"
    drm = encode(folder() / "live-drm.mp4", "testsrc2=size=64x64:rate=5:duration=1", options)
    assert "is encrypted (DRM)" in str(ended(tmp_path, str(drm))["reason"])
    text = (
        '#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-KEY:METHOD=AES-128,URI="no.key"\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n'
    )
    (tmp_path / "keyed.m3u8").write_text(text)
    (tmp_path / "a.ts").write_bytes(b"\x47" * 1880)
    with web(tmp_path) as base:
        assert "its key cannot be had" in str(ended(tmp_path, f"{base}keyed.m3u8")["reason"])


def test_a_server_that_dribbles_holds_nothing_up(tmp_path: Path) -> None:
    with slow_loris() as base, Outlet() as outlet:
        path = pipeline(tmp_path, open_s=2, stall_s=1, retries=0, hang_s=2)
        with Pipeline.load(path).live([f"{base}live.m3u8", live_clip(seconds=4)], outlet=outlet.fd) as run:
            events = list(run)
            assert run.stats()["restarts"] == {}
    last = {event["id"]: event for event in events if event["event"] == "ended"}
    assert "did not answer in time" in last["live.m3u8"]["reason"]
    assert len(outlet.of(2)) == 120


def test_a_task_that_raises_ends_the_run_with_its_name(tmp_path: Path) -> None:
    path = pipeline(tmp_path, PIPELINE.replace("tests.live:Echo", "tests.live:Stumbles"))
    with Pipeline.load(path).live(live_clip(), stay=True) as run, pytest.raises(TaskError, match="failed in on_live"):
        list(run)


def test_an_outlet_that_nobody_reads_costs_messages_and_nothing_else(tmp_path: Path) -> None:
    text = PIPELINE.replace("[run]", "[branches.postprocess.options]\npadding = 60000\n[run]")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, Pipeline.load(pipeline(tmp_path, text)).live(live_clip(), outlet=ours.fileno()) as run:
        watch = Watch(run)
        until(lambda: run.stats()["dropped"]["outlet"] > 5, "messages to be dropped")
        frames = run.stats()["frames"]
        until(lambda: run.stats()["frames"] > frames + 10, "the run to go on")
        theirs.close()
        frames = run.stats()["frames"]
        until(lambda: run.stats()["frames"] > frames + 10, "the run to go on without a reader")
        assert watch.error is None
        until(lambda: next(iter(run.streams().values()))["dropped"]["outlet"] > 5, "the stream's own count")


def test_live_runs_leave_no_descriptor_and_no_process(tmp_path: Path) -> None:
    path = pipeline(tmp_path)

    def once() -> None:
        with Pipeline.load(path).live(live_clip(), stay=True) as run:
            watch = Watch(run)
            watch.wait_for("live")
            run.stop()
            watch.join()

    once()
    before = len(os.listdir("/proc/self/fd"))
    once()
    assert len(os.listdir("/proc/self/fd")) == before
    assert not workers_of(os.getpid())
