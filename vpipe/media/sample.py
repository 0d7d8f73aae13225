"""Which frames of a stream are wanted.

A sampling is decided by frame times alone, never by frame rates, and never by where a file is cut into segments.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from vpipe.errors import UsageError

_FORM = re.compile(r"(?P<rate>\d+(?:\.\d+|/\d+)?)/s|n=(?P<count>\d+)")


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One sampling rule.

    * `every`: each frame.
    * `keyframes`: each keyframe.
    * `rate`: time since the stream's first frame is divided into cells of 1/rate seconds; a frame is wanted if its
      cell lies above those of all frames before it (in presentation order).
    * `count`: the frames of ranks floor((i + 1/2) * total / count), i = 0..count-1.
    """

    kind: Literal["every", "keyframes", "rate", "count"]
    rate: Fraction = Fraction(0)
    """Frames per second of video (kind `rate`)."""
    count: int = 0
    """Frames in all (kind `count`)."""

    @classmethod
    def parse(cls, text: str) -> Sample:
        """Read `every`, `keyframes`, `N/s` or `n=N`.

        Raises:
            UsageError: `text` is none of these, or N is 0.
        """
        if text == "every":
            return cls("every")
        if text == "keyframes":
            return cls("keyframes")
        match = _FORM.fullmatch(text)
        if match and match["rate"] and not re.search(r"/0+$", match["rate"]) and Fraction(match["rate"]) > 0:
            return cls("rate", rate=Fraction(match["rate"]))
        if match and match["count"] and int(match["count"]) > 0:
            return cls("count", count=int(match["count"]))
        raise UsageError(f"'{text}' is not a sampling: use every, keyframes, N/s (for example 2/s) or n=N")

    def __str__(self) -> str:
        return {"rate": f"{self.rate}/s", "count": f"n={self.count}"}.get(self.kind, self.kind)

    def cell(self, ticks: int, time_base: Fraction) -> int:
        """Return the cell of time (kind `rate`) of a frame `ticks` units of `time_base` after the first."""
        up, down = self._cells(time_base)
        return ticks * up // down

    def _cells(self, time_base: Fraction) -> tuple[int, int]:
        """Return how many cells there are in how many units of `time_base`."""
        return (time_base * self.rate).as_integer_ratio()

    def ranks(self, total: int) -> frozenset[int]:
        """Return the wanted ranks (kind `count`) of a stream of `total` frames."""
        return frozenset((2 * i + 1) * total // (2 * self.count) for i in range(self.count) if total)

    def takes(self, ticks: int, previous: int | None, key: bool, time_base: Fraction) -> bool:
        """Return whether a frame is wanted, seen one by one (all kinds but `count`).

        Args:
            ticks: Time since the stream's first frame, units of `time_base`.
            previous: The same of the frame before it in presentation order; None for the first.
            key: Whether it is a keyframe.
            time_base: In seconds.
        """
        if self.kind == "keyframes":
            return key
        if self.kind == "every" or previous is None:
            return True
        return self.cell(ticks, time_base) > self.cell(previous, time_base)

    def choose(self, pts: Sequence[int], keys: Sequence[bool], time_base: Fraction) -> list[int]:
        """Return the ranks of the wanted frames of a whole stream.

        Args:
            pts: Of all frames, in presentation order; the first is the origin of time.
            keys: Whether each is a keyframe.
            time_base: Unit of `pts`, in seconds.
        """
        if self.kind == "every":
            return list(range(len(pts)))
        if self.kind == "keyframes":
            return [rank for rank, key in enumerate(keys) if key]
        if self.kind == "count":
            return sorted(self.ranks(len(pts)))
        up, down = self._cells(time_base)  # once: a product of fractions takes 4 us
        chosen, last = [], -1
        for rank, value in enumerate(pts):
            cell = (value - pts[0]) * up // down
            if cell > last:
                chosen.append(rank)
                last = cell
        return chosen
