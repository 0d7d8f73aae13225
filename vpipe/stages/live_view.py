"""One branch's view of a live stream: the ring that takes it away, and the picture that waits for a slot."""

from __future__ import annotations

import dataclasses

from vpipe.control import Message
from vpipe.frame import FrameFlag
from vpipe.media import Picture, Sample
from vpipe.metrics import Counters
from vpipe.ring import RingWriter
from vpipe.view import make_view
from vpipe.viewconfig import ViewConfig

_CARRIED = int(FrameFlag.CARRIED)


class LiveView:
    """Makes the view of the freshest picture whenever a slot is free."""

    def __init__(self, writer: RingWriter, settings: Message) -> None:
        self.writer = writer
        self.waiting: tuple[Picture, Message] | None = None
        """The picture that waits for a slot, and what else its header says."""
        self._view = make_view(ViewConfig.from_dict(settings["view"]))
        self._every: int = settings["every"]
        self._sample = Sample.parse(settings["sample"])
        self.last = -1
        """Rank of the last picture of the epoch that was put into a slot."""
        self._taken = 0
        self._last_pts: int | None = None
        names = [field.name for field in writer.spec.layout.fields]
        self._items = [{name: rows[0] for name, rows in slot.items()} for slot in writer.slot_arrays(names)]

    def restart(self) -> None:
        """Begin a new epoch."""
        self.last, self._taken, self._last_pts = -1, 0, None

    def offer(self, picture: Picture, header: Message) -> bool:
        """Take a picture where the sampling wants it; returns whether it took the place of one that waited."""
        before = picture.previous_pts
        ticks = None if before is None else before - picture.origin_pts
        key = bool(picture.flags & FrameFlag.KEY)
        if not self._sample.takes(picture.pts - picture.origin_pts, ticks, key, picture.time_base):
            return False
        late = self.waiting is not None
        self.waiting = dataclasses.replace(picture, previous_pts=self._last_pts), header
        self._last_pts = picture.pts
        return late

    def put(self, counters: Counters) -> bool:
        """Render what waits into a free slot; returns False where nothing waits, or no slot is free."""
        if self.waiting is None or not self.writer.ready:
            return False
        (picture, header), self.waiting = self.waiting, None
        with self.writer.loan() as slot:
            with counters.part:
                flags = int(picture.flags) | int(self._view.render(picture, self._items[slot.slot]))
            if self._taken % self._every:
                flags |= _CARRIED
            self._taken += 1
            self.last = picture.index
            slot.count = 1
            slot.frames[0] = (
                header["stream"],
                0,
                picture.pts,
                picture.time_base.numerator,
                picture.time_base.denominator,
                picture.index,
                picture.width,
                picture.height,
                flags,
                header["made_ns"],
                0,
                header["epoch"],
                header["arrival_ns"],
            )
        return True
