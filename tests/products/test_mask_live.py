"""`vpipe mask` live, for real: nginx with its rtmp module, ffmpeg sending, the whole engine, the feed, its client."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vpipe_mask
from tests.engine import until
from tests.live import Feeder, free_port
from tests.media import ffmpeg
from tests.nginx import RtmpServer, require_nginx
from vpipe.sources import is_live
from vpipe_mask.client import watch
from vpipe_mask.code import MaskFrame
from vpipe_mask.formats import FORMATS
from vpipe_mask.live import LiveMasks
from vpipe_mask.server import ServerConfig

ROOT = Path(__file__).resolve().parents[2]
RATE = 25


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person in motion at 25 frames/s, as a live encoder would send it: no B frames, a keyframe a second."""
    path = tmp_path_factory.mktemp("live") / "person.mp4"
    coder = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", str(RATE))
    source = str(ROOT / "samples" / "person-good.mp4")
    ffmpeg("-i", source, "-vf", f"fps={RATE},scale=640:360", *coder, str(path))
    return path


@pytest.fixture
def server() -> Iterator[RtmpServer]:
    require_nginx()
    with RtmpServer() as running:
        yield running


def sender(clip: Path, url: str) -> Feeder:
    return Feeder("-re", "-stream_loop", "-1", "-i", clip, "-c", "copy", "-an", "-f", "flv", url)


class Events:
    """The events of live masks, as they come; the feed server is told each of them."""

    def __init__(self, masks: LiveMasks) -> None:
        self.seen: list[dict[str, Any]] = []
        self._masks = masks
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self) -> None:
        for event in self._masks:
            self.seen.append(event)

    def count(self, name: str) -> int:
        return sum(event["event"] == name for event in self.seen)


def test_every_frame_from_an_rtmp_server_has_its_mask_or_is_counted(server: RtmpServer, clip: Path) -> None:
    url = server.url("one")
    config = ServerConfig(host="127.0.0.1")
    with sender(clip, url), LiveMasks([url], config, vpipe_mask.options()) as masks:
        events = Events(masks)
        until(lambda: events.count("live"), "the stream to be live")
        assert masks.server.url is not None
        frames: list[MaskFrame] = list(itertools.islice(watch(masks.server.url, "one", timeout_s=60), 5 * RATE))
        stats = masks.engine.stats()
    assert [frame.epoch for frame in frames] == [frames[0].epoch] * len(frames)
    assert all(a.sequence < b.sequence and a.pts_us < b.pts_us for a, b in itertools.pairwise(frames))
    # A slow client misses messages, which its own mailbox answers for; masks that were never made are the engine's.
    of_frames = round((frames[-1].pts_us - frames[0].pts_us) * RATE / 1e6)
    of_masks = frames[-1].sequence - frames[0].sequence
    assert 0 <= of_frames - of_masks <= sum(stats["dropped"].values())
    assert all(frame.arrival_us > 1_600_000_000_000_000 for frame in frames)
    assert sum(frame.applied for frame in frames) > len(frames) * 0.9
    assert 0 < stats["latency_ms"]["p50"] <= stats["latency_ms"]["p99"]


def test_feed_goes_on_in_a_new_epoch_when_the_server_was_killed_and_came_back(clip: Path) -> None:
    require_nginx()
    server = RtmpServer()
    url = server.url("one")
    overrides = vpipe_mask.options() | {"live.retry_s": 0.1, "live.retry_max_s": 0.5}
    with LiveMasks([url], ServerConfig(host="127.0.0.1"), overrides) as masks:
        events = Events(masks)
        assert masks.server.url is not None
        seen = set()
        for times in (1, 2):
            with server, sender(clip, url):
                until(lambda: events.count("live") >= times, f"the stream to be live {times} times")  # noqa: B023
                for frame in itertools.islice(watch(masks.server.url, "one", timeout_s=60), 60):
                    seen.add(frame.epoch)
            until(lambda: events.count("down") >= times, "the stream to be down")  # noqa: B023
    assert len(seen) >= 2
    reasons = [event["reason"] for event in events.seen if event["event"] == "down"]
    assert all(reasons)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", "from vpipe.cli import main; main()", "mask", *map(str, arguments)]


def test_a_file_at_its_own_pace_is_recorded_with_all_its_frames(clip: Path, tmp_path: Path) -> None:
    line = command("--realtime", clip, "-o", tmp_path, "--json")
    done = subprocess.run(line, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    told = [json.loads(text) for text in done.stdout.splitlines()]
    assert [event["event"] for event in told] == ["serving", "connecting", "live", "ended", "stats"]
    masks = told[-1]["frames"]
    assert masks + sum(told[-1]["dropped"].values()) == 100
    (recorded,) = tmp_path.glob("*.webmask")
    assert len(list(FORMATS["webmask"].read(recorded))) == masks


def test_a_source_that_is_not_there_ends_with_the_reason_when_told_to_give_up(tmp_path: Path) -> None:
    line = command(f"rtmp://127.0.0.1:{free_port()}/live/none", "--retries", "0")
    done = subprocess.run(line, capture_output=True, text=True, timeout=200)
    assert done.returncode == 3, done.stderr
    assert "refused" in done.stdout.lower()


def test_ctrl_c_ends_the_command(clip: Path) -> None:
    process = subprocess.Popen(command("--realtime", clip, "--serve", "0"), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    words = process.stdout.readline().split()
    assert words[:2] == ["serving", "at"]
    until(lambda: ": live" in process.stdout.readline(), "the file to be live")  # type: ignore[union-attr]
    next(watch(words[2].rstrip(";"), clip.name, timeout_s=60))
    os.kill(process.pid, signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode in (0, 130)
    assert "masks in" in rest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no source is given"),
        (["--serve", "0.0.0.0:0"], "not a loopback address, so a token is needed"),
        (["--serve", "here"], "is not HOST:PORT"),
        (["gopher://x/y", "--realtime"], "gopher:// sources are not supported"),
        (["a.mp4", "--preview", "x.mp4", "--realtime"], "--preview is for files"),
        (["a.mp4", "b.mp4", "--preview", "x.mp4"], "--preview renders one file"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=200)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("source", "live"),
    [
        ("rtmp://a/b", True),
        ("rtsp://a/b", True),
        ("srt://a:1", True),
        ("udp://a:1", True),
        ("https://a/b/list.m3u8?token=1", True),
        ("/dev/video0", True),
        ("https://a/b/film.mp4", False),
        ("film.m3u8", False),
        ("gopher://a", False),
    ],
)
def test_live_sources_are_known_by_their_address(source: str, live: bool) -> None:
    assert is_live(source) is live
