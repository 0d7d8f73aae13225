"""A live source, opened: low latency, held to its kind's rule, and honest about why it ends.

A file is taken at its own pace, as if it came just now. SRT comes through a program that speaks it
(`vpipe.media.relay`), for the FFmpeg inside PyAV does not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from vpipe.errors import MediaError
from vpipe.frame import StreamInfo
from vpipe.media.container import FAULTS, SILENCE, Container, Packet, VideoFrame
from vpipe.media.relay import Relay
from vpipe.media.sources import without_secrets
from vpipe.media.timing import Unrolled

HTTP_PATIENCE = 3
"""HLS is silent between segments: its stall takes so many times as long."""

_PROBE = {"probesize": "500000", "analyzeduration": "100000", "fpsprobesize": "0"}
"""What is read to learn what there is. It is decoded all the same: `nobuffer` would throw the first keyframe away."""
_OPTIONS = {
    "rtmp": {"rtmp_live": "live", "rtmp_buffer": "100"},
    "udp": {"fifo_size": "65536", "overrun_nonfatal": "1", "buffer_size": "4194304"},
    "http": {"live_start_index": "-1"},
}
"""By source kind. UDP's fifo is in packets of 188 bytes, its buffer (the socket's) in bytes."""


@dataclasses.dataclass(frozen=True, slots=True)
class LiveOptions:
    """How live sources are opened, plain enough for JSON; see `[live]` and `[decode]` of a pipeline file."""

    max_pixels: int
    threads: int
    open_s: float
    stall_s: float
    rtsp_transport: str
    skip_loop_filter: str = "none"


class LiveContainer(Container):
    """A live source and its decoder. Packets are taken in one thread and decoded in another."""

    live = True

    def __init__(self, path: str, options: LiveOptions) -> None:
        self._options = options
        self._relay: Relay | None = None
        super().__init__(path, options.max_pixels, options.threads, options.skip_loop_filter)

    @property
    def stall_s(self) -> float:
        """How long this kind of source may send nothing, in seconds."""
        return self._options.stall_s * (HTTP_PATIENCE if self.kind == "http" else 1)

    @property
    def ends(self) -> bool:
        """Whether the end of its packets is its own end, and not that of a connection."""
        return self.kind == "file" or (self.kind == "http" and bool(self._av.duration))

    @property
    def paced(self) -> bool:
        """Whether it comes faster than it plays, and is to be held back to its own pace."""
        return self.ends or self.container_name == "hls"

    def _approach(self, options: dict[str, str]) -> tuple[Any, tuple[float, float] | None]:
        options |= _PROBE | _OPTIONS.get(self.kind, {})
        if self.kind == "file":
            return super()._approach(options)
        stall_us = str(int(self.stall_s * 1e6))
        options["timeout" if self.kind == "rtsp" else "rw_timeout"] = stall_us
        if self.kind == "rtsp":
            options["rtsp_transport"] = self._options.rtsp_transport
        if self.kind == "srt":
            self._relay = Relay(self.path, open_s=self._options.open_s, stall_s=self.stall_s)
            return self._relay, None
        return self.path, (self._options.open_s, self.stall_s)

    def _refusal(self, error: Exception, log: list[str]) -> MediaError:
        if self._relay is not None and self._relay.reason:
            return MediaError("connect", f"{self.name}: {self._relay.reason}")
        return super()._refusal(error, log)

    def packets(self) -> Iterator[Packet]:
        """Give the packets of the video stream as they come; waits for each, at most `stall_s`.

        Raises:
            MediaError: `stall`: none came; `lost`: the connection broke; `encrypted`: nobody can decode it.
        """
        try:
            first, unrolled = True, Unrolled()
            for packet in self._read():
                ticks = packet.pts if packet.dts is None else packet.dts
                if self.container_name == "mpegts" and ticks is not None and (added := unrolled.add(ticks)):
                    packet.pts = None if packet.pts is None else packet.pts + added
                    packet.dts = None if packet.dts is None else packet.dts + added
                if first and packet.has_sidedata("encryption_info"):
                    raise MediaError("encrypted", f"{self.name} is encrypted (DRM)")
                first = False
                yield packet
        except SILENCE:
            raise MediaError("stall", f"{self.name} has sent nothing for {self.stall_s:g} s") from None
        except FAULTS as error:
            raise MediaError("lost", f"{self.name} broke off: {getattr(error, 'strerror', None) or error}") from None

    def info(self, stream: int, frame: VideoFrame, pts: int) -> StreamInfo:
        """Return the facts of the stream as its present epoch has them.

        Args:
            stream: The stream's number.
            frame: The first of the epoch.
            pts: Of that frame.
        """
        rate = self.stream.average_rate or self.stream.guessed_rate or Fraction(0)
        return StreamInfo(
            stream=stream,
            path=without_secrets(self.path),
            key="",
            size_bytes=0,
            container=self.container_name,
            codec=self.context.codec.canonical_name,
            pixel_format=frame.format.name,
            width=frame.width,
            height=frame.height,
            rotation=-frame.rotation % 360,
            duration_s=0.0,
            frame_rate=float(rate),
            time_base=(self.time_base.numerator, self.time_base.denominator),
            start_pts=pts,
            frames=-1,
            segments=0,
        )

    def close(self) -> None:
        """Give back the source, the decoder and the relay; may be called twice."""
        super().close()
        if self._relay is not None:
            self._relay.close()
