"""Live sources one by one: SRT through a program beside us, cameras, and the thread that receives."""

from __future__ import annotations

import itertools
import shutil
import socket
import sys
import time
from pathlib import Path

import cv2
import pytest

from tests.engine import until
from tests.live import FFMPEG, free_port, live_clip, srt
from vpipe.errors import MediaError
from vpipe.media import receiver as receiving
from vpipe.media import relay
from vpipe.media.device import DeviceContainer, Shot
from vpipe.media.live import LiveContainer, LiveOptions
from vpipe.media.receiver import Receiver
from vpipe.wakeup import WakeUp

OPTIONS = LiveOptions(max_pixels=1 << 24, threads=1, open_s=5, stall_s=2, rtsp_transport="tcp")


@pytest.fixture(autouse=True)
def _search_again() -> None:
    relay.find_relay.cache_clear()


def test_srt_without_a_program_that_speaks_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(MediaError, match="nothing on this machine speaks SRT; install srt-live-transmit") as refusal:
        LiveContainer("srt://127.0.0.1:9?passphrase=secret", OPTIONS)
    assert refusal.value.kind == "protocol"
    assert "secret" not in str(refusal.value)


@pytest.mark.skipif(shutil.which("srt-live-transmit") is None, reason="srt-tools is not installed")
def test_srt_comes_through_srt_live_transmit_where_that_is_installed() -> None:
    assert relay.find_relay() == ("srt", shutil.which("srt-live-transmit"))
    assert len(taken_over_srt(30)) == 30


def test_srt_comes_through_an_ffmpeg_that_speaks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert relay.find_relay() == ("ffmpeg", FFMPEG)
    assert len(taken_over_srt(30)) == 30


def taken_over_srt(count: int) -> list[int]:
    """Return the times of so many packets that came over SRT."""
    url, feeder = srt(live_clip(), free_port(socket.SOCK_DGRAM))
    with feeder:
        container = LiveContainer(url, OPTIONS)
        pts = [packet.pts for packet in itertools.islice(container.packets(), count)]
        assert not container.ends
        container.close()
    assert pts == sorted(pts)
    return pts


def test_an_srt_source_that_falls_silent_or_ends_is_told() -> None:
    url, feeder = srt(live_clip(), free_port(socket.SOCK_DGRAM))
    with pytest.raises(MediaError, match=r"127\.0\.0\.1") as refusal:
        LiveContainer(url, LiveOptions(1 << 24, 1, 1, 1, "tcp"))
    assert refusal.value.kind == "connect"
    with feeder:
        source = relay.Relay(url, open_s=20, stall_s=0.5)
        assert source.read(4096)
        process = source._process
        feeder.stop()
        while source.read(1 << 16):
            pass
        assert source.reason
        source.close()
        assert process.returncode is not None


def test_a_camera_that_is_not_there_is_told() -> None:
    with pytest.raises(MediaError, match="cannot be opened as a camera; look whether it is there"):
        DeviceContainer("/dev/video987", 2)


def test_pictures_of_a_camera_are_packets_and_frames() -> None:
    # No camera here: OpenCV reads a clip in its place, by another of its backends.
    camera = DeviceContainer(str(live_clip(seconds=2)), 2, backend=cv2.CAP_FFMPEG)
    shots = camera.packets()
    frames = [frame for shot in itertools.islice(shots, 60) for frame in camera.decode(shot)]
    with pytest.raises(MediaError, match="sends no pictures any more"):
        next(shots)
    assert camera.decode(Shot(frames[0]), lean=True) == []
    assert camera.finish() == []
    camera.forget()
    info = camera.info(7, frames[0], frames[0].pts)
    assert (info.stream, info.width, info.height, info.time_base) == (7, 320, 180, (1, 1_000_000))
    pts = [frame.pts for frame in frames]
    assert pts == sorted(pts)
    camera.close()
    camera.close()


def test_a_receiver_queues_packets_with_their_time_and_ends_with_its_source() -> None:
    wake = WakeUp()
    receiver = Receiver(str(live_clip(seconds=2)), OPTIONS, wake)
    until(lambda: receiver.ended, "the end of the file")
    assert receiver.error is None
    assert len(receiver.waiting) == 60
    times = [arrival.clock_ns for arrival in receiver.waiting]
    assert times == sorted(times)
    assert times[-1] - times[0] > 1.5e9
    assert abs(receiver.waiting[-1].wall_ns - time.time_ns()) < 60e9
    assert not receiver.stuck()
    assert receiver.close()
    wake.close()


def test_a_receiver_of_a_camera_tells_why_it_ended() -> None:
    wake = WakeUp()
    receiver = Receiver("/dev/video987", OPTIONS, wake)
    until(lambda: receiver.ended, "the refusal")
    assert receiver.error is not None
    assert receiver.error.kind == "connect"
    assert receiver.close()
    wake.close()


def test_a_source_waits_while_the_queue_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "QUEUE_BYTES", 20_000)
    wake = WakeUp()
    began = time.monotonic()
    receiver = Receiver(str(live_clip(seconds=2)), OPTIONS, wake)
    until(lambda: sum(a.packet.size for a in list(receiver.waiting)) > 20_000, "a full queue")
    count = len(receiver.waiting)
    until(lambda: time.monotonic() - began > 2.5, "the file to have been played, if nothing had held it up")
    assert len(receiver.waiting) == count < 60
    while not (receiver.ended and not receiver.waiting):
        if receiver.waiting:
            receiver.waiting.popleft()
            count += 1
    assert receiver.error is None
    assert receiver.close()
    wake.close()
