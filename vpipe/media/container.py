"""The door to FFmpeg (PyAV): opens a source under its rule, hands out packets in order, seeks, decodes.

Nothing else in vpipe imports `av`, but `ffmpeg_log`, by which it is listened to while a source is opened, and where a
decoder tells of losses.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, cast

import av
import av.error
import numpy as np
from av.codec.context import Flags
from av.container import InputContainer, OutputContainer
from av.packet import Packet as AnyPacket
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vpipe.errors import MediaError
from vpipe.media import concealment
from vpipe.media.concealment import Concealment
from vpipe.media.content import open_file, shown
from vpipe.media.ffmpeg_log import errors, listening
from vpipe.media.sources import RULES, kind_of, without_secrets
from vpipe.media.table import NO_DTS

_DISCARD_ALL = 48
"""FFmpeg's AVDISCARD_ALL."""
OPEN_TIMEOUT_S = 20.0
READ_TIMEOUT_S = 20.0
"""Below the time after which a silent worker is killed (`run.hang_s`), or that would be the reason told."""

SILENCE = (TimeoutError, av.error.ExitError)
"""What FFmpeg raises when a source has not answered in time."""
FAULTS = (av.error.FFmpegError, OSError)
"""What FFmpeg raises on damaged data and broken connections."""

_LEAN_CODECS = frozenset(
    ("h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v2", "msmpeg4v3", "h263", "flv", "wmv1", "wmv2")
)
"""Decoders that look at `skip_frame` again for every packet. AV1's looks only when it is opened, and would then leave
out wanted frames; VP9's never does."""

_QUICK = {"skip_frame": "all", "probesize": "32"}
"""Options with which FFmpeg decodes nothing while it opens a file. It does so to learn what the container does not
tell, for 29 of 30 ms where pictures are 1080p."""

_FFMPEG_SKIP = {"none": "default", "nonref": "noref", "all": "all"}
"""FFmpeg's words for the frames whose loop filter is skipped."""

Packet: TypeAlias = "AnyPacket[Any]"

__all__ = ["Container", "Packet", "VideoFrame"]


class Container:
    """One opened source and the decoder of its video stream.

    Packets without data are left out everywhere, so that the n-th packet is the same one in every pass over a file.
    """

    live: ClassVar[bool] = False
    """Whether sources are taken as they come rather than read as files."""

    def __init__(self, path: str, max_pixels: int, threads: int = 1, skip_loop_filter: str = "none") -> None:
        self.path = path
        self._skip_loop_filter = _FFMPEG_SKIP[skip_loop_filter]
        self.name = shown(without_secrets(path) if self.live else path)
        """For people."""
        self.kind = kind_of(path, live=self.live)
        self._max_pixels = max_pixels
        self._ffmpeg_pixels = str(max_pixels + 64 * 16384)  # it counts rows padded to 64; `decode` is exact
        self._descriptor = open_file(path) if self.kind == "file" else -1
        # Files in MP4, that is.
        self._quick = self._descriptor >= 0 and os.pread(self._descriptor, 4, 4) == b"ftyp"
        self.errors = 0
        """Packets that the decoder refused since the source was opened."""
        self._dirty = False
        try:
            self._open(threads)
        except BaseException:
            self.close()
            raise

    def _open(self, threads: int) -> None:
        rule = RULES[self.kind]
        options = {
            "protocol_whitelist": rule.protocols,
            "format_whitelist": rule.demuxers,
            "max_pixels": self._ffmpeg_pixels,
        }
        if self._quick:
            self._enter(options | _QUICK)
            self._quick = self._is_known()
            if not self._quick:
                self._shut()
        if not self._quick:
            self._enter(options)
        self.context.thread_count = self.threads = threads
        self._tune()
        self.context.options = {"max_pixels": self._ffmpeg_pixels, "skip_loop_filter": self._skip_loop_filter}
        for stream in self._av.streams:
            if stream.index != self.stream.index and hasattr(stream, "discard"):
                setattr(stream, "discard", _DISCARD_ALL)  # noqa: B010  # older versions know no such attribute
        self.index = self.stream.index
        self._lean = False
        self._can_lean = self.context.codec.name in _LEAN_CODECS
        self._concealment = Concealment()
        self.conceals = not self.live and self.context.codec.name in concealment.CODECS
        """Whether the decoder says how much of a picture it had to make up; heard with one thread only."""
        self._dirty = False
        self._packets: Iterator[Packet] = iter(())
        self.restart()

    def _is_known(self) -> bool:
        """Whether the container tells all that the decoder has to know beforehand.

        An H.264 decoder that is not told how far frames may move leaves some out. Where that is not written, there may
        be nothing to tell, or only decoding tells it.
        """
        name = self.context.codec.name
        return name == "hevc" or (name == "h264" and self.reorders)

    def _enter(self, options: dict[str, str]) -> None:
        """Have FFmpeg open the source, and choose a stream."""
        name, timeout = self._approach(options)
        with listening() as log:
            try:
                self._av: InputContainer = av.open(name, options=options, timeout=timeout, metadata_errors="replace")
            except (av.error.FFmpegError, OSError, ValueError) as error:
                raise self._refusal(error, errors(log)) from None
        self.stream = self._choose(errors(log))
        self.context = self.stream.codec_context

    def _approach(self, options: dict[str, str]) -> tuple[Any, tuple[float, float] | None]:
        """Return what FFmpeg is to open and its timeouts (opening, reading) in seconds; `options` are added to."""
        if self.kind == "file":
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            options["fd"] = str(self._descriptor)
            return "fd:", None  # no name of a file can be taken for a URL or a pattern
        options["rw_timeout"] = str(int(READ_TIMEOUT_S * 1e6))
        return self.path, (OPEN_TIMEOUT_S, READ_TIMEOUT_S)

    def _tune(self) -> None:
        """Set the decoder up, before its first packet."""
        if self.live:
            self.context.flags |= Flags.low_delay
        if self.threads > 1:  # whole frames in parallel each add a frame's time
            self.context.thread_type = "SLICE" if self.live else "FRAME"

    def _choose(self, log: list[str]) -> VideoStream:
        films = [s for s in self._av.streams.video if not s.disposition & Disposition.attached_pic]
        if not films and "whitelist" in " ".join(log):  # a playlist opens well, and what it names does not
            raise self._refusal(OSError(), log)
        if not films:
            what = "only a cover picture and sound" if self._av.streams.video else "sound but no picture"
            if not self._av.streams.audio:
                what = "no video"
            raise MediaError("no_video", f"{self.name} holds {what}")
        usable = [stream for stream in films if stream.codec_context is not None]
        if not usable:
            raise MediaError("codec", f"{self.name} is coded in a way that this FFmpeg cannot decode")
        chosen = usable[0]
        pixels = chosen.codec_context.width * chosen.codec_context.height
        if pixels > self._max_pixels:
            size = f"{chosen.codec_context.width}x{chosen.codec_context.height}"
            raise MediaError(
                "too_large",
                f"{self.name} has pictures of {size}, more than {self._max_pixels} pixels; raise decode.max_pixels",
            )
        return chosen

    def _refusal(self, error: Exception, log: list[str]) -> MediaError:
        """Turn FFmpeg's error into ours; the most telling line of its log decides."""
        name, text = self.name, " ".join(log)
        if "whitelist" in text or "is not in allowed_" in text:
            what = (
                "names what a live source may not open" if self.live else "is a playlist, a still picture or the like"
            )
            return MediaError("forbidden", f"{name} {what}: not opened here")
        if isinstance(error, av.error.HTTPError):
            return MediaError("http", f"{name} cannot be fetched: {error.strerror}")
        if "moov atom not found" in text:
            return MediaError("no_index", f"{name} has no index (moov): it was cut off, or its recording never ended")
        if "Unable to open key file" in text:
            return MediaError("key", f"{name} is encrypted, and its key cannot be had")
        if isinstance(error, SILENCE):
            return MediaError("timeout", f"{name} did not answer in time")
        if isinstance(error, av.error.InvalidDataError):
            return MediaError("not_media", f"{name} is not a video file, or is damaged from its start")
        if isinstance(error, ConnectionError):
            log = []  # it tells of FFmpeg's own affairs
        reason = log[-1] if log else getattr(error, "strerror", None) or str(error)
        kind = "unreadable" if self.kind == "file" else "connect" if self.live else "http"
        return MediaError(kind, f"{name} cannot be opened: {shown(reason)}")

    @property
    def container_name(self) -> str:
        """FFmpeg's name of the container, for example `matroska,webm`."""
        return self._av.format.name

    @property
    def time_base(self) -> Fraction:
        """Unit of the stream's times, in seconds."""
        base = self.stream.time_base
        return Fraction(1, 90000) if base is None else base

    @property
    def step(self) -> int:
        """Nominal distance of two frames, in units of `time_base`, at least 1."""
        rate = self.stream.average_rate or self.stream.guessed_rate
        return max(round(1 / (rate * self.time_base)), 1) if rate else 1

    @property
    def reorders(self) -> bool:
        """Whether the decoder says that frames may come in another order than packets."""
        return bool(self.context.has_b_frames)

    @property
    def duration_s(self) -> float:
        """By the container's word, in seconds; 0 where it has none."""
        if self.stream.duration:
            return float(self.stream.duration * self.time_base)
        return float(self._av.duration or 0) / 1e6

    @property
    def size_bytes(self) -> int:
        """Of the source; 0 where unknown."""
        if self.kind == "file":
            return os.fstat(self._descriptor).st_size
        with contextlib.suppress(av.error.FFmpegError):
            return max(int(self._av.size), 0)
        return 0

    def restart(self) -> None:
        """Hand out packets from the present position on; after `reopen`, from the first."""
        self._packets = self._demux()

    def _demux(self) -> Iterator[Packet]:
        try:
            yield from self._read()
        except FAULTS:
            return  # damaged beyond here: what came before is the file

    def _read(self) -> Iterator[Packet]:
        """Yield the stream's packets; raises one of `FAULTS` where FFmpeg gives up."""
        while True:
            try:
                # Closed by name: where it is only let go of, PyAV (18.1) does not free what it reads into.
                demuxer = cast("Generator[Packet, None, None]", self._av.demux(self.stream))
                with contextlib.closing(demuxer) as packets:
                    for packet in packets:
                        if packet.size:
                            yield packet
                return
            except IndexError:
                # A transport stream may bring new streams at any time, and at its end PyAV (18.1) reads beyond a list
                # that was made for those of the beginning. The next pass has a longer list, and nothing left to read.
                continue

    def packet(self) -> Packet | None:
        """Return the next packet of the video stream, or None at the end."""
        return next(self._packets, None)

    def data_at(self, place: int, size: int) -> bytes:
        """Return so many bytes of a file from a place in it, fewer at its end, and none where they cannot be read."""
        try:
            return os.pread(self._descriptor, size, place)
        except OSError:
            return b""

    def seek(self, time: int) -> bool:
        """Go to the keyframe at or before `time` (units of `time_base`) as the container's index has it."""
        try:
            self._av.seek(time, stream=self.stream, backward=True)
        except FAULTS:
            return False
        self._dirty = False  # seeking flushes the decoder as well
        self.restart()
        return True

    def reopen(self, threads: int | None = None) -> None:
        """Start anew at the first packet, with a new decoder."""
        self._shut()
        self._open(self.threads if threads is None else threads)

    def decode(self, packet: Packet | None, lean: bool = False) -> list[VideoFrame]:
        """Feed one packet (None: no more for now) and return the frames that came out.

        Args:
            packet: In the file's order.
            lean: Its own frame is not needed: a decoder that can tell that no other refers to it leaves it out.
        """
        if lean != self._lean and self._can_lean:
            self.context.skip_frame = "NONREF" if lean else "DEFAULT"
            self._lean = lean
        if not self._dirty:
            self._concealment.forget()
            self._dirty = True
        try:
            heard = self._concealment if self._listens else None
            frames = self.context.decode(packet) if heard is None else decode_listening(self.context, packet, heard)
            if any(frame.width * frame.height > self._max_pixels for frame in frames):
                self.errors += 1  # the size changed on the way
                frames = [frame for frame in frames if frame.width * frame.height <= self._max_pixels]
            return frames
        except EOFError:
            return []
        except (av.error.FFmpegError, OSError, ValueError, MemoryError):
            self.errors += 1
            return []

    @property
    def _listens(self) -> bool:
        return self.conceals and self.threads == 1

    def concealed(self, frame: VideoFrame) -> float | None:
        """Return how much of a frame was made up, 0..1, None where that is not known; to be asked once of each."""
        return self._concealment.share(frame) if self._listens else None

    def finish(self) -> list[VideoFrame]:
        """Return the frames still in the decoder, and make it ready for another start."""
        if not self._dirty:
            return []
        frames = self.decode(None)
        self.context.flush_buffers()
        self._dirty = False
        return frames

    def forget(self) -> None:
        """Throw away what is in the decoder."""
        if self._dirty:
            self.context.flush_buffers()
            self._dirty = False

    def close(self) -> None:
        """Give back the file and the decoder; may be called twice."""
        if hasattr(self, "_av"):
            self._shut()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _shut(self) -> None:
        self._packets = iter(())  # what is read refers to this object: it would stay until Python collects cycles
        # A decoder's threads at work may log, and once a log is listened to they need Python's lock for it. Whoever
        # frees the decoder holds that lock and waits for them, so they are brought to rest first.
        self.forget()
        self._av.close()


def times(packet: Packet) -> tuple[int | None, int]:
    """Return a packet's pts (None where it has none) and dts (`NO_DTS`)."""
    return packet.pts, NO_DTS if packet.dts is None else packet.dts


def decode_listening(context: VideoCodecContext, packet: Packet | None, concealment: Concealment) -> list[VideoFrame]:
    """Return what `context.decode(packet)` does, and have noted what FFmpeg says meanwhile.

    The decoder must have no threads of its own: they could not be heard, and would have to wait for Python's lock.
    """
    with listening() as log:
        try:
            return context.decode(packet)
        finally:
            if log and packet is not None:
                concealment.note(packet.pts, (entry[2] for entry in log))


def picture_frame(picture: NDArray[np.uint8]) -> VideoFrame:
    """Return a picture, (rows, columns, 3) BGR, as a frame; it is copied."""
    return VideoFrame.from_ndarray(picture, format="bgr24")


def grey_frame(width: int, height: int) -> VideoFrame:
    """Return a mid-grey picture in yuv420p, made without a decoder."""
    frame = VideoFrame(width, height, "yuv420p")
    for plane in frame.planes:
        plane.update(b"\x80" * plane.buffer_size)
    return frame


def encoder(codec: str, width: int, height: int, pixels: str, options: dict[str, str]) -> VideoCodecContext:
    """Return an encoder on one thread whose packets are all keyframes."""
    context = VideoCodecContext.create(codec, "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, pixels
    context.time_base = Fraction(1, 1000)
    context.gop_size = 1
    context.thread_count = 1
    context.options = options
    context.open()
    return context


def create(path: Path, form: str) -> OutputContainer:
    """Open a file for writing, in FFmpeg's format of this name."""
    return av.open(str(path), "w", format=form)
