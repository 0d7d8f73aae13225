"""How much of a picture a decoder had to make up, by what FFmpeg says of it.

A frame's flags tell that something was concealed, not how much: a row of blocks or all of them. FFmpeg says it in its
log, in a line that has been the same since its first decoders. Where it does not come, the share is 0, and what is
known of the loss is what flags tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vpipe.media.container import VideoFrame

CODECS = frozenset(("h264", "mpeg1video", "mpeg2video", "mpeg4", "h263", "flv", "wmv1", "wmv2"))
"""Decoders that say it, by FFmpeg's names."""

_SAID = re.compile(r"concealing (\d+) DC, (\d+) AC, (\d+) MV errors")
_BLOCK = 16
"""Pixels across and down that are counted as one."""


class Concealment:
    """What was said of the pictures that a decoder has been fed, see `vpipe.media.container.decode_listening`."""

    def __init__(self) -> None:
        self._blocks: dict[int | None, int] = {}
        """By the pts of the packet."""

    def note(self, pts: int | None, said: Iterable[str]) -> None:
        """Note what FFmpeg said while a packet was decoded."""
        found = [max(map(int, match.groups())) for line in said if (match := _SAID.search(line))]
        if found:
            self._blocks[pts] = self._blocks.get(pts, 0) + sum(found)

    def share(self, frame: VideoFrame) -> float:
        """Return how much of the frame was made up, 0..1; to be asked once."""
        blocks = self._blocks.pop(frame.pts, 0)
        return min(blocks / (-(-frame.width // _BLOCK) * -(-frame.height // _BLOCK)), 1.0)

    def forget(self) -> None:
        """Forget what was said so far: the decoder starts anew."""
        self._blocks.clear()
