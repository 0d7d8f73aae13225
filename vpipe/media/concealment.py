"""How much of a picture a decoder had to make up, by what FFmpeg says of it.

A frame's flags tell that something was concealed, not how much: a row of blocks or all of them. FFmpeg says it in its
log, in a line that has been the same since its first decoders. Where it does not come, the share is 0, and what is
known of the loss is what flags tell.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import av.logging

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame

CODECS = frozenset(("h264", "mpeg1video", "mpeg2video", "mpeg4", "h263", "flv", "wmv1", "wmv2"))
"""Decoders that say it, by FFmpeg's names."""

_SAID = re.compile(r"concealing (\d+) DC, (\d+) AC, (\d+) MV errors")
_BLOCK = 16
"""Pixels across and down that are counted as one."""


class Concealment:
    """Decodes, and listens to what FFmpeg says of each packet. On a decoder's own threads it could not be heard."""

    def __init__(self) -> None:
        self._blocks: dict[int | None, int] = {}
        """By the pts of the packet."""

    def decode(self, context: VideoCodecContext, packet: Any) -> list[VideoFrame]:
        """Return what `context.decode(packet)` does, and raise what it raises."""
        av.logging.set_level(av.logging.INFO)
        try:
            with av.logging.Capture() as log:
                return context.decode(packet)
        finally:
            av.logging.set_level(None)
            if log and packet is not None:
                said = [max(map(int, found.groups())) for entry in log if (found := _SAID.search(entry[2]))]
                if said:
                    self._blocks[packet.pts] = self._blocks.get(packet.pts, 0) + sum(said)

    def share(self, frame: VideoFrame) -> float:
        """Return how much of the frame was made up, 0..1; to be asked once."""
        blocks = self._blocks.pop(frame.pts, 0)
        return min(blocks / (-(-frame.width // _BLOCK) * -(-frame.height // _BLOCK)), 1.0)

    def forget(self) -> None:
        """Forget what was said so far: the decoder starts anew."""
        self._blocks.clear()
