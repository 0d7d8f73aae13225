"""How a stream is cut, and which of its packets must be decoded. Pure functions over the packet table; no FFmpeg.

A segment is a range of pts that begins at a clean keyframe (see `vpipe.media.table`). The leading pictures of the next
segment's keyframe belong to it, so its reader goes on past that keyframe to finish them.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpipe.media.sample import Sample
from vpipe.media.table import (
    CLEAN,
    KEY,
    WANTED,
    Anchor,
    Table,
    mark_neighbours,
    neighbours,
    pack,
    ranks_beside,
)

MAX_PACKED = 90_000
"""Characters; a segment crosses a control socket."""

SHORTEST, LONGEST = 120, 1800
"""Frames of a segment, give or take a group; in between, a 32nd of the stream."""


@dataclasses.dataclass(frozen=True, slots=True)
class Weight:
    """What packets weigh, whichever of them are decoded; zeros and None where the source cannot be indexed."""

    packets: int = 0
    packet_bytes: int = 0
    keys: int = 0
    """Of these packets, keyframes."""
    key_bytes: int = 0
    key_quantiser: float | None = None
    """Of those keyframes whose quantiser was read, the mean (on the codec's scale, `vpipe.media.quantiser`)."""
    other_quantiser: float | None = None
    """The same of the packets that are no keyframes."""

    @classmethod
    def of(cls, sizes: NDArray[np.int64], keys: NDArray[np.bool_], quantisers: NDArray[np.float64]) -> Weight:
        """Return the weight of packets of these sizes, bytes; a quantiser that is not known is NaN."""
        known = ~np.isnan(quantisers)
        means = (float(quantisers[of].mean()) if of.any() else None for of in (known & keys, known & ~keys))
        return cls(len(sizes), int(sizes.sum()), int(keys.sum()), int(sizes[keys].sum()), *means)


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
    """A pts range of one stream, with all that reading it in another process needs."""

    number: int
    start_pts: int
    end_pts: int | None
    """Exclusive; None: to the end of the stream."""
    frames: int
    """Packets to decode: an estimate of the work, for sharing it out."""
    origin_pts: int = 0
    """The stream's first frame: the origin of time."""
    total: int = -1
    """Frames in the stream; -1 where unknown."""
    first_packet: int = 0
    """Number, in the file, of the first packet of `packed`."""
    packed: str = ""
    """Packet table and ranks of the wanted frames (`pack`); empty: read from start to end and decide on the way."""
    earlier: tuple[Anchor, ...] = ()
    """Where to start instead, should the segment's own start not do; nearest first."""
    chosen_before: int | None = None
    """pts of the last wanted frame before this segment, in presentation order."""
    disordered: bool = False
    """The packets' times tell the order of decoding only (without `packed`)."""
    weight: Weight = Weight()
    """Of all packets whose frames are in the range."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        earlier = [[a.packet, a.pts, a.dts] for a in self.earlier]
        return {**values, "earlier": earlier, "weight": dataclasses.asdict(self.weight)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Segment:
        """Rebuild from `to_dict`'s values."""
        earlier = tuple(Anchor(*item) for item in values["earlier"])
        return cls(**{**values, "earlier": earlier, "weight": Weight(**values.get("weight", {}))})

    def weighed(
        self,
        pts: NDArray[np.int64],
        sizes: NDArray[np.int64],
        keys: NDArray[np.bool_],
        quantisers: NDArray[np.float64],
    ) -> Segment:
        """Return it with its weight, by the stream's packets: times, sizes in bytes, keyframes and quantisers."""
        inside = pts >= self.start_pts
        if self.end_pts is not None:
            inside &= pts < self.end_pts
        return dataclasses.replace(self, weight=Weight.of(sizes[inside], keys[inside], quantisers[inside]))


def run_starts(table: Table) -> NDArray[np.int64]:
    """Return for each packet where decoding must start to get its frame right (never above the packet itself)."""
    clean = np.flatnonzero(table.marks & CLEAN)
    if not len(clean):
        return np.zeros(len(table), np.int64)
    group = np.searchsorted(clean, np.arange(len(table)), side="right") - 1
    leading = (group >= 0) & (table.pts < table.pts[clean[np.maximum(group, 0)]])
    group = group - leading
    return np.where(group >= 0, clean[np.maximum(group, 0)], 0).astype(np.int64)


def needed(table: Table, pair: bool) -> NDArray[np.bool_]:
    """Return which packets' frames are wanted, or are the neighbour of a wanted one."""
    mask: NDArray[np.bool_] = (table.marks & WANTED) != 0
    if pair:
        beside = neighbours(table)
        mask[beside[beside >= 0]] = True
    return mask


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """Packets `first`..`last` (both included, positions in the table), fed one after the other from a clean start."""

    first: int
    last: int


def feed_script(table: Table, mask: NDArray[np.bool_]) -> list[Run]:
    """Return the runs that decode every frame of `mask` and little else.

    Packets after the last one needed of a group are in no run, and whole groups without a needed frame are jumped
    over. Within a run, frames outside `mask` are fed only because others may refer to them.
    """
    positions = np.flatnonzero(mask)
    starts = run_starts(table)[positions]
    last = np.append(np.diff(starts) != 0, True)[: len(positions)]  # of those with one start, nothing else counts
    runs: list[Run] = []
    for position, start in zip(positions[last].tolist(), starts[last].tolist(), strict=True):
        while runs and start <= runs[-1].last + 1:
            start = min(start, runs.pop().first)  # a leading picture may need the group before that of the last run
        runs.append(Run(start, position))
    return runs


def cut(table: Table, order: NDArray[np.intp]) -> list[int]:
    """Return the ranks (in `order`) at which segments begin: whole groups, merged to a good size for one turn."""
    total = len(order)
    target = min(max(total // 32, SHORTEST), LONGEST)
    begins = [0]
    for rank in np.flatnonzero(table.marks[order] & CLEAN).tolist():
        if rank - begins[-1] >= target:
            begins.append(rank)
    if len(begins) > 1 and total - begins[-1] < target // 2:
        begins.pop()
    return begins


def plan_segments(table: Table, sample: Sample, time_base: Fraction, pair: bool) -> list[Segment]:
    """Cut a stream and choose its frames.

    Args:
        table: The whole stream, with KEY, HIDDEN and CLEAN set; NEXT and ALONE are set here.
        sample: Which frames are wanted.
        time_base: Unit of the table's times, in seconds.
        pair: Whether neighbours are needed as well.

    Returns:
        The segments that have wanted frames, in order of time; empty where the table is too irregular to be sent to
        another process (then the stream is to be read as one).
    """
    mark_neighbours(table)
    order = table.order()
    pts = table.pts[order]
    chosen = np.array(sample.choose(pts.tolist(), ((table.marks[order] & KEY) != 0).tolist(), time_base), np.int64)
    begins = [*cut(table, order), len(order)]
    starts = run_starts(table)
    clean = np.flatnonzero(table.marks & CLEAN)
    segments: list[Segment] = []
    for begin, stop in itertools.pairwise(begins):
        ranks = chosen[(chosen >= begin) & (chosen < stop)]
        if not len(ranks):
            continue
        mask = np.flatnonzero(needed_of(table, order, ranks, pair))
        first, last = int(starts[mask].min()), int(mask.max())
        part = table.slice(first, last + 1)
        part.marks[order[ranks] - first] |= WANTED
        packed = pack(part, ranks)
        if len(packed) > MAX_PACKED:
            return []
        work = sum(run.last - run.first + 1 for run in feed_script(part, needed(part, pair)))
        before = clean[clean < first][::-1]
        segments.append(
            Segment(
                number=len(segments),
                start_pts=int(pts[begin]),
                end_pts=int(pts[stop]) if stop < len(order) else None,
                frames=work,
                origin_pts=int(pts[0]),
                total=len(order),
                first_packet=first,
                packed=packed,
                earlier=tuple(_anchors(table, before[[0, 3]] if len(before) > 3 else before[:1])),
                chosen_before=int(pts[chosen[chosen < begin].max()]) if (chosen < begin).any() else None,
            )
        )
    return segments


def needed_of(table: Table, order: NDArray[np.intp], ranks: NDArray[np.int64], pair: bool) -> NDArray[np.bool_]:
    """Return `needed` of a table whose wanted frames have these ranks, without walking the whole table."""
    mask = np.zeros(len(table), bool)
    mask[order[ranks]] = True
    if pair:
        mask[order[ranks_beside(table.marks[order], ranks)]] = True
    return mask


def _anchors(table: Table, positions: Iterable[int]) -> list[Anchor]:
    return [Anchor(int(p), int(table.pts[p]), int(table.dts[p])) for p in positions]
