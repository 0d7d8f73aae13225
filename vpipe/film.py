"""Watching a film frame by frame, and making another of it: small pictures in, H.264 out, with the sound kept.

    with Film("talk.mp4", fit=(1280, 720)) as film, FilmWriter("out.mp4", film.size, film) as writer:
        for frame in film:
            writer.add(frame.pts, drawn_over(frame.picture))

For looking at results. It is one process on purpose: what must be fast is the engine's work.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpipe.errors import MediaError, ResourceError
from vpipe.frame import StreamInfo
from vpipe.media import MAX_PIXELS, Sample, open_media
from vpipe.media.container import FAULTS, Container, Packet, VideoFrame, create
from vpipe.media.content import shown
from vpipe.media.media import Media
from vpipe.view import make_view
from vpipe.viewconfig import ViewConfig

Rgb = NDArray[np.uint8]
"""(height, width, 3)."""

CRF = "20"
"""Of x264: by eye the same as its source."""
SOUND_RATE = 48000
"""Samples a second, where sound must be coded anew."""
EARLY_S = 0.06
"""Packets so long before the first picture are kept: a decoder of AAC needs some to begin with."""
COPIED = {
    ".mp4": {"aac", "mp3", "ac3", "eac3", "opus", "alac", "flac"},
    ".mkv": {"aac", "mp3", "ac3", "eac3", "opus", "alac", "flac", "vorbis", "pcm_s16le", "mp2", "dts"},
}
"""Sound that a file of this name can hold as it is; all other is coded anew, as AAC."""


@dataclasses.dataclass(frozen=True, slots=True)
class FilmFrame:
    """One frame of a film."""

    pts: int
    """Since the first frame, in units of the film's time base."""
    pts_s: float
    """The same in seconds."""
    picture: Rgb
    """Upright, as large as the film's `size`; the receiver's to keep."""


class Film:
    """All frames of a file or URL, in order of time.

    Args:
        path: As `vpipe.Pipeline.run` takes it.
        fit: Pictures are made to fit into (width, height), never enlarged.
        size: Pictures are stretched to exactly this instead, as a model's view is.

    Raises:
        MediaError: It cannot be decoded.
    """

    def __init__(self, path: str, fit: tuple[int, int] = (1280, 720), size: tuple[int, int] | None = None) -> None:
        media = open_media(path)
        if not isinstance(media, Media):
            raise MediaError("synthetic", f"{shown(path)} has nothing to look at")
        self._media = media
        self._every = Sample.parse("every")
        self.path = path
        self.info: StreamInfo
        self.info, self._segments = media.plan(self._every)
        self.size = size or fitted(self.info, fit)
        """Width and height of the pictures; both even where they were made to fit."""
        self.time_base = Fraction(*self.info.time_base)
        """Seconds."""

    def __iter__(self) -> Iterator[FilmFrame]:
        width, height = self.size
        view = make_view(ViewConfig("resize", width, height))
        pts = -1
        for segment in self._segments:
            for picture in self._media.read(segment, self._every, threads=min(os.cpu_count() or 1, 4)):
                rgb = np.empty((height, width, 3), np.uint8)
                view.render(picture, {"view": rgb})
                # Some containers (AVI) tell wrong times of frames that come in the right order.
                pts = max(picture.pts - self.info.start_pts, pts + 1)
                yield FilmFrame(pts, float(pts * self.time_base), rgb)

    def close(self) -> None:
        """Close the source; may be called twice."""
        self._media.close()

    def __enter__(self) -> Film:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def fitted(info: StreamInfo, fit: tuple[int, int]) -> tuple[int, int]:
    """Return the size, even, at which an upright picture fits into `fit`, at most its own."""
    width, height = (info.height, info.width) if info.rotation % 180 else (info.width, info.height)
    scale = min(fit[0] / width, fit[1] / height, 1.0)
    return max(round(width * scale / 2) * 2, 2), max(round(height * scale / 2) * 2, 2)


class FilmWriter:
    """Writes H.264 with the first sound track of a film; the file is complete, or absent.

    Args:
        path: Ends in .mp4 or .mkv.
        size: Width and height of the pictures; even.
        source: Its times are kept, and its sound.

    Raises:
        MediaError: The name has another ending.
        ResourceError: It cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], size: tuple[int, int], source: Film) -> None:
        self.path = Path(path)
        if self.path.suffix not in COPIED:
            raise MediaError("name", f"{shown(str(path))}: a film is written as .mp4 or .mkv; name it so")
        self._part = self.path.with_name(f".{self.path.name}.part")
        form = "mp4" if self.path.suffix == ".mp4" else "matroska"
        self._things = contextlib.ExitStack()
        self._size, self._base = size, source.time_base
        try:
            self._part.write_bytes(b"")  # FFmpeg opens it with the first packet only
            self._out = self._things.enter_context(create(self._part, form))
        except OSError as error:
            raise self._refusal(error) from None
        rate = Fraction(source.info.frame_rate or 25).limit_denominator(1001)
        self._video = self._out.add_stream("libx264", rate=rate, options={"crf": CRF, "preset": "veryfast"})
        self._video.width, self._video.height = size
        self._video.pix_fmt = "yuv420p"
        self._video.codec_context.time_base = self._base
        self._sound = self._things.enter_context(contextlib.closing(sound)) if (sound := _sound_of(source)) else None
        self._track = self._sound.track(self._out, COPIED[self.path.suffix]) if self._sound else None

    def add(self, pts: int, picture: Rgb) -> None:
        """Take the next picture, (height, width, 3), to be shown from `pts` on (units of the source's time base)."""
        if picture.shape != (self._size[1], self._size[0], 3):
            raise ValueError(f"picture of shape {picture.shape} for a film of {self._size[0]}x{self._size[1]}")
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts, frame.time_base = pts, self._base
        # Sound of up to this moment first, so that the file can be read from front to back.
        self._add_sound(float(pts * self._base))
        self._mux(self._video.encode(frame))

    def finish(self) -> None:
        """Write what is left and give the file its name."""
        self._add_sound(float("inf"))
        self._mux(self._video.encode(None))
        try:
            self._things.close()
            os.replace(self._part, self.path)
        except OSError as error:
            raise self._refusal(error) from None

    def _add_sound(self, until_s: float) -> None:
        if self._sound is not None and self._track is not None:
            for packet in self._sound.packets(self._track, until_s):
                self._mux([packet])

    def _mux(self, packets: list[Packet]) -> None:
        try:
            self._out.mux(packets)
        except FAULTS as error:
            raise self._refusal(error) from None

    def _refusal(self, error: Exception) -> ResourceError:
        return ResourceError(f"{self.path}: cannot be written: {getattr(error, 'strerror', None) or error}")

    def __enter__(self) -> FilmWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            with contextlib.suppress(*FAULTS, ValueError):
                self._things.close()
            self._part.unlink(missing_ok=True)


class _Sound(Container):
    """The first sound track of a file."""

    def _choose(self, log: list[str]) -> Any:
        if not self._av.streams.audio or self._av.streams.audio[0].codec_context is None:
            raise MediaError("no_sound", f"{self.name} has no sound")
        return self._av.streams.audio[0]

    def begin(self, origin_s: float) -> None:
        """Set when the film begins, in seconds of the file's own time."""
        self._origin = round(origin_s / self.time_base)
        self._next = self.packet()

    def track(self, out: Any, copied: set[str]) -> Any:
        """Add a track for it to an opened file, and return that."""
        self._copy = self.context.name in copied
        if self._copy:
            return out.add_stream_from_template(self.stream)
        return out.add_stream("aac", rate=SOUND_RATE)

    def packets(self, track: Any, until_s: float) -> Iterator[Packet]:
        """Yield packets for `track`: the sound up to a time of the film, in seconds."""
        while self._next is not None and (self._next.pts or 0) - self._origin < until_s / self.time_base:
            packet, self._next = self._next, self.packet()
            if packet.pts is None or packet.pts < self._origin - EARLY_S / self.time_base:
                continue
            packet.pts -= self._origin
            packet.dts = None if packet.dts is None else packet.dts - self._origin
            if self._copy:
                packet.stream = track
                yield packet
            else:
                yield from self._coded(track, packet)
        if self._next is None and not self._copy:
            self._copy = True  # nothing more to code
            with contextlib.suppress(*FAULTS, EOFError):
                yield from track.encode(None)

    def _coded(self, track: Any, packet: Packet) -> Iterator[Packet]:
        with contextlib.suppress(*FAULTS, EOFError):
            for frame in self.context.decode(packet):
                yield from track.encode(frame)


def _sound_of(source: Film) -> _Sound | None:
    """Return the film's sound, ready to be read, if it has any."""
    try:
        sound = _Sound(source.path, MAX_PIXELS)
    except MediaError:
        return None
    sound.begin(float(source.info.start_pts * source.time_base))
    return sound
