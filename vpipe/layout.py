"""The bytes of one ring slot: which arrays lie in it, and where.

    slot   = [ slot header 64 B ][ frame headers: capacity x 64 B ][ field 0 ][ field 1 ] ...
    field  = capacity items, one a frame, contiguous, starting on a 64-byte boundary

A field is an array of shape (capacity, *shape), so a batch of frames lies in memory as a model wants it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np

from vpipe.frame import FRAME

ALIGN = 64
"""Bytes; a cache line, and what OpenVINO wants of memory it is lent."""

SLOT_HEADER_BYTES = 64


def align(size: int) -> int:
    """Round `size` up to the next multiple of `ALIGN`."""
    return -(-size // ALIGN) * ALIGN


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One named array of a slot; `shape` is that of one frame's item."""

    name: str
    dtype: str
    """A numpy type string, for example `|u1` or `<f4`."""
    shape: tuple[int, ...]

    @property
    def item_bytes(self) -> int:
        """Bytes of one frame's item."""
        return int(np.dtype(self.dtype).itemsize * math.prod(self.shape))


@dataclasses.dataclass(frozen=True)
class SlotLayout:
    """The arrays of one slot that holds up to `capacity` frames."""

    capacity: int
    fields: tuple[Field, ...]

    @functools.cached_property
    def offsets(self) -> dict[str, int]:
        """Byte offset of each field from the slot's start."""
        at = SLOT_HEADER_BYTES + align(self.capacity * FRAME.itemsize)
        found = {}
        for field in self.fields:
            found[field.name] = at
            at += align(self.capacity * field.item_bytes)
        return found

    @functools.cached_property
    def slot_bytes(self) -> int:
        """Bytes of one slot, headers included; a multiple of `ALIGN`."""
        size = SLOT_HEADER_BYTES + align(self.capacity * FRAME.itemsize)
        return size + sum(align(self.capacity * field.item_bytes) for field in self.fields)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"capacity": self.capacity, "fields": [[f.name, f.dtype, list(f.shape)] for f in self.fields]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SlotLayout:
        """Rebuild from `to_dict`'s values."""
        fields = tuple(Field(name, dtype, tuple(shape)) for name, dtype, shape in values["fields"])
        return cls(values["capacity"], fields)
