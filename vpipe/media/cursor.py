"""A place in a file that is always known: the number of the next packet.

Seeks land where a container's index says, which may be elsewhere. A cursor goes by what it finds: after a seek it
reads on to the packet it was sent to, and counts from there. Where that fails, it counts from the start of the file.
"""

from __future__ import annotations

from collections.abc import Callable

from vpipe.media.container import Container, Packet, times
from vpipe.media.stats import Stats
from vpipe.media.table import NO_DTS, START, Anchor

SEARCH_PACKETS = 3000
"""How far past a seek the packet is looked for."""
JUMP_PACKETS = {"mov,mp4,m4a,3gp,3g2,mj2": 24, "matroska,webm": 60, "avi": 60}
"""By container: gaps up to this are read through, larger ones are worth a seek."""
JUMP_OTHERS = 400


class Cursor:
    """Position of a container, in packets of its video stream from the file's first."""

    def __init__(self, container: Container, stats: Stats) -> None:
        self.container = container
        self.at = 0
        """Number of the next packet."""
        self._stats = stats
        self._ahead: list[Packet] = []
        """Read already; the last one is the next."""
        self.spare: int | None = None
        """Packets that may still be read again; a damaged file must not cost its length for each of its segments."""
        self._jump = JUMP_PACKETS.get(container.container_name, JUMP_OTHERS)

    def next(self, beat: Callable[[], None]) -> Packet | None:
        """Return the next packet, or None at the end of the file."""
        beat()
        if self._ahead:
            self.at += 1
            return self._ahead.pop()
        packet = self.container.packet()
        if packet is not None:
            self.at += 1
            self._stats.packets += 1
        return packet

    def put_back(self, packets: list[Packet]) -> None:
        """Make packets that `next` gave, the last of them just now, the next ones again."""
        self._ahead += reversed(packets)
        self.at -= len(packets)

    def go(self, anchor: Anchor, beat: Callable[[], None]) -> bool:
        """Make `anchor`'s packet the next one; False if the file ends before it."""
        if self.at <= anchor.packet <= self.at + self._jump:
            return self._count_to(anchor, beat)
        if anchor != START:
            base = self.container.time_base
            aims = [anchor.pts] if anchor.dts == NO_DTS else [anchor.pts, anchor.dts]
            for aim in (*aims, aims[-1] - int(2 / base), aims[-1] - int(10 / base)):
                if self._seek(anchor, aim, beat):
                    return True
        self.restart()
        return self._count_to(anchor, beat)

    def restart(self, threads: int | None = None) -> None:
        """Open the file anew, with as many decoder threads, and be at its first packet."""
        self.container.reopen(threads)
        self.at, self._ahead = 0, []

    def _count_to(self, anchor: Anchor, beat: Callable[[], None]) -> bool:
        while self.at < anchor.packet:
            if self.next(beat) is None:
                return False
        return True

    def _seek(self, anchor: Anchor, aim: int, beat: Callable[[], None]) -> bool:
        self._stats.seeks += 1
        if not self.container.seek(aim):
            return False
        self.at, self._ahead = -(1 << 62), []
        for _ in range(SEARCH_PACKETS):
            packet = self.next(beat)
            if packet is None:
                return False
            pts, dts = times(packet)
            if pts == anchor.pts and (dts == anchor.dts or NO_DTS in (dts, anchor.dts)):
                self.at, self._ahead = anchor.packet, [packet]
                return True
            if packet.is_keyframe and pts is not None and pts > anchor.pts:
                return False
        return False
