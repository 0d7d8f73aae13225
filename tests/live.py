"""Live sources and what hears of them: servers and feeders that a test starts, and an outlet that collects messages.

Outlet()                    a context manager: `fd` for `Pipeline.live`, `messages` as they come
Feeder(arguments)           ffmpeg that sends or serves something, started and ended on demand
Watch(run)                  takes a run's events in a thread; `wait_for` one
free_port(kind)             a port of the loopback that nobody uses just now
rtmp, udp, srt, hls         feeders of a clip, by what they speak
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import imageio_ffmpeg

from tests.engine import until, write_pipeline
from tests.media import encode, folder
from vpipe import Batch, FrameFlag, LiveRun, StreamInfo, Task

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
PACKET = struct.Struct("<IIqqqI")
"""What `Echo` says of a frame after the stream's number: epoch, rank, pts, arrival, width."""

PIPELINE = """
name = "live"
[[branches]]
name = "view"
[branches.view]
kind = "resize"
width = 64
height = 36
[branches.batch]
max_size = 4
[branches.infer]
model = "null"
requests = 2
[branches.postprocess]
task = "tests.live:Echo"
[run]
start_s = 60
[live]
max_streams = 4
retry_s = 0.1
"""


class Message(NamedTuple):
    """What `Echo` said of one frame."""

    stream: int
    epoch: int
    index: int
    pts: int
    arrival_ns: int
    came_ns: int
    width: int


class Echo(Task):
    """Behaves: a message a frame, with what is known of it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._last: dict[int, tuple[int, int]] = {}

    def on_live(self, stream: StreamInfo, batch: Batch) -> list[bytes]:
        messages = []
        for frame in batch.frames:
            mark = int(frame["epoch"]), int(frame["index"])
            assert self._last.get(stream.stream, (0, 0)) < mark
            assert frame["stream"] == stream.stream
            assert frame["width"] == stream.width
            self._last[stream.stream] = mark
            messages.append(
                PACKET.pack(frame["stream"], *mark, frame["pts"], frame["arrival_ns"], stream.width)
                + b"x" * int(self.options.get("padding", 0))
            )
        return messages

    def end_live(self, stream_id: int) -> None:
        self._last.pop(stream_id, None)


class Stumbles(Echo):
    """Raises on the first live frame."""

    def on_live(self, stream: StreamInfo, batch: Batch) -> list[bytes]:
        raise ZeroDivisionError("the task divides by nothing")


class Slow(Echo):
    """Takes 60 ms for each frame that the model was run on, more than there are; the others cost nothing."""

    carries = True

    def on_live(self, stream: StreamInfo, batch: Batch) -> list[bytes]:
        run = [frame for frame in batch.frames if not frame["flags"] & FrameFlag.CARRIED]
        time.sleep(0.06 * len(run))
        return super().on_live(stream, batch)


class SlowAndPlain(Slow):
    """The same, but it can make nothing of frames that the model was not run on."""

    carries = False


class Outlet:
    """Takes messages as they come, in a thread."""

    def __init__(self) -> None:
        self._inner, outer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._inner.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._outer = outer
        self.fd = outer.fileno()
        self.messages: list[Message] = []
        self._thread = threading.Thread(target=self._take, daemon=True)

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._inner.recv(1 << 16):
                now = time.time_ns()
                (number,) = struct.unpack_from("<I", data)
                stream, epoch, index, pts, arrival, width = PACKET.unpack_from(data, 4)
                assert stream == number
                self.messages.append(Message(stream, epoch, index, pts, arrival, now, width))

    def of(self, stream: int, epoch: int | None = None) -> list[Message]:
        """Return the messages of a stream."""
        return [m for m in list(self.messages) if m.stream == stream and epoch in (None, m.epoch)]

    def __enter__(self) -> Outlet:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._inner.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._inner.close()
        self._outer.close()


class Watch:
    """The events of a run, as they come."""

    def __init__(self, run: LiveRun) -> None:
        self.run = run
        self.events: list[dict[str, Any]] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self) -> None:
        try:
            for event in self.run:
                self.events.append({**event, "at": time.monotonic()})
        except BaseException as error:
            self.error = error

    def wait_for(self, name: str, id: str | None = None, after: int = 0, **facts: Any) -> dict[str, Any]:
        """Wait for an event and return it; `after` skips as many events."""

        def found() -> dict[str, Any] | None:
            for event in list(self.events)[after:]:
                wanted = {"event": name, **({} if id is None else {"id": id}), **facts}
                if all(event[fact] == value for fact, value in wanted.items()):
                    return event
            assert self.error is None, self.error
            return None

        return until(
            found, f"the event {name} of {id}; there are {[(e['event'], e['id'], e['reason']) for e in self.events]}"
        )

    def join(self) -> None:
        """Wait for the end of the run."""
        self._thread.join(60)
        assert not self._thread.is_alive()


def pipeline(path: Path, text: str = PIPELINE, **live: Any) -> Path:
    """Write a pipeline file; `live` are values of its `[live]` table."""
    return write_pipeline(path / "live.toml", text, **live)


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """Return a port that nobody uses just now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def live_clip(size: str = "320x180", rate: int = 30, seconds: float = 20, group: int = 15, b_frames: int = 0) -> Path:
    """Return a clip fit to be sent: short groups of pictures; made once."""
    path = folder() / f"live-{size}-{rate}-{seconds:g}-{group}-{b_frames}.mp4"
    if path.exists():
        return path
    options = f"-c:v libx264 -preset ultrafast -g {group} -bf {b_frames} -pix_fmt yuv420p -threads 1"
    return encode(path, f"testsrc2=size={size}:rate={rate}:duration={seconds:g}", options)


class Feeder:
    """An ffmpeg process that sends or serves; as a context manager it is ended on leaving."""

    def __init__(self, *arguments: str | Path) -> None:
        self._arguments = [FFMPEG, "-nostdin", "-hide_banner", "-loglevel", "error", *map(str, arguments)]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Feeder:
        self.process = subprocess.Popen(self._arguments, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        return self

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def __enter__(self) -> Feeder:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _sent(clip: Path, *output: str, loop: bool = True) -> Feeder:
    return Feeder("-re", "-stream_loop", "-1" if loop else "0", "-i", clip, "-c", "copy", "-an", *output)


def rtmp(clip: Path, port: int, *, loop: bool = True) -> tuple[str, Feeder]:
    """Serve a clip over RTMP to the one client that comes (ffmpeg listens); returns its URL and the feeder."""
    url = f"rtmp://127.0.0.1:{port}/live/stream"
    return url, _sent(clip, "-f", "flv", "-listen", "1", url, loop=loop)


def udp(clip: Path, port: int) -> tuple[str, Feeder]:
    """Send a clip as MPEG-TS over UDP."""
    return f"udp://127.0.0.1:{port}", _sent(clip, "-f", "mpegts", f"udp://127.0.0.1:{port}?pkt_size=1316")


def srt(clip: Path, port: int) -> tuple[str, Feeder]:
    """Serve a clip over SRT (ffmpeg listens)."""
    return f"srt://127.0.0.1:{port}", _sent(clip, "-f", "mpegts", f"srt://127.0.0.1:{port}?mode=listener")


@contextlib.contextmanager
def serving(*feeders: Feeder) -> Iterator[None]:
    """Start feeders, and end them."""
    with contextlib.ExitStack() as stack:
        for feeder in feeders:
            stack.enter_context(feeder)
        yield


def steady(outlet: Outlet, stream: int, count: int = 20, epoch: int | None = None) -> list[Message]:
    """Wait for so many messages of a stream, and return them."""
    until(lambda: len(outlet.of(stream, epoch)) >= count, f"{count} messages of stream {stream}, epoch {epoch}")
    return outlet.of(stream, epoch)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass


@contextlib.contextmanager
def web(directory: Path) -> Iterator[str]:
    """Serve a folder over HTTP; gives the address."""
    handler = functools.partial(_Quiet, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class _Dribble(http.server.BaseHTTPRequestHandler):
    """Answers a playlist with one byte at a time, for ever."""

    gone = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.apple.mpegurl")
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(b"#EXTM3U\n")
            while not self.gone.wait(0.1):
                self.wfile.write(b"#")

    def log_message(self, *arguments: Any) -> None:
        pass


@contextlib.contextmanager
def slow_loris() -> Iterator[str]:
    """Serve an endless playlist, slowly; gives the address."""
    _Dribble.gone.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Dribble) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            _Dribble.gone.set()
            server.shutdown()
            thread.join()


def ts_clip(name: str, size: str = "320x180", seconds: float = 20, start_s: float = 10) -> Path:
    """Return an MPEG-TS clip of 30 frames a second whose time begins at `start_s`; made once."""
    path = folder() / f"live-ts-{name}-{size}-{seconds:g}-{start_s:g}.ts"
    if path.exists():
        return path
    options = f"-c:v libx264 -preset ultrafast -g 10 -bf 0 -pix_fmt yuv420p -threads 1 -output_ts_offset {start_s:g}"
    return encode(path, f"testsrc2=size={size}:rate=30:duration={seconds:g}", f"{options} -muxdelay 0 -muxpreload 0")


class Sender:
    """Sends MPEG-TS over UDP at its own pace, and can be told to send something else, garbage, or nothing."""

    DATAGRAM = 7 * 188

    def __init__(self, port: int) -> None:
        self.url = f"udp://127.0.0.1:{port}"
        self._to = ("127.0.0.1", port)
        self._next: tuple[bytes, float] | None = None
        self._change = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def send(self, data: Path | bytes, seconds: float) -> None:
        """Send this from now on, spread over a time, once."""
        self._next = (data if isinstance(data, bytes) else data.read_bytes()), seconds
        self._change.set()

    def pause(self) -> None:
        """Send nothing from now on."""
        self.send(b"", 1)

    def _run(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            while not self._ended:
                self._change.wait()
                self._change.clear()
                data, seconds = self._next or (b"", 1.0)
                parts = [data[at : at + self.DATAGRAM] for at in range(0, len(data), self.DATAGRAM)]
                began = time.monotonic()
                for number, part in enumerate(parts):
                    if self._change.wait(max(0.0, began + seconds * number / len(parts) - time.monotonic())):
                        break
                    out.sendto(part, self._to)

    def __enter__(self) -> Sender:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._change.set()
        self._thread.join()


class Sluggish(Echo):
    """Takes longer for a frame than frames take to come."""

    def on_live(self, stream: StreamInfo, batch: Batch) -> list[bytes]:
        threading.Event().wait(0.05 * len(batch))
        return super().on_live(stream, batch)
